"""Head maps: which leader head each head of a follower reads, by likeness of attention or by measured damage.

A follower's values were learned for its own attention weights. Direct sharing gives head 3 the weights of the leader's
head 3, although nothing ties the two together: the numbers of heads are arbitrary in every layer.
"""

from collections.abc import Iterator

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


def head_similarity(model, text: Text, plan: SharingPlan, chunks: int = SIMILARITY_CHUNKS) -> dict[int, np.ndarray]:
    """{follower: [leader heads, follower heads]}: cosine similarity of attention weights in the dense model.

    Averaged over the first `chunks` chunks of the text. The first token is left out as query and key: most heads rest
    on it, which makes any two alike.
    """
    sums = {layer: 0.0 for layer in plan.followers}
    rows = text.chunks[:chunks]
    for chunk in rows:
        weights = attention_weights(
            model, torch.tensor([[text.first, *chunk]]), sorted({*plan.followers, *plan.leaders})
        )
        maps = {layer: _unit_maps(weight[0]) for layer, weight in weights.items()}
        for layer in plan.followers:
            sums[layer] = sums[layer] + (maps[plan.leader_of(layer)] @ maps[layer].mT).cpu().numpy()
    return {layer: total / len(rows) for layer, total in sums.items()}


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


def choose_head_map(meter: DamageMeter, plan: SharingPlan, method: str, keep_groups: bool = False) -> HeadMap:
    """The head map that `method` (one of METHODS) chooses for a plan on the meter's text; {} for the identity.

    keep_groups: the heads of a KV group read the heads of one leader group. Raises ValueError for an unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"There is no head mapping {method!r}: choose one of {', '.join(METHODS)}.")
    if method == "identity" or not plan.spans:
        return {}
    similarity = head_similarity(meter.runner.model, meter.text, plan)
    size = _group_size(meter.runner.model) if keep_groups else 1
    if method != "damage":
        return {layer: assign(scores, method == "one_to_one", size) for layer, scores in similarity.items()}
    starts = [{layer: assign(scores, unique, size) for layer, scores in similarity.items()} for unique in (False, True)]
    *_, (best, _) = improve(meter, plan, [_identity(similarity), *starts], similarity, size)
    return best


def improve(
    meter: DamageMeter, plan: SharingPlan, starts: list[HeadMap], similarity: dict[int, np.ndarray], group_size: int = 1
) -> Iterator[tuple[HeadMap, Damage]]:
    """The least harmful of `starts`, then ever better head maps, each with its damage on the meter's text.

    One pass over all follower heads, first layer first; each tries the CANDIDATES leader heads most like it. With
    groups, a head tries the heads of the leader group that its own group reads.
    """
    best, damage = _least_harmful(meter, plan, starts)
    yield best, damage
    for layer, scores in similarity.items():
        for head in range(scores.shape[1]):
            tried = [
                _changed(best, layer, head, leader) for leader in _candidates(scores, best[layer], head, group_size)
            ]
            best, damage = _least_harmful(meter, plan, [best, *tried])
            yield best, damage


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


def _identity(similarity: dict[int, np.ndarray]) -> HeadMap:
    return {layer: tuple(range(scores.shape[1])) for layer, scores in similarity.items()}


def _group_size(model) -> int:
    return model.config.num_attention_heads // model.config.num_key_value_heads
