"""Views of a model: the official implementation's outputs, the oracle's, decoding in every family, refusals."""

import math
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama import modeling_llama

import core
from core import SharingPlan, share_attention
from core.sharing import EXECUTIONS, plan_of
from core.sharing.cache import cache_bytes
from core.sharing.families import attention_modules
from tests.support.oracle import shared_by_oracle

PLANS = ("1-3", "1-2,3-5", "0-5")
HEAD_MAP = {2: (3, 0, 0, 1), 3: (1, 1, 2, 3)}


def plan(text: str, model) -> SharingPlan:
    return SharingPlan.parse(text, model.config.num_hidden_layers)


def tokens(rows: int = 2, length: int = 11, seed: int = 1) -> torch.Tensor:
    return torch.randint(1, 97, (rows, length), generator=torch.Generator().manual_seed(seed))


def assert_close(actual, expected, tolerance: float = 1e-5):
    """Equal within `tolerance` of the largest expected value."""
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= tolerance * expected.abs().max()


# The official implementation


@pytest.fixture(scope="module", params=["mha", "gqa"])
def golden(request):
    """The arrays of the official implementation, and the model that they belong to."""
    arrays = np.load(Path(__file__).parents[2] / "golden" / f"golden_{request.param}.npz")
    seed, heads, kv_heads = {"mha": (2407, 4, 4), "gqa": (12866, 8, 2)}[request.param]
    config = LlamaConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=32, num_attention_heads=heads,
        num_key_value_heads=kv_heads, vocab_size=128, rms_norm_eps=1e-5, max_position_embeddings=256,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    rng = np.random.default_rng(seed)
    state = model.state_dict()
    for name in sorted(state):
        drawn = rng.standard_normal(tuple(state[name].shape)).astype(np.float32)
        state[name] = torch.from_numpy(1 + np.float32(0.1) * drawn if "norm" in name else np.float32(0.25) * drawn)
    model.load_state_dict(state)
    return arrays, model


def dividing_eager_attention(module, query, key, value, attention_mask, scaling, **kwargs):
    """Eager attention as in transformers 4.33: scores are divided by √d, today they are multiplied by 1/√d."""
    key = modeling_llama.repeat_kv(key, module.num_key_value_groups)
    value = modeling_llama.repeat_kv(value, module.num_key_value_groups)
    scores = torch.matmul(query, key.transpose(2, 3)) / math.sqrt(query.shape[-1]) + attention_mask
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


@pytest.mark.parametrize("text", ["none", "22-26", "26-30", "22-30"])
@torch.no_grad()
def test_official_logits_to_the_bit(golden, text, monkeypatch):
    arrays, model = golden
    monkeypatch.setattr(modeling_llama, "eager_attention_forward", dividing_eager_attention)
    model.set_attn_implementation("eager")
    view = share_attention(model, text.replace("none", ""), execution="reuse")
    logits = view(torch.from_numpy(arrays["input_ids"]).long(), use_cache=False).logits
    if torch.backends.cpu.get_cpu_capability() == "AVX512":  # the official outputs come from such a machine
        np.testing.assert_array_equal(logits.numpy(), arrays[f"logits/{text}"])
    assert_close(logits, torch.from_numpy(arrays[f"logits/{text}"]), 2e-5)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("execution", ["reuse", "recompute"])
@pytest.mark.parametrize("text", ["none", "22-26", "26-30", "22-30"])
@torch.no_grad()
def test_official_logits_and_cache_bytes(golden, text, execution, implementation):
    arrays, model = golden
    model.set_attn_implementation(implementation)
    view = share_attention(model, text.replace("none", ""), execution=execution)
    ids, expected = torch.from_numpy(arrays["input_ids"]).long(), torch.from_numpy(arrays[f"logits/{text}"])
    assert_close(view(ids, use_cache=False).logits, expected, 2e-5)  # sums in another order: 1.02e-5 on one processor
    output = view(ids[:, :16], use_cache=True)
    logits = [output.logits]
    for position in range(16, 24):
        output = view(ids[:, position : position + 1], past_key_values=output.past_key_values)
        logits.append(output.logits)
    assert_close(torch.cat(logits, 1), expected, 1e-4)  # the official cached logits are within 2e-4
    assert cache_bytes(output.past_key_values) == arrays[f"cache_bytes/{text}"]


# The oracle


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("execution", ["reuse", "recompute", "auto"])
@pytest.mark.parametrize("head_map", [None, HEAD_MAP], ids=["direct", "head-mapped"])
@torch.no_grad()
def test_logits_are_the_oracles(tiny_model, family, head_map, execution, implementation):
    eager = tiny_model(family, attn_implementation="eager")
    model = tiny_model(family, attn_implementation=implementation)
    mask = torch.ones(2, 11, dtype=torch.long)
    mask[0, :4] = 0
    for text in PLANS if family != "qwen2-mixed" else ("1-2,3-5", "0-2"):
        mapped = {layer: heads for layer, heads in (head_map or {}).items() if layer in plan(text, model).followers}
        view = share_attention(model, text, head_map=mapped, execution=execution)
        with shared_by_oracle(eager, plan(text, model), mapped):
            for attention_mask in (None, mask):
                expected = eager(tokens(), attention_mask=attention_mask, use_cache=False).logits
                logits = view(tokens(), attention_mask=attention_mask, use_cache=False).logits
                padding = 0 if attention_mask is None else 4  # what padded positions say means nothing
                assert_close(logits[:, padding:], expected[:, padding:])


def test_execution_can_be_chosen_per_call(tiny_model):
    view = share_attention(tiny_model(), "1-3")
    kept = []
    attention_modules(view)[2].register_forward_hook(lambda module, args, output: kept.append(output[1] is not None))
    for execution in ("reuse", "recompute"):
        view(tokens(), execution=execution)
    assert kept == [True, False]
    with pytest.raises(ValueError, match="no execution 'fast': choose one of auto, reuse, recompute"):
        view(tokens(), execution="fast")


# The view and its original


def test_a_view_shares_storage_and_leaves_the_original_alone(tiny_model, family):
    model = tiny_model(family)
    before = model(tokens()).logits
    view = share_attention(model, "1-2")
    assert type(view) is type(model)
    originals = dict(model.named_parameters())
    for name, parameter in view.named_parameters():
        assert parameter.data_ptr() == originals[name].data_ptr()
    gone = set(originals) - set(dict(view.named_parameters()))
    assert gone and all(name.split(".")[-2][0] in "qk" and ".2." in name for name in gone)
    assert not torch.equal(view(tokens()).logits, before)
    assert torch.equal(model(tokens()).logits, before)
    assert plan_of(view).name == "1-2" and plan_of(model).name == "dense"


def test_the_empty_plan_changes_nothing(tiny_model, family):
    model = tiny_model(family)
    assert torch.equal(share_attention(model, "")(tokens()).logits, model(tokens()).logits)


def test_moving_a_view_leaves_the_original_where_it_is(tiny_model):
    model = tiny_model()
    share_attention(model, "1-3").to(torch.float64)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_making_a_view_of_32_layers_takes_less_than_a_second(tiny_model):
    model = tiny_model(num_hidden_layers=32)
    begin = time.process_time()  # of this process: others may keep the machine busy
    share_attention(model, "22-26")
    assert time.process_time() - begin < 1


def test_views_and_original_run_at_the_same_time(tiny_model):
    model = tiny_model()
    models = [model, *(share_attention(model, text) for text in PLANS)]
    alone = [model.generate(tokens(), max_new_tokens=12, do_sample=False) for model in models]
    together, threads = {}, []
    for index in range(12):
        chosen = models[index % len(models)]

        def work(index=index, chosen=chosen):
            together[index] = chosen.generate(tokens(), max_new_tokens=12, do_sample=False)

        threads.append(threading.Thread(target=work))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(together[index], alone[index % len(models)]) for index in range(12))


def test_a_saved_view_comes_back(tiny_model, tmp_path, monkeypatch):
    view = share_attention(tiny_model(), "1-3,4-5", head_map=HEAD_MAP)
    view.save_pretrained(tmp_path)
    monkeypatch.setattr("core.models.AutoTokenizer.from_pretrained", lambda *_, **__: "a tokenizer")
    monkeypatch.setattr("core.models.probe", lambda *_: None)
    loaded, tokenizer = core.load_model(tmp_path, device="cpu")
    assert tokenizer == "a tokenizer"
    assert plan_of(loaded).name == "1-3,4-5" and loaded.sharing_head_map == HEAD_MAP
    assert set(loaded.state_dict()) == set(view.state_dict())
    assert torch.equal(loaded(tokens()).logits, view(tokens()).logits)


# Decoding

GENERATION = {
    "greedy": {"do_sample": False},
    "sampling": {"do_sample": True, "temperature": 1.5, "top_k": 0},
    "beams": {"do_sample": False, "num_beams": 3, "num_return_sequences": 2},
    "static": {"do_sample": False, "cache_implementation": "static", "disable_compile": True},
}


@pytest.mark.parametrize("way", GENERATION)
@pytest.mark.parametrize("padded", [False, True], ids=["even", "left-padded"])
def test_cached_generation_is_uncached_recomputation(tiny_model, family, way, padded):
    view = share_attention(tiny_model(family), "1-2,3-5")
    ids, mask = tokens(length=13), torch.ones(2, 13, dtype=torch.long)
    if padded:
        mask[0, :5] = 0
    options = {"attention_mask": mask, "max_new_tokens": 8, "pad_token_id": 0} | GENERATION[way]
    uncached = {
        name: value for name, value in options.items() if name not in ("cache_implementation", "disable_compile")
    }
    torch.manual_seed(3)
    expected = view.generate(ids, use_cache=False, **uncached)
    torch.manual_seed(3)
    assert torch.equal(view.generate(ids, **options), expected)


@torch.no_grad()
def test_cache_operations_act_on_followers(tiny_model):
    view = share_attention(tiny_model(), "1-3")
    ids = tokens(rows=2, length=9)
    cache = view(ids).past_key_values
    assert cache.layers[2].get_seq_length() == cache.layers[0].get_seq_length() == 9
    assert cache.layers[2].keys.numel() == 0
    cache.crop(-3)
    cache.batch_repeat_interleave(2)
    cache.reorder_cache(torch.tensor([3, 0, 1, 2]))
    cache.batch_select_indices(torch.tensor([0, 1]))
    rows = [1, 0]
    logits = view(ids[rows, 6:], past_key_values=cache).logits
    assert_close(logits, view(ids[rows], use_cache=False).logits[:, 6:])


@torch.no_grad()
def test_a_prompt_in_chunks_is_the_prompt_at_once(tiny_model, family):
    view = share_attention(tiny_model(family), "1-2,3-5")
    ids, cache = tokens(length=20), DynamicCache(config=view.config)
    chunks = [view(chunk, past_key_values=cache).logits for chunk in ids.split(7, dim=1)]
    assert_close(torch.cat(chunks, 1), view(ids, use_cache=False).logits)


@torch.no_grad()
def test_a_cache_belongs_to_the_plan_that_filled_it(tiny_model):
    model = tiny_model()
    view = share_attention(model, "1-3")
    with pytest.raises(ValueError, match="holds keys for layer 2.* Start a new cache"):
        view(tokens(), past_key_values=model(tokens()).past_key_values)
    with pytest.raises(ValueError, match="filled by a model with another sharing plan"):
        model(tokens(), past_key_values=view(tokens()).past_key_values)


# Refusals


def test_plans_and_head_maps_that_do_not_fit_are_refused(tiny_model):
    model = tiny_model()
    with pytest.raises(ValueError, match="out of range: the model has layers 0 to 5"):
        share_attention(model, "4-6")
    with pytest.raises(ValueError, match="plan is for a model of 9 layers; this model has 6"):
        share_attention(model, SharingPlan.parse("1-2", 9))
    with pytest.raises(ValueError, match="already shares attention with plan 1-2"):
        share_attention(share_attention(model, "1-2"), "3-4")
    for head_map in ({2: (0, 1)}, {2: (0, 1, 2, 4)}, {2: (0, 1, 2, -1)}):
        with pytest.raises(ValueError, match="head map of layer 2 must list one leader head from 0 to 3"):
            share_attention(model, "1-2", head_map=head_map)
    with pytest.raises(ValueError, match="names layer 1, which is no follower"):
        share_attention(model, "1-2", head_map={1: (0, 1, 2, 3)})
    for head_map in (
        {2: 5},
        {2.5: (0, 1, 2, 3)},
        {"2": (0, 1, 2, 3)},
        {2: (0.0, 1, 2, 3)},
        {2: "0123"},
        [(0, 1, 2, 3)],
    ):
        with pytest.raises(
            ValueError, match="A head map is a dict from followers to lists of leader heads, all of them"
        ):
            share_attention(model, "1-2", head_map=head_map)
    with pytest.raises(ValueError, match="no execution 'fast'"):
        share_attention(model, "1-2", execution="fast")


@pytest.mark.parametrize("as_heads", [list, np.array, torch.tensor])
def test_head_maps_come_from_lists_and_arrays(tiny_model, as_heads):
    view = share_attention(
        tiny_model(), "1-3", head_map={np.int64(layer): as_heads(heads) for layer, heads in HEAD_MAP.items()}
    )
    assert view.sharing_head_map == HEAD_MAP


def test_layers_of_different_kinds_do_not_share(tiny_model):
    with pytest.raises(ValueError, match="layer 2 is 'full_attention', layer 3 is 'sliding_attention'"):
        share_attention(tiny_model("qwen2-mixed"), "2-4")


class DoublingAttention(modeling_llama.LlamaAttention):
    """An attention layer that does more than weigh its values."""

    def forward(self, *args, **kwargs):
        output, weights = super().forward(*args, **kwargs)
        return 2 * output, weights


def test_an_unknown_family_is_tried_before_it_is_trusted(tiny_model, monkeypatch):
    model = tiny_model()
    expected = share_attention(model, "1-3")(tokens()).logits
    monkeypatch.setattr("core.sharing.view.CHECKED", frozenset())
    assert torch.equal(share_attention(model, "1-3")(tokens()).logits, expected)
    DoublingAttention.__module__ = modeling_llama.__name__
    for module in attention_modules(model):
        module.__class__ = DoublingAttention
    with pytest.raises(ValueError, match="do more than weigh projected values"):
        share_attention(model, "1-3")


def test_reuse_reads_the_masks_of_flex_attention(tiny_model):
    """One span over all layers: no layer needs the compiled flex kernel, and the leader reads the mask itself."""
    model, ids = tiny_model(), torch.randint(97, (2, 9))
    padding = torch.ones_like(ids)
    padding[0, :3] = 0
    expected = share_attention(model, "0-5", execution="reuse")(ids, attention_mask=padding).logits
    model.config._attn_implementation = "flex_attention"
    mask = create_block_mask(lambda row, _, query, key: (key <= query) & (padding[row, key] > 0), 2, None, 9, 9, "cpu")
    found = share_attention(model, "0-5", execution="reuse")(ids, attention_mask=mask).logits
    torch.testing.assert_close(found[padding > 0], expected[padding > 0])


def flash_stand_in(
    module, query, key, value, attention_mask, scaling, dropout=0.0, sliding_window=None, softcap=None, **_
):
    """What flash kernels compute on GPUs: causal order of their own, aligned at the last key; masks of padded keys only."""
    assert attention_mask is None or attention_mask.shape == (query.shape[0], key.shape[2])
    groups = query.shape[1] // key.shape[1]
    scores = query @ key.repeat_interleave(groups, 1).mT * scaling
    scores = scores if softcap is None else torch.tanh(scores / softcap) * softcap
    behind = torch.arange(key.shape[2])[None] - torch.arange(query.shape[2])[:, None] - (key.shape[2] - query.shape[2])
    visible = (behind <= 0) & (behind > -(sliding_window or math.inf))
    if attention_mask is not None:
        visible = visible & attention_mask[:, None, None].bool()
    weights = scores.masked_fill(~visible, torch.finfo(scores.dtype).min).softmax(-1)
    return (weights @ value.repeat_interleave(groups, 1)).transpose(1, 2).contiguous(), None


@pytest.mark.parametrize("flash_family", ["llama", "mistral-sliding", "smollm3"])
@pytest.mark.parametrize("execution", EXECUTIONS)
@torch.no_grad()
def test_flash_attention_of_padded_batches(tiny_model, monkeypatch, flash_family, execution):
    """Leaders, followers and dense layers get flash's masks [batch, keys]; a prompt, then one token on the cache."""
    model = tiny_model(flash_family, "eager")
    eager = share_attention(model, "1-2,3-5", execution=execution)
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "flash_attention_2", flash_stand_in)
    model.config._attn_implementation = "flash_attention_2"
    flash = share_attention(model, str(eager.sharing_plan), execution=execution)
    ids = tokens(length=13)
    for padded in (slice(0, 5), slice(9, 13)):  # left, right
        mask = torch.ones(2, 14, dtype=torch.long)
        mask[0, padded] = 0
        outputs = []
        for view in (flash, eager):
            prompt = view(ids, attention_mask=mask[:, :-1])
            step = view(ids[:, :1], attention_mask=mask, past_key_values=prompt.past_key_values)
            outputs.append(torch.cat([prompt.logits, step.logits], 1)[mask.bool()])
        assert_close(*outputs)
