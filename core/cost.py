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

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path

import pandas as pd

from core.plan import SharingPlan

SOFTMAX_FLOPS_PER_WEIGHT = 3
EXECUTIONS = {
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

# What a configuration may leave unsaid, and what the family's code fixes whatever the configuration says.
_DEFAULTS = {
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
    "use_sliding_window": False,
    "sliding_window": None,
    "layer_types": None,
    "max_window_layers": 28,
    "qk_norm": False,
}
_FAMILY_DEFAULTS = {
    "mistral": {"sliding_window": 4096},
    "qwen3": {"head_dim": 128},
    "smollm3": {"tie_word_embeddings": True},
}
_FAMILY_FIXED = {
    "llama": {"use_sliding_window": False},
    "mistral": {
        "attention_bias": False, "mlp_bias": False,
        "use_sliding_window": True, "max_window_layers": 0, "layer_types": None,
    },
    "qwen2": {"qkv_bias": True, "attention_bias": False, "mlp_bias": False},
    "qwen3": {"qk_norm": True, "mlp_bias": False},
    "smollm3": {},
}  # fmt: skip


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a decoder that its costs depend on.

    `sliding_windows` holds one entry per layer: how many positions (itself included) a token attends to, or None for
    full attention. `max_context` is the longest context in tokens the model was made for (None: not stated).
    """

    name: str
    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    sliding_windows: tuple[int | None, ...]
    tied_embeddings: bool = False
    gated_mlp: bool = True
    qk_norm: bool = False
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    max_context: int | None = None
    source: str = ""

    @classmethod
    def from_config(cls, config) -> "ModelShape":
        """Read the shape of a transformers configuration, or of the dict in its `config.json`.

        Raises ValueError when the family is not supported or a needed field is missing.
        """
        given = dict(config) if isinstance(config, Mapping) else config.to_dict()
        family = given.get("model_type")
        if family not in _FAMILY_FIXED:
            families = ", ".join(_FAMILY_FIXED)
            raise ValueError(f"Costs of the model type {family!r} are not known yet: use one of {families}.")
        known = {**_DEFAULTS, **_FAMILY_DEFAULTS.get(family, {}), **given, **_FAMILY_FIXED[family]}
        num_heads, hidden_size = _size(known, "num_attention_heads"), _size(known, "hidden_size")
        return cls(
            name=getattr(config, "name_or_path", "") or given.get("_name_or_path") or family,
            num_layers=_size(known, "num_hidden_layers"),
            hidden_size=hidden_size,
            num_heads=num_heads,
            num_kv_heads=_size(known, "num_key_value_heads", default=num_heads),
            head_dim=_size(known, "head_dim", default=hidden_size // num_heads),
            intermediate_size=_size(known, "intermediate_size"),
            vocab_size=_size(known, "vocab_size"),
            sliding_windows=_sliding_windows(known),
            tied_embeddings=known["tie_word_embeddings"],
            qk_norm=known["qk_norm"],
            qkv_bias=known.get("qkv_bias", known["attention_bias"]),
            output_bias=known["attention_bias"],
            mlp_bias=known["mlp_bias"],
            max_context=known.get("max_position_embeddings"),
        )

    @property
    def query_size(self) -> int:
        """Values in the queries of one token and layer, all heads together."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Values in the keys (and as many in the values) of one token and layer, all key-value heads together."""
        return self.num_kv_heads * self.head_dim

    @property
    def mlp_matrices(self) -> int:
        """Matrices of `hidden_size` by `intermediate_size` in one MLP: gate, up and down, or up and down."""
        return 3 if self.gated_mlp else 2


def _size(known: dict, field: str, default: int | None = None) -> int:
    value = default if known.get(field) is None else known[field]
    if value is None:
        raise ValueError(f"The model's configuration has no {field!r}: add this field to its config.json.")
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"The model's configuration has {field} = {value!r}: it must be a whole number above 0.")
    return value


def _sliding_windows(known: dict) -> tuple[int | None, ...]:
    """The sliding window of each layer: by `layer_types`, else from layer `max_window_layers` on (Qwen's rule)."""
    num_layers = _size(known, "num_hidden_layers")
    if not known["use_sliding_window"] or known["sliding_window"] is None:
        return (None,) * num_layers
    is_sliding = [kind == "sliding_attention" for kind in known["layer_types"] or ()]
    is_sliding = is_sliding or [layer >= known["max_window_layers"] for layer in range(num_layers)]
    window = _size(known, "sliding_window")
    return tuple(window if sliding else None for sliding in is_sliding)


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
    lm_head: int
    """Vocabulary head. The embedding is a table look-up and costs no FLOPs."""

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
    q_proj: int
    k_proj: int
    v_proj: int
    o_proj: int
    qk_norms: int
    mlp: int
    norms: int
    lm_head: int
    """Zero when the head shares the embedding's matrix."""

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
    if execution not in EXECUTIONS:
        raise ValueError(f"There is no execution {execution!r}: use one of {', '.join(EXECUTIONS)}.")
    followers, layers = set(plan.followers), shape.num_layers
    used = sum(weights[window] for window in shape.sliding_windows)
    reused = sum(weights[shape.sliding_windows[layer]] for layer in followers) if execution == "reuse" else 0
    per_input = 2 * tokens * shape.hidden_size
    return FlopCount(
        q_proj=(layers - len(followers)) * per_input * shape.query_size,
        k_proj=(layers - len(followers)) * per_input * shape.kv_size,
        v_proj=layers * per_input * shape.kv_size,
        o_proj=layers * per_input * shape.query_size,
        scores=2 * (used - reused) * shape.query_size,
        softmax=SOFTMAX_FLOPS_PER_WEIGHT * (used - reused) * shape.num_heads,
        weighted_values=2 * used * shape.query_size,
        mlp=layers * per_input * shape.intermediate_size * shape.mlp_matrices,
        lm_head=2 * logits * shape.hidden_size * shape.vocab_size,
    )


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
    """Parameters of the model under the plan. Followers have no query and key projections, nor the norms on these."""
    plan = _checked(shape, plan)
    layers, computing = shape.num_layers, shape.num_layers - len(plan.followers)
    hidden, inner, vocabulary = shape.hidden_size, shape.intermediate_size, shape.vocab_size * shape.hidden_size
    mlp_biases = (shape.mlp_matrices - 1) * inner + hidden if shape.mlp_bias else 0
    return ParameterCount(
        embeddings=vocabulary,
        q_proj=computing * (hidden + shape.qkv_bias) * shape.query_size,
        k_proj=computing * (hidden + shape.qkv_bias) * shape.kv_size,
        v_proj=layers * (hidden + shape.qkv_bias) * shape.kv_size,
        o_proj=layers * (shape.query_size + shape.output_bias) * hidden,
        qk_norms=computing * 2 * shape.head_dim * shape.qk_norm,
        mlp=layers * (shape.mlp_matrices * hidden * inner + mlp_biases),
        norms=(2 * layers + 1) * hidden,
        lm_head=0 if shape.tied_embeddings else vocabulary,
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


def decode_bytes_read(
    shape: ModelShape, plan: SharingPlan | str, batch_size: int, context_tokens: int, bytes_per_value: int = 2
) -> DecodeBytes:
    """Bytes that one decode step moves: one new token for each of `batch_size` sequences, execution `reuse`.

    context_tokens: tokens that the new token attends to, itself included; in layers with a sliding window, the last
        `window` of them.

    Divided by the memory's bandwidth, it is the least time a step can take (roofline; Williams et al. 2009). Weights
    are read once per step, the cache and the leaders' attention weights once per sequence; query heads that share a
    key-value head read it together. Ignored: activations and logits, which stay in on-chip memory or are small, and
    attention weights of layers without followers, which fused kernels do not store.
    """
    plan = _checked(shape, plan, batch_size=batch_size, context_tokens=context_tokens, bytes_per_value=bytes_per_value)
    followers, leaders = set(plan.followers), plan.leaders
    attended = [min(context_tokens, window or context_tokens) for window in shape.sliding_windows]
    tensors = [1 if layer in followers else 2 for layer in range(shape.num_layers)]
    per_token = batch_size * shape.kv_size * bytes_per_value
    per_weight = batch_size * shape.num_heads * bytes_per_value
    return DecodeBytes(
        weights=_weights_used(shape, plan, batch_size) * bytes_per_value,
        cache_read=per_token * sum(count * tokens for count, tokens in zip(tensors, attended)),
        cache_written=per_token * sum(tensors),
        attention_weights_read=per_weight * sum(attended[layer] for layer in followers),
        attention_weights_written=per_weight * sum(attended[layer] for layer in leaders),
    )


def _weights_used(shape: ModelShape, plan: SharingPlan, batch_size: int) -> int:
    """Weights that a decode step reads: all but the rows of the embedding table that no new token has."""
    count = parameter_count(shape, plan)
    rows = 0 if shape.tied_embeddings else batch_size * shape.hidden_size  # a tied table is read whole by the head
    return count.total - (0 if shape.tied_embeddings else count.embeddings) + rows


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


@cache
def _entries() -> dict[str, dict]:
    return json.loads((Path(__file__).parent / "shapes.json").read_text(encoding="utf-8"))


@cache
def _shapes() -> dict[str, ModelShape]:
    return {
        name: replace(ModelShape.from_config(entry["config"]), name=name, source=entry["source"])
        for name, entry in _entries().items()
    }


def known_shapes() -> dict[str, ModelShape]:
    """Shapes of well-known models by name, each with the address of its published configuration in `source`."""
    return dict(_shapes())


def known_config(name: str) -> tuple[str, dict]:
    """(name, the fields of its published configuration that decide its costs) of a well-known model, in any case.

    Raises ValueError for a name that is not known.
    """
    for known, entry in _entries().items():
        if known.lower() == name.lower():
            return known, dict(entry["config"])
    raise ValueError(f"There is no shape {name!r}: choose one of {', '.join(_entries())}.")


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
