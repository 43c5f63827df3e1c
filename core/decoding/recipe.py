"""What a decode step of a Llama-like model is made of: its weights where they lie, and what each layer does in decoding.

A model is taken by what its modules are: their forwards have the code of transformers' Llama, Mistral, Qwen2 or Qwen3 to
the letter (many families' do), nothing hooks into them, and their weights are plain tensors. Everything else is refused. Steps on a CPU
(`compiled`, `lean`) and on GPUs (`plain_step`) are made from it.
"""

import inspect
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.models.llama import modeling_llama

from core.plan import Mechanism, SharingPlan
from core.sharing.corrections import corrections_of
from core.sharing.families import (
    AttentionModule,
    attention_modules,
    decoder_of,
    heads_per_group,
    layers_of,
    num_heads_of,
    num_layers_of,
)
from core.sharing.native import native_plan_of
from core.sharing.view import plan_of


@dataclass(frozen=True)
class Linear:
    """A projection: weight [outputs, inputs], bias [outputs]."""

    weight: torch.Tensor
    bias: torch.Tensor | None


@dataclass(frozen=True)
class Norm:
    """RMSNorm: weight [width]."""

    weight: torch.Tensor
    eps: float


@dataclass(frozen=True)
class LayerRecipe:
    """What one layer does in decoding, and with which weights; of attention None where it does without."""

    does: Mechanism | None  # None: its own attention
    source: int  # the layer that it takes weights, keys or values from; else itself
    leads: bool  # whether others use its weights
    heads: tuple[int, ...]  # whose weights each of its heads reads
    window: int | None
    rotates: bool
    scaling: float
    module: AttentionModule
    norm: Norm | None
    q: Linear | None
    q_norm: Norm | None
    k: Linear | None
    k_norm: Norm | None
    v: Linear | None
    o: Linear | None
    mlp_norm: Norm
    gate: Linear
    up: Linear
    down: Linear
    activation: nn.Module

    @property
    def tensors(self) -> list[torch.Tensor]:
        """All weights."""
        return _tensors_of(vars(self).values())


@dataclass(frozen=True)
class Recipe:
    """A whole step."""

    embedding: torch.Tensor  # [vocabulary, hidden]
    layers: tuple[LayerRecipe, ...]
    norm: Norm
    head: Linear
    rotary: nn.Module
    implementation: str  # of attention
    num_heads: int
    num_kv_heads: int
    head_dim: int

    @property
    def dtype(self) -> torch.dtype:
        """Of all weights."""
        return self.embedding.dtype

    @property
    def tensors(self) -> list[torch.Tensor]:
        """All weights, some of them twice."""
        return [
            self.embedding,
            *_tensors_of((self.norm, self.head)),
            *(one for layer in self.layers for one in layer.tensors),
        ]

    @property
    def devices(self) -> set[torch.device]:
        """Of all weights."""
        return {tensor.device for tensor in self.tensors}

    @property
    def mark(self) -> tuple:
        """Equal for recipes that do the same on the same weights."""
        layers = tuple(
            (one.does, one.source, one.heads, one.window, one.rotates, one.scaling, type(one.activation))
            for one in self.layers
        )
        return layers, self.implementation, tuple(tensor.data_ptr() for tensor in self.tensors)


def _tensors_of(parts: Iterable[Any]) -> list[torch.Tensor]:
    """The weights and biases of those parts that are projections or norms."""
    known = (vars(part).values() for part in parts if isinstance(part, Linear | Norm))
    return [one for values in known for one in values if isinstance(one, torch.Tensor)]


def recipe_of(model: PreTrainedModel) -> Recipe:
    """The recipe of a model's steps, dense or a view. Raises ValueError, with the reason, for models that have none."""
    return _Reader(model).read()


def _text(function: Callable) -> tuple:
    """What a function does, whatever its name, place, annotations and docstring."""
    function = inspect.unwrap(function)
    code = function.__code__
    constants = code.co_consts[1:] if function.__doc__ and code.co_consts[:1] == (function.__doc__,) else code.co_consts
    constants = tuple(one.strip() if isinstance(one, str) else one for one in constants)
    return code.co_code, code.co_names, tuple(one for one in constants if one != function.__doc__), code.co_varnames


_FAMILIES = ("Llama", "Mistral", "Ministral", "Qwen2", "Qwen3", "SmolLM3")
_ENDINGS = {
    "model": "ForCausalLM", "decoder": "Model", "layer": "DecoderLayer", "attention": "Attention", "norm": "RMSNorm", "mlp": "MLP",
}  # fmt: skip


@cache
def _known(what: str) -> frozenset[tuple]:
    """The texts of the forward of a kind of module, in each of the families that steps are known of."""
    found = set()
    for family in _FAMILIES:
        with suppress(ImportError):
            module = import_module(f"transformers.models.{family.lower()}.modeling_{family.lower()}")
            if kind := getattr(module, family + _ENDINGS[what], None):
                found.add(_text(kind.forward))
    return frozenset(found)


_OURS = ("core.sharing.", "transformers.utils.output_capturing", "accelerate.hooks")
"""Whose hooks change nothing in a step: those that begin a view's call, those that copy what was asked for, and those that bring
inputs to a layer's device, as long as its weights are there already."""
_DOES = (None, "share", "skip", "kv", "keys")


class _Reader:
    """Reads a model, and refuses it where something is not as it should be."""

    def __init__(self, model: PreTrainedModel):
        self.model = model
        self.plan: SharingPlan = plan_of(model).in_phase("decode")

    def read(self) -> Recipe:
        model, plan = self.model, self.plan
        _demand(not corrections_of(model), "its followers have corrections")
        _demand(not any(part.mechanism not in _DOES for part in plan.parts), "it chooses positions (topk)")
        _demand(_is(model, "model"), f"{type(model).__name__} is not known")
        _demand(not native_plan_of(model), "its layers read the keys and values of others by themselves")
        _demand(not any(one.training for one in (model, *attention_modules(model))), "it is in training")
        for module in model.modules():
            _check_untouched(module)
        decoder = decoder_of(model)
        _demand(_is(decoder, "decoder"), f"{type(decoder).__name__} is not known")
        implementation = decoder.config._attn_implementation
        _demand(implementation in ("sdpa", "eager"), f"its attention is {implementation}")
        windows = _windows(model)
        modules = [_acting(module) for module in attention_modules(model)]
        _demand(num_layers_of(model) == len(modules) == len(windows), "not all of its layers are used")
        layers = tuple(self._layer(*one) for one in enumerate(zip(layers_of(model), modules, windows, strict=True)))
        whole = next((one for one in layers if one.o is not None), None)
        _demand(whole is not None, "no layer attends")
        parts: Any = decoder
        embedding, head = parts.embed_tokens, model.get_output_embeddings()
        _demand(type(embedding) is nn.Embedding and embedding.max_norm is None, "its embedding is not plain")
        num_heads = num_heads_of(model)
        recipe = Recipe(
            embedding.weight, layers, _norm(parts.norm), _linear(head), parts.rotary_emb, implementation,
            num_heads, num_heads // heads_per_group(model), modules[0].head_dim,
        )  # fmt: skip
        self._check_weights(recipe)
        return recipe

    def _layer(self, number: int, parts: tuple[nn.Module, AttentionModule, int | None]) -> LayerRecipe:
        part: Any
        part, module, window = parts
        plan = self.plan
        does, source = plan.mechanism_of(number), plan.source_of(number)
        _demand(_is(part, "layer"), f"{type(part).__name__} is not known")
        _demand(_is(part.mlp, "mlp"), f"{type(part.mlp).__name__} is not known")
        _demand(_is(module, "attention"), f"{type(module).__name__} is not known")
        if (own := getattr(module, "sliding_window", None)) is not None:
            _demand(own == window, "its cache holds another window than its layers see")
        heads = getattr(module, "head_map", None) if does == "share" else None
        attends = does != "skip"
        needs_q, needs_k, needs_v = attends and does != "share", does is None, attends and does != "kv"
        return LayerRecipe(
            does=does,
            source=source,
            leads=number in plan.leaders,
            heads=tuple(range(num_heads_of(self.model)) if heads is None else heads),
            window=window,
            rotates=bool(getattr(module, "use_rope", True)),
            scaling=float(module.scaling) if needs_q else 1.0,
            module=module,
            norm=_norm(part.input_layernorm) if attends else None,
            q=_linear(module.q_proj) if needs_q else None,
            q_norm=_norm(module.q_norm) if needs_q and hasattr(module, "q_norm") else None,
            k=_linear(module.k_proj) if needs_k else None,
            k_norm=_norm(module.k_norm) if needs_k and hasattr(module, "k_norm") else None,
            v=_linear(module.v_proj) if needs_v else None,
            o=_linear(module.o_proj) if attends else None,
            mlp_norm=_norm(part.post_attention_layernorm),
            gate=_linear(part.mlp.gate_proj),
            up=_linear(part.mlp.up_proj),
            down=_linear(part.mlp.down_proj),
            activation=part.mlp.act_fn,
        )

    def _check_weights(self, recipe: Recipe) -> None:
        dtype = recipe.dtype
        _demand(dtype in (torch.float32, torch.bfloat16, torch.float16), f"its weights are {dtype}")
        for tensor in recipe.tensors:
            _demand(
                type(tensor) in (nn.Parameter, torch.Tensor) and not tensor.is_meta and tensor.dtype == dtype
                and tensor.is_contiguous(),
                "its weights are not plain tensors of one kind",
            )  # fmt: skip
        hidden, heads = recipe.embedding.shape[1], recipe.num_heads * recipe.head_dim
        kv, inner = recipe.num_kv_heads * recipe.head_dim, recipe.layers[0].gate.weight.shape[0]
        _demand(recipe.head_dim % 2 == 0 and recipe.num_heads % recipe.num_kv_heads == 0, "its heads do not group")
        for layer in recipe.layers:
            shapes = {
                "q": (heads, hidden), "k": (kv, hidden), "v": (kv, hidden), "o": (hidden, heads),
                "gate": (inner, hidden), "up": (inner, hidden), "down": (hidden, inner),
                "norm": (hidden,), "mlp_norm": (hidden,), "q_norm": (recipe.head_dim,), "k_norm": (recipe.head_dim,),
            }  # fmt: skip
            for name, shape in shapes.items():
                part = getattr(layer, name)
                _demand(part is None or part.weight.shape == shape, f"its layers' {name} is of another shape")
            source = recipe.layers[layer.source]
            _demand(source.window == layer.window, "a layer reads from one with another window")
        _demand(recipe.head.weight.shape[1] == hidden, "its head is of another shape")


def _demand(holds: bool, reason: str) -> None:
    if not holds:
        raise ValueError(f"steps of this model are its own forward: {reason}.")


def _is(module: nn.Module, what: str) -> bool:
    """Whether a module's class has the forward of a known one, to the letter."""
    kind: Any = type(module)
    return _is_known(kind, what)


@cache
def _is_known(kind: Any, what: str) -> bool:
    forward = kind.forward
    if _text(forward) not in _known(what):
        return False
    names = inspect.unwrap(forward).__globals__  # what an attention's forward calls by name has to be Llama's too
    return what != "attention" or all(
        name in names and _text(names[name]) == _text(getattr(modeling_llama, name))
        for name in ("apply_rotary_pos_emb", "rotate_half")
    )


def _acting(module: AttentionModule) -> AttentionModule:
    """The attention module of a layer in decoding, where its phases differ."""
    acting = vars(module).get("acting")
    return module if acting is None else acting["decode"]


def _check_untouched(module: nn.Module) -> None:
    """Refuse modules whose call is more than their class's forward, but for what views do."""
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    own = [vars(module)[name] for name in ("forward", "_old_forward") if name in vars(module)]
    own = [function for function in own if getattr(function, "__func__", None) is not type(module).forward]
    for one in (*hooks, *(getattr(function, "func", function) for function in own)):
        where = getattr(one, "__module__", "") or ""
        _demand(where.startswith(_OURS), f"something hooks into its {type(module).__name__}")
    _demand(not getattr(getattr(module, "_hf_hook", None), "offload", False), "accelerate moves its weights")


def _windows(model: PreTrainedModel) -> list[int | None]:
    """What of each layer decoding sees, by what its cache keeps."""
    windows: list[int | None] = []
    for layer in DynamicCache(config=model.config).layers:
        _demand(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer), "its cache is of another kind")
        windows.append(getattr(layer, "sliding_window", None))
    return windows


def _linear(module: Any) -> Linear:
    _demand(type(module) is nn.Linear, f"{type(module).__name__} is no plain projection")
    return Linear(module.weight, module.bias)


def _norm(module: Any) -> Norm:
    _demand(_is(module, "norm"), f"{type(module).__name__} is not known")
    return Norm(module.weight, float(module.variance_epsilon))
