"""Every record of the project is read, without a complaint, and would be written again as it stands."""

import json
from pathlib import Path

from core.places import RESULTS
from core.records import (
    load_emergences,
    load_peers,
    load_pretrainings,
    load_records,
    load_searches,
    load_timings,
    save_search,
)
from core.records.files import write_record
from core.records.scores import Record
from core.records.timings import TimingRecord

GOLDEN = Path(__file__).parents[2] / "golden_records"
OTHERS = {"timings", "tunings", "pretraining", "emergence", "peers"}
SCORES = sorted(path for path in RESULTS.glob("*/*/*.json") if path.parent.name not in OTHERS)
PEERS = sorted(RESULTS.glob("*/peers/*.json"))
TIMINGS, SEARCHES = sorted(RESULTS.glob("*/timings/*.json")), sorted(RESULTS.glob("*/searches/*.jsonl"))


def test_nothing_is_left_out():
    kinds = ((load_records, SCORES), (load_timings, TIMINGS), (load_searches, SEARCHES), (load_peers, PEERS))
    for load, files in kinds:
        records, problems = load(RESULTS)
        assert problems == [] and len(records) == len(files) > 0
        assert {RESULTS / record.path for record in records} == set(files)


def test_training_runs_are_read():
    for load, folder in ((load_pretrainings, "pretraining"), (load_emergences, "emergence")):
        records, problems = load(RESULTS)
        assert problems == []
        assert {RESULTS / record.path for record in records} == set(RESULTS.glob(f"*/{folder}/*.json"))


def test_a_timing_that_is_written_again_is_the_same_to_the_byte(tmp_path):
    for record in load_timings(RESULTS)[0]:
        write_record(tmp_path / "again.json", record)
        assert (tmp_path / "again.json").read_bytes() == (RESULTS / record.path).read_bytes(), record.path


def test_a_score_that_is_written_again_is_the_same_but_for_fields_that_are_younger(tmp_path):
    younger = {"parts": {}, "truncated_requests": None, "data_source": None}
    for record in load_records(RESULTS)[0]:
        write_record(tmp_path / "again.json", record)
        was, again = (json.loads(path.read_bytes()) for path in (RESULTS / record.path, tmp_path / "again.json"))
        assert again == younger | was, record.path
        assert [name for name in again if name in was] == list(was), record.path


def test_a_search_that_is_written_again_is_the_same_to_the_byte(tmp_path):
    for stored in load_searches(RESULTS)[0]:
        again = save_search(tmp_path, *stored)
        assert again.read_bytes() == (RESULTS / stored.path).read_bytes(), stored.path


def test_golden_files_keep_the_order_of_their_fields(tmp_path):
    for name, kind in (("v1.json", Record), ("timing-v1.json", TimingRecord)):
        golden = (GOLDEN / name).read_bytes()
        fields = list(kind.model_validate_json(golden).model_dump())
        assert [field for field in fields if f'\n  "{field}"'.encode() in golden] == _names(golden)


def _names(content: bytes) -> list[str]:
    lines = content.decode().splitlines()
    return [line.split('"')[1] for line in lines if line.startswith('  "')]
