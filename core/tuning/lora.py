"""LoRA: low-rank changes of the linear layers, trained in their place and merged into them at the end.

Corrections are small themselves: beside adapters they train in full, as peft freezes and saves its own alone.
"""

from typing import Any

from transformers import PreTrainedModel

from core.sharing.corrections import correction_parameters
from core.tuning.recipe import TuneRecipe


def check_peft() -> None:
    """Raises ValueError where peft is not installed."""
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise ValueError('--method lora needs the package peft: pip install "peft>=0.19,<1".') from error


def with_lora(model: PreTrainedModel, recipe: TuneRecipe) -> Any:
    """The model with adapters on all its linear layers but the output's; beside them only corrections train.

    Its own weights stay as they are, and with them those of every model on the same storage.
    """
    from peft import LoraConfig, get_peft_model

    alpha: Any = recipe.lora_alpha  # peft divides it by the rank and takes any number
    config = LoraConfig(r=recipe.lora_rank, lora_alpha=alpha, target_modules="all-linear")
    adapted = get_peft_model(model, config).to(model.dtype)
    adapted.peft_config["default"].base_model_name_or_path = None  # or every checkpoint asks the hub about it
    for parameter in correction_parameters(adapted).values():
        parameter.requires_grad_(True)
    return adapted


def merged(adapted: Any) -> PreTrainedModel:
    """The model with its adapters folded into its weights: those of models on the same storage change too."""
    return adapted.merge_and_unload()
