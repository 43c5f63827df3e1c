"""Shared fixtures: tiny random models of every supported family, on a machine without network."""

import os
from pathlib import Path

os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    GRADIO_ANALYTICS_ENABLED="False",
    TOKENIZERS_PARALLELISM="false",
)

import pytest
import torch
from hypothesis import HealthCheck, settings
from transformers import AutoConfig, AutoModelForCausalLM

torch.set_num_threads(1)  # tiny matrices: a second thread only waits, and on a busy machine waits long

# The suite runs few examples, and the same ones everywhere; `make properties` runs many, and new ones every time.
EXAMPLES = {"deadline": None, "print_blob": True, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("suite", max_examples=60, derandomize=True, database=None, **EXAMPLES)
settings.register_profile("properties", max_examples=2000, **EXAMPLES)
settings.load_profile("suite")

# Sizes that no two quantities share, so that a mix-up shows; weights large enough for attention far from uniform.
TINY_SIZES = {
    "num_hidden_layers": 6,
    "hidden_size": 40,
    "intermediate_size": 56,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "vocab_size": 97,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
# (model type, configuration fields): every family, with and without what changes shapes, caches and masks.
FAMILIES = {
    "llama": ("llama", {}),
    "llama-biases-tied": ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral-sliding": ("mistral", {"sliding_window": 8}),
    "qwen2": ("qwen2", {}),
    "qwen2-mixed": ("qwen2", {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 3}),
    "qwen3": ("qwen3", {"tie_word_embeddings": True}),
    "smollm3": ("smollm3", {}),
}


def _tiny_config(family: str = "llama", **fields):
    model_type, family_fields = FAMILIES[family]
    return AutoConfig.for_model(model_type, **{**TINY_SIZES, **family_fields, **fields})


def _tiny_model(family: str = "llama", attn_implementation: str = "sdpa", seed: int = 0, **fields):
    torch.manual_seed(seed)
    config = _tiny_config(family, **fields)
    return AutoModelForCausalLM.from_config(config, attn_implementation=attn_implementation).eval()


def pytest_addoption(parser):
    parser.addoption("--families-table", type=Path, metavar="FILE", help="write the table family × check as Markdown")


_families_table: dict[str, dict[str, str]] = {}


@pytest.fixture
def families_table() -> dict[str, dict[str, str]]:
    """Family → check → result, filled by the parity grid and printed at the end."""
    return _families_table


def pytest_terminal_summary(terminalreporter, config):
    if not _families_table:
        return
    checks = list(dict.fromkeys(check for results in _families_table.values() for check in results))
    rows = [["family", *checks], ["---"] * (len(checks) + 1)]
    rows += [[family, *(results.get(check, "") for check in checks)] for family, results in _families_table.items()]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    terminalreporter.write_line(table)
    if path := config.getoption("--families-table"):
        path.write_text(f"{table}\n", encoding="utf-8")


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    """The name of each family variant in turn."""
    return request.param


@pytest.fixture
def tiny_config():
    """`tiny_config(family="llama", **fields)` makes the configuration of a tiny model."""
    return _tiny_config


@pytest.fixture
def tiny_model():
    """`tiny_model(family="llama", attn_implementation="sdpa", seed=0, **fields)` makes a random tiny model."""
    return _tiny_model
