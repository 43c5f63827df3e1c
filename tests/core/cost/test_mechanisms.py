"""core.cost under every mechanism, against counting on untouched models: what a mechanism by its definition leaves out or reads.

Nothing here asks a view. Of a tiny dense model the parameters, the tensors of its cache and the FLOPs that torch counts are
known for each layer and each part of it; what a mechanism makes of them is written down in LACKS, STORES and READS.
"""

from functools import cache, partial

import pytest
import torch
from transformers import DynamicCache

from core.cost import (
    ModelShape,
    decode_bytes_moved,
    forward_flops,
    held_cache_bytes,
    known_shapes,
    kv_cache_bytes,
    parameter_count,
    stored_bytes,
)
from core.cost.kv_caches import CacheKind
from core.plan import MECHANISMS, Part, SharingPlan
from core.quantization import cache_maker
from core.sharing.families import OUTPUTS, attention_modules, layers_of
from tests.core.cost.test_flops import count_flops
from tests.core.cost.test_memory import CACHED_AS_THEY_ARE, _noting, tokens
from tests.core.cost.test_step import check_sums
from tests.support.models import tiny_model
from tests.support.variants import VARIANTS, variant_config, variant_model

LACKS = {"share": "qk", "skip": "qkvo", "kv": "kv", "keys": "k", "topk": "", None: ""}
"""Projections, with their norms, biases and sinks, that the layer does without."""
STORES = {"share": "v", "skip": "", "kv": "", "keys": "v", "topk": "kv", None: "kv"}
"""Tensors in the layer's own cache."""
READS = {
    "share": ("", "v"),
    "skip": ("", ""),
    "kv": ("kv", ""),
    "keys": ("k", "v"),
    "topk": ("", "kv"),
    None: ("", "kv"),
}
"""Tensors that a step reads: of the leader's cache, and of its own."""
PARTS = {
    "q": ("q_proj", "q_norm", "query_layernorm", "q_layernorm", "sinks"),
    "k": ("k_proj", "k_norm", "key_layernorm", "k_layernorm"),
    "v": ("v_proj",),
    "o": OUTPUTS,
}
FUSED = ("qkv_proj", "c_attn", "Wqkv", "query_key_value")


def of_parts(parts, num_layers: int) -> SharingPlan:
    """Share is a part like any other here."""
    groups = [layers for mechanism, layers, _ in parts if mechanism == "share"]
    others = tuple(Part(mechanism, layers, number) for mechanism, layers, number in parts if mechanism != "share")
    return SharingPlan((), num_layers, tuple(groups), others)


def plans_of(shape: ModelShape) -> dict[str, SharingPlan]:
    """Each mechanism in as many layers as can be, and all of them side by side."""
    windows = shape.sliding_windows
    alike = [tuple(layer for layer, one in enumerate(windows) if one == window) for window in dict.fromkeys(windows)]
    groups = [layers for layers in alike if len(layers) > 1]
    plans = {"skip": of_parts([("skip", (1, shape.num_layers - 1), 0)], shape.num_layers)}
    for mechanism, number in (("kv", 0), ("keys", 0), ("topk", 3), ("topk", 99)):
        plans[f"{mechanism}{number or ''}"] = of_parts(
            [(mechanism, layers, number) for layers in groups], shape.num_layers
        )
    for name, two in (("mixed", (("topk", 2), ("kv", 0))), ("mixed too", (("share", 0), ("keys", 0)))):
        plans[name] = _mixed(windows, two)
    return plans


def _mixed(windows: tuple, mechanisms: tuple[tuple[str, int], ...]) -> SharingPlan:
    """Each of the mechanisms in the first two layers that are alike and still free; all other layers skip attention, but 0."""
    free, mixed = list(range(len(windows) - 1)), []
    for mechanism, number in mechanisms:
        pair = next((one, two) for one in free for two in free if one < two and windows[one] == windows[two])
        mixed.append((mechanism, pair, number))
        free = [layer for layer in free if layer not in pair]
    skipped = tuple(layer for layer in (*free, len(windows) - 1) if layer)
    return of_parts([*mixed, ("skip", skipped, 0)], len(windows))


@cache
def case_of(variant: str) -> tuple:
    model = variant_model(variant)
    shape = ModelShape.from_config(model.config)
    return model, shape, plans_of(shape)


OWN_FORWARD = ("bloom", "codegen", "gptj")
"""Families that multiply every row and mask what was not chosen."""


def doing(plan: SharingPlan, variant: str = "") -> list[tuple]:
    """(layer, what it does, its leader, how many positions it reads at most) of each layer."""
    all_rows = 10**9
    return [
        (
            layer,
            plan.mechanism_of(layer),
            plan.source_of(layer),
            all_rows if variant in OWN_FORWARD else plan.positions_of(layer) or all_rows,
        )
        for layer in range(plan.num_layers)
    ]


def split_of(shape: ModelShape, name: str) -> dict[str, float]:
    """Which share of a parameter's or module's outputs is for queries, keys, values and the output, by its name."""
    if any(piece in FUSED for piece in name.split(".")):
        query, kv = shape.num_heads, shape.num_kv_heads
        return {"q": query / (query + 2 * kv), "k": kv / (query + 2 * kv), "v": kv / (query + 2 * kv)}
    [part] = [part for part, names in PARTS.items() if any(piece in names for piece in name.split("."))]
    return {part: 1.0}


def parameters_by_part(model, shape: ModelShape) -> list[dict[str, int]]:
    """Of each layer's attention: parameters of queries, keys, values and the output."""
    found = []
    for module in attention_modules(model):
        counts = dict.fromkeys("qkvo", 0)
        for name, parameter in module.named_parameters():
            for part, share in split_of(shape, name).items():
                counts[part] += round(share * parameter.numel())
        found.append(counts)
    return found


NORMS = {
    **dict.fromkeys(("gemma2", "gemma3_text"), ("input_layernorm", "post_attention_layernorm")),
    **dict.fromkeys(("olmo2", "olmo3", "exaone4"), ("post_attention_layernorm",)),
    **dict.fromkeys(("biogpt", "opt"), ("self_attn_layer_norm",)),
    **dict.fromkeys(("codegen", "cohere", "cohere2", "gptj", "phi", "falcon", "stablelm qk-norm"), ()),
    **dict.fromkeys(("falcon new",), ("ln_attn",)),
    "opt narrow embedding": (), "falcon new, one norm": (), "gpt2": ("ln_1",), "falcon old": ("input_layernorm",),
    "glm4": ("input_layernorm", "post_self_attn_layernorm"),
}  # fmt: skip
"""Norms that go with a layer's attention, by variant or family; others have the one before it."""


def norm_parameters(model, variant: str, layer: int) -> int:
    """Parameters of the norms that only attention reads."""
    names = NORMS.get(variant, NORMS.get(variant.partition(" ")[0], ("input_layernorm",)))
    block = layers_of(model)[layer]
    return sum(one.numel() for name in names for one in getattr(block, name).parameters())


def lacking(model, shape: ModelShape, variant: str, plan: SharingPlan) -> int:
    """Parameters of the dense model that the plan's layers do without."""
    by_part = parameters_by_part(model, shape)
    gone = sum(by_part[layer][part] for layer, does, _, _ in doing(plan) for part in LACKS[does])
    return gone + sum(norm_parameters(model, variant, layer) for layer in plan.skipped)


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameters_are_those_of_the_dense_model_without_what_goes(variant):
    model, shape, plans = case_of(variant)
    whole = sum(one.numel() for one in model.parameters())
    by_part = parameters_by_part(model, shape)
    for name, plan in plans.items():
        count = parameter_count(shape, plan)
        assert count.total == whole - lacking(model, shape, variant, plan), name
        kept = [
            {part: size for part, size in by_part[layer].items() if part not in LACKS[does]}
            for layer, does, _, _ in doing(plan)
        ]
        assert count.projections + count.qk_norms + count.sinks == sum(sum(sizes.values()) for sizes in kept), name
        moved, dense = (decode_bytes_moved(shape, one, 3, 11, 4).weights for one in (plan, ""))
        assert dense - moved == 4 * lacking(model, shape, variant, plan), name
        assert stored_bytes(shape, plan, 3, 11, 4).weights == 4 * count.total


@pytest.mark.parametrize("variant", CACHED_AS_THEY_ARE)
def test_cache_bytes_are_those_of_the_tensors_that_are_kept(variant):
    model, shape, plans = case_of(variant)
    held, num_tokens = DynamicCache(config=model.config), 0
    for step in (3, 1, 4, 20, 1):  # below, onto and beyond the sliding windows of 6
        with torch.inference_mode():
            model(tokens(3, step), past_key_values=held)
        num_tokens += step
        sizes = [{"k": layer.keys.nbytes, "v": layer.values.nbytes} for layer in held.layers]
        for name, plan in plans.items():
            counted = sum(sizes[layer][one] for layer, does, _, _ in doing(plan) for one in STORES[does])
            assert kv_cache_bytes(shape, plan, 3, num_tokens, 4) == counted, (name, num_tokens)
            assert held_cache_bytes(shape, plan, 3, num_tokens, "full", 4).total == counted


def test_quantized_caches_hold_the_tensors_that_are_kept():
    model, kind = tiny_model(), CacheKind("quantized-8", 8, 6)
    shape = ModelShape.from_config(model.config)
    held = cache_maker(model, kind)()
    for written, step in enumerate((11, *[1] * 8)):
        with torch.inference_mode():
            model(tokens(3, step), past_key_values=held)
        for name, plan in plans_of(shape).items():
            counted = sum(
                _quantized_bytes(held.layers[layer], {"k": "keys", "v": "values"}[one])
                for layer, does, _, _ in doing(plan)
                for one in STORES[does]
            )
            assert held_cache_bytes(shape, plan, 3, 11 + written, kind, 4, written).total == counted, (name, written)


def _quantized_bytes(layer, name: str) -> int:
    """Of one tensor: integers with scales and offsets, and what is not quantized yet."""
    return _bytes(getattr(layer, f"_quantized_{name}")) + _bytes(getattr(layer, name))


def _bytes(held) -> int:
    if isinstance(held, torch.Tensor):
        return held.nbytes
    parts = held.values() if isinstance(held, dict) else held if isinstance(held, tuple) else ()
    return sum(map(_bytes, parts))


@pytest.mark.parametrize("variant", CACHED_AS_THEY_ARE)
def test_bytes_of_a_step_are_those_of_the_tensors_that_it_reads_and_writes(variant):
    model, shape, plans = case_of(variant)
    held, read = DynamicCache(config=model.config), []
    with torch.inference_mode():
        model(tokens(3, 10), past_key_values=held)  # beyond the sliding windows of 6
        for layer in held.layers:
            layer.update = _noting(layer.update, notes := [])
            read.append(notes)
        model(tokens(3, 1), past_key_values=held)
    rows = [dict(zip("kv", notes, strict=True)) for notes in read]
    for name, plan in plans.items():
        moved = decode_bytes_moved(shape, plan, 3, 11, 4)
        counted = written = 0
        for layer, does, leader, positions in doing(plan, variant):
            of_leader, own = READS[does]
            counted += sum(rows[leader][one].nbytes for one in of_leader)
            counted += sum(rows[layer][one][:, :, :positions].nbytes for one in own)
            written += sum(rows[layer][one][:, :, -1:].nbytes for one in STORES[does])
        assert (moved.cache_read, moved.cache_written) == (counted, written), name
        left = {layer: 4 * 3 * 4 * rows[layer]["k"].shape[2] for layer in plan.leaders}  # batch, heads, bytes
        sums = sum(4 * 3 * rows[part.layers[0]]["k"].shape[2] for part in plan.parts if part.mechanism == "topk")
        assert moved.attention_weights_written == sum(left.values()) + sums, name
        assert moved.attention_weights_read == sum(left[plan.leader_of(layer)] for layer in plan.followers) + sums


def flops_by_part(model, shape: ModelShape, counts: dict[str, int]) -> list[dict[str, int]]:
    """Of each layer's attention: FLOPs of its projections, and `a`: those of QKᵀ and of the weighted values together."""
    names = {module: name for name, module in model.named_modules()}
    found = []
    for module in attention_modules(model):
        prefix = f"{type(model).__name__}.{names[module]}"
        flops = dict.fromkeys("qkvo", 0)
        for name, _ in module.named_children():
            if counted := counts.get(f"{prefix}.{name}", 0):
                for part, share in split_of(shape, name).items():
                    flops[part] += round(share * counted)
        found.append(flops | {"a": counts[prefix] - sum(flops.values())})
    return found


@pytest.mark.parametrize("variant", VARIANTS)
def test_flops_are_those_of_the_matmuls_that_are_left(variant):
    """A prompt, a single token and a chunk. Positions are chosen before they are multiplied where there is one new token."""
    model, shape, plans = case_of(variant)
    held, past, batch, heads, head_dim = DynamicCache(config=model.config), 0, 2, shape.num_heads, shape.head_dim
    for step in (5, 1, 4):
        counts = count_flops(model, partial(model, tokens(batch, step), past_key_values=held))
        angles = sum(count for name, count in counts.items() if name.endswith(".rotary_emb"))
        whole, layers = counts[type(model).__name__] - angles, flops_by_part(model, shape, counts)
        for name, plan in plans.items():
            for execution in ("reuse", "recompute"):
                gone = softmax = 0
                for layer, does, _, positions in doing(plan, variant):
                    flops = layers[layer]
                    weights = flops["a"] // (4 * head_dim)  # of all heads, queries and sequences
                    gone += sum(flops[part] for part in LACKS[does])
                    if does == "skip":
                        gone, weights = gone + flops["a"], 0
                    elif does == "share" and execution == "reuse":
                        gone, weights = gone + flops["a"] // 2, 0
                    elif does == "topk" and step == 1:
                        chosen = min(positions, weights // (batch * heads)) * batch * heads
                        gone, weights = gone + 4 * (weights - chosen) * head_dim, chosen
                    softmax += 3 * weights
                found = forward_flops(shape, plan, batch, step, past, execution)
                assert found.total - found.softmax == whole - gone, (name, step, execution)
                assert found.softmax == softmax, (name, step, execution)
        past += step


@pytest.mark.parametrize("variant", VARIANTS)
def test_layers_sum_to_the_model(variant):
    shape = ModelShape.from_config(variant_config(variant))
    for plan in plans_of(shape).values():
        for batch, context in ((1, 1), (1, 4), (3, 40)):
            check_sums(shape, plan, batch, context)


def test_a_step_of_llama_3_8b_by_hand():
    shape, batch, context = known_shapes()["Llama-3-8B"], 16, 32_768
    dense = decode_bytes_moved(shape, "", batch, context)
    row, wide, narrow = batch * 8 * 128 * 2, 4096 * 4096, 4096 * 1024  # bytes of a position; parameters
    held = kv_cache_bytes(shape, "", batch, context)

    def changed(plan: str) -> tuple[int, ...]:
        """Cache held, read and written, weights and attention weights moved: less or more than dense."""
        moved = decode_bytes_moved(shape, plan, batch, context)
        return (
            held - kv_cache_bytes(shape, plan, batch, context),
            dense.cache_read - moved.cache_read,
            dense.cache_written - moved.cache_written,
            (dense.weights - moved.weights) // 2,
            moved.attention_weights_read + moved.attention_weights_written,
        )

    assert changed("skip 5 7") == (4 * context * row, 4 * context * row, 4 * row, 2 * (2 * (wide + narrow) + 4096), 0)
    assert changed("kv 20-22") == (4 * context * row, 0, 4 * row, 2 * 2 * narrow, 0)
    assert changed("keys 20-22") == (2 * context * row, 0, 2 * row, 2 * narrow, 0)
    assert changed("topk64 10-12") == (0, 4 * (context - 64) * row, 0, 0, 2 * batch * context * 2)
    assert changed("topk40000 10-12") == (0, 0, 0, 0, 2 * batch * context * 2)


def test_flops_of_llama_2_7b_by_hand():
    shape, tokens, weights, width = known_shapes()["Llama-2-7B"], 2, 2 * 4096, 4096
    dense, sparse, prompt = (
        forward_flops(shape, plan, 2, 1, 4095)
        for plan in ("", "skip 3 4,kv 5-7,keys 8_10,topk64 11-13", "topk64 11-13")
    )
    assert dense.q_proj - sparse.q_proj == dense.o_proj - sparse.o_proj == 2 * 2 * tokens * width**2
    assert dense.k_proj - sparse.k_proj == 5 * 2 * tokens * width**2
    assert dense.v_proj - sparse.v_proj == 4 * 2 * tokens * width**2
    gone = 2 * weights + 2 * (weights - 2 * 64)
    assert dense.scores - sparse.scores == dense.weighted_values - sparse.weighted_values == 2 * gone * width
    assert dense.softmax - sparse.softmax == 3 * gone * 32
    assert dense.mlp == sparse.mlp and dense.lm_head == sparse.lm_head
    assert forward_flops(shape, "topk64 11-13", 2, 4096) == forward_flops(shape, "", 2, 4096) != prompt


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_leaders_leave_what_their_followers_need_and_no_longer_than_that(mechanism):
    shape = known_shapes()["Llama-3-8B"]
    text = {"share": "3-5", "skip": "skip 3 5", "kv": "kv 3-5", "keys": "keys 3-5", "topk": "topk64 3-5"}[mechanism]
    per_position = {"share": 32, "topk": 1}.get(mechanism, 0)
    assert stored_bytes(shape, text, 2, 1000, 2).attention_weights == 2 * 1000 * per_position * 2
    both = stored_bytes(shape, "2_7,10-11,topk8 4-6,topk9 14_16", 2, 1000, 2)
    assert both.attention_weights == 2 * 1000 * (32 + 1) * 2  # of layer 4, while layer 7 still waits for those of 2


def test_followers_have_the_window_of_their_leader():
    shape = ModelShape.from_config(variant_config("qwen2 late windows"))  # of which 3 to 5 have one
    for part in ("kv 2-4", "keys 2_3", "topk5 1-3"):
        with pytest.raises(ValueError, match=r"^Layer \d cannot follow layer \d in .*: their sliding windows differ"):
            kv_cache_bytes(shape, part, 1, 10)
    with pytest.raises(
        ValueError,
        match=r"Layer 4 cannot follow layer 1 in kv 1-2-4: .* \(6 and None tokens\); join layers of the same window only, "
        "for example kv 1-2",
    ):
        parameter_count(shape, "kv 1-2-4")
    with pytest.raises(ValueError, match="no later layer has the window of layer 2, so leave it out"):
        parameter_count(shape, "kv 2-3")
    dense, skipped = (kv_cache_bytes(shape, plan, 1, 10) for plan in ("", "skip 2-4"))  # nobody is followed
    assert 9 * skipped == 5 * dense  # 10 and twice 5 tokens of 45
