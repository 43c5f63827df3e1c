"""Head maps: planted heads are found again, groups stay together, and damage is what decides."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch

from core.damage.choices import HEAD_MAP_METHODS
from core.damage.head_maps import HeadMapper, assign, head_similarity, improve, output_likeness
from core.damage.meter import DamageMeter
from core.damage.similarity import attention_weights
from core.plan import SharingPlan
from tests.support import damage

PLAN = SharingPlan(((1, 3),), 6)


text = partial(damage.text, length=12)


@pytest.fixture
def planted(tiny_model):
    """A model in which the heads of layer 2 attend as those of layer 1 do, in another order."""
    model = tiny_model(num_key_value_heads=4)
    order, leader, follower = [2, 0, 3, 1], *(model.model.layers[i] for i in (1, 2))
    with torch.no_grad():
        leader.self_attn.o_proj.weight.zero_()  # so that both layers see the same hidden states
        leader.mlp.down_proj.weight.zero_()
        for name in ("q_proj", "k_proj"):
            rows = getattr(leader.self_attn, name).weight.view(4, 12, -1)
            getattr(follower.self_attn, name).weight.copy_(rows[order].flatten(0, 1))
    return model, tuple(order)


@pytest.mark.parametrize("method", ["most_similar", "one_to_one", "output"])
def test_planted_heads_are_found(planted, method):
    model, order = planted
    plan = SharingPlan(((1, 2),), 6)
    meter = DamageMeter(model, text())
    heads = HeadMapper(model, text(), method)(plan)
    assert heads == {2: order}
    mapped, direct = meter.measure([(plan, heads), (plan, {})])
    assert mapped.damage == pytest.approx(0, abs=1e-5)
    assert abs(direct.damage) > 1e-3


def test_head_similarity_is_the_mean_cosine_of_the_maps(tiny_model):
    model, sample = tiny_model(), text()
    found, expected = head_similarity(model, sample, [(1, 2), (1, 3)]), np.zeros((4, 4))
    for chunk in sample.chunks:
        weights = attention_weights(model, torch.tensor([[0, *chunk]]))
        for i, j in itertools.product(range(4), repeat=2):
            a, b = (weights[layer][0, head, 1:, 1:].flatten() for layer, head in ((1, i), (3, j)))
            expected[i, j] += torch.nn.functional.cosine_similarity(a, b, dim=0).item() / 2
    np.testing.assert_allclose(found[1, 3], expected, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "llama-biases-tied", "qwen3"])
def test_output_likeness_is_the_change_of_the_layers_output(tiny_model, family):
    model, sample = tiny_model(family), text()
    found = output_likeness(model, sample, [(1, 3)])[1, 3]
    for i, j in itertools.product(range(4), repeat=2):
        change = 0.0
        for chunk in sample.chunks:  # head j of layer 3 reads head i of layer 1; all other heads keep their own weights
            ids = torch.tensor([[0, *chunk]])
            outputs, weights = [], attention_weights(model, ids)
            for read in (weights[3][:, j], weights[1][:, i]):
                mixed = weights[3].clone()
                mixed[:, j] = read
                outputs.append(_output(model, ids, 3, mixed))
            change += (outputs[1] - outputs[0]).square().sum().item()
        assert found[i, j] == pytest.approx(-change, rel=1e-3)


@torch.inference_mode()
def _output(model, ids, layer: int, weights):
    """What the attention of a layer gives under these weights."""
    kept = {}
    module = model.model.layers[layer].self_attn
    hook = module.v_proj.register_forward_hook(lambda m, i, o: kept.update(v=o))
    model(ids, use_cache=False)
    hook.remove()
    values = kept["v"].view(*ids.shape, -1, module.head_dim).transpose(1, 2).repeat_interleave(2, 1)
    return module.o_proj((weights @ values).transpose(1, 2).flatten(2))


def test_assignment_of_the_highest_total():
    similarity = np.random.default_rng(0).random((4, 4))
    assert assign(similarity) == tuple(similarity.argmax(0))
    best = max(itertools.permutations(range(4)), key=lambda p: sum(similarity[i, j] for j, i in enumerate(p)))
    assert assign(similarity, one_to_one=True) == best


@pytest.mark.parametrize("one_to_one", [False, True])
def test_groups_stay_together(one_to_one):
    similarity = np.random.default_rng(1).random((6, 6))
    heads = assign(similarity, one_to_one, group_size=2)
    assert all(heads[2 * g] // 2 == heads[2 * g + 1] // 2 for g in range(3))

    def fits(candidate):
        unique = len(set(candidate)) == 6
        return all(candidate[2 * g] // 2 == candidate[2 * g + 1] // 2 for g in range(3)) and (unique or not one_to_one)

    best = max(
        filter(fits, itertools.product(range(6), repeat=6)),
        key=lambda c: sum(similarity[i, j] for j, i in enumerate(c)),
    )
    assert heads == best


def improved(meter: DamageMeter, keep_groups: bool = False):
    return list(improve(meter, PLAN, HeadMapper(meter.runner.model, meter.text, "damage", keep_groups)))


def test_the_choice_by_damage_never_harms_more_than_the_others(tiny_model):
    meter = DamageMeter(tiny_model(seed=5), text())
    harm = {"damage": improved(meter)[-1].front[0].damage}
    for method in HEAD_MAP_METHODS.keys() - {"damage"}:
        [measured] = meter.measure([(PLAN, HeadMapper(meter.runner.model, meter.text, method)(PLAN))])
        harm[method] = measured.damage
    assert harm["damage"] == min(harm.values()) < harm["identity"]


def test_improvement_never_goes_back_and_ends(tiny_model):
    steps = improved(DamageMeter(tiny_model(seed=5), text()))
    damages = [best.damage for step in steps for best in step.front]
    assert len(damages) == len(steps) and damages == sorted(damages, reverse=True)
    assert [step.done for step in steps] == list(range(1, len(steps) + 1)) and len(steps) in (1 + 8, 1 + 16)


def test_groups_are_kept_when_damage_decides(tiny_model):
    for heads in improved(DamageMeter(tiny_model(seed=5), text()), keep_groups=True)[-1].front[0].head_map.values():
        assert heads[0] // 2 == heads[1] // 2 and heads[2] // 2 == heads[3] // 2


def test_unknown_methods_are_refused(tiny_model):
    with pytest.raises(ValueError, match="choose one of identity"):
        HeadMapper(tiny_model(), text(), "best")
    assert HeadMapper(tiny_model(), text(), "identity")(PLAN) == {}
