"""Documents of lm-eval's tasks from local files: real benchmarks in the forms that people keep them in."""

import json

import pytest

from core.evaluation.catalogue import load_benchmarks

PAGES = " = First page = \n Some words . \n = = Part = = \n More words . \n = Second page = \n Other words . \n"


def write(path, rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def question(subject: str, number: int) -> dict:
    return {"question": f"{subject} {number}?", "subject": subject, "choices": ["0", "4", "2", "6"], "answer": number}


def test_many_subsets_of_one_file_are_told_apart_by_their_subject(tmp_path):
    names = ("anatomy", "virology")
    write(tmp_path / "mmlu.test.jsonl", [question(name, number) for name in names for number in (0, 1, 2)])
    write(tmp_path / "mmlu.dev.jsonl", [question(name, 3) for name in names])
    for benchmark in load_benchmarks([f"mmlu_{name}" for name in names], tmp_path):
        [task] = benchmark.tasks.values()
        subject = benchmark.name.removeprefix("mmlu_")
        assert [document["question"] for document in task.eval_docs] == [f"{subject} {number}?" for number in (0, 1, 2)]
        assert [document["question"] for document in task.fewshot_docs()] == [f"{subject} 3?"]
        assert benchmark.data_source.startswith("mmlu.test.jsonl, sha256 ")


def test_a_subset_without_rows_is_named(tmp_path):
    write(tmp_path / "mmlu.test.jsonl", [question("anatomy", 0)])
    with pytest.raises(ValueError, match="no rows of the subject 'virology'"):
        load_benchmarks(["mmlu_virology"], tmp_path)


def test_pages_of_plain_text_begin_at_their_titles(tmp_path):
    (tmp_path / "wikitext.txt").write_text(PAGES, encoding="utf-8")
    [benchmark] = load_benchmarks(["wikitext"], tmp_path)
    pages = [document["page"] for document in benchmark.tasks["wikitext"].eval_docs]
    assert "".join(pages) == PAGES and [page.splitlines()[0] for page in pages] == [
        " = First page = ",
        " = Second page = ",
    ]


def test_boolq_with_answers_in_words_of_json(tmp_path):
    write(tmp_path / "boolq.jsonl", [{"question": "is it", "answer": True, "passage": "It is."}])
    [benchmark] = load_benchmarks(["boolq"], tmp_path)
    task = benchmark.tasks["boolq"]
    [document] = task.eval_docs
    assert task.doc_to_text(document) == "It is.\nQuestion: is it?\nAnswer:" and document["label"] == 1


def test_an_empty_page_file_is_one_sentence(tmp_path):
    (tmp_path / "wikitext.txt").write_text(" \n", encoding="utf-8")
    with pytest.raises(ValueError, match="wikitext.txt is empty"):
        load_benchmarks(["wikitext"], tmp_path)


def test_a_file_that_changed_is_read_again(tmp_path):
    import os

    for answer, time_ns in ((True, 10**18), (False, 2 * 10**18)):
        write(tmp_path / "boolq.jsonl", [{"question": "is it", "answer": answer, "passage": "It is."}])
        os.utime(tmp_path / "boolq.jsonl", ns=(time_ns, time_ns))
        [benchmark] = load_benchmarks(["boolq"], tmp_path)
        assert [document["label"] for document in benchmark.tasks["boolq"].eval_docs] == [int(answer)]
