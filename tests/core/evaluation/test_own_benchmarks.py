"""Benchmarks from JSON lines: what becomes a task, and what is refused, with its line, in one sentence."""

import json
import random
from pathlib import Path

import pytest
import torch
from lm_eval.models.huggingface import HFLM

from core.evaluation.catalogue import check_names
from core.evaluation.evaluate import evaluate
from core.evaluation.options import Options
from core.evaluation.own_benchmarks import MAX_ANSWER_CHARACTERS, MAX_BYTES, MAX_LINE_CHARACTERS, load_benchmark
from core.models import load_model
from core.records.scores import Record, load_record, load_records, load_samples
from core.tasks import TASKS

CHOICE = {"prompt": "The sky is", "choices": ["blue", "loud", "seven"], "answer": "blue"}
COMPLETION = {"prompt": "2 + 2 =", "answer": "4"}
TEXT = {"text": "It was a dark and stormy night."}


def lines(*rows) -> str:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


def load(content):
    return load_benchmark(content, "mine")


@pytest.fixture(scope="module")
def demo():
    return load_model("demo", device="cpu")


@pytest.fixture
def score(demo, tmp_path):
    """`score(content)` → the bundled model's record and its samples."""

    def score(content, **options):
        about = {"model_name": "demo", "weights_sha256": "abc", "results": tmp_path, "options": Options(**options)}
        (record,) = evaluate(*demo, ["dense"], [load(content)], **about)
        return record, load_samples(tmp_path, record)

    return score


def test_choices_are_scored_by_likelihood(score):
    rows = [CHOICE, {"prompt": "He sat down on the", "choices": ["chair", "under"], "answer": 0}]
    record, samples = score(lines(*rows))
    assert set(record.metrics) == {"acc", "acc_norm"} and record.num_samples == 2
    assert [sample["target"] for sample in samples] == [0, 0]
    assert record.path.name == "custom_mine.json" and record.data_source.startswith("mine.jsonl, sha256 ")
    assert record.command.endswith("--benchmark mine.jsonl") and record.task == "custom_mine"


def test_completions_must_be_the_whole_answer(score, monkeypatch):
    written = iter([" 4. 5 + 5", " 4", " 42", "\n4"])

    def write(self, context, max_length, stop, **_):
        row = self.tokenizer.encode(next(written), add_special_tokens=False)
        return torch.tensor([[*context[0].tolist(), *row]])

    monkeypatch.setattr(HFLM, "_model_generate", write)
    rows = [{"prompt": f"{n} + {n} =", "answer": "4", "stop": "."} for n in range(4)]
    record, samples = score(lines(*rows), batch_size=1)
    assert sorted(sample["scores"]["exact_match"] for sample in samples) == [0, 0, 1, 1]
    assert record.metrics["exact_match"].value == 0.5


def test_the_model_answers_a_benchmark_like_the_projects_own_task(score):
    documents = (TASKS / "arithmetic.jsonl").read_text("utf-8").splitlines()[:40]
    record, _ = score("\n".join(line.replace("}", ', "stop": "."}') for line in documents))
    assert record.metrics["exact_match"].value > 0.8


def test_texts_are_scored_in_bits_per_byte(score):
    passages = [json.loads(line)["text"] for line in (TASKS / "prose.jsonl").read_text("utf-8").splitlines()[:3]]
    record, samples = score(lines(*({"text": text} for text in passages)))
    bits = [sample["scores"]["bits_per_byte"] for sample in samples]
    assert record.metrics["bits_per_byte"].value == pytest.approx(sum(bits) / 3)
    assert 0.5 < min(bits) < max(bits) < 3 and record.metrics["bits_per_byte"].stderr > 0
    words = sum(len(text.split()) for text in passages)
    total = sum(value * len(text.encode()) for value, text in zip(bits, passages, strict=True))
    assert record.metrics["word_perplexity"].value == pytest.approx(2 ** (total / words))


def test_examples_come_from_the_other_lines(score):
    rows = [COMPLETION | {"prompt": f"{n} + 0 =", "answer": str(n)} for n in range(5)]
    record, _ = score(lines(*rows), num_fewshot=2)
    assert record.num_fewshot == 2 and record.options == {"num_fewshot": 2}


@pytest.mark.parametrize("prompt", ["{{ 7 * 7 }}", "{% for x in range(9) %}x{% endfor %}", "prompt", "[1, 2]", "12"])
def test_no_text_is_a_template(prompt):
    for row in (CHOICE | {"prompt": prompt}, COMPLETION | {"prompt": prompt, "answer": "{{prompt}}"}):
        task = load(lines(row))
        task.set_config("num_fewshot", 0)
        task.build_all_requests()
        assert all(request.args[0] == prompt for request in task.instances)
    assert task.doc_to_target(task.eval_docs[0]) == "{{prompt}}"
    text = load(lines({"text": prompt}))
    assert text.doc_to_target(text.eval_docs[0]) == prompt


def test_bytes_paths_marks_and_windows_line_ends_are_read(tmp_path):
    path = tmp_path / "Über my test (1).jsonl"
    path.write_bytes(
        b"\xef\xbb\xbf" + "\r\n".join([json.dumps(COMPLETION), "", '{"prompt": "é", "answer": "ü "}', ""]).encode()
    )
    task = load_benchmark(path)
    assert task.task_name == "custom_Über_my_test_1"
    assert [doc["answer"] for doc in task.eval_docs] == ["4", "ü"]
    assert load(path.read_bytes()).eval_docs[1]["prompt"] == "é"
    assert load_benchmark(path, "other").task_name == "custom_other"
    assert load_benchmark(lines(TEXT)).task_name == "custom_benchmark"


def test_line_separators_within_a_text_are_no_lines():
    assert load('{"text": "one\u2028two\x85three"}').eval_docs[0]["text"] == "one\u2028two\x85three"


def test_answers_may_be_numbers_of_choices():
    assert [load(lines(CHOICE | {"answer": n})).eval_docs[0]["answer"] for n in range(3)] == [0, 1, 2]
    counted = {"prompt": "One and one is", "choices": ["1", "2"], "answer": "1"}
    assert load(lines(counted)).eval_docs[0]["answer"] == 0  # the text, where it is a text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "mine.jsonl is empty"),
        (" \n\r\n\t", "mine.jsonl is empty"),
        (b"\xef\xbb\xbf", "mine.jsonl is empty"),
        ("prompt,answer\n1,2", "line 1 is not JSON"),
        (lines(COMPLETION) + "\n{'prompt': 1}", "line 2 is not JSON"),
        (lines(COMPLETION) + "\n\n" + lines([1]), r"line 3 is not a JSON object but '\[1\]'"),
        (json.dumps([COMPLETION]), "line 1 is not a JSON object"),
        (lines(COMPLETION).encode("utf-16"), "line 1 is not UTF-8"),
        (lines(COMPLETION).encode() + b'\n{"text": "\xff"}', "line 2 is not UTF-8"),
        ('{"text": "\\ud800"}', "line 1 holds half of a surrogate pair"),
        ('{"text": "a", "text": "b"}', "line 1 is not usable: the field 'text' stands twice"),
        ('{"text": NaN}', "line 1 is not usable: NaN is no JSON number"),
        ('{"text": ' + "9" * 5000 + "}", "line 1 is not usable: Exceeds the limit"),
        ('{"text": ' + "[" * 100_000, "line 1 (is nested too deeply|is not JSON)"),
        ('{"text": "' + "a" * MAX_LINE_CHARACTERS + '"}', "line 1 has 200,012 characters: at most 200,000"),
        ("\n" * (MAX_BYTES + 1), "mine.jsonl has 33,554,433 bytes: at most 33,554,432"),
        (lines({}), "line 1 has the fields ''"),
        (lines({"prompt": "a"}), "line 1 has the fields 'prompt': a line holds prompt, choices and answer"),
        (lines(CHOICE | {"id": 1}), "line 1 has the fields"),
        (lines(COMPLETION, CHOICE), "line 2 is of another kind than the lines before, which hold answer, prompt"),
        (lines(COMPLETION, COMPLETION), "line 2 repeats line 1"),
        (lines(COMPLETION, {"text": "x"}, COMPLETION), "line 2 is of another kind"),
        (lines(COMPLETION | {"answer": 4}), "line 1 has the answer 4: a text is needed"),
        (lines(COMPLETION | {"answer": " "}), "line 1 has the answer ' ': a text is needed"),
        (lines(COMPLETION | {"prompt": ""}), "line 1 has the prompt '': a text is needed"),
        (lines(COMPLETION | {"answer": "a\nb"}), r"line 1 has an answer with '\\n' in it"),
        (lines(COMPLETION | {"answer": "a.b", "stop": "."}), "line 1 has an answer with '.' in it"),
        (lines(COMPLETION | {"stop": ""}), "line 1 has the stop ''"),
        (lines(COMPLETION, {"prompt": "a", "answer": "b", "stop": "."}), "line 2 has another stop"),
        (lines(COMPLETION | {"answer": "a" * (MAX_ANSWER_CHARACTERS + 1)}), "line 1 has 1,001 characters of answer"),
        (lines(CHOICE | {"choices": "blue"}), "line 1 has the choices 'blue': a list of 2 to 100"),
        (lines(CHOICE | {"choices": ["blue"]}), "line 1 has the choices"),
        (lines(CHOICE | {"choices": ["blue", 7]}), "line 1 has the choice 7: a text is needed"),
        (lines(CHOICE | {"choices": ["blue", ""]}), "line 1 has the choice '': a text is needed"),
        (lines(CHOICE | {"choices": ["blue", "blue"]}), "line 1 has a choice twice"),
        (lines(CHOICE | {"prompt": None}), "line 1 has the prompt None"),
        (lines(CHOICE | {"answer": "green"}), "line 1 has the answer 'green': it must be one of the choices, or its number"),
        (lines(CHOICE, CHOICE | {"answer": 3}), "line 2 has the answer 3"),
        (lines(CHOICE | {"answer": -1}), "line 1 has the answer -1"),
        (lines(CHOICE | {"answer": True}), "line 1 has the answer True"),
        (lines(CHOICE | {"answer": 1.0}), "line 1 has the answer 1.0"),
        (lines(TEXT | {"text": ["a"]}), r"line 1 has the text \['a'\]: a text is needed"),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_its_line(content, message):
    with pytest.raises(ValueError, match=message) as refused:
        load(content)
    assert_one_sentence(refused.value)


@pytest.mark.parametrize("name", ["", "../..", "***", "a" * 200])
def test_impossible_names_are_refused(name):
    with pytest.raises(ValueError, match="no name for a benchmark"):
        load_benchmark(lines(TEXT), name or "_")


def assert_one_sentence(error: ValueError) -> None:
    text = str(error)
    assert "\n" not in text and text.endswith(".") and len(text) < 400, text


def _damage(text: str, chance: random.Random) -> bytes:
    """Valid JSON with one fault of the kinds that editors, exports and broken disks make."""
    raw = bytearray(text.encode())
    at = chance.randrange(len(raw))
    kind = chance.randrange(5)
    if kind == 0:
        return bytes(raw[:at])
    if kind == 1:
        raw[at:at] = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 9)))
    elif kind == 2:
        raw[at] ^= 1 << chance.randrange(8)
    elif kind == 3:
        del raw[at : at + chance.randrange(1, 12)]
    else:
        value = json.loads(text)
        value[chance.choice(list(value))] = chance.choice([None, -1, [], {}, "", "\0", 1e999, [[1]], True, "x" * 10**5])
        return json.dumps(value).encode()
    return bytes(raw)


@pytest.mark.parametrize("seed", range(3))
def test_200_damaged_uploads_are_refused_in_one_sentence_or_still_benchmarks(seed):
    chance, refused = random.Random(seed), 0
    for number in range(200):
        content = lines(COMPLETION).encode() + b"\n" + _damage(lines((CHOICE, COMPLETION, TEXT)[number % 3]), chance)
        try:
            task = load(content)
        except ValueError as error:
            assert_one_sentence(error)
            refused += 1
        else:  # a changed letter of a prompt is no fault
            assert all(isinstance(doc["prompt"], str) and doc["answer"] for doc in task.eval_docs)
    assert refused > 150


def test_200_damaged_records_are_each_named_and_the_whole_one_stays(tmp_path):
    golden = (Path(__file__).parents[2] / "golden_records" / "v1.json").read_text(encoding="utf-8")
    chance, record = random.Random(4), Record.model_validate_json(golden)
    whole = tmp_path / record.path
    whole.parent.mkdir(parents=True)
    for number in range(200):
        broken = whole.with_name(f"{number}.json")
        broken.write_bytes(_damage(golden, chance))
        with pytest.raises(ValueError, match=f"{number}.json") as refused:
            load_record(tmp_path, broken)
        assert "\n" not in str(refused.value)
    whole.write_text(golden)
    records, problems = load_records(tmp_path)
    assert records == [record] and len(problems) == 200


def test_random_task_names_are_refused_in_one_sentence():
    chance = random.Random(5)
    for _ in range(30):
        characters = "abcdefghijklmnopqrstuvwxyz_-./\\{}%\0\n é🙂*?[]"
        name = "".join(chance.choice(characters) for _ in range(chance.randrange(6, 30)))
        with pytest.raises(ValueError, match="There is no task") as refused:
            check_names([name])
        assert "\n" not in str(refused.value)
