"""Model folders as somebody makes them who wants a server to fall: each a sound one with one thing changed."""

import json
import os
import shutil
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from tests.support.gguf_files import write_gguf
from tests.support.models import tiny_model
from tests.support.tokenizers import byte_tokenizer

Make = Callable[[Path], None]
LOADS = None
"""What is expected where a folder is no harm: the model of the sound one, which writes the same numbers."""
TEMPLATE = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}{% endfor %}"


def sound(folder: Path) -> Path:
    """A tiny model with its tokenizer."""
    tiny_model(vocab_size=257).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def change(name: str, **fields: Any) -> Make:
    """Fields of a JSON file; `...` takes one out."""

    def make(folder: Path) -> None:
        content = json.loads((folder / name).read_text()) | fields
        (folder / name).write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))

    return make


def config(**fields: Any) -> Make:
    return change("config.json", **fields)


def tokenizer(**fields: Any) -> Make:
    return change("tokenizer.json", **fields)


def tokenizer_model(**fields: Any) -> Make:
    """Fields of the model in tokenizer.json, by what they are now."""

    def make(folder: Path) -> None:
        file = folder / "tokenizer.json"
        content = json.loads(file.read_text())
        content["model"] |= {key: value(content["model"].get(key)) for key, value in fields.items()}
        file.write_text(json.dumps(content))

    return make


def text(name: str, content: str | bytes) -> Make:
    def make(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return make


def spliced(name: str, entry: str) -> Make:
    """Something put behind the first brace of a JSON file, as no writer of JSON would."""

    def make(folder: Path) -> None:
        content = (folder / name).read_text()
        (folder / name).write_text(content.replace("{", "{" + entry + ",", 1))

    return make


def replaced(name: str, by: Callable[[Path], object]) -> Make:
    def make(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        by(folder / name)

    return make


def sparse(name: str, size: int) -> Make:
    """A file of many bytes that takes no room."""

    def make(folder: Path) -> None:
        with (folder / name).open("ab") as file:
            file.truncate(size)

    return make


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
    finally:
        os.chdir(here)


def _ring(path: Path) -> None:
    path.with_name("other").symlink_to(path)
    path.symlink_to(path.with_name("other"))


def _outside(path: Path) -> None:
    """The file itself elsewhere, and a link to it."""
    other = path.parent.with_name(f"{path.parent.name}-elsewhere")
    other.mkdir()
    shutil.copy(path.parent.with_name("sound") / path.name, other)
    path.symlink_to(other / path.name)


def header(rewrite: Callable[[dict[str, Any], int], dict[str, Any]]) -> Make:
    """Another header of model.safetensors before the same bytes of weights. rewrite: (header, bytes of weights)."""

    def make(folder: Path) -> None:
        file = folder / "model.safetensors"
        content = file.read_bytes()
        length = int.from_bytes(content[:8], "little")
        written = rewrite(json.loads(content[8 : 8 + length]), len(content) - 8 - length)
        new = written if isinstance(written, bytes) else json.dumps(written).encode()
        file.write_bytes(struct.pack("<Q", len(new)) + new + content[8 + length :])

    return make


def entry(**fields: Any) -> Make:
    """One tensor described in another way."""
    return header(lambda head, _: head | {"model.norm.weight": head["model.norm.weight"] | fields})


def _doubled(head: dict[str, Any], _: int) -> bytes:
    return json.dumps(head).replace("{", '{"model.norm.weight": {},', 1).encode()


def _many(head: dict[str, Any], _: int) -> bytes:
    one = b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    return b"{" + b",".join(one % number for number in range(1_200_000)) + b"}"


def sharded(**files: str) -> Make:
    """An index in place of the one file, and some of its weights said to lie elsewhere."""

    def make(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "model-1.safetensors")
        table = dict.fromkeys(load_file(folder / "model-1.safetensors"), "model-1.safetensors")
        table |= {name.replace("__", "."): file for name, file in files.items()}
        index = {"metadata": {"total_size": 1}, "weight_map": table}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return make


def pickled(folder: Path) -> None:
    import torch

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def with_code_in_a_pickle(folder: Path) -> None:
    import torch

    torch.save({"model.norm.weight": _Runs(str(folder / "marker"))}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


class _Runs:
    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.marker, "w")


def gguf(change_bytes: Callable[[bytes], bytes] = lambda content: content, **options: Any) -> Make:
    """A GGUF file in place of the folder's files, its bytes changed."""

    def make(folder: Path) -> None:
        for file in folder.iterdir():
            file.unlink()
        write_gguf(folder / "model.gguf", **options)
        (folder / "model.gguf").write_bytes(change_bytes((folder / "model.gguf").read_bytes()))

    return make


def _at(place: int, number: int, kind: str = "<Q") -> Callable[[bytes], bytes]:
    return lambda content: content[:place] + struct.pack(kind, number) + content[place + struct.calcsize(kind) :]


def _after(name: bytes, kind: str, number: int, skip: int = 4) -> Callable[[bytes], bytes]:
    """A number behind a field's name (and its kind) changed."""
    return lambda content: _at(content.index(name) + len(name) + skip, number, kind)(content)


def _field(key: str, kind: int, value: bytes) -> Callable[[bytes], bytes]:
    """One field more at the beginning of a GGUF file."""
    new = struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", kind) + value
    return lambda content: (
        content[:16] + struct.pack("<Q", struct.unpack("<Q", content[16:24])[0] + 1) + new + content[24:]
    )


def replace_all(pattern: dict[str, str], content: str, times: int = 1) -> dict[str, Any]:
    step = {"type": "Replace", "pattern": pattern, "content": content}
    return {"type": "Sequence", "normalizers": [step] * times}


def around(count: int) -> dict[str, Any]:
    pieces = [{"SpecialToken": {"id": "x", "type_id": 0}}] * count + [{"Sequence": {"id": "A", "type_id": 0}}]
    special = {"x": {"id": "x", "ids": [1], "tokens": ["x"]}}
    return {"type": "TemplateProcessing", "single": pieces, "pair": pieces, "special_tokens": special}


def template(words: str) -> Make:
    return text("chat_template.jinja", words)


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def added(count: int) -> list[dict[str, Any]]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return [{"id": 257 + number, "content": f"<{number}>", "special": True, **flags} for number in range(count)]


FILES: dict[str, tuple[Make, str | None]] = {
    "a pipe for config.json": (replaced("config.json", os.mkfifo), "config.json that is a pipe"),
    "a pipe for the tokenizer": (replaced("tokenizer.json", os.mkfifo), "tokenizer.json that is a pipe"),
    "a pipe for the weights": (replaced("model.safetensors", os.mkfifo), "model.safetensors that is a pipe"),
    "a pipe for the generation config": (replaced("generation_config.json", os.mkfifo), "is a pipe"),
    "a pipe for a chat template": (replaced("chat_template.jinja", os.mkfifo), "is a pipe"),
    "a pipe for an adapter": (replaced("adapter_config.json", os.mkfifo), "is a pipe"),
    "a pipe for another vocabulary": (replaced("vocab.json", os.mkfifo), "vocab.json that is a pipe"),
    "a socket for config.json": (replaced("config.json", _socket), "config.json that is a socket"),
    "zeros without end": (replaced("config.json", lambda path: path.symlink_to("/dev/zero")), "is a device"),
    "random weights without end": (
        replaced("model.safetensors", lambda path: path.symlink_to("/dev/urandom")), "model.safetensors that is a device",
    ),
    "the terminal": (replaced("tokenizer_config.json", lambda path: path.symlink_to("/dev/tty")), "tokenizer_config.json"),
    "a folder for config.json": (replaced("config.json", Path.mkdir), "config.json that is a folder"),
    "a folder for the weights": (replaced("model.safetensors", Path.mkdir), "model.safetensors that is a folder"),
    "a link to nowhere": (replaced("tokenizer.json", lambda path: path.symlink_to("gone")), "leads nowhere"),
    "links in a ring": (replaced("model.safetensors", _ring), "leads nowhere or in circles"),
    "config.json in a ring": (replaced("config.json", _ring), "config.json .*leads nowhere"),
    "config.json of 1 GB": (sparse("config.json", 1 << 30), "1,073.7 MB, and 4.0 MB is the most"),
    "tokenizer.json of 8 GB": (sparse("tokenizer.json", 1 << 33), "tokenizer.json of 8,589.9 MB"),
    "weights of 8 TB": (sparse("model.safetensors", 1 << 43), "model.safetensors of 8,796,093.0 MB"),
    "a chat template of 50 MB": (sparse("chat_template.jinja", 50_000_000), "chat_template.jinja of 50.0 MB"),
    "special tokens of 1 GB": (sparse("special_tokens_map.json", 1 << 30), "special_tokens_map.json of 1,073.7 MB"),
    "links to elsewhere, on one's own machine": (replaced("model.safetensors", _outside), LOADS),
    "what is not read may be anything": (replaced("notes.md", os.mkfifo), LOADS),
    "6,000 files": (lambda folder: [(folder / f"{i}.md").touch() for i in range(6000)] and None, "more than 5,000 files"),
}  # fmt: skip
CONFIGS: dict[str, tuple[Make, str | None]] = {
    "10,000,000 layers": (config(num_hidden_layers=10_000_000), "num_hidden_layers = 10000000: .* from 1 to 1,000 layers"),
    "no layers": (config(num_hidden_layers=0), "num_hidden_layers = 0"),
    "layers below none": (config(num_hidden_layers=-1), "num_hidden_layers = -1"),
    "layers in words": (config(num_hidden_layers="12"), "num_hidden_layers = '12', which must be a whole number"),
    "layers as a truth": (config(num_hidden_layers=True), "num_hidden_layers = True, which must be a whole number"),
    "layers as a fraction": (config(num_hidden_layers=6.5), "num_hidden_layers = 6.5, which must be a whole number"),
    "layers as a list": (config(num_hidden_layers=[6]), r"num_hidden_layers = \[6\], which must be a whole number"),
    "layers as nothing": (config(num_hidden_layers=None), "num_hidden_layers = None, which must be a whole number"),
    "layers of 300 digits": (config(num_hidden_layers=10**300), "num_hidden_layers = 1000"),
    "layers without weights": (config(num_hidden_layers=900), "lack .* tensors|more than fit in there"),
    "wide beyond measure": (config(hidden_size=10**9), "hidden_size = 1000000000"),
    "a gigabyte in each layer": (config(intermediate_size=900_000), "asks for [0-9,]+ numbers, more than fit"),
    "ten million tokens": (config(vocab_size=10**7), "vocab_size = 10000000"),
    "many tokens without weights": (config(vocab_size=1_900_000), "asks for [0-9,]+ numbers, more than fit"),
    "no tokens": (config(vocab_size=0), "vocab_size = 0"),
    "a million heads": (config(num_attention_heads=10**6), "num_attention_heads = 1000000"),
    "heads that cannot share": (config(num_key_value_heads=3), "4 attention heads that cannot share 3 heads"),
    "no heads to share": (config(num_key_value_heads=0), "4 attention heads that cannot share 0 heads"),
    "a width that heads cannot share": (config(num_attention_heads=7, num_key_value_heads=7, head_dim=None), "width of 40"),
    "10^12 positions": (config(max_position_embeddings=10**12), "max_position_embeddings = 1000000000000"),
    "a base of rotations of 0": (config(rope_parameters={"rope_type": "default", "rope_theta": 0}), "rope_theta = 0"),
    "a base of rotations of text": (config(rope_parameters={"rope_type": "default", "rope_theta": "x"}), "rope_theta = 'x'"),
    "rotations that are no object": (config(rope_parameters=[1, 2]), "Could not load"),
    "an unknown kind of rotation": (
        config(rope_parameters={"rope_type": "evil", "rope_theta": 1e4, "factor": 2.0}), "Could not load",
    ),
    "a factor of 0": (
        config(rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 0}), "factor = 0, .* above 0",
    ),
    "long factors of text": (
        config(rope_parameters={"rope_type": "longrope", "rope_theta": 1e4, "long_factor": ["a"]}), "long_factor",
    ),
    "an epsilon beyond all numbers": (spliced("config.json", '"layer_norm_eps": 1e400'), "1e400 is out of range"),
    "an epsilon of text": (config(rms_norm_eps="small"), "rms_norm_eps = 'small'"),
    "NaN": (spliced("config.json", '"attention_dropout_2": NaN'), "NaN is no number"),
    "infinity": (spliced("config.json", '"attention_scale": -Infinity'), "attention_scale = -inf, which is no number"),
    "a number of a million digits": (spliced("config.json", '"x": ' + "1" * 10**6), "Exceeds the limit"),
    "a name twice": (spliced("config.json", '"num_hidden_layers": 2'), "'num_hidden_layers' is there twice"),
    "100,000 lists in each other": (spliced("config.json", f'"x": {nested(100_000)}'), "nested too deeply"),
    "80 lists in each other": (spliced("config.json", f'"x": {nested(80)}'), "nested too deeply"),
    "a text of 3 MB": (config(note="x" * 3_000_000), "text of more than 100,000 letters"),
    "500,000 entries": (config(id2label={str(i): "x" for i in range(200_001)}), "more than 200,000 entries|4.0 MB"),
    "no UTF-8": (text("config.json", b'{"model_type": "\xff\xfe"}'), "no UTF-8 text"),
    "a mark before the text": (text("config.json", b"\xef\xbb\xbf{}"), "no proper JSON"),
    "zeros": (text("config.json", b"\0" * 100), "no proper JSON"),
    "an empty config.json": (text("config.json", b""), "no proper JSON"),
    "a list": (text("config.json", "[1, 2]"), "holds no JSON object"),
    "half a surrogate": (config(note="\ud800"), LOADS),
    "no model type": (config(model_type=...), "Could not load"),
    "a model type that is a list": (config(model_type=["llama"]), "Could not load"),
    "kinds of too few layers": (config(layer_types=["full_attention"] * 5), "layer_types do not name"),
    "kinds of layers that are numbers": (config(layer_types=[1] * 6), "layer_types do not name"),
    "kinds of layers as a text": (config(layer_types="full_attention"), "layer_types do not name"),
    "100,000 experts in 900 layers": (
        config(model_type="mixtral", num_local_experts=100_000, num_hidden_layers=900), "num_local_experts = 100000",
    ),
    "4,000 experts in 900 layers": (
        config(model_type="mixtral", num_local_experts=4_000, num_hidden_layers=900), "900 layers of 4,000 experts",
    ),
    "a plan that is a list": (config(sharing_plan=[1, 2]), "sharing_plan = .1, 2., which must be a text"),
    "a plan of layers that are not there": (config(sharing_plan="3-99999999"), "99999999"),
    "a plan of 90,000 letters": (config(sharing_plan="1-2," * 22_000), "at most 10,000 are read"),
    "corrections that are a list": (config(sharing_plan="1-3", sharing_corrections=[8]), "sharing_corrections"),
    "corrections of a billion": (config(sharing_plan="1-3", sharing_corrections={"rank": 10**9}), "rank of corrections"),
    "corrections wider than heads": (config(sharing_plan="1-3", sharing_corrections={"rank": 9999}), "wider than the heads"),
    "a head map that is a text": (config(sharing_plan="1-3", sharing_head_map="0" * 50), "sharing_head_map"),
    "a head map of a billion": (config(sharing_plan="1-3", sharing_head_map={"2": [10**9] * 4}), "head map of layer 2"),
    "a head map of texts": (config(sharing_plan="1-3", sharing_head_map={"2": ["a"]}), "sharing_head_map"),
    "a head map for no layer": (config(sharing_plan="1-3", sharing_head_map={"x": [0]}), "sharing_head_map"),
    "a dtype that is none": (config(dtype="float999"), "Could not load"),
    "weights by another name, elsewhere": (config(transformers_weights="../../x.safetensors"), "names a file outside"),
    "another configuration, elsewhere": (config(configuration_files=["../config.9.json"]), "names a file outside"),
    "parts within parts": (config(text_config={"num_hidden_layers": 10**7, "model_type": "llama"}), "text_config.num_hid"),
    "vision of 10^7 layers": (config(vision_config={"depth": 10**7}), "vision_config.depth = 10000000"),
    "a generation config of text": (text("generation_config.json", "no"), "generation_config.json that is no proper"),
    "a generation config in the deep": (text("generation_config.json", '{"a": ' + nested(90) + "}"), "nested too deeply"),
    "an unknown way to quantize": (config(quantization_config={"quant_method": "evil"}), LOADS),
}  # fmt: skip
WEIGHTS: dict[str, tuple[Make, str | None]] = {
    "an index that leads out": (sharded(model__norm__weight="../../x.safetensors"), "outside of it, in '../../x.safe"),
    "an index to the root": (sharded(model__norm__weight="/etc/passwd"), "outside of it, in '/etc/passwd'"),
    "an index to what is not there": (sharded(model__norm__weight="gone.safetensors"), "lacks gone.safetensors"),
    "an index of numbers": (sharded(model__norm__weight=7), "outside of it, in 7"),
    "an index to a script": (sharded(model__norm__weight="config.json"), "is no safetensors file"),
    "an index without a table": (
        lambda folder: (sharded()(folder), change("model.safetensors.index.json", weight_map=[])(folder))[0],
        "without a table of weights",
    ),
    "an index of one file": (sharded(), LOADS),
    "a header longer than the file": (
        lambda folder: text("model.safetensors", struct.pack("<Q", 1 << 50) + b"{}")(folder), "does not hold the header",
    ),
    "a header that is no JSON": (header(lambda *_: b"not JSON"), "no proper JSON"),
    "a header that is a list": (header(lambda *_: b"[]"), "its header is no JSON object"),
    "tensors beyond the end": (
        header(lambda head, size: head | {"z": {"dtype": "U8", "shape": [10**12], "data_offsets": [size, size + 10**12]}}),
        "lie beyond its end",
    ),
    "tensors that overlap": (entry(data_offsets=[0, 160]), "tensors overlap"),
    "a shape below nothing": (entry(shape=[-40]), "no proper shape"),
    "a shape of 10^12": (entry(shape=[10**12]), "takes other than 160 bytes"),
    "a shape of text": (entry(shape="40"), "no proper shape"),
    "a dtype of text": (entry(dtype="EVIL"), "unknown dtype, 'EVIL'"),
    "a tensor that is a list": (header(lambda head, _: head | {"model.norm.weight": []}), "unknown dtype"),
    "a tensor twice": (header(_doubled), "is there twice"),
    "1,200,000 tensors": (header(_many), "MB|tensors|header"),
    "half the weights": (
        lambda folder: os.truncate(folder / "model.safetensors", (folder / "model.safetensors").stat().st_size // 2),
        "lie beyond its end",
    ),
    "no weights": (replaced("model.safetensors", lambda _: None), "no file named model.safetensors"),
    "weights of PyTorch": (pickled, LOADS),
    "code in weights of PyTorch": (with_code_in_a_pickle, "Could not load the weights"),
    "a checkpoint of torch.distributed": (
        text("shard-00001-model-00001-of-00001.safetensors", b""), "checkpoint of torch.distributed",
    ),
    "weights whose products are no numbers": (
        lambda folder: save_file(
            {name: tensor * (3e37 if "norm" in name else 1) for name, tensor in load_file(
                folder / "model.safetensors").items()},
            folder / "model.safetensors", metadata={"format": "pt"},
        ),
        "computes no numbers in float32",
    ),
    "weights of one layer twice": (
        lambda folder: save_file(
            load_file(folder / "model.safetensors") | {"model.layers.6.mlp.up_proj.weight": load_file(
                folder / "model.safetensors")["model.layers.5.mlp.up_proj.weight"] + 1},
            folder / "model.safetensors", metadata={"format": "pt"},
        ),
        "no place",
    ),
}  # fmt: skip
TOKENIZERS: dict[str, tuple[Make, str | None]] = {
    "padding to 10^9 tokens": (
        tokenizer(padding={
            "strategy": {"Fixed": 10**9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
            "pad_type_id": 0, "pad_token": "<end>",
        }),
        "pads every text to 1000000000 tokens",
    ),
    "padding to a multiple of 10^9": (tokenizer(padding={"pad_to_multiple_of": 10**9}), "pads every text to 1000000000"),
    "truncation that goes back": (tokenizer(truncation={"max_length": 5, "stride": 5}), "goes back as far"),
    "a text made 10^12 times as long": (
        tokenizer(normalizer=replace_all({"String": "a"}, "a" * 1000, times=4)), "more than 1,000 times as long",
    ),
    "a text doubled 60 times": (
        tokenizer(normalizer=replace_all({"String": "a"}, "aa", times=60)), "more than 1,000 times as long",
    ),
    "a letter that becomes 500": (
        tokenizer(normalizer=replace_all({"Regex": "."}, "b" * 500)), r"makes [0-9,]+ tokens of|LOADS",
    ),
    "a pattern of exponential time": (
        tokenizer(pre_tokenizer={
            "type": "Split", "pattern": {"Regex": r"(?:a|a|aa)+(?:a|a)+(?:a|aa)+$"}, "behavior": "Isolated", "invert": False,
        }),
        "needs more than|cannot read|LOADS",
    ),
    "a pattern that is none": (
        tokenizer(pre_tokenizer={
            "type": "Split", "pattern": {"Regex": "((("}, "behavior": "Isolated", "invert": False,
        }),
        "Could not load the tokenizer",
    ),
    "400 steps": (tokenizer(normalizer=replace_all({"String": "x"}, "y", times=400)), "more than 300 steps"),
    "a prefix of a million letters": (tokenizer(normalizer={"type": "Prepend", "prepend": "x" * 10**6}), "100,000 letters"),
    "a prefix of 15,000 letters": (tokenizer(normalizer={"type": "Prepend", "prepend": "x" * 15_000}), "1,000 times as long"),
    "pieces of no length": (tokenizer(pre_tokenizer={"type": "FixedLength", "length": 0}), "pieces of no length"),
    "a table that is cut off": (
        tokenizer(normalizer={"type": "Precompiled", "precompiled_charsmap": "/////w=="}), "is cut off",
    ),
    "a table of other text": (
        tokenizer(normalizer={"type": "Precompiled", "precompiled_charsmap": "%%%"}), "is cut off",
    ),
    "10,000 tokens around every text": (tokenizer(post_processor=around(10_000)), "writes 10,00. tokens|writes [0-9,]+ tok"),
    "a decoder that writes a million letters": (
        tokenizer(decoder=replace_all({"String": "a"}, "b" * 90_000) | {"type": "Replace", "pattern": {"String": "a"},
                                                                      "content": "b" * 90_000}),
        "no text of usual length",
    ),
    "a decoder that strips 10^12 letters": (
        tokenizer(decoder={"type": "Strip", "content": " ", "start": 10**12, "stop": 10**12}), "beyond all measure",
    ),
    "a token of 60,000 letters": (tokenizer_model(vocab=lambda had: had | {"x" * 60_000: 257}), "no text of usual length"),
    "a token at 4,000,000,000": (tokenizer_model(vocab=lambda had: had | {"xx": 4 * 10**9}), "at 4000000000"),
    "a token below nothing": (tokenizer_model(vocab=lambda had: had | {"xx": -1}), "at -1"),
    "a vocabulary of a list": (tokenizer_model(vocab=lambda _: [1, 2]), "no pair of text and score"),
    "no vocabulary": (tokenizer_model(vocab=lambda _: None), "without a vocabulary"),
    "merges of what is not there": (tokenizer_model(merges=lambda _: [["q", "zz"]]), "Could not load the tokenizer"),
    "merges that are numbers": (tokenizer_model(merges=lambda _: [1, 2]), "Could not load the tokenizer"),
    "a model that nobody knows": (tokenizer_model(type=lambda _: "Evil"), "Could not load the tokenizer"),
    "200,000 added tokens": (tokenizer(added_tokens=added(200_000)), "more than 100,000 added tokens"),
    "added tokens beyond the embedding": (tokenizer(added_tokens=added(300)), LOADS),
    "an added token at 2^32": (tokenizer(added_tokens=[{"id": 2**32 - 1, "content": "x"}]), "at 4294967295"),
    "added tokens that are none": (tokenizer(added_tokens=[7]), "no text of usual length"),
    "added tokens by a text": (change("tokenizer_config.json", added_tokens_decoder={"x": {"content": "y"}}), "is none"),
    "texts of 10^30 tokens": (change("tokenizer_config.json", model_max_length=10**30), LOADS),
    "a tokenizer in the deep": (spliced("tokenizer.json", f'"x": {nested(90)}'), "nested too deeply"),
    "a tokenizer of zeros": (text("tokenizer.json", b"\0" * 1000), "no proper JSON"),
    "a tokenizer without end": (text("tokenizer.json", b'{"a": ' * 200_000), "no proper JSON|nested too deeply"),
    "vocabulary files elsewhere": (change("tokenizer_config.json", vocab_file="../../../etc/passwd"), "outside of it"),
    "a newer tokenizer elsewhere": (
        change("tokenizer_config.json", fast_tokenizer_files=["../tokenizer.9.0.0.json"]), "outside of it",
    ),
    "a class of nobody": (change("tokenizer_config.json", tokenizer_class="os.system"), "LOADS|Could not load"),
    "a padding token that is a number": (change("tokenizer_config.json", pad_token=7), "LOADS|Could not load"),
    "a SentencePiece model of zeros": (
        lambda folder: ((folder / "tokenizer.json").unlink(), text("tokenizer.model", b"\0" * 10_000)(folder))[0],
        "Could not load the tokenizer",
    ),
    "a vocabulary of Mistral's that is none": (
        lambda folder: ((folder / "tokenizer.json").unlink(), text("tekken.json", '{"vocab": 7}')(folder))[0],
        "Could not load the tokenizer",
    ),
    "no tokenizer at all": (replaced("tokenizer.json", lambda _: None), "Could not load the tokenizer"),
    "a chat template of a number": (change("tokenizer_config.json", chat_template=7), "chat template is no text"),
}  # fmt: skip
GGUF: dict[str, tuple[Make, str | None]] = {
    "a sound GGUF file": (gguf(), LOADS),
    "10^18 tensors": (gguf(_at(8, 10**18)), "speaks of 1,000,000,000,000,000,000 tensors"),
    "10^18 fields": (gguf(_at(16, 10**18)), "1,000,000,000,000,000,000 fields"),
    "a name of 10^18 letters": (gguf(_at(24, 10**18)), "a text has 1,000,000,000,000,000,000 bytes"),
    "version 99": (gguf(_at(4, 99, "<I")), "its version is 99"),
    "a list of 10^15 tokens": (gguf(_after(b"tokenizer.ggml.tokens", "<Q", 10**15, skip=8)), "has 1,000,000,000,000,000 val"),
    "10^9 layers": (gguf(_after(b"llama.block_count", "<I", 10**9)), "block_count is 1000000000"),
    "900 layers of 6": (gguf(_after(b"llama.block_count", "<I", 900)), "speaks of 900 layers and holds"),
    "wide as 2^32": (gguf(_after(b"llama.embedding_length", "<I", 2**32 - 1)), "embedding_length is 4294967295"),
    "a tensor of 2^60 numbers": (gguf(_after(b"blk.0.attn_norm.weight", "<Q", 2**60)), "beyond its end"),
    "a tensor of 10^9 dimensions": (gguf(_after(b"blk.0.attn_norm.weight", "<I", 10**9, skip=0)), "1,000,000,000 dim"),
    "an alignment of 0": (gguf(_field("general.alignment", 4, struct.pack("<I", 0))), "its alignment is 0"),
    "lists in lists": (gguf(_field("x", 9, struct.pack("<IQ", 9, 3))), "list of an unknown kind"),
    "5,000,000 numbers": (
        gguf(_field("x", 9, struct.pack("<IQ", 0, 5_000_000) + bytes(5_000_000))), "has 5,000,000 values",
    ),
    "a field of a kind that is none": (gguf(_field("x", 77, b"")), "unknown kind"),
    "half a GGUF file": (gguf(lambda content: content[: len(content) // 2]), "cut off or broken"),
    "a GGUF file of 4 bytes": (gguf(lambda content: content[:4]), "cut off or broken"),
    "a pipe for a GGUF file": (
        lambda folder: (gguf()(folder), replaced("model.gguf", os.mkfifo)(folder))[0], "is a pipe|holds no model",
    ),
    "a tokenizer bomb beside a GGUF file": (
        lambda folder: (gguf()(folder), text("tokenizer_config.json", '{"added_tokens_decoder": 7}')(folder))[0],
        "too many added tokens, or none",
    ),
    "an adapter beside a GGUF file": (
        lambda folder: (gguf()(folder), text("adapter_config.json", '{"peft_type": "LORA"}')(folder))[0], "PEFT adapter",
    ),
    "a template of 3 MB in a GGUF file": (gguf(template="{# " + "x" * 3_000_000 + " #}"), "a text has 3,000,006 bytes"),
}  # fmt: skip
CASES = {"files": FILES, "configs": CONFIGS, "weights": WEIGHTS, "tokenizers": TOKENIZERS, "gguf": GGUF}
