"""Long-context tasks: as long as they say, answered by their text alone, the same in every run, and run by lm-eval."""

import json
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from types import SimpleNamespace

import pytest
from transformers import AutoTokenizer

from core.evaluation.answers import load_documents
from core.evaluation.catalogue import check_names, load_benchmarks
from core.evaluation.options import Options
from core.evaluation.task_data import Reader
from core.models import BUNDLED
from core.tasks import TASKS
from core.tasks.long import documents as long
from core.tasks.long.documents import ANSWER_TOKENS, KINDS, generate
from tests.support.tokenizers import byte_tokenizer, small_tokenizer

LENGTHS = (512, 1024, 2048, 4096, 8192)
READERS = ("demo", "small")


@cache
def reader(name: str):
    """The bundled tokenizer, or one with an eighth of its tokens that begins every text with a token of its own."""
    return (
        small_tokenizer() if name == "small" else AutoTokenizer.from_pretrained(BUNDLED[name], model_max_length=10**6)
    )


@cache
def drawn(kind: str, length: int = 512, count: int = 100, tokenizer: str = "demo") -> tuple[dict, ...]:
    return tuple(generate(kind, length, reader(tokenizer), count))


def whole(document: dict) -> str:
    return f"{document['prompt']} {document['start']}"


# Lengths


@pytest.mark.parametrize("tokenizer", READERS)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_prompts_fill_their_length_and_leave_room_for_the_answer(kind, length, tokenizer):
    for document in drawn(kind, length, 100 if length == 512 else 4, tokenizer):
        tokens = len(reader(tokenizer)(whole(document)).input_ids)
        assert tokens == document["tokens"] and 0.95 * length <= tokens <= length - ANSWER_TOKENS
        answers = [len(reader(tokenizer)(f"{whole(document)} {choice}.").input_ids) for choice in document["choices"]]
        assert max(answers) <= length


def test_a_tokenizer_that_needs_more_room_for_answers_is_refused():
    with pytest.raises(ValueError, match=r"an answer has \d\d tokens of this tokenizer, and 12 are kept free for it"):
        list(generate("values", 512, byte_tokenizer()))
    assert len(list(generate("needle", 512, byte_tokenizer(), 3))) == 3


# Answers: found again in the text by other means


def read_again(kind: str, document: dict) -> set[str]:
    """The words of the answer, from the words of prompt and question alone."""
    text, question = document["prompt"].split("\n\nQuestion: ")
    assert question.endswith("?\nAnswer:")
    if kind == "count":
        animal = re.search(r"did a (\w+) appear", question)[1]
        return {str(text.count(f"Then a {animal} appeared."))}
    if kind == "values":
        place = re.search(r"two secret words of the (\w+)\?", question)[1]
        return set(re.findall(rf"A secret word of the {place} is (\w+)\.", text))
    owner = re.search(r"the secret word of (.+)\?", question)[1]
    while copied := re.search(rf"\b{owner} has the same secret word as (\w+)\.", text):
        owner = copied[1]
    (word,) = re.findall(rf"The secret word of {owner} is (\w+)\.", text)
    return {word}


@pytest.mark.parametrize("tokenizer", READERS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_text_alone_gives_the_answer(kind, tokenizer):
    for document in drawn(kind, 512, 100, tokenizer):
        assert read_again(kind, document) == set(re.findall(r"\w+", document["answer"]))


@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_is_one_of_the_candidates_and_stands_anywhere_among_them(kind):
    places = Counter(document["choices"].index(document["answer"]) for document in drawn(kind))
    for document in drawn(kind):
        assert 4 <= len(document["choices"]) == len(set(document["choices"])) <= 10
    assert len(places) == len(drawn(kind)[0]["choices"]) and max(places.values()) < 45


@pytest.mark.parametrize("kind", KINDS)
def test_facts_stand_in_the_text_once_and_nothing_else_speaks_of_their_words(kind):
    owned = {*long.SECRETS, *long.PLACES, *long.NAMES, *long.ANIMALS, "secret", "same", "then", "appeared"}
    for document in drawn(kind):
        text = document["prompt"].split("\n\n")[1]
        facts = document["abridged"].split("\n\n")[1].strip("… ").split(" … ")
        for fact, count in Counter(facts).items():
            assert text.count(fact) == count
            text = text.replace(f"{fact} ", "").replace(fact, "")
        words = set(re.findall(r"\w+", text.lower()))
        assert not words & {word.lower() for word in owned} and not any(map(str.isdigit, words))
        assert len(set(text.split(". "))) == len(text.split(". "))  # no neutral sentence twice
        assert set(document["facts"]) <= set(facts)


def test_what_is_asked_varies():
    assert {document["answer"] for document in drawn("count")} == set("123456")
    assert {len(document["facts"]) for document in drawn("track")} == {2, 3, 4}
    assert len({document["answer"] for document in drawn("needle")}) > 25


# Depth and seeds


@pytest.mark.parametrize("kind", KINDS)
def test_depths_are_spread_evenly_for_any_number_of_documents(kind):
    for count in (20, 50, 100):
        tenths = Counter(int(document["depth"] * 10) for document in drawn(kind)[:count])
        assert len(tenths) == 10 and max(tenths.values()) <= min(tenths.values()) + 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_recorded_depth_is_that_of_the_first_fact_that_is_needed(kind):
    for document in drawn(kind, 2048, 4):
        text = document["prompt"].split("\n\n")[1]
        assert text.index(document["facts"][0]) / len(text) == pytest.approx(document["depth"], abs=0.04)
        assert [text.index(fact) for fact in document["facts"]] == sorted(text.index(f) for f in document["facts"])


@pytest.mark.parametrize("kind", KINDS)
def test_documents_depend_on_seed_and_tokenizer_alone(kind):
    again = list(generate(kind, 512, reader("demo"), 5))
    assert again == list(drawn(kind)[:5])  # nor on how many there are
    assert again[0] != next(generate(kind, 512, reader("demo"), 1, seed=1))
    longer = next(generate(kind, 1024, reader("demo"), 1))
    asked = ("start", "answer", "choices", "facts", "depth", "abridged")
    assert [longer[name] for name in asked] == [again[0][name] for name in asked]


# Scores


def test_the_first_words_of_an_answer_count():
    word, words, number = {"answer": "river"}, {"answer": "river, stone"}, {"answer": "4"}
    right = [(word, " River"), (word, " the river bank"), (words, ": stone and river"), (number, " 4 times")]
    assert all(long.score_words(doc, [said]) == {"exact_match": 1.0} for doc, said in right)
    wrong = [(word, " stone river"), (word, ""), (words, " river, bell"), (number, " 40")]
    assert all(long.score_words(doc, [said]) == {"exact_match": 0.0} for doc, said in wrong)
    assert long.score_list(words, [" bell, stone, river"]) == {"exact_match": 0.0, "recall": 0.5}


def test_bits_of_the_answer_are_those_among_the_candidates():
    doc = {"choices": ["bell", "river", "stone", "wool"], "answer": "river"}
    assert long.score_choice(doc, [(-9.0, False)] * 4) == {"acc": 1.0, "answer_bits": pytest.approx(2.0)}
    surer = long.score_choice(doc, [(-1000.0, False), (-900.0, False), (-1000.0, False), (-1000.0, False)])
    assert surer == {"acc": 1.0, "answer_bits": pytest.approx(0.0)}
    assert long.score_choice(doc, [(-900.0, False), *[(-1000.0, False)] * 3])["acc"] == 0.0


# Tasks


def test_there_is_a_task_for_every_kind_and_length_and_groups_of_them():
    for mode in ("", "_choice"):
        names = {f"long_{kind}{mode}_{length}": (kind, length) for kind in KINDS for length in LENGTHS}
        index = check_names([*names, f"long{mode}"])[f"long{mode}"].task_index
        for name, (kind, length) in names.items():
            assert index[name].cfg["dataset_kwargs"] == {"kind": kind, "context_tokens": length}
            assert mode or index[name].cfg["generation_kwargs"]["max_gen_toks"] == ANSWER_TOKENS
        parts = {length: index[f"long{mode}_{length}"].cfg["task"] for length in LENGTHS}
        assert parts == {length: [f"long_{kind}{mode}_{length}" for kind in KINDS] for length in LENGTHS}
        assert index[f"long{mode}"].cfg["task"] == [f"long{mode}_{length}" for length in LENGTHS]


@pytest.mark.parametrize("mode", ["", "_choice"])
def test_lm_eval_asks_what_was_counted(mode):
    benchmarks = load_benchmarks([f"long{mode}_512"], reader=Reader(reader("demo"), 512))
    assert [benchmark.name for benchmark in benchmarks] == [f"long_{kind}{mode}_512" for kind in KINDS]
    for benchmark in benchmarks:
        (task,) = benchmark.tasks.values()
        assert len(task.eval_docs) == 100 and "tokenizer" not in task.config.metadata
        task.build_all_requests(limit=1)
        document = task.eval_docs[0]
        assert {request.args[0] for request in task.instances} == {whole(document)}
        if mode:
            assert [request.args[1] for request in task.instances] == [f" {each}" for each in document["choices"]]


def test_a_tokenizer_is_needed():
    with pytest.raises(ValueError, match="long_count_512.*counted with the model's tokenizer"):
        load_benchmarks(["long_count_512"])


def test_names_that_do_not_exist_list_lengths_by_example_only():
    with pytest.raises(ValueError, match="Did you mean long_needle_512"):
        check_names(["long_needle_51"])
    with pytest.raises(
        ValueError, match="long, long_choice, long_needle_512 and the like, and those of lm-eval"
    ) as told:
        check_names(["longest_of_all"])
    assert len(str(told.value)) < 300


def test_records_tell_lengths_apart_and_keep_what_is_asked_in_short(measure, tmp_path):
    records = measure(["dense", "2-4"], ["long_needle_512", "long_needle_choice_1024"], options=Options(limit=2))
    assert [record.task for record in records] == ["long_needle_512", "long_needle_choice_1024"] * 2
    assert {record.truncated_requests for record in records} == {0}
    assert [list(record.metrics) for record in records[:2]] == [["exact_match"], ["acc", "answer_bits"]]
    assert records[0].data_sha256 == records[2].data_sha256 != records[1].data_sha256
    documents = load_documents(tmp_path, records[1])
    assert len(documents) == 2 and len(documents["long_needle_choice_1024", 0]["choices"]) == 8
    assert re.search(
        r"\n\n… The secret word of the \w+ is \w+\. …\n\nQ", documents["long_needle_choice_1024", 0]["prompt"]
    )
    assert records[0].num_fewshot == 0 and "--tasks long_needle_512" in records[0].command


def test_more_than_the_models_context_is_refused_before_anything_is_measured(measure, no_measuring, tmp_path):
    no_measuring()
    with pytest.raises(ValueError, match=r"long_track_2048 fills 2,048 tokens, and the model's context has 1,024"):
        measure(tasks=["demo_copy", "long_track_2048"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("configuration", "tokenizer_says", "context"),
    [
        ({"max_position_embeddings": 1024}, 300, 1024),
        ({"n_positions": 128}, 300, 128),
        ({}, 300, 300),
        ({}, int(1e30), 2048),
    ],
)
def test_the_context_is_what_lm_eval_takes(configuration, tokenizer_says, context):
    config = SimpleNamespace(get_text_config=lambda decoder: SimpleNamespace(**configuration))
    read_by = Reader.of(SimpleNamespace(config=config), SimpleNamespace(model_max_length=tokenizer_says))
    assert read_by.context_tokens == context


ALONE = """
import sys
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

about = {"pretrained": sys.argv[2]}
tasks = TaskManager(include_path=sys.argv[1], include_defaults=False, metadata=about)
found = simple_evaluate("hf", about, ["long_needle_512"], limit=2, device="cpu", task_manager=tasks, bootstrap_iters=0)
print(found["samples"]["long_needle_512"][1]["doc"]["depth"], "core" in sys.modules)
print(found["n-samples"]["long_needle_512"]["effective"], found["results"]["long_needle_512"]["exact_match,none"])
"""


def test_lm_eval_alone_runs_them_without_this_project(tmp_path):
    command = [sys.executable, "-c", ALONE, str(TASKS), str(BUNDLED["demo"])]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [json.dumps(drawn("needle")[1]["depth"]), "False", "2", "0.0"], done.stderr
