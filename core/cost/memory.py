"""Memory of a decoder under a sharing plan, *predicted* from its sizes: parameters, bytes held and bytes moved.

Every formula equals counting exactly: the tests compare it with the parameters of real models and with the tensors of
real caches.
"""

from dataclasses import dataclass
from itertools import compress
from operator import mul

from core.cost.checks import checked_plan
from core.cost.components import Components
from core.cost.mechanisms import KeptByLayer, kept_by_layer, projected_values, reach_by_layer, topk_leaders
from core.cost.shapes import ModelShape, cached_tokens
from core.plan import SharingPlan

BYTES_PER_VALUE = {"float32": 4, "bfloat16": 2, "float16": 2, "float8": 1}


def bytes_of(dtype: str) -> int:
    """Bytes per value of a number format. Raises ValueError for an unknown one."""
    if dtype not in BYTES_PER_VALUE:
        raise ValueError(f"There is no number format {dtype!r}: use one of {', '.join(BYTES_PER_VALUE)}.")
    return BYTES_PER_VALUE[dtype]


@dataclass(frozen=True)
class ParameterCount(Components):
    """Parameters (biases included), all layers together, one field per component."""

    embeddings: int
    """Tokens, learned positions, and projections of embeddings that are not as wide as the layers."""
    q_proj: int
    k_proj: int
    v_proj: int
    o_proj: int
    qk_norms: int
    sinks: int
    mlp: int
    """MLPs, or routers, all experts and shared experts."""
    norms: int
    lm_head: int
    """Only the bias when the head shares the embedding's matrix."""
    corrections: int = 0
    """Alignments and low-rank deltas of followers (`ModelShape.corrections`)."""
    extras: int = 0
    """AltUp, LAuReL and per-layer embeddings, tables included (`ModelShape.extras`)."""

    @property
    def projections(self) -> int:
        """Query, key, value and output projections, and what corrections have instead."""
        return self.q_proj + self.k_proj + self.v_proj + self.o_proj + self.corrections


def parameter_count(shape: ModelShape, plan: SharingPlan | str) -> ParameterCount:
    """Parameters of the model under the plan.

    Followers have no query and key projections, nor the norms on these, nor sinks; where queries, keys and values come
    from one matrix, they hold its value part. Of the other mechanisms, followers of `kv` lack keys and values, with the norm on
    keys, and those of `keys` the keys alone; layers that skip attention lack everything within it and the norms that no one
    else reads. Followers of `topk` lack nothing. Layers that read another one's keys and values in the model itself
    (`ModelShape.kv_sources`) lack what followers of `kv` do, in the dense plan too.
    """
    plan = checked_plan(shape, plan)
    kept, extras = kept_by_layer(plan, shape.borrowers), shape.extras
    return ParameterCount(
        **_table_parameters(shape),
        **_projection_parameters(shape, kept),
        qk_norms=_qk_norm_parameters(shape, kept),
        sinks=sum(kept.queries) * shape.num_heads * shape.sinks,
        mlp=sum(_mlp_parameters(shape, inner) for inner in shape.plain_mlp_sizes) + _expert_parameters(shape),
        norms=_norms(shape, plan) * shape.norm_vectors * shape.hidden_size,
        corrections=len(plan.followers) * (shape.delta_parameters + shape.corrections.alignment * shape.num_heads**2),
        extras=shape.num_layers * extras.layer_weights + extras.outer_weights + extras.table_rows * extras.table_width,
    )


def kv_cache_bytes(
    shape: ModelShape, plan: SharingPlan | str, batch_size: int, num_tokens: int, bytes_per_value: int = 2
) -> int:
    """Bytes that the cache holds after `num_tokens` tokens of each of `batch_size` sequences went through the model.

    Leaders and dense layers hold keys and values, followers values only, or with low-rank corrections also keys as wide
    as the rank. Followers of `keys` hold values only too, those of `topk` both, those of `kv` and layers that skip attention
    nothing, nor do layers that read another one's keys and values in the model itself. Layers with a sliding window hold the last `window - 1` tokens, as transformers' DynamicCache does (the
    next token completes the window). Ignored: memory that an allocator or a static cache reserves beyond that.
    """
    plan = checked_plan(shape, plan, batch_size=batch_size, num_tokens=num_tokens, bytes_per_value=bytes_per_value)
    sizes = _cached_sizes(shape, plan)
    values = sum(
        cached_tokens(window, num_tokens) * size for window, size in zip(shape.sliding_windows, sizes, strict=True)
    )
    return values * batch_size * bytes_per_value


def _cached_sizes(shape: ModelShape, plan: SharingPlan) -> list[int]:
    """Values that the cache of each layer holds of one token."""
    sizes = list(map(mul, kept_by_layer(plan, shape.borrowers).cached, shape.kv_sizes))
    for follower in plan.followers if shape.corrections.rank else ():
        sizes[follower] += shape.num_kv_heads * shape.corrections.rank
    return sizes


@dataclass(frozen=True)
class StoredBytes(Components):
    """Bytes held in memory while text is written, all layers together, one field per component."""

    weights: int
    kv_cache: int
    attention_weights: int
    """What leaders leave for followers that are still to come: one leader's at a time, or those of interleaved groups.
    None for followers with low-rank corrections, which read the leader's cached keys. Of a leader of `topk`, the sum of
    its weights over its heads, until the positions are chosen."""


def stored_bytes(
    shape: ModelShape, plan: SharingPlan | str, batch_size: int, context_tokens: int, bytes_per_value: int = 2
) -> StoredBytes:
    """Bytes held while `batch_size` sequences of `context_tokens` tokens are written on, execution `reuse`.

    Weights are those of the model under the plan and its corrections, without what followers do not need. Ignored:
    activations (weights that an alignment has mixed are some), logits and work space of kernels.
    """
    plan = checked_plan(
        shape, plan, batch_size=batch_size, context_tokens=context_tokens, bytes_per_value=bytes_per_value
    )
    return StoredBytes(
        weights=parameter_count(shape, plan).total * bytes_per_value,
        kv_cache=kv_cache_bytes(shape, plan, batch_size, context_tokens, bytes_per_value),
        attention_weights=batch_size * _most_left(shape, plan, context_tokens) * bytes_per_value,
    )


def _most_left(shape: ModelShape, plan: SharingPlan, context_tokens: int) -> int:
    """Attention weights of one token that leaders leave and that are needed at the same time: from a leader on to its last
    follower, or at a leader of `topk` alone. The most at any layer.
    """
    heads, attended = 0 if shape.corrections.rank else shape.num_heads, _attended(shape.sliding_windows, context_tokens)
    choosing = topk_leaders(plan)
    needed = [
        heads * sum(attended[group[0]] for group in plan.groups if group[0] <= layer <= group[-1])
        + (attended[layer] if layer in choosing else 0)
        for layer in (*plan.leaders, *choosing)
    ]
    return max(needed, default=0)


def _attended(reach: tuple[int | None, ...], context_tokens: int) -> list[int]:
    """Tokens that the last of `context_tokens` tokens attends to in each layer, itself included."""
    return [min(context_tokens, most or context_tokens) for most in reach]


@dataclass(frozen=True)
class DecodeBytes(Components):
    """Bytes that memory has to move in one decode step, all layers together, one field per component."""

    weights: int
    """Read: every weight that the step uses, once, however many sequences share it."""
    cache_read: int
    """Read: keys of leaders and dense layers, values of all layers; by followers with low-rank corrections the narrow keys
    of their own, and the leader's keys again. The leader's keys again by followers of `keys` and `kv`, its values too by
    those of `kv`; keys and values of the chosen positions alone by those of `topk`."""
    cache_written: int
    """Written: keys and values of the new tokens."""
    attention_weights_read: int
    """Read: the leaders' stored attention weights, once by each follower without low-rank corrections; the sums that
    leaders of `topk` left, once, to choose from."""
    attention_weights_written: int
    """Written: attention weights that leaders leave for their followers; none where these have low-rank corrections. By
    leaders of `topk` one sum over the heads for each position."""


def decode_bytes_moved(
    shape: ModelShape, plan: SharingPlan | str, batch_size: int, context_tokens: int, bytes_per_value: int = 2
) -> DecodeBytes:
    """Bytes that one decode step moves: one new token for each of `batch_size` sequences, execution `reuse`.

    context_tokens: tokens that the new token attends to, itself included; in layers with a sliding window, the last
        `window` of them.

    Divided by the memory's bandwidth, it is the least time a step can take (roofline; Williams et al. 2009). Weights
    are read once per step, the cache and the leaders' attention weights once per sequence; query heads that share a
    key-value head read it together. Of a mixture of experts, those that tokens choose are read: the expected number of
    them, if tokens choose evenly and independently. Ignored: activations and logits, which stay in on-chip memory or
    are small, and attention weights of layers without followers or mixed by an alignment, which fused kernels do not store.

    Of `topk N` it is counted that a leader writes the sum of its weights over its heads, one value for each position that
    it attends to, that these sums are read once to choose the N positions for all of its followers, and that each follower
    reads the keys and values of N positions (of all, where there are fewer, and in families that compute attention in their
    own forward: BLOOM, CodeGen and GPT-J). Ignored: the chosen positions themselves, N
    whole numbers beside N rows of keys and values, and that rows which lie apart are read less well than whole blocks.
    """
    plan = checked_plan(
        shape, plan, batch_size=batch_size, context_tokens=context_tokens, bytes_per_value=bytes_per_value
    )
    attended, sizes = _attended(shape.sliding_windows, context_tokens), _cached_sizes(shape, plan)
    read_of = _attended(reach_by_layer(shape, plan), context_tokens)
    rows = map(mul, kept_by_layer(plan, shape.borrowers).read, read_of)
    followed, rank = sum(attended[layer] for layer in plan.followers), shape.corrections.rank
    narrow = followed * (shape.num_kv_heads * rank + shape.kv_size) if rank else 0
    per_value = batch_size * bytes_per_value
    heads = 0 if rank else shape.num_heads
    sums = sum(attended[layer] for layer in topk_leaders(plan))
    return DecodeBytes(
        weights=_weights_used(shape, plan, batch_size) * bytes_per_value,
        cache_read=per_value * (sum(map(mul, rows, shape.kv_sizes)) + narrow),
        cache_written=per_value * sum(sizes),
        attention_weights_read=per_value * (heads * followed + sums),
        attention_weights_written=per_value * (heads * sum(attended[layer] for layer in plan.leaders) + sums),
    )


def _weights_used(shape: ModelShape, plan: SharingPlan, batch_size: int) -> int:
    """Weights that a decode step reads.

    Not read: rows of the tables of embeddings, of positions and of per-layer embeddings that no new token has (a tied embedding is read whole, by
    the head) and experts that no token is sent to. Of these, it is the expected number if tokens choose experts evenly
    and independently.
    """
    count = parameter_count(shape, plan)
    used = count.total - max(0, shape.position_rows - batch_size) * shape.hidden_size
    used -= max(0, shape.extras.table_rows - batch_size) * shape.extras.table_width
    if not shape.tied_embeddings:
        used -= max(0, shape.vocab_size - batch_size) * (shape.embedding_size or shape.hidden_size)
    if shape.experts:
        untouched = (1 - shape.experts.per_token / shape.experts.count) ** batch_size
        used -= _expert_parameters(shape) - _expert_parameters(shape, shape.experts.count * (1 - untouched))
    return used


def _table_parameters(shape: ModelShape) -> dict[str, int]:
    vocabulary = shape.vocab_size * (shape.embedding_size or shape.hidden_size)
    positions = shape.position_rows * shape.hidden_size
    return {
        "embeddings": vocabulary + positions + shape.embedding_projection_size,
        "lm_head": (0 if shape.tied_embeddings else vocabulary) + shape.head_bias * shape.vocab_size,
    }


def _projection_parameters(shape: ModelShape, kept: KeptByLayer) -> dict[str, int]:
    rows, queries, keys = shape.hidden_size + shape.qkv_bias, shape.query_sizes, shape.kv_sizes
    outputs = sum(compress(queries, kept.output)) + sum(kept.output) * shape.output_bias
    return {
        "q_proj": rows * sum(compress(queries, kept.queries)),
        "k_proj": rows * sum(compress(keys, kept.keys)),
        "v_proj": rows * sum(compress(keys, projected_values(shape, kept))),
        "o_proj": outputs * shape.hidden_size,
    }


def _norms(shape: ModelShape, plan: SharingPlan) -> int:
    """Norms on the residual stream and around attention and MLPs."""
    within = shape.layer_norms * shape.num_layers - shape.attention_norms * len(plan.skipped)
    return within + shape.outer_norms


def _qk_norm_parameters(shape: ModelShape, kept: KeptByLayer) -> int:
    """Parameters of the norms on queries and keys of all layers."""
    if not shape.qk_norm:
        return 0
    heads = [size.head_dim for size in shape.sizes]
    queries, keys = (heads, heads) if shape.qk_norm == "head" else (shape.query_sizes, shape.kv_sizes)
    return shape.qk_norm_vectors * (sum(compress(queries, kept.queries)) + sum(compress(keys, kept.keys)))


def _mlp_parameters(shape: ModelShape, inner_size: int) -> int:
    """Parameters of one MLP or expert: matrices of `hidden_size` by `inner_size`, and their biases."""
    biases = (shape.mlp_matrices - 1) * inner_size + shape.hidden_size
    return shape.mlp_matrices * shape.hidden_size * inner_size + biases * shape.mlp_bias


def _expert_parameters(shape: ModelShape, used: float | None = None) -> int:
    """Parameters of all layers with experts. used: experts that are counted of each layer (default: all)."""
    experts = shape.experts
    if experts is None:
        return 0
    router = experts.count * (shape.hidden_size + experts.router_bias) + experts.shared_gate * shape.hidden_size
    shared = _mlp_parameters(shape, experts.shared_size) if experts.shared_size else 0
    chosen = (experts.count if used is None else used) * _mlp_parameters(shape, experts.size)
    return round(len(experts.layers) * (router + shared + chosen))
