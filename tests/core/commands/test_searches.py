"""Sweep, search, head-maps and similarity from the command line: what they say and what they store."""

import json

import numpy as np
import pytest

from core.damage.choices import HEAD_MAP_METHODS, SIMILARITY_METHODS
from core.damage.guide import guide_frame, rank_correlation
from core.damage.spans import sweep_frame
from core.records.correlations import correlations_in
from core.records.searches import load_searches, plans_of, searches_frame


def test_score_command_stores_the_scores_it_needs(command, folder, capsys):
    budget = ["--score-drop", "1", "--task", "demo_copy", "--limit", "2"]
    assert command("search", *budget, "--longest-span", "2", "--protect-first", "3") == 0
    said = capsys.readouterr().out
    assert "Plan 2-3,4-5" in said and "Score on demo_copy (limit=2): exact_match drops by 0.0000" in said
    stored_scores = sorted(path.parent.name for path in (folder / "results" / "tiny").glob("*/demo_copy+limit=2.json"))
    assert stored_scores == ["2-3,4-5", "dense"]  # of two sizes the larger is asked first, and it is affordable
    [(record, _)], _ = load_searches(folder / "results")
    assert record.settings["task"] == "demo_copy" and record.settings["score_drop"] == 1


def test_search_command_stores_a_record_and_says_both(command, folder, capsys):
    assert command("search", "--followers", "2", "--head-map", "most_similar") == 0
    said = capsys.readouterr().out
    assert "Predicted: saves 16.7% of the KV cache" in said and "on held-out text" in said
    [(record, points)], problems = load_searches(folder / "results")
    assert not problems and record.settings["followers"] == 2 and record.layer_evaluations > 0
    front = plans_of(points, "found")
    assert [found.followers for found in front] == [1, 2] and front[-1].head_map == points[1].head_map != {}
    assert plans_of(points, "chosen")[0].held_out.damage == points[-1].damage
    frame = searches_frame([(record, points)])
    assert set(frame["role"]) == {"found", "chosen", "contiguous"} and set(frame["split"]) >= {"held-out"}
    assert command("search", "--followers", "2", "--head-map", "most_similar") == 0
    [(again, same)], _ = load_searches(folder / "results")
    assert same == points and all(point.kl_stderr > 0 for point in points)
    assert again.layer_evaluations == 0  # all of it was in the journal


def test_sweep_command_checks_itself(command, folder, capsys):
    assert command("sweep", "--check-naive") == 0
    said = capsys.readouterr().out
    assert "15 spans" in said and "equal to the bit" in said
    [(record, points)], _ = load_searches(folder / "results")
    assert record.settings["largest_difference"] == 0 and len(points) == 15
    frame = sweep_frame(points)
    assert frame.damage.tolist() == [one.damage for one in points] and frame.finished.all()
    assert (frame.first.iloc[-1], frame["last"].iloc[-1], frame.followers.iloc[-1]) == (4, 5, 1)
    evaluations = record.layer_evaluations
    assert command("sweep", "--check-naive") == 0  # times nothing that a journal knows
    assert load_searches(folder / "results")[0][0][0].layer_evaluations == evaluations > 0


def test_sweep_of_a_shape_has_random_weights_and_tokens(command, folder, capsys, monkeypatch):
    fields = {"model_type": "llama", "num_hidden_layers": 4, "hidden_size": 32, "intermediate_size": 48}
    fields |= {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 61}
    monkeypatch.setattr("core.models.known_config", lambda name: ("Small", fields) if name == "small" else None)
    arguments = ["--shape", "small", "--chunk-tokens", "64", "--batch-tokens", "256", "--naive-sample", "2"]
    assert command("sweep", *arguments, "--dtype", "bfloat16", model=None) == 0
    assert "naive loop (from 2 spans)" in capsys.readouterr().out
    [(record, points)], _ = load_searches(folder / "results")
    assert (record.model, record.dtype, record.num_layers) == ("Small-random", "bfloat16", 4)
    assert len(points) == 6 and record.texts["calibration"].chunks == 8 and record.settings["naive_spans"] == 2


def test_head_maps_command_compares_all_methods(command, folder, capsys):
    assert command("head-maps", "--plan", "1-3", "--plan", "4-5") == 0
    said = capsys.readouterr().out
    assert said.count("Plan ") == 2 and said.count("most_similar") == 2
    records, _ = load_searches(folder / "results")
    assert [record.name for record, _ in records] == ["head-maps+1-3", "head-maps+4-5"]
    damages = {(p.role, p.split): p.damage for p in records[0][1]}
    assert {role for role, _ in damages} == set(HEAD_MAP_METHODS) and len(damages) == 2 * len(HEAD_MAP_METHODS)
    assert damages["damage", "calibration"] == min(d for (_, split), d in damages.items() if split == "calibration")


def test_similarity_command_prints_the_matrix(command, folder, capsys):
    assert command("similarity", "--format", "json") == 0
    assert np.diag(json.loads(capsys.readouterr().out)["similarity"]) == pytest.approx(1, abs=1e-5)
    assert command("similarity") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "layer,0,1,2,3,4,5" and len(lines) == 7
    assert command("similarity", "--against-damage") == 0
    assert "ρ = " in capsys.readouterr().out
    [(record, pairs)], _ = load_searches(folder / "results")
    frame = guide_frame(pairs)
    assert [str(pair.plan) for pair in pairs[:6]] == ["0>1", "0>2", "0>3", "0>4", "0>5", "1>2"]
    assert len(frame) == 15 and {"leader", "follower", "damage", "stderr", *SIMILARITY_METHODS} == set(frame.columns)
    assert correlations_in(record) == [rank_correlation(frame, method) for method in SIMILARITY_METHODS]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("search", "--followers", "0"), "more than 0"),
        (("search", "--cache-saved", "0.7"), "less than half"),
        (("search", "--followers", "2", "--beam", "0"), "beam is 0"),
        (("search", "--score-drop", "0.1"), "belong together"),
        (("search", "--followers", "2", "--task", "demo_copy"), "belong together"),
        (("search", "--followers", "2", "--text", "nowhere.txt"), "nowhere.txt"),
        (("sweep", "--longest-span", "1"), "2 or more"),
        (("sweep", "--naive-sample", "0"), "1 or more"),
        (("sweep", "--chunk-tokens", "1000"), "--tokens must be at least --chunk-tokens"),
        (("sweep", "--shape", "llama-3-8b"), "leave out --model"),
    ],
)
def test_bad_input_is_one_line(command, folder, capsys, arguments, reason):
    assert command(*arguments) == 2
    error = capsys.readouterr().err
    assert reason in error and error.count("\n") == 1 and "Traceback" not in error
