"""Models in memory: loaded once, known by their name and weights, with shared views of the same weights."""

import threading

import pytest

from app import registry
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
