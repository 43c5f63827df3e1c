"""What is learned on top of a plan so that followers need not take their leader's attention weights as they are.

No torch: the formulas of `core.cost` count corrections, `core.sharing.corrections` builds them.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

_MOST = 99_999
_WRITTEN = "write `rank=8`, `alignment`, or both as `rank=8,alignment`"


@dataclass(frozen=True)
class Corrections:
    """What each follower of a plan learns; nothing by default.

    rank: of the query and key deltas of each head; 0: none. alignment: a matrix mixes the leader's heads for each of the
    follower's. Raises ValueError for a rank that is no whole number of at least 0.
    """

    rank: int = 0
    alignment: bool = False

    def __post_init__(self) -> None:
        if type(self.rank) is not int or not 0 <= self.rank <= _MOST:
            raise ValueError(
                f"The rank of corrections is {str(self.rank)[:20]}: it must be a whole number from 0 to {_MOST}."
            )
        if self.alignment not in (True, False):
            raise ValueError(f"The alignment of corrections is {str(self.alignment)[:20]}: it must be true or false.")

    def __bool__(self) -> bool:
        return self.rank > 0 or self.alignment

    def __str__(self) -> str:
        return ",".join([f"rank={self.rank}"] * bool(self.rank) + ["alignment"] * self.alignment)

    @classmethod
    def parse(cls, text: str) -> "Corrections":
        """Read `rank=8,alignment`, in any order; the empty text (or `none`) is none. Raises ValueError for anything else."""
        given: dict[str, Any] = {}
        for part in (part.strip() for part in text.split(",")):
            name, _, value = (piece.strip() for piece in part.partition("="))
            if name in given or (name, bool(value)) not in (("rank", True), ("alignment", False)):
                if text.strip() in ("", "none"):
                    return cls()
                raise ValueError(f"{part!r} in {text!r} is no correction, or stands twice: {_WRITTEN}.")
            if name == "rank" and not (value.isdecimal() and len(value) <= len(str(_MOST))):
                raise ValueError(f"The rank in {text!r} is no whole number up to {_MOST}: {_WRITTEN}.")
            given[name] = int(value) if name == "rank" else True
        return cls(**given)

    @classmethod
    def of_config(cls, config: Any) -> "Corrections":
        """Those that a configuration, or the dict in its `config.json`, names as `sharing_corrections`; none where it does not.

        Raises ValueError where that is no object with `rank` and `alignment` alone.
        """
        named = (
            config.get("sharing_corrections")
            if isinstance(config, Mapping)
            else getattr(config, "sharing_corrections", None)
        )
        if named is None:
            return cls()
        if not isinstance(named, Mapping) or not named.keys() <= {"rank", "alignment"}:
            raise ValueError(
                f"sharing_corrections in config.json is {str(named)[:80]!r}: it must be an object such as "
                '{"rank": 8, "alignment": true}.'
            )
        return cls(**named)

    def as_config(self) -> dict[str, Any]:
        """What stands in a configuration as `sharing_corrections`."""
        return asdict(self)


NONE = Corrections()
"""A plan alone."""
