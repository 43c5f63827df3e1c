"""Models of which layers read the keys and values of others by themselves: every formula against counting.

Parameters, FLOPs and the bytes of transformers' own cache. Nothing here asks a view.
"""

import json
from functools import cache, partial

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, DynamicCache

from core.configs import kv_sources
from core.cost import (
    ModelShape,
    costs_by_layer,
    decode_bytes_moved,
    forward_flops,
    generation_flops,
    kv_cache_bytes,
    parameter_count,
)
from core.plan import SharingPlan, native_plan
from tests.core.cost.test_flops import count_flops
from tests.core.cost.test_step import check_sums
from tests.support.variants import NATIVE, SIZES

# The last four of twelve layers share, where nothing else is said; windows and everything alternate.
TYPES = ["sliding_attention", "full_attention"] * 6
LAYERS = {"num_hidden_layers": 12, "num_kv_shared_layers": 4, "layer_types": TYPES, "sliding_window": 6}
EMBEDDINGS = {"vocab_size_per_layer_input": 89, "hidden_size_per_layer_input": 6}
GEMMA_3N = {**EMBEDDINGS, "laurel_rank": 5, "altup_num_inputs": 3}
GEMMA_4 = {**EMBEDDINGS, "global_head_dim": 20}
EXPERTS = {"enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 24}
CASES = {
    "gemma3n": ("gemma3n_text", GEMMA_3N),
    "gemma3n, MLPs of two sizes": ("gemma3n_text", {**GEMMA_3N, "intermediate_size": [56, 40, 40] * 4}),
    "gemma3n, three of four share": (
        "gemma3n_text",
        {
            **GEMMA_3N,
            "num_hidden_layers": 8,
            "num_kv_shared_layers": 6,
            "layer_types": TYPES[:8],
            "altup_num_inputs": 2,
        },
    ),
    "gemma3n, nothing shared": ("gemma3n_text", {**GEMMA_3N, "num_kv_shared_layers": 0}),
    "gemma4": ("gemma4_text", GEMMA_4),
    "gemma4, wide MLPs": ("gemma4_text", {**GEMMA_4, "use_double_wide_mlp": True}),
    "gemma4, values of keys": (
        "gemma4_text",
        {**GEMMA_4, "attention_k_eq_v": True, "num_global_key_value_heads": 1},
    ),
    "gemma4, experts": ("gemma4_text", {**GEMMA_4, **EXPERTS, "num_kv_shared_layers": 0}),
    "gemma4, no embeddings": (
        "gemma4_text",
        {**GEMMA_4, "num_kv_shared_layers": 0, "hidden_size_per_layer_input": 0},
    ),
    "gemma4_unified": ("gemma4_unified_text", {"global_head_dim": 20, "num_global_key_value_heads": 1}),
}
SHARED = [name for name, (_, fields) in CASES.items() if fields.get("num_kv_shared_layers") != 0]


@cache
def config_of(case: str):
    family, fields = CASES[case]
    return AutoConfig.for_model(family, **{**SIZES, **LAYERS, **fields})


@cache
def model_of(case: str):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(
        config_of(case), attn_implementation="sdpa", experts_implementation="eager"
    ).eval()


@cache
def shape_of(case: str) -> ModelShape:
    return ModelShape.from_config(config_of(case))


def tokens(batch_size: int, num_tokens: int) -> torch.Tensor:
    return torch.randint(0, 89, (batch_size, num_tokens), generator=torch.Generator().manual_seed(1))


def cached_bytes(cache) -> int:
    """Bytes of all tensors in a transformers cache; a layer that reads another one's has none."""
    return sum(tensor.nbytes for layer in cache.layers for tensor in (layer.keys, layer.values) if tensor is not None)


def counted(model, call) -> int:
    """FLOPs that torch counts, without the table of rotary angles."""
    counts = count_flops(model, call)
    return counts[type(model).__name__] - sum(count for name, count in counts.items() if name.endswith(".rotary_emb"))


def test_families_that_share_by_themselves_are_those_of_the_installed_transformers():
    """A new one has to be looked at: its costs are wrong where they do not know of it."""
    named = [kind for kind, config in CONFIG_MAPPING.items() if hasattr(config, "kv_sharing_modes")]
    assert set(named) == NATIVE | {"mistral_large4_text"}


@pytest.mark.parametrize("case", CASES)
def test_who_reads_whom_is_what_transformers_says(case):
    config, sources = config_of(case), kv_sources(config_of(case).to_dict())
    modes = config.kv_sharing_modes
    assert [source is not None for source in sources] == [mode == "reuse" for mode in modes if sources]
    assert all(modes[source] == "store" for source in sources if source is not None)
    attention = [layer.self_attn for layer in model_of(case).model.layers]
    assert [module.is_kv_shared_layer for module in attention] == [mode == "reuse" for mode in modes]
    for layer, source in enumerate(sources):
        assert source is None or attention[source].layer_type == attention[layer].layer_type


def test_mistral_large_4_names_the_layers_that_are_read():
    config = AutoConfig.for_model(
        "mistral_large4_text", num_hidden_layers=6, kv_source_layers=[0, 0, 2, 2, 0, 5], indexer_types=["full"] * 6
    )
    assert kv_sources(config.to_dict()) == (None, 0, None, 2, 0, None)
    assert str(native_plan(kv_sources(config.to_dict()))) == "kv 0-1-4 2-3"
    with pytest.raises(ValueError, match="'mistral_large4_text' are not known"):
        ModelShape.from_config(config)


@pytest.mark.parametrize("fields", [{"num_kv_shared_layers": 12}, {"num_kv_shared_layers": 11}])
def test_layers_that_share_need_one_of_their_type_before_them(fields):
    with pytest.raises(ValueError, match="before the layers that share there must be one of each of their types"):
        kv_sources({**LAYERS, **fields})


@pytest.mark.parametrize("case", CASES)
def test_a_shape_is_the_same_from_a_config_json(case):
    config = config_of(case)
    assert ModelShape.from_config(json.loads(config.to_json_string())) == shape_of(case)
    assert shape_of(case).kv_sources == kv_sources(config.to_dict())


@pytest.mark.parametrize("case", CASES)
def test_parameters_equal_counting(case):
    count = parameter_count(shape_of(case), "")
    sizes = {name: parameter.numel() for name, parameter in model_of(case).named_parameters()}
    assert count.total == sum(sizes.values())
    for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
        assert getattr(count, name) == sum(size for one, size in sizes.items() if f".{name}." in one)
    norms = [size for one, size in sizes.items() if ".q_norm." in one or ".k_norm." in one]
    assert count.qk_norms == sum(norms)


@pytest.mark.parametrize("case", CASES)
def test_flops_and_cache_bytes_equal_counting_in_prompt_and_decoding(case):
    model, shape, held, past = model_of(case), shape_of(case), DynamicCache(config=config_of(case)), 0
    for step in (5, 1, 4, 9, 1, 1):  # below, onto and beyond the sliding windows of 6
        flops = forward_flops(shape, "", 2, step, past)
        assert counted(model, partial(model, tokens(2, step), past_key_values=held)) == flops.total - flops.softmax
        past += step
        assert kv_cache_bytes(shape, "", 2, past, 4) == cached_bytes(held), past
    assert [layer.keys is None for layer in held.layers] == [
        layer in shape.borrowers for layer in range(shape.num_layers)
    ]


@pytest.mark.parametrize("case", SHARED)
def test_a_prompt_of_which_one_position_is_kept_equals_counting(case):
    """Gemma 4 runs the layers that share on this position alone, Gemma 3n does not."""
    model, shape = model_of(case), shape_of(case)
    kept, whole = (forward_flops(shape, "", 2, 11, logits_to_keep=keep) for keep in (1, 0))
    assert counted(model, partial(model, tokens(2, 11), logits_to_keep=1)) == kept.total - kept.softmax
    assert (kept.mlp < whole.mlp) == (kept.softmax < whole.softmax) == case.startswith("gemma4")
    later = [forward_flops(shape, "", 2, 1, past) for past in (11, 12)]
    assert generation_flops(shape, "", 2, 11, 2) == kept + later[0] + later[1]


@pytest.mark.parametrize("case", CASES)
def test_a_step_reads_the_keys_and_values_of_others_again(case):
    model, shape, held, seen = model_of(case), shape_of(case), DynamicCache(config=config_of(case)), []
    with torch.inference_mode():
        model(tokens(3, 10), past_key_values=held)
        attend = torch.nn.functional.scaled_dot_product_attention

        def noting(query, key, value, *args, **kwargs):
            seen.append((key.shape[2], key.shape[-1]))  # heads are repeated here
            return attend(query, key, value, *args, **kwargs)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.nn.functional, "scaled_dot_product_attention", noting)
            model(tokens(3, 1), past_key_values=held)
    moved = decode_bytes_moved(shape, "", 3, 11, 4)
    assert [width for _, width in seen] == [size.head_dim for size in shape.sizes]
    read = [
        2 * 3 * 4 * length * width * size.num_kv_heads for (length, width), size in zip(seen, shape.sizes, strict=True)
    ]
    assert moved.cache_read == sum(read)
    rows = [2 * 3 * 4 * size for layer, size in enumerate(shape.kv_sizes) if layer not in shape.borrowers]
    assert moved.cache_written == sum(rows)


@pytest.mark.parametrize("case", CASES)
def test_a_step_reads_all_weights_but_the_rows_of_other_tokens(case):
    shape, model = shape_of(case), model_of(case)
    table = getattr(model.model, "embed_tokens_per_layer", None)
    unread = 0 if table is None else (89 - 3) * table.weight.shape[1]
    if shape.experts:  # the expected number of those that three tokens choose
        experts = [one for layer in model.model.layers for one in layer.experts.parameters()]
        unread += round(sum(one.numel() for one in experts) * 0.5**3)
    weights = sum(parameter.numel() for parameter in model.parameters())
    assert decode_bytes_moved(shape, "", 3, 11, 4).weights == 4 * (weights - unread)


@pytest.mark.parametrize("case", CASES)
def test_layers_sum_to_the_model(case):
    shape = shape_of(case)
    for plan in ("", "skip 2", "0_2" if shape.num_layers > 8 else "skip 5 7", "kv 1_3" if shape.num_layers > 8 else ""):
        for batch, context in ((1, 1), (3, 40)):
            check_sums(shape, SharingPlan.parse(plan, shape.num_layers), batch, context)
            costs = costs_by_layer(shape, batch, context, "float32")
            assert costs.of(plan).cache_bytes == kv_cache_bytes(shape, plan, batch, context, 4)


@pytest.mark.parametrize(
    ("plan", "fault"),
    [
        ("6_8", "Layer 8 cannot reuse .* layer 6: layer 8 reads the keys and values of layer 6 in the model itself"),
        ("kv 0_8", "Layer 8 cannot follow layer 0 in kv 0_8: layer 8 reads the keys and values of layer 6"),
        (
            "0_6",
            "Layer 6 cannot reuse .* layer 0: the keys and values of layer 6 are read by layers 8 and 10 in the model",
        ),
        ("keys 1_7", "Layer 7 cannot follow .*: the keys and values of layer 7 are read by layers 9 and 11"),
        (
            "skip 7",
            "Layer 7 cannot skip attention: its keys and values are read by layers 9 and 11 .*; skip layers 9 and 11",
        ),
        ("topk3 0_8", "Layer 8 cannot follow layer 0 in topk3 0_8: layer 8 reads the keys and values of layer 6"),
        ("0-1", "their sliding windows differ"),
    ],
)
def test_plans_that_a_native_model_cannot_do_are_refused(plan, fault):
    for case in ("gemma3n", "gemma4"):
        with pytest.raises(ValueError, match=fault):
            parameter_count(shape_of(case), plan)


def test_keys_of_which_values_are_made_stay():
    shape = shape_of("gemma4, values of keys")
    for plan in ("1_3", "keys 1_3"):
        with pytest.raises(ValueError, match=r"Layer 3 cannot do without its keys, of which its values are made"):
            parameter_count(shape, plan)
    assert parameter_count(shape, "kv 1_3").v_proj == parameter_count(shape, "").v_proj
