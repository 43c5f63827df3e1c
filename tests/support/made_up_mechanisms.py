"""A record of mechanisms of the bundled model, made up: plans that save what is asked, with damages that nobody measured."""

import json
from pathlib import Path

from core.cost import ModelShape, forward_flops, kv_cache_bytes
from core.plan import Part, SharingPlan
from core.records.mechanisms import LAYER, MIXTURE, TARGETS, curve_role
from core.records.searches import PlanDamage, StoredSearch, load_searches, save_search

LAYERS = 24
CHUNKS = 16
_COST = {"share": 0.02, "skip": 0.012, "kv": 0.03, "keys": 0.025, "topk": 0.004, MIXTURE: 0.008}
_SAVES = {
    "share": ("cache", "flops"),
    "skip": ("cache", "flops"),
    "kv": ("cache",),
    "keys": ("cache",),
    "topk": ("flops",),
}


def plan_of(mechanism: str, layers: list[int]) -> SharingPlan:
    """These layers each changed by the mechanism, with the layer before each as its leader; a mixture shares the last one."""
    if mechanism == MIXTURE:
        *skipped, last = layers
        return SharingPlan(((last - 1, last),), LAYERS, parts=(Part("skip", tuple(skipped)),) if skipped else ())
    if mechanism == "skip":
        return SharingPlan(num_layers=LAYERS, parts=(Part("skip", tuple(layers)),))
    groups = [(layer - 1, layer) for layer in layers]
    if mechanism == "share":
        return SharingPlan.of_groups(groups, LAYERS)
    return SharingPlan(
        num_layers=LAYERS, parts=tuple(Part(mechanism, group, 16 if mechanism == "topk" else 0) for group in groups)
    )


def made_up(directory: Path, results: Path, leave_out: tuple[str, ...] = ()) -> StoredSearch:
    """Write the record below `directory`, with the weights and texts of the stored sweep of the bundled model in `results`.

    leave_out: mechanisms that were not measured. Of `mixture` at 20% of the cache damage is less than of any other.
    """
    [sweep] = [one for one in load_searches(results)[0] if one.path.as_posix() == "demo/searches/sweep.jsonl"]
    config = json.loads((results.parent / "assets/models/demo/config.json").read_text(encoding="utf-8"))
    shape = ModelShape.from_config(config)
    points = []
    for mechanism in (*_SAVES, MIXTURE):
        if mechanism in leave_out:
            continue
        if mechanism != MIXTURE:
            points += [
                _point(shape, LAYER, plan_of(mechanism, [layer]), mechanism, layer) for layer in range(1, LAYERS)
            ]
        for budget in ("cache", "flops"):
            if mechanism != MIXTURE and budget not in _SAVES[mechanism]:
                continue
            for count in range(2, 12):
                plan = plan_of(mechanism, list(range(2, 2 * count + 1, 2)))
                one = _point(shape, curve_role(budget, mechanism), plan, mechanism, count)
                rows = tuple(1.1 * row for row in one.rows or ())
                judged = {"split": "held-out", "damage": 1.1 * one.damage, "rows": rows}
                points += [one, one.model_copy(update=judged)]
    told = {"targets": " ".join(map(str, TARGETS)), "context_tokens": 1024, "batch": 1}
    record = sweep.record.model_copy(update={"name": "mechanisms", "settings": told})
    save_search(directory, record, points)
    return StoredSearch(record, points)


def _point(shape: ModelShape, role: str, plan: SharingPlan, mechanism: str, size: int) -> PlanDamage:
    saved = {"cache": _share(kv_cache_bytes(shape, plan, 1, 1024), kv_cache_bytes(shape, "", 1, 1024))}
    flops = [forward_flops(shape, one, 1, 1, 1023) for one in (plan, "")]
    saved["flops"] = _share(*(one.total - one.mlp - one.lm_head for one in flops))
    damage = _COST[mechanism] * (1 + (size * 7 % 5) / 5) * (len(plan.changed) ** 1.4)
    if plan.changed[0] > 15 and mechanism == "share":  # late layers share at little cost
        damage /= 4
    rows = tuple(damage * (0.8 + 0.4 * chunk / (CHUNKS - 1)) for chunk in range(CHUNKS))
    return PlanDamage(
        role=role, plan=plan, split="calibration", damage=damage, stderr=0.07 * damage, kl=damage, kl_stderr=0.01,
        cache_saving=saved["cache"], savings=saved, tokens=8192, rows=rows,
    )  # fmt: skip


def _share(after: float, before: float) -> float:
    return (before - after) / before
