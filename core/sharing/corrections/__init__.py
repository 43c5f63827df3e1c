"""Corrections: what each follower of a view learns so that it need not take its leader's attention weights as they are.

The idea is LiSA's (Mu et al., "Cross-layer Attention Sharing for Pre-trained Large Language Models", TACL 2026, arXiv
2408.01890: tiny networks align the heads of adjacent layers, low-rank matrices approximate the differences of layer-wise
attention weights). Ours are linear, and begin as what the view did before. For one follower with H heads over KV
key-value heads, of a model of width D, with L leader heads (L = H):

- *Alignment*: a matrix M [H, L], at first the head map (one-hot; identity where there is none). The weights of the
  follower are W = M · W_leader, after the softmax.
- *Deltas* of rank r: A_q [H·r, D], normally drawn, and A_k [KV·r, D], zero. The logits of head h are those of the leader's
  head that the head map names, plus (x A_qᵀ)(x A_kᵀ)ᵀ times the scale that the leader's attention function is given (in
  OPT, which scales its queries before, that is 1); then softmax, with the same mask. x is what the follower's attention
  reads. Deltas are *position-free*: no rotary embedding, no bias goes into them.
- Both: W = M · softmax(logits of the leader's heads + deltas); deltas are then numbered as the leader's heads.

What one follower costs, in values and FLOPs (a multiply-add is 2), with T new tokens on N positions:

| | alignment | deltas of rank r |
|---|---|---|
| parameters | H² | D·r·(H + KV) |
| FLOPs, projections | – | 2·T·D·r·(H + KV) |
| FLOPs, attention | 2·T·N·H² (mixing) | 2·T·N·H·(d + r) for QKᵀ, and the softmax: what reuse saves is computed anew |
| cache per token | – | KV·r |
| read in a decode step | the leader's weights, as without | the *leader's keys again*, N·KV·d, and N·KV·r of its own |

So with rank above 0 a follower saves its projections and the cache of its keys, and no longer QKᵀ and the softmax, in
either execution; attention dropout, which followers else have in common with their leader, is drawn anew. In *recompute*
an aligned follower computes QKᵀ and the softmax anew too, in blocks of queries whose weights take at most
REUSE_LIMIT_BYTES; without alignment, deltas run in the model's fused attention, on queries and keys that are lengthened
by them: [q, δq]·[k, δk] is the sum of both products. `core.cost` counts all of this.
"""

from core.corrections import Corrections
from core.sharing.corrections.attach import (
    PARAMETERS,
    attach,
    check_corrections,
    correction_parameters,
    corrections_of,
)
from core.sharing.corrections.folding import fold

__all__ = [
    "PARAMETERS", "Corrections", "attach", "check_corrections", "correction_parameters", "corrections_of", "fold",
]  # fmt: skip
