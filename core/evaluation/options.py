"""How a benchmark is asked: few-shot examples, limit, seed, chat template, execution, size of a batch, and how the
cache and the weights are held."""

import re
from dataclasses import dataclass

from core.cost.kv_caches import CacheKind, cache_kind

BATCH_SIZE = 64
WEIGHTS = ("full", "int8", "int4")
"""Ways to hold weights: in the number format that the model was loaded in, or as integers of 8 or 4 bits."""


@dataclass(frozen=True)
class Options:
    """How to measure. What differs from these defaults and can change a score is part of a record's file name."""

    num_fewshot: int | None = None  # None: as the task says
    limit: int | float | None = None  # the first documents only: a number, or a share below 1
    seed: int = 1234  # lm-eval's own default for few-shot examples
    execution: str = "auto"
    batch_size: int | str = BATCH_SIZE  # or `auto`, or `auto:N`
    apply_chat_template: bool = False  # ask in turns of a conversation, by the tokenizer's template
    system: str | None = None  # what the conversation begins with; None: what the template says
    fewshot_as_multiturn: bool = False  # each example is a turn of its own, else all of them are in the question's
    kv_cache: str = "full"  # a name of `core.cost.kv_caches`; not full: answers are read through the cache
    weights: str = "full"  # of WEIGHTS

    def __post_init__(self) -> None:
        if self.limit is not None and not (0 < self.limit < 1 or (self.limit >= 1 and self.limit == int(self.limit))):
            raise ValueError(f"The limit is {self.limit}: give a whole number of samples, or a share between 0 and 1.")
        if self.num_fewshot is not None and self.num_fewshot < 0:
            raise ValueError(f"{self.num_fewshot} few-shot examples are not possible: give 0 or more.")
        if not re.fullmatch(r"(auto:)?0*[1-9][0-9]*|auto", size := str(self.batch_size)):
            raise ValueError(
                f"The batch size is {size!r}: give a whole number from 1 on, auto, or auto:N to find it N times in a run."
            )

        if not self.apply_chat_template and (self.system is not None or self.fewshot_as_multiturn):
            raise ValueError("A system text and examples as turns need a conversation: add --apply-chat-template.")
        object.__setattr__(self, "kv_cache", cache_kind(self.kv_cache).name)  # one name for what has two
        if self.weights not in WEIGHTS:
            raise ValueError(f"There are no weights {self.weights!r}: use one of {', '.join(WEIGHTS)}.")

    @property
    def cache_kind(self) -> CacheKind:
        """How the KV cache is held."""
        return cache_kind(self.kv_cache)

    @property
    def changed(self) -> dict[str, int | float | str]:
        """The options that differ from the default and can change a score."""
        conversation = ("apply_chat_template", "system", "fewshot_as_multiturn")
        names = ("num_fewshot", "limit", "seed", "execution", *conversation, "kv_cache", "weights")
        given = {name: getattr(self, name) for name in names if getattr(self, name) != getattr(Options, name)}
        return {name: "yes" if value is True else value for name, value in given.items()}

    @property
    def of_conversation(self) -> dict[str, bool | str | None]:
        """What lm-eval is told of the chat template, in its words."""
        return {
            "apply_chat_template": self.apply_chat_template,
            "system_instruction": self.system,
            "fewshot_as_multiturn": self.fewshot_as_multiturn,
        }
