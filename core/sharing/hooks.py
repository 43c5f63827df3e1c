"""How an AttentionCall begins, travels through the layers of a view, and ends.

A forward pre-hook of the decoder makes it. Layers get it as a keyword argument; in families that drop keyword arguments,
layer classes of our own carry it past the layers' forward.
"""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import cache, partial
from typing import Any, NoReturn

import torch
from torch import nn
from transformers import Cache, DynamicCache, PreTrainedModel

from core.plan import Phase
from core.sharing.cache import keep_nothing, keep_values_only
from core.sharing.call import AttentionCall, check_execution
from core.sharing.families import decoder_of, hands_keywords_on, is_wrapped, layers_of, static_cache_is_wrong


def install(
    view: PreTrainedModel,
    followers: tuple[int, ...],
    execution: str,
    nothing: tuple[int, ...] = (),
    has_phases: bool = False,
) -> None:
    """Have each forward call of the view's decoder begin with an AttentionCall and a cache without what layers do not need.

    followers: layers that store values only. nothing: layers that store neither keys nor values. has_phases: layers do other
    things in prefill than in decoding, so that each call has to know which of them it is.
    """
    decoder, by_keyword = decoder_of(view), hands_keywords_on(view)
    begin = _BeginCall(followers, execution, by_keyword, nothing)
    begin.has_phases = has_phases
    decoder.register_forward_pre_hook(begin, with_kwargs=True)
    if not by_keyword or is_wrapped(view):
        view.register_forward_pre_hook(_ask, with_kwargs=True)
        decoder.register_forward_hook(_end_call, always_call=True)
    vars(view).update(
        get_compiled_call=partial(_compiled_call, begin.prepare, view),
        init_continuous_batching=_refuse_continuous_batching,
    )


def carry(view: PreTrainedModel, layers: Sequence[int]) -> None:
    """Have layers that lead or follow carry the AttentionCall, where their family drops our keyword arguments."""
    if hands_keywords_on(view):
        return
    for layer in map(layers_of(view).__getitem__, layers):
        if not isinstance(layer, _Carrier):
            layer_class: type = type(layer)
            layer.__class__ = _carrier(layer_class)
            set_forward(layer, _carry)


def call_of(shared_attention: AttentionCall | None) -> AttentionCall:
    """The call that a layer belongs to, from the keyword argument, or from the context where a family drops keywords."""
    if (call := shared_attention or _running_call.get()) is None:
        raise RuntimeError("A layer that shares attention ran outside a call of its decoder: call the whole model.")
    return call


def set_forward(module: nn.Module, function: Callable) -> None:
    """Give one module another forward, within the hook of accelerate where it has one."""
    # A partial and no bound method: pickle would look up a method of this name in the module's own class.
    setattr(module, "_old_forward" if hasattr(module, "_old_forward") else "forward", partial(function, module))


class _OfThisCall:
    """A value that one forward call sets and its layers read, without reaching other threads."""

    def __init__(self, name: str):
        self.of_thread: ContextVar[Any] = ContextVar(name, default=None)
        self.traced: Any = None

    def get(self) -> Any:
        """The value; None outside of a call."""
        return self.traced if torch.compiler.is_compiling() else self.of_thread.get()

    def set(self, value: Any) -> None:
        """Set it for this call."""
        if torch.compiler.is_compiling():  # which knows no context variables, and traces one call at a time
            self.traced = value
        else:
            self.of_thread.set(value)


_running_call, _asked = _OfThisCall("running_call"), _OfThisCall("asked")


def keep_key_width(view: PreTrainedModel, key_width: int) -> None:
    """Have the caches of a view's followers hold keys of this width: the rank of its corrections, or 0."""
    for hook in decoder_of(view)._forward_pre_hooks.values():
        if isinstance(hook, _BeginCall):
            hook.key_width = key_width


class _BeginCall:
    """Forward pre-hook of a view's decoder: a new AttentionCall for each call, and a cache without follower keys."""

    key_width = 0
    has_phases = False

    def __init__(self, followers: tuple[int, ...], execution: str, by_keyword: bool, nothing: tuple[int, ...] = ()):
        self.followers, self.execution, self.by_keyword, self.nothing = followers, execution, by_keyword, nothing

    def __call__(self, decoder, args, kwargs):
        kwargs = (_asked.get() or {}) | kwargs
        execution = kwargs.pop("execution", None) or self.execution
        check_execution(execution)
        call = kwargs.pop("shared_attention", None) or AttentionCall(
            decoder.config._attn_implementation, execution, _shows_weights(decoder, kwargs)
        )
        if self.by_keyword:
            kwargs["shared_attention"] = call
        else:
            _running_call.set(call)
        self._prepare_cache(decoder, kwargs)
        if self.has_phases:
            call.phase = _phase_of(kwargs.get("past_key_values"))
        return args, kwargs

    def _prepare_cache(self, decoder, kwargs: dict) -> None:
        cache = kwargs.get("past_key_values")
        if cache is None and self._makes_cache(decoder, kwargs.get("use_cache")):
            cache = kwargs["past_key_values"] = DynamicCache(config=decoder.config)
        if getattr(cache, "is_compileable", False) and static_cache_is_wrong(decoder.config):
            raise ValueError(
                f"This model of type {decoder.config.model_type!r} does not run right with a static cache, shared or "
                "dense: use the dynamic cache."
            )
        if cache is not None:
            self.prepare(cache)

    def prepare(self, cache: Cache) -> None:
        """Have a cache hold what this view's layers need."""
        keep_values_only(cache, self.followers, self.key_width)
        if self.nothing:
            keep_nothing(cache, self.nothing)

    @staticmethod
    def _makes_cache(decoder, use_cache: bool | None) -> bool:
        if decoder.training and getattr(decoder, "gradient_checkpointing", False):
            return False  # layers would run, and append to it, twice
        return decoder.config.use_cache if use_cache is None else use_cache


def _phase_of(cache: Cache | None) -> Phase:
    """Prefill where there is no cache or an empty one, else decoding, however many tokens come; see `core.plan.phases`."""
    first: Any = cache.layers[0] if cache is not None and cache.layers else None
    if cache is None or first is None or not first.is_initialized:
        return "prefill"
    if torch.compiler.is_compiling() and cache.is_compileable:  # its length is a tensor; `generate` compiles no prefill
        return "decode"
    return "decode" if int(cache.get_seq_length()) else "prefill"


def _shows_weights(decoder: PreTrainedModel, kwargs: dict) -> bool:
    """Whether a call of the decoder asks for attention weights; transformers would return those that there happen to be."""
    asked = kwargs.get("output_attentions")
    return bool(getattr(decoder.config, "output_attentions", False) if asked is None else asked)


def _ask(_view, args, kwargs):
    """Forward pre-hook of a view that might not hand our keywords on to its decoder."""
    _asked.set({name: kwargs.pop(name) for name in ("execution", "shared_attention") if name in kwargs})
    return args, kwargs


def _end_call(*_) -> None:
    _running_call.set(None)
    _asked.set(None)


class _Carrier(nn.Module):
    """Mixed into decoder layers that do not hand keyword arguments on: carries the AttentionCall past their forward.

    It comes in as a keyword argument of the layer, which gradient checkpointing keeps for the second run.
    """

    def __call__(self, *args, shared_attention=None, **kwargs):
        return super().__call__(*args, shared_attention=shared_attention or _running_call.get(), **kwargs)

    def forward(self, *args, shared_attention=None, **kwargs):
        """The layer's own forward, during which `_running_call` is `shared_attention`."""
        before = _running_call.get()
        _running_call.set(shared_attention)
        try:
            return super().forward(*args, **kwargs)
        finally:
            _running_call.set(before)

    def __reduce__(self) -> tuple:
        return _empty_carrier, (type(self).__mro__[2],), self.__dict__


def _carry(layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
    return type(layer).forward(layer, *args, **kwargs)


@cache
def _carrier(layer_class: type) -> type:
    return type(layer_class.__name__, (_Carrier, layer_class), {"__module__": layer_class.__module__})


def _empty_carrier(layer_class: type) -> nn.Module:
    """What pickle and deepcopy fill again: the class is made while the program runs, so that it has no name to find."""
    carrier: type[nn.Module] = _carrier(layer_class)
    return carrier.__new__(carrier)


def _compiled_call(prepare: Callable[[Cache], None], view: PreTrainedModel, compile_config) -> Callable:
    """`get_compiled_call` of a view, used by `generate`: what layers do not need leaves the cache before the compiled code."""
    compiled = type(view).get_compiled_call(view, compile_config)

    def call(*args, past_key_values=None, **kwargs):
        if past_key_values is not None:
            prepare(past_key_values)
        return compiled(*args, past_key_values=past_key_values, **kwargs)

    return call


def _refuse_continuous_batching(*_, **__) -> NoReturn:
    raise ValueError(
        "Continuous batching does not work with attention sharing: its pages hold keys and values of equal size, and "
        "followers have no keys. Use `generate` with a padded batch."
    )
