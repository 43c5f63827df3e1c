"""What a GGUF file says of itself, read within bounds: its reader makes an object of every number that a header names."""

import math
import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, NoReturn

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from core.admission.files import Folder, shown
from core.admission.limits import Limits, Refused

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9
_KEYS = 10_000
_VALUES = 4_000_000  # in all arrays; 1,300,000 of the largest vocabularies with their merges
_DIMENSIONS = 4
_COUNTED = {
    "block_count": "layers", "embedding_length": "width", "feed_forward_length": "width", "context_length": "positions",
    "expert_count": "experts", "head_count": "heads", "head_count_kv": "heads", "key_length": "width",
    "value_length": "width", "vocab_size": "vocabulary",
}  # fmt: skip


def check_gguf(path: str | Path, limits: Limits | None = None) -> None:
    """Raises Refused, a ValueError of one sentence, for a file that lies about itself or is beyond the limits."""
    path, limits = Path(path), limits or Limits()
    with Folder(path.parent, limits).open(path.name, limits.weights_bytes) as file:
        _Header(path, limits, file).check()


@dataclass
class _Header:
    path: Path
    limits: Limits
    file: BinaryIO
    order: str = "<"
    values: int = 0

    def check(self) -> None:
        """Read it once, from its beginning to that of the weights."""
        self.size = self.path.stat().st_size
        if self._bytes(4) != b"GGUF":
            raise Refused(f"{self.path} is no GGUF file: it begins with other bytes. Check what was downloaded.")
        version = self._number("I")
        if version > 0xFFFF:  # written by a machine of the other byte order
            self.order, version = ">", int.from_bytes(version.to_bytes(4, "little"), "big")
        if version not in (2, 3):
            self._refuse(f"its version is {version}", "2 and 3 are read")
        tensors, keys = self._number("Q"), self._number("Q")
        if tensors > min(self.limits.tensors, self.size // 24) or keys > min(_KEYS, self.size // 12):
            self._refuse(f"it speaks of {tensors:,} tensors and {keys:,} fields")
        seen: set[str] = set()
        layers, alignment = 0, 32
        for _ in range(keys):
            key, value = self._field()
            if key in seen:
                self._refuse(f"the field {shown(key)} is there twice")
            seen.add(key)
            if key == "general.alignment":
                alignment = value if isinstance(value, int) else 0
            elif key.endswith(".block_count") and isinstance(value, int):
                layers = value
        if not 0 < alignment <= 1 << 20 or alignment & (alignment - 1):
            self._refuse(f"its alignment is {shown(alignment)}")
        if layers > tensors:
            self._refuse(f"it speaks of {layers:,} layers and holds {tensors:,} tensors")
        self._check_tensors(tensors, alignment)

    def _field(self) -> tuple[str, object]:
        key, kind = self._text(65_535), self._number("I")
        if kind == _ARRAY:
            self._array(key)
            return key, None
        if kind == _TEXT:
            most = self.limits.template_bytes if "chat_template" in key else self.limits.header_bytes
            return key, self._text(most)
        value = self._scalar(kind)
        self._check_count(key, value)
        return key, value

    def _array(self, key: str) -> None:
        kind, count = self._number("I"), self._number("Q")
        self.values += count
        if self.values > _VALUES or (key.startswith("tokenizer.ggml.tok") and count > self.limits.vocabulary):
            self._refuse(f"{shown(key)} has {count:,} values")
        if kind == _TEXT:
            for _ in range(count):
                self._text(self.limits.token_letters * 4)
            return
        if kind not in _SCALARS:  # lists of lists too, which nobody writes
            self._refuse(f"{shown(key)} is a list of an unknown kind ({kind})")
        if key.rpartition(".")[2] in _COUNTED:
            for _ in range(count):
                self._check_count(key, self._scalar(kind))
        else:
            self._skip(count * struct.calcsize(f"<{_SCALARS[kind]}"))

    def _check_count(self, key: str, value: object) -> None:
        name = key.rpartition(".")[2]
        if name in _COUNTED and isinstance(value, (int, float)):
            most = getattr(self.limits, _COUNTED[name])
            if not 0 <= value <= most:
                self._refuse(f"{key} is {shown(value)}", f"at most {most:,}")

    def _check_tensors(self, count: int, alignment: int) -> None:
        spans, names = [], set()
        for _ in range(count):
            name, dimensions = self._text(65_535), self._number("I")
            if dimensions > _DIMENSIONS:
                self._refuse(f"{shown(name)} has {dimensions:,} dimensions")
            shape = [self._number("Q") for _ in range(dimensions)]
            kind, offset = self._number("I"), self._number("Q")
            try:
                block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
            except (KeyError, ValueError):
                self._refuse(f"{shown(name)} is of an unknown type ({kind})")
            if name in names or any(length < 1 for length in shape) or (shape[0] if shape else 1) % block:
                self._refuse(f"{shown(name)} has no proper shape, or is there twice ({shown(shape)})")
            names.add(name)
            spans.append((offset, offset + math.prod(shape) // block * size))
        start = -(-self.file.tell() // alignment) * alignment
        if any(start + end > self.size for _, end in spans):
            self._refuse("tensors lie beyond its end")
        spans.sort()
        if any(later < end for (_, end), (later, _) in pairwise(spans)):
            self._refuse("tensors overlap")

    def _number(self, kind: str) -> int:
        value = self._unpacked(kind)
        return int(value)

    def _scalar(self, kind: int) -> int | float | bool:
        if kind not in _SCALARS:
            self._refuse(f"a field is of an unknown kind ({kind})")
        return self._unpacked(_SCALARS[kind])

    def _unpacked(self, kind: str) -> int | float | bool:
        (value,) = struct.unpack(f"{self.order}{kind}", self._bytes(struct.calcsize(f"<{kind}")))
        found: int | float | bool = value
        return found

    def _text(self, most: int) -> str:
        length = self._number("Q")
        if length > most:
            self._refuse(f"a text has {length:,} bytes")
        return self._bytes(length).decode(errors="replace")

    def _bytes(self, count: int) -> bytes:
        found = self.file.read(count)
        if len(found) < count:
            self._refuse("it ends within its header")
        return found

    def _skip(self, count: int) -> None:
        if self.file.tell() + count > self.size:
            self._refuse("it ends within its header")
        self.file.seek(count, 1)

    def _refuse(self, what: str, hint: str = "") -> NoReturn:
        raise Refused(f"{self.path} is cut off or broken ({what}{', ' + hint if hint else ''}): download it again.")
