"""Reports on addresses to listen on."""

import socket
import subprocess
import sys

import pytest

from app.__main__ import main, port_problem
from core.evaluation.cluster import _knock
from core.places import CHECKOUT


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def ipv6():
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return
    except OSError:
        pytest.skip("this machine has no IPv6")


LISTEN = """
import sys
from urllib.request import urlopen
import gradio as gr
from app.server.serve import server_name
for host, port in zip(sys.argv[1::2], map(int, sys.argv[2::2])):
    with gr.Blocks(analytics_enabled=False) as page:
        pass
    page.launch(server_name=server_name(host), server_port=port, prevent_thread_lock=True, quiet=True, ssr_mode=False)
    print(urlopen(f"http://[::1]:{port}/", timeout=10).status)
"""


def test_ipv6_addresses(ipv6):
    """`--host ::1`: "Address family for hostname not supported"."""
    asked = [(host, free_port()) for host in ("::1", "::", "[::1]")]
    assert [port_problem(*one) for one in asked] == ["", "", ""]
    arguments = [str(part) for one in asked for part in one]  # in a process of its own: gradio closes not all it opens
    run = [sys.executable, "-c", LISTEN, *arguments]
    done = subprocess.run(run, cwd=CHECKOUT, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.split() == ["200"] * 3, done.stderr


def test_a_taken_ipv6_port_is_one_sentence(ipv6):
    """A port that somebody else listens on at ::1 alone."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        port = taken.getsockname()[1]
        assert f"Port {port} on ::1 cannot be used (" in port_problem("::1", port)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "::g", "x" * 300, "a..b"])
def test_hosts_that_are_none_are_one_sentence(host, capsys):
    """`--host` with a name that leads nowhere."""
    assert main(["--host", host, "--port", str(free_port())]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "cannot be used (" in err


def test_a_cluster_at_an_ipv6_address(ipv6):
    """`--ray [::1]:6379`: the address was knocked at with its brackets."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as head:
        _knock(f"[::1]:{head.getsockname()[1]}")
        _knock(f"ray://[::1]:{head.getsockname()[1]}")
    with pytest.raises(OSError):
        _knock(f"[::1]:{free_port()}")
    _knock("auto")
    _knock(None)
