"""share_attention: a view of a decoder in which follower layers reuse their leader's attention weights.

Source: Liao & Vargas 2024, "Beyond KV Caching: Shared Attention for Efficient LLMs", arXiv 2407.12866.

A view is a new model object of the same class on the same parameter storage. Each forward call carries its own
`AttentionCall` through the layers as a keyword argument, so nothing outlives a call or reaches another thread.
"""

import copy
from collections.abc import Sequence
from contextvars import ContextVar
from types import MethodType

import torch
from torch import nn
from torch.nn.attention.flex_attention import BlockMask, create_mask
from transformers import AttentionInterface, DynamicCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from core.cache import keep_values_only
from core.families import (
    CHECKED,
    KEEPS_KEYWORDS,
    PLAIN_SOFTMAX,
    SUPPORTED,
    attention_modules,
    check_same_kind,
    decoder_of,
    eager_attention,
    output_of,
    remove_query_and_key,
    values_of,
)
from core.plan import SharingPlan

EXECUTIONS = ("auto", "reuse", "recompute")
# In `auto`, a prompt's attention weights are kept when they take at most this much memory per leader.
REUSE_LIMIT_BYTES = 64 * 2**20

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

    Raises ValueError, in one sentence, for a plan or head map that does not fit the model and for families that are
    not supported.
    """
    modules = attention_modules(model)
    plan = SharingPlan.parse(plan, len(modules)) if isinstance(plan, str) else plan
    head_map = {int(layer): tuple(heads) for layer, heads in (head_map or {}).items()}
    _check(model, plan, head_map, execution)
    if plan.spans and model.config.model_type not in CHECKED:
        _check_values(model)
    view = twin_of(model)
    view.sharing_plan, view.sharing_head_map = plan, head_map
    view.config.sharing_plan, view.config.sharing_head_map = str(plan), {str(k): list(v) for k, v in head_map.items()}
    if plan.spans:
        modules = attention_modules(view)
        for leader in plan.leaders:
            _make_leader(modules[leader])
        for follower in plan.followers:
            _make_follower(modules[follower], plan.leader_of(follower), head_map.get(follower))
        _install(view, _BeginCall(plan.followers, execution))
    return view


def plan_of(model) -> SharingPlan:
    """The sharing plan a model runs with: a view's plan, or the dense plan."""
    return getattr(model, "sharing_plan", None) or SharingPlan((), model.config.num_hidden_layers)


def recording_view(model):
    """A view of `model` in which every layer that computes attention weights leaves them in the AttentionCall.

    Call its decoder with `shared_attention=AttentionCall(…, "reuse")` and read `weights` afterwards.
    """
    plan, view = plan_of(model), twin_of(model)
    for layer, module in enumerate(attention_modules(view)):
        if layer not in plan.followers and layer not in plan.leaders:
            _make_leader(module)
    if not plan.spans:
        _install(view, _BeginCall((), "reuse"))
    return view


class AttentionCall:
    """What leaders leave for followers during one forward call of one view."""

    def __init__(self, implementation: str, execution: str):
        self.implementation, self.execution = implementation, execution
        self.grad_enabled = torch.is_grad_enabled()
        self.additive_mask = None  # (what it was made for, the mask that is added to the scores)
        self.weights: dict[int, torch.Tensor] = {}  # reuse: [batch, heads, queries, keys]
        self.inputs: dict[int, tuple] = {}  # recompute: (query, key, mask, keyword arguments of the attention function)

    def lead(self, module, query, key, value, mask, **kwargs):
        """A leader's attention; query [batch, heads, queries, head_dim], key and value [batch, kv_heads, keys, …]."""
        if torch.is_grad_enabled() != self.grad_enabled:
            raise ValueError(
                "Reentrant gradient checkpointing would lose the gradients that reach a leader from its followers: "
                'use gradient_checkpointing_enable({"use_reentrant": False}).'
            )
        if not self._reuses(module, query, key, kwargs.get("dropout", 0.0)):
            self.inputs[module.layer_idx] = (query, key, mask, kwargs)
            return self._fused(module, query, key, value, mask, kwargs)
        mask = self._mask(mask, query, key, kwargs.get("sliding_window"))
        if query.shape[2] > 1 or module.config.model_type not in PLAIN_SOFTMAX:
            output, weights = eager_attention(module)(module, query, key, value, mask, **kwargs)
        else:
            weights = _single_query_weights(module, query, key, mask, **kwargs)
            output = _weighted_values(weights, value)
        self.weights[module.layer_idx] = weights
        return output, weights

    def follow(self, module, value):
        """A follower's attention: its own values under its leader's weights, as (output, weights or None)."""
        if module.leader in self.weights:
            weights = self.weights[module.leader]
            weights = weights if module.head_map is None else weights[:, module.head_map]
            return _weighted_values(weights, value), weights
        if module.leader not in self.inputs:
            raise RuntimeError(
                f"Layer {module.layer_idx} reuses the attention of layer {module.leader}, which has not run in this "
                "call: run the view's decoder from its first layer."
            )
        query, key, mask, kwargs = self.inputs[module.leader]
        if module.head_map is not None:  # query heads may leave their KV group, so keys and values get one row a head
            groups = query.shape[1] // key.shape[1]
            query, key = query[:, module.head_map], key.repeat_interleave(groups, 1)[:, module.head_map]
            value = value.repeat_interleave(groups, 1)
        return self._fused(module, query, key, value, mask, kwargs)

    def _mask(self, mask, query, key, sliding_window: int | None):
        """`_additive_mask`, made once for consecutive leaders with the same mask and lengths."""
        made_for = (id(mask), key.shape[2], sliding_window)
        if self.additive_mask is None or self.additive_mask[0] != made_for:
            made = _additive_mask(mask, query, key, self.implementation, sliding_window)
            self.additive_mask = (made_for, made)
        return self.additive_mask[1]

    def _fused(self, module, query, key, value, mask, kwargs):
        function = ALL_ATTENTION_FUNCTIONS.get_interface(self.implementation, eager_attention(module))
        return function(module, query, key, value, mask, **kwargs)

    def _reuses(self, module, query, key, dropout: float) -> bool:
        if self.execution != "auto":
            return self.execution == "reuse"
        if query.shape[2] == 1 or self.implementation == "eager" or dropout:
            return True
        weights_bytes = query.shape[0] * query.shape[1] * query.shape[2] * key.shape[2] * query.element_size()
        return self.implementation == "sdpa" and weights_bytes <= REUSE_LIMIT_BYTES


class _BeginCall:
    """Forward pre-hook of a view's decoder: a new AttentionCall for each call, and a cache without follower keys."""

    def __init__(self, followers: tuple[int, ...], execution: str):
        self.followers, self.execution = followers, execution

    def __call__(self, decoder, args, kwargs):
        execution = kwargs.pop("execution", None) or self.execution
        _check_execution(execution)
        kwargs.setdefault("shared_attention", AttentionCall(decoder.config._attn_implementation, execution))
        cache = kwargs.get("past_key_values")
        if cache is None and self._makes_cache(decoder, kwargs.get("use_cache")):
            cache = kwargs["past_key_values"] = DynamicCache(config=decoder.config)
        if cache is not None:
            keep_values_only(cache, self.followers)
        if decoder.config.model_type in KEEPS_KEYWORDS:
            _running_call.set(kwargs["shared_attention"])
        return args, kwargs

    @staticmethod
    def _makes_cache(decoder, use_cache: bool | None) -> bool:
        if decoder.training and getattr(decoder, "gradient_checkpointing", False):
            return False  # layers would run, and append to it, twice
        return decoder.config.use_cache if use_cache is None else use_cache


_running_call: ContextVar[AttentionCall | None] = ContextVar("running_call", default=None)


def _install(view, begin: _BeginCall) -> None:
    decoder_of(view).register_forward_pre_hook(begin, with_kwargs=True)
    if view.config.model_type in KEEPS_KEYWORDS:
        decoder_of(view).register_forward_hook(_end_call, always_call=True)
    view.get_compiled_call = MethodType(_compiled_call, view)
    view.init_continuous_batching = _refuse_continuous_batching


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


def _end_call(*_) -> None:
    _running_call.set(None)


def call_of(shared_attention: AttentionCall | None) -> AttentionCall:
    """The call that a layer belongs to, from the keyword argument, or from the context where a family drops keywords."""
    if (call := shared_attention or _running_call.get()) is None:
        raise RuntimeError(
            "A layer that shares attention ran outside a forward call of its decoder. Call the whole model; with "
            f"{' and '.join(sorted(KEEPS_KEYWORDS))} models, gradient checkpointing is not supported."
        )
    return call


def _lead(module, query, key, value, attention_mask, shared_attention=None, **kwargs):
    return call_of(shared_attention).lead(module, query, key, value, attention_mask, **kwargs)


AttentionInterface.register(_LEADER, _lead)


def _make_leader(module: nn.Module) -> None:
    # Only this module's attention function changes; masks are still made for the implementation of the model's config.
    module.config = copy.copy(module.config)
    module.config._attn_implementation_internal = _LEADER


def _make_follower(module: nn.Module, leader: int, head_map: Sequence[int] | None) -> None:
    remove_query_and_key(module)
    module.leader, module.head_map = leader, None if head_map is None else list(head_map)
    if head_map is not None:
        module.num_key_value_groups = 1  # `follow` gives the fused function one key row per query head
    module.forward = MethodType(_follower_forward, module)


def _follower_forward(module, hidden_states, *_, shared_attention=None, **kwargs):
    value = values_of(module, hidden_states)
    cache = kwargs.get("past_key_values", kwargs.get("layer_past"))  # GPT-NeoX has another name for it
    if cache is not None:
        _, value = cache.update(value[..., :0], value, module.layer_idx)
    output, weights = call_of(shared_attention).follow(module, value)
    return output_of(module, output.reshape(*hidden_states.shape[:-1], -1)), weights


def _single_query_weights(module, query, key, mask, scaling, dropout=0.0, **_):
    """Attention weights of one query token, [batch, heads, 1, keys], without repeating keys for each query head."""
    batch, heads, _, head_dim = query.shape
    packed = query.reshape(batch, key.shape[1], -1, head_dim)
    scores = torch.matmul(packed, key.transpose(2, 3)) * scaling
    scores = scores if mask is None else scores + mask
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    return nn.functional.dropout(weights, dropout, module.training).view(batch, heads, 1, -1)


def _weighted_values(weights, value):
    """weights [batch, heads, queries, keys] × value [batch, kv_heads, keys, d] → [batch, queries, heads, d]."""
    batch, heads, queries, keys = weights.shape
    groups = heads // value.shape[1]
    if queries == 1:  # query heads of a group side by side, so that values are read once
        output = torch.matmul(weights.reshape(batch, -1, groups, keys), value).view(batch, heads, 1, -1)
    else:  # the eager functions' own order of operations, to the bit
        output = torch.matmul(weights, value.repeat_interleave(groups, 1) if groups > 1 else value)
    return output.transpose(1, 2).contiguous()


def _additive_mask(mask, query, key, implementation: str, sliding_window: int | None):
    """The mask that eager attention adds to the scores, from the form that `implementation` takes; None: no mask."""
    queries, keys = query.shape[2], key.shape[2]
    if implementation == "eager" or (mask is None and queries == 1):
        return mask
    if isinstance(mask, BlockMask):  # of flex attention: a function of the indices
        visible = create_mask(mask.mask_mod, query.shape[0], 1, queries, keys, device=query.device)
    elif mask is not None and mask.dtype != torch.bool and mask.ndim == 4:
        return mask
    else:
        visible = _visible(mask, queries, keys, query.device, implementation, sliding_window)
    return torch.zeros_like(visible, dtype=query.dtype).masked_fill_(~visible, torch.finfo(query.dtype).min)


def _visible(mask, queries: int, keys: int, device, implementation: str, sliding_window: int | None):
    """Which key each query may see, bool and broadcastable to [batch, heads, queries, keys]."""
    if mask is not None and implementation == "sdpa":
        return mask
    # Fused functions that get no mask, or a mask of padded keys [batch, keys], apply the causal order themselves. In
    # sdpa that is only so in the first call on an empty cache, where query i sits at key i.
    offset = 0 if implementation == "sdpa" else keys - queries
    query_index = torch.arange(queries, device=device)[:, None] + offset
    key_index = torch.arange(keys, device=device)[None, :]
    visible = key_index <= query_index
    if sliding_window is not None and implementation != "sdpa":
        visible = visible & (key_index > query_index - sliding_window)
    return visible[None, None] if mask is None else visible[None, None] & mask[:, None, None, :].bool()


def twin_of(model):
    """A copy of the module tree on the same parameter and buffer storage; config and generation config are copied."""
    memo = {id(parameter): _same_storage(parameter) for parameter in model.parameters()}
    memo |= {id(buffer): buffer for buffer in model.buffers()}
    compiled = model.__dict__.get("_compiled_call")  # generate() keeps the compiled forward of the original here
    if compiled is not None:
        memo[id(compiled)] = None
    view = copy.deepcopy(model, memo)
    view.__dict__.pop("_compiled_call", None)
    return view


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
    check_head_map(head_map, plan, model.config.num_attention_heads)


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
    tokens = torch.arange(4, device=model.device)[None] % model.config.vocab_size
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
    attended = _weighted_values(call.weights[module.layer_idx], values_of(module, hidden))
    again = output_of(module, attended.reshape(*hidden.shape[:-1], -1))
    tolerance = 20 * torch.finfo(again.dtype).eps * output[0].abs().max()
    return bool((again - output[0]).abs().max() <= tolerance)


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
