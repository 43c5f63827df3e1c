"""A tiny model that reads bytes, and evaluations of it."""

import json

import pytest

from core.evaluation import evaluate as runner
from core.evaluation.catalogue import check_names
from core.evaluation.evaluate import evaluate
from core.evaluation.options import Options
from tests.support.tokenizers import byte_tokenizer


@pytest.fixture
def tokenizer():
    """One token per byte."""
    return byte_tokenizer()


@pytest.fixture
def model(tiny_model):
    """A random model for this tokenizer."""
    return tiny_model(vocab_size=257, max_position_embeddings=1024, eos_token_id=0)


@pytest.fixture
def measure(model, tokenizer, tmp_path):
    """`measure(plans, tasks, **arguments)` evaluates the tiny model into a fresh store; one list of records."""

    def measure(plans=("dense",), tasks=("demo_copy",), limit=4, **arguments):
        arguments = {"model_name": "tiny", "weights_sha256": "abc", "results": tmp_path} | arguments
        options = arguments.pop("options", None) or Options(limit=limit, batch_size=3)
        return list(evaluate(model, tokenizer, plans, tasks, options=options, **arguments))

    return measure


@pytest.fixture
def no_measuring(monkeypatch):
    """From here on, anything that is measured is an error."""

    def refuse(*_):
        raise AssertionError("measured again")

    return lambda: monkeypatch.setattr(runner, "_measure", refuse)


@pytest.fixture
def sentence_pairs(tmp_path):
    """A folder of task data with two sentence pairs for each of BLiMP's tasks."""
    folder = tmp_path / "task_data"
    names = {
        name.removeprefix("blimp_") for name in check_names(["blimp"])["blimp"].all_tasks if name.startswith("blimp_")
    }
    (folder / "blimp").mkdir(parents=True)
    for name in names:
        sentences = [f"{name} sleeps a lot.", "Cats."]
        rows = [{"sentence_good": good, "sentence_bad": bad} for good, bad in (sentences, sentences[::-1])]
        (folder / "blimp" / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder
