"""core.cost.shapes against transformers: what a configuration leaves unsaid, and the parameters of real models."""

import json

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import core.cost.shapes
from core.cost import parameter_count
from core.cost.shapes import Experts, ModelShape, known_config, known_shapes
from core.sharing.families import CHECKED
from tests.support.variants import NEEDED, SIZES, VARIANTS, variant_config

FAMILIES = sorted(core.cost.shapes._FAMILIES)
PUBLISHED_TOTALS = {
    "Llama-2-7B": 6_738_415_616,
    "Llama-2-13B": 13_015_864_320,
    "Llama-2-70B": 68_976_648_192,
    "Llama-3-8B": 8_030_261_248,
    "Llama-3-70B": 70_553_706_496,
    "Llama-3.2-1B": 1_235_814_400,
    "Llama-3.2-3B": 3_212_749_824,
    "Mistral-7B-v0.1": 7_241_732_096,
    "Mistral-7B-v0.3": 7_248_023_552,
    "Qwen2.5-0.5B": 494_032_768,
    "Qwen2.5-1.5B": 1_543_714_304,
    "Qwen2.5-7B": 7_615_616_512,
    "Qwen2.5-14B": 14_770_033_664,
    "Qwen2.5-72B": 72_706_203_648,
    "Qwen3-0.6B": 596_049_920,
    "Qwen3-1.7B": 1_720_574_976,
    "Qwen3-4B": 4_022_468_096,
    "Qwen3-8B": 8_190_735_360,
    "Qwen3-14B": 14_768_307_200,
    "Qwen3-32B": 32_762_123_264,
    "SmolLM2-135M": 134_515_008,
    "SmolLM2-360M": 361_821_120,
    "SmolLM2-1.7B": 1_711_376_384,
    "SmolLM3-3B": 3_075_098_624,
    "TinyLlama-1.1B": 1_100_048_384,
    "Mixtral-8x7B-v0.1": 46_702_792_704,
    "Qwen3-30B-A3B": 30_532_122_624,
}


def total(config) -> int:
    """Parameters of the model that transformers makes of a configuration."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return sum(parameter.numel() for parameter in model.parameters())


def test_every_family_that_shares_is_known():
    assert set(FAMILIES) >= CHECKED


@pytest.mark.parametrize("variant", VARIANTS)
def test_shape_from_config_object_equals_shape_from_config_json(variant):
    config = variant_config(variant)
    assert ModelShape.from_config(config) == ModelShape.from_config(json.loads(config.to_json_string()))


@pytest.mark.parametrize("family", FAMILIES)
def test_shape_fills_in_what_a_config_json_leaves_unsaid(family):
    unsaid = ("head_dim", "initializer_range", "layer_types", "sliding_window", "activation_sparsity_pattern")
    said = {**SIZES, **NEEDED.get(family, {}), "num_hidden_layers": 30}
    said = {name: value for name, value in said.items() if name not in unsaid}
    expected = ModelShape.from_config(AutoConfig.for_model(family, **said))
    assert ModelShape.from_config({"model_type": family, **said}) == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_follow_every_switch_of_the_configuration(family):
    switches = {name for name, value in variant_config(family).to_dict().items() if isinstance(value, bool)}
    for name in switches - {"add_cross_attention"}:  # that would be a decoder for an encoder
        config = variant_config(family)
        setattr(config, name, not getattr(config, name))
        assert parameter_count(ModelShape.from_config(config), "").total == total(config), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameters_equal_counting(variant):
    config = variant_config(variant)
    assert parameter_count(ModelShape.from_config(config), "").total == total(config)


@pytest.mark.parametrize("field", ["num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size"])
def test_shape_names_the_missing_field(field):
    config = variant_config("llama").to_dict()
    del config[field]
    with pytest.raises(ValueError, match=f"has no '{field}'"):
        ModelShape.from_config(config)


def test_shape_refuses_unknown_family_and_bad_size():
    with pytest.raises(ValueError, match="'mamba' are not known: choose one of arcee, biogpt"):
        ModelShape.from_config({"model_type": "mamba"})
    with pytest.raises(ValueError, match="hidden_size = -1: it must be a whole number above 0"):
        ModelShape.from_config(variant_config("llama").to_dict() | {"hidden_size": -1})


def test_shape_reads_each_size():
    shape = ModelShape.from_config(variant_config("qwen3_moe some plain"))
    assert (shape.num_layers, shape.hidden_size, shape.intermediate_size, shape.vocab_size) == (6, 48, 56, 97)
    assert (shape.num_heads, shape.num_kv_heads, shape.head_dim, shape.max_context) == (4, 2, 16, 64)
    assert shape.experts == Experts(count=4, per_token=2, size=24, layers=(1, 5))
    windows = ModelShape.from_config(variant_config("qwen2 late windows")).sliding_windows
    assert windows == (None, None, None, 6, 6, 6)


def test_known_shapes_have_the_published_number_of_parameters():
    totals = {name: parameter_count(shape, "").total for name, shape in known_shapes().items()}
    assert totals == PUBLISHED_TOTALS
    assert all(shape.source.startswith("https://huggingface.co/") for shape in known_shapes().values())
    assert set(known_shapes()["Mistral-7B-v0.1"].sliding_windows) == {4096}


@pytest.mark.parametrize(
    "name", ["Llama-3.2-1B", "Mistral-7B-v0.1", "Qwen2.5-0.5B", "Qwen3-0.6B", "Qwen3-30B-A3B", "SmolLM3-3B"]
)
def test_known_shapes_equal_the_full_size_model(name):
    _, fields = known_config(name)
    assert parameter_count(known_shapes()[name], "").total == total(AutoConfig.for_model(**fields))


def test_known_configurations_by_name_in_any_case():
    name, fields = known_config("LLAMA-3-8b")
    assert name == "Llama-3-8B" and fields["num_hidden_layers"] == 32
    fields.clear()  # a copy
    assert known_config("Llama-3-8B")[1]
    with pytest.raises(ValueError, match="There is no shape 'llama': choose one of Llama-2-7B"):
        known_config("llama")
