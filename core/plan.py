"""Sharing plans: which layers of a decoder reuse the attention weights of an earlier layer."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

HeadMap = dict[int, tuple[int, ...]]
"""Follower → the leader's head that each of its query heads uses; the followers of a plan that it leaves out use the
leader's heads one by one."""

HeadMapLike = Mapping[int, Sequence[int]]
"""A head map as people give it: lists do too."""

_AS_TYPED = str.maketrans({
    **dict.fromkeys("‐‑‒–—―−﹘﹣－", "-"), **dict.fromkeys("∼〜～˜", "~"), **dict.fromkeys(";；，、؛", ","),
    **dict.fromkeys("\u200b\u2060\ufeff", ""),
})  # fmt: skip
"""Signs that word processors, keyboards of other languages and this project's own sentences put in place of - ~ and , and
marks without a width, which go."""

EXECUTIONS = ("auto", "reuse", "recompute")
"""How followers may get their output: see `core.sharing.share_attention`."""

LONGEST = 10_000
"""Characters of a plan's text: a thousand layers one by one have 4,000, and a sentence of `describe` has them twice."""
_LONGEST_LAYER = 9  # digits
_MOST_SHOWN = 60  # characters of what was typed that a sentence repeats

_IN_WORDS = re.compile(r"\((?:paper notation|paper): ([^)]*)\)")
_NOTHING_ON_PAPER = re.compile(r"the paper has no notation for ([^)]*)\)|[;,] none for ([^)]*)\)")
_DENSE_IN_WORDS = re.compile(r"every one of the \d+ layers computes its own attention weights \(the dense model\)\.?")
Group = tuple[int, ...]
"""A leader and its followers, ascending: (2, 4, 6) says that layers 4 and 6 reuse the weights of layer 2."""


def read_head_map(text: str) -> HeadMap:
    """The head map in a JSON text such as `{"18": [0, 1, 2]}`. Raises ValueError for anything else, and for a layer that
    stands twice.
    """
    try:
        rows: list[tuple[str, list[int]]] = json.loads(text, object_pairs_hook=list)
        found = {int(layer): tuple(heads) for layer, heads in rows}
    except (TypeError, RecursionError) as error:
        raise ValueError("it is no object of lists") from error
    if len(found) < len(rows):
        raise ValueError("a layer stands twice")
    return found


_SPAN = re.compile(r"(-?\d+)\s*([-~])\s*(-?\d+)")
_LISTED = (re.compile(r"-?\d+(?:\s*-\s*-?\d+){2,}"), re.compile(r"-?\d+(?:\s*[_>]\s*-?\d+)+"))
_LAYER = re.compile(r"(?:(?<=[-_>])\s*|^)(-?\d+)")


@dataclass(frozen=True)
class SharingPlan:
    """Which layers share attention weights, in a model of `num_layers` decoder layers (numbered from 0).

    In each span `(first, last)` layer `first`, the *leader*, computes the attention weights
    `softmax(QKᵀ/√d)`; layers `first+1 … last`, the *followers*, reuse them. Each group in `listed` names its members
    one by one, `(leader, follower, …)`: the layers in between compute their own weights, or belong to other groups.
    That is how layers share past neighbours of another kind. No span and no listed group: the *dense* model.

    A listed group without gaps becomes a span, so that equal plans are equal. Ask `followers` whether anything is
    shared, and `groups` for spans and listed groups alike.
    """

    spans: tuple[tuple[int, int], ...] = ()
    num_layers: int = 0
    listed: tuple[Group, ...] = ()

    def __post_init__(self) -> None:
        spans = [(int(first), int(last)) for first, last in self.spans]
        listed = [tuple(map(int, group)) for group in self.listed]
        for span in spans:
            _check_span(*span, self.num_layers)
        for group in listed:
            _check_listed(group, self.num_layers)
        spans += [(group[0], group[-1]) for group in listed if _has_no_gaps(group)]
        object.__setattr__(self, "spans", tuple(sorted(spans)))
        object.__setattr__(self, "listed", tuple(sorted(group for group in listed if not _has_no_gaps(group))))
        _check_apart(self.groups, self.num_layers)

    @classmethod
    def parse(cls, text: str, num_layers: int) -> "SharingPlan":
        """Read a plan such as `17-22,5-6` (in any order) for a model of `num_layers` layers.

        `17-22`: layers 18 to 22 reuse layer 17. Three or more numbers list the members of a group: with `2-4-6`
        layers 4 and 6 reuse layer 2. Two layers that are no neighbours are joined by an underscore: `2_4`, layer 4
        reuses layer 2 (`2>4` is read too, but means something else to a shell).
        The notation of the SA paper, which names the followers only, is understood too: `23~26` is `22-26`. So is what
        this project prints: any dash, semicolons, spaces or lines between spans, one at the end, and the sentence of
        `describe`.
        The empty text (or `dense`) is the dense plan. Raises ValueError with one sentence that names the fault
        and the layers that exist.
        """
        if len(text or "") > LONGEST:
            raise ValueError(
                f"This plan has {len(text):,} characters, and at most {LONGEST:,} are read: write spans such as 3-5; "
                f"{_layers(num_layers)}."
            )
        read = [_parse_part(part, num_layers) for part in _parts(text or "")]
        return cls(
            tuple((part[0], part[1]) for part, is_listed in read if not is_listed),
            num_layers,
            tuple(part for part, is_listed in read if is_listed),
        )

    @classmethod
    def of_groups(cls, groups: Iterable[Sequence[int]], num_layers: int) -> "SharingPlan":
        """The plan of these groups, each (leader, follower, …), with or without gaps."""
        return cls((), num_layers, tuple(map(tuple, groups)))

    def __str__(self) -> str:
        return ",".join(map(group_text, self.groups))

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
        if not 0 <= layer < self.num_layers:
            raise ValueError(f"There is no layer {layer}: {_layers(self.num_layers)}.")
        return self._leader_of.get(layer, layer)

    @property
    def name(self) -> str:
        """The plan for file names and tables: its text, or `dense`."""
        return str(self) or "dense"

    @property
    def paper_notation(self) -> str:
        """The plan as the SA paper writes it (followers only): `SA 23~26`.

        The paper's leaders are the layers before their followers, so it cannot write listed groups: they stay as they
        are (`SA 18~22, 2-4-6`).
        """
        return ", ".join(_paper_name(group) or group_text(group) for group in self.groups)

    def describe(self) -> str:
        """One sentence for people: what each layer of the plan does, and the paper's name for it."""
        if not self.followers:
            return f"Every one of the {self.num_layers} layers computes its own attention weights (the dense model)."
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


def group_text(group: Sequence[int]) -> str:
    """How a plan writes this group: `17-22` without gaps, else `2-4-6`, or `2_4` where there are only two members."""
    if _has_no_gaps(group):
        return f"{group[0]}-{group[-1]}"
    return ("_" if len(group) == 2 else "-").join(map(str, group))


def nearest_group(kinds: Sequence[object], leader: int, last: int) -> Group:
    """What to share in place of `leader` to `last`: the layers of the leader's kind among them, at least one follower.

    kinds: of each layer. Only `(leader,)` where no later layer is of its kind.
    """
    later = [layer for layer in range(leader + 1, len(kinds)) if kinds[layer] == kinds[leader]]
    return (leader, *([layer for layer in later if layer <= last] or later[:1]))


def same_kind_hint(kinds: Sequence[object], leader: int, last: int) -> str:
    """How to write the sharing that layers of several kinds allow, as the end of a sentence."""
    group = nearest_group(kinds, leader, last)
    if len(group) > 1:
        return f"share between layers of the same kind only, for example {group_text(group)}"
    return f"no later layer is of the same kind as layer {leader}, so leave it dense"


def check_same_kind(
    groups: Sequence[Sequence[int]], kinds: Sequence[object], differ: Callable[[int, int], str]
) -> None:
    """Raise ValueError for a follower of another kind than its leader. differ: (leader, follower) → how they do, in words."""
    for leader, *followers in groups:
        for follower in followers:
            if kinds[follower] != kinds[leader]:
                raise ValueError(
                    f"Layer {follower} cannot reuse the attention weights of layer {leader}: {differ(leader, follower)}; "
                    f"{same_kind_hint(kinds, leader, followers[-1])}."
                )


def _shown(typed: str) -> str:
    """What somebody typed, for a sentence: of something long the beginning."""
    return repr(typed if len(typed) <= _MOST_SHOWN else f"{typed[:_MOST_SHOWN]}…")


def _short(group: str) -> str:
    """A group for a sentence: of a long one the beginning."""
    return group if len(group) <= _MOST_SHOWN else f"{group[:_MOST_SHOWN]}…"


def _layer(digits: str, num_layers: int) -> int:
    """The number of a layer. Raises ValueError with one sentence for one of more digits than any model has layers."""
    if len(digits) > _LONGEST_LAYER:
        raise ValueError(f"There is no layer {digits[:_LONGEST_LAYER]}…: {_layers(num_layers)}.")
    return int(digits)


def _layers(num_layers: int) -> str:
    return f"the model has layers 0 to {num_layers - 1}"


def _parts(text: str) -> list[str]:
    """The spans of a plan's text as they were typed, one by one, in this project's signs."""
    text = text.translate(_AS_TYPED).strip().strip("`'\"")
    if text.lower() in ("", "dense") or _DENSE_IN_WORDS.fullmatch(text.lower()):
        return []
    listed = ",".join(names for found in _NOTHING_ON_PAPER.findall(text) for names in found if names)
    if described := _IN_WORDS.search(text):
        text = ",".join(filter(None, (re.split("[;,] none for", described[1])[0].strip(", "), listed)))
    elif listed:
        text = listed
    joined = re.sub(r"(?<=[\d])\s*([-~_>])\s*(?=-?\d)", r"\1", text)
    between_spans = r"(?<=\d)\s+(?=(?:SA\s*)?\d+[-~_>])"
    separated = re.sub(between_spans, ",", joined, flags=re.IGNORECASE)
    separated = separated.rstrip(", \t\r\n") or separated  # a list that is being written ends with a comma
    return [part.strip() for part in separated.split(",")]


def _has_no_gaps(group: Sequence[int]) -> bool:
    return len(group) > 1 and group[-1] - group[0] == len(group) - 1


def _paper_name(group: Group) -> str:
    return f"SA {group[1]}~{group[-1]}" if _has_no_gaps(group) else ""


def group_in_words(group: Group) -> tuple[str, str]:
    """What its leader does, and what its followers do: `layer 2 computes`, `4 and 6 reuse`."""
    leader, *followers = group
    runs: list[list[int]] = []
    for layer in followers:
        if runs and runs[-1][-1] == layer - 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    named = [f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
    listed = " and ".join(filter(None, (", ".join(named[:-1]), named[-1])))
    return f"layer {leader} computes", f"{listed} {'reuse' if len(followers) > 1 else 'reuses'}"


def _parse_part(part: str, num_layers: int) -> tuple[Group, bool]:
    """The layers that a part of a plan's text names, and whether it lists them one by one."""
    written, part = part, re.sub(r"^SA\s*", "", part, flags=re.IGNORECASE)
    if any(form.fullmatch(part) for form in _LISTED):
        if part != written:
            raise ValueError(
                f"{_shown(written)} mixes two notations: write {_short(part)}, since the paper's has no groups of listed layers; "
                f"{_layers(num_layers)}."
            )
        return tuple(_layer(layer, num_layers) for layer in _LAYER.findall(part)), True
    return _parse_span(written, part, num_layers), False


def _parse_span(written: str, part: str, num_layers: int) -> tuple[int, int]:
    match = _SPAN.fullmatch(part)
    if match is None:
        raise ValueError(
            f"{_shown(part)} is not a span: write first-last, for example 3-5, and separate spans by commas, or list the "
            f"layers of a group, for example 2-4-6 or 2_4; {_layers(num_layers)}."
        )
    first, last = _layer(match[1], num_layers), _layer(match[3], num_layers)
    if match[2] == "-" and part != written:
        raise ValueError(
            f"{_shown(written)} mixes two notations: write {part} if layer {first} is the leader, or SA {first}~{last} if it "
            f"is the first follower; {_layers(num_layers)}."
        )
    if match[2] == "~":  # the paper's notation starts at the first follower
        if first == 0:
            raise ValueError(
                f"{_shown(part)} makes layer 0 a follower, but no layer before it computes attention weights; "
                f"{_layers(num_layers)}, and the first follower can be layer 1."
            )
        if last < first:
            raise ValueError(f"{_shown(part)} is reversed: write {last}~{first}; {_layers(num_layers)}.")
        first -= 1
    return first, last


def _check_span(first: int, last: int, num_layers: int) -> None:
    span = f"{first}-{last}"
    if first < 0 or last >= num_layers or first >= num_layers or last < 0:
        raise ValueError(f"Span {span} is out of range: {_layers(num_layers)}.")
    if first > last:
        raise ValueError(
            f"Span {span} is reversed: the leader comes first, so write {last}-{first}; {_layers(num_layers)}."
        )
    if first == last:
        raise ValueError(
            f"Span {span} has one layer only: a span needs a leader and at least one follower; {_layers(num_layers)}."
        )


def _check_listed(group: Group, num_layers: int) -> None:
    text = _short(("_" if len(group) == 2 else "-").join(map(str, group)))
    if not all(0 <= layer < num_layers for layer in group):
        raise ValueError(f"Group {text} is out of range: {_layers(num_layers)}.")
    if len(set(group)) < max(2, len(group)):
        raise ValueError(
            f"Group {text} needs a leader and at least one follower, each layer once; {_layers(num_layers)}."
        )
    if list(group) != sorted(group):
        raise ValueError(
            f"Group {text} is out of order: the leader comes first, so write {_short(group_text(sorted(group)))}; "
            f"{_layers(num_layers)}."
        )


def _check_apart(groups: Sequence[Group], num_layers: int) -> None:
    group_of: dict[int, Group] = {}
    for group in groups:
        for layer in group:
            if (other := group_of.setdefault(layer, group)) is not group:
                word = "Spans" if _has_no_gaps(other) and _has_no_gaps(group) else "Groups"
                raise ValueError(
                    f"{word} {_short(group_text(other))} and {_short(group_text(group))} overlap: each layer can be in one "
                    f"{'span' if word == 'Spans' else 'group'} only; {_layers(num_layers)}."
                )
