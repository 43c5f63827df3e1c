"""What a plan saves of each budget, predicted: shares of what the dense model takes at one batch and context."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from core.cost import DEVICES, Device, FlopCount, ModelShape, forward_flops, kv_cache_bytes, predict_decode
from core.cost.checks import check_sizes
from core.plan import SharingPlan
from core.records.mechanisms import BUDGETS


@dataclass(frozen=True)
class Savings:
    """Predicts what plans save of some budgets (`core.records.mechanisms.BUDGETS`), for a model of this shape.

    batch_size, context_tokens: of the decode step; the cache is that after the context. device, dtype: of the predicted time.
    Raises ValueError for an unknown budget, for time without a device, and for sizes below 1.
    """

    shape: ModelShape
    budgets: tuple[str, ...]
    batch_size: int = 1
    context_tokens: int = 4096
    device: Device | None = None
    dtype: str = "bfloat16"

    def __post_init__(self) -> None:
        check_budgets(self.budgets, self.device)
        check_sizes(1, batch_size=self.batch_size, context_tokens=self.context_tokens)

    def __call__(self, plan: SharingPlan) -> dict[str, float]:
        """Budget → the share that the plan saves of it: 0 for the dense plan, negative for a plan that takes more."""
        return {
            budget: 1 - taken / dense if (dense := self._dense[budget]) else 0.0
            for budget, taken in self._taken(plan).items()
        }

    @cached_property
    def _dense(self) -> dict[str, float]:
        return self._taken(SharingPlan(num_layers=self.shape.num_layers))

    def _taken(self, plan: SharingPlan) -> dict[str, float]:
        return {budget: float(getattr(self, f"_{budget}")(plan)) for budget in self.budgets}

    def _cache(self, plan: SharingPlan) -> int:
        return kv_cache_bytes(self.shape, plan, 1, self.context_tokens)

    def _flops(self, plan: SharingPlan) -> int:
        return attention_flops(forward_flops(self.shape, plan, 1, 1, self.context_tokens - 1))

    def _time(self, plan: SharingPlan) -> float:
        assert self.device is not None, "checked when it was made"
        return predict_decode(self.shape, plan, self.device, self.batch_size, self.context_tokens, self.dtype).step_s


def check_budgets(budgets: Iterable[str], device: Device | None) -> None:
    """Raise ValueError for a budget that does not exist, and for time where no device is given to predict it of."""
    for budget in budgets:
        if budget not in BUDGETS:
            raise ValueError(f"There is no budget {budget!r}: choose of {', '.join(BUDGETS)}.")
        if budget == "time" and device is None:
            raise ValueError(
                f"A budget of time needs a device whose time is predicted: name one (--device-profile), of {'; '.join(DEVICES)}."
            )


def attention_flops(count: FlopCount) -> int:
    """All that attention takes: its four projections, scores, softmax and weighted values."""
    return count.q_proj + count.k_proj + count.v_proj + count.o_proj + count.delta_proj + count.attention


def device_named(name: str, devices: Iterable[Device] = tuple(DEVICES.values())) -> Device:
    """The device of a name in the table, or of the one name that holds this text. Raises ValueError for another."""
    devices = list(devices)
    wanted = name.strip().casefold()
    found = [one for one in devices if wanted == one.name.casefold()]
    found = found or [one for one in devices if wanted and wanted in one.name.casefold()]
    if len(found) != 1:
        which = "several devices" if found else "no device"
        raise ValueError(f"{name!r} names {which}: choose one of {'; '.join(one.name for one in found or devices)}.")
    return found[0]
