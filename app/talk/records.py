"""What was measured of a model and a plan, as the slides of the talk need it: looked up in records, never guessed."""

from typing import NamedTuple

from app import plans, searches
from app.measured import dense_name, store
from app.registry import LoadedModel
from core.evaluation.recovery import is_control_of
from core.evaluation.resolve import PlanSummary, Task, Verdict
from core.plan import HeadMap, SharingPlan
from core.records.scores import Record
from core.records.searches import PlanDamage, plans_of

Loss = tuple[Task, Verdict]
"""One plan on one task."""


def direct_rows_left_out(head_map: HeadMap) -> HeadMap:
    """The head map without layers whose heads read the leader's head of the same number: what is not in it does so."""
    return {layer: heads for layer, heads in head_map.items() if tuple(heads) != tuple(range(len(heads)))}


def damage_of(model: LoadedModel, plan: SharingPlan, head_map: HeadMap) -> PlanDamage | None:
    """The measured damage of this very plan with these heads, on the text that no choice saw where there is one.

    None where nobody measured it, and for tuned models, whose damage no record tells.
    """
    if model.fixed_plan or not plan:
        return None
    wanted = direct_rows_left_out(head_map)
    found = [
        point
        for kept in searches.records_of(model)
        for point in kept.points
        if point.plan == plan and direct_rows_left_out(point.head_map) == wanted
    ]
    return max(found, key=lambda one: (one.split == "held-out", one.tokens), default=None)


def losses_of(model: LoadedModel, plan: SharingPlan, head_map: HeadMap) -> list[Loss]:
    """What the plan loses on each task that tells plans apart, the most certain loss first; empty without scores."""
    for name in dict.fromkeys((model.identity.name, model.identity.twin)):
        for summary in store().plans:
            record = summary.record
            same = (record.model, record.plan) == (name, str(plan))
            if same and direct_rows_left_out(record.head_map) == direct_rows_left_out(head_map):
                return _most_certain_first(summary)
    return []


def _most_certain_first(summary: PlanSummary) -> list[Loss]:
    return sorted(summary.verdicts.values(), key=lambda loss: -standard_errors(loss[1]))


def standard_errors(verdict: Verdict) -> float:
    """A loss in standard errors; an error of less than one answer in all is none that can be known."""
    return verdict.loss.drop / (verdict.loss.stderr or 1 / verdict.record.num_samples)


class Rivals(NamedTuple):
    """Plans with as many followers as one that a search found, all with their damage on the same text.

    found: chosen on this text; its `held_out` is its damage on one that no choice saw. span: the best single span. late:
    the span at the end of the model. paper: the paper's span, at the same relative depth, of whatever size it is. None:
    not measured on the same text.
    """

    found: PlanDamage
    span: PlanDamage | None
    late: PlanDamage | None
    paper: PlanDamage | None


def rivals(model: LoadedModel, followers: int) -> Rivals | None:
    """The least harmful plan of all searches with as many followers, or as near to it as there is one, and its rivals.

    None where no search of this model is stored.
    """
    stored = searches.records_of(model)
    found_by = [kept for kept in stored if kept.record.kind == "search"]
    if not found_by:
        return None
    texts = max(found_by, key=lambda kept: len(kept.points)).record.texts
    found_by = [kept for kept in found_by if kept.record.texts == texts]
    plans_found = [one for kept in found_by for role in ("found", "chosen") for one in plans_of(kept.points, role)]
    best = min(plans_found, key=lambda one: (abs(one.followers - followers), one.followers, one.damage))
    spans = [one for kept in found_by for one in plans_of(kept.points, "contiguous")]
    swept = {
        point.plan: point
        for kept in stored
        if kept.record.kind == "sweep" and kept.record.texts["calibration"] == texts["calibration"]
        for point in kept.points
    }
    last = model.num_layers - 1
    paper = plans.scaled_span(plans.PAPER_SPANS["SA 27~30"], plans.PAPER_LAYERS, model.num_layers)
    return Rivals(
        best,
        next((one for one in spans if one.followers == best.followers), None),
        swept.get(SharingPlan(((last - best.followers, last),), model.num_layers)),
        swept.get(SharingPlan((paper,), model.num_layers)),
    )


class Ways(NamedTuple):
    """One plan in the ways to share, on the task that tells them apart best. losses: by kind, direct first; last the control
    of the tuned model, where it was measured."""

    task: Task
    plan: str
    losses: dict[str, Verdict]


_KINDS = ("direct", "head-mapped", "tuned")


def ways(model: LoadedModel, plan: SharingPlan) -> Ways | None:
    """What direct sharing loses of a plan, and what is left of it with mapped heads or after tuning.

    Of a plan that a model was tuned with, if there is one; of several, of the page's plan. None where no plan of this
    model was measured in more ways than one.
    """
    dense = dense_name(model.identity.name)
    found = [_in_ways(task, name) for task in store().tasks if task.dense.model == dense for name in _plans_of(task)]
    several = [one for one in found if "direct" in one.losses and len(one.losses) > 1]

    def better(one: Ways) -> tuple:
        resolves = one.task.resolves and one.losses["direct"].loss.drop > 0
        return (
            resolves,
            "tuned" in one.losses,
            one.plan == str(plan),
            len(one.losses),
            standard_errors(one.losses["direct"]),
        )

    return max(several, key=better, default=None)


def _plans_of(task: Task) -> list[str]:
    return list(dict.fromkeys(verdict.record.plan for verdict in task.verdicts))


def _in_ways(task: Task, plan: str) -> Ways:
    """Of several head maps the one that loses least."""
    losses: dict[str, Verdict] = {}
    for kind in _KINDS:
        mine = [one for one in task.verdicts if (one.record.plan, one.record.kind) == (plan, kind)]
        if mine:
            losses[kind] = min(mine, key=lambda one: one.loss.drop)
    if "tuned" in losses and (control := _control_of(task, losses["tuned"].record)):
        losses["control"] = control
    return Ways(task, plan, losses)


def _control_of(task: Task, tuned: Record) -> Verdict | None:
    """The dense model that was trained on the same tokens in the same order; of two the one of the same plan."""
    full = [one for one in task.beside if not one.record.compression and is_control_of(one.record, tuned)]
    return max(full, key=lambda one: bool(one.record.tuning and one.record.tuning["plan"]), default=None)


def measured_plans(model: LoadedModel, most: int = 4) -> list[str]:
    """Some plans of this model that have scores, those with fewest followers first."""
    mine = [one.record for one in store().plans if one.record.model == model.identity.name]
    named = dict.fromkeys(record.plan for record in sorted(mine, key=lambda one: one.changed))
    return list(named)[:most]
