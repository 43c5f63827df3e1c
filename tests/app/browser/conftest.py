"""One server and one browser for all tests here of a process: the bundled model, without network.

They end with the tests here: while a browser is open, no other test of the process could start an event loop.
"""

import os
import shutil
import time
from functools import partial

import pytest

from tests.support.browser import (
    CHROMIUM,
    DESKTOP,
    FLAGS,
    LOCAL,
    PATIENCE_MS,
    ROOT,
    free_port,
    serve,
    wait_for,
    wait_until_idle,
)

_SUM_OF_LAYOUT_SHIFTS = """
window.layoutShifts = 0;
new PerformanceObserver(list => { for (const shift of list.getEntries()) layoutShifts += shift.value; })
  .observe({type: 'layout-shift', buffered: true});
"""


@pytest.fixture(scope="package")
def results(tmp_path_factory):
    """A copy of the results, for evaluations on the page to add to."""
    return shutil.copytree(ROOT / "results", tmp_path_factory.mktemp("copy") / "results")


@pytest.fixture(scope="package")
def address(results):
    """The page, served by the command that users type."""
    port = free_port()
    server = serve(port, results)
    try:
        yield wait_for(f"http://127.0.0.1:{port}/", server)
    finally:
        server.terminate()
        server.wait(timeout=20)


@pytest.fixture(scope="package")
def browser():
    """Headless Chromium; without one the tests are skipped, or fail where it is required."""
    if not CHROMIUM:
        message = "There is no chromium: install Debian's package chromium."
        pytest.fail(message) if os.environ.get("REQUIRE_BROWSER") == "1" else pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


def _answer_late(seconds, route, request):
    time.sleep(seconds if "/run/" in request.url else 0)
    route.continue_()


@pytest.fixture
def open_page(browser, address):
    """`open_page(query="", beside=None, answers_after_s=0, **context options)`: a new page, of the same visitor as `beside`.

    Answers wait `answers_after_s`, and all else behind them, as on a busy server. At the end nothing may have gone wrong
    in any of them.
    """
    faults, contexts = [], []

    def watch(request):
        host = request.url.split("/")[2].split(":")[0] if "//" in request.url else ""
        if request.url.startswith("http") and host not in LOCAL:
            faults.append(f"request to {request.url}")

    def open_it(query: str = "", beside=None, answers_after_s: float = 0, **options):
        context = beside.context if beside else browser.new_context(**{"viewport": DESKTOP, **options})
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.add_init_script(_SUM_OF_LAYOUT_SHIFTS)
        if answers_after_s:
            page.route("**/*", partial(_answer_late, answers_after_s))
        page.on("request", watch)
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(address + query, wait_until="domcontentloaded")
        wait_until_idle(page)
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert not faults
