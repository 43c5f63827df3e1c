"""What panels and endpoints share knows of neither."""

import json
import subprocess
import sys

import pytest

from app import services
from core import places
from core.cost import known_shapes


def test_services_need_neither_the_page_nor_torch():
    code = "import sys, app.services; print(sorted({'gradio', 'torch'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=places.CHECKOUT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_curves_run_to_the_longest_context_through_the_chosen_one():
    contexts = services.contexts_up_to(services.longest_context(known_shapes()["Llama-3-8B"]), 1000)
    assert contexts == sorted(contexts) and contexts[-1] == 8192 and 1000 in contexts


def test_a_shape_that_does_not_exist_is_explained():
    with pytest.raises(ValueError, match="There is no shape 'Llama-9'"):
        services.shape_of("Llama-9", "demo")


def test_head_maps_of_large_models_can_be_asked_for():
    """80 layers of 64 heads take more characters than a name may have."""
    heads = json.dumps({str(layer): list(range(64)) for layer in range(1, 80)})
    assert len(heads) > 10_000
    services.check_texts("demo", "17-22", "A fox", 5, 0.0, 0, heads)
    with pytest.raises(ValueError, match="heads has 70,000 characters: give at most 65,536"):
        services.check_texts("demo", "17-22", "A fox", 5, 0.0, 0, "x" * 70_000)
