"""The table of commands: what it imports, how it is called, and that it understands every command in the records."""

import shlex
import subprocess
import sys

import pytest

from core.__main__ import COMMANDS, main, parser_of
from core.places import RESULTS
from core.records.emergence import load_emergences
from core.records.peers import load_peers
from core.records.pretraining import load_pretrainings
from core.records.scores import load_records
from core.records.searches import load_searches
from core.records.timings import load_timings


def test_refused_arguments_are_one_line_too(capsys):
    for line in ("", "evaluat", "compare --max-drop x a b"):
        with pytest.raises(SystemExit) as stopped:
            main(line.split())
        err = capsys.readouterr().err
        assert stopped.value.code == 2 and err.startswith("error: ") and err.count("\n") == 1


def test_help_loads_no_torch():
    code = "import core.__main__; core.__main__.main(['--help'])"
    check = f"try:\n    {code}\nexcept SystemExit:\n    import sys; assert 'torch' not in sys.modules"
    shown = subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, text=True).stdout
    assert all(command in shown for command in COMMANDS)


HELP = """
import sys
from core.__main__ import main
try:
    main([sys.argv[1], "--help"])
except SystemExit:
    found = {"torch", "transformers", "lm_eval", "peft", "torchao", "datasets", "scipy"} & set(sys.modules)
    assert not found, found
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_is_there_at_once_and_alone(command):
    """tune --help took seven seconds, and began with "Failed to load … torchao …"."""
    shown = subprocess.run([sys.executable, "-c", HELP, command], check=False, capture_output=True, text=True)
    assert (shown.returncode, shown.stderr) == (0, "") and shown.stdout.startswith(f"usage: python -m core {command} ")


@pytest.mark.parametrize(
    "line",
    [
        "tune --method lora --plan 1-3 --data text.txt --out out --model nowhere/",
        "evaluate --tasks demo --model nowhere/",
    ],
)
def test_libraries_are_silent_about_what_nobody_asked_for(line, tmp_path):
    """The one line on stderr is the command's own."""
    arguments = [sys.executable, "-m", "core", *line.split(), "--results", str(tmp_path)]
    done = subprocess.run(arguments, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith("error: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize(
    ("started_as", "program"),
    [("/bin/shared-attention", "shared-attention"), ("core/__main__.py", "python -m core"), ("", "python -m core")],
)
def test_help_names_the_program_as_it_was_started(monkeypatch, started_as, program):
    monkeypatch.setattr(sys, "argv", [started_as])
    assert parser_of("").prog == program


def test_every_command_in_a_record_is_still_understood():
    records = [
        *load_records(RESULTS)[0],
        *load_timings(RESULTS)[0],
        *load_peers(RESULTS)[0],
        *(kept.record for kept in load_searches(RESULTS)[0]),
        *load_pretrainings(RESULTS)[0],
        *load_emergences(RESULTS)[0],
    ]
    parsers = {command: parser_of(command) for command in COMMANDS}
    seen = set()
    for line in {record.command for record in records}:
        assert line.startswith("python -m core ")
        command, *_ = arguments = shlex.split(line)[3:]
        parsers[command].parse_args(arguments)
        seen.add(command)
    assert seen | {"peers"} == {
        "peers", "evaluate", "measure", "search", "sweep", "similarity", "head-maps", "mechanisms", "train-demo",
    }  # fmt: skip


def test_every_command_explains_itself(capsys):
    for command in COMMANDS:
        with pytest.raises(SystemExit) as stopped:
            main([command, "--help"])
        assert stopped.value.code == 0 and f"python -m core {command}" in capsys.readouterr().out
