"""The page in a real browser (Debian's Chromium, headless): the server that it needs, and what a visitor does."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:  # most tests need no browser
    from playwright.sync_api import Locator, Page

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
LOCAL = ("127.0.0.1", "localhost")
PATIENCE_MS = 150_000  # two servers and two browsers may share two cores
DESKTOP = {"width": 1440, "height": 900}
# Chromium's own errands (updates, sync, metrics) are switched off, so that every request seen is the page's.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--metrics-recording-only",
]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def serve(
    port: int, results: Path, *more: str, out: IO[bytes] | None = None, environment: dict[str, str] | None = None
) -> subprocess.Popen:
    """The command that users type, with this folder of results and these arguments; it answers after a while.

    out: takes what it writes and logs, instead of this process's own. environment: besides this process's.
    """
    nowhere = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_EXTRA_INDEX_URL": ""}
    own = {"SHARED_ATTENTION_RESULTS": str(results)}
    if not results.is_relative_to(ROOT):  # what is tuned lies beside them, and not in the checkout
        own["SHARED_ATTENTION_TUNED"] = str(results.parent / "tuned")
    given = os.environ | nowhere | own | (environment or {})
    command = [sys.executable, "-m", "app", "--port", str(port), *more]
    return subprocess.Popen(command, cwd=ROOT, env=given, stdout=out, stderr=subprocess.STDOUT if out else None)


def wait_for(url: str, server: subprocess.Popen) -> str:
    """The address, when the server answers there."""
    deadline = time.monotonic() + 240  # a busy machine may take minutes to import torch
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server ended"
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return url
        except OSError:
            time.sleep(0.25)
    raise AssertionError("the server did not answer")


def wait_until_idle(page: "Page") -> None:
    """The view on screen is drawn, with every chart, and texts in it are finished."""
    page.wait_for_function("window.explorer?.idle")
    if page.evaluate("explorer.shown") == "generate":
        page.wait_for_selector("#generate-go:not([disabled])")
        page.wait_for_function("document.querySelector('.stage')?.dataset.state?.match(/paused|done|stopped|failed/)")
    page.wait_for_function("!document.querySelector(`#view-${explorer.shown} .chart:not([data-drawn])`)")


def go_to(page: "Page", view: str) -> None:
    """Another view by its link in the bar, drawn."""
    page.click(f".bar nav a[data-view={view}]")
    wait_until_idle(page)


def wait_for_words(page: "Page", selector: str, words: str) -> None:
    """Until the element says these words."""
    page.wait_for_function(
        "([at, words]) => document.querySelector(at).innerText.includes(words)", arg=[selector, words]
    )


def changes(page: "Page", selector: str, action: Callable[[], object]) -> str:
    """The new text of an element after `action`, which must change it."""
    before = page.inner_text(selector)
    action()
    page.wait_for_function("([at, old]) => document.querySelector(at).innerText !== old", arg=[selector, before])
    return page.inner_text(selector)


def plan_box(page: "Page") -> "Locator":
    """The sharing plan as text."""
    return page.locator("#plan-text input, #plan-text textarea")


def prompt_box(page: "Page") -> "Locator":
    """The text to continue."""
    return page.locator("#prompt textarea")


def type_plan(page: "Page", plan: str) -> None:
    """Finish a plan with Enter."""
    plan_box(page).fill(plan)
    plan_box(page).press("Enter")


def evaluate(page: "Page", questions: int) -> None:
    """Start an evaluation with so many questions of each task."""
    box = page.locator("#evaluate-limit input[type=number]")
    box.fill(str(questions))
    box.press("Tab")
    page.click("#evaluate-go")
