"""Damage of many plans at once: equal to running each plan's own model, to the bit, with a part of the work."""

import numpy as np
import pytest
import torch

from core.damage.head_maps import output_likeness
from core.damage.runner import Damage, DamageMeter, PlanRunner, Scorer, label, pair_roles, roles_of
from core.damage.texts import Text
from core.plan import SharingPlan
from core.records.searches import Journal
from core.sharing.view import share_attention
from tests.support.families import fastest

LAYERS = 6


def text(chunks: int = 3, length: int = 12, seed: int = 0) -> Text:
    rng = np.random.default_rng(seed)
    return Text(tuple(tuple(map(int, rng.integers(1, 97, length - i))) for i in range(chunks)), first=0)


def plan(written: str) -> SharingPlan:
    return SharingPlan.parse(written, LAYERS)


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


OTHERS = ("bloom", "codegen", "falcon", "gemma2", "gpt2", "gpt_neox", "gpt_oss", "mpt", "stablelm")


@pytest.mark.parametrize("family", OTHERS)  # what layers take and give differs in these
def test_logits_and_head_maps_of_other_families(family):
    model, ids = fastest(family), torch.arange(2 * 14).view(2, 14) % 97
    plans = {roles_of(plan(written)): written for written in ("", "0-1", "0-2", "1-2,4-5")}
    for roles, logits in PlanRunner(model).logits(ids, plans):
        view = share_attention(model, plans[roles])
        with torch.inference_mode():
            assert torch.equal(logits, view(input_ids=ids, use_cache=False).logits), plans[roles]
    likeness = output_likeness(model, text(), [(1, 2), (2, 2)])
    own, others = np.abs(np.diag(likeness[2, 2])), np.abs(likeness[1, 2])
    assert own.max() <= 1e-5 * others.max()  # a head's own weights: no change


def test_head_maps_are_part_of_a_plan(tiny_model):
    model, ids, head_map = tiny_model(), torch.arange(20)[None], {2: [3, 0, 0, 1], 3: [1, 1, 2, 0]}
    roles = [roles_of(plan("1-3"), head_map), roles_of(plan("1-3")), roles_of(plan("1-3"), {2: [3, 0, 0, 1]})]
    found = dict(PlanRunner(model).logits(ids, roles))
    for written, heads in zip(roles, (head_map, {}, {2: [3, 0, 0, 1]})):
        with torch.inference_mode():
            assert torch.equal(found[written], share_attention(model, "1-3", heads)(ids, use_cache=False).logits)


def test_a_pair_leaves_the_layers_between_it_alone(tiny_model):
    model, ids = tiny_model(), torch.arange(20)[None]
    found = dict(PlanRunner(model).logits(ids, [pair_roles(1, 4, LAYERS), pair_roles(3, 4, LAYERS)]))
    with torch.inference_mode():
        adjacent = share_attention(model, "3-4")(ids, use_cache=False).logits
        expected = _with_weights_of(model, ids, leader=1, follower=4)
    assert torch.equal(found[pair_roles(3, 4, LAYERS)], adjacent)
    torch.testing.assert_close(found[pair_roles(1, 4, LAYERS)], expected)
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


def test_damage_is_the_increase_of_the_mean_loss_over_real_tokens(tiny_model):
    model, sample, roles = tiny_model(), text(), roles_of(plan("1-4"))
    damage = DamageMeter(model, sample, batch_tokens=30).measure([roles])[roles]
    dense_sums, shared_sums, kls = [], [], []
    for chunk in sample.chunks:  # one by one, without padding
        ids = torch.tensor([[0, *chunk]])
        with torch.inference_mode():
            dense, shared = (m(ids).logits[0, :-1].log_softmax(-1) for m in (model, share_attention(model, "1-4")))
        targets = torch.tensor(chunk)[:, None]
        dense_sums.append(-dense.gather(1, targets).sum().item())
        shared_sums.append(-shared.gather(1, targets).sum().item())
        kls.append((dense.exp() * (dense - shared)).sum().item())
    tokens = np.array([len(chunk) for chunk in sample.chunks])
    expected = np.array(shared_sums) - np.array(dense_sums)
    assert damage.tokens == tokens.sum() == sample.num_tokens
    assert damage.mean == pytest.approx(expected.sum() / tokens.sum(), rel=1e-4)
    assert damage.kl == pytest.approx(np.sum(kls) / tokens.sum(), rel=1e-4)


def test_standard_error_of_equal_chunks_is_that_of_their_mean():
    increase = np.array([1.0, 2.0, 4.0, 8.0])
    damage = Damage.over_chunks(increase, np.full(4, np.nan), np.full(4, 10))
    assert damage.mean == pytest.approx(0.375)
    assert damage.stderr == pytest.approx(np.std(increase / 10, ddof=1) / 2)
    assert np.isnan(Damage.over_chunks(increase[:1], increase[:1], np.array([10])).stderr)


def test_cells_come_batch_by_batch_and_what_is_known_is_not_run_again(tiny_model, tmp_path):
    model, sample, journal = tiny_model(), text(), Journal(tmp_path, "weights")
    plans = [roles_of(plan(written)) for written in ("1-2", "1-3")]
    stream = DamageMeter(model, sample, batch_tokens=12, journal=journal).stream(plans)
    first = [next(stream) for _ in range(3)]
    stream.close()
    assert [cell.roles for cell in first] == [*plans, plans[0]]
    assert [cell.damage.tokens for cell in first] == [12, 12, 23] and not first[0].finished
    with journal.path.open("a") as file:
        file.write('{"text": "cut sho')  # a crash in the middle of a line
    resumed = DamageMeter(model, sample, batch_tokens=12, journal=Journal(tmp_path, "weights"))
    whole = resumed.measure(plans)
    fresh = DamageMeter(model, sample, batch_tokens=12)
    assert _equal(whole, fresh.measure(plans))
    assert resumed.runner.naive_layer_evaluations < fresh.runner.naive_layer_evaluations
    again = DamageMeter(model, sample, batch_tokens=12, journal=Journal(tmp_path, "weights"))
    again.measure(plans)
    assert again.runner.layer_evaluations == 0


def _equal(first: dict, second: dict) -> bool:
    return all((first[key].mean, first[key].stderr) == (second[key].mean, second[key].stderr) for key in first)


def test_labels_are_unique():
    written = [roles_of(plan(p)) for p in PLANS] + [pair_roles(1, 4, 6), roles_of(plan("1-2"), {2: [0, 0, 1, 1]})]
    assert len({label(roles) for roles in written}) == len(written)
    assert label(written[-1]) == "2<1:0.0.1.1"


def test_divergence_of_equal_logits_is_zero():
    batch = next(text().batches(100))
    logits = torch.randn(*batch.targets.shape, 97, generator=torch.Generator().manual_seed(0)) * 5
    assert np.abs(Scorer(batch, logits)(logits)[1]).max() < 1e-4
