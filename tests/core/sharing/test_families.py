"""The parity grid: every supported family against the oracle and against its own uncached recomputation.

`pytest -m families` prints a table family × check; `--families-table FILE` also writes it as Markdown.
"""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from core import SharingPlan, share_attention
from core.damage.similarity import attention_weights
from core.sharing.cache import cache_bytes
from core.sharing.families import CHECKED, static_cache_is_wrong
from tests.support.oracle import shared_by_oracle

pytestmark = pytest.mark.families

SIZES = {
    "num_hidden_layers": 6, "hidden_size": 48, "intermediate_size": 56, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 12, "vocab_size": 97, "max_position_embeddings": 64,
    "initializer_range": 0.2, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
WINDOW = {"sliding_window": 6}
MIXED = {**WINDOW, "layer_types": ["sliding_attention"] * 3 + ["full_attention"] * 3}
EXPERTS = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
FIELDS = {
    "bloom": {"n_head": 4},
    "codegen": {"n_inner": 56, "rotary_dim": 4},
    "cohere2": MIXED,
    "exaone4": MIXED,
    "gemma2": {**MIXED, "query_pre_attn_scalar": 12, "attn_logit_softcapping": 2.0},
    "gemma3_text": {**MIXED, "query_pre_attn_scalar": 12},
    "gpt_bigcode": {"n_inner": 56, "n_positions": 64},
    "gpt_neo": {"window_size": 6, "attention_types": [[["local"], 3], [["global"], 3]]},
    "gpt_oss": {**MIXED, **EXPERTS},
    "gptj": {"n_inner": 56, "rotary_dim": 4},
    "granite": {"attention_multiplier": 0.2},
    "granitemoe": {**EXPERTS, "attention_multiplier": 0.2},
    "ministral": MIXED,
    "mistral": WINDOW,
    "mpt": {"max_seq_len": 64, "attn_config": {"clip_qkv": 1.5}},
    "mixtral": {**EXPERTS, **WINDOW},
    "olmo": {"clip_qkv": 0.5},
    "olmo3": MIXED,
    "olmoe": EXPERTS,
    "opt": {"ffn_dim": 56, "word_embed_proj_dim": 48},
    "phi3": WINDOW,
    "phimoe": EXPERTS,
    "qwen3_moe": EXPERTS,
    "stablelm": {"partial_rotary_factor": 0.5},
}


VARIANTS = {
    "falcon (alibi)": ("falcon", {"alibi": True}),
    "falcon (grouped)": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon (one head each)": ("falcon", {"multi_query": False, "parallel_attn": False, "bias": True}),
    "gpt_bigcode": ("gpt_bigcode", FIELDS["gpt_bigcode"]),
    "gpt_bigcode (one head each)": ("gpt_bigcode", {**FIELDS["gpt_bigcode"], "multi_query": False}),
    "gpt_neo": ("gpt_neo", FIELDS["gpt_neo"]),
    "mpt": ("mpt", FIELDS["mpt"]),
}
"""Other forms of a family's attention, and families that are not in CHECKED: name → (model type, fields)."""


def make(family: str, implementation: str, **more):
    torch.manual_seed(0)
    model_type, fields = VARIANTS.get(family, (family, FIELDS.get(family, {})))
    fields = SIZES | fields | more
    if model_type == "falcon":
        del fields["head_dim"]  # which its configuration computes
    config = AutoConfig.for_model(model_type, **fields)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=implementation).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():  # biases, norms and sinks start at 0 or 1: nothing would show
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def fastest(family: str, **fields):
    """The model with sdpa, or with eager attention where the family has nothing else."""
    try:
        return make(family, "sdpa", **fields)
    except ValueError:
        return make(family, "eager", **fields)


def slow(family: str, **fields):
    """The model for the oracle: eager, but for Falcon with ALiBi, which transformers' eager attention adds twice."""
    return make(family, "sdpa" if family == "falcon (alibi)" else "eager", **fields)


def plans(model) -> list[SharingPlan]:
    kinds = getattr(model.config, "layer_types", None) or getattr(model.config, "attention_layers", None) or [""]
    mixed = len(set(kinds)) > 1
    return [SharingPlan.parse(text, 6) for text in ("0-2" if mixed else "1-3", "1-2,3-5", "4-5")]


def tokens(rows: int = 2, length: int = 11) -> torch.Tensor:
    return torch.randint(1, 97, (rows, length), generator=torch.Generator().manual_seed(1))


def padding(length: int = 11) -> torch.Tensor:
    mask = torch.ones(2, length, dtype=torch.long)
    mask[0, :4] = 0
    return mask


def close(actual, expected, tolerance: float = 1e-5) -> None:
    assert (actual - expected).abs().max() <= tolerance * expected.abs().max()


@torch.no_grad()
def parity(family: str, execution: str, head_mapped: bool = False, **fields) -> None:
    model, eager = fastest(family, **fields), slow(family, **fields)
    for plan in plans(model):
        heads = model.config.num_attention_heads
        head_map = {follower: tuple((3 * h + 1) % heads for h in range(heads)) for follower in plan.followers}
        head_map = head_map if head_mapped else {}
        view = share_attention(model, plan, head_map=head_map, execution=execution)
        for mask in (None, padding()):
            with shared_by_oracle(eager, plan, head_map):
                expected = eager(tokens(), attention_mask=mask, use_cache=False).logits
            logits = view(tokens(), attention_mask=mask, use_cache=False).logits
            close(logits[:, 0 if mask is None else 4 :], expected[:, 0 if mask is None else 4 :])


@torch.no_grad()
def bfloat16(family: str) -> None:
    """A view is about as far from its float32 oracle as the dense model is from its own float32 logits.

    On average: a token near the border between two experts may go to the other one.
    """
    exact, models = slow(family), [slow(family).bfloat16(), fastest(family).bfloat16()]
    dense = exact(tokens(), use_cache=False).logits
    own = max((model(tokens(), use_cache=False).logits - dense).abs().mean() for model in models)
    for plan in plans(exact):
        with shared_by_oracle(exact, plan):
            expected = exact(tokens(), use_cache=False).logits
        for execution in ("reuse", "recompute"):
            logits = share_attention(models[1], plan, execution=execution)(tokens(), use_cache=False).logits
            assert (logits - expected).abs().mean() <= 1.5 * own


def generation(family: str, **way) -> None:
    model = fastest(family)
    view = share_attention(model, plans(model)[0])
    cached = {"attention_mask": padding(), "max_new_tokens": 6, "pad_token_id": 0, "do_sample": False} | way
    uncached = {
        name: value for name, value in cached.items() if name not in ("cache_implementation", "disable_compile")
    }
    if "cache_implementation" in way and static_cache_is_wrong(model.config):
        with pytest.raises(ValueError, match="static cache"):
            view.generate(tokens(), **cached)
        return
    expected = view.generate(tokens(), use_cache=False, **uncached)
    assert torch.equal(view.generate(tokens(), **cached), expected)


@torch.no_grad()
def values_only(family: str) -> None:
    model = fastest(family)
    plan = plans(model)[0]
    dense = model(tokens(), use_cache=True).past_key_values
    shared = share_attention(model, plan)(tokens(), use_cache=True).past_key_values
    saved = sum(cache_bytes_of(dense.layers[layer].keys) for layer in plan.followers)
    assert saved and cache_bytes(dense) - cache_bytes(shared) == saved


def cache_bytes_of(tensor) -> int:
    return tensor.numel() * tensor.element_size()


def gradients(family: str) -> None:
    model, eager = fastest(family), slow(family)
    plan = plans(model)[0]
    with shared_by_oracle(eager, plan):
        eager(tokens(), labels=tokens(), use_cache=False).loss.backward()
    expected = {name: parameter.grad for name, parameter in eager.named_parameters()}
    view = share_attention(model, plan)
    view(tokens(), labels=tokens(), use_cache=False).loss.backward()
    largest = max(gradient.abs().max() for gradient in expected.values() if gradient is not None)
    for name, parameter in view.named_parameters():
        # a key bias has no gradient but rounding: so the scale is that of the whole model
        if parameter.grad is not None:
            same_part = expected[name].as_strided(parameter.shape, parameter.stride(), parameter.storage_offset())
            assert (parameter.grad - same_part).abs().max() <= 1e-5 * largest


@torch.no_grad()
def recorded(family: str) -> None:
    returned = make(family, "eager")(tokens(), output_attentions=True).attentions
    model = make(family, "eager") if family == "falcon (alibi)" else fastest(family)
    for layer, weights in attention_weights(model, tokens()).items():
        torch.testing.assert_close(weights, returned[layer], rtol=1e-4, atol=1e-6)


CHECKS = {
    "reuse": lambda family: parity(family, "reuse"),
    "recompute": lambda family: parity(family, "recompute"),
    "head maps": lambda family: [parity(family, execution, True) for execution in ("reuse", "recompute")],
    "MHA": lambda family: [parity(family, way, num_key_value_heads=4) for way in ("reuse", "recompute")],
    "MQA": lambda family: [parity(family, way, num_key_value_heads=1) for way in ("reuse", "recompute")],
    "bfloat16": bfloat16,
    "greedy": generation,
    "beams": lambda family: generation(family, num_beams=3),
    "static cache": lambda family: generation(family, cache_implementation="static", disable_compile=True),
    "values only": values_only,
    "gradients": gradients,
    "attention maps": recorded,
}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("family", sorted([*CHECKED, *VARIANTS]))
def test_family(family, check, families_table):
    families_table.setdefault(family, {})[check] = "fails"
    CHECKS[check](family)
    families_table[family][check] = "✓"
