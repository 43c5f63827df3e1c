"""The library of compiled steps: made once, kept safely, made anew where it broke, and done without where there is no compiler."""

import logging
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
import torch

from core.decoding import compiler
from core.decoding.start import start_decoding
from tests.support.families import make

pytestmark = pytest.mark.skipif(
    os.name != "posix" or not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="there is no C compiler"
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A cache of its own, in which nothing is compiled yet; and a quick compiler, since what it makes is not timed."""
    monkeypatch.setenv("SHARED_ATTENTION_CACHE", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(compiler, "_FLAGS", tuple(flag.replace("-O3", "-O0") for flag in compiler._FLAGS))
    compiler.forget()
    yield tmp_path / "steps"
    compiler.forget()


@pytest.fixture
def commands(monkeypatch):
    """The commands that are run."""
    run, seen = subprocess.run, []

    def noted(command, **how):
        seen.append(command)
        return run(command, **how)

    monkeypatch.setattr(compiler.subprocess, "run", noted)
    return seen


def library():
    compiler.forget()
    return compiler.library(wait_s=120)


def kept(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_it_is_compiled_once_and_found_again(folder, commands):
    assert library() is not None and len(commands) == 1
    (file,) = kept(folder)
    assert file.suffix == ".so" and not file.stat().st_mode & 0o077 and not folder.stat().st_mode & 0o077
    assert library() is not None and len(commands) == 1


def test_nothing_but_its_own_source_is_compiled(commands):
    library()
    ((*_, source, last),) = commands
    assert Path(source) == Path(compiler.__file__).with_name("step.c") and last == "-lm"


@pytest.mark.parametrize("rest", [b"", b"no library", "half"])
def test_a_broken_file_is_made_anew(folder, commands, rest):
    library()
    (file,) = kept(folder)
    whole = file.read_bytes()
    file.unlink()
    file.write_bytes(whole[: len(whole) // 2] if rest == "half" else rest)
    file.chmod(0o700)
    assert library() is not None and len(commands) == 2
    assert [one.read_bytes() for one in kept(folder)] == [whole]


def test_another_source_compiler_or_processor_is_another_file(folder, monkeypatch, tmp_path):
    names = {compiler._name(["cc"], ())}
    names.add(compiler._name(["gcc"], ()))
    names.add(compiler._name(["cc"], ("-march=native",)))
    monkeypatch.setattr(compiler, "_processor", lambda: "another one")
    names.add(compiler._name(["cc"], ()))
    (tmp_path / "other.c").write_text("int x;")
    monkeypatch.setattr(compiler, "SOURCE", tmp_path / "other.c")
    names.add(compiler._name(["cc"], ()))
    assert len(names) == 5


def test_a_compiler_that_does_not_know_its_processor(folder, monkeypatch):
    monkeypatch.setattr(compiler, "_TUNED", (("-march=there-is-no-such-thing",), ()))
    assert library() is not None and len(kept(folder)) == 1


@pytest.mark.parametrize(
    ("named", "reason"),
    [("/bin/false", "ended with code 1"), ("/no/such/cc", "no compiler '/no/such/cc'"), ("'", "No closing quotation")],
)
def test_without_a_compiler_steps_are_lean_and_the_log_says_it_once(folder, monkeypatch, caplog, named, reason):
    monkeypatch.setenv("CC", named)
    caplog.set_level(logging.INFO, "core.decoding")
    model = make("llama", "sdpa")
    for _ in range(3):
        assert start_decoding(model, 1, 20, wait_s=60).path == "lean"
    said = [record.getMessage() for record in caplog.records if "not compiled" in record.getMessage()]
    assert len(said) == 1 and reason in said[0]
    assert not folder.exists() or kept(folder) == []


def test_cc_may_have_arguments(commands, monkeypatch):
    monkeypatch.setenv("CC", f"{shutil.which('cc') or shutil.which('gcc')} -g0")
    assert library() is not None and commands[0][1] == "-g0"


def test_no_compiler_at_all(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert library() is None


def test_a_folder_that_others_may_write_to_is_not_used(folder, commands):
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert library() is not None and kept(folder) == []
    folder.chmod(0o700)
    library()
    (file,) = kept(folder)
    file.chmod(0o722)
    assert library() is not None and len(commands) == 3
    assert not kept(folder)[0].stat().st_mode & 0o022


def test_a_cache_that_cannot_be_made_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SHARED_ATTENTION_CACHE", str(tmp_path / "file"))
    assert library() is not None


def test_a_cache_that_cannot_be_written_is_done_without(folder, monkeypatch):
    folder.mkdir(parents=True)
    access = os.access  # to root every folder is writable
    monkeypatch.setattr(compiler.os, "access", lambda path, mode: path != folder and access(path, mode))
    assert library() is not None and kept(folder) == []


def test_who_does_not_wait_gets_none_and_later_the_library(monkeypatch):
    may_go, make_ = threading.Event(), compiler.make
    monkeypatch.setattr(compiler, "make", lambda: may_go.wait(60) and make_())
    assert compiler.library(wait_s=0) is None
    assert start_decoding(make("llama", "sdpa"), 1, 20, wait_s=0).path == "lean"
    may_go.set()
    assert compiler.library(wait_s=120) is not None


def test_a_step_after_a_fork_ends():
    code = """
import os, torch
from core.decoding.start import start_decoding
from tests.support.families import make
torch.set_num_threads(3)
decoder = start_decoding(make("llama", "sdpa"), 1, 40, paths=("compiled",), wait_s=120)
decoder.prefill(torch.tensor([[1, 2, 3]]))
logits = decoder.step(torch.tensor([4])).clone()
assert decoder.path == "compiled"
if (child := os.fork()) == 0:
    assert torch.isfinite(decoder.step(torch.tensor([5]))).all()
    del decoder
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
decoder.step(torch.tensor([5]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


def threads_of_this_process() -> int:
    return psutil.Process().num_threads()


def test_threads_end_with_their_decoder():
    model, before = make("llama", "sdpa"), torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        count = threads_of_this_process()
        for _ in range(20):
            decoder = start_decoding(model, 1, 20, paths=("compiled",), wait_s=120)
            decoder.prefill(torch.tensor([[1, 2]]))
            decoder.step(torch.tensor([3]))
        del decoder
        assert threads_of_this_process() <= count + 8  # torch's own among them
    finally:
        torch.set_num_threads(before)
