"""What a sharing plan saves, *predicted*: cache bytes, FLOPs and parameters of a decoder, from its configuration.

Every formula equals counting exactly: the tests compare it with the tensors of a real cache, with the parameters of a
real model and with torch's FlopCounterMode. Conventions:

- One multiply-add is 2 FLOPs (as in FlopCounterMode).
- Attention counts the full rectangle of query and key positions, as the matrix multiplications compute it, not the
  half that the causal mask keeps.
- Softmax counts 3 FLOPs per attention weight (Hoffmann et al. 2022, "Chinchilla", appendix F). FlopCounterMode does
  not count it.
- Ignored, because its cost grows with tokens × width and not with tokens × width²: embedding look-up, norms, rotary
  embedding, scaling, masking, activation functions, residual additions.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import pandas as pd

from core.cost.shapes import ModelShape, known_config, known_shapes
from core.plan import SharingPlan

__all__ = [
    "BYTES_PER_VALUE", "FLOP_EXECUTIONS", "QUANTITIES", "DecodeBytes", "FlopCount", "ModelShape", "ParameterCount",
    "StoredBytes",
    "decode_bytes_moved", "forward_flops", "generation_flops", "known_config", "known_shapes", "kv_cache_bytes",
    "parameter_count", "savings_frame", "stored_bytes",
]  # fmt: skip

SOFTMAX_FLOPS_PER_WEIGHT = 3
FLOP_EXECUTIONS = {
    "reuse": "followers multiply the leader's stored attention weights with their own values",
    "recompute": "followers compute the weights again from the leader's queries and keys, in one fused kernel",
}
BYTES_PER_VALUE = {"float32": 4, "bfloat16": 2, "float16": 2, "float8": 1}
QUANTITIES = {
    "KV cache": "bytes of keys and values held for the context; followers hold values only",
    "attention-weight FLOPs": "query and key projections, QKᵀ and softmax: the work that makes attention weights",
    "total FLOPs": "everything the model computes: projections, attention, MLP and vocabulary head",
    "projection parameters": "weights of the query, key, value and output projections; followers have no query and key",
}
_UNITS = dict(zip(QUANTITIES, ("bytes", "FLOPs", "FLOPs", "parameters")))


@dataclass(frozen=True)
class FlopCount:
    """FLOPs of one or several forward calls, all layers together, one field per component."""

    q_proj: int
    k_proj: int
    v_proj: int
    o_proj: int
    scores: int
    """QKᵀ."""
    softmax: int
    weighted_values: int
    """Attention weights times values."""
    mlp: int
    """MLPs, or routers, chosen experts and shared experts."""
    embedding: int
    """Projections of token embeddings that are not as wide as the layers; the look-up itself costs no FLOPs."""
    lm_head: int
    """Vocabulary head."""

    @property
    def total(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))

    @property
    def attention(self) -> int:
        """QKᵀ, softmax and the weighted sum of values: all that is not a projection."""
        return self.scores + self.softmax + self.weighted_values

    @property
    def attention_weights(self) -> int:
        """Query and key projections, QKᵀ and softmax: the work that makes attention weights, and that SA shares."""
        return self.q_proj + self.k_proj + self.scores + self.softmax

    def __add__(self, other: "FlopCount") -> "FlopCount":
        names = [field.name for field in fields(self)]
        return FlopCount(**{name: getattr(self, name) + getattr(other, name) for name in names})


@dataclass(frozen=True)
class ParameterCount:
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

    @property
    def total(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))

    @property
    def projections(self) -> int:
        """Query, key, value and output projections."""
        return self.q_proj + self.k_proj + self.v_proj + self.o_proj


def kv_cache_bytes(
    shape: ModelShape, plan: SharingPlan | str, batch_size: int, num_tokens: int, bytes_per_value: int = 2
) -> int:
    """Bytes that the cache holds after `num_tokens` tokens of each of `batch_size` sequences went through the model.

    Leaders and dense layers hold keys and values, followers values only. Layers with a sliding window hold the last
    `window - 1` tokens, as transformers' DynamicCache does (the next token completes the window). Ignored: memory that
    an allocator or a static cache reserves beyond that.
    """
    plan = _checked(shape, plan, batch_size=batch_size, num_tokens=num_tokens, bytes_per_value=bytes_per_value)
    followers = set(plan.followers)
    tensor_tokens = sum(
        _cached_tokens(window, num_tokens) * (1 if layer in followers else 2)
        for layer, window in enumerate(shape.sliding_windows)
    )
    return tensor_tokens * batch_size * shape.kv_size * bytes_per_value


def forward_flops(
    shape: ModelShape,
    plan: SharingPlan | str,
    batch_size: int,
    query_tokens: int,
    past_tokens: int = 0,
    execution: str = "reuse",
    logits_to_keep: int = 0,
) -> FlopCount:
    """FLOPs of one forward call on `[batch_size, query_tokens]` new tokens after `past_tokens` cached ones.

    Followers have no query and key projections. With the execution `reuse` they also skip QKᵀ and softmax; with
    `recompute` they compute these again from the leader's queries and keys. `logits_to_keep` positions per sequence go
    through the vocabulary head (0: all; `generate` keeps 1), as in transformers. Conventions and what is ignored: see
    the module.
    """
    plan = _checked(shape, plan, batch_size=batch_size, query_tokens=query_tokens)
    _check_sizes(0, past_tokens=past_tokens, logits_to_keep=logits_to_keep)
    weights = {
        window: batch_size * query_tokens * (_cached_tokens(window, past_tokens) + query_tokens)
        for window in set(shape.sliding_windows)
    }
    logits = batch_size * min(logits_to_keep or query_tokens, query_tokens)
    return _flops(shape, plan, batch_size * query_tokens, weights, logits, execution)


def generation_flops(
    shape: ModelShape,
    plan: SharingPlan | str,
    batch_size: int,
    prompt_tokens: int,
    new_tokens: int,
    prompt_execution: str = "recompute",
) -> FlopCount:
    """FLOPs of reading a prompt in one call, then feeding `new_tokens` tokens one by one through the cache.

    It is the sum of `forward_flops` over these calls with `logits_to_keep=1`: the prompt with `prompt_execution`, the
    single tokens with the execution `reuse`.
    """
    plan = _checked(shape, plan, batch_size=batch_size, prompt_tokens=prompt_tokens)
    _check_sizes(0, new_tokens=new_tokens)
    prompt = forward_flops(shape, plan, batch_size, prompt_tokens, execution=prompt_execution, logits_to_keep=1)
    weights = {
        window: batch_size * (_past_tokens_sum(window, prompt_tokens, prompt_tokens + new_tokens) + new_tokens)
        for window in set(shape.sliding_windows)
    }
    return prompt + _flops(shape, plan, batch_size * new_tokens, weights, batch_size * new_tokens, "reuse")


def _flops(shape: ModelShape, plan: SharingPlan, tokens: int, weights: dict, logits: int, execution: str) -> FlopCount:
    """FLOPs of sending `tokens` tokens through each layer and `logits` of them through the head.

    `weights` says how many attention weights (query-key pairs of one head) a layer with a given sliding window has.
    """
    if execution not in FLOP_EXECUTIONS:
        raise ValueError(f"There is no execution {execution!r}: use one of {', '.join(FLOP_EXECUTIONS)}.")
    return FlopCount(
        **_projection_flops(shape, plan, tokens),
        **_attention_flops(shape, plan, weights, execution),
        mlp=tokens * _mlp_flops_per_token(shape),
        embedding=2 * tokens * _embedding_projections(shape),
        lm_head=2 * logits * (shape.embedding_size or shape.hidden_size) * shape.vocab_size,
    )


def _projection_flops(shape: ModelShape, plan: SharingPlan, tokens: int) -> dict[str, int]:
    layers, computing = shape.num_layers, shape.num_layers - len(plan.followers)
    per_output = 2 * tokens * shape.hidden_size
    return {
        "q_proj": computing * per_output * shape.query_size,
        "k_proj": computing * per_output * shape.kv_size,
        "v_proj": layers * per_output * shape.kv_size,
        "o_proj": layers * per_output * shape.query_size,
    }


def _attention_flops(shape: ModelShape, plan: SharingPlan, weights: dict, execution: str) -> dict[str, int]:
    used = sum(weights[window] for window in shape.sliding_windows)
    reused = sum(weights[shape.sliding_windows[layer]] for layer in plan.followers) if execution == "reuse" else 0
    return {
        "scores": 2 * (used - reused) * shape.query_size,
        "softmax": SOFTMAX_FLOPS_PER_WEIGHT * (used - reused) * shape.num_heads,
        "weighted_values": 2 * used * shape.query_size,
    }


def _mlp_flops_per_token(shape: ModelShape) -> int:
    """All layers together. A token goes through its router, the experts chosen for it and the shared expert."""
    experts, plain = shape.experts, _plain_mlps(shape) * shape.mlp_matrices * shape.intermediate_size
    if experts is None:
        return 2 * shape.hidden_size * plain
    inner = experts.per_token * experts.size + experts.shared_size
    each = experts.count + shape.mlp_matrices * inner + experts.shared_gate
    return 2 * shape.hidden_size * (plain + len(experts.layers) * each)


def _plain_mlps(shape: ModelShape) -> int:
    """Layers with an MLP of their own, not with experts."""
    return shape.num_layers - (len(shape.experts.layers) if shape.experts else 0)


def _embedding_projections(shape: ModelShape) -> int:
    """Weights that lead from token embeddings of another width into the layers, and back."""
    return 0 if shape.embedding_size in (None, shape.hidden_size) else 2 * shape.embedding_size * shape.hidden_size


def _cached_tokens(window: int | None, num_tokens: int) -> int:
    """How many of `num_tokens` processed tokens a layer's cache still holds."""
    return num_tokens if window is None else min(num_tokens, window - 1)


def _past_tokens_sum(window: int | None, start: int, stop: int) -> int:
    """The sum of `_cached_tokens(window, n)` for n from `start` to `stop - 1`, in closed form."""

    def below(n: int) -> int:
        rising = _cached_tokens(window, n)  # for n up to here the sum is that of 0, 1, 2, …, then it is constant
        return rising * (rising - 1) // 2 + (n - rising) * rising

    return below(stop) - below(start)


def parameter_count(shape: ModelShape, plan: SharingPlan | str) -> ParameterCount:
    """Parameters of the model under the plan.

    Followers have no query and key projections, nor the norms on these, nor sinks; where queries, keys and values come
    from one matrix, they hold its value part.
    """
    plan = _checked(shape, plan)
    computing = shape.num_layers - len(plan.followers)
    return ParameterCount(
        **_table_parameters(shape),
        **_projection_parameters(shape, computing),
        qk_norms=computing * _qk_norm_parameters(shape),
        sinks=computing * shape.num_heads * shape.sinks,
        mlp=_plain_mlps(shape) * _mlp_parameters(shape, shape.intermediate_size) + _expert_parameters(shape),
        norms=(shape.layer_norms * shape.num_layers + shape.outer_norms) * shape.norm_vectors * shape.hidden_size,
    )


def _table_parameters(shape: ModelShape) -> dict[str, int]:
    vocabulary = shape.vocab_size * (shape.embedding_size or shape.hidden_size)
    positions = shape.position_rows * shape.hidden_size
    return {
        "embeddings": vocabulary + positions + _embedding_projections(shape),
        "lm_head": (0 if shape.tied_embeddings else vocabulary) + shape.head_bias * shape.vocab_size,
    }


def _projection_parameters(shape: ModelShape, with_query: int) -> dict[str, int]:
    layers, rows = shape.num_layers, shape.hidden_size + shape.qkv_bias
    return {
        "q_proj": with_query * rows * shape.query_size,
        "k_proj": with_query * rows * shape.kv_size,
        "v_proj": layers * rows * shape.kv_size,
        "o_proj": layers * (shape.query_size + shape.output_bias) * shape.hidden_size,
    }


def _qk_norm_parameters(shape: ModelShape) -> int:
    """Parameters of the norms on queries and keys in one layer."""
    sizes = {"": 0, "head": 2 * shape.head_dim, "all heads": shape.query_size + shape.kv_size}
    return shape.qk_norm_vectors * sizes[shape.qk_norm]


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


@dataclass(frozen=True)
class StoredBytes:
    """Bytes held in memory while text is written, all layers together, one field per component."""

    weights: int
    kv_cache: int
    attention_weights: int
    """What a leader leaves for its followers. Spans do not overlap, so there is room for one leader's at a time."""

    @property
    def total(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))


def stored_bytes(
    shape: ModelShape, plan: SharingPlan | str, batch_size: int, context_tokens: int, bytes_per_value: int = 2
) -> StoredBytes:
    """Bytes held while `batch_size` sequences of `context_tokens` tokens are written on, execution `reuse`.

    Weights are those of the model under the plan, without what followers do not need. Ignored: activations, logits and
    work space of kernels.
    """
    plan = _checked(shape, plan, batch_size=batch_size, context_tokens=context_tokens, bytes_per_value=bytes_per_value)
    attended = (min(context_tokens, shape.sliding_windows[leader] or context_tokens) for leader in plan.leaders)
    return StoredBytes(
        weights=parameter_count(shape, plan).total * bytes_per_value,
        kv_cache=kv_cache_bytes(shape, plan, batch_size, context_tokens, bytes_per_value),
        attention_weights=batch_size * shape.num_heads * max(attended, default=0) * bytes_per_value,
    )


@dataclass(frozen=True)
class DecodeBytes:
    """Bytes that memory has to move in one decode step, all layers together, one field per component."""

    weights: int
    """Read: every weight that the step uses, once, however many sequences share it."""
    cache_read: int
    """Read: keys of leaders and dense layers, values of all layers."""
    cache_written: int
    """Written: keys and values of the new tokens."""
    attention_weights_read: int
    """Read: the leaders' stored attention weights, once by each follower."""
    attention_weights_written: int
    """Written: attention weights that leaders leave for their followers."""

    @property
    def total(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))


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
    are small, and attention weights of layers without followers, which fused kernels do not store.
    """
    plan = _checked(shape, plan, batch_size=batch_size, context_tokens=context_tokens, bytes_per_value=bytes_per_value)
    attended = [min(context_tokens, window or context_tokens) for window in shape.sliding_windows]
    tensors = [1 if layer in set(plan.followers) else 2 for layer in range(shape.num_layers)]
    per_token = batch_size * shape.kv_size * bytes_per_value
    per_weight = batch_size * shape.num_heads * bytes_per_value
    return DecodeBytes(
        weights=_weights_used(shape, plan, batch_size) * bytes_per_value,
        cache_read=per_token * sum(count * tokens for count, tokens in zip(tensors, attended)),
        cache_written=per_token * sum(tensors),
        attention_weights_read=per_weight * sum(attended[layer] for layer in plan.followers),
        attention_weights_written=per_weight * sum(attended[layer] for layer in plan.leaders),
    )


def _weights_used(shape: ModelShape, plan: SharingPlan, batch_size: int) -> int:
    """Weights that a decode step reads.

    Not read: rows of the tables of embeddings and positions that no new token has (a tied embedding is read whole, by
    the head) and experts that no token is sent to. Of these, it is the expected number if tokens choose experts evenly
    and independently.
    """
    count = parameter_count(shape, plan)
    used = count.total - max(0, shape.position_rows - batch_size) * shape.hidden_size
    if not shape.tied_embeddings:
        used -= max(0, shape.vocab_size - batch_size) * (shape.embedding_size or shape.hidden_size)
    if shape.experts:
        untouched = (1 - shape.experts.per_token / shape.experts.count) ** batch_size
        used -= _expert_parameters(shape) - _expert_parameters(shape, shape.experts.count * (1 - untouched))
    return used


def savings_frame(
    shape: ModelShape,
    plan: SharingPlan | str,
    batch_size: int,
    context_lengths: Iterable[int],
    prompt_tokens: int = 1,
    bytes_per_value: int = 2,
    prompt_execution: str = "recompute",
) -> pd.DataFrame:
    """What the plan saves at each context length: one row per quantity (see `QUANTITIES`) and context.

    FLOPs are those of reaching the context: a prompt of `prompt_tokens` (cut to the context) in one call, the rest one
    token at a time. Columns: quantity, unit, context (tokens), dense, shared, saved_percent, and basis, which is
    always "predicted".
    """
    plan, dense = _checked(shape, plan), SharingPlan(num_layers=shape.num_layers)
    rows = []
    for context in map(int, context_lengths):
        prompt = min(prompt_tokens, context)
        dense_values, shared_values = (
            _quantities(shape, choice, batch_size, prompt, context - prompt, bytes_per_value, prompt_execution)
            for choice in (dense, plan)
        )
        rows += [
            (quantity, unit, context, before, after, 100 * (before - after) / before, "predicted")
            for (quantity, unit), before, after in zip(_UNITS.items(), dense_values, shared_values)
        ]
    return pd.DataFrame(rows, columns=["quantity", "unit", "context", "dense", "shared", "saved_percent", "basis"])


def _quantities(shape, plan, batch_size, prompt_tokens, new_tokens, bytes_per_value, prompt_execution) -> tuple:
    """The values of `QUANTITIES`, in order."""
    flops = generation_flops(shape, plan, batch_size, prompt_tokens, new_tokens, prompt_execution)
    cache_bytes = kv_cache_bytes(shape, plan, batch_size, prompt_tokens + new_tokens, bytes_per_value)
    return cache_bytes, flops.attention_weights, flops.total, parameter_count(shape, plan).projections


def _checked(shape: ModelShape, plan: SharingPlan | str, **sizes: int) -> SharingPlan:
    """The plan, parsed if it is text. Raises ValueError when it does not fit the shape or a size is below 1."""
    _check_sizes(1, **sizes)
    plan = SharingPlan.parse(plan, shape.num_layers) if isinstance(plan, str) else plan
    if plan.num_layers != shape.num_layers:
        raise ValueError(
            f"The plan is for {plan.num_layers} layers but {shape.name} has {shape.num_layers}: parse it again for "
            f"{shape.num_layers} layers."
        )
    if len(set(shape.sliding_windows)) > 1:
        _check_windows(shape, plan)
    return plan


def _check_windows(shape: ModelShape, plan: SharingPlan) -> None:
    for layer in plan.followers:
        window, leader_window = shape.sliding_windows[layer], shape.sliding_windows[plan.leader_of(layer)]
        if window != leader_window:
            raise ValueError(
                f"Layer {layer} cannot reuse the attention weights of layer {plan.leader_of(layer)}: their sliding "
                f"windows differ ({window} and {leader_window} tokens); share between layers of the same kind only."
            )


def _check_sizes(least: int, **sizes: int) -> None:
    for name, value in sizes.items():
        if not isinstance(value, int) or value < least:  # numpy's integers would overflow silently
            raise ValueError(f"{name} is {value!r}: it must be a Python int of at least {least}.")
