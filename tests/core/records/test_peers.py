"""Records of peers: written, read back, named when broken, and one row for each peer in the frame."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from core.records.peers import PeersRecord, load_peers, peers_frame, save_peers
from core.records.scores import load_records
from core.records.timings import load_timings
from tests.support.peers import peers_record

GOLDEN = Path(__file__).parents[2] / "golden_records/peers-v1.json"


def test_a_record_is_read_back_as_it_was_written_and_is_of_no_other_kind(tmp_path):
    record = peers_record()
    save_peers(tmp_path, record)
    assert load_peers(tmp_path) == ([record], [])
    assert load_records(tmp_path) == ([], []) and load_timings(tmp_path) == ([], [])


def test_records_of_the_first_format_still_load(tmp_path):
    golden = PeersRecord.model_validate_json(GOLDEN.read_bytes())
    assert (golden.plan, golden.threads, golden.peers[0].step_s.repeats) == ("17-22", 1, 8)
    assert [peer.name for peer in golden.peers] == ["dense", "plan", "again", "llama.cpp-f32"]
    assert "C++ compiler" in golden.left_out["gpt-fast"] and "AVX2" in golden.features
    save_peers(tmp_path, golden)
    assert load_peers(tmp_path) == ([golden], [])


def test_a_broken_record_is_named_and_left_out(tmp_path):
    path = save_peers(tmp_path, peers_record())
    path.with_name("broken.json").write_text('{"format_version": 9}')
    records, [problem] = load_peers(tmp_path)
    assert len(records) == 1 and "broken.json is not a record of peers" in problem


def test_points_that_differ_have_files_of_their_own(tmp_path):
    record = peers_record()
    others = [
        {"batch_size": 8}, {"context_tokens": 1}, {"threads": 1}, {"threads": None}, {"new_tokens": 9}, {"plan": "1-2"},
        {"dtype": "bfloat16"}, {"weights": "1" * 64}, {"num_layers": 30},
    ]  # fmt: skip
    records = [record, *(record.model_copy(update=other) for other in others)]
    assert len({one.path for one in records}) == len({one.point for one in records}) == len(records)
    for one in records:
        save_peers(tmp_path, one)
    assert len(load_peers(tmp_path)[0]) == len(records)


def test_the_frame_has_tokens_per_second_and_their_ratio_to_this_project():
    frame = peers_frame([peers_record(batch_size=4)]).set_index("name")
    assert frame.tokens_per_s["dense"] == pytest.approx(4 / 0.010)
    row = frame.loc["llama.cpp-f32"]
    assert (row.tokens_per_s, row.low_tokens_per_s, row.high_tokens_per_s) == pytest.approx((500, 400, 4 / 0.006))
    assert row.ratio == pytest.approx(1.25) and frame.ratio["dense"] == 1
    assert frame.plan["plan"] == "17-22" and frame.plan["dense"] == ""
    assert frame.same_tokens.to_dict() == {"dense": True, "plan": None, "again": True, "llama.cpp-f32": False}
    assert peers_frame([]).empty


@pytest.mark.parametrize("change", [{"peers": []}, {"plan": "17-99"}, {"threads": 0}])
def test_what_cannot_be_a_record_is_refused(change):
    with pytest.raises(ValidationError):
        PeersRecord.model_validate(peers_record().model_dump() | change)
    twice = peers_record().model_dump()
    with pytest.raises(ValidationError, match="names of their own"):
        PeersRecord.model_validate(twice | {"peers": twice["peers"] * 2})
