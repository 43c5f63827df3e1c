"""Damage of plans whose phases differ: nothing in one pass, and something where text is read as it is written."""

import pytest
import torch
from transformers import DynamicCache

import core
from core import SharingPlan, share_attention
from core.damage.by_phase import damage_by_phase
from core.damage.meter import DamageMeter
from core.damage.texts import Text, calibration_texts
from tests.support.families import fastest, tokens


@pytest.fixture(scope="module")
def demo():
    return core.load_model()


def test_the_trap(demo):
    """Sharing in decoding alone does no damage to a text that is read in one pass, and some to one that is written."""
    model, tokenizer = demo
    text, _ = calibration_texts(tokenizer, tokens=2048, held_out_tokens=512, chunk_tokens=128)
    plan = SharingPlan.parse("17-22@decode", 24)
    (free,) = damage_by_phase(model, text, [(plan, {})], way="one pass")
    assert free.damage == 0.0 and free.kl == pytest.approx(0, abs=1e-6)
    (found,) = damage_by_phase(model, text, [(plan, {})])
    assert found.damage > 3 * found.stderr > 0 and found.kl > 0 and found.cache_saving > 0
    both, prefill = (SharingPlan.parse(one, 24) for one in ("17-22", "17-22@prefill"))
    everywhere, in_prompts = damage_by_phase(model, text, [(both, {}), (prefill, {})])
    assert in_prompts.damage > 0 == in_prompts.cache_saving and everywhere.damage > max(found.damage, in_prompts.damage)


def test_plans_without_phases_get_what_the_meter_says():
    model = fastest("llama")
    text = Text(tuple(map(tuple, tokens(6, 12).tolist())), first=3)
    plans = [(SharingPlan.parse("1-3", 6), {}), (SharingPlan.parse("2-4", 6), {3: (1, 0, 2, 2)})]
    wanted = DamageMeter(model, text).measure(plans)
    for way in ("cache", "one pass"):
        for one, other in zip(damage_by_phase(model, text, plans, way=way, batch_tokens=30), wanted, strict=True):
            assert one.plan == other.plan and one.head_map == other.head_map and one.tokens == other.tokens
            assert one.damage == pytest.approx(other.damage, abs=1e-4) and one.kl == pytest.approx(other.kl, abs=1e-4)
            assert one.stderr == pytest.approx(other.stderr, rel=1e-2)


@torch.no_grad()
def test_the_first_half_is_a_prompt_and_the_rest_is_read_token_by_token():
    model, plan = fastest("llama"), SharingPlan.parse("1-3@prefill,2-4@decode", 6)
    ids = tokens(3, 9)
    (found,) = damage_by_phase(model, Text(tuple(map(tuple, ids.tolist())), first=3), [(plan, {})])
    inputs = torch.cat([torch.full((3, 1), 3), ids[:, :-1]], dim=1)
    losses = []
    for one in (share_attention(model, plan), model):
        cache = DynamicCache(config=model.config)
        parts = [inputs[:, :4], *inputs[:, 4:].split(1, dim=1)]
        logits = torch.cat([one(part, past_key_values=cache).logits for part in parts], 1)
        losses.append(torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten()).item())
    assert found.damage == pytest.approx(losses[0] - losses[1], abs=1e-4)
