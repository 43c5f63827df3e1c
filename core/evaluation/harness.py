"""A model in memory, as lm-eval sees it, and running lm-eval on it."""

import copy
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import lm_eval.api.task
import lm_eval.utils
import torch
from lm_eval import evaluator
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from core.evaluation.catalogue import Benchmark
from core.evaluation.options import BATCH_SIZE, Options
from core.evaluation.processes import accelerator
from core.tokens import Prompts, beginning_id, body_ids, check_ids, embedding_rows, left_padded

# lm-eval prints bars for every task; the resampling for standard errors must not fork a process that runs threads.
lm_eval.api.task.tqdm = functools.partial(lm_eval.api.task.tqdm, disable=True)
# It also compiles a template anew for every field of every question: minutes for the ten thousand of HellaSwag.
lm_eval.utils.env.from_string = functools.lru_cache(maxsize=512)(lm_eval.utils.env.from_string)
os.environ.setdefault("DISABLE_MULTIPROC", "1")


class EvaluatedModel(HFLM):
    """HFLM on a model in memory, without bars, that reports each finished batch and can be stopped after one."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int | str,
        on_batch: Callable[[int, int], None],
    ):
        # A copy of the tokenizer: HFLM sets its padding token.
        self._rows = embedding_rows(model)
        with_padding = _with_padding(copy.deepcopy(tokenizer), self._rows)
        super().__init__(model, backend="causal", tokenizer=with_padding, batch_size=batch_size)
        self._prompt_ids = Prompts(with_padding)
        if (processes := accelerator()) is not None:  # each process takes its share of the documents
            self.accelerator, self._rank, self._world_size = processes, processes.process_index, processes.num_processes
        if self.prefix_token_id is None:
            raise ValueError("The tokenizer knows no token for the beginning or end of a text, which lm-eval needs.")
        self.on_batch, self.done, self.total = on_batch, 0, 0
        self.truncated = 0  # requests whose beginning lm-eval cut off, because the model's context is too short

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """lm-eval's, which drops a system text that the template refuses. Raises ValueError instead."""
        words = super().apply_chat_template(chat_history, add_generation_prompt)
        if any(turn["role"] == "system" and turn["content"].strip() not in words for turn in chat_history):
            raise ValueError("The chat template of this model takes no system text: leave --system out.")
        return words

    @property
    def eot_token_id(self) -> int:
        """The token that ends texts; of a tokenizer that knows none the one that begins them."""
        return self.prefix_token_id if self.tokenizer.eos_token_id is None else self.tokenizer.eos_token_id

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """lm-eval's, without a bar."""
        self._begin(len(requests))
        return super().generate_until(requests, disable_tqdm=True)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """lm-eval's, without a bar."""
        return super().loglikelihood(requests, disable_tqdm=True)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = True) -> list[float]:
        """lm-eval's, without a bar and without a second token for the beginning of a text."""
        self._begin(len(requests))
        # lm-eval puts the beginning-of-text token before each text itself; a second one, which the tokenizer adds or the
        # text has, would be scored.
        self.add_bos_token, as_given = False, self.add_bos_token
        try:
            return super().loglikelihood_rolling(requests, disable_tqdm=True)
        finally:
            self.add_bos_token = as_given

    def _loglikelihood_tokens(
        self,
        requests: list[tuple[tuple[str, str], list[int], list[int]]],
        disable_tqdm: bool = True,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        if override_bs is None:  # not a part of a rolling request; equal inputs run once
            self._check_lengths([(len(context), len(continuation)) for _, context, continuation in requests])
            self._begin(len({(*context, *continuation[:-1]) for _, context, continuation in requests}))
        return super()._loglikelihood_tokens(requests, disable_tqdm=True, override_bs=override_bs)

    def _check_lengths(self, lengths: list[tuple[int, int]]) -> None:
        self.truncated += sum(context + answer > self.max_length + 1 for context, answer in lengths)
        if (longest := max((answer for _, answer in lengths), default=0)) > self.max_length:
            raise ValueError(f"An answer has {longest} tokens, but the model's context only {self.max_length}.")

    def _detect_batch_size(self, requests: Sequence | None = None, pos: int = 0) -> int:
        # Tried out for the memory of a GPU; on a CPU the trials cost minutes, and no batch is too large.
        return BATCH_SIZE if self.device.type == "cpu" else super()._detect_batch_size(requests, pos)

    def _batch_scheduler(self, pos: int, n_reordered_requests: Sequence) -> int:
        """The size of the batch at `pos`, found once in each of `auto:N`'s parts: lm-eval's divides by zero, or asks
        for a part that it skipped, where there are fewer requests than parts or more in a batch than in a part.

        Requests get shorter, so that the largest size that is allowed stays allowed.
        """
        part = int(pos * self.batch_schedule) // len(n_reordered_requests)
        if part not in self.batch_sizes:
            largest = self.max_batch_size in self.batch_sizes.values()
            found = self.max_batch_size if largest else self._detect_batch_size(n_reordered_requests, pos)
            self.batch_sizes[part] = found
        return self.batch_sizes[part]

    def tok_encode(
        self,
        string: str,
        add_special_tokens: bool | None = None,
        left_truncate_len: int | None = None,
        **kwargs: Any,
    ) -> list[int]:
        """lm-eval's, of texts that go on: a tokenizer that ends them would have answers scored behind an end."""
        if add_special_tokens is False:  # a part of a text
            ids = self.tokenizer.encode(string, add_special_tokens=False)
        elif self.add_bos_token is False:  # a text that lm-eval itself begins
            ids = body_ids(self.tokenizer, string)
        else:
            ids = self._prompt_ids(string)
        check_ids(ids, self._rows)
        return ids[-left_truncate_len:] if left_truncate_len else ids

    def tok_batch_encode(
        self,
        strings: Sequence[str],
        padding_side: str = "left",
        left_truncate_len: int | None = None,
        truncation: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """lm-eval's, of texts that go on; counts those that are cut off."""
        rows = [self.tok_encode(string) for string in strings]
        if left_truncate_len is not None:
            self.truncated += sum(len(row) > left_truncate_len for row in rows)
            rows = [row[-left_truncate_len:] for row in rows]
        tokens, mask = left_padded(rows, self.tokenizer.pad_token_id)
        return torch.tensor(tokens), torch.tensor(mask)

    def _model_call(self, inps: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        logits = super()._model_call(inps, **kwargs)
        self._advance(len(inps))
        return logits

    def _model_generate(self, context: torch.Tensor, max_length: int, stop: list[str], **kwargs: Any) -> torch.Tensor:
        # The task's own limit: a `max_new_tokens` in the model's generation config would win against `max_length`.
        tokens = super()._model_generate(context, max_length, stop, max_new_tokens=None, **kwargs)
        self._advance(len(context))
        return tokens

    def total_truncated(self) -> int:
        """Truncated requests of all processes."""
        return int(self.all_gather(torch.tensor([self.truncated], device=self.device)).sum())

    def _begin(self, total: int) -> None:
        self.done, self.total = 0, total
        self._advance(0)

    def _advance(self, rows: int) -> None:
        self.done = min(self.done + rows, self.total)
        self.on_batch(self.done, self.total)


def _with_padding(tokenizer: PreTrainedTokenizerBase, rows: int) -> PreTrainedTokenizerBase:
    """A tokenizer that pads with a token that the embedding knows; lm-eval would add one that it does not.

    What padding is made of decides nothing, since it is masked, but it is read.
    """
    given, others = tokenizer.pad_token_id, (tokenizer.unk_token_id, tokenizer.eos_token_id)
    if (given is None and others == (None, None)) or (given is not None and given >= rows):
        tokenizer.pad_token_id = beginning_id(tokenizer)
    return tokenizer


def run_benchmark(evaluated: EvaluatedModel, benchmark: Benchmark, options: Options) -> dict[str, Any] | None:
    """lm-eval's results of one benchmark, from a fixed seed on; None in all processes but the main one."""
    set_seed(options.seed)
    to_score = {"tasks": benchmark.tasks, "groups": benchmark.groups}
    how = {"limit": options.limit, **options.of_conversation}
    return evaluator.evaluate(evaluated, to_score, bootstrap_iters=1000, log_samples=True, **how)
