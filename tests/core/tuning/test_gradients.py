"""The gradients of the Trainer's first step are those of a plain reference, in float64.

The reference is a loop over rows: no Trainer, no padding, no view, and for LoRA the weights written out, W + (alpha / rank) B A.
Corrections are those of the oracle, head by head.
"""

import functools

import numpy as np
import pytest
import torch
from torch.func import functional_call
from transformers import TrainerCallback

from core.corrections import NONE, Corrections
from core.plan import SharingPlan
from core.sharing.corrections import PARAMETERS, correction_parameters
from core.tuning.recipe import TuneRecipe
from core.tuning.rows import UNCOUNTED, Row, in_order
from core.tuning.run import trained_model
from core.tuning.trainer import SharingTrainer, arguments_of
from tests.support.mechanisms import imposed
from tests.support.models import tiny_model
from tests.support.oracle import corrected_by_oracle, shared_by_oracle

# peft and accelerate ask by an old name whether a model checkpoints.
pytestmark = pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing:FutureWarning")

PLAN, HEADS = SharingPlan.parse("1-3", 6), {3: (3, 0, 0, 1)}
PARTS = ("skip 1 4,kv 2-3", "keys 0-2,skip 5", "topk3 1-2,keys 3_5", "0_2,skip 1,kv 3-5")
TOLERANCE = 1e-5  # eager attention's softmax and the norms are in float32
ROWS = 4


def rows() -> list[Row]:
    """Rows of unequal length; of some, parts do not count, as in conversations."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(ROWS):
        ids = rng.integers(1, 97, 12 - 2 * number).astype(np.int32)
        targets = ids[1:].copy()
        targets[: 2 * number] = UNCOUNTED
        made.append(Row(ids[:-1], targets))
    return made


class Catch(TrainerCallback):
    """Keeps the gradients that the optimizer would get."""

    def on_pre_optimizer_step(self, args, state, control, model, **_):
        self.found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def trainers_gradients(recipe: TuneRecipe, tmp_path, plan: SharingPlan = PLAN, **kind) -> tuple[dict, dict]:
    """What the Trainer hands to the optimizer in its first step, and the weights before it."""
    dense, catch = tiny_model().double(), Catch()
    model, teacher = trained_model(dense, plan, recipe, **kind)
    if recipe.method == "lora":  # B begins at zero, and then A has no gradient
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
    for parameter in correction_parameters(model).values():  # as A_q has none while A_k is zero
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    arguments = arguments_of(recipe, tmp_path, "cpu", goes_on=True)
    trainer = SharingTrainer(model, arguments, in_order(rows(), recipe), rows(), recipe, teacher, [catch])
    trainer.train()
    return catch.found, before


def recipe_of(**fields) -> TuneRecipe:
    return TuneRecipe(**{"steps": 1, "batch_rows": ROWS, "dtype": "float64", "clip": 0, "eval_every": 9} | fields)


@functools.cache
def dense() -> torch.nn.Module:
    """The teacher."""
    return tiny_model().double()


def reference_loss(logits_of, objective: str) -> torch.Tensor:
    """Row by row, target by target."""
    total, count = 0.0, 0
    for inputs, targets in rows():
        ids = torch.from_numpy(inputs).long()[None]
        log_p = torch.log(torch.softmax(logits_of(ids)[0], -1))
        with torch.no_grad():
            told = torch.softmax(dense()(ids).logits[0], -1)
        for place, target in enumerate(targets):
            if target != UNCOUNTED:
                kl = (told[place] * (told[place].log() - log_p[place])).sum()
                total = total + (kl if objective == "distillation" else -log_p[place, target])
                count += 1
    return total / count


def oracle(eager: torch.nn.Module, plan: SharingPlan, heads):
    """The plan on the untouched model; head maps go with shared attention alone."""
    return imposed(eager, plan) if plan.parts else shared_by_oracle(eager, plan, heads)


def full_reference(objective: str, plan, heads) -> dict[str, torch.Tensor]:
    eager = tiny_model(attn_implementation="eager").double()
    with oracle(eager, plan, heads):
        reference_loss(lambda ids: eager(ids, use_cache=False).logits, objective).backward()
    return {name: parameter.grad for name, parameter in eager.named_parameters()}


def lora_reference(
    before: dict[str, torch.Tensor], recipe: TuneRecipe, corrections: Corrections = NONE, plan: SharingPlan = PLAN
) -> dict[str, torch.Tensor]:
    """Gradients of the adapters and corrections alone. before: the adapted model's parameters."""
    eager = tiny_model(attn_implementation="eager").double()
    weights = {name: parameter.detach() for name, parameter in eager.named_parameters()}
    leaves = {name: value.clone().requires_grad_(True) for name, value in before.items() if is_learnt(name)}
    for name in (name for name in leaves if "lora_A" in name):
        other, layer = name.replace("lora_A", "lora_B"), name.removeprefix("base_model.model.").split(".lora_A")[0]
        low_rank = leaves[other] @ leaves[name]
        weights[f"{layer}.weight"] = weights[f"{layer}.weight"] + recipe.lora_alpha / recipe.lora_rank * low_rank
    with corrected_by_oracle(eager, PLAN, HEADS, own_of(leaves)) if corrections else oracle(eager, plan, HEADS):
        logits_of = lambda ids: functional_call(eager, weights, (ids,), {"use_cache": False}).logits
        reference_loss(logits_of, recipe.objective).backward()
    return {name: leaf.grad for name, leaf in leaves.items()}


def is_learnt(name: str) -> bool:
    """Whether a parameter is an adapter's or a correction."""
    return "lora_" in name or name.rpartition(".")[2] in PARAMETERS


def own_of(leaves: dict[str, torch.Tensor]) -> dict[int, dict[str, torch.Tensor]]:
    """What the oracle takes: the corrections of each follower, by their short names."""
    found: dict[int, dict[str, torch.Tensor]] = {layer: {} for layer in PLAN.followers}
    for name, leaf in leaves.items():
        if (last := name.rpartition(".")[2]) in PARAMETERS:
            found[int(name.split(".layers.")[1].partition(".")[0])][last.removeprefix("correction_")] = leaf
    return found


def assert_equal(found: dict, reference: dict) -> None:
    largest = max(gradient.abs().max() for gradient in reference.values() if gradient is not None)
    assert largest > 1e-4
    for name, gradient in found.items():
        assert (gradient - reference[name]).abs().max() <= TOLERANCE * largest, name


@pytest.mark.parametrize("objective", ["text", "distillation"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_all_weights(tmp_path, checkpointing, objective):
    recipe = recipe_of(gradient_checkpointing=checkpointing, objective=objective)
    found, _ = trainers_gradients(recipe, tmp_path, head_map=HEADS)
    reference = full_reference(objective, PLAN, HEADS)
    gone = {f"model.layers.{layer}.self_attn.{name}_proj.weight" for layer in PLAN.followers for name in "qk"}
    assert set(reference) - set(found) == gone
    assert_equal(found, reference)


@pytest.mark.parametrize("objective", ["text", "distillation"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_lora(tmp_path, checkpointing, objective):
    fields = {"method": "lora", "lora_rank": 2, "lora_alpha": 3}
    recipe = recipe_of(gradient_checkpointing=checkpointing, objective=objective, **fields)
    found, before = trainers_gradients(recipe, tmp_path, head_map=HEADS)
    reference = lora_reference(before, recipe)
    assert set(found) == set(reference) and len(found) > 50
    assert_equal(found, reference)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("text", PARTS)
def test_all_weights_under_other_mechanisms(tmp_path, text, checkpointing):
    plan = SharingPlan.parse(text, 6)
    found, before = trainers_gradients(recipe_of(gradient_checkpointing=checkpointing), tmp_path, plan)
    reference = full_reference("text", plan, None)
    assert set(found) == set(before)  # what a layer does without is no parameter of the view
    gone = {name for name in set(reference) - set(found) if ".self_attn." in name}
    per_layer = {"share": 2, "skip": 4, "kv": 2, "keys": 1, "topk": 0}
    assert len(gone) == sum(per_layer[plan.mechanism_of(layer)] for layer in plan.changed)
    assert_equal(found, reference)


@pytest.mark.parametrize("objective", ["text", "distillation"])
@pytest.mark.parametrize("text", PARTS)
def test_lora_under_other_mechanisms(tmp_path, text, objective):
    plan = SharingPlan.parse(text, 6)
    recipe = recipe_of(method="lora", lora_rank=2, lora_alpha=3, objective=objective)
    found, before = trainers_gradients(recipe, tmp_path, plan)
    reference = lora_reference(before, recipe, plan=plan)
    assert set(found) == set(reference) and len(found) > 50
    assert_equal(found, reference)


@pytest.mark.parametrize("objective", ["text", "distillation"])
@pytest.mark.parametrize("kind", ["alignment", "rank=3", "rank=3,alignment"])
def test_lora_beside_corrections(tmp_path, kind, objective):
    """The adapters' and the corrections' own, all of both, and nothing else's."""
    corrections, fields = Corrections.parse(kind), {"method": "lora", "lora_rank": 2, "lora_alpha": 3}
    recipe = recipe_of(gradient_checkpointing=True, objective=objective, **fields)
    found, before = trainers_gradients(recipe, tmp_path, head_map=HEADS, corrections=corrections)
    reference = lora_reference(before, recipe, corrections)
    learnt = [name for name in reference if name.rpartition(".")[2] in PARAMETERS]
    assert len(learnt) == len(PLAN.followers) * (2 * bool(corrections.rank) + corrections.alignment)
    assert set(found) == set(reference) and all(reference[name].abs().max() > 0 for name in learnt)
    assert_equal(found, reference)


def test_batches_of_one_step_weigh_by_their_targets(tmp_path):
    """A mean of means would weigh a batch with few targets more."""
    found, _ = trainers_gradients(recipe_of(accumulate=ROWS, batch_rows=1), tmp_path, head_map=HEADS)
    assert_equal(found, full_reference("text", PLAN, HEADS))


def test_the_control_has_the_dense_models_gradients(tmp_path):
    found, _ = trainers_gradients(recipe_of(), tmp_path, control=True)
    reference = full_reference("text", SharingPlan((), 6), None)
    assert set(found) == set(reference)
    assert_equal(found, reference)


def test_gradients_are_clipped_by_their_norm(tmp_path):
    found, _ = trainers_gradients(recipe_of(clip=0.5), tmp_path, head_map=HEADS)
    assert torch.linalg.vector_norm(torch.stack([g.norm() for g in found.values()])) == pytest.approx(0.5, rel=1e-4)
