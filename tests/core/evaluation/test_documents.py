"""Documents of benchmarks: examples that are shown, what is asked in words, and other documents in the same place."""

import json

import pytest

from core.evaluation.answers import load_documents, pair_answers
from core.evaluation.catalogue import load_benchmarks
from core.evaluation.documents import asked, data_sha256, num_asked
from core.evaluation.options import Options


def test_few_shot_examples_are_asked_and_recorded(measure, tmp_path):
    (record,) = measure(options=Options(num_fewshot=2, limit=2))
    assert record.num_fewshot == 2 and record.options == {"num_fewshot": 2, "limit": 2}


def test_other_documents_for_a_stored_point_are_refused(measure, tmp_path):
    folder = tmp_path / "task_data"
    folder.mkdir()
    row = {"goal": "To wait,", "sol1": "sit.", "sol2": "run.", "label": 0}
    (folder / "piqa.jsonl").write_text(json.dumps(row))
    measure(tasks=["piqa"], task_data=folder)
    (folder / "piqa.jsonl").write_text(json.dumps(row | {"label": 1}))
    with pytest.raises(ValueError, match="measured with another data sha256"):
        measure(tasks=["piqa"], task_data=folder)
    with pytest.raises(ValueError, match="piqa shows 2 examples, but the task data has none"):
        measure(tasks=["piqa"], task_data=folder, options=Options(num_fewshot=2))


def test_what_is_asked_is_stored_once_for_all_plans(measure, tmp_path):
    dense, shared = measure(["dense", "2-4"], ["demo_arithmetic"])
    assert dense.documents_path == shared.documents_path
    documents = load_documents(tmp_path, dense)
    assert [number for _, number in documents] == [0, 1, 2, 3]
    task = next(iter(load_benchmarks(["demo_arithmetic"])[0].tasks.values()))
    assert [row["prompt"] for row in documents.values()] == [row["prompt"] for row in task.eval_docs][:4]
    pairs = pair_answers((tmp_path, dense), (tmp_path, shared), "exact_match")
    assert [(pair.prompt, pair.right) for pair in pairs] == [
        (row["prompt"], row["right"]) for row in documents.values()
    ]
    (tmp_path / dense.documents_path).unlink()
    measure(["dense"], ["demo_arithmetic"])  # nothing to measure, but what is missing is written again
    assert load_documents(tmp_path, dense) == documents


def test_questions_with_choices_are_kept_in_words(sentence_pairs, tmp_path, measure):
    folder = tmp_path / "task_data"
    row = {"context_options": ["Ann saw Eve so Ann", "Ann saw Eve so Eve"], "continuation": "waved.", "gold": 1}
    (folder / "winogrande.jsonl").write_text(json.dumps(row))
    (folder / "lambada_openai.jsonl").write_text(json.dumps({"context": "They drank", "continuation": "tea"}))
    tasks = ["winogrande", "lambada_openai", "blimp_causative"]
    found = [load_documents(tmp_path, record) for record in measure(tasks=tasks, task_data=folder)]
    first = [documents[task, 0] for documents, task in zip(found, tasks, strict=True)]
    sentences = ["Ann saw Eve so Ann waved.", "Ann saw Eve so Eve waved."]
    assert (first[0]["choices"], first[0]["right"]) == (sentences, sentences[1])
    assert (first[1]["prompt"], first[1]["right"]) == ("They drank", " tea")
    assert first[2]["choices"] == ["causative sleeps a lot.", "Cats."] and first[2]["right"] == first[2]["choices"][0]


def test_documents_are_prepared_once_not_for_each_of_them(monkeypatch):
    """lm-eval prepares all documents at every look at `eval_docs`: a look per question took hours for HellaSwag."""
    (benchmark,) = load_benchmarks(["demo_arithmetic"])
    (task,) = benchmark.tasks.values()
    looks, every = [], type(task).eval_docs.fget
    monkeypatch.setattr(type(task), "eval_docs", property(lambda task: looks.append(1) or every(task)))
    options = Options(limit=20)
    assert len(list(asked(benchmark, options))) == num_asked(benchmark, options) == 20 and data_sha256(benchmark)
    assert len(looks) <= 1
