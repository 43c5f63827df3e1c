"""Benchmarks by name: found fast, and lm-eval's own definitions on local documents."""

import hashlib
import json
import subprocess
import sys
import time

import datasets
import huggingface_hub
import pytest

from core.evaluation import catalogue as catalog
from core.evaluation.catalogue import check_names, load_benchmarks
from core.evaluation.suites import SUITES
from core.tasks import TASKS

ARC = {"query": "Question: Which is hot?", "choices": ["ice", "fire", "snow"], "gold": 1}
PIQA = {"query": "Question: How to cut bread?\n", "choices": ["With a knife.", "With a song."], "gold": 0}
LAMBADA = {"context": "He lit the candle and watched the", "continuation": "flame"}
WINOGRANDE = {
    "context_options": ["Ann met Maria so Maria", "Ann met Maria so Mark"], "continuation": "waved.", "gold": 1
}  # fmt: skip
BLIMP = {"sentence_good": "Cats sleep.", "sentence_bad": "Cats sleeps.", "pairID": "0"}


@pytest.fixture
def data(tmp_path):
    """`data(name, *rows)` writes a file of documents; the folder itself is `data.folder`."""

    def write(name, *rows):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    write.folder = tmp_path / "data"
    return write


def only_task(name, folder):
    (benchmark,) = load_benchmarks([name], folder)
    return benchmark, benchmark.tasks[name]


def prompts(task) -> list[tuple[str, str]]:
    """(context, continuation) of the first document's requests, as the model gets them."""
    task.set_config("num_fewshot", task.get_config("num_fewshot") or 0)
    task.build_all_requests(limit=1)
    return [request.args for request in task.instances]


@pytest.mark.parametrize(
    ("name", "row", "expected"),
    [
        ("arc_easy", ARC, [("Question: Which is hot?\nAnswer:", f" {choice}") for choice in ARC["choices"]]),
        ("piqa", PIQA, [("Question: How to cut bread?\nAnswer:", f" {choice}") for choice in PIQA["choices"]]),
        ("lambada_openai", LAMBADA, [("He lit the candle and watched the", " flame")]),
        ("winogrande", WINOGRANDE, [(context, " waved.") for context in WINOGRANDE["context_options"]]),
    ],
)
def test_a_ready_made_prompt_becomes_the_standard_one(name, row, expected, data):
    path = data(f"{name}.jsonl", row, row)
    benchmark, task = only_task(name, data.folder)
    assert prompts(task) == expected
    if "gold" in row:  # with several contexts and one continuation, lm-eval calls the right context the text
        right = task.doc_to_text if name == "winogrande" else task.doc_to_target
        assert int(right(task.eval_docs[0])) == row["gold"]
    assert (benchmark.version, len(task.eval_docs)) == ("1.0", 2)
    assert benchmark.data_source.startswith(f"{name}.jsonl, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}: ")
    assert benchmark.arguments == ("--tasks", name, "--task-data", "DIR")


def test_rows_as_on_the_hub_need_no_mapping(data):
    hub = {"goal": "To wait,", "sol1": "sit.", "sol2": "run.", "label": 0}
    data("piqa.jsonl", hub)
    benchmark, task = only_task("piqa", data.folder)
    assert prompts(task)[0] == ("Question: To wait,\nAnswer:", " sit.")
    assert benchmark.data_source.endswith(": rows as on the hub")


def test_a_file_may_be_named_after_data_set_and_subset(data):
    data("blimp/causative.jsonl", BLIMP)
    _, task = only_task("blimp_causative", data.folder)
    assert prompts(task) == [("", " Cats sleep."), ("", " Cats sleeps.")]


def test_examples_come_from_a_file_of_their_split(data):
    data("arc_easy.jsonl", ARC)
    assert len(only_task("arc_easy", data.folder)[1].fewshot_docs()) == 0
    data("arc_easy.train.jsonl", ARC, ARC, ARC)
    assert len(only_task("arc_easy", data.folder)[1].fewshot_docs()) == 3


def test_the_projects_own_tasks_keep_their_documents(data):
    data("arc_easy.jsonl", ARC)
    own, local = load_benchmarks(["demo_copy", "arc_easy"], data.folder)
    assert own.data_source is None and local.data_source


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("piqa", None, r"piqa needs piqa.jsonl in the folder"),
        ("piqa", "", "piqa.jsonl is empty"),
        ("piqa", "{", "piqa.jsonl, line 1 is not JSON"),
        ("piqa", json.dumps(PIQA) + "\n" + json.dumps(ARC), "line 2 does not fit: goal is query"),
        ("piqa", json.dumps(PIQA | {"gold": 2}), "line 1 does not fit"),
        ("piqa", '{"goal": "a"}\n{"sol": "b"}', "line 2 has the fields sol, not goal"),
        ("piqa", '{"question": "a"}', "data of task 'piqa' cannot be loaded"),
        ("arc_easy", json.dumps(ARC | {"gold": 3}), "line 1 does not fit"),
        ("arc_easy", json.dumps(ARC | {"query": "Which is hot?"}), "line 1 does not fit"),
        ("lambada_openai", json.dumps(LAMBADA | {"continuation": "two words"}), "line 1 does not fit"),
        ("winogrande", json.dumps(WINOGRANDE | {"context_options": ["one"]}), "line 1 does not fit"),
    ],
)
def test_documents_that_do_not_fit_are_named_with_their_line(name, content, message, data):
    data("other.jsonl", {})
    if content is not None:
        (data.folder / f"{name}.jsonl").write_text(content)
    with pytest.raises(ValueError, match=message) as refused:
        load_benchmarks([name], data.folder)
    assert "\n" not in str(refused.value)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match="There is no folder"):
        load_benchmarks(["piqa"], tmp_path / "nowhere")


def test_standard_names_are_known_without_reading_all_definitions():
    managers = check_names(["arc_easy", "blimp", *SUITES["paper"]])
    assert all(name in manager.all_tasks for name, manager in managers.items())
    assert all(len(manager.all_tasks) < 1000 for manager in managers.values())
    members = managers["mmlu"].task_index["mmlu_stem_tasks"].tags
    assert "mmlu_abstract_algebra" in members and len(managers["glue"].task_index["glue"].tags) == 9


def test_misspelt_names_answer_at_once():
    for name, near in [("demo_recal", "demo_recall"), ("arc_esay", "arc_easy"), ("hellaswagg", "hellaswag")]:
        start = time.monotonic()
        with pytest.raises(ValueError, match=f"There is no task '{name}'. Did you mean.* {near}[ ?]"):
            check_names([name])
        assert time.monotonic() - start < 10  # reading all definitions takes longer


def test_without_the_network_nothing_is_tried_again_and_again(monkeypatch):
    monkeypatch.setattr(catalog, "hub_is_reachable", lambda: False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    start = time.monotonic()
    with pytest.raises(ValueError, match="piqa.* cannot be loaded.*--task-data takes the documents from local files"):
        load_benchmarks(["piqa"])
    assert time.monotonic() - start < 30
    assert not huggingface_hub.constants.HF_HUB_OFFLINE and not datasets.config.HF_HUB_OFFLINE


ALONE = """
import importlib.util, sys
from lm_eval.tasks import TaskManager

assert importlib.util.find_spec("core") is None
tasks = TaskManager(include_path=sys.argv[1], include_defaults=False).load(["demo"])["tasks"]
prose = tasks["demo_prose"]
document = prose.eval_docs[0]
print(len(tasks), prose.process_results(document, (-len(document["text"].encode()),)))
"""


def test_lm_eval_alone_reads_the_tasks_without_this_project(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(TASKS)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("5 {'bits_per_byte': 1.44"), done.stderr
