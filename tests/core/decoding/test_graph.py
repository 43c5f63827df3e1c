"""Recorded decoding steps give what the model's own forward gives, for dense models, views and head maps.

Here the kernels are those of `step_reference`, started one by one; tests/core/decoding/test_kernels.py tries the real ones.
"""

import sys

import pytest
import torch

from core import share_attention
from core.decoding.eager import Decoder
from core.decoding.graph import GraphDecoder
from core.decoding.start import start_decoding
from core.sharing.cache import cache_bytes
from core.sharing.families import CHECKED
from tests.support import step_reference
from tests.support.families import fastest, make, plans
from tests.support.multimodal import make_multimodal, widest_plan
from tests.support.steps import STEP_PLANS, assert_equal_steps, logits_of_steps

NOT_RECORDED = {
    "gemma2", "gpt_oss", "nemotron", "stablelm", "bloom", "codegen", "falcon", "gptj", "gpt_neo", "mpt",
    "gemma3n_text", "gemma4_text", "gemma4_unified_text",
}  # fmt: skip
"""Soft-caps, sinks, layers that read the keys and values of others by themselves, families that drop keyword arguments or compute attention in their own forward: their steps are the
model's own forward."""


@pytest.fixture(autouse=True)
def kernels(monkeypatch):
    monkeypatch.setitem(sys.modules, "core.decoding.kernels", step_reference)


@pytest.mark.parametrize("plan", STEP_PLANS, ids=["dense", "shared"])
@pytest.mark.parametrize("family", sorted(CHECKED))
def test_recorded_steps_equal_the_models_own_forward(family, plan):
    model = share_attention(fastest(family), plan)
    if family in NOT_RECORDED:
        with pytest.raises((ValueError, RuntimeError)):
            GraphDecoder(model, 1, 8, fuse=False)
    else:
        assert_equal_steps(model, fuse=False)


@pytest.mark.parametrize("plan", ["skip 2 4", "kv 0-2-4", "keys 0-2-4", "kv 0_2,skip 1 4"])
@pytest.mark.parametrize("family", sorted(CHECKED - NOT_RECORDED))
def test_recorded_steps_of_other_mechanisms_equal_the_models_own_forward(family, plan):
    decoder = assert_equal_steps(share_attention(fastest(family), plan), fuse=False)
    own = Decoder(decoder.model)
    own.prefill(torch.ones(2, 19, dtype=torch.long))
    windows = [getattr(layer, "sliding_window", None) for layer in own.cache.layers]
    if not any(windows):  # a ring keeps one token more
        assert decoder.cache_bytes == own.cache_bytes


@pytest.mark.parametrize("prompt_tokens", [1, 5, 6, 7, 17])
def test_rings_hold_windows_under_other_mechanisms_too(prompt_tokens):
    view = share_attention(make("mistral", "sdpa"), "kv 0-1,keys 2-3,skip 4")
    assert_equal_steps(view, prompt_tokens, steps=9, fuse=False)


def test_rotary_embeddings_of_layers_that_lend_are_compiled_too(tiny_model, monkeypatch):
    import core.decoding.graph

    calls = []
    monkeypatch.setattr(
        core.decoding.graph, "_compiled", lambda function: lambda *given: calls.append(0) or function(*given)
    )
    view = share_attention(tiny_model(), "kv 1-2,keys 3-4")
    decoder = GraphDecoder(view, 1, 8, fuse=True)
    before = len(calls)
    decoder.step(torch.tensor([1]))
    assert len(calls) - before == 6 + 6 + 13  # rotations, MLPs, norms


def test_steps_that_choose_positions_are_the_models_own_forward(tiny_model):
    with pytest.raises(ValueError, match="choose no positions"):
        GraphDecoder(share_attention(tiny_model(), "topk3 1-2"), 1, 8, fuse=False)


@pytest.mark.parametrize("prompt_tokens", [1, 5, 6, 7, 17])
def test_rings_hold_sliding_windows_however_long_the_prompt(prompt_tokens):
    assert_equal_steps(share_attention(make("mistral", "sdpa"), "0-1,3-4"), prompt_tokens, steps=9, fuse=False)


@pytest.mark.parametrize("kind", ["gemma3", "llava", "cohere2_vision", "qwen2_vl"])
def test_the_decoder_of_a_model_that_reads_images(kind):
    model = make_multimodal(kind)
    view = share_attention(model, widest_plan(model))
    if kind == "qwen2_vl":  # a family that the tests of steps do not know: its steps are its own forward
        with pytest.raises(ValueError, match="not known to attend where these steps can"):
            GraphDecoder(view, 1, 8, fuse=False)
    else:
        assert_equal_steps(view, fuse=False)


@pytest.mark.parametrize("prompt_tokens", [1, 6, 17])
@pytest.mark.parametrize("family", ["cohere2", "exaone4", "gemma3_text", "olmo3"])
def test_rings_and_whole_caches_take_turns_in_groups_that_interleave(family, prompt_tokens):
    model = fastest(family)
    assert_equal_steps(share_attention(model, plans(model)[1]), prompt_tokens, fuse=False)


def test_head_maps_are_followed(tiny_model):
    head_map = {2: [3, 0, 0, 1], 3: [1, 1, 2, 0]}
    assert_equal_steps(share_attention(tiny_model(), "1-3", head_map), fuse=False)


def test_norms_rotary_embeddings_and_mlps_are_compiled_once_for_all_layers(tiny_model, monkeypatch):
    import core.decoding.graph

    compiled = []

    def compile_(function):
        compiled.append(function.__qualname__)
        return function

    monkeypatch.setattr(core.decoding.graph, "_compiled", compile_)
    assert_equal_steps(share_attention(tiny_model("qwen3"), "1-3"), fuse=True)
    assert set(compiled) == {"Qwen3RMSNorm.forward", "Qwen3MLP.forward", "apply_rotary_pos_emb"}


def test_bytes_are_those_of_the_tokens_so_far_without_follower_keys(tiny_model):
    view = share_attention(tiny_model(), "1-3")
    ids = torch.randint(97, (2, 12))
    plain, recorded = Decoder(view), GraphDecoder(view, 2, 100, fuse=False)
    for decoder in (plain, recorded):
        decoder.prefill(ids)
        decoder.step(ids[:, 0])
    assert plain.cache_bytes == recorded.cache_bytes == cache_bytes(plain.cache) > 0


def test_after_a_restart_the_same_decoder_reads_another_prompt(tiny_model):
    model, ids = share_attention(tiny_model(), "1-3"), torch.randint(97, (1, 18))
    for decoder in (Decoder(model), GraphDecoder(model, 1, 20, fuse=False)):
        logits_of_steps(decoder, ids[:, :3], ids[:, :9])
        decoder.restart()
        again = logits_of_steps(decoder, ids[:, :10], ids[:, 10:])
        torch.testing.assert_close(again, logits_of_steps(Decoder(model), ids[:, :10], ids[:, 10:]))


def test_a_filled_cache_decodes_without_a_prompt_and_can_lend_its_buffers(tiny_model):
    model = tiny_model()
    dense = GraphDecoder(model, 2, 20, fuse=False)
    for plan in ("1-3", "keys 1-3", "kv 0-1,keys 2_4,skip 3 5"):
        shared = GraphDecoder(share_attention(model, plan), 2, 20, fuse=False, like=dense)
        for decoder in (dense, shared):
            decoder.fill(12)
            assert torch.isfinite(decoder.step(torch.tensor([1, 2]))).all()
        assert shared.cache.layers[4].values.data_ptr() == dense.cache.layers[4].values.data_ptr()
        assert shared.cache_bytes < dense.cache_bytes


def test_the_model_and_its_other_views_stay_as_they_are(tiny_model):
    model, ids = tiny_model(), torch.randint(97, (1, 8))
    view = share_attention(model, "1-3")
    before = [m(input_ids=ids).logits for m in (model, view)]
    GraphDecoder(view, 1, 20, fuse=False)
    assert all(torch.equal(old, m(input_ids=ids).logits) for old, m in zip(before, (model, view), strict=True))


def test_too_long_a_prompt_is_refused(tiny_model):
    with pytest.raises(ValueError, match="room for 8 tokens"):
        GraphDecoder(tiny_model(), 1, 8, fuse=False).prefill(torch.ones(1, 9, dtype=torch.long))


def test_the_log_says_why_steps_are_not_recorded(monkeypatch, caplog):
    model = fastest("falcon")
    monkeypatch.setattr(type(model), "device", torch.device("cuda"))
    assert type(start_decoding(model, 1, 20)) is Decoder
    assert "Steps are not recorded: models of type 'falcon'" in caplog.text


@pytest.mark.parametrize("plan", STEP_PLANS, ids=["dense", "shared"])
def test_nothing_is_written_over_what_attention_still_reads(plan, tiny_model):
    view, ids = share_attention(tiny_model(), plan), torch.randint(97, (2, 20))
    decoder = GraphDecoder(view, 2, 8, fuse=False)
    with pytest.raises(ValueError, match="room for 8 tokens of a row, not for 9"):
        decoder.prefill(ids[:, :9])
    expected = logits_of_steps(Decoder(view), ids[:, :5], ids[:, 5:8])
    torch.testing.assert_close(logits_of_steps(decoder, ids[:, :5], ids[:, 5:8]), expected, rtol=0, atol=1e-3)
    for _ in range(2):
        with pytest.raises(ValueError, match="not for 9"):
            decoder.step(ids[:, 8])
    with pytest.raises(ValueError, match="restart it"):
        decoder.prefill(ids[:, :3])
    with pytest.raises(ValueError, match="not for 9"):
        decoder.fill(9)
    decoder.restart()
    with pytest.raises(ValueError, match="made for 2 rows and got 1"):
        decoder.prefill(ids[:1, :3])
    decoder.prefill(ids[:, :3])
    with pytest.raises(ValueError, match="made for 2 rows and got 1"):
        decoder.step(ids[:1, 3])


@pytest.mark.parametrize("room", [7, 8, 20])
def test_a_ring_goes_on_for_ever_when_it_holds_its_window(room):
    view = share_attention(make("mistral", "sdpa"), "0-1,3-4")  # its window is 6 tokens
    ids = torch.randint(97, (1, 30))
    expected = logits_of_steps(Decoder(view), ids[:, :5], ids[:, 5:])
    found = logits_of_steps(GraphDecoder(view, 1, room, fuse=False), ids[:, :5], ids[:, 5:])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def test_a_ring_smaller_than_its_window_and_mixed_layers_fill_up():
    for family, room in (("mistral", 5), ("gemma3_text", 8)):
        decoder = GraphDecoder(share_attention(make(family, "sdpa"), "0-1,3-4"), 1, room, fuse=False)
        decoder.prefill(torch.randint(97, (1, room)))
        with pytest.raises(ValueError, match=f"not for {room + 1}"):
            decoder.step(torch.tensor([1]))


@pytest.mark.parametrize("family", ["gpt2", "opt", "biogpt", "gptj", "codegen", "gpt_neo"])
def test_learned_positions_run_out_with_a_sentence(family):
    model, ids = fastest(family), torch.randint(97, (1, 66))
    view = share_attention(model, plans(model)[0])
    decoder = Decoder(view)
    decoder.prefill(ids[:, :63])
    decoder.step(ids[:, 63])
    with pytest.raises(ValueError, match="has learned 64 positions and cannot read 65 tokens"):
        decoder.step(ids[:, 64])
    with pytest.raises(ValueError, match="learned 64 positions"):
        start_decoding(view, 1, 65)
    with pytest.raises(ValueError, match="learned 64 positions"):
        Decoder(view).prefill(ids)


@pytest.mark.parametrize("family", ["llama", "bloom", "falcon", "gpt_neox"])
def test_computed_positions_never_run_out(family):
    assert start_decoding(fastest(family), 1, 200).prefill(torch.randint(97, (1, 100))).isfinite().all()


def test_layers_that_read_others_by_themselves_are_not_recorded():
    with pytest.raises(ValueError, match="read the keys and values of another one by themselves"):
        GraphDecoder(fastest("gemma3n_text"), 1, 16)
