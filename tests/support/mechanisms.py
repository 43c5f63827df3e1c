"""A slow, obvious reference for the mechanisms of a plan, independent of `core.sharing`.

The untouched model runs eagerly, whole texts at once; what a plan says is imposed on it from outside: on the output of a
layer's attention (`skip`), on what reaches the family's attention function or its softmax (all others), and, where a family
computes attention in its layers' own forward, on what the cache gives back (`kv`, `keys`).
"""

import re
import sys
from contextlib import ExitStack, contextmanager
from functools import partial
from unittest.mock import patch

import torch
from transformers import DynamicCache

NEVER = float("inf")


class Imposed:
    """What layers did and do while a plan is imposed. margin: the smallest distance between the weight that was the last
    to be chosen by `topk` and the first that was not; rounding decides below about 1e-6."""

    def __init__(self, plan):
        groups = [("share", group, 0) for group in plan.groups]
        groups += [(part.mechanism, part.layers, part.positions) for part in plan.parts if part.mechanism != "skip"]
        self.role = {layer: (name, leader, n) for name, (leader, *layers), n in groups for layer in layers}
        self.skipped = [layer for part in plan.parts if part.mechanism == "skip" for layer in part.layers]
        self.weights, self.held = {}, {}
        self.margin = NEVER

    def keys_and_values(self, layer, key, value):
        """What a layer attends to."""
        name, leader, _ = self.role.get(layer, ("", layer, 0))
        self.held[layer] = key, value
        if name == "kv":
            return self.held[leader]
        return (self.held[leader][0], value) if name == "keys" else (key, value)

    def allowed(self, layer, visible):
        """Bool [batch, 1, queries, keys]: where a layer may look; visible: what masks let it see, of the same shape."""
        name, leader, n = self.role.get(layer, ("", layer, 0))
        if name != "topk":
            return visible
        found = torch.zeros_like(visible)
        totals = self.weights[leader].double().sum(1)
        for row, query in torch.cartesian_prod(torch.arange(len(totals)), torch.arange(totals.shape[1])).tolist():
            seen = visible[row, 0, query].nonzero().flatten().tolist()
            total = totals[row, query].tolist()
            ranked = sorted(seen, key=lambda key: (-total[key], key))
            found[row, 0, query, ranked[:n]] = True
            if 0 < n < len(ranked):
                self.margin = min(self.margin, total[ranked[n - 1]] - total[ranked[n]])
        return found

    def used(self, layer, weights):
        """The weights that a layer uses, given those that it computed."""
        name, leader, _ = self.role.get(layer, ("", layer, 0))
        self.weights[layer] = self.weights[leader] if name == "share" else weights
        return self.weights[layer]


@contextmanager
def imposed(model, plan):
    """Within this context `model`, run eagerly without a cache of the caller's, does what `plan` says."""
    did, modules = Imposed(plan), attention_of(model)
    family = sys.modules[type(modules[0]).__module__]
    with ExitStack() as stack:
        for layer in did.skipped:
            stack.callback(modules[layer].register_forward_hook(_nothing, with_kwargs=True).remove)
        if "eager_attention_forward" in vars(family) and type(modules[0]).__name__ != "FalconAttention":
            attention = partial(_attention, did, modules, family.eager_attention_forward)
            stack.enter_context(patch.object(family, "eager_attention_forward", attention))
        else:
            stack.enter_context(_own_forwards(did, modules))
            stack.callback(model.register_forward_pre_hook(partial(_give_cache, did), with_kwargs=True).remove)
        yield did


def attention_of(model):
    """The attention module of each layer: the innermost one with a number in its name."""
    found = {}
    for name, module in model.named_modules():
        if (number := re.search(r"\.(\d+)\.", name)) and "Attention" in type(module).__name__:
            found[int(number[1])] = module
    return [found[layer] for layer in range(len(found))]


def _nothing(module, args, kwargs, output):
    attended = output[0]
    if type(module).__name__ == "BloomAttention":  # which returns its sum with the residual
        return (kwargs["residual"] if "residual" in kwargs else args[1]), *output[1:]
    return torch.zeros_like(attended), *output[1:]


def _attention(did, modules, eager, module, query, key, value, attention_mask, *args, **kwargs):
    layer, mask = modules.index(module), attention_mask
    key, value = did.keys_and_values(layer, key, value)
    lowest = torch.finfo(query.dtype).min
    if did.role.get(layer, ("",))[0] == "topk":
        visible = (mask > lowest / 2).expand(len(query), 1, -1, -1)
        mask = mask.masked_fill(visible & ~did.allowed(layer, visible), lowest)
    weights = did.used(layer, eager(module, query, key, value, mask, *args, **kwargs)[1])
    return (weights @ value.repeat_interleave(weights.shape[1] // value.shape[1], dim=1)).transpose(1, 2), weights


class _Cache(DynamicCache):
    """A cache for one call, which gives followers what they read."""

    def __init__(self, did):
        super().__init__()
        self.did = did

    def update(self, key, value, layer, *args, **kwargs):
        return self.did.keys_and_values(layer, *super().update(key, value, layer, *args, **kwargs))


def _give_cache(did, _module, args, kwargs):
    return args, kwargs | {"use_cache": True, "past_key_values": _Cache(did)}


@contextmanager
def _own_forwards(did, modules):
    """For families that compute attention in their own forward: every softmax in there is of attention scores."""
    softmax, running = torch.nn.functional.softmax, []

    def chosen(scores, *args, **kwargs):
        if not running:
            return softmax(scores, *args, **kwargs)
        visible = (scores > torch.finfo(scores.dtype).min / 4)[:, :1]
        allowed = did.allowed(running[-1], visible)
        scores = scores.masked_fill(~allowed & visible, torch.finfo(scores.dtype).min)
        return did.used(running[-1], softmax(scores, *args, **kwargs))

    def sdpa(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False):
        scores = query @ key.repeat_interleave(query.shape[1] // key.shape[1], 1).mT / query.shape[-1] ** 0.5
        visible = torch.ones_like(scores, dtype=torch.bool)
        if is_causal:
            visible = visible.tril()
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            visible = visible & attn_mask
        elif attn_mask is not None:
            visible, scores = visible & (attn_mask > torch.finfo(scores.dtype).min / 4), scores + attn_mask
        return chosen(scores.masked_fill(~visible, torch.finfo(scores.dtype).min), -1) @ value

    with ExitStack() as stack:
        for layer, module in enumerate(modules):
            stack.callback(module.register_forward_pre_hook(lambda *_, layer=layer: running.append(layer)).remove)
            stack.callback(module.register_forward_hook(lambda *_: running.clear()).remove)
        stack.enter_context(patch("torch.nn.functional.softmax", chosen))
        stack.enter_context(patch("torch.nn.functional.scaled_dot_product_attention", sdpa))
        yield


@contextmanager
def imposed_by_phase(model, plan, prompt_tokens):
    """Within this context `model`, run as for `imposed`, does for the first `prompt_tokens` tokens what `plan` says of prefill,
    and for those after them what it says of decoding: every layer attends twice, and the rows of either phase are kept.
    """
    phases, modules = [Imposed(plan.in_phase(phase)) for phase in ("prefill", "decode")], attention_of(model)
    now = _Now(phases[0])
    family = sys.modules[type(modules[0]).__module__]
    with ExitStack() as stack:
        if "eager_attention_forward" in vars(family) and type(modules[0]).__name__ != "FalconAttention":
            attention = partial(_attention, now, modules, family.eager_attention_forward)
            stack.enter_context(patch.object(family, "eager_attention_forward", attention))
        else:
            stack.enter_context(_own_forwards(now, modules))
            stack.callback(model.register_forward_pre_hook(partial(_give_cache, now), with_kwargs=True).remove)
        for layer, module in enumerate(modules):
            both = partial(_in_both_phases, now, phases, prompt_tokens, layer, module, module.forward)
            stack.enter_context(patch.object(module, "forward", both))
        yield phases


class _Now:
    """What is imposed at present."""

    def __init__(self, did):
        self.did = did

    def __getattr__(self, name):
        return getattr(self.did, name)


def _in_both_phases(now, phases, prompt_tokens, layer, module, forward, *args, **kwargs):
    outputs = []
    for now.did in phases:
        caches = {name: _Cache(now) for name in ("past_key_values", "layer_past") if kwargs.get(name) is not None}
        output = forward(*args, **kwargs | caches)
        outputs.append(_nothing(module, args, kwargs, output) if layer in now.did.skipped else output)
    (prompt, *others), (written, *_) = outputs
    return torch.cat([prompt[:, :prompt_tokens], written[:, prompt_tokens:]], dim=1), *others
