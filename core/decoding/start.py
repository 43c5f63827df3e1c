"""Which decoder a model gets: on a GPU recorded steps, on a CPU compiled or lean ones, else the model's own forward."""

import logging
from collections.abc import Iterator, Sequence
from weakref import WeakKeyDictionary

import torch
from transformers import PreTrainedModel

from core.decoding import compiler
from core.decoding.compiled import CompiledDecoder, check_compiled
from core.decoding.eager import Decoder, check_positions
from core.decoding.graph import GraphDecoder
from core.decoding.lean import LeanDecoder
from core.decoding.recipe import Recipe, recipe_of
from core.decoding.steps import StepDecoder, agrees
from core.sharing.families import learned_positions

_log = logging.getLogger(__name__)

PATHS = ("compiled", "lean", "eager")
"""Of a CPU, the fastest first."""

_UNKNOWN = (AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What comes of reading or running a model that has not what models of its family have."""

_tried: WeakKeyDictionary[PreTrainedModel, dict[tuple, bool]] = WeakKeyDictionary()
"""Which steps of a model agree with its own forward."""


def start_decoding(
    model: PreTrainedModel,
    batch_size: int,
    max_tokens: int,
    like: Decoder | None = None,
    paths: Sequence[str] = PATHS,
    wait_s: float = compiler.PATIENCE_S,
) -> Decoder:
    """The fastest decoder for `model`, dense or a view, on its device; the log says why steps on a GPU are not recorded.

    batch_size: rows, all of one length. max_tokens: room for the prompt and all new tokens of a row. like: see
    GraphDecoder. paths: of PATHS those that steps on a CPU may take, beside the model's own forward. wait_s: seconds that
    a machine's first compiled step may wait for the compiler. Raises ValueError for more tokens than the model has learned
    positions.
    """
    check_positions(model, max_tokens, learned_positions(model))
    if model.device.type == "cuda":
        return _recorded(model, batch_size, max_tokens, like)
    if model.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return Decoder(model)
    try:
        recipe = recipe_of(model)
    except _UNKNOWN as reason:
        _log.debug("%s", reason)
        return Decoder(model)
    if {device.type for device in recipe.devices} != {"cpu"}:
        return Decoder(model)
    for decoder in _steps(model, recipe, batch_size, max_tokens, paths, wait_s):
        if _can_be_trusted(decoder):
            return decoder
    return Decoder(model)


def alike(decoders: Sequence[Decoder], batch_size: int, max_tokens: int) -> list[Decoder]:
    """Decoders that are timed beside each other: on a CPU all of them take the slowest path of any, so that plans are compared."""
    if not all(decoder.path in PATHS and decoder.model.device.type == "cpu" for decoder in decoders):
        return list(decoders)
    allowed = PATHS[max(PATHS.index(decoder.path) for decoder in decoders) :]
    again = [
        decoder if decoder.path in allowed else start_decoding(decoder.model, batch_size, max_tokens, paths=allowed)
        for decoder in decoders
    ]
    return again if len({decoder.path for decoder in again}) == 1 else [Decoder(decoder.model) for decoder in again]


def _recorded(model: PreTrainedModel, batch_size: int, max_tokens: int, like: Decoder | None) -> Decoder:
    for plain in (None, False):  # where plain steps fail, the model's own code may still be recorded
        try:
            return GraphDecoder(model, batch_size, max_tokens, like=like, plain=plain)
        except torch.OutOfMemoryError:
            raise
        except (ImportError, ValueError, RuntimeError) as reason:
            why = str(reason).splitlines()[0]
    _log.warning("Steps are not recorded: %s", why)
    return Decoder(model)


def _steps(
    model: PreTrainedModel, recipe: Recipe, batch_size: int, max_tokens: int, paths: Sequence[str], wait_s: float
) -> Iterator[StepDecoder]:
    """The decoders of a recipe, the fastest first."""
    if "compiled" in paths:
        try:
            check_compiled(recipe, batch_size)
            if library := compiler.library(wait_s):
                yield CompiledDecoder(model, recipe, max_tokens, library)
        except (MemoryError, ValueError) as reason:
            _log.debug("%s", reason)
    if "lean" in paths:
        yield LeanDecoder(model, recipe, max_tokens)


def _can_be_trusted(decoder: StepDecoder) -> bool:
    """`agrees`, tried once for a model with the same weights in the same places."""
    tried, mark = _tried.setdefault(decoder.model, {}), (decoder.path, *decoder.recipe.mark)
    if mark not in tried:
        try:
            tried[mark] = agrees(decoder)
        except _UNKNOWN as reason:
            _log.debug("%s", reason)
            tried[mark] = False
        if not tried[mark]:
            _log.info(
                "Steps of this %s are not %s: their logits differ.", decoder.model.config.model_type, decoder.path
            )
    return tried[mark]
