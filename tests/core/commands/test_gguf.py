"""Commands on a GGUF file: their records say which weights they are of."""

import pytest

from core.__main__ import main
from core.records import load_records, load_searches, load_timings
from tests.support.gguf_files import write_gguf


@pytest.fixture
def where(tmp_path) -> list[str]:
    """Arguments that name a quantized file and a folder for results."""
    write_gguf(tmp_path / "tiny" / "tiny.gguf")
    return ["--model", str(tmp_path / "tiny"), "--device", "cpu", "--results", str(tmp_path / "results")]


def test_scores_timings_and_searches_say_from_which_quantization(where, tmp_path):
    sizes = ["--tokens", "256", "--held-out-tokens", "256", "--chunk-tokens", "64", "--journal", str(tmp_path / "runs")]
    assert main(["evaluate", "--plan", "2-4", "--tasks", "demo_copy", "--limit", "2", *where]) == 0
    assert main(["measure", "--plan", "2-4", "--context", "8", "--new", "2", *where]) == 0
    assert main(["sweep", "--longest-span", "2", *sizes, *where]) == 0
    results = tmp_path / "results"
    ((score,), _), ((timing,), _), (((search, _),), _) = (
        load(results) for load in (load_records, load_timings, load_searches)
    )
    assert {record.quantization for record in (score, timing, search)} == {"GGUF Q4_1"}
    assert {record.model for record in (score, timing, search)} == {"tiny"}


def test_a_conversation_is_asked_recorded_and_reproduced(where, tmp_path, capsys):
    chat = ["--apply-chat-template", "--system", "Be brief.", "--fewshot-as-multiturn", "--num-fewshot", "0"]
    line = ["evaluate", "--plan", "2-4", "--tasks", "demo_copy", "--limit", "2", *chat, *where]
    assert main(line) == 0
    ((record,), _) = load_records(tmp_path / "results")
    assert record.options["apply_chat_template"] == record.options["fewshot_as_multiturn"] == "yes"
    assert record.options["system"] == "Be brief."
    assert "--apply-chat-template --system 'Be brief.' --fewshot-as-multiturn" in record.command
    capsys.readouterr()
    assert main(line) == 0 and "Nothing to do" in capsys.readouterr().out


def test_what_cannot_be_asked_is_one_line(where, capsys):
    for chat in (["--system", "Be brief."], ["--fewshot-as-multiturn"]):
        assert main(["evaluate", "--tasks", "demo_copy", *chat, *where]) == 2
        assert "add --apply-chat-template" in capsys.readouterr().err
    assert main(["evaluate", "--tasks", "demo_copy", "--apply-chat-template", *where[2:]]) == 2
    assert "The tokenizer of demo has no chat template" in capsys.readouterr().err
