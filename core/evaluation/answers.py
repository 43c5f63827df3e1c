"""Single answers side by side: what was asked, what is right, and what the dense and the shared model answered.

Answers are stored beside each record; what was asked is stored once for all plans, in `results/documents`.
"""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from core.records.reading import Unreadable, read_file
from core.records.scores import MAX_PACKED_BYTES, Record, try_samples, unpack_lines

CHANCE = {
    "blimp": 0.5, "piqa": 0.5, "winogrande": 0.5, "arc_": 0.25, "hellaswag": 0.25, "mmlu": 0.25, "openbookqa": 0.25,
    "lambada": 0.0, "boolq": 0.5, "mrpc": 0.5, "qnli": 0.5, "qqp": 0.5, "rte": 0.5, "sst2": 0.5,
    "long_count_choice": 1 / 6, "long_values_choice": 0.25, "long_track_choice": 0.25, "long_needle": 0.125,
}  # fmt: skip
"""Share of right choices of guessing, by the start of a task's name, for records whose answers were not stored."""

LABELLED = ("boolq", "cola", "mrpc", "qnli", "qqp", "rte", "sst2", "wnli")
"""Tasks with the same two labels for every document: there guessing is to say the better label always."""


class Answer(NamedTuple):
    """What one model answered, in words, and its score in one metric (None: the metric is none of single answers)."""

    words: str
    score: float | None


class AnswerPair(NamedTuple):
    """One question and two answers. prompt and choices are empty where the documents were not stored."""

    task: str
    number: int  # of the document in its task, from 0
    prompt: str
    choices: tuple[str, ...]
    right: str
    dense: Answer
    shared: Answer

    @property
    def differs(self) -> bool:
        """Whether the two answers or their scores are not the same."""
        return self.dense != self.shared


def load_documents(directory: Path | str, record: Record) -> dict[tuple[str, int], dict]:
    """(task, number) → what was asked: `prompt`, `choices` and the `right` answer; empty where it was not stored.

    A file that is damaged, or that this project did not write, is none; the next evaluation writes it again.
    """
    try:
        packed = read_file(Path(directory) / record.documents_path, MAX_PACKED_BYTES)
        rows = unpack_lines(packed, _is_document)
    except (OSError, Unreadable):  # missing, or not what this project writes
        return {}
    return {(row["task"], row["doc_id"]): row for row in rows}


def load_answers(directory: Path | str, record: Record) -> tuple[list[dict[str, Any]] | None, str]:
    """The rows of single answers of a record, in the order of the documents, None when none fit the record; and a
    sentence on a file that cannot be used, else empty."""
    return try_samples(directory, record, _is_answer)


def _is_answer(row: Any) -> bool:
    """Whether this is a row as `core.evaluation.outcome.answers_of` makes it; what is not there was not stored."""
    kinds = {"doc_id": int, "filter": str, "scores": dict}
    typed = isinstance(row, dict) and all(isinstance(row.get(name), kind) for name, kind in kinds.items())
    return typed and isinstance(row.get("task", ""), str) and isinstance(row.get("answer", []), list)


def _is_document(row: Any) -> bool:
    kinds = {"task": str, "doc_id": int, "prompt": str, "choices": list, "right": str}
    typed = isinstance(row, dict) and all(isinstance(row.get(name), kind) for name, kind in kinds.items())
    return typed and all(isinstance(choice, str) for choice in row["choices"])


def pair_answers(dense: tuple[Path, Record], shared: tuple[Path, Record], metric: str) -> list[AnswerPair]:
    """The answers of two records, with the folders of results that they are in, to the questions that both answered.

    metric: a name in both records' metrics. Raises ValueError when the records are of other questions.
    """
    one, other = dense[1], shared[1]
    if (one.task, one.data_sha256, one.num_fewshot) != (other.task, other.data_sha256, other.num_fewshot):
        raise ValueError(f"{one.path} and {other.path} were asked other questions.")
    asked = load_documents(*shared) or load_documents(*dense)
    before, after = (_samples(*place, metric) for place in (dense, shared))
    return [_pair(key, asked.get(key, {}), before[key], after[key], metric) for key in after if key in before]


def _samples(directory: Path, record: Record, metric: str) -> dict[tuple[str, int], dict]:
    name = metric.partition(",")[2] or "none"
    samples = load_answers(directory, record)[0] or []
    return {(s.get("task", record.task), s["doc_id"]): s for s in samples if s["filter"] == name}


def _pair(key: tuple[str, int], document: dict, dense: dict, shared: dict, metric: str) -> AnswerPair:
    if not document:  # what lm-eval calls the target is the right answer, or all of a text that is scored
        is_text = all(isinstance(entry, float) for entry in dense.get("answer", ()))
        document = {"prompt" if is_text else "right": str(dense.get("target", ""))}
    choices, right = tuple(document.get("choices", ())), document.get("right", "")
    answers = [_answer(sample, choices, right, metric.partition(",")[0]) for sample in (dense, shared)]
    return AnswerPair(*key, document.get("prompt", ""), choices, right, *answers)


def _answer(sample: dict, choices: tuple[str, ...], right: str, metric: str) -> Answer:
    score = sample["scores"].get(metric)
    score = _as_float(score) if isinstance(score, (int, float)) else None
    return Answer(_words(sample.get("answer", []), choices, right, metric), score)


def _words(answer: list, choices: tuple[str, ...], right: str, metric: str) -> str:
    """An answer as lm-eval stores it: texts, or (log-likelihood, whether greedy) of each choice or of the one text."""
    likelihoods = _likelihoods(answer)
    if likelihoods is None:
        return str(answer[0]).strip() if len(answer) == 1 else "; ".join(map(str, answer))
    if len(likelihoods) == 1:
        (nats,), greedy = likelihoods, isinstance(answer[0], (list, tuple)) and answer[0][1]
        return right.strip() if greedy else f"log-likelihood {nats:.2f}"
    if metric == "acc_norm" and choices:
        likelihoods = [nats / max(1, len(choice)) for nats, choice in zip(likelihoods, choices, strict=False)]
    best = max(range(len(likelihoods)), key=likelihoods.__getitem__)
    return choices[best] if best < len(choices) else f"choice {best + 1}"


def _likelihoods(answer: list) -> list[float] | None:
    values = [entry[0] if isinstance(entry, (list, tuple)) and len(entry) == 2 else entry for entry in answer]
    if not values or not all(isinstance(value, (int, float)) for value in values):
        return None
    numbers = [number for number in map(_as_float, values) if number is not None]
    return numbers if len(numbers) == len(values) else None


def _as_float(value: float) -> float | None:
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None


def chance_level(directory: Path | str, record: Record, metric: str) -> float | None:
    """The score of guessing blindly; None where guessing means nothing, as for perplexities. Reads the stored answers."""
    return chance_of(record.task, metric, load_answers(directory, record)[0] or ())


def chance_of(task: str, metric: str, samples: Sequence[dict]) -> float | None:
    """The score of guessing blindly, counted in the answers, else known by the task's name.

    Shares of right choices: the mean of 1 / choices; with the same labels for all documents, what the better label
    gives, F1 too. Answers that the model writes itself, and correlations, are worth nothing by guessing: 0. `answer_bits`:
    the logarithm of the number of choices. None for perplexities and the like.
    """
    plain = metric.partition(",")[0]
    if plain in ("exact_match", "recall", "mcc"):
        return 0.0
    if plain == "f1" and task.startswith(LABELLED):
        return _always_yes(samples)
    if plain not in ("acc", "acc_norm", "acc_bytes", "answer_bits"):
        return None
    known = next((level for start, level in CHANCE.items() if task.startswith(start)), None)
    choices = [len(found) for sample in samples if (found := _likelihoods(sample.get("answer", [])))]
    if plain == "answer_bits":
        return fmean(map(math.log2, choices)) if choices else known and -math.log2(known)
    if choices and task.startswith(LABELLED):
        return max(Counter(str(sample.get("target")) for sample in samples).values()) / len(samples)
    # a word of its own choice is never guessed
    return fmean(0.0 if count == 1 else 1 / count for count in choices) if choices else known


def _always_yes(samples: Sequence[dict]) -> float | None:
    """F1 of the label 1 for every document."""
    pairs = [sample["scores"].get("f1") for sample in samples]
    right = [float(pair[0]) for pair in pairs if isinstance(pair, list) and pair and pair[0] in (0, 1)]
    return 2 * fmean(right) / (1 + fmean(right)) if right else None


def at_chance(value: float, stderr: float | None, chance: float | None, higher_is_better: bool = True) -> bool:
    """Whether a score is not better than guessing by more than two standard errors."""
    margin = 0.0 if stderr is None or math.isnan(stderr) else 2 * stderr
    return chance is not None and (value - chance) * (1 if higher_is_better else -1) <= margin
