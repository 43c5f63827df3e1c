"""The command `peers`: one record of all programs in one run, and one sentence for what cannot be."""

import sys

import pytest
import torch

from core.__main__ import main
from core.commands import peers as command
from core.models import load_model
from core.records.peers import load_peers
from core.timing.peers.llama import LlamaPeer
from core.timing.peers.peer import LeftOut
from core.timing.peers.turns import compare, own_logits

LIGHT = ("--context", 12, "--new-tokens", 3, "--threads", 1)
LLAMA_SIZES = {"hidden_size": 64, "head_dim": 16}  # llama.cpp takes the biases of Qwen 2 to be as long as its width
STOCK = ("--peers", "transformers-dynamic,transformers-static")


@pytest.fixture
def measure(folder, capsys):
    """`measure(…, model="tiny")` runs the command on the tiny model, unless another one is named: (code, output, records)."""

    def call(*arguments, model=("--model", "tiny")):
        named = [str(folder / part) if part == "tiny" else part for part in model]
        where = ["--results", str(folder / "results"), "--device", "cpu"]
        code = main(["peers", *map(str, arguments), *named, *where])
        return code, capsys.readouterr(), load_peers(folder / "results")[0]

    return call


def test_a_record_holds_all_programs_of_one_run(measure):
    threads = torch.get_num_threads()
    code, output, [record] = measure(*LIGHT, *STOCK, "--plan", "2-4", "--batch-size", 2)
    assert code == 0 and torch.get_num_threads() == threads
    assert (record.model, record.plan, record.batch_size, record.context_tokens, record.threads) == (
        "tiny", "2-4", 2, 12, 1,
    )  # fmt: skip
    names = ["dense", "plan", "again", "transformers-dynamic", "transformers-static"]
    assert [peer.name for peer in record.peers] == names and not record.left_out
    for peer in record.peers:
        assert peer.step_s.repeats == 3 and peer.precision == "float32"
        assert peer.same_tokens is (None if peer.name == "plan" else True)
    assert "the error of the instrument" in output.out and "plan 2-4" in output.out


def test_what_is_stored_is_not_measured_again(measure):
    first = measure(*LIGHT, *STOCK)[2]
    code, output, second = measure(*LIGHT, *STOCK)
    assert code == 0 and second == first and "stored already" in output.out
    assert measure(*LIGHT, "--peers", "transformers-dynamic")[2] == first
    assert measure(*LIGHT, *STOCK, "--overwrite")[2] != first


def test_without_llama_cpp_its_peers_are_left_out_with_what_to_install(measure, monkeypatch):
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    code, output, [record] = measure(*LIGHT, "--peers", "llama.cpp-f32,llama.cpp-f16")
    assert code == 0 and [peer.name for peer in record.peers] == ["dense", "again"]
    assert set(record.left_out) == {"llama.cpp-f32", "llama.cpp-f16"} and not record.features
    assert "llama.cpp-f32 is left out. llama-cpp-python is not installed: pip install" in output.out


def test_a_program_that_chooses_other_tokens_is_labelled(measure, monkeypatch):
    stock = command.PeersBench._ways

    def ways(bench, workload):
        found = stock(bench, workload)
        start = found["transformers-dynamic"]

        def other():
            peer = start()
            step = peer.step
            peer.step = lambda tokens: tuple(wrong + 1 for wrong in step(tokens))
            return peer

        return found | {"transformers-dynamic": other}

    monkeypatch.setattr(command.PeersBench, "_ways", ways)
    _, output, [record] = measure(*LIGHT, "--peers", "transformers-dynamic")
    peer = record.peers[-1]
    assert peer.same_tokens is False and peer.tokens_alike == 1 and peer.logits_apart > 0
    assert "1 of 33, logits up to" in output.out


def test_random_weights_of_a_well_known_size_need_no_download(monkeypatch, measure, tiny_model):
    monkeypatch.setattr(command, "random_model", lambda *_: ("Small-random", tiny_model()))
    [record] = measure(*LIGHT, *STOCK, model=("--shape", "small"))[2]
    assert (record.model, record.weights, record.plan) == ("Small", "random", "")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--peers", "vllm"), "There is no peer 'vllm': choose of transformers-dynamic"),
        (("--batch-size", 0), "--batch-size is 0"),
        (("--threads", 0), "--threads is 0"),
        (("--plan", "2-9"), "layers 0"),
        (("--shape", "llama-3-8b"), "leave out --model"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(measure, arguments, sentence):
    code, output, records = measure(*LIGHT, *arguments)
    assert code == 2 and sentence in output.err and len(output.err.strip().splitlines()) == 1 and not records


def test_a_tuned_model_is_no_other_programs(measure):
    code, output, _ = measure(*LIGHT, model=("--model", "demo-tuned-17-22"))
    assert code == 2 and "was tuned with plan 17-22 in place" in output.err


def test_several_devices_are_refused(capsys):
    assert main(["peers", "--device", "cuda:0,cuda:1"]) == 2
    assert "on one device" in capsys.readouterr().err


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "demo"])
def test_llama_cpp_chooses_the_tokens_of_the_model(tiny_model, family, precision):
    pytest.importorskip("llama_cpp")
    model = load_model("demo", device="cpu")[0] if family == "demo" else tiny_model(family, **LLAMA_SIZES)
    prompt = torch.randint(90, (2, 12), generator=torch.Generator().manual_seed(0))
    peer = LlamaPeer(model, 2, 64, precision, threads=1)
    for _ in range(2):  # reading again begins anew
        found = compare(peer, prompt, own_logits(model, prompt))
        assert found.apart < (1e-4 if precision == "float32" else 0.05)
        assert found.tokens == found.checked or precision == "float16"
    peer.close()


def test_what_llama_cpp_cannot_read_is_left_out(tiny_model, monkeypatch):
    pytest.importorskip("llama_cpp")
    monkeypatch.setattr("core.timing.peers.llama.write_gguf", lambda model, file, *_: file.write_bytes(b"GGUF"))
    with pytest.raises(LeftOut, match="did not read"):
        LlamaPeer(tiny_model(), 1, 64, "float32", threads=1)
