"""Compiled and lean steps give what the model's own forward gives, and what they cannot do is the model's own forward."""

import threading

import pytest
import torch
from transformers import DynamicCache

from core import load_model, share_attention
from core.decoding import compiler
from core.decoding.eager import Decoder
from core.decoding.generation import generate_pair
from core.decoding.start import alike, start_decoding
from core.sharing import Corrections
from core.sharing.cache import cache_bytes
from core.sharing.families import CHECKED
from tests.support.families import fastest, make
from tests.support.steps import logits_of_steps

STEPPED = {"llama", "ministral", "mistral", "qwen2", "qwen3", "smollm3"}
"""Families whose modules are those of the recipes to the letter."""
PLANS = (
    "", "0-2,3-5", "0-2-4,3_5", "skip 2 4", "kv 0-2-4", "keys 0-2-4", "kv 0_2,skip 1,3-5", "1-3@decode", "1-3@prefill",
    "kv 1-2@decode,skip 4@decode",
)  # fmt: skip
PATHS = ("compiled", "lean")


@pytest.fixture(scope="module", autouse=True)
def made():
    """The library, however long a busy machine takes."""
    if compiler.library(wait_s=120) is None:
        pytest.skip("there is no C compiler")


@pytest.fixture(scope="module")
def demo():
    return load_model("demo", device="cpu")


def started(model, path: str, batch: int = 1, room: int = 64):
    decoder = start_decoding(model, batch, room, paths=(path,))
    assert decoder.path == path
    return decoder


def assert_like_own(model, path: str, batch: int = 1, prompt_tokens: int = 9, steps: int = 12, room: int = 64):
    """Assert that logits, the bytes held and the cache itself are those of the model's own forward; the decoder."""
    ids = torch.randint(97, (batch, prompt_tokens + steps), generator=torch.Generator().manual_seed(3))
    prompt, tokens = ids[:, :prompt_tokens], ids[:, prompt_tokens:]
    own, decoder = Decoder(model), started(model, path, batch, room)
    expected, found = (logits_of_steps(one, prompt, tokens) for one in (own, decoder))
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5 * expected.abs().max().item())
    assert decoder.cache_bytes == own.cache_bytes == cache_bytes(decoder.cache)
    assert decoder.cache.get_seq_length() == own.cache.get_seq_length() == prompt_tokens + steps
    for one, other in zip(decoder.cache.layers, own.cache.layers, strict=True):
        torch.testing.assert_close((one.keys, one.values), (other.keys, other.values), rtol=0, atol=1e-4)
    return decoder


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("plan", PLANS)
def test_steps_equal_the_models_own_forward(plan, path):
    assert_like_own(share_attention(fastest("qwen3"), plan), path)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("family", sorted(STEPPED))
def test_steps_of_every_family_that_has_them(family, path):
    model = fastest(family)
    for plan in ("", "0-2-4,kv 1_3" if family != "smollm3" else "0-2"):
        assert_like_own(share_attention(model, plan), path)


@pytest.mark.parametrize("family", sorted(CHECKED - STEPPED))
def test_other_families_take_their_own_forward(family):
    assert type(start_decoding(fastest(family), 1, 30)) is Decoder


FORMS = {
    "no groups": {"num_key_value_heads": 4},
    "one group": {"num_key_value_heads": 1},
    "one layer's worth": {"num_hidden_layers": 6, "hidden_size": 20, "head_dim": 6, "intermediate_size": 17},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "tied": {"tie_word_embeddings": True},
    "wide heads": {"head_dim": 40},
    "dynamic rotation": {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
    "yarn": {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4, "original_max_position_embeddings": 16}},
    "linear": {"rope_parameters": {"rope_type": "linear", "factor": 3.0, "rope_theta": 1e4}},
}  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("plan", ["", "1-3,kv 4-5"])
@pytest.mark.parametrize("form", FORMS)
def test_forms_of_one_family(form, plan, path):
    assert_like_own(share_attention(make("llama", "sdpa", **FORMS[form]), plan), path, prompt_tokens=60)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_eager_attention_and_head_maps(family, path):
    heads = {2: [3, 0, 0, 1], 3: [1, 1, 2, 0]}
    assert_like_own(share_attention(make(family, "eager"), "1-3", heads), path)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("prompt_tokens", [1, 4, 5, 6, 7, 40])
def test_windows_slide(prompt_tokens, path):
    view = share_attention(make("mistral", "sdpa"), "0-1,kv 2-3")  # its window is 6 tokens
    assert_like_own(view, path, prompt_tokens=prompt_tokens, steps=40)


@pytest.mark.parametrize("path", PATHS)
def test_windows_and_whole_caches_take_turns(path):
    model = make("qwen2", "sdpa", sliding_window=6, use_sliding_window=True, max_window_layers=3, num_hidden_layers=6)
    assert_like_own(share_attention(model, "0-1,3-5"), path, steps=30)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("plan", ["", "1-3,keys 4-5"])
def test_long_contexts_are_split(plan, path):
    model = make("llama", "sdpa", max_position_embeddings=4096)
    for tokens in (511, 700, 2100):
        assert_like_own(share_attention(model, plan), path, prompt_tokens=tokens, steps=3, room=tokens + 2)


@pytest.mark.parametrize("path", PATHS)
def test_full_buffers_grow(path):
    decoder = assert_like_own(share_attention(make("llama", "sdpa"), "1-3"), path, prompt_tokens=5, steps=50, room=7)
    assert decoder.rooms[0].capacity >= 55


def test_three_rows_are_lean():
    view = share_attention(make("qwen3", "sdpa"), "1-3,skip 4")
    assert start_decoding(view, 3, 40).path == "lean"
    assert_like_own(view, "lean", batch=3)


def test_rows_that_were_not_said_to_come_take_the_models_own_forward():
    model, ids = make("llama", "sdpa"), torch.randint(97, (2, 12))
    expected = logits_of_steps(Decoder(model), ids[:, :8], ids[:, 8:])
    for path in PATHS:
        torch.testing.assert_close(logits_of_steps(started(model, path), ids[:, :8], ids[:, 8:]), expected)


@pytest.mark.parametrize("plan", ["", "1-3,kv 4-5"])
def test_narrow_numbers_are_equal_to_the_bit_or_the_models_own(plan):
    model = share_attention(make("llama", "sdpa").bfloat16(), plan)
    decoder, ids = start_decoding(model, 1, 40), torch.randint(97, (1, 20))
    assert decoder.path in ("lean", "eager")
    assert torch.equal(*(logits_of_steps(one, ids[:, :8], ids[:, 8:]) for one in (decoder, Decoder(model))))


@pytest.mark.parametrize("path", PATHS)
def test_after_a_restart_the_same_decoder_reads_another_prompt(path):
    model, ids = share_attention(make("llama", "sdpa"), "1-3"), torch.randint(97, (1, 18))
    decoder = started(model, path)
    logits_of_steps(decoder, ids[:, :3], ids[:, :9])
    decoder.restart()
    assert decoder.cache_bytes == 0
    expected = logits_of_steps(Decoder(model), ids[:, :10], ids[:, 10:])
    torch.testing.assert_close(logits_of_steps(decoder, ids[:, :10], ids[:, 10:]), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("path", PATHS)
def test_a_prompt_may_go_on_after_steps(path):
    model, ids = share_attention(make("mistral", "sdpa"), "0-1"), torch.randint(97, (1, 18))
    found, expected = [], []
    for decoder, logits in ((started(model, path), found), (Decoder(model), expected)):
        logits_of_steps(decoder, ids[:, :5], ids[:, 5:10])
        logits.append(decoder.prefill(ids[:, 10:14]).clone())
        logits += [decoder.step(column).clone() for column in ids[:, 14:].unbind(1)]
    torch.testing.assert_close(torch.stack(found), torch.stack(expected), rtol=0, atol=1e-4)


@pytest.mark.parametrize("path", PATHS)
def test_tokens_that_do_not_exist_are_the_models_own_error(path):
    decoder = started(make("llama", "sdpa"), path)
    decoder.prefill(torch.tensor([[1, 2]]))
    for token in (97, -1):
        with pytest.raises(IndexError):
            decoder.step(torch.tensor([token]))
    with pytest.raises((RuntimeError, ValueError)):
        decoder.step(torch.tensor([1, 2]))


def test_steps_of_two_threads_do_not_meet():
    model = share_attention(make("llama", "sdpa"), "1-3")
    ids = torch.randint(97, (4, 40))
    expected = [logits_of_steps(Decoder(model), row[None, :5], row[None, 5:]) for row in ids]
    found = [None] * 4

    def write(which: int) -> None:
        for _ in range(5):
            found[which] = logits_of_steps(
                started(model, "compiled"), ids[which : which + 1, :5], ids[which : which + 1, 5:]
            )

    threads = [threading.Thread(target=write, args=(which,)) for which in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


def test_logits_do_not_depend_on_threads():
    model, ids, found = make("qwen3", "sdpa"), torch.randint(97, (1, 30)), []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            decoder = started(model, "compiled")
            decoder.take_over(prefilled(model, ids[:, :9]))
            found.append(torch.stack([decoder.step(column).clone() for column in ids[:, 9:].unbind(1)]))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def prefilled(model, ids) -> DynamicCache:
    cache = DynamicCache(config=model.config)
    torch.manual_seed(0)
    for layer in range(model.config.num_hidden_layers):
        cache.update(torch.randn(1, 2, ids.shape[1], 12), torch.randn(1, 2, ids.shape[1], 12), layer)
    return cache


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("plan", ["", "17-22", "skip 4 9", "17-20,kv 8-10"])
def test_two_hundred_greedy_tokens_of_the_bundled_model(demo, plan, path):
    view = share_attention(demo[0], plan)
    ids = torch.randint(4096, (1, 20), generator=torch.Generator().manual_seed(1))
    written = []
    for decoder in (Decoder(view), started(view, path, room=220)):
        logits, tokens = decoder.prefill(ids), []
        for _ in range(200):
            tokens.append(int(logits.argmax()))
            logits = decoder.step(torch.tensor(tokens[-1:]))
        written.append(tokens)
    assert written[0] == written[1]


def hooked(model):
    model.model.layers[2].mlp.register_forward_hook(lambda module, args, output: 2 * output)


def patched(model):
    norm = model.model.norm
    norm.forward = lambda x: 2 * type(norm).forward(norm, x)


def wrapped(model):
    class Louder(torch.nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    model.model.layers[1].self_attn.o_proj.__class__ = Louder


@pytest.mark.parametrize("change", [hooked, patched, wrapped, torch.nn.Module.train])
def test_models_that_somebody_changed_take_their_own_forward(change):
    model = make("llama", "sdpa")
    change(model)
    assert type(start_decoding(model, 1, 20)) is Decoder


def test_steps_whose_logits_differ_are_not_taken(monkeypatch):
    monkeypatch.setattr(
        "core.decoding.recipe.Norm.__init__", lambda self, weight, eps: vars(self).update(weight=weight, eps=0.5)
    )
    assert type(start_decoding(make("llama", "sdpa"), 1, 20)) is Decoder


def test_what_chooses_positions_or_is_corrected_takes_its_own_forward():
    model = make("llama", "sdpa")
    assert type(start_decoding(share_attention(model, "topk3 1-2"), 1, 20)) is Decoder
    assert type(start_decoding(share_attention(model, "1-2", corrections=Corrections(rank=2)), 1, 20)) is Decoder


def test_models_that_are_timed_beside_each_other_take_one_path():
    model = make("llama", "sdpa")
    dense, shared, chosen = (start_decoding(share_attention(model, plan), 1, 20) for plan in ("", "1-3", "topk3 1-2"))
    assert [one.path for one in alike([dense, shared], 1, 20)] == ["compiled", "compiled"]
    assert [one.path for one in alike([dense, chosen], 1, 20)] == ["eager", "eager"]
    lean = started(model, "lean")
    assert [one.path for one in alike([shared, lean], 1, 20)] == ["lean", "lean"]


def test_weights_that_are_trained_on_are_read_where_they_are():
    model, ids = make("llama", "sdpa"), torch.randint(97, (1, 12))
    decoder = started(model, "compiled")
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.mul_(1.5)
    expected = logits_of_steps(Decoder(model), ids[:, :5], ids[:, 5:])
    torch.testing.assert_close(logits_of_steps(decoder, ids[:, :5], ids[:, 5:]), expected, rtol=0, atol=1e-4)


def test_a_text_that_nobody_wants_any_more_holds_up_no_other(demo):
    model, tokenizer = demo
    how = (model, share_attention(model, "17-22"), tokenizer, "The old man looked at the sea", 12)
    whole = [step.shared.text for step in generate_pair(*how)]
    begun = generate_pair(*how)
    assert next(begun).shared.text == whole[0]
    meanwhile = list(generate_pair(*how))
    begun.close()
    assert [step.shared.text for step in meanwhile] == whole == [step.shared.text for step in generate_pair(*how)]
