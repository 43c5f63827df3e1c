"""Sharing attention weights inside a model: `share_attention` and everything that a shared model is made of.

A view (`view`) is a model of the same class over the same parameters (`storage`), in which leaders hand their attention
weights to followers (`layers`), or layers do something else with less (`mechanisms`), or that in one phase alone (`phases`); what belongs to one forward call
(`call`) and how it reaches the layers (`hooks`), what each model family needs (`families`), caches that hold values only,
or nothing (`cache`), and whether files filled a model (`checkpoints`). Imports `core.plan` alone; `core.models`, `core.decoding` and all that measures build on it.
"""

from core.plan import EXECUTIONS
from core.sharing.corrections import Corrections, correction_parameters, corrections_of, fold
from core.sharing.view import plan_of, share_attention

__all__ = [
    "EXECUTIONS", "Corrections", "correction_parameters", "corrections_of", "fold", "plan_of", "share_attention",
]  # fmt: skip
