"""The kernels of plain steps against plain torch, and whole steps against the model's own forward.

Without a GPU Triton's interpreter runs them, which checks what they compute and not how fast; `python -m
tests.benchmarks.gpu_step` does the same on a GPU, on more families, plans and batch sizes, with times.
"""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from core import share_attention
from core.decoding.eager import Decoder
from core.decoding.graph import GraphDecoder
from tests.support import step_reference
from tests.support.steps import logits_of_steps

pytest.importorskip("triton")

from core.decoding import newest, skinny

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZES = {
    "num_hidden_layers": 3, "hidden_size": 24, "intermediate_size": 40, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 6, "vocab_size": 45, "max_position_embeddings": 64, "pad_token_id": None,
    "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
SMALL_BLOCKS = ((2**62, newest.Launch(block=16, warps=4, stages=2, programs=16)),)

ONE_BLOCK = ((2**62, newest.Launch(block=64, warps=4, stages=2, programs=1)),)


@pytest.fixture(autouse=True)
def few_programs(monkeypatch):
    """The interpreter takes its time for every program; the tests of single kernels have several of each."""
    tiles = dict.fromkeys(skinny.ONE_ROW, skinny.Tile(64, 64, 1, 4, 2))
    monkeypatch.setattr(skinny, "TILES", ((skinny.MOST_ROWS, tiles),))
    monkeypatch.setattr(newest, "ATTEND", ONE_BLOCK)
    monkeypatch.setattr(newest, "FOLLOW", ONE_BLOCK)


def plain_model(family: str = "llama", **settings):
    """A random model whose norms and biases matter."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **{**SIZES, **settings})).eval()
    for parameter in model.parameters():
        parameter.data.normal_(1 if parameter.ndim == 1 else 0, 0.3)
    return model.to(DEVICE)


def assert_equal(view, batch: int, prompt_tokens: int = 5, steps: int = 2) -> GraphDecoder:
    """Logits of plain steps are those of the model's own forward, and what they choose is the likeliest token."""
    ids = torch.randint(SIZES["vocab_size"], (batch, prompt_tokens + steps), device=DEVICE)
    prompt, tokens = ids[:, :prompt_tokens], ids[:, prompt_tokens:]
    expected = logits_of_steps(Decoder(view), prompt, tokens)
    decoder = GraphDecoder(view, batch, prompt_tokens + steps, plain=True)
    actual = logits_of_steps(decoder, prompt, tokens)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    assert torch.equal(decoder.plain.choice, expected[-1].argmax(-1))
    return decoder


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("splits", [1, 2])
def test_products_of_several_weights_and_their_norm(rows, splits):
    torch.manual_seed(0)
    weights = [torch.randn(outputs, 48, device=DEVICE) for outputs in (40, 24, 8)]
    biases = [torch.randn(40, device=DEVICE), None, torch.randn(8, device=DEVICE)]
    x, scale = torch.randn(rows, 48, device=DEVICE), torch.randn(48, device=DEVICE)
    product = skinny.Product("", weights, biases, rows, tile=skinny.Tile(16, 16, splits, 4, 2))
    squares = (x * x).view(rows, 6, 8).sum(-1).T.contiguous()
    out = torch.full((rows, 72), torch.nan, device=DEVICE)
    product(x * scale, out, squares=squares, eps=1e-5)
    normed = x * scale / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    expected = torch.cat([torch.nn.functional.linear(normed, *one) for one in zip(weights, biases, strict=True)], 1)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
    assert not product.arrived.any()  # ready for the next step


@pytest.mark.parametrize("rows", [1, 2])
def test_gated_products_and_what_is_added_to_the_stream(rows):
    torch.manual_seed(0)
    gate, up, down = (torch.randn(size, device=DEVICE) for size in ((40, 24), (40, 24), (24, 40)))
    x, stream, scale = (torch.randn(size, device=DEVICE) for size in ((rows, 24), (rows, 24), (24,)))
    between, scaled = torch.empty(rows, 40, device=DEVICE), torch.empty(rows, 24, device=DEVICE)
    skinny.Product("", [gate, up], [None, None], rows, True, tile=skinny.Tile(16, 16, 1, 4, 2))(x, between)
    expected = torch.nn.functional.silu(x @ gate.T) * (x @ up.T)
    torch.testing.assert_close(between, expected, rtol=1e-4, atol=1e-4)
    product = skinny.Product("", [down], [None], rows, tile=skinny.Tile(16, 16, 2, 4, 2))
    left, total = torch.empty(product.blocks, rows, device=DEVICE), stream + expected @ down.T
    product(between, scaled, residual=stream, scale=scale, left=left)
    torch.testing.assert_close(stream, total, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(scaled, total * scale, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(left.sum(0), total.square().sum(1), rtol=1e-4, atol=1e-3)


def test_the_first_of_equal_tokens_is_chosen():
    weight = torch.zeros(40, 16, device=DEVICE)
    weight[[7, 21, 35]] = 1.0
    product = skinny.Product("", [weight], [None], 2, tile=skinny.Tile(16, 16, 1, 4, 2))
    best, index = torch.empty(3, 2, device=DEVICE), torch.empty(3, 2, dtype=torch.int32, device=DEVICE)
    choice = torch.zeros(2, dtype=torch.long, device=DEVICE)
    x = torch.stack([torch.ones(16, device=DEVICE), -torch.ones(16, device=DEVICE)])
    product(x, torch.empty(2, 40, device=DEVICE), best=best, choice=index)
    skinny.choose(best, index, choice)
    assert choice.tolist() == [7, 0]


@pytest.mark.parametrize("position", [0, 15, 40])
def test_attention_of_the_newest_token_and_of_its_followers(position):
    torch.manual_seed(0)
    batch, heads, kv_heads, head_dim, capacity = 2, 6, 2, 8, 48
    keys, values, more = (torch.randn(batch, kv_heads, capacity, head_dim, device=DEVICE) for _ in range(3))
    for buffer in (keys, values, more):
        buffer[:, :, position:] = torch.nan  # nobody may read what no token has
    made = torch.randn(batch, (heads + 2 * kv_heads) * head_dim, device=DEVICE)
    angles = torch.rand(capacity, head_dim // 2, device=DEVICE).repeat(1, 2)
    of = newest.Heads(heads, kv_heads, head_dim, 0.3, angles.cos(), angles.sin())
    at = torch.tensor([position], device=DEVICE)
    split = newest.split_for(
        SMALL_BLOCKS, batch, kv_heads, heads // kv_heads, head_dim, capacity, keys.device, keys.dtype
    )
    out = torch.empty(batch, heads * head_dim, device=DEVICE)
    scores, log_sums = torch.empty(batch, heads, 64, device=DEVICE), torch.empty(batch, heads, device=DEVICE)
    newest.attend(made, keys, values, of, at, split, out, scores=scores, log_sums=log_sums)

    def turned(x):
        one, other = x.chunk(2, -1)
        return x * angles[position].cos() + torch.cat([-other, one], -1) * angles[position].sin()

    query, key, value = made.view(batch, -1, 1, head_dim).split([heads, kv_heads, kv_heads], 1)
    torch.testing.assert_close(keys[:, :, position], turned(key)[:, :, 0])
    torch.testing.assert_close(values[:, :, position], value[:, :, 0])
    end = position + 1
    weights = step_reference.attention_weights(turned(query), keys[:, :, :end], end, 0.3)
    expected = step_reference.weighted_values(weights, values[:, :, :end], end, torch.arange(heads))
    torch.testing.assert_close(out.view_as(expected), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close((scores[..., :end] - log_sums[..., None]).exp2(), weights[:, :, 0], rtol=1e-5, atol=1e-6)

    written = torch.empty(batch, heads, 64, device=DEVICE)
    order = torch.randperm(heads, device=DEVICE).to(torch.int32)
    for sources, extra in (
        (
            torch.arange(heads, dtype=torch.int32, device=DEVICE),
            {"scores": scores, "log_sums": log_sums, "writes": True},
        ),
        (order, {}),
        (order, {"scores": scores, "log_sums": log_sums}),
    ):
        made_values = torch.randn(batch, kv_heads * head_dim, device=DEVICE)
        newest.follow(made_values, more, of, at, split, out, sources, written, **extra)
        torch.testing.assert_close(more[:, :, position].flatten(1), made_values)
        expected = step_reference.weighted_values(weights, more[:, :, :end], end, sources.long())
        torch.testing.assert_close(out.view_as(expected), expected, rtol=1e-5, atol=1e-5)
    assert not split.arrived.any()  # ready for the next layer


@pytest.mark.parametrize(
    ("family", "settings", "plan", "batch"),
    [
        ("llama", {}, "", 1),
        ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}, "0-2", 2),
        ("qwen2", {}, "skip 1", 1),
        ("qwen3", {}, "keys 0-1", 2),
        ("qwen3", {"num_key_value_heads": 4}, "kv 1-2", 1),
        ("mistral", {"sliding_window": 4}, "1-2", 2),
    ],
    ids=str,
)
def test_steps_equal_the_models_own_forward(family, settings, plan, batch):
    decoder = assert_equal(share_attention(plain_model(family, **settings), plan), batch)
    own = Decoder(decoder.model)
    own.prefill(torch.ones(batch, 7, dtype=torch.long, device=DEVICE))
    if "sliding_window" not in settings:  # a ring keeps one token more
        assert decoder.cache_bytes == own.cache_bytes


def test_a_head_map_is_followed_before_and_after_the_weights_are_written():
    view = share_attention(plain_model(), "0-2", head_map={1: [3, 3, 0, 1]})
    assert_equal(view, 1, steps=1)
    assert_equal(share_attention(plain_model(), "0-2", head_map={2: [1, 0, 3, 2]}), 1, steps=1)


def test_after_a_restart_the_same_step_reads_another_prompt():
    view = share_attention(plain_model(), "0-1")
    decoder = assert_equal(view, 1, steps=1)
    decoder.restart()
    prompt = torch.tensor([[9, 8, 7]], device=DEVICE)
    first = decoder.prefill(prompt).argmax(-1)
    own = Decoder(view)
    assert torch.equal(first, own.prefill(prompt).argmax(-1))
    for _ in range(2):  # the second one reads what the first one chose in its place
        expected, first = own.step_greedily(first.clone()), decoder.step_greedily(first)
        assert torch.equal(first, expected)


def test_layers_of_several_stages_hand_the_stream_and_the_leaders_scores_on(monkeypatch):
    """Stages are of one device each; here all are of one, and begin at every layer as if they were not."""
    from core.decoding import plain_step

    def enter(step, device, stream):
        there = step._new_stream(device, stream.residual.shape[1], len(stream.squares))
        step.stages.append(plain_step.Stage(device, list(zip(there, stream, strict=True))))
        step.leading = {(layer, "elsewhere"): lead for (layer, _), lead in step.leading.items()}
        return there

    monkeypatch.setattr(plain_step.PlainStep, "_enter", enter)
    decoder = assert_equal(share_attention(plain_model(), "0-2"), 1)
    stages = decoder.plain.stages
    assert len(stages) == 5 and [len(stage.moves) for stage in stages] == [0, 3, 5, 5, 3]
    decoder.plain.stages[1].moves.clear()
    with pytest.raises(RuntimeError, match="apart from the model's own forward"):
        decoder._check_stages()


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: plain_model("gemma"), "not known"),
        (lambda: plain_model(hidden_act="gelu"), "GELU"),
        (
            lambda: plain_model(rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}),
            "however long",
        ),
        (lambda: plain_model().half(), "bfloat16"),
    ],
    ids=["another family", "another activation", "a rotation by length", "float16"],
)
def test_what_is_not_plain_says_why(model, reason):
    with pytest.raises(ValueError, match=reason):
        GraphDecoder(model(), 1, 8, plain=True)


def test_more_rows_than_skinny_products_take_are_refused():
    with pytest.raises(ValueError, match="32 rows"):
        GraphDecoder(plain_model(), 33, 8, plain=True)


def test_tiles_shrink_to_what_a_device_and_a_model_have_room_for(monkeypatch):
    monkeypatch.undo()
    wide = torch.empty(4, 8192)
    assert skinny.tile_of("down", 16, wide).splits == 2
    assert skinny.tile_of("down", 16, torch.empty(4, 96)) == skinny.Tile(64, 128, 1, 4, 4)
    assert skinny.tile_of("down", 1, wide).inputs == 1024  # float32: as many bytes
    launch = newest.Launch(block=128, warps=8, stages=3, programs=1)
    assert launch.within(128, torch.bfloat16, wide.device) == launch._replace(stages=3)
    assert launch.within(256, torch.float32, wide.device) == launch._replace(stages=2, block=32)
