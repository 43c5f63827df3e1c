"""The lm-eval runner: the same scores as lm-eval itself, each point stored once, nothing lost when it stops."""

import json
import os
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
import torch
from lm_eval import evaluator
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from core.__main__ import COMMANDS, main
from core.evaluation import evaluate as runner
from core.evaluation.answers import load_documents, pair_answers
from core.evaluation.catalogue import TASKS, check_names, load_benchmarks
from core.evaluation.compare import compare, load_evaluation
from core.evaluation.evaluate import Cancelled, EvaluationProgress, Options, evaluate
from core.models import load_model
from core.records.scores import load_records, load_samples, to_frame
from core.sharing.view import share_attention

SKILL_TASKS = ["demo_recall", "demo_where_is", "demo_arithmetic", "demo_copy"]


@pytest.fixture
def tokenizer():
    """One token per byte, with an end token and, like many base models, no padding token."""
    vocabulary = {"<end>": 0} | {c: i + 1 for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    bytes_only = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=bytes_only, eos_token="<end>", bos_token="<end>")


@pytest.fixture
def model(tiny_model):
    return tiny_model(vocab_size=257, max_position_embeddings=1024, eos_token_id=0)


@pytest.fixture
def measure(model, tokenizer, tmp_path):
    """`measure(plans, tasks, **arguments)` evaluates the tiny model into a fresh store; one list of records."""

    def measure(plans=("dense",), tasks=("demo_copy",), limit=4, **arguments):
        arguments = {"model_name": "tiny", "weights_sha256": "abc", "results": tmp_path} | arguments
        options = arguments.pop("options", None) or Options(limit=limit, batch_size=3)
        return list(evaluate(model, tokenizer, plans, tasks, options=options, **arguments))

    return measure


@pytest.fixture
def no_measuring(monkeypatch):
    """From here on, anything that is measured is an error."""

    def refuse(*_):
        raise AssertionError("measured again")

    return lambda: monkeypatch.setattr(runner, "_measure", refuse)


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


def test_a_model_that_shares_already_is_scored_with_its_own_plan(model, tokenizer, tmp_path):
    tuned = share_attention(model, "2-4")
    about = {"model_name": "tuned", "weights_sha256": "abc", "results": tmp_path, "options": Options(limit=2)}
    (record,) = evaluate(tuned, tokenizer, [], ["demo_prose"], **about)
    assert (record.kind, record.plan, record.path.parent.name) == ("tuned", "2-4", "2-4")
    with pytest.raises(ValueError, match="already shares attention with plan 2-4"):
        list(evaluate(tuned, tokenizer, ["dense"], ["demo_prose"], **about))


def test_a_right_answer_counts(measure, monkeypatch, tokenizer):
    """A model that continues every prompt with its right answer scores 1: prompts, stops and targets fit together."""
    documents = [doc for b in load_benchmarks(SKILL_TASKS) for task in b.tasks.values() for doc in task.eval_docs]
    texts = {doc["prompt"]: f" {doc['answer']}." for doc in documents}

    def answer(self, context, max_length, stop, **kwargs):
        rows = [tokenizer.encode(texts[p]) for p in self.tokenizer.batch_decode(context, skip_special_tokens=True)]
        return torch.tensor(
            [[*c, *row[:5], *row[5:], *[0] * (99 - len(row))] for c, row in zip(context.tolist(), rows)]
        )

    monkeypatch.setattr(HFLM, "_model_generate", answer)
    assert [r.metrics["exact_match"].value for r in measure(tasks=SKILL_TASKS, limit=20)] == [1.0] * 4


def test_shared_logits_of_one_token_answers_are_right_for_a_view(model, tokenizer):
    """HFLM scores all one-token continuations of a context from one forward call; a view must not mind."""
    requests = [
        Instance("loglikelihood", {}, (context, continuation), 0)
        for context in ("Roses are", "Violets are red and")
        for continuation in ("a", "b", "xyz", "c")
    ]
    view = share_attention(model, "2-4")
    ours = runner._Evaluated(view, tokenizer, 3, lambda done, total: None).loglikelihood(requests)
    one_by_one = HFLM(view, tokenizer=tokenizer, batch_size=1, logits_cache=False).loglikelihood(requests)
    assert [row[1] for row in ours] == [row[1] for row in one_by_one]
    assert [row[0] for row in ours] == pytest.approx([row[0] for row in one_by_one], rel=1e-5)


def test_the_tokenizer_and_the_model_stay_as_they_were(measure, model, tokenizer):
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    measure(["1-5"], ["demo_copy", "demo_prose"], limit=2)
    assert tokenizer.pad_token is None
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


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


def test_the_tasks_own_answer_length_counts(measure, model, tmp_path):
    model.generation_config.max_new_tokens = 50
    (record,) = measure(tasks=["demo_arithmetic"])
    assert all(len(sample["answer"][0]) <= 6 for sample in load_samples(tmp_path, record))
    assert model.generation_config.max_new_tokens == 50


def test_records_say_how_they_were_made(measure):
    (record,) = measure(["2-4"], head_map={3: [0, 0, 1, 1]}, command_options=["--limit", "4"])
    assert record.kind == "head-mapped" and record.head_map == {3: (0, 0, 1, 1)}
    assert record.followers == (3, 4) and record.num_layers == 6 and record.dtype == "float32"
    assert record.command == "python -m core evaluate --model tiny --plan 2-4 --tasks demo_copy --limit 4"
    assert set(record.versions) >= {"python", "torch", "transformers", "lm_eval"}
    assert set(record.seeds.values()) == {1234} and record.limit == 4 and record.duration_s > 0
    assert re.fullmatch(r"[0-9a-f]{64}", record.data_sha256)


def test_few_shot_examples_are_asked_and_recorded(measure, tmp_path):
    (record,) = measure(options=Options(num_fewshot=2, limit=2))
    assert record.num_fewshot == 2 and record.options == {"num_fewshot": 2, "limit": 2}


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


def test_prose_is_scored_from_the_first_token_on_and_no_further(tmp_path):
    model, tokenizer = load_model("demo", device="cpu")
    about = {"model_name": "demo", "weights_sha256": "abc", "results": tmp_path, "options": Options(limit=3)}
    (record,) = evaluate(model, tokenizer, [], ["demo_prose"], **about)
    scores = []
    for line in (TASKS / "prose.jsonl").read_text(encoding="utf-8").splitlines()[:3]:
        passage = json.loads(line)["text"]
        ids = tokenizer(passage, return_tensors="pt").input_ids  # the tokenizer itself puts <|endoftext|> first
        with torch.no_grad():
            nats = torch.nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:], reduction="sum").item()
        scores.append(nats / np.log(2) / len(passage.encode()))
    assert record.metrics["bits_per_byte"].value == pytest.approx(np.mean(scores), rel=1e-5)


@pytest.fixture
def pairs(tmp_path):
    """A folder of task data with two sentence pairs for each of BLiMP's tasks."""
    folder = tmp_path / "task_data"
    names = {name.removeprefix("blimp_") for name in _manager_of_blimp().all_tasks if name.startswith("blimp_")}
    (folder / "blimp").mkdir(parents=True)
    for name in names:
        sentences = [f"{name} sleeps a lot.", "Cats."]
        rows = [{"sentence_good": good, "sentence_bad": bad} for good, bad in (sentences, sentences[::-1])]
        (folder / "blimp" / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def _manager_of_blimp():
    return check_names(["blimp"])["blimp"]


def test_a_group_with_a_score_is_one_record_with_parts(measure, pairs, tmp_path):
    dense, shared = measure(["dense", "1-5"], ["blimp"], limit=None, task_data=pairs)
    assert dense.path.name == "blimp.json" and dense.task_version == "2.0"
    assert len(dense.parts) == 67 and dense.num_samples == 134
    assert dense.metrics["acc"].value == pytest.approx(np.mean([part["acc"].value for part in dense.parts.values()]))
    assert dense.metrics["acc"].stderr > 0 and dense.data_source.startswith("67 files, from blimp/")
    assert dense.command == "python -m core evaluate --model tiny --plan dense --tasks blimp --task-data DIR"
    assert len(load_samples(tmp_path, shared)) == 134 and load_records(tmp_path)[1] == []
    folders = [load_evaluation(tmp_path / "tiny" / plan) for plan in ("dense", "1-5")]
    (difference,) = compare(*folders)
    assert difference.paired and difference.n == 134


def test_other_documents_for_a_stored_point_are_refused(measure, tmp_path):
    folder = tmp_path / "task_data"
    folder.mkdir()
    row = {"goal": "To wait,", "sol1": "sit.", "sol2": "run.", "label": 0}
    (folder / "piqa.jsonl").write_text(json.dumps(row))
    measure(tasks=["piqa"], task_data=folder)
    (folder / "piqa.jsonl").write_text(json.dumps(row | {"label": 1}))
    with pytest.raises(ValueError, match="measured with another data sha256"):
        measure(tasks=["piqa"], task_data=folder)
    with pytest.raises(ValueError, match="piqa shows 2 examples, but the task data has none"):
        measure(tasks=["piqa"], task_data=folder, options=Options(num_fewshot=2))


def test_requests_that_lose_their_beginning_are_counted(measure, model):
    model.config.max_position_embeddings = 60
    (record,) = measure(tasks=["demo_recall"])
    assert record.truncated_requests == 4
    model.config.max_position_embeddings = 1024
    assert measure(["2-4"], ["demo_recall"])[0].truncated_requests == 0


def test_truncated_log_likelihoods_are_counted_and_too_long_answers_refused(model, tokenizer):
    model.config.max_position_embeddings = 20
    evaluated = runner._Evaluated(model, tokenizer, 3, lambda done, total: None)
    requests = [Instance("loglikelihood", {}, ("w" * n, "abc"), 0) for n in (17, 18, 19, 40)]
    evaluated.loglikelihood(requests)
    assert evaluated.truncated == 2
    with pytest.raises(ValueError, match="An answer has 21 tokens, but the model's context only 20"):
        evaluated.loglikelihood([Instance("loglikelihood", {}, ("w", "a" * 21), 0)])


def test_a_tokenizer_without_any_special_token_is_refused(model, tokenizer):
    tokenizer.bos_token = tokenizer.eos_token = None
    with pytest.raises(ValueError, match="knows no token for the beginning or end of a text"):
        runner._Evaluated(model, tokenizer, 3, lambda done, total: None)


def test_what_is_asked_is_stored_once_for_all_plans(measure, tmp_path):
    dense, shared = measure(["dense", "2-4"], ["demo_arithmetic"])
    assert dense.documents_path == shared.documents_path
    documents = load_documents(tmp_path, dense)
    assert [number for _, number in documents] == [0, 1, 2, 3]
    task = next(iter(load_benchmarks(["demo_arithmetic"])[0].tasks.values()))
    assert [row["prompt"] for row in documents.values()] == [row["prompt"] for row in task.eval_docs][:4]
    pairs = pair_answers((tmp_path, dense), (tmp_path, shared), "exact_match")
    assert [(pair.prompt, pair.right) for pair in pairs] == [
        (row["prompt"], row["right"]) for row in documents.values()
    ]
    (tmp_path / dense.documents_path).unlink()
    measure(["dense"], ["demo_arithmetic"])  # nothing to measure, but what is missing is written again
    assert load_documents(tmp_path, dense) == documents


def test_questions_with_choices_are_kept_in_words(pairs, tmp_path, measure):
    folder = tmp_path / "task_data"
    row = {"context_options": ["Ann saw Eve so Ann", "Ann saw Eve so Eve"], "continuation": "waved.", "gold": 1}
    (folder / "winogrande.jsonl").write_text(json.dumps(row))
    (folder / "lambada_openai.jsonl").write_text(json.dumps({"context": "They drank", "continuation": "tea"}))
    tasks = ["winogrande", "lambada_openai", "blimp_causative"]
    found = [load_documents(tmp_path, record) for record in measure(tasks=tasks, task_data=folder)]
    first = [documents[task, 0] for documents, task in zip(found, tasks)]
    sentences = ["Ann saw Eve so Ann waved.", "Ann saw Eve so Eve waved."]
    assert (first[0]["choices"], first[0]["right"]) == (sentences, sentences[1])
    assert (first[1]["prompt"], first[1]["right"]) == ("They drank", " tea")
    assert first[2]["choices"] == ["causative sleeps a lot.", "Cats."] and first[2]["right"] == first[2]["choices"][0]


KILLED_AT_RANDOM = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast
from core.evaluation.own_benchmarks import load_benchmark
from core.evaluation.evaluate import Options, evaluate
from core.records.scores import load_records, load_samples, to_frame

torch.set_num_threads(1)
torch.manual_seed(0)
sizes = dict(num_hidden_layers=3, hidden_size=16, intermediate_size=16, num_attention_heads=2, vocab_size=257)
model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **sizes)).eval()
vocabulary = {"<end>": 0} | {c: i + 1 for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", bos_token="<end>")
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


# The command line


@pytest.fixture
def command(model, tokenizer, tmp_path, monkeypatch, capsys):
    """`command("evaluate --plan 2-4 …")` → exit code, stdout, stderr, with the tiny model as the bundled one."""
    import core.models

    monkeypatch.setattr(core.models, "load_model", lambda *_, **__: (model, tokenizer))
    monkeypatch.setattr(core.models, "weights_sha256", lambda _: "abc")

    def run(line: str) -> tuple[int, str, str]:
        code = main([*shlex.split(line), "--results", str(tmp_path)])
        return code, *capsys.readouterr()

    return run


def test_the_command_measures_once_and_says_so(command, tmp_path):
    line = "evaluate --plan dense --plan 2-4 --tasks demo_arithmetic --limit 3"
    code, out, _ = command(line)
    assert code == 0 and "Measured 2 of 2 points" in out and "exact_match" in out
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    code, out, _ = command(line)
    assert code == 0 and "Nothing to do: all 2 points" in out
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*.json")}


def test_the_recorded_command_reproduces_the_record(command, tmp_path):
    command("evaluate --plan 2-4 --tasks demo_arithmetic --limit 3 --batch-size 2 --seed 5")
    ((record,), _) = load_records(tmp_path)
    code, out, _ = command(record.command.removeprefix("python -m core "))
    assert code == 0 and "Nothing to do" in out


def test_a_benchmark_of_ones_own_is_measured_and_reproduced(command, tmp_path):
    file = tmp_path / "colours.jsonl"
    file.write_text('{"prompt": "Snow is", "choices": ["white", "black"], "answer": "white"}')
    code, out, _ = command(f"evaluate --plan 2-4 --benchmark {file}")
    assert code == 0 and "custom_colours" in out
    ((record,), _) = load_records(tmp_path)
    assert record.command == "python -m core evaluate --model demo --plan 2-4 --benchmark colours.jsonl"
    assert "Nothing to do" in command(f"evaluate --plan 2-4 --benchmark {file}")[1]
    assert str(tmp_path) not in record.model_dump_json()


def test_bad_input_is_one_line_on_stderr_and_code_2(command, tmp_path):
    (tmp_path / "map.json").write_text(json.dumps([1]))
    (tmp_path / "bad.jsonl").write_text("prompt,answer")
    for line in (
        "evaluate --tasks demo_poetry",
        "evaluate",
        "evaluate --tasks demo_copy --plan 9-3",
        "evaluate --tasks demo_copy --limit 0",
        "evaluate --tasks demo_copy --batch-size big",
        f"evaluate --tasks demo_copy --plan 2-4 --head-map {tmp_path / 'map.json'}",
        "evaluate --tasks demo_copy --head-map nowhere.json",
        "evaluate --benchmark nowhere.jsonl",
        f"evaluate --benchmark {tmp_path / 'bad.jsonl'}",
        "evaluate --tasks piqa --task-data nowhere",
        f"evaluate --tasks piqa --task-data {tmp_path}",
    ):
        code, out, err = command(line)
        assert code == 2 and out == "" and err.startswith("error: ") and err.count("\n") == 1, (line, err)


def test_refused_arguments_are_one_line_too(capsys):
    for line in ("", "evaluat", "compare --max-drop x a b"):
        with pytest.raises(SystemExit) as stopped:
            main(line.split())
        err = capsys.readouterr().err
        assert stopped.value.code == 2 and err.startswith("error: ") and err.count("\n") == 1


def test_help_loads_no_torch():
    code = "import core.__main__; core.__main__.main(['--help'])"
    check = f"try:\n    {code}\nexcept SystemExit:\n    import sys; assert 'torch' not in sys.modules"
    shown = subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, text=True).stdout
    assert all(command in shown for command in COMMANDS)
