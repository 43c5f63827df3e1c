"""Whether similarity foretells damage: the rank correlations that records of pairs of layers keep, in words."""

import contextlib
import math
from typing import NamedTuple

from core.records.searches import SearchRecord

CONFIDENCE = 0.95
WEAK = 0.3  # of |ρ|: what Cohen 1988, Statistical Power Analysis, calls less than a medium effect


class RankCorrelation(NamedTuple):
    """Spearman's ρ between similarity and damage over layer pairs, with a confidence interval (CONFIDENCE)."""

    method: str
    rho: float
    low: float
    high: float
    pairs: int

    def describe(self) -> str:
        """What the number says about similarity as a guide: it would be one if high similarity meant low damage.

        Where there is no number, it says nothing of the kind.
        """
        if not all(map(math.isfinite, (self.rho, self.low, self.high))):
            return (
                f"Whether similarity tells where sharing is cheap cannot be said: all {self.pairs} pairs are equally similar "
                f"or do equally much damage, or some of it is not a number ({self.method})."
            )
        rho, low, high = (
            f"{round(number, 2) + 0.0:.2f}".replace("-", "−") for number in (self.rho, self.low, self.high)
        )
        interval = f"ρ = {rho}, {CONFIDENCE:.0%} interval {low} to {high}, {self.pairs} pairs"
        weakly = "only weakly: a poor guide; " if abs(self.rho) < WEAK else ""
        if self.high < 0:
            return f"More similar layers do less damage when they share ({weakly}{self.method}: {interval})."
        if self.low > 0:
            return f"More similar layers do more damage when they share ({weakly}{self.method}: {interval})."
        return f"Similarity does not tell where sharing is cheap ({self.method}: {interval})."


def correlations_in(record: SearchRecord) -> list[RankCorrelation]:
    """The rank correlations of a stored measurement of all pairs; those that lack a number are left out."""
    methods = [key.removesuffix("_rho") for key in record.settings if key.endswith("_rho")]
    found = []
    for method in methods:
        with contextlib.suppress(ValueError, OverflowError):
            names = (f"{method}_{name}" for name in ("rho", "low", "high", "pairs"))
            rho, low, high, pairs = (float(str(record.settings.get(name))) for name in names)
            found.append(RankCorrelation(method, rho, low, high, int(pairs)))
    return found
