"""Single answers side by side: in words, with their scores, and what guessing would give."""

from datetime import datetime, timezone

import pytest

from core.evaluation.answers import Answer, at_chance, chance_level, load_documents, pair_answers
from core.records.files import write_file
from core.records.scores import Record, pack_lines, save_record


def make(plan: str = "", **changes) -> Record:
    values = {
        "model": "demo", "weights_sha256": "abc", "num_layers": 24, "plan": plan, "followers": (18,) if plan else (),
        "kind": "direct" if plan else "dense", "dtype": "float32", "task": "quiz", "task_version": "1",
        "metrics": {"acc": {"value": 0.5}}, "num_samples": 2, "num_fewshot": 0, "seeds": {}, "batch_size": 1,
        "data_sha256": "def", "versions": {}, "git_commit": None, "machine": {"cpu": "Some CPU", "cpu_cores": 2},
        "date": datetime.now(timezone.utc), "duration_s": 1.0, "command": "python -m core evaluate",
    }  # fmt: skip
    return Record(**values | changes)


def sample(number: int, answer: list, **scores: float) -> dict:
    return {"doc_id": number, "filter": "none", "target": "tea", "answer": answer, "scores": scores}


@pytest.fixture
def answered(tmp_path):
    """`answered(dense, shared, **changes)` stores two records with these samples; both with their folder."""

    def answered(dense: list[dict], shared: list[dict], **changes):
        rows = (("", dense), ("17-18", shared))
        return [(tmp_path, save_record(tmp_path, make(plan, **changes), samples)) for plan, samples in rows]

    return answered


def test_choices_are_told_in_words_where_the_documents_are_stored(answered, tmp_path):
    dense, shared = answered(
        [sample(0, [[-1.0, True], [-2.0, False]], acc=1.0, acc_norm=0.0)],
        [sample(0, [[-3.0, True], [-2.0, False]], acc=0.0, acc_norm=0.0)],
    )
    (pair,) = pair_answers(dense, shared, "acc")
    assert (pair.dense, pair.shared) == (Answer("choice 1", 1.0), Answer("choice 2", 0.0)) and pair.differs
    row = {"task": "quiz", "doc_id": 0, "prompt": "They drink", "choices": ["tea", "a long list"], "right": "tea"}
    write_file(tmp_path / dense[1].documents_path, pack_lines([row]))
    (pair,) = pair_answers(dense, shared, "acc")
    assert (pair.prompt, pair.right, pair.dense.words, pair.shared.words) == ("They drink", "tea", "tea", "a long list")
    (pair,) = pair_answers(dense, shared, "acc_norm")  # by log-likelihood per character
    assert pair.dense.words == "a long list"


def test_texts_and_likelihoods_are_told_in_words(answered):
    dense = [sample(0, [" tea\n"], acc=1.0), sample(1, [[-1.5, True]], acc=1.0), sample(2, [-7.25], acc=0.1)]
    shared = [sample(0, ["coffee"], acc=0.0), sample(1, [[-2.5, False]], acc=0.0), sample(2, [-7.25], acc=0.1)]
    pairs = pair_answers(*answered(dense, shared), "acc")
    assert [pair.dense.words for pair in pairs] == ["tea", "tea", "log-likelihood -7.25"]
    assert [pair.shared.words for pair in pairs] == ["coffee", "log-likelihood -2.50", "log-likelihood -7.25"]
    assert [pair.differs for pair in pairs] == [True, True, False]
    assert (pairs[2].prompt, pairs[2].right) == ("tea", "")  # a text that is scored is what is asked


def test_answers_to_other_questions_are_refused(answered):
    dense, _ = answered([], [])
    other = (dense[0], make("17-18", data_sha256="other"))
    with pytest.raises(ValueError, match="were asked other questions"):
        pair_answers(dense, other, "acc")


@pytest.mark.parametrize("content", [b"", b"no gzip", pack_lines([{"prompt": "x"}]), pack_lines([{}])[:-9]])
def test_a_broken_file_of_documents_is_as_none(answered, tmp_path, content):
    _, (folder, record) = answered([], [])
    write_file(tmp_path / record.documents_path, content)
    assert load_documents(folder, record) == {}


def test_chance_is_counted_in_the_answers(answered):
    two, four = [[-1.0, False]] * 2, [[-1.0, False]] * 4
    _, place = answered([], [sample(0, two, acc=1.0), sample(1, four, acc=0.0)])
    assert chance_level(*place, "acc") == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert chance_level(*place, "acc_norm") == pytest.approx(0.375)
    assert chance_level(*place, "perplexity") is None


def test_chance_without_choices_is_none_or_zero(answered):
    assert chance_level(*answered([], [sample(0, ["free text"], acc=1.0)])[1], "acc") is None
    assert chance_level(*answered([], [sample(0, [[-1.0, False]], acc=1.0)])[1], "acc") == 0


def test_chance_of_known_tasks_is_known_without_answers(tmp_path):
    tasks = ("blimp", "blimp_causative", "piqa", "winogrande", "arc_easy", "lambada_openai", "quiz")
    levels = [chance_level(tmp_path, make(task=task), "acc") for task in tasks]
    assert levels == [0.5, 0.5, 0.5, 0.5, 0.25, 0.0, None]


def test_at_chance_means_within_two_standard_errors():
    assert at_chance(0.53, 0.02, 0.5) and at_chance(0.3, 0.02, 0.5) and not at_chance(0.55, 0.02, 0.5)
    assert at_chance(0.0, 0.0, 0.0) and not at_chance(0.1, None, 0.0) and not at_chance(0.1, float("nan"), 0.0)
    assert not at_chance(0.5, 0.1, None)
