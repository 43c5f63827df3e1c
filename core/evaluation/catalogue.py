"""Find benchmarks by name, lm-eval's and the project's own, with their documents from the hub or from local files."""

import contextlib
import difflib
import functools
import hashlib
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import huggingface_hub
import lm_eval
from datasets import Dataset
from lm_eval.api.group import Group
from lm_eval.api.task import ConfigurableTask, Task
from lm_eval.tasks import TaskManager

from core.evaluation.json_lines import MAX_TASK_DATA_BYTES, read_json_lines
from core.models import hub_is_reachable
from core.tasks import TASKS

logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it prints notices for every task
_LM_EVAL_TASKS = Path(lm_eval.__file__).parent / "tasks"
SUITES: dict[str, tuple[str, ...]] = {"paper": ("mmlu", "glue", "gsm8k", "hellaswag")}
"""Task lists by name; `paper` is what the official implementation of Shared Attention runs, with lm-eval's defaults."""


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


def load_benchmarks(names: Sequence[str], task_data: Path | str | None = None) -> list[Benchmark]:
    """The benchmarks behind names of tasks, groups and tags of lm-eval and of the project, each once.

    A group without a score of its own, and a tag, stand for their members.
    task_data: a folder of local files that take the place of what lm-eval would download; see `local_documents`.

    Raises ValueError for a name that does not exist, and for documents that cannot be loaded.
    """
    folder = None if task_data is None else Path(task_data)
    if folder is not None and not folder.is_dir():
        raise ValueError(f"There is no folder {task_data}: --task-data needs one with files such as arc_easy.jsonl.")
    managers, found = check_names(names), {}
    for name in dict.fromkeys(names):
        with _downloads_from(folder):
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
        raise ValueError(f"No task was named: choose from {', '.join(own)}, or any of lm-eval.")
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
    return f"There is no task {name!r}. {guess}Available: {', '.join(_manager().all_tasks)}, and those of lm-eval."


@functools.cache
def _manager(*folders: Path) -> TaskManager:
    """Knows the project's own tasks and those of some folders, read as lm-eval reads its own."""
    return TaskManager(include_path=[*map(str, folders), str(TASKS)], include_defaults=False)


_DEFINITION = re.compile(r"""^["']?(task|group|tag)["']?:[ \t]*(.*(?:\n[ \t]*-[ \t].*)*)""", re.MULTILINE)


@functools.cache
def _definitions() -> dict[str, set[Path]]:
    """Every name that one of lm-eval's files seems to define → the folders of those files."""
    found: dict[str, set[Path]] = {}
    for place, _, files in os.walk(_LM_EVAL_TASKS):
        folder = _LM_EVAL_TASKS.joinpath(*Path(place).relative_to(_LM_EVAL_TASKS).parts[:1])
        for file in files:
            if os.path.splitext(file)[1] in ("", ".yaml", ".yml"):  # templates have no suffix
                with open(os.path.join(place, file), encoding="utf-8", errors="replace") as text:
                    for name in _names_in(text.read()):
                        found.setdefault(name, set()).add(folder)
    return found


def _names_in(text: str) -> Iterator[str]:
    for key, value in _DEFINITION.findall(text):
        value = value if key == "tag" else value.partition("\n")[0]  # the list below `task:` has a group's members
        for line in value.splitlines():
            for name in line.partition(" #")[0].strip(" -[]").split(","):
                yield name.strip(" \t\"'")


def _is_complete(name: str, index: dict) -> bool:
    """Whether an index holds a name and, for a group, all of its members."""
    if name not in index:
        return False
    return all(_is_complete(member, index) for member in _members((index[name].cfg or {}).get("task")))


def _members(listed) -> Iterator[str]:
    for member in listed if isinstance(listed, list) else ():
        if isinstance(member, dict) and "group" in member:
            yield from _members(member.get("task"))
        else:
            yield member["task"] if isinstance(member, dict) else member


# Documents from local files


_loading = threading.Lock()


@contextlib.contextmanager
def _downloads_from(folder: Path | None) -> Iterator[None]:
    """Tasks that are made meanwhile find their documents in `folder`: the one thing that differs from lm-eval."""

    def download(task: ConfigurableTask, *arguments, **named) -> None:
        if Path(str(task.config.metadata.get("config_source"))).parent == TASKS:
            return original(task, *arguments, **named)  # the project's own tasks come with their documents
        task.dataset, task.config.metadata["data_source"] = local_documents(folder, task.config)

    with _loading:
        original = ConfigurableTask.download
        ConfigurableTask.download = original if folder is None else download
        try:
            yield
        finally:
            ConfigurableTask.download = original


def local_documents(folder: Path, config) -> tuple[dict[str, Dataset], str]:
    """The splits of a task from JSON-lines files, and one sentence on where they are from.

    The documents to score are in `<task>.jsonl` or `<data set>/<subset>.jsonl` (`blimp/causative.jsonl`), or the same
    with the split before the suffix (`gsm8k.test.jsonl`); few-shot examples in `<task>.<split>.jsonl`. Rows have the
    fields of the data set on the hub, or those of `LAYOUTS`. A split without a file is empty.

    Raises ValueError when there is no file, or when a row does not fit.
    """
    scored = config.test_split or config.validation_split
    stems = [config.task] + ([f"{_data_set(config)}/{config.dataset_name}"] if config.dataset_name else [])
    paths = [folder / f"{stem}{split}.jsonl" for stem in stems for split in ("", f".{scored}")]
    path = next(filter(Path.is_file, paths), None)
    if path is None:
        wanted = " or ".join(f"{stem}.jsonl" for stem in stems)
        raise ValueError(f"{config.task} needs {wanted} in the folder of task data")
    documents, source = _read(folder, path, config)
    splits = {scored: documents}
    for split in {config.training_split, config.validation_split, config.fewshot_split} - {None, scored}:
        others = path.with_name(f"{path.name.removesuffix('.jsonl').removesuffix(f'.{scored}')}.{split}.jsonl")
        splits[split] = _read(folder, others, config)[0] if others.is_file() else documents.select([])
    return splits, source


def _data_set(config) -> str:
    return str(config.dataset_path).rpartition("/")[2]


def _read(folder: Path, path: Path, config) -> tuple[Dataset, str]:
    content, name = path.read_bytes(), path.relative_to(folder).as_posix()
    layout = LAYOUTS.get(_data_set(config))
    rows, how = [], "rows as on the hub"
    for number, row in read_json_lines(content, name, MAX_TASK_DATA_BYTES):
        if layout and row.keys() == layout.fields:
            row, how = _convert(layout, row, f"{name}, line {number}"), layout.description
        if rows and row.keys() != rows[0].keys():
            raise ValueError(f"{name}, line {number} has the fields {', '.join(row)}, not {', '.join(rows[0])}")
        rows.append(row)
    return Dataset.from_list(rows), f"{name}, sha256 {hashlib.sha256(content).hexdigest()}: {how}"


class Layout(NamedTuple):
    """Another layout of a data set's rows: its fields, how a row becomes one of the hub, and that in words."""

    fields: set[str]
    to_hub: Callable[[dict], dict]
    description: str


def _convert(layout: Layout, row: dict, place: str) -> dict:
    try:
        return layout.to_hub(row)
    except (AssertionError, AttributeError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{place} does not fit: {layout.description}") from error


def _lambada(row: dict) -> dict:
    assert row["continuation"] and " " not in row["continuation"]
    return {"text": row["context"] + " " + row["continuation"]}


def _arc(row: dict) -> dict:
    assert row["query"].startswith("Question: ") and row["gold"] >= 0
    labels = "ABCDEFGHIJ"[: len(row["choices"])]
    choices = {"text": row["choices"], "label": list(labels)}
    return {"question": row["query"].removeprefix("Question: "), "choices": choices, "answerKey": labels[row["gold"]]}


def _piqa(row: dict) -> dict:
    assert row["query"].startswith("Question: ") and row["gold"] in (0, 1)
    one, other = row["choices"]
    goal = row["query"].removeprefix("Question: ").removesuffix("\n")
    return {"goal": goal, "sol1": one, "sol2": other, "label": row["gold"]}


def _winogrande(row: dict) -> dict:
    before = os.path.commonprefix(row["context_options"]).rpartition(" ")
    before = before[0] + before[1]
    one, other = (option.removeprefix(before) for option in row["context_options"])
    assert "_" not in before and row["gold"] in (0, 1)
    answer = str(row["gold"] + 1)
    return {"sentence": f"{before}_ {row['continuation']}", "option1": one, "option2": other, "answer": answer}


_QUERY = {"query", "choices", "gold"}
LAYOUTS: dict[str, Layout] = {
    "lambada_openai": Layout({"context", "continuation"}, _lambada, "text is context, a space and continuation"),
    "ai2_arc": Layout(_QUERY, _arc, "question is query without 'Question: ', answerKey is gold as a letter"),
    "piqa": Layout(_QUERY, _piqa, "goal is query without 'Question: ', sol1 and sol2 are choices, label is gold"),
    "winogrande": Layout(
        {"context_options", "continuation", "gold"}, _winogrande,
        "sentence is the context options' common words, _ and continuation; option1 and option2 are the other words",
    ),
}  # fmt: skip
"""Data set on the hub → the layout that evaluation suites with ready-made prompts keep it in."""
