"""How long reading prompts takes, *predicted*: each part as long as the slower of its FLOPs and its bytes, and then their sum.

The FLOPs are those of `forward_flops` with the logits of the last token alone. Two rates turn them into time, since no one number
holds for both: one for products with weights, and one for fused causal attention, whose FLOPs are counted as the full rectangle
that the formulas count and half of which a kernel skips. Between these stand operations that compute next to nothing and move
everything: norms, rotary embedding, activation, residuals. transformers runs each as a kernel of its own, which reads its inputs
and writes its output; so they are counted here, operation by operation.

How sharing changes prefill depends on the execution. In `recompute` followers run fused attention on their leader's queries and
keys: they save two projections, norms and rotary embedding of these. In `reuse`, which `auto` takes while the weights of one
leader are small (`REUSE_LIMIT_BYTES`), leaders make their weights one operation after the other and write them; followers read
these and multiply. Followers of `topk` and their leaders do so in either.

Ignored: starting kernels, which short prompts of small models wait for; zeros that stand in for what other mechanisms leave out; work on a mixture of experts beside its products; masks of
padding; a window, which a fused kernel may use to skip more than half of the rectangle; corrections' work beside their products.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from itertools import compress
from typing import Literal

from core.cost.checks import checked_plan
from core.cost.flops import forward_flops
from core.cost.mechanisms import KeptByLayer, kept_by_layer, topk_leaders
from core.cost.memory import bytes_of, kv_cache_bytes, parameter_count
from core.cost.roofline import Part
from core.cost.shapes import ModelShape, cached_tokens
from core.plan import EXECUTIONS, REUSE_LIMIT_BYTES, SharingPlan

Basis = Literal["same run", "other runs", "data sheet"]
_FLOAT32 = 4


@dataclass(frozen=True)
class PrefillRates:
    """What a device does in a second: FLOPs of products with weights and of fused attention (full rectangle), bytes moved.

    basis: where the rates are from.
    """

    matmul_flops_per_s: float
    attention_flops_per_s: float
    bytes_per_s: float
    basis: Basis


@dataclass(frozen=True)
class PrefillPrediction:
    """Reading the prompts of a whole batch, predicted, part by part."""

    embedding: Part
    projections: Part
    """Queries, keys, values and outputs."""
    attention: Part
    """In one fused kernel."""
    shared_weights: Part
    """Attention whose weights are written: leaders that make them, and all who read them."""
    mlp: Part
    elementwise: Part
    """Norms, rotary embedding, activations, residuals."""
    cache: Part
    lm_head: Part
    """Of the last token of each row."""

    @property
    def parts(self) -> dict[str, Part]:
        """By name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def seconds(self) -> float:
        return sum(part.seconds for part in self.parts.values())

    @property
    def flops(self) -> int:
        return sum(part.flops for part in self.parts.values())


def prefill_execution(shape: ModelShape, execution: str, batch_size: int, tokens: int, bytes_per_value: int) -> str:
    """What `auto` takes for prompts of so many tokens under torch's fused attention: `reuse` or `recompute`."""
    if execution not in EXECUTIONS:
        raise ValueError(f"There is no execution {execution!r}: choose one of {', '.join(EXECUTIONS)}.")
    if execution != "auto":
        return execution
    weights_bytes = batch_size * shape.num_heads * tokens**2 * bytes_per_value
    return "reuse" if weights_bytes <= REUSE_LIMIT_BYTES else "recompute"


def predict_prefill(
    shape: ModelShape,
    plan: SharingPlan | str,
    rates: PrefillRates,
    batch_size: int,
    tokens: int,
    dtype: str = "bfloat16",
    execution: str = "auto",
) -> PrefillPrediction:
    """Time to read `batch_size` prompts of `tokens` tokens each and to know what follows; weights and cache of format `dtype`."""
    width, plan = bytes_of(dtype), checked_plan(shape, plan, batch_size=batch_size, tokens=tokens)
    execution = prefill_execution(shape, execution, batch_size, tokens, width)
    kept, phase = kept_by_layer(plan, shape.borrowers, "prefill"), plan.in_phase("prefill")
    flops = forward_flops(shape, plan, batch_size, tokens, execution=execution, logits_to_keep=1)
    count = parameter_count(shape, phase)
    rows, weights = batch_size * tokens, batch_size * tokens * tokens
    writes, reads = _explicit(shape, phase, kept, execution)
    fused = [layer for layer, attends in enumerate(kept.output) if attends and layer not in {*writes, *reads}]
    seen = [cached_tokens(window, 0) + tokens for window in shape.sliding_windows]
    fused_flops = sum(4 * rows * seen[layer] * shape.query_sizes[layer] for layer in fused)
    of_attention = flops.scores + flops.weighted_values + flops.delta_proj + flops.alignment

    def part(bytes_moved: float, flops: int = 0, rate: float = rates.matmul_flops_per_s) -> Part:
        return Part(round(bytes_moved), flops, bytes_moved / rates.bytes_per_s, flops / rate)

    hidden, queries, keys = shape.hidden_size, shape.query_sizes, shape.kv_sizes
    made = [sum(compress(queries, kept.queries)), sum(compress(keys, kept.keys)), sum(compress(keys, kept.values))]
    outputs = sum(compress(queries, kept.output))
    products = sum(made) + outputs + hidden * sum(map(sum, kept[:4]))
    inner, explicit = _inner_sizes(shape), [layer for layer in range(shape.num_layers) if layer in {*writes, *reads}]
    head = (shape.embedding_size or hidden) * shape.vocab_size
    return PrefillPrediction(
        embedding=part(2 * width * rows * hidden, flops.embedding),
        projections=part(
            width * (count.projections + rows * products), flops.q_proj + flops.k_proj + flops.v_proj + flops.o_proj
        ),
        attention=part(
            width * rows * sum(2 * queries[layer] + 2 * keys[layer] for layer in fused), fused_flops,
            rates.attention_flops_per_s,
        ),
        shared_weights=part(
            weights * shape.num_heads * (len(writes) * _weights_bytes(width) + len(reads) * width),
            of_attention - fused_flops,
        ),
        mlp=part(
            width * (count.mlp + rows * shape.mlp_matrices * (len(inner) * hidden + sum(inner))),
            flops.mlp + flops.extras,
        ),
        elementwise=part(rows * _elementwise_bytes(shape, phase, kept, explicit, inner, width)),
        cache=part(2 * kv_cache_bytes(shape, plan, batch_size, tokens, width)),
        lm_head=part(width * (head + batch_size * shape.vocab_size), flops.lm_head),
    )  # fmt: skip


def _explicit(
    shape: ModelShape, plan: SharingPlan, kept: KeptByLayer, execution: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The layers that make attention weights one operation after the other, and those that only read them."""
    choosing = (
        *topk_leaders(plan),
        *(layer for part in plan.parts if part.mechanism == "topk" for layer in part.layers[1:]),
    )
    if execution != "reuse":
        return choosing, ()
    if shape.corrections.rank:
        return (*choosing, *plan.leaders, *plan.followers), ()
    return (*choosing, *plan.leaders), tuple(plan.followers)


def _weights_bytes(width: int) -> int:
    """Moved for one attention weight where it is made: QKᵀ writes it, the mask is added, the softmax writes float32, which is
    rounded, and the values' product reads it (`core.sharing.call`)."""
    rounded = 0 if width == _FLOAT32 else _FLOAT32 + width
    return width + 2 * width + (width + _FLOAT32) + rounded + width


def _inner_sizes(shape: ModelShape) -> list[int]:
    """Values between the matrices of every MLP that a token goes through, or of its experts."""
    sizes = list(shape.plain_mlp_sizes)
    if shape.experts:
        each = shape.experts.per_token * shape.experts.size + shape.experts.shared_size
        sizes += [each] * len(shape.experts.layers)
    return sizes


def _elementwise_bytes(
    shape: ModelShape, plan: SharingPlan, kept: KeptByLayer, explicit: Iterable[int], inner: Iterable[int], width: int
) -> int:
    """Moved for one token, all layers together, by operations that read their inputs and write their output.

    Residuals: 3 values; where weights are written, an output in order again for its projection: 2; rotary embedding x·cos + rotate_half(x)·sin: 10 (two products,
    negation and joining of the halves, a sum); activation: 2, and 3 for the product with the other half of a gated MLP.
    """
    hidden, rope = shape.hidden_size, 0 if shape.position_rows else 10
    rotated = sum(compress(shape.query_sizes, kept.queries)) + sum(compress(shape.kv_sizes, kept.keys))
    residuals = 3 * hidden * (2 * shape.num_layers - len(plan.skipped))
    norms = shape.layer_norms * shape.num_layers - shape.attention_norms * len(plan.skipped) + shape.outer_norms
    normed = norms * hidden + (rotated if shape.qk_norm else 0)
    values = residuals + 2 * sum(shape.query_sizes[layer] for layer in explicit) + rope * rotated
    return width * (values + (5 if shape.gated_mlp else 2) * sum(inner)) + normed * _norm_bytes(shape, width)


def _norm_bytes(shape: ModelShape, width: int) -> int:
    """Moved for one value of a norm: LayerNorm is one kernel; RMSNorm is rounded up to float32, squared, averaged, scaled, rounded
    back and weighted, each on its own."""
    if shape.norm_vectors != 1:
        return 2 * width
    rounded = 0 if width == _FLOAT32 else 2 * (width + _FLOAT32)
    return rounded + 5 * _FLOAT32 + 2 * width
