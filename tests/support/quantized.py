"""Tiny models with quantized weights, by every library that is installed: their widths suit all of them."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    PreTrainedModel,
    QuantoConfig,
    TorchAoConfig,
)

SIZES = {
    "num_hidden_layers": 6, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 97, "max_position_embeddings": 64,
    "initializer_range": 0.2, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
FIELDS: dict[str, dict[str, Any]] = {"gpt2": {"n_inner": 128}}


def _torchao(name: str, **options: Any) -> TorchAoConfig:
    return TorchAoConfig(getattr(import_module("torchao.quantization"), name)(**options))


def _int4() -> TorchAoConfig:
    weights = {"weight_dtype": torch.int4}
    return _torchao("IntxWeightOnlyConfig", **weights)


# name → (library, configuration)
WAYS: dict[str, tuple[str, Callable[[], Any]]] = {
    "bnb 8 bit": ("bitsandbytes", lambda: BitsAndBytesConfig(load_in_8bit=True)),
    "bnb 8 bit, no outliers": ("bitsandbytes", lambda: BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0)),
    "bnb fp4": ("bitsandbytes", lambda: BitsAndBytesConfig(load_in_4bit=True)),
    "bnb nf4, twice": (
        "bitsandbytes",
        lambda: BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True),
    ),
    "torchao int8": ("torchao", lambda: _torchao("Int8WeightOnlyConfig")),
    "torchao int8 dynamic": ("torchao", lambda: _torchao("Int8DynamicActivationInt8WeightConfig")),
    "torchao float8": ("torchao", lambda: _torchao("Float8WeightOnlyConfig")),
    "torchao int4": ("torchao", _int4),
    "quanto int8": ("optimum.quanto", lambda: QuantoConfig(weights="int8")),
    "quanto int4": ("optimum.quanto", lambda: QuantoConfig(weights="int4")),
    "torch dynamic": ("torch", lambda: None),
}


def is_installed(library: str) -> bool:
    """Whether a library can be imported; its parent package may be missing too."""
    try:
        return find_spec(library) is not None
    except ModuleNotFoundError:
        return False


def needs(library: str) -> pytest.MarkDecorator:
    """Skips a test where a library is not installed."""
    return pytest.mark.skipif(not is_installed(library), reason=f"needs {library}")


PARAMS = [pytest.param(name, marks=needs(library)) for name, (library, _) in WAYS.items()]
"""All ways, as parameters of a test."""


def plain(family: str = "llama", dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """The model before it is quantized."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **{**SIZES, **FIELDS.get(family, {})})
    return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def quantized(way: str, folder: Path, family: str = "llama") -> PreTrainedModel:
    """A model quantized in one of WAYS, as transformers loads it from `folder`."""
    model = plain(family)
    if way == "torch dynamic":
        return torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    model.save_pretrained(folder)
    return AutoModelForCausalLM.from_pretrained(folder, quantization_config=WAYS[way][1]()).eval()
