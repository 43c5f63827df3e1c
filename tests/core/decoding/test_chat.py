"""An instruct model is asked by its template, and the template alone says how a text begins."""

import pytest
from tokenizers import processors

from core.decoding.chat import chat_ids, has_template
from core.decoding.generation import generate_pair
from tests.support.gguf_files import TEMPLATE
from tests.support.tokenizers import byte_tokenizer

BOS_TEMPLATE = "{{ bos_token }}{% for message in messages %}[{{ message['content'] }}]{% endfor %}"
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}x"


def tokenizer_with(template: str | None):
    """One token per byte, with a beginning-of-text token that it adds itself, as Llama's does."""
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        "<end> $A", special_tokens=[("<end>", 0)]
    )
    tokenizer.chat_template = template
    return tokenizer


def test_a_template_that_writes_the_first_token_does_not_get_a_second_one():
    tokenizer = tokenizer_with(BOS_TEMPLATE)
    assert tokenizer("Hi").input_ids[0] == 0  # as it would be doubled
    ids = chat_ids(tokenizer, "Hi")
    assert ids[0].tolist().count(0) == 1 and tokenizer.decode(ids[0]) == "<end>[Hi]"


def test_a_system_text_begins_the_conversation():
    tokenizer = tokenizer_with(TEMPLATE)
    told = tokenizer.decode(chat_ids(tokenizer, "Hi", "Be brief.")[0])
    assert told == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert "system" not in tokenizer.decode(chat_ids(tokenizer, "Hi", "  ")[0])


def test_what_a_template_cannot_do_is_one_sentence():
    assert not has_template(tokenizer_with(None)) and has_template(tokenizer_with(TEMPLATE))
    with pytest.raises(ValueError, match="has no chat template: it continues texts, so switch chat off"):
        chat_ids(tokenizer_with(None), "Hi")
    with pytest.raises(ValueError, match="refuses this conversation .* Leave the system text out"):
        chat_ids(tokenizer_with(NO_SYSTEM), "Hi", "Be brief.")


def test_both_models_answer_the_same_conversation(tiny_model):
    tokenizer = tokenizer_with(TEMPLATE)
    model = tiny_model(vocab_size=257, max_position_embeddings=256, eos_token_id=0)
    *_, last = generate_pair(model, model, tokenizer, "Hi", max_new_tokens=5, chat=True)
    assert last.dense == last.shared or last.dense.text == last.shared.text
    assert last.dense.prompt_tokens == chat_ids(tokenizer, "Hi").shape[1]
    with pytest.raises(ValueError, match="context of this model holds 256"):
        generate_pair(model, model, tokenizer, "Hi" * 128, chat=True)
    with pytest.raises(ValueError, match="The prompt is empty"):
        generate_pair(model, model, tokenizer, " ", chat=True)
