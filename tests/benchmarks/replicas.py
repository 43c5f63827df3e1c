"""`python -m tests.benchmarks.replicas`: two servers behind nginx (docs/nginx.conf) on loopback.

Visitors with cookies and programs without open the page, ask for savings and have texts written. Checked: everyone stays
with one server; texts are those of one server alone; when one server is killed its visitors go on with the other; when it
is back, they return. Writes a record. Needs nginx (Debian's nginx-light).
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import httpx
from gradio_client import Client

from app.visitors import COOKIE
from tests.benchmarks.record import Run
from tests.support.browser import ROOT, free_port, serve, wait_for

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")
TOKENS = 8


def main(arguments: list[str] | None = None) -> int:
    """Run it and write the record. Exit code 1 when somebody did not get their answer."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.replicas", description=__doc__.splitlines()[0])
    parser.add_argument("--visitors", type=int, default=12)
    parser.add_argument("--out", type=Path, help="where the record goes (default: beside this file)")
    args = parser.parse_args(arguments)
    if not NGINX:
        print("There is no nginx: install Debian's package nginx-light.", file=sys.stderr)
        return 2
    run = Run("replicas")
    with tempfile.TemporaryDirectory(prefix="replicas-") as folder:
        found = _run(Path(folder), args.visitors)
    print(json.dumps(found, indent=1))
    run.write(args.out, visitors=args.visitors, **found)
    return 0 if not found["faults"] else 1


def _run(folder: Path, visitors: int) -> dict:
    ports = {"one": free_port(), "two": free_port(), "front": free_port()}
    servers = {name: _serve(ports[name], folder) for name in ("one", "two")}
    for name, server in servers.items():
        wait_for(f"http://127.0.0.1:{ports[name]}/", server)
    front = f"http://127.0.0.1:{ports['front']}"
    proxy = _proxy(folder, ports)
    faults: list[str] = []
    try:
        _wait(front)
        cookies = [_cookie(front) for _ in range(visitors)]
        alone = _texts(f"http://127.0.0.1:{ports['one']}", None)
        rounds = {}
        rounds["both"] = _round(front, cookies, alone, folder, faults)
        servers["one"].kill()
        servers["one"].wait()
        rounds["one killed"] = _round(front, cookies, alone, folder, faults)
        servers["one"] = _serve(ports["one"], folder)
        wait_for(f"http://127.0.0.1:{ports['one']}/", servers["one"])
        time.sleep(6)  # nginx asks a server that failed again after `fail_timeout`
        rounds["one is back"] = _round(front, cookies, alone, folder, faults)
        faults += _moved(rounds, visitors)
        return {"rounds": rounds, "faults": faults}
    finally:
        for process in (proxy, *servers.values()):
            process.terminate()
        for process in (proxy, *servers.values()):
            process.wait(timeout=30)


def _serve(port: int, folder: Path) -> subprocess.Popen:
    return serve(port, ROOT / "results", "--public")


def _proxy(folder: Path, ports: dict[str, int]) -> subprocess.Popen:
    config = (ROOT / "docs" / "nginx.conf").read_text(encoding="utf-8")
    for written, port in (("7861", "one"), ("7862", "two"), ("7860", "front")):
        config = config.replace(f"127.0.0.1:{written}", f"127.0.0.1:{ports[port]}")
    (folder / "nginx.conf").write_text(config, encoding="utf-8")
    return subprocess.Popen([NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"])


def _wait(front: str) -> None:
    for _ in range(100):
        try:
            httpx.get(front, timeout=5).raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise AssertionError("nginx does not answer")


def _cookie(front: str) -> str:
    """What a browser is given with its first page."""
    return httpx.get(front, timeout=30).cookies[COOKIE]


def _texts(address: str, cookie: str | None) -> tuple[str, str]:
    client = Client(address, headers={"Cookie": f"{COOKIE}={cookie}"} if cookie else {}, verbose=False)
    client.predict("demo", "17-22", api_name="/savings")
    *_, last = client.submit("A fox went", "demo", "17-22", TOKENS, api_name="/generate")
    client.close()
    return last["dense"]["text"], last["shared"]["text"]


def _round(front: str, cookies: list[str], alone: tuple[str, str], folder: Path, faults: list[str]) -> dict:
    """Everyone once. Returns how many visitors each server had, and those who had more than one."""
    log = folder / "shared-attention-nginx.log"
    before = log.stat().st_size if log.exists() else 0
    for number, cookie in enumerate([*cookies, None]):
        try:
            if _texts(front, cookie) != alone:
                faults.append(f"visitor {number} got another text than one server alone gives")
        except Exception as error:  # noqa: BLE001 - any kind is a fault of this run
            faults.append(f"visitor {number}: {type(error).__name__}: {error}"[:300])
    time.sleep(0.5)
    seen = defaultdict(set)
    with log.open(encoding="utf-8") as file:
        file.seek(before)
        for line in file:
            upstream, visitor = re.match(r"\d+ (\S+(?:, \S+)*) (\S+) ", line).groups()
            seen[visitor].add(upstream.split(", ")[-1])
    chosen = {visitor: servers for visitor, servers in seen.items() if visitor in cookies}
    faults += [f"a visitor was sent to {sorted(servers)}" for servers in chosen.values() if len(servers) > 1]
    names = sorted({server for servers in chosen.values() for server in servers})
    return {"servers": [sum(servers == {name} for servers in chosen.values()) for name in names], "of": names}


def _moved(rounds: dict, visitors: int) -> list[str]:
    """What was not as it should be of who was served by whom."""
    faults = []
    for name, count in (("both", 2), ("one killed", 1), ("one is back", 2)):
        if len(rounds[name]["servers"]) != count or sum(rounds[name]["servers"]) != visitors:
            faults.append(f"{name}: {rounds[name]}")
    return faults


if __name__ == "__main__":
    sys.exit(main())
