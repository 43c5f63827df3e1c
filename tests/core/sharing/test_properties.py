"""Random plans, shapes, paddings, caches and chunkings, against the oracle's uncached recomputation.

The suite runs few examples, always the same ones; `make properties` runs thousands of new ones.
"""

from dataclasses import dataclass

import torch
from hypothesis import event, given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache, StaticCache

from core import SharingPlan, share_attention
from core.sharing.cache import cache_bytes
from tests.support.oracle import shared_by_oracle

VOCABULARY = 61
SLIDING, FULL = "sliding_attention", "full_attention"
WITHOUT_GROUPS = ("gpt2", "gpt_neox", "phi")  # one key head for each query head
ALTERNATING = ("gemma3_text", "qwen2")


@dataclass(frozen=True)
class Case:
    """One model, one plan, and one way through a batch of texts."""

    config: dict
    plan: SharingPlan
    head_map: dict[int, tuple[int, ...]]
    implementation: str
    execution: str
    ids: torch.Tensor  # [rows, tokens]
    visible: torch.Tensor  # [rows, tokens], 0 where padded
    chunks: tuple[int, ...]  # lengths of the calls that run the texts
    cache: str  # none, dynamic or static


@st.composite
def configs(draw) -> dict:
    """Fields of a tiny configuration; sizes that are equal only by chance."""
    family = draw(st.sampled_from(["llama", "mistral", "phi3", "gemma3_text", "qwen2", "gpt2", "gpt_neox", "phi"]))
    kv_heads = draw(st.integers(1, 3))
    heads = kv_heads * (1 if family in WITHOUT_GROUPS else draw(st.integers(1, 3)))
    # a norm over four numbers alone turns rounding into 1e-5, dense and shared
    head_dim = draw(st.sampled_from([4, 8, 12] if heads > 1 else [8, 12]))
    layers = draw(st.integers(2, 6))
    window = draw(st.one_of(st.none(), st.integers(2, 9))) if family in ("mistral", "phi3") else None
    kinds = {}
    if family in ALTERNATING:
        window = draw(st.integers(2, 9))
        kinds = {"layer_types": draw(st.lists(st.sampled_from([SLIDING, FULL]), min_size=layers, max_size=layers))}
        kinds |= {"use_sliding_window": True} if family == "qwen2" else {}
    return kinds | {
        "model_type": family, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "hidden_size": heads * head_dim, "head_dim": head_dim, "intermediate_size": 20,
        "query_pre_attn_scalar": head_dim, "sliding_window": window, "vocab_size": VOCABULARY,
        "max_position_embeddings": 64, "initializer_range": 0.3, "pad_token_id": None, "bos_token_id": None,
        "eos_token_id": None, "attention_dropout": 0.0,
    }  # fmt: skip


@st.composite
def plans(draw, config: dict) -> SharingPlan:
    """Each layer computes, or reuses any layer of its kind before it that computes."""
    layers = config["num_hidden_layers"]
    kinds = config.get("layer_types", [FULL] * layers)
    groups: list[list[int]] = []
    for layer in range(layers):
        joined = draw(st.sampled_from([None, *(group for group in groups if kinds[group[0]] == kinds[layer])]))
        groups += [[layer]] if joined is None else []
        if joined is not None:
            joined.append(layer)
    return SharingPlan.of_groups([group for group in groups if len(group) > 1], layers)


@st.composite
def cases(draw, caches=("none", "dynamic", "static")) -> Case:
    config = draw(configs())
    plan, heads = draw(plans(config)), config["num_attention_heads"]
    mapped = draw(st.sets(st.sampled_from(plan.followers))) if plan.followers else ()
    rows, length = draw(st.integers(1, 3)), draw(st.integers(1, 14))
    visible = torch.ones(rows, length, dtype=torch.long)
    for row in range(rows):
        left = draw(st.integers(0, length - 1))
        right = draw(st.integers(0, length - 1 - left))
        visible[row, :left] = visible[row, length - right :] = 0
    cache = draw(st.sampled_from(caches))
    cuts = sorted(draw(st.sets(st.integers(1, length - 1)))) if cache != "none" and length > 1 else []
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    return Case(
        config, plan,
        {layer: tuple(draw(st.lists(st.integers(0, heads - 1), min_size=heads, max_size=heads))) for layer in mapped},
        draw(st.sampled_from(["eager", "sdpa"])), draw(st.sampled_from(["auto", "reuse", "recompute"])),
        torch.randint(0, VOCABULARY, (rows, length), generator=generator), visible,
        tuple(end - start for start, end in zip([0, *cuts], [*cuts, length], strict=True)), cache,
    )  # fmt: skip


def model_and_view(case: Case):
    """(the model, running eagerly; a view of it)."""
    torch.manual_seed(0)
    fields = dict(case.config)
    config = AutoConfig.for_model(fields.pop("model_type"), **fields)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=case.implementation).eval()
    view = share_attention(model, case.plan, head_map=case.head_map, execution=case.execution)
    model.set_attn_implementation("eager")
    return model, view


def new_cache(kind: str, config, length: int):
    if kind == "none":
        return None
    return DynamicCache(config=config) if kind == "dynamic" else StaticCache(config, length + 2)


def close(actual, expected) -> None:
    assert (actual - expected).abs().max() <= 1e-5 * expected.abs().max()


@given(case=cases())
@torch.no_grad()
def test_logits_are_the_oracles(case):
    event(f"{len(case.plan.followers)} followers")
    model, view = model_and_view(case)
    with shared_by_oracle(model, case.plan, case.head_map):
        expected = model(case.ids, attention_mask=case.visible, use_cache=False).logits
    cache, done, logits = new_cache(case.cache, view.config, case.ids.shape[1]), 0, []
    for chunk in case.ids.split(case.chunks, dim=1):
        done += chunk.shape[1]
        options = {"past_key_values": cache, "use_cache": cache is not None}
        logits.append(view(chunk, attention_mask=case.visible[:, :done], **options).logits)
    seen = case.visible.bool()
    close(torch.cat(logits, 1)[seen], expected[seen])


@given(case=cases(caches=("dynamic", "static")))
@torch.no_grad()
def test_followers_store_values_alone(case):
    """Bytes of the cache: those of the dense model's, without the followers' keys."""
    model, view = model_and_view(case)
    caches = [new_cache(case.cache, model.config, case.ids.shape[1]) for _ in range(2)]
    for chunk in case.ids.split(case.chunks, dim=1):
        for one, cache in zip((model, view), caches, strict=True):
            one(chunk, past_key_values=cache)
    dense, shared = caches
    for layer in case.plan.followers:
        assert shared.layers[layer].values.shape == dense.layers[layer].values.shape
        dense.layers[layer].keys = None
    assert cache_bytes(shared) == cache_bytes(dense)


OPERATIONS = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 5)),
    st.tuples(st.just("draft"), st.integers(1, 5)),
    st.tuples(st.just("reorder"), st.integers(0, 5)),
    st.tuples(st.just("select"), st.integers(0, 5)),
    st.tuples(st.just("repeat"), st.integers(1, 2)),
)


def operate(name: str, number: int, cache: DynamicCache, ids: torch.Tensor) -> torch.Tensor:
    """Do the same thing to a cache and to the texts behind it; the texts afterwards."""
    rows = len(ids)
    if name == "repeat":
        cache.batch_repeat_interleave(number)
        return ids.repeat_interleave(number, 0)
    if name == "select":
        chosen = torch.tensor([number % rows])
        cache.batch_select_indices(chosen)
        return ids[chosen]
    order = torch.arange(rows).roll(number)
    cache.reorder_cache(order)
    return ids[order]


@given(case=cases(caches=("dynamic",)), operations=st.lists(OPERATIONS, max_size=6))
@torch.no_grad()
def test_operations_on_a_cache_act_on_followers(case, operations):
    """As in beam search and assisted decoding: a draft is appended, and all of it but one token is taken back."""
    _, view = model_and_view(case)
    cache = DynamicCache(config=view.config)
    cache.activate_past_recording()  # sliding layers can then give tokens back, once after each call
    ids, generator = case.ids, torch.Generator().manual_seed(1)
    view(ids, past_key_values=cache)
    for name, number in [*operations, ("append", 1)]:
        if name not in ("append", "draft"):
            ids = operate(name, number, cache, ids)
            continue
        new = torch.randint(0, VOCABULARY, (len(ids), number), generator=generator)
        ids = torch.cat([ids, new], 1)
        close(view(new, past_key_values=cache).logits, view(ids, use_cache=False).logits[:, -number:])
        if name == "draft":
            cache.crop(1 - number)
            ids = ids[:, : ids.shape[1] - number + 1]
