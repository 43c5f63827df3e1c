"""The dashboard without a browser, on a tiny random model in a local folder and on a few made-up records."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from app import measured, settings
from app.panels import scores
from app.sessions import sessions
from core.records.files import write_file
from core.records.scores import Metric, pack_lines, save_record
from tests.support.page import score_record


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> str:
    """A tiny random Llama with a byte-level tokenizer, as an ordinary local folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    path = tmp_path_factory.mktemp("models") / "tiny"
    torch.manual_seed(0)
    vocabulary = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<end>"]
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(vocabulary)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(path)
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=48, num_hidden_layers=6, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, initializer_range=0.3, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(path)
    return str(path)


@pytest.fixture
def view(folder) -> dict[str, str]:
    """The tiny model with a plan."""
    return {"model": folder, "plan": "2-4"}


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Two plans and the dense model on two tasks, and a file that is no record."""
    monkeypatch.setattr(settings.server, "results", tmp_path)
    for task, metric in (("copy", "exact_match"), ("prose", "bits_per_byte")):
        for plan, value in (("", 0.9), ("2-3", 0.8), ("1-5", 0.4)):
            save_record(tmp_path, score_record(plan, task, metric, value))
    (tmp_path / "broken.json").write_text("{")
    return tmp_path


@pytest.fixture
def choices_of_two(tmp_path, monkeypatch, view):
    """`choices_of_two(dense, shared)`: records of a task with two choices and these numbers of right answers of 40."""
    monkeypatch.setattr(settings.server, "results", tmp_path)

    def save(dense: int, shared: int):
        for plan, right in (("", dense), ("2-3", shared)):
            value = {"acc": Metric(value=right / 40, stderr=0.08)}
            record = score_record(plan, "pick", "acc", 0).model_copy(update={"metrics": value, "num_samples": 40})
            save_record(tmp_path, record, [_choice(n, -1.0 if n < right else -3.0) for n in range(40)])
        documents = [
            {"task": "pick", "doc_id": n, "prompt": f"<b>${{1+1}} {n}", "choices": ["yes", "no"], "right": "yes"}
            for n in range(40)
        ]
        write_file(tmp_path / record.documents_path, pack_lines(documents))
        return scores.draw({**view, "plan": "2-3"}, [], "pick · acc", list(measured.KINDS), "KV cache", None)

    return save


def _choice(number: int, first: float) -> dict:
    answer = [[first, False], [-2.0, False]]
    return {"doc_id": number, "filter": "none", "target": 0, "answer": answer, "scores": {"acc": float(first > -2)}}


@pytest.fixture(autouse=True)
def nothing_of_others():
    """What visitors of a test upload and measure is gone with it."""
    yield
    sessions.clear()
