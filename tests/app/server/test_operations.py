"""Health and metrics."""

import base64
import json
from threading import Thread

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from app import services, settings, shutdown
from app.compute import compute
from app.server import operations
from app.server.front import in_front_of
from tests.support.door import ask, echo

DOOR = in_front_of(echo)
THERE = [("host", "localhost:7860")]


def metrics(**more) -> dict[tuple, float]:
    """Every sample by name and labels."""
    answer = ask(DOOR, "/metrics", **more)
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/plain")
    families = text_string_to_metric_families(answer.body.decode())
    return {(one.name, *sorted(one.labels.items())): one.value for family in families for one in family.samples}


def test_health_says_what_runs_here():
    answer = ask(DOOR, "/healthz")
    said = json.loads(answer.body)
    assert answer.status == 200 and said["status"] == "ok" and said["version"] == settings.VERSION
    assert said["commit"] == operations.commit() and said["models_in_memory"] >= 0 and said["compute"]["alive"]
    assert answer.headers["cache-control"] == "no-store" and answer.headers["x-content-type-options"] == "nosniff"
    head = ask(DOOR, "/healthz", "HEAD")
    assert head.status == 200 and head.body == b""
    assert ask(DOOR, "/healthz", "POST").status == 405


def test_a_dead_a_stuck_and_an_ending_server_is_not_healthy(monkeypatch):
    dead = Thread(target=lambda: None)
    dead.start()
    dead.join()
    compute(int)  # the thread is there
    with monkeypatch.context() as patch:
        patch.setattr(compute, "_thread", dead)
        answer = ask(DOOR, "/healthz")
        assert answer.status == 503 and json.loads(answer.body)["status"] == "dead"
    with monkeypatch.context() as patch:
        patch.setattr(operations, "STUCK_S", -1.0)
        assert json.loads(ask(DOOR, "/healthz").body)["status"] == "stuck"
    with monkeypatch.context() as patch:
        patch.setattr(shutdown, "stopping", lambda: True)
        assert ask(DOOR, "/healthz").status == 503
    assert ask(DOOR, "/healthz").status == 200


def test_a_step_that_lasts_is_seen_and_one_that_gives_way_is_alive():
    seen = []

    def long_one():
        import time

        time.sleep(0.1)
        seen.append(compute.step_s)
        compute.give_way(at_most_s=0.0)
        seen.append(compute.step_s)

    compute(long_one)
    assert seen[0] >= 0.09 > seen[1] and compute.finish(1.0) and compute.step_s == 0.0


def test_metrics_count_requests_by_route_and_never_by_what_was_sent():
    before = metrics()
    for number in range(40):
        ask(DOOR, f"/made-up-{number}?secret={number}", "GET")
        ask(DOOR, "/", f"MADE{number}")
    ask(DOOR, "/", headers=[("host", "evil.example")])
    after = metrics()
    new = {key for key in after if key not in before and key[0] == "shared_attention_requests_total"}
    assert len(new) <= 4
    assert not any("made-up" in str(key) or "secret" in str(key) or "MADE" in str(key) for key in after)
    refused = ("shared_attention_requests_total", ("method", "GET"), ("route", "refused"), ("status", "421"))
    assert after[refused] == before.get(refused, 0) + 1


def test_metrics_say_how_the_server_is():
    assert len(services.texts_line) == 0
    found = metrics()
    names = {key[0].removeprefix("shared_attention_") for key in found}
    assert names >= {"line", "models_in_memory", "resident_memory_bytes", "info", "healthy", "generated_tokens_total",
                     "evaluations_total", "request_seconds_bucket"}  # fmt: skip
    assert found[("shared_attention_resident_memory_bytes",)] > 10**7 and found[("shared_attention_healthy",)] == 1


def test_metrics_of_a_public_server_are_for_its_own_machine(monkeypatch):
    assert ask(DOOR, "/metrics", client="10.0.0.9").status == 200
    monkeypatch.setattr(settings.server, "public", True)
    assert ask(DOOR, "/metrics", client="10.0.0.9").status == 403
    through = [*THERE, ("x-forwarded-for", "10.0.0.9")]
    assert ask(DOOR, "/metrics", headers=through).status == 403  # a proxy on this machine asks for somebody else
    assert ask(DOOR, "/metrics").status == 200
    monkeypatch.setattr(settings.server, "metrics", False)
    assert ask(DOOR, "/metrics").status == 404


@pytest.mark.parametrize(("name", "status"), [("ada:1815", 200), ("ada:1816", 403), ("bob:1815", 403), ("ada", 403)])
def test_metrics_with_a_login(monkeypatch, name, status):
    monkeypatch.setattr(settings.server, "login", SecretStr("ada:1815"))
    basic = [*THERE, ("authorization", f"Basic {base64.b64encode(name.encode()).decode()}")]
    assert ask(DOOR, "/metrics", client="10.0.0.9", headers=basic).status == status
    assert ask(DOOR, "/metrics", client="10.0.0.9").status == 403
    assert ask(DOOR, "/metrics", client="10.0.0.9", headers=[*THERE, ("authorization", "Basic ÿ")]).status == 403


def test_work_is_counted(tmp_path, monkeypatch, folder):
    from app import counted
    from app.registry import get_model

    def value(counter) -> float:
        return counter._value.get()

    loaded, failed = counted.loads.labels("loaded"), counted.loads.labels("failed")
    before = value(loaded), value(failed), value(counted.generated_tokens)
    with pytest.raises(ValueError):
        get_model(str(tmp_path / "nowhere"))
    *_, last = services.generate(folder, "2-4", "A fox", 4, 0.0, 0)
    assert value(failed) == before[1] + 1 and value(loaded) >= before[0]
    assert value(counted.generated_tokens) == before[2] + last.dense.tokens + last.shared.tokens
    assert json.loads(ask(DOOR, "/healthz").body)["models_in_memory"] >= 1
