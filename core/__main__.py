"""The command line: `python -m core <command>`; `python -m core <command> --help` explains one.

Exit code 0: done. 1: a gate failed. 2: bad input, explained in one line on stderr. 130: stopped by Ctrl-C.
141: whoever read the output has left.
"""

import argparse
import ast
import os
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from core.console import hush_imports, spell_what_is_missing

COMMANDS = {
    "evaluate": "core.commands.evaluate",
    "compare": "core.commands.compare",
    "findings": "core.commands.findings",
    "measure": "core.commands.measure",
    "peers": "core.commands.peers",
    "similarity": "core.commands.similarity",
    "sweep": "core.commands.sweep",
    "search": "core.commands.search",
    "head-maps": "core.commands.head_maps",
    "mechanisms": "core.commands.mechanisms",
    "tune": "core.commands.tune",
    "train-demo": "core.commands.train_demo",
    "demo-tasks": "core.commands.demo_tasks",
    "demo-text": "core.commands.demo_text",
    "fetch": "core.commands.fetch",
}
"""Command → module with `run(args) -> int`; its docstring's first line is the help text."""

_ARGUMENTS = "core.commands.arguments"
"""Package with a module of the same name for each, with `add_arguments(parser)`."""

_SCRIPT = "shared-attention"  # the same command line where the project is installed


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")  # one line, without the usage


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Raises SystemExit(2) for arguments that argparse refuses."""
    spell_what_is_missing()
    hush_imports()
    arguments = sys.argv[1:] if arguments is None else arguments
    args = parser_of(arguments[0] if arguments else "").parse_args(arguments)
    try:
        code = args.run(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # as `head` leaves
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it exits
        return 141
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, whose class is not imported for this alone
            raise
        print(
            "error: This device's memory does not hold that: choose a smaller model, dtype or batch, fewer tokens, or "
            "another --device.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("Stopped. What was finished is kept: the same command goes on from there.", file=sys.stderr)
        return 130


def parser_of(chosen: str) -> argparse.ArgumentParser:
    """All commands, with the arguments of the chosen one; what it does is imported when it runs, for it may load torch."""
    parser = _Parser(prog=_program(), description="Shared Attention from the command line.")
    subparsers = parser.add_subparsers(metavar="command", required=True)
    for command, module in COMMANDS.items():
        subparser = subparsers.add_parser(command, help=_first_line(module), description=_first_line(module))
        if command == chosen:
            import_module(f"{_ARGUMENTS}.{module.rpartition('.')[2]}").add_arguments(subparser)
            subparser.set_defaults(run=partial(_run, module))
    return parser


def _run(module: str, args: argparse.Namespace) -> int:
    code: int = import_module(module).run(args)
    return code


def _program() -> str:
    """The command line as the user started it."""
    return _SCRIPT if Path(sys.argv[0]).stem == _SCRIPT else "python -m core"


def _first_line(module: str) -> str:
    """The first line of a module's docstring, read without importing it."""
    spec = find_spec(module)
    assert spec and spec.origin, f"{module} is no file"
    docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8")))
    return (docstring or "").partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main())
