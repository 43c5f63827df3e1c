"""Texts of random tokens and what every plan does on them, for tests of damage, sweeps and searches."""

import itertools
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer

from core.damage.candidates import plan_of_followers
from core.damage.meter import DamageMeter
from core.damage.texts import Text
from core.models import BUNDLED
from core.plan import SharingPlan
from core.records.searches import PlanDamage

LAYERS = 6
ALL_FOLLOWERS = [c for size in range(1, LAYERS) for c in itertools.combinations(range(1, LAYERS), size)]


def plan(written: str) -> SharingPlan:
    """A plan for a tiny model."""
    return SharingPlan.parse(written, LAYERS)


def text(seed: int = 0, chunks: int = 2, length: int = 10, shrink: int = 0, split="calibration") -> Text:
    """Chunks of random tokens of a tiny model's vocabulary, each `shrink` tokens shorter than the one before."""
    rng = np.random.default_rng(seed)
    rows = tuple(tuple(map(int, rng.integers(1, 97, length - shrink * number))) for number in range(chunks))
    return Text(rows, first=0, split=split)


def meters(model, journal=None) -> tuple[DamageMeter, DamageMeter]:
    """On a text to choose plans on, and on another one to judge them."""
    texts = (text(0), text(1, split="held-out"))
    return tuple(DamageMeter(model, one, journal=journal) for one in texts)


def all_damages(model, sample: Text) -> dict[SharingPlan, float]:
    """The damage of every plan: small models have few."""
    plans = [plan_of_followers(followers, LAYERS) for followers in ALL_FOLLOWERS]
    return {one.plan: one.damage for one in DamageMeter(model, sample).measure((plan, {}) for plan in plans)}


def made_up(followers: int, damage: float = 0.1) -> PlanDamage:
    """A plan of so many followers with a damage that was not measured."""
    return PlanDamage(
        plan=plan_of_followers(range(1, followers + 1), LAYERS), split="calibration", damage=damage, stderr=0.01, kl=0.0,
        cache_saving=followers / (2 * LAYERS), tokens=100,
    )  # fmt: skip


def save_tiny(tiny_model, folder: Path) -> str:
    """A tiny random model with the demo model's tokenizer, as an ordinary local folder."""
    tokenizer = AutoTokenizer.from_pretrained(BUNDLED["demo"])
    tiny_model(vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
