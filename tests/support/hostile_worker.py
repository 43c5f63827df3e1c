"""Loads model folders one after the other, each in a process of its own with bounded memory and time; prints what came.

One line of JSON each: what was said, whether a text goes through the model, the seconds, the memory in MB beyond what a
process that has loaded nothing takes. `fork` makes such a process in a moment, with torch imported.
"""

import json
import os
import resource
import select
import signal
import sys
import time
from pathlib import Path

import torch

from core import load_model
from core.decoding.chat import chat_ids, has_template
from core.tokens import prompt_ids

MEMORY = 3 << 30  # bytes of addresses beyond those in use
SECONDS = 30


def said_of(folder: str) -> str:
    """The sentence by which a folder is refused; `LOADS` for a model that does with a text what it should."""
    try:
        model, tokenizer = load_model(folder, device="cpu")
    except ValueError as error:
        return str(error)
    ids = torch.tensor([prompt_ids(tokenizer, "The cats & 37 dogs.")])
    with torch.inference_mode():
        sound = bool(model(ids.clamp(max=model.config.vocab_size - 1)).logits.isfinite().all())
    if has_template(tokenizer):
        try:
            chat_ids(tokenizer, "Who are you?")
        except ValueError as error:
            return f"CHAT {error}"
    return "LOADS" if sound else "NO NUMBERS"


def in_a_process(folder: str) -> tuple[str, float, int]:
    """(what was said, seconds, the most memory in kB)."""
    reading, writing = os.pipe()
    start = time.monotonic()
    if not (process := os.fork()):
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        try:
            words = said_of(folder)
        except BaseException as error:  # noqa: BLE001 - it is what the test is about
            words = f"RAISED {type(error).__name__}: {error}"
        os.write(writing, words.encode(errors="replace")[:4000])
        os._exit(0)
    os.close(writing)
    if not select.select([reading], [], [], SECONDS)[0]:
        os.kill(process, signal.SIGKILL)
    words = os.read(reading, 4096).decode()
    os.close(reading)
    _, status, used = os.wait4(process, 0)
    return words or f"ENDED by {status}", time.monotonic() - start, used.ru_maxrss


def main() -> None:
    torch.set_num_threads(1)
    load_model(sys.argv[1], device="cpu")  # what every load imports is imported once
    base = in_a_process("/no/such/folder")[2]
    for folder in sys.argv[1:]:
        words, seconds, memory = in_a_process(folder)
        print(json.dumps([Path(folder).name, words, round(seconds, 2), (memory - base) // 1000]), flush=True)


if __name__ == "__main__":
    main()
