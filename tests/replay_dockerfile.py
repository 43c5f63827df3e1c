"""`python -m tests.replay_dockerfile`: every step of the Dockerfile in a clean folder, as an unprivileged user.

Takes minutes: it installs everything. What it is not: a build in Docker (no base image, no system libraries of it). As
root it becomes user 1000 for the steps, as the image does; as anyone else it stays who it is.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support import dockerfile
from tests.support.browser import free_port

USER = 1000
START_S = 300


def main() -> int:
    """Replay, serve, ask for the health, stop. Exit code 1 when a step fails, 2 where the user cannot run Python."""
    python = shutil.which("python")
    try:
        subprocess.run([str(python), "--version"], capture_output=True, check=True, **_who())
    except OSError:
        print(f"User {USER} cannot run {python}: put one first on PATH that all users may run.", file=sys.stderr)
        return 2
    place = Path(tempfile.mkdtemp(prefix="replayed-image-"))
    try:
        return _replay(place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _replay(place: Path) -> int:
    index = os.environ.get("TORCH_INDEX")
    image = dockerfile.read(place, **({"TORCH_INDEX": index} if index else {}))
    dockerfile.make_folders(image)
    for count in range(len(image.runs) + 1):
        for sources, before in image.copies:
            if before == count:
                print(f"COPY {' '.join(sources)}", flush=True)
                dockerfile.copy(image, sources)
        _own(place)
        if count < len(image.runs):
            print(f"RUN {image.runs[count]}", flush=True)
            subprocess.run(["sh", "-c", image.runs[count]], **_as_user(image), check=True)
    return _serve(image)


def _serve(image: dockerfile.Image) -> int:
    port = str(free_port())
    command = [port if part == "7860" else part for part in image.command]
    health = [part.replace(":7860", f":{port}") for part in image.health]
    print(f"CMD {' '.join(command)}", flush=True)
    server = subprocess.Popen(command, **_as_user(image))
    try:
        start = time.monotonic()
        while subprocess.run(health, **_as_user(image), capture_output=True, check=False).returncode:
            if server.poll() is not None or time.monotonic() - start > START_S:
                print("It did not become healthy.", file=sys.stderr)
                return 1
            time.sleep(1)
        print(f"Healthy after {time.monotonic() - start:.0f} s.", flush=True)
        server.send_signal(signal.SIGTERM)
        stopped = time.monotonic()
        code = server.wait(timeout=30)
        print(f"Stopped after {time.monotonic() - stopped:.1f} s with exit code {code}.")
        return 0
    finally:
        server.kill()


def _as_user(image: dockerfile.Image) -> dict:
    return {"cwd": image.workdir, "env": image.variables, **_who()}


def _who() -> dict:
    return {"user": USER, "group": USER, "extra_groups": []} if os.getuid() == 0 else {}


def _own(place: Path) -> None:
    if os.getuid() == 0:
        subprocess.run(["chown", "-R", f"{USER}:{USER}", str(place)], check=True)


if __name__ == "__main__":
    sys.exit(main())
