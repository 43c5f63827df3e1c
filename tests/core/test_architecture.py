"""Which package may import which, what loads torch, and what loads nothing heavy."""

import ast
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import core
from core.__main__ import COMMANDS
from tests.support.imports import climbs, cycle, graph_of, importers, package_of, sources

ROOT = Path(core.__file__).parents[1]
FLOORS = {
    "core.admission": 1, "core.plan": 1, "core.configs": 1, "core.places": 1, "core.pretrained": 1, "core.tasks": 1, "core.tokens": 1, "core.console": 1,
    "core.cost": 2, "core.records": 2, "core.sharing": 2, "core.fetching": 2, "core.gguf_source": 2,
    "core.models": 3, "core.decoding": 3, "core.demo": 3,
    "core.damage": 4, "core.timing": 4, "core.evaluation": 4, "core.tuning": 4,
    "core.commands": 5,
    "app": 6,
}  # fmt: skip
"""Packages may import those on lower floors."""

ENTRANCES = frozenset({"core", "core.__main__"})
"""They name modules of every floor, and import them when asked to."""

WITHOUT_TORCH = (
    "core.admission",
    "core.plan",
    "core.configs",
    "core.cost",
    "core.records",
    "core.pretrained",
    "core.fetching",
    "core.tokens",
)
HEAVY = ("torch", "transformers", "lm_eval", "pandas", "gradio", "plotly", "datasets")
SOURCES = sources(ROOT, "core", "app")
GRAPH = graph_of(SOURCES, {f"core.{name}": f"core.{home}" for name, home in core._HOME.items()})


def test_no_modules_import_each_other():
    assert cycle(GRAPH) == []


def test_every_import_leads_to_a_lower_floor():
    assert climbs(GRAPH, FLOORS, ENTRANCES) == []
    assert len(set(FLOORS.values())) <= 6


def test_core_never_imports_the_page():
    assert importers(GRAPH, "app") == set()


def test_commands_are_imported_by_the_command_line_alone():
    assert importers(GRAPH, "core.commands") <= ENTRANCES
    assert all(package_of(module, FLOORS) == "core.commands" for module in COMMANDS.values())


def test_the_api_imports_no_panel():
    assert not [module for module in GRAPH["app.api"] if module.startswith("app.panels")]


def climbs_of(**source_of: str) -> list[str]:
    """What is found when these modules of `core` have these sources; the others are empty."""
    named = {f"core.{name.replace('_', '.', 1)}": source for name, source in source_of.items()}
    return climbs(graph_of(dict.fromkeys(FLOORS, "") | named), FLOORS)


def test_a_forbidden_import_is_found_wherever_it_stands():
    assert climbs_of(damage_search="from core.plan import SharingPlan\nimport core.sharing") == []
    assert climbs_of(damage_search="import core.sharing", sharing_view="def f():\n    import core.damage.search") == [
        "core.sharing.view (floor 2) imports core.damage.search (floor 4)"
    ]
    assert len(climbs_of(damage_search="from core.timing import measure")) == 1  # on the same floor
    assert len(climbs_of(plan="from core import cost")) == 1
    assert len(climbs_of(plan='import_module("core.sharing")')) == 1
    assert climbs_of(attic="") == ["core.attic stands on no floor"]
    typed = (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import core.sharing\nelse:\n    import core.models"
    )
    assert climbs_of(plan=typed) == ["core.plan (floor 1) imports core.models (floor 3)"]


def test_a_ring_is_found():
    ring = {"core.a": "import core.b", "core.b": "def f():\n    from core.c import x", "core.c": "from core import a"}
    assert cycle(graph_of(ring)) == ["core.a", "core.b", "core.c"]
    assert cycle(graph_of(ring | {"core.c": ""})) == []


def run(code: str, *arguments: str) -> str:
    """What a fresh Python prints."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout


def test_plans_costs_and_records_need_no_torch():
    modules = [module for module in SOURCES if package_of(module, dict.fromkeys(WITHOUT_TORCH))]
    assert len(modules) > 10
    run(
        "import sys; sys.modules['torch'] = None; from importlib import import_module\n"
        "for module in sys.argv[1:]: import_module(module)\n"
        "import core.cost; core.cost.known_shapes()",
        *modules, "core.timing.predicted", "core.demo.skills",
    )  # fmt: skip


LOADED = f"import json, sys; print(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
HELP = """
from contextlib import redirect_stdout, suppress
from io import StringIO
from core.__main__ import main
with suppress(SystemExit), redirect_stdout(StringIO()):
    main(["--help"])
"""


@pytest.mark.parametrize("code", ["import core", HELP], ids=["import core", "python -m core --help"])
def test_nothing_heavy_is_loaded_before_it_is_needed(code):
    assert json.loads(run(f"{code}\n{LOADED}")) == []


def test_names_of_core_come_from_where_it_says():
    for name, home in core._HOME.items():
        assert getattr(core, name) is getattr(import_module(f"core.{home}"), name)


def unannotated(source: str) -> list[str]:
    """Public functions and methods of a module that lack a type of a parameter or of what they return."""
    tree, found = ast.parse(source), []
    scopes = [("", tree)] + [(f"{node.name}.", node) for node in tree.body if isinstance(node, ast.ClassDef)]
    for prefix, scope in scopes:
        if prefix.startswith("_"):
            continue
        for node in scope.body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                arguments = node.args
                given = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
                untyped = [one.arg for one in given if one.annotation is None and one.arg not in ("self", "cls")]
                if untyped or node.returns is None:
                    found.append(f"{prefix}{node.name}")
    return found


@pytest.mark.parametrize("module", sorted(name for name in SOURCES if name.startswith("core")))
def test_public_functions_have_types(module):
    assert unannotated(SOURCES[module]) == []


def test_a_public_function_without_types_is_found():
    assert unannotated("def f(x): ...\nclass A:\n    def g(self, y: int): ...\n    def _h(self, z): ...") == [
        "f",
        "A.g",
    ]


LOADERS = frozenset({"from_pretrained", "from_config", "get_config_dict", "load_dataset"})
OWN_SHAPES = frozenset({"core/demo/corpus.py", "core/demo/training.py"})  # what this project itself has just written


def _told_of_code(call: ast.Call) -> bool:
    """Whether a load says that no code of a repository is to run, by NO_CODE or in its own words."""
    starred = {keyword.value.id for keyword in call.keywords if isinstance(keyword.value, ast.Name) and not keyword.arg}
    said = [keyword.value for keyword in call.keywords if keyword.arg == "trust_remote_code"]
    return "NO_CODE" in starred or any(isinstance(value, ast.Constant) and value.value is False for value in said)


def untold(source: str) -> list[str]:
    """Loads through transformers in this source, called or handed on to be called, that say nothing about code."""
    tree, found = ast.parse(source), []
    handed = {"_explained", "partial"}
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        passed = (
            [argument.attr for argument in call.args if isinstance(argument, ast.Attribute)] if name in handed else []
        )
        owner = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""
        if (LOADERS & {name, *passed}) and owner != "ModelShape" and not _told_of_code(call):
            found.append(ast.unparse(call))
    return found


def test_no_load_is_left_to_ask_whether_code_may_run():
    """transformers asks on standard input where it was not told, and `yes |` says yes."""
    files = [file for part in ("core", "app") for file in sorted((ROOT / part).rglob("*.py"))]
    loads = {file.relative_to(ROOT).as_posix(): untold(file.read_text(encoding="utf-8")) for file in files}
    assert {file: found for file, found in loads.items() if found and file not in OWN_SHAPES} == {}
    assert untold("_explained(s, AutoConfig.from_pretrained, s)") and untold("x.from_config(c, trust_remote_code=None)")
    assert not untold("_explained(s, AutoConfig.from_pretrained, s, **NO_CODE)")
