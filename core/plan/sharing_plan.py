"""The sharing plan itself: which layers share, skip or read what of which other layer."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from core.plan.groups import (
    Group,
    check_apart,
    check_listed,
    check_span,
    group_in_words,
    group_text,
    has_no_gaps,
    layers_of,
)
from core.plan.parts import (
    PHASES,
    Mechanism,
    Part,
    Phase,
    canonical_parts,
    check_part,
    check_parts_apart,
    parts_in_words,
    parts_text,
)
from core.plan.phases import check_phases, held_for, of_phase, without_needless_marks
from core.plan.reading import read_plan

EXECUTIONS = ("auto", "reuse", "recompute")
REUSE_LIMIT_BYTES = 64 * 2**20
"""In `auto`, a prompt's attention weights are kept when they take at most this much memory per leader."""
"""How followers may get their output: see `core.sharing.share_attention`."""


@dataclass(frozen=True)
class SharingPlan:
    """Which layers share attention weights, in a model of `num_layers` decoder layers (numbered from 0).

    In each span `(first, last)` layer `first`, the *leader*, computes the attention weights
    `softmax(QKᵀ/√d)`; layers `first+1 … last`, the *followers*, reuse them. Each group in `listed` names its members
    one by one, `(leader, follower, …)`: the layers in between compute their own weights, or belong to other groups.
    That is how layers share past neighbours of another kind. `parts` say which layers skip attention, or take something
    else from a leader than its weights. No span, no listed group and no part: the *dense* model.

    A listed group without gaps becomes a span, and parts have one order, so that equal plans are equal. A plan is true
    where any layer does less than in the dense model. Ask `followers` whether anything is shared, and `groups` for spans
    and listed groups alike; both leave out the parts, of which `borrowers`, `skipped` and `mechanism_of` tell.

    Parts may be of one phase alone (`core.plan.phases` says which phases there are, and what a layer caches): then they stand
    in `parts`, shared groups too, and `phased` lists them. Everything that says what a layer does (`groups`, `followers`,
    `leader_of`, `borrowers`, `skipped`, `mechanism_of`, …) says what it does in both phases alike, without these; ask
    `in_phase`, or each plan of `phases`, for all that it does in one. `changed` and the truth of a plan count both.
    """

    spans: tuple[tuple[int, int], ...] = ()
    num_layers: int = 0
    listed: tuple[Group, ...] = ()
    parts: tuple[Part, ...] = ()

    def __post_init__(self) -> None:
        spans = [(int(first), int(last)) for first, last in self.spans]
        listed = [tuple(map(int, group)) for group in self.listed]
        for span in spans:
            check_span(*span, self.num_layers)
        for group in listed:
            check_listed(group, self.num_layers)
        parts = canonical_parts(self.parts)
        if any(part.phase for part in parts):
            for part in parts:
                check_part(part, self.num_layers)
            in_both, parts = without_needless_marks(parts)
            listed += in_both
        spans += [(group[0], group[-1]) for group in listed if has_no_gaps(group)]
        object.__setattr__(self, "spans", tuple(sorted(spans)))
        object.__setattr__(self, "listed", tuple(sorted(group for group in listed if not has_no_gaps(group))))
        check_apart(self.groups, self.num_layers)
        if parts or self.parts:
            object.__setattr__(self, "parts", parts)
            for part in self.parts:
                check_part(part, self.num_layers)
            check_parts_apart(self.groups, [part for part in parts if not part.phase], self.num_layers)
        if self.phased:
            check_phases(*self.phases)

    @classmethod
    def parse(cls, text: str, num_layers: int) -> "SharingPlan":
        """Read a plan such as `17-22,5-6` (in any order) for a model of `num_layers` layers.

        `17-22`: layers 18 to 22 reuse layer 17. Three or more numbers list the members of a group: with `2-4-6`
        layers 4 and 6 reuse layer 2. Two layers that are no neighbours are joined by an underscore: `2_4`, layer 4
        reuses layer 2 (`2>4` is read too, but means something else to a shell).
        A word says what the groups after it do, up to the next comma or word: `skip 5 7 9-12` (these layers have no
        attention), `kv 20-22 25-27` (21 and 22 read the keys and values of 20), `keys 3-5` (the keys alone), `topk64
        10-12` (11 and 12 attend to the 64 positions to which 10 gives most), and `share`, which can be left out.
        A mark behind groups says in which phase they apply, where it is not in both: `17-22@decode`, `skip 5 7@prefill`. It
        is for all groups back to the comma, the word or the mark before it, and without a word for the one group before it.
        The notation of the SA paper, which names the followers only, is understood too: `23~26` is `22-26`. So is what
        this project prints: any dash, semicolons, spaces or lines between spans, one at the end, and the sentence of
        `describe`.
        The empty text (or `dense`) is the dense plan. Raises ValueError with one sentence that names the fault
        and the layers that exist.
        """
        found = read_plan(text or "", num_layers)
        return cls(tuple(found.spans), num_layers, tuple(found.listed), tuple(found.parts))

    @classmethod
    def of_groups(cls, groups: Iterable[Sequence[int]], num_layers: int) -> "SharingPlan":
        """The plan of these groups, each (leader, follower, …), with or without gaps."""
        return cls((), num_layers, tuple(map(tuple, groups)))

    @classmethod
    def of_phases(cls, prefill: "SharingPlan", decode: "SharingPlan") -> "SharingPlan":
        """The plan that is `prefill` in prefill and `decode` in decoding; both are without marks, and for as many layers.

        Raises ValueError as `parse` does, for what makes no sense in prefill.
        """
        marked = []
        for plan, phase in zip((prefill, decode), PHASES, strict=True):
            marked += [Part("share", group, phase=phase) for group in plan.groups]
            marked += [replace(part, phase=phase) for part in plan.parts]
        return cls((), prefill.num_layers, (), tuple(marked))

    def __str__(self) -> str:
        return ",".join([*map(group_text, self.groups), *parts_text(self.parts)])

    def __bool__(self) -> bool:
        return bool(self.groups or self.parts)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Every leader with its followers, (leader, follower, …): spans and listed groups, by leader."""
        return tuple(sorted([tuple(range(first, last + 1)) for first, last in self.spans] + list(self.listed)))

    @cached_property
    def followers(self) -> tuple[int, ...]:
        """The layers that reuse another layer's attention weights, ascending."""
        return tuple(sorted(self._leader_of))

    @cached_property
    def leaders(self) -> tuple[int, ...]:
        """The layers whose attention weights at least one follower reuses, ascending."""
        return tuple(leader for leader, *_ in self.groups)

    @cached_property
    def _leader_of(self) -> dict[int, int]:
        return {follower: leader for leader, *followers in self.groups for follower in followers}

    def leader_of(self, layer: int) -> int:
        """The layer whose attention weights `layer` uses: itself for leaders and dense layers."""
        self._check_layer(layer)
        return self._leader_of.get(layer, layer)

    def _check_layer(self, layer: int) -> None:
        if not 0 <= layer < self.num_layers:
            raise ValueError(f"There is no layer {layer}: {layers_of(self.num_layers)}.")

    @cached_property
    def skipped(self) -> tuple[int, ...]:
        """The layers without attention, ascending."""
        return tuple(sorted(layer for layer, part in self._part_of.items() if part.mechanism == "skip"))

    @cached_property
    def borrowers(self) -> dict[int, int]:
        """Follower → leader, ascending, of every mechanism but `skip`, which has no leaders."""
        found = dict(self._leader_of)
        for layer, part in self._part_of.items():
            if part.mechanism != "skip":
                found[layer] = part.layers[0]
        return dict(sorted(found.items()))

    @cached_property
    def changed(self) -> tuple[int, ...]:
        """The layers that do less than in the dense model, in any phase, ascending: followers of any mechanism, and those that
        skip.
        """
        return tuple(sorted({*self._leader_of, *(layer for part in self.parts for layer in part.changed)}))

    @cached_property
    def _part_of(self) -> dict[int, Part]:
        return {layer: part for part in self.parts if not part.phase for layer in part.changed}

    @cached_property
    def phased(self) -> tuple[Part, ...]:
        """The parts that apply in one phase alone, shared groups among them."""
        return tuple(part for part in self.parts if part.phase)

    @cached_property
    def phases(self) -> tuple["SharingPlan", ...]:
        """What the plan is in each phase, without marks: (prefill, decoding), or the plan alone where both are the same."""
        if not self.phased:
            return (self,)
        prefill, decode = (
            SharingPlan((), self.num_layers, (*self.groups, *groups), parts)
            for groups, parts in (of_phase(self.parts, "prefill"), of_phase(self.parts, "decode"))
        )
        return prefill, decode

    def in_phase(self, phase: Phase) -> "SharingPlan":
        """What the plan is in one phase, without marks."""
        return self.phases[0 if phase == "prefill" else -1]

    def mechanism_of(self, layer: int) -> Mechanism | None:
        """What `layer` does in place of its own attention: None for leaders and layers that the plan does not name."""
        self._check_layer(layer)
        if part := self._part_of.get(layer):
            return part.mechanism
        return "share" if layer in self._leader_of else None

    def held_as(self, layer: int) -> Mechanism | None:
        """The mechanism as of which `layer` holds weights: what it does, or where phases differ one that has all that either
        phase needs (of `share` and `kv` that is `keys`). None: it holds everything.
        """
        return held_for(*(one.mechanism_of(layer) for one in self.phases))

    def source_of(self, layer: int) -> int:
        """The layer from which `layer` takes something, by any mechanism: itself for layers that take nothing."""
        self._check_layer(layer)
        return self.borrowers.get(layer, layer)

    def positions_of(self, layer: int) -> int:
        """To how many positions `layer` attends, of a follower of `topk`; 0 for layers that attend to all."""
        self._check_layer(layer)
        return part.positions if (part := self._part_of.get(layer)) else 0

    @property
    def name(self) -> str:
        """The plan for file names and tables: its text, or `dense`."""
        return str(self) or "dense"

    @property
    def paper_notation(self) -> str:
        """The plan as the SA paper writes it (followers only): `SA 23~26`.

        The paper's leaders are the layers before their followers, so it cannot write listed groups: they stay as they
        are (`SA 18~22, 2-4-6`). It has Shared Attention alone, in both phases: parts are left out.
        """
        return ", ".join(_paper_name(group) or group_text(group) for group in self.groups)

    def describe(self) -> str:
        """For people: what each layer of the plan does, and the paper's name for what is shared."""
        if not self:
            return f"Every one of the {self.num_layers} layers computes its own attention weights (the dense model)."
        return " ".join(filter(None, (self._shared_in_words(), self._parts_in_words())))

    def _shared_in_words(self) -> str:
        if not self.followers:
            return ""
        groups = "; ".join(", ".join(group_in_words(group)) for group in self.groups)
        count = len(self.followers)
        return (
            f"{groups[0].upper()}{groups[1:]}. {count} of {self.num_layers} layers "
            f"{'reuse' if count > 1 else 'reuses'} attention weights ({self._paper_in_words()})."
        )

    def _paper_in_words(self) -> str:
        named = ", ".join(filter(None, map(_paper_name, self.groups)))
        without = ", ".join(map(group_text, self.listed))
        if not without:
            return f"paper notation: {named}"
        return f"paper notation: {named}; none for {without}" if named else f"the paper has no notation for {without}"

    def _parts_in_words(self) -> str:
        return f"{parts_in_words(self.parts)} (in the plan: {', '.join(parts_text(self.parts))})." if self.parts else ""


def _paper_name(group: Group) -> str:
    return f"SA {group[1]}~{group[-1]}" if has_no_gaps(group) else ""
