"""Speaking to an instruct model as it was trained to be spoken to: a prompt becomes a turn of a conversation."""

from typing import Any

import torch
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase


def has_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer knows how its model is spoken to."""
    return bool(getattr(tokenizer, "chat_template", None))


def chat_ids(tokenizer: PreTrainedTokenizerBase, prompt: str, system: str = "") -> torch.Tensor:
    """Token ids [1, tokens] of a conversation that begins with `prompt`, up to where the model answers.

    system: what it is told first; empty for what the template says itself. Raises ValueError for a tokenizer without a
    template, and for one whose template takes no system text.
    """
    if not has_template(tokenizer):
        raise ValueError("The tokenizer of this model has no chat template: it continues texts, so switch chat off.")
    messages = [{"role": "user", "content": prompt}]
    if system.strip():
        messages.insert(0, {"role": "system", "content": system})
    try:
        words: Any = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except TemplateError as error:
        hint = " Leave the system text out." if system.strip() else ""
        raise ValueError(f"The chat template of this model refuses this conversation ({error}).{hint}") from error
    # The template writes the tokens that begin a text where the model wants them: the tokenizer must not add its own.
    ids: torch.Tensor = tokenizer(words, return_tensors="pt", add_special_tokens=False).input_ids
    return ids
