"""Models and caches in fewer bits, each with attention sharing: the KV cache (`cache`) and the weights (`weights`).

Both work on views as on dense models, and leave the model that they were given as it was. What they hold is counted
(`core.sharing.cache.cache_bytes`, `core.sharing.storage.weight_bytes`); `core.cost.kv_caches` predicts the cache's part.
"""

from core.quantization.cache import cache_maker, unquantized_tokens
from core.quantization.weights import with_weights

__all__ = ["cache_maker", "unquantized_tokens", "with_weights"]
