"""The documents of a benchmark: how many are asked, with which examples, their hash, and what they ask in words."""

import contextlib
import hashlib
import json
import math
from collections.abc import Iterator
from typing import Any

from lm_eval.api.task import Task

from core.evaluation.catalogue import Benchmark
from core.evaluation.options import Options


def set_up(task: Task, options: Options) -> None:
    """Few-shot count and seed, by lm-eval's rules: a task that is zero-shot by definition stays so.

    Raises ValueError when the task data has no examples to show.
    """
    own = task.get_config("num_fewshot")
    if own is None or (options.num_fewshot is not None and own != 0):
        task.set_config(key="num_fewshot", value=options.num_fewshot or 0)
    if task.get_config("num_fewshot") and not len(task.fewshot_docs()):
        raise ValueError(
            f"{task.task_name} shows {task.get_config('num_fewshot')} examples, but the task data has none: "
            "add a file of the examples' split, or use --num-fewshot 0."
        )
    task.set_fewshot_seed(seed=options.seed)


def _documents(task: Task) -> Any:
    """All documents, asked or not. `eval_docs` prepares them anew at every look, `task_docs` are the prepared ones."""
    return task.eval_docs if getattr(task, "task_docs", None) is None else task.task_docs


def data_sha256(benchmark: Benchmark) -> str:
    """SHA-256 of all documents, asked or not; of a group, that of its tasks' hashes."""
    digests = {name: _task_sha256(task) for name, task in benchmark.tasks.items()}
    if not benchmark.groups:
        return digests[benchmark.name]
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def _task_sha256(task: Task) -> str:
    digest = hashlib.sha256()
    for document in _documents(task):
        digest.update(json.dumps(document, sort_keys=True, ensure_ascii=False, default=str).encode() + b"\n")
    return digest.hexdigest()


def num_asked(benchmark: Benchmark, options: Options) -> int:
    """The number of documents that are asked."""
    return sum(_num_asked(task, options) for task in benchmark.tasks.values())


def _num_asked(task: Task, options: Options) -> int:
    size, limit = len(_documents(task)), options.limit
    if limit is None:
        return size
    return math.ceil(size * limit) if limit < 1 else min(size, int(limit))


def check_shares(benchmark: Benchmark, options: Options, processes: int) -> None:
    """Raises ValueError when a task has no document for one of the processes that share it."""
    for name, task in benchmark.tasks.items():
        if (documents := _num_asked(task, options)) < processes:
            raise ValueError(f"{name} has {documents} documents for {processes} processes: start fewer processes.")


def asked(benchmark: Benchmark, options: Options) -> Iterator[dict[str, Any]]:
    """What is asked in words: `task`, `doc_id`, `prompt`, `choices` and the `right` answer of each document."""
    for name, task in sorted(benchmark.tasks.items()):
        documents = _documents(task)
        for number in range(_num_asked(task, options)):
            with contextlib.suppress(Exception):  # code of any task; without its question an answer has its number only
                yield {"task": name, "doc_id": number} | _in_words(task, documents[number])


def _in_words(task: Task, document: dict) -> dict[str, Any]:
    """What a task asks of a document, without few-shot examples: prompt, choices and right answer.

    A document that is long and generated brings an abridged prompt: the whole one is made again from its seed.
    """
    if task.OUTPUT_TYPE == "loglikelihood_rolling":
        return {"prompt": str(task.doc_to_target(document)), "choices": [], "right": ""}
    prompt, target = document.get("abridged") or task.doc_to_text(document), task.doc_to_target(document)
    if task.OUTPUT_TYPE != "multiple_choice":
        return {"prompt": str(prompt), "choices": [], "right": str(target)}
    choices = [str(choice) for choice in task.doc_to_choice(document)]
    if task.multiple_input:  # one ending for several beginnings
        prompt, target, choices = "", prompt, [f"{choice} {target}" for choice in choices]
    right = choices[target] if isinstance(target, int) else str(target)
    return {"prompt": str(prompt), "choices": choices, "right": right}
