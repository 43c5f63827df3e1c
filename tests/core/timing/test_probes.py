"""What is timed beside the two models."""

import torch

from core.timing.measure import Workload
from core.timing.probes import copy_bytes_per_s, time_generate


def test_generate_is_timed_step_by_step(tiny_model):
    timed = time_generate(tiny_model(), Workload(2, 6, 4))
    assert timed.step_s.repeats == 4 and timed.step_s.median > 0


def test_copying_is_measured_in_bytes_read_and_written():
    assert 1e8 < copy_bytes_per_s(torch.device("cpu")) < 1e13


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
