"""ZeroGPU: functions are as they are, or borrow a GPU for as long as their request can take."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from app import zero_gpu


@pytest.fixture
def borrowed(monkeypatch):
    """What was asked of a `spaces` that notes it, call by call."""
    asked = []

    def gpu(duration):
        def decorate(function):
            def call(*args, **kwargs):
                asked.append(duration(*args, **kwargs))
                return function(*args, **kwargs)

            return call

        return decorate

    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=gpu))
    monkeypatch.setattr(zero_gpu, "BORROWED", True)
    return asked


def test_elsewhere_a_function_is_as_it_is():
    def function():
        pass

    assert zero_gpu.on_gpu(lambda: 1.0)(function) is function


def test_the_seconds_come_from_the_request(borrowed):
    @zero_gpu.on_gpu(lambda tokens, scale=1.0: 0.2 * scale * tokens)
    def tokens_up_to(tokens, scale=1.0):
        yield from range(tokens)

    assert list(tokens_up_to(10)) == list(range(10)) and list(tokens_up_to(100, scale=2.0)) == list(range(100))
    assert borrowed == [zero_gpu.START_S + 2, zero_gpu.START_S + 40]


def test_nobody_asks_for_more_than_a_visitor_may_have(borrowed):
    zero_gpu.on_gpu(lambda: 1e9)(lambda: None)()
    zero_gpu.on_gpu(lambda: -1.0)(lambda: None)()
    assert borrowed == [zero_gpu.LONGEST_S, zero_gpu.START_S]


@pytest.mark.parametrize(
    ("module", "name", "few", "many"),
    [
        ("services", "generate", ("demo", "17-22", "Hi", 10, 0.0, 0), ("demo", "17-22", "Hi", 300, 0.0, 0)),
        ("services", "_compute_similarity", ("demo", (1,) * 8, "x"), ("demo", (1,) * 512, "x")),
        ("services", "_compute_weights", ("demo", (1,) * 8, 0), ("demo", (1,) * 128, 0)),
        ("searches", "spans", ("demo", "", 64), ("demo", "", 8192, 1)),
        ("searches", "suggestions", ("demo", "", 64, "f", 1, (), ""), ("demo", "", 1024, "f", 1, (), "")),
        ("searches", "pairs", ("demo", "", 64), ("demo", "", 1024)),
        ("searches", "similarities", ("demo", "", 64), ("demo", "", 1024)),
        ("evaluations", "steps", ("demo", "", ("a",), 10, {}), ("demo", "", ("a", "b"), 100, {}, "")),
    ],
)
def test_every_function_that_computes_takes_its_own_arguments(module, name, few, many):
    """The seconds are told from the arguments that the function is called with (run in a process of its own)."""
    code = f"""
import sys, types
asked = []
def gpu(duration):
    def decorate(function):
        function.seconds = duration
        return function
    return decorate
sys.modules["spaces"] = types.ModuleType("spaces"); sys.modules["spaces"].GPU = gpu
sys.modules["spaces"].__spec__ = types.SimpleNamespace()
from app import {module}
few, many = {module}.{name}.seconds(*{few!r}), {module}.{name}.seconds(*{many!r})
assert 15 <= few < many <= 120, (few, many)
"""
    environment = os.environ | {"SPACES_ZERO_GPU": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
