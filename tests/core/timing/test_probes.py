"""What is timed beside the two models."""

import time
from dataclasses import replace

import pytest
import torch

from core.cost import known_shapes
from core.timing import probes
from core.timing.measure import Workload
from core.timing.probes import (
    attention_flops_per_s,
    copy_bytes_per_s,
    matmul_flops_per_s,
    read_bytes_per_s,
    time_generate,
)


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


def test_products_and_attention_are_measured_in_flops(monkeypatch):
    shape, cpu = known_shapes()["Llama-3-8B"], torch.device("cpu")
    monkeypatch.setattr("core.timing.probes._sustained_s", lambda device, function: function() is not None and 0.5)
    assert matmul_flops_per_s(cpu, torch.float32, 4, 8, 16) == 2 * 4 * 8 * 16 / 0.5
    assert attention_flops_per_s(cpu, torch.float32, shape, 2, 8) == 2 * 4 * 8 * 8 * 4096 / 0.5


def test_what_is_sustained_is_the_time_of_one_among_many(monkeypatch):
    monkeypatch.setitem(probes._LEAST_S, "cpu", 0.02)
    assert 0.001 <= probes._sustained_s(torch.device("cpu"), lambda: time.sleep(0.001)) < 0.05


@pytest.mark.parametrize(("heads", "kv_heads", "head_dim", "tokens"), [(4, 2, 16, 7), (6, 1, 8, 40), (3, 3, 32, 130)])
@torch.inference_mode()
def test_kernels_of_attention_that_are_timed_beside_each_other_compute_the_same(heads, kv_heads, head_dim, tokens):
    """Those of recorded steps were timed, and that of plain steps, which most models take, was not."""
    pytest.importorskip("triton")
    shape = replace(
        known_shapes()["Llama-3-8B"], num_heads=heads, num_kv_heads=kv_heads, head_dim=head_dim, layer_sizes=()
    )
    ways = probes.attention_ways(shape, Workload(2, tokens, 1), torch.float32, torch.device("cpu"))
    expected = ways["matmul"]().flatten()
    for name in ("triton, plain step (this project)", "triton (this project)"):  # sdpa's backends are for GPUs
        torch.testing.assert_close(ways[name]().flatten(), expected, rtol=1e-4, atol=1e-5)
