"""Corrections of followers: nothing at the start, the oracle's afterwards, in every way that a view can be used."""

import copy
import json
import pickle

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import CompileConfig, DynamicCache, QuantizedCache, StaticCache
from transformers.utils import is_optimum_quanto_available

import core
from core import SharingPlan, share_attention
from core.damage.similarity import attention_weights
from core.decoding.graph import GraphDecoder
from core.sharing import Corrections, correction_parameters, corrections_of, fold
from core.sharing.cache import cache_bytes
from core.sharing.call import AttentionCall
from core.sharing.corrections import PARAMETERS
from core.sharing.families import attention_modules
from tests.support.families import close, fastest, make, padding, slow, tokens
from tests.support.oracle import corrected_by_oracle, shared_by_oracle

FAMILIES = ("llama", "qwen2", "qwen3", "gemma", "gemma3_text", "gpt2", "mistral", "opt", "phi3", "stablelm")
KINDS = ("alignment", "rank=3", "rank=3,alignment")
EXECUTIONS = ("reuse", "recompute")
# peft asks by an old name whether a model checkpoints.
pytestmark = pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing:FutureWarning")

PLAN = "0_2,1-3-5"  # within layers of one kind, also where kinds alternate
FOLLOWERS = (2, 3, 5)
HEAD_MAP = {2: (3, 0, 0, 1), 5: (1, 1, 2, 3)}
ALTERNATING = {"num_hidden_layers": 6, "layer_types": ["sliding_attention", "full_attention"] * 3}
FIELDS = {"gemma3_text": ALTERNATING}
NO_DROPOUT = {"attention_dropout": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}


def model_of(family: str, **fields):
    """The tiny model, in layers of kinds that the plan above allows."""
    return fastest(family, **FIELDS.get(family, {}), **fields)


def corrected(model, kind: str, execution: str = "auto", plan: str = PLAN, head_map=None):
    heads = HEAD_MAP if head_map is None else head_map
    return share_attention(model, plan, heads, execution, Corrections.parse(kind))


@torch.no_grad()
def trained(view, seed: int = 3):
    """The view after steps that we do not take: every correction is somewhere else."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in correction_parameters(view).values():
        parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator).to(parameter))
    return view


def learned_by(view) -> dict[int, dict[str, torch.Tensor]]:
    """What the oracle needs to know of a view's corrections."""
    modules = attention_modules(view)
    return {
        layer: {name.removeprefix("correction_"): one for name in PARAMETERS if (one := getattr(modules[layer], name, None)) is not None}
        for layer in view.sharing_plan.followers
    }  # fmt: skip


def logits_of(model, mask=None, **options) -> torch.Tensor:
    """Without those of padded positions, which mean nothing."""
    return model(tokens(), attention_mask=mask, use_cache=False, **options).logits[:, 0 if mask is None else 4 :]


# The text and the configuration


def test_corrections_are_read_as_they_are_written():
    for text in ("", "rank=8", "alignment", "rank=8,alignment"):
        assert str(Corrections.parse(text)) == text
        assert Corrections.of_config({"sharing_corrections": Corrections.parse(text).as_config()}) == Corrections.parse(
            text
        )
    assert Corrections.parse(" alignment , rank = 8") == Corrections(8, True)
    assert Corrections.of_config({}) == Corrections.parse("none") == Corrections() and not Corrections()


@pytest.mark.parametrize(
    "text", ["rank", "rank=", "rank=-1", "rank=1.5", "rank=2,rank=3", "alignment=1", "rank=8,", "lisa", "rank=123456"]
)
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match="write `rank=8`, `alignment`, or both"):
        Corrections.parse(text)


@pytest.mark.parametrize(
    "named", [[], "rank=8", {"rank": -1}, {"rank": True}, {"rank": 10**9}, {"depth": 3}, {"alignment": "yes"}]
)
def test_other_configurations_are_refused(named):
    with pytest.raises(ValueError, match="sharing_corrections in config.json|of corrections is"):
        Corrections.of_config({"sharing_corrections": named})


# What a view computes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_at_the_start_nothing_changes(family, kind):
    model = model_of(family)
    for execution in EXECUTIONS:
        for mask in (None, padding()):
            expected = logits_of(share_attention(model, PLAN, HEAD_MAP, execution), mask)
            actual = logits_of(corrected(model, kind, execution), mask)
            close(actual, expected)
            if (kind, execution) == ("alignment", "reuse"):
                assert torch.equal(actual, expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_logits_are_the_oracles(family, kind):
    model, eager = model_of(family), slow(family, **FIELDS.get(family, {}))
    view = trained(corrected(model, kind))
    start = logits_of(share_attention(model, PLAN, HEAD_MAP))
    for mask in (None, padding()):
        with corrected_by_oracle(eager, view.sharing_plan, HEAD_MAP, learned_by(view)):
            expected = logits_of(eager, mask)
        assert mask is not None or (expected - start).abs().max() > 0.01 * start.abs().max()
        for execution in EXECUTIONS:
            close(logits_of(view, mask, execution=execution), expected)


@pytest.mark.parametrize("family", ["bloom", "falcon", "falcon (alibi)", "gemma2", "gptj"])
@torch.no_grad()
def test_alignment_alone_where_attention_is_more_than_a_softmax_or_not_exchangeable(family):
    view, eager = trained(corrected(fastest(family), "alignment")), slow(family)
    alignments = {layer: own["alignment"] for layer, own in learned_by(view).items()}
    for mask in (None, padding()):
        with shared_by_oracle(eager, view.sharing_plan, mix=alignments):
            expected = logits_of(eager, mask)
        for execution in EXECUTIONS:
            close(logits_of(view, mask, execution=execution), expected)


@torch.no_grad()
def test_recompute_mixes_heads_in_blocks_of_queries(monkeypatch):
    view = trained(corrected(fastest("llama"), "rank=3,alignment"))
    expected = logits_of(view, padding(), execution="reuse")
    monkeypatch.setattr("core.sharing.corrections.attend.REUSE_LIMIT_BYTES", 2 * 4 * 11 * 4 * 3)  # three queries
    close(logits_of(view, padding(), execution="recompute"), expected, 3e-6)  # processors round in different orders


@pytest.mark.parametrize(
    ("family", "kind"),
    [("llama", kind) for kind in KINDS] + [(family, "rank=3") for family in ("gpt2", "mistral", "gemma3_text")],
)
def test_generation_with_a_cache_is_generation_without(family, kind):
    view = trained(corrected(model_of(family), kind))
    way = {"attention_mask": padding(), "max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    expected = view.generate(tokens(), use_cache=False, **way)
    assert torch.equal(view.generate(tokens(), **way), expected)
    static = {"cache_implementation": "static", "disable_compile": True}
    assert torch.equal(view.generate(tokens(), **static, **way), expected)
    beams = view.generate(tokens(), num_beams=3, **way)
    assert torch.equal(beams, view.generate(tokens(), num_beams=3, use_cache=False, **way))


COMPILED = CompileConfig(backend="eager", mode=None, fullgraph=True)
COMPILED._compile_all_devices = True  # `generate` compiles on accelerators only


def test_a_compiled_static_cache_without_graph_breaks():
    """Chunked prefill is compiled too, and its cache is initialized before the view sees it."""
    model = make("llama", "sdpa", num_hidden_layers=3)
    view = trained(corrected(model, "rank=3,alignment", plan="1-2", head_map={}))
    options = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 0, "attention_mask": padding()}
    reference = view.generate(tokens(), use_cache=False, **options)
    static = {"cache_implementation": "static", "compile_config": COMPILED, "prefill_chunk_size": 11}
    try:
        compiled = view.generate(tokens(), **static, **options)
    finally:
        torch._dynamo.reset()
    assert "_compiled_call" in view.__dict__ and torch.equal(compiled, reference)


@pytest.mark.parametrize("family", ["llama", "mistral"])  # mistral: windows of 6 tokens
@torch.no_grad()
def test_a_prompt_in_parts_is_the_prompt(family):
    view = trained(corrected(fastest(family), "rank=3"))
    for execution in EXECUTIONS:
        whole, cache = view(tokens(), use_cache=False).logits, DynamicCache(config=view.config)
        parts = [view(part, past_key_values=cache, execution=execution).logits for part in tokens().split([4, 6, 1], 1)]
        close(torch.cat(parts, 1), whole)


@torch.no_grad()
def test_attention_maps_are_those_that_followers_use():
    view, eager = trained(corrected(fastest("llama"), "rank=3,alignment")), slow("llama")
    with corrected_by_oracle(eager, view.sharing_plan, HEAD_MAP, learned_by(view)):
        expected = eager(tokens(), output_attentions=True, use_cache=False).attentions
    shown = view(tokens(), output_attentions=True, use_cache=False).attentions
    for layer, weights in attention_weights(view, tokens()).items():
        torch.testing.assert_close(weights, expected[layer], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(shown[layer], expected[layer], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_flex_attention_needs_values_as_wide_as_queries(monkeypatch):
    """Followers pad theirs: the function itself is stood in for by sdpa, which does not mind."""
    view = trained(corrected(fastest("llama"), "rank=3", "recompute"))
    expected, widths = logits_of(view), []

    def fused(call, module, query, key, value, mask, kwargs):
        widths.append((query.shape[-1], value.shape[-1]))
        return whole(call, module, query, key, value, mask, kwargs)

    whole = AttentionCall.fused
    monkeypatch.setattr(AttentionCall, "fused", fused)
    monkeypatch.setattr("core.sharing.corrections.attend._TAKE_ANY_WIDTH", ())
    close(logits_of(view), expected)
    assert widths.count((15, 15)) == len(FOLLOWERS)


# Training


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize(
    ("family", "kind"),
    [("llama", "rank=3,alignment"), ("llama", "rank=3"), ("gpt2", "rank=3"), ("gemma3_text", "alignment")],
)
def test_gradients_are_the_oracles(family, kind, execution, checkpointing):
    model, eager = (
        model_of(family, **NO_DROPOUT).double().train(),
        make(family, "eager", **FIELDS.get(family, {}), **NO_DROPOUT).double().train(),
    )
    view = trained(corrected(model, kind, execution))
    if checkpointing:
        enable = getattr(view, "activation_checkpointing_enable", None) or view.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    view(tokens(), labels=tokens(), use_cache=False).loss.backward()
    actual = {name: one.grad for name, one in correction_parameters(view).items()}
    for parameter in view.parameters():
        parameter.requires_grad_(False)
    learned = {
        layer: {name: one.detach().clone().requires_grad_() for name, one in own.items()}
        for layer, own in learned_by(view).items()
    }
    with corrected_by_oracle(eager, view.sharing_plan, HEAD_MAP, learned):
        eager(tokens(), labels=tokens(), use_cache=False).loss.backward()
    assert len(actual) == len(FOLLOWERS) * len(learned[2])
    for name, gradient in actual.items():
        layer = next(int(part) for part in name.split(".") if part.isdecimal())
        close(gradient, learned[layer][name.rpartition("correction_")[2]].grad, 1e-4)
        assert gradient.abs().max() > 0


def test_a_step_learns_the_deltas_from_zero():
    """At the start only A_k has a gradient, as in LoRA; after one step A_q has one too."""
    view = corrected(fastest("llama"), "rank=3").train()
    optimizer = torch.optim.SGD(correction_parameters(view).values(), lr=0.5)
    for nonzero in ((False, True), (True, True)):
        optimizer.zero_grad()
        view(tokens(), labels=tokens(), use_cache=False).loss.backward()
        module = attention_modules(view)[2]
        gradients = (module.correction_query.grad, module.correction_key.grad)
        assert tuple(bool(one.any()) for one in gradients) == nonzero
        optimizer.step()


def test_corrections_belong_to_the_view_alone():
    model = fastest("llama")
    names = set(dict(model.named_parameters()))
    view = corrected(model, "rank=3,alignment")
    assert set(dict(model.named_parameters())) == names
    assert len(correction_parameters(view)) == 3 * len(FOLLOWERS)
    assert share_attention(model, PLAN).config.to_dict().get("sharing_corrections") is None
    assert not corrections_of(share_attention(model, "", corrections=Corrections(8)))  # nothing to correct


def test_corrections_train_beside_adapters(tmp_path):
    """peft freezes all that is not its own: whoever trains opens the corrections again. Merging keeps them."""
    view = corrected(fastest("llama"), "rank=3,alignment")
    tuned = get_peft_model(view, LoraConfig(target_modules=["v_proj", "o_proj"]))
    assert not any(one.requires_grad for one in correction_parameters(tuned).values())
    for parameter in correction_parameters(tuned).values():
        parameter.requires_grad_()
    tuned.train()(input_ids=tokens(), labels=tokens(), use_cache=False).loss.backward()
    assert all(one.grad is not None for one in correction_parameters(tuned).values())
    with pytest.raises(ValueError, match="merge adapters first"):
        fold(tuned)
    merged = tuned.merge_and_unload()
    assert corrections_of(merged) == Corrections(3, True) and len(correction_parameters(merged)) == 9
    assert not corrections_of(fold(merged))


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_mixed_precision_trains(kind, execution):
    """Projections come out in bfloat16, and queries and keys after their rotary embedding in whatever they come in."""
    view = trained(corrected(fastest("llama"), kind, execution)).train()
    expected = view(tokens(), use_cache=False).logits
    with torch.autocast("cpu", torch.bfloat16):
        output = view(tokens(), labels=tokens(), use_cache=False)
    close(output.logits.float(), expected, 0.1)
    output.loss.backward()
    assert all(one.grad.isfinite().all() for one in correction_parameters(view).values())
    half = trained(corrected(fastest("llama").bfloat16(), kind, execution))
    assert {one.dtype for one in correction_parameters(half).values()} == {torch.bfloat16}
    assert half(tokens(), use_cache=False).logits.dtype == torch.bfloat16


@torch.no_grad()
def test_copies_keep_their_corrections():
    view = trained(corrected(fastest("llama"), "rank=3,alignment"))
    for twin in (copy.deepcopy(view), pickle.loads(pickle.dumps(view))):
        assert corrections_of(twin) == corrections_of(view)
        assert torch.equal(twin(tokens()).logits, view(tokens()).logits)
        assert twin(tokens(), use_cache=True).past_key_values.layers[2].keys.shape[-1] == 3


# The cache


@torch.no_grad()
def test_followers_cache_their_values_and_narrow_keys():
    model = fastest("llama")
    plain = share_attention(model, PLAN)(tokens(), use_cache=True).past_key_values
    cache = corrected(model, "rank=3")(tokens(), use_cache=True).past_key_values
    assert cache_bytes(cache) - cache_bytes(plain) == len(FOLLOWERS) * 2 * 2 * 11 * 3 * 4
    assert cache.layers[2].keys.shape == (2, 2, 11, 3) and cache.layers[2].get_seq_length() == 11
    aligned = corrected(model, "alignment")(tokens(), use_cache=True).past_key_values
    assert cache_bytes(aligned) == cache_bytes(plain)


@torch.no_grad()
def test_caches_of_other_models_are_refused():
    model = fastest("llama")
    views = [share_attention(model, PLAN), corrected(model, "rank=3"), corrected(model, "rank=2"), model]
    for one in views:
        cache = one(tokens(), use_cache=True).past_key_values
        for other in views[:3]:
            if other is not one:
                with pytest.raises(ValueError, match="another sharing plan"):
                    other(tokens()[:, :1], past_key_values=cache)
    empty = DynamicCache(config=model.config)
    views[0](tokens(), past_key_values=empty)
    empty.reset()
    close(views[1](tokens(), past_key_values=empty).logits, views[1](tokens(), use_cache=False).logits)


@pytest.mark.skipif(not is_optimum_quanto_available(), reason="needs optimum-quanto")
def test_a_quantized_cache_is_refused_with_deltas():
    model = fastest("llama")
    cache = QuantizedCache("quanto", model.config, q_group_size=12)
    with pytest.raises(ValueError, match="narrow keys of low-rank corrections"):
        corrected(model, "rank=3")(tokens(), past_key_values=cache)


def test_a_static_cache_made_in_advance_has_room():
    view = corrected(fastest("llama"), "rank=3")
    cache = StaticCache(config=view.config, max_cache_len=16)
    with torch.no_grad():
        close(view(tokens(), past_key_values=cache).logits, logits_of(view))
    assert cache.layers[2].keys.shape == (2, 2, 16, 3)


# Folders


@pytest.fixture
def load(monkeypatch):
    monkeypatch.setattr("core.models.AutoTokenizer.from_pretrained", lambda *_, **__: "a tokenizer")
    monkeypatch.setattr("core.models.probe", lambda *_: None)
    monkeypatch.setattr("core.models.check_tokenizer", lambda *_: None)
    return lambda folder: core.load_model(folder, dtype="float32", device="cpu")[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3"])
@torch.no_grad()
def test_a_saved_view_comes_back_with_its_corrections(family, kind, tmp_path, load):
    view = trained(corrected(fastest(family), kind))
    view.save_pretrained(tmp_path)
    named = json.loads((tmp_path / "config.json").read_text())["sharing_corrections"]
    assert named == Corrections.parse(kind).as_config()
    loaded = load(tmp_path)
    assert corrections_of(loaded) == Corrections.parse(kind) and loaded.sharing_head_map == HEAD_MAP
    assert torch.equal(loaded(tokens()).logits, view(tokens()).logits)


@pytest.mark.parametrize(
    "named",
    [
        None,
        {"rank": 4, "alignment": True},
        {"rank": 3, "alignment": False},
        {"rank": 13},
        {"rank": 10**9},
        [8],
        "rank=3",
    ],
)
def test_a_folder_whose_configuration_tells_of_other_corrections_is_refused(named, tmp_path, load):
    corrected(fastest("llama"), "rank=3,alignment").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"sharing_corrections": named}))
    with pytest.raises(
        ValueError, match="correction_|rank of at most 12|rank of corrections is|must be an object such as"
    ):
        load(tmp_path)


def test_a_folder_without_the_learned_tensors_is_refused(tmp_path, load):
    share_attention(fastest("llama"), PLAN).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"sharing_corrections": {"rank": 3, "alignment": False}}))
    with pytest.raises(ValueError, match="lack 6 tensors .*correction_"):
        load(tmp_path)


# What is refused


@pytest.mark.parametrize(
    ("family", "kind", "sentence"),
    [
        ("bloom", "rank=3", "own forward, where no low-rank corrections reach"),
        ("gemma2", "rank=3", "are capped or otherwise changed"),
        ("gpt_oss", "alignment", "attention sinks of its own"),
        ("llama", "rank=13", "give a rank of at most 12"),
    ],
)
def test_models_that_cannot_have_them_are_refused(family, kind, sentence):
    with pytest.raises(ValueError, match=sentence):
        corrected(fastest(family), kind, head_map={})


def test_a_corrected_view_is_not_shared_again_nor_recorded():
    view = corrected(fastest("llama"), "rank=3")
    with pytest.raises(ValueError, match="already shares attention"):
        share_attention(view, "1-2", corrections=Corrections(2))
    with pytest.raises(ValueError, match="more than recorded steps do"):
        GraphDecoder(view, 1, 16)


# fold


def of(view, layer: int):
    return attention_modules(view)[layer]


@torch.no_grad()
def assert_ordinary(view, expected: torch.Tensor, folder, tolerance: float = 3e-6) -> None:
    """The view has no corrections any more, gives the same logits, and so does its folder."""
    assert not corrections_of(view) and not correction_parameters(view)
    for execution in EXECUTIONS:
        close(logits_of(view, execution=execution), expected, tolerance)
    padded = [logits_of(view, padding(), execution=execution) for execution in EXECUTIONS]
    close(*padded)
    generated = [
        view.generate(tokens(), max_new_tokens=3, do_sample=False, use_cache=cached) for cached in (True, False)
    ]
    assert torch.equal(*generated)
    view.save_pretrained(folder)
    assert "sharing_corrections" not in json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@torch.no_grad()
def test_untrained_corrections_fold_into_the_head_map_they_began_from(family, tmp_path, load):
    view = corrected(fastest(family), "rank=3,alignment")
    expected = logits_of(share_attention(fastest(family), PLAN, HEAD_MAP))
    assert fold(view) is view and view.sharing_head_map == HEAD_MAP
    assert_ordinary(view, expected, tmp_path)
    loaded = load(tmp_path)
    assert loaded.sharing_head_map == HEAD_MAP and torch.equal(logits_of(loaded), logits_of(view))


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom"])
@torch.no_grad()
def test_multiples_of_one_hot_rows_go_into_the_output_projection(family, tmp_path, load):
    model = fastest(family)
    dense = {name: parameter.clone() for name, parameter in model.named_parameters()}
    view = corrected(model, "alignment")
    rows = torch.tensor([[0, 2.5, 0, 0], [0, 0, 0, -1], [0, 0, 0, 0], [0, 0, 1, 0]])
    of(view, 2).correction_alignment.copy_(rows)
    expected = logits_of(view)
    fold(view)
    assert view.sharing_head_map == {2: (1, 3, 2, 2), 5: HEAD_MAP[5]}
    assert_ordinary(view, expected, tmp_path, 1e-5)
    close(logits_of(load(tmp_path)), expected, 1e-5)
    assert all(torch.equal(parameter, dense[name]) for name, parameter in model.named_parameters())


@torch.no_grad()
def test_what_mixes_heads_stays():
    view = trained(corrected(fastest("llama"), "rank=3,alignment"))
    expected = logits_of(view)
    assert corrections_of(fold(view)) == Corrections(3, True) and torch.equal(logits_of(view), expected)
    for layer in FOLLOWERS:
        of(view, layer).correction_key.zero_()
    expected = logits_of(view)
    assert corrections_of(fold(view)) == Corrections(0, True) == Corrections.of_config(view.config)
    close(logits_of(view), expected)
    cache = view(tokens(), use_cache=True).past_key_values
    assert cache.layers[2].keys.shape[-1] == 0


@pytest.mark.parametrize(
    ("heads", "folds"), [((1, 0, 3, 2), True), ((2, 3, 3, 2), True), ((0, 0, 1, 1), True), ((0, 2, 1, 3), False)]
)
@torch.no_grad()
def test_deltas_that_stay_follow_their_heads(heads, folds):
    """Their keys go by KV groups, so that heads of a group have to read heads of one."""
    view = trained(corrected(fastest("llama"), "rank=3,alignment"))
    for layer in FOLLOWERS:
        of(view, layer).correction_alignment.copy_(torch.eye(4)[list(heads)])
    expected = logits_of(view)
    assert corrections_of(fold(view)) == Corrections(3, not folds)
    for execution in EXECUTIONS:
        close(logits_of(view, execution=execution), expected)
    if folds:
        assert view.sharing_head_map == dict.fromkeys(FOLLOWERS, heads)


def test_other_models_stay_as_they_are():
    model = fastest("llama")
    view = share_attention(model, SharingPlan.parse("1-3", 6))
    assert fold(model) is model and fold(view) is view
