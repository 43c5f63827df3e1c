"""Which part of a configuration is that of the decoder. Sizes are read there and nowhere else.

A model that reads images or sound too (Gemma 3 from 4B on, Mistral 3, Qwen2-VL) has a configuration of several parts:
layers, heads and vocabulary stand in the one for text. What such a model has on its outside (`tie_word_embeddings`)
decides for its parts.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


def text_config(source: "PreTrainedModel | PreTrainedConfig") -> Any:
    """The configuration of the decoder in a model, or in a configuration: its own one, for a model of text alone."""
    config: Any = getattr(source, "config", source)
    return config.get_text_config(decoder=True)


def context_tokens(source: "PreTrainedModel | PreTrainedConfig") -> int | None:
    """The longest context in tokens that the decoder was made for; None where its configuration does not say."""
    config = text_config(source)
    names = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")  # the last is MPT's
    return next((value for name in names if (value := getattr(config, name, None))), None)


def spelled_windows(pattern: str, num_layers: int) -> list[bool]:
    """Whether each layer has a sliding window, from a pattern such as EXAONE's `LLLG`, which repeats.

    L is a local window, G sees everything; the last layer always does. Raises ValueError for other letters.
    """
    if not pattern or set(pattern) - {"L", "G"}:
        raise ValueError(
            f"The model's configuration has sliding_window_pattern = {pattern!r}: it must be a whole number, or L for "
            "each layer with a window and G for each other one, such as LLLG."
        )
    return [pattern[layer % len(pattern)] == "L" and layer != num_layers - 1 for layer in range(num_layers)]


def kv_sources(fields: Mapping[str, Any]) -> tuple[int | None, ...]:
    """For each decoder layer the one whose keys and values it reads, or None where it makes its own; () where all do.

    fields: of the decoder's configuration, as its `to_dict` gives them. In Gemma 3n and Gemma 4 the last
    `num_kv_shared_layers` read the last layer of their own type before these; in Mistral Large 4 `kv_source_layers` names
    the layers. Raises ValueError where there is no layer to read.
    """
    named, shared = fields.get("kv_source_layers"), fields.get("num_kv_shared_layers")
    if named is not None:
        sources = tuple(None if source == layer else source for layer, source in enumerate(named))
        return sources if any(source is not None for source in sources) else ()
    if not shared:
        return ()
    types = fields.get("layer_types") or ()
    first = len(types) - shared
    own = {kind: layer for layer, kind in enumerate(types[: max(first, 0)])}
    if not types or not set(types) <= own.keys():
        raise ValueError(
            f"The model's configuration has num_kv_shared_layers = {shared} and {len(types)} layer_types: before the layers "
            "that share there must be one of each of their types, which they read."
        )
    return (None,) * first + tuple(own[kind] for kind in types[first:])
