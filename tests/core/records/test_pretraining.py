"""Records of training runs: written, read back, named when broken, and never taken for scores."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from core.records.emergence import Checkpoint, EmergenceRecord, load_emergences, save_emergence
from core.records.pretraining import PretrainingRecord, load_pretrainings, pretraining_frame, save_pretraining
from core.records.scores import load_records
from tests.support.trainings import emergence, pretraining

GOLDEN = Path(__file__).parents[2] / "golden_records"


def test_a_run_is_read_back_as_it_was_written_and_is_no_score(tmp_path):
    cells = [pretraining(at, seed, 1.2) for seed in (0, 1) for at in (0.0, 0.5, None)]
    paths = {save_pretraining(tmp_path, one) for one in cells}
    assert len(paths) == 6 and {path.parent for path in paths} == {tmp_path / "tiny" / "pretraining"}
    found, problems = load_pretrainings(tmp_path)
    assert problems == [] and sorted(found, key=str) == sorted(cells, key=str)
    assert load_records(tmp_path) == ([], [])
    assert save_pretraining(tmp_path, pretraining(0.5, 1, 1.3)) in paths  # the same run again takes its own place


def test_other_recipes_corpora_and_plans_have_files_of_their_own():
    one = pretraining(0.5, 0, 1.2)
    others = [{"recipe": {"steps": 200}}, {"corpus": {"train": "2"}}, {"plan": "2-3"}]
    experiments = {one.experiment} | {pretraining(0.5, 0, 1.2, **other).experiment for other in others}
    assert len(experiments) == 4
    assert pretraining(None, 7, 1.2).experiment == one.experiment


@pytest.mark.parametrize(
    "wrong",
    [{"share_from": 1.0}, {"share_from": -0.1}, {"plan": "dense"}, {"plan": "2-9"}, {"losses": [(1, 2.0)] * 1001}],
)
def test_what_no_run_can_be_is_refused(wrong):
    right = pretraining(0.5, 0, 1.2).model_dump()
    with pytest.raises(ValidationError):
        PretrainingRecord.model_validate(right | wrong)


def test_broken_and_renamed_files_are_named_and_left_out(tmp_path):
    path = save_pretraining(tmp_path, pretraining(0.5, 0, 1.2))
    path.with_name("broken.json").write_text('{"format_version": 9}')
    path.rename(path.with_name("renamed.json"))
    found, problems = load_pretrainings(tmp_path)
    assert found == [] and len(problems) == 2
    assert "broken.json is not a record of pretraining" in problems[0] and "renamed.json is out of place" in problems[1]
    path = save_emergence(tmp_path, emergence())
    path.write_text(path.read_text()[:-9])
    assert load_emergences(tmp_path)[0] == [] and "is not a record of similarity" in load_emergences(tmp_path)[1][0]


def test_the_frame_has_a_row_per_score_and_never_stands_after_the_last_step():
    frame = pretraining_frame([pretraining(0.0, 0, 1.2), pretraining(None, 0, 1.1)])
    prose = frame[frame.score == "prose_bits_per_char"]
    assert len(frame) == 4 and prose.share_from.tolist() == [0, 1] and prose.value.tolist() == [1.2, 1.1]
    assert pretraining_frame([]).empty and "share_from" in pretraining_frame([])


def test_a_watched_run_is_small_and_read_back(tmp_path):
    record = emergence(num_layers=24, moments=12)
    path = save_emergence(tmp_path, record)
    assert load_emergences(tmp_path) == ([record], []) and load_records(tmp_path) == ([], [])
    assert path.stat().st_size < 80_000
    matrix = np.random.default_rng(0).uniform(-1, 1, (5, 5))
    alike = (matrix + matrix.T) / 2
    np.fill_diagonal(alike, 1)
    found = Checkpoint.of(0, 0, {"per_head": alike}).matrix("per_head", 5)
    assert np.abs(found - alike).max() <= 0.0005 and (found == found.T).all()


def test_moments_out_of_order_or_of_other_sizes_are_refused():
    one = emergence()
    for wrong in (one.checkpoints[::-1], one.checkpoints[:1], [*one.checkpoints[:-1], emergence(5).checkpoints[-1]]):
        with pytest.raises(ValidationError):
            emergence(checkpoints=wrong)


def test_runs_of_the_first_format_still_load(tmp_path):
    run = (GOLDEN / "pretraining-v1.json").read_bytes()
    record = PretrainingRecord.model_validate_json(run)
    assert (record.share_from, record.seed, record.scores["recall"].n) == (0.5, 1, 500)
    assert save_pretraining(tmp_path, record).read_bytes() == run
    watched = (GOLDEN / "emergence-v1.json").read_bytes()
    emerged = EmergenceRecord.model_validate_json(watched)
    assert (emerged.num_layers, len(emerged.checkpoints)) == (4, 3)
    assert save_emergence(tmp_path, emerged).read_bytes() == watched
    assert load_pretrainings(tmp_path) == ([record], []) and load_emergences(tmp_path) == ([emerged], [])
