"""A tiny model in a folder, and texts for it."""

import json

import pytest
from accelerate.state import AcceleratorState

from tests.support.models import tiny_model
from tests.support.tokenizers import letters_tokenizer


@pytest.fixture(autouse=True)
def own_accelerate_state():
    """accelerate keeps one state per process, which other tests may have set up already."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def tokenizer():
    """One token per common byte."""
    return letters_tokenizer()


@pytest.fixture
def model_folder(tmp_path, tokenizer):
    """A model of four layers that drops attention weights while it is trained, so that random numbers matter."""
    folder = tmp_path / "tiny"
    tiny_model(num_hidden_layers=4, attention_dropout=0.1).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def text_file(tmp_path):
    """Twenty documents."""
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(f"Number {n}: the old man of {n} years went down to the river." for n in range(20)))
    return path


@pytest.fixture
def lines_file(tmp_path):
    """Twenty prompts with responses of different lengths."""
    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"Count to {n}.", "response": " ".join(map(str, range(n)))} for n in range(1, 21)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
