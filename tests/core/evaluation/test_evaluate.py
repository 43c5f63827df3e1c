"""The lm-eval runner: the same scores as lm-eval itself, each point stored once, nothing lost when it stops."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from lm_eval import evaluator
from lm_eval.models.huggingface import HFLM

from core.evaluation.catalogue import load_benchmarks
from core.evaluation.compare import compare, load_evaluation
from core.evaluation.evaluate import evaluate
from core.evaluation.options import Options
from core.evaluation.progress import Cancelled, EvaluationProgress
from core.records.scores import load_records, load_samples, to_frame
from core.sharing.view import share_attention
from core.tasks import TASKS
from tests.support.quantized import needs

SKILL_TASKS = ["demo_recall", "demo_where_is", "demo_arithmetic", "demo_copy"]


def test_every_demo_task_gives_a_score_with_a_standard_error(measure, tmp_path):
    records = measure(["dense", "2-4"], ["demo"])
    frame = to_frame(records)
    assert list(frame["task"]) == [*SKILL_TASKS, "demo_prose"] * 2
    assert list(frame["plan"]) == ["dense"] * 5 + ["2-4"] * 5
    assert list(frame["kind"]) == ["dense"] * 5 + ["direct"] * 5
    assert list(frame["metric"]) == (["exact_match"] * 4 + ["bits_per_byte"]) * 2
    assert frame["stderr"].notna().all() and (frame["n"] == 4).all()
    assert not frame[frame.metric == "bits_per_byte"]["higher_is_better"].any()
    assert load_records(tmp_path)[0] == sorted(records, key=lambda record: record.path.as_posix())


@pytest.mark.parametrize("plan", ["", "2-4"])
def test_scores_equal_those_of_lm_eval_on_the_saved_folder(plan, measure, model, tokenizer, tmp_path):
    folder = tmp_path / "saved"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    tasks = {name: task for b in load_benchmarks(["demo_copy", "demo_prose"]) for name, task in b.tasks.items()}
    for task in tasks.values():
        task.set_config("num_fewshot", 0)
    plain = HFLM(str(folder), device="cpu", batch_size=3)
    plain._model = share_attention(plain.model, plan) if plan else plain.model
    expected = evaluator.evaluate(plain, {"tasks": tasks}, limit=4)
    for record in measure([plan], list(tasks)):
        ours, theirs = load_samples(tmp_path, record), expected["samples"][record.task]
        assert [s["answer"] for s in ours] == [s["filtered_resps"] for s in theirs]
        for name, metric in record.metrics.items():
            assert metric.value == expected["results"][record.task][f"{name},none"]
            assert metric.stderr == expected["results"][record.task][f"{name}_stderr,none"]


def test_plans_change_scores(measure):
    dense, shared = measure(["dense", "1-5"], ["demo_prose"])
    assert dense.metrics["bits_per_byte"].value != shared.metrics["bits_per_byte"].value


MIXED = "0_2,skip 1,kv 3-4"


def test_plans_of_other_mechanisms_are_scored_and_recorded_under_their_own_names(measure, tmp_path):
    records = measure(["dense", MIXED, "skip 1"], ["demo_prose"])
    dense, mixed, skipping = records
    assert [(one.plan, one.followers, one.kind, one.changed) for one in records] == [
        ("", (), "dense", 0), (MIXED, (2,), "direct", 3), ("skip 1", (), "direct", 1),
    ]  # fmt: skip
    assert len({one.metrics["bits_per_byte"].value for one in records}) == 3
    assert mixed.weight_bytes < skipping.weight_bytes < dense.weight_bytes
    found, problems = load_records(tmp_path)
    assert not problems and sorted(one.plan for one in found) == sorted(one.plan for one in records)
    frame = to_frame(records)
    assert list(frame["plan"]) == ["dense", MIXED, "skip 1"] and list(frame["followers"]) == [0, 1, 0]
    shared = load_evaluation((tmp_path / mixed.path).parent)
    [difference] = [
        one for one in compare(load_evaluation((tmp_path / dense.path).parent), shared) if one.metric == "bits_per_byte"
    ]
    assert difference.paired and difference.shared == mixed.metrics["bits_per_byte"].value


def test_a_saved_model_of_other_mechanisms_is_scored_with_its_own_plan(model, tokenizer, tmp_path):
    about = {"model_name": "tuned", "weights_sha256": "abc", "results": tmp_path, "options": Options(limit=2)}
    (record,) = evaluate(share_attention(model, MIXED), tokenizer, [], ["demo_prose"], **about)
    assert (record.kind, record.plan) == ("tuned", MIXED)


@pytest.mark.parametrize(
    "way", [{"kv_cache": "quantized-8"}, pytest.param({"weights": "int8"}, marks=needs("optimum.quanto"))]
)
def test_other_mechanisms_with_cache_and_weights_in_fewer_bits(way, measure):
    [full] = measure([MIXED], ["demo_prose"])
    [record] = measure([MIXED], ["demo_prose"], options=Options(limit=4, **way))
    assert record.held == way and record.metrics != full.metrics


def test_a_model_that_shares_already_is_scored_with_its_own_plan(model, tokenizer, tmp_path):
    tuned = share_attention(model, "2-4")
    about = {"model_name": "tuned", "weights_sha256": "abc", "results": tmp_path, "options": Options(limit=2)}
    (record,) = evaluate(tuned, tokenizer, [], ["demo_prose"], **about)
    assert (record.kind, record.plan, record.path.parent.name) == ("tuned", "2-4", "2-4")
    with pytest.raises(ValueError, match="already shares attention with plan 2-4"):
        list(evaluate(tuned, tokenizer, ["dense"], ["demo_prose"], **about))


def test_the_record_of_a_tuned_model_says_which_head_map_it_has(model, tokenizer, tmp_path):
    heads = {3: [1, 0, 3, 2][: model.config.num_attention_heads]}
    tuned = share_attention(model, "2-4", heads)
    about = {"model_name": "tuned", "weights_sha256": "abc", "results": tmp_path, "options": Options(limit=2)}
    (record,) = evaluate(tuned, tokenizer, [], ["demo_prose"], **about)
    assert (record.kind, record.head_map) == ("tuned", {3: tuple(heads[3])})
    assert record.path.parent.name.startswith("2-4+heads-")
    assert list(evaluate(tuned, tokenizer, [], ["demo_prose"], head_map=heads, **about)) == [record]
    for other in ({3: heads[3][::-1]}, {4: heads[3]}):
        with pytest.raises(ValueError, match="saved with plan 2-4 and a head map of its own"):
            list(evaluate(tuned, tokenizer, [], ["demo_prose"], head_map=other, **about))


def test_stored_points_are_not_measured_again(measure, no_measuring):
    first = measure(["dense", "2-4"])
    no_measuring()
    seen: list[EvaluationProgress] = []
    assert measure(["dense", "2-4"], on_progress=seen.append) == first
    assert all(progress.stored for progress in seen) and len(seen) == 2


def test_another_limit_is_another_point(measure, tmp_path):
    measure(limit=2), measure(limit=3)
    assert sorted(path.name for path in (tmp_path / "tiny" / "dense").glob("*.json")) == [
        "demo_copy+limit=2.json",
        "demo_copy+limit=3.json",
    ]


def test_other_weights_under_the_same_name_are_refused_unless_overwritten(measure, tmp_path):
    measure()
    with pytest.raises(ValueError, match=r"measured with another weights sha256 \(abc, now def\): use --overwrite"):
        measure(weights_sha256="def")
    assert [record.weights_sha256 for record in measure(weights_sha256="def", overwrite=True)] == ["def"]
    assert len(load_records(tmp_path)[0]) == 1


def test_a_broken_record_in_the_way_is_named_before_anything_is_measured(measure, tmp_path, no_measuring):
    (path,) = [tmp_path / record.path for record in measure()]
    path.write_text("{")
    no_measuring()
    with pytest.raises(ValueError, match="demo_copy.*is not a record.*--overwrite"):
        measure(["2-4", "dense"])


def test_a_run_that_is_stopped_keeps_finished_points_and_goes_on(measure, tmp_path):
    seen: list[EvaluationProgress] = []

    def stop() -> bool:
        return bool(seen) and seen[-1].task == "demo_copy" and seen[-1].done >= 3

    with pytest.raises(Cancelled):
        measure(tasks=["demo_arithmetic", "demo_copy"], on_progress=seen.append, should_stop=stop)
    assert [record.task for record in load_records(tmp_path)[0]] == ["demo_arithmetic"]
    again: list[EvaluationProgress] = []
    assert len(measure(tasks=["demo_arithmetic", "demo_copy"], on_progress=again.append)) == 2
    assert [progress.stored for progress in again if progress.task == "demo_arithmetic"] == [True]
    assert len(load_records(tmp_path)[0]) == 2


def test_progress_counts_every_request(measure):
    seen: list[EvaluationProgress] = []
    measure(["dense", "2-4"], ["demo_copy", "demo_prose"], on_progress=seen.append)
    assert [p.point for p in seen] == sorted(p.point for p in seen)
    for point in range(4):
        done = [p.done for p in seen if p.point == point]
        assert done[0] == 0 and done[-1] == 4 and done == sorted(done) and len(done) >= 3


def test_records_say_how_they_were_made(measure):
    (record,) = measure(["2-4"], head_map={3: [0, 0, 1, 1]}, command_options=["--limit", "4"])
    assert record.kind == "head-mapped" and record.head_map == {3: (0, 0, 1, 1)}
    assert record.followers == (3, 4) and record.num_layers == 6 and record.dtype == "float32"
    assert record.command == "python -m core evaluate --model tiny --plan 2-4 --tasks demo_copy --limit 4"
    assert set(record.versions) >= {"python", "torch", "transformers", "lm_eval"}
    assert set(record.seeds.values()) == {1234} and record.limit == 4 and record.duration_s > 0
    assert re.fullmatch(r"[0-9a-f]{64}", record.data_sha256)


@pytest.mark.parametrize(
    ("plans", "tasks", "message"),
    [
        (["dense"], [], "No task was named: choose from demo"),
        (["dense"], ["demo_recal"], "There is no task 'demo_recal'. Did you mean demo_recall"),
        (["5-2"], ["demo_copy"], "reversed"),
        (["dense", "4-9"], ["demo_copy"], "layers 0 to 5"),
    ],
)
def test_bad_input_is_one_sentence(measure, no_measuring, plans, tasks, message):
    no_measuring()
    with pytest.raises(ValueError, match=message):
        measure(plans, tasks)


@pytest.mark.parametrize(
    "bad", [{"limit": 0}, {"limit": -3}, {"limit": 2.5}, {"num_fewshot": -1}, {"batch_size": 0}, {"batch_size": "big"}]
)
def test_impossible_options_are_refused(bad):
    with pytest.raises(ValueError):
        Options(**bad)


def test_a_group_with_a_score_is_one_record_with_parts(measure, sentence_pairs, tmp_path):
    dense, shared = measure(["dense", "1-5"], ["blimp"], limit=None, task_data=sentence_pairs)
    assert dense.path.name == "blimp.json" and dense.task_version == "2.0"
    assert len(dense.parts) == 67 and dense.num_samples == 134
    assert dense.metrics["acc"].value == pytest.approx(np.mean([part["acc"].value for part in dense.parts.values()]))
    assert dense.metrics["acc"].stderr > 0 and dense.data_source.startswith("67 files, from blimp/")
    assert dense.command == "python -m core evaluate --model tiny --plan dense --tasks blimp --task-data DIR"
    assert len(load_samples(tmp_path, shared)) == 134 and load_records(tmp_path)[1] == []
    folders = [load_evaluation(tmp_path / "tiny" / plan) for plan in ("dense", "1-5")]
    (difference,) = compare(*folders)
    assert difference.paired and difference.n == 134


KILLED_AT_RANDOM = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from core.evaluation.evaluate import evaluate
from core.evaluation.options import Options
from core.evaluation.own_benchmarks import load_benchmark
from core.records.scores import load_records, load_samples, to_frame
from tests.support.tokenizers import byte_tokenizer

torch.set_num_threads(1)
torch.manual_seed(0)
sizes = dict(num_hidden_layers=3, hidden_size=16, intermediate_size=16, num_attention_heads=2, vocab_size=257)
model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **sizes)).eval()
tokenizer = byte_tokenizer()
tasks = [load_benchmark("\\n".join('{"text": "%s %d"}' % (name, n) for n in range(9)), name) for name in "abcd"]

def measure(folder):
    return list(evaluate(model, tokenizer, ["dense", "1-2"], tasks, model_name="tiny", weights_sha256="abc",
                         results=folder, options=Options(batch_size=3)))

def scores(records):
    return to_frame(records).drop(columns=["date", "duration_s"]).sort_values("path").to_csv(index=False)

start = time.monotonic()
expected = scores(measure(Path(sys.argv[1]) / "whole"))
duration_s, chance, folder = time.monotonic() - start, random.Random(0), Path(sys.argv[1]) / "killed"
stored = []
for _ in range(20):
    child = os.fork()
    if not child:
        measure(folder)
        os._exit(0)
    time.sleep(chance.uniform(0, duration_s))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    records, problems = load_records(folder)
    assert not problems, problems
    assert all(len(load_samples(folder, record)) == 9 for record in records)
    stored.append(len(records))
assert stored == sorted(stored) and stored[-1] > 0, stored
assert scores(measure(folder)) == expected
print("equal after", stored)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_20_runs_killed_at_random_moments_lose_nothing(tmp_path):
    command = [sys.executable, "-c", KILLED_AT_RANDOM, str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=TASKS.parents[1])
    assert done.returncode == 0 and "equal after" in done.stdout, done.stderr
