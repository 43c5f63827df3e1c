"""Settings: flags over the environment over defaults, and a sentence for what cannot be."""

import os
import subprocess
import sys

import pytest

from app import settings
from core import places


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments], cwd=places.CHECKOUT, env=os.environ | environment,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.fixture
def server(monkeypatch):
    """The settings, as they were again afterwards."""
    for name in settings.Settings.model_fields:
        monkeypatch.setattr(settings.server, name, getattr(settings.server, name))
    return settings.server


def test_a_flag_wins_over_the_environment_which_wins_over_the_default(server, monkeypatch):
    monkeypatch.setenv("SHARED_ATTENTION_MAX_NEW_TOKENS", "7")
    monkeypatch.setenv("SHARED_ATTENTION_MAX_QUESTIONS", "8")
    monkeypatch.setenv("SHARED_ATTENTION_HOSTS", "a.example, b.example")
    settings.configure(["--max-questions", "9", "--models", "one,two", "--models", "three", "--public"])
    assert (server.max_new_tokens, server.max_questions, server.texts_at_once) == (7, 9, 2)
    assert server.hosts == ("a.example", "b.example") and server.models == ("one", "two", "three") and server.public


def test_all_settings_are_listed_with_what_they_are():
    listed = run("--help").stdout
    for name, field in settings.Settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in listed and field.description


@pytest.mark.parametrize(
    ("flag", "value"), [("port", "abc"), ("log", "yaml"), ("max-new-tokens", "0"), ("session-mb", "-1"), ("public", "maybe")]
)  # fmt: skip
def test_a_setting_that_cannot_be_is_one_sentence_as_flag_and_in_the_environment(flag, value):
    variable = f"SHARED_ATTENTION_{flag.replace('-', '_').upper()}"
    for done in (run(f"--{flag}", value), run(**{variable: value})):
        if "unrecognized arguments" in done.stderr:  # a flag without a value
            continue
        assert done.returncode == 2 and done.stderr.count("\n") == 1
        assert f"--{flag}" in done.stderr and variable in done.stderr and value in done.stderr


def test_results_are_not_written_for_strangers(server):
    assert settings.keeps_results()
    for name in ("public", "read_only"):
        setattr(server, name, True)
        assert not settings.keeps_results()
        setattr(server, name, False)


def test_a_login_is_not_shown(server):
    settings.configure(["--login", "ada:secret"])
    assert server.login.get_secret_value() == "ada:secret" and "secret" not in repr(server)
