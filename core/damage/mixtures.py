"""Mixtures: what each layer does, chosen layer by layer, and the plan that follows from it.

A mixture gives every layer a choice or none. A layer that follows takes the nearest layer before it that may lead it: one of
its kind that computes, and that leads nobody by another mechanism; a choice may pass over some of these. So every plan of the
grammar is a mixture, and most mixtures are plans.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from transformers import PreTrainedModel

from core.plan import MECHANISMS, Mechanism, Part, SharingPlan
from core.sharing.families import check_kinds, layer_kinds
from core.sharing.mechanisms import check_parts


class Choice(NamedTuple):
    """What a layer does in place of its own attention. passes: how many layers that might lead it are passed over."""

    mechanism: Mechanism
    positions: int = 0
    passes: int = 0

    @property
    def word(self) -> str:
        """As a plan writes it: `kv`, `topk64`."""
        return f"{self.mechanism}{self.positions or ''}"


Mixture = tuple[Choice | None, ...]
"""Of each layer its choice, or None where it computes as in the dense model."""


def choice_of(word: str) -> Choice:
    """The choice that a word stands for: one of MECHANISMS, with a number for `topk` (`topk64`).

    Raises ValueError for another word.
    """
    name = word.strip().lower()
    positions = name.removeprefix("topk")
    if name.startswith("topk") and positions.isdecimal() and 0 < int(positions) < 10**9:
        return Choice("topk", int(positions))
    for mechanism in MECHANISMS:
        if name == mechanism != "topk":
            return Choice(mechanism)
    raise ValueError(
        f"There is no mechanism {word!r}: choose of {', '.join(MECHANISMS[:-1])} and topk64, or another number."
    )


def changed(mixture: Mixture, changes: Mapping[int, Choice | None]) -> Mixture:
    """The same mixture with other choices for some layers."""
    return tuple(changes.get(layer, choice) for layer, choice in enumerate(mixture))


def plan_of(mixture: Mixture, kinds: Sequence[object]) -> SharingPlan | None:
    """The plan of a mixture; None where a layer that follows finds no leader. kinds: of each layer."""
    groups: dict[int, list[int]] = {}
    leads: dict[int, Choice] = {}
    skipped = []
    for layer, choice in enumerate(mixture):
        if choice is None:
            continue
        if choice.mechanism == "skip":
            skipped.append(layer)
            continue
        leader = _leader(mixture, kinds, leads, layer, choice)
        if leader is None:
            return None
        leads[leader] = choice
        groups.setdefault(leader, [leader]).append(layer)
    if 0 in skipped:
        return None
    parts = [Part("skip", tuple(skipped))] if skipped else []
    shared = []
    for leader, members in groups.items():
        if leads[leader].mechanism == "share":
            shared.append(tuple(members))
        else:
            parts.append(Part(leads[leader].mechanism, tuple(members), leads[leader].positions))
    return SharingPlan((), len(mixture), tuple(shared), tuple(parts))


def _leader(
    mixture: Mixture, kinds: Sequence[object], leads: Mapping[int, Choice], layer: int, choice: Choice
) -> int | None:
    may_lead = _may_lead(mixture, kinds, leads, layer, choice)
    return next((before for passed, before in enumerate(may_lead) if passed == choice.passes), None)


def _may_lead(
    mixture: Mixture, kinds: Sequence[object], leads: Mapping[int, Choice], layer: int, choice: Choice
) -> Iterator[int]:
    """The layers that may lead this one by its choice, nearest first."""
    for before in range(layer - 1, -1, -1):
        free = before not in leads or leads[before].word == choice.word
        if mixture[before] is None and kinds[before] == kinds[layer] and free:
            yield before


def mixture_of(plan: SharingPlan, kinds: Sequence[object]) -> Mixture:
    """The mixture of which a plan follows. Raises StopIteration for a follower of another kind than its leader."""
    names = {layer: plan.mechanism_of(layer) for layer in range(plan.num_layers)}
    bare: Mixture = tuple(
        None if name is None else Choice(name, plan.positions_of(layer)) for layer, name in names.items()
    )
    leads: dict[int, Choice] = {}
    found: list[Choice | None] = []
    for layer, choice in enumerate(bare):
        if choice is not None and choice.mechanism != "skip":
            leader = plan.source_of(layer)
            passed = enumerate(_may_lead(bare, kinds, leads, layer, choice))
            choice = choice._replace(passes=next(number for number, before in passed if before == leader))
            leads[leader] = choice
        found.append(choice)
    return tuple(found)


def kinds_of(model: PreTrainedModel) -> list[int]:
    """The kind of each layer: followers and leaders are of one."""
    return layer_kinds(model)


def can_do(model: PreTrainedModel, plan: SharingPlan) -> bool:
    """Whether the model can run the plan."""
    try:
        check_kinds(model, plan)
        check_parts(model, plan)
    except ValueError:
        return False
    return True
