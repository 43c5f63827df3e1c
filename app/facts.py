"""What the browser needs to say what a plan of one model is, saves and costs, without asking: sent once for a model.

From these numbers `app/components/page/figures.js` computes what `core.cost` would say, for any plan, and finds what was
measured of it. Everything predicted holds at one setting, which is named; everything measured is from stored records.
"""

import json
from collections.abc import Iterable
from dataclasses import astuple
from math import isnan
from typing import Any

from app import measured, searches, settings, text, units
from app.registry import LoadedModel, ModelIdentity, get_model
from app.services import LOADED, longest_context, shape_of
from core.cost import CostsByLayer, Device, ModelShape, costs_by_layer
from core.evaluation.resolve import Task, Verdict, over_context
from core.plan import HeadMapLike
from core.records.scores import Record
from core.records.searches import LayerPair, StoredSearch
from core.timing.predicted import with_measured_bandwidth

MOST_BYTES = 30_000
"""Of the facts as JSON, for a model of up to 32 layers; what goes first where there are more is the sweep."""
_DIGITS = 3


def facts(model_name: str) -> dict[str, Any]:
    """The facts on a model, ready for JSON. Raises ValueError where the model cannot be loaded.

    layers, kinds: layers of one kind may share. cannot: mechanism → why this model cannot do it. fixed, plan: a tuned model's plan, which no gesture changes.
    costs: see `_costs`; None where the model's costs are not known. pending: whether what was measured is still to come.
    damage: follower → (damage, standard error) of it alone reusing the nearest layer before it, in nats, from
    `damage_about`. sweep: leader → damage and error of spans by their number of followers, flat. measured: `plan|key of
    the head map` → [damage, task]: damage is (nats, standard error or None, 1 for held-out text), task is (number in
    `tasks`, change, standard error); each None where it was not measured. tasks: label, unit, name and digits of a score.
    note: what has to be said where records are of the model's twin. native: what the model shares by itself, as a plan's text.
    """
    model = get_model(model_name)
    kept = [] if model.fixed_plan else searches.records_of(model)
    damage, about = _single_damage(model, kept)
    tasks, scores = _scores(model)
    found: dict[str, list[Any]] = {key: [nats, None] for key, nats in _held_out(kept).items()}
    for key, (number, verdict) in scores.items():
        found.setdefault(key, [None, None])[1] = [number, *_change(tasks[number], verdict)]
    measured_facts = {
        "damage": damage, "damage_about": about, "sweep": _sweep(kept), "measured": found,
        "tasks": [_task(task) for task in tasks], "note": _note(model.identity, scores), "pending": False,
    }  # fmt: skip
    return _cut(sizes(model) | measured_facts)


def sizes(model: LoadedModel) -> dict[str, Any]:
    """The facts that need no records, which take a while to read at first: enough to draw and to predict."""
    return {
        "model": model.name, "layers": model.num_layers, "kinds": model.kinds, "native": model.native, "fixed": bool(model.fixed_plan),
        "plan": model.fixed_plan.name if model.fixed_plan else "", "costs": _costs(model), "damage": {},
        "damage_about": "", "sweep": {}, "measured": {}, "tasks": [], "note": "", "pending": True, "cannot": model.cannot,
    }  # fmt: skip


def heads_key(head_map: HeadMapLike) -> str:
    """A short key of a head map, the same as `headsKey` in the browser makes: FNV-1a of its rows; empty for none."""
    rows = ";".join(f"{layer}:{','.join(map(str, heads))}" for layer, heads in sorted(head_map.items()))
    hashed = 0x811C9DC5
    for letter in rows.encode():
        hashed = (hashed ^ letter) * 0x01000193 % 2**32
    return f"{hashed:08x}" if rows else ""


def _cut(whole: dict[str, Any]) -> dict[str, Any]:
    """The facts, without the longest spans of the sweep where they would be too many bytes."""
    while len(json.dumps(whole)) > MOST_BYTES and any(whole["sweep"].values()):
        longest = max(map(len, whole["sweep"].values()))
        whole["sweep"] = {leader: row[: longest - 2] for leader, row in whole["sweep"].items()}
    return whole


# Predicted


def _costs(model: LoadedModel) -> dict[str, Any] | None:
    """Costs of each sort of layer (`core.cost.LayerCosts`), of the rest, and the machine, at the setting of the headline.

    Layers of one sort cost the same; sort_of: of each layer. Each cost is a row in the order of `LayerCost`.
    """
    try:
        shape = shape_of(LOADED, model.name)
    except ValueError:
        return None
    device = with_measured_bandwidth(measured.timings())[settings.HEADLINE_DEVICE]
    costs = headline_costs(shape)
    sorts = list(dict.fromkeys(costs.layers))
    return {
        "setting": setting_in_words(costs, device),
        "batch": costs.batch_size,
        "context": costs.context_tokens,
        "bandwidth": device.bandwidth_bytes_per_s,
        "rate": device.flops_per_s.get(settings.HEADLINE_DTYPE),
        "rest": astuple(costs.rest),
        "sorts": [
            {"window": sort.window, "per_token": sort.cache_bytes_per_token, "attended": sort.attended}
            | {role: astuple(getattr(sort, role)) for role in _ROLES}
            for sort in sorts
        ],
        "sort_of": [sorts.index(layer) for layer in costs.layers],
    }


_ROLES = (
    "computes", "leads", "follows", "skips", "follows_kv", "follows_keys", "leads_topk", "follows_topk1", "topk_position",
)  # fmt: skip
"""Of `core.cost.by_layer.LayerCosts`: what a layer costs in each role that a plan can give to it."""


def headline_costs(shape: ModelShape) -> CostsByLayer:
    """The costs of a model at the setting of the headline, its context cut to what the model is made for."""
    context = min(settings.HEADLINE_CONTEXT, longest_context(shape))
    return costs_by_layer(shape, settings.HEADLINE_BATCH, context, settings.HEADLINE_DTYPE)


def setting_in_words(costs: CostsByLayer, device: Device) -> str:
    """The batch, the context and the device of predicted numbers: `16 × 8K, H200`."""
    return f"{costs.batch_size} × {units.tokens_short(costs.context_tokens)}, {device.name.removeprefix('NVIDIA ')}"


# Measured: damage


def _single_damage(model: LoadedModel, kept: list[StoredSearch]) -> tuple[dict[str, list[float | None]], str]:
    """The damage of each follower alone under the nearest layer of its kind, from the record that knows most of them; of
    equals a sweep."""
    before = {layer: _leader_before(model.kinds, layer) for layer in range(model.num_layers)}
    best: dict[str, list[float | None]] = {}
    about = ""
    for record, points in sorted(kept, key=lambda one: one.record.kind == "sweep"):
        found = {
            str(one.plan.followers[0]): _nats(one.damage, one.stderr)
            for one in points
            if one.followers == 1
            and not one.plan.parts
            and one.split == "calibration"
            and not one.head_map
            and one.plan.leaders[0] == before[one.plan.followers[0]]
        }
        if len(found) >= max(1, len(best)):
            best, about = found, searches.about_record(record, model.identity)
    return best, about


def _leader_before(kinds: list[int], layer: int) -> int | None:
    return next((one for one in reversed(range(layer)) if kinds[one] == kinds[layer]), None)


def _sweep(kept: list[StoredSearch]) -> dict[str, list[float | None]]:
    """Leader → damage and standard error of its spans with 1, 2, … followers, flat; of the last sweep."""
    points = next((points for record, points in reversed(kept) if record.kind == "sweep"), [])
    rows: dict[str, list[float | None]] = {}
    for one in points:
        row = rows.setdefault(str(one.plan.leaders[0]), [])
        row.extend([None] * (2 * one.followers - len(row)))
        row[2 * one.followers - 2 : 2 * one.followers] = _nats(one.damage, one.stderr)
    return rows


def _held_out(kept: Iterable[StoredSearch]) -> dict[str, list[float | None]]:
    """The damage of plans on text that no choice saw; of two records the one with more points."""
    return {
        _key(one.plan.name, one.head_map): [*_nats(one.damage, one.stderr), 1]
        for _, points in kept
        for one in points
        if one.split == "held-out" and not isinstance(one.plan, LayerPair)
    }


def _key(plan: str, head_map: HeadMapLike) -> str:
    return f"{plan}|{heads_key(head_map)}"


def _nats(damage: float, stderr: float | None) -> list[float | None]:
    return [_rounded(damage), _rounded(stderr)]


def _rounded(value: float | None) -> float | None:
    """As many digits as are shown: the facts are sent to a telephone too."""
    return None if value is None or isnan(value) else float(f"{value:.{_DIGITS}g}")


# Measured: scores


def _scores(model: LoadedModel) -> tuple[list[Task], dict[str, tuple[int, Verdict]]]:
    """The tasks in question, and plan and head map → (number of the task that tells plans apart best, the verdict).

    Of the tasks that the plan was measured on. Scores of the model's twin count where there are none of its own.
    """
    identity, dtype = model.identity, str((model.tuned or model.model).dtype).removeprefix("torch.")

    def is_own(record: Record) -> bool:
        """Hashes of weights tell nothing across number formats."""
        return identity.is_of(record) or (record.model == identity.name and record.dtype != dtype)

    tasks = [task for task in measured.store().tasks if task.resolves and not over_context(task.dense.task)]
    for is_mine in (is_own, lambda record: record.model == identity.twin != identity.name):
        best: dict[str, tuple[Task, Verdict]] = {}
        for task in tasks:
            for verdict in task.verdicts:
                if is_mine(verdict.record):
                    best.setdefault(_key(verdict.record.plan_name, verdict.record.head_map), (task, verdict))
        if best:
            used = [task for task in tasks if any(task is one for one, _ in best.values())]
            numbers = {id(task): number for number, task in enumerate(used)}
            return used, {key: (numbers[id(task)], verdict) for key, (task, verdict) in best.items()}
    return [], {}


def _change(task: Task, verdict: Verdict) -> list[float | None]:
    """The change of the score against the dense model and its standard error, as `_task` says its unit."""
    times = 100 if _in_points(task) else 1
    change = (-1 if task.score.higher_is_better else 1) * verdict.loss.drop
    return [_rounded(times * one) if one is not None else None for one in (change, verdict.loss.stderr)]


def _in_points(task: Task) -> bool:
    """Whether the score is a share, which people tell in percentage points."""
    return task.score.higher_is_better and 0 <= task.score.value <= 1


def _task(task: Task) -> dict[str, Any]:
    """A score: what people call it, its unit, how the part Scores calls it, and how many digits it is told with."""
    asked = (text.TASKS | text.BENCHMARKS).get(task.dense.task, "")
    label = asked.partition(":")[0] or task.dense.task
    unit = text.HEADLINE_POINTS if _in_points(task) else task.metric.replace("_", " ")
    return {"label": label, "unit": unit, "name": task.name, "digits": 1 if _in_points(task) else 3}


def _note(identity: ModelIdentity, scores: dict[str, tuple[int, Verdict]]) -> str:
    """What has to be said of scores that are not of this very model."""
    return next((identity.note_on(verdict.record) for _, verdict in scores.values()), "")
