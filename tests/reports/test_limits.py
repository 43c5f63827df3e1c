"""Reports on what runs full: buffers, memory, and marks that are kept."""

import gc
import sys
from types import SimpleNamespace

import pytest
import torch

from app.components.stop import Stops
from app.registry import LRUCache
from core import share_attention
from core.__main__ import main
from core.decoding.graph import GraphDecoder
from tests.support import step_reference
from tests.support.families import make


def test_a_recorded_decoder_does_not_wrap(monkeypatch):
    """GraphDecoder past its capacity: the 9th token overwrites the first, and logits are wrong without a word"""
    monkeypatch.setitem(sys.modules, "core.decoding.kernels", step_reference)
    decoder = GraphDecoder(share_attention(make("llama", "sdpa"), "1-2"), 1, 8, fuse=False)
    decoder.prefill(torch.arange(8)[None])
    with pytest.raises(ValueError, match="room for 8 tokens"):
        decoder.step(torch.tensor([1]))


def test_no_room_for_the_probe(monkeypatch, capsys):
    """measure: torch.OutOfMemoryError from copy_bytes_per_s, with a traceback, when the model fills the GPU"""

    def full(device):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1024.00 MiB.")

    monkeypatch.setattr("core.commands.measure.copy_bytes_per_s", full)
    assert main(["measure", "--model", "demo", "--plan", "17-22", "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: This device's memory does not hold") and error.count("\n") == 1


def test_no_room_for_the_model(monkeypatch, capsys):
    """search, sweep, evaluate …: out of memory ends in a traceback"""

    def full(*arguments, **settings):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("core.models.load_model", full)
    assert main(["similarity", "--model", "demo", "--device", "cpu"]) == 2
    assert capsys.readouterr().err.startswith("error: This device's memory does not hold that")


def test_locks_of_keys_that_failed():
    """The page keeps a lock for every model name that was ever mistyped"""
    cache = LRUCache(2)

    def fail():
        raise ValueError("no such model")

    for key in range(50):
        with pytest.raises(ValueError):
            cache.get(key, fail)
    for key in range(50):
        cache.get(key, object)
    assert not cache._making and len(cache._items) == 2


def test_stop_marks_of_visitors_who_are_gone():
    """The page keeps a mark for every visitor who ever pressed Stop"""
    stops = Stops()
    visitors = [SimpleNamespace(session_hash=str(number)) for number in range(50)]
    runs = [stops.from_now(visitor) for visitor in visitors]
    for visitor in visitors[:25]:
        stops.press(visitor)
    assert [run() for run in runs] == [True] * 25 + [False] * 25
    later = stops.from_now(visitors[0])
    assert not later() and not stops.from_now(None)()
    del runs, later
    gc.collect()
    assert not len(stops._runs)
