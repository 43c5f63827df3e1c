"""lm-eval on a model whose answers are read through a KV cache of one kind, as when they are written.

lm-eval scores an answer in one pass over prompt and answer, in which no cache is read, quantized or not. Here

1. the prompt but its last token goes through the model in one call, and a quantized cache quantizes all of it at the end of
   that call: every token of the answer is foretold by a token that reads the prompt quantized;
2. the last token of the prompt and the answer, of which every token is given, go through in calls of as many tokens as the
   cache keeps unquantized (`CacheKind.residual_tokens`). Within a call tokens read each other as they are and everything
   before it quantized: the same keys and values, in the same form, as when they are written one by one through this cache.

A text without a prompt (`loglikelihood_rolling`) begins with the one token that lm-eval puts before it, and is an answer
from there on.

A model whose plan does other things in prefill than in decoding is read so through a full cache too: 1 is prefill and 2 decodes,
and the plan of each takes part in every answer. In one pass nothing would decode, and sharing in decoding alone would
look free. Of a text without a prompt nothing would be prefill, so that its first half is read in one call, and scored by it
(`halves`). Answers that are generated are written by transformers' `generate`, which goes on from the cache after the
first step. What the caches held in the end is counted.
"""

import inspect
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase

from core.cost.kv_caches import CacheKind
from core.evaluation.harness import EvaluatedModel
from core.quantization import cache_maker, unquantized_tokens
from core.records.scores import CountedCache
from core.sharing.cache import cache_bytes
from core.tokens import left_padded

Request = tuple[tuple[str, str], list[int], list[int]]
"""As lm-eval gives it: (texts, tokens of the context, tokens of the continuation)."""


class _Input(NamedTuple):
    """What goes through the model for an answer: first in one call, then in steps; not its last token, which foretells
    nothing. foretelling: of the first call's last tokens those that foretell what is scored."""

    first: tuple[int, ...]
    then: tuple[int, ...]
    foretelling: int = 1


class CachedModel(EvaluatedModel):
    """See the module. kind: of the cache. halves: the first half of a text without a prompt is read in one call. counted:
    what all caches held in the end, together."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int | str,
        on_batch: Callable[[int, int], None],
        kind: CacheKind,
        halves: bool = False,
    ):
        super().__init__(model, tokenizer, batch_size, on_batch)
        self.kind, self.halves, self.new_cache = kind, halves, cache_maker(model, kind)
        self._held = torch.zeros(3, dtype=torch.long)  # bytes, positions, positions that are not quantized
        parameters = inspect.signature(type(model).forward).parameters
        self._takes_positions, self._takes_last = ("position_ids" in parameters, "logits_to_keep" in parameters)

    def counted(self) -> CountedCache | None:
        """What the caches of all processes held when they were done with; None where none was made."""
        sums = self.all_gather(self._held.to(self.device)).reshape(-1, 3).sum(0).tolist()
        held, positions, unquantized = map(int, sums)
        return CountedCache(bytes=held, tokens=positions, unquantized_tokens=unquantized) if positions else None

    def _loglikelihood_tokens(
        self, requests: list[Request], disable_tqdm: bool = True, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        wanted: dict[_Input, list[int]] = defaultdict(list)  # equal inputs run once
        for index, (_, context, continuation) in enumerate(requests):
            wanted[_input_of(context, continuation, self.max_length, self.halves)].append(index)
        if override_bs is None:  # not a part of a rolling request
            self._check_lengths([(len(context), len(continuation)) for _, context, continuation in requests])
            self._begin(len(wanted))
        found: dict[int, tuple[float, bool]] = {}
        order = sorted(wanted, key=lambda one: (-len(one.first) - len(one.then), one))
        size = override_bs or (self._detect_batch_size() if self.batch_size == "auto" else int(self.batch_size))
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            for one, likelihoods in zip(batch, self._read(batch), strict=True):
                for index in wanted[one]:
                    found[index] = _score(likelihoods, requests[index][2])
            self._advance(len(batch))
        return [found[index] for index in range(len(requests))]

    @torch.no_grad()
    def _read(self, batch: Sequence[_Input]) -> Iterator[torch.Tensor]:
        """Of each input the log-likelihoods [foretelling + tokens that come then, vocabulary] of what follows these last tokens
        of the first call, and each of the others."""
        ids, mask = map(torch.tensor, left_padded([list(one.first) for one in batch], self.tokenizer.pad_token_id))
        longest, told = max(len(one.then) for one in batch), max(one.foretelling for one in batch)
        padding = self.tokenizer.pad_token_id
        rows = [[*one.then, *[padding] * (longest - len(one.then))] for one in batch]
        then = torch.tensor(rows, dtype=torch.long)
        mask = torch.cat([mask, torch.ones(len(batch), longest, dtype=mask.dtype)], dim=1).to(self.device)
        cache, read = self.new_cache(), ids.shape[1]
        parts = [self._call(ids, mask[:, :read], cache, last=told)]
        for chunk in then.split(self.kind.residual_tokens, dim=1) if longest else ():
            read += chunk.shape[1]
            parts.append(self._call(chunk, mask[:, :read], cache))
        self._count(cache, len(batch))
        logits = torch.cat(parts, dim=1)
        for row, one in zip(logits, batch, strict=True):
            yield row[told - one.foretelling : told + len(one.then)].log_softmax(-1, dtype=self.softmax_dtype)

    def _call(self, ids: torch.Tensor, mask: torch.Tensor, cache: Cache, last: int = 0) -> torch.Tensor:
        """Logits [batch, tokens, vocabulary] of tokens that come after those in the cache; `last`: of the last so many only.

        mask: [batch, tokens in the cache and these], 0 for padding.
        """
        options: dict[str, Any] = {"logits_to_keep": last} if last and self._takes_last else {}
        if self._takes_positions:  # padding at the end may lie beyond the last position of a table
            positions = (mask.cumsum(1) - 1).clamp(0, self.max_length - 1)
            options["position_ids"] = positions[:, -ids.shape[1] :]
        call = {"input_ids": ids.to(self.device), "attention_mask": mask, "past_key_values": cache, "use_cache": True}
        logits = self.model(**call, **options).logits
        return logits[:, -last:]

    def _model_generate(self, context: torch.Tensor, max_length: int, stop: list[str], **kwargs: Any) -> torch.Tensor:
        cache = self.new_cache()
        beams, mask = kwargs.get("num_beams", 1), kwargs["attention_mask"]
        if context.shape[1] > 1 and beams == 1:
            self._read_first(context[:, :-1], mask[:, :-1], cache)
        tokens = super()._model_generate(context, max_length, stop, past_key_values=cache, **kwargs)
        self._count(cache, len(context) * beams)
        return tokens

    @torch.no_grad()
    def _read_first(self, ids: torch.Tensor, mask: torch.Tensor, cache: Cache) -> None:
        self._call(ids, mask, cache, last=1)

    def _count(self, cache: Cache, rows: int) -> None:
        """Add what a cache of `rows` sequences holds."""
        unquantized = cache.get_seq_length() if self.kind.bits is None else unquantized_tokens(cache)
        self._held += torch.tensor([cache_bytes(cache), rows * cache.get_seq_length(), rows * unquantized])


def _input_of(context: list[int], continuation: list[int], max_length: int, halves: bool) -> _Input:
    """lm-eval's own cut: from the left, so that all but the last token fit into the model's context."""
    kept = (context + continuation)[-(max_length + 1) :]
    if halves and len(context) == 1:
        first = len(kept) // 2
        return _Input(tuple(kept[:first]), tuple(kept[first:-1]), first)
    first = max(1, len(kept) - len(continuation) - 1)
    return _Input(tuple(kept[:first]), tuple(kept[first:-1]))


def _score(likelihoods: torch.Tensor, answer: list[int]) -> tuple[float, bool]:
    """Log-likelihood of an answer, and whether it is what the model itself would write."""
    tokens, likelihoods = torch.tensor(answer, device=likelihoods.device), likelihoods[-len(answer) :]
    chosen = likelihoods.gather(1, tokens[:, None])
    return float(chosen.sum()), bool((likelihoods.argmax(1) == tokens).all())
