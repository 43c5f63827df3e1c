"""What is read out of records of mechanisms: curves, layers, and what they say of sharing."""

import json
import math
from pathlib import Path

import pytest

from core.records.mechanisms import (
    BUDGETS,
    best_for,
    curve_role,
    difference,
    layer_costs,
    mechanism_curves,
    sharing_against,
    targets_of,
    verdict_on_sharing,
)
from core.records.searches import PlanDamage, SearchRecord, StoredSearch, load_searches, save_search
from tests.support.mechanism_records import CHUNKS, COSTS, LAYERS, both, measured, record, synthetic


def with_lines(*lines: list[PlanDamage], **settings) -> StoredSearch:
    return StoredSearch(record(**settings), [line for pair in lines for line in pair])


def test_it_is_stored_and_read_back(tmp_path):
    stored = synthetic()
    path = save_search(tmp_path, *stored)
    assert path == tmp_path / "demo/searches/mechanisms.jsonl" and stored.record.kind == "mechanisms"
    assert load_searches(tmp_path) == ([stored], [])
    line = json.loads(path.read_text().splitlines()[-1])
    assert line["savings"] == {"flops": 0.06} and len(line["rows"]) == CHUNKS


def test_records_of_the_first_format_still_load_and_say_the_same(tmp_path):
    golden = (Path(__file__).parents[2] / "golden_records/mechanisms-v1.jsonl").read_bytes()
    path = tmp_path / SearchRecord.model_validate_json(golden.splitlines()[0]).path
    path.parent.mkdir(parents=True)
    path.write_bytes(golden)
    [stored], problems = load_searches(tmp_path)
    assert not problems and save_search(tmp_path, *stored).read_bytes() == golden
    curves = mechanism_curves(stored)
    assert curves.mechanism.tolist() == ["share", "skip", "skip", "mixture", "mixture"]
    assert curves["plan"].tolist()[-2:] == ["16-17,skip 4", "15-16,skip 4 17"] and curves.head_map.map(bool).sum() == 3
    assert len(layer_costs(stored)) == 46 and "paired over 2 chunks" in verdict_on_sharing(stored)


def test_lines_of_other_records_have_none_of_it(tmp_path):
    plain = [measured("1-3", 0.1, rows=False)]
    written = save_search(tmp_path, record(), plain).read_text().splitlines()[1]
    assert not {"savings", "rows"} & set(json.loads(written))


def test_curves_tell_every_target_that_is_reached():
    frame = mechanism_curves(synthetic())
    assert list(frame.columns) == [
        "budget", "mechanism", "target", "saving", "damage", "stderr", "held_damage", "held_stderr", "plan", "head_map",
    ]  # fmt: skip
    cache = frame[frame.budget == "cache"]
    assert cache.groupby("mechanism", sort=False).target.agg(list).to_dict() == {
        "share": [0.05, 0.1, 0.2, 0.3, 0.4], "skip": [0.05, 0.1, 0.2, 0.3, 0.4], "keys": [0.05, 0.1, 0.2],
        "mixture": [0.05, 0.1, 0.2, 0.3, 0.4],
    }  # fmt: skip
    assert frame[frame.mechanism == "topk"].budget.tolist() == ["flops"]
    last = cache[(cache.mechanism == "share") & (cache.target == 0.4)].iloc[0]
    assert (last["plan"], last.saving, last.damage) == ("0-18", 0.45, 0.8) and last.held_damage == pytest.approx(0.88)


def test_one_plan_is_the_best_of_all_targets_that_it_reaches():
    dear = both(curve_role("cache", "skip"), "skip 3", 0.4, 0.5, cache=0.05)
    cheap = both(curve_role("cache", "skip"), "skip 1 2", 0.3, 0.6, cache=0.1)
    frame = mechanism_curves(with_lines(dear, cheap))
    assert frame.target.tolist() == [0.05, 0.1] and set(frame["plan"]) == {"skip 1 2"}


def test_of_equal_damage_the_plan_that_saves_more_is_taken_whatever_the_order():
    plans = [measured("skip 3", 0.4, cache=0.05), measured("skip 1 2", 0.4, cache=0.1), measured("skip 4", 0.4, cache=0.1)]  # fmt: skip
    for order in (plans, plans[::-1]):
        assert str(best_for(order, "cache", 0.05).plan) == "skip 1 2"
    assert best_for(plans, "cache", 0.2) is best_for(plans, "time", 0.05) is None
    assert str(best_for(plans, "cache", 0.1 + 1e-12).plan) == "skip 1 2"


def test_a_plan_that_was_not_judged_has_no_held_out_damage():
    [one] = mechanism_curves(
        with_lines(both(curve_role("cache", "skip"), "skip 3", 0.4, 0.5, cache=0.05)[:1])
    ).itertuples()
    assert one.damage == 0.4 and math.isnan(one.held_damage) and math.isnan(one.held_stderr)


def test_targets_are_those_that_were_asked_for():
    assert targets_of(StoredSearch(record("0.3 0.1,0.1"), [])) == [0.1, 0.3]
    assert targets_of(StoredSearch(record(""), [])) == targets_of(StoredSearch(record("most"), [])) == []
    assert targets_of(StoredSearch(record("0 -1 nan inf 1 0.5"), [])) == [0.5]
    assert len(targets_of(StoredSearch(record(" ".join(f"0.{n:05}" for n in range(1, 9000))), []))) == 100


def test_layers_tell_what_each_mechanism_costs_there():
    frame = layer_costs(synthetic())
    assert len(frame) == (LAYERS - 1) * len(COSTS) and frame.layer.is_monotonic_increasing
    assert frame.mechanism.tolist()[: len(COSTS)] == list(COSTS)
    cheapest = frame.loc[frame.groupby("layer").damage.idxmin()].mechanism.tolist()
    assert set(cheapest) == {"topk"}
    assert frame[frame.layer == 1].cache.tolist() == [0.025, 0.05, 0.05, 0.025, 0.0] and frame.time.isna().all()
    assert set(BUDGETS) < set(frame.columns)


def test_layers_are_those_of_single_layers_on_the_text_to_choose_on():
    lines = [measured("skip 1", 0.1, role="layer"), measured("skip 1 2", 0.2, role="layer")]
    lines += [measured("skip 3", 0.3, "held-out", role="layer"), measured("skip 4", 0.4, role="curve:cache:skip")]
    assert layer_costs(StoredSearch(record(), lines)).layer.tolist() == [1]


def test_the_verdict_is_a_sentence_with_an_interval():
    said = verdict_on_sharing(synthetic())
    assert said == (
        "On demo, at 20% of the KV cache saved, Shared Attention alone costs 0.440 nats a token of held-out text and leaving "
        "attention out 0.220: sharing is worse by 0.220 (95% interval of the difference 0.192 to 0.248, paired over 4 chunks), "
        "worse at 5, 10, 30 and 40%; the best mixture costs 0.176 and shares in 1 of its 5 changed layers."
    )
    assert "unpaired" in verdict_on_sharing(synthetic(rows=False))
    assert "at 20% of attention's FLOPs saved" in verdict_on_sharing(synthetic(), "flops")


def test_differences_come_from_pairs_of_chunks_where_there_are():
    apart = sharing_against(synthetic(), "skip", "cache")
    assert list(apart) == [0.05, 0.1, 0.2, 0.3, 0.4] and {one.verdict for one in apart.values()} == {"worse"}
    alone = sharing_against(synthetic(rows=False), "skip", "cache")
    for target, one in apart.items():
        assert one.chunks == CHUNKS and alone[target].chunks == 0 and one.more == pytest.approx(alone[target].more)
        assert alone[target].high - alone[target].more == pytest.approx(1.96 * 0.01 * math.sqrt(2), rel=1e-3)
    with_noise = PlanDamage(**dict(measured("1-2", 0.2)) | {"rows": (0.1, 0.3, 0.1, 0.3)})
    one = difference(with_noise, measured("1-2", 0.2))
    assert one.verdict == "unclear" and one.low < 0 < one.high
    assert difference(measured("1-2", 0.1), measured("1-2", 0.2)).verdict == "better"


def lines_of(mechanism: str, plan: str, damage: float, target: float = 0.2):
    return both(curve_role("cache", mechanism), plan, damage, damage, cache=target)


def test_sharing_can_win_or_be_level():
    won = verdict_on_sharing(with_lines(lines_of("share", "1-9", 0.1), lines_of("skip", "skip 1-4", 0.2)))
    assert "sharing is better by 0.100" in won and "difference −0.11" in won and "mixture" not in won
    assert won.endswith("4 chunks), better at 5 and 10%.")  # with the same plans
    level = verdict_on_sharing(with_lines(lines_of("share", "1-9", 0.2), lines_of("skip", "skip 1-4", 0.2)))
    assert "cannot be told from it" in level
    split = with_lines(
        lines_of("share", "1-9", 0.1), lines_of("skip", "skip 1-4", 0.2),
        lines_of("share", "1-11", 0.5, 0.3), lines_of("skip", "skip 1-5", 0.4, 0.3),
    )  # fmt: skip
    assert "better by 0.100" in verdict_on_sharing(split)
    assert ", worse at 30% and better at 5 and 10%" in verdict_on_sharing(split)


def test_without_skipping_the_best_other_mechanism_is_the_rival():
    told = with_lines(lines_of("share", "1-9", 0.1), lines_of("kv", "kv 1-5", 0.3), lines_of("keys", "keys 1-9", 0.2))
    assert "and reading keys of another layer 0.200: sharing is better" in verdict_on_sharing(told)


def test_a_mixture_that_does_not_share_is_said_to():
    told = with_lines(
        lines_of("share", "1-9", 0.3), lines_of("skip", "skip 1-4", 0.2), lines_of("mixture", "skip 1-4", 0.2)
    )
    assert "costs 0.200 and shares in none of its 4 changed layers" in verdict_on_sharing(told)
    told = with_lines(lines_of("share", "1-9", 0.1), lines_of("skip", "skip 1-4", 0.2), lines_of("mixture", "1-9", 0.1))
    assert "costs 0.100 and shares in all of its 8 changed layers" in verdict_on_sharing(told)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ((), "nothing was measured that saves as much"),
        ((lines_of("skip", "skip 1-4", 0.2),), "no plan that shares alone"),
        ((lines_of("share", "1-9", 0.2),), "beside no other mechanism"),
        ((lines_of("share", "1-9", 0.2, 0.05), lines_of("mixture", "1-9", 0.2, 0.4)), "beside no other mechanism"),
    ],
)
def test_where_there_is_too_little_the_verdict_says_so(lines, reason):
    said = verdict_on_sharing(with_lines(*lines))
    assert reason in said and said.startswith(("On demo", "Of mechanisms on demo")) and said.endswith(".")


def test_records_of_strangers_break_nothing():
    """Lines that lack their other half, what they save, or numbers that there can be."""
    rows = {"rows": (1e308, -1e308, float("nan"), float("inf"))}
    odd = [
        [measured("skip 3", 0.4, "held-out", curve_role("cache", "skip"), cache=0.2)],
        [measured("1-3", 0.4, role=curve_role("cache", "share"), flops=0.2)],
        [measured("1-3", 1e308, role=curve_role("cache", "share"), stderr=1e308, cache=0.2).model_copy(update=rows)],
        [measured("skip 5", float("nan"), role=curve_role("cache", "skip"), cache=0.2).model_copy(update=rows)],
        [measured("skip 5", float("inf"), role=curve_role("cache", "mixture"), rows=False, cache=0.2)],
        [measured("1-3", 0.1, role="layer"), measured("", 0.1, role="layer")],
    ]
    stored = with_lines(*odd)
    assert mechanism_curves(stored).mechanism.tolist() == ["share"] * 3 + ["skip"] * 3 + ["mixture"] * 3
    assert layer_costs(stored).empty and verdict_on_sharing(stored).endswith(".")
    assert verdict_on_sharing(StoredSearch(record(None), stored.points)).startswith("Of mechanisms on demo nothing")
