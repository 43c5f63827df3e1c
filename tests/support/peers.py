"""A made-up record of peers."""

from typing import Any

from core.records.peers import PeersRecord, TimedPeer
from core.records.provenance import Machine
from core.records.timings import Quartiles


def timed_peer(name: str, step_ms: float, **more: Any) -> TimedPeer:
    """A peer whose steps took about so long; it chose the model's own tokens unless `more` says otherwise."""
    spread = Quartiles(median=step_ms / 1e3, low=(step_ms - 2) / 1e3, high=(step_ms + 2) / 1e3, repeats=64)
    agreement = {} if name == "plan" else {"tokens_alike": 33, "tokens_checked": 33, "logits_apart": 1e-6}
    return TimedPeer(name=name, path="made up", step_s=spread, **{"precision": "float32"} | agreement | more)


def peers_record(**changes: Any) -> PeersRecord:
    """This project, with a plan and once more, beside llama.cpp, which chose 30 of 33 tokens."""
    peers = [
        timed_peer("dense", 10), timed_peer("plan", 9), timed_peer("again", 10.1),
        timed_peer("llama.cpp-f32", 8, tokens_alike=30, logits_apart=0.02),
    ]  # fmt: skip
    fields = {
        "model": "tiny", "weights": "0" * 64, "num_layers": 24, "plan": "17-22", "dtype": "float32", "batch_size": 1,
        "context_tokens": 64, "new_tokens": 64, "threads": 2, "peers": peers, "left_out": {"gpt-fast": "No compiler."},
        "versions": {"torch": "2.13", "llama-cpp-python": "0.3.36"}, "git_commit": None,
        "machine": Machine(cpu="A CPU", cpu_cores=2), "date": "2026-11-29T00:00:00Z", "duration_s": 1.0,
        "command": "python -m core peers",
    }  # fmt: skip
    return PeersRecord(**fields | changes)
