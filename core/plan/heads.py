"""Head maps: which head of its leader each query head of a follower uses."""

import json
from collections.abc import Mapping, Sequence

HeadMap = dict[int, tuple[int, ...]]
"""Follower → the leader's head that each of its query heads uses; the followers of a plan that it leaves out use the
leader's heads one by one."""

HeadMapLike = Mapping[int, Sequence[int]]
"""A head map as people give it: lists do too."""


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
