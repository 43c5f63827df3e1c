"""transformers as a peer: one turn of the loop of its `generate` at a time, with its dynamic or its static cache.

A static cache makes `generate` compile the forward of its steps on a GPU, and nowhere else; so it is here.
"""

from typing import Any, cast

import torch
from transformers import DynamicCache, PreTrainedModel, StaticCache

from core.timing.peers.peer import LeftOut, Peer, mark_step


class StockPeer(Peer):
    """A dense model's own forward in the loop of `generate` (greedy, no padding, no end of text).

    static: with a cache of `max_tokens` in place. Raises LeftOut for a model that transformers gives no static cache.
    """

    def __init__(self, model: PreTrainedModel, max_tokens: int, static: bool):
        self.model = cast(Any, model)
        if static and not self.model._can_compile_fullgraph:
            raise LeftOut(f"transformers has no static cache for models of type {model.config.model_type!r}.")
        self.static, self.max_tokens = static, max_tokens
        self.cache: Any = StaticCache(config=model.config, max_cache_len=max_tokens) if static else None
        settings = self.model.generation_config
        compiles = static and self.model._valid_auto_compile_criteria({"past_key_values": self.cache}, settings)
        self.forward = self.model.get_compiled_call(settings.compile_config) if compiles else self.model.__call__
        self.precision = str(model.dtype).removeprefix("torch.")
        self.path = f"{'static' if static else 'dynamic'} cache{', compiled' if compiles else ''}"

    @torch.no_grad()
    def read(self, prompt: torch.Tensor) -> torch.Tensor:
        """See `Peer.read`; not compiled, as in `generate`."""
        if not self.static:
            self.cache = DynamicCache(config=self.model.config)
        elif self.cache.is_initialized:
            self.cache.reset()
        self.ids = prompt
        positions = torch.arange(prompt.shape[1], device=prompt.device)[None]
        self.given: dict[str, Any] = {"past_key_values": self.cache, "attention_mask": None, "position_ids": positions}
        self.given |= {"use_cache": True, "logits_to_keep": 1}
        inputs = self.model.prepare_inputs_for_generation(prompt, is_first_iteration=True, **self.given)
        return self._logits(self.model(**inputs, return_dict=True))

    @torch.no_grad()
    def step(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Peer.step`."""
        self.ids = torch.cat([self.ids, tokens[:, None]], dim=-1)
        mark_step(tokens)
        inputs = self.model.prepare_inputs_for_generation(self.ids, next_sequence_length=1, **self.given)
        logits = self._logits(self.forward(**inputs, return_dict=True))
        return logits.argmax(-1), logits

    def _logits(self, outputs: Any) -> torch.Tensor:
        self.given = self.model._update_model_kwargs_for_generation(outputs, self.given)
        return cast(torch.Tensor, outputs.logits[:, -1].to(copy=True, dtype=torch.float32))

    def close(self) -> None:
        """See `Peer.close`: what was compiled holds the cache."""
        self.model.__dict__.pop("_compiled_call", None)
