"""Records of what mechanisms cost at equal savings: curves, the cheapest mechanism of each layer, what it says of sharing.

Such a record (`kind` is `mechanisms`) has lines in these roles:

- `layer`: plans that change one layer by one mechanism, on the calibration text;
- `curve:BUDGET:MECHANISM`: the best plans found that save so much of that budget, on both texts, each plan once. The mechanism
  is one of `core.plan.MECHANISMS`, used alone, or `mixture`. Which plan is for which target follows from the plans: of those
  that save as much, the one of least damage where plans were chosen.

Budgets are shares of what the dense model takes, predicted for the record's context: see BUDGETS. Imports no torch.
"""

from collections.abc import Iterable, Sequence
from math import hypot, isnan, sqrt
from statistics import NormalDist
from typing import NamedTuple

import pandas as pd

from core.plan import MECHANISMS
from core.records.searches import PlanDamage, Split, StoredSearch, plans_of

KIND = "mechanisms"
BUDGETS: dict[str, str] = {
    "cache": "bytes of the KV cache after so much context",
    "flops": "FLOPs of attention for a new token: projections, scores, softmax and weighted values",
    "time": "predicted time of a decode step at so much batch and context on a device",
}
"""What can be saved, each with what it is."""
TARGETS = (0.05, 0.1, 0.2, 0.3, 0.4)
"""The usual shares to save."""
MIXTURE = "mixture"
CURVES = (*MECHANISMS, MIXTURE)
"""Every curve there can be, in the order in which they are told."""
LAYER = "layer"
"""The role of plans that change one layer."""
ROUNDING = 1e-9
"""6 of 30 layers save a fifth, though not to the last bit."""

_CURVE_COLUMNS = (
    "budget", "mechanism", "target", "saving", "damage", "stderr", "held_damage", "held_stderr", "plan", "head_map",
)  # fmt: skip
_LAYER_COLUMNS = ("layer", "mechanism", "damage", "stderr", "plan", "head_map", *BUDGETS)
_CONFIDENCE = 0.95
_Z = NormalDist().inv_cdf((1 + _CONFIDENCE) / 2)
_MOST_TARGETS = 100  # of a record, which may be anybody's
_HEADLINE = 0.2  # of the targets the one nearest to it is told in numbers


def curve_role(budget: str, mechanism: str) -> str:
    """The role of the plans of one curve."""
    return f"curve:{budget}:{mechanism}"


def targets_of(stored: StoredSearch) -> list[float]:
    """The shares that a record's plans were asked to save, ascending; none in a record of another kind."""
    written = str(stored.record.settings.get("targets") or "").replace(",", " ").split()
    try:
        return sorted({target for one in written if 0 < (target := float(one)) < 1})[:_MOST_TARGETS]
    except ValueError:
        return []


def best_for(plans: Iterable[PlanDamage], budget: str, target: float) -> PlanDamage | None:
    """Of plans that save `target` of the budget or more, the one of least damage where it was chosen; of equals the one that
    saves more. None: no plan saves so much."""
    enough = [one for one in plans if budget in one.savings and one.savings[budget] >= target - ROUNDING]
    return min(enough, key=lambda one: (one.damage, -one.savings[budget], str(one.plan)), default=None)


def curve(stored: StoredSearch, budget: str, mechanism: str) -> list[tuple[float, PlanDamage]]:
    """(target, plan with its damage on both texts) of one curve, ascending; targets that no plan reaches are left out."""
    points = [one for one in stored.points if one.role == curve_role(budget, mechanism)]
    chosen = {_key(one) for one in points if one.split == "calibration"}
    plans = plans_of([one for one in points if _key(one) in chosen], curve_role(budget, mechanism))
    found = ((target, best_for(plans, budget, target)) for target in targets_of(stored))
    return [(target, one) for target, one in found if one is not None]


def _key(one: PlanDamage) -> tuple[str, str]:
    return str(one.plan), str(one.head_map)


def mechanism_curves(stored: StoredSearch) -> pd.DataFrame:
    """One row per budget, mechanism and target that a plan reaches; for charts of damage against saving.

    Columns: budget, mechanism (CURVES), target and saving (shares of what the dense model takes), damage and stderr where the
    plan was chosen, held_damage and held_stderr on the held-out text (nats per token; NaN where it was not judged), plan
    (text) and head_map.
    """
    rows = [
        (
            budget, mechanism, target, one.savings[budget], one.damage, one.stderr,
            one.held_out.damage if one.held_out else float("nan"),
            one.held_out.stderr if one.held_out else float("nan"), str(one.plan), one.head_map,
        )
        for budget in BUDGETS
        for mechanism in CURVES
        for target, one in curve(stored, budget, mechanism)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(_CURVE_COLUMNS))


def layer_costs(stored: StoredSearch) -> pd.DataFrame:
    """What each layer costs under each mechanism that the model can do there, one row each, by layer; for a strip of bars.

    Columns: layer, mechanism, damage and stderr (nats per token, calibration text), plan (text), head_map, and what it
    saves of each budget (NaN where that was not asked).
    """
    found = {}
    for one in stored.points:
        if one.role == LAYER and one.split == "calibration" and len(one.plan.changed) == 1:
            [layer] = one.plan.changed
            if (mechanism := one.plan.mechanism_of(layer)) is None:
                continue  # in one phase alone
            saved = [one.savings.get(budget, float("nan")) for budget in BUDGETS]
            found[layer, MECHANISMS.index(mechanism), str(one.plan)] = (
                layer, mechanism, one.damage, one.stderr, str(one.plan), one.head_map, *saved,
            )  # fmt: skip
    return pd.DataFrame([found[key] for key in sorted(found)], columns=list(_LAYER_COLUMNS))


class Difference(NamedTuple):
    """How much more damage one plan does than another on the same text, in nats per token, with its interval (95%).

    chunks: of the text, where the interval comes from pairs of them; 0: from the two standard errors as if they were
    independent, which is too wide for pairs.
    """

    more: float
    low: float
    high: float
    chunks: int

    @property
    def verdict(self) -> str:
        """`worse`, `better`, or `unclear` where the interval holds zero."""
        return "worse" if self.low > 0 else "better" if self.high < 0 else "unclear"


def difference(one: PlanDamage, other: PlanDamage) -> Difference:
    """How much more damage `one` does than `other`, both on the same text."""
    rows, others = one.rows or (), other.rows or ()
    if len(rows) == len(others) > 1:
        more, error = _mean_and_error([mine - theirs for mine, theirs in zip(rows, others, strict=True)])
        chunks = len(rows)
    else:
        more, error, chunks = one.damage - other.damage, hypot(one.stderr, other.stderr), 0
    return Difference(more, more - _Z * error, more + _Z * error, chunks)


def _mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    count = len(values)
    mean = sum(values) / count
    return mean, sqrt(sum((one - mean) * (one - mean) for one in values) / (count - 1) / count)


def sharing_against(
    stored: StoredSearch, mechanism: str, budget: str, split: Split = "held-out"
) -> dict[float, Difference]:
    """Target → how much more damage sharing alone does than another curve, where both reach it and were measured on the text."""
    mine, theirs = (dict(curve(stored, budget, each)) for each in ("share", mechanism))
    both = {target: (_on(mine[target], split), _on(theirs[target], split)) for target in mine if target in theirs}
    return {target: difference(one, other) for target, (one, other) in both.items() if one and other}


def _on(one: PlanDamage, split: Split) -> PlanDamage | None:
    return one if one.split == split else one.held_out


def verdict_on_sharing(stored: StoredSearch, budget: str | None = None) -> str:
    """What a record says about Shared Attention on its model, in one sentence, with an interval.

    Sharing alone is compared with leaving attention out (`skip`), or where that was not measured with the other mechanism of
    least damage, at equal savings on the held-out text; and with the best mixture. budget: by default the first of BUDGETS of
    which there is something to compare.
    """
    name = stored.record.model
    present = [(each, _curves_of(stored, each)) for each in ([budget] if budget else BUDGETS)]
    if not any(curves for _, curves in present):
        return f"Of mechanisms on {name} nothing was measured that saves as much as was asked, so that it cannot be said whether sharing is worth it."
    shared = [(each, curves) for each, curves in present if "share" in curves]
    if not shared:
        return f"On {name} no plan that shares alone saves as much as was asked, so that it cannot be said whether sharing is worth it."
    for each, curves in shared:
        if found := _compared(stored, each, curves):
            return found
    return f"On {name} sharing was measured beside no other mechanism at an equal saving, so that it cannot be said whether it is worth it."


def _curves_of(stored: StoredSearch, budget: str) -> dict[str, dict[float, PlanDamage]]:
    found = {mechanism: dict(curve(stored, budget, mechanism)) for mechanism in CURVES}
    return {mechanism: plans for mechanism, plans in found.items() if plans}


_DOES = {
    "skip": "leaving attention out", "kv": "reading keys and values of another layer", "keys": "reading keys of another layer",
    "topk": "attending to chosen positions",
}  # fmt: skip


def _compared(stored: StoredSearch, budget: str, curves: dict[str, dict[float, PlanDamage]]) -> str:
    others = [each for each in curves if each not in ("share", MIXTURE)]
    others = [each for each in others if set(curves[each]) & set(curves["share"])]
    if not others:
        return ""
    common = {each: sorted(set(curves[each]) & set(curves["share"])) for each in others}
    rival = "skip" if "skip" in others else min(others, key=lambda each: _least(curves[each], common[each]))
    target = min(common[rival], key=lambda each: (abs(each - _HEADLINE), each))
    split: Split = "held-out" if curves["share"][target].held_out and curves[rival][target].held_out else "calibration"
    differences = sharing_against(stored, rival, budget, split)
    one = differences[target]
    mine, theirs = (_on(curves[each][target], split) for each in ("share", rival))
    assert mine and theirs, "differences tell of plans that were measured"
    texts = "held-out text" if split == "held-out" else "the text that plans were chosen on"
    how = f"paired over {one.chunks} chunks" if one.chunks else "from the two standard errors, unpaired"
    return (
        f"On {stored.record.model}, at {_percent(target)} of {_SAVED[budget]} saved, Shared Attention alone costs "
        f"{_nats(mine.damage)} nats a token of {texts} and {_DOES[rival]} {_nats(theirs.damage)}: sharing {_IS[one.verdict]} "
        f"by {_nats(abs(one.more))} (95% interval of the difference {_nats(one.low)} to {_nats(one.high)}, {how})"
        f"{_elsewhere(differences, target)}{_mixed(curves, target, split)}."
    )  # fmt: skip


_SAVED = {"cache": "the KV cache", "flops": "attention's FLOPs", "time": "the predicted step time"}
_IS = {"worse": "is worse", "better": "is better", "unclear": "cannot be told from it, being off"}


def _least(plans: dict[float, PlanDamage], targets: Sequence[float]) -> float:
    return min(plans[target].judged.damage for target in targets)


def _elsewhere(differences: dict[float, Difference], headline: float) -> str:
    """What the other targets say, as the middle of the sentence."""
    said = []
    for verdict, words in (("worse", "worse"), ("better", "better"), ("unclear", "not to be told apart")):
        where = [target for target, one in differences.items() if one.verdict == verdict and target != headline]
        if where:
            said.append(f"{words} at {_listed(where)}")
    return f", {' and '.join(said)}" if said else ""


def _listed(targets: Sequence[float]) -> str:
    numbers = [_percent(target).removesuffix("%") for target in targets]
    return " and ".join(filter(None, (", ".join(numbers[:-1]), numbers[-1]))) + "%"


def _mixed(curves: dict[str, dict[float, PlanDamage]], target: float, split: Split) -> str:
    """What the best mixture does, as the end of the sentence."""
    best = curves.get(MIXTURE, {}).get(target)
    measured = _on(best, split) if best else None
    if best is None or measured is None:
        return ""
    shares, changed = len(best.plan.followers), len(best.plan.changed)
    some = "all" if shares == changed else str(shares) if shares else "none"
    return f"; the best mixture costs {_nats(measured.damage)} and shares in {some} of its {changed} changed layers"


def _percent(share: float) -> str:
    return f"{100 * share:.4g}%"


def _nats(value: float) -> str:
    return "unknown" if isnan(value) else f"{round(value, 3) + 0.0:.3f}".replace("-", "−")
