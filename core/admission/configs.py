"""Whether a configuration describes a model that can be built: numbers where numbers stand, and none beyond the limits.

Families call the same thing by many names, and nest parts for text, images and sound. So it is by their names that
fields are known, in every part alike; what a field that is not known means is left to the library.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from core.admission.files import Folder, is_plain, is_too_deep, shown

_KINDS: tuple[tuple[re.Pattern[str], str, str], ...] = tuple(
    (re.compile(pattern), limit, what)
    for pattern, limit, what in (
        (r"^n_layers?$|_layers$|^(num_)?layers$|^depth$|(^|_)num_(hidden_)?blocks$|^n_blocks?$", "layers", "layers"),
        (r"^(n|num|moe_num|n_routed|n_shared|num_local|moe)_.*experts$|^num_experts_per|^moe_topk$", "experts", "experts"),
        (r"^(n|num)_.*heads?(_kv|_groups)?$|_heads$|^n_head(_kv)?$", "heads", "heads"),
        (r"vocab_size|^num_embeddings$", "vocabulary", "tokens"),
        (r"position_embeddings$|^n_positions$|^n_ctx$|^max_seq_len$|_position(s)?$", "positions", "positions"),
        (r"_(size|dim|rank|width|channels)$|^(d_model|n_embd|n_inner|d_ff|d_kv|ffn_dim|dim)$", "width", "numbers wide"),
    )
)  # fmt: skip
_FREE = re.compile(r"window|chunk|image_size|seq_len_|_token_|_id$|_index$")
"""Sizes of what is looked at, not of what is built."""
_NEEDED = ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size")
_WHOLE = frozenset({*_NEEDED, "num_key_value_heads", "n_layer", "n_head", "n_embd", "num_layers", "n_layers"})
"""One number each, for all layers alike."""
_POSITIVE = frozenset({"rope_theta", "rotary_emb_base", "rope_local_base_freq", "factor", "partial_rotary_factor"})
_EPSILON = re.compile(r"(^|_)(eps|epsilon)$")
_MODULES = re.compile(r"^[\w|.-]+$")
_LETTERS = 100_000
_ENTRIES = 200_000


def check_config(folder: Folder, name: str = "config.json") -> dict[str, Any]:
    """The configuration in a file. Raises Refused where it is of none that can be built."""
    config = folder.json(name, folder.limits.config_bytes)
    check_extent(folder, name, config)
    for at, part in _parts("", config):
        for key, value in part.items():
            where = f"{name} with {at}{key} = {shown(value)}"
            _check_count(folder, where, key, value)
            _check_number(folder, where, key, value)
        _check_together(folder, name, at, part)
    _check_code(folder, name, config)
    return config


def check_extent(folder: Folder, name: str, content: dict[str, Any]) -> None:
    """Raises Refused for a file that is nested too deeply, has too many entries, or a text of unlikely length."""
    if is_too_deep(content):
        folder.refuse(f"has a {name} that is nested too deeply", "give the file that belongs to the model")
    level: list[dict[str, Any] | list[Any]] = [content]
    entries = 0
    while level:
        inside = [one for outer in level for one in (outer.values() if isinstance(outer, dict) else outer)]
        entries += len(inside)
        if entries > _ENTRIES:
            folder.refuse(
                f"has a {name} with more than {_ENTRIES:,} entries", "give the file that belongs to the model"
            )
        if any(isinstance(one, str) and len(one) > _LETTERS for one in inside):
            folder.refuse(f"has a {name} with a text of more than {_LETTERS:,} letters", "take it out")
        level = [one for one in inside if isinstance(one, (dict, list))]


def _parts(at: str, part: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The configuration and every object in it, with where it stands."""
    yield at, part
    for key, value in part.items():
        if isinstance(value, dict) and key not in ("id2label", "label2id"):
            yield from _parts(f"{at}{key}.", value)


def _check_count(folder: Folder, where: str, key: str, value: Any) -> None:
    kind = next(((limit, what) for pattern, limit, what in _KINDS if pattern.search(key)), None)
    if kind is None or _FREE.search(key) or isinstance(value, dict) or (value is None and key not in _NEEDED):
        return None
    limit, what = kind
    most = getattr(folder.limits, limit)
    values = value if isinstance(value, list) and key not in _WHOLE else [value]
    if isinstance(value, list) and (len(value) > folder.limits.layers or not all(map(_is_number, value))):
        return _check_list(folder, where, value)
    if key not in _WHOLE and not all(map(_is_number, values)):
        return None  # a name that means something else in this family
    for one in values:
        if not isinstance(one, int) or isinstance(one, bool):
            folder.refuse(f"has a {where}, which must be a whole number", "give the config.json that belongs to it")
        if one < (key in _NEEDED) or one > most:
            folder.refuse(f"has a {where}: it must be from {int(key in _NEEDED)} to {most:,} {what}", "correct it")
    return None


def _check_list(folder: Folder, where: str, value: list[Any]) -> None:
    if len(value) > folder.limits.layers:
        folder.refuse(f"has a {where}, a list of {len(value):,} entries", "correct it")


def _check_number(folder: Folder, where: str, key: str, value: Any) -> None:
    if key in _POSITIVE and value is not None and not isinstance(value, dict):
        if not _is_number(value) or not 0 < value < math.inf:
            folder.refuse(f"has a {where}, which must be a number above 0", "correct it")
    elif _EPSILON.search(key) and value is not None and (not _is_number(value) or not 0 <= value < 1):
        folder.refuse(f"has a {where}, which must be a number from 0 to 1", "correct it")
    elif isinstance(value, float) and not math.isfinite(value):
        folder.refuse(f"has a {where}, which is no number", "correct it")
    elif key in ("short_factor", "long_factor") and (
        not isinstance(value, list) or not all(_is_number(one) and 0 < one < math.inf for one in value)
    ):
        folder.refuse(f"has a {where}, which must be a list of numbers above 0", "correct it")


def _check_together(folder: Folder, name: str, at: str, part: Mapping[str, Any]) -> None:
    """What each field says may be well, and the whole impossible."""
    heads, shared = part.get("num_attention_heads"), part.get("num_key_value_heads")
    if isinstance(heads, int) and isinstance(shared, int) and (shared < 1 or heads % shared):
        folder.refuse(
            f"has a {name} with {heads} attention heads that cannot share {shared} heads of keys and values",
            "one number must be a multiple of the other",
        )
    if isinstance(heads, int) and not part.get("head_dim") and part.get("model_type") in ("llama", "mistral", "qwen2"):
        width = part.get("hidden_size")
        if isinstance(width, int) and width % heads:
            folder.refuse(f"has a {name} with a width of {width}, which {heads} heads cannot share", "correct it")
    layers, kinds = part.get("num_hidden_layers"), part.get("layer_types")
    named = isinstance(kinds, list) and all(isinstance(kind, str) for kind in kinds) and len(kinds) == layers
    if isinstance(layers, int) and kinds is not None and not named:
        folder.refuse(
            f"has a {name} whose {at}layer_types do not name the kind of each of {layers} layers", "correct it"
        )
    experts = [value for key, value in part.items() if _KINDS[1][0].search(key) and isinstance(value, int)]
    if isinstance(layers, int) and layers * max(experts, default=1) > folder.limits.layers_times_experts:
        folder.refuse(
            f"has a {name} with {layers} layers of {max(experts):,} experts, and "
            f"{folder.limits.layers_times_experts:,} is the most of all layers together",
            "give a smaller model",
        )


def _check_code(folder: Folder, name: str, config: Mapping[str, Any]) -> None:
    """Fields by which a file names code to be fetched, or other files to be read."""
    for _, part in _parts("", dict(config)):
        for key in ("attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation"):
            for value in _texts(part.get(key)):
                if not _MODULES.match(value):
                    folder.refuse(
                        f"has a {name} that asks for code of a repository ({key} = {shown(value)})", "take it out"
                    )
    named: list[Any] = [config.get("transformers_weights"), *_texts(config.get("configuration_files"))]
    for file in named:
        if file is not None and not is_plain(file):
            folder.refuse(f"has a {name} that names a file outside of it ({shown(file)})", "take it out")


def _texts(value: Any) -> list[str]:
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, str)]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
