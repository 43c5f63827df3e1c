"""The decode step that How it works draws: its numbers are those of core.cost, for every model and plan."""

import re
from dataclasses import replace

import pytest

from app import text, units
from app.components.step_layer import layer_drawing
from app.components.step_rows import rows
from app.panels import how, how_html
from app.step import BATCH, CacheTerm, Step, layers_in_words
from core.cost import ModelShape, known_shapes, kv_cache_bytes, step_by_layer
from core.plan import MECHANISMS, SharingPlan
from tests.support.families import make
from tests.support.page import Words

SHAPES = known_shapes()
GEMMA = ModelShape.from_config(
    {
        "model_type": "gemma3_text", "hidden_size": 1152, "intermediate_size": 6912, "num_hidden_layers": 26,
        "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 262144, "sliding_window": 512,
        "max_position_embeddings": 32768,
    }
)  # fmt: skip
"""Five layers with a window, then one without, and so on."""


def step_of(shape: ModelShape | str, plan: str = "", context: int = 1024, **more) -> Step:
    shape = SHAPES[shape] if isinstance(shape, str) else shape
    return Step(shape, SharingPlan.parse(plan, shape.num_layers), context, "bfloat16", **more)


def drawn(step: Step) -> list[tuple]:
    """(how often, [(role, layers)]) of every block."""
    return [(block.times, [(row.role, layers_in_words(row.layers)) for row in block.rows]) for block in step.blocks()]


def test_equal_layers_stand_in_one_row():
    assert drawn(step_of("Llama-3-8B", "17-22")) == [
        (1, [("dense", "0–16")]), (1, [("leader", "17")]), (1, [("follower", "18–22")]), (1, [("dense", "23–31")]),
    ]  # fmt: skip
    assert drawn(step_of("Llama-3-8B")) == [(1, [("dense", "0–31")])]


def test_patterns_that_repeat_stand_once():
    pairs = ",".join(f"{layer}-{layer + 1}" for layer in range(0, 32, 2))
    step = step_of("Llama-3-8B", pairs)
    assert drawn(step) == [(16, [("leader", "0, 2 … 30"), ("follower", "1, 3 … 31")])]
    assert step.blocks()[0].rows[1].leaders == tuple(range(0, 32, 2))
    assert drawn(step_of(GEMMA))[0] == (4, [("dense", "0–4, 6–10, 12–16, 18–22"), ("dense", "5, 11, 17, 23")])


def test_a_pattern_is_not_cut_from_a_leader_outside_of_it():
    crossing = step_of("Llama-3-8B", "2-4-6,3-5-7")
    assert [times for times, _ in drawn(crossing)] == [1] * 8
    assert drawn(step_of("Llama-3-8B", "0-3,4-7,8-10"))[:2] == [
        (2, [("leader", "0, 4"), ("follower", "1–3, 5–7")]), (1, [("leader", "8")]),
    ]  # fmt: skip


@pytest.mark.parametrize("name", [*SHAPES, "gemma"])
@pytest.mark.parametrize("plan", ["", "2-4", "0_6,1-2,7_13"])
def test_every_layer_is_drawn_once_with_its_own_cost(name, plan):
    step = step_of(GEMMA if name == "gemma" else name, plan)
    costs = step_by_layer(step.shape, step.plan, 1, 1024, 2)
    seen = []
    for row in [row for block in step.blocks() for row in block.rows]:
        seen += row.layers
        for layer in row.layers:
            role = "leader" if layer in step.plan.leaders else "follower" if layer in step.plan.followers else "dense"
            assert (row.role, row.window, row.cost) == (role, step.shape.sliding_windows[layer], costs[layer])
        if row.role == "follower":
            assert {step.plan.leader_of(layer) for layer in row.layers} == set(row.leaders)
    assert sorted(seen) == list(range(step.shape.num_layers))


@pytest.mark.parametrize("name", [*SHAPES, "gemma"])
def test_the_numbers_on_the_page_are_those_of_the_formulas(name):
    step = step_of(GEMMA if name == "gemma" else name, "2-4")
    words = Words(how_html.drawing(step)).words
    shared, dense = step.totals(step.plan), step.totals("")
    for total in (shared, dense):
        for value, unit in ((total.flops.total, "FLOPs"), (total.moved.total, "bytes"), (total.cache_bytes, "bytes")):
            assert units.amount(value, unit) in words
    for cost in (step.costs[0], step.costs[2], step.costs[3]):
        assert units.amount(cost.flops.total, "FLOPs") in words and units.amount(cost.moved.total, "bytes") in words
        assert f"{units.amount(cost.cache_bytes_per_token, 'bytes')} a token" in words
    assert units.percent((dense.flops.total - shared.flops.total) / dense.flops.total) in words


def worked_out(numbers: str) -> float:
    """The left side of `2 × 3 B × (4 + 1,024) = …`, worked out."""
    left = numbers.partition("=")[0].replace(",", "").replace(" B", "").replace("×", "*")
    assert re.fullmatch(r"[\d *+()]+", left)
    return eval(left)


@pytest.mark.parametrize("name", [*SHAPES, "gemma"])
@pytest.mark.parametrize("plan", ["", "2-4"])
@pytest.mark.parametrize("context", [16, 600, 9000])
def test_formulas_with_numbers_come_to_what_is_counted(name, plan, context):
    step = step_of(GEMMA if name == "gemma" else name, plan, context)
    held = kv_cache_bytes(step.shape, step.plan, 1, context, 2)
    assert worked_out(how_html.cache_numbers(step)) == held
    assert how_html.cache_numbers(step).endswith(units.amount(held, "bytes"))
    layer = step.plan.followers[0] if step.plan.followers else 0
    follows = step_by_layer(step.shape, f"{layer - 1 if layer else 0}-{layer or 1}", 1, context, 2)[layer or 1]
    alone = step_by_layer(step.shape, "", 1, context, 2)[layer or 1]
    saved = alone.flops.total - follows.flops.total
    assert worked_out(how_html.saved_numbers(step)) == how_html.saved_flops(step, layer) == saved


def test_the_cache_is_added_up_by_kinds_of_layers():
    assert step_of(GEMMA, "0-1", 1024).cache_terms == [
        CacheTerm(4, 2, 1024), CacheTerm(21, 2, 511), CacheTerm(1, 1, 511),
    ]  # fmt: skip


def test_a_leader_hands_over_and_a_follower_has_no_queries_and_keys():
    step = step_of("Llama-3-8B", "17-22")
    leader, follower = layer_drawing(step, 17, "leader"), layer_drawing(step, 18, "follower")
    assert "4096×4096" in leader and "4096×1024" in leader and "q 32×128" in leader and "k 8×128" in leader
    assert follower.count('class="gone"') == 4 and "q 32×128" not in follower and "k 8×128" not in follower
    assert "weights of layer 17" in follower and "v 8×128" in follower and "T×8×128" in follower
    assert units.amount(step.costs[17].flops.scores + step.costs[17].flops.softmax, "FLOPs") in leader
    for drawing in (leader, follower):
        assert 'role="img"' in drawing and "WO" in Words(drawing).words


MIXED = "19-22,skip 5 18,kv 8-11,keys 1-3,topk32 12-14"


def test_layers_of_other_mechanisms_stand_in_rows_with_what_they_have():
    step = step_of("Llama-3-8B", MIXED)
    roles = {layer: row.role for block in step.blocks() for row in block.rows for layer in row.layers}
    assert [roles[layer] for layer in (0, 1, 2, 5, 8, 9, 12, 13, 19, 20)] == [
        "dense", "read", "keys", "skip", "read", "kv", "leader", "topk", "leader", "follower",
    ]  # fmt: skip
    costs = step_by_layer(step.shape, step.plan, 1, 1024, 2)
    assert all(row.cost == costs[layer] for block in step.blocks() for row in block.rows for layer in row.layers)
    words = Words(rows(step)).words
    assert "skips attention: x passes on to its MLP" in words and "each reads the keys and values of layer 8" in words
    assert "each looks at 32 places chosen by layer 12" in words and "32×32" in words
    assert rows(step).count('class="end"') == 4  # a line for each leader
    assert step.cache_terms == [CacheTerm(32 - 2 - 3 - 2 - 3, 2, 1024), CacheTerm(5, 1, 1024)]
    assert worked_out(how_html.cache_numbers(step)) == kv_cache_bytes(step.shape, step.plan, 1, 1024, 2)


def test_each_mechanism_of_a_plan_is_enlarged():
    step = step_of("Llama-3-8B", MIXED)
    words = Words(how_html.drawing(step)).words
    for heading, _ in text.HOW_PARTS_ENLARGED.values():
        assert heading in words
    assert (
        "keys and values of layer\u00a08" in words
        and "32 places of layer\u00a012" in words
        and text.HOW_PAIR_HEADING in words
    )
    skipped, reader = layer_drawing(step, 5, "skip"), layer_drawing(step, 9, "kv")
    assert skipped.count('class="gone"') == 9 and "x passes on as it is" in skipped
    assert reader.count(">of layer 8<") == 2 == reader.count('class="gone"')  # two caches, two projections
    assert layer_drawing(step, 2, "keys").count('class="gone"') == 1
    chosen = layer_drawing(step, 13, "topk")
    assert 'class="gone"' not in chosen and "32×32" in chosen
    assert text.HOW_PAIR_HEADING not in Words(how_html.drawing(step_of("Llama-3-8B", "skip 5"))).words


def test_what_a_layer_does_under_each_mechanism_is_told_in_words():
    told = Words(how_html.mechanisms()).words
    assert all(title in told for title, _, _ in text.HOW_MECHANISMS.values()) and set(text.HOW_MECHANISMS) == set(
        MECHANISMS
    )


def test_windows_experts_and_head_maps_are_in_the_drawing():
    windowed = Words(how_html.drawing(step_of(GEMMA, "0-1", 1024))).words
    assert "looks back 512 tokens" in windowed and "W = 512" in windowed and "norms on queries and keys" in windowed
    assert "W = 512" not in Words(how_html.drawing(step_of(GEMMA, "0-1", 512))).words
    mixed = Words(how_html.drawing(step_of("Qwen3-30B-A3B", "3-5"))).words
    assert "8 of 128 experts" in mixed and "router 2048×128" in mixed and "each expert 3×2048×768" in mixed
    some_plain = replace(SHAPES["Qwen3-30B-A3B"], experts=replace(SHAPES["Qwen3-30B-A3B"].experts, layers=(3, 4, 5)))
    assert [found for _, [found] in drawn(step_of(some_plain))] == [
        ("dense", "0–2"),
        ("dense", "3–5"),
        ("dense", "6–47"),
    ]
    mapped = how_html.drawing(step_of("SmolLM2-135M", "5-6", head_map={6: (3, 0, 1, 2, 4, 5, 6, 7, 8)}))
    assert "head 0 reads leader head 3" in Words(mapped).words and "heads mapped" in Words(mapped).words
    assert text.HOW_HEADS_HEADING not in Words(how_html.drawing(step_of("SmolLM2-135M", "5-6"))).words


def test_a_dense_plan_is_one_layer_and_a_hint():
    words = Words(how_html.drawing(step_of("Llama-3-8B"))).words
    assert text.HOW_DENSE in words and "reuses" not in Words(rows(step_of("Llama-3-8B"))).words
    assert text.HOW_ONE_HEADING in words and text.HOW_PAIR_HEADING not in words


def test_lines_that_run_side_by_side_have_lanes_of_their_own():
    side_by_side = rows(step_of("Llama-3-8B", "2-4-6,3-5-7"))
    assert "--lanes: 2" in side_by_side and side_by_side.count('class="start"') == 2
    assert side_by_side.count('class="pass"') == 4 and side_by_side.count('class="end"') == 2
    assert "--lanes: 1" in rows(step_of("Llama-3-8B", "2-4,6-8"))


def test_the_panel_draws_the_view_and_fits_the_context(view):
    context, error, drawing = how.follow_view(view, 4096, "float32")
    assert error == "" and context["value"] == context["maximum"] == 128
    assert "Layers 3–4" in Words(drawing).words and "T = 128" in Words(drawing).words
    assert how.draw({**view, "plan": "4-9"}, 64, "float32")[0].startswith('<p class="error"')


def test_a_tuned_model_is_drawn_with_the_plan_that_it_was_tuned_with():
    step = how.step_of({"model": "demo-tuned-17-22", "plan": "2-3"}, 64, "bfloat16")
    assert str(step.plan) == "17-22"


def test_heads_of_the_view_are_drawn(view):
    step = how.step_of({**view, "heads": '{"3": [1, 0, 3, 2]}'}, 64, "bfloat16")
    assert step.head_map == {3: (1, 0, 3, 2)}


@pytest.mark.parametrize("family", ["gemma3n_text", "gemma4_text"])
def test_layers_that_read_others_by_themselves_are_rows_of_readers(family):
    shape = ModelShape.from_config(make(family, "eager").config)
    step = step_of(shape, "0_2,skip 9,topk3 8_10", 64)
    roles = {layer: row.role for block in step.blocks() for row in block.rows for run in row.runs for layer in run}
    assert [roles[layer] for layer in (0, 2, 6, 8, 9, 10, 11)] == [
        "leader", "follower", "dense", "leader", "skip", "topk", "kv",
    ]  # fmt: skip
    assert "Layer 11, a reader of layer 7" in layer_drawing(step, 11, "kv")
    per_row = [term.values or shape.kv_size for term in step.cache_terms]
    held = sum(
        term.layers * term.tensors * term.tokens * values
        for term, values in zip(step.cache_terms, per_row, strict=True)
    )
    assert BATCH * 2 * held == step.totals(step.plan).cache_bytes
    told = how_html.cache_numbers(step)
    assert ("× 64 × 40" in told) == (family == "gemma4_text") and ("B × 2 × 12 ×" in told) == (family == "gemma3n_text")
