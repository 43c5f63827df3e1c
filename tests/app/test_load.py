"""Several visitors at once on a real server, for twenty seconds: `python -m tests.benchmarks.visitors` in small."""

import asyncio

from tests.benchmarks import visitors
from tests.support.browser import free_port


def test_nothing_fails_while_several_visitors_ask_and_each_text_is_the_one_given_alone():
    with visitors.server(free_port()) as (address, process):
        figures = asyncio.run(visitors.simulate(address, process.pid, 4, 20, think_s=1.0, texts=4, seed=1))
    assert figures["errors"] == {"count": 0, "first": []}
    assert figures["other_texts"]["count"] == 0 < figures["other_texts"]["of"]
    assert figures["answers"]["savings"] and figures["memory_mb"]["end"] > 100


def test_what_does_not_hold_is_said():
    figures = {
        "errors": {"count": 1}, "fairness": {"slowest_by_median": 1.5}, "memory_mb": {"growth": 0.051},
        "other_texts": {"count": 0},
    }  # fmt: skip
    assert visitors.judge(figures) == [
        "errors is 1, and at most 0 is allowed.",
        "memory_growth is 0.051, and at most 0.05 is allowed.",
    ]


def test_figures_are_of_whole_visitors():
    asked = visitors.requests(3, 0)
    each = [visitors.Simulated(None, number, asked, 1.0, 0) for number in range(3)]
    for one, seconds in zip(each, ((1.0, 3.0), (2.0,), (6.0, 4.0)), strict=True):
        one.answers["generate"] = [visitors.Answer("ok", None, each_s) for each_s in seconds]
        one.written = [(asked[0], ("dense", "shared"))]
    each[0].answers["savings"] = [visitors.Answer("full", "", 0.1), visitors.Answer("error", "No", 0.1)]
    memory = [500.0] * 10 + [100.0] * 30 + [110.0] * 10
    figures = visitors.figures_of(each, {asked[0]: ("dense", "other")}, memory, 0.5)
    assert figures["fairness"]["median"] == 2.0 and figures["fairness"]["slowest_by_median"] == 2.5
    assert figures["full"] == 1 and figures["errors"] == {"count": 1, "first": ["No"]}
    assert figures["memory_mb"]["growth"] == 0.1 and figures["other_texts"]["count"] == 3


def test_the_same_seed_asks_for_the_same():
    assert visitors.requests(20, 3) == visitors.requests(20, 3) != visitors.requests(20, 4)
