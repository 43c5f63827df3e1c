"""Views whose layers do other things in prefill than in decoding; `core.plan.phases` says what a phase is, and what is cached.

Each phase has the attention modules of a view of its own plan, made as those of any other view. The view itself holds the
weights that either phase needs, in one module a layer, which hands each call on to the module of its phase: this one has
its projections from there, or cuts what it needs from a fused one whenever it runs, so that weights which are loaded, moved
or trained are the same in both.

In prefill a layer's cache gets what decoding will read, whatever the layer itself attends to: less than it computed where
decoding shares, and more where prefill shares or skips and decoding does not. Then the family's own forward runs up to the
place where it hands keys and values to its cache, without queries, and no further.

Where the phases need little, a layer holds no more than that: `share` and `kv` together hold what `keys` does.
"""

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NoReturn, cast

import torch
from torch import nn
from transformers import Cache, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from core.plan import CACHED, NEEDED, PHASES, Mechanism, Phase, SharingPlan
from core.sharing.families import (
    AttentionModule,
    attention_modules,
    fused_parts,
    is_weight_and_bias,
    keep_values_alone,
    linear_of_parts,
    values_of,
)
from core.sharing.hooks import call_of, set_forward
from core.sharing.mechanisms.lending import InPlaceOfCache, KeysAndValues, cache_name_of
from core.sharing.mechanisms.projections import Parts, Pick, do_without
from core.sharing.storage import twin_of

_PROJECTIONS = {"q": "query", "k": "key", "v": "value"}


def by_phase(view: PreTrainedModel, plan: SharingPlan, make: Callable[[PreTrainedModel, SharingPlan], None]) -> None:
    """Have each layer of a view do in either phase what the plan says.

    make: has the layers of a view do what a plan without phases says.
    """
    of_phase = {phase: (plan.in_phase(phase), twin_of(view)) for phase in PHASES}
    for one, twin in of_phase.values():
        make(twin, one)
    make(view, SharingPlan((), plan.num_layers, plan.groups, tuple(part for part in plan.parts if not part.phase)))
    modules = attention_modules(view)
    acting = {phase: attention_modules(twin) for phase, (_, twin) in of_phase.items()}
    for layer in sorted({layer for part in plan.phased for layer in part.layers}):
        does = {phase: one.mechanism_of(layer) for phase, (one, _) in of_phase.items()}
        _leave_out(modules[layer], plan.held_as(layer))
        _hand_on(modules[layer], layer, does, {phase: found[layer] for phase, found in acting.items()})
    vars(view)["generate"] = partial(_generate, view)


def _hand_on(
    module: AttentionModule, layer: int, does: dict[Phase, Mechanism | None], acting: dict[Phase, AttentionModule]
) -> None:
    """Have a layer's module run that of the phase. does, acting: what it does in each phase, and the module that does it."""
    for phase, one in acting.items():
        _link(one, module, _of(does[phase]))
    module.layer_idx, module.acting, module.cache_name = layer, acting, cache_name_of(module)
    module.caches = CACHED[does["decode"]]
    missing = "".join(one for one in module.caches if one not in _of(does["prefill"]))
    module.missing, module.maker = missing, (_maker_of(module, missing),) if missing else ()  # no module of the view's
    set_forward(module, _of_this_phase)


def _leave_out(module: AttentionModule, held: Mechanism | None) -> None:
    """Remove what a layer needs in neither phase. held: the mechanism as of which it holds weights."""
    module.holds = _of(held)
    if held == "share":
        keep_values_alone(module)
    elif held is not None:
        do_without(module, _others(module.holds))


def _of(mechanism: Mechanism | None) -> str:
    """Of its own queries, keys and values (q, k, v) what a layer computes to attend."""
    return NEEDED[mechanism].removesuffix("o")


def _others(computed: str) -> list[str]:
    return [name for short, name in _PROJECTIONS.items() if short not in computed]


def _link(acting: AttentionModule, module: AttentionModule, computed: str) -> None:
    """Have the module of a phase use the weights of the view's. computed: of q, k and v what it needs of a fused projection."""
    fused, picks = fused_parts(module)
    for name, own in list(acting._modules.items()):
        whole = module._modules.get(name)
        if name == fused and computed and computed != module.holds:
            kept = {one: partial(picks[_PROJECTIONS[one]], module) for one in computed}
            acting._modules[name] = _Cut(whole, kept, is_value_alone=not isinstance(own, Parts) and computed == "v")
        elif type(own) is type(whole):  # else it stands where a mechanism took something away
            acting._modules[name] = whole
    for held in ("_parameters", "_buffers"):
        if getattr(acting, held).keys() == getattr(module, held).keys():
            acting.__dict__[held] = getattr(module, held)


def _maker_of(module: AttentionModule, needed: str) -> AttentionModule:
    """A module that computes keys, values or both (`needed`), and nothing else: its family's forward is not run to its end."""
    maker = copy.copy(module)
    maker._modules = dict(module._modules)
    do_without(maker, _others(needed))
    _link(maker, module, needed)
    return maker


def _of_this_phase(module: AttentionModule, *args: Any, **kwargs: Any) -> Any:
    phase = call_of(kwargs.get("shared_attention")).phase
    acting, cache = module.acting[phase], kwargs.get(module.cache_name)
    acting.training = module.training
    if phase == "prefill" and cache is not None:
        rest = _rest(module, args, kwargs) if module.missing else (None, None)
        kwargs[module.cache_name] = InPlaceOfCache(cache, partial(_fill, module, rest))
    return vars(acting).get("_old_forward", acting.forward)(*args, **kwargs)


def _fill(
    module: AttentionModule,
    rest: tuple[torch.Tensor | None, torch.Tensor | None],
    cache: Cache | None,
    key: torch.Tensor,
    value: torch.Tensor,
) -> KeysAndValues:
    """What a layer attends to in prefill, of what it brings; its cache gets what decoding will read.

    rest: keys and values that the layer does not bring and that decoding will read.
    """
    assert cache is not None, "only with a cache"
    kept_key, kept_value = (one if made is None else made for made, one in zip(rest, (key, value), strict=True))
    if "v" not in module.caches:
        kept_key = kept_value = value[:, :1, :, :0]  # counts the tokens
    elif "k" not in module.caches:
        kept_key = kept_value[..., :0]
    held = cache.update(kept_key, kept_value, module.layer_idx)
    room = held[1].shape[2]  # of a static cache
    return (
        held[0] if "k" in module.caches else _padded(key, room),
        held[1] if "v" in module.caches else _padded(value, room),
    )


def _padded(states: torch.Tensor, tokens: int) -> torch.Tensor:
    """Keys or values with zeros behind them, which masks hide, up to so many tokens."""
    missing = tokens - states.shape[2]
    return states if missing <= 0 else nn.functional.pad(states, (0, 0, 0, missing))


def _rest(module: AttentionModule, args: tuple, kwargs: dict) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Keys and values that the layer does not compute for itself in prefill, as far as decoding will read them."""
    (maker,), missing = module.maker, module.missing
    if module.holds == "v":  # with nothing but values, its family's forward would not run
        return None, values_of(module, args[0] if args else kwargs["hidden_states"])
    maker.training = module.training
    try:
        type(maker).forward(maker, *args, **{**kwargs, module.cache_name: InPlaceOfCache(None, _stop)})
    except _Made as made:
        return made.key if "k" in missing else None, made.value if "v" in missing else None
    raise RuntimeError(
        f"Layer {module.layer_idx} of {type(module).__name__} asked for no cache, though it was given one."
    )


class _Made(Exception):
    """Ends the forward of a layer of which keys and values alone are wanted."""

    def __init__(self, key: torch.Tensor, value: torch.Tensor):
        super().__init__()
        self.key, self.value = key, value


def _stop(_cache: Cache | None, key: torch.Tensor, value: torch.Tensor) -> NoReturn:
    raise _Made(key, value)


class _Cut(nn.Module):
    """What a phase computes of a fused projection, cut from its weights as they are when it runs; zeros for the rest.

    picks: of q, k and v what takes it from the projection's outputs. is_value_alone: the values are all that comes out, as of
    a projection of values. One that is quantized, or has adapters, is run whole.
    """

    def __init__(self, projection: Any, picks: Mapping[str, Pick], is_value_alone: bool):
        super().__init__()
        self.projection, self.picks, self.is_value_alone = projection, dict(picks), is_value_alone

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        projection = self.projection
        if isinstance(projection, Parts):
            outputs = [projection.parts["qv".index(one)](hidden) for one in self.picks]
            width = projection.width
        elif is_weight_and_bias(projection):
            outputs = [_linear(projection, pick, hidden) for pick in self.picks.values()]
            width = projection.nf if isinstance(projection, Conv1D) else projection.out_features
        else:
            return self._values_of(projection(hidden)) if self.is_value_alone else projection(hidden)
        if self.is_value_alone:
            return outputs[0]
        whole = hidden.new_zeros(*hidden.shape[:-1], width, dtype=outputs[0].dtype)
        for pick, output in zip(self.picks.values(), outputs, strict=True):
            place = pick(whole.movedim(-1, 0))
            place.copy_(output.movedim(-1, 0).reshape(place.shape))
        return whole

    def _values_of(self, whole: torch.Tensor) -> torch.Tensor:
        values = self.picks["v"](whole.movedim(-1, 0))
        return (values if values.ndim == whole.ndim else values.flatten(0, 1)).movedim(0, -1)


def _linear(projection: Any, pick: Pick, hidden: torch.Tensor) -> torch.Tensor:
    """What `pick` takes of a projection's outputs, [..., outputs], without computing the others."""
    weight = pick(projection.weight.T if isinstance(projection, Conv1D) else projection.weight)
    bias = None if projection.bias is None else pick(projection.bias)
    return (linear_of_parts if weight.ndim == 3 else nn.functional.linear)(hidden, weight, bias)


def _generate(view: PreTrainedModel, *args: Any, **kwargs: Any) -> Any:
    """`generate` of a view whose phases differ. Raises ValueError for ways to write in which no phase decodes, or all do."""
    config = kwargs.get("generation_config") or view.generation_config
    if kwargs.get("use_cache", getattr(config, "use_cache", True)) is False:
        raise ValueError(
            f"Plan {getattr(view, 'sharing_plan', '')} has phases, and without a cache every step reads the whole text anew, as a prompt: "
            "generate with use_cache=True."
        )
    if kwargs.get("prefill_chunk_size", getattr(config, "prefill_chunk_size", None)):
        raise ValueError(
            f"Plan {getattr(view, 'sharing_plan', '')} has phases, and of a prompt in chunks only the first would be prefill: leave "
            "prefill_chunk_size out."
        )
    return cast(Any, type(view)).generate(view, *args, **kwargs)
