"""Records of peers: who takes part at one workload, held against the model's own forward, timed in turn."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from transformers import PreTrainedModel

from core.gguf_source import quantization_of
from core.plan import SharingPlan
from core.records.peers import AGAIN, OWN, PLANNED, PeersPoint, PeersRecord, TimedPeer
from core.records.provenance import machine, provenance
from core.records.timings import device_name
from core.sharing import share_attention
from core.timing.clock import free_memory, quartiles
from core.timing.measure import Workload, prompt_of
from core.timing.peers import llama
from core.timing.peers.own import OwnPeer
from core.timing.peers.peer import LeftOut, Peer
from core.timing.peers.plain import PlainPeer
from core.timing.peers.stock import StockPeer
from core.timing.peers.turns import Alike, compare, own_logits, room_for, time_in_turns


@dataclass(frozen=True)
class PeersBench:
    """A dense model on one device, and the programs that it is to be timed in.

    weights: their SHA-256, or `random`. plan: this project's model under it takes part too, unless it is empty. others: of
    `core.timing.peers.peer.OTHERS`. threads: of all programs, on a CPU.
    """

    name: str
    weights: str
    model: PreTrainedModel
    plan: SharingPlan
    others: tuple[str, ...]
    threads: int

    def point(self, workload: Workload) -> PeersPoint:
        """What the record at a workload is of."""
        return PeersPoint(
            self.name, self.weights, self.plan.num_layers, str(self.plan), workload.batch_size, workload.context_tokens,
            workload.new_tokens, self._dtype, device_name(machine(self.model.device), 1), self._threads,
        )  # fmt: skip

    def has_all(self, record: PeersRecord) -> bool:
        """Whether a record of the same point has timed all that is asked, or said why not."""
        return set(self.others) <= {*(peer.name for peer in record.peers), *record.left_out}

    def measure(self, workload: Workload) -> PeersRecord:
        """The record of one workload. Raises torch.OutOfMemoryError where not all peers fit at once."""
        begin = time.monotonic()
        peers: dict[str, Peer] = {}
        left_out: dict[str, str] = {}
        try:
            for name, start in self._ways(workload).items():
                try:
                    peers[name] = start()
                except LeftOut as reason:
                    left_out[name] = str(reason)
            prompt = prompt_of(self.model, workload)
            expected = own_logits(self.model, prompt)
            alike = {name: compare(peer, prompt, expected) for name, peer in peers.items()}
            times_s = time_in_turns(list(peers.values()), prompt, workload.new_tokens)
            timed = [
                _timed(name, peer, alike[name], taken)
                for (name, peer), taken in zip(peers.items(), times_s, strict=True)
            ]
        finally:
            for peer in peers.values():
                peer.close()
            del peers
            torch.compiler.reset()  # what was compiled holds caches
            free_memory()
        return self._record(workload, begin, timed, left_out)

    def _ways(self, workload: Workload) -> dict[str, Callable[[], Peer]]:
        """By name, how each peer is started."""
        rows, room = workload.batch_size, room_for(workload.context_tokens, workload.new_tokens)
        own = partial(OwnPeer, self.model, rows, room)
        ways: dict[str, Callable[[], Peer]] = {OWN: own}
        if self.plan:
            ways[PLANNED] = lambda: OwnPeer(share_attention(self.model, self.plan), rows, room)
        others: dict[str, Callable[[], Peer]] = {
            "transformers-dynamic": partial(StockPeer, self.model, room, static=False),
            "transformers-static": partial(StockPeer, self.model, room, static=True),
            "gpt-fast": partial(PlainPeer, self.model, rows, room),
            "llama.cpp-f32": partial(llama.LlamaPeer, self.model, rows, room, "float32", self.threads),
            "llama.cpp-f16": partial(llama.LlamaPeer, self.model, rows, room, "float16", self.threads),
        }
        return ways | {AGAIN: own} | {name: others[name] for name in self.others}

    def _record(
        self, workload: Workload, begin: float, timed: list[TimedPeer], left_out: dict[str, str]
    ) -> PeersRecord:
        about = provenance(begin, self.model.device)
        features = ""
        if any(peer.name.startswith("llama.cpp") for peer in timed):
            version, features = llama.about()
            about["versions"] |= {llama.PACKAGE: version}
        return PeersRecord(
            model=self.name, weights=self.weights, num_layers=self.plan.num_layers, plan=str(self.plan), dtype=self._dtype,
            batch_size=workload.batch_size, context_tokens=workload.context_tokens, new_tokens=workload.new_tokens,
            threads=self._threads, peers=timed, left_out=left_out, features=features,
            quantization=quantization_of(self.model), **about,
        )  # fmt: skip

    @property
    def _dtype(self) -> str:
        return str(self.model.dtype).removeprefix("torch.")

    @property
    def _threads(self) -> int | None:
        return self.threads if self.model.device.type == "cpu" else None


def _timed(name: str, peer: Peer, alike: Alike, times_s: list[float]) -> TimedPeer:
    timed = TimedPeer(name=name, precision=peer.precision, path=peer.path, step_s=quartiles(times_s))
    if name == PLANNED:
        return timed
    agreement = {"tokens_alike": alike.tokens, "tokens_checked": alike.checked, "logits_apart": alike.apart}
    return timed.model_copy(update=agreement)
