"""Recorded steps beside the model's own forward."""

import torch
from transformers import PreTrainedModel

from core.decoding.eager import Decoder
from core.decoding.graph import GraphDecoder
from core.sharing.families import vocab_size_of

STEP_PLANS = ("", "0-2-4")  # a group of layers of one kind in every family of the grid


def logits_of_steps(decoder: Decoder, prompt: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Logits [steps, batch, vocabulary] after the prompt [batch, tokens] and after each of `tokens` [batch, steps]."""
    first = decoder.prefill(prompt).clone()
    return torch.stack([first] + [decoder.step(column).clone() for column in tokens.unbind(1)])


def assert_equal_steps(model: PreTrainedModel, prompt_tokens: int = 10, steps: int = 9, **settings) -> GraphDecoder:
    """Assert that recorded steps give the logits of the model's own forward; the decoder. settings: of GraphDecoder."""
    torch.manual_seed(1)
    device, vocabulary = model.device, vocab_size_of(model)
    ids = torch.randint(vocabulary, (2, prompt_tokens + steps), device=device)
    prompt, tokens = ids[:, :prompt_tokens], ids[:, prompt_tokens:]
    expected = logits_of_steps(Decoder(model), prompt, tokens)
    recorded = GraphDecoder(model, 2, prompt_tokens + steps, **settings)
    actual = logits_of_steps(recorded, prompt, tokens)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    return recorded
