"""Find benchmarks by name, lm-eval's and the project's own, with their documents from the hub or from local files."""

import contextlib
import difflib
import functools
import hashlib
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import huggingface_hub
import lm_eval
from lm_eval.api.group import Group
from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager

from core.evaluation.task_data import Reader, documents_from
from core.models import hub_is_reachable
from core.places import folder_named
from core.tasks import TASKS

logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it prints notices for every task
_LM_EVAL_TASKS = Path(lm_eval.__file__).parent / "tasks"


class Benchmark(NamedTuple):
    """What one record scores: a task, or all tasks of a group that lm-eval gives one score (`blimp`, `mmlu`).

    arguments: of the command line that names this benchmark, without any path of this machine.
    """

    name: str
    tasks: dict[str, Task]
    groups: dict[str, Group]
    arguments: tuple[str, ...]

    @property
    def version(self) -> str:
        """The version of the group, or of the only task."""
        return self.groups[self.name].version if self.groups else str(self.tasks[self.name].VERSION)

    @property
    def data_source(self) -> str | None:
        """The local files that the documents came from, and their SHA-256; None for the tasks' own documents."""
        sources = sorted(filter(None, (task.config.metadata.get("data_source") for task in self.tasks.values())))
        if len(sources) < 2:
            return sources[0] if sources else None
        digest = hashlib.sha256("".join(f"{source}\n" for source in sources).encode()).hexdigest()
        return (
            f"{len(sources)} files, from {sources[0].partition(',')[0]} on; sha256 {digest} of their names and hashes"
        )


def benchmark_of(task: Task, *more: str) -> Benchmark:
    """A task as a benchmark of its own; `more`: further arguments of the command line that names it."""
    file = task.config.metadata.get("file")
    named = ("--benchmark", file) if file else ("--tasks", task.task_name)
    return Benchmark(task.task_name, {task.task_name: task}, {}, (*named, *more))


def load_benchmarks(
    names: Sequence[str], task_data: Path | str | None = None, reader: Reader | None = None
) -> list[Benchmark]:
    """The benchmarks behind names of tasks, groups and tags of lm-eval and of the project, each once.

    A group without a score of its own, and a tag, stand for their members.
    task_data: a folder of local files that take the place of what lm-eval would download; see `core.evaluation.task_data.local_documents`.
    reader: whom generated documents are cut to length for; tasks that have such documents need it.

    Raises ValueError for a name that does not exist, and for documents that cannot be loaded.
    """
    folder = None if task_data is None else Path(task_data)
    if folder is not None and not folder_named(folder):
        raise ValueError(f"There is no folder {task_data}: --task-data needs one with files such as arc_easy.jsonl.")
    managers = check_names(names)
    found: dict[str, Benchmark] = {}
    for name in dict.fromkeys(names):
        with documents_from(folder, reader):
            loaded = _load(managers[name], name, local=folder is not None)
        for benchmark in _split(loaded["tasks"], loaded.get("groups", {}), () if folder is None else _LOCAL):
            found.setdefault(benchmark.name, benchmark)
    return list(found.values())


_LOCAL = ("--task-data", "DIR")


def _split(tasks: dict[str, Task], groups: dict[str, Group], arguments: tuple[str, ...]) -> Iterator[Benchmark]:
    """Each outermost group with a score as one benchmark, then each other task."""
    inner = {name for group in groups.values() if group.has_aggregation for name in _names(group.get_all_groups())}
    single = dict(tasks)
    for name, group in groups.items():
        if not group.has_aggregation or name in inner:
            continue
        members = {task.task_name: task for task in group.get_all_tasks()}
        if len({task.get_config("num_fewshot") for task in members.values()}) > 1:
            continue  # no one number of examples to record: the tasks stand alone
        single = {name: task for name, task in single.items() if name not in members}
        below = {inner_group.name: inner_group for inner_group in group.get_all_groups()}
        yield Benchmark(name, members, {name: group} | below, ("--tasks", name, *arguments))
    for task in single.values():
        yield benchmark_of(task, *arguments)


def _names(groups: Sequence[Group]) -> set[str]:
    return {group.name for group in groups}


def _load(manager: TaskManager, name: str, local: bool) -> dict[str, Any]:
    own = local or name in _manager().all_tasks
    try:
        with contextlib.nullcontext() if own or hub_is_reachable() else _offline():
            return manager.load([name])
    except Exception as error:  # datasets and hub raise their own errors for no network, no access, bad data, ...
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        hint = "" if own else " Without the network, --task-data takes the documents from local files."
        raise ValueError(f"The data of task {name!r} cannot be loaded ({reason}).{hint}") from error


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Only what is in the local cache is looked for: the hub's client would try again for minutes."""
    before = huggingface_hub.constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    huggingface_hub.constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before


# Names. lm-eval reads all of its 14,000 files, for many seconds, before it loads one task. So a name is looked for as
# text first, and only the folder that defines it is read; where that is not enough, all of them.


def check_names(names: Sequence[str]) -> dict[str, TaskManager]:
    """A task manager that knows it, for each name of a task, group or tag.

    Raises ValueError for a name that does not exist, with the nearest names that do.
    """
    own = _manager().all_tasks
    if not names:
        raise ValueError(f"No task was named: choose from {_available()}, or any of lm-eval.")
    return {name: _manager_of(name, own) for name in names}


def _manager_of(name: str, own: list[str]) -> TaskManager:
    if name in own:
        return _manager()
    if near := difflib.get_close_matches(name, own, cutoff=0.85):
        raise ValueError(_no_task(name, near))
    folders = _definitions().get(name)
    if folders is None:
        raise ValueError(_no_task(name, difflib.get_close_matches(name, _definitions())))
    if len(folders) == 1:
        manager = _manager(*folders)
        if _is_complete(name, manager.task_index):
            return manager
    return _manager(_LM_EVAL_TASKS)


def _no_task(name: str, near: list[str]) -> str:
    guess = f"Did you mean {' or '.join(near)}? " if near else ""
    return f"There is no task {name!r}. {guess}Available: {_available()}, and those of lm-eval."


def _available() -> str:
    """The project's own names; of the tasks that exist in several lengths, the groups and an example."""
    names = [name for name in _manager().all_tasks if not name.rpartition("_")[2].isdecimal()]
    return f"{', '.join(names)}, long_needle_512 and the like"


@functools.cache
def _manager(*folders: Path) -> TaskManager:
    """Knows the project's own tasks and those of some folders, read as lm-eval reads its own."""
    return TaskManager(include_path=[*map(str, folders), str(TASKS)], include_defaults=False)


_DEFINITION = re.compile(r"""^["']?(task|group|tag)["']?:[ \t]*(.*(?:\n[ \t]*-[ \t].*)*)""", re.MULTILINE)


@functools.cache
def _definitions() -> dict[str, set[Path]]:
    """Every name that one of lm-eval's files seems to define → the folders of those files."""
    found: dict[str, set[Path]] = {}
    for path in _LM_EVAL_TASKS.rglob("*"):
        if path.suffix in ("", ".yaml", ".yml") and path.is_file():  # templates have no suffix
            folder = _LM_EVAL_TASKS / path.relative_to(_LM_EVAL_TASKS).parts[0]
            for name in _names_in(path.read_text(encoding="utf-8", errors="replace")):
                found.setdefault(name, set()).add(folder)
    return found


def _names_in(text: str) -> Iterator[str]:
    for key, value in _DEFINITION.findall(text):
        value = value if key == "tag" else value.partition("\n")[0]  # the list below `task:` has a group's members
        for line in value.splitlines():
            for name in line.partition(" #")[0].strip(" -[]").split(","):
                yield name.strip(" \t\"'")


def _is_complete(name: str, index: dict[str, Any]) -> bool:
    """Whether an index holds a name and, for a group, all of its members."""
    if name not in index:
        return False
    return all(_is_complete(member, index) for member in _members((index[name].cfg or {}).get("task")))


def _members(listed: object) -> Iterator[str]:
    for member in listed if isinstance(listed, list) else ():
        if isinstance(member, dict) and "group" in member:
            yield from _members(member.get("task"))
        else:
            yield member["task"] if isinstance(member, dict) else member
