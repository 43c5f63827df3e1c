"""share_attention: a view of a decoder in which follower layers reuse their leader's attention weights.

Source: Liao & Vargas 2024, "Beyond KV Caching: Shared Attention for Efficient LLMs", arXiv 2407.12866.

A view is a new model object of the same class on the same parameter storage. Each forward call carries its own
`AttentionCall` through the layers as a keyword argument, so nothing outlives a call or reaches another thread.
"""

import copy
from collections.abc import Sequence
from contextvars import ContextVar
from functools import cache
from operator import index
from types import MethodType

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers import AttentionInterface, DynamicCache

from core.plan import SharingPlan
from core.sharing.cache import keep_values_only
from core.sharing.call import AttentionCall, weighted_values
from core.sharing.families import (
    CHECKED,
    SUPPORTED,
    attention_modules,
    check_same_kind,
    decoder_of,
    hands_keywords_on,
    has_attention_function,
    keep_values_alone,
    layers_of,
    output_of,
    static_cache_is_wrong,
    values_of,
    weighs_plainly,
)

EXECUTIONS = ("auto", "reuse", "recompute")

_LEADER = "shared_attention_leader"


def share_attention(model, plan: SharingPlan | str, head_map=None, execution: str = "auto"):
    """A view of `model` in which the followers of `plan` reuse their leader's attention weights.

    model: a transformers decoder; its outputs stay as they are, and no parameter is copied (a training step on the
        view changes the original too). The view is used like any transformers model of the same class.
    plan: a SharingPlan or its text. The empty plan gives a dense view.
    head_map: {follower: [leader head that each of its query heads reads]}; identity where nothing is given.
    execution: how followers get their output, for calls that do not pass `execution=` themselves.
        `reuse`: the leader's weights [batch, heads, queries, keys] are kept and multiplied with each follower's
        values. `recompute`: followers run the model's fused attention on the leader's queries and keys, so that no
        weights are stored. `auto`: reuse for single query tokens, for eager attention, under attention dropout (so
        that a span drops the same weights), and where the weights take at most REUSE_LIMIT_BYTES; else recompute.
        Families that compute attention in their own forward (BLOOM, GPT-J) always reuse: docs/families.md.

    Raises ValueError, in one sentence, for a plan or head map that does not fit the model and for families that are
    not supported.
    """
    modules = attention_modules(model)
    plan = SharingPlan.parse(plan, len(modules)) if isinstance(plan, str) else plan
    head_map = _as_integers(head_map or {})
    _check(model, plan, head_map, execution)
    if plan.spans and model.config.model_type not in CHECKED:
        _check_values(model)
    view = twin_of(model)
    _share(view, plan, head_map, execution)
    return view


def shared_class(model_class: type, plan: SharingPlan, head_map: dict[int, tuple[int, ...]]) -> type:
    """A class of models like `model_class` that are born as views, without the followers' queries and keys.

    `from_pretrained` of it loads the folder that a view was saved to. Raises ValueError, when a model is made, for a
    plan or head map that does not fit.
    """

    def __init__(self, config, *args, **kwargs):
        model_class.__init__(self, config, *args, **kwargs)
        _check(self, plan, head_map, "auto")
        _share(self, plan, head_map, "auto")

    members = {"__init__": __init__, "__module__": model_class.__module__, "like": model_class}
    return type(model_class.__name__, (model_class,), members)


def as_ordinary(model):
    """A model made by `shared_class`, as one of the class that it is like; other models as they are."""
    model.__class__ = getattr(type(model), "like", type(model))
    return model


def _share(view, plan: SharingPlan, head_map: dict[int, tuple[int, ...]], execution: str) -> None:
    view.sharing_plan, view.sharing_head_map = plan, head_map
    view.config.sharing_plan, view.config.sharing_head_map = str(plan), {str(k): list(v) for k, v in head_map.items()}
    if plan.spans:
        modules = attention_modules(view)
        for leader in plan.leaders:
            _make_leader(modules[leader], leader)
        for follower in plan.followers:
            _make_follower(modules[follower], follower, plan.leader_of(follower), head_map.get(follower))
        _install(view, plan.followers, execution)
        _carry(view, (*plan.leaders, *plan.followers))


def plan_of(model) -> SharingPlan:
    """The sharing plan a model runs with: a view's plan, or the dense plan."""
    return getattr(model, "sharing_plan", None) or SharingPlan((), decoder_of(model).config.num_hidden_layers)


def recording_view(model):
    """A view of `model` in which every layer that computes attention weights leaves them in the AttentionCall.

    Call its decoder with `shared_attention=AttentionCall(…, "reuse")` and read `weights` afterwards.
    """
    plan, view = plan_of(model), twin_of(model)
    modules = attention_modules(view)
    dense = [layer for layer in range(len(modules)) if layer not in plan.followers and layer not in plan.leaders]
    for layer in dense:
        _make_leader(modules[layer], layer)
    if not plan.spans:
        _install(view, (), "reuse")
    _carry(view, dense)
    return view


class _BeginCall:
    """Forward pre-hook of a view's decoder: a new AttentionCall for each call, and a cache without follower keys."""

    def __init__(self, followers: tuple[int, ...], execution: str, by_keyword: bool):
        self.followers, self.execution, self.by_keyword = followers, execution, by_keyword

    def __call__(self, decoder, args, kwargs):
        kwargs = (_asked.get() or {}) | kwargs
        execution = kwargs.pop("execution", None) or self.execution
        _check_execution(execution)
        call = kwargs.pop("shared_attention", None) or AttentionCall(decoder.config._attn_implementation, execution)
        if self.by_keyword:
            kwargs["shared_attention"] = call
        else:
            _running_call.set(call)
        cache = kwargs.get("past_key_values")
        if cache is None and self._makes_cache(decoder, kwargs.get("use_cache")):
            cache = kwargs["past_key_values"] = DynamicCache(config=decoder.config)
        if getattr(cache, "is_compileable", False) and static_cache_is_wrong(decoder.config):
            raise ValueError(
                f"This model of type {decoder.config.model_type!r} does not run right with a static cache, shared or "
                "dense: use the dynamic cache."
            )
        if cache is not None:
            keep_values_only(cache, self.followers)
        return args, kwargs

    @staticmethod
    def _makes_cache(decoder, use_cache: bool | None) -> bool:
        if decoder.training and getattr(decoder, "gradient_checkpointing", False):
            return False  # layers would run, and append to it, twice
        return decoder.config.use_cache if use_cache is None else use_cache


class _OfThisCall:
    """A value that one forward call sets and its layers read, without reaching other threads."""

    def __init__(self, name: str):
        self.of_thread, self.traced = ContextVar(name, default=None), None

    def get(self):
        """The value; None outside of a call."""
        return self.traced if torch.compiler.is_compiling() else self.of_thread.get()

    def set(self, value) -> None:
        """Set it for this call."""
        if torch.compiler.is_compiling():  # which knows no context variables, and traces one call at a time
            self.traced = value
        else:
            self.of_thread.set(value)


_running_call, _asked = _OfThisCall("running_call"), _OfThisCall("asked")


def _install(view, followers: tuple[int, ...], execution: str) -> None:
    decoder, by_keyword = decoder_of(view), hands_keywords_on(view)
    decoder.register_forward_pre_hook(_BeginCall(followers, execution, by_keyword), with_kwargs=True)
    if not by_keyword:
        view.register_forward_pre_hook(_ask, with_kwargs=True)
        decoder.register_forward_hook(_end_call, always_call=True)
    view.get_compiled_call = MethodType(_compiled_call, view)
    view.init_continuous_batching = _refuse_continuous_batching


def _carry(view, layers: Sequence[int]) -> None:
    """Have layers that lead or follow carry the AttentionCall, where their family drops our keyword arguments."""
    if hands_keywords_on(view):
        return
    for layer in map(layers_of(view).__getitem__, layers):
        layer.__class__ = _carrier(type(layer))
        _set_forward(layer, type(layer).forward)


def _compiled_call(view, compile_config):
    """`get_compiled_call` of a view, used by `generate`: followers' keys leave the cache before the compiled code."""
    compiled = type(view).get_compiled_call(view, compile_config)

    def call(*args, past_key_values=None, **kwargs):
        if past_key_values is not None:
            keep_values_only(past_key_values, plan_of(view).followers)
        return compiled(*args, past_key_values=past_key_values, **kwargs)

    return call


def _refuse_continuous_batching(*_, **__):
    raise ValueError(
        "Continuous batching does not work with attention sharing: its pages hold keys and values of equal size, and "
        "followers have no keys. Use `generate` with a padded batch."
    )


def _ask(_view, args, kwargs):
    """Forward pre-hook of a view that might not hand our keywords on to its decoder."""
    _asked.set({name: kwargs.pop(name) for name in ("execution", "shared_attention") if name in kwargs})
    return args, kwargs


def _end_call(*_) -> None:
    _running_call.set(None)
    _asked.set(None)


class _Carrier:
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


@cache
def _carrier(layer_class: type) -> type:
    return type(layer_class.__name__, (_Carrier, layer_class), {"__module__": layer_class.__module__})


def _set_forward(module: nn.Module, function) -> None:
    """Give one module another forward, within the hook of accelerate where it has one."""
    setattr(module, "_old_forward" if hasattr(module, "_old_forward") else "forward", MethodType(function, module))


def call_of(shared_attention: AttentionCall | None) -> AttentionCall:
    """The call that a layer belongs to, from the keyword argument, or from the context where a family drops keywords."""
    if (call := shared_attention or _running_call.get()) is None:
        raise RuntimeError("A layer that shares attention ran outside a call of its decoder: call the whole model.")
    return call


def _lead(module, query, key, value, attention_mask, shared_attention=None, **kwargs):
    return call_of(shared_attention).lead(module, query, key, value, attention_mask, **kwargs)


AttentionInterface.register(_LEADER, _lead)


def _make_leader(module: nn.Module, layer: int) -> None:
    module.layer_idx, module.weighs_plainly = layer, weighs_plainly(module)
    if not has_attention_function(module):
        _set_forward(module, _leader_forward)
        return
    # Only this module's attention function changes; masks are still made for the implementation of the model's config.
    module.config = copy.copy(module.config)
    module.config._attn_implementation_internal = _LEADER


def _leader_forward(module, *args, **kwargs):
    """A layer that computes attention in its own forward: it returns the weights, unless it leaves them to sdpa."""
    call = call_of(None)
    call.check_gradients()
    with _Sdpa(module, call):
        output, weights = type(module).forward(module, *args, **kwargs)
    if weights is not None:
        call.weights[module.layer_idx] = weights
    return output, call.weights.get(module.layer_idx)


class _Sdpa(TorchFunctionMode):
    """Within it, a layer's call of scaled_dot_product_attention is a leader's attention."""

    def __init__(self, module: nn.Module, call: AttentionCall):
        super().__init__()
        self.module, self.call = module, call

    def __torch_function__(self, function, types, args=(), kwargs=None):
        attend = self.attend if function is nn.functional.scaled_dot_product_attention else function
        return attend(*args, **(kwargs or {}))

    def attend(self, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
        """As torch.nn.functional.scaled_dot_product_attention; a missing mask is a causal one."""
        scaling = query.shape[-1] ** -0.5 if scale is None else scale
        output, _ = self.call.lead(self.module, query, key, value, attn_mask, dropout=dropout_p, scaling=scaling)
        return output.transpose(1, 2)


def _make_follower(module: nn.Module, layer: int, leader: int, head_map: Sequence[int] | None) -> None:
    keep_values_alone(module)
    module.layer_idx, module.leader = layer, leader
    module.head_map = None if head_map is None else list(head_map)
    if head_map is not None:
        module.num_key_value_groups = 1  # `follow` gives the fused function one key row per query head
    _set_forward(module, _follower_forward)


def _follower_forward(module, hidden_states, *args, shared_attention=None, **kwargs):
    value = values_of(module, hidden_states)
    cache = kwargs.get("past_key_values", kwargs.get("layer_past"))  # older families' name for it
    if cache is not None:
        _, value = cache.update(value[..., :0], value, module.layer_idx)
    output, weights = call_of(shared_attention).follow(module, value)
    return output_of(module, output.reshape(*hidden_states.shape[:-1], -1), *args), weights


def twin_of(model):
    """A copy of the module tree on the same parameter and buffer storage; config and generation config are copied."""
    memo = {id(parameter): _same_storage(parameter) for parameter in model.parameters()}
    memo |= {id(buffer): buffer for buffer in model.buffers()}
    memo |= {id(weights): weights for weights in _offloaded_weights(model)}
    compiled = model.__dict__.get("_compiled_call")  # generate() keeps the compiled forward of the original here
    if compiled is not None:
        memo[id(compiled)] = None
    view = copy.deepcopy(model, memo)
    view.__dict__.pop("_compiled_call", None)
    return view


def _offloaded_weights(model) -> list:
    """The maps from which accelerate's hooks bring in the weights of modules that are kept on the CPU or the disk."""
    hooks = [getattr(module, "_hf_hook", None) for module in model.modules()]
    hooks = [one for hook in hooks for one in getattr(hook, "hooks", (hook,))]
    return [hook.weights_map for hook in hooks if getattr(hook, "weights_map", None) is not None]


def _same_storage(parameter: nn.Parameter) -> nn.Parameter:
    if type(parameter) is not nn.Parameter:  # quantized weights carry their state in the parameter object
        return parameter
    twin = nn.Parameter(parameter.detach(), requires_grad=parameter.requires_grad)
    twin.__dict__.update(parameter.__dict__)
    return twin


def _check(model, plan: SharingPlan, head_map: dict[int, tuple[int, ...]], execution: str) -> None:
    _check_execution(execution)
    if plan_of(model).spans:
        raise ValueError(
            f"This model already shares attention with plan {plan_of(model)}: its followers have no query and key "
            "projections any more. Apply the plan to the dense model."
        )
    num_layers = len(attention_modules(model))
    if plan.num_layers != num_layers:
        raise ValueError(f"The plan is for a model of {plan.num_layers} layers; this model has {num_layers}.")
    for follower in plan.followers:
        check_same_kind(model, plan.leader_of(follower), follower)
    check_head_map(head_map, plan, decoder_of(model).config.num_attention_heads)


def _check_execution(execution: str) -> None:
    if execution not in EXECUTIONS:
        raise ValueError(f"There is no execution {execution!r}: choose one of {', '.join(EXECUTIONS)}.")


@torch.inference_mode()
def _check_values(model) -> None:
    """Refuse a family that the tests do not know when a follower would not do with its values what the layer itself does.

    A few tokens run through every layer; each layer's output is then made once more, from its weights and its values.
    """
    view, seen = recording_view(model).eval(), []
    for module in attention_modules(view):
        module.register_forward_hook(lambda *call: seen.append(call), with_kwargs=True)
    call = AttentionCall(decoder_of(view).config._attn_implementation, "reuse")
    tokens = torch.arange(4, device=model.device)[None] % decoder_of(model).config.vocab_size
    try:
        decoder_of(view)(input_ids=tokens, use_cache=False, shared_attention=call)
        equal = len(call.weights) == len(seen) and all(_equal_again(call, *one) for one in seen)
    except (AttributeError, KeyError, TypeError, RuntimeError):
        equal = False
    if not equal:
        raise ValueError(
            f"Models of type {model.config.model_type!r} are not supported yet: their attention layers do more than "
            f"weigh projected values. {SUPPORTED}"
        )


def _equal_again(call: AttentionCall, module, args, kwargs, output) -> bool:
    hidden = args[0] if args else kwargs["hidden_states"]
    keep_values_alone(module)
    attended = weighted_values(call.weights[module.layer_idx], values_of(module, hidden))
    again = output_of(module, attended.reshape(*hidden.shape[:-1], -1), *args[1:])
    tolerance = 20 * torch.finfo(again.dtype).eps * output[0].abs().max()
    return bool((again - output[0]).abs().max() <= tolerance)


def _as_integers(head_map) -> dict[int, tuple[int, ...]]:
    try:
        return {index(layer): tuple(map(index, heads)) for layer, heads in head_map.items()}
    except (AttributeError, TypeError) as error:
        raise ValueError(
            "A head map is a dict from followers to lists of leader heads, all of them integers, such as "
            f"{{2: [0, 1, 1, 3]}}; this one is {head_map!r}."
        ) from error


def check_head_map(head_map: dict[int, tuple[int, ...]], plan: SharingPlan, num_heads: int) -> None:
    """Raise ValueError when a head map names a layer that is no follower, or heads that the leader does not have."""
    for layer, heads in head_map.items():
        if layer not in plan.followers:
            raise ValueError(
                f"The head map names layer {layer}, which is no follower of plan {plan.name}; "
                f"followers: {', '.join(map(str, plan.followers)) or 'none'}."
            )
        if len(heads) != num_heads or not all(isinstance(h, int) and 0 <= h < num_heads for h in heads):
            raise ValueError(
                f"The head map of layer {layer} must list one leader head from 0 to {num_heads - 1} for each of its "
                f"{num_heads} heads; it is {list(heads)}."
            )
