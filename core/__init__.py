"""Shared Attention: sharing attention weights across layers, accounting for it, and measuring what it costs.

The names below load on first use, so that `core.plan`, `core.cost` and `core.records` work without torch.
"""

from importlib import import_module

_HOME = {
    "SharingPlan": "plan",
    "load_model": "models",
    "share_attention": "sharing",
    "attention_similarity": "damage.similarity",
}

__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'core' has no attribute {name!r}")
    return getattr(import_module(f"core.{_HOME[name]}"), name)
