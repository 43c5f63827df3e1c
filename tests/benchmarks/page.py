"""`make bench-page`: how fast the page answers a visitor, in Chromium on this machine, and how long its views are.

With `--against COMMIT` an older version is served and measured in the same run, so that one record holds before and
after. Every figure is a median with its single values. Leave the machine alone while it runs (about ten minutes).
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Error, Page, Request, sync_playwright

from core.records.provenance import git_commit
from tests.benchmarks.record import Run
from tests.support.browser import CHROMIUM, DESKTOP, FLAGS, PATIENCE_MS, ROOT, free_port, wait_for

PROBE = (Path(__file__).parent / "page_probe.js").read_text(encoding="utf-8")
WIDTHS = {1440: 900, 1024: 768, 390: 844}
START_PLAN = "10-22"
"""Long enough for a gesture after another to shorten it."""

TEXTS_BEGUN = """() => {
  const prompt = document.querySelector('#prompt textarea')?.value;
  const longer = side => document.querySelector(`#pane-${side} .text`)?.innerText.trim().length > prompt.length;
  return !!prompt && longer('dense') && longer('shared');
}"""
CARDS_DRAWN = "document.querySelectorAll('#savings-cards .big').length >= 4"
_STREAM = "/queue/data"
"""Where answers of the queue come from."""
QUIET_MS = 1000
"""Without a request for so long, nothing more is coming."""

LIMITS = {
    "strip_ms": 50, "sentence_ms": 50, "headline_ms": 50, "savings_server_ms": 150, "requests": 2, "kilobytes": 100,
    "charts_off_screen": 0, "theme_blocked_ms": 300, "texts_begun_s": 2.5, "cards_drawn_s": 2.5,
}  # fmt: skip
"""What the page promises on two quiet cores: at most this."""


class Traffic:
    """What a page asks the server for: finished requests, and those in flight."""

    def __init__(self, page: Page) -> None:
        self.finished: list[Request] = []
        self._flying: set[Request] = set()
        self._last = time.monotonic()
        page.on("request", self._begin)
        page.on("requestfinished", self._end)
        page.on("requestfailed", self._end)

    def _begin(self, request: Request) -> None:
        if "/heartbeat/" in request.url:
            return
        self._last = time.monotonic()
        if _STREAM in request.url:  # it stays open
            self.finished.append(request)
        else:
            self._flying.add(request)

    def _end(self, request: Request) -> None:
        if request in self._flying:
            self._flying.discard(request)
            self.finished.append(request)
            self._last = time.monotonic()

    def settle(self, page: Page) -> None:
        """Wait until nothing is in flight and nothing has been for a while."""
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while time.monotonic() < deadline:
            page.wait_for_timeout(100)
            if not self._flying and 1000 * (time.monotonic() - self._last) > QUIET_MS:
                return
        raise AssertionError(f"requests do not end: {[request.url for request in self._flying]}")


def main(arguments: list[str] | None = None) -> int:
    """Measure, print a table and write the record."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.page", description=__doc__.splitlines()[0])
    parser.add_argument("--against", metavar="COMMIT", help="measure this version too")
    parser.add_argument("--repeats", type=int, default=5, help="gestures, and visits, of each kind")
    parser.add_argument("--starts", type=int, default=3, help="starts of the server with a first visit each")
    parser.add_argument("--out", type=Path, help="where the record goes (default: beside this file)")
    args = parser.parse_args(arguments)
    if not CHROMIUM:
        print("There is no chromium: install Debian's package chromium.", file=sys.stderr)
        return 2
    run = Run("page")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        versions: dict[str, Any] = {}
        if args.against:
            with checkout(args.against) as (root, commit):
                versions["before"] = {"commit": commit, **measure(browser, root, args.repeats, args.starts)}
        versions["after"] = {"commit": git_commit(), **measure(browser, ROOT, args.repeats, args.starts)}
        chromium = browser.version
        browser.close()
    print(table(run.write(args.out, chromium=chromium, limits=LIMITS, **versions)))
    return 0


@contextmanager
def checkout(commit: str) -> Iterator[tuple[Path, str]]:
    """An older version in a folder of its own, and its full name."""
    full = subprocess.run(["git", "rev-parse", commit], cwd=ROOT, check=True, capture_output=True, text=True)
    with tempfile.TemporaryDirectory(prefix="page-before-") as folder:
        packed = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True)
        subprocess.run(["tar", "-x", "-C", folder], input=packed.stdout, check=True)
        yield Path(folder), full.stdout.strip()


@contextmanager
def server(root: Path) -> Iterator[tuple[str, float]]:
    """The command that users type, of the version in `root`: its address, and how long it took to answer (s)."""
    port = free_port()
    cache = tempfile.TemporaryDirectory(prefix="page-cache-")  # models fetched on this machine are not seen
    environment = os.environ | {"SHARED_ATTENTION_CACHE": cache.name, "HF_HUB_OFFLINE": "1"}
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "--port", str(port)], cwd=root, env=environment, stdout=subprocess.DEVNULL
    )
    try:
        yield wait_for(f"http://127.0.0.1:{port}/", process), time.monotonic() - began
    finally:
        process.terminate()
        process.wait(timeout=30)
        cache.cleanup()


def measure(browser: Browser, root: Path, repeats: int, starts: int) -> dict[str, Any]:
    """All figures of the version in `root`."""
    first: dict[str, list[float]] = {}
    for number in range(starts):
        with server(root) as (address, start_s):
            add(first, {"server_start_s": start_s, **visit(browser, address, "", TEXTS_BEGUN, "texts_begun_s")})
            if number == starts - 1:
                again: dict[str, list[float]] = {}
                for _ in range(repeats):
                    add(again, visit(browser, address, "", TEXTS_BEGUN, "texts_begun_s"))
                    add(again, visit(browser, address, "?view=savings", CARDS_DRAWN, "cards_drawn_s"))
                rest = {
                    "gesture": gestures(browser, address, repeats),
                    "theme": themes(browser, address, repeats),
                    "views": views(browser, address),
                }
    return {"first_visit": medians(first), "later_visit": medians(again), **rest}


def visit(browser: Browser, address: str, query: str, usable: str, name: str) -> dict[str, float]:
    """A visitor whose browser knows nothing of the page: seconds until it is usable, requests and kilobytes for that."""
    with opened(browser) as (page, traffic):
        began = time.monotonic()
        page.goto(address + query, wait_until="commit")
        page.wait_for_function(usable)
        took_s = time.monotonic() - began
        finished = list(traffic.finished)
        traffic.settle(page)
        return {name: took_s, "requests": len(finished), "kilobytes": sum(map(kilobytes, finished))}


@contextmanager
def opened(browser: Browser, **options: Any) -> Iterator[tuple[Page, Traffic]]:
    """A page of a new visitor, with the probe in it."""
    context = browser.new_context(**{"viewport": DESKTOP, "color_scheme": "light", **options})
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.add_init_script(PROBE)
    try:
        yield page, Traffic(page)
    finally:
        context.close()


def gestures(browser: Browser, address: str, repeats: int) -> dict[str, Any]:
    """One step at the plan, again and again, while the savings are on screen (in the old page: on the page)."""
    found: dict[str, list[float]] = {}
    with opened(browser) as (page, traffic):
        page.goto(f"{address}?view=savings&plan={START_PLAN}", wait_until="domcontentloaded")
        page.wait_for_function(CARDS_DRAWN)
        traffic.settle(page)
        how, step = gesture_of(page)
        for number in range(repeats):
            traffic.finished.clear()
            page.evaluate("probe.arm()")
            step(number)
            page.wait_for_function("probe.times.savings")
            traffic.settle(page)
            times = page.evaluate("probe.times")
            touched = page.evaluate("probe.touched")
            asked = [one for one in traffic.finished if one.resource_type in ("fetch", "xhr", "eventsource")]
            server_ms = [ms for ms in map(savings_ms, asked) if ms is not None]
            add(found, {f"{name}_ms": ms for name, ms in times.items()})
            add(found, {"savings_server_ms": max(server_ms)} if server_ms else {})
            add(found, {
                "requests": len(asked), "kilobytes": sum(map(kilobytes, asked)), "chart_calls": len(touched),
                "charts_off_screen": sum(where != "on screen" for _, where in touched),
                "charts_hidden": sum(where == "hidden" for _, where in touched),
                "longest_task_ms": max((ms for _, ms in page.evaluate("probe.tasks")), default=0),
            })  # fmt: skip
    return {"how": how, **medians(found)}


def gesture_of(page: Page) -> tuple[str, Callable[[int], None]]:
    """What a visitor does for the smallest other plan here: at the strip, at a slider, or in the text box."""
    if page.locator("#strip .tile").count():
        tiles = page.locator("#strip .tile")
        return "click on the last follower in the strip", lambda number: tiles.nth(22 - number).click()
    if page.locator("#plan-leader").count():
        slider = page.locator("#plan-leader input[type=range]")
        slider.focus()
        return "one step of the slider", lambda number: slider.press("ArrowRight")
    box = page.locator("#plan-text :is(input, textarea)")
    return "a plan typed", lambda number: box.fill(f"10-{21 - number}")


def savings_ms(request: Request) -> float | None:
    """How long the server took until its answer began, if this answer holds the cards of savings."""
    response = request.response()
    if response is None or "/run/" not in request.url or "Attention-weight FLOPs" not in response.text():
        return None
    return request.timing["responseStart"] - request.timing["requestStart"]


def kilobytes(request: Request) -> float:
    """What a request and its answer weigh, heads included; nothing for a stream, whose end nobody sees."""
    if _STREAM in request.url:
        return 0.0
    try:
        return sum(request.sizes().values()) / 1000
    except Error:  # one that was broken off has no sizes
        return 0.0


def themes(browser: Browser, address: str, repeats: int) -> dict[str, Any]:
    """From light to dark and back, on the view with most charts."""
    found: dict[str, list[float]] = {}
    with opened(browser) as (page, traffic):
        page.goto(f"{address}?view=scores", wait_until="domcontentloaded")
        page.wait_for_selector("#scores-table tbody tr", state="attached")
        traffic.settle(page)
        for _ in range(repeats):
            page.evaluate("probe.arm()")
            page.click(".bar .mode")
            page.wait_for_timeout(2500)
            tasks = [ms for _, ms in page.evaluate("probe.tasks")]
            add(found, {"theme_blocked_ms": sum(tasks), "theme_longest_task_ms": max(tasks, default=0)})
    return medians(found)


def views(browser: Browser, address: str) -> dict[str, Any]:
    """Height in px at each width, stops of the Tab key and those of them in charts, for each view."""
    found: dict[str, Any] = {}
    with opened(browser) as (page, traffic):
        page.goto(address, wait_until="domcontentloaded")
        page.wait_for_function(TEXTS_BEGUN)
        traffic.settle(page)
        names = page.evaluate("window.explorer ? explorer.views : ['(one page)']")
        for name in names:
            if len(names) > 1:
                page.evaluate("name => explorer.show(name)", name)
                page.wait_for_function("explorer.idle")
            heights = {}
            for width, height in WIDTHS.items():
                page.set_viewport_size({"width": width, "height": height})
                traffic.settle(page)
                heights[str(width)] = page.evaluate("document.documentElement.scrollHeight")
            page.set_viewport_size(DESKTOP)
            stops = page.evaluate("probe.tab_stops()")
            found[name] = {"height_px": heights, "tab_stops": len(stops), "tab_stops_in_charts": stops.count("chart")}
    return found


def add(found: dict[str, list[float]], more: dict[str, float]) -> None:
    """Another value of each figure."""
    for name, value in more.items():
        found.setdefault(name, []).append(value)


def medians(found: dict[str, list[float]]) -> dict[str, Any]:
    """Each figure's median, with the values in the order in which they were measured."""
    return {
        name: {"median": round(statistics.median(values), 3), "values": [round(value, 3) for value in values]}
        for name, values in found.items()
    }


def table(record: dict[str, Any]) -> str:
    """The medians of a record side by side, with what is asked for."""
    sides = [side for side in ("before", "after") if side in record]
    rows = [("", *(f"{side} {(record[side]['commit'] or '')[:7]}" for side in sides), "at most")]
    for part in ("first_visit", "later_visit", "gesture", "theme"):
        names = dict.fromkeys(name for side in sides for name in record[side][part] if name != "how")
        for name in names:
            cells = [record[side][part].get(name, {}).get("median") for side in sides]
            limit = LIMITS.get(name, "") if part != "first_visit" or name.endswith("_s") else ""
            rows.append((f"{part} {name}", *("–" if cell is None else f"{cell:,.1f}" for cell in cells), f"{limit}"))
    for side in sides:
        for name, view in record[side]["views"].items():
            heights = " / ".join(f"{px:,}" for px in view["height_px"].values())
            stops = f"{view['tab_stops']} tab stops, {view['tab_stops_in_charts']} in charts"
            rows.append((f"{side}: {name}", f"{heights} px", stops))
    return "\n".join(f"{first:42}" + "".join(f"{cell:>24}" for cell in rest) for first, *rest in rows)


if __name__ == "__main__":
    sys.exit(main())
