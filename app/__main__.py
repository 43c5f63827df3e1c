"""`python -m app`: start the page."""

import importlib.util
import socket
import sys
import webbrowser

from pydantic import ValidationError
from pydantic_settings.exceptions import SettingsError

from app import settings
from app.settings import LOCALHOST
from core.console import hush_imports, spell_what_is_missing

MCP_MISSING = (
    "--mcp needs the package mcp, which is not installed: pip install 'mcp>=1.21,<2', or this project's extra."
)


def main(arguments: list[str] | None = None) -> int:
    """Serve until Ctrl-C. Exit code 2 for a setting or a port that cannot be used, with one line on stderr."""
    spell_what_is_missing()
    hush_imports()
    try:
        chosen = settings.configure(sys.argv[1:] if arguments is None else arguments)
    except (ValidationError, SettingsError) as error:
        return _refuse(settings.problem_of(error))
    problem = port_problem(chosen.host, chosen.port) or port_problem(LOCALHOST, chosen.port)  # gradio asks for both
    if chosen.mcp and importlib.util.find_spec("mcp") is None:
        problem = problem or MCP_MISSING
    problem = problem or login_problem()
    if problem:
        return _refuse(problem)
    from app.server.serve import serve, until_stopped

    with until_stopped():
        if chosen.model and (problem := model_problem(chosen.model)):
            return _refuse(problem)
        from app.main import demo, launch_options, warm_up  # late: --help and a bad port answer at once

        warm_up()
        return serve(demo, inbrowser=chosen.open and _has_browser(), mcp_server=chosen.mcp, **launch_options())


def _refuse(problem: str) -> int:
    print(problem, file=sys.stderr)
    return 2


def port_problem(host: str, port: int) -> str:
    """One sentence if the address cannot be listened on, else nothing."""
    if not 1 <= port <= 65535:
        return f"Port {port} does not exist: use a number from 1 to 65535."
    try:
        family, _, _, _, address = socket.getaddrinfo(_bare(host) or None, port, type=socket.SOCK_STREAM)[0]
        with socket.create_server(address, family=family):
            return ""
    except (OSError, UnicodeError) as error:  # the second: no name can be like this
        reason = (getattr(error, "strerror", None) or "no host has such a name").partition(" (while")[0]
        return (
            f"Port {port} on {host} cannot be used ({reason}): stop what uses it, or choose another port with --port or "
            "another address with --host."
        )


def login_problem() -> str:
    """One sentence if the login is no list of names and passwords, else nothing."""
    from app.server.login import accounts

    try:
        accounts()
    except ValueError as problem:
        return str(problem)
    return ""


def _bare(host: str) -> str:
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def model_problem(name: str) -> str:
    """One sentence if the model cannot be loaded, else nothing."""
    from app.registry import get_model

    try:
        get_model(name)
    except ValueError as problem:
        return str(problem)
    return ""


def _has_browser() -> bool:
    try:
        return bool(webbrowser.get())
    except webbrowser.Error:
        return False


if __name__ == "__main__":
    sys.exit(main())
