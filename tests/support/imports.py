"""Who imports whom, read from source: what a test of the architecture asks of the modules of `core` and `app`."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

Graph = dict[str, set[str]]
"""Module → modules that it imports, anywhere in its source but under `if TYPE_CHECKING`."""


def sources(root: Path, *packages: str) -> dict[str, str]:
    """Module → source, for all modules of the top-level packages in the folder `root`."""
    paths = [path for package in packages for path in sorted((root / package).rglob("*.py"))]
    return {_name(path.relative_to(root)): path.read_text(encoding="utf-8") for path in paths}


def graph_of(source_of: Mapping[str, str], home: Mapping[str, str] | None = None) -> Graph:
    """The imports among these modules. home: name that a package loads on first use → the module that it comes from."""
    modules = set(source_of)
    return {
        module: {_module(name, modules, home or {}) for name in _imported(ast.parse(source))} - {"", module}
        for module, source in source_of.items()
    }


def package_of(module: str, packages: Mapping[str, object]) -> str | None:
    """The innermost of `packages` that a module is or lies in."""
    parts = module.split(".")
    names = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((name for name in names if name in packages), None)


def climbs(graph: Graph, floors: Mapping[str, int], entrances: frozenset[str] = frozenset()) -> list[str]:
    """Imports between packages that do not lead to a lower floor, and modules that stand on none."""
    package = {module: package_of(module, floors) for module in graph if module not in entrances}
    homeless = [f"{module} stands on no floor" for module, found in package.items() if found is None]
    return homeless + [
        f"{module} (floor {floors[here]}) imports {target} (floor {floors[there]})"
        for module, here in package.items()
        for target in sorted(graph[module])
        if here is not None
        and (there := package_of(target, floors)) is not None
        and here != there
        and floors[here] <= floors[there]
    ]


def cycle(graph: Graph) -> list[str]:
    """Modules that import each other in a ring; nothing when there is no such ring."""
    done: set[str] = set()

    def search(module: str, path: list[str]) -> list[str]:
        if module in path:
            return path[path.index(module) :]
        if module in done:
            return []
        found = next(filter(None, (search(target, [*path, module]) for target in sorted(graph[module]))), [])
        done.add(module)
        return found

    return next(filter(None, (search(module, []) for module in sorted(graph))), [])


def importers(graph: Graph, package: str) -> set[str]:
    """Modules outside of a package that import it or something in it."""
    return {
        module for module in graph if not _within(module, package) and any(_within(m, package) for m in graph[module])
    }


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _module(name: str, modules: set[str], home: Mapping[str, str]) -> str:
    """The module of ours that an imported name is or comes from; nothing for the names of others."""
    candidates = (home.get(name, name), name.rpartition(".")[0])  # a module, or something in a module
    return next((module for module in candidates if module in modules), "")


def _imported(node: ast.AST) -> Iterator[str]:
    """Dotted names that are imported: `a.b` for `import a.b`, `from a import b` and `import_module("a.b")`."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        if node.level:
            raise ValueError("Relative imports are not used here: write the whole name of the module.")
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "import_module":
        yield from (argument.value for argument in node.args if isinstance(argument, ast.Constant))
    children = node.orelse if _is_for_types_only(node) else ast.iter_child_nodes(node)
    for child in children:
        yield from _imported(child)


def _is_for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
