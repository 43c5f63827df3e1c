"""What parts of the page and endpoints for programs both ask for. Nothing here knows of either: data in, data out."""

import time
from collections import OrderedDict
from collections.abc import Collection, Generator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from app import asked, counted, plans, settings, text
from app.compute import compute, taking_turns
from app.line import Line
from app.registry import LoadedModel, LRUCache, View, get_model
from app.zero_gpu import BORROWED, on_gpu
from core.configs import context_tokens
from core.cost import ModelShape, bytes_of, known_shapes, savings_frame
from core.plan import SharingPlan
from core.tokens import prompt_ids

if TYPE_CHECKING:  # they import torch
    import torch
    from transformers import PreTrainedModel

    from core.decoding.batched import Wanted
    from core.decoding.generation import PairProgress

LOADED = "loaded"
"""The shape of the loaded model, among the names of well-known shapes."""
_CONTEXTS = 24  # points of a curve over context length
texts_line = Line(lambda: settings.server.texts_at_once, lambda: settings.server.texts_waiting)
"""Whoever wants texts of both models waits here for their turn."""
_matrices = LRUCache(settings.SIMILARITIES_IN_MEMORY)
_layer_weights = LRUCache(settings.LAYER_WEIGHTS_IN_MEMORY)
_together: OrderedDict[tuple[str, str, str, str], bool] = OrderedDict()
"""Models, plans, head maps and plans beside them that texts were written of, and whether several can be written as one batch."""


# Shapes and savings, predicted


def shape_of(choice: str, model_name: str) -> ModelShape:
    """The shape of the model `model_name` for `LOADED`, else the well-known one `choice`. ValueError for an unknown one."""
    if choice == LOADED:
        return ModelShape.from_config(get_model(model_name).model.config)
    if choice not in known_shapes():
        raise ValueError(f"There is no shape {choice!r}: use one of {', '.join(known_shapes())}.")
    return known_shapes()[choice]


def shape_choices() -> list[str | tuple[str, str]]:
    """What a choice of shapes offers, with words where the name is none: the loaded model, then the well-known ones."""
    return [(text.LOADED_SHAPE, LOADED), *known_shapes()]


def plan_for(view: View, shape: ModelShape) -> str:
    """The page's plan, carried to the depth of another shape."""
    return plans.scaled_plan(get_model(view["model"]).plan(view["plan"]), shape.num_layers).name


def longest_context(shape: ModelShape) -> int:
    """The most tokens that the model is made for; of one that does not say, as many as were usual."""
    return shape.max_context or 4096


def contexts_up_to(longest: int, chosen: int) -> list[int]:
    """Evenly spaced context lengths for the curves, the chosen one among them."""
    return sorted({chosen, *(max(1, longest * step // _CONTEXTS) for step in range(1, _CONTEXTS + 1))})


def savings(
    shape: ModelShape,
    plan: SharingPlan,
    batch: int,
    context: int,
    prompt: int,
    dtype: str,
    execution: str = "recompute",
) -> pd.DataFrame:
    """`core.cost.savings_frame` over context lengths, `context` among them. Raises ValueError for bad numbers."""
    contexts = contexts_up_to(max(longest_context(shape), context), context)
    return savings_frame(shape, plan, batch, contexts, prompt, bytes_of(dtype), execution)


# Attention of the dense model


class Similarity(NamedTuple):
    """How alike each two layers look at the first `tokens` of the `text_tokens` tokens of a text."""

    tokens: int
    text_tokens: int
    matrix: np.ndarray  # [layers, layers]


def similarity(model_name: str, source: str, method: str) -> Similarity:
    """`core.attention_similarity` on the text, kept for the next time. Raises ValueError for a bad text or method."""
    from core.damage.choices import SIMILARITY_METHODS

    if method not in SIMILARITY_METHODS:
        raise ValueError(f"There is no method {method!r}: use one of {', '.join(SIMILARITY_METHODS)}.")
    ids, total = token_ids(model_name, source, settings.MAX_SIMILARITY_TOKENS)
    place = get_model(model_name).place
    matrix = _matrices.get((place, ids, method), lambda: _compute_similarity(model_name, ids, method))
    return Similarity(len(ids), total, matrix)


def layer_weights(model_name: str, ids: tuple[int, ...], layer: int) -> np.ndarray:
    """One layer's attention weights [heads, tokens, tokens], kept for the next time."""
    place = get_model(model_name).place
    return _layer_weights.get((place, ids, layer), lambda: _compute_weights(model_name, ids, layer))


class FirstTokens(NamedTuple):
    """The beginning of a text, and how many tokens all of it has."""

    ids: tuple[int, ...]
    total: int


def token_ids(model_name: str, source: str, limit: int) -> FirstTokens:
    """The first tokens of the text, at most `limit` and at most the model's context.

    Raises ValueError for a text with less than two tokens, and for one that is too long.
    """
    asked.texts(text=source)
    asked.prompts(text=source)
    model = get_model(model_name)
    ids = prompt_ids(model.tokenizer, source or "")
    if len(ids) < 2 or not source.strip():
        raise ValueError("There is no text to look at: type a few words or sentences.")
    context = context_tokens(model.model) or limit
    return FirstTokens(tuple(ids[: min(limit, context)]), len(ids))


def said_of(tokens: int, text_tokens: int) -> str:
    """One sentence where a text was longer than what was looked at; else nothing."""
    return text.CUT.format(tokens=f"{tokens:,}", all=f"{text_tokens:,}") if tokens < text_tokens else ""


@on_gpu(lambda model_name, ids, method: 0.02 * len(ids))
def _compute_similarity(model_name: str, ids: tuple[int, ...], method: str) -> np.ndarray:
    from core import attention_similarity

    model = get_model(model_name).model
    return np.asarray(compute(attention_similarity, model, _batch(model, ids), method))


@on_gpu(lambda model_name, ids, layer: 0.02 * len(ids))
def _compute_weights(model_name: str, ids: tuple[int, ...], layer: int) -> np.ndarray:
    from core.damage.similarity import attention_weights

    model = get_model(model_name).model
    weights = compute(attention_weights, model, _batch(model, ids), [layer])
    return weights[layer][0].float().cpu().numpy()


def _batch(model: "PreTrainedModel", ids: tuple[int, ...]) -> "torch.Tensor":
    import torch

    return torch.tensor([ids], device=model.device)


# Texts of both models


def check_texts(
    model_name: str,
    plan_text: str,
    prompt: str,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    heads: str = "",
    chat: bool = False,
    system: str = "",
    against: str = "",
) -> None:
    """Raise ValueError, in one sentence, for what `generate` is not to be asked; nothing is loaded or tokenized for that."""
    asked.words(model=model_name, plan=plan_text, against=against)
    asked.head_maps(heads=heads)
    asked.prompts(prompt=prompt, system=system)
    asked.whole("max_new_tokens", max_new_tokens, high=settings.server.max_new_tokens)
    if not 0 <= asked.number("temperature", temperature) <= 10:
        raise ValueError(f"temperature is {temperature:g}: give a number from 0 (the likeliest token) to 10.")
    asked.whole("seed", seed, low=0)
    asked.flag("chat", chat)


@on_gpu(lambda model_name, plan_text, prompt, max_new_tokens, *_, **__: len(prompt) / 2000 + 0.2 * max_new_tokens)
def generate(
    model_name: str,
    plan_text: str,
    prompt: str,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    heads: str = "",
    chat: bool = False,
    system: str = "",
    against: str = "",
) -> Generator["PairProgress", None, None]:
    """`core.decoding.generation.generate_pair`, thinned out to what a page can show. Raises ValueError for bad input.

    The step in which the two models first choose different tokens is always among what is left.

    heads: the plan's head map (`app.links`); empty for direct sharing. chat, system: as `generate_pair` takes them. against:
    the plan of the first text, with which that of `plan_text` is compared; empty for the dense model.
    """
    check_texts(model_name, plan_text, prompt, max_new_tokens, temperature, seed, heads, chat, system, against)
    from core.decoding.generation import generate_pair

    model = get_model(model_name)
    first, shared = _first(model, against), model.shared(model.plan(plan_text), heads)
    _note_together((model_name, plan_text, heads, against), first, shared)
    how = {"seed": seed, "chat": chat, "system": system}
    steps = generate_pair(first, shared, model.tokenizer, prompt, max_new_tokens, temperature, **how)
    shown = _Shown()
    for progress in taking_turns(steps):
        if shown.is_new(progress):
            yield progress


def check_against(model_name: str, against: str) -> SharingPlan:
    """The plan that the first text is asked for, for a model that is in memory. Raises ValueError that says whose plan is bad."""
    asked.words(against=against)
    model = get_model(model_name)
    _first(model, against)
    return SharingPlan.parse(against, model.num_layers)


def _first(model: LoadedModel, against: str) -> "PreTrainedModel":
    try:
        return model.beside(against)
    except ValueError as problem:
        raise ValueError(text.AGAINST_BAD.format(problem=problem)) from problem


def writes_together(model_name: str, plan_text: str, heads: str, against: str = "") -> bool:
    """Whether `generate_together` may write texts of these: each of them is the one that `generate` gives alone.

    Known once a text of them was written; until then they are not.
    """
    return _together.get((model_name, plan_text, heads, against), False)


def _note_together(models: tuple[str, str, str, str], first: "PreTrainedModel", shared: "PreTrainedModel") -> None:
    from core.decoding.batched import can_batch

    if models not in _together:
        _together[models] = not BORROWED and all(compute(can_batch, model) for model in (first, shared))
        while len(_together) > settings.PLANS_IN_MEMORY:
            _together.popitem(last=False)


class _Shown:
    """Which steps of a pair of texts are shown: so many a second, the one in which they part, and the last.

    It sees every step, so it counts the tokens for /metrics.
    """

    def __init__(self) -> None:
        self._at, self._parted, self._written = 0.0, False, 0

    def is_new(self, progress: "PairProgress") -> bool:
        written = progress.dense.tokens + progress.shared.tokens
        counted.generated_tokens.inc(written - self._written)
        self._written = written
        finished = progress.dense.finished and progress.shared.finished
        parts = progress.parting is not None and not self._parted
        if not (finished or parts or time.monotonic() - self._at > 1 / settings.UPDATES_PER_SECOND):
            return False
        self._at, self._parted = time.monotonic(), self._parted or parts
        return True


def generate_together(
    model_name: str,
    plan_text: str,
    heads: str,
    wanted: "Sequence[Wanted]",
    dropped: Collection[int] = (),
    against: str = "",
) -> Generator[tuple[int, "PairProgress | ValueError"], None, None]:
    """Several pairs of texts of the same two models, thinned out as `generate` does it, each with its place in `wanted`.

    dropped: places that nobody wants any more. Raises ValueError for a bad model or plan. Only where `writes_together`.
    """
    from core.decoding.batched import generate_pairs

    model = get_model(model_name)
    first, shared = _first(model, against), model.shared(model.plan(plan_text), heads)
    shown = [_Shown() for _ in wanted]
    for place, progress in taking_turns(generate_pairs(first, shared, model.tokenizer, wanted, dropped)):
        if isinstance(progress, ValueError) or shown[place].is_new(progress):
            yield place, progress
