"""The loss on rows that are never trained on."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from core.tuning.objectives import exact
from core.tuning.rows import UNCOUNTED, Row, batch_of


class HeldOut(NamedTuple):
    """Mean loss in nats per token, and its standard error over rows; None for a single row."""

    loss: float
    stderr: float | None


@torch.no_grad()
def held_out_loss(model: PreTrainedModel, rows: Sequence[Row], batch_rows: int, dtype: str = "float32") -> HeldOut:
    """The loss of the targets that count. dtype: `bfloat16` computes under autocast, as training does."""
    was_training = model.training
    model.eval()
    sums: list[float] = []
    for start in range(0, len(rows), batch_rows):
        batch = {name: ids.to(model.device) for name, ids in batch_of(rows[start : start + batch_rows]).items()}
        with torch.autocast(model.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            logits = model(input_ids=batch["input_ids"], use_cache=False).logits
        losses = F.cross_entropy(exact(logits).mT, batch["labels"], ignore_index=UNCOUNTED, reduction="none")
        sums += losses.sum(1).tolist()
    model.train(was_training)
    return _mean(np.array(sums), np.array([row.counted for row in rows]))


def _mean(losses: np.ndarray, counts: np.ndarray) -> HeldOut:
    """The ratio of two sums over rows, with its error to first order (rows may be of different lengths)."""
    mean, number = losses.sum() / counts.sum(), len(losses)
    if number < 2:
        return HeldOut(float(mean), None)
    spread = ((losses - mean * counts) ** 2).sum() * number / (number - 1)
    return HeldOut(float(mean), math.sqrt(spread) / float(counts.sum()))
