"""Damage of many plans at once: equal to running each plan's own model, to the bit, with a part of the work."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.damage.candidates import layers_by_kind
from core.damage.head_maps import output_likeness
from core.damage.roles import common_prefix, groups_in, in_order, label, roles_of
from core.damage.runner import PlanRunner
from core.plan import SharingPlan
from core.records.searches import LayerPair
from core.sharing.families import num_layers_of
from core.sharing.view import share_attention
from tests.support.damage import LAYERS, plan, text
from tests.support.families import fastest
from tests.support.families import plans as family_plans
from tests.support.mixtures import mixed_plans
from tests.support.models import tiny_model as tiny

PLANS = ("", "0-1", "0-5", "1-2", "1-3,4-5", "1-4", "2-3", "2-5", "4-5")


@pytest.mark.parametrize("execution", ["reuse", "recompute"])
def test_logits_equal_those_of_each_plans_own_model_to_the_bit(tiny_model, family, execution):
    model = tiny_model(family)
    mixed = len(set(getattr(model.config, "layer_types", None) or ())) > 1
    plans = {roles_of(plan(p)): p for p in (("", "0-1", "0-2", "1-2", "3-5", "1-2,4-5") if mixed else PLANS)}
    ids = torch.arange(2 * 14).view(2, 14) % 97
    seen = set()
    for roles, logits in PlanRunner(model, execution).logits(ids, plans):
        view = share_attention(model, plans[roles], execution=execution)
        with torch.inference_mode():
            assert torch.equal(logits, view(input_ids=ids, use_cache=False).logits), plans[roles]
        seen.add(roles)
    assert seen == set(plans)


OTHERS = (
    "bloom", "codegen", "falcon", "gemma2", "gemma3n_text", "gemma4_text", "gpt2", "gpt_neox", "gpt_oss", "mpt", "stablelm",
)  # fmt: skip


@pytest.mark.parametrize("family", OTHERS)  # what layers take and give differs in these
def test_logits_and_head_maps_of_other_families(family):
    model, ids = fastest(family), torch.arange(2 * 14).view(2, 14) % 97
    wanted = [SharingPlan((), num_layers_of(model)), *family_plans(model)]
    plans = {roles_of(one): one for one in wanted}
    for roles, logits in PlanRunner(model).logits(ids, plans):
        view = share_attention(model, plans[roles])
        with torch.inference_mode():
            assert torch.equal(logits, view(input_ids=ids, use_cache=False).logits), plans[roles]
    leader, follower = [layers for layers in layers_by_kind(model) if len(layers) > 1][-1][:2]
    likeness = output_likeness(model, text(chunks=3, length=12, shrink=1), [(leader, follower), (follower, follower)])
    own, others = np.abs(np.diag(likeness[follower, follower])), np.abs(likeness[leader, follower])
    assert own.max() <= 1e-5 * others.max()  # a head's own weights: no change


MIXED = (
    "", "0-1,skip 2", "0-2,kv 3-5", "1-2,keys 4_5,skip 3", "1-2,skip 5,kv 3-4", "1_3,skip 2", "keys 1-3,kv 4-5", "kv 1-3",
    "kv 1-3 4-5", "skip 1-5", "skip 2", "skip 3 5", "topk1 3-5,skip 1", "topk3 1-3", "topk3 1-3,skip 4", "topk4 1-3,0_5",
    "topk90 1-3,kv 0_4",
)  # fmt: skip


@pytest.mark.parametrize("execution", ["reuse", "recompute"])
@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2", "gpt_neox", "gemma2", "gpt_oss", "falcon", "bloom"])
def test_logits_of_mixtures_equal_those_of_each_plans_own_model_to_the_bit(family, execution):
    model, ids, plans = fastest(family), torch.arange(2 * 14).view(2, 14) % 97, {}
    for written in MIXED:
        one = SharingPlan.parse(written, num_layers_of(model))
        try:
            plans[roles_of(one)] = one, share_attention(model, one, execution=execution)
        except ValueError:
            continue  # of layers of several kinds
    assert len(plans) == len(MIXED) or (len(plans) >= 5 and len(layers_by_kind(model)) > 1)
    for roles, logits in PlanRunner(model, execution).logits(ids, plans):
        one, view = plans[roles]
        with torch.inference_mode():
            assert torch.equal(logits, view(input_ids=ids, use_cache=False).logits), str(one)


@settings(max_examples=100, deadline=None)
@given(st.lists(mixed_plans(layers=LAYERS), min_size=1, max_size=5))
def test_logits_of_any_mixtures_equal_those_of_their_views(plans):
    model, ids = tiny("llama", seed=0), torch.arange(2 * 9).view(2, 9) % 97
    found = dict(PlanRunner(model).logits(ids, map(roles_of, plans)))
    for one in plans:
        with torch.inference_mode():
            assert torch.equal(found[roles_of(one)], share_attention(model, one)(ids, use_cache=False).logits), str(one)


@pytest.mark.parametrize("part", ["topk2 3-5", "kv 3-5", "keys 3-5", "3-5"])
def test_nothing_that_a_leader_left_reaches_another_plan(part):
    model, ids = tiny("llama", seed=0), torch.arange(2 * 14).view(2, 14) % 97
    plans = [plan(f"{before}{part}") for before in ("", "skip 1,", "skip 2,", "0-2,")]
    found = dict(PlanRunner(model).logits(ids, map(roles_of, plans)))
    for one in plans:
        with torch.inference_mode():
            assert torch.equal(found[roles_of(one)], share_attention(model, one)(ids, use_cache=False).logits), str(one)


@given(mixed_plans())
def test_plans_have_roles_and_labels_of_their_own(plan):
    roles = roles_of(plan)
    groups, parts = groups_in(roles)
    assert SharingPlan((), plan.num_layers, tuple(map(tuple, groups.values())), parts) == plan
    named = {"skip": "skip", "share": "", "kv": "kv", "keys": "keys", "topk": "topk"}
    for layer in plan.changed:
        leader, positions = plan.source_of(layer), plan.positions_of(layer)
        taken = named[plan.mechanism_of(layer)] + (f"{positions}@" if positions else "")
        taken += "" if layer in plan.skipped else str(leader)
        assert f",{layer}<{taken}," in f",{label(roles)},"
    assert label(roles).count("<") == len(plan.changed) and (in_order([roles, roles_of(plan)]) == [roles])


def test_labels_of_journals_that_are_kept_stay_as_they_are():
    """By these a journal of any age finds what was measured."""
    assert label(roles_of(plan("1-3,4-5"), {2: [3, 0, 0, 1]})) == "2<1:3.0.0.1,3<1,5<4"
    assert (label(roles_of(plan(""))), label(roles_of(LayerPair.of(1, 4, LAYERS)))) == ("", "4<1")
    assert label(roles_of(plan("0-1,skip 2,kv 3-4"))) == "1<0,2<skip,4<kv3"
    assert label(roles_of(plan("keys 0-1,topk3 2-4"))) == "1<keys0,3<topk3@2,4<topk3@2"


def test_what_is_of_one_phase_alone_is_not_measured_at_once():
    with pytest.raises(ValueError, match="Damage in one pass knows no phases, and plan kv 1-2@decode"):
        roles_of(plan("kv 1-2@decode"))


def test_the_dense_plan_comes_first_and_neighbours_agree_on_most():
    plans = [plan(written) for written in ("skip 5", "kv 3-5", "topk2 3-5", "", "skip 1", "skip 1 4", "skip 1 5")]
    ordered = in_order(map(roles_of, plans))
    assert ordered[0] == roles_of(plan("")) and [common_prefix(*pair) for pair in pairwise(ordered[-3:])] == [5, 4]


def test_head_maps_are_part_of_a_plan(tiny_model):
    model, ids, head_map = tiny_model(), torch.arange(20)[None], {2: [3, 0, 0, 1], 3: [1, 1, 2, 0]}
    roles = [roles_of(plan("1-3"), head_map), roles_of(plan("1-3")), roles_of(plan("1-3"), {2: [3, 0, 0, 1]})]
    found = dict(PlanRunner(model).logits(ids, roles))
    for written, heads in zip(roles, (head_map, {}, {2: [3, 0, 0, 1]}), strict=True):
        with torch.inference_mode():
            assert torch.equal(found[written], share_attention(model, "1-3", heads)(ids, use_cache=False).logits)


def test_a_pair_leaves_the_layers_between_it_alone(tiny_model):
    model, ids = tiny_model(), torch.arange(20)[None]
    found = dict(
        PlanRunner(model).logits(ids, [roles_of(LayerPair.of(1, 4, LAYERS)), roles_of(LayerPair.of(3, 4, LAYERS))])
    )
    with torch.inference_mode():
        adjacent = share_attention(model, "3-4")(ids, use_cache=False).logits
        expected = _with_weights_of(model, ids, leader=1, follower=4)
    assert torch.equal(found[roles_of(LayerPair.of(3, 4, LAYERS))], adjacent)
    torch.testing.assert_close(found[roles_of(LayerPair.of(1, 4, LAYERS))], expected)
    assert not torch.allclose(expected, adjacent)


def _with_weights_of(model, ids, leader: int, follower: int):
    """The model with the query and key side of layer `follower` replaced by what layer `leader` computes."""
    layers, kept = model.model.layers, {}
    hooks = [
        layers[leader].self_attn.q_proj.register_forward_hook(lambda m, i, o: kept.update(q=o)),
        layers[leader].self_attn.k_proj.register_forward_hook(lambda m, i, o: kept.update(k=o)),
        layers[follower].self_attn.q_proj.register_forward_hook(lambda m, i, o: kept["q"]),
        layers[follower].self_attn.k_proj.register_forward_hook(lambda m, i, o: kept["k"]),
    ]
    try:
        return model(ids, use_cache=False).logits
    finally:
        for hook in hooks:
            hook.remove()


def test_all_spans_cost_about_a_third_of_the_layer_evaluations(tiny_model):
    model = tiny_model(num_hidden_layers=24)
    spans = [roles_of(SharingPlan(((a, b),), 24)) for a in range(24) for b in range(a + 1, 24)]
    runner = PlanRunner(model)
    ran = []
    for layer in model.model.layers:  # the views' modules hold the same submodules' weights: count products with them
        ran.append(layer.mlp.down_proj.weight.data_ptr())
    counted = 0

    def count(module, args):
        nonlocal counted
        weight = getattr(module, "weight", None)
        counted += weight is not None and weight.data_ptr() in ran

    hook = torch.nn.modules.module.register_module_forward_pre_hook(count)
    try:
        list(runner.logits(torch.arange(8)[None], [roles_of(SharingPlan((), 24)), *spans]))
    finally:
        hook.remove()
    assert counted == runner.layer_evaluations == 24 + 23 + (24**3 - 24) // 6
    assert runner.naive_layer_evaluations == 277 * 24
    assert runner.layer_evaluations <= 0.40 * runner.naive_layer_evaluations


def test_nothing_of_the_size_of_all_layers_maps_is_kept(tiny_model):
    runner = PlanRunner(tiny_model(), "reuse")
    calls = []
    original = runner._run
    runner._run = lambda *args: (calls.append(args[-1]), original(*args))[1]
    for _ in runner.logits(
        torch.arange(9)[None], [roles_of(plan(f"{a}-{b}")) for a in range(5) for b in range(a + 1, 6)]
    ):
        assert len(calls[-1].weights) == 1 and not calls[-1].inputs
