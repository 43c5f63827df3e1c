"""Findings follow from records: on made-up ones with a known truth, and in the README on the stored ones."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from core.__main__ import main
from core.evaluation.findings import Findings, change_words, load_findings, markdown, sentences, with_findings, written
from core.evaluation.losses import FILE, LossIndex, load_index
from core.evaluation.paired import Loss
from core.evaluation.resolve import pairs_of
from core.places import RESULTS
from core.plan import SharingPlan
from core.records.scores import SCORED_BY, Metric, load_records
from core.records.searches import PlanDamage, SearchRecord, save_search
from tests.support.scores import LAYERS, right, store

ROOT = Path(__file__).parents[3]
README = ROOT / "README.md"
TOLD = "SmolLM2-135M-Instruct"


def found(results, model: str = "demo", keep: bool = False) -> Findings:
    *_, last = load_findings(results, model, LossIndex(), keep)
    return last


@pytest.fixture
def search(tmp_path):
    """`search(name, points, **settings)` stores a search or a measurement of pairs of the demo model."""

    def search(name: str, points: list[PlanDamage], **settings):
        text = {"sha256": "0", "tokens": 100, "chunks": 2}
        record = SearchRecord(
            name=name, model="demo", weights_sha256="abc", num_layers=LAYERS, dtype="float32", execution="auto",
            texts={"calibration": text, "held-out": text}, seed=0, settings=settings, layer_evaluations=1,
            naive_layer_evaluations=1, versions={}, git_commit=None, machine={"cpu": "c", "cpu_cores": 1},
            date="2025-01-01T00:00:00Z", duration_s=1, command="…",
        )  # fmt: skip
        save_search(tmp_path, record, points)

    return search


def damages(followers: int, damage: float, held_out: float) -> list[PlanDamage]:
    """A plan that was found, on both texts."""
    plan = SharingPlan(((20 - followers, 20),), LAYERS)
    chosen = PlanDamage(
        role="found", plan=plan, split="calibration", damage=damage, stderr=0.01, kl=0.0,
        cache_saving=followers / (2 * LAYERS), tokens=100,
    )  # fmt: skip
    return [chosen, chosen.model_copy(update={"split": "held-out", "damage": held_out, "stderr": 0.004})]


@pytest.fixture
def scored(tmp_path):
    """Six tasks with a dense model, a free plan of one follower, one of seven that is worse on all."""
    for number in range(6):
        for plan, count in (("", 300), ("19-20", 300), ("13-20", 260)):
            store(tmp_path, plan, right(count), task=f"task_{number}")
    return tmp_path


def test_the_largest_free_plan_is_told(scored):
    (free, best) = sentences(found(scored))
    assert free.startswith("1 of 24 layers can share for free, with plan 19-20 (paper: SA 20~20): on none of 6 tasks")
    assert "on 6 it is shown that less than 1 point is lost" in free and "+0.0 ± 0.0 points" in free
    assert best.startswith("Plans are told apart best by task_0 (exact_match)")


def test_a_plan_that_was_asked_too_little_is_not_the_nearest(scored):
    """It was named as *worse on* nothing."""
    for number in range(6):
        store(scored, "19-20", right(260), task=f"task_{number}")
    store(scored, "18-19", right(300), task="task_0")
    (nearest, *_) = sentences(found(scored))
    assert "Nearest to it is plan 19-20" in nearest and "worse on task_0" in nearest


def test_only_plans_that_were_asked_too_little(tmp_path):
    for plan, count in (("", 300), ("13-20", 260)):
        for number in range(6):
            store(tmp_path, plan, right(count), task=f"task_{number}") if plan == "" or number < 2 else None
    assert sentences(found(tmp_path))[0].startswith("No plan")


def test_a_loss_that_falls_is_no_measure(scored, search):
    search("search+followers=5", damages(5, -0.2, -0.1))
    assert any("costs -0.100 ± 0.004 nats per token (no more than nothing" in one for one in sentences(found(scored)))


def test_without_a_free_plan_the_nearest_is_told(scored):
    for number in (0, 1):
        store(scored, "19-20", right(260), task=f"task_{number}")
    assert sentences(found(scored))[0] == (
        "No plan that only shares was found free. Nearest to it is plan 19-20 (paper: SA 20~20), worse on "
        "task_0 (exact_match) −10.0 ± 1.5 points, task_1 (exact_match) −10.0 ± 1.5 points."
    )


def test_a_tenth_of_the_cache_is_what_its_least_harmful_plan_costs(scored, search):
    few, enough, more = damages(4, 0.01, 0.02), damages(5, 0.05, 0.06), damages(7, 0.09, 0.11)
    search("search+1", [*few, *enough, *more])
    _, saving, _ = sentences(found(scored))
    assert saving.startswith(
        "10% of the KV cache costs 0.060 ± 0.004 nats per token: of the plans found that save as much, plan 15-20 "
        "(paper: SA 16~20), does least damage (5 followers, 10.4% saved). The nearest plan with scores, plan 13-20 (paper: SA "
        "14~20) with 7 followers, saves 14.6% and costs 0.110 ± 0.004 nats per token; it loses most on "
    )
    assert saving.endswith("worse on 6 of 6 tasks.") and "task_3 (exact_match) −10.0 ± 1.5 points" in saving
    store(scored, "15-20", right(280), task="task_0")
    assert (
        "10.4% saved). It loses most on task_0 (exact_match) −5.0 ± 1.1 points; worse on 1 of 1 tasks."
        in (sentences(found(scored))[1])
    )


def test_a_changed_record_changes_the_sentence(scored):
    before = sentences(found(scored))
    store(scored, "13-20", right(299), task="task_5")
    assert sentences(found(scored)) != before


def test_similarity_speaks_by_its_best_method(scored, search):
    settings = {
        f"{method}_{name}": value
        for method, rho in (("head_mean", 0.1), ("per_head", -0.5))
        for name, value in (("rho", rho), ("low", rho - 0.1), ("high", rho + 0.1), ("pairs", 276))
    }
    search("pairs", [], **settings)
    assert sentences(found(scored))[1].startswith(
        "More similar layers do less damage when they share (per_head: ρ = −0.50"
    )


def test_the_place_in_a_document_is_found_again(scored):
    one = found(scored)
    text = with_findings("# Title\n\n## Words\n\n## Limits\n\nNone.\n", one)
    assert written(text, "demo") == markdown(one) and text.endswith("\n## Limits\n\nNone.\n")
    assert with_findings(text, one) == text and "| task_0 · exact_match | 0.750 | −10.0 ± 1.5 points |" in text
    store(scored, "13-20", right(100), task="task_0")
    again = with_findings(text, found(scored))
    assert (
        written(again, "demo") == markdown(found(scored)) != markdown(one) and again.count("## What the records") == 1
    )
    with pytest.raises(ValueError, match="needs a section"):
        with_findings("# Title\n", one)


def test_the_command_writes_document_and_index(scored, tmp_path, capsys):
    document = tmp_path / "README.md"
    document.write_text("\n## Limits\n", encoding="utf-8")
    assert main(["findings", "--results", str(scored), "--write", str(document)]) == 0
    printed = capsys.readouterr().out
    assert "can share for free" in printed and "task_5 · exact_match" in printed
    assert "can share for free" in document.read_text(encoding="utf-8")
    pairs = pairs_of((scored, record) for record in load_records(scored)[0])
    assert load_index(scored).missing(pairs) == [] and (scored / "demo" / FILE).is_file()
    assert main(["findings", "--results", str(scored), "--model", "nothing"]) == 2


# The stored records


def models() -> list[str]:
    return sorted({record.model for record in load_records(RESULTS)[0] if record.kind == "dense"})


@pytest.mark.parametrize("model", models())
def test_what_stored_answers_say_is_stored_beside_them(model):
    """Else the first start of the page reads them all: python -m core findings --model NAME --write README.md"""
    index = LossIndex(RESULTS / model / FILE)
    pairs = [
        pair for pair in pairs_of((RESULTS, record) for record in load_records(RESULTS)[0])
        if pair.shared[1].model.partition("-tuned-")[0] == model
    ]  # fmt: skip
    assert index.missing(pairs) == []
    for pair in pairs[:: max(1, len(pairs) // 6)]:  # and it is what they say
        fresh = LossIndex()
        list(fresh.learn([pair]))
        kept, read = index.get(pair), fresh.get(pair)
        assert kept.losses.keys() == read.losses.keys()
        for name, loss in read.losses.items():
            assert kept.losses[name] == pytest.approx(loss, rel=1e-4, nan_ok=True)


def test_the_readme_says_what_the_records_say():
    *_, told = load_findings(RESULTS, TOLD, load_index(RESULTS))
    assert written(README.read_text(encoding="utf-8"), TOLD) == markdown(told), (
        f"python -m core findings --model {TOLD} --write README.md"
    )


def test_changes_are_told_in_points_percent_or_times():
    def words(before: float, after: float, higher_is_better: bool, stderr: float = 0.01) -> str:
        drop = (before - after) if higher_is_better else after - before
        score = Metric(value=before, higher_is_better=higher_is_better)
        return change_words(
            SimpleNamespace(score=score), SimpleNamespace(loss=Loss(drop, stderr, 0.5, None, None, True))
        )

    assert words(0.5, 0.488, True) == "−1.2 ± 1.0 points" and words(0.5, 0.5, True) == "+0.0 ± 1.0 points"
    assert words(20, 20.7, False, 0.04) == "+3.5 ± 0.2%" and words(20, 5000, False) == "×250"


def test_what_is_told_of_sharing_is_told_of_plans_that_only_share(scored):
    for number in range(6):
        store(scored, "18-20,skip 5-7", right(300), task=f"task_{number}")
    free, *_ = sentences(found(scored))
    assert free.startswith("1 of 24 layers can share for free, with plan 19-20")


def test_it_is_said_how_a_plan_whose_phases_differ_was_scored(scored):
    assert not any("Scored" in sentence for sentence in sentences(found(scored)))
    for number in range(6):
        store(scored, "18-20@decode", right(250), task=f"task_{number}", scored_by="cache")
    assert sentences(found(scored))[-1] == f"Plan 18-20@decode: {SCORED_BY['cache']}"


def test_a_free_plan_that_skips_is_not_told_as_one_that_is_worse(scored):
    """It was the nearest to a free plan, "worse on ." nothing."""
    for number in range(6):
        store(scored, "skip 5-7", right(300), task=f"task_{number}")
        store(scored, "19-20", right(260), task=f"task_{number}")
    first, *_ = sentences(found(scored))
    assert (
        "skip" not in first
        and "worse on ." not in first
        and "only shares was found free. Nearest to it is plan 19-20" in first
    )
