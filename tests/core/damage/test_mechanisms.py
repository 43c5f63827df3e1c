"""The comparison of mechanisms: the least damage there is in small models, the same again after a stop, judged elsewhere."""

import itertools
from statistics import median

import pytest

from core.cost import ModelShape
from core.damage.head_maps import HeadMapper
from core.damage.mechanisms import Comparison, Effort, Pool, compare, single_layers
from core.damage.meter import DamageMeter
from core.damage.mixtures import choice_of, plan_of
from core.damage.progress import SearchProgress
from core.damage.savings import Savings
from core.records.journal import Journal
from core.records.mechanisms import best_for, curve_role
from core.sharing.families import layer_kinds
from tests.support.damage import LAYERS, meters, text

WORDS = ("share", "skip", "kv", "keys")
TARGETS = (0.1, 0.2, 0.3, 0.4)


def savings(model, *budgets) -> Savings:
    return Savings(ModelShape.from_config(model.config), budgets or ("cache", "flops"), context_tokens=64)


def compared(model, words=WORDS, both=None, budgets=(), targets=TARGETS, **more) -> Comparison:
    choices = [choice_of(word) for word in words]
    *steps, found = compare(both or meters(model), savings(model, *budgets), choices, targets, **more)
    assert all(isinstance(step, SearchProgress) and step.done <= step.total for step in steps)
    return found


def finish(steps):
    """What steps return."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        return end.value


def everything(model, sample, layers: int, passes: int) -> list:
    """The damage of all plans of WORDS, each follower of any of the `passes` nearest layers that may lead it."""
    pool = Pool(DamageMeter(model, sample), savings(model), lambda plan: {})
    ways = [choice_of(word)._replace(passes=number) for word in WORDS for number in range(passes)]
    mixtures = [(None, *chosen) for chosen in itertools.product([None, *ways], repeat=layers - 1)]
    of_plan = {plan: mixture for mixture in mixtures if (plan := plan_of(mixture, pool.kinds))}
    finish(pool.measure(of_plan.values(), "all", 0, len(of_plan)))
    return [entry.measured for entry in pool.entries.values()]


@pytest.mark.parametrize("seed", [0, 1])
def test_in_a_small_model_nothing_better_is_missed(tiny_model, seed):
    """Of 643 plans a search that may measure 300 finds the best at every saving; one that may measure 90, none that is
    further from it than a tenth of the way to the middle one."""
    model, sample = tiny_model(num_hidden_layers=5, seed=seed), text(0, chunks=4, length=24)
    both = (DamageMeter(model, sample), DamageMeter(model, text(1, split="held-out")))
    every = everything(model, sample, layers=5, passes=4)
    assert len(every) == 643
    for plans, tolerance in ((100, 0.0), (30, 0.1)):
        found = compared(model, both=both, effort=Effort(plans))
        for budget, target in itertools.product(("cache", "flops"), TARGETS):
            [mixture] = [one for one in found.curves if (one.budget, one.mechanism) == (budget, "mixture")]
            best, mine = best_for(every, budget, target), best_for(mixture.plans, budget, target)
            middle = median(one.damage for one in every if one.savings[budget] >= target)
            assert mine.damage - best.damage <= tolerance * (middle - best.damage) + 1e-9, (budget, target)


def test_curves_of_one_mechanism_hold_no_other_and_mixtures_are_as_good(tiny_model):
    model = tiny_model(seed=3)
    found = compared(model, (*WORDS, "topk2"), effort=Effort(20))
    named = {(one.budget, one.mechanism): one.plans for one in found.curves}
    assert {mechanism for budget, mechanism in named if budget == "cache"} == {
        *WORDS,
        "mixture",
    }  # topk saves none of it
    assert ("flops", "topk") in named and ("flops", "mixture") in named
    for (budget, mechanism), plans in named.items():
        for plan in (one.plan for one in plans):
            does = {plan.mechanism_of(layer) for layer in plan.changed}
            assert does == {mechanism} or (mechanism == "mixture" and does)
        for target in TARGETS:
            mixed = best_for(named[budget, "mixture"], budget, target)
            if alone := best_for(plans, budget, target):
                assert mixed.damage <= alone.damage and alone.savings[budget] >= target - 1e-9


def test_every_layer_is_tried_under_every_mechanism(tiny_model):
    model = tiny_model()
    found = compared(model, (*WORDS, "topk2"), effort=Effort(1))
    told = [(one.plan.changed, one.plan.mechanism_of(one.plan.changed[0])) for one in found.layers]
    assert sorted(told) == sorted(((layer,), name) for layer in range(1, LAYERS) for name in (*WORDS, "topk"))
    by_plan = {str(one.plan): one for one in found.layers}
    [alone] = meters(model)[0].measure([(by_plan["kv 2-3"].plan, {})])
    assert by_plan["kv 2-3"].damage == alone.damage and {"keys 0-1", "skip 1", "topk2 4-5", "3-4"} <= by_plan.keys()


def test_what_a_model_cannot_do_is_left_out(tiny_model):
    model = tiny_model("qwen2-mixed")  # layers 0 to 2 see everything, 3 to 5 a window
    pool = Pool(meters(model)[0], savings(model, "cache"), lambda plan: {})
    singles = finish(single_layers(pool, [choice_of(word) for word in ("share", "skip", "kv")]))
    assert {layer for layer, word in singles if word != "skip"} == {1, 2, 4, 5}
    assert {layer for layer, word in singles if word == "skip"} == {1, 2, 3, 4, 5}
    found = compared(model, ("share", "kv"), budgets=("cache",), effort=Effort(30))
    kinds = layer_kinds(model)
    for curve in found.curves:
        for plan in (one.plan for one in curve.plans):
            assert all(kinds[leader] == kinds[follower] for follower, leader in plan.borrowers.items())


def test_a_choice_that_saves_nothing_in_some_layers_is_not_taken_there(tiny_model):
    """In windows of 6 tokens topk8 leaves nothing out; elsewhere it does."""
    model = tiny_model("qwen2-mixed")
    found = compared(model, ("skip", "topk8"), budgets=("flops",), targets=(0.1,), effort=Effort(6))
    alone = {str(one.plan): one.savings["flops"] for one in found.layers}
    assert alone["topk8 3-4"] == 0 < alone["topk8 0-1"]
    assert {curve.mechanism for curve in found.curves} >= {"skip", "mixture"}


def test_a_model_that_can_do_nothing_is_refused(tiny_model):
    model = tiny_model("qwen2-mixed", num_hidden_layers=2, layer_types=["full_attention", "sliding_attention"])
    with pytest.raises(ValueError, match="can do none of these mechanisms"):
        compared(model, ("share", "kv"))


def test_plans_that_share_have_their_head_maps(tiny_model):
    model = tiny_model(seed=3)
    both = meters(model)
    mapper = HeadMapper(model, both[0].text, "most_similar")
    found = compared(model, ("share", "skip"), both, effort=Effort(20), head_map_of=mapper)
    plans = [one for curve in found.curves for one in curve.plans] + list(found.layers)
    assert any(one.head_map for one in plans) and any(not one.head_map for one in plans)
    assert all(one.head_map == mapper(one.plan) for one in plans)


def test_what_is_chosen_is_judged_on_the_other_text_chunk_by_chunk(tiny_model):
    model = tiny_model()
    found = compared(model, ("share", "skip"), effort=Effort(10))
    for one in (one for curve in found.curves for one in curve.plans):
        for mine, meter in zip((one, one.held_out), meters(model), strict=True):
            [again] = meter.measure([(one.plan, one.head_map)])
            assert (mine.damage, mine.stderr, mine.split) == (again.damage, again.stderr, meter.text.split)
            assert len(mine.rows) == len(meter.text.chunks) and sum(mine.rows) / len(mine.rows) == pytest.approx(
                mine.damage
            )
            assert mine.savings == one.savings and set(mine.savings) == {"cache", "flops"}
    lines = found.lines()
    assert len([line for line in lines if line.role == "layer"]) == 2 * (LAYERS - 1)
    some = next(curve for curve in found.curves if curve.mechanism == "skip")
    kept = [line for line in lines if line.role == curve_role(some.budget, "skip")]
    assert [line.split for line in kept] == ["calibration", "held-out"] * len(some.plans)


def test_a_stopped_comparison_goes_on_and_finds_the_same(tiny_model, tmp_path):
    model, words, effort = tiny_model(), ("share", "skip", "kv"), Effort(15)

    def in_batches(journal: Journal | None = None) -> tuple[DamageMeter, DamageMeter]:
        texts = (text(0, chunks=3), text(1, chunks=3, split="held-out"))
        return tuple(DamageMeter(model, one, journal=journal, batch_tokens=10) for one in texts)

    both = in_batches(Journal(tmp_path, "weights"))
    assert len(both[0].batches) == 3
    choices = [choice_of(word) for word in words]
    for number, _ in enumerate(compare(both, savings(model), choices, TARGETS, effort=effort)):
        if number == 100:  # beyond the single layers, within a batch
            break
    before = both[0].runner.layer_evaluations
    both = in_batches(Journal(tmp_path, "weights"))
    resumed, fresh = compared(model, words, both, effort=effort), in_batches()
    assert resumed.lines() == compared(model, words, fresh, effort=effort).lines()
    assert before > 0 and both[0].runner.layer_evaluations < fresh[0].runner.layer_evaluations


def test_no_more_is_measured_than_was_said(tiny_model):
    model, told = tiny_model(num_hidden_layers=8), []
    both = meters(model)
    compared(model, both=both, effort=Effort(6), told=lambda layers, most: told.append((layers, most)))
    [(layers, most)] = told
    measured = len(both[0].known[0]) - 1  # and the dense model
    assert layers == 4 * 7 < measured <= layers + most
    with pytest.raises(ValueError, match="allow 1 or more of them, not 0"):
        Effort(0)


def test_nothing_is_looked_for_that_a_mechanism_can_never_save(tiny_model):
    model, told = tiny_model(), []
    asked = {"budgets": ("flops",), "targets": (0.3,), "effort": Effort(2), "told": lambda *counts: told.append(counts)}
    found = compared(model, ("skip", "keys"), **asked)
    assert sum(one.savings["flops"] for one in found.layers if one.plan.skipped) > 0.3
    assert sum(one.savings["flops"] for one in found.layers if not one.plan.skipped) < 0.2
    assert told == [(10, 2 + 6 + 2)]  # skip, mixtures, and what is judged of the two


def test_looking_back_takes_back_what_was_chosen_before(tiny_model):
    """Adding alone never leaves what it chose first, whatever is better beside what it chose later."""
    model, damage = tiny_model(num_hidden_layers=5, seed=1), {}
    for back in (False, True):
        both = (DamageMeter(model, text(0, chunks=4, length=24)), DamageMeter(model, text(1, split="held-out")))
        found = compared(model, both=both, budgets=("cache",), targets=(0.3,), effort=Effort(40, looking_back=back))
        [damage[back]] = [one.damage for curve in found.curves if curve.mechanism == "mixture" for one in curve.plans]
    assert damage[True] < damage[False]
