"""The sizes of a decoder, read from its configuration alone: no weights, no torch.

A configuration says most of what decides the costs. The rest stands in a family's code: which projections have a bias,
what its norms and its MLP are like. `_FAMILIES` says it, put together from kinds, with the names of `ModelShape`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.configs import kv_sources, spelled_windows, text_config
from core.corrections import NONE, Corrections
from core.plan import native_roles

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True)
class Experts:
    """The mixture of experts that takes the place of the MLP in the layers `layers`, or stands beside it."""

    count: int
    per_token: int
    size: int
    """Inner size of one expert."""
    layers: tuple[int, ...]
    router_bias: bool = False
    shared_size: int = 0
    """Inner size of the expert that every token goes through; 0: there is none."""
    shared_gate: bool = False
    beside_mlp: bool = False
    """Each layer has its MLP too (Gemma 4)."""


@dataclass(frozen=True)
class LayerSizes:
    """The sizes that a layer has of its own, where layers differ (Gemma 3n's MLPs, Gemma 4)."""

    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    values_of_keys: bool = False
    """Values are made by the key projection, and go through another norm; both are cached."""


@dataclass(frozen=True)
class Extras:
    """What a family has beside attention, MLPs and their norms, as numbers of weights and of multiplications.

    AltUp, LAuReL and embeddings for each layer (Gemma 3n), the last also in Gemma 4. Multiplications are those of one
    token. A table has rows of which each token reads one.
    """

    layer_weights: int = 0
    """Of every layer, norms included."""
    layer_products: int = 0
    """Multiply-adds in every layer."""
    outer_weights: int = 0
    outer_products: int = 0
    table_rows: int = 0
    table_width: int = 0

    @property
    def within_layers(self) -> "Extras":
        """Without what lies outside the layers."""
        return Extras(self.layer_weights, self.layer_products)


NO_EXTRAS = Extras()
_OF_ATTENTION = ("num_kv_heads", "head_dim", "values_of_keys")  # of LayerSizes


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a decoder that its costs depend on.

    `sliding_windows` holds one entry per layer: how many positions (itself included) a token attends to, or None for
    full attention. `max_context` is the longest context in tokens the model was made for (None: not stated). Where layers
    differ in size, `layer_sizes` has an entry for each, and `num_kv_heads`, `head_dim` and `intermediate_size` are the
    first layer's.
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
    embedding_size: int | None = None
    """Width of the token embedding (None: `hidden_size`); where it differs, two projections lead in and out."""
    position_rows: int = 0
    """Rows of a learned table of positions."""
    gated_mlp: bool = True
    experts: Experts | None = None
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    head_bias: bool = False
    sinks: bool = False
    """Each head has a learned weight that attends to nothing."""
    qk_norm: str = ""
    """What each norm on queries and on keys is for: "head" (all heads have the same one), "all heads", or nothing."""
    qk_norm_vectors: int = 1
    layer_norms: int = 2
    """Norms in a layer, apart from those on queries and keys."""
    attention_norms: int = 1
    """Of these, the ones that attention alone reads, or that its output alone goes through: without attention they go too."""
    outer_norms: int = 1
    """Norms outside the layers."""
    norm_vectors: int = 1
    """2: a norm has weight and bias, 1: weight, 0: neither."""
    layer_sizes: tuple[LayerSizes, ...] = ()
    kv_sources: tuple[int | None, ...] = ()
    """For each layer the one whose keys and values it reads by itself, or None; empty where no layer does."""
    keeps_positions: bool = False
    """Layers that read another one's keys and values run on the positions alone whose logits are asked for (Gemma 4)."""
    extras: Extras = NO_EXTRAS
    reads_chosen: bool = True
    """Whether a step reads no other rows of the cache than those to which a follower of `topk` attends."""
    corrections: Corrections = NONE
    """What the followers of whatever plan have learned; a dense model has no use for it."""
    max_context: int | None = None
    source: str = ""

    @classmethod
    def from_config(cls, config: "PreTrainedConfig | Mapping[str, Any]") -> "ModelShape":
        """Read the shape of a transformers configuration, or of the dict in its `config.json`.

        Of a model that reads images or sound too, it is the shape of the decoder, which writes the text: its other
        parts, which run once for a prompt, are not counted.

        Raises ValueError when the family is not known or a needed field is missing.
        """
        given = _decoder_fields(config)
        family = _BUILT_LIKE.get(given.get("model_type"), given.get("model_type"))
        if family not in _FAMILIES:
            raise ValueError(
                f"Costs of the model type {family!r} are not known: choose one of {', '.join(sorted(_FAMILIES))}."
            )
        facts = _COMMON | _FAMILIES[family]
        known = {name: fact(given) if callable(fact) else fact for name, fact in facts.items()}
        return cls(
            name=getattr(config, "name_or_path", "") or given.get("_name_or_path") or given["model_type"], **known
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
    def sizes(self) -> tuple[LayerSizes, ...]:
        """The sizes of each layer."""
        return (
            self.layer_sizes
            or (LayerSizes(self.num_kv_heads, self.head_dim, self.intermediate_size),) * self.num_layers
        )

    @property
    def query_sizes(self) -> tuple[int, ...]:
        """`query_size` of each layer."""
        return (
            tuple(self.num_heads * size.head_dim for size in self.layer_sizes) or (self.query_size,) * self.num_layers
        )

    @property
    def kv_sizes(self) -> tuple[int, ...]:
        """`kv_size` of each layer."""
        own = tuple(size.num_kv_heads * size.head_dim for size in self.layer_sizes)
        return own or (self.kv_size,) * self.num_layers

    @property
    def native_sources(self) -> tuple[int | None, ...]:
        """`kv_sources`, with an entry for each layer in every model."""
        return self.kv_sources or (None,) * self.num_layers

    @property
    def borrowers(self) -> tuple[int, ...]:
        """The layers that read another one's keys and values by themselves."""
        return tuple(layer for layer, source in enumerate(self.kv_sources) if source is not None)

    @property
    def kinds(self) -> tuple[tuple[Any, ...], ...]:
        """The kind of each layer, as far as sizes say: window, part in native sharing, heads. Those of one kind may share."""
        own = native_roles(self.native_sources)
        return tuple(zip(self.sliding_windows, own, map(attrgetter(*_OF_ATTENTION), self.sizes), strict=True))

    @property
    def delta_parameters(self) -> int:
        """Parameters of one follower's low-rank query and key deltas."""
        return self.hidden_size * self.corrections.rank * (self.num_heads + self.num_kv_heads)

    @property
    def mlp_matrices(self) -> int:
        """Matrices of `hidden_size` by `intermediate_size` in one MLP: gate, up and down, or up and down."""
        return 3 if self.gated_mlp else 2

    @property
    def plain_mlps(self) -> int:
        """Layers with an MLP of their own, not with experts."""
        return self.num_layers - (len(self.experts.layers) if self.experts and not self.experts.beside_mlp else 0)

    @property
    def plain_mlp_sizes(self) -> tuple[int, ...]:
        """The inner sizes of the MLPs that are no experts."""
        own = tuple(size.intermediate_size for size in self.layer_sizes)
        return own or (self.intermediate_size,) * self.plain_mlps

    @property
    def embedding_projection_size(self) -> int:
        """Weights that lead from token embeddings of another width into the layers, and back."""
        return 0 if self.embedding_size in (None, self.hidden_size) else 2 * self.embedding_size * self.hidden_size


def _decoder_fields(config: "PreTrainedConfig | Mapping[str, Any]") -> dict[str, Any]:
    """What the configuration says of the decoder."""
    if isinstance(config, Mapping):
        family = config.get("model_type")
        if family in _FAMILIES and family not in _SAY_LITTLE:
            return dict(config)
        if (made := _made_of(config)) is None:
            return dict(config)
        config = made
    decoder = text_config(config)
    if decoder is config:
        return config.to_dict()
    whole = {"tie_word_embeddings": False, "sharing_corrections": None}  # said of the whole model
    return decoder.to_dict() | {name: getattr(config, name, unsaid) for name, unsaid in whole.items()}


def _made_of(fields: Mapping[str, Any]) -> "PreTrainedConfig | None":
    """The configuration that transformers makes of a `config.json` of several parts, which leaves out every size of its
    parts that is their default; None where transformers does not know the type.
    """
    from transformers import AutoConfig

    try:
        kind = AutoConfig.for_model(str(fields.get("model_type"))).__class__
    except ValueError:
        return None
    return kind.from_dict(dict(fields))


def cached_tokens(window: int | None, num_tokens: int) -> int:
    """How many of `num_tokens` processed tokens the cache of a layer with this sliding window still holds."""
    return num_tokens if window is None else min(num_tokens, window - 1)


def _said(*names: str, unsaid: Any = False) -> Callable[[dict], Any]:
    """What a configuration says under the first of `names` that it has."""
    return lambda given: next((given[name] for name in names if name in given), unsaid)


def _size(*names: str, unsaid: Callable[[dict], int] | None = None) -> Callable[[dict], int]:
    """The same for a whole number above 0; without `unsaid` it must be said. The last name is the common one."""

    def read(given: dict) -> int:
        name = next((name for name in names if name in given), names[-1])
        value = unsaid(given) if given.get(name) is None and unsaid else given.get(name)
        if value is None:
            raise ValueError(f"The model's configuration has no {name!r}: add this field to its config.json.")
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"The model's configuration has {name} = {value!r}: it must be a whole number above 0.")
        return value

    return read


_LAYERS = _size("n_layer", "num_hidden_layers")
_WIDTH = _size("n_embd", "n_embed", "hidden_size")
_HEADS = _size("n_head", "num_attention_heads")


def _windows(window: int | None, full=lambda given, layer: False, used: bool = True) -> dict:
    """Sliding windows: in the layers that `layer_types` names, else in all for which `full(given, layer)` is false.

    window, used: the size, and whether windows are used at all, where the configuration does not say.
    """

    def read(given: dict) -> tuple[int | None, ...]:
        size, kinds = given.get("sliding_window", window), given.get("layer_types")
        if not (size and given.get("use_sliding_window", used)):
            return (None,) * _LAYERS(given)
        slides = [kind == "sliding_attention" for kind in kinds or ()]
        slides = slides or [not full(given, layer) for layer in range(_LAYERS(given))]
        return tuple(size if sliding else None for sliding in slides)

    return {"sliding_windows": read}


def _every(period: int) -> Callable[[dict, int], bool]:
    """Every layer whose number, counted from 1, is a multiple of `period` (or of what the configuration says).

    The configuration may also spell the pattern: `LLLG` (EXAONE).
    """

    def full(given: dict, layer: int) -> bool:
        pattern = given.get("sliding_window_pattern") or period
        if isinstance(pattern, str):
            return not spelled_windows(pattern, _LAYERS(given))[layer]
        return (layer + 1) % pattern == 0

    return full


def _experts(size: str, router_bias: bool = False, shared_size: str = "", shared_gate: bool = False):
    """A mixture of experts; `size` and `shared_size` are the fields of their inner sizes."""

    def read(given: dict) -> Experts:
        step, plain = given.get("decoder_sparse_step", 1), given.get("mlp_only_layers") or ()
        return Experts(
            count=_size("num_experts", "num_local_experts")(given),
            per_token=_size("num_experts_per_tok")(given),
            size=_size(size)(given),
            layers=tuple(layer for layer in range(_LAYERS(given)) if layer not in plain and (layer + 1) % step == 0),
            router_bias=router_bias,
            shared_size=given.get(shared_size) or 0,
            shared_gate=shared_gate,
        )

    return {"experts": read}


def _when(field: str, yes: Any, no: Any) -> Callable[[dict], Any]:
    return lambda given: yes if given.get(field) else no


# What most families have in common, by the fields of ModelShape: a value, or a function that reads the configuration.
_COMMON = {
    "num_layers": _LAYERS,
    "hidden_size": _WIDTH,
    "num_heads": _HEADS,
    "num_kv_heads": _size("num_key_value_heads", unsaid=_HEADS),
    "head_dim": _size("head_dim", unsaid=lambda given: _WIDTH(given) // _HEADS(given)),
    "intermediate_size": _size("intermediate_size"),
    "vocab_size": _size("vocab_size"),
    "max_context": _said("n_positions", "max_position_embeddings", unsaid=None),
    "tied_embeddings": _said("tie_word_embeddings"),
    "sliding_windows": lambda given: (None,) * _LAYERS(given),
    "corrections": Corrections.of_config,
}

# Kinds of attention, MLP, norms and embeddings, from which families are put together.
_BIASES = ("qkv_bias", "output_bias", "mlp_bias")
_ALL_BIASES = dict.fromkeys(_BIASES, True)
_ATTENTION_BIAS = dict.fromkeys(("qkv_bias", "output_bias"), _said("attention_bias"))
_QKV_BIAS = {"qkv_bias": _said("attention_bias", unsaid=True)}
_MLP_BIAS = {"mlp_bias": _said("mlp_bias")}
_PLAIN_MLP = {"gated_mlp": False}
_LAYER_NORM = {"norm_vectors": 2}
_FOUR_NORMS = {"layer_norms": 4, "attention_norms": 2}
_ONE_NORM = {"layer_norms": 1, "attention_norms": 0}  # attention and MLP read the same
_OWN_FORWARD = {"reads_chosen": False}  # attention in the layer's own forward, without a fused function
_HEAD_NORM = {"qk_norm": "head"}
_ALL_HEADS_NORM = {"qk_norm": "all heads"}
_TIED = {"tied_embeddings": _said("tie_word_embeddings", unsaid=True)}
_EQUAL_HEADS = {"num_kv_heads": _HEADS, "head_dim": lambda given: _WIDTH(given) // _HEADS(given)}
_GPT = _EQUAL_HEADS | _PLAIN_MLP | _LAYER_NORM
_FOURFOLD = {"intermediate_size": _size("n_inner", "ffn_hidden_size", unsaid=lambda given: 4 * _WIDTH(given))}
_LATE_WINDOWS = _windows(4096, lambda given, layer: layer < given.get("max_window_layers", 28), used=False)


def _heads_of(size: int) -> dict:
    return {"head_dim": _size("head_dim", unsaid=lambda given: size)}


def _positions(extra: int) -> dict:
    return {"position_rows": lambda given: _size("n_positions", "max_position_embeddings")(given) + extra}


def _has_rope(given: dict, layer: int) -> bool:
    rope = given.get("no_rope_layers")  # 1: the layer has it
    return bool(rope[layer]) if rope else (layer + 1) % given.get("no_rope_layer_interval", 4) != 0


def _falcon_kv_heads(given: dict) -> int:
    if given.get("new_decoder_architecture"):
        return _size("num_kv_heads", unsaid=_HEADS)(given)
    return 1 if given.get("multi_query", True) else _HEADS(given)


def _falcon_norms(given: dict) -> int:
    both = given.get("num_ln_in_parallel_attn") or (2 if given.get("new_decoder_architecture") else 1)
    return both if given.get("parallel_attn", True) else 2


def _falcon_attention_norms(given: dict) -> int:
    return int(_falcon_norms(given) > 1)


_FALCON = {"num_kv_heads": _falcon_kv_heads, "layer_norms": _falcon_norms, "attention_norms": _falcon_attention_norms}
_OPT = {
    "intermediate_size": _size("ffn_dim"),
    "embedding_size": _size("word_embed_proj_dim", unsaid=_WIDTH),
    "attention_norms": lambda given: int(given.get("do_layer_norm_before", True)),  # else they are of the sum
    "norm_vectors": lambda given: 2 if given.get("layer_norm_elementwise_affine", True) else 0,
    "outer_norms": lambda given: int(
        given.get("do_layer_norm_before", True) and not given.get("_remove_final_layer_norm")
    ),
}


def _extras(given: dict) -> Extras:
    """AltUp and LAuReL, where a family has them, and embeddings for each layer."""
    width, layers = _WIDTH(given), _LAYERS(given)
    found = Extras()
    if size := given.get("hidden_size_per_layer_input"):
        per_layer = 2 * width * size  # its gate, and the projection back
        outer = width * layers * size
        rows = _size("vocab_size_per_layer_input")(given)
        found = Extras(per_layer + width, per_layer, outer + size, outer, rows, layers * size)
    if given.get("enable_moe_block"):  # three norms, and scales of the router and of each expert
        found = replace(found, layer_weights=found.layer_weights + 4 * width + _size("num_experts")(given))
    if (rank := given.get("laurel_rank")) is None:
        return found
    inputs = _size("altup_num_inputs")(given)
    coefficients = inputs**2 + inputs**3
    norms = 3 * width  # of the router, after LAuReL, and the scale of what was corrected
    projections = 2 * (inputs - 1) * width**2  # to the other streams, and back
    return Extras(
        found.layer_weights + inputs * width + coefficients + 2 * width * rank + norms,
        found.layer_products + (2 * inputs + inputs**2) * width + coefficients + 2 * width * rank,
        found.outer_weights + projections,
        found.outer_products + projections,
        found.table_rows,
        found.table_width,
    )


def _gemma3n_sizes(given: dict) -> tuple[LayerSizes, ...]:
    heads, size = _COMMON["num_kv_heads"](given), _COMMON["head_dim"](given)
    return tuple(LayerSizes(heads, size, inner) for inner in given["intermediate_size"])


def _gemma4_experts(given: dict) -> Experts | None:
    if not given.get("enable_moe_block"):
        return None
    every = tuple(range(_LAYERS(given)))
    count, chosen, size = (_size(name)(given) for name in ("num_experts", "top_k_experts", "moe_intermediate_size"))
    return Experts(count, chosen, size, every, beside_mlp=True)


def _gemma4_sizes(given: dict) -> tuple[LayerSizes, ...]:
    own = {int(layer): fields for layer, fields in (given.get("per_layer_config") or {}).items()}
    sources = kv_sources(given) or (None,) * _LAYERS(given)
    inner, wide = _size("intermediate_size")(given), 2 if given.get("use_double_wide_mlp") else 1
    return tuple(
        LayerSizes(
            _size("num_key_value_heads")(given | own.get(layer, {})),
            _size("head_dim")(given | own.get(layer, {})),
            inner if source is None else wide * inner,
            bool(given.get("attention_k_eq_v")) and given["layer_types"][layer] != "sliding_attention",
        )
        for layer, source in enumerate(sources)
    )


def _first_of(sizes: Callable[[dict], tuple[LayerSizes, ...]]) -> dict:
    """Sizes of each layer, and those of the first one as the model's."""
    names = ("num_kv_heads", "head_dim", "intermediate_size")
    firsts = {name: lambda given, name=name: getattr(sizes(given)[0], name) for name in names}
    return {**firsts, "layer_sizes": sizes, "kv_sources": kv_sources, "extras": _extras}


_GEMMA4 = (
    _ATTENTION_BIAS | _TIED | _FOUR_NORMS | _HEAD_NORM | _windows(512) | _first_of(_gemma4_sizes)
    | {"keeps_positions": True, "experts": _gemma4_experts}
)  # fmt: skip
_FAMILIES: dict[str, dict[str, Any]] = {
    "arcee": _ATTENTION_BIAS | _MLP_BIAS | _PLAIN_MLP,
    "biogpt": _GPT | _ALL_BIASES | _TIED | _positions(2),
    "bloom": _GPT | _OWN_FORWARD | _FOURFOLD | _ALL_BIASES | _TIED
    | {"outer_norms": 2, "attention_norms": _when("apply_residual_connection_post_layernorm", 0, 1)},
    "codegen": _GPT | _OWN_FORWARD | _FOURFOLD | _ONE_NORM | {"mlp_bias": True, "head_bias": True},
    "cohere": _ATTENTION_BIAS | _TIED | _ONE_NORM | {"qk_norm": _when("use_qk_norm", "all heads", "")},
    "cohere2": _ATTENTION_BIAS | _TIED | _ONE_NORM | _windows(4096, _every(4)),
    "ernie4_5": dict.fromkeys(_BIASES, _said("use_bias")) | _TIED | _heads_of(128),
    "exaone4": _HEAD_NORM | _windows(4096, _every(4)),
    "falcon": _GPT | _FOURFOLD | dict.fromkeys(_BIASES, _said("bias")) | _TIED | _FALCON,
    "gemma": _ATTENTION_BIAS | _TIED | _heads_of(256),
    "gemma2": _ATTENTION_BIAS | _TIED | _heads_of(256) | _FOUR_NORMS | _windows(4096, _every(2)),
    "gemma3_text": _ATTENTION_BIAS | _TIED | _heads_of(256) | _FOUR_NORMS | _HEAD_NORM | _windows(4096, _every(6)),
    "gemma3n_text": _ATTENTION_BIAS | _TIED | _FOUR_NORMS | {"attention_norms": 1} | _HEAD_NORM | _windows(512)
    | _first_of(_gemma3n_sizes),
    "gemma4_text": _GEMMA4,
    "gemma4_unified_text": _GEMMA4,
    "glm": _QKV_BIAS | _heads_of(128),
    "glm4": _QKV_BIAS | _heads_of(128) | _FOUR_NORMS,
    "gpt2": _GPT | _FOURFOLD | _ALL_BIASES | _TIED | _positions(0),
    "gpt_neox": _GPT | _QKV_BIAS | {"output_bias": _QKV_BIAS["qkv_bias"], "mlp_bias": True},
    "gpt_oss": _ALL_BIASES | _QKV_BIAS | {"output_bias": _QKV_BIAS["qkv_bias"], "sinks": True} | _heads_of(64)
    | _experts("intermediate_size", router_bias=True) | _windows(128, _every(2)),
    "gptj": _GPT | _OWN_FORWARD | _FOURFOLD | _ONE_NORM | {"mlp_bias": True, "head_bias": True},
    "granite": _ATTENTION_BIAS | _MLP_BIAS,
    "granitemoe": _ATTENTION_BIAS | _experts("intermediate_size"),
    "granitemoeshared": _ATTENTION_BIAS | _experts("intermediate_size", shared_size="shared_intermediate_size"),
    "helium": {"qkv_bias": _said("attention_bias")} | _MLP_BIAS | _heads_of(128),
    "hunyuan_v1_dense": _ATTENTION_BIAS | _HEAD_NORM,
    "llama": _ATTENTION_BIAS | _MLP_BIAS,
    "ministral": _windows(4096),
    "mistral": _windows(4096),
    "mixtral": _experts("intermediate_size") | _windows(None),
    "nemotron": _ATTENTION_BIAS | _MLP_BIAS | _PLAIN_MLP | _LAYER_NORM,
    "olmo": _ATTENTION_BIAS | {"norm_vectors": 0},
    "olmo2": _ATTENTION_BIAS | _ALL_HEADS_NORM,
    "olmo3": _ATTENTION_BIAS | _ALL_HEADS_NORM | _windows(4096, _every(4)),
    "olmoe": _ATTENTION_BIAS | _ALL_HEADS_NORM | _experts("intermediate_size"),
    "opt": _GPT | dict.fromkeys(_BIASES, _said("enable_bias", unsaid=True)) | _TIED | _positions(2) | _OPT,
    "phi": _PLAIN_MLP | _LAYER_NORM | _ALL_BIASES | _ONE_NORM
    | {"head_bias": True, "qk_norm": _when("qk_layernorm", "head", ""), "qk_norm_vectors": 2},
    "phi3": _windows(None),
    "phimoe": _ATTENTION_BIAS | _LAYER_NORM | _experts("intermediate_size") | _windows(None)
    | {"head_bias": _said("lm_head_bias")},
    "qwen2": {"qkv_bias": True} | _LATE_WINDOWS,
    "qwen2_moe": {"qkv_bias": _said("qkv_bias", unsaid=True)}
    | _experts("moe_intermediate_size", shared_size="shared_expert_intermediate_size", shared_gate=True)
    | _windows(4096, lambda given, layer: layer % 2 or layer >= given.get("max_window_layers", 28), used=False),
    "qwen3": _ATTENTION_BIAS | _HEAD_NORM | _heads_of(128) | _LATE_WINDOWS,
    "qwen3_moe": _ATTENTION_BIAS | _HEAD_NORM | _experts("moe_intermediate_size") | _windows(4096, used=False),
    "seed_oss": _QKV_BIAS | {"output_bias": _said("attention_out_bias")} | _MLP_BIAS | _heads_of(128),
    "smollm3": _ATTENTION_BIAS | _MLP_BIAS | _TIED | _windows(None, _has_rope, used=False),
    "stablelm": _LAYER_NORM | {
        "qkv_bias": _said("use_qkv_bias"), "head_dim": _EQUAL_HEADS["head_dim"],
        "layer_norms": _when("use_parallel_residual", 1, 2),
        "attention_norms": _when("use_parallel_residual", 0, 1), "qk_norm": _when("qk_layernorm", "all heads", ""),
    },
    "starcoder2": dict.fromkeys(_BIASES, _said("use_bias", unsaid=True)) | _PLAIN_MLP | _LAYER_NORM | _TIED
    | _windows(None),
}  # fmt: skip


_SAY_LITTLE = frozenset({"gemma3n_text", "gemma4_text", "gemma4_unified_text"})
"""Families of which a `config.json` need not say how many layers share, nor their types: transformers makes it whole."""

_BUILT_LIKE: dict[Any, str] = {"qwen2_5_vl_text": "qwen2", "qwen2_vl_text": "qwen2", "qwen3_vl_text": "qwen3"}
"""Decoders of models that read images, which are built like a family of their own."""


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
