"""What each layer does under a plan: the form in which plans are run, sorted and kept in journals."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import NamedTuple

from core.plan import MECHANISMS, Mechanism, Part, SharingPlan, check_one_phase


class Role(NamedTuple):
    """What one layer does: it takes something from `leader`, or skips attention, or computes."""

    leader: int | None = None
    leads: bool = False  # others reuse its weights
    heads: tuple[int, ...] | None = None  # None: each head reads the leader's head of the same number
    mechanism: Mechanism = "share"
    positions: int = 0  # of `topk`: of followers, and of their leader, which chooses so many
    lends: str = ""  # what others take of it beside its weights: the mechanism of the part that it leads

    @property
    def order(self) -> tuple:
        """Sort key; layers that only compute come first, so that the dense plan is the first of all."""
        takes = MECHANISMS.index(self.mechanism), self.leader is not None, self.leads, self.lends
        return *takes, self.leader or 0, self.positions, self.heads or ()

    @property
    def label(self) -> str:
        """What it takes, or nothing where it computes: `17`, `17:0.0.2` of shared weights, else `skip`, `kv20`, `topk64@10`."""
        if self.mechanism == "skip":
            return "skip"
        if self.leader is None:
            return ""
        if self.mechanism == "share":
            return f"{self.leader}" + ("" if self.heads is None else ":" + ".".join(map(str, self.heads)))
        return f"{self.mechanism}{f'{self.positions}@' if self.positions else ''}{self.leader}"


Roles = tuple[Role, ...]


def roles_of(plan: SharingPlan, head_map: Mapping[int, Sequence[int]] | None = None) -> Roles:
    """The role of each layer under a plan (or a `core.records.searches.LayerPair`) with a head map.

    Raises ValueError for a plan that does something in one phase alone: a text that is read at once shows one of two.
    """
    check_one_phase(plan, "Damage in one pass")  # see `core.damage.by_phase`
    leaders = {layer: plan.leader_of(layer) for layer in plan.followers}
    heads = {layer: tuple(read) for layer, read in (head_map or {}).items()}
    leading = set(leaders.values())
    roles = [Role(leaders.get(layer), layer in leading, heads.get(layer)) for layer in range(plan.num_layers)]
    for part in plan.parts:
        skips = part.mechanism == "skip"
        if not skips:
            roles[part.layers[0]] = Role(lends=part.mechanism, positions=part.positions)
        for layer in part.layers if skips else part.layers[1:]:
            roles[layer] = Role(None if skips else part.layers[0], mechanism=part.mechanism, positions=part.positions)
    return tuple(roles)


def groups_in(roles: Roles) -> tuple[dict[int, list[int]], tuple[Part, ...]]:
    """What roles say of a plan: shared groups by leader, leader first, and its parts."""
    groups: dict[int, list[int]] = {}
    parts: dict[tuple[Mechanism, int, int | None], list[int]] = {}
    for layer, role in enumerate(roles):
        if role.mechanism != "share":
            members = [] if role.leader is None else [role.leader]
            parts.setdefault((role.mechanism, role.positions, role.leader), members).append(layer)
        elif role.leader is not None:
            groups.setdefault(role.leader, [role.leader]).append(layer)
    return groups, tuple(Part(mechanism, tuple(layers), n) for (mechanism, n, _), layers in parts.items())


def in_order(plans: Iterable[Roles]) -> list[Roles]:
    """The plans, each once, sorted so that neighbours have long common prefixes."""
    return sorted(set(plans), key=lambda roles: [role.order for role in roles])


def common_prefix(first: Roles, second: Roles) -> int:
    """How many layers from the first on have the same role."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


def label(roles: Roles) -> str:
    """A short unique text for the roles of all layers: `18<17,19<17:0.0.2,20<skip`; empty for the dense plan."""
    return ",".join(f"{layer}<{taken}" for layer, role in enumerate(roles) if (taken := role.label))
