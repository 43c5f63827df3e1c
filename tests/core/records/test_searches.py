"""Records of searches: written, read back, named when broken; plans with their damage, one line each."""

import json
from pathlib import Path

import pytest

from core.plan import SharingPlan
from core.records.searches import (
    LayerPair,
    PlanDamage,
    SearchRecord,
    load_searches,
    plans_of,
    save_search,
    searches_frame,
)

GOLDEN = (Path(__file__).parents[2] / "golden_records/search-v1.jsonl").read_bytes()


@pytest.fixture
def stored(tmp_path):
    """The golden file in its place: (folder of results, record, points)."""
    path = tmp_path / "demo/searches/head-maps+12-22.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(GOLDEN)
    [(record, points)], problems = load_searches(tmp_path)
    assert not problems
    return tmp_path, record, points


def measured(plan: SharingPlan, split="calibration", **more) -> PlanDamage:
    values = {"damage": 0.5, "stderr": 0.1, "kl": 0.4, "kl_stderr": 0.2, "cache_saving": 0.1, "tokens": 8}
    return PlanDamage(plan=plan, split=split, **values | more)


def test_searches_of_the_first_format_still_load(stored):
    folder, record, points = stored
    assert (record.kind, len(points), points[0].role) == ("head-maps", 2, "identity")
    assert points[0].plan == SharingPlan.parse("12-22", 24) and points[0].kl_stderr is None and points[0].finished
    assert save_search(folder, record, points).read_bytes() == GOLDEN
    assert load_searches(folder) == ([(record, points)], [])


def test_searches_with_the_error_of_the_divergence_load(tmp_path):
    golden = (Path(__file__).parents[2] / "golden_records/search-v1-kl-stderr.jsonl").read_bytes()
    record = SearchRecord.model_validate_json(golden.splitlines()[0])
    path = tmp_path / record.path
    path.parent.mkdir(parents=True)
    path.write_bytes(golden)
    [(record, points)], problems = load_searches(tmp_path)
    assert not problems and [point.split for point in points] == ["calibration", "held-out"]
    assert all(0 < point.kl_stderr < point.kl for point in points)
    assert save_search(tmp_path, record, points).read_bytes() == golden


def test_all_that_was_measured_is_stored_and_read_back(stored):
    folder, record, _ = stored
    judged = measured(SharingPlan.parse("3-5", 24), "held-out", head_map={4: [1, 0], 5: (0, 0)})
    found = measured(SharingPlan.parse("3-5", 24), head_map={4: [1, 0], 5: (0, 0)}, held_out=judged)
    grouped = measured(SharingPlan.parse("2_4,5-7-9", 24), head_map={4: [1, 0]}).lines("found")
    lines = [
        *found.lines("found"),
        *grouped,
        *measured(LayerPair.of(3, 7, 24)).lines("pair", similarity={"head_mean": 0.25}),
    ]
    path = save_search(folder, record, lines)
    written = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    assert [(line["role"], line["plan"], line["split"], line["followers"]) for line in written] == [
        ("found", "3-5", "calibration", 2), ("found", "3-5", "held-out", 2),
        ("found", "2_4,5-7-9", "calibration", 3), ("pair", "3>7", "calibration", 1),
    ]  # fmt: skip
    golden = json.loads(GOLDEN.splitlines()[1])
    assert all(list(line) == [*list(golden)[:8], "kl_stderr", *list(golden)[8:]] for line in written)
    assert all(line["kl_stderr"] == 0.2 for line in written) and "NaN" not in path.read_text()
    [(_, again)], problems = load_searches(folder)
    assert again == lines and not problems and isinstance(again[3].plan, LayerPair)
    assert plans_of(again, "found")[0] == found.model_copy(update={"role": "found", "held_out": again[1]})
    frame = searches_frame([(record, again)])
    assert frame.plan.tolist() == ["3-5", "3-5", "2_4,5-7-9", "3>7"] and frame.kl_stderr.tolist() == [0.2] * 4


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"plan": "12-30"}, "out of range"),
        ({"plan": "12>x"}, "not a pair of layers"),
        ({"plan": "7>3"}, "reversed"),
        ({"followers": 9}, "has 10 followers, not 9"),
        ({"tokens": 0}, "tokens"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_line_that_contradicts_itself_is_named(stored, change, reason):
    folder, _, _ = stored
    first, line, *_ = GOLDEN.splitlines()
    path = folder / "demo/searches/head-maps+12-22.jsonl"
    path.write_bytes(b"\n".join([first, json.dumps(json.loads(line) | change).encode()]))
    records, [problem] = load_searches(folder)
    assert records == [] and "not a record of a search" in problem and reason in problem


def test_files_that_are_broken_or_out_of_place_are_named(stored):
    folder, record, points = stored
    path = save_search(folder, record, points)
    path.rename(path.with_name("elsewhere.jsonl"))
    path.write_text("{}\n")
    records, problems = load_searches(folder)
    assert not records and len(problems) == 2
    assert any("out of place" in p for p in problems) and any("not a record of a search" in p for p in problems)


def test_a_pair_of_layers_shares_between_its_two_only():
    pair = LayerPair.of(3, 7, 24)
    assert (str(pair), pair.name, pair.followers, pair.leaders) == ("3>7", "3>7", (7,), (3,))
    assert [pair.leader_of(layer) for layer in (2, 3, 5, 7, 8)] == [2, 3, 5, 3, 8]
    assert "alone" in pair.describe() and pair.paper_notation == ""
    assert pair != SharingPlan(((3, 7),), 24) and pair == LayerPair.of(3, 7, 24)
    with pytest.raises(ValueError, match="reversed"):
        LayerPair.of(7, 3, 24)
