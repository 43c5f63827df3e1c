"""This project's fastest decoder as a peer."""

import torch
from transformers import PreTrainedModel

from core.decoding.start import start_decoding
from core.timing.peers.peer import Peer


class OwnPeer(Peer):
    """`core.decoding.start.start_decoding` of a model, dense or a view."""

    def __init__(self, model: PreTrainedModel, batch_size: int, max_tokens: int):
        self.decoder = start_decoding(model, batch_size, max_tokens)
        self.precision, self.path = str(model.dtype).removeprefix("torch."), self.decoder.path

    def read(self, prompt: torch.Tensor) -> torch.Tensor:
        """See `Peer.read`."""
        self.decoder.restart()
        return self.decoder.prefill(prompt)

    def step(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Peer.step`."""
        logits = self.decoder.step(tokens)
        return logits.argmax(-1), logits
