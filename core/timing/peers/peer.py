"""What a program has to do to be timed beside others: read a prompt, and write token by token what it finds likeliest."""

from abc import ABC, abstractmethod

import torch

OTHERS = ("transformers-dynamic", "transformers-static", "gpt-fast", "llama.cpp-f32", "llama.cpp-f16")
"""Other programs, by the names that records and the command line have for them."""


class Peer(ABC):
    """A program with one model, for a number of rows of one length.

    precision: of weights and cache. path: how its steps are run.
    """

    precision: str
    path: str

    @abstractmethod
    def read(self, prompt: torch.Tensor) -> torch.Tensor:
        """Forget all tokens and read the prompts [batch, tokens]; the logits [batch, vocabulary] of what follows."""

    @abstractmethod
    def step(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Append one token per row, [batch]: the likeliest next ones [batch], and their logits [batch, vocabulary].

        The logits are valid until the next step. What is asked of a GPU need not be done when this returns.
        """

    def close(self) -> None:
        """Give back what would outlive it."""
        return


class LeftOut(ValueError):
    """A program that cannot take part, and why, in one sentence."""


def mark_step(tokens: torch.Tensor) -> None:
    """Before a compiled step on these tokens: what the last one gave, in a recorded graph's memory, is not needed any more."""
    if tokens.is_cuda:
        torch.compiler.cudagraph_mark_step_begin()
