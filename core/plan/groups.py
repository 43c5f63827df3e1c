"""Groups of layers, as plans write them and as sentences name them."""

from collections.abc import Iterable, Sequence

Group = tuple[int, ...]
"""A leader and its followers, ascending: (2, 4, 6) says that layers 4 and 6 reuse the weights of layer 2."""

_MOST_SHOWN = 60  # characters of what was typed that a sentence repeats


def group_text(group: Sequence[int]) -> str:
    """How a plan writes this group: `17-22` without gaps, else `2-4-6`, or `2_4` where there are only two members."""
    if has_no_gaps(group):
        return f"{group[0]}-{group[-1]}"
    return ("_" if len(group) == 2 else "-").join(map(str, group))


def has_no_gaps(group: Sequence[int]) -> bool:
    """Whether these ascending layers are two or more neighbours."""
    return len(group) > 1 and group[-1] - group[0] == len(group) - 1


def runs_of(layers: Iterable[int]) -> list[list[int]]:
    """Ascending layers as runs of neighbours."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and runs[-1][-1] == layer - 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return runs


def listed_in_words(layers: Iterable[int]) -> str:
    """Ascending layers as sentences list them: `18–20 and 22`."""
    named = [f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs_of(layers)]
    return " and ".join(filter(None, (", ".join(named[:-1]), named[-1])))


def group_in_words(group: Group) -> tuple[str, str]:
    """What its leader does, and what its followers do: `layer 2 computes`, `4 and 6 reuse`."""
    leader, *followers = group
    return f"layer {leader} computes", f"{listed_in_words(followers)} {'reuse' if len(followers) > 1 else 'reuses'}"


def layers_of(num_layers: int) -> str:
    """The end of every sentence about a fault: which layers there are."""
    return f"the model has layers 0 to {num_layers - 1}"


def shown(typed: str) -> str:
    """What somebody typed, for a sentence: of something long the beginning."""
    return repr(short(typed))


def short(group: str) -> str:
    """A group for a sentence: of a long one the beginning."""
    return group if len(group) <= _MOST_SHOWN else f"{group[:_MOST_SHOWN]}…"


def check_span(first: int, last: int, num_layers: int, word: str = "") -> None:
    """Raise ValueError, in one sentence, for a span that names layers that do not exist or no follower.

    word: that of its mechanism, with the blank after it, where it is not `share`.
    """
    span = f"{word}{first}-{last}"
    if first < 0 or last >= num_layers or first >= num_layers or last < 0:
        raise ValueError(f"Span {span} is out of range: {layers_of(num_layers)}.")
    if first > last:
        raise ValueError(
            f"Span {span} is reversed: the leader comes first, so write {word}{last}-{first}; {layers_of(num_layers)}."
        )
    if first == last:
        raise ValueError(
            f"Span {span} has one layer only: a span needs a leader and at least one follower; {layers_of(num_layers)}."
        )


def check_listed(group: Group, num_layers: int, word: str = "") -> None:
    """Raise ValueError, in one sentence, for a group that names layers that do not exist, or no follower, or out of order.

    word: that of its mechanism, with the blank after it, where it is not `share`.
    """
    text = word + short(("_" if len(group) == 2 else "-").join(map(str, group)))
    if not all(0 <= layer < num_layers for layer in group):
        raise ValueError(f"Group {text} is out of range: {layers_of(num_layers)}.")
    if len(set(group)) < max(2, len(group)):
        raise ValueError(
            f"Group {text} needs a leader and at least one follower, each layer once; {layers_of(num_layers)}."
        )
    if list(group) != sorted(group):
        raise ValueError(
            f"Group {text} is out of order: the leader comes first, so write {word}{short(group_text(sorted(group)))}; "
            f"{layers_of(num_layers)}."
        )


def check_apart(groups: Sequence[Group], num_layers: int) -> None:
    """Raise ValueError, in one sentence, for a layer that stands in two groups."""
    group_of: dict[int, Group] = {}
    for group in groups:
        for layer in group:
            if (other := group_of.setdefault(layer, group)) is not group:
                word = "Spans" if has_no_gaps(other) and has_no_gaps(group) else "Groups"
                raise ValueError(
                    f"{word} {short(group_text(other))} and {short(group_text(group))} overlap: each layer can be in one "
                    f"{'span' if word == 'Spans' else 'group'} only; {layers_of(num_layers)}."
                )
