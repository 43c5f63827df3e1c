"""Two models on one storage: what a view's parameters, buffers and quantized weights have in common with the original's.

Modules keep more than parameters: quantized layers hold scales and packed bytes, adapters note what they have merged into
the weights. What describes the common bytes has to be common too, and whatever a layer makes out of its weights in its
first call is made before there are two of it: else the second one finds its weights used up.
"""

import copy
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar, cast

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from transformers import PreTrainedModel

Model = TypeVar("Model", bound=PreTrainedModel)


@torch.inference_mode(False)  # a view made within inference is for every use
def twin_of(model: Model) -> Model:
    """A copy of the module tree on the same parameter and buffer storage; config and generation config are copied."""
    settle(model)
    memo: dict[int, Any] = {id(parameter): _same_storage(parameter) for parameter in model.parameters()}
    memo |= {id(one): one for one in _common(model)}
    compiled = model.__dict__.get("_compiled_call")  # generate() keeps the compiled forward of the original here
    if compiled is not None:
        memo[id(compiled)] = None
    with _TensorsStay():
        view = copy.deepcopy(model, memo)
    view.__dict__.pop("_compiled_call", None)
    return view


@torch.no_grad()
def settle(model: nn.Module) -> None:
    """Have quantized layers do now what they else do in their first call, so that no later call changes their weights.

    bitsandbytes moves the 8-bit weights' scales from the parameter into the layer, and packs 4-bit weights anew on some
    CPUs: afterwards another layer on the same parameter would read them as something that they are not.
    """
    for module in model.modules():
        weight = module._parameters.get("weight")
        if isinstance(module, nn.Linear) and _holds_own_state(weight) and not vars(weight).get("settled"):
            _call_once(module)
            vars(weight)["settled"] = True


def _holds_own_state(tensor: torch.Tensor | None) -> bool:
    """Whether a parameter is of a class of its own and carries, beside its data, how to read them."""
    if tensor is None or type(tensor) in (nn.Parameter, torch.Tensor) or is_traceable_wrapper_subclass(tensor):
        return False
    return tensor.device.type != "meta"


def _call_once(module: nn.Linear) -> None:
    """Run a layer on one row of zeros, past its hooks; the dtype that it computes in stays open if it was."""
    before = {name: value for name, value in vars(module).items() if name.startswith("compute_")}
    dtype = (None if module.bias is None else module.bias.dtype) or before.get("compute_dtype") or torch.float32
    type(module).forward(module, torch.zeros(1, module.in_features, dtype=dtype, device=module.weight.device))
    vars(module).update(before)
    state: Any = getattr(module, "state", None)
    if hasattr(module.weight, "SCB") and getattr(state, "SCB", None) is not None:
        module.weight.SCB = state.SCB  # where `to` and the hash of the weights look for it


def _common(model: PreTrainedModel) -> list:
    """What both models hold as the same object: buffers, packed weights, offloaded ones, what adapters change."""
    found: list[Any] = [*model.buffers()]
    for module in model.modules():
        found += [one for one in vars(module).values() if isinstance(one, torch.ScriptObject)]  # dynamic quantization
        found += _offloaded_weights(module)
        if isinstance(merged := getattr(module, "merged_adapters", None), list):
            found += [merged, *cast(Any, module).get_base_layer().parameters()]
    return found


def _offloaded_weights(module: nn.Module) -> list:
    """The maps from which accelerate's hooks bring in the weights of a module that is kept on the CPU or the disk."""
    hook: Any = getattr(module, "_hf_hook", None)
    hooks = getattr(hook, "hooks", (hook,))
    return [one.weights_map for one in hooks if getattr(one, "weights_map", None) is not None]


def _same_storage(parameter: nn.Parameter) -> nn.Parameter:
    if type(parameter) is not nn.Parameter and not is_traceable_wrapper_subclass(parameter):
        return parameter  # its state describes its data: both go together
    twin = nn.Parameter(parameter.detach(), requires_grad=parameter.requires_grad)
    if type(parameter) is nn.Parameter:
        twin.__dict__.update(parameter.__dict__)
    return twin


class _TensorsStay(TorchFunctionMode):
    """Within it, a deep copy refers to the tensors of the original: scales, or weights that hooks have computed."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.Tensor.__deepcopy__:
            return args[0]
        return function(*args, **(kwargs or {}))


def stored_tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, plain tensor) of all that a model's weights are made of, in an order that no earlier call changes.

    Of a quantized weight its packed numbers, scales and offsets, wherever its library keeps them; buffers that are saved
    with the weights count as such.
    """
    settle(model)
    for name, parameter in sorted(model.named_parameters()):
        yield from _parts(name, parameter)
    for name, module in sorted(model.named_modules()):
        saved = {key: value for key, value in module._buffers.items() if key not in module._non_persistent_buffers_set}
        packed = {key: value for key, value in vars(module).items() if isinstance(value, torch.ScriptObject)}
        yield from _parts(name, saved | packed)


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all that a model's weights are made of: of quantized ones their integers and scales, tied ones once."""
    return sum(tensor.numel() * tensor.element_size() for _, tensor in stored_tensors(model))


def _parts(name: str, held: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """The plain tensors in what a model holds: a tensor of any class, or tensors in containers and states."""
    inner: dict[str, Any] = {}
    if isinstance(held, torch.Tensor):
        if is_traceable_wrapper_subclass(held):
            inner = {key: getattr(held, key) for key in held.__tensor_flatten__()[0]}
        else:
            yield from _of_tensor(name, held)
            inner = vars(held) if _holds_own_state(held) else {}
    elif isinstance(held, torch.ScriptObject):
        inner = _numbered(cast(Any, held).__getstate__()[0])
    elif isinstance(held, dict):
        inner = held
    elif isinstance(held, list | tuple):
        inner = _numbered(held)
    elif not isinstance(held, nn.Module | type):
        inner = getattr(held, "__dict__", {})
    for key, value in sorted(inner.items()):
        yield from _parts(f"{name}.{key}", value)


def _numbered(held: Iterable) -> dict[str, Any]:
    return {str(index): value for index, value in enumerate(held)}


def _of_tensor(name: str, tensor: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    if not tensor.is_quantized:
        yield name, tensor.detach()
        return
    yield name, tensor.int_repr()
    per_channel = tensor.qscheme() in (torch.per_channel_affine, torch.per_channel_symmetric)
    scales = tensor.q_per_channel_scales() if per_channel else torch.tensor(tensor.q_scale())
    zeros = tensor.q_per_channel_zero_points() if per_channel else torch.tensor(tensor.q_zero_point())
    yield from ((f"{name}.scale", scales), (f"{name}.zero_point", zeros))
