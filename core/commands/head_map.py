"""What commands read from `--head-map`."""

import json
from pathlib import Path

from core.plan import HeadMap, read_head_map
from core.records.files import MAX_RECORD_BYTES
from core.records.reading import read_file, strict_json


def head_map_of(given: str | None) -> HeadMap | None:
    """The head map in a JSON text, in a file of one, or in a record of scores. Raises ValueError for anything else."""
    if given is None:
        return None
    try:
        text = given if given.lstrip().startswith("{") else _text_of(Path(given).expanduser())
        stored = strict_json(text, numbers=False)
        return read_head_map(json.dumps(stored["head_map"]) if "head_map" in stored else text)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f'{given:.80} is no head map, which looks like {{"18": [0, 1, 2]}}: {error}.') from error


def _text_of(file: Path) -> str:
    return read_file(file, MAX_RECORD_BYTES).decode()
