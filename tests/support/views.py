"""Models, views and oracles of a few families, made once: for tests of decoding and caches."""

from contextlib import AbstractContextManager
from functools import cache

from transformers import PreTrainedModel

from core import SharingPlan, share_attention
from core.plan import HeadMap
from tests.support.families import fastest, make, plans
from tests.support.oracle import shared_by_oracle

FAMILIES = {
    "llama-mha": ("llama", {"num_key_value_heads": 4}),
    "llama-gqa": ("llama", {}),
    "llama-mqa": ("llama", {"num_key_value_heads": 1}),
    "mistral": ("mistral", {}),
    "gemma3": ("gemma3_text", {}),
    "gpt_neox": ("gpt_neox", {"num_key_value_heads": 4}),
    "phi3": ("phi3", {}),
}


@cache
def models(name: str) -> tuple[PreTrainedModel, PreTrainedModel, SharingPlan, HeadMap]:
    """(model, view, plan, head map) of a family. One follower of each span reads heads of other groups than its own."""
    family, fields = FAMILIES[name]
    model = fastest(family, **fields)
    plan = plans(model)[-1] if len(plans(model)) == 1 else plans(model)[1]
    head_map = {group[-1]: (2, 0, 3, 0) for group in plan.groups}
    return model, share_attention(model, plan, head_map), plan, head_map


@cache
def eager_model(name: str) -> PreTrainedModel:
    """The model that the oracle runs."""
    family, fields = FAMILIES[name]
    return make(family, "eager", **fields)


def oracle(name: str) -> AbstractContextManager[PreTrainedModel]:
    """Context in which the family's eager model shares attention."""
    return shared_by_oracle(eager_model(name), *models(name)[2:])
