"""The dense and the shared model continue one prompt side by side, one token each in turn, every step timed."""

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from os.path import commonprefix

import psutil
import torch
from transformers import (
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from core.configs import context_tokens
from core.decoding.chat import chat_ids
from core.decoding.eager import Decoder
from core.decoding.start import alike, start_decoding
from core.tokens import check_ids, embedding_rows, prompt_ids


@dataclass(frozen=True)
class Stream:
    """One model's continuation so far. Times are measured on this machine, for this model's own steps only."""

    text: str = ""
    tokens: int = 0  # generated
    prompt_tokens: int = 0
    time_to_first_token_s: float | None = None  # median of several readings of the prompt
    tokens_per_second: float | None = None  # 1 / median time of a step after the first token that both models took
    cache_bytes: int = 0  # keys and values held
    finished: bool = False


@dataclass(frozen=True)
class Candidate:
    """A token that a model may write next, and the probability with which it takes it."""

    text: str  # what it adds to the text; of a special token its name
    probability: float
    chosen: bool


@dataclass(frozen=True)
class Parting:
    """The place where the two models first chose different tokens, and what each of them found likeliest there.

    dense, shared: the likeliest tokens first; a chosen one that is not among them comes last. Probabilities are those that
    the choice was made by: at temperature 0 the model's own, else those at the temperature (and top_p) that was asked for.
    """

    tokens: int  # that both chose alike before
    character: int  # of both continuations: where the differing tokens begin
    dense: tuple[Candidate, ...]
    shared: tuple[Candidate, ...]


@dataclass(frozen=True)
class PairProgress:
    """Both continuations, and the character offset where their texts first differ (None while they agree).

    first_token_differs: whether the two times to the first token differ by more than they vary; None until they are known.
    speed_differs: the same of the times of the later steps. parting: None as long as both chose the same tokens.
    """

    dense: Stream
    shared: Stream
    first_difference: int | None = None
    memory_bytes: int = 0
    """Held right now: on a GPU by all tensors there, else by this process. Both models share their weights."""
    first_token_differs: bool | None = None
    speed_differs: bool | None = None
    parting: Parting | None = None
    batch: int = 1
    """Texts whose steps were computed together (`core.decoding.batched`): times of later steps are those of all of them."""


def generate_pair(
    dense: PreTrainedModel,
    shared: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    max_new_tokens: int = 100,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    chat: bool = False,
    system: str = "",
) -> Iterator[PairProgress]:
    """Continue `prompt` with both models; yields after every pair of steps, closing the iterator stops the work.

    Whoever stops asking for a while, at the parting of the texts say, goes on from there.

    temperature: 0 takes the likeliest token; above, tokens are drawn with `seed`, with the same random numbers for
        both models, so that equal models give equal texts. top_p: draw from the likeliest tokens that make up this
        share of the probability. chat: answer `prompt` as a turn of a conversation, by the tokenizer's chat template,
        instead of continuing it; system: what the conversation begins with.

    The steps of the two models alternate in one thread, and who goes first alternates too, so that neither has an
    advantage. The prompt is read once untimed, then timed several times in turn: before the first token is yielded where
    that takes no longer than AT_ONCE_S, else after the last one. Generation ends at an end-of-text token, after
    `max_new_tokens`, or when the context is full. Raises ValueError, in one sentence, for an empty prompt, one that fills
    the context, settings out of range, and chat without a template.
    """
    how = (prompt, max_new_tokens, temperature, top_p, seed, chat, system)
    return _alternate(_sides(dense, shared, tokenizer, *how))


def _sides(
    dense: PreTrainedModel,
    shared: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    chat: bool,
    system: str,
) -> list["_Side"]:
    """Both models at the beginning of `prompt`. Raises what `generate_pair` raises."""
    _check_settings(max_new_tokens, temperature, top_p, seed)
    ids = _prompt_ids(dense, tokenizer, prompt, chat, system)
    limit = min(max_new_tokens, _context_tokens(dense) - ids.shape[1])
    room = ids.shape[1] + limit
    decoders = alike([start_decoding(model, 1, room) for model in (dense, shared)], 1, room)
    return [_Side(decoder, tokenizer, ids, limit, temperature, top_p, seed) for decoder in decoders]


AT_ONCE_S, LATER_S = 1.0, 4.0
"""How long the first token may be timed before it is shown, and after the last one."""
FEWEST_READINGS, MOST_READINGS = 2, 8
"""Timed readings of the prompt by each model; even, so that each model begins equally often."""
TELLING_READINGS = 4
"""With fewer readings chance alone would often put all times of one model below all of the other's."""
TELLING_STEPS = 8
"""Of fewer step times the middle half is two or three numbers."""
LIKELIEST = 5
"""Tokens that are shown where the texts part."""


def _alternate(sides: list["_Side"]) -> Iterator[PairProgress]:
    begin = time.perf_counter()
    for side in sides:
        side.step()
    pair_s = time.perf_counter() - begin
    parting = _parting(sides)  # before the prompt is read again: that overwrites what the choice was made by
    at_once = pair_s * MOST_READINGS / 2 <= AT_ONCE_S
    if at_once:
        for _ in _timed_readings(sides, AT_ONCE_S, TELLING_READINGS):
            pass
    yield _progress(sides, parting)
    order = sides[::-1]
    while not all(side.stream.finished for side in sides):
        running = [side for side in order if not side.stream.finished]
        for side in running:
            side.step(alone=len(running) < len(sides))
        order = order[::-1]
        parting = parting or _parting(sides)
        yield _progress(sides, parting)
    if not at_once:
        for _ in _timed_readings(sides, LATER_S, FEWEST_READINGS):
            yield _progress(sides, parting)


def _timed_readings(sides: list["_Side"], seconds: float, fewest: int) -> Iterator[None]:
    """Time the prompt's reading by both models in turn, who begins changing each time; yields after every two turns."""
    end = time.perf_counter() + seconds
    for done in range(0, MOST_READINGS, 2):
        if done >= fewest and time.perf_counter() > end:
            return
        for side in (*sides, *sides[::-1]):
            side.read_again()
        yield


def _progress(sides: list["_Side"], parting: Parting | None, batch: int = 1) -> PairProgress:
    left, right = (side.stream for side in sides)
    return PairProgress(
        left,
        right,
        first_difference(left, right),
        held_bytes(sides[0].model.device),
        times_differ(*(side.first_token_times_s for side in sides)),
        speeds_differ(*(side.step_times_s for side in sides)),
        parting,
        batch,
    )


def _parting(sides: list["_Side"]) -> Parting | None:
    """What each side chose from in the step that it has just taken, if that was not the same token."""
    left, right = sides
    if left.token == right.token:
        return None
    return Parting(left.tokens - 1, left.parted_at(), left.candidates(), right.candidates())


def times_differ(left: Sequence[float], right: Sequence[float]) -> bool | None:
    """Whether two models' repeated times tell them apart: every time of one is below every time of the other.

    The slowest fifth of each is left out, since whatever else a machine does makes times longer only. None for times that
    are too few to tell.
    """
    if min(len(left), len(right)) < TELLING_READINGS:
        return None
    one, other = (sorted(times)[: len(times) - len(times) // 5] for times in (left, right))
    return one[-1] < other[0] or other[-1] < one[0]


def speeds_differ(left: Sequence[float], right: Sequence[float]) -> bool | None:
    """Whether the times of two models' steps lie further apart than they spread: their middle halves do not overlap.

    Steps are many, and single ones are slow for reasons of the machine. None for times that are too few to tell.
    """
    if min(len(left), len(right)) < TELLING_STEPS:
        return None
    one, other = (sorted(times)[len(times) // 4 : len(times) - len(times) // 4] for times in (left, right))
    return one[-1] < other[0] or other[-1] < one[0]


def held_bytes(device: torch.device) -> int:
    """Memory held now, in bytes: by tensors on all GPUs if `device` is one, else by this process (resident)."""
    if device.type == "cuda":
        return sum(torch.cuda.memory_allocated(index) for index in range(torch.cuda.device_count()))
    return psutil.Process().memory_info().rss


def first_difference(left: Stream, right: Stream) -> int | None:
    """Where the texts first differ, as a character offset; a text that is still growing agrees as far as it goes."""
    common = len(commonprefix([left.text, right.text]))
    shorter, longer = sorted((left, right), key=lambda stream: len(stream.text))
    if common < len(shorter.text) or (shorter.finished and common < len(longer.text)):
        return common
    return None


class _Side:
    """One model at work on the prompt."""

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: PreTrainedTokenizerBase,
        ids: torch.Tensor,
        limit: int,
        temperature: float,
        top_p: float,
        seed: int,
    ):
        self.decoder, self.model, self.tokenizer, self.limit = decoder, decoder.model, tokenizer, limit
        self.ids = ids.to(self.model.device)
        self.prompt_text = self._text()
        self.random = torch.Generator(self.model.device).manual_seed(seed) if temperature else None
        self.warpers = LogitsProcessorList([TemperatureLogitsWarper(temperature)] if temperature else [])
        if temperature and top_p < 1:
            self.warpers.append(TopPLogitsWarper(top_p))
        self.chosen = self.ids[:, -1]  # the newest token
        self.token = -1  # the same as a number
        self.scores = torch.empty(0)  # [1, vocabulary]: what it was chosen by
        self.step_times_s: list[float] = []  # of the steps that both models took in turn
        self.first_token_times_s: list[float] = []
        self.tokens = 0
        self.seed = seed
        self.stream = Stream(prompt_tokens=ids.shape[1])

    @torch.inference_mode()
    def step(self, alone: bool = False) -> None:
        """Generate one token and bring `stream` up to date. Only the model and the choice of the token are timed.

        alone: the other model has finished. Such steps are not timed: they would be compared with steps in turn.
        """
        begin = time.perf_counter()
        logits = self.decoder.step(self.chosen) if self.tokens else self.decoder.prefill(self.ids)
        self.take(logits, begin, alone)

    def take(self, logits: torch.Tensor, begin: float, alone: bool = False) -> None:
        """Choose a token by these logits [1, vocabulary], of a step that began at `begin`."""
        self.scores = self._score(logits)
        chosen = _choose(self.scores, self.random)
        self.token = int(chosen.item())  # waits for the device
        if self.tokens and not alone:  # the first reading of the prompt pays for the start
            self.step_times_s.append(time.perf_counter() - begin)
        self.tokens += 1
        self.ids, self.chosen = torch.cat([self.ids, chosen], dim=1), chosen[:, 0]
        self._update(self.token)

    @torch.inference_mode()
    def candidates(self) -> tuple[Candidate, ...]:
        """The likeliest tokens of the newest step, and the chosen one."""
        shares = self.scores[0].softmax(-1)
        likeliest = shares.topk(min(LIKELIEST, len(shares))).indices.tolist()
        tokens = dict.fromkeys([*likeliest, self.token])
        before = self.ids[0, :-1].tolist()
        return tuple(
            Candidate(self._added(before, token), float(shares[token]), token == self.token)
            for token in tokens
            if shares[token] > 0  # beyond top_p nothing is left
        )

    def _added(self, before: list[int], token: int) -> str:
        """What a token adds to the text of the tokens before it: alone, many would lose the space that they begin with."""
        whole, begin = (str(self.tokenizer.decode(ids)) for ids in ([*before, token], before))
        begin = begin.rstrip(_UNFINISHED)
        return whole[len(begin) :] if whole.startswith(begin) else str(self.tokenizer.decode([token]))

    def parted_at(self) -> int:
        """Characters of the continuation before the newest token."""
        before = str(self.tokenizer.decode(self.ids[0, :-1], skip_special_tokens=True))
        return max(0, len(before.rstrip(_UNFINISHED)) - len(self.prompt_text))

    @torch.inference_mode()
    def read_again(self) -> None:
        """Time the prompt's reading up to the choice of its first token, which stays as it was."""
        prompt = self.ids[:, : self.stream.prompt_tokens]
        random = torch.Generator(self.model.device).manual_seed(self.seed) if self.random else None
        self.decoder.restart()
        begin = time.perf_counter()
        int(_choose(self._score(self.decoder.prefill(prompt)), random).item())
        self.first_token_times_s.append(time.perf_counter() - begin)
        self.stream = replace(self.stream, time_to_first_token_s=statistics.median(self.first_token_times_s))

    def _score(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits [1, vocabulary] at the temperature, without what top_p leaves out."""
        return self.warpers(self.ids, logits.float())  # type: ignore[arg-type]  # ids are a LongTensor, which torch cannot tell

    def _text(self) -> str:
        """All tokens so far, the prompt's included."""
        return str(self.tokenizer.decode(self.ids[0], skip_special_tokens=True))

    def _update(self, token: int) -> None:
        finished = self.tokens >= self.limit or token in _end_tokens(self.model)
        text = self._text()[len(self.prompt_text) :]
        self.stream = replace(
            self.stream,
            text=text if finished else text.rstrip(_UNFINISHED),
            tokens=self.tokens,
            tokens_per_second=1 / statistics.median(self.step_times_s) if self.step_times_s else None,
            cache_bytes=self.decoder.cache_bytes,
            finished=finished,
        )


_UNFINISHED = "\ufffd"
"""In the place of the first bytes of a character that is not whole yet."""


def _choose(scores: torch.Tensor, random: torch.Generator | None) -> torch.Tensor:
    """The next token, [1, 1], by its scores [1, vocabulary]."""
    return scores.softmax(-1).multinomial(1, generator=random) if random else scores.argmax(-1, True)


def _end_tokens(model: PreTrainedModel) -> tuple[int, ...]:
    end = model.generation_config.eos_token_id
    return () if end is None else tuple(end) if isinstance(end, (list, tuple)) else (end,)


def _context_tokens(model: PreTrainedModel) -> int:
    return context_tokens(model) or 2**31


def _prompt_ids(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str, chat: bool, system: str
) -> torch.Tensor:
    if not prompt or not prompt.strip():
        raise ValueError("The prompt is empty: type a few words for both models to continue.")
    ids = chat_ids(tokenizer, prompt, system)[0].tolist() if chat else prompt_ids(tokenizer, prompt)
    check_ids(ids, embedding_rows(model))
    context = _context_tokens(model)
    if len(ids) >= context:
        raise ValueError(
            f"The prompt has {len(ids)} tokens, and the context of this model holds {context}: shorten the prompt "
            f"to at most {context - 1} tokens, so that there is room for new ones."
        )
    return torch.tensor([ids])


def _check_settings(max_new_tokens: int, temperature: float, top_p: float, seed: int) -> None:
    if max_new_tokens < 1:
        raise ValueError(f"The number of new tokens is {max_new_tokens}: it must be at least 1.")
    if not 0 <= temperature <= 10:
        raise ValueError(f"The temperature is {temperature}: it must be between 0 (the likeliest token) and 10.")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p}: it must be above 0 and at most 1.")
    if not 0 <= seed < 2**63:
        raise ValueError(f"The seed is {seed}: it must be at least 0 and below 2^63.")
