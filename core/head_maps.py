"""Head maps: which leader head each head of a follower reads, by likeness of attention or by measured damage.

A follower's values were learned for its own attention weights. Direct sharing gives head 3 the weights of the leader's
head 3, although nothing ties the two together: the numbers of heads are arbitrary in every layer.
"""

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from core.calibration import Text
from core.damage import Damage, DamageMeter, roles_of
from core.plan import SharingPlan
from core.similarity import attention_weights

METHODS: dict[str, str] = {
    "identity": "Head n reads the leader's head n: direct sharing.",
    "most_similar": "Each head reads the leader head whose attention is most like its own; several may read the same.",
    "one_to_one": "As most_similar, but every leader head is read once (the assignment of the highest total likeness).",
    "damage": "Start from the least harmful of the three, then keep every change of one head that lowers the damage.",
}
"""The ways to choose a head map, each with one line that explains it."""

HeadMap = dict[int, tuple[int, ...]]
SIMILARITY_CHUNKS = 8
CANDIDATES = 3
PASSES = 2


def head_similarity(
    model, text: Text, pairs: Iterable[tuple[int, int]], chunks: int = SIMILARITY_CHUNKS
) -> dict[tuple[int, int], np.ndarray]:
    """{(leader, follower): [leader heads, follower heads]}: cosine similarity of attention weights in the dense model.

    Averaged over the first `chunks` chunks of the text. The first token is left out as query and key: most heads rest
    on it, which makes any two alike.
    """
    pairs, rows = list(pairs), text.chunks[:chunks]
    sums = dict.fromkeys(pairs, 0.0)
    for chunk in rows:
        weights = attention_weights(model, torch.tensor([[text.first, *chunk]]), sorted({i for p in pairs for i in p}))
        maps = {layer: _unit_maps(weights.pop(layer)[0]) for layer in sorted(weights)}
        for leader, follower in pairs:
            sums[leader, follower] = sums[leader, follower] + (maps[leader] @ maps[follower].mT).cpu().numpy()
    return {pair: total / len(rows) for pair, total in sums.items()}


def _unit_maps(weights: torch.Tensor) -> torch.Tensor:
    """[heads, tokens, tokens] → unit vectors [heads, (tokens - 1)²]."""
    maps = weights[:, 1:, 1:].float().flatten(1)
    return maps / maps.norm(dim=1, keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)


def assign(similarity: np.ndarray, one_to_one: bool = False, group_size: int = 1) -> tuple[int, ...]:
    """The leader head of each follower head, from `similarity` [leader heads, follower heads].

    group_size: query heads per KV group; above 1, the heads of a group read heads of one leader group, as attention
    kernels need that read keys by group. one_to_one: groups, and heads within them, are read once each.
    """
    if group_size == 1:
        return tuple(map(int, linear_sum_assignment(-similarity.T)[1] if one_to_one else similarity.argmax(0)))
    groups = len(similarity) // group_size
    blocks = similarity.reshape(groups, group_size, groups, group_size).swapaxes(1, 2)
    inner = [[assign(block, one_to_one) for block in row] for row in blocks]
    columns = np.arange(group_size)
    scores = np.array([[blocks[i, j][inner[i][j], columns].sum() for j in range(groups)] for i in range(groups)])
    outer = assign(scores, one_to_one)
    return tuple(leader * group_size + head for group, leader in enumerate(outer) for head in inner[leader][group])


class HeadMapper:
    """Chooses the head map of any plan from the likeness of heads in the dense model, which is measured once.

    method: one of METHODS; `damage` begins as `most_similar` does. keep_groups: the heads of a KV group read the heads
    of one leader group. Raises ValueError for an unknown method.
    """

    def __init__(self, model, text: Text, method: str, keep_groups: bool = False):
        if method not in METHODS:
            raise ValueError(f"There is no head mapping {method!r}: choose one of {', '.join(METHODS)}.")
        self.model, self.text, self.method = model, text, method
        self.group_size = model.config.num_attention_heads // model.config.num_key_value_heads if keep_groups else 1

    @cached_property
    def similarity(self) -> dict[tuple[int, int], np.ndarray]:
        """`head_similarity` of every earlier with every later layer."""
        layers = self.model.config.num_hidden_layers
        return head_similarity(self.model, self.text, ((i, j) for j in range(layers) for i in range(j)))

    def __call__(self, plan: SharingPlan) -> HeadMap:
        """The head map of a plan; {} for the identity."""
        if self.method == "identity":
            return {}
        return self.of_method(plan, "one_to_one" if self.method == "one_to_one" else "most_similar")

    def of_method(self, plan: SharingPlan, method: str) -> HeadMap:
        """The head map that another method than this one's own would choose."""
        if method == "identity":
            return {layer: tuple(range(self.model.config.num_attention_heads)) for layer in plan.followers}
        pairs = {layer: self.similarity[plan.leader_of(layer), layer] for layer in plan.followers}
        return {layer: assign(scores, method == "one_to_one", self.group_size) for layer, scores in pairs.items()}


class Improvement(NamedTuple):
    """The best head map so far and its damage on the meter's text; `done` of at most `total` measurements."""

    head_map: HeadMap
    damage: Damage
    done: int
    total: int


def improve(meter: DamageMeter, plan: SharingPlan, mapper: HeadMapper) -> Iterator[Improvement]:
    """Ever better head maps of a plan, by measured damage, from the least harmful of the other methods' maps.

    At most PASSES passes over all follower heads, first layer first; each head tries the CANDIDATES leader heads most
    like it. With groups, a head tries the heads of the leader group that its own group reads. Ends where a whole pass
    changes nothing.
    """
    heads = mapper.model.config.num_attention_heads
    total, done = 1 + PASSES * heads * len(plan.followers), 1
    starts = [mapper.of_method(plan, method) for method in METHODS if method != "damage"]
    best, damage = _least_harmful(meter, plan, starts)
    yield Improvement(best, damage, done, total)
    for _ in range(PASSES):
        before = best
        for layer in plan.followers:
            scores = mapper.similarity[plan.leader_of(layer), layer]
            for head in range(heads):
                candidates = _candidates(scores, best[layer], head, mapper.group_size)
                tried = [_changed(best, layer, head, leader) for leader in candidates]
                best, damage = _least_harmful(meter, plan, [best, *tried])
                done += 1
                yield Improvement(best, damage, done, total)
        if best == before:
            return


def _least_harmful(meter: DamageMeter, plan: SharingPlan, maps: list[HeadMap]) -> tuple[HeadMap, Damage]:
    damages = meter.measure(roles_of(plan, heads) for heads in maps)
    best = min(maps, key=lambda heads: damages[roles_of(plan, heads)].mean)  # the first of equals
    return best, damages[roles_of(plan, best)]


def _candidates(scores: np.ndarray, current: tuple[int, ...], head: int, group_size: int) -> list[int]:
    ranked = [int(leader) for leader in np.argsort(-scores[:, head], kind="stable")]
    if group_size > 1:
        ranked = [leader for leader in ranked if leader // group_size == current[head] // group_size]
    return [leader for leader in ranked[:CANDIDATES] if leader != current[head]]


def _changed(heads: HeadMap, layer: int, head: int, leader: int) -> HeadMap:
    row = heads[layer]
    return heads | {layer: (*row[:head], leader, *row[head + 1 :])}
