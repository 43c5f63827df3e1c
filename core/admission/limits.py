"""How large a model may be, by default far beyond the largest there is, and that its code never runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

NO_CODE: Final[Mapping[str, bool]] = {"trust_remote_code": False}
"""What every load through transformers is told. Left out, it asks on standard input, and `yes |` runs a stranger's code."""

MB, GB = 1_000_000, 1_000_000_000


class Refused(ValueError):
    """A model that is not admitted, in one sentence."""


@dataclass(frozen=True)
class Limits:
    """What is admitted. Counts are of each part of a model; sizes of files are in bytes.

    pickles: whether weights may come as PyTorch's `.bin` files (read as plain tensors, never as objects).
    inside: whether every file must lie in the folder itself, or where it is a snapshot in the hub's cache, in that
        model's part of the cache. Without it links may lead anywhere, as people make them on machines of their own.
    """

    layers: int = 1_000  # the most there are: 126 (Llama 3.1 405B)
    width: int = 1 << 20  # of a vector: hidden, intermediate, one head; 73,728 (Nemotron-4 340B)
    heads: int = 4_096  # 232 (Falcon 180B)
    vocabulary: int = 2_000_000  # tokens; 901,629 (XLM-V)
    experts: int = 4_096  # of one layer; 512 (Qwen3-Next)
    layers_times_experts: int = 1 << 17  # 24,576 (Qwen3-Next)
    positions: int = 1 << 27  # 10,485,760 (Llama 4 Scout)
    token_letters: int = 10_000  # of the longest token
    added_tokens: int = 100_000  # 65,729 of a model that speaks
    growth: int = 1_000  # times that a tokenizer may lengthen a text before it cuts it up
    tensors: int = 1_000_000  # 91,991 (DeepSeek-V3)
    weights_bytes: int = 4_000 * GB  # of all files; 1,030 GB (Kimi K2)
    files: int = 5_000
    config_bytes: int = 4 * MB  # config.json, generation_config.json and their like
    tokenizer_bytes: int = 64 * MB  # of each file of a tokenizer; 33 MB (Gemma 3)
    index_bytes: int = 64 * MB  # 15 MB (Kimi K2)
    header_bytes: int = 64 * MB  # of one weights file
    template_bytes: int = MB  # of a chat template; 17 kB (Llama 3.1)
    pickles: bool = True
    inside: bool = False
