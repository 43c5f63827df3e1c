"""Models for tests of damage."""

import pytest


@pytest.fixture
def alternating(tiny_model):
    """A tiny model in which layers with a window (1, 3, 5) and without one alternate."""
    return tiny_model("qwen2-mixed", layer_types=["full_attention", "sliding_attention"] * 3)
