"""How alike the attention of two layers is: cosine similarity of their attention weights on a text."""

from collections.abc import Callable, Iterable, Sequence
from weakref import WeakKeyDictionary

import numpy as np
import torch
from transformers import PreTrainedModel

from core.damage.choices import SIMILARITY_METHODS
from core.sharing.call import AttentionCall
from core.sharing.families import attention_modules, decoder_of
from core.sharing.view import plan_of, recording_view
from core.tokens import check_ids, embedding_rows

TokenIds = torch.Tensor | np.ndarray | Sequence[int] | Sequence[Sequence[int]]


@torch.inference_mode()
def attention_weights(
    model: PreTrainedModel, input_ids: TokenIds, layers: Iterable[int] | None = None
) -> dict[int, torch.Tensor]:
    """Attention weights of `layers` (default: all) as {layer: [batch, heads, tokens, tokens]}, from one forward call.

    input_ids: token ids [batch, tokens]. The model itself stays as it is, whatever its attention implementation. In a
    model that shares attention, a follower's weights are its leader's, or its own where it has corrections; layers that skip
    attention have none. Raises ValueError for a layer or a token that is not there.
    """
    plan = plan_of(model)
    layers = [layer for layer in range(plan.num_layers) if layer not in plan.skipped] if layers is None else layers
    leaders = {layer: plan.leader_of(layer) for layer in layers}
    ids = _as_ids(input_ids)
    check_ids((int(ids.min()), int(ids.max())) if ids.numel() else (), embedding_rows(model))
    decoder = decoder_of(_recording_view(model))
    call = AttentionCall(decoder.config._attn_implementation, "reuse")
    decoder(input_ids=ids.to(model.device), use_cache=False, shared_attention=call)
    return {layer: call.weights[layer if layer in call.weights else leader] for layer, leader in leaders.items()}


@torch.inference_mode()
def weights_and_inputs(
    model: PreTrainedModel, input_ids: TokenIds
) -> tuple[dict[int, torch.Tensor], dict[int, torch.Tensor]]:
    """`attention_weights` of all layers, and what their attention reads: {layer: hidden states [batch, tokens, width]}."""
    inputs: dict[int, torch.Tensor] = {}

    def keep(layer: int) -> Callable[..., None]:
        return lambda module, args, kwargs: inputs.update({layer: args[0] if args else kwargs["hidden_states"]})

    modules = attention_modules(_recording_view(model))
    hooks = [module.register_forward_pre_hook(keep(i), with_kwargs=True) for i, module in enumerate(modules)]
    try:
        return attention_weights(model, input_ids), inputs
    finally:
        for hook in hooks:
            hook.remove()


@torch.inference_mode()
def attention_similarity(
    model: PreTrainedModel, input_ids: TokenIds, method: str = "head_mean", skip_first: bool = True
) -> np.ndarray:
    """Cosine similarity of the attention weights of every two layers, [layers, layers], symmetric, 1 on the diagonal.

    input_ids: token ids [batch, tokens] (or [tokens]), no padding; the similarities of several texts are averaged.
    method: one of SIMILARITY_METHODS. In `best_head` entry [i, j] takes the earlier layer as the leader.
    skip_first: leave out the first token, as a query (it can only see itself) and as a key: most heads rest on it
        (the attention sink), which alone makes any two layers look alike.

    Each map is compared as one long vector, so a query counts by the length of its weight vector. Raises ValueError for
    an unknown method and for texts that are too short.
    """
    if method not in SIMILARITY_METHODS:
        raise ValueError(f"There is no method {method!r}: choose one of {', '.join(SIMILARITY_METHODS)}.")
    if skipped := plan_of(model).skipped:
        raise ValueError(
            f"Layer {skipped[0]} skips attention in this model and has none to compare: ask the dense model."
        )
    ids = _as_ids(input_ids)
    if ids.shape[1] < (needed := 3 if skip_first else 2):
        raise ValueError(f"The text has {ids.shape[1]} tokens: similarity needs at least {needed}.")
    weights = attention_weights(model, ids)
    maps = torch.stack([_maps(weights.pop(layer), method, skip_first) for layer in sorted(weights)], dim=1)
    products = _best_head(maps) if method == "best_head" else _head_by_head(maps)
    similarity = products.mean(0)
    return ((similarity + similarity.mT) / 2).cpu().numpy()  # the last bits depend on the order of a product


def _recording_view(model: PreTrainedModel) -> PreTrainedModel:
    """The recording view of a model, made once as long as the model keeps its parameters where they are."""
    where = tuple(parameter.data_ptr() for parameter in model.parameters())
    if model not in _views or _views[model][0] != where:
        _views[model] = (where, recording_view(model))
    return _views[model][1]


_views: WeakKeyDictionary[PreTrainedModel, tuple[tuple[int, ...], PreTrainedModel]] = WeakKeyDictionary()


def _as_ids(input_ids: TokenIds) -> torch.Tensor:
    ids = torch.as_tensor(input_ids)
    return ids[None] if ids.ndim == 1 else ids


def _maps(weights: torch.Tensor, method: str, skip_first: bool) -> torch.Tensor:
    """[batch, heads, tokens, tokens] → the maps to compare, as vectors [batch, maps, tokens²] in float32."""
    maps = weights.float()
    if skip_first:
        maps[..., 0] = 0  # the first query has weight on the first key only, so its row goes with it
    return (maps.mean(1, keepdim=True) if method == "head_mean" else maps).flatten(2)


def _head_by_head(maps: torch.Tensor) -> torch.Tensor:
    return _cosines(maps.transpose(1, 2)).mean(1)  # [batch, heads, layers, layers] → mean over heads


def _best_head(maps: torch.Tensor) -> torch.Tensor:
    batch, layers, heads, _ = maps.shape
    sizes = (batch, layers, heads, layers, heads)  # leader, its head, follower, its head
    cosines = _cosines(maps.flatten(1, 2)).view(sizes)
    best = cosines.amax(2).mean(-1).triu(1)
    return best + best.mT + torch.eye(layers, device=best.device)


def _cosines(vectors: torch.Tensor) -> torch.Tensor:
    """[…, n, entries] → cosine similarity of every two of the n vectors, […, n, n]."""
    products = vectors @ vectors.mT
    lengths = products.diagonal(dim1=-2, dim2=-1).sqrt()
    return products / (lengths[..., :, None] * lengths[..., None, :]).clamp_min(torch.finfo(products.dtype).tiny)
