"""Head maps in links: a short form of the JSON that the page knows them as, and both read. In the browser: `heads.js`.

A map of ten followers with nine heads each is 248 characters of JSON, 350 and more once an address has escaped them;
the short form takes 65. It is `1`, the version, and in base64url: a byte each for the number of followers, of heads of
each, and of the values that a head can have; a byte for each follower; then all heads, row by row, as the digits of one
large number. Nothing is decompressed, and how much a text may stand for is bounded. One map has one short form.

Every form that was ever written stays readable: JSON is from before there was this one.
"""

import base64
import binascii
import json

from app.asked import LONGEST_HEADS
from core.plan import HeadMap, HeadMapLike, read_head_map

LONGEST = 16_384
"""Characters of a short form: 80 layers of 64 heads take 5,200."""
LONGEST_JSON = LONGEST_HEADS
_MOST_HEADS = 20_000  # of all followers together: as JSON 60,000 characters
_VERSION = "1"
_BYTE = 256
_BROKEN = "The head map in the address is damaged: copy the whole link again, or leave out the part heads=…"


def shorten(heads: str) -> str:
    """The short form of a head map, given as JSON or short already; empty for an empty one.

    Raises ValueError with one sentence for a text that is no head map, and for a map that no link can hold: followers
    with different numbers of heads, a number above 255, or too many heads.
    """
    found = read_heads(heads)
    return _VERSION + _base64(_pack(found)) if found else ""


def lengthen(heads: str) -> str:
    """The JSON of a head map, given in either form; JSON comes back as it is, unread.

    Raises ValueError with one sentence for a short form that is damaged, too long, or of a later version.
    """
    if not heads or heads.lstrip()[:1] == "{":
        _check_length(heads, LONGEST_JSON)
        return heads
    _check_length(heads, LONGEST)
    version, packed = heads[0], heads[1:]
    if version != _VERSION:
        raise ValueError(
            f"The head map in the address begins with {version!r}: this version reads {_VERSION!r} and JSON such as "
            '{"18": [0, 1, 2]}.'
        )
    try:
        content = base64.b64decode(packed + "=" * (-len(packed) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(_BROKEN) from error
    found = _unpack(content)
    if _base64(_pack(found)) != packed:  # one map has one form: anything else was changed on its way
        raise ValueError(_BROKEN)
    return json.dumps({str(layer): list(row) for layer, row in found.items()})


def read_heads(heads: str) -> HeadMap:
    """The head map that a text in either form means; {} for an empty one. Raises ValueError for anything else."""
    return read_head_map(lengthen(heads)) if heads else {}


def _check_length(heads: str, longest: int) -> None:
    if len(heads) > longest:
        raise ValueError(f"The head map in the address has {len(heads):,} characters: at most {longest:,} are read.")


def _pack(head_map: HeadMapLike) -> bytes:
    rows = [(layer, head_map[layer]) for layer in sorted(head_map)]
    width = len(rows[0][1])
    values = [value for _, row in rows for value in row]
    numbers = (len(rows), width, *(layer for layer, _ in rows), *values)
    if not all(isinstance(number, int) and 0 <= number < _BYTE for number in numbers) or not width:
        raise ValueError("A head map in a link has whole numbers from 0 to 255, and at least one head.")
    if any(len(row) != width for _, row in rows) or len(values) > _MOST_HEADS:
        raise ValueError(
            f"A head map in a link has equally many heads for every follower, and at most {_MOST_HEADS:,} in all."
        )
    base, number = max(values) + 1, 0
    for value in values:
        number = number * base + value
    header = bytes([len(rows), width, base - 1, *(layer for layer, _ in rows)])
    return header + number.to_bytes((number.bit_length() + 7) // 8, "big")


def _unpack(content: bytes) -> HeadMap:
    """Whatever was packed; of other bytes whatever they say, or ValueError: the caller packs it again and compares."""
    if len(content) < 3 or not content[0] or not content[1] or len(content) < 3 + content[0]:
        raise ValueError(_BROKEN)
    count, width, base = content[0], content[1], content[2] + 1
    if count * width > _MOST_HEADS:
        raise ValueError(_BROKEN)
    layers, number = content[3 : 3 + count], int.from_bytes(content[3 + count :], "big")
    values = []
    for _ in range(count * width):
        number, value = divmod(number, base)
        values.append(value)
    values.reverse()
    return {layer: tuple(values[row * width : (row + 1) * width]) for row, layer in enumerate(layers)}


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
