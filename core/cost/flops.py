"""FLOPs of forward calls under a sharing plan, *predicted* from a decoder's sizes.

Every formula equals counting exactly: the tests compare it with torch's FlopCounterMode. Conventions:

- One multiply-add is 2 FLOPs (as in FlopCounterMode).
- Attention counts the full rectangle of query and key positions, as the matrix multiplications compute it, not the
  half that the causal mask keeps.
- Softmax counts 3 FLOPs per attention weight (Hoffmann et al. 2022, "Chinchilla", appendix F). FlopCounterMode does
  not count it.
- Of corrections (`ModelShape.corrections`), a follower's deltas make QKᵀ and the softmax anew in either execution; its
  alignment mixes weights, and in `recompute` makes them anew too.
- Layers that skip attention do none of its work. Followers of `kv`, `keys` and `topk` make weights of their own in either
  execution. Of `topk N`, a single new token multiplies the N chosen keys and values alone; several tokens at once, each
  of which reads other positions, multiply the full rectangle and mask what was not chosen. Counted of the choice are the
  leader's weights, which it makes for itself in any case, once. Ignored: summing them over its heads (one addition per
  weight), finding the N largest sums, and gathering rows: comparisons and copies, no multiplications.
- Layers that read another one's keys and values in the model itself (`ModelShape.kv_sources`) make weights from queries of
  their own. Where such a model runs them on the positions alone whose logits are kept (`keeps_positions`, Gemma 4), so
  does the count; transformers does not with flex or flash attention, nor with sdpa where several logits are kept.
- AltUp's, LAuReL's and per-layer embeddings' multiplications are counted (`ModelShape.extras`).
- Ignored, because its cost grows with tokens × width and not with tokens × width²: embedding look-up, norms, rotary
  embedding, scaling, masking, activation functions, residual additions.
"""

from dataclasses import dataclass, fields
from itertools import compress
from operator import mul

from core.cost.checks import check_sizes, checked_plan
from core.cost.components import Components
from core.cost.mechanisms import KeptByLayer, kept_by_layer, projected_values, reach_by_layer
from core.cost.shapes import ModelShape, cached_tokens
from core.plan import SharingPlan

SOFTMAX_FLOPS_PER_WEIGHT = 3
FLOP_EXECUTIONS = {
    "reuse": "followers multiply the leader's stored attention weights with their own values",
    "recompute": "followers compute the weights again from the leader's queries and keys, in one fused kernel",
}


@dataclass(frozen=True)
class FlopCount(Components):
    """FLOPs of one or several forward calls, all layers together, one field per component."""

    q_proj: int
    k_proj: int
    v_proj: int
    o_proj: int
    scores: int
    """QKᵀ."""
    softmax: int
    weighted_values: int
    """Attention weights times values."""
    mlp: int
    """MLPs, or routers, chosen experts and shared experts."""
    embedding: int
    """Projections of token embeddings that are not as wide as the layers; the look-up itself costs no FLOPs."""
    lm_head: int
    """Vocabulary head."""
    delta_proj: int = 0
    """Of corrections: projections to the low-rank queries and keys. Their products are part of `scores`."""
    alignment: int = 0
    """Of corrections: mixing the leader's heads."""
    extras: int = 0
    """What a family has beside attention and MLPs: `ModelShape.extras`."""

    @property
    def attention(self) -> int:
        """QKᵀ, softmax, mixing heads and the weighted sum of values: all that is not a projection."""
        return self.scores + self.softmax + self.alignment + self.weighted_values

    @property
    def attention_weights(self) -> int:
        """Query and key projections, QKᵀ, softmax and corrections: the work that makes attention weights, and that SA shares."""
        return self.q_proj + self.k_proj + self.delta_proj + self.scores + self.softmax + self.alignment

    def __add__(self, other: "FlopCount") -> "FlopCount":
        names = [field.name for field in fields(self)]
        return FlopCount(**{name: getattr(self, name) + getattr(other, name) for name in names})


def forward_flops(
    shape: ModelShape,
    plan: SharingPlan | str,
    batch_size: int,
    query_tokens: int,
    past_tokens: int = 0,
    execution: str = "reuse",
    logits_to_keep: int = 0,
) -> FlopCount:
    """FLOPs of one forward call on `[batch_size, query_tokens]` new tokens after `past_tokens` cached ones.

    Followers have no query and key projections. With the execution `reuse` they also skip QKᵀ and softmax; with
    `recompute` they compute these again from the leader's queries and keys. What other mechanisms leave of a layer stands
    in `core.cost.mechanisms`. `logits_to_keep` positions per sequence go through the vocabulary head (0: all; `generate`
    keeps 1), as in transformers. Conventions and what is ignored: see the module.
    """
    plan = checked_plan(shape, plan, batch_size=batch_size, query_tokens=query_tokens)
    check_sizes(0, past_tokens=past_tokens, logits_to_keep=logits_to_keep)
    reach = reach_by_layer(shape, plan) if query_tokens == 1 else shape.sliding_windows
    seen = {most: cached_tokens(most, past_tokens) + query_tokens for most in set(reach)}
    tokens, logits = batch_size * query_tokens, batch_size * min(logits_to_keep or query_tokens, query_tokens)
    by_layer = [tokens] * shape.num_layers
    for layer in shape.borrowers if shape.keeps_positions else ():
        by_layer[layer] = logits
    weights = [count * seen[most] for count, most in zip(by_layer, reach, strict=True)]
    return _flops(shape, plan, by_layer, tokens, weights, logits, execution)


def generation_flops(
    shape: ModelShape,
    plan: SharingPlan | str,
    batch_size: int,
    prompt_tokens: int,
    new_tokens: int,
    prompt_execution: str = "recompute",
) -> FlopCount:
    """FLOPs of reading a prompt in one call, then feeding `new_tokens` tokens one by one through the cache.

    It is the sum of `forward_flops` over these calls with `logits_to_keep=1`: the prompt with `prompt_execution`, the
    single tokens with the execution `reuse`.
    """
    plan = checked_plan(shape, plan, batch_size=batch_size, prompt_tokens=prompt_tokens)
    check_sizes(0, new_tokens=new_tokens)
    prompt = forward_flops(shape, plan, batch_size, prompt_tokens, execution=prompt_execution, logits_to_keep=1)
    reach, tokens = reach_by_layer(shape, plan), batch_size * new_tokens
    weights = {
        most: batch_size * (_past_tokens_sum(most, prompt_tokens, prompt_tokens + new_tokens) + new_tokens)
        for most in set(reach)
    }
    weights_of = [weights[most] for most in reach]
    return prompt + _flops(shape, plan, [tokens] * shape.num_layers, tokens, weights_of, tokens, "reuse")


def _flops(
    shape: ModelShape,
    plan: SharingPlan,
    by_layer: list[int],
    tokens: int,
    weights: list[int],
    logits: int,
    execution: str,
) -> FlopCount:
    """FLOPs of sending `tokens` tokens into the model, so many of them through each layer, and `logits` through the head.

    `weights` says how many attention weights (query-key pairs of one head) each layer uses, where it attends.
    """
    if execution not in FLOP_EXECUTIONS:
        raise ValueError(f"There is no execution {execution!r}: use one of {', '.join(FLOP_EXECUTIONS)}.")
    kept = kept_by_layer(plan, shape.borrowers)
    extras = shape.extras
    return FlopCount(
        **_projection_flops(shape, kept, by_layer),
        **_attention_flops(shape, plan, kept, weights, execution),
        delta_proj=len(plan.followers) * 2 * tokens * shape.delta_parameters,
        mlp=_mlp_flops(shape, by_layer),
        embedding=2 * tokens * shape.embedding_projection_size,
        lm_head=2 * logits * (shape.embedding_size or shape.hidden_size) * shape.vocab_size,
        extras=2 * (sum(by_layer) * extras.layer_products + tokens * extras.outer_products),
    )


def _projection_flops(shape: ModelShape, kept: KeptByLayer, by_layer: list[int]) -> dict[str, int]:
    queries, keys = (list(map(mul, by_layer, sizes)) for sizes in (shape.query_sizes, shape.kv_sizes))
    per_input = 2 * shape.hidden_size
    return {
        "q_proj": per_input * sum(compress(queries, kept.queries)),
        "k_proj": per_input * sum(compress(keys, kept.keys)),
        "v_proj": per_input * sum(compress(keys, projected_values(shape, kept))),
        "o_proj": per_input * sum(compress(queries, kept.output)),
    }


def _attention_flops(
    shape: ModelShape, plan: SharingPlan, kept: KeptByLayer, weights: list[int], execution: str
) -> dict[str, int]:
    followed = sum(weights[layer] for layer in plan.followers)
    corrections = shape.corrections
    again = execution != "reuse" or bool(corrections.rank)
    makes = [own or (again and layer in plan.followers) for layer, own in enumerate(kept.queries)]
    products = list(map(mul, weights, shape.query_sizes))
    return {
        "scores": 2 * sum(compress(products, makes)) + 2 * followed * shape.num_heads * corrections.rank,
        "softmax": SOFTMAX_FLOPS_PER_WEIGHT * sum(compress(weights, makes)) * shape.num_heads,
        "alignment": 2 * followed * shape.num_heads**2 * corrections.alignment,
        "weighted_values": 2 * sum(compress(products, kept.output)),
    }


def _mlp_flops(shape: ModelShape, by_layer: list[int]) -> int:
    """All layers together. A token goes through its router, the experts chosen for it and the shared expert."""
    experts = shape.experts
    without = set(experts.layers) if experts and not experts.beside_mlp else set()
    counts = [count for layer, count in enumerate(by_layer) if layer not in without]
    outputs = shape.mlp_matrices * sum(map(mul, counts, shape.plain_mlp_sizes))
    if experts:
        inner = experts.per_token * experts.size + experts.shared_size
        each = experts.count + shape.mlp_matrices * inner + experts.shared_gate
        outputs += sum(by_layer[layer] for layer in experts.layers) * each
    return 2 * shape.hidden_size * outputs


def _past_tokens_sum(window: int | None, start: int, stop: int) -> int:
    """The sum of `cached_tokens(window, n)` for n from `start` to `stop - 1`, in closed form."""

    def below(n: int) -> int:
        rising = cached_tokens(window, n)  # for n up to here the sum is that of 0, 1, 2, …, then it is constant
        return rising * (rising - 1) // 2 + (n - rising) * rising

    return below(stop) - below(start)
