"""What a plan costs and saves, predicted from sizes alone: no torch, no model, no file of results.

Sizes of a model (`shapes`), what a layer keeps under each mechanism (`mechanisms`), FLOPs (`flops`), parameters and bytes
held and moved (`memory`) under a plan, what quantized caches hold (`kv_caches`), what it saves in one table (`savings`), how
long that takes (a step: `roofline`, prompts: `prefill`) on which hardware (`devices`), and the same taken apart: for whoever adds up plans without
asking (`by_layer`), and one step with all its parts, to be drawn (`step`). Imports
`core.plan` and `core.corrections` alone; what was timed lives in `core.records` and `core.timing`.
"""

from core.cost.by_layer import CostsByLayer, LayerCost, LayerCosts, costs_by_layer
from core.cost.devices import DEVICES, Device
from core.cost.flops import FLOP_EXECUTIONS, SOFTMAX_FLOPS_PER_WEIGHT, FlopCount, forward_flops, generation_flops
from core.cost.kv_caches import (
    KV_CACHES,
    CacheBytes,
    CacheKind,
    cache_kind,
    cache_saved_percent,
    held_cache_bytes,
)
from core.cost.memory import (
    BYTES_PER_VALUE,
    DecodeBytes,
    ParameterCount,
    StoredBytes,
    bytes_of,
    decode_bytes_moved,
    kv_cache_bytes,
    parameter_count,
    stored_bytes,
)
from core.cost.prefill import PrefillPrediction, PrefillRates, predict_prefill, prefill_execution
from core.cost.roofline import (
    MEMORY_SHARE,
    DecodePrediction,
    Part,
    fits_frame,
    largest_batch,
    predict_decode,
    usd_per_million_tokens,
)
from core.cost.savings import QUANTITIES, savings_frame
from core.cost.shapes import Experts, Extras, LayerSizes, ModelShape, known_config, known_shapes
from core.cost.step import LayerStep, step_by_layer

EXECUTIONS, decode_bytes_read = FLOP_EXECUTIONS, decode_bytes_moved  # their first names, which programs may still use

__all__ = [
    "BYTES_PER_VALUE", "DEVICES", "EXECUTIONS", "FLOP_EXECUTIONS", "KV_CACHES", "MEMORY_SHARE", "QUANTITIES",
    "SOFTMAX_FLOPS_PER_WEIGHT",
    "CacheBytes", "CacheKind", "CostsByLayer", "DecodeBytes", "DecodePrediction", "Device", "Experts", "Extras", "FlopCount", "LayerCost", "LayerCosts", "LayerSizes", "LayerStep", "ModelShape", "ParameterCount", "Part", "PrefillPrediction", "PrefillRates",
    "StoredBytes",
    "bytes_of", "cache_kind", "cache_saved_percent", "costs_by_layer", "decode_bytes_moved", "decode_bytes_read", "fits_frame", "forward_flops", "generation_flops", "held_cache_bytes",
    "known_config",
    "known_shapes", "kv_cache_bytes", "largest_batch", "parameter_count", "predict_decode", "predict_prefill", "prefill_execution", "savings_frame", "step_by_layer", "stored_bytes",
    "usd_per_million_tokens",
]  # fmt: skip
