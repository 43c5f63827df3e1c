"""Models in memory: loaded once, known by their name and weights, with shared views of the same weights."""

import os
import shutil
import threading
import time
import weakref
from collections import OrderedDict

import pytest

from app import loading, measured, registry, searches, services, settings
from app.panels import model as model_panel
from app.registry import LRUCache, get_model
from core import models
from core.plan import SharingPlan


def test_cache_makes_an_item_once_for_many_threads_and_drops_the_oldest():
    cache, made, start = LRUCache(2), [], threading.Barrier(8)

    def ask(key):
        start.wait()
        cache.get(key, lambda: made.append(key) or key)

    threads = [threading.Thread(target=ask, args=("ab"[index % 2],)) for index in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(made) == ["a", "b"]
    cache.get("b", None), cache.get("c", lambda: "c")
    cache.get("a", lambda: made.append("a again"))
    assert made[-1] == "a again"


def test_cache_does_not_keep_a_failure():
    cache = LRUCache(2)
    with pytest.raises(ValueError):
        cache.get("key", lambda: (_ for _ in ()).throw(ValueError("no")))
    assert cache.get("key", lambda: 5) == 5


def test_views_are_made_once_and_share_the_weights(folder):
    loaded = get_model(folder)
    plan = loaded.plan("2-4")
    assert loaded.shared(plan) is loaded.shared(SharingPlan.parse("2-4", 6)) is not loaded.model
    assert next(loaded.shared(plan).parameters()).data_ptr() == next(loaded.model.parameters()).data_ptr()


def test_a_model_is_known_by_the_name_of_its_records_and_by_its_weights(folder, monkeypatch):
    loaded = get_model(folder)
    assert loaded.identity.name == "tiny" and loaded.dense_identity is loaded.identity
    assert loaded.identity.weights_sha256 == models.weights_sha256(loaded.model)
    monkeypatch.setattr(models, "weights_sha256", None)  # once is enough
    assert len(get_model(folder).identity.weights_sha256) == 64


def test_a_tuned_model_has_an_identity_of_its_own_beside_that_of_its_dense_twin(monkeypatch):
    monkeypatch.setattr(registry, "_models", registry.Models())
    tuned, dense = get_model("demo-tuned-17-22"), get_model("demo")
    assert tuned.dense_identity is dense.identity and tuned.model is dense.model
    assert tuned.identity.name == "demo-tuned-17-22"
    assert tuned.identity.weights_sha256 != dense.identity.weights_sha256


# Which models stay


@pytest.fixture
def few_models(monkeypatch):
    """Room for two models, of which one is the first that is shown."""
    monkeypatch.setattr(registry, "_models", registry.Models())
    monkeypatch.setattr(settings.server, "models_in_memory", 2)
    monkeypatch.setattr(settings.server, "model", "demo")


def _copies(folder, tmp_path, number):
    return [shutil.copytree(folder, tmp_path / f"copy-{index}") for index in range(number)]


def test_models_that_were_dropped_are_gone_with_all_that_was_made_of_them(few_models, folder, tmp_path):
    dropped = []
    get_model("demo")
    for copy in _copies(folder, tmp_path, 3):
        loaded = get_model(str(copy))
        view = loaded.shared(loaded.plan("2-4"))
        services.similarity(str(copy), "A fox went to the sea.", "head_mean")
        searches.meters(loaded, "A fox went to the sea. " * 80, 64)
        with pytest.raises(ValueError):
            loaded.plan("9-3")
        dropped += [weakref.ref(one) for one in (loaded, loaded.model, view)]
        del loaded, view
    registry._models.make_room(0)
    assert [one() is None for one in dropped] == [True] * 6 + [False] * 3
    assert len(registry._models) == 2 and registry._models.find("demo")


def test_models_that_take_too_much_together_are_dropped_but_never_the_first(few_models, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(settings.server, "models_in_memory", 9)
    first = get_model("demo")
    copies = _copies(folder, tmp_path, 3)
    size = get_model(str(copies[0])).num_bytes
    assert 50_000 < size < 1_000_000 and registry._models.num_bytes == first.num_bytes + size
    monkeypatch.setattr(settings.server, "models_gb", (first.num_bytes + 2.5 * size) / 1e9)
    get_model(str(copies[1])), get_model(str(copies[2]))
    assert len(registry._models) == 3 and get_model("demo") is first


def test_a_model_for_which_there_is_no_room_is_refused_in_one_sentence(few_models, folder, monkeypatch):
    monkeypatch.setattr(loading, "free_bytes", lambda: 1_000_000_000)
    with pytest.raises(ValueError, match="takes 2.0 GB and this server has 1.0 GB"):
        registry._models.make_room(2_000_000_000)


def test_configurations_of_models_that_were_loaded_are_bounded():
    kept = OrderedDict()
    for number in range(2 * registry.REMEMBERED):
        registry._remember(kept, str(number), number)
    assert len(kept) == registry.REMEMBERED and kept["127"] == 127


def test_what_came_with_the_project_or_was_chosen_for_the_server_needs_no_trial(folder, monkeypatch):
    place = registry._place(folder)
    assert registry._is_trusted("demo") and not registry._is_trusted("Qwen/Qwen3-0.6B")
    assert not registry._is_trusted(place)
    monkeypatch.setattr(settings.server, "model", folder)
    assert registry._is_trusted(place)


# What is no name


@pytest.mark.parametrize(
    "name",
    [
        "~nosuchuser/x", "x" * 300, "x" * 100_000, "a\0b", "\ud800", "/proc/self/mem", "/dev/zero", "//server/share", "../../..",
        "C:\\models", "a/b/c/d", "/dev/stdin", "/proc/self/root", "file:///etc/passwd", "hub-id:x.gguf", "/etc/passwd", "\n",
        " ", "a" * 90 + "/" + "b" * 90, "~", "/", "..", "/proc/self/fd/0", 5, ["demo"], {"a": 1},
    ],
)  # fmt: skip
def test_what_cannot_be_a_model_gets_one_sentence_at_once(name):
    began = time.monotonic()
    try:
        get_model(name)
    except ValueError as problem:
        assert len(str(problem)) < 500 and "\n" not in str(problem) and "Errno" not in str(problem)
    else:
        assert not str(name).strip()  # an empty name is that of the first model
    assert time.monotonic() - began < 60


def test_a_pipe_in_the_place_of_a_model_is_refused(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    os.mkfifo(tmp_path / "model.gguf")
    for name in (tmp_path, tmp_path / "model.gguf"):
        with pytest.raises(ValueError) as problem:
            get_model(str(name))
        assert "\n" not in str(problem.value)


# Public mode


@pytest.fixture
def public(monkeypatch):
    monkeypatch.setattr(settings.server, "public", True)
    monkeypatch.setattr(settings.server, "models", ("Qwen/Qwen3-0.6B",))
    monkeypatch.setattr(settings.server, "model", "")


def test_strangers_get_listed_models_only(public):
    allowed = registry.allowed_models()
    assert {"demo", "demo-tuned-17-22", settings.OFFERED_MODEL, "Qwen/Qwen3-0.6B"} == set(allowed)
    assert get_model("demo").name == "demo" == get_model(" demo ").name


def test_strangers_learn_nothing_of_the_file_system(public, folder, monkeypatch):
    bundled = settings.ASSETS / "models" / "demo"
    names = [
        folder, f"{folder}-none", str(bundled), "assets/models/demo", "../demo", "./demo", "demo/", "demo/../demo", "~", "~root",
        "/proc/self/mem", "gpt2", "openai-community/gpt2", f"{folder}/model.gguf", "HuggingFaceTB/SmolLM2-135M", "hub-id:x.gguf",
    ]  # fmt: skip
    monkeypatch.setattr(registry, "_place", None)  # nothing is looked up
    monkeypatch.setattr(registry, "model_name", None)
    sentences = set()
    for name in names:
        with pytest.raises(ValueError) as problem:
            get_model(name)
        sentences.add(str(problem.value))
        assert registry.name_in_records(name) == name
    [sentence] = sentences
    assert "duplicate the Space" in sentence and "demo-tuned-17-22" in sentence and "Qwen/Qwen3-0.6B" in sentence


def test_strangers_get_no_pickled_weights_and_no_links_out_of_a_folder(public):
    assert loading.admitted() == {"pickles": False, "inside": True}


def test_the_page_of_strangers_lists_what_they_may_choose(public):
    assert model_panel.choices() == ["demo", "demo-tuned-17-22", "Qwen/Qwen3-0.6B"]  # the offered one is not here
    refused = model_panel.switch_model("gpt2", {"model": "demo", "plan": "17-22"})
    assert "duplicate the Space" in refused[1]


def test_sizes_are_never_read_from_a_folder_that_a_record_name_leads_to(tmp_path):
    (tmp_path / "config.json").write_text((settings.ASSETS / "models" / "demo" / "config.json").read_text())
    assert measured.shape_of_record("demo") is not None
    way = os.path.relpath(tmp_path, settings.ASSETS / "models")
    for name in (str(tmp_path), way, "../models/demo"):
        assert measured.shape_of_record(name) is None


def test_a_model_that_was_tuned_here_is_compared_with_the_one_that_it_began_from(folder, tmp_path, monkeypatch):
    from core import load_model, share_attention

    model, tokenizer = load_model(folder)
    about = {"of": "tiny", "control": False, "plan": "2-4", "method": "full", "objective": "text"}
    shared = share_attention(model, "2-4")
    shared.config.tuning = about | {"tokens": 9, "steps": 1, "seed": 0, "data_sha256": "0"}
    tuned = tmp_path / "tiny-tuned"
    shared.save_pretrained(tuned)
    tokenizer.save_pretrained(tuned)
    monkeypatch.setattr(registry, "_models", registry.Models())
    with pytest.raises(ValueError, match="tuned from tiny, which is not here"):
        registry._load_here(str(tuned))
    registry._load_here(folder)
    found = registry._load_here(str(tuned))
    assert str(found.fixed_plan) == "2-4" and found.dense_identity.name == "tiny"
    assert registry.dense_twins()["tiny-tuned"] == "tiny"
