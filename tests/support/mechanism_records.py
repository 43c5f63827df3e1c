"""A made-up record of mechanisms, of numbers that nobody measured: for tests of what is read out of such records."""

import json
from pathlib import Path

from core.plan import SharingPlan
from core.records.mechanisms import curve_role
from core.records.searches import PlanDamage, SearchRecord, Split, StoredSearch

GOLDEN = Path(__file__).parents[1] / "golden_records/search-v1.jsonl"
LAYERS = 20
CHUNKS = 4

COSTS = {"share": (0.05, 0.1), "skip": (0.02, 0.3), "kv": (0.06, 0.2), "keys": (0.04, 0.05), "topk": (0.01, 0.01)}
"""Mechanism → what it costs in the first layer that it changes, and in the last."""
_WORDS = {"share": "{0}-{1}", "skip": "skip {1}", "kv": "kv {0}-{1}", "keys": "keys {0}-{1}", "topk": "topk8 {0}-{1}"}


def measured(
    plan: str, damage: float, split: Split = "calibration", role: str = "", stderr: float = 0.01, rows: bool = True, **savings: float
) -> PlanDamage:  # fmt: skip
    """A plan with a damage that was not measured; its chunks lie around it, alike for all plans."""
    each = tuple(damage * (1 + 0.1 * (number - (CHUNKS - 1) / 2)) for number in range(CHUNKS)) if rows else None
    return PlanDamage(
        role=role, plan=SharingPlan.parse(plan, LAYERS), split=split, damage=damage, stderr=stderr, kl=damage, kl_stderr=0.01,
        cache_saving=savings.get("cache", 0.0), tokens=100, savings=savings, rows=each,
    )  # fmt: skip


def both(role: str, plan: str, damage: float, held: float, rows: bool = True, **savings: float) -> list[PlanDamage]:
    """The two lines of a plan that was judged."""
    return [
        measured(plan, damage, role=role, rows=rows, **savings),
        measured(plan, held, "held-out", role, rows=rows, **savings),
    ]


def record(targets: str = "0.05 0.1 0.2 0.3 0.4", **settings: object) -> SearchRecord:
    """What was asked for."""
    about = json.loads(GOLDEN.read_bytes().splitlines()[0])
    asked = {"targets": targets, "budgets": "cache flops", "batch": 1, "context_tokens": 4096, "chunk_tokens": 256}
    return SearchRecord.model_validate(
        about | {"name": "mechanisms", "num_layers": LAYERS, "settings": asked | settings}
    )


def synthetic(rows: bool = True) -> StoredSearch:
    """All layers and curves: sharing alone does twice the damage of skipping, and the mixture four fifths of the latter's.

    Sharing reaches 40% of the cache with a plan that saves 45%, and keys reach 20% at most; topk saves FLOPs alone.
    """
    points = []
    for layer in range(1, LAYERS):
        for mechanism, (first, last) in COSTS.items():
            damage = first + (last - first) * (layer - 1) / (LAYERS - 2)
            saved = {"cache": {"share": 0.025, "keys": 0.025, "topk": 0.0}.get(mechanism, 0.05), "flops": 0.02}
            points.append(measured(_WORDS[mechanism].format(layer - 1, layer), damage, role="layer", **saved))
    for budget in ("cache", "flops"):
        for target in (0.05, 0.1, 0.2, 0.3, 0.4):
            skipped = round(20 * target)
            plans = {
                "share": (f"1-{min(2 * skipped, 18) + 1}" if target < 0.4 else "0-18", 2.0, 0.45 if target == 0.4 else target),
                "skip": (f"skip 1-{skipped}" if skipped > 2 else f"skip {' '.join(map(str, range(1, skipped + 1)))}", 1.0, target),
                "keys": (f"keys 1-{2 * skipped + 1}", 3.0, target),
                "mixture": (f"18-19,skip {' '.join(map(str, range(1, skipped + 1)))}", 0.8, target + 0.025),
            }  # fmt: skip
            for mechanism, (plan, times, saving) in plans.items():
                if mechanism != "keys" or target <= 0.2:
                    points += both(
                        curve_role(budget, mechanism), plan, times * target, 1.1 * times * target, rows, **{budget: saving}
                    )  # fmt: skip
    points += both(curve_role("flops", "topk"), "topk8 1-5", 0.02, 0.03, rows, flops=0.06)
    return StoredSearch(record(), points)
