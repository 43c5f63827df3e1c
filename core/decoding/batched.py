"""Several pairs of texts of the same two models, written together: a step of all of them costs little more than one's.

Each text is the one that `generate_pair` gives alone. In a batch the same sums are rounded in another order, so that
logits differ in their last digits: where the choice of a token is closer than that (`is_sure`), the pair leaves the batch and
is written alone, from its beginning. So only what rounds finely is batched: float32 on a CPU, without experts.

Prompts are read one by one, which is why times to the first token are those of one text. Times of later steps are of the
whole batch, dense and shared alike, and every `PairProgress` names its size.
"""

import inspect
import time
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.nn import functional
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicLayer

from core.decoding import generation
from core.decoding.generation import PairProgress, generate_pair
from core.sharing.cache import cache_bytes
from core.tokens import embedding_rows

TOLERANCE = 2e-5
"""Of the largest logit: how much the logits of a batch may differ. Measured was a twentieth of it (docs/decisions.md)."""


class Wanted(NamedTuple):
    """A pair of texts that is to be written, as `generate_pair` takes it."""

    prompt: str
    max_new_tokens: int = 100
    temperature: float = 0.0
    seed: int = 0
    chat: bool = False
    system: str = ""


def can_batch(model: PreTrainedModel) -> bool:
    """Whether texts of this model, dense or a view, are the same in a batch as alone: by what it is made of, and tried."""
    parts = [*model.parameters(), *(buffer for buffer in model.buffers() if buffer.is_floating_point())]
    return (
        all(part.dtype == torch.float32 and part.device.type == "cpu" for part in parts)
        and "position_ids" in inspect.signature(model.forward).parameters
        and not hasattr(model, "hf_quantizer")
        and not any(hasattr(module, "experts") for module in model.modules())  # which of them, a last digit may decide
        and all(_is_plain(layer) for layer in DynamicCache(config=model.config).layers)
        and _agrees(model)
    )


@torch.inference_mode()
def _agrees(model: PreTrainedModel) -> bool:
    """Whether a step of two rows of different lengths gives the logits of two steps alone, well within TOLERANCE."""
    rows = [torch.arange(length)[None] % embedding_rows(model) for length in (3, 9)]
    token = rows[0][:, :1]

    def read(row: torch.Tensor) -> DynamicCache:
        cache = DynamicCache(config=model.config)
        model(input_ids=row, past_key_values=cache, logits_to_keep=1)
        return cache

    alone = [model(input_ids=token, past_key_values=read(row), logits_to_keep=1).logits[0, -1] for row in rows]
    cache = merged([read(row) for row in rows], [3, 9])
    mask = torch.tensor([[0] * 6 + [1] * 4, [1] * 10])
    both = model(
        input_ids=token.repeat(2, 1), attention_mask=mask, position_ids=torch.tensor([[3], [9]]), past_key_values=cache,
        logits_to_keep=1,
    ).logits[:, -1]  # fmt: skip
    return all(
        bool((one - other).abs().max() <= TOLERANCE / 4 * one.abs().max())
        for one, other in zip(alone, both, strict=True)
    )


def _is_plain(layer: Any) -> bool:
    return isinstance(layer, DynamicLayer) and not layer.is_sliding and not hasattr(layer, "cumulative_length")


def generate_pairs(
    dense: PreTrainedModel,
    shared: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    wanted: Sequence[Wanted],
    dropped: Collection[int] = (),
) -> Iterator[tuple[int, PairProgress | ValueError]]:
    """What each of the pairs has come to, with its place in `wanted`, after every step; or why it cannot be written.

    dropped: places of pairs that nobody wants any more, looked at after every step. Both models must be ones that
    `can_batch`.
    """
    pairs = []
    for place, one in enumerate(wanted):
        try:
            pair = _Pair(place, one, (dense, shared), tokenizer)
        except ValueError as problem:
            yield place, problem
            continue
        pairs.append(pair)
        yield place, pair.progress(1)
    together = [pair for pair in pairs if not pair.finished and pair.place not in dropped]
    batches = [_Batch([pair.sides[which] for pair in together]) for which in range(2)] if together else []
    alone: list[_Pair] = []
    while together or alone:
        for batch, other in zip(batches, batches[::-1], strict=True):
            batch.step(other)
        for pair in list(together):
            if pair.place in dropped or not pair.is_sure:
                together.remove(pair)
                pair.leave()
                alone += [] if pair.place in dropped else [pair]
                continue
            pair.part()
            yield pair.place, pair.progress(len(batches[0].sides))
            if pair.finished:
                together.remove(pair)
        for pair in list(alone):
            progress = None if pair.place in dropped else next(pair.again, None)
            if progress is None:
                alone.remove(pair)
            elif progress.dense.tokens + progress.shared.tokens >= pair.tokens:  # before, all of it has been told
                yield pair.place, progress
        batches = batches[::-1] if together else []


class _Pair:
    """One pair in a batch, and after it alone."""

    def __init__(
        self,
        place: int,
        wanted: Wanted,
        models: tuple[PreTrainedModel, PreTrainedModel],
        tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        self.place = place
        prompt, max_new_tokens, temperature, seed, chat, system = wanted
        self.sides: list[Any] = generation._sides(
            *models, tokenizer, prompt, max_new_tokens, temperature, 1.0, seed, chat, system
        )
        self._again = (*models, tokenizer, prompt, max_new_tokens, temperature, 1.0, seed, chat, system)
        for side in self.sides:
            side.step()
        self.parting: generation.Parting | None = None
        self.part()
        for _ in generation._timed_readings(self.sides, 0.0, generation.FEWEST_READINGS):
            pass

    def part(self) -> None:
        """Note where the two choose different tokens for the first time."""
        self.parting = self.parting or (generation._parting(self.sides) if self._in_step else None)

    @property
    def _in_step(self) -> bool:
        """Whether both have just chosen: one that has finished keeps its last token."""
        left, right = self.sides
        return left.tokens == right.tokens

    @property
    def finished(self) -> bool:
        return all(side.stream.finished for side in self.sides)

    @property
    def is_sure(self) -> bool:
        return all(getattr(side, "sure", True) for side in self.sides)

    def leave(self) -> None:
        """Leave the batch, to be written alone from the beginning."""
        self.tokens = sum(side.tokens for side in self.sides)
        for side in self.sides:
            side.gone = True
        self.again = generate_pair(*self._again)

    def progress(self, batch: int) -> PairProgress:
        return generation._progress(self.sides, self.parting, batch)


class _Row:
    """In the place of a side's decoder: what it holds of the batch's cache."""

    def __init__(self, batch: "_Batch", side: Any) -> None:
        self.batch, self.side = batch, side

    @property
    def cache_bytes(self) -> int:
        """Without padding: keys and values of the row's own tokens."""
        batch = self.batch
        read = self.side.ids.shape[1] - 1
        return cache_bytes(batch.cache) * read // (len(batch.sides) * batch.mask.shape[1])


class _Batch:
    """One model at work on several texts, padded on the left."""

    def __init__(self, sides: list[Any]) -> None:
        self.sides, self.model = sides, sides[0].model
        lengths = [side.stream.prompt_tokens for side in sides]
        self.cache = merged([side.decoder.cache for side in sides], lengths)
        longest = max(lengths)
        self.mask = torch.tensor([[0] * (longest - length) + [1] * length for length in lengths])
        for side in sides:
            side.decoder, side.gone = _Row(self, side), False

    @torch.inference_mode()
    def step(self, other: "_Batch") -> None:
        """One token of every text that has not ended. Who is no longer sure of a token does not take it."""
        if all(side.gone or side.stream.finished for side in self.sides):
            return
        ids = torch.cat([side.ids[:, -1:] for side in self.sides])
        positions = torch.tensor([[side.ids.shape[1] - 1] for side in self.sides])
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(ids), 1)], dim=1)
        begin = time.perf_counter()
        logits = self.model(
            input_ids=ids, attention_mask=self.mask, position_ids=positions, past_key_values=self.cache,
            logits_to_keep=1, use_cache=True,
        ).logits[:, -1]  # fmt: skip
        took_s = time.perf_counter() - begin
        for row, (side, beside) in enumerate(zip(self.sides, other.sides, strict=True)):
            if side.gone or side.stream.finished:
                continue
            own = logits[row : row + 1]
            side.sure = is_sure(own, side)
            if side.sure:
                side.take(own, time.perf_counter() - took_s, alone=beside.stream.finished)


def merged(caches: list[DynamicCache], lengths: list[int]) -> DynamicCache:
    """The caches of single texts as one, shorter ones padded on the left; the first one becomes it."""
    whole, longest = caches[0], max(lengths)
    for layers in zip(*(one.layers for one in caches), strict=True):
        for name in ("keys", "values"):
            rows = [
                functional.pad(getattr(layer, name), (0, 0, longest - length, 0))
                for layer, length in zip(layers, lengths, strict=True)
            ]
            setattr(layers[0], name, torch.cat(rows))
    return whole


def is_sure(logits: torch.Tensor, side: Any) -> bool:
    """Whether a side takes the same token by all logits that are within TOLERANCE of these, [1, vocabulary].

    A drawn token is the one whose probability, over a random number of its own, is largest: so torch draws.
    """
    slack = 2 * TOLERANCE * float(logits.abs().max())
    if side.random is None:
        first, second = logits[0].float().topk(2).values.tolist()
        return first - second > slack
    scores = side._score(logits)
    random = torch.Generator(logits.device)
    random.set_state(side.random.get_state())
    expected = torch.Generator(logits.device)
    expected.set_state(side.random.get_state())
    noise = torch.empty_like(scores).exponential_(1, generator=random)
    found = (scores.log_softmax(-1) - noise.log())[0].topk(2)
    first, second = found.values.tolist()
    drawn = int(generation._choose(scores, expected).item())
    return drawn == int(found.indices[0]) and first - second > slack * float(scores.abs().max() / logits.abs().max())
