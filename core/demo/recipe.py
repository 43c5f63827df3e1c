"""The recipe of the bundled demo models: everything that decides their weights, apart from the corpus and the machine."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import LlamaConfig

LEAST_VOCABULARY = 257
"""Every byte and the token that ends a text."""
SKILL_SHARDS = 32
"""Exercises are drawn in so many parts, each by its own seed."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the trained weights, apart from the corpus and the machine."""

    steps: int = 3700
    trunk_share: float = 0.8  # of the steps, before the branches part
    batch_rows: int = 128
    context_tokens: int = 1024
    skill_share: float = 0.25  # of the rows; the others are prose
    skill_examples: int = 2_000_000
    learning_rate: float = 4e-3
    muon_learning_rate: float = 0.02  # for the weight matrices; 0: AdamW for all weights
    warmup_steps: int = 100
    decay_share: float = 0.4  # of the steps, at the end, linear to 0
    weight_decay: float = 0.1
    plan: str = "17-22"
    seed: int = 2407
    layers: int = 24
    width: int = 192
    intermediate: int = 512
    heads: int = 6
    kv_heads: int = 3
    vocabulary: int = 4096

    def __post_init__(self) -> None:
        """Raises ValueError for figures that no training can be made of."""
        shares = ("trunk_share", "skill_share", "decay_share")
        positive = ("steps", "batch_rows", "context_tokens", "layers", "width", "intermediate", "heads", "kv_heads")
        for name in ("warmup_steps", "learning_rate", "muon_learning_rate", "weight_decay", "seed", *shares, *positive):
            least, most = int(name in positive), 1 if name in shares else math.inf
            if not least <= (value := getattr(self, name)) <= most:
                allowed = "between 0 and 1" if name in shares else f"at least {least}"
                raise ValueError(f"{_option(name)} is {value}: it must be {allowed}.")
        if self.skill_examples < SKILL_SHARDS:
            raise ValueError(f"--skill-examples is {self.skill_examples}: it must be at least {SKILL_SHARDS}.")
        if not LEAST_VOCABULARY <= self.vocabulary < 2**15:
            raise ValueError(f"--vocabulary is {self.vocabulary}: it must be from {LEAST_VOCABULARY} to {2**15 - 1}.")
        if self.width % (2 * self.heads) or self.heads % self.kv_heads:
            raise ValueError(
                f"Width {self.width}, {self.heads} heads and {self.kv_heads} KV heads do not fit: --width must be an even "
                "multiple of --heads, and that a multiple of --kv-heads."
            )

    @property
    def trunk_steps(self) -> int:
        """Steps before the branches part."""
        return round(self.steps * self.trunk_share)

    def rate(self, step: int) -> float:
        """Factor on the learning rates at `step`: linear warm-up, constant, linear decay to 0 at the last step."""
        decay_steps = max(1, round(self.steps * self.decay_share))
        return max(0.0, min((step + 1) / max(1, self.warmup_steps), 1.0, (self.steps - step) / decay_steps))

    def config(self) -> "LlamaConfig":
        """The architecture: 24 layers of width 192 with the default figures, about 10.5 M parameters."""
        from transformers import LlamaConfig

        return LlamaConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.width,
            intermediate_size=self.intermediate,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            head_dim=self.width // self.heads,
            max_position_embeddings=self.context_tokens,
            rms_norm_eps=1e-5,
            initializer_range=0.03,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=0,
        )


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
