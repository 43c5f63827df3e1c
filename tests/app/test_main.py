"""`python -m app`."""

import socket
import subprocess
import sys

import pytest

from core import places


@pytest.mark.parametrize("port", ["70000", None])
def test_a_port_that_cannot_be_used_is_one_line_and_exit_code_2(port):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = port or str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "app", "--port", port],
            cwd=places.CHECKOUT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and port in done.stderr
