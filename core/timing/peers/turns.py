"""Peers take turns: each is held against the model's own forward, then all write from the same prompt, timed in blocks.

Not step by step in turn: a step would find the caches of the processor filled by another program, and its threads still
spinning, which no program meets that runs alone. So a peer writes a block of tokens, of which the first ones are not
timed, and the order of the peers changes from round to round.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
from transformers import PreTrainedModel

from core.timing.peers.peer import Peer
from core.timing.peers.stock import StockPeer

BLOCK_STEPS = 8  # timed, of each peer in a round
SETTLING_STEPS = 2  # before them, of each block
CHECKED_STEPS = 32  # after the prompt


class Alike(NamedTuple):
    """How a peer's choices agree with the model's own.

    tokens, checked: rows × (1 + CHECKED_STEPS) choices, each after the same text. apart: the largest difference of two
    logits ÷ the largest logit.
    """

    tokens: int
    checked: int
    apart: float


def room_for(context_tokens: int, new_tokens: int) -> int:
    """Tokens of a row that a peer needs room for."""
    blocks = -(-new_tokens // BLOCK_STEPS)
    return context_tokens + max(new_tokens + blocks * SETTLING_STEPS, CHECKED_STEPS)


def own_logits(model: PreTrainedModel, prompt: torch.Tensor) -> list[torch.Tensor]:
    """Logits [batch, vocabulary] in float32 of the model's own forward, after the prompt and each greedy token."""
    peer = StockPeer(model, 0, static=False)
    found = [peer.read(prompt).cpu()]
    for _ in range(CHECKED_STEPS):
        found.append(peer.step(found[-1].argmax(-1).to(prompt.device))[1].cpu())
    return found


def compare(peer: Peer, prompt: torch.Tensor, expected: Sequence[torch.Tensor]) -> Alike:
    """Let a peer read the prompt and the model's own tokens; expected: `own_logits`. It also warms the peer up."""
    alike, apart = 0, 0.0
    logits = peer.read(prompt)
    chosen = logits.argmax(-1)
    for step, own in enumerate(expected):
        tokens = own.argmax(-1)
        alike += int((chosen.cpu() == tokens).sum())
        apart = max(apart, float((logits.cpu().float() - own).abs().max() / own.abs().max()))
        if step < len(expected) - 1:
            chosen, logits = peer.step(tokens.to(prompt.device))
    return Alike(alike, len(expected) * len(prompt), apart)


def time_in_turns(peers: Sequence[Peer], prompt: torch.Tensor, new_tokens: int) -> list[list[float]]:
    """Seconds of `new_tokens` steps of each peer, each until the next token is there."""
    tokens = [peer.read(prompt).argmax(-1) for peer in peers]
    times_s: list[list[float]] = [[] for _ in peers]
    for number, begin in enumerate(range(0, new_tokens, BLOCK_STEPS)):
        steps = SETTLING_STEPS + min(BLOCK_STEPS, new_tokens - begin)
        for place in order(len(peers), number):
            taken = []
            for _ in range(steps):
                taken.append(_step(peers[place], tokens, place))
            times_s[place] += taken[SETTLING_STEPS:]
    return times_s


def _step(peer: Peer, tokens: list[torch.Tensor], place: int) -> float:
    _wait(tokens[place])
    begin = time.perf_counter()
    tokens[place], _ = peer.step(tokens[place])
    _wait(tokens[place])
    return time.perf_counter() - begin


def _wait(tokens: torch.Tensor) -> None:
    if tokens.is_cuda:
        torch.cuda.synchronize(tokens.device)


def order(count: int, number: int) -> list[int]:
    """Places of `count` peers in a round: another one begins each round, and every second round goes backwards."""
    return [(number + (-place if number % 2 else place)) % count for place in range(count)]
