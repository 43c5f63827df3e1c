"""Reports on `python -m core train-demo`."""

from core.demo.recipe import Recipe


def test_training_without_warm_up():
    """`--warmup-steps 0` divides by zero after the corpus was read."""
    recipe = Recipe(steps=10, warmup_steps=0, decay_share=0.4)
    assert recipe.rate(0) == 1 and recipe.rate(10) == 0
