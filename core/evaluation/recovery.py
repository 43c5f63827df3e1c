"""What tuning recovers of the damage that sharing does, from the single answers of four models to the same questions.

D is the dense model, S shares a plan directly (the same weights), T was tuned with the plan in place, and C is T's control:
the dense model, trained on the same tokens in the same order. What is left of the damage is

    r = (C − T) / (D − S),    recovered = 1 − r,

each difference being a loss (`core.evaluation.paired`), of perplexities in logarithms. Training alone changes a model,
so T is held against C; where there is none, against D, and that is said. A distilled model learned from D, not from the
text, so D is what it is held against. Seeds are averaged. The standard error is the
delta method's for a ratio over paired documents, with the spread over seeds added; what it ignores: the tokens that were
trained on might have been others. Imports no torch.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from core.evaluation.answers import load_answers
from core.evaluation.losses import Place
from core.evaluation.paired import Document, document_scores, parts_of
from core.evaluation.resolve import BUNDLED_TWINS, asked_key, dense_name, is_reference, task_name, twins_of
from core.records.scores import Metric, Record

SIGNIFICANCE = 0.05
SEEDS_FOR_BETTER = 3
"""Fewer seeds cannot show that a tuned model is better than dense."""
LEAST_DAMAGE = 2.0
"""Standard errors that the damage must be, or a share of it would be a share of nothing."""


class Recovery(NamedTuple):
    """What tuning recovered of one plan's damage in one score. share: 1 − r; None where `reason` says why it is not known.

    recipe: what the tuned models have in common beside the plan, in words; empty where records do not tell. controlled: against the
    control, else against the dense model. p_value: of tuned against control, two-sided, None without one. better: whether
    that may be called better than dense. distilled: whether it learned from the dense model, not from the text.
    """

    model: str
    plan: str
    recipe: str
    task: str
    share: float | None = None
    stderr: float | None = None
    documents: int = 0
    seeds: int = 0
    controlled: bool = False
    p_value: float | None = None
    better: bool = False
    reason: str = ""
    distilled: bool = False


@dataclass(frozen=True)
class Quartet:
    """The records of one plan on one task: dense, shared directly, and each tuned one with its control, if there is one."""

    dense: Place | None
    shared: Place | None
    tuned: tuple[tuple[Place, Place | None], ...]
    recipe: str
    model: str

    @property
    def controlled(self) -> tuple[tuple[Place, Place], ...]:
        """The tuned models that have a control, with it."""
        return tuple((tuned, control) for tuned, control in self.tuned if control is not None)

    @property
    def places(self) -> list[Place]:
        """All records whose answers are needed."""
        both = [place for pair in self.controlled for place in pair]
        return [place for place in (self.dense, self.shared) if place] + (both or [tuned for tuned, _ in self.tuned])


def quartets(places: Iterable[Place], twins: Mapping[str, str] = BUNDLED_TWINS) -> list[Quartet]:
    """Every plan on every task that a tuned model was measured on, one for each recipe; seeds stand together."""
    places = [place for place in places if not place[1].compression]
    twins = twins_of((record for _, record in places), twins)
    dense: dict[tuple, Place] = {}
    shared: dict[tuple, Place] = {}
    controls: dict[tuple, list[Place]] = defaultdict(list)
    groups: dict[tuple, list[Place]] = defaultdict(list)
    for place in places:
        record, asked = place[1], asked_key(place[1], twins)
        if is_reference(record):
            dense.setdefault(asked, place)
        elif record.kind == "direct":
            shared[asked, record.plan, record.weights_sha256] = place
        elif record.kind == "control":
            controls[asked].append(place)
        elif record.kind == "tuned":
            groups[asked, record.plan, _recipe(record)].append(place)
    found = []
    for (asked, plan, recipe), tuned in groups.items():
        reference = dense.get(asked)
        direct = shared.get((asked, plan, reference[1].weights_sha256)) if reference else None
        pairs = tuple((place, _control_of(place[1], controls[asked])) for place in tuned)
        found.append(Quartet(reference, direct, pairs, recipe, dense_name(tuned[0][1].model, twins)))
    return found


def _recipe(record: Record) -> str:
    """What tuned models must have in common for their seeds to be averaged, in words."""
    if not (tuning := record.tuning):
        return ""
    corrections = ", ".join(
        f"corrections: {name}" if value is True else f"corrections of {name} {value}"
        for name, value in sorted((tuning.get("corrections") or {}).items())
        if value
    )
    objective = "" if tuning["objective"] == "text" else str(tuning["objective"])
    words = (
        tuning["method"],
        objective,
        corrections,
        f"{tuning['tokens']:,} tokens",
        f"data {tuning['data_sha256'][:8]}",
    )
    return ", ".join(filter(None, words))


def is_control_of(record: Record, tuned: Record) -> bool:
    """Whether it is of the dense model, trained as this one was, against this plan or against any.

    That is: by the same method and objective, on the same tokens in the same order. A distilled model has no control but
    the dense model itself: distilled from itself, that would stay as it is.
    """
    one, other = record.tuning, tuned.tuning
    if record.kind != "control" or not (one and other):
        return False
    same = ("method", "objective", "tokens", "seed", "data_sha256")
    return all(one[name] == other[name] for name in same) and one["plan"] in (tuned.plan, "")


def _control_of(tuned: Record, controls: Sequence[Place]) -> Place | None:
    """The dense model that was trained on the same tokens in the same order; of two the one of the same plan."""
    found = [place for place in controls if is_control_of(place[1], tuned)]
    return max(found, key=lambda place: place[1].tuning["plan"] == tuned.plan, default=None)  # type: ignore[index]


def recovery_of(found: Quartet, metric: str) -> Recovery:
    """What was recovered in one metric, as all answers of the records say; reads their files.

    Where something is missing, or the damage is too small for a share of it, `reason` says so in a sentence.
    """
    record = found.tuned[0][0][1]
    distilled = (record.tuning or {}).get("objective") == "distillation"
    about = Recovery(found.model, record.plan, found.recipe, task_name(record, metric), distilled=distilled)
    missing = [words for words, place in (("dense", found.dense), ("direct", found.shared)) if place is None]
    if missing:
        return about._replace(reason=f"The {' and the '.join(missing)} score of the same questions is missing.")
    scored = [(place, place[1].metrics.get(metric)) for place in found.places]
    if any(score is None for _, score in scored):
        return about._replace(reason="Not all of the models have this score.")
    answers = [_answers(place, metric) for place, _ in scored]
    unknown = [place[1] for (place, _), rows in zip(scored, answers, strict=True) if not rows]
    if unknown:
        named = ", ".join(sorted({f"{one.model} ({one.plan_name})" for one in unknown}))
        return about._replace(reason=f"The single answers of {named} are not stored.")
    metrics = [score for _, score in scored if score is not None]
    return _recovered(about, metrics, answers, bool(found.controlled))


def _answers(place: Place, metric: str) -> dict[Document, Any]:
    return document_scores(load_answers(*place)[0] or []).get(metric, {})


def _recovered(
    about: Recovery, metrics: Sequence[Metric], answers: Sequence[dict[Document, Any]], controlled: bool
) -> Recovery:
    """The answers are of D, S and, for each seed, T and (if `controlled`) C."""
    parts = parts_of(metrics, answers)
    if parts is None:
        return about._replace(reason="The single answers are of other questions, or do not give the scores.")
    sign = 1 if metrics[0].higher_is_better else -1
    dense, shared, *others = sign * parts[1]
    tuned = np.array(others[::2] if controlled else others)
    against = np.array(others[1::2]) if controlled else dense[None]
    return share_of(about, dense, shared, tuned, against, controlled)


def share_of(
    about: Recovery, dense: np.ndarray, shared: np.ndarray, tuned: np.ndarray, against: np.ndarray, controlled: bool
) -> Recovery:
    """The share that was recovered, from the parts of documents, higher being better.

    dense, shared: [documents]. tuned: [seeds, documents]. against: the same of controls, or [1, documents].
    """
    seeds, documents = tuned.shape
    about = about._replace(documents=documents, seeds=seeds, controlled=controlled)
    damage, left = dense - shared, against - tuned  # left: [seeds, documents]
    if damage.mean() <= LEAST_DAMAGE * _sem(damage):
        return about._replace(
            reason="Sharing directly did no damage that this score can tell: there is nothing to recover."
        )
    remaining = left.mean() / damage.mean()
    influence = (left.mean(axis=0) - remaining * damage) / damage.mean()
    spread = _sem(left.mean(axis=1)) if seeds > 1 else 0.0
    stderr = math.hypot(_sem(influence), spread / damage.mean())
    p_value = _p_value(left) if controlled else None
    better = (
        p_value is not None
        and seeds >= SEEDS_FOR_BETTER
        and p_value < SIGNIFICANCE
        and left.mean() < 0
        and tuned.mean() > dense.mean()
    )
    return about._replace(share=float(1 - remaining), stderr=stderr, p_value=p_value, better=bool(better))


def _p_value(left: np.ndarray) -> float:
    """Two-sided, of no difference: t of the mean over seeds and documents, whose variances add up.

    Degrees of freedom by Satterthwaite 1946. With one seed nothing is known about others.
    """
    from scipy import stats  # here: the page starts without it

    seeds, documents = left.shape
    of_documents = _sem(left.mean(axis=0)) ** 2
    of_seeds = _sem(left.mean(axis=1)) ** 2 if seeds > 1 else 0.0
    variance = of_documents + of_seeds
    if not variance:
        return float(math.isclose(left.mean(), 0, abs_tol=1e-12))
    freedom = variance**2 / (of_documents**2 / (documents - 1) + (of_seeds**2 / (seeds - 1) if seeds > 1 else 0.0))
    return float(2 * stats.t.sf(abs(left.mean()) / math.sqrt(variance), freedom))


def _sem(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values)))
