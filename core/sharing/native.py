"""Models of which layers read the keys and values of others by themselves: Gemma 3n, Gemma 4, Mistral Large 4.

They were trained to do what a follower of `kv` does, so that a plan says it: `native_plan_of`. What plans can add to it is
checked here, in a model as `core.cost` does in its sizes; the rules are those of `core.plan.native`.

Source of the idea: see `core.sharing.mechanisms.kv`. In the installed transformers these are all families that share keys
and values; the configuration of each names the layers (`core.configs.kv_sources`). Hunyuan's published code does it too,
transformers' Hunyuan does not.
"""

from typing import TYPE_CHECKING

from core.configs import kv_sources, text_config
from core.plan import SharingPlan, Sources, native_plan

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


def native_sources(source: "PreTrainedModel | PreTrainedConfig") -> Sources:
    """For each layer of a model or configuration the one whose keys and values it reads, or None where it makes its own."""
    layers = text_config(source).num_hidden_layers
    return kv_sources(text_config(source).to_dict()) or (None,) * layers


def native_plan_of(source: "PreTrainedModel | PreTrainedConfig") -> SharingPlan:
    """What a model, or the model of a configuration, shares by itself, as a plan of `kv` parts; empty for most models.

    It is what the dense model already does, and no plan to give to `share_attention`.
    """
    return native_plan(native_sources(source))
