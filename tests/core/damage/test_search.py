"""Sweep and search: the right plans, in the right order, the same ones again; and their records and commands."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

import core
import core.damage.spans as sweep_module
from core.commands.session import CONTEXT_TOKENS, cache_saving
from core.cost import ModelShape, kv_cache_bytes
from core.damage.guide import (
    SIMILARITY_METHODS,
    RankCorrelation,
    guide_frame,
    pair_damages,
    rank_correlation,
    stored_guide,
)
from core.damage.head_maps import HEAD_MAP_METHODS as HEAD_MAPS
from core.damage.head_maps import HeadMapper
from core.damage.runner import Damage, DamageMeter, label, roles_of
from core.damage.search import (
    SEARCH_METHODS,
    Budget,
    Constraints,
    Found,
    SearchProgress,
    Suggestion,
    combine_spans,
    contiguous_spans,
    largest_affordable,
    plan_of_followers,
    search,
    stored,
    suggest,
)
from core.damage.spans import check_against_naive, stored_sweep, sweep, sweep_frame
from core.damage.texts import (
    CALIBRATION_TOKENS,
    HELD_OUT_TOKENS,
    Text,
    bundled_documents,
    calibration_texts,
    documents_of,
    read_documents,
)
from core.models import BUNDLED
from core.plan import SharingPlan
from core.records.searches import Journal, load_searches, save_search, searches_frame

LAYERS = 6


def text(seed: int = 0, chunks: int = 2, length: int = 10) -> Text:
    rng = np.random.default_rng(seed)
    return Text(tuple(tuple(map(int, rng.integers(1, 97, length))) for _ in range(chunks)), first=0)


def meters(model, journal=None) -> tuple[DamageMeter, DamageMeter]:
    return tuple(DamageMeter(model, text(seed), journal=journal) for seed in (0, 1))


def last_front(meter, *args, **kwargs):
    *_, last = search(meter, *args, **kwargs)
    return last.front


def all_damages(model, sample, possible=range(1, LAYERS)):
    """Every plan on the text: small models have few."""
    sets = [c for size in range(1, LAYERS) for c in itertools.combinations(possible, size)]
    plans = [plan_of_followers(followers, LAYERS) for followers in sets]
    damages = DamageMeter(model, sample).measure(map(roles_of, plans))
    return {plan: damages[roles_of(plan)].mean for plan in plans}


def test_followers_make_a_plan():
    assert str(plan_of_followers({2, 3, 5}, 6)) == "1-3,4-5"
    assert plan_of_followers([], 6) == SharingPlan((), 6)
    for followers in itertools.chain.from_iterable(itertools.combinations(range(1, 6), n) for n in range(6)):
        assert plan_of_followers(followers, 6).followers == followers


def test_the_cache_saved_is_that_of_the_formulas_and_half_a_layer_where_sizes_are_not_known(tiny_model, monkeypatch):
    model, plan = tiny_model("qwen2-mixed"), SharingPlan.parse("3-5", LAYERS)  # layers 3 to 5 keep a window only
    shape = ModelShape.from_config(model.config)
    dense, shared = (kv_cache_bytes(shape, text, 1, CONTEXT_TOKENS) for text in ("", "3-5"))
    assert cache_saving(model, plan) == 1 - shared / dense < 2 / 12

    def unknown(config):
        raise ValueError("not known")

    monkeypatch.setattr(ModelShape, "from_config", unknown)
    assert cache_saving(model, plan) == pytest.approx(2 / 12)


def test_sweep_is_each_spans_damage_and_can_be_stopped(tiny_model):
    model, sample = tiny_model(), text()
    meter = DamageMeter(model, sample, batch_tokens=10)
    cells = list(sweep(meter))
    frame = sweep_frame(cells)
    damages = all_damages(model, sample)
    assert [(c.first, c.last) for c in cells[:15]] != [] and len(cells) == 2 * 15 and len(frame) == 15
    for row in frame.itertuples():
        assert row.damage == pytest.approx(damages[SharingPlan(((row.first, row.last),), LAYERS)], abs=1e-6)
        assert row.finished and row.kl > 0 and row.followers == row.last - row.first
    stopped = sweep_frame(itertools.islice(sweep(DamageMeter(model, sample, batch_tokens=10)), 17))
    assert len(stopped) == 15 and stopped["tokens"].value_counts().to_dict() == {10: 13, 20: 2}


def test_sweep_equals_the_naive_loop_to_the_bit(tiny_model):
    meter = DamageMeter(tiny_model("qwen3"), text(), batch_tokens=10)
    seen = []
    check = check_against_naive(meter, show=lambda *step: seen.append(step))
    assert check.largest_difference == 0 and check.sweep_s > 0 and check.naive_s > 0
    assert check.naive_spans == check.spans == 15 and seen == [(1, 2), (2, 2)]
    meter = DamageMeter(tiny_model("qwen3"), text())
    list(sweep(meter))
    name = next(iter(meter.known[0]))
    meter.known[0][name] = meter.known[0][name] + 1e-6
    assert check_against_naive(meter).largest_difference == pytest.approx(1e-6, rel=0.1)


def test_a_sample_of_the_naive_loop_is_spread_and_scaled(tiny_model, monkeypatch):
    ran, clock = [], itertools.count()
    original = sweep_module.naive_loop
    monkeypatch.setattr(
        sweep_module, "naive_loop", lambda m, views, n: (ran.append(list(views)), original(m, views, n))[1]
    )
    monkeypatch.setattr(sweep_module.time, "perf_counter", lambda: float(next(clock)))
    check = check_against_naive(DamageMeter(tiny_model(), text()), sample=3)
    assert ran == [[(0, 3), (1, 4), (3, 4)]]
    assert (check.sweep_s, check.naive_s, check.naive_spans, check.spans) == (1, 16 / 4, 3, 15)
    with pytest.raises(ValueError, match="1 or more"):
        check_against_naive(DamageMeter(tiny_model(), text()), sample=0)


def test_greedy_adds_the_follower_that_harms_least(tiny_model):
    model, sample = tiny_model(), text()
    damages, followers = all_damages(model, sample), frozenset()
    for found in last_front(DamageMeter(model, sample), Budget(followers=5), method="greedy", beam=1):
        grown = [followers | {layer} for layer in range(1, LAYERS) if layer not in followers]
        followers = min(grown, key=lambda f: damages[plan_of_followers(f, LAYERS)])
        assert found.plan == plan_of_followers(followers, LAYERS)
        assert found.cache_saving == pytest.approx(len(followers) / (2 * LAYERS))


@pytest.mark.parametrize("method", SEARCH_METHODS)
def test_a_beam_as_wide_as_the_level_finds_the_best_plan_of_each_size(tiny_model, method):
    model, sample = tiny_model(seed=3), text()
    damages = all_damages(model, sample)
    for found in last_front(DamageMeter(model, sample), Budget(followers=5), method=method, beam=100):
        size = len(found.plan.followers)
        assert found.plan == min((p for p in damages if len(p.followers) == size), key=damages.get)


@pytest.mark.parametrize("seed", range(3))
def test_combined_spans_have_the_least_sums(seed):
    rng = np.random.default_rng(seed)
    spans = [(a, b) for a in range(LAYERS) for b in range(a + 1, LAYERS)]
    damages = dict(zip(spans, rng.normal(size=len(spans))))
    sets = [c for size in range(1, LAYERS) for c in itertools.combinations(range(1, LAYERS), size)]
    plans = [plan_of_followers(followers, LAYERS).spans for followers in sets]
    for size, found in enumerate(combine_spans(damages, LAYERS, keep=3), start=1):
        sums = sorted(sum(damages[s] for s in p) for p in plans if sum(b - a for a, b in p) == size)
        assert [total for total, _ in found] == pytest.approx(sums[:3])
        assert all(total == pytest.approx(sum(damages[s] for s in p)) for total, p in found)


def test_every_plan_is_searched_with_its_head_map(tiny_model):
    model, sample = tiny_model(seed=3), text()
    mapper = HeadMapper(model, sample, "most_similar")
    sets = [c for size in range(1, LAYERS) for c in itertools.combinations(range(1, LAYERS), size)]
    plans = {roles_of(plan, mapper(plan)): plan for plan in (plan_of_followers(c, LAYERS) for c in sets)}
    damages = {plans[roles]: d.mean for roles, d in DamageMeter(model, sample).measure(plans).items()}
    for found in last_front(DamageMeter(model, sample), Budget(followers=5), beam=100, mapper=mapper):
        assert found.plan == min((p for p in damages if len(p.followers) == found.followers), key=damages.get)
        assert found.head_map == mapper(found.plan) and found.damage.mean == pytest.approx(damages[found.plan])


@pytest.mark.parametrize("method", SEARCH_METHODS)
def test_constraints_hold_in_every_plan(tiny_model, method):
    constraints = Constraints(protect_first=2, protect_last=1, longest_span=2)
    front = last_front(DamageMeter(tiny_model(), text()), Budget(followers=5), constraints, method)
    assert [len(found.plan.followers) for found in front] == [1, 2]  # of layers 2, 3 and 4 no two in a row
    assert all(set(found.plan.followers) <= {2, 3, 4} for found in front)
    assert {str(p) for p in contiguous_spans(tiny_model(), constraints)} == {"1-2", "2-3", "3-4"}


def test_only_layers_of_one_kind_share(tiny_model):
    model = tiny_model("qwen2-mixed")  # layers 0 to 2 see everything, 3 to 5 a window
    assert {str(p) for p in contiguous_spans(model)} == {"0-1", "0-2", "1-2", "3-4", "3-5", "4-5"}
    front = last_front(DamageMeter(model, text()), Budget(followers=5))
    assert front[-1].plan.followers == (1, 2, 4, 5)


def test_budgets_stop_the_search_and_choose():
    with pytest.raises(ValueError, match="one budget"):
        Budget()
    with pytest.raises(ValueError, match="one budget"):
        Budget(followers=1, damage=0.1)
    with pytest.raises(ValueError, match="less than half"):
        Budget(cache_saving=0.5)
    with pytest.raises(ValueError, match="more than 0"):
        Budget(followers=0)


def test_a_damage_budget_buys_the_most_followers_within_it(tiny_model):
    front = [
        Found(plan_of_followers(range(1, size + 1), LAYERS), Damage(mean, 0.01, 0.0, 0.0, 100), size / 12)
        for size, mean in ((1, 0.02), (2, 0.05), (3, 0.04), (4, 0.3))  # a larger plan may harm less
    ]
    assert [Budget(damage=0.05).enough(found) for found in front] == [False, False, False, True]
    assert [Budget(damage=limit).choose(front) for limit in (0.01, 0.03, 0.045)] == [None, front[0], front[2]]
    *_, suggestion = suggest(meters(tiny_model()), Budget(damage=100))
    assert suggestion.chosen.plan.followers == (1, 2, 3, 4, 5)  # there is nothing more to share
    with pytest.raises(ValueError, match="No plan fits"):
        list(suggest(meters(tiny_model()), Budget(followers=2), constraints=Constraints(protect_last=LAYERS)))


def test_a_saving_budget_takes_the_first_plan_that_is_enough(tiny_model):
    *_, suggestion = suggest(meters(tiny_model()), Budget(cache_saving=0.2))
    assert len(suggestion.chosen.plan.followers) == 3 and suggestion.chosen.cache_saving == pytest.approx(0.25)


def test_a_score_budget_buys_the_largest_plan_that_keeps_to_it():
    front = [
        Found(plan_of_followers(range(1, size + 1), LAYERS), Damage(0.1, 0.01, 0.0, 0.0, 100), size / 12)
        for size in range(1, LAYERS)
    ]
    asked = []

    def drop_of(plan, head_map):
        asked.append(plan)
        return [None, 0.0, 0.01, 0.03, 0.2, 0.5][len(plan.followers)]

    for limit, size in ((-1, None), (0.0, 1), (0.02, 2), (0.03, 3), (0.4, 4), (1, 5)):
        asked.clear()
        found = largest_affordable(front, drop_of, limit)
        assert (found and found.followers) == size and len(asked) <= 3


def test_score_command_stores_the_scores_it_needs(folder, capsys):
    budget = ["--score-drop", "1", "--task", "demo_copy", "--limit", "2"]
    assert command(folder, "search", *budget, "--longest-span", "2", "--protect-first", "3") == 0
    said = capsys.readouterr().out
    assert "Plan 2-3,4-5" in said and "Score on demo_copy (limit=2): exact_match drops by 0.0000" in said
    stored_scores = sorted(path.parent.name for path in (folder / "results" / "tiny").glob("*/demo_copy+limit=2.json"))
    assert stored_scores == ["2-3,4-5", "dense"]  # of two sizes the larger is asked first, and it is affordable
    [(record, _)], _ = load_searches(folder / "results")
    assert record.settings["task"] == "demo_copy" and record.settings["score_drop"] == 1


def test_suggestion_judges_on_the_held_out_text(tiny_model):
    model, texts = tiny_model(), (text(0), text(1))
    *steps, suggestion = suggest(meters(model), Budget(followers=2), head_map="damage")
    assert isinstance(suggestion, Suggestion) and all(isinstance(step, SearchProgress) for step in steps)
    chosen, direct = suggestion.chosen, suggestion.direct
    for found in (chosen, direct):
        roles = roles_of(found.plan, found.head_map)
        assert found.held_out == DamageMeter(model, texts[1]).measure([roles])[roles]
        assert found.damage == DamageMeter(model, texts[0]).measure([roles])[roles]
    assert (direct.plan, direct.head_map) == (chosen.plan, {}) and chosen.damage.mean <= direct.damage.mean
    [contiguous] = suggestion.contiguous
    assert len(contiguous.plan.spans) == 1 and contiguous.followers == 2 and contiguous.held_out.tokens == 20


def test_the_whole_front_stands_beside_the_best_spans(tiny_model):
    model, sample = tiny_model(), text()
    *_, suggestion = suggest(meters(model), Budget(followers=4), whole_front=True)
    damages = all_damages(model, sample)
    assert (
        [found.followers for found in suggestion.front] == [1, 2, 3, 4] == [f.followers for f in suggestion.contiguous]
    )
    for found in suggestion.contiguous:
        spans = [p for p in damages if len(p.spans) == 1 and len(p.followers) == found.followers]
        assert found.plan == min(spans, key=damages.get)
    assert all(found.held_out.tokens == 20 for found in (*suggestion.front, *suggestion.contiguous))


def test_a_stopped_search_goes_on_and_finds_the_same(tiny_model, tmp_path):
    model, budget = tiny_model(), Budget(followers=3)
    stopped = suggest(meters(model, Journal(tmp_path, "weights")), budget)
    for _ in range(9):
        next(stopped)
    stopped.close()
    *_, resumed = suggest(meters(model, Journal(tmp_path, "weights")), budget)
    *_, fresh = suggest(meters(model), budget)
    assert resumed.chosen == fresh.chosen
    assert resumed.layer_evaluations < fresh.layer_evaluations
    other = DamageMeter(model, text(), journal=Journal(tmp_path, "other weights"))
    assert not any(other.known)


# Texts


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(BUNDLED["demo"])


def test_bundled_texts_are_disjoint_and_the_seed_decides(tokenizer):
    assert [t.num_tokens for t in calibration_texts(tokenizer)] == [CALIBRATION_TOKENS, HELD_OUT_TOKENS]
    sizes = {"tokens": 2048, "held_out_tokens": 1024}
    chosen, held_out = calibration_texts(tokenizer, **sizes)
    assert (chosen.num_tokens, held_out.num_tokens) == (2048, 1024)
    assert (chosen.sha256, held_out.sha256) == tuple(t.sha256 for t in calibration_texts(tokenizer, **sizes))
    assert chosen.sha256 != calibration_texts(tokenizer, **sizes, seed=1)[0].sha256
    opening = [d[:40] for d in bundled_documents()[::2]]  # of passages, not of exercises
    words = [tokenizer.decode([i for chunk in t.chunks for i in chunk]) for t in (chosen, held_out)]
    used = [{o for o in opening if o in w} for w in words]
    assert used[0] and used[1] and not used[0] & used[1]


def test_a_short_text_is_shared_in_proportion(tokenizer, tmp_path):
    documents = documents_of("\n\n".join(f"Number {i} is a short document about the sea." for i in range(200)))
    assert len(documents) == 200
    chosen, held_out = calibration_texts(
        tokenizer, documents, tokens=30000, held_out_tokens=10000, chunk_tokens=64
    )  # fmt: skip
    assert chosen.num_tokens == pytest.approx(3 * held_out.num_tokens, rel=0.1)
    with pytest.raises(ValueError, match="give a longer text"):
        calibration_texts(tokenizer, ["Too short."])
    file = tmp_path / "text.txt"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="UTF-8"):
        read_documents(file)


# Similarity as a guide


def test_rank_correlation_is_spearmans_and_its_interval_holds_it(tiny_model):
    model, sample = tiny_model(), text()
    damages = list(pair_damages(DamageMeter(model, sample)))
    matrix = np.random.default_rng(0).random((LAYERS, LAYERS))
    frame = guide_frame(damages, {"head_mean": matrix})
    assert len(frame) == 15
    found = rank_correlation(frame, "head_mean")
    assert found.rho == pytest.approx(spearmanr(frame["head_mean"], frame["damage"]).statistic)
    assert -1 <= found.low <= found.rho <= found.high <= 1 and found == rank_correlation(frame, "head_mean")
    perfect = frame.assign(head_mean=-frame["damage"])
    assert rank_correlation(perfect, "head_mean").rho == pytest.approx(-1)
    assert "less damage" in rank_correlation(perfect, "head_mean").describe()
    assert "poor guide" not in rank_correlation(perfect, "head_mean").describe()
    assert "poor guide" in RankCorrelation("head_mean", -0.15, -0.29, -0.04, 276).describe()
    assert "less damage" not in rank_correlation(frame.assign(head_mean=frame["damage"]), "head_mean").describe()


# Commands and records


@pytest.fixture
def folder(tiny_model, tokenizer, tmp_path):
    tiny_model(vocab_size=len(tokenizer)).save_pretrained(tmp_path / "tiny")
    tokenizer.save_pretrained(tmp_path / "tiny")
    return tmp_path


def command(folder, *arguments: str, model: str | None = "tiny") -> int:
    from core.__main__ import main

    sizes = ["--tokens", "512", "--held-out-tokens", "512"]
    files = ["--journal", str(folder / "runs"), "--results", str(folder / "results")]
    return main([*arguments, *sizes, *files, *(["--model", str(folder / model)] if model else [])])


def test_search_command_stores_a_record_and_says_both(folder, capsys):
    assert command(folder, "search", "--followers", "2", "--head-map", "most_similar") == 0
    said = capsys.readouterr().out
    assert "Predicted: saves 16.7% of the KV cache" in said and "on held-out text" in said
    [(record, points)], problems = load_searches(folder / "results")
    assert not problems and record.settings["followers"] == 2 and record.layer_evaluations > 0
    front = stored(points, "found", LAYERS)
    assert [found.followers for found in front] == [1, 2] and front[-1].head_map == points[1].head_map != {}
    assert stored(points, "chosen", LAYERS)[0].held_out.mean == points[-1].damage
    frame = searches_frame([(record, points)])
    assert set(frame["role"]) == {"found", "chosen", "contiguous"} and set(frame["split"]) >= {"held-out"}
    assert command(folder, "search", "--followers", "2", "--head-map", "most_similar") == 0
    [(again, same)], _ = load_searches(folder / "results")
    assert same == points
    assert again.layer_evaluations == 0  # all of it was in the journal


def test_sweep_command_checks_itself(folder, capsys):
    assert command(folder, "sweep", "--check-naive") == 0
    said = capsys.readouterr().out
    assert "15 spans" in said and "equal to the bit" in said
    [(record, points)], _ = load_searches(folder / "results")
    assert record.settings["largest_difference"] == 0 and len(points) == 15
    frame = stored_sweep(points)
    assert frame.damage.tolist() == [one.damage for one in points] and frame.finished.all()
    assert (frame.first.iloc[-1], frame["last"].iloc[-1], frame.followers.iloc[-1]) == (4, 5, 1)
    evaluations = record.layer_evaluations
    assert command(folder, "sweep", "--check-naive") == 0  # times nothing that a journal knows
    assert load_searches(folder / "results")[0][0][0].layer_evaluations == evaluations > 0


def test_sweep_of_a_shape_has_random_weights_and_tokens(folder, capsys, monkeypatch):
    fields = {"model_type": "llama", "num_hidden_layers": 4, "hidden_size": 32, "intermediate_size": 48}
    fields |= {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 61}
    monkeypatch.setattr("core.models.known_config", lambda name: ("Small", fields) if name == "small" else None)
    arguments = ["--shape", "small", "--chunk-tokens", "64", "--batch-tokens", "256", "--naive-sample", "2"]
    assert command(folder, "sweep", *arguments, "--dtype", "bfloat16", model=None) == 0
    assert "naive loop (from 2 spans)" in capsys.readouterr().out
    [(record, points)], _ = load_searches(folder / "results")
    assert (record.model, record.dtype, record.num_layers) == ("Small-random", "bfloat16", 4)
    assert len(points) == 6 and record.texts["calibration"].chunks == 8 and record.settings["naive_spans"] == 2


def test_head_maps_command_compares_all_methods(folder, capsys):
    assert command(folder, "head-maps", "--plan", "1-3", "--plan", "4-5") == 0
    said = capsys.readouterr().out
    assert said.count("Plan ") == 2 and said.count("most_similar") == 2
    records, _ = load_searches(folder / "results")
    assert [record.name for record, _ in records] == ["head-maps+1-3", "head-maps+4-5"]
    damages = {(p.role, p.split): p.damage for p in records[0][1]}
    assert {role for role, _ in damages} == set(HEAD_MAPS) and len(damages) == 2 * len(HEAD_MAPS)
    assert damages["damage", "calibration"] == min(d for (_, split), d in damages.items() if split == "calibration")


def test_similarity_command_prints_the_matrix(folder, capsys):
    assert command(folder, "similarity", "--format", "json") == 0
    assert np.diag(json.loads(capsys.readouterr().out)["similarity"]) == pytest.approx(1, abs=1e-5)
    assert command(folder, "similarity") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "layer,0,1,2,3,4,5" and len(lines) == 7
    assert command(folder, "similarity", "--against-damage") == 0
    assert "ρ = " in capsys.readouterr().out
    [stored_pairs], _ = load_searches(folder / "results")
    frame, correlations = stored_guide(*stored_pairs)
    assert len(frame) == 15 and {"leader", "follower", "damage", "stderr", *SIMILARITY_METHODS} == set(frame.columns)
    assert correlations == [rank_correlation(frame, method) for method in SIMILARITY_METHODS]


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
def test_bad_input_is_one_line(folder, capsys, arguments, reason):
    assert command(folder, *arguments) == 2
    error = capsys.readouterr().err
    assert reason in error and error.count("\n") == 1 and "Traceback" not in error


def test_searches_of_the_first_format_still_load(tmp_path):
    golden = (Path(__file__).parents[2] / "golden_records/search-v1.jsonl").read_bytes()
    path = tmp_path / "demo/searches/head-maps+12-22.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(golden)
    [(record, points)], problems = load_searches(tmp_path)
    assert not problems and (record.kind, len(points), points[0].role) == ("head-maps", 2, "identity")
    save_search(tmp_path, record, points)
    assert load_searches(tmp_path) == ([(record, points)], [])


def test_broken_records_are_named(folder):
    command(folder, "search", "--followers", "1")
    [(record, points)], _ = load_searches(folder / "results")
    path = save_search(folder / "results", record, points)
    path.rename(path.with_name("elsewhere.jsonl"))
    path.write_text("{}\n")
    records, problems = load_searches(folder / "results")
    assert not records and len(problems) == 2
    assert any("out of place" in p for p in problems) and any("not a record of a search" in p for p in problems)


def test_damage_equals_evaluate_on_the_perplexity_task(tiny_model, tokenizer, tmp_path):
    from core.evaluation.evaluate import Options, evaluate

    model, count = tiny_model(vocab_size=len(tokenizer)), 3
    lines = (Path(core.__file__).parent / "tasks" / "prose.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    documents = [json.loads(line)["text"] for line in lines]
    ids = [tuple(tokenizer(document, add_special_tokens=False)["input_ids"]) for document in documents]
    meter = DamageMeter(model, Text(tuple(ids), first=tokenizer.bos_token_id))
    damage = meter.measure([roles_of(SharingPlan.parse("1-4", LAYERS))])
    about = {"model_name": "tiny", "weights_sha256": "0", "options": Options(limit=count), "results": tmp_path}
    for plan, record in zip(("", "1-4"), evaluate(model, tokenizer, ["", "1-4"], ["demo_prose"], **about)):
        nats = meter.known[0][label(roles_of(SharingPlan.parse(plan, LAYERS)))][0]
        bits_per_byte = [n / math.log(2) / len(d.encode()) for n, d in zip(nats, documents)]
        assert record.metrics["bits_per_byte"].value == pytest.approx(np.mean(bits_per_byte), rel=1e-5)
    assert next(iter(damage.values())).tokens == sum(map(len, ids))
