"""What the weights files of a folder say they hold, read from their headers alone: no tensor is touched."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NoReturn

from core.admission.files import Folder, is_plain, shown

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_BITS = {
    "F64": 64, "I64": 64, "U64": 64, "C64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16,
    "U16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I8": 8, "U8": 8,
    "BOOL": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip
_DIMENSIONS = 16


@dataclass(frozen=True)
class Weights:
    """What is there: the number of tensors, and the bytes that they take."""

    tensors: int
    size: int


def check_weights(folder: Folder, config: Mapping[str, Any]) -> Weights | None:
    """What the files hold that would be loaded; None where there are none yet, or in a form without a header.

    Raises Refused for files that lie about themselves, that lie elsewhere or are missing, and for more than is admitted.
    """
    names = weights_files(folder, config)
    if not names:
        return None
    found = [_of_file(folder, name) for name in names if name.endswith(".safetensors")]
    whole = Weights(sum(one.tensors for one in found), sum(one.size for one in found))
    if whole.tensors > folder.limits.tensors or whole.size > folder.limits.weights_bytes:
        folder.refuse(
            f"has weights of {whole.tensors:,} tensors and {whole.size / 1e9:,.2f} GB, and {folder.limits.tensors:,} "
            f"and {folder.limits.weights_bytes / 1e9:,.2f} GB are the most",
            "give a smaller model",
        )
    return whole if found else None


def weights_files(folder: Folder, config: Mapping[str, Any]) -> list[str]:
    """The files that would be loaded, each looked at: transformers prefers one file, then an index, then pickles."""
    limits, named = folder.limits, config.get("transformers_weights")
    if named is not None:
        return _of_index(folder, named) if str(named).endswith(".json") else _present(folder, [str(named)])
    if folder.has(SINGLE):
        return _present(folder, [SINGLE])
    if folder.has(INDEX):
        return _of_index(folder, INDEX)
    pickled = next((name for name in PICKLED if folder.has(name)), None)
    if pickled is None:
        return []
    if not limits.pickles:
        folder.refuse(f"has its weights as {pickled}, a format that can hold code", "save them as safetensors")
    return _of_index(folder, pickled) if pickled.endswith(".json") else _present(folder, [pickled])


def _of_index(folder: Folder, index: str) -> list[str]:
    table = folder.json(index, folder.limits.index_bytes).get("weight_map")
    if not isinstance(table, dict) or not table:
        folder.refuse(f"has a {index} without a table of weights", "get the file again")
    if len(table) > folder.limits.tensors:
        folder.refuse(f"has a {index} of {len(table):,} tensors: {folder.limits.tensors:,} are the most", "check it")
    files: set[Any] = set()
    for name, file in table.items():
        if not is_plain(file):
            folder.refuse(f"has a {index} that looks for {shown(name)} outside of it, in {shown(file)}", "correct it")
        if index == INDEX and not file.endswith(".safetensors"):
            folder.refuse(f"has a {index} that names {shown(file)}, which is no safetensors file", "correct it")
        files.add(file)
    return _present(folder, sorted(files))


def _present(folder: Folder, names: list[str]) -> list[str]:
    for name in names:
        if not folder.has(name):
            folder.refuse(f"lacks {name}, in which weights should be", "copy or download it whole")
        folder.size(name, folder.limits.weights_bytes)
    return names


def _of_file(folder: Folder, name: str) -> Weights:
    with folder.open(name, folder.limits.weights_bytes) as file:
        size = folder.size(name, folder.limits.weights_bytes)
        length = int.from_bytes(file.read(8), "little")
        if size < 10 or length > min(size - 8, folder.limits.header_bytes):
            _broken(folder, name, "it does not hold the header that it speaks of")
        header = folder.parsed(name, folder.decoded(name, file.read(length)))
    if not isinstance(header, dict):
        _broken(folder, name, "its header is no JSON object")
    header.pop("__metadata__", None)
    if len(header) > folder.limits.tensors:
        _broken(folder, name, f"it speaks of {len(header):,} tensors")
    spans = sorted(_span(folder, name, tensor, about) for tensor, about in header.items())
    if any(end > start for (_, end), (start, _) in pairwise(spans)):
        _broken(folder, name, "tensors overlap")
    if spans and spans[-1][1] > size - 8 - length:
        _broken(folder, name, "tensors lie beyond its end")
    return Weights(len(spans), size)


def _span(folder: Folder, name: str, tensor: str, about: Any) -> tuple[int, int]:
    """Where the bytes of a tensor begin and end."""
    about = about if isinstance(about, dict) else {}
    bits, shape, span = _BITS.get(str(about.get("dtype"))), about.get("shape"), about.get("data_offsets")
    if bits is None:
        _broken(folder, name, f"{shown(tensor)} is of an unknown dtype, {shown(about.get('dtype'))}")
    if not _naturals(shape) or len(shape) > _DIMENSIONS or not _naturals(span) or len(span) != 2:
        _broken(folder, name, f"{shown(tensor)} has no proper shape and place ({shown(json.dumps([shape, span]))})")
    start, end = span
    if (end - start) * 8 != math.prod(shape) * bits:
        _broken(folder, name, f"{shown(tensor)} of shape {shown(shape)} takes other than {end - start:,} bytes")
    return start, end


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in value
    )


def _broken(folder: Folder, name: str, what: str) -> NoReturn:
    folder.refuse(f"has a {name} that is damaged ({what})", "copy or download its files again")
