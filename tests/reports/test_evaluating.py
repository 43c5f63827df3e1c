"""Reports on evaluations that end in a traceback, or in the middle."""

import gzip
import json

import pytest

from core.__main__ import main
from core.evaluation.answers import load_documents, pair_answers
from core.evaluation.evaluate import evaluate
from core.evaluation.harness import EvaluatedModel
from core.evaluation.options import Options
from core.records.files import write_file
from core.records.scores import pack_lines
from tests.support.models import tiny_model
from tests.support.tokenizers import byte_tokenizer

SEARCH = (
    "search --model demo --device cpu --tokens 512 --held-out-tokens 512 --chunk-tokens 128 --score-drop 1 --limit 2"
)


def measured(folder, batch_size=3, plans=("",), limit=2, task="demo_copy"):
    model = tiny_model(vocab_size=257, max_position_embeddings=1024, eos_token_id=0)
    options = Options(limit=limit, batch_size=batch_size)
    about = {"model_name": "tiny", "weights_sha256": "abc", "results": folder, "options": options}
    return list(evaluate(model, byte_tokenizer(), plans, [task], **about))


@pytest.mark.parametrize("parts", ["auto:4", "auto:1", "auto:50", "auto"])
def test_fewer_questions_than_parts(tmp_path, parts):
    """`--batch-size auto:4` with two questions: ZeroDivisionError."""
    file = tmp_path / "own.jsonl"
    file.write_text("\n".join(json.dumps({"prompt": "a", "choices": ["b", "c"], "answer": n}) for n in (0, 1)))
    run = ["evaluate", "--model", "demo", "--device", "cpu", "--benchmark", str(file), "--batch-size", parts]
    assert main([*run, "--results", str(tmp_path)]) == 0


@pytest.mark.parametrize("parts", [1, 3, 7, 50, 100, 1000])
def test_sizes_of_batches_are_found_once_a_part(parts, monkeypatch):
    """`auto:50` with 100 questions: KeyError for a part that a batch skipped."""
    evaluated = EvaluatedModel(tiny_model(vocab_size=257), byte_tokenizer(), f"auto:{parts}", lambda *_: None)
    found = []
    monkeypatch.setattr(evaluated, "_detect_batch_size", lambda requests, pos: found.append(pos) or 3)
    position, requests = 0, list(range(100))
    while position < len(requests):
        position += evaluated._batch_scheduler(position, requests)
    assert len(found) <= min(parts, 34) and found[0] == 0


@pytest.mark.parametrize("size", ["auto:0", "auto:x", "auto:", "autos", "auto:-1", "0", "-3", "1.5", ""])
def test_batch_sizes_that_are_none(size, capsys):
    """`--batch-size auto:0`: ZeroDivisionError after the model was loaded."""
    assert main(["evaluate", "--tasks", "demo_copy", "--batch-size", size]) == 2
    assert "give a whole number from 1 on, auto, or auto:N" in capsys.readouterr().err


def test_a_group_has_no_drop_of_its_own(tmp_path, capsys):
    """`search --score-drop --task demo`: "too many values to unpack", after all tasks were measured."""
    assert main([*SEARCH.split(), "--task", "demo", "--results", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "'demo' stands for 5 tasks without a score in common" in err and "demo_copy" in err
    assert not list(tmp_path.rglob("*.json"))
    assert main([*SEARCH.split(), "--task", "", "--results", str(tmp_path)]) == 2


@pytest.mark.parametrize(
    "content",
    [b"", b"no gzip", gzip.compress(b"no json"), gzip.compress(b"{}"), gzip.compress(b"[1]"), gzip.compress(b"\xff"),
     pack_lines([{"task": "demo_copy", "doc_id": 0, "choices": [1]}])],
    ids=["empty", "not packed", "not JSON", "no task", "a number", "not text", "other fields"],
)  # fmt: skip
def test_damaged_documents(tmp_path, content):
    """A damaged file in results/documents: zlib.error on the page, and it stays damaged."""
    dense, shared = measured(tmp_path, plans=["", "1-2"])
    file, whole = tmp_path / dense.documents_path, (tmp_path / dense.documents_path).read_bytes()
    for damaged in (content, whole[:-9], whole[:40] + b"\0\0\0\0" + whole[44:]):
        write_file(file, damaged)
        assert load_documents(tmp_path, dense) == {}
        assert len(pair_answers((tmp_path, dense), (tmp_path, shared), "exact_match")) == 2
    measured(tmp_path)
    assert file.read_bytes() == whole
