"""Every way of decoding and every kind of cache: the oracle's uncached recomputation, or a refusal with the reason."""

from functools import cache

import pytest
import torch
from transformers import CompileConfig, DynamicCache, QuantizedCache, StaticCache, cache_utils
from transformers.utils import is_hqq_available, is_optimum_quanto_available

from core import SharingPlan, share_attention
from core.sharing.cache import cache_bytes
from tests.support.families import make, tokens
from tests.support.views import FAMILIES, eager_model, models, oracle

NEW_TOKENS = {"max_new_tokens": 7, "pad_token_id": 0}  # past the sliding windows of 6


def mask(side: str) -> torch.Tensor:
    """Two rows; the first is padded on one side, or none."""
    visible = torch.ones(2, 11, dtype=torch.long)
    visible[0, {"left": slice(0, 4), "right": slice(-3, None), "none": slice(0, 0)}[side]] = 0
    return visible


@cache
def expected(name: str, ids: tuple, visible: tuple, options: tuple) -> torch.Tensor:
    """What the oracle generates without a cache."""
    with oracle(name) as eager:
        options = {"use_cache": False} | NEW_TOKENS | dict(options)
        torch.manual_seed(3)  # after the models were made, which draws numbers too
        return eager.generate(torch.tensor(ids), attention_mask=torch.tensor(visible), **options)


def check(name: str, ids, visible, options: dict, **cached) -> None:
    """`options` choose tokens; `cached` says how the view gets there."""
    reference = expected(name, *(tuple(map(tuple, t.tolist())) for t in (ids, visible)), tuple(options.items()))
    view = models(name)[1]
    torch.manual_seed(3)
    generated = view.generate(ids, attention_mask=visible, **NEW_TOKENS | options | cached)
    assert torch.equal(generated, reference)


# Ways of choosing tokens, and of using the stock caches

GREEDY = {"do_sample": False}
CHOICES = {
    "greedy": GREEDY,
    "samples": {"do_sample": True, "temperature": 1.5, "top_k": 0, "num_return_sequences": 3},
    "beams": {"do_sample": False, "num_beams": 3, "num_return_sequences": 2},
    "beam-sampling": {"do_sample": True, "num_beams": 3},
}
STATIC = {"cache_implementation": "static", "disable_compile": True}
WAYS = {
    "dynamic": {},
    "uncached": {"use_cache": False},
    "chunked-prefill": {"prefill_chunk_size": 4},
    "static": STATIC,
    "static-chunked-prefill": STATIC | {"prefill_chunk_size": 4},
}


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("name", FAMILIES)
def test_every_choice_of_tokens(name, choice):
    check(name, tokens(), mask("left"), CHOICES[choice])


@pytest.mark.parametrize(
    ("side", "way"), [("left", way) for way in WAYS] + [("right", "dynamic"), ("right", "static"), ("none", "dynamic")]
)
@pytest.mark.parametrize("name", FAMILIES)
def test_every_way_of_caching(name, side, way):
    check(name, tokens(), mask(side), GREEDY, **WAYS[way])


@pytest.mark.parametrize("name", ["llama-gqa", "mistral"])
def test_beams_in_a_static_cache(name):
    check(name, tokens(), mask("left"), CHOICES["beams"], **STATIC, prefill_chunk_size=5)


@pytest.mark.parametrize("helper", ["prompt-lookup", "dense", "view"])
@pytest.mark.parametrize("name", FAMILIES)
def test_assisted_decoding(name, helper):
    """Drafts from the prompt, from the dense model and from another view: `crop` takes back what was wrong in them."""
    model, _, plan, _ = models(name)
    ids, spans = tokens(1).repeat(1, 2), SharingPlan.of_groups(plan.groups[:1], plan.num_layers)
    assistants = {"dense": model, "view": share_attention(model, spans)}
    options = {"assistant_model": assistants[helper]} if helper in assistants else {"prompt_lookup_num_tokens": 3}
    check(name, ids, torch.ones_like(ids), GREEDY, **options)


@pytest.mark.parametrize("name", ["llama-gqa", "gpt_neox"])
def test_a_view_assists_its_dense_model(name):
    model, view, *_ = models(name)
    options = GREEDY | NEW_TOKENS
    assert torch.equal(model.generate(tokens(1), assistant_model=view, **options), model.generate(tokens(1), **options))


def contrastive_search(model, ids, past_key_values=None, steps: int = 6, top_k: int = 3, penalty: float = 0.6):
    """Su et al. 2022 (arXiv 2202.06417), as in transformers-community/contrastive-search: each row tries its `top_k`
    likeliest tokens and takes the one whose hidden state is least like the context's. Without a cache all is run again.
    """

    def run(ids):
        new = ids if past_key_values is None else ids[:, past_key_values.get_seq_length() :]
        output = model(
            new, past_key_values=past_key_values, use_cache=past_key_values is not None, output_hidden_states=True
        )
        return output.logits[:, -1], output.hidden_states[-1]

    logits, context = run(ids)
    for _ in range(steps):
        confidence, candidates = logits.softmax(-1).topk(top_k)
        if past_key_values is not None:
            past_key_values.batch_repeat_interleave(top_k)
        tried = torch.cat([ids.repeat_interleave(top_k, 0), candidates.view(-1, 1)], 1)
        logits, hidden = run(tried)
        contexts = context.repeat_interleave(top_k, 0)
        likeness = torch.cosine_similarity(contexts, hidden[:, -1:], dim=-1).amax(1).view(-1, top_k)
        best = ((1 - penalty) * confidence - penalty * likeness).argmax(1) + torch.arange(len(ids)) * top_k
        if past_key_values is not None:
            past_key_values.batch_select_indices(best)
        ids, logits, context = tried[best], logits[best], torch.cat([contexts, hidden[:, -1:]], 1)[best]
    return ids


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_contrastive_search(name):
    """transformers 5 runs it from a hub repository; here stands the same use of the cache."""
    view = models(name)[1]
    with oracle(name) as eager:
        reference = contrastive_search(eager, tokens())
    assert torch.equal(contrastive_search(view, tokens(), DynamicCache(config=view.config)), reference)


@pytest.mark.parametrize("way", ["dynamic", "static"])
@pytest.mark.parametrize("name", FAMILIES)
def test_generation_goes_on_from_a_cache(name, way):
    view = models(name)[1]
    length = tokens().shape[1]
    kept = {"dynamic": lambda: DynamicCache(config=view.config), "static": lambda: StaticCache(view.config, 40)}[way]()
    options = GREEDY | NEW_TOKENS | {"past_key_values": kept, "disable_compile": True}
    first = view.generate(tokens(), attention_mask=mask("left"), **options)
    turn = torch.cat([first, tokens(length=5, seed=2)], 1)
    visible = torch.cat([mask("left"), torch.ones(2, turn.shape[1] - length, dtype=torch.long)], 1)
    check(name, turn, visible, GREEDY, past_key_values=kept, disable_compile=True)


# Compiled

COMPILED = CompileConfig(fullgraph=True, backend="eager", mode=None)
COMPILED._compile_all_devices = True  # `generate` compiles on accelerators only


@pytest.mark.parametrize(("family", "way"), [("llama", {"prefill_chunk_size": 11}), ("mistral", {})])
def test_a_compiled_static_cache_without_graph_breaks(family, way):
    """Chunked prefill is compiled too, and its cache is initialized before the view sees it."""
    view = share_attention(make(family, "sdpa", num_hidden_layers=3), "1-2")
    options = GREEDY | {"max_new_tokens": 3, "pad_token_id": 0, "attention_mask": mask("left")}
    reference = view.generate(tokens(), use_cache=False, **options)
    try:
        compiled = view.generate(tokens(), cache_implementation="static", compile_config=COMPILED, **options, **way)
    finally:
        torch._dynamo.reset()
    assert "_compiled_call" in view.__dict__ and torch.equal(compiled, reference)


# Caches on two devices, and quantized ones


class NoStream:
    """A CUDA stream where there is none: offloading then moves tensors from the CPU to the CPU."""

    def wait_stream(self, other):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture
def device(monkeypatch) -> str:
    """The GPU, or the CPU with stand-ins for the streams that transformers asks for when it offloads."""
    if torch.cuda.is_available():
        return "cuda"
    monkeypatch.setattr(torch, "Stream", NoStream)
    monkeypatch.setattr(torch.cuda, "default_stream", lambda _: NoStream())
    return "cpu"


# transformers offloads full-attention layers of static caches alone, and fails where a model has none of them.
@pytest.mark.parametrize("choice", ["greedy", "beams"])
@pytest.mark.parametrize(
    ("name", "way"),
    [(name, "offloaded") for name in FAMILIES]
    + [(name, "offloaded_static") for name in ("llama-gqa", "gemma3", "gpt_neox")],
)
def test_offloaded_caches(name, way, choice, device):
    model, _, plan, head_map = models(name)
    view = share_attention(model, plan, head_map).to(device)
    options = NEW_TOKENS | CHOICES[choice] | {"attention_mask": mask("left").to(device), "disable_compile": True}
    reference = view.generate(tokens().to(device), use_cache=False, **options)
    assert torch.equal(view.generate(tokens().to(device), cache_implementation=way, **options), reference)


HEAD_GROUPS = {"q_group_size": 12, "residual_length": 4}
QUANTIZED = {  # those of the backends that are installed
    "quanto": HEAD_GROUPS if is_optimum_quanto_available() else None,
    "hqq": HEAD_GROUPS | {"axis_key": 1, "axis_value": 1} if is_hqq_available() else None,
    "fp8": {} if hasattr(cache_utils, "Fp8QuantizedLayer") else None,
}


@pytest.fixture(params=[backend for backend, options in QUANTIZED.items() if options is not None])
def quantized(request) -> dict:
    """The `cache_config` of each backend in turn."""
    return {"backend": request.param} | QUANTIZED[request.param]


@pytest.mark.parametrize("choice", ["greedy", "beams"])
@pytest.mark.parametrize("name", ["llama-mha", "llama-gqa", "llama-mqa", "gpt_neox"])
def test_quantized_caches(name, choice, quantized):
    """What is stored is rounded, for the oracle too: it has the same keys of leaders and the same values."""
    view = share_attention(eager_model(name), *models(name)[2:])
    options = NEW_TOKENS | CHOICES[choice] | {"cache_implementation": "quantized", "cache_config": quantized}
    with oracle(name) as eager:
        reference = eager.generate(tokens(), attention_mask=mask("left"), **options)
    assert torch.equal(view.generate(tokens(), attention_mask=mask("left"), **options), reference)


@torch.no_grad()
def test_quantized_caches_hold_no_keys_of_followers(quantized):
    model, view, plan, _ = models("llama-gqa")
    caches = [QuantizedCache(config=model.config, **quantized) for _ in range(2)]
    for chunk in tokens(length=16).split([11, 1, 1, 1, 1, 1], dim=1):
        for one, kept in zip((model, view), caches, strict=True):
            one(chunk, past_key_values=kept)
    for follower in plan.followers:
        caches[0].layers[follower].keys = caches[0].layers[follower]._quantized_keys = None
    assert cache_bytes(caches[1]) == cache_bytes(caches[0])
    with pytest.raises(ValueError, match="cannot drop tokens or select rows, .* use the dynamic cache"):
        view.generate(tokens(1), prompt_lookup_num_tokens=3, max_new_tokens=2, past_key_values=caches[1])


def test_continuous_batching_is_refused():
    view = models("llama-gqa")[1]
    with pytest.raises(ValueError, match="Continuous batching does not work with attention sharing"):
        view.generate_batch([[1, 2, 3]], max_new_tokens=2)
