"""Training: gradients are the oracle's, in float64, with everything that people put around a model when they train it."""

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import Trainer, TrainingArguments

from core import SharingPlan, share_attention
from tests.support.families import fastest, make, plans
from tests.support.oracle import shared_by_oracle

# peft and accelerate ask by an old name whether a model checkpoints.
pytestmark = pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing:FutureWarning")

DROPOUT = {"attention_dropout": 0.3, "attn_pdrop": 0.3, "resid_pdrop": 0.2, "embd_pdrop": 0.2, "residual_dropout": 0.2}


def tokens() -> torch.Tensor:
    return torch.randint(1, 97, (2, 11), generator=torch.Generator().manual_seed(1))


def gradients(model, **options) -> dict[str, torch.Tensor | None]:
    """The gradient of each parameter that trains."""
    model.zero_grad()
    torch.manual_seed(7)
    model(input_ids=tokens(), labels=tokens(), **options).loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}


def expected(eager, plan, head_map=None) -> dict[str, torch.Tensor | None]:
    with shared_by_oracle(eager, plan, head_map):
        return gradients(eager, use_cache=False)


def part_of(tensor: torch.Tensor, part: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """What lies in `tensor` where `part` lies in `whole`: followers hold the value part of fused projections."""
    offset = (part.data_ptr() - whole.data_ptr()) // part.element_size()
    return tensor.as_strided(part.shape, part.stride(), offset)


def parts(reference: dict, view, model) -> dict:
    """The gradients of whole parameters, as those of the parts that a view holds."""
    wholes = dict(model.named_parameters())
    held = {name: part for name, part in view.named_parameters() if reference[name] is not None}
    return reference | {name: part_of(reference[name], part, wholes[name]) for name, part in held.items()}


def assert_equal(actual: dict, reference: dict, tolerance: float) -> None:
    """Every parameter that a view still has gets the oracle's gradient; the scale is that of the largest one."""
    largest = max(gradient.abs().max() for gradient in reference.values() if gradient is not None)
    for name, gradient in actual.items():
        assert (gradient is None) == (reference[name] is None), name
        assert gradient is None or (gradient - reference[name]).abs().max() <= tolerance * largest, name


def pair(family: str, implementation: str = "sdpa", dtype=torch.float64, **fields):
    """A model and the same weights with eager attention, for training, and a plan for both."""
    model = make(family, "eager", **fields) if implementation == "eager" else fastest(family, **fields)
    eager = make(family, "eager", **fields)
    return model.to(dtype).train(), eager.to(dtype).train(), plans(model)[0]


def checkpoint(view, **options) -> None:
    """Gradient checkpointing, by the name that transformers has for it."""
    enable = getattr(view, "activation_checkpointing_enable", None) or view.gradient_checkpointing_enable
    enable(options or None)


# Eager attention's softmax is in float32 and the oracle runs it once for a span.
EXECUTIONS = [
    ("eager", "reuse", 1e-12),
    ("eager", "recompute", 1e-5),
    ("sdpa", "reuse", 1e-5),
    ("sdpa", "recompute", 1e-5),
]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("implementation", "execution", "tolerance"), EXECUTIONS)
@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "gemma3_text", "gpt_neox", "phi3", "stablelm"])
def test_gradients_are_the_oracles(family, implementation, execution, tolerance, checkpointing):
    model, eager, plan = pair(family, implementation)
    head_map = {plan.followers[0]: (3, 0, 0, 1)}
    view = share_attention(model, plan, head_map=head_map, execution=execution)
    if checkpointing:
        checkpoint(view)
    assert_equal(gradients(view), parts(expected(eager, plan, head_map), view, model), tolerance)


def test_removed_parameters_are_all_that_is_missing():
    model, _, plan = pair("llama")
    view = share_attention(model, plan)
    given = gradients(view)
    gone = {f"model.layers.{layer}.self_attn.{name}_proj.weight" for layer in plan.followers for name in "qk"}
    assert set(dict(model.named_parameters())) - set(given) == gone
    assert all(gradient.abs().max() > 0 for gradient in given.values())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_reentrant_checkpointing_is_refused():
    """It runs layers without gradients first, so that what followers send back to their leader would be lost."""
    view = share_attention(pair("llama")[0], "1-3")
    checkpoint(view, use_reentrant=True)
    with pytest.raises(ValueError, match=r'Reentrant .* use gradient_checkpointing_enable\({"use_reentrant": False}\)'):
        gradients(view, use_cache=False)


@pytest.mark.parametrize("family", ["stablelm", "gptj"])
def test_checkpointing_where_layers_drop_keywords(family):
    model, eager, plan = pair(family)
    view = share_attention(model, plan)
    checkpoint(view)
    assert_equal(gradients(view, use_cache=False), expected(eager, plan), 1e-6)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", ["llama", "gpt2", "starcoder2", "phi3"])
def test_followers_drop_what_their_leader_drops(family, checkpointing):
    """With the same seed the oracle drops the same weights: followers draw nothing of their own."""
    model, eager, plan = pair(family, "eager", **DROPOUT)
    view = share_attention(model, plan)
    if checkpointing:
        checkpoint(view)
    assert_equal(gradients(view), parts(expected(eager, plan), view, model), 1e-12)


@pytest.mark.parametrize("execution", ["reuse", "recompute"])
def test_compiled_gradients(execution):
    model, eager, _ = pair("llama", num_hidden_layers=2)
    view = share_attention(model, "0-1", execution=execution)
    try:
        compiled = torch.compile(view, backend="aot_eager", fullgraph=True)
        compiled(input_ids=tokens(), labels=tokens(), use_cache=False).loss.backward()
    finally:
        torch._dynamo.reset()
    given = {name: parameter.grad for name, parameter in view.named_parameters()}
    assert_equal(given, expected(eager, SharingPlan.parse("0-1", 2)), 1e-6)


# accelerate and the Trainer


@pytest.fixture
def own_accelerate_state():
    """accelerate keeps one state per process, which lm-eval may have set up already."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("order", ["share-then-prepare", "prepare-then-share"])
def test_accelerate_in_bfloat16(order, own_accelerate_state):
    model, eager, plan = pair("llama", "eager", torch.float32)
    accelerator = Accelerator(mixed_precision="bf16", cpu=True)
    if order == "share-then-prepare":
        view = accelerator.prepare(share_attention(model, plan))
    else:
        view = share_attention(accelerator.prepare(model), plan)
    logits = view(tokens(), use_cache=False).logits
    assert logits.dtype == torch.float32  # autocast is on: only then does accelerate convert outputs
    assert_equal(gradients(view, use_cache=False), expected(accelerator.prepare(eager), plan), 1e-3)


def test_the_trainer_takes_a_step(tmp_path, own_accelerate_state):
    model, _, plan = pair("llama", "sdpa", torch.float32)
    view = share_attention(model, plan)
    before = {name: parameter.clone() for name, parameter in view.named_parameters()}
    data = [{"input_ids": row, "labels": row} for row in tokens()]
    arguments = TrainingArguments(
        tmp_path, max_steps=1, per_device_train_batch_size=2, gradient_checkpointing=True, learning_rate=1e-2,
        report_to=[], disable_tqdm=True, use_cpu=True, save_strategy="no",
    )  # fmt: skip
    Trainer(view, arguments, train_dataset=data).train()
    originals = dict(model.named_parameters())
    for name, parameter in view.named_parameters():
        assert not torch.equal(parameter, before[name])
        assert torch.equal(parameter, originals[name])  # one storage


# LoRA

PROJECTIONS = {
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj"],
    "phi3": ["qkv_proj", "o_proj"],
    "gpt_neox": ["query_key_value", "dense"],
    "gpt2": ["c_attn", "c_proj"],
}


def with_lora(model, family: str, **options) -> PeftModel:
    torch.manual_seed(5)
    config = LoraConfig(
        r=2, target_modules=PROJECTIONS[family], init_lora_weights=False, fan_in_fan_out=family == "gpt2", **options
    )
    return get_peft_model(model, config).double()


@pytest.mark.parametrize("family", PROJECTIONS)
def test_lora_then_share(family):
    model, eager, plan = pair(family, "eager")
    adapted = with_lora(model, family).eval()
    view = share_attention(adapted, plan)
    assert_equal(gradients(view), expected(with_lora(eager, family).eval(), plan), 1e-12)


def fold(adapted, model, eager) -> None:
    """Add what the adapters of a view do to the weights of another model."""
    wholes, targets = dict(model.named_parameters()), dict(eager.named_parameters())
    for path, module in adapted.named_modules():
        if hasattr(module, "get_delta_weight"):
            name, part = f"{path.removeprefix('base_model.model.')}.weight", module.base_layer.weight
            delta = module.get_delta_weight("default").view_as(part)
            targets[name].data = targets[name].data.clone()
            part_of(targets[name].data, part, wholes[name]).add_(delta.detach())


@pytest.mark.parametrize("family", PROJECTIONS)
def test_share_then_lora(family, tmp_path):
    model, eager, plan = pair(family, "eager")
    adapted = with_lora(share_attention(model, plan), family).eval()
    logits = adapted(tokens(), use_cache=False).logits
    fold(adapted, model, eager)
    with torch.no_grad(), shared_by_oracle(eager.eval(), plan):
        reference = eager(tokens(), use_cache=False).logits
    assert (logits - reference).abs().max() <= 1e-6 * reference.abs().max()
    assert all(gradient.abs().max() > 0 for gradient in gradients(adapted).values())
    adapted.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(share_attention(model, plan), tmp_path).eval()
    assert torch.equal(loaded(tokens(), use_cache=False).logits, logits)


def test_lora_on_the_leader_alone():
    model, eager, plan = pair("llama", "eager")
    leader = {"layers_to_transform": list(plan.leaders)}
    view = share_attention(with_lora(model, "llama", **leader), plan)
    assert_equal(gradients(view), expected(with_lora(eager, "llama", **leader), plan), 1e-12)
