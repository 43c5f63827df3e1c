"""llama.cpp as a peer, through the low-level functions of llama-cpp-python, on a CPU.

The token is chosen by numpy in one thread: torch's own threads would still be spinning when llama.cpp's go on.
"""

import ctypes
import logging
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from core.sharing.families import vocab_size_of
from core.timing.peers.gguf_export import write_gguf
from core.timing.peers.peer import LeftOut, Peer

PACKAGE = "llama-cpp-python"
MISSING = (
    f"{PACKAGE} is not installed: pip install {PACKAGE}, which compiles llama.cpp (a C++ compiler and up to an hour on "
    "two cores)."
)


def library() -> ModuleType:
    """The package. Raises LeftOut where it is not installed, or does not load."""
    try:
        import llama_cpp
    except ModuleNotFoundError as error:
        raise LeftOut(MISSING) from error
    except (OSError, RuntimeError) as error:  # compiled for another machine
        raise LeftOut(f"{PACKAGE} is installed but does not load: {str(error).splitlines()[0]}") from error
    logging.getLogger(PACKAGE).setLevel(logging.CRITICAL)  # or it warns of the tokenizer that it was not given
    module: ModuleType = llama_cpp
    return module


def about() -> tuple[str, str]:
    """(version of the package, what llama.cpp says it was compiled for)."""
    return version(PACKAGE), library().llama_print_system_info().decode().strip()


class LlamaPeer(Peer):
    """A dense model in llama.cpp: weights and cache in `precision`, all else as it comes.

    In float32 without flash attention, which would round the whole cache to float16 in every step. threads: for prompts and steps alike. Raises LeftOut for a model of another shape, or where the package is missing.
    """

    def __init__(self, model: PreTrainedModel, batch_size: int, max_tokens: int, precision: str, threads: int):
        self.lib: Any = library()
        self.precision, self.path = precision, "llama.cpp"
        self.vocabulary, self.rows, self.threads = vocab_size_of(model), batch_size, threads
        with TemporaryDirectory(prefix="shared-attention-") as folder:
            file = Path(folder) / "model.gguf"
            write_gguf(model, file, precision, max_tokens)
            settings = self.lib.llama_model_default_params()
            settings.use_mmap = False  # the file is gone when the model runs
            self.model = self.lib.llama_model_load_from_file(str(file).encode(), settings)
        if not self.model:
            raise LeftOut("llama.cpp did not read the file that was written for it.")
        self.context = self.lib.llama_init_from_model(self.model, self._settings(batch_size, max_tokens))
        if not self.context:
            raise LeftOut(f"llama.cpp found no room for {batch_size} × {max_tokens:,} tokens.")
        self.batch = self.lib.llama_batch_init(max(batch_size, self.lib.llama_n_batch(self.context)), 0, 1)

    def _settings(self, batch_size: int, max_tokens: int) -> Any:
        settings = self.lib.llama_context_default_params()
        settings.n_ctx, settings.n_seq_max = batch_size * max_tokens, batch_size
        settings.n_threads = settings.n_threads_batch = self.threads
        if self.precision == "float32":
            settings.type_k = settings.type_v = self.lib.GGML_TYPE_F32
            settings.flash_attn_type = self.lib.LLAMA_FLASH_ATTN_TYPE_DISABLED  # it would round the whole cache to F16
        return settings

    def read(self, prompt: torch.Tensor) -> torch.Tensor:
        """See `Peer.read`."""
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)
        self.length, room = prompt.shape[1], self.lib.llama_n_batch(self.context)
        last = []
        for row, tokens in enumerate(prompt.tolist()):
            for begin in range(0, self.length, room):
                part = tokens[begin : begin + room]
                self._decode([(token, begin + place, row) for place, token in enumerate(part)], {len(part) - 1})
            last.append(self._logits(len(part) - 1).copy())
        return torch.from_numpy(np.stack(last))

    def step(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Peer.step`."""
        self._decode([(token, self.length, row) for row, token in enumerate(tokens.tolist())], set(range(self.rows)))
        self.length += 1
        logits = np.stack([self._logits(row) for row in range(self.rows)]) if self.rows > 1 else self._logits(0)[None]
        return torch.from_numpy(logits.argmax(-1)), torch.from_numpy(logits)

    def _decode(self, tokens: list[tuple[int, int, int]], wanted: set[int]) -> None:
        """Run tokens (id, position, row), and make the logits of the wanted ones."""
        batch = self.batch
        batch.n_tokens = len(tokens)
        for place, (token, position, row) in enumerate(tokens):
            batch.token[place], batch.pos[place] = token, position
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, row
            batch.logits[place] = place in wanted
        if code := self.lib.llama_decode(self.context, batch):
            raise RuntimeError(f"llama_decode failed with code {code} at {self.length:,} tokens.")

    def _logits(self, place: int) -> np.ndarray:
        pointer = self.lib.llama_get_logits_ith(self.context, place)
        return np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float)), (self.vocabulary,))

    def close(self) -> None:
        """See `Peer.close`: memory that Python does not count."""
        self.lib.llama_batch_free(self.batch)
        self.lib.llama_free(self.context)
        self.lib.llama_model_free(self.model)
