"""fold: corrections that say no more than a head map and scales, put into the weights, so that a view is an ordinary one."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar, cast

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from core.corrections import Corrections
from core.plan import SharingPlan
from core.sharing.corrections.attach import PARAMETERS, corrections_of
from core.sharing.families import (
    OUTPUTS,
    AttentionModule,
    attention_modules,
    head_dim_of,
    heads_per_group,
    is_weight_and_bias,
)
from core.sharing.hooks import keep_key_width
from core.sharing.layers import follow_plainly

Model = TypeVar("Model", bound=PreTrainedModel)


class _Rows(NamedTuple):
    """An alignment whose rows are multiples of one-hot: head h reads `heads[h]`, times `scales[h]`."""

    heads: tuple[int, ...]
    scales: tuple[float, ...]


@torch.no_grad()
def fold(model: Model) -> Model:
    """Take out the corrections of a view that its weights and a head map can say as well, in place; returns the view.

    - Deltas go where those of every follower are zero: all of A_q or all of A_k is.
    - Alignments go where every row of each is a multiple of one-hot: they become the head map, and multiples go into the
      columns of the output projection, which is then the view's own (the dense model keeps its weights). With deltas that
      stay, they do so only where heads of a KV group read heads of one KV group: the deltas' keys go by groups.

    What remains, remains for every follower. Exact but for the rounding of a product with a multiple other than a power of
    two. A view without corrections, and any other model, stays as it is. Raises ValueError for a view that is still within
    something else, such as peft's adapters.
    """
    corrections, is_view = corrections_of(model), isinstance(model, PreTrainedModel)
    if not is_view:
        raise ValueError(
            f"Corrections are folded in the view itself, not in a {type(model).__name__} around it: merge adapters first, "
            "with merge_and_unload()."
        )
    if not corrections:
        return model
    plan = cast(SharingPlan, model.sharing_plan)
    modules = attention_modules(model)
    followers = {layer: modules[layer] for layer in plan.followers}
    if corrections.rank and not any(_has_deltas(module) for module in followers.values()):
        _drop(followers, PARAMETERS[1:])
        for layer in plan.leaders:
            modules[layer].leaves_inputs, modules[layer].leaves_weights = False, True
        keep_key_width(model, 0)
        corrections = replace(corrections, rank=0)
    if corrections.alignment and _fold_alignments(model, followers, corrections):
        _drop(followers, PARAMETERS[:1])
        corrections = replace(corrections, alignment=False)
    _note(model, followers, corrections)
    return model


def _has_deltas(module: AttentionModule) -> bool:
    return bool(module.correction_query.any() and module.correction_key.any())


def _drop(followers: dict[int, AttentionModule], names: Sequence[str]) -> None:
    for module in followers.values():
        for name in names:
            delattr(module, name)


def _note(model: PreTrainedModel, followers: dict[int, AttentionModule], corrections: Corrections) -> None:
    """Have the view, its followers and its configuration say which corrections are left."""
    for module in followers.values():
        module.corrections = corrections
        if not corrections:
            follow_plainly(module)
    if corrections:
        vars(model)["sharing_corrections"], model.config.sharing_corrections = corrections, corrections.as_config()
    else:
        del vars(model)["sharing_corrections"], model.config.sharing_corrections


def _fold_alignments(model: PreTrainedModel, followers: dict[int, AttentionModule], corrections: Corrections) -> bool:
    """Whether all alignments became head maps; if not, nothing has changed."""
    rows = {layer: _rows(module.correction_alignment) for layer, module in followers.items()}
    found = {layer: row for layer, row in rows.items() if row is not None}
    if len(found) < len(rows):
        return False
    size = heads_per_group(model)
    for layer, row in found.items():
        if corrections.rank and _groups(row.heads, size) is None:
            return False
        if set(row.scales) != {1.0} and not is_weight_and_bias(_output(followers[layer])):
            return False
    for layer, row in found.items():
        _fold_alignment(followers[layer], row, corrections.rank, size)
    identity = tuple(range(len(next(iter(found.values())).heads)))
    head_map = {layer: row.heads for layer, row in found.items() if row.heads != identity}
    vars(model)["sharing_head_map"] = head_map
    model.config.sharing_head_map = {str(layer): list(heads) for layer, heads in head_map.items()}
    return True


def _rows(alignment: torch.Tensor) -> _Rows | None:
    """The head map and scales that an alignment is; None where a row mixes heads. A row of zeros reads its own head."""
    counts = (alignment != 0).sum(1)
    if bool((counts > 1).any()):
        return None
    own = torch.arange(len(alignment), device=alignment.device)
    heads = torch.where(counts == 0, own, (alignment != 0).int().argmax(1))
    return _Rows(tuple(heads.tolist()), tuple(alignment[own, heads].tolist()))


def _groups(heads: Sequence[int], size: int) -> list[int] | None:
    """The leader's KV group that each KV group, of `size` heads, reads; None where the heads of one read several."""
    read = [{head // size for head in heads[start : start + size]} for start in range(0, len(heads), size)]
    return [group.pop() for group in read] if all(len(group) == 1 for group in read) else None


def _fold_alignment(module: AttentionModule, rows: _Rows, rank: int, size: int) -> None:
    identity = tuple(range(len(rows.heads)))
    if rank and rows.heads != identity:  # deltas were numbered as the leader's heads
        groups = _groups(rows.heads, size)
        for name, order in (("correction_query", list(rows.heads)), ("correction_key", groups)):
            matrix: nn.Parameter = getattr(module, name)
            ordered = matrix.view(-1, rank, matrix.shape[1])[order].reshape(matrix.shape)
            setattr(module, name, nn.Parameter(ordered, requires_grad=matrix.requires_grad))
    if rows.heads != identity:
        module.head_map, module.num_key_value_groups = list(rows.heads), 1
    if set(rows.scales) != {1.0}:
        _scale_heads(_output(module), rows.scales, head_dim_of(module))


def _output(module: AttentionModule) -> nn.Module:
    output: nn.Module = next(getattr(module, name) for name in OUTPUTS if hasattr(module, name))
    return output


def _scale_heads(output: nn.Module, scales: Sequence[float], head_dim: int) -> None:
    """Give an output projection weights of its own, with what it makes of head h times `scales[h]`."""
    weight: nn.Parameter = output.weight  # type: ignore[assignment]
    factors = torch.tensor(scales, dtype=weight.dtype, device=weight.device).repeat_interleave(head_dim)
    scaled = weight * (
        factors[:, None] if isinstance(output, Conv1D) else factors
    )  # of GPT-2: [heads · head_dim, width]
    output.weight = nn.Parameter(scaled, requires_grad=weight.requires_grad)
