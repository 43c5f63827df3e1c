"""Triton kernels for the newest token's attention, from the products of its layer to what the output projection reads.

One kernel a layer: the rotation of the new query and key (after their norms, where a family has them), their place in the
cache, attention over what is cached, and its parts brought together by the program that comes last. `core.decoding.kernels`
has the same attention for models whose own code does the rest.

- `attend`: a layer of its own, or one that reads another layer's keys (and values) in place. A leader's scores stay in `scores`
  with the logarithm of their sum, from which any follower has its weights.
- `follow`: a follower's values under its leader's weights. The first follower writes the weights down in the model's type (as
  the model's own code rounds them), and the others read those: half the bytes.

Everywhere: rows = batch × kv_heads; keys and values [batch, kv_heads, capacity, head_dim], rings where a layer slides;
position [1], int64, on the device: of the new token.
"""

from typing import NamedTuple, TypeAlias

import torch
import triton
import triton.language as tl

from core.decoding.overlap import begin, wait
from core.decoding.skinny import shared_memory

LOG2_E = 1.4426950408889634


class Launch(NamedTuple):
    """How a kernel is started; chosen by timing on an H200."""

    block: int  # tokens that a program reads at a time
    warps: int
    stages: int  # blocks in flight
    programs: int  # wanted for each multiprocessor

    def within(self, head_dim: int, dtype: torch.dtype, device: torch.device) -> "Launch":
        """The same with fewer blocks in flight, or smaller ones, where a device's shared memory does not hold as many."""
        token = 2 * max(16, triton.next_power_of_2(head_dim)) * dtype.itemsize  # keys and values
        room, launch = shared_memory(device), self
        while launch.block * token * launch.stages > room and launch.block > 16:
            fewer = launch.stages > 2
            launch = launch._replace(stages=launch.stages - 1) if fewer else launch._replace(block=launch.block // 2)
        return launch


Launches: TypeAlias = tuple[tuple[int, Launch], ...]
ATTEND: Launches = ((65_536, Launch(128, 4, 3, 1)), (2**62, Launch(128, 8, 3, 1)))
FOLLOW: Launches = ((65_536, Launch(128, 4, 3, 4)), (2**62, Launch(128, 4, 3, 2)))
"""For at most so many tokens of all rows together."""


class Split(NamedTuple):
    """How a row's tokens are split over programs, room for what each finds, and where they say that they are there."""

    launch: Launch
    splits: int
    partial: torch.Tensor  # [rows, splits, group, head_dim] float32
    highest: torch.Tensor  # [rows, splits, group] float32
    total: torch.Tensor  # the same
    arrived: torch.Tensor  # [rows] int32, zeros


def split_for(
    launches: Launches, batch: int, kv_heads: int, group: int, head_dim: int, capacity: int,
    device: torch.device, dtype: torch.dtype = torch.bfloat16,
) -> Split:  # fmt: skip
    """Programs for each row, as many as fill the device, with a block of tokens or more for each. launches: see ATTEND."""
    rows = batch * kv_heads
    launch = next(launch for most, launch in launches if rows * capacity <= most).within(head_dim, dtype, device)
    processors = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 4
    wanted, most = launch.programs * processors // rows, triton.cdiv(capacity, launch.block)
    splits = min(64, triton.next_power_of_2(max(1, min(wanted, most) // 2 + 1)))
    size = (rows, splits, group)
    partial, highest, total = (
        torch.empty(of, dtype=torch.float32, device=device) for of in ((*size, head_dim), size, size)
    )
    return Split(launch, splits, partial, highest, total, torch.zeros(rows, dtype=torch.int32, device=device))


class Heads(NamedTuple):
    """A layer's heads, and what is done to a query and a key before they meet: scale, norms, rotation."""

    heads: int
    kv_heads: int
    head_dim: int
    scaling: float
    cos: torch.Tensor  # [positions, head_dim]
    sin: torch.Tensor
    query_norm: torch.Tensor | None = None  # [head_dim]
    key_norm: torch.Tensor | None = None
    eps: float = 0.0

    @property
    def sizes(self) -> dict[str, int]:
        """As kernels take them."""
        group = self.heads // self.kv_heads
        return {
            "GROUP": group, "GROUP_2": triton.next_power_of_2(group), "ROWS": max(16, triton.next_power_of_2(group)),
            "KV_HEADS": self.kv_heads, "HEAD_DIM": self.head_dim, "DIM": max(16, triton.next_power_of_2(self.head_dim)),
        }  # fmt: skip


def attend(
    made: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    heads: Heads,
    position: torch.Tensor,
    split: Split,
    out: torch.Tensor,
    makes: tuple[bool, bool] = (True, True),
    scores: torch.Tensor | None = None,
    log_sums: torch.Tensor | None = None,
    overlap: bool = False,
) -> None:
    """out [batch, heads · head_dim] = softmax(q Kᵀ · scaling) V, the new token's keys and values put in their place first.

    made: what the layer's projections gave, [batch, queries | keys | values]. makes: whether keys, values are among it;
    others are in `keys` and `values` already. scores [batch, heads, room], log_sums [batch, heads], float32: a leader's,
    as powers of two; with room for as many tokens or more.
    """
    leads = scores is not None
    _attend[(len(split.arrived), split.splits)](
        made, heads.cos, heads.sin, position, keys, values, heads.query_norm if heads.query_norm is not None else made,
        heads.key_norm if heads.key_norm is not None else made, heads.eps, scores if leads else made,
        log_sums if leads else made, split.partial, split.highest, split.total, split.arrived, out,
        heads.scaling * LOG2_E, keys.shape[2], scores.shape[2] if scores is not None else 0, made.shape[1], BLOCK=split.launch.block, STAGES=split.launch.stages,
        SPLITS=split.splits, CHUNK=min(16, split.splits), QUERY_NORM=heads.query_norm is not None,
        KEY_NORM=heads.key_norm is not None, OWN_KEYS=makes[0], OWN_VALUES=makes[1], LEADS=leads, OVERLAP=overlap,
        **heads.sizes, num_warps=split.launch.warps, **({"launch_pdl": True} if overlap else {}),
    )  # fmt: skip


def follow(
    made: torch.Tensor,
    values: torch.Tensor,
    heads: Heads,
    position: torch.Tensor,
    split: Split,
    out: torch.Tensor,
    sources: torch.Tensor,
    weights: torch.Tensor,
    scores: torch.Tensor | None = None,
    log_sums: torch.Tensor | None = None,
    writes: bool = False,
    overlap: bool = False,
) -> None:
    """out [batch, heads · head_dim] = P V, the new token's values put in their place first.

    made: the layer's new values, [batch, kv_heads · head_dim]. sources [heads], int32: whose weights each head reads.
    weights [batch, heads, room]: those that an earlier follower wrote; with scores and log_sums (see `attend`) they
    are computed from these, and with `writes` (where each head reads its own) left in `weights`.
    """
    computes = scores is not None
    _follow[(len(split.arrived), split.splits)](
        made, position, values, sources, weights, scores if computes else made, log_sums if computes else made,
        split.partial, split.arrived, out, values.shape[2], weights.shape[2], BLOCK=split.launch.block, STAGES=split.launch.stages,
        SPLITS=split.splits, CHUNK=min(16, split.splits), COMPUTES=computes, WRITES=writes, OVERLAP=overlap,
        **heads.sizes, num_warps=split.launch.warps, **({"launch_pdl": True} if overlap else {}),
    )  # fmt: skip


@triton.jit
def _part(position, capacity, SPLITS: tl.constexpr, BLOCK: tl.constexpr):
    """The new token's slot, and first and last slot (exclusive) of this program's part of those that are filled."""
    at = tl.load(position)
    tokens = tl.minimum(at + 1, capacity).to(tl.int32)
    size = tl.cdiv(tl.cdiv(tokens, SPLITS), BLOCK) * BLOCK
    first = tl.program_id(1) * size
    return at, (at % capacity).to(tl.int32), first, tl.minimum(first + size, tokens)


@triton.jit
def _rotated(x, at, cos, sin, norm, eps, inside, d, partner, HEAD_DIM: tl.constexpr, NORMED: tl.constexpr):
    """Heads at pointers `x` [rows, 1] after norm and rotation (halves swapped), [rows, DIM] in float32."""
    own = tl.load(x + d[None, :], mask=inside, other=0.0).to(tl.float32)
    other = tl.load(x + partner[None, :], mask=inside, other=0.0).to(tl.float32)
    if NORMED:
        divisor = tl.rsqrt(tl.sum(own * own, 1) / HEAD_DIM + eps)[:, None]
        own *= divisor * tl.load(norm + d, mask=d < HEAD_DIM, other=0.0).to(tl.float32)[None, :]
        other *= divisor * tl.load(norm + partner, mask=d < HEAD_DIM, other=0.0).to(tl.float32)[None, :]
    c = tl.load(cos + at * HEAD_DIM + d, mask=d < HEAD_DIM, other=0.0).to(tl.float32)[None, :]
    s = tl.load(sin + at * HEAD_DIM + d, mask=d < HEAD_DIM, other=0.0).to(tl.float32)[None, :]
    return own * c + tl.where((d < HEAD_DIM // 2)[None, :], -other, other) * s


@triton.jit
def _cached(buffer, row, index, slot, last, capacity, d, HEAD_DIM: tl.constexpr):
    """Keys or values of a block of tokens, [BLOCK, DIM], zeros beyond the last and in the new token's slot."""
    at = buffer + (row * capacity + index)[:, None] * HEAD_DIM + d[None, :]
    seen = ((index < last) & (index != slot))[:, None] & (d < HEAD_DIM)[None, :]
    return tl.load(at, mask=seen, other=0.0, eviction_policy="evict_first")  # nobody reads them again in this step


@triton.jit
def _attended(q, keys, values, m, sums, acc, own, index, slot, last, scale, scores, row, stride, g,
              GROUP: tl.constexpr, LEADS: tl.constexpr):  # fmt: skip
    """Highest score, sum and weighted values after one more block of tokens; a leader's scores are written down."""
    s = tl.dot(q, tl.trans(keys), input_precision="ieee") * scale
    if LEADS:
        written = tl.where((index == slot)[None, :], own[:, None], s)
        to = scores + (row * GROUP + g)[:, None] * stride + index[None, :]
        tl.store(to, written, mask=(g < GROUP)[:, None] & (index < last)[None, :])
    s = tl.where(((index < last) & (index != slot))[None, :], s, float("-inf"))
    higher = tl.maximum(m, tl.max(s, 1))
    safe = tl.maximum(higher, -1e30)  # of a block of nothing but the new token's slot
    p, shrink = tl.exp2(s - safe[:, None]), tl.exp2(m - safe)
    acc = tl.dot(p.to(values.dtype), values, acc * shrink[:, None], input_precision="ieee")
    return higher, sums * shrink + tl.sum(p, 1), acc


@triton.jit
def _attend(made, cos, sin, position, keys, values, query_norm, key_norm, eps, scores, log_sums, partial, highest,
            total, arrived, out, scale, capacity, stride, width, GROUP: tl.constexpr, GROUP_2: tl.constexpr,
            ROWS: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, DIM: tl.constexpr,
            BLOCK: tl.constexpr, STAGES: tl.constexpr, SPLITS: tl.constexpr, CHUNK: tl.constexpr, QUERY_NORM: tl.constexpr, KEY_NORM: tl.constexpr, OWN_KEYS: tl.constexpr, OWN_VALUES: tl.constexpr,
            LEADS: tl.constexpr, OVERLAP: tl.constexpr):  # fmt: skip
    begin(OVERLAP)
    row, split = tl.program_id(0).to(tl.int64), tl.program_id(1)
    at, slot, first, last = _part(position, capacity, SPLITS, BLOCK)
    g, d = tl.arange(0, ROWS), tl.arange(0, DIM)
    index = first + tl.arange(0, BLOCK)  # tokens of earlier steps, so that nothing has to be waited for
    first_keys = _cached(keys, row, index, slot, last, capacity, d, HEAD_DIM)
    first_values = _cached(values, row, index, slot, last, capacity, d, HEAD_DIM)
    wait(OVERLAP)
    kind = out.dtype.element_ty
    text, head = row // KV_HEADS, (row % KV_HEADS).to(tl.int32)
    partner = (d + HEAD_DIM // 2) % HEAD_DIM
    queries = made + text * width + (head * GROUP + g)[:, None] * HEAD_DIM
    inside = (g < GROUP)[:, None] & (d < HEAD_DIM)[None, :]
    q = _rotated(queries, at, cos, sin, query_norm, eps, inside, d, partner, HEAD_DIM, QUERY_NORM).to(kind)
    new = (row * capacity + slot) * HEAD_DIM + d
    holds = (slot >= first) & (slot < last)
    within = d < tl.where(holds, HEAD_DIM, 0)
    k_offset: tl.constexpr = KV_HEADS * GROUP * HEAD_DIM
    v_offset: tl.constexpr = k_offset + (KV_HEADS * HEAD_DIM if OWN_KEYS else 0)
    if OWN_KEYS:
        one = tl.arange(0, 1)
        new_keys = made + text * width + k_offset + (head + one)[:, None] * HEAD_DIM
        in_one = (one < 1)[:, None] & (d < HEAD_DIM)[None, :]
        k = _rotated(new_keys, at, cos, sin, key_norm, eps, in_one, d, partner, HEAD_DIM, KEY_NORM).to(kind)
        tl.store(keys + new[None, :], k, mask=in_one & within[None, :])
    else:
        k = tl.load(keys + new, mask=d < HEAD_DIM, other=0.0)[None, :]
    if OWN_VALUES:
        v = tl.load(made + text * width + v_offset + head * HEAD_DIM + d, mask=d < HEAD_DIM, other=0.0)
        tl.store(values + new, v, mask=within)
    else:
        v = tl.load(values + new, mask=d < HEAD_DIM, other=0.0)
    own = tl.sum(q.to(tl.float32) * k.to(tl.float32), 1) * scale
    m = tl.where(holds, own, float("-inf"))
    sums = tl.zeros([ROWS], tl.float32) + holds.to(tl.float32)
    acc = tl.zeros([ROWS, DIM], tl.float32) + v.to(tl.float32)[None, :] * holds.to(tl.float32)
    m, sums, acc = _attended(q, first_keys, first_values, m, sums, acc, own, index, slot, last, scale, scores, row, stride,
                             g, GROUP, LEADS)  # fmt: skip
    for t in tl.range(first + BLOCK, last, BLOCK, num_stages=STAGES):
        index = t + tl.arange(0, BLOCK)
        more_keys = _cached(keys, row, index, slot, last, capacity, d, HEAD_DIM)
        more_values = _cached(values, row, index, slot, last, capacity, d, HEAD_DIM)
        m, sums, acc = _attended(q, more_keys, more_values, m, sums, acc, own, index, slot, last, scale, scores, row,
                                 stride, g, GROUP, LEADS)  # fmt: skip
    if SPLITS == 1:
        to = out + (row * GROUP + g)[:, None] * HEAD_DIM + d[None, :]
        tl.store(to, (acc / sums[:, None]).to(kind), mask=inside)
        if LEADS:
            tl.store(log_sums + row * GROUP + g, m + tl.log2(sums), mask=g < GROUP)
    else:
        mine = (row * SPLITS + split) * GROUP + g
        tl.store(partial + mine[:, None] * HEAD_DIM + d[None, :], acc, mask=inside)
        tl.store(highest + mine, m, mask=g < GROUP)
        tl.store(total + mine, sums, mask=g < GROUP)
        tl.debug_barrier()  # until all threads have written
        if tl.atomic_add(arrived + row, 1, sem="acq_rel") == SPLITS - 1:
            tl.store(arrived + row, 0)
            h = tl.arange(0, GROUP_2)
            top = tl.full([GROUP_2], -1e30, tl.float32)
            every = tl.zeros([GROUP_2], tl.float32)
            whole = tl.zeros([GROUP_2, DIM], tl.float32)
            for begins in tl.static_range(0, SPLITS, CHUNK):
                theirs = _theirs(row, begins, h, GROUP, SPLITS, CHUNK)
                some = _found(partial, theirs, d, HEAD_DIM)
                tops = tl.load(highest + theirs, cache_modifier=".cg")
                sums_of_some = tl.load(total + theirs, cache_modifier=".cg")
                higher = tl.maximum(top, tl.max(tops, 0))
                share, shrink = tl.exp2(tops - higher[None, :]), tl.exp2(top - higher)
                every = every * shrink + tl.sum(sums_of_some * share, 0)
                whole = whole * shrink[:, None] + tl.sum(some * share[:, :, None], 0)
                top = higher
            whole /= every[:, None]
            to = out + (row * GROUP + h)[:, None] * HEAD_DIM + d[None, :]
            tl.store(to, whole.to(kind), mask=(h < GROUP)[:, None] & (d < HEAD_DIM)[None, :])
            if LEADS:
                tl.store(log_sums + row * GROUP + h, top + tl.log2(every), mask=h < GROUP)


@triton.jit
def _theirs(row, begins, h, GROUP: tl.constexpr, SPLITS: tl.constexpr, CHUNK: tl.constexpr):
    """Where programs from `begins` on left what they found for each head of the group, [CHUNK, GROUP_2]."""
    return (row * SPLITS + begins + tl.arange(0, CHUNK))[:, None] * GROUP + tl.minimum(h, GROUP - 1)[None, :]


@triton.jit
def _found(partial, theirs, d, HEAD_DIM: tl.constexpr):
    """What they found, [CHUNK, GROUP_2, DIM], past the first-level cache, which may hold older values."""
    at = partial + theirs[:, :, None] * HEAD_DIM + d[None, None, :]
    return tl.load(at, mask=(d < HEAD_DIM)[None, None, :], other=0.0, cache_modifier=".cg")


@triton.jit
def _weights(weights, scores, log_sum, source, index, last, stride, g, kind: tl.constexpr, GROUP: tl.constexpr,
             COMPUTES: tl.constexpr, WRITES: tl.constexpr):  # fmt: skip
    """The leader's weights of a block of tokens, [ROWS, BLOCK]; the new token's among them, where its values are zeros."""
    at = source[:, None] * stride + index[None, :]
    seen = (g < GROUP)[:, None] & (index < last)[None, :]
    if COMPUTES:
        p = tl.exp2(tl.load(scores + at, mask=seen, other=float("-inf")) - log_sum[:, None]).to(kind)
        if WRITES:
            tl.store(weights + at, p, mask=seen)
        return p
    return tl.load(weights + at, mask=seen, other=0.0)


@triton.jit
def _follow(made, position, values, sources, weights, scores, log_sums, partial, arrived, out, capacity, stride,
            GROUP: tl.constexpr, GROUP_2: tl.constexpr, ROWS: tl.constexpr, KV_HEADS: tl.constexpr,
            HEAD_DIM: tl.constexpr, DIM: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr,
            SPLITS: tl.constexpr, CHUNK: tl.constexpr, COMPUTES: tl.constexpr, WRITES: tl.constexpr,
            OVERLAP: tl.constexpr):  # fmt: skip
    begin(OVERLAP)
    row, split = tl.program_id(0).to(tl.int64), tl.program_id(1)
    _, slot, first, last = _part(position, capacity, SPLITS, BLOCK)
    g, d = tl.arange(0, ROWS), tl.arange(0, DIM)
    index = first + tl.arange(0, BLOCK)  # tokens of earlier steps, so that nothing has to be waited for
    first_values = _cached(values, row, index, slot, last, capacity, d, HEAD_DIM)
    head = (row % KV_HEADS).to(tl.int32)
    group = row // KV_HEADS * (KV_HEADS * GROUP)
    source = group + tl.load(sources + head * GROUP + g, mask=g < GROUP, other=0)
    wait(OVERLAP)
    kind = out.dtype.element_ty
    inside = (g < GROUP)[:, None] & (d < HEAD_DIM)[None, :]
    holds = (slot >= first) & (slot < last)
    v = tl.load(made + row * HEAD_DIM + d, mask=d < HEAD_DIM, other=0.0)
    tl.store(values + (row * capacity + slot) * HEAD_DIM + d, v, mask=d < tl.where(holds, HEAD_DIM, 0))
    one = source * stride + slot
    if COMPUTES:
        log_sum = tl.load(log_sums + source, mask=g < GROUP, other=0.0)
        own = tl.exp2(tl.load(scores + one, mask=g < GROUP, other=float("-inf")) - log_sum).to(kind)
    else:
        log_sum = tl.zeros([ROWS], tl.float32)
        own = tl.load(weights + one, mask=g < GROUP, other=0.0)
    acc = own.to(tl.float32)[:, None] * v.to(tl.float32)[None, :] * holds.to(tl.float32)
    p = _weights(weights, scores, log_sum, source, index, last, stride, g, kind, GROUP, COMPUTES, WRITES)
    acc = tl.dot(p, first_values, acc, input_precision="ieee")
    for t in tl.range(first + BLOCK, last, BLOCK, num_stages=STAGES):
        index = t + tl.arange(0, BLOCK)
        p = _weights(weights, scores, log_sum, source, index, last, stride, g, kind, GROUP, COMPUTES, WRITES)
        acc = tl.dot(p, _cached(values, row, index, slot, last, capacity, d, HEAD_DIM), acc, input_precision="ieee")
    if SPLITS == 1:
        tl.store(out + (row * GROUP + g)[:, None] * HEAD_DIM + d[None, :], acc.to(kind), mask=inside)
    else:
        mine = (row * SPLITS + split) * GROUP + g
        tl.store(partial + mine[:, None] * HEAD_DIM + d[None, :], acc, mask=inside)
        tl.debug_barrier()  # until all threads have written
        if tl.atomic_add(arrived + row, 1, sem="acq_rel") == SPLITS - 1:
            tl.store(arrived + row, 0)
            h = tl.arange(0, GROUP_2)
            whole = tl.zeros([GROUP_2, DIM], tl.float32)
            for begins in tl.static_range(0, SPLITS, CHUNK):
                whole += tl.sum(_found(partial, _theirs(row, begins, h, GROUP, SPLITS, CHUNK), d, HEAD_DIM), 0)
            within = (h < GROUP)[:, None] & (d < HEAD_DIM)[None, :]
            tl.store(out + (row * GROUP + h)[:, None] * HEAD_DIM + d[None, :], whole.to(kind), mask=within)
