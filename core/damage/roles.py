"""What each layer does under a plan: the form in which plans are run, sorted and kept in journals."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import NamedTuple

from core.plan import SharingPlan, check_one_phase


class Role(NamedTuple):
    """What one layer does: it follows `leader` (with its heads reading the leader heads `heads`), or computes."""

    leader: int | None = None
    leads: bool = False  # others reuse its weights
    heads: tuple[int, ...] | None = None  # None: each head reads the leader's head of the same number

    @property
    def order(self) -> tuple:
        """Sort key; layers that only compute come first, so that the dense plan is the first of all."""
        return self.leader is not None, self.leads, self.leader or 0, self.heads or ()


Roles = tuple[Role, ...]


def roles_of(plan: SharingPlan, head_map: Mapping[int, Sequence[int]] | None = None) -> Roles:
    """The role of each layer under a plan (or a `core.records.searches.LayerPair`) with a head map.

    Raises ValueError for a plan with parts, of which roles do not tell, and for one whose phases differ.
    """
    check_one_phase(plan, "Damage in one pass")  # see `core.damage.by_phase`
    if plan.parts:
        raise ValueError(
            f"Damage is measured of shared attention weights alone: leave {', '.join(map(str, plan.parts))} out of plan {plan.name}."
        )
    leaders = {layer: plan.leader_of(layer) for layer in plan.followers}
    heads = {layer: tuple(read) for layer, read in (head_map or {}).items()}
    leading = set(leaders.values())
    return tuple(Role(leaders.get(layer), layer in leading, heads.get(layer)) for layer in range(plan.num_layers))


def in_order(plans: Iterable[Roles]) -> list[Roles]:
    """The plans, each once, sorted so that neighbours have long common prefixes."""
    return sorted(set(plans), key=lambda roles: [role.order for role in roles])


def common_prefix(first: Roles, second: Roles) -> int:
    """How many layers from the first on have the same role."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


def label(roles: Roles) -> str:
    """A short unique text for the roles of all layers: `18<17,19<17:0.0.2`; empty for the dense plan."""
    return ",".join(
        f"{layer}<{role.leader}" + ("" if role.heads is None else ":" + ".".join(map(str, role.heads)))
        for layer, role in enumerate(roles)
        if role.leader is not None
    )
