"""Documents of lm-eval's tasks from local files, in place of what lm-eval would download."""

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset
from lm_eval.api.task import ConfigurableTask, TaskConfig

from core.evaluation.json_lines import MAX_TASK_DATA_BYTES, Faults, read_json_lines
from core.tasks import TASKS

_loading = threading.Lock()


@contextlib.contextmanager
def documents_from(folder: Path | None) -> Iterator[None]:
    """Tasks that are made meanwhile find their documents in `folder`: the one thing that differs from lm-eval.

    None: they find them where lm-eval does.
    """
    with _loading:
        original = ConfigurableTask.download
        ConfigurableTask.download = original if folder is None else _download(folder, original)
        try:
            yield
        finally:
            ConfigurableTask.download = original


def _download(folder: Path, original: Callable[..., None]) -> Callable[..., None]:
    def download(task: ConfigurableTask, *arguments: Any, **named: Any) -> None:
        if Path(str(task.config.metadata.get("config_source"))).parent == TASKS:
            original(task, *arguments, **named)  # the project's own tasks come with their documents
        else:
            task.dataset, task.config.metadata["data_source"] = local_documents(folder, task.config)

    return download


def local_documents(folder: Path, config: TaskConfig) -> tuple[dict[str, Dataset], str]:
    """The splits of a task from JSON-lines files, and one sentence on where they are from.

    The documents to score are in `<task>.jsonl` or `<data set>/<subset>.jsonl` (`blimp/causative.jsonl`), or the same
    with the split before the suffix (`gsm8k.test.jsonl`); few-shot examples in `<task>.<split>.jsonl`. Rows have the
    fields of the data set on the hub, or those of `LAYOUTS`. A split without a file is empty.

    Raises ValueError when there is no file, or when a row does not fit.
    """
    scored = config.test_split or config.validation_split
    stems = [config.task] + ([f"{_data_set(config)}/{config.dataset_name}"] if config.dataset_name else [])
    paths = [folder / f"{stem}{split}.jsonl" for stem in stems for split in ("", f".{scored}")]
    found = list(filter(Path.is_file, paths))
    path = found[0] if found else None
    if len({file.read_bytes() for file in found}) > 1:
        names = " and ".join(file.relative_to(folder).as_posix() for file in found)
        raise ValueError(f"{config.task} may be in {names}, which differ: keep one of them")
    if path is None:
        wanted = " or ".join(f"{stem}.jsonl" for stem in stems)
        raise ValueError(f"{config.task} needs {wanted} in the folder of task data")
    documents, source = _read(folder, path, config)
    splits = {scored: documents}
    for split in {config.training_split, config.validation_split, config.fewshot_split} - {None, scored}:
        others = path.with_name(f"{path.name.removesuffix('.jsonl').removesuffix(f'.{scored}')}.{split}.jsonl")
        splits[split] = _read(folder, others, config)[0] if others.is_file() else documents.select([])
    return splits, source


def _data_set(config: TaskConfig) -> str:
    return str(config.dataset_path).rpartition("/")[2]


def _read(folder: Path, path: Path, config: TaskConfig) -> tuple[Dataset, str]:
    content, name = path.read_bytes(), path.relative_to(folder).as_posix()
    layout = LAYOUTS.get(_data_set(config))
    rows: list[dict[str, Any]] = []
    how, faults = "rows as on the hub", Faults(name)
    for number, row in read_json_lines(content, faults, MAX_TASK_DATA_BYTES):
        with faults.of_line(number):
            if layout and row.keys() == layout.fields:
                row, how = _convert(layout, row), layout.description
            if rows and row.keys() != rows[0].keys():
                raise ValueError(f"has the fields {', '.join(row)}, not {', '.join(rows[0])}")
            rows.append(row)
    faults.check()
    return Dataset.from_list(rows), f"{name}, sha256 {hashlib.sha256(content).hexdigest()}: {how}"


class Layout(NamedTuple):
    """Another layout of a data set's rows: its fields, how a row becomes one of the hub, and that in words."""

    fields: set[str]
    to_hub: Callable[[dict[str, Any]], dict[str, Any]]
    description: str


def _convert(layout: Layout, row: dict[str, Any]) -> dict[str, Any]:
    try:
        return layout.to_hub(row)
    except (AssertionError, AttributeError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"does not fit: {layout.description}") from error


def _lambada(row: dict[str, Any]) -> dict[str, Any]:
    assert row["continuation"] and " " not in row["continuation"]
    return {"text": row["context"] + " " + row["continuation"]}


def _arc(row: dict[str, Any]) -> dict[str, Any]:
    assert row["query"].startswith("Question: ") and row["gold"] >= 0
    labels = "ABCDEFGHIJ"[: len(row["choices"])]
    choices = {"text": row["choices"], "label": list(labels)}
    return {"question": row["query"].removeprefix("Question: "), "choices": choices, "answerKey": labels[row["gold"]]}


def _piqa(row: dict[str, Any]) -> dict[str, Any]:
    assert row["query"].startswith("Question: ") and row["gold"] in (0, 1)
    one, other = row["choices"]
    goal = row["query"].removeprefix("Question: ").removesuffix("\n")
    return {"goal": goal, "sol1": one, "sol2": other, "label": row["gold"]}


def _winogrande(row: dict[str, Any]) -> dict[str, Any]:
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
