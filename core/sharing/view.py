"""share_attention: a view of a decoder in which follower layers reuse their leader's attention weights.

Source: Liao & Vargas 2024, "Beyond KV Caching: Shared Attention for Efficient LLMs", arXiv 2407.12866.

A view is a new model object of the same class on the same parameter storage. Each forward call carries its own
`AttentionCall` through the layers as a keyword argument, so nothing outlives a call or reaches another thread.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from operator import index
from typing import Any, TypeVar

import torch
from transformers import PreTrainedModel

from core.corrections import NONE, Corrections
from core.plan import HeadMap, SharingPlan, check_one_phase
from core.sharing.call import AttentionCall, check_execution, weighted_values
from core.sharing.corrections import attach, check_corrections
from core.sharing.families import (
    CHECKED,
    SUPPORTED,
    AttentionModule,
    attention_modules,
    check_kinds,
    check_windows,
    decoder_of,
    keep_values_alone,
    num_heads_of,
    num_layers_of,
    output_of,
    values_of,
    vocab_size_of,
)
from core.sharing.hooks import carry, install
from core.sharing.layers import make_follower, make_leader, watch
from core.sharing.mechanisms import check_parts, impose, stores_nothing, values_alone
from core.sharing.native import native_plan_of
from core.sharing.phases import by_phase
from core.sharing.storage import twin_of

Model = TypeVar("Model", bound=PreTrainedModel)


def share_attention(
    model: Model,
    plan: SharingPlan | str,
    head_map: Mapping[int, Sequence[int]] | None = None,
    execution: str = "auto",
    corrections: Corrections | None = None,
) -> Model:
    """A view of `model` in which the followers of `plan` reuse their leader's attention weights.

    A plan's other parts (`skip 5 7, kv 20-22`) are done by `core.sharing.mechanisms`, those of one phase (`17-22@decode`) by
    `core.sharing.phases`.

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
    corrections: what each follower is to learn (`core.sharing.corrections`). Their parameters are new ones, of the view
        alone, and change nothing before they are trained. Without followers there is nothing to correct.

    Raises ValueError, in one sentence, for a plan, a head map or corrections that do not fit the model and for families
    that are not supported.
    """
    modules = attention_modules(model)
    plan = SharingPlan.parse(plan, len(modules)) if isinstance(plan, str) else plan
    heads = _as_integers(head_map or {})
    corrections = corrections or NONE
    _check(model, plan, heads, execution, corrections)
    if plan and model.config.model_type not in CHECKED:
        _check_values(model)
    view = twin_of(model)
    _share(view, plan, heads, execution, corrections)
    if plan.parts and model.config.model_type not in CHECKED:
        _try_parts(view)
    return view


def shared_class(
    model_class: type[Model], plan: SharingPlan, head_map: HeadMap, corrections: Corrections = NONE
) -> type[Model]:
    """A class of models like `model_class` that are born as views, without the followers' queries and keys.

    `from_pretrained` of it loads the folder that a view was saved to. Raises ValueError, when a model is made, for a
    plan, head map or corrections that do not fit.
    """

    def __init__(self, config, *args, **kwargs):
        model_class.__init__(self, config, *args, **kwargs)
        _check(self, plan, head_map, "auto", corrections)
        _share(self, plan, head_map, "auto", corrections)

    members = {"__init__": __init__, "__module__": model_class.__module__, "like": model_class}
    return type(model_class.__name__, (model_class,), members)


def as_ordinary(model: Model) -> Model:
    """A model made by `shared_class`, as one of the class that it is like; other models as they are."""
    model.__class__ = getattr(type(model), "like", type(model))
    return model


def _share(
    view: PreTrainedModel, plan: SharingPlan, head_map: HeadMap, execution: str, corrections: Corrections
) -> None:
    vars(view).update(sharing_plan=plan, sharing_head_map=head_map)
    view.config.sharing_plan, view.config.sharing_head_map = str(plan), {str(k): list(v) for k, v in head_map.items()}
    if plan:
        # an alignment takes the place of the head map, and begins as it
        make = partial(_make_layers, head_map={} if corrections.alignment else head_map)
        by_phase(view, plan, make) if plan.phased else make(view, plan)
        install(view, values_alone(plan), execution, stores_nothing(plan), bool(plan.phased))
        carry(view, range(plan.num_layers))
        if corrections and plan.followers:
            attach(view, plan, head_map, corrections)


def _make_layers(view: PreTrainedModel, plan: SharingPlan, head_map: HeadMap) -> None:
    """Have each layer of a view do what a plan without phases says."""
    for layer, module in enumerate(attention_modules(view)):
        if layer in plan.followers:
            make_follower(module, layer, plan.leader_of(layer), head_map.get(layer))
        elif layer in plan.leaders:
            make_leader(module, layer)
        else:
            watch(module, layer)
    impose(view, plan)


def plan_of(model: PreTrainedModel) -> SharingPlan:
    """The sharing plan a model runs with: a view's plan, or the dense plan."""
    return getattr(model, "sharing_plan", None) or SharingPlan((), num_layers_of(model))


def recording_view(model: Model) -> Model:
    """A view of `model` in which every layer that computes attention weights leaves them in the AttentionCall.

    Call its decoder with `shared_attention=AttentionCall(…, "reuse")` and read `weights` afterwards.
    """
    check_one_phase(plan_of(model), "Looking at attention weights")
    plan, view = plan_of(model), twin_of(model)
    modules = attention_modules(view)
    selecting = [layer for part in plan.parts if part.mechanism == "topk" for layer in part.layers]
    roles = {*plan.followers, *plan.leaders, *plan.skipped, *selecting}
    dense = [layer for layer in range(len(modules)) if layer not in roles]
    for layer in dense:
        make_leader(modules[layer], layer)
    for layer in (*plan.leaders, *plan.followers, *selecting):  # corrected followers have weights of their own
        modules[layer].leaves_weights = modules[layer].records = True
    if not plan:
        install(view, (), "reuse")
    carry(view, dense)
    return view


def _check(
    model: PreTrainedModel, plan: SharingPlan, head_map: HeadMap, execution: str, corrections: Corrections
) -> None:
    check_execution(execution)
    if plan_of(model):
        raise ValueError(
            f"This model already shares attention with plan {plan_of(model)}: its followers have no query and key "
            "projections any more. Apply the plan to the dense model."
        )
    check_windows(model)
    num_layers = len(attention_modules(model))
    if plan.num_layers != num_layers:
        raise ValueError(f"The plan is for a model of {plan.num_layers} layers; this model has {num_layers}.")
    if native_plan_of(model):
        check_one_phase(plan, "A model that shares keys and values by itself")
    for of_phase in plan.phases:
        check_kinds(model, of_phase)
        check_parts(model, of_phase)
    if corrections:
        check_one_phase(plan, "Correcting followers")
    check_head_map(head_map, plan, num_heads_of(model))
    check_corrections(model, plan, corrections)


@torch.inference_mode()
def _check_values(model: PreTrainedModel) -> None:
    """Refuse a family that the tests do not know when a follower would not do with its values what the layer itself does.

    A few tokens run through every layer; each layer's output is then made once more, from its weights and its values.
    """
    view, seen = recording_view(model).eval(), []
    for module in attention_modules(view):
        module.register_forward_hook(lambda *call: seen.append(call), with_kwargs=True)
    call = AttentionCall(decoder_of(view).config._attn_implementation, "reuse")
    tokens = torch.arange(4, device=model.device)[None] % vocab_size_of(model)
    try:
        decoder_of(view)(input_ids=tokens, use_cache=False, shared_attention=call)
        equal = len(call.weights) == len(seen) and all(_equal_again(call, *one) for one in seen)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError):
        equal = False
    if not equal:
        raise ValueError(
            f"Models of type {model.config.model_type!r} are not supported yet: their attention layers do more than "
            f"weigh projected values. {SUPPORTED}"
        )


@torch.inference_mode()
def _try_parts(view: PreTrainedModel) -> None:
    """Refuse a family that the tests do not know when its layers do not meet what stands in for their cache."""
    was_training, tokens = view.training, torch.arange(4, device=view.device)[None] % vocab_size_of(view)
    try:
        decoder_of(view.eval())(input_ids=tokens, use_cache=False)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"Models of type {view.config.model_type!r} cannot do plan {plan_of(view).name}: their attention layers treat keys and "
            "values in a way of their own; share instead."
        ) from error
    finally:
        view.train(was_training)


def _equal_again(call: AttentionCall, module: AttentionModule, args, kwargs, output) -> bool:
    hidden = args[0] if args else kwargs["hidden_states"]
    keep_values_alone(module)
    attended = weighted_values(call.weights[module.layer_idx], values_of(module, hidden))
    again = output_of(module, attended.reshape(*hidden.shape[:-1], -1), *args[1:])
    tolerance = 20 * torch.finfo(again.dtype).eps * output[0].abs().max()
    return bool((again - output[0]).abs().max() <= tolerance)


def _as_integers(head_map: Any) -> HeadMap:
    try:
        return {index(layer): tuple(map(index, heads)) for layer, heads in head_map.items()}
    except (AttributeError, TypeError) as error:
        raise ValueError(
            "A head map is a dict from followers to lists of leader heads, all of them integers, such as "
            f"{{2: [0, 1, 1, 3]}}; this one is {head_map!r}."
        ) from error


def check_head_map(head_map: HeadMap, plan: SharingPlan, num_heads: int) -> None:
    """Raise ValueError when a head map names a layer that is no follower, or heads that the leader does not have."""
    followers = sorted({layer for of_phase in plan.phases for layer in of_phase.followers})
    for layer, heads in head_map.items():
        if layer not in followers:
            raise ValueError(
                f"The head map names layer {layer}, which is no follower of plan {plan.name}; "
                f"followers: {', '.join(map(str, followers)) or 'none'}."
            )
        if len(heads) != num_heads or not all(isinstance(h, int) and 0 <= h < num_heads for h in heads):
            raise ValueError(
                f"The head map of layer {layer} must list one leader head from 0 to {num_heads - 1} for each of its "
                f"{num_heads} heads; it is {list(heads)}."
            )
