"""Tasks asked as a conversation: what the model reads, and what is refused."""

import pytest

from core.evaluation.harness import EvaluatedModel
from core.evaluation.options import Options
from tests.support.gguf_files import TEMPLATE


def test_the_model_reads_the_template_and_the_system_text(measure, tokenizer, monkeypatch):
    tokenizer.chat_template = TEMPLATE
    asked = []
    monkeypatch.setattr(
        EvaluatedModel, "generate_until", lambda _, requests: asked.extend(requests) or ["?"] * len(requests)
    )
    chat = {"apply_chat_template": True, "system": "Be brief."}
    [record] = measure(options=Options(num_fewshot=1, limit=2, fewshot_as_multiturn=True, **chat))
    context = asked[0].args[0]
    assert context.startswith("<|im_start|>system\nBe brief.") and context.endswith("<|im_start|>assistant\n")
    assert context.count("<|im_start|>user") == 2  # the example is a turn of its own
    assert record.options == {
        "apply_chat_template": "yes", "fewshot_as_multiturn": "yes", "limit": 2, "num_fewshot": 1, "system": "Be brief.",
    }  # fmt: skip


def test_a_template_that_drops_the_system_text_is_refused(measure, tokenizer):
    tokenizer.chat_template = (
        "{% for message in messages if message['role'] != 'system' %}{{ message['content'] }}{% endfor %}"
    )
    with pytest.raises(ValueError, match="takes no system text"):
        measure(options=Options(limit=2, apply_chat_template=True, system="Be brief."))


def test_a_tokenizer_without_a_template_is_refused(measure):
    with pytest.raises(ValueError, match="The tokenizer of tiny has no chat template"):
        measure(options=Options(limit=2, apply_chat_template=True))
