"""Triton kernels for the attention of one new token per row over a preallocated cache.

Why own kernels: a CUDA graph is recorded once and replayed for every later step, so the number of cached tokens has to
be read on the device; torch's fused attention takes it from the host, and its matrix products would read the whole
buffer. The measurement that decided it is in the README. Keys are read once for all query heads of their group.

Everywhere: query [batch, heads, 1, head_dim]; keys and values [batch, kv_heads, capacity, head_dim], contiguous; `end`
[1], int32, on the device: tokens 0 … end-1 of each row are visible.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl

LOG2_E = 1.4426950408889634


class _Launch(NamedTuple):
    """How a kernel is started; chosen by timing on an H200."""

    block: int  # tokens that a program reads at a time
    warps: int
    stages: int  # blocks in flight
    programs: int  # wanted for each multiprocessor

    @property
    def options(self) -> dict[str, int]:
        return {"num_warps": self.warps, "num_stages": self.stages}


ATTEND = _Launch(block=64, warps=4, stages=4, programs=4)
WEIGHTS = _Launch(block=64, warps=4, stages=4, programs=4)
VALUES = _Launch(block=64, warps=8, stages=4, programs=4)


def attend(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, end: torch.Tensor, scaling: float
) -> torch.Tensor:
    """softmax(QKᵀ·scaling) V → [batch, heads, 1, head_dim], in one pass over keys and values (flash decoding)."""
    work = _Work(query, keys, ATTEND)
    _attend_split[work.grid](
        query.contiguous(), keys, values, end, work.partial, work.highest, work.total, scaling * LOG2_E,
        keys.shape[2], **work.sizes, **ATTEND.options,
    )  # fmt: skip
    return work.combined(query)


def attention_weights(query: torch.Tensor, keys: torch.Tensor, end: torch.Tensor, scaling: float) -> torch.Tensor:
    """softmax(QKᵀ·scaling) → [batch, heads, 1, capacity] in the query's dtype; undefined from `end` on."""
    work = _Work(query, keys, WEIGHTS)
    scores = query.new_empty(*query.shape[:2], keys.shape[2], dtype=torch.float32)
    weights = torch.empty_like(scores, dtype=query.dtype)
    _score_split[work.grid](
        query.contiguous(), keys, end, scores, work.highest, work.total, scaling * LOG2_E, keys.shape[2],
        **work.sizes, **WEIGHTS.options,
    )  # fmt: skip
    _normalise[work.grid](
        scores, end, weights, work.highest, work.total, keys.shape[2], **work.without_head_dim, num_warps=4
    )
    return weights[:, :, None]


def weighted_values(
    weights: torch.Tensor, values: torch.Tensor, end: torch.Tensor, heads: torch.Tensor
) -> torch.Tensor:
    """P V → [batch, heads, 1, head_dim]; `heads` [heads], int32: whose weights each query head uses."""
    query = weights.new_empty(*weights.shape[:2], 1, values.shape[-1])
    work = _Work(query, values, VALUES)
    _values_split[work.grid](
        weights, values, end, heads, work.partial, work.highest, work.total, values.shape[2], **work.sizes,
        **VALUES.options,
    )  # fmt: skip
    return work.combined(query)


class _Work:
    """How the tokens of one call are split over programs, and room for what each of them finds."""

    def __init__(self, query: torch.Tensor, keys: torch.Tensor, launch: _Launch):
        batch, heads, _, head_dim = query.shape
        kv_heads, group = keys.shape[1], heads // keys.shape[1]
        splits = _splits(batch * kv_heads, keys.shape[2], query.device, launch)
        self.grid = (batch * kv_heads, splits)
        self.partial = query.new_empty(batch * heads, splits, head_dim, dtype=torch.float32)
        self.highest = query.new_empty(batch * heads, splits, dtype=torch.float32)
        self.total = torch.empty_like(self.highest)
        self.without_head_dim = {"GROUP": group, "ROWS": max(16, triton.next_power_of_2(group)), "SPLITS": splits}
        self.without_head_dim |= {"KV_HEADS": kv_heads, "BLOCK": launch.block}
        self.sizes = self.without_head_dim | {"HEAD_DIM": head_dim, "DIM": triton.next_power_of_2(head_dim)}

    def combined(self, query: torch.Tensor) -> torch.Tensor:
        """The result of all splits together, in the query's shape and dtype."""
        output = torch.empty_like(query, memory_format=torch.contiguous_format)
        _combine[(self.partial.shape[0],)](
            self.partial, self.highest, self.total, output, SPLITS=self.sizes["SPLITS"],
            HEAD_DIM=self.sizes["HEAD_DIM"], DIM=self.sizes["DIM"], num_warps=4,
        )  # fmt: skip
        return output


def _splits(rows: int, capacity: int, device: torch.device, launch: _Launch) -> int:
    """Programs per row: enough to fill the device a few times over, with some blocks of tokens for each."""
    processors = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
    wanted, most = launch.programs * processors // rows, triton.cdiv(capacity, 4 * launch.block)
    return min(64, triton.next_power_of_2(max(1, min(wanted, most))))


@triton.jit
def _part(end, SPLITS: tl.constexpr, BLOCK: tl.constexpr):
    """First and last token (exclusive) of this program's part."""
    tokens = tl.load(end)
    size = tl.cdiv(tl.cdiv(tokens, SPLITS), BLOCK) * BLOCK
    first = tl.program_id(1) * size
    return first, tl.minimum(first + size, tokens)


@triton.jit
def _query_rows(query, row, GROUP: tl.constexpr, ROWS: tl.constexpr, HEAD_DIM: tl.constexpr, DIM: tl.constexpr):
    """The queries of one group, [ROWS, DIM], with zeros beyond the group and the head dimension."""
    g, d = tl.arange(0, ROWS), tl.arange(0, DIM)
    at = query + (row * GROUP + g)[:, None] * HEAD_DIM + d[None, :]
    return tl.load(at, mask=(g < GROUP)[:, None] & (d < HEAD_DIM)[None, :], other=0.0)


@triton.jit
def _tokens(buffer, row, t, last, capacity, HEAD_DIM: tl.constexpr, DIM: tl.constexpr, BLOCK: tl.constexpr):
    """Keys or values of one block of tokens, [BLOCK, DIM], with zeros beyond the last; nobody reads them again."""
    index, d = t + tl.arange(0, BLOCK), tl.arange(0, DIM)
    at = buffer + (row * capacity + index)[:, None] * HEAD_DIM + d[None, :]
    return tl.load(at, mask=(index < last)[:, None] & (d < HEAD_DIM)[None, :], other=0.0, eviction_policy="evict_first")


@triton.jit
def _scores(q, k, t, last, scale, BLOCK: tl.constexpr):
    """Scores of one block in powers of two, [ROWS, BLOCK], -inf beyond the last token."""
    s = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
    return tl.where((t + tl.arange(0, BLOCK) < last)[None, :], s, float("-inf"))


@triton.jit
def _store_part(acc, partial, row, GROUP: tl.constexpr, ROWS: tl.constexpr, SPLITS: tl.constexpr,
                HEAD_DIM: tl.constexpr, DIM: tl.constexpr):  # fmt: skip
    g, d = tl.arange(0, ROWS), tl.arange(0, DIM)
    at = partial + ((row * GROUP + g)[:, None] * SPLITS + tl.program_id(1)) * HEAD_DIM + d[None, :]
    tl.store(at, acc, mask=(g < GROUP)[:, None] & (d < HEAD_DIM)[None, :])


@triton.jit
def _store_rows(m, sums, highest, total, row, GROUP: tl.constexpr, ROWS: tl.constexpr, SPLITS: tl.constexpr):
    g = tl.arange(0, ROWS)
    at = (row * GROUP + g) * SPLITS + tl.program_id(1)
    tl.store(highest + at, m, mask=g < GROUP)
    tl.store(total + at, sums, mask=g < GROUP)


@triton.jit
def _attend_split(query, keys, values, end, partial, highest, total, scale, capacity,
                  GROUP: tl.constexpr, ROWS: tl.constexpr, SPLITS: tl.constexpr, KV_HEADS: tl.constexpr,
                  BLOCK: tl.constexpr, HEAD_DIM: tl.constexpr, DIM: tl.constexpr):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    first, last = _part(end, SPLITS, BLOCK)
    q = _query_rows(query, row, GROUP, ROWS, HEAD_DIM, DIM)
    m = tl.full([ROWS], float("-inf"), tl.float32)
    sums = tl.zeros([ROWS], tl.float32)
    acc = tl.zeros([ROWS, DIM], tl.float32)
    for t in range(first, last, BLOCK):
        s = _scores(q, _tokens(keys, row, t, last, capacity, HEAD_DIM, DIM, BLOCK), t, last, scale, BLOCK)
        v = _tokens(values, row, t, last, capacity, HEAD_DIM, DIM, BLOCK)
        higher = tl.maximum(m, tl.max(s, 1))
        p, shrink = tl.exp2(s - higher[:, None]), tl.exp2(m - higher)
        sums = sums * shrink + tl.sum(p, 1)
        acc = tl.dot(p.to(v.dtype), v, acc * shrink[:, None], input_precision="ieee")
        m = higher
    _store_part(acc, partial, row, GROUP, ROWS, SPLITS, HEAD_DIM, DIM)
    _store_rows(m, sums, highest, total, row, GROUP, ROWS, SPLITS)


@triton.jit
def _score_split(query, keys, end, scores, highest, total, scale, capacity,
                 GROUP: tl.constexpr, ROWS: tl.constexpr, SPLITS: tl.constexpr, KV_HEADS: tl.constexpr,
                 BLOCK: tl.constexpr, HEAD_DIM: tl.constexpr, DIM: tl.constexpr):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    first, last = _part(end, SPLITS, BLOCK)
    q = _query_rows(query, row, GROUP, ROWS, HEAD_DIM, DIM)
    g = tl.arange(0, ROWS)
    m = tl.full([ROWS], float("-inf"), tl.float32)
    sums = tl.zeros([ROWS], tl.float32)
    for t in range(first, last, BLOCK):
        s = _scores(q, _tokens(keys, row, t, last, capacity, HEAD_DIM, DIM, BLOCK), t, last, scale, BLOCK)
        index = t + tl.arange(0, BLOCK)
        at = scores + (row * GROUP + g)[:, None] * capacity + index[None, :]
        tl.store(at, s, mask=(g < GROUP)[:, None] & (index < last)[None, :])
        higher = tl.maximum(m, tl.max(s, 1))
        sums = sums * tl.exp2(m - higher) + tl.sum(tl.exp2(s - higher[:, None]), 1)
        m = higher
    _store_rows(m, sums, highest, total, row, GROUP, ROWS, SPLITS)


@triton.jit
def _normalise(scores, end, weights, highest, total, capacity,
               GROUP: tl.constexpr, ROWS: tl.constexpr, SPLITS: tl.constexpr, KV_HEADS: tl.constexpr,
               BLOCK: tl.constexpr):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    first, last = _part(end, SPLITS, BLOCK)
    g, part = tl.arange(0, ROWS), tl.arange(0, SPLITS)
    used = (g < GROUP)[:, None] & (part < SPLITS)[None, :]
    found = (row * GROUP + g)[:, None] * SPLITS + part[None, :]
    parts = tl.load(highest + found, mask=used, other=float("-inf"))
    m = tl.maximum(tl.max(parts, 1), -1e30)  # rows beyond the group have no scores
    sums = tl.sum(tl.load(total + found, mask=used, other=0.0) * tl.exp2(parts - m[:, None]), 1)
    for t in range(first, last, BLOCK):
        index = t + tl.arange(0, BLOCK)
        at = (row * GROUP + g)[:, None] * capacity + index[None, :]
        inside = (g < GROUP)[:, None] & (index < last)[None, :]
        p = tl.exp2(tl.load(scores + at, mask=inside, other=float("-inf")) - m[:, None]) / sums[:, None]
        tl.store(weights + at, p.to(weights.dtype.element_ty), mask=inside)


@triton.jit
def _values_split(weights, values, end, heads, partial, highest, total, capacity,
                  GROUP: tl.constexpr, ROWS: tl.constexpr, SPLITS: tl.constexpr, KV_HEADS: tl.constexpr,
                  BLOCK: tl.constexpr, HEAD_DIM: tl.constexpr, DIM: tl.constexpr):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    first, last = _part(end, SPLITS, BLOCK)
    g = tl.arange(0, ROWS)
    head = tl.load(heads + (row % KV_HEADS) * GROUP + g, mask=g < GROUP, other=0)
    source = (row // KV_HEADS) * KV_HEADS * GROUP + head
    acc = tl.zeros([ROWS, DIM], tl.float32)
    for t in range(first, last, BLOCK):
        index = t + tl.arange(0, BLOCK)
        inside = (g < GROUP)[:, None] & (index < last)[None, :]
        p = tl.load(weights + source[:, None] * capacity + index[None, :], mask=inside, other=0.0)
        v = _tokens(values, row, t, last, capacity, HEAD_DIM, DIM, BLOCK)
        acc = tl.dot(p, v, acc, input_precision="ieee")
    _store_part(acc, partial, row, GROUP, ROWS, SPLITS, HEAD_DIM, DIM)
    zeros = tl.zeros([ROWS], tl.float32)  # parts are added as they are: weights are normalised already
    _store_rows(zeros, zeros + 1.0 / SPLITS, highest, total, row, GROUP, ROWS, SPLITS)


@triton.jit
def _combine(partial, highest, total, output, SPLITS: tl.constexpr, HEAD_DIM: tl.constexpr, DIM: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    part, d = tl.arange(0, SPLITS), tl.arange(0, DIM)
    m = tl.load(highest + row * SPLITS + part)
    share = tl.exp2(m - tl.max(m, 0))
    sums = tl.sum(share * tl.load(total + row * SPLITS + part), 0)
    at = partial + (row * SPLITS + part)[:, None] * HEAD_DIM + d[None, :]
    acc = tl.sum(tl.load(at, mask=(d < HEAD_DIM)[None, :], other=0.0) * share[:, None], 0)
    tl.store(output + row * HEAD_DIM + d, (acc / sums).to(output.dtype.element_ty), mask=d < HEAD_DIM)
