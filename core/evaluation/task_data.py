"""Documents of tasks: local files in place of what lm-eval would download, and generated ones for the model at hand."""

import contextlib
import functools
import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset
from lm_eval.api.task import ConfigurableTask, TaskConfig
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from core.configs import context_tokens
from core.records.json_lines import MAX_TASK_DATA_BYTES, Faults, read_json_lines
from core.records.reading import Unreadable, fault_of, read_file, shown
from core.tasks import TASKS

_UNSAID_CONTEXT_TOKENS = 2048  # what lm-eval takes where neither configuration nor tokenizer says how many
_loading = threading.Lock()


class Reader(NamedTuple):
    """Whom generated documents are for: its tokenizer counts their tokens, and its context has to hold them."""

    tokenizer: PreTrainedTokenizerBase
    context_tokens: int

    @classmethod
    def of(cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> "Reader":
        """A model in memory, with as much context as lm-eval gives it. Windows of its layers do not shorten it."""
        said = tokenizer.model_max_length if tokenizer.model_max_length < VERY_LARGE_INTEGER else None
        return cls(tokenizer, context_tokens(model) or said or _UNSAID_CONTEXT_TOKENS)


@contextlib.contextmanager
def documents_from(folder: Path | None, reader: Reader | None = None) -> Iterator[None]:
    """Tasks that are made meanwhile find their documents in `folder` (None: where lm-eval does), generated for `reader`.

    These are the two things that differ from lm-eval.
    """
    with _loading:
        original = ConfigurableTask.download
        ConfigurableTask.download = _download(folder, reader, original)
        try:
            yield
        finally:
            ConfigurableTask.download = original


def _download(folder: Path | None, reader: Reader | None, original: Callable[..., None]) -> Callable[..., None]:
    def download(task: ConfigurableTask, *arguments: Any, **named: Any) -> None:
        if TASKS in Path(str(task.config.metadata.get("config_source"))).parents:
            with _told(task.config, reader):  # the project's own tasks come with their documents
                original(task, *arguments, **named)
        elif folder is None:
            original(task, *arguments, **named)
        else:
            task.dataset, task.config.metadata["data_source"] = local_documents(folder, task.config)

    return download


@contextlib.contextmanager
def _told(config: TaskConfig, reader: Reader | None) -> Iterator[None]:
    """A generated task knows the tokenizer meanwhile, as if `--model_args` of lm-eval had named it.

    Raises ValueError when its documents are longer than the reader's context.
    """
    needed = (config.dataset_kwargs or {}).get("context_tokens")
    if reader is None or needed is None:
        yield
        return
    if needed > reader.context_tokens:
        raise ValueError(
            f"{config.task} fills {needed:,} tokens, and the model's context has {reader.context_tokens:,}"
        )
    config.metadata["tokenizer"] = reader.tokenizer
    try:
        yield
    finally:
        del config.metadata["tokenizer"]


def local_documents(folder: Path, config: TaskConfig) -> tuple[dict[str, Dataset], str]:
    """The splits of a task from JSON-lines files, and one sentence on where they are from.

    The documents to score are in `<task>.jsonl` or `<data set>/<subset>.jsonl` (`blimp/causative.jsonl`), or the same
    with the split before the suffix (`gsm8k.test.jsonl`); few-shot examples in `<task>.<split>.jsonl`. A data set of
    many subsets may be one file, `<data set>.jsonl`, whose rows name theirs in the field `subject` (`mmlu.dev.jsonl`).
    Rows have the fields of the data set on the hub, or those of `LAYOUTS`; pages of Wikipedia may be plain text in
    `<task>.txt`, each below its title. A split without a file is empty.

    Raises ValueError when there is no file, or when a row does not fit.
    """
    scored = config.test_split or config.validation_split
    data_set, subset = _data_set(config), config.dataset_name
    stems = [config.task] + ([f"{data_set}/{subset}", data_set] if subset else [])
    suffixes = (".jsonl", ".txt") if data_set in PAGES else (".jsonl",)
    paths = [folder / f"{stem}{split}{suffix}" for stem in stems for split in ("", f".{scored}") for suffix in suffixes]
    found = list(filter(Path.is_file, paths))
    path = found[0] if found else None
    of_all = {f"{data_set}{split}.jsonl" for split in ("", f".{scored}")} if subset else set()
    alike = [
        file for file in found if (file.name in of_all) == (found[0].name in of_all)
    ]  # one subject's goes before all
    if len(alike) > 1 and len({hashlib.sha256(_content(file)).digest() for file in alike}) > 1:
        names = " and ".join(file.relative_to(folder).as_posix() for file in alike)
        raise ValueError(f"{config.task} may be in {names}, which differ: keep one of them")
    if path is None:
        wanted = " or ".join(f"{stem}{suffix}" for suffix in suffixes for stem in stems)
        raise ValueError(f"{config.task} needs {wanted} in the folder of task data")
    documents, source = _read(folder, path, config)
    if not len(documents):
        raise ValueError(f"{path.name} has no rows of the subject {subset!r}, which {config.task} asks")
    splits = {scored: documents}
    for split in {config.training_split, config.validation_split, config.fewshot_split} - {None, scored}:
        others = path.with_name(f"{path.stem.removesuffix(f'.{scored}')}.{split}{path.suffix}")
        splits[split] = _read(folder, others, config)[0] if others.is_file() else documents.select([])
    return splits, source


def _data_set(config: TaskConfig) -> str:
    return str(config.dataset_path).rpartition("/")[2]


def _read(folder: Path, path: Path, config: TaskConfig) -> tuple[Dataset, str]:
    """The documents of a task in a file, and one sentence on where they are from."""
    data_set = _data_set(config)
    rows, sha256, how = _rows_of(path, path.relative_to(folder).as_posix(), data_set, path.stat().st_mtime_ns)
    if path.name.partition(".")[0] == data_set and path.suffix == ".jsonl":
        rows = [row for row in rows if row.get("subject", config.dataset_name) == config.dataset_name]
    return Dataset.from_list(rows), f"{path.relative_to(folder).as_posix()}, sha256 {sha256}: {how}"


@functools.lru_cache(maxsize=4)
def _rows_of(path: Path, name: str, data_set: str, _changed: int) -> tuple[list[dict[str, Any]], str, str]:
    """The rows of a file as on the hub, its SHA-256, and how it was read. Kept: MMLU reads one file for 57 subjects."""
    content = _content(path)
    sha256 = hashlib.sha256(content).hexdigest()
    if path.suffix == ".txt":
        return [{"page": page} for page in _pages(content, name)], sha256, "plain text, one page below each title"
    layout = LAYOUTS.get(data_set)
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
    return rows, sha256, how


def _content(path: Path) -> bytes:
    try:
        return read_file(path, MAX_TASK_DATA_BYTES)
    except Unreadable as error:
        raise ValueError(f"{shown(path.name)} {fault_of(error)}") from error


def _pages(content: bytes, name: str) -> list[str]:
    """The pages of a text in WikiText's form: a title ` = Title = ` begins a page, ` = = Section = = ` does not."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not UTF-8 text: save the file as UTF-8.") from error
    pages = [page for page in _TITLE.split(text) if page.strip()]
    if not pages:
        raise ValueError(f"{name} is empty: write pages, each below a line ' = Title = '.")
    return pages


_TITLE = re.compile(r"^(?= = [^=\n]+ = *$)", re.MULTILINE)
PAGES = frozenset({"wikitext_document_level"})
"""Data sets whose documents are pages of text."""


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


def _boolq(row: dict[str, Any]) -> dict[str, Any]:
    assert row["answer"] in (True, False)
    return {"question": row["question"], "passage": row["passage"], "label": int(row["answer"])}


_QUERY = {"query", "choices", "gold"}
LAYOUTS: dict[str, Layout] = {
    "lambada_openai": Layout({"context", "continuation"}, _lambada, "text is context, a space and continuation"),
    "ai2_arc": Layout(_QUERY, _arc, "question is query without 'Question: ', answerKey is gold as a letter"),
    "super_glue": Layout({"question", "answer", "passage"}, _boolq, "label is answer as 0 or 1"),
    "piqa": Layout(_QUERY, _piqa, "goal is query without 'Question: ', sol1 and sol2 are choices, label is gold"),
    "winogrande": Layout(
        {"context_options", "continuation", "gold"}, _winogrande,
        "sentence is the context options' common words, _ and continuation; option1 and option2 are the other words",
    ),
}  # fmt: skip
"""Data set on the hub → the layout that evaluation suites with ready-made prompts keep it in."""
