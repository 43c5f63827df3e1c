"""GGUF files as a source of models: llama.cpp's format, one file with the weights, the sizes and the tokenizer.

transformers reads them (`gguf_file=`); here stands what a file is called, how it is found, what is wrong with a broken
one, and what the loaded model and tokenizer lack of the original ones.
"""

import functools
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any

import gguf
import torch
import transformers
from tokenizers import normalizers, pre_tokenizers
from transformers import PreTrainedModel, PreTrainedTokenizerBase, modeling_gguf_pytorch_utils

from core.admission import Limits, check_gguf

SUFFIX = ".gguf"
_ON_HUB = re.compile(r"([A-Za-z0-9][\w.-]*/[\w.-]+):([\w./-]+\.gguf)")
_DIGITS_ALONE = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell", "minerva-7b"})
"""Pre-tokenizers, by llama.cpp's names, that cut every digit off; transformers reads them as GPT-2's, which does not."""
_COMPOSED = frozenset({"qwen2", "deepseek-r1-qwen"})
"""Those of models whose tokenizer composes accents first (Unicode NFC), which a GGUF file does not say."""
_one_at_a_time = Lock()
_FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True)
class GgufFile:
    """One file, readable and whole."""

    path: Path
    limits: Limits = field(default_factory=Limits)

    @property
    def folder(self) -> str:
        """Where it lies, which transformers takes for the model."""
        return str(self.path.parent)

    @property
    def arguments(self) -> dict[str, Any]:
        """What every `from_pretrained` is told beside the folder."""
        return {"gguf_file": self.path.name}

    @functools.cached_property
    def header(self) -> gguf.GGUFReader:
        """What the file says of itself. Raises ValueError for a file that is none, broken, or beyond the limits."""
        check_gguf(self.path, self.limits)
        try:
            return gguf.GGUFReader(self.path)
        except Exception as error:  # of a file that is cut off it raises whatever the missing bytes lead to
            raise ValueError(f"{self.path} is cut off or broken: download it again.") from error

    @property
    def quantization(self) -> str:
        """What its weights are dequantized from: `GGUF Q4_1`, as llama.cpp names the mixture of the whole file."""
        named = self.header.get_field("general.file_type")
        try:
            name = gguf.LlamaFileType(named.contents()).name if named else ""
        except ValueError:  # a type that is younger than the library
            name = ""
        return f"GGUF {re.sub('^(MOSTLY|ALL)_', '', name) or self._largest_type()}"

    @property
    def dtype(self) -> torch.dtype:
        """The number format that loses nothing but what quantization lost: the file's own, or bfloat16 for blocks."""
        types = {tensor.tensor_type.name for tensor in self.header.tensors}
        if not types <= set(_FLOATS):
            return torch.bfloat16  # what nearly all models are trained in
        return _FLOATS[next(name for name in ("BF16", "F16", "F32") if name in types)]

    def _largest_type(self) -> str:
        sizes: dict[str, int] = {}
        for tensor in self.header.tensors:
            name = tensor.tensor_type.name
            sizes[name] = sizes.get(name, 0) + int(tensor.n_bytes)
        return max(sizes, key=lambda name: sizes[name], default="of unknown type")

    def finish(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        """Make of what transformers loaded what an ordinary folder would give: to be saved, shared and trained on."""
        for name in ("hf_quantizer", "quantization_method"):
            if hasattr(model, name):
                delattr(model, name)  # the weights are plain numbers now, but a model that has these is not saved
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.config.dequantized_from = self.quantization
        self._correct(tokenizer)

    def _correct(self, tokenizer: PreTrainedTokenizerBase) -> None:
        named, backend = self.header.get_field("tokenizer.ggml.pre"), getattr(tokenizer, "backend_tokenizer", None)
        kind = named.contents() if named else ""
        if backend is None:
            return
        if kind in _DIGITS_ALONE:
            byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
            digits = pre_tokenizers.Digits(individual_digits=True)
            backend.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
        if kind in _COMPOSED:
            backend.normalizer = normalizers.NFC()


def quantization_of(model: torch.nn.Module) -> str | None:
    """What a model's weights were dequantized from, `GGUF Q4_1`; None for weights as they were trained."""
    return getattr(getattr(model, "config", None), "dequantized_from", None)


def _path_named(name: str) -> Path:
    """The path that somebody typed; that of nothing where there can be none by that name."""
    with suppress(OSError, RuntimeError, ValueError):
        path = Path(name).expanduser()
        path.exists()  # too long a name, or an unknown user's home, shows here
        return path
    return Path(os.devnull) / "none"


def gguf_file(name: str, fetch: Callable[[str, str], str], limits: Limits | None = None) -> GgufFile | None:
    """The file that a user's text means: a path, a folder that holds one, or `hub-id:file.gguf`; None for other models.

    fetch: gets a hub id and a file there, and gives the path of the local copy.
    Raises ValueError for a file that is missing or broken, and for a folder with several; what `fetch` raises.
    """
    path, on_hub = _path_named(name), _ON_HUB.fullmatch(name)
    if path.is_dir():
        found = None if (path / "config.json").is_file() else _only_file(path)
    elif path.is_file():
        found = path if path.suffix.lower() == SUFFIX else None
    elif on_hub:
        found = Path(fetch(on_hub[1], on_hub[2]))
    elif path.suffix.lower() == SUFFIX:
        raise ValueError(f"There is no file {name}: check the path. A file on the hub is written hub-id:file.gguf.")
    else:
        return None
    if found is None:
        return None
    file = GgufFile(found, limits or Limits())
    _ = file.header  # whether it can be read
    return file


def _only_file(folder: Path) -> Path | None:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() == SUFFIX)
    if len(files) > 1:
        raise ValueError(
            f"The folder {folder} holds {len(files)} GGUF files ({', '.join(path.name for path in files[:3])}"
            f"{', …' * (len(files) > 3)}): name the one to load."
        )
    return files[0] if files else None


def dequantizing() -> dict[str, Any]:
    """What transformers is told so that weights are not left packed where it could compute with packed ones."""
    config = getattr(transformers, "GgufConfig", None)  # older versions always dequantize
    return {} if config is None else {"quantization_config": config(dequantize=True)}


@contextmanager
def loading(file: GgufFile) -> Iterator[None]:
    """While transformers loads a file: no bar is drawn, and the header is not parsed again by each part that asks for it.

    transformers parses all of it four times, and makes the same table of names anew for every module: three quarters
    of the time that it takes to load a model. One load at a time, because functions of modules are replaced for it.
    """
    reader, names = gguf.GGUFReader, gguf.get_tensor_name_map

    def read(path: Any, *arguments: Any) -> gguf.GGUFReader:
        return file.header if Path(path).resolve() == file.path.resolve() else reader(path, *arguments)

    with (
        _one_at_a_time,
        _replaced(gguf, GGUFReader=read, get_tensor_name_map=functools.cache(names)),
        _replaced(modeling_gguf_pytorch_utils, tqdm=lambda items, **_: items),
    ):
        yield


@contextmanager
def _replaced(module: ModuleType, **replacements: Any) -> Iterator[None]:
    before = {name: getattr(module, name) for name in replacements}
    vars(module).update(replacements)
    try:
        yield
    finally:
        vars(module).update(before)
