"""What is known about where sharing is cheap in a model: from stored records, or measured here on a text.

The page's part *Where to share* and the endpoint `suggest` both ask this module.
"""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from app import measured, settings, text
from app.compute import compute, taking_turns
from app.registry import LoadedModel, ModelIdentity, get_model
from app.zero_gpu import on_gpu
from core.configs import context_tokens
from core.records.correlations import RankCorrelation, correlations_in
from core.records.searches import PlanDamage, SearchRecord, StoredSearch, plans_of

if TYPE_CHECKING:  # they load torch
    import numpy as np

    from core.damage.budget import Budget
    from core.damage.meter import DamageMeter


@dataclass(frozen=True)
class Known:
    """Damages of spans, fronts of a search and pairs of layers of one model, each with a sentence on its source.

    model: the place of the model (`app.registry.LoadedModel`). sweep: `core.damage.spans.sweep_frame`. front, contiguous: plans by size. pairs: `core.damage.guide.guide_frame`.
    improved: of front plans from other searches than that of `front_about`, by plan name, the sentence on theirs.
    """

    model: Hashable
    num_layers: int
    sweep: pd.DataFrame
    sweep_about: str = ""
    front: tuple[PlanDamage, ...] = ()
    contiguous: tuple[PlanDamage, ...] = ()
    front_about: str = ""
    improved: dict[str, str] = field(default_factory=dict)
    pairs: pd.DataFrame = field(default_factory=pd.DataFrame)
    correlations: tuple[RankCorrelation, ...] = ()
    pairs_about: str = ""

    def about(self, found: PlanDamage) -> str:
        """Where a plan of the front is from."""
        return self.improved.get(found.plan.name, self.front_about)

    def in_role(self, role: str) -> tuple[PlanDamage, ...]:
        """The plans of the front (`found`), or the best single spans (`contiguous`)."""
        return self.front if role == "found" else self.contiguous

    def best_span_like(self, found: PlanDamage) -> PlanDamage | None:
        """The best single span of as many followers, where spans were measured."""
        return next((one for one in self.contiguous if one.followers == found.followers), None)


def meters(model: LoadedModel, own_text: str, tokens: int) -> "tuple[DamageMeter, DamageMeter]":
    """(calibration, held-out) `DamageMeter`s of the dense model; what they have measured stays in memory.

    own_text: a visitor's text; empty for the bundled passages. Raises ValueError for a text that is too short.
    """
    return model.meters.get((own_text.strip(), tokens), lambda: _make_meters(model, own_text.strip(), tokens))


def _make_meters(model: LoadedModel, own_text: str, tokens: int) -> "tuple[DamageMeter, DamageMeter]":
    from core.damage.meter import DamageMeter
    from core.damage.texts import calibration_texts, documents_for
    from core.tokens import documents_of

    longest = context_tokens(model.model) or settings.CALIBRATION_CHUNK_TOKENS
    chunk = min(settings.CALIBRATION_CHUNK_TOKENS, tokens // 4, longest)
    sizes = {"tokens": tokens, "held_out_tokens": tokens, "chunk_tokens": chunk}
    documents = documents_of(own_text) if own_text else documents_for(model.identity.name)
    texts = calibration_texts(model.tokenizer, documents, **sizes)
    chosen_on, judged_on = (
        DamageMeter(model.model, one, batch_tokens=settings.CALIBRATION_BATCH_TOKENS) for one in texts
    )
    return chosen_on, judged_on


def still_known(before: Known | None, name: str) -> Known:
    """What a page knows of its model; what is stored, where the server has forgotten the page, or knew of another model."""
    return before if before is not None and before.model == get_model(name).place else known(name)


def known(name: str) -> Known:
    """What the stored records say about the model of this name; nothing where its weights are others."""
    from core.damage.guide import guide_frame
    from core.damage.spans import sweep_frame

    model = get_model(name)
    found = Known(model.place, model.num_layers, sweep_frame([]))
    if model.fixed_plan:
        return found
    mine = records_of(model)
    for record, points in {kept.record.kind: kept for kept in mine}.values():  # of each kind the last: the largest
        about = about_record(record, model.identity)
        if record.kind == "sweep":
            found = replace(found, sweep=sweep_frame(points), sweep_about=about)
        elif record.kind == "search":
            front, spans = (plans_of(points, role) for role in ("found", "contiguous"))
            others = [kept for kept in mine if kept.record.kind == "search" and kept.record.texts == record.texts]
            front, improved = _with_better_plans(front, others, model.identity)
            found = replace(found, front=front, contiguous=spans, front_about=about, improved=improved)
        elif record.kind == "pairs":
            correlations = tuple(correlations_in(record))
            found = replace(found, pairs=guide_frame(points), correlations=correlations, pairs_about=about)
    return found


def records_of(model: LoadedModel) -> list[StoredSearch]:
    """The stored records of this model's weights, those with most points last, and of equals the least harmful, which
    is the one with head maps. Where there are none: those of its quantized twin.
    """
    records = measured.searches()
    mine = [kept for kept in records if model.identity.is_of(kept.record)]
    return sorted(mine or [kept for kept in records if _is_of_twin(kept.record, model)], key=_rank)


def records_in_any_numbers(model: LoadedModel, kind: str) -> list[StoredSearch]:
    """`records_of` of one kind, and where there are none those of the same weights in another number format: a GPU runs models in
    bfloat16 that a laptop runs in float32."""
    mine = [kept for kept in records_of(model) if kept.record.kind == kind]
    others = (kept for kept in measured.searches() if kept.record.kind == kind)
    return mine or sorted((kept for kept in others if model.identity.is_of_in_other_numbers(kept.record)), key=_rank)


def _is_of_twin(record: SearchRecord, model: LoadedModel) -> bool:
    """Whether a record was measured on a quantized file of the model whose original weights are loaded."""
    same = (record.model, record.num_layers) == (model.identity.twin, model.num_layers)
    return same and record.model != model.identity.name and record.quantization is not None


def _with_better_plans(
    front: tuple[PlanDamage, ...], others: list[StoredSearch], identity: ModelIdentity
) -> tuple[tuple[PlanDamage, ...], dict[str, str]]:
    """The front with the least harmful plan of each size in other searches on the same texts, and where these are from.

    Damage is compared where plans were chosen: the held-out text takes no part in any choice.
    """
    best, improved = {found.followers: found for found in front}, {}
    for record, points in others:
        for found in plans_of(points, "chosen"):
            before = best.get(found.followers)
            if found.held_out and before and found.damage < before.damage:
                best[found.followers] = found
                improved[found.plan.name] = about_record(record, identity)
    return tuple(best.values()), improved


def _rank(kept: StoredSearch) -> tuple[int, float]:
    return len(kept.points), -sum(point.damage for point in kept.points)


def about_record(record: SearchRecord, identity: ModelIdentity) -> str:
    """How a stored search was measured, and whether on other weights than those of the model it is shown for."""
    parted = str(record.settings.get("parted", ""))
    about = text.ABOUT_STORED.format(
        tokens=f"{record.texts['calibration'].tokens:,}", dtype=record.dtype, machine=record.machine, date=f"{record.date:%Y-%m-%d}",
        command=record.command, parted=text.PARTED.format(how=parted) if parted else "",
    )  # fmt: skip
    return f"{about} {identity.note_on(record)}".strip()


# What a budget buys


def check(model_name: str, kind: str, head_map: str) -> None:
    """Raise ValueError for a tuned model, and for a budget or a head mapping that does not exist (empty: any)."""
    if get_model(model_name).fixed_plan:
        raise ValueError(text.NOT_FOR_TUNED)
    for name, names in ((kind, list(text.BUDGETS)), (head_map or "identity", list(text.HEAD_MAPS.values()))):
        if name not in names:
            raise ValueError(f"There is no {name!r}: use one of {', '.join(names)}.")


def answers(known: Known, kind: str, value: float) -> PlanDamage | None:
    """The plan of the front that the budget buys, or None."""
    return budget_of(kind, value).choose(known.front) if known.front else None


def budget_of(kind: str, value: float) -> "Budget":
    """The budget that kind and slider say."""
    from core.damage.search import Budget

    if kind == "followers":
        if value != int(value):
            raise ValueError(f"{value} layers cannot reuse weights: give a whole number.")
        return Budget(followers=int(value))
    return Budget(damage=value) if kind == "damage" else Budget(cache_saving=value / 100)


# Measuring here


class Step(NamedTuple):
    """`items` that came since the last step; `done` of `total`; `work`: a sentence on the layers that were run."""

    items: list[Any]
    done: int
    total: int
    work: str = ""


@on_gpu(lambda model_name, own_text, tokens, *_: tokens / 20)
def spans(model_name: str, own_text: str, tokens: int, followers: int = 0) -> Iterator[Step]:
    """The damage of every span of at most so many followers (0: any), batch after batch of the text."""
    from core.damage.candidates import Constraints, contiguous_spans
    from core.damage.spans import sweep

    allowed = Constraints(longest_span=followers + 1 if followers else None)
    meter, _ = meters(get_model(model_name), own_text, tokens)
    total = len(contiguous_spans(meter.runner.model, allowed)) * len(meter.batches)
    for done, span in enumerate(taking_turns(sweep(meter, allowed)), start=1):
        yield Step([span], done, total, _work(meter))


@on_gpu(lambda model_name, own_text, tokens, *_: tokens / 20)
def suggestions(
    model_name: str,
    own_text: str,
    tokens: int,
    kind: str,
    value: float,
    limits: tuple[int, int, int | None],
    head_map: str,
) -> Iterator[Step]:
    """`core.damage.search.suggest` of the whole front, step by step; the last item is the Suggestion.

    limits: (first layers, last layers that never reuse, longest span or None). Raises ValueError for bad input.
    """
    from core.damage.candidates import Constraints
    from core.damage.search import Suggestion, suggest

    both = meters(get_model(model_name), own_text, tokens)
    budget, constraints = budget_of(kind, value), Constraints(*limits)
    steps = suggest(both, budget, constraints=constraints, head_map=head_map, whole_front=True)
    for step in taking_turns(steps):
        done, total = (1, 1) if isinstance(step, Suggestion) else (step.done, step.total + 1)
        yield Step([step], done, total, _work(*both))


@on_gpu(lambda model_name, own_text, tokens, *_: tokens / 20)
def pairs(model_name: str, own_text: str, tokens: int) -> Iterator[Step]:
    """The damage of every pair of layers, batch after batch of the text."""
    from core.damage.candidates import contiguous_spans
    from core.damage.guide import check_enough_pairs, pair_damages

    check_enough_pairs(get_model(model_name).model)
    meter, _ = meters(get_model(model_name), own_text, tokens)
    total = len(contiguous_spans(meter.runner.model)) * len(meter.batches)
    for done, pair in enumerate(taking_turns(pair_damages(meter)), start=1):
        yield Step([pair], done, total)


@on_gpu(lambda model_name, own_text, tokens, *_: tokens / 20)
def similarities(model_name: str, own_text: str, tokens: int) -> "dict[str, np.ndarray]":
    """The similarity of every two layers on the text that damage is measured on, by method."""
    from core.damage.choices import SIMILARITY_METHODS
    from core.damage.guide import mean_similarity

    meter, _ = meters(get_model(model_name), own_text, tokens)
    return {method: compute(mean_similarity, meter.runner.model, meter.text, method) for method in SIMILARITY_METHODS}


def with_suggestion(known: Known, step: Step, own_text: str) -> Known:
    """What is known after the last step of `suggestions`."""
    found = step.items[-1]
    front = tuple(found.chosen if one.plan == found.chosen.plan else one for one in found.front)
    about = f"{about_here(found.chosen, own_text)} {step.work}"
    return replace(known, front=front, contiguous=found.contiguous, front_about=about, improved={})


def frame_of(found: list[PlanDamage]) -> pd.DataFrame:
    """The latest damage of each span that was measured, as `Known.sweep` has it."""
    from core.damage.spans import sweep_frame

    return sweep_frame(found)


def about_here(measured: PlanDamage, own_text: str) -> str:
    """One sentence about a measurement on this machine."""
    name = text.OWN_TEXT_NAME if own_text.strip() else text.BUNDLED_TEXT_NAME
    return text.ABOUT_HERE.format(tokens=f"{measured.tokens:,}", text=name)


def _work(*meters: "DamageMeter") -> str:
    """Sentences on the layers that were run and, of a text that is judged too, on how it was parted."""
    from core.damage.texts import HALVES

    parted = text.PARTED.format(how=HALVES).strip() if len(meters) > 1 and meters[0].text.halves else ""
    done = sum(meter.runner.layer_evaluations for meter in meters)
    naive = sum(meter.runner.naive_layer_evaluations for meter in meters)
    return " ".join(filter(None, (parted, text.WORK.format(share=f"{done / naive:.0%}") if naive else "")))
