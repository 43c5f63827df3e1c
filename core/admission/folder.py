"""One look at a model folder before anything is made of it."""

from pathlib import Path
from typing import Any

from core.admission.configs import check_config, check_extent
from core.admission.files import Folder, is_plain, shown
from core.admission.limits import Limits
from core.admission.tokenizer_files import check_tokenizer_files
from core.admission.weights import Weights, check_weights

_SHARDED = "shard-"  # how torch.distributed calls its files, beside which it keeps a pickled table


def check_folder(path: str | Path, limits: Limits | None = None) -> Weights | None:
    """Raises Refused, a ValueError of one sentence, for a folder that is not admitted; takes little time and memory.

    Returns what its safetensors files hold, None where there are none (yet). Looks at the files that are read to load a
    model: config.json and its like, the tokenizer, chat templates, and the headers of the weights. Others may be anything.
    """
    folder = Folder(Path(path), limits or Limits())
    names = folder.names()
    config = check_config(folder)
    others = config.get("configuration_files")
    for name in others if isinstance(others, list) else []:
        if is_plain(name) and folder.has(name):
            check_config(folder, name)
    _check_generation(folder, config)
    check_tokenizer_files(folder)
    if any(name.startswith(_SHARDED) and name.endswith(".safetensors") for name in names):
        folder.refuse(
            "holds a checkpoint of torch.distributed, whose table is a pickle", "save it with save_pretrained()"
        )
    return check_weights(folder, config)


def _check_generation(folder: Folder, config: dict[str, Any]) -> None:
    for name in ("generation_config.json", "adapter_config.json"):
        if folder.has(name):
            check_extent(folder, name, folder.json(name, folder.limits.config_bytes))
    plan, heads = config.get("sharing_plan"), config.get("sharing_head_map")
    if plan is not None and not isinstance(plan, str):
        folder.refuse(
            f"has a config.json with sharing_plan = {shown(plan)}, which must be a text", "write it as in 2-4"
        )
    if heads is None:
        return
    rows = list(heads.items()) if isinstance(heads, dict) else [(None, heads)]
    for layer, row in rows:
        sound = isinstance(row, list) and all(isinstance(head, int) and not isinstance(head, bool) for head in row)
        if (
            not sound
            or not str(layer).isdecimal()
            or len(row) > folder.limits.heads
            or len(rows) > folder.limits.layers
        ):
            folder.refuse(
                f"has a config.json with sharing_head_map = {shown(heads)}",
                'each follower has a list of heads, {"3": [0, 1]}',
            )
