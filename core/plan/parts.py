"""The parts of a plan that are not Shared Attention: layers that skip, or take keys, values or places from a leader."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from core.plan.groups import (
    Group,
    check_listed,
    group_text,
    layers_of,
    listed_in_words,
    runs_of,
    short,
)

Mechanism = Literal["share", "skip", "kv", "keys", "topk"]
"""What layers do in place of their own attention; see docs/families.md for who can.

`share`: followers reuse the leader's attention weights. `skip`: no attention; the block's residual passes on. `kv`:
followers compute queries and read the leader's keys and values. `keys`: the leader's keys, own queries and values.
`topk`: own attention, on those positions alone to which the leader gave most.
"""

MECHANISMS: tuple[Mechanism, ...] = get_args(Mechanism)

Phase = Literal["prefill", "decode"]
"""When a part of a plan applies, where it does not do so in both phases; see `core.plan.phases`."""

PHASES: tuple[Phase, ...] = get_args(Phase)


@dataclass(frozen=True)
class Part:
    """Layers that do something else than Shared Attention.

    mechanism: any but `share`, which stands in a plan's spans and listed groups, unless it is of one phase alone. layers: of
    `skip` those that skip, ascending; else the leader, then its followers, ascending. positions: of `topk` alone, to how
    many positions followers attend, 1 or more. phase: the one in which the part applies; None: both. Raises ValueError, in
    one sentence, for another mechanism or phase, no layers, and positions that do not go with it.
    """

    mechanism: Mechanism
    layers: tuple[int, ...]
    positions: int = 0
    phase: Phase | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(map(int, self.layers)))
        if self.phase not in (None, *PHASES):
            raise ValueError(
                f"{self.phase!r} is no phase: a part is of {' or '.join(PHASES)}, or of both, which is None."
            )
        if self.mechanism not in MECHANISMS[0 if self.phase else 1 :]:
            raise ValueError(
                f"{self.mechanism!r} is no mechanism of a part: a part is {', '.join(MECHANISMS[1:-1])} or {MECHANISMS[-1]}, and "
                "what is shared stands in the plan's spans."
            )
        if not self.layers:
            raise ValueError(f"A part of mechanism {self.mechanism} names no layers: give it at least one.")
        if self.mechanism == "topk" and self.positions < 1:
            raise ValueError(f"topk needs 1 position or more to attend to, not {self.positions}: give it at least one.")
        if self.mechanism != "topk" and self.positions:
            raise ValueError(
                f"{self.mechanism} has no number of positions, but {self.positions} were given: leave it out."
            )

    @property
    def word(self) -> str:
        """The word that rules its groups in a plan's text: `kv`, or `topk64`; none for shared groups."""
        return "" if self.mechanism == "share" else f"{self.mechanism}{self.positions or ''}"

    @property
    def mark(self) -> str:
        """What stands behind its groups in a plan's text: `@decode`, or nothing where it applies in both phases."""
        return f"@{self.phase}" if self.phase else ""

    @property
    def changed(self) -> tuple[int, ...]:
        """The layers that do less: all that skip, else the followers."""
        return self.layers if self.mechanism == "skip" else self.layers[1:]

    def __str__(self) -> str:
        return f"{self.word} {self.groups_text}{self.mark}".lstrip()

    @property
    def groups_text(self) -> str:
        """Its layers as they stand behind the word: `20-22`, `2_4`, or `5 7 9-12` of layers that skip."""
        return skipped_text(self.layers) if self.mechanism == "skip" else group_text(self.layers)


def skipped_text(layers: Iterable[int]) -> str:
    """Layers that skip as a plan writes them: `5 7`, and runs of three or more as `9-12`."""
    return " ".join(
        f"{run[0]}-{run[-1]}" if len(run) > 2 else " ".join(map(str, run)) for run in runs_of(layers)
    )  # fmt: skip


def canonical_parts(parts: Iterable[Part]) -> tuple[Part, ...]:
    """The same parts in their one order: by mechanism, phase (both first) and layers, with all layers that skip in one phase
    in one part.
    """
    given = tuple(parts)
    skipped: dict[Phase | None, list[int]] = {}
    for part in given:
        if part.mechanism == "skip":
            skipped.setdefault(part.phase, []).extend(part.layers)
    joined = [Part("skip", tuple(sorted(layers)), phase=phase) for phase, layers in skipped.items()]
    return tuple(sorted([*joined, *(part for part in given if part.mechanism != "skip")], key=_order))


def _order(part: Part) -> tuple:
    return MECHANISMS.index(part.mechanism), (None, *PHASES).index(part.phase), part.layers, part.positions


def parts_text(parts: Sequence[Part]) -> list[str]:
    """What a plan writes after its shared groups, part by part: groups of one mechanism, number and phase stand behind one
    word and before one mark, shared ones each for itself.
    """
    groups_of: dict[tuple[str, str, str], list[str]] = {}
    for part in parts:
        alone = "" if part.word else part.groups_text
        groups_of.setdefault((part.word, part.mark, alone), []).append(part.groups_text)
    return [" ".join(filter(None, (word, *groups))) + mark for (word, mark, _), groups in groups_of.items()]


def parts_in_words(parts: Sequence[Part]) -> str:
    """What the layers of these parts do, as a sentence without its full stop, or nothing."""
    said = "; ".join(
        f"{_WHEN[part.phase]}layer{'s' if len(part.changed) > 1 else ''} {listed_in_words(part.changed)} {_does(part)}"
        for part in parts
    )
    return f"{said[:1].upper()}{said[1:]}"


_WHEN: dict[Phase | None, str] = {None: "", "prefill": "in prefill alone ", "decode": "in decoding alone "}


def _does(part: Part) -> str:
    several, leader = len(part.changed) > 1, part.layers[0]
    if part.mechanism == "share":
        return f"{'reuse' if several else 'reuses'} the attention weights of {leader}"
    if part.mechanism == "skip":
        return "skip attention" if several else "skips attention"
    read = "read" if several else "reads"
    if part.mechanism == "kv":
        return f"{read} the keys and values of {leader}"
    if part.mechanism == "keys":
        return f"{read} the keys of {leader}"
    which = f"{part.positions:,} positions" if part.positions > 1 else "position"
    return f"{'attend' if several else 'attends'} to the {which} to which {leader} gives most"


def check_part(part: Part, num_layers: int) -> None:
    """Raise ValueError, in one sentence, for layers that do not exist or cannot do what the part says."""
    if part.mechanism == "skip":
        _check_skipped(part.layers, num_layers)
    else:
        check_listed(part.layers, num_layers, f"{part.word} ".lstrip())


def _check_skipped(layers: Sequence[int], num_layers: int) -> None:
    for layer in layers:
        if not 0 <= layer < num_layers:
            raise ValueError(f"There is no layer {layer} to skip: {layers_of(num_layers)}.")
        if layer == 0:
            raise ValueError(
                f"Layer 0 cannot skip attention: the cache asks it for its length, so skip from layer 1 on; {layers_of(num_layers)}."
            )
    twice = [layer for layer, count in Counter(layers).items() if count > 1]
    if twice:
        raise ValueError(f"Layer {twice[0]} is skipped twice: name each layer once; {layers_of(num_layers)}.")


def check_parts_apart(groups: Sequence[Group], parts: Sequence[Part], num_layers: int) -> None:
    """Raise ValueError, in one sentence, for a layer that stands in two parts, or in a part and in a shared group."""
    text_of = {layer: group_text(group) for group in groups for layer in group}
    for part in parts:
        is_skip = part.mechanism == "skip"
        for layer in part.layers:
            if layer not in text_of:
                continue
            if is_skip:
                raise ValueError(
                    f"Layer {layer} skips attention and stands in {short(text_of[layer])} too: each layer can do one thing only, so take "
                    f"it out of one of them; {layers_of(num_layers)}."
                )
            raise ValueError(
                f"{short(text_of[layer])} and {short(str(part))} overlap in layer {layer}: each layer can be in one group only; "
                f"{layers_of(num_layers)}."
            )
        text_of.update(dict.fromkeys(part.layers, str(part)))
