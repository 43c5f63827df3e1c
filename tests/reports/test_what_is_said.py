"""What is wrong, or left out, is said where it happens."""

import json

import pytest

from app import api, services, settings
from app.panels import evaluate, scores, similarity
from app.registry import get_model
from core.__main__ import main
from core.evaluation.own_benchmarks import load_benchmark
from core.evaluation.task_data import local_documents
from core.records.json_lines import MAX_NAMED_FAULTS
from tests.support.damage import save_tiny
from tests.support.models import tiny_model

GOOD = {"prompt": "Snow is", "choices": ["white", "black"], "answer": "white"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> str:
    return save_tiny(tiny_model, tmp_path_factory.mktemp("models") / "tiny")


def test_every_faulty_line_of_an_upload_is_named(tmp_path, capsys):
    """ "Every faulty line is named": only the first is."""
    bad = [b"{", json.dumps(GOOD).encode(), b'{"text": "\xff"}', b'{"text": 5}', b"", json.dumps(GOOD).encode()]
    (tmp_path / "mine.jsonl").write_bytes(b"\n".join(bad))
    *_, error = evaluate.add_benchmark(str(tmp_path / "mine.jsonl"), {}, [])
    assert "mine.jsonl has 4 faulty lines" in error
    for fault in ("line 1 is not JSON", "line 3 is not UTF-8", "line 4 is of another kind", "line 6 repeats line 2"):
        assert fault in error
    where = ["--results", str(tmp_path / "results")]
    assert main(["evaluate", "--benchmark", str(tmp_path / "mine.jsonl"), *where]) == 2
    said = capsys.readouterr().err
    assert "line 6 repeats line 2" in said and said.count("\n") == 1


def test_many_faults_are_counted(tmp_path):
    """A file of faults must not fill the page."""
    with pytest.raises(ValueError, match=r"has 1,000 or more faulty lines: .*line 20 .*; and 980 more\.$") as refused:
        load_benchmark("\n".join("[]" for _ in range(1000)), "mine")
    assert str(refused.value).count("line ") == MAX_NAMED_FAULTS
    with pytest.raises(ValueError, match="mine.jsonl is empty"):
        load_benchmark("\u00a0\n\u2003", "mine")


def test_every_faulty_line_of_task_data_is_named(tmp_path):
    """Local documents of a task: only the first faulty line is named."""
    from lm_eval.api.task import TaskConfig

    (tmp_path / "piqa.jsonl").write_text('{"goal": "a"}\n{\n{"sol": "b"}')
    with pytest.raises(ValueError, match="2 faulty lines: line 2 is not JSON.*; line 3 has the fields sol, not goal"):
        local_documents(tmp_path, TaskConfig(task="piqa", dataset_path="piqa", test_split="test"))


def test_a_text_that_is_cut_says_so(tiny, monkeypatch):
    """Similarity's text is cut at 512 tokens, the maps at 128, and nothing says so."""
    view, long = {"model": tiny, "plan": "2-4"}, "The sea was calm and grey. " * 200
    total = len(get_model(tiny).tokenizer(long).input_ids)
    _, about, error = similarity.draw_heatmap(view, long, "head_mean")
    assert f"{total:,} tokens" in about and f"first {settings.MAX_SIMILARITY_TOKENS}" in about and not error
    assert f"first {settings.MAX_MAP_TOKENS}" in similarity.draw_maps(view, long, 1, 2, 0)[0]
    found = api.similarity_endpoint(long, tiny)
    assert (found["tokens"], found["text_tokens"]) == (settings.MAX_SIMILARITY_TOKENS, total)
    assert "only the first" in found["note"]
    short = "The sea was calm."
    assert "only the first" not in similarity.draw_heatmap(view, short, "head_mean")[1]
    assert api.similarity_endpoint(short, tiny)["note"] == ""


def test_no_more_tokens_are_looked_at_than_the_model_has_places_for(tmp_path):
    """A text longer than the model's context, of a model that learned its positions."""
    small = save_tiny(lambda **fields: tiny_model(max_position_embeddings=32, **fields), tmp_path / "small")
    found = services.similarity(small, "The sea was calm and grey. " * 50, "head_mean")
    assert found.tokens == 32 < found.text_tokens


@pytest.mark.parametrize(("folder", "what"), [("timings", "a timing"), ("peers", "a record of peers")])
def test_broken_timings_are_named_like_broken_scores(tmp_path, monkeypatch, folder, what):
    """Broken timing records are not named anywhere on the page."""
    monkeypatch.setattr(settings.server, "results", tmp_path)
    (tmp_path / f"tiny/{folder}").mkdir(parents=True)
    (tmp_path / f"tiny/{folder}/broken.json").write_text("{")
    said = scores.choices({"model": "demo", "plan": "17-22", "heads": ""})[5]
    assert f"tiny/{folder}/broken.json is not {what}" in said


def test_evaluate_and_compare_name_other_versions(tiny, tmp_path, capsys, monkeypatch):
    """Points that were stored under other versions are printed as if they were of this one."""
    from core.records import provenance

    where = ["--model", tiny, "--tasks", "demo_copy", "--limit", "2", "--results", str(tmp_path)]
    assert main(["evaluate", *where]) == 0
    assert "other versions" not in capsys.readouterr().out
    now = provenance.versions()
    monkeypatch.setattr(provenance, "versions", lambda: now | {"torch": "99.0"})
    assert main(["evaluate", *where]) == 0
    assert f"torch {now['torch']}, now 99.0" in capsys.readouterr().out
    path = next(tmp_path.glob("tiny/dense/*.json"))
    record = json.loads(path.read_bytes()) | {"plan": "2-4", "followers": [3, 4], "kind": "direct"}
    record["versions"]["torch"] = "99.0"
    (tmp_path / "tiny/2-4").mkdir()
    (tmp_path / "tiny/2-4" / path.name).write_text(json.dumps(record))
    assert main(["compare", str(tmp_path / "tiny/dense"), str(tmp_path / "tiny/2-4")]) == 0
    assert f"torch {now['torch']} / 99.0" in capsys.readouterr().out
