"""What stored records say of the mechanisms of one model: damage and scores against what is saved, layer by layer, and a verdict.

The page's part *Mechanisms* and the endpoint `mechanisms` both ask this module. Records in, tables out; no torch.
"""

from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd

from app import measured, searches
from app.facts import heads_key
from app.registry import LoadedModel, get_model
from app.talk.records import direct_rows_left_out
from core.evaluation.resolve import Task, Verdict, over_context
from core.records.mechanisms import (
    BUDGETS,
    CURVES,
    KIND,
    curve_role,
    layer_costs,
    mechanism_curves,
    verdict_on_sharing,
)
from core.records.searches import StoredSearch

SCORE_COLUMNS = ("mechanism", "saving", "plan", "score", "stderr", "drop", "worse")


class Compared(NamedTuple):
    """A record of mechanisms of one model. curves, layers: as `core.records.mechanisms` makes them. about: how it was measured."""

    stored: StoredSearch
    curves: pd.DataFrame
    layers: pd.DataFrame
    about: str

    @property
    def budgets(self) -> list[str]:
        """The budgets at which plans were sought."""
        return [budget for budget in BUDGETS if (self.curves.budget == budget).any()]

    def curve(self, budget: str) -> pd.DataFrame:
        """The plans of all mechanisms at one budget. Added columns: `nats` and `error`, on held-out text where it was judged
        there, and `held`, whether it was."""
        rows = self.curves[self.curves.budget == budget]
        held = rows.held_damage.notna()
        return rows.assign(
            nats=rows.held_damage.where(held, rows.damage), error=rows.held_stderr.where(held, rows.stderr), held=held
        )

    def absent(self, budget: str) -> list[str]:
        """The mechanisms without a plan at this budget."""
        there = set(self.curve(budget).mechanism)
        return [mechanism for mechanism in CURVES if mechanism not in there]

    def verdict(self, budget: str) -> str:
        """What the record says about Shared Attention at this budget, in one sentence with its interval."""
        return verdict_on_sharing(self.stored, budget)


def compared(model_name: str, budget: str = "") -> Compared | None:
    """The largest record of mechanisms that is of this very model; None where there is none, or the model is tuned.

    budget: of several records the largest with plans that save of it, since each can be asked for at a time of its own. Raises
    ValueError for a model that cannot be had.
    """
    model = get_model(model_name)
    if model.fixed_plan:
        return None
    kept = searches.records_in_any_numbers(model, KIND)
    if not kept:
        return None
    of_budget = [one for one in kept if any(point.role.startswith(curve_role(budget, "")) for point in one.points)]
    stored = (of_budget or kept)[-1]
    return Compared(
        stored, mechanism_curves(stored), layer_costs(stored), searches.about_record(stored.record, model.identity)
    )


def cheapest(layers: pd.DataFrame, budget: str) -> pd.DataFrame:
    """Of each layer the mechanism of least damage for what it saves of this budget, one row each, by layer.

    Mechanisms save unequally, sharing half of what skipping does of the cache: damage alone would call the cheaper one dear.
    No rows where the record does not say what is saved of this budget. layers: `Compared.layers`. Added columns: `saving` (share
    of the budget), `price` and `price_stderr` (nats per token for each percent of it), and `others`: the rest of them as
    [(mechanism, damage, standard error, saving)], the least price first.
    """
    rows = layers.assign(saving=layers[budget].astype(float))
    rows = rows[rows.saving > 0]
    percent = 100 * rows.saving
    rows = rows.assign(price=rows.damage / percent, price_stderr=rows.stderr / percent).sort_values(["layer", "price"])
    found = []
    for _, of_layer in rows.groupby("layer"):
        best_of_each = of_layer.drop_duplicates("mechanism")
        others = [
            (row.mechanism, row.damage, row.stderr, row.saving) for row in best_of_each.iloc[1:].itertuples(index=False)
        ]
        found.append({**best_of_each.iloc[0].to_dict(), "others": others})
    return pd.DataFrame(found, columns=[*rows.columns, "others"])


# Scores of the plans on the curves


def tasks_of(model_name: str, curves: pd.DataFrame) -> list[Task]:
    """The tasks that tell plans apart and were asked of a plan of these curves, those asked of most of them first."""
    wanted = {_key(row.plan, row.head_map) for row in curves.itertuples()}
    counts = [(len(wanted & _verdicts(task, get_model(model_name)).keys()), task) for task in measured.store().tasks]
    usable = [(count, task) for count, task in counts if count and task.resolves]
    return [
        task
        for _, task in sorted(usable, key=lambda one: (-one[0], bool(over_context(one[1].dense.task)), one[1].name))
    ]


def scores(model_name: str, curves: pd.DataFrame, task: Task) -> pd.DataFrame:
    """The scores of the plans of these curves on one task. Columns: SCORE_COLUMNS; `drop` against the dense model's score."""
    verdicts = _verdicts(task, get_model(model_name))
    rows = []
    for row in curves.itertuples():
        if verdict := verdicts.get(_key(row.plan, row.head_map)):
            metric = verdict.record.metrics[task.metric]
            stderr = float("nan") if metric.stderr is None else metric.stderr
            found = (row.mechanism, row.saving, row.plan, metric.value, stderr, verdict.loss.drop, verdict.worse)
            rows.append(found)
    return pd.DataFrame(rows, columns=list(SCORE_COLUMNS))


def _verdicts(task: Task, model: LoadedModel) -> dict[str, Verdict]:
    names = {model.identity.name, model.identity.twin}
    of_model: Iterable[Verdict] = (one for one in task.verdicts if one.record.model in names)
    return {_key(one.record.plan, one.record.head_map): one for one in of_model}


def _key(plan: str, head_map: dict) -> str:
    """Equal for equal plans with equal heads."""
    return f"{plan}|{heads_key(direct_rows_left_out(head_map))}"


__all__ = ["BUDGETS", "CURVES", "Compared", "cheapest", "compared", "curve_role", "scores", "tasks_of"]
