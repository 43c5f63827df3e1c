"""The command `evaluate`: it measures once, says so, and explains bad input in one line."""

import json
import shlex

import pytest

from core.__main__ import main
from core.commands import evaluate as evaluate_command
from core.records.scores import load_records
from tests.support.tokenizers import byte_tokenizer


@pytest.fixture
def command(tiny_model, tmp_path, monkeypatch, capsys):
    """`command("evaluate --plan 2-4 …")` → exit code, stdout, stderr, with the tiny model as the bundled one."""
    model = tiny_model(vocab_size=257, max_position_embeddings=1024, eos_token_id=0)
    monkeypatch.setattr(evaluate_command, "load_model", lambda *_, **__: (model, byte_tokenizer()))
    monkeypatch.setattr(evaluate_command, "weights_sha256", lambda _: "abc")

    def run(line: str) -> tuple[int, str, str]:
        code = main([*shlex.split(line), "--results", str(tmp_path)])
        return code, *capsys.readouterr()

    return run


def test_the_command_measures_once_and_says_so(command, tmp_path):
    line = "evaluate --plan dense --plan 2-4 --tasks demo_arithmetic --limit 3"
    code, out, _ = command(line)
    assert code == 0 and "Measured 2 of 2 points" in out and "exact_match" in out
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    code, out, _ = command(line)
    assert code == 0 and "Nothing to do: all 2 points" in out
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*.json")}


def test_the_recorded_command_reproduces_the_record(command, tmp_path):
    command("evaluate --plan 2-4 --tasks demo_arithmetic --limit 3 --batch-size 2 --seed 5")
    ((record,), _) = load_records(tmp_path)
    code, out, _ = command(record.command.removeprefix("python -m core "))
    assert code == 0 and "Nothing to do" in out


def test_a_record_with_a_head_map_needs_no_other_file(command, tmp_path):
    """The stored command named a file that nobody but its writer had."""
    (tmp_path / "map.json").write_text('{"3": [0, 0, 1, 1], "4": [3, 2, 1, 0]}')
    options = "evaluate --plan 2-4 --tasks demo_copy --limit 2 --head-map"
    assert command(f"{options} {tmp_path / 'map.json'}")[0] == 0
    ((record,), _) = load_records(tmp_path)
    (tmp_path / "map.json").unlink()
    assert "Nothing to do" in command(record.command.removeprefix("python -m core "))[1]
    assert "Nothing to do" in command(f"{options} {tmp_path / record.path}")[1]
    assert record.head_map == {3: (0, 0, 1, 1), 4: (3, 2, 1, 0)}


def test_a_benchmark_of_ones_own_is_measured_and_reproduced(command, tmp_path):
    file = tmp_path / "colours.jsonl"
    file.write_text('{"prompt": "Snow is", "choices": ["white", "black"], "answer": "white"}')
    code, out, _ = command(f"evaluate --plan 2-4 --benchmark {file}")
    assert code == 0 and "custom_colours" in out
    ((record,), _) = load_records(tmp_path)
    assert record.command == "python -m core evaluate --model demo --plan 2-4 --benchmark colours.jsonl"
    assert "Nothing to do" in command(f"evaluate --plan 2-4 --benchmark {file}")[1]
    assert str(tmp_path) not in record.model_dump_json()


def test_bad_input_is_one_line_on_stderr_and_code_2(command, tmp_path):
    (tmp_path / "map.json").write_text(json.dumps([1]))
    (tmp_path / "bad.jsonl").write_text("prompt,answer")
    for line in (
        "evaluate --tasks demo_poetry",
        "evaluate",
        "evaluate --tasks demo_copy --plan 9-3",
        "evaluate --tasks demo_copy --limit 0",
        "evaluate --tasks demo_copy --batch-size big",
        f"evaluate --tasks demo_copy --plan 2-4 --head-map {tmp_path / 'map.json'}",
        "evaluate --tasks demo_copy --head-map nowhere.json",
        "evaluate --benchmark nowhere.jsonl",
        f"evaluate --benchmark {tmp_path / 'bad.jsonl'}",
        "evaluate --tasks piqa --task-data nowhere",
        f"evaluate --tasks piqa --task-data {tmp_path}",
    ):
        code, out, err = command(line)
        assert code == 2 and out == "" and err.startswith("error: ") and err.count("\n") == 1, (line, err)
