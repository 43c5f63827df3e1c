"""The small copy of the layer strip."""

import re

from app.components.mini_strip import mini_strip
from app.panels.scores_html import score_table
from core.plan import SharingPlan
from core.records.scores import to_frame
from tests.support.page import score_record


def test_each_layer_is_drawn_once_in_its_role():
    drawn = mini_strip(SharingPlan.parse("2-4-6,17-22", 24))
    assert 'role="img" aria-label="Layer 2 computes, 4 and 6 reuse; layer 17 computes, 18–22 reuse.' in drawn
    tiles: dict[str, list[int]] = {}
    for role, path in re.findall(r'class="(dense|leader|shared)" d="([^"]*)"', drawn):
        tiles.setdefault(role, []).extend(int(x) // 6 for x in re.findall(r"M(\d+) ", path))
    assert tiles["leader"] == [2, 17] and tiles["shared"] == [4, 6, 18, 19, 20, 21, 22]
    assert sorted(layer for layers in tiles.values() for layer in layers) == list(range(24))
    assert 'class="leader"' not in mini_strip(SharingPlan.parse("", 24))


def test_layers_that_skip_are_lines():
    drawn = mini_strip(SharingPlan.parse("2-4,skip 6 7", 9))
    assert 'aria-label="Layer 2 computes, 3–4 reuse.' in drawn and "Layers 6–7 skip attention" in drawn
    assert '<path class="skipped" d="M36 10h5V12h-5zM42 10h5V12h-5z"/>' in drawn


def test_the_table_of_scores_draws_every_plan():
    rows = to_frame([score_record(plan, "copy", "exact_match", 0.5) for plan in ("", "2-3")])
    table = score_table(rows.assign(worse="", saved_percent=0.0, p_value=float("nan")))
    assert table.count("<svg") == 2 and table.count('class="leader"') == 1


def test_layers_that_read_and_those_that_are_read_are_told_apart():
    drawn = mini_strip(SharingPlan.parse("kv 1-3,topk8 5_7", 9))
    assert [f'class="{role}"' in drawn for role in ("read", "reads", "shared", "leader", "skipped")] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert '<path class="reads" d="M12 2h5V12h-5zM18 2h5V12h-5z"/>' in drawn
