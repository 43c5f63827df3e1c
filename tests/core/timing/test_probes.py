"""What is timed beside the two models."""

import torch

from core.timing.measure import Workload
from core.timing.probes import copy_bytes_per_s, read_bytes_per_s, time_generate


def test_generate_is_timed_step_by_step(tiny_model):
    timed = time_generate(tiny_model(), Workload(2, 6, 4))
    assert timed.step_s.repeats == 4 and timed.step_s.median > 0


def test_copying_is_measured_in_bytes_read_and_written():
    assert 1e8 < copy_bytes_per_s(torch.device("cpu")) < 1e13


def test_reading_is_measured_by_the_fastest_of_its_sums(monkeypatch):
    times_s = iter([0.5, 0.25, 1.0])
    monkeypatch.setattr("core.timing.probes._median_s", lambda device, way: way() is not None and next(times_s))
    assert read_bytes_per_s(torch.device("cpu")) == 2**28 / 0.25


def test_reading_is_measured_in_bytes_read():
    assert 1e8 < read_bytes_per_s(torch.device("cpu")) < 1e13


def test_where_little_room_is_left_a_smaller_copy_is_measured(monkeypatch):
    asked = []

    def ones(size, **settings):
        asked.append(size)
        if size > 2**28:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.zeros(16, dtype=torch.uint8)

    monkeypatch.setattr(torch, "ones", ones)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    assert copy_bytes_per_s(torch.device("cuda")) > 0
    assert asked == [2**30, 2**29, 2**28]
