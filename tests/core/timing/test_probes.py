"""What is timed beside the two models."""

import torch

from core.timing.measure import Workload
from core.timing.probes import copy_bytes_per_s, time_generate


def test_generate_is_timed_step_by_step(tiny_model):
    timed = time_generate(tiny_model(), Workload(2, 6, 4))
    assert timed.step_s.repeats == 4 and timed.step_s.median > 0


def test_copying_is_measured_in_bytes_read_and_written():
    assert 1e8 < copy_bytes_per_s(torch.device("cpu")) < 1e13
