"""The recipe of a run: everything that decides its weights, apart from model, plan, data and machine."""

import math
from dataclasses import asdict, dataclass, replace
from typing import get_args

from core.records.tunings import Method, Objective

METHODS, OBJECTIVES = get_args(Method), get_args(Objective)
SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}
"""What the learning rate does after warming up → transformers' name for it."""
DTYPES = ("float32", "bfloat16", "float64")
_EVALUATIONS = 10  # unless it is said how often


@dataclass(frozen=True)
class TuneRecipe:
    """Everything that decides the trained weights, apart from model, plan, data and machine."""

    method: Method = "full"
    objective: Objective = "text"
    steps: int = 0  # 0: one pass over the data
    batch_rows: int = 16
    accumulate: int = 1  # batches in a step
    context_tokens: int = 512
    learning_rate: float = 3e-4
    schedule: str = "linear"
    warmup_steps: int = 20
    weight_decay: float = 0.1
    beta2: float = 0.95  # of AdamW
    clip: float = 1.0  # largest norm of the gradients; 0: as they are
    dtype: str = "float32"  # computed in and saved as; weights stay in float32 while they are trained
    gradient_checkpointing: bool = False
    lora_rank: int = 16
    lora_alpha: float = 32.0
    max_tokens: int = 0  # of the data that are read; 0: all
    held_out_share: float = 0.05  # of the documents
    held_out_tokens: int = 32_768  # at most
    eval_every: int = 0  # steps between measuring the held-out loss, with a checkpoint; 0: a tenth of all
    patience: int = 0  # measurements without a lower held-out loss before training stops; 0: it does not
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError for figures that no training can be made of."""
        choices = {"method": METHODS, "objective": OBJECTIVES, "schedule": tuple(SCHEDULES), "dtype": DTYPES}
        for name, allowed in choices.items():
            if (value := getattr(self, name)) not in allowed:
                raise ValueError(f"{_option(name)} is {value!r}: it must be one of {', '.join(allowed)}.")
        positive = ("batch_rows", "accumulate", "context_tokens", "lora_rank", "held_out_tokens")
        others = ("steps", "warmup_steps", "weight_decay", "clip", "max_tokens", "eval_every", "patience", "seed")
        for name in (*positive, *others):
            least = int(name in positive)
            if not least <= (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{_option(name)} is {value}: it must be at least {least}.")
        for name in ("learning_rate", "lora_alpha"):
            if not 0 < (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{_option(name)} is {value}: it must be more than 0.")
        for name in ("held_out_share", "beta2"):
            if not 0 < (value := getattr(self, name)) < 1:
                raise ValueError(f"{_option(name)} is {value}: it must be between 0 and 1.")

    @property
    def step_rows(self) -> int:
        """Rows of one step."""
        return self.batch_rows * self.accumulate

    def for_rows(self, count: int) -> "TuneRecipe":
        """The recipe with its steps, and how often is measured, as numbers, for data of `count` rows."""
        steps = self.steps or max(1, math.ceil(count / self.step_rows))
        return replace(self, steps=steps, eval_every=self.eval_every or max(1, math.ceil(steps / _EVALUATIONS)))

    def changed(self) -> dict[str, bool | int | float | str]:
        """What is not the default, as options of the command."""
        usual = asdict(TuneRecipe())
        return {_option(name): value for name, value in asdict(self).items() if value != usual[name]}


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
