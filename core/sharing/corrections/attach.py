"""How corrections become parameters of a view's followers, and which models can have them."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn
from transformers import PreTrainedModel

from core.configs import text_config
from core.corrections import NONE, Corrections
from core.plan import HeadMap, SharingPlan
from core.sharing.corrections.attend import corrected_forward
from core.sharing.families import (
    AttentionModule,
    attention_modules,
    has_attention_function,
    head_dim_of,
    heads_per_group,
    is_plain_softmax,
    num_heads_of,
    weighs_plainly,
)
from core.sharing.hooks import keep_key_width, set_forward

PARAMETERS = ("correction_alignment", "correction_query", "correction_key")
"""Names of the parameters in a follower's attention module: M [heads, leader heads], A_q [heads · rank, width] and
A_k [kv_heads · rank, width]."""


def corrections_of(model: PreTrainedModel) -> Corrections:
    """The corrections that a view has; none for every other model."""
    return cast(Corrections, getattr(model, "sharing_corrections", NONE))


def correction_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """{name: parameter} of all corrections of a view, to be trained where everything else is frozen."""
    return {name: one for name, one in model.named_parameters() if name.rpartition(".")[2] in PARAMETERS}


def check_corrections(model: PreTrainedModel, plan: SharingPlan, corrections: Corrections) -> None:
    """Raise ValueError, in one sentence, for corrections that the family or the size of its heads does not allow."""
    if not corrections or not plan.followers:
        return
    module, kind = attention_modules(model)[plan.followers[0]], model.config.model_type
    if hasattr(module, "sinks"):
        raise ValueError(
            f"Models of type {kind!r} cannot have corrections: each layer has attention sinks of its own; share without them."
        )
    if corrections.rank and not has_attention_function(module):
        raise ValueError(
            f"Models of type {kind!r} compute attention in their layers' own forward, where no low-rank corrections reach it: "
            "use the alignment alone."
        )
    if corrections.rank and not is_plain_softmax(module):
        raise ValueError(
            f"Low-rank corrections need attention weights that are softmax(QKᵀ) and nothing else; those of this {kind!r} model "
            "are capped or otherwise changed: use the alignment alone."
        )
    if corrections.rank > head_dim_of(module):
        raise ValueError(
            f"Corrections of rank {corrections.rank} are wider than the heads of this model: give a rank of at most "
            f"{head_dim_of(module)}."
        )


def attach(view: PreTrainedModel, plan: SharingPlan, head_map: HeadMap, corrections: Corrections) -> None:
    """Give each follower of a view its corrections, which change nothing until they are trained.

    A_q is drawn by torch's generator, with a standard deviation of 1/√width.
    """
    modules, num_heads = attention_modules(view), num_heads_of(view)
    kv_heads = num_heads // heads_per_group(view)
    width = text_config(view).hidden_size
    for layer in plan.followers:
        module = modules[layer]
        module.corrections, module.weighs_plainly, module.records = corrections, weighs_plainly(module), False
        if corrections.alignment:
            _align(module, num_heads, head_map.get(layer), view.dtype)
        if corrections.rank:
            _lower(module, num_heads * corrections.rank, kv_heads * corrections.rank, width, view.dtype)
        set_forward(module, corrected_forward)
    if corrections.rank:
        for layer in plan.leaders:
            modules[layer].leaves_inputs, modules[layer].leaves_weights = True, False
        keep_key_width(view, corrections.rank)
    vars(view)["sharing_corrections"] = corrections
    view.config.sharing_corrections = corrections.as_config()


def _align(module: AttentionModule, num_heads: int, heads: Sequence[int] | None, dtype: torch.dtype) -> None:
    device = next(module.parameters()).device
    unit = torch.eye(num_heads, dtype=dtype, device=device)
    module.correction_alignment = nn.Parameter(unit if heads is None else unit[list(heads)])


def _lower(module: AttentionModule, query_rows: int, key_rows: int, width: int, dtype: torch.dtype) -> None:
    device = next(module.parameters()).device
    query = torch.randn(query_rows, width, dtype=dtype, device=device) * width**-0.5
    module.correction_query = nn.Parameter(query)
    module.correction_key = nn.Parameter(torch.zeros(key_rows, width, dtype=dtype, device=device))
