"""app.facts: what the browser is told of a model, and what figures.js makes of it, against core.cost and the records."""

import json

import orjson
import pytest

from app import facts, measured, settings
from app.registry import LoadedModel, ModelIdentity, get_model
from core.cost import known_shapes, predict_decode, savings_frame
from core.evaluation.resolve import over_context
from core.plan import Part, SharingPlan
from core.records.searches import load_searches
from core.timing.predicted import with_measured_bandwidth
from tests.support.families import make
from tests.support.node import call

BOTH = ("plan", "figures")


@pytest.fixture(scope="module")
def demo():
    return facts.facts("demo")


def measured_of(known, plan: str, heads: str = "") -> dict:
    [groups] = call(BOTH, ("readPlan", [plan]))
    [found] = call(BOTH, ("measuredOf", [known, groups, heads]))
    return found


def test_facts_fit_into_one_small_message(demo):
    assert len(orjson.dumps(demo)) < facts.MOST_BYTES  # as gradio sends it: all keys are text
    assert (demo["model"], demo["layers"], demo["kinds"], demo["fixed"]) == ("demo", 24, [0] * 24, False)
    assert demo["costs"]["setting"] == "16 × 1K, H200"  # the context that the model is made for
    assert list(demo["damage"]) == [str(layer) for layer in range(1, 24)] and "sweep" in demo["damage_about"]


def test_a_long_sweep_is_cut_to_what_fits(demo):
    sweep = {str(leader): [0.123, 0.0123] * (63 - leader) for leader in range(63)}
    whole = facts._cut({**demo, "sweep": sweep})
    assert len(json.dumps(whole)) <= facts.MOST_BYTES
    lengths = {leader: len(row) for leader, row in whole["sweep"].items()}
    assert lengths["62"] == 2 and max(lengths.values()) >= 20 and whole["measured"] == demo["measured"]


@pytest.mark.parametrize("name", sorted(known_shapes()))
def test_the_browser_predicts_what_the_formulas_do(name, demo, monkeypatch):
    shape = known_shapes()[name]
    monkeypatch.setattr(facts, "shape_of", lambda choice, model: shape)
    known = {**demo, "costs": facts._costs(get_model("demo"))}
    costs, device = known["costs"], with_measured_bandwidth(measured.timings())[settings.HEADLINE_DEVICE]
    windows = shape.sliding_windows
    kinds = [windows.index(window) for window in windows]
    same = [layer for layer in range(shape.num_layers) if kinds[layer] == kinds[-1]]
    texts = ["dense", SharingPlan.of_groups([same[-3:]], shape.num_layers).name]
    texts.append(SharingPlan.of_groups([same[:2], same[3:]], shape.num_layers).name)
    texts += [_mixture(same, shape.num_layers)]
    groups = call(BOTH, *(("readPlan", [text]) for text in texts))
    parts = call(BOTH, *(("readParts", [text]) for text in texts))
    found = call(BOTH, *(("predictedOf", [costs, *one]) for one in zip(groups, parts, strict=True)))
    batch, context = costs["batch"], costs["context"]
    steps = [predict_decode(shape, text, device, batch, context).step_s for text in ("", *texts)]
    for text, step_s, said in zip(texts, steps[1:], found, strict=True):
        frame = savings_frame(shape, text, batch, [context]).set_index("quantity")
        assert said["saved"] == pytest.approx(frame.saved_percent["KV cache"], abs=1e-9)
        assert said["speed"] == pytest.approx(steps[0] / step_s, rel=1e-12)


def _mixture(same: list[int], num_layers: int) -> str:
    """A plan with all mechanisms, among layers of one kind: as many of them as there are layers for."""
    same = [layer for layer in same if layer]
    pairs = [tuple(same[at : at + 2]) for at in range(0, len(same) - 1, 2)]
    shared, kv, keys, few, many = (pairs * 5)[:5] if len(pairs) < 5 else pairs[:5]
    if len(pairs) < 5:
        return SharingPlan(num_layers=num_layers, parts=(Part("kv", kv), Part("skip", (same[-1],)))).name
    parts = (Part("kv", kv), Part("keys", keys), Part("topk", few, 7), Part("topk", many, 10**6))
    skipped = () if len(pairs) < 6 else (Part("skip", pairs[5]),)
    return (
        SharingPlan.of_groups([shared], num_layers).name
        + ","
        + SharingPlan(num_layers=num_layers, parts=parts + skipped).name
    )


def test_the_facts_say_which_mechanisms_a_model_cannot_do(demo, monkeypatch):
    assert demo["cannot"] == {}
    model = get_model("demo")
    monkeypatch.setattr(type(model), "_check", lambda self, plan: (_ for _ in ()).throw(ValueError(f"No {plan}.")))
    model.__dict__.pop("cannot", None)
    try:
        assert facts.sizes(model)["cannot"] == {
            "skip": "No skip 1.",
            "kv": "No kv 0-1.",
            "keys": "No keys 0-1.",
            "topk": "No topk1 0-1.",
        }
    finally:
        model.__dict__.pop("cannot", None)


def test_damage_is_that_of_the_records(demo):
    [search] = [one for one in load_searches(settings.server.results)[0] if str(one.path) == DEMO_SEARCH]
    for point in search.points:
        if point.split == "held-out":
            damage = measured_of(demo, point.plan.name)["damage"]
            assert damage == [float(f"{point.damage:.3g}"), float(f"{point.stderr:.3g}"), 1]
    swept = measured_of(demo, "2-5")["damage"]
    [sweep] = [one for one in load_searches(settings.server.results)[0] if str(one.path) == "demo/searches/sweep.jsonl"]
    [point] = [one for one in sweep.points if one.plan.name == "2-5"]
    assert swept == [float(f"{point.damage:.3g}"), float(f"{point.stderr:.3g}"), 0]
    assert measured_of(demo, "2-5,8-9") == {"damage": None, "task": None}
    assert demo["damage"]["5"] == demo["sweep"]["4"][:2]


DEMO_SEARCH = "demo/searches/search+followers=23+spans+beam=4.jsonl"


def test_head_maps_have_damages_of_their_own(demo):
    mapped = [
        one for search in load_searches(settings.server.results)[0] if get_model("demo").identity.is_of(search.record)
        for one in search.points if one.head_map and one.split == "held-out"
    ]  # fmt: skip
    assert mapped
    for point in mapped:
        assert measured_of(demo, point.plan.name, json.dumps(point.head_map))["damage"][2] == 1
    assert measured_of(demo, "17-22", json.dumps({18: [0] * 6})) == {"damage": None, "task": None}


def test_scores_are_of_the_task_that_tells_plans_apart_best(demo):
    tasks = [task for task in measured.store().tasks if task.dense.model == "demo" and task.resolves]
    best = next(task for task in tasks if not over_context(task.dense.task))
    [verdict] = [one for one in best.verdicts if one.record.plan == "17-22" and one.record.kind == "direct"]
    number, change, stderr = measured_of(demo, "17-22")["task"]
    task = demo["tasks"][number]
    times = 100 if task["digits"] == 1 else 1
    sign = -1 if best.score.higher_is_better else 1
    assert task["name"] == best.name
    assert change == pytest.approx(sign * times * verdict.loss.drop, rel=5e-3)
    assert stderr == pytest.approx(times * verdict.loss.stderr, rel=5e-3)


def test_the_tuned_model_has_a_fixed_plan_and_scores_of_its_own(demo):
    tuned = facts.facts("demo-tuned-17-22")
    assert (tuned["fixed"], tuned["plan"], tuned["damage"], tuned["sweep"]) == (True, "17-22", {}, {})
    own, direct = (measured_of(known, "17-22") for known in (tuned, demo))
    assert own["damage"] is None and own["task"] and own["task"] != direct["task"]


def test_a_model_without_records_or_formulas(folder, results, monkeypatch):
    found = facts.facts(folder)
    assert found["costs"]["context"] == 128 and found["measured"] == found["damage"] == {} and not found["tasks"]

    def unknown(choice, model):
        raise ValueError("Costs are not known.")

    monkeypatch.setattr(facts, "shape_of", unknown)
    assert facts.facts(folder)["costs"] is None


def test_what_a_model_shares_by_itself_is_told():
    model = make("gemma3n_text", "eager")
    identity = ModelIdentity("tiny", model)
    known = facts.sizes(LoadedModel("tiny", identity, model, None, identity))
    assert known["native"] == "kv 6-8-10 7-9-11"
    assert known["kinds"] == [0, 1, 0, 1, 0, 1, 6, 7, 8, 9, 10, 11]


def test_most_models_share_nothing_by_themselves(demo):
    assert demo["native"] == ""
