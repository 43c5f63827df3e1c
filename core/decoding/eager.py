"""Decoding by the model's own forward: the prompt once, then one token per step, dense or shared, on every device."""

from typing import Any

import torch
from transformers import Cache, DynamicCache, PreTrainedModel

from core.sharing.cache import cache_bytes
from core.sharing.families import decoder_of, learned_positions


class Decoder:
    """Decoding by the model's own forward and the dynamic cache: every model, every device."""

    path = "eager"  # how steps are run

    def __init__(self, model: PreTrainedModel):
        self.model = model
        self.attention: str = decoder_of(model).config._attn_implementation
        self.cache: Cache = DynamicCache(config=model.config)
        self.positions = learned_positions(model)

    @torch.inference_mode()
    def prefill(self, input_ids: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Read the prompts [batch, tokens]; the logits [batch, vocabulary] of what follows. kwargs: for the model."""
        return self._forward(input_ids, **kwargs)

    @torch.inference_mode()
    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append one token per row, [batch]; the logits [batch, vocabulary] of the next, valid until the next step."""
        return self._forward(tokens[:, None])

    def step_greedily(self, tokens: torch.Tensor) -> torch.Tensor:
        """`step`, then the likeliest token of each row, [batch]: valid until the next step."""
        return self.step(tokens).argmax(-1)

    def restart(self) -> None:
        """Forget all tokens."""
        self.cache = DynamicCache(config=self.model.config)

    @property
    def cache_bytes(self) -> int:
        """Bytes of keys and values of the tokens so far."""
        return cache_bytes(self.cache)

    def _forward(self, input_ids: torch.Tensor, **kwargs) -> torch.Tensor:
        check_positions(self.model, self.cache.get_seq_length() + input_ids.shape[1], self.positions)
        return self.model(input_ids=input_ids, past_key_values=self.cache, logits_to_keep=1, **kwargs).logits[:, -1]


def check_positions(model: PreTrainedModel, tokens: int, positions: int | None) -> None:
    """Raise ValueError for more tokens than a model has learned positions; on a GPU the look-up would end the process."""
    if positions is not None and tokens > positions:
        raise ValueError(
            f"This model of type {model.config.model_type!r} has learned {positions:,} positions and cannot read "
            f"{tokens:,} tokens: use a shorter text, or fewer new tokens."
        )
