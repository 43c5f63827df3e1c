"""Kinds of KV cache, full and quantized, and the bytes that each holds under a plan, *predicted* from sizes.

A quantized cache (Liu et al. 2024, "KIVI", arXiv 2402.02750, as transformers' `QuantizedCache` keeps it) holds keys and
values as small integers, in groups of GROUP_VALUES numbers of one token and head, each group with a scale and an offset in
the model's own number format. The tokens that were written last, at most `residual_tokens` - 1 of them, stay as they are
until there are enough of them to be quantized together. The tests compare the formula with the tensors of real caches.
"""

from collections import Counter
from dataclasses import astuple, dataclass

from core.cost.checks import check_sizes, checked_plan
from core.cost.components import Components
from core.cost.mechanisms import kept_by_layer
from core.cost.memory import kv_cache_bytes
from core.cost.shapes import LayerSizes, ModelShape
from core.plan import SharingPlan

GROUP_VALUES = 64
"""Numbers of one token and head that share a scale and an offset, at most: transformers' own default."""
RESIDUAL_TOKENS = 32
"""Tokens that are quantized together, once so many were written. transformers' own default, 128, is as long as many texts that
are scored, which would then be read in full precision."""


@dataclass(frozen=True)
class CacheKind:
    """A way to hold keys and values. bits: of each number; None: in the model's own number format."""

    name: str
    bits: int | None = None
    residual_tokens: int = RESIDUAL_TOKENS

    def unquantized_of(self, written_tokens: int) -> int:
        """Tokens that are still as they were, after a prompt and `written_tokens` more, one by one."""
        return written_tokens % self.residual_tokens


KV_CACHES = {
    kind.name: kind
    for kind in (CacheKind("full"), *(CacheKind(f"quantized-{bits}", bits) for bits in (2, 4, 8)))
}  # fmt: skip
"""Every kind by its name."""
SHORT_NAMES = {"quantized": "quantized-4"}
"""What may be typed for a kind: transformers quantizes to 4 bits unless it is told otherwise."""


def cache_kind(name: str) -> CacheKind:
    """The kind of this name or short name. Raises ValueError for one that does not exist."""
    if (kind := KV_CACHES.get(SHORT_NAMES.get(name, name))) is None:
        raise ValueError(f"There is no KV cache {name!r}: use one of {', '.join([*KV_CACHES, *SHORT_NAMES])}.")
    return kind


def group_size(head_dim: int) -> int:
    """Numbers in a group: the most, up to GROUP_VALUES, that heads of `head_dim` numbers divide into, so that a group is
    of one token and one head."""
    return max(size for size in range(1, min(head_dim, GROUP_VALUES) + 1) if head_dim % size == 0)


@dataclass(frozen=True)
class CacheBytes(Components):
    """Bytes that a cache holds, all layers together, one field per component."""

    quantized: int
    """Keys and values as small integers, packed."""
    scales: int
    """Of each group of integers its scale and its offset."""
    unquantized: int
    """Keys and values in the model's own number format: all of a full cache, the last tokens of a quantized one."""


def held_cache_bytes(
    shape: ModelShape,
    plan: SharingPlan | str,
    batch_size: int,
    num_tokens: int,
    kind: str | CacheKind = "full",
    bytes_per_value: int = 2,
    written_tokens: int = 0,
) -> CacheBytes:
    """Bytes that a cache of this kind holds after `num_tokens` tokens of each of `batch_size` sequences.

    bytes_per_value: of the model's own number format, in which scales and offsets are too. written_tokens: how many of the
    tokens came one by one after the prompt, which a quantized cache quantizes at once.

    Leaders and dense layers hold keys and values, followers values only; what other mechanisms hold: `kv_cache_bytes`. Raises ValueError for sizes that do not fit, and
    for a quantized cache of a model with sliding windows, which transformers does not have.
    """
    kind = cache_kind(kind) if isinstance(kind, str) else kind
    plan = checked_plan(shape, plan, batch_size=batch_size, num_tokens=num_tokens, bytes_per_value=bytes_per_value)
    check_sizes(0, written_tokens=written_tokens)
    if kind.bits is None:
        return CacheBytes(0, 0, kv_cache_bytes(shape, plan, batch_size, num_tokens, bytes_per_value))
    if any(window is not None for window in shape.sliding_windows):
        raise ValueError(f"{shape.name} has sliding windows, whose cache transformers does not quantize: use full.")
    unquantized = min(kind.unquantized_of(written_tokens), num_tokens)
    tensors_of: Counter[LayerSizes] = Counter()
    for tensors, size in zip(kept_by_layer(plan, shape.borrowers).cached, shape.sizes, strict=True):
        tensors_of[size] += tensors
    held = [
        _quantized(
            size, batch_size * (num_tokens - unquantized), batch_size * unquantized, tensors, kind.bits, bytes_per_value
        )
        for size, tensors in tensors_of.items()
    ]
    return CacheBytes(*map(sum, zip(*map(astuple, held), strict=True)))


def _quantized(size: LayerSizes, packed: int, plain: int, tensors: int, bits: int, bytes_per_value: int) -> CacheBytes:
    """What so many tensors of keys or values hold, of `packed` tokens as small integers and of `plain` ones as they are."""
    group, values = group_size(size.head_dim), size.num_kv_heads * size.head_dim
    groups = packed * values // group  # of one tensor
    return CacheBytes(
        quantized=tensors * group * -(-groups * bits // 8),  # groups lie side by side in the bits of a byte
        scales=tensors * groups * 2 * bytes_per_value,
        unquantized=tensors * plain * values * bytes_per_value,
    )


def cache_saved_percent(
    shape: ModelShape,
    plan: SharingPlan | str,
    kind: str | CacheKind = "full",
    num_tokens: int = 1024,
    bytes_per_value: int = 2,
    written_tokens: int = 0,
) -> float:
    """Percent of the dense model's full cache that this plan with a cache of this kind does without, for one sequence.

    bytes_per_value: of the number format that the model runs in; the same integers save more beside wider numbers.
    """
    full = held_cache_bytes(shape, "", 1, num_tokens, "full", bytes_per_value)
    held = held_cache_bytes(shape, plan, 1, num_tokens, kind, bytes_per_value, written_tokens)
    return 100 * (full.total - held.total) / full.total if full.total else 0.0
