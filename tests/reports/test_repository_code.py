"""Reports on code in model folders that ran: transformers asks on standard input, and `yes |` answers."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core import load_model
from core.tasks.long.documents import load as long_documents
from tests.support.gguf_files import write_gguf
from tests.support.models import tiny_model
from tests.support.tokenizers import byte_tokenizer

CODE = """
from pathlib import Path
Path({marker!r}).write_text("the code ran")
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
class EvilConfig(LlamaConfig):
    model_type = "evil"
class EvilModel(LlamaForCausalLM):
    config_class = EvilConfig
class EvilTokenizer(PreTrainedTokenizerFast): pass
def generate(model, *args, **kwargs): pass
"""
AUTO = {"AutoConfig": "evil.EvilConfig", "AutoModelForCausalLM": "evil.EvilModel"}


def change(file: Path, **fields) -> None:
    file.write_text(json.dumps((json.loads(file.read_text()) if file.exists() else {}) | fields))


def folder_with_code(folder: Path, marker: Path) -> Path:
    """A sound tiny model that has code beside it, which leaves a marker where it runs."""
    tiny_model(vocab_size=257).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    (folder / "custom_generate").mkdir()
    for name in ("evil.py", "custom_generate/generate.py", "hubconf.py", "setup.py", "tokenization_evil.py"):
        (folder / name).write_text(CODE.format(marker=str(marker)))
    return folder


def config(folder):
    change(folder / "config.json", model_type="evil", auto_map=AUTO)


def model(folder):
    change(folder / "config.json", auto_map=AUTO, architectures=["EvilModel"])


def tokenizer(folder):
    maps = {"AutoTokenizer": ["evil.EvilTokenizer", "evil.EvilTokenizer"]}
    change(folder / "tokenizer_config.json", auto_map=maps, tokenizer_class="EvilTokenizer")


def processor(folder):
    for name in ("processor_config.json", "preprocessor_config.json"):
        change(folder / name, auto_map={"AutoProcessor": "evil.EvilConfig"}, processor_class="EvilProcessor")


def adapter(folder):
    shutil.copytree(folder, folder / "base")
    config(folder / "base")
    adapted = {"base_model_name_or_path": str(folder / "base"), "peft_type": "LORA"}
    auto_mapping = {"base_model_class": "EvilModel", "parent_library": "evil"}
    change(folder / "adapter_config.json", **adapted, auto_mapping=auto_mapping)


def kernel(folder):
    change(folder / "config.json", attn_implementation="someone/kernel")


def generation(folder):
    change(folder / "generation_config.json", custom_generate=str(folder), trust_remote_code=True)


def text_encoder_of_another_repository(folder):
    change(folder / "config.json", model_type="evil", auto_map={"AutoConfig": f"{folder}--evil.EvilConfig"})


def gguf_with_an_adapter_beside(folder):
    config(folder)
    (folder / "config.json").rename(folder / "adapter_base.json")
    change(folder / "adapter_config.json", base_model_name_or_path=str(folder), peft_type="LORA")
    tokenizer(folder)
    write_gguf(folder / "model.gguf")


CASES = {
    "config": (config, "code of a model is never run here"),
    "model": (model, None),
    "tokenizer": (tokenizer, "code of a model is never run here"),
    "processor": (processor, None),
    "adapter": (adapter, "holds a PEFT adapter"),
    "kernel": (kernel, "asks for code of a repository"),
    "generation": (generation, None),
    "another": (text_encoder_of_another_repository, "code of a model is never run here"),
    "gguf": (gguf_with_an_adapter_beside, "holds a PEFT adapter"),
}
RUN = """
import sys
from core.__main__ import main
for name in sys.argv[2:]:
    options = ["--tasks", "demo_copy", "--limit", "2", "--results", sys.argv[1] + "/results/" + name.split("/")[-1]]
    print("CODE", name.split("/")[-1], main(["evaluate", "--model", name, *options]), file=sys.stderr)
"""


def test_code_never_runs_though_somebody_says_yes(tmp_path):
    """`yes | python -m core evaluate --model DIR_WITH_AUTO_MAP` executed the code of the folder."""
    marker = tmp_path / "marker"
    for name, (make, _) in CASES.items():
        make(folder_with_code(tmp_path / name, marker))
    folders = [str(tmp_path / name) for name in CASES]
    run = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path), *folders],
        input="y\n" * 10_000, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert not marker.exists() and run.returncode == 0, run.stderr[-3000:]
    ended = {line.split()[1]: line.split()[2] for line in run.stderr.splitlines() if line.startswith("CODE ")}
    assert ended == {name: "2" if says else "0" for name, (_, says) in CASES.items()}, run.stderr[-3000:]
    errors = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    for error, says in zip(errors, [says for _, says in CASES.values() if says], strict=True):
        assert says in error and len(error) < 500
    assert "[y/N]" not in run.stdout + run.stderr and "Traceback" not in run.stderr


def test_the_command_itself_asks_nothing(tmp_path):
    """The report, word for word, with `yes` on standard input."""
    marker = tmp_path / "marker"
    config(folder_with_code(tmp_path / "evil", marker))
    command = f"yes | {sys.executable} -m core evaluate --model {tmp_path / 'evil'} --tasks demo_copy --limit 2"
    run = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 2 and not marker.exists()
    assert "code of a model is never run here" in run.stderr and "[y/N]" not in run.stdout + run.stderr


def test_lm_evals_flag_does_not_reach_the_tokenizer_of_generated_documents(tmp_path):
    """`--model_args trust_remote_code=True` was handed through to a tokenizer that only counts."""
    marker = tmp_path / "marker"
    tokenizer(folder_with_code(tmp_path / "evil", marker))
    with pytest.raises(ValueError, match="contains custom code"):
        long_documents("needle", 256, documents=1, pretrained=str(tmp_path / "evil"), trust_remote_code=True)
    assert not marker.exists()


def test_a_class_that_is_named_is_not_imported(tmp_path, monkeypatch):
    """A tokenizer class by a dotted name, in a folder that is on the path."""
    marker = tmp_path / "marker"
    folder = folder_with_code(tmp_path / "evil", marker)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    change(folder / "tokenizer_config.json", tokenizer_class="evil.EvilTokenizer")
    change(
        folder / "config.json", tokenizer_class="evil.EvilTokenizer", transformers_version="0", dtype="evil.EvilModel"
    )
    with pytest.raises(ValueError, match="config.json|Could not load"):
        load_model(folder, device="cpu")
    assert not marker.exists()
