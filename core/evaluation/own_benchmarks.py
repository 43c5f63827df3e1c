"""Benchmarks of one's own: a JSON-lines file becomes an lm-eval task, and every fault in it is named with its line.

Each line is an object of one of three kinds, the same in the whole file:

    {"prompt": "The sky is", "choices": ["blue", "loud"], "answer": "blue"}   scored by likelihood, as acc and acc_norm
    {"prompt": "2 + 2 =", "answer": "4", "stop": "."}                         completed greedily, as exact_match
    {"text": "It was a dark and stormy night."}                               as bits_per_byte and word_perplexity

`answer` beside `choices` is one of them, or its number from 0. A completion ends at the end of the line, and at `stop`
where there is one. A prompt is joined to choice and completion by a space, as in lm-eval. All text is taken as it is:
nothing in it is a template, and no file can run code.
"""

import functools
import hashlib
import json
import re
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset
from lm_eval.api.task import ConfigurableTask, Task

from core.records.json_lines import Faults, read_json_lines, shorten
from core.records.reading import Unreadable, fault_of, read_file, shown
from core.tasks.documents import score_passage

MAX_BYTES = 32 * 2**20
MAX_LINE_CHARACTERS = 200_000
MAX_ROWS = 100_000  # lines, blank ones too
MAX_CHOICES = 100
MAX_ANSWER_CHARACTERS = 1000
_EXTRA_TOKENS = 8  # after the answer, for the stop that proves that it ends there


class _Kind(NamedTuple):
    """One kind of benchmark: the fields of its lines, the check of a line, and what lm-eval does with it."""

    fields: frozenset[str]
    optional: frozenset[str]
    check: Callable[[dict], dict]
    config: dict[str, Any]


def load_benchmark(path_or_text: Path | str | bytes, name: str | None = None, file: str | None = None) -> Task:
    """A task for `core.evaluation.evaluate.evaluate`, called `custom_<name>`, from a file (a Path) or its content (str, bytes).

    name: what to call it; default the file's name without its ending, or `benchmark` for content. Other characters than
        letters, digits, `.` and `-` become `_`.
    file: what sentences about faults call content.

    Raises ValueError, in one sentence that names every faulty line, for content that is no benchmark; OSError for a file
    that cannot be read.
    """
    file = shown(path_or_text.name if isinstance(path_or_text, Path) else file or f"{name or 'benchmark'}.jsonl")
    content = _content(path_or_text)
    kind, rows = _rows(content, file)
    raw = content.encode() if isinstance(content, str) else content
    about = {"file": file, "data_source": f"{file}, sha256 {hashlib.sha256(raw).hexdigest()}"}
    documents = functools.partial(_documents, rows)
    return ConfigurableTask(
        config={
            **kind.config,
            **_generation(rows),
            "task": _task_name(name or Path(file).stem),
            "custom_dataset": documents,
            "test_split": "test",
            "metadata": {"version": 1} | about,
        }
    )


def _content(path_or_text: Path | str | bytes) -> str | bytes:
    if not isinstance(path_or_text, Path):
        return path_or_text
    try:
        return read_file(path_or_text, MAX_BYTES)
    except Unreadable as error:
        raise ValueError(f"{shown(path_or_text.name)} {fault_of(error)}.") from error


def _task_name(name: str) -> str:
    plain = re.sub(r"[^\w.-]+", "_", name).strip("_.")
    if not plain or len(plain) > 80:
        raise ValueError(f"{shorten(name)} is no name for a benchmark: use 1 to 80 letters, digits, - and _.")
    return f"custom_{plain}"


def _documents(rows: list[dict], **_: object) -> dict[str, Dataset]:
    return {"test": Dataset.from_list(rows)}


def _generation(rows: list[dict]) -> dict[str, Any]:
    """For completions: where they end."""
    if "text" in rows[0] or "choices" in rows[0]:
        return {}
    longest = max(len(row["answer"].encode()) for row in rows)  # no tokenizer needs more tokens than bytes
    stops = ["\n", *([rows[0]["stop"]] if rows[0]["stop"] else [])]
    settings = {"until": stops, "do_sample": False, "max_gen_toks": longest + _EXTRA_TOKENS}
    return {"generation_kwargs": settings}


# Lines


def _rows(content: str | bytes, file: str) -> tuple[_Kind, list[dict]]:
    rows: list[dict] = []
    seen: dict[bytes, int] = {}
    kind: _Kind | None = None
    faults = Faults(file)
    for number, line in read_json_lines(content, faults, MAX_BYTES, MAX_LINE_CHARACTERS, MAX_ROWS):
        with faults.of_line(number):
            of_line = _kind_of(line, kind)
            row = of_line.check(line)
            if rows and row.get("stop") != rows[0].get("stop"):
                raise ValueError("has another stop than the first line: all lines of a file share one")
            digest = hashlib.sha256(json.dumps(row, sort_keys=True).encode()).digest()
            if (first := seen.setdefault(digest, number)) != number:
                raise ValueError(f"repeats line {first}: remove one of them")
            kind = of_line
            rows.append(row)
    faults.check()
    assert kind, "read_json_lines refuses a file without lines"
    return kind, rows


def _kind_of(line: dict, before: _Kind | None) -> _Kind:
    kind = next((kind for kind in KINDS if kind.fields <= line.keys() <= kind.fields | kind.optional), None)
    if kind is None:
        raise ValueError(
            f"has the fields {shorten(', '.join(islice(line, 20)))}: a line holds prompt, choices and answer, "
            "or prompt and answer (and stop), or text"
        )
    if before not in (None, kind):
        raise ValueError(f"is of another kind than the lines before, which hold {', '.join(sorted(before.fields))}")
    return kind


def _text(line: dict, field: str, longest: int = MAX_LINE_CHARACTERS) -> str:
    value = line[field]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"has the {field} {shorten(value)}: a text is needed")
    if len(value) > longest:
        raise ValueError(f"has {len(value):,} characters of {field}: at most {longest:,} are possible")
    return value


def _check_choices(line: dict) -> dict:
    if line["prompt"] != "":  # may be empty: which of several sentences is the likeliest?
        _text(line, "prompt")
    choices = line["choices"]
    if not isinstance(choices, list) or not 2 <= len(choices) <= MAX_CHOICES:
        raise ValueError(f"has the choices {shorten(choices)}: a list of 2 to {MAX_CHOICES} texts is needed")
    for choice in choices:
        _text({"choice": choice}, "choice")
    if len(set(choices)) < len(choices):
        raise ValueError("has a choice twice")
    return {"prompt": line["prompt"], "choices": choices, "answer": _index(line["answer"], choices)}


def _index(answer: object, choices: list[str]) -> int:
    if isinstance(answer, str) and answer in choices:
        return choices.index(answer)
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        return answer
    last = len(choices) - 1
    raise ValueError(f"has the answer {shorten(answer)}: it must be one of the choices, or its number from 0 to {last}")


def _check_completion(line: dict) -> dict:
    prompt, answer = _text(line, "prompt"), _text(line, "answer", MAX_ANSWER_CHARACTERS).strip()
    stop = _text(line, "stop", MAX_ANSWER_CHARACTERS) if "stop" in line else ""
    for end in filter(None, ("\n", stop)):
        if end in answer:
            raise ValueError(f"has an answer with {shorten(end)} in it, where a completion ends")
    return {"prompt": prompt, "answer": answer, "stop": stop}


def _check_text(line: dict) -> dict:
    return {"text": _text(line, "text")}


# Scores


def _field(name: str) -> Callable[[dict], Any]:
    """Reads one field; lm-eval would take a string for a template."""
    return lambda document: document[name]


def _score_completion(document: dict, results: list[str]) -> dict[str, float]:
    return {"exact_match": float(results[0].strip() == document["answer"])}


def _score_text(document: dict, results: tuple[float]) -> dict[str, Any]:
    """Bits per UTF-8 byte of one text, and what lm-eval sums for the perplexity per word of all texts."""
    (log_likelihood,) = results  # in nats
    return score_passage(document, results) | {"word_perplexity": (log_likelihood, len(document["text"].split()))}


def _metric(name: str, higher_is_better: bool = True, aggregation: str = "mean") -> dict[str, Any]:
    return {"metric": name, "aggregation": aggregation, "higher_is_better": higher_is_better}


KINDS: tuple[_Kind, ...] = (
    _Kind(
        frozenset({"prompt", "choices", "answer"}),
        frozenset(),
        _check_choices,
        {
            "output_type": "multiple_choice",
            "doc_to_text": _field("prompt"),
            "doc_to_choice": _field("choices"),
            "doc_to_target": _field("answer"),
            "metric_list": [_metric("acc"), _metric("acc_norm")],
        },
    ),
    _Kind(
        frozenset({"prompt", "answer"}),
        frozenset({"stop"}),
        _check_completion,
        {
            "output_type": "generate_until",
            "doc_to_text": _field("prompt"),
            "doc_to_target": _field("answer"),
            "process_results": _score_completion,
            "metric_list": [_metric("exact_match")],
        },
    ),
    _Kind(
        frozenset({"text"}),
        frozenset(),
        _check_text,
        {
            "output_type": "loglikelihood_rolling",
            "doc_to_text": lambda document: "",
            "doc_to_target": _field("text"),
            "process_results": _score_text,
            "metric_list": [
                _metric("bits_per_byte", higher_is_better=False),
                _metric("word_perplexity", higher_is_better=False, aggregation="weighted_perplexity"),
            ],
        },
    ),
)
"""The kinds of lines, each with lm-eval's settings."""
