"""Records of plans with other mechanisms than Shared Attention: written, named and read back as they are."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.plan import SharingPlan
from core.records.files import safe_name
from core.records.scores import Record, load_records
from core.records.searches import PlanDamage
from tests.support.mixtures import mixed_plans
from tests.support.scores import LAYERS, right, store

MIXED = "17-19,skip 5 7-9,kv 20-22,topk64 10-12"


@given(mixed_plans(layers=LAYERS))
def test_measured_damage_names_its_plan(plan):
    measured = PlanDamage(plan=plan, split="held-out", damage=0.1, stderr=0.1, kl=0.1, cache_saving=0.0, tokens=1)
    text = measured.model_dump_json()
    assert json.loads(text)["plan"] == str(plan) and measured.followers == len(plan.followers)
    assert PlanDamage.model_validate_json(text, context={"num_layers": LAYERS}).plan == plan


@given(st.lists(mixed_plans(layers=LAYERS), unique=True, max_size=8))
def test_every_plan_has_a_file_name_of_its_own(plans):
    names = [safe_name(plan.name) for plan in plans]
    assert len(set(names)) == len(plans) and not any(" " in name or "/" in name for name in names)
    assert all(name == plan.name for name, plan in zip(names, plans, strict=True) if not plan.parts and len(name) < 100)


@pytest.mark.parametrize("plan", [MIXED, "skip 5", "kv 3-5", "keys 2_4", "topk1 3-5"])
def test_scores_of_such_plans_are_found_again(tmp_path: Path, plan):
    record, dense = store(tmp_path, plan, right(9)), store(tmp_path, "", right(10))
    assert record.path.parent != dense.path.parent and (tmp_path / record.path).is_file()
    records, bad = load_records(tmp_path)
    loaded = {one.plan: one for one in records}
    assert not bad and loaded == {plan: record, "": dense} and loaded[plan].plan_name == plan
    parsed = SharingPlan.parse(plan, LAYERS)
    assert (record.changed, dense.changed) == (len(parsed.changed), 0) and record.followers == parsed.followers


def test_a_record_says_a_plan_as_this_project_writes_it(tmp_path):
    said = store(tmp_path, MIXED, right(9)).model_dump(mode="json")
    with pytest.raises(ValueError, match="has the followers"):
        Record.model_validate(said | {"plan": "kv 20-22,17-19,skip 5 7 8 9,topk64 10-12"})
