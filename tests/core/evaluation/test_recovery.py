"""What tuning recovered, on made-up answers whose truth is known: shares, errors, controls, seeds, and what is not said."""

import numpy as np
import pytest

from core.evaluation.recovery import Recovery, quartets, recovery_of, share_of
from core.records.scores import Record, load_records
from tests.support.scores import right, store

PLAN, METRIC = "17-22", "exact_match"


def tuning(seed: int = 0, control: bool = False, **changes) -> dict:
    about = {"of": "demo", "control": control, "plan": PLAN, "method": "full", "objective": "text", "tokens": 1000}
    return about | {"steps": 10, "seed": seed, "data_sha256": "0123456789"} | changes


def add(results, kind: str, scores, seed: int = 0, **changes) -> Record:
    """The scores of a tuned model or of a control."""
    control = kind == "control"
    told = changes.pop("tuning", tuning(seed, control))
    about = {"model": f"{kind}-{seed}", "weights_sha256": f"{kind}-{seed}", "kind": kind, "tuning": told}
    return store(results, "" if control else PLAN, scores, **(about | changes))


def told(results, metric: str = METRIC) -> list[Recovery]:
    return [recovery_of(one, metric) for one in quartets((results, record) for record in load_records(results)[0])]


@pytest.fixture
def damaged(tmp_path):
    """400 questions: dense 360 right, shared 280."""
    store(tmp_path, "", right(360))
    store(tmp_path, PLAN, right(280))
    return tmp_path


def test_the_share_against_the_control(damaged):
    add(damaged, "tuned", right(356))
    add(damaged, "control", right(364))
    (found,) = told(damaged)
    assert found.share == pytest.approx(1 - 8 / 80) and (found.documents, found.seeds, found.controlled) == (
        400,
        1,
        True,
    )
    assert found.plan == PLAN and found.model == "demo" and "full" in found.recipe and found.reason == ""
    damage, left = np.array(right(80)), np.array(right(8))  # which documents differ decides the error
    influence = (left - 0.1 * np.roll(damage, 280)) / 0.2
    assert found.stderr == pytest.approx(np.roll(influence, 0).std(ddof=1) / 20, rel=0.1)


def test_without_a_control_against_dense_and_with_that_of_another_seed_too(damaged):
    add(damaged, "tuned", right(352))
    add(damaged, "control", right(364), seed=1)
    (found,) = told(damaged)
    assert found.share == pytest.approx(1 - 8 / 80) and not found.controlled and found.p_value is None


def test_a_distilled_model_is_held_against_the_dense_one_it_learned_from(damaged):
    add(damaged, "tuned", right(352), tuning=tuning(objective="distillation"))
    add(damaged, "control", right(364))  # learned from the text
    (found,) = told(damaged)
    assert found.share == pytest.approx(1 - 8 / 80) and not found.controlled and "distillation" in found.recipe


def test_the_error_is_that_of_a_paired_bootstrap():
    rng = np.random.default_rng(0)
    hard = rng.normal(size=600)
    dense, shared, tuned, control = (
        hard + shift + 0.3 * rng.normal(size=600) for shift in (1.0, 0.0, 0.8, 1.05)
    )  # fmt: skip
    found = share_of(Recovery("demo", PLAN, "", ""), dense, shared, tuned[None], control[None], True)
    shares = []
    for _ in range(2000):
        drawn = rng.integers(0, 600, 600)
        d, s, t, c = (side[drawn].mean() for side in (dense, shared, tuned, control))
        shares.append(1 - (c - t) / (d - s))
    assert found.share == pytest.approx(0.75, abs=0.05)
    assert found.stderr == pytest.approx(np.std(shares), rel=0.1)


def test_seeds_are_averaged_and_their_spread_is_part_of_the_error(damaged):
    for seed, count in enumerate((340, 350, 360)):
        add(damaged, "tuned", right(count), seed=seed)
        add(damaged, "control", right(360), seed=seed)
    (found,) = told(damaged)
    assert found.seeds == 3 and found.share == pytest.approx(1 - 10 / 80)
    assert found.stderr > np.std([20, 10, 0], ddof=1) / np.sqrt(3) / 80


@pytest.mark.parametrize(
    ("seeds", "gain", "control", "better"),
    [(3, 24, True, True), (2, 24, True, False), (3, 24, False, False), (3, 1, True, False), (3, -8, True, False)],
)
def test_better_than_dense_takes_three_seeds_and_significance_against_the_control(
    damaged, seeds, gain, control, better
):
    for seed in range(seeds):
        add(damaged, "tuned", right(366 + gain + seed % 2), seed=seed)
        if control:
            add(damaged, "control", right(366), seed=seed)
    (found,) = told(damaged)
    assert found.better is better and found.controlled is control and found.seeds == seeds
    assert found.share is not None and (found.p_value is not None) is control


def test_a_control_that_lost_does_not_make_the_tuned_model_better_than_dense(damaged):
    for seed in range(3):
        add(damaged, "tuned", right(340), seed=seed)
        add(damaged, "control", right(300), seed=seed)
    (found,) = told(damaged)
    assert found.p_value < 0.05 and found.share > 1 and not found.better


def test_perplexities_are_compared_as_logarithms(tmp_path):
    rng = np.random.default_rng(1)
    words = rng.normal(-3, 0.5, 200)
    shifts = {"": 0.0, PLAN: -0.5, "tuned": -0.1, "control": 0.05}
    for name, shift in shifts.items():
        scores = (words + shift).tolist()
        changes = {"metric": "perplexity", "higher_is_better": False, "value": float(np.exp(-np.mean(scores)))}
        if name in ("", PLAN):
            store(tmp_path, name, scores, **changes)
        else:
            add(tmp_path, name, scores, **changes)
    (found,) = told(tmp_path, "perplexity")
    assert found.share == pytest.approx(1 - 0.15 / 0.5)


def test_what_is_missing_is_said(damaged, tmp_path_factory):
    add(damaged, "tuned", right(350), samples=False)
    (found,) = told(damaged)
    assert found.share is None and found.reason == "The single answers of tuned-0 (17-22) are not stored."
    alone = tmp_path_factory.mktemp("alone")
    add(alone, "tuned", right(350))
    store(alone, "", right(360))
    (found,) = told(alone)
    assert found.reason == "The direct score of the same questions is missing."
    (found,) = told(alone, "acc")
    assert "missing" in found.reason


def test_a_share_of_no_damage_is_not_told(tmp_path):
    store(tmp_path, "", right(300))
    store(tmp_path, PLAN, right(299))
    add(tmp_path, "tuned", right(300))
    (found,) = told(tmp_path)
    assert found.share is None and "nothing to recover" in found.reason


def test_recipes_stand_apart_and_quantized_models_are_left_out(damaged):
    add(damaged, "tuned", right(350))
    add(damaged, "tuned", right(340), seed=1, tuning=tuning(1, method="lora", corrections={"rank": 8}))
    add(damaged, "tuned", right(200), seed=2, options={"kv_cache": "quantized-4"})
    found = {one.recipe.partition(",")[0]: one for one in told(damaged)}
    assert {name: one.seeds for name, one in found.items()} == {"full": 1, "lora": 1}
    assert "rank 8" in found["lora"].recipe


def test_the_bundled_pair_has_no_control_and_tells_what_it_recovered():
    from core.places import RESULTS

    of_prose = [one for one in told(RESULTS, "bits_per_byte") if one.task.startswith("demo_prose")]
    (bundled,) = (one for one in of_prose if one.recipe == "")
    assert 0.5 < bundled.share < 1.2 and not bundled.controlled and not bundled.better
    tuned = {one.plan: one for one in of_prose if one.recipe}
    assert {"17-22", "12-22", "3-4,14-15,16-17,19-20,21-22"} <= set(tuned)
    assert all(0.7 < one.share < 1.1 and not one.better for one in tuned.values())
    assert {"distillation" in one.recipe for one in of_prose if one.recipe and not one.controlled} == {True}
    assert any(one.seeds == 3 for one in of_prose)
