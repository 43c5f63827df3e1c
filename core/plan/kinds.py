"""Layers of several kinds: which of them can be joined, and how that is written."""

from collections.abc import Callable, Sequence

from core.plan.groups import Group, group_text


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
