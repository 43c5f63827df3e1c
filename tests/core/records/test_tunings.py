"""Records of tuning, and what a tuned model says of itself in the records of its scores."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from core.records import load_records, load_tunings, read_tunings, save_record, save_tuning
from core.records.tunings import TuningRecord, tuned_of
from tests.core.records.test_scores import make as make_score

GOLDEN = Path(__file__).parents[2] / "golden_records" / "tuning-v1.json"
TUNED = {
    "of": "demo", "control": True, "plan": "", "method": "full", "objective": "text", "tokens": 4096, "steps": 8,
    "seed": 0, "data_sha256": "abc",
}  # fmt: skip


def make(**changes) -> TuningRecord:
    return TuningRecord.model_validate(json.loads(GOLDEN.read_text(encoding="utf-8")) | changes)


def test_format_1_keeps_loading_and_keeps_its_order():
    record = make()
    assert record.path == Path("some-lab--some-model/tunings") / f"{record.name}.json"
    assert record.name.startswith("5-6,17-22+lora+distillation+seed=7+of=")
    assert record.held_out[0] == (0, 3.5, 0.01) and record.losses[-1] == (20, 3.1)
    assert json.loads(record.model_dump_json()) == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_what_is_saved_is_loaded_and_a_finished_run_takes_the_place_of_its_beginning(tmp_path):
    begun, finished, control = make(finished=False, steps=10), make(), make(control=True)
    assert save_tuning(tmp_path, begun) == save_tuning(tmp_path, finished) != save_tuning(tmp_path, control)
    assert load_tunings(tmp_path) == sorted([finished, control], key=lambda record: record.path)
    assert load_records(tmp_path) == ([], [])  # they are no scores


def test_broken_files_are_named_and_left_out(tmp_path):
    path = save_tuning(tmp_path, make())
    for name, content in (("a.json", "{"), ("b.json", path.read_text()), ("c.json", '{"plan": "1-2"}')):
        (path.parent / name).write_text(content)
    (path.parent / "d.json").symlink_to("nowhere")
    loaded, problems = read_tunings(tmp_path)
    assert loaded == load_tunings(tmp_path) == [make()]
    assert ["a.json" in p for p in problems].count(True) == 1 and len(problems) == 4


def test_a_plan_is_written_in_one_way():
    with pytest.raises(ValidationError, match="not written as this project writes plans"):
        make(plan="17-22,5-6")


def test_scores_of_a_control_say_what_it_is(tmp_path):
    record = save_record(tmp_path, make_score(plan="", followers=(), kind="control", tuning=TUNED))
    assert load_records(tmp_path) == ([record], []) and record.tuning == TUNED
    assert "tuning" not in make_score().model_dump()
    with pytest.raises(ValidationError, match="of"):
        make_score(tuning=TUNED | {"of": 7})


class Config:
    """A configuration with nothing in it."""

    def __init__(self, **fields):
        vars(self).update(fields)


@pytest.mark.parametrize("said", [None, 7, "x", {}, TUNED | {"of": ""}, TUNED | {"more": 1}, {"of": "a" * 10**6}])
def test_what_a_strangers_configuration_says_is_not_believed(said):
    assert tuned_of(Config(tuning=said)) is None and tuned_of(Config()) is None
    assert tuned_of(Config(tuning=TUNED)).control
