"""What a plan costs and saves, predicted from sizes alone: no torch, no model, no file of results.

Sizes of a model (`shapes`), FLOPs, bytes held and moved and parameters under a plan, and how long that takes on which
hardware (`devices`). Imports `core.plan` alone. What was timed lives in `core.timing` and `core.records`.
"""

from core.cost.flops import *
from core.cost.shapes import Experts, ModelShape, known_config, known_shapes  # noqa: F401

decode_bytes_read = decode_bytes_moved  # its first name, which left out that it counts writes too
