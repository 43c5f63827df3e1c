"""Where the documents of a run come from: a text file, JSON lines, or a data set on the Hugging Face hub."""

import hashlib
import io
import json
import lzma
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.admission import NO_CODE
from core.models import hub_is_reachable
from core.records.json_lines import Faults, read_json_lines, shorten
from core.records.reading import Unreadable, fault_of, read_file, shown
from core.tokens import documents_of

MAX_BYTES = 2**31
"""Of a file, and of what a packed one holds."""
END_OF_TEXT = "<|endoftext|>"
"""Alone on a line, it stands between the documents of a text; a text without it has empty lines between them."""
ROLES = ("system", "user", "assistant")
FORMS = 'give {"text"}, {"prompt", "response"} or {"messages"}'
_TEXTS, _LINES = (".txt", ".txt.xz"), (".jsonl", ".jsonl.xz")
_HUB_DATA = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?(:[\w.-]+)?")


@dataclass(frozen=True)
class Document:
    """A text, or a conversation of which the answers are learnt: (role, content) of each message, an answer last."""

    text: str = ""
    messages: tuple[tuple[str, str], ...] = ()
    line: int = 0  # of the file, for sentences about it

    @property
    def sha256(self) -> str:
        """Hash of its words: the same text in another layout is the same document."""
        words = [
            " ".join(part.split()) for part in (self.text, *(part for message in self.messages for part in message))
        ]
        return hashlib.sha256(json.dumps(words).encode()).hexdigest()

    def checked(self) -> "Document":
        """Itself. Raises ValueError, in words that follow the number of a line, where nothing is answered."""
        if not self.messages or self.messages[-1][0] != "assistant" or not self.messages[-1][1].strip():
            raise ValueError("ends without an answer: its last message must be the assistant's, and not empty")
        if any(role == "system" for role, _ in self.messages[1:]):
            raise ValueError("has a system message that is not the first")
        return self


@dataclass
class Source:
    """Documents of one place, in its order, to be gone through once, as far as is needed.

    sha256, bytes: of the file; of a data set on the hub of the documents that were read, and complete when that ends.
    """

    name: str
    documents: Iterator[Document]
    sha256: str = ""
    bytes: int = 0
    _digest: Any = field(default_factory=hashlib.sha256)

    def __iter__(self) -> Iterator[Document]:
        from_hub = not self.sha256
        for document in self.documents:
            if from_hub:
                content = json.dumps([document.text, document.messages], ensure_ascii=False).encode()
                self._digest.update(content + b"\n")
                self.bytes += len(content) + 1
                self.sha256 = self._digest.hexdigest()
            yield document


def source_of(data: str | Path, split: str = "train") -> Source:
    """The documents of a file or of a data set on the hub (`owner/name`, `owner/name:configuration`, of which `split`).

    Raises ValueError, in one sentence, for what is neither, and while they are gone through, for what cannot be read.
    """
    name = str(data).strip()
    path = Path(name).expanduser()
    if path.exists() or name.endswith((*_TEXTS, *_LINES)):
        return _of_file(path)
    if not _HUB_DATA.fullmatch(name):
        raise ValueError(
            f"There is no file {shown(name)}, and it is no data set on the hub, such as owner/name: give a file that ends "
            f"in {', '.join((*_TEXTS, *_LINES))}."
        )
    return Source(name if split == "train" else f"{name} ({split})", _hub_documents(name, split))


def _of_file(path: Path) -> Source:
    named = shown(path.name)
    if not path.name.endswith((*_TEXTS, *_LINES)):
        raise ValueError(f"{named} is no text that is known: give a file that ends in {', '.join((*_TEXTS, *_LINES))}.")
    try:
        raw = read_file(path, MAX_BYTES)
    except FileNotFoundError as error:
        raise ValueError(f"There is no file {shown(path)}: check the path.") from error
    except (OSError, Unreadable) as error:
        raise ValueError(f"{named} {fault_of(error)}.") from error
    content = _unpacked(raw, named) if path.suffix == ".xz" else raw
    is_text = path.name.endswith(_TEXTS)
    documents = _texts(content, named) if is_text else _lines(content, named)
    return Source(named, documents, hashlib.sha256(raw).hexdigest(), len(raw))


def _unpacked(raw: bytes, name: str) -> bytes:
    try:
        with lzma.open(io.BytesIO(raw)) as file:
            content = file.read(MAX_BYTES + 1)
    except (lzma.LZMAError, EOFError) as error:
        raise ValueError(f"{name} is not packed by xz, or was cut short.") from error
    if len(content) > MAX_BYTES:
        raise ValueError(f"{name} has more than {MAX_BYTES:,} bytes when it is unpacked: split it.")
    return content


def _texts(content: bytes, name: str) -> Iterator[Document]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not a text file in UTF-8.") from error
    parts = re.split(rf"^{re.escape(END_OF_TEXT)}\r?\n", text, flags=re.MULTILINE)
    documents = documents_of(text) if len(parts) == 1 else [part.strip("\r\n") for part in parts if part.strip()]
    return (Document(document) for document in documents)


def _lines(content: bytes, name: str) -> Iterator[Document]:
    """Every line is looked at first, so that all faults are named before anything is computed."""
    faults, found, kinds = Faults(name), [], set()
    for number, row in read_json_lines(content, faults, MAX_BYTES):
        with faults.of_line(number):
            document = document_of(row, number)
            kinds.add(bool(document.messages))
            if len(kinds) > 1:
                raise ValueError("is of another kind than the lines before: put texts and conversations in two files")
            found.append(document)
    faults.check()
    return (document for document in found if document.messages or document.text.strip())


def document_of(row: dict[str, Any], line: int = 0) -> Document:
    """What one row of JSON lines or of a data set holds; other fields are passed over.

    Raises ValueError, in words that follow the number of the line.
    """
    if isinstance(row.get("messages"), list):
        return Document(messages=tuple(map(_message, row["messages"])), line=line).checked()
    if "prompt" in row and "response" in row:
        pair = tuple((role, _text(row, name)) for role, name in (("user", "prompt"), ("assistant", "response")))
        return Document(messages=pair, line=line).checked()
    if "text" in row:
        return Document(_text(row, "text"), line=line)
    raise ValueError(f"has the fields {shorten(', '.join(sorted(map(str, row))))}: {FORMS}")


def _text(row: dict[str, Any], name: str) -> str:
    if isinstance(row[name], str):
        return row[name]
    raise ValueError(f"has a {name} that is no text but {shorten(row[name])}")


def _message(message: Any) -> tuple[str, str]:
    if not isinstance(message, dict) or not all(isinstance(message.get(key), str) for key in ("role", "content")):
        raise ValueError(f'has a message that is not {{"role", "content"}} but {shorten(message)}')
    if message["role"] not in ROLES:
        raise ValueError(f"has a message of the role {shorten(message['role'])}: there are {', '.join(ROLES)}")
    return message["role"], message["content"]


def _hub_documents(name: str, split: str) -> Iterator[Document]:
    repository, _, configuration = name.partition(":")
    for number, row in enumerate(_hub_rows(repository, configuration or None, split), 1):
        try:
            document = document_of(row, number)
        except ValueError as error:
            raise ValueError(f"{shown(name)}, row {number} {error}.") from error
        if document.messages or document.text.strip():
            yield document


def _hub_rows(name: str, configuration: str | None, split: str) -> Iterator[dict[str, Any]]:
    """The rows of a data set, as far as they are asked for. Code of a repository is never run."""
    import datasets  # here: files need none of it

    try:
        found: Any = datasets.load_dataset(
            name, configuration, split=split, streaming=hub_is_reachable(), **dict(NO_CODE)
        )
        yield from found
    except Exception as error:  # nearly anything: what a user needs is one sentence
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise ValueError(
            f"Could not read the data set {shown(name)} ({split}) from the hub ({reason or type(error).__name__}): check "
            "its name, configuration and split, connect to the network, or give a file."
        ) from error
