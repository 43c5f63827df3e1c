"""What is minimised: the loss of a text, or how far the model is from its dense teacher."""

import torch
import torch.nn.functional as F

from core.tuning.rows import UNCOUNTED


def text_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the targets that count, summed, in nats.

    logits [rows, tokens, vocabulary], targets [rows, tokens].
    """
    return F.cross_entropy(exact(logits).flatten(0, 1), targets.flatten(), ignore_index=UNCOUNTED, reduction="sum")


def distillation_loss(logits: torch.Tensor, teacher: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """KL(teacher ‖ model) of the next-token distributions where targets count, summed, in nats.

    Shapes as for `text_loss`. What the targets are is not looked at.
    """
    counted = targets != UNCOUNTED
    ours, theirs = (F.log_softmax(exact(one[counted]), dim=-1) for one in (logits, teacher))
    return F.kl_div(ours, theirs, reduction="sum", log_target=True)


def exact(logits: torch.Tensor) -> torch.Tensor:
    """Logits in a dtype that losses are summed in."""
    return logits if logits.dtype == torch.float64 else logits.float()
