"""Which leader head each head of a follower reads: head maps, chosen by likeness or by damage.

A follower's values were learned for its own attention weights. Direct sharing gives head 3 the weights of the leader's
head 3, although nothing ties the two together: the numbers of heads are arbitrary in every layer.
"""

from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import combinations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from transformers import PreTrainedModel

from core.damage.candidates import layers_by_kind
from core.damage.choices import HEAD_MAP_METHODS
from core.damage.meter import DamageMeter
from core.damage.progress import SearchProgress
from core.damage.similarity import attention_weights, weights_and_inputs
from core.damage.texts import Text
from core.plan import HeadMap, SharingPlan
from core.records.searches import PlanDamage
from core.sharing.families import (
    attention_modules,
    check_kinds,
    heads_per_group,
    num_heads_of,
    num_layers_of,
    output_of,
    values_of,
)
from core.sharing.view import plan_of, share_attention

Pair = tuple[int, int]  # leader, follower
Likeness = dict[Pair, np.ndarray]  # [leader heads, follower heads]
CHUNKS = 4  # of the text, for the likeness of heads
CANDIDATES = 3
PASSES = 2


def head_similarity(model: PreTrainedModel, text: Text, pairs: Iterable[Pair], chunks: int = CHUNKS) -> Likeness:
    """{(leader, follower): [leader heads, follower heads]}: cosine similarity of attention weights in the dense model.

    Averaged over the first `chunks` chunks of the text. The first token is left out as query and key: most heads rest
    on it, which makes any two alike.
    """
    pairs, rows = list(pairs), text.chunks[:chunks]
    sums: Likeness = {}
    for chunk in rows:
        weights = attention_weights(model, torch.tensor([[text.first, *chunk]]), sorted({i for p in pairs for i in p}))
        maps = {layer: _unit_maps(weights.pop(layer)[0]) for layer in sorted(weights)}
        for leader, follower in pairs:
            sums[leader, follower] = (
                sums.get((leader, follower), 0.0) + (maps[leader] @ maps[follower].mT).cpu().numpy()
            )
    return {pair: total / len(rows) for pair, total in sums.items()}


def _unit_maps(weights: torch.Tensor) -> torch.Tensor:
    """[heads, tokens, tokens] → unit vectors [heads, (tokens - 1)²]."""
    maps = weights[:, 1:, 1:].float().flatten(1)
    return maps / maps.norm(dim=1, keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)


@torch.inference_mode()
def output_likeness(model: PreTrainedModel, text: Text, pairs: Iterable[Pair], chunks: int = CHUNKS) -> Likeness:
    """{(leader, follower): [leader heads, follower heads]}: minus the change of a layer's output by each choice.

    Entry [j, h] is −Σ ‖(P_j − P_h) V_h W_h‖² over the tokens of the first `chunks` chunks: P attention weights of leader
    head j and follower head h in the dense model, V_h the follower's values, W_h what its output projection makes of
    head h. Ignored: that heads make up for each other, and that layers before have changed the follower's input.
    """
    pairs, followers = list(pairs), _follower_modules(model)
    sums: Likeness = {}
    products: dict[int, torch.Tensor] = {}
    for chunk in text.chunks[:chunks]:
        weights, inputs = weights_and_inputs(model, torch.tensor([[text.first, *chunk]]))
        values = {layer: values_of(module, inputs[layer])[0] for layer, module in followers.items()}
        for leader, follower in pairs:
            if follower not in products:
                products[follower] = _head_products(followers[follower], len(weights[follower][0]), values[follower])
            change = _output_change(weights[leader][0], weights[follower][0], values[follower], products[follower])
            sums[leader, follower] = sums.get((leader, follower), 0.0) - change
    return sums


def _follower_modules(model: PreTrainedModel) -> dict[int, torch.nn.Module]:
    """{layer: its attention module as a follower} for every layer that can follow one before it."""
    groups = [layers for layers in layers_by_kind(model) if len(layers) > 1]
    view = share_attention(model, SharingPlan.of_groups(groups, num_layers_of(model)))
    modules = attention_modules(view)
    return {layer: modules[layer] for layer in plan_of(view).followers}


def _head_products(module: torch.nn.Module, num_heads: int, values: torch.Tensor) -> torch.Tensor:
    """W_h W_hᵀ of each head h of a follower's output projection, [heads, head_dim, head_dim]."""
    width = num_heads * values.shape[-1]
    unit = torch.eye(width, device=values.device, dtype=values.dtype)[None]
    nothing = torch.zeros_like(unit[..., :1])  # BLOOM adds a residual
    rows = output_of(module, unit, nothing) - output_of(module, torch.zeros_like(unit), nothing)
    heads = rows[0].float().view(num_heads, values.shape[-1], -1)
    return heads @ heads.mT


def _output_change(
    leader: torch.Tensor, follower: torch.Tensor, values: torch.Tensor, products: torch.Tensor
) -> np.ndarray:
    """[leader heads, follower heads] from weights [heads, tokens, tokens] and values [kv_heads, tokens, head_dim]."""
    values = values.float().repeat_interleave(len(follower) // len(values), 0)
    columns = []
    for head, (value, product) in enumerate(zip(values, products, strict=True)):
        change = (leader.float() - follower[head].float()) @ value  # [leader heads, tokens, head_dim]
        columns.append(((change @ product) * change).sum((1, 2)))
    return torch.stack(columns, 1).double().cpu().numpy()


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

    method: one of HEAD_MAP_METHODS; `damage` begins as `output` does. keep_groups: the heads of a KV group read the
    heads of one leader group. Raises ValueError for an unknown method.
    """

    def __init__(self, model: PreTrainedModel, text: Text, method: str, keep_groups: bool = False):
        if method not in HEAD_MAP_METHODS:
            raise ValueError(f"There is no head mapping {method!r}: choose one of {', '.join(HEAD_MAP_METHODS)}.")
        self.model, self.text, self.method = model, text, method
        self.num_heads = num_heads_of(model)
        self.group_size = heads_per_group(model) if keep_groups else 1

    @cached_property
    def attention(self) -> Likeness:
        """`head_similarity` of every earlier with every later layer of its kind."""
        return head_similarity(self.model, self.text, self._pairs())

    @cached_property
    def output(self) -> Likeness:
        """`output_likeness` of every earlier with every later layer of its kind."""
        return output_likeness(self.model, self.text, self._pairs())

    def _pairs(self) -> list[Pair]:
        return [pair for layers in layers_by_kind(self.model) for pair in combinations(layers, 2)]

    def __call__(self, plan: SharingPlan) -> HeadMap:
        """The head map of a plan; {} for the identity."""
        method = "output" if self.method == "damage" else self.method
        return {} if method == "identity" else self.of_method(plan, method)

    def of_method(self, plan: SharingPlan, method: str) -> HeadMap:
        """The head map that another method than this one's own would choose; the identity is written out.

        Raises ValueError for a plan that shares between layers of different kinds.
        """
        if method == "identity":
            return {layer: tuple(range(self.num_heads)) for layer in plan.followers}
        likeness = self.output if method == "output" else self.attention
        if any((plan.leader_of(layer), layer) not in likeness for layer in plan.followers):
            check_kinds(self.model, plan)
        pairs = {layer: likeness[plan.leader_of(layer), layer] for layer in plan.followers}
        return {layer: assign(scores, method == "one_to_one", self.group_size) for layer, scores in pairs.items()}


def improve(meter: DamageMeter, plan: SharingPlan, mapper: HeadMapper) -> Iterator[SearchProgress]:
    """Ever better head maps of a plan, by measured damage, from the least harmful of the other methods' maps.

    The front of each step is the plan with the best map so far. The total is reached at most.
    At most PASSES passes over all follower heads, first layer first; each head tries the CANDIDATES leader heads that
    change its layer's output least. With groups, a head tries the heads of the leader group that its own group reads.
    Ends where a whole pass changes nothing.
    """
    heads = mapper.num_heads
    total, done = 1 + PASSES * heads * len(plan.followers), 1
    starts = [mapper.of_method(plan, method) for method in HEAD_MAP_METHODS if method != "damage"]
    best = _least_harmful(meter, plan, starts)
    yield SearchProgress("head map", done, total, (best,))
    for _ in range(PASSES):
        before = best.head_map
        for layer in plan.followers:
            scores = mapper.output[plan.leader_of(layer), layer]
            for head in range(heads):
                candidates = _candidates(scores, best.head_map[layer], head, mapper.group_size)
                tried = [_changed(best.head_map, layer, head, leader) for leader in candidates]
                best = _least_harmful(meter, plan, [best.head_map, *tried])
                done += 1
                yield SearchProgress("head map", done, total, (best,))
        if best.head_map == before:
            return


def _least_harmful(meter: DamageMeter, plan: SharingPlan, maps: list[HeadMap]) -> PlanDamage:
    return min(meter.measure((plan, heads) for heads in maps), key=lambda one: one.damage)  # the first of equals


def _candidates(scores: np.ndarray, current: tuple[int, ...], head: int, group_size: int) -> list[int]:
    ranked = [int(leader) for leader in np.argsort(-scores[:, head], kind="stable")]
    if group_size > 1:
        ranked = [leader for leader in ranked if leader // group_size == current[head] // group_size]
    return [leader for leader in ranked[:CANDIDATES] if leader != current[head]]


def _changed(heads: HeadMap, layer: int, head: int, leader: int) -> HeadMap:
    row = heads[layer]
    return heads | {layer: (*row[:head], leader, *row[head + 1 :])}
