"""Made-up records of training runs: of when sharing began, and of similarity at several moments."""

import numpy as np

from core.records.emergence import Checkpoint, EmergenceRecord, TextOfRun
from core.records.pretraining import PretrainingRecord, Score
from core.records.provenance import Machine

MADE = {
    "versions": {}, "git_commit": None, "machine": Machine(cpu="some <cpu>", cpu_cores=2), "date": "2026-01-01T00:00:00Z",
    "duration_s": 1.0,
}  # fmt: skip


def pretraining(share_from: float | None, seed: int, value: float, model: str = "tiny", **more) -> PretrainingRecord:
    """A run of a model of six layers that scores `value` in bits per character, and half the answers of recall."""
    scores = {
        "prose_bits_per_char": Score(value=value, stderr=0.01, n=40, higher_is_better=False),
        "recall": Score(value=0.5, stderr=0.02, n=500, higher_is_better=True),
    }
    fields = {
        "model": model, "num_layers": 6, "plan": "2-4", "share_from": share_from, "seed": seed,
        "recipe": {"steps": 100, "learning_rate": 0.004}, "corpus": {"train": "0", "validation": "1"}, "steps": 100,
        "tokens": 2_000_000, "seconds": 3.5, "places": ["some <cpu>, torch 2"], "scores": scores, "losses": [(50, 3.2), (100, 2.9)],
        "command": "python -m core train-demo --corpus <corpus> --share-from 0 never", **MADE,
    }  # fmt: skip
    return PretrainingRecord(**fields | more)


def emergence(num_layers: int = 6, moments: int = 10, model: str = "tiny", **more) -> EmergenceRecord:
    """A run whose layers become more alike from moment to moment, those next to each other first."""
    layer = np.arange(num_layers)
    apart = np.abs(layer[:, None] - layer)
    steps = [0, *(2**number for number in range(moments - 1))]
    matrices = [np.minimum(1.0, number / moments) ** np.sqrt(apart) for number in range(moments)]
    found = [
        Checkpoint.of(step, 100_000 * step, {"head_mean": one, "per_head": one / 2, "best_head": one})
        for step, one in zip(steps, matrices, strict=True)
    ]
    fields = {
        "model": model, "num_layers": num_layers, "seed": 0, "recipe": {"steps": steps[-1]}, "corpus": {"train": "0"},
        "text": TextOfRun(sha256="0", tokens=2048, rows=8), "checkpoints": found,
        "command": "python -m core train-demo --corpus <corpus> --similarity-at 10", **MADE,
    }  # fmt: skip
    return EmergenceRecord(**fields | more)
