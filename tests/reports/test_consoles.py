"""Reports on consoles that cannot show `±`, `ρ` and `→`: Windows, LC_ALL=C."""

import io
import os
import subprocess
import sys

import pytest

from core.__main__ import COMMANDS, main, parser_of
from core.console import spell_what_is_missing
from core.places import CHECKOUT
from tests.support.imports import sources

ENCODINGS = ("ascii", "cp1252", "cp437")


def console(encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict", write_through=True)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_everywhere(monkeypatch, encoding, command):
    """`python -m core train-demo --help` under PYTHONIOENCODING=ascii: UnicodeEncodeError."""
    monkeypatch.setattr(sys, "stdout", console(encoding))
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert command in sys.stdout.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_sign_of_the_commands_is_spelled(monkeypatch, encoding):
    """A result that dies of its `±` after an hour."""
    signs = {sign for name, source in sources(CHECKOUT, "core").items() for sign in source if not sign.isascii()}
    monkeypatch.setattr(sys, "stdout", console(encoding))
    monkeypatch.setattr(sys, "stderr", console(encoding))
    spell_what_is_missing()
    print(*sorted(signs), "模型\udcff 0.12 ± 0.01 → 3")
    print("ρ = 0.5", file=sys.stderr)
    shown = sys.stdout.buffer.getvalue().decode(encoding)
    assert r"\u6a21\u578b\udcff 0.12 " in shown and shown.endswith(" 3\n")
    assert encoding != "ascii" or "0.12 +/- 0.01 -> 3" in shown
    assert encoding != "ascii" or sys.stderr.buffer.getvalue() == b"rho = 0.5\n"


@pytest.mark.parametrize(
    "environment",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}],
    ids=["ascii", "LC_ALL=C"],
)
def test_both_programs_in_an_ascii_console(environment):
    """`python -m app` and `python -m core` where the locale is C."""
    for line in (
        ["core", "train-demo", "--help"],
        ["core", "compare", "模型±", "b"],
        ["app", "--host", "±", "--port", "0"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", *line], cwd=CHECKOUT, env=os.environ | environment, capture_output=True, check=False
        )
        assert b"Traceback" not in done.stderr and done.returncode == (0 if "--help" in line else 2)
        assert (done.stdout + done.stderr).isascii()


def test_a_utf8_console_shows_what_is_written(capsys):
    """Nothing is spelled where it need not be."""
    spell_what_is_missing()
    print("0.12 ± 0.01")
    assert capsys.readouterr().out == "0.12 ± 0.01\n" and parser_of("")
