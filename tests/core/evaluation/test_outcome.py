"""What is kept of lm-eval's results."""

from core.evaluation.outcome import answers_of


def found(answers: list, target: str) -> dict:
    sample = {"doc_id": 0, "filter": "none", "target": target, "filtered_resps": answers, "metrics": ["m"], "m": 1.0}
    return {"samples": {"task": [sample]}}


def test_texts_that_are_scored_whole_are_told_by_their_beginning():
    """The answers of WikiText held all of WikiText, once for every plan."""
    long = "word " * 100
    assert answers_of(found([-3.5], long))[0]["target"] == long[:200] + " …"
    assert answers_of(found([-3.5], "short"))[0]["target"] == "short"
    assert answers_of(found(["a text of its own"], long))[0]["target"] == long  # of questions it is the right answer
    assert answers_of(found([(-1.0, True)], long))[0]["target"] == long
