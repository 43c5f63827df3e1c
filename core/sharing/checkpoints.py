"""Whether a checkpoint filled a model: nothing missing, which would be random, and nothing left over, which would be lost.

transformers fills what a checkpoint lacks with random weights, leaves out what the configuration has no place for, and
says so in a log. A model that is scored must be the one that was saved, so both are faults here.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from transformers import PreTrainedModel

from core.sharing.corrections import PARAMETERS
from core.sharing.families import attention_modules
from core.sharing.mechanisms import leaves_out
from core.sharing.view import plan_of

_WRAPPERS = r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\."
_DEPTH = 6  # from_pretrained applies each pattern once to a name; comments tell equal patterns apart
UNWRAPPING = dict.fromkeys(
    [*(f"{_WRAPPERS}(?#{depth})" for depth in range(_DEPTH)), r"^(?:module\.)+", r"^base_model\.model\."], ""
)
"""Names that torch.compile, FSDP, checkpointing, DeepSpeed, DataParallel and PEFT put into those of weights, as
`key_mapping` of `from_pretrained`: no model of transformers has them."""

_MASKS = re.compile(r"(^|\.)(masked_bias|causal_mask|inv_freq|position_ids)$")  # of older versions, made anew today
_SCALES = re.compile(r"\.[kvq]_scale$|\.(input|output)_scale$")  # of quantized caches and activations
_SHOWN = 3


def unwrapped(key: str) -> str:
    """The name of a weight without what wrappers added to it."""
    for pattern, without in UNWRAPPING.items():
        key = re.sub(pattern, without, key)
    return key


def is_wrapped(report: Mapping[str, Any]) -> bool:
    """Whether weights are missing and others are there under names that wrappers changed."""
    return bool(report["missing_keys"]) and any(unwrapped(key) != key for key in report["unexpected_keys"])


def check_unwrapping(model: PreTrainedModel, report: Mapping[str, Any], source: str) -> None:
    """Raises ValueError where a weight is there twice, under its own name and under a wrapper's: which one is meant?"""
    found = model.state_dict().keys() - set(report["missing_keys"])
    twice = sorted(key for key in report["unexpected_keys"] if unwrapped(key) != key and unwrapped(key) in found)
    if twice:
        raise ValueError(
            f"The weights of {source} hold {unwrapped(twice[0])} twice, also as {twice[0]}: keep one of the two."
        )


def check_complete(model: PreTrainedModel, report: Mapping[str, Any], source: str) -> None:
    """Raises ValueError, in one sentence, when a checkpoint does not make the model that its configuration describes.

    model: as `from_pretrained` made it. report: its loading info, of a load that ignored mismatched sizes. A follower
    has no queries and keys, so that these are not missing, and may be left over.
    """
    if mismatched := sorted(report["mismatched_keys"]):
        (key, stored, wanted), *others = mismatched
        more = f" (and {len(others)} more like it)" if others else ""
        raise ValueError(
            f"The weights of {source} do not fit its config.json: {key} is {_size(stored)} in the files and "
            f"{_size(wanted)} by the configuration{more}; give files that belong together."
        )
    if missing := sorted(report["missing_keys"], key=_in_order):
        others = sorted(report["unexpected_keys"], key=_in_order)
        instead = f", while they hold {_listed(others)} that it has no place for" if others else ""
        raise ValueError(
            f"The weights of {source} lack {_listed(missing)} of the {len(model.state_dict())} that its config.json asks "
            f"for, and would be filled up at random{instead}: give the complete folder, with the config.json that belongs "
            "to it."
        )
    if unused := sorted(_unused(model, report["unexpected_keys"]), key=_in_order):
        raise ValueError(
            f"The weights of {source} hold {_listed(unused)}, for which its config.json has no place, so that the model "
            "would not be the one that was saved: give the config.json that belongs to these weights."
        )
    if name := not_finite(model):
        raise ValueError(
            f"The weights of {source} are not all finite numbers: {name} holds NaN or infinity in "
            f"{str(model.dtype).removeprefix('torch.')}; give sound files, or a dtype of wider range such as float32."
        )


@torch.no_grad()
def not_finite(model: torch.nn.Module) -> str | None:
    """The name of the first parameter with NaN or an infinity in it; None where all are finite, as far as torch tells."""
    return next((name for name, one in model.named_parameters() if _is_plain(one) and not _all_finite(one)), None)


def _is_plain(parameter: torch.nn.Parameter) -> bool:
    """Whether torch can tell: numbers of 16 bits or more, in memory, and not quantized."""
    wide = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
    return type(parameter) is torch.nn.Parameter and parameter.dtype in wide and not parameter.is_meta


def _all_finite(parameter: torch.nn.Parameter) -> bool:
    extremes = torch.stack(torch.aminmax(parameter)) if parameter.numel() else parameter  # without a mask of its size
    return bool(extremes.isfinite().all())


def admit_untied(model: PreTrainedModel) -> None:
    """Let the configuration say so when the output layer has weights of its own in spite of it.

    A checkpoint that holds both, with different values, is not tied by `from_pretrained`; the next `tie_weights()`,
    which others call (lm-eval does), would replace the output layer by the embedding.
    """
    output, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    weights = [getattr(module, "weight", None) for module in (output, embedding)]
    if any(weight is None for weight in weights) or weights[0] is weights[1]:
        return
    for config in (model.config, model.config.get_text_config(decoder=True)):
        if getattr(config, "tie_word_embeddings", False):
            config.tie_word_embeddings = False


def _unused(model: PreTrainedModel, unexpected: Iterable[str]) -> set[str]:
    """Left-over weights of the decoder: of its layers, of layers that it does not have, of its embedding and head.

    What stands beside it, such as a vision tower or a value head, takes no part in its text. Quantized weights bring
    state of their own along; of such checkpoints only the layers beyond the last one count.
    """
    names = {module: name for name, module in model.named_modules()}
    attention = [names[module] for module in attention_modules(model)]
    layers = attention[0].partition(".0.")[0]
    outside = {
        name for module, name in names.items()
        if not name.startswith(layers) and next(module.parameters(recurse=False), None) is not None
    }  # fmt: skip
    quantized = getattr(model.config, "quantization_config", None) is not None

    def is_lost(key: str) -> bool:
        number, rest = _place_in(layers, key)
        if number is None:
            return not quantized and any(key.startswith(f"{name}.") for name in outside if name)
        if number >= len(attention):
            return number >= len(attention) + _predictors(model)
        return not quantized and not _may_be_left(model, f"{layers}.{number}.{rest}", attention[number], number)

    return {key for key in unexpected if is_lost(unwrapped(key))}


def _place_in(layers: str, key: str) -> tuple[int | None, str]:
    """(layer, name inside of it) of a weight; (None, name) of one in no layer. Folders of a bare decoder lack its name."""
    parts = layers.split(".")
    for start in range(len(parts)):
        if match := re.match(rf"{re.escape('.'.join(parts[start:]))}\.(\d+)\.(.+)", key):
            return int(match[1]), match[2]
    return None, key


def _predictors(model: PreTrainedModel) -> int:
    """Layers behind the last one that predict further tokens, which transformers does without."""
    config = model.config.get_text_config(decoder=True)
    return next((n for name in ("num_nextn_predict_layers", "num_mtp_layers") if (n := getattr(config, name, 0))), 0)


def _may_be_left(model: PreTrainedModel, key: str, attention: str, layer: int) -> bool:
    """Whether a layer is the same without this weight: a follower's queries, a mask of former days, a cache's scale."""
    of_follower = leaves_out(model, plan_of(model), layer, key, attention)
    if key.rpartition(".")[2] in PARAMETERS:  # a correction that the configuration does not name
        return False
    return of_follower or key == f"{attention}.bias" or bool(_MASKS.search(key) or _SCALES.search(key))


def _size(shape: Collection[int]) -> str:
    return " × ".join(map(str, shape)) or "a single number"


def _in_order(key: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in key.split(".")]


def _listed(keys: list[str]) -> str:
    """`2 tensors (a, b)`, the first few by name."""
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return f"{len(keys)} tensor{'s' if len(keys) > 1 else ''} ({', '.join(keys[:_SHOWN])}{more})"
