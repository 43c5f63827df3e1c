"""Triton kernels for a step's matrix products with few rows, which are as fast as their weights can be read.

y = x Wᵀ for x [rows, inputs] with at most MOST_ROWS rows and W [outputs, inputs] as torch.nn.Linear holds it. What stands
between two products is done by them, so that a layer is a few kernels:

- RMSNorm, y = W (x ∘ g) / √(mean x² + ε): the product that writes the residual stream x writes x ∘ g and the sums of its x²
  beside it, and the next one divides by what these come to (g: the next norm's weight). No kernel is a norm alone.
- queries, keys and values, whose weights lie apart, are one product; gate and up are one, with silu(gate) · up.
- greedy choice: the last product leaves the best token of each of its parts.

Sums over inputs are split over programs where outputs alone would not fill the device (split-K); the program that comes last
adds the parts up, always in the same order. All sums are in float32.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from core.decoding.overlap import begin, wait

MOST_ROWS = 32


class Tile(NamedTuple):
    """What one program of a product does; chosen by timing on an H200 (docs/decisions.md)."""

    outputs: int
    inputs: int  # at a time
    splits: int  # programs that share the inputs of the same outputs
    warps: int
    stages: int  # blocks of inputs in flight

    @property
    def options(self) -> dict[str, int]:
        """How it is compiled."""
        return {"num_warps": self.warps}


ONE_ROW = {
    "query key value": Tile(4, 1024, 1, 4, 2),
    "value": Tile(2, 2048, 1, 8, 1),
    "output": Tile(4, 1024, 1, 4, 2),
    "gate up": Tile(2, 1024, 1, 4, 4),
    "down": Tile(8, 2048, 1, 8, 1),
    "head": Tile(8, 1024, 1, 4, 4),
}
ROWS_16 = {
    "query key value": Tile(64, 128, 2, 4, 3),
    "value": Tile(64, 256, 8, 4, 3),
    "output": Tile(64, 256, 2, 4, 3),
    "gate up": Tile(64, 128, 1, 4, 4),
    "down": Tile(64, 256, 2, 4, 4),
    "head": Tile(128, 128, 1, 4, 3),
}
ROWS_32 = {
    "query key value": Tile(64, 128, 1, 4, 5),
    "value": Tile(64, 128, 8, 4, 5),
    "output": Tile(64, 128, 2, 4, 5),
    "gate up": Tile(64, 128, 1, 4, 4),
    "down": Tile(64, 128, 2, 4, 5),
    "head": Tile(64, 128, 1, 4, 3),
}
TILES = ((1, ONE_ROW), (16, ROWS_16), (MOST_ROWS, ROWS_32))
"""For at most so many rows."""


def tile_of(kind: str, rows: int, weight: torch.Tensor, gated: bool = False) -> Tile:
    """The tile of a product of this kind (a key of the tables) for so many rows, as its device and numbers allow."""
    tile = next(table for most, table in TILES if rows <= most)[kind]
    inputs = tile.inputs * 2 // weight.element_size()  # the tables are for two bytes a number
    inputs = min(inputs, max(16, triton.next_power_of_2(weight.shape[1])))
    splits = min(tile.splits, triton.cdiv(weight.shape[1], inputs))
    room = shared_memory(weight.device)
    each = (tile.outputs * (1 + gated) + _padded(rows)) * inputs * weight.element_size()
    stages = max(1, min(tile.stages, room // each))
    return tile._replace(inputs=inputs, splits=splits, stages=stages)


def shared_memory(device: torch.device) -> int:
    """Bytes of shared memory that a program can have, less a little for what the compiler adds."""
    if device.type != "cuda":
        return 200_000
    found = torch.cuda.get_device_properties(device)
    return getattr(found, "shared_memory_per_block_optin", found.shared_memory_per_block) - 4096


def _padded(rows: int) -> int:
    """Rows as they are computed: one by the ordinary units, more by the matrix units, which take 16 at once."""
    return 1 if rows == 1 else max(16, triton.next_power_of_2(rows))


class Product:
    """One product of a step: its weights, and what is done with what comes of it.

    kind: which tile. weights: [outputs, inputs] each, of one device and type; gated: gate and up. biases: None, or one for
    each weight, or None where that has none. overlap: see `core.decoding.overlap`.
    """

    def __init__(
        self,
        kind: str,
        weights: "list[torch.Tensor]",
        biases: "list[torch.Tensor | None]",
        rows: int,
        gated: bool = False,
        overlap: bool = False,
        tile: Tile | None = None,
    ):
        self.weights, self.rows, self.gated, self.overlap = weights, rows, gated, overlap
        self.tile = tile or tile_of(kind, rows, weights[0], gated)
        self.inputs = weights[0].shape[1]
        self.outputs = weights[0].shape[0] if gated else sum(len(weight) for weight in weights)
        self.biases = _joined(weights, biases)
        self.blocks = triton.cdiv(self.outputs, self.tile.outputs)
        device, sums = weights[0].device, (self.tile.splits, 1 + gated, self.outputs, _padded(rows))
        self.partial = torch.empty(sums if self.tile.splits > 1 else 1, dtype=torch.float32, device=device)
        self.arrived = torch.zeros(self.blocks, dtype=torch.int32, device=device)

    def __call__(
        self,
        x: torch.Tensor,
        out: torch.Tensor,
        squares: torch.Tensor | None = None,
        eps: float = 0.0,
        residual: torch.Tensor | None = None,
        scale: torch.Tensor | None = None,
        left: torch.Tensor | None = None,
        best: torch.Tensor | None = None,
        choice: torch.Tensor | None = None,
    ) -> None:
        """out [rows, outputs] = x [rows, inputs] Wᵀ + bias.

        squares [parts, rows] float32, eps: divide by √(mean of squares + eps), of what x was before it was scaled.
        residual: add to this [rows, outputs] in place; out is then the sum times `scale` [outputs], and `left`
        [blocks, rows] float32 gets the parts of its sums of squares.
        best [blocks, rows] float32, choice [blocks, rows] int32: the highest output of each block and its index.
        """
        tile, rest = self.tile, self.weights[1:] + [self.weights[0]] * 2
        distances = [(other.data_ptr() - self.weights[0].data_ptr()) // x.element_size() for other in rest[:2]]
        sizes = [len(weight) for weight in self.weights] + [0, 0]
        first, second = (self.outputs, 0) if self.gated else sizes[:2]
        _product[(self.blocks, tile.splits)](
            x, x if squares is None else squares, self.weights[0], *distances, x if self.biases is None else self.biases,
            out, x if residual is None else residual, x if scale is None else scale, x if left is None else left,
            x if best is None else best, x if choice is None else choice, self.partial, self.arrived, eps,
            R=self.rows, ROWS=_padded(self.rows), K=self.inputs, N=self.outputs, FIRST=first, SECOND=second,
            BN=tile.outputs, BK=tile.inputs, SPLITS=tile.splits,
            STAGES=tile.stages, PARTS=len(squares) if squares is not None else 0,
            PADDED_PARTS=triton.next_power_of_2(len(squares)) if squares is not None else 0, GATED=self.gated,
            BIASED=self.biases is not None, RESIDUAL=residual is not None, CHOOSES=best is not None,
            ALIGNED=all(step % 16 == 0 for step in (self.inputs, *distances)), OVERLAP=self.overlap, **tile.options, **({"launch_pdl": True} if self.overlap else {}),
        )  # fmt: skip


def _joined(weights: "list[torch.Tensor]", biases: "list[torch.Tensor | None]") -> torch.Tensor | None:
    """All biases one after the other, zeros where a weight has none; None where none has one."""
    if all(bias is None for bias in biases):
        return None
    return torch.cat(
        [weight.new_zeros(len(weight)) if bias is None else bias for weight, bias in zip(weights, biases, strict=True)]
    )


@triton.jit
def _product(x, squares, weight, to_second, to_third, bias, out, residual, scale, left, best, choice, partial, arrived,
             eps, R: tl.constexpr, ROWS: tl.constexpr, K: tl.constexpr, N: tl.constexpr, FIRST: tl.constexpr,
             SECOND: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, SPLITS: tl.constexpr, STAGES: tl.constexpr,
             PARTS: tl.constexpr, PADDED_PARTS: tl.constexpr, GATED: tl.constexpr, BIASED: tl.constexpr,
             RESIDUAL: tl.constexpr, CHOOSES: tl.constexpr, ALIGNED: tl.constexpr, OVERLAP: tl.constexpr):  # fmt: skip
    begin(OVERLAP)
    block, split = tl.program_id(0), tl.program_id(1)
    n, r = block * BN + tl.arange(0, BN), tl.arange(0, ROWS)
    used = tl.minimum(n, N - 1).to(tl.int64)  # outputs beyond the last one read its weights, and are not written
    rows = used * K
    if FIRST < N:
        rows = tl.where(used < FIRST, rows, to_second + (used - FIRST) * K)
    if FIRST + SECOND < N:
        rows = tl.where(used < FIRST + SECOND, rows, to_third + (used - FIRST - SECOND) * K)
    if ALIGNED:
        rows = tl.multiple_of(rows, 16)  # else Triton 3.9 reads weights one by one
    size: tl.constexpr = (K + SPLITS * BK - 1) // (SPLITS * BK) * BK
    first = split * size
    w = rows
    u = rows
    if ROWS == 1:  # no kernel writes weights: the first ones come while the kernel before still runs
        w = _weights(weight, rows, first + tl.arange(0, BK), K)
        u = w
        if GATED:
            u = _weights(weight + to_second, rows, first + tl.arange(0, BK), K)
    wait(OVERLAP)
    divisor = tl.full([1, ROWS], 1.0, tl.float32)
    if PARTS:
        part = tl.arange(0, PADDED_PARTS)
        seen = (part < PARTS)[:, None] & (r < R)[None, :]
        found = tl.load(squares + part[:, None] * R + r[None, :], mask=seen, other=0.0)
    second = weight + to_second
    if ROWS == 1:
        y, z = _sums_of_one(x, w, u, weight, second, rows, first, K, BN, BK, size, STAGES, GATED)
    else:
        y, z = _sums(x, weight, second, rows, r, first, R, ROWS, K, BN, BK, size, STAGES, GATED)
    if PARTS:
        divisor = tl.rsqrt(tl.sum(found, 0) / K + eps)[None, :]
    if SPLITS == 1:
        _finish(y, z, divisor, bias, out, residual, scale, left, best, choice, block, n, r, R, N, GATED, BIASED,
                RESIDUAL, CHOOSES)  # fmt: skip
    else:
        own = partial + n[:, None] * ROWS + r[None, :]
        apart: tl.constexpr = N * ROWS
        here = (n < N)[:, None]
        if GATED:
            tl.store(own + split * (2 * apart), y, mask=here)
            tl.store(own + split * (2 * apart) + apart, z, mask=here)
        else:
            tl.store(own + split * apart, y, mask=here)
        tl.debug_barrier()  # until all threads have written
        if tl.atomic_add(arrived + block, 1, sem="acq_rel") == SPLITS - 1:
            y, z = _added(own, here, apart, BN, ROWS, SPLITS, GATED)
            tl.store(arrived + block, 0)
            _finish(y, z, divisor, bias, out, residual, scale, left, best, choice, block, n, r, R, N, GATED, BIASED,
                    RESIDUAL, CHOOSES)  # fmt: skip


@triton.jit
def _sums_of_one(x, w, u, weight, second, rows, first, K: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
                 size: tl.constexpr, STAGES: tl.constexpr, GATED: tl.constexpr):  # fmt: skip
    """`_sums` of one row, by the ordinary units: each thread adds up eight neighbours, and they meet at the end.

    w, u: the first of the weights, which came while the kernel before still ran.
    """
    at = first + tl.arange(0, BK)
    xs = tl.load(x + at, mask=at < K, other=0.0).to(tl.float32)
    y = _eights(w, xs, BN, BK)
    z = y
    if GATED:
        z = _eights(u, xs, BN, BK)
    for k in tl.range(first + BK, first + size, BK, num_stages=STAGES):
        at = k + tl.arange(0, BK)
        xs = tl.load(x + at, mask=at < K, other=0.0).to(tl.float32)
        y += _eights(_weights(weight, rows, at, K), xs, BN, BK)
        if GATED:
            z += _eights(_weights(second, rows, at, K), xs, BN, BK)
    return tl.sum(y, 1)[:, None], tl.sum(z, 1)[:, None]


@triton.jit
def _eights(w, xs, BN: tl.constexpr, BK: tl.constexpr):
    return tl.sum(tl.reshape(w.to(tl.float32) * xs[None, :], [BN, BK // 8, 8]), 2)


@triton.jit
def _sums(x, weight, second, rows, r, first, R: tl.constexpr, ROWS: tl.constexpr, K: tl.constexpr, BN: tl.constexpr,
          BK: tl.constexpr, size: tl.constexpr, STAGES: tl.constexpr, GATED: tl.constexpr):  # fmt: skip
    """Σ W x over this program's inputs, [BN, ROWS]; gated: of both weights, else the same twice."""
    y = tl.zeros([BN, ROWS], tl.float32)
    z = y
    for k in tl.range(first, first + size, BK, num_stages=STAGES):
        at = k + tl.arange(0, BK)
        xs = _inputs(x, r, at, R, K)
        y = tl.dot(_weights(weight, rows, at, K), xs, y, input_precision="ieee")
        if GATED:
            z = tl.dot(_weights(second, rows, at, K), xs, z, input_precision="ieee")
    return y, z


@triton.jit
def _inputs(x, r, at, R: tl.constexpr, K: tl.constexpr):
    """x of all rows at these inputs, [BK, ROWS]."""
    return tl.load(x + r[None, :] * K + at[:, None], mask=(r < R)[None, :] & (at < K)[:, None], other=0.0)


@triton.jit
def _weights(weight, rows, at, K: tl.constexpr):
    """[BN, BK] weights, which nobody reads again in this step."""
    return tl.load(
        weight + rows[:, None] + at[None, :], mask=(at < K)[None, :], other=0.0, eviction_policy="evict_first"
    )


@triton.jit
def _added(own, here, apart: tl.constexpr, BN: tl.constexpr, ROWS: tl.constexpr, SPLITS: tl.constexpr,
           GATED: tl.constexpr):  # fmt: skip
    """The sums of all programs of a block, past the first-level cache, which may hold older ones."""
    y = tl.zeros([BN, ROWS], tl.float32)
    z = y
    for split in tl.static_range(SPLITS):
        if GATED:
            y += tl.load(own + split * (2 * apart), mask=here, other=0.0, cache_modifier=".cg")
            z += tl.load(own + split * (2 * apart) + apart, mask=here, other=0.0, cache_modifier=".cg")
        else:
            y += tl.load(own + split * apart, mask=here, other=0.0, cache_modifier=".cg")
    return y, z


@triton.jit
def _finish(y, z, divisor, bias, out, residual, scale, left, best, choice, block, n, r, R: tl.constexpr,
            N: tl.constexpr, GATED: tl.constexpr, BIASED: tl.constexpr, RESIDUAL: tl.constexpr,
            CHOOSES: tl.constexpr):  # fmt: skip
    """What is done with sums [BN, ROWS] before they are written."""
    kind = out.dtype.element_ty
    here = (n < N)[:, None] & (r < R)[None, :]
    at = r[None, :] * N + n[:, None]
    y = y * divisor
    if BIASED:
        y += tl.load(bias + n, mask=n < N, other=0.0).to(tl.float32)[:, None]
    if GATED:
        z = z * divisor
        if BIASED:
            z += tl.load(bias + N + n, mask=n < N, other=0.0).to(tl.float32)[:, None]
        y = y * tl.sigmoid(y) * z
    if RESIDUAL:
        y = (y + tl.load(residual + at, mask=here, other=0.0).to(tl.float32)).to(kind)
        tl.store(residual + at, y, mask=here)
        y = tl.where(here, y.to(tl.float32), 0.0)
        tl.store(left + block * R + r, tl.sum(y * y, 0), mask=r < R)
        y = y * tl.load(scale + n, mask=n < N, other=0.0).to(tl.float32)[:, None]
    tl.store(out + at, y.to(kind), mask=here)
    if CHOOSES:
        y = tl.where(here, y.to(kind).to(tl.float32), float("-inf"))
        value, index = tl.max(y, 0, return_indices=True)
        tl.store(best + block * R + r, value, mask=r < R)
        tl.store(choice + block * R + r, block * n.shape[0] + index, mask=r < R)


def choose(best: torch.Tensor, choice: torch.Tensor, tokens: torch.Tensor) -> None:
    """tokens [rows], int64: of the best of all blocks, [blocks, rows] and their indices, the first one that is highest."""
    blocks, rows = best.shape
    _choose[(rows,)](best, choice, tokens, R=rows, BLOCKS=blocks, PADDED=triton.next_power_of_2(blocks), num_warps=8)


@triton.jit
def _choose(best, choice, tokens, R: tl.constexpr, BLOCKS: tl.constexpr, PADDED: tl.constexpr):
    row, block = tl.program_id(0), tl.arange(0, PADDED)
    value = tl.load(best + block * R + row, mask=block < BLOCKS, other=float("-inf"))
    index = tl.load(choice + block * R + row, mask=block < BLOCKS, other=2**31 - 1)
    first = tl.min(tl.where(value == tl.max(value, 0), index, 2**31 - 1), 0)
    tl.store(tokens + row, first.to(tl.int64))


def start_stream(
    tokens: torch.Tensor, embedding: torch.Tensor, scale: torch.Tensor, stream: torch.Tensor, scaled: torch.Tensor,
    left: torch.Tensor,
) -> None:  # fmt: skip
    """The residual stream's beginning: `stream` [rows, width] = embeddings [vocabulary, width] of `tokens` [rows].

    scaled: the same times `scale` [width], the first norm's weight; left [parts, rows]: parts of the sums of squares.
    """
    (rows, width), parts = stream.shape, len(left)
    block = triton.next_power_of_2(triton.cdiv(width, parts))
    _start_stream[(parts, rows)](
        tokens, embedding, scale, stream, scaled, left, R=rows, K=width, PARTS=parts, BLOCK=block, num_warps=1
    )


@triton.jit
def _start_stream(tokens, embedding, scale, stream, scaled, left, R: tl.constexpr, K: tl.constexpr,
                  PARTS: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    part, row = tl.program_id(0), tl.program_id(1)
    size: tl.constexpr = (K + PARTS - 1) // PARTS
    k = part * size + tl.arange(0, BLOCK)
    inside = (tl.arange(0, BLOCK) < size) & (k < K)
    x = tl.load(embedding + tl.load(tokens + row) * K + k, mask=inside, other=0.0)
    tl.store(stream + row * K + k, x, mask=inside)
    x = x.to(tl.float32)
    tl.store(left + part * R + row, tl.sum(x * x, 0))
    scaled_x = x * tl.load(scale + k, mask=inside, other=0.0).to(tl.float32)
    tl.store(scaled + row * K + k, scaled_x.to(scaled.dtype.element_ty), mask=inside)
