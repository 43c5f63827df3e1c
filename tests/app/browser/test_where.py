"""The page in a real browser (Debian's Chromium, headless) and its endpoints, on the bundled model, without network."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from core.records.scores import load_records

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
LOCAL = ("127.0.0.1", "localhost")
PATIENCE_MS = 30_000
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


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A copy of the results, for evaluations on the page to add to."""
    return shutil.copytree(ROOT / "results", tmp_path_factory.mktemp("copy") / "results")


@pytest.fixture(scope="module")
def address(results):
    """The page, served by the command that users type."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = _serve(port, results)
    try:
        yield _wait_for(f"http://127.0.0.1:{port}/", server)
    finally:
        server.terminate()
        server.wait(timeout=20)


def _serve(port: int, results: Path) -> subprocess.Popen:
    environment = os.environ | {"SHARED_ATTENTION_RESULTS": str(results)}
    return subprocess.Popen([sys.executable, "-m", "app", "--port", str(port)], cwd=ROOT, env=environment)


def _wait_for(url: str, server: subprocess.Popen) -> str:
    for _ in range(240):
        assert server.poll() is None, "the server ended"
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return url
        except OSError:
            time.sleep(0.25)
    raise AssertionError("the server did not answer")


@pytest.fixture(scope="module")
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


@pytest.fixture
def open_page(browser, address):
    """`open_page(query="", beside=None, **context options)`: a new page, of the same visitor as the page `beside`.

    At the end nothing may have gone wrong in any of them.
    """
    faults, contexts = [], []

    def watch(request):
        host = request.url.split("/")[2].split(":")[0] if "//" in request.url else ""
        if request.url.startswith("http") and host not in LOCAL:
            faults.append(f"request to {request.url}")

    def open_it(query: str = "", beside=None, **options):
        context = beside.context if beside else browser.new_context(**{"viewport": DESKTOP, **options})
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.add_init_script(_SUM_OF_LAYOUT_SHIFTS)
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


def wait_until_idle(page) -> None:
    """The first texts are finished and every chart is drawn."""
    page.wait_for_selector("#generate-go:not([disabled])")
    page.wait_for_function("document.querySelector('#pane-shared .facts b')?.innerText.match(/[0-9]/)")
    page.wait_for_function("document.querySelectorAll('.chart:not([data-drawn])').length === 0")


def changes(page, selector: str, action) -> str:
    """The new text of an element after `action`, which must change it."""
    before = page.inner_text(selector)
    action()
    page.wait_for_function("([at, old]) => document.querySelector(at).innerText !== old", arg=[selector, before])
    return page.inner_text(selector)


def plan_box(page):
    return page.locator("#plan-text input, #plan-text textarea")


def prompt_box(page):
    return page.locator("#prompt textarea")


def type_plan(page, plan: str) -> None:
    plan_box(page).fill(plan)
    plan_box(page).press("Enter")


pytestmark = pytest.mark.browser


def test_first_sight_is_full_of_real_results(open_page):
    page = open_page()
    assert "Layer 17 computes, 18–22 reuse" in page.inner_text("#plan-summary")
    dense, shared = page.inner_text("#pane-dense .text"), page.inner_text("#pane-shared .text")
    prompt = prompt_box(page).input_value()
    assert dense.startswith(prompt) and shared.startswith(prompt) and min(len(dense), len(shared)) > len(prompt) + 40
    assert len(re.findall(r"−\d+\.\d%", page.inner_text("#savings-cards"))) == 4
    assert page.locator("#scores-table tbody tr").count() > 5
    assert page.locator(".chart .main-svg").count() >= 9
    assert not page.locator("[data-title*=Share]").count()  # plotly's button that uploads a chart
    assert page.evaluate("document.documentElement.scrollWidth") <= 1440


def test_every_part_can_be_reached_from_the_bar_of_a_projector(open_page):
    page = open_page(viewport={"width": 1024, "height": 768})
    for width in (1024, 1280):
        page.set_viewport_size({"width": width, "height": 768})
        assert page.evaluate("(nav => nav.scrollWidth <= nav.clientWidth)(document.querySelector('.bar nav'))")


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_both_modes_and_widths_are_readable_and_calm(open_page, mode, width):
    page = open_page(color_scheme=mode, viewport={"width": width, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ratios = page.evaluate(_CONTRASTS)
    assert len(ratios) > 20 and min(ratio for ratio, _ in ratios) >= 4.5, sorted(ratios)[:5]
    font_sizes = page.evaluate(
        "[...document.querySelectorAll('.chart text')].map(t => parseFloat(getComputedStyle(t).fontSize))"
    )
    assert min(font_sizes) >= 14
    assert page.evaluate(_CUT_AXIS_TITLES) == []
    assert page.evaluate("layoutShifts") < 0.25  # Web Vitals: 0.1 is good, 0.25 is poor; jumping sections give 0.4 to 1


_CUT_AXIS_TITLES = """[...document.querySelectorAll('.chart .xtitle, .chart .ytitle')].filter(title => {
  const words = title.getBoundingClientRect(), chart = title.closest('.chart').getBoundingClientRect();
  return words.left < chart.left || words.right > chart.right || words.bottom > chart.bottom || words.top < chart.top;
}).map(title => title.textContent)"""

_SUM_OF_LAYOUT_SHIFTS = """
window.layoutShifts = 0;
new PerformanceObserver(list => { for (const shift of list.getEntries()) layoutShifts += shift.value; })
  .observe({type: 'layout-shift', buffered: true});
"""

# WCAG contrast of every visible word against the nearest opaque ground, of our own HTML.
_CONTRASTS = """() => {
  const rgb = css => css.match(/[0-9.]+/g).map(Number);
  const linear = c => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
  const parts = [.2126, .7152, .0722];
  const light = colour => parts.reduce((sum, part, i) => sum + part * linear(colour[i] / 255), 0);
  const over = ([r, g, b, a = 1], ground) => [r, g, b].map((c, i) => c * a + ground[i] * (1 - a));
  const ground = element => {
    if (!element) return [255, 255, 255];
    const colour = rgb(getComputedStyle(element).backgroundColor);
    return colour[3] === undefined ? colour : over(colour, ground(element.parentElement));
  };
  const own = 'h1, h2, h3, .lead, .lead b, .tagline, .note, .sentence, .badge, .chip, .hint, .big, .pair span, '
    + '.pair b, .pane .text span, .pane mark, .facts span, .facts b, .warning, dt, dd, .bar a, th, td, '
    + '.key span, .verdict';
  return [...document.querySelectorAll(own)].filter(e => e.innerText?.trim() && e.offsetParent).map(e => {
    const behind = ground(e), a = light(over(rgb(getComputedStyle(e).color), behind)), b = light(behind);
    return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), e.className + ' ' + e.innerText.slice(0, 30)];
  });
}"""


def test_the_mode_button_switches_page_and_charts_and_is_remembered(open_page):
    page = open_page()
    ink = "getComputedStyle(document.querySelector('#similarity-heatmap .xtick text')).fill"
    light = page.evaluate(ink)
    page.click(".bar .mode")
    page.wait_for_function(f"{ink} !== '{light}'")
    assert "dark" in page.evaluate("document.body.className")
    page = open_page(beside=page)
    assert "dark" in page.evaluate("document.body.className")


def test_bad_plans_get_a_sentence_and_stay_in_the_box(open_page):
    page = open_page()
    for bad, told in (
        ("9-3", "reversed"),
        ("5-40", "out of range"),
        ("1-3,2-4", "overlap"),
        ("0~3", "layer 0"),
        ("?", "span"),
    ):
        type_plan(page, bad)
        page.wait_for_function(f"document.querySelector('#plan-error').innerText.includes('{told}')")
        assert plan_box(page).input_value() == bad
    assert "Layer 17" in page.inner_text("#plan-summary")
    type_plan(page, "5-6,10-12")
    page.wait_for_function("!document.querySelector('#plan-error .error')")
    assert "5 computes, 6 reuses; layer 10 computes, 11–12 reuse" in page.inner_text("#plan-summary")


def test_a_model_that_cannot_be_loaded_gets_a_sentence_and_the_page_goes_on(open_page):
    page = open_page()
    box = page.locator("#model-name input")
    box.fill("nobody/no-such-model")
    page.click("#model-load")
    page.wait_for_selector("#model-error .error")
    assert box.input_value() == "nobody/no-such-model"
    assert "demo" in page.inner_text(".chip")
    page.click("#generate-go")
    page.wait_for_selector("#generate-stop:not([disabled])")


def test_plan_sliders_push_each_other_and_everything_follows(open_page):
    page = open_page()
    leader = page.locator("#plan-leader input[type=range]")
    leader.focus()
    cards = changes(page, "#savings-cards .cards", lambda: leader.press("End"))
    assert "Layer 22 computes, 23 reuses" in page.inner_text("#plan-summary")
    assert "−2.1%" in cards  # one follower of 24 layers caches no keys: 1/48
    assert plan_box(page).input_value() == "22-23" and "plan=22-23" in page.url
    page.wait_for_function("document.querySelector('#similarity-heatmap .chart').ariaLabel.includes('22-23')")


def test_savings_follow_sliders_and_other_models(open_page):
    page = open_page()
    batch = page.locator("#savings-batch input[type=range]")
    batch.focus()
    before = page.inner_text("#savings-cards")
    start = time.monotonic()
    after = changes(page, "#savings-cards .cards", lambda: batch.press("ArrowRight"))
    assert time.monotonic() - start < 2
    megabytes = [float(re.search(r"dense\s+([\d.]+) MB", words)[1]) for words in (before, after)]
    assert megabytes[1] == pytest.approx(2 * megabytes[0], rel=0.01)
    page.click("#savings-shape input")
    page.click("[role=option]:has-text('Llama-3-8B')")
    page.wait_for_function("document.querySelector('#savings-plan input, #savings-plan textarea').value === '23-29'")
    assert "TFLOP" in page.inner_text("#savings-cards") or "PFLOP" in page.inner_text("#savings-cards")


def test_speed_follows_sliders_hardware_and_the_plan(open_page):
    page = open_page()
    assert page.locator("#speed-fits tbody tr").count() > 10 and "predicted" in page.inner_text("#speed-cards")
    batch = page.locator("#speed-batch input[type=range]")
    batch.focus()
    before = page.inner_text("#speed-cards")
    after = changes(page, "#speed-cards .cards", lambda: batch.press("Home"))
    dense = [re.search(r"Tokens per second.*?dense\s+([\d,]+)", words, re.DOTALL)[1] for words in (before, after)]
    many, one = (int(number.replace(",", "")) for number in dense)
    assert one < many  # one text at a time: fewer tokens per second than sixteen
    page.click("#speed-device input")
    slower = changes(page, "#speed-cards .cards", lambda: page.click("[role=option]:has-text('Laptop')"))
    assert "+" in slower and "TB per second" not in page.inner_text("#speed-cards")
    changes(page, "#speed-cards .cards", lambda: type_plan(page, "2-20"))
    assert page.locator("#speed-plan input, #speed-plan textarea").input_value() == "3-27"
    page.locator("#speed-plan input, #speed-plan textarea").fill("3-99")
    page.keyboard.press("Enter")
    page.wait_for_selector("#speed-error .error")
    assert not page.locator("#speed-fits tbody tr").count()


def test_generation_streams_in_both_panes_and_stop_ends_it(open_page):
    page = open_page()
    page.locator("#max-tokens input[type=number]").fill("300")
    page.click("#generate-go")
    page.wait_for_selector("#generate-stop:not([disabled])")
    length = "Math.min(...['dense', 'shared'].map(s => document.querySelector(`#pane-${s} .text`).innerText.length))"
    for more in (80, 160):  # both grow while the computation goes on
        page.wait_for_function(f"{length} > {more}")
    assert re.search(r"Memory held by both models together: [\d.]+ [MG]B", page.inner_text("#verdict"))
    page.click("#generate-stop")
    page.wait_for_selector("#generate-go:not([disabled])")
    page.wait_for_timeout(500)  # an update may be under way
    stopped_at = page.evaluate(length)
    page.wait_for_timeout(1000)
    assert page.evaluate(length) == stopped_at


def test_prompts_are_shown_as_they_are_and_bad_ones_are_explained(open_page):
    page = open_page()
    hostile = "<img src=x onerror=alert(1)> ${1+1} {{value}} `&amp;"
    page.locator("#max-tokens input[type=number]").fill("5")
    prompt_box(page).fill(hostile)
    page.click("#generate-go")
    page.wait_for_function("p => document.querySelector('#pane-dense .text').innerText.startsWith(p)", arg=hostile)
    wait_until_idle(page)
    for bad in ("   ", "word " * 3000):
        prompt_box(page).fill(bad)
        page.click("#generate-go")
        page.wait_for_selector("#generate-error .error")
        assert prompt_box(page).input_value() == bad
        wait_until_idle(page)
    prompt_box(page).fill("Once")
    page.click("#generate-go")
    page.wait_for_function("!document.querySelector('#generate-error .error')")


def test_examples_fill_the_prompt_and_tell_the_right_answer(open_page):
    page = open_page()
    page.click("#example-arithmetic")
    page.wait_for_function("document.querySelector('#answer').innerText.includes('Right answer')")
    assert re.fullmatch(r"\d+ \+ \d+ =", prompt_box(page).input_value())
    page.wait_for_function("document.querySelector('#pane-dense .text').innerText.match(/^\\d+ \\+ \\d+ = ?\\d/)")


def test_a_click_on_the_heatmap_opens_the_two_maps(open_page):
    page = open_page()
    page.locator("#similarity-heatmap").scroll_into_view_if_needed()
    area = page.locator("#similarity-heatmap .nsewdrag").bounding_box()
    cell = area["width"] / 24
    x, y = area["x"] + 9.5 * cell, area["y"] + 4.5 * cell
    words = changes(page, "#map-pair .sentence", lambda: page.mouse.click(x, y))
    assert "layer 4" in words and "layer 9" in words
    page.wait_for_function("document.querySelector('#map-right figcaption').innerText.includes('9')")


def test_similarity_follows_the_text_and_the_method(open_page):
    page = open_page()
    values = "JSON.stringify(document.querySelector('#similarity-heatmap .chart').data[0].z)"
    before = page.evaluate(values)
    page.locator("#similarity-text textarea").fill("One two three four five six seven eight nine ten.")
    page.click("#similarity-compute")
    page.wait_for_function(f"{values} !== {before!r}")
    middle = page.evaluate(values)
    page.click("#similarity-method label:nth-of-type(2)")
    page.wait_for_function(f"{values} !== {middle!r}")
    page.locator("#similarity-text textarea").fill("")
    page.click("#similarity-compute")
    page.wait_for_selector("#similarity-error .error")


def test_scores_tell_how_they_were_measured_and_can_be_taken_away(open_page):
    page = open_page()
    assert "python -m core evaluate" in page.inner_text("#scores-details pre")
    with page.expect_download() as download:
        page.click("#scores-export")
    header = Path(download.value.path()).read_text().splitlines()[0]
    assert {"model", "plan", "value", "stderr", "n", "command"} <= set(header.split(","))


def _evaluate(page, questions: int) -> None:
    box = page.locator("#evaluate-limit input[type=number]")
    box.fill(str(questions))
    box.press("Tab")
    page.click("#evaluate-go")


def _wait_for_words(page, selector: str, words: str) -> None:
    page.wait_for_function(
        "([at, words]) => document.querySelector(at).innerText.includes(words)", arg=[selector, words]
    )


def _task_shown(page) -> str:
    return page.locator("#scores-task input").input_value()


def test_a_click_on_a_bar_selects_it_everywhere(open_page):
    page = open_page()
    ring = "JSON.stringify(document.querySelector('#scores-tradeoff .chart').data.find(t => t.name === 'selected').x)"
    before = page.evaluate(ring)
    page.locator("#scores-bars .bars .point").last.scroll_into_view_if_needed()
    page.locator("#scores-bars .bars .point").last.click(force=True)
    chosen = "#scores-table tr[aria-selected=true]"
    page.wait_for_function(f"document.querySelector('{chosen}').innerText.includes('1-23')")
    _wait_for_words(page, "#scores-details", "--plan 1-23")
    _wait_for_words(page, "#answers-page", "1-23 on")
    page.wait_for_function(f"{ring} !== {before!r}")
    page.locator("#scores-table tr[data-id]").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_function(f"document.querySelector('{chosen}').innerText.includes('dense')")


def test_an_evaluation_shows_progress_and_its_scores_appear_at_once_and_in_other_tabs(open_page, results):
    page, other = open_page(), open_page()
    _evaluate(page, 20)
    page.wait_for_selector("#evaluate-stop:not([disabled])")
    page.wait_for_selector("#evaluate-progress [role=progressbar]")
    _wait_for_words(page, "#evaluate-progress", "n = 20")
    page.wait_for_selector("#evaluate-go:not([disabled])")
    assert len(list(results.glob("demo/*/*limit=20.json"))) == 4
    page.wait_for_function("document.querySelector('#scores-task input').value.includes('limit=20')")
    page.wait_for_function("document.querySelectorAll('#scores-table tbody tr').length === 2")
    _wait_for_words(page, "#scores-details", "--limit 20")
    assert "limit=20" not in _task_shown(other)
    other.reload(wait_until="domcontentloaded")
    wait_until_idle(other)
    other.click("#scores-task input")
    assert other.locator("[role=option]:has-text('demo_copy · exact_match · limit=20')").count() == 1


def test_an_evaluation_leaves_room_for_generation_and_stops_at_once(open_page, results):
    page = open_page()
    _evaluate(page, 480)
    _wait_for_words(page, "#evaluate-progress", "of 480")
    prompt = "A fox went to the sea and"
    prompt_box(page).fill(prompt)
    page.click("#generate-go")
    written = "p => { const shown = document.querySelector('#pane-dense .text').innerText;"
    written += " return shown.startsWith(p) && shown.length > p.length + 40; }"
    page.wait_for_function(written, arg=prompt, timeout=10_000)
    page.click("#evaluate-stop")
    _wait_for_words(page, "#evaluate-progress", "Stopped")
    assert not list(results.glob("demo/*/*limit=480.json"))
    page.wait_for_selector("#evaluate-go:not([disabled])")
    _evaluate(page, 10)  # starts at once: the stopped one has left the thread
    _wait_for_words(page, "#evaluate-progress", "n = 10")


def test_a_closed_tab_stops_its_evaluation(open_page, results):
    closed, page = open_page(), open_page()
    _evaluate(closed, 490)
    _wait_for_words(closed, "#evaluate-progress", "of 490")
    _evaluate(page, 30)
    _wait_for_words(page, "#evaluate-progress", "Another evaluation is running")
    closed.close()
    _wait_for_words(page, "#evaluate-progress", "n = 30")
    assert not list(results.glob("demo/*/*limit=490.json"))


def test_a_benchmark_of_ones_own_is_uploaded_checked_and_measured(open_page, tmp_path):
    page = open_page()
    good, bad = tmp_path / "colours.jsonl", tmp_path / "bad.jsonl"
    good.write_text('{"prompt": "${1+1} <b>Snow</b> is", "choices": ["white", "black"], "answer": "white"}')
    bad.write_text(good.read_text() + "\n{]")
    chooser = page.locator("input[type=file]:has(+ #evaluate-upload)")
    chooser.set_input_files(bad)
    _wait_for_words(page, "#evaluate-error", "bad.jsonl, line 2")
    chooser.set_input_files(good)
    _wait_for_words(page, "#evaluate-tasks", "custom_colours")
    _evaluate(page, 10)
    _wait_for_words(page, "#evaluate-progress", "custom_colours")
    page.wait_for_selector("#evaluate-go:not([disabled])")
    page.wait_for_function("document.querySelector('#scores-task input').value.includes('custom_colours')")
    page.locator("#answers-only").click()
    _wait_for_words(page, "#answers-page", "${1+1} <b>Snow</b> is")


def test_a_killed_server_loses_the_running_task_only(browser, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server, address, results = _serve(port, tmp_path), f"http://127.0.0.1:{port}/", tmp_path
    try:
        _wait_for(address, server)
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(address, wait_until="domcontentloaded")
        wait_until_idle(page)
        _evaluate(page, 200)
        last_moment = time.monotonic() + PATIENCE_MS / 1000
        while len(stored := list(results.glob("demo/dense/*.json"))) < 2:  # the page may be slow to show it
            assert time.monotonic() < last_moment
            page.wait_for_timeout(50)
        server.kill()
        server.wait()
        before = {path: path.stat().st_mtime_ns for path in stored}
        assert len(list(results.glob("demo/17-22/*.json"))) < 2
        server = _serve(port, results)
        _wait_for(address, server)
        page.goto(address, wait_until="domcontentloaded")
        wait_until_idle(page)
        _evaluate(page, 200)
        _wait_for_words(page, "#evaluate-progress", "n = 200")
        page.close()
        assert {path: path.stat().st_mtime_ns for path in before} == before
        records, problems = load_records(results)
        assert len(records) == 4 and not problems
    finally:
        server.kill()
        server.wait()


def test_two_pages_do_not_disturb_each_other_and_links_open_the_same_view(open_page):
    first, second = open_page(), open_page("?plan=2-3,8-10")
    assert plan_box(second).input_value() == "2-3,8-10"
    type_plan(second, "11-12")
    second.wait_for_function("document.querySelector('.chip').innerText.includes('11-12')")
    assert "17-22" in first.inner_text(".chip") and plan_box(first).input_value() == "17-22"
    wait_until_idle(first), wait_until_idle(second)  # the texts of first sight are done
    first.click("#generate-go")
    second.click("#generate-go")
    for page, plan in ((first, "17-22"), (second, "11-12")):
        page.wait_for_function("plan => document.querySelector('#pane-shared h3').innerText.includes(plan)", arg=plan)
        wait_until_idle(page)
        assert plan in page.inner_text("#pane-shared h3")
    third = open_page("?" + second.url.partition("?")[2])
    assert plan_box(third).input_value() == "11-12" and "11-12" in third.inner_text("#pane-shared h3")


def test_everything_can_be_reached_by_keyboard_and_has_a_name(open_page):
    page = open_page()
    nameless = page.evaluate(
        """[...document.querySelectorAll('input, textarea, button, a[href], [role=img]')].filter(e => e.offsetParent
           && !(e.ariaLabel || e.innerText?.trim() || e.labels?.length || e.closest('label')
                || e.getAttribute('aria-labelledby') || e.title)).map(e => e.outerHTML.slice(0, 120))"""
    )
    assert not nameless
    page.locator("#plan-text input, #plan-text textarea").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement !== document.body")


# --- where to share --------------------------------------------------------------------------------------------------


def test_spans_fill_in_stop_keeps_them_and_a_click_makes_one_the_plan(open_page):
    page = open_page()
    page.click("#where-sweep")
    page.wait_for_selector("#where-progress:has-text('left')")
    prompt_box(page).fill("A fox")
    page.click("#generate-go")  # a sweep does not keep others waiting
    page.wait_for_function("document.querySelector('#pane-shared .text').innerText.length > 20")
    page.wait_for_selector("#generate-go:not([disabled])")
    page.click("#where-sweep-stop")
    page.wait_for_selector("#where-progress:has-text('Stopped')")
    page.wait_for_selector("#where-sweep:not([disabled])")
    assert "Measured on this machine" in page.inner_text("#where-about")
    page.evaluate("document.getElementById('where-heatmap').scrollIntoView()")
    page.wait_for_timeout(500)
    cell = page.locator("#where-heatmap .nsewdrag").bounding_box()
    page.mouse.click(cell["x"] + cell["width"] * 22.5 / 23, cell["y"] + cell["height"] * 22.5 / 23)
    page.wait_for_selector(".chip:has-text('22-23')")
    assert plan_box(page).input_value() == "22-23" and "plan=22-23" in page.url


def test_a_suggestion_is_applied_with_its_head_map(open_page, address):
    page = open_page()
    page.get_by_label("let this many layers reuse").check()
    page.locator("#suggest-value input[type=number]").fill("1")
    page.locator("#suggest-value input[type=number]").press("Enter")
    page.locator("#longest-span input").fill("2")
    page.locator("#protect-first input").fill("21")
    page.click("#suggest-search")
    page.wait_for_selector("#suggest-progress:has-text('Done')", timeout=4 * PATIENCE_MS)
    said = page.inner_text("#suggest-answer")
    assert "paper notation" in said and "predicted" in said and "held-out tokens" in said
    page.click("#suggest-apply")
    page.wait_for_selector(".chip:has-text('head-mapped')")
    assert "heads=" in page.url
    page = open_page(page.url.removeprefix(address))
    assert "head-mapped" in page.inner_text(".chip") and "head-mapped" in page.inner_text("#pane-shared h3")


# --- endpoints -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client(address):
    from gradio_client import Client

    return Client(address, verbose=False, analytics_enabled=False)


def test_programs_find_exactly_the_named_endpoints(client):
    assert set(client.view_api(return_format="dict")["named_endpoints"]) == {
        "/savings",
        "/similarity",
        "/generate",
        "/scores",
        "/suggest",
    }


def test_endpoints_answer(client):
    savings = client.predict(model="Llama-3-8B", plan="22-26", api_name="/savings")
    assert savings["KV cache"]["saved_percent"] == pytest.approx(100 * 4 / 64)
    similarity = client.predict(text="A fox went to the sea.", api_name="/similarity")
    assert len(similarity["similarity"]) == len(similarity["similarity"][0]) == 24
    job = client.submit(prompt="A fox", max_new_tokens=8, api_name="/generate")
    job.result()
    assert job.outputs()[-1]["shared"]["tokens"] == 8
    assert client.predict(plan="dense", api_name="/scores")


def test_endpoints_answer_bad_input_with_the_sentence(client):
    with pytest.raises(Exception, match="reversed"):
        client.predict(plan="9-3", api_name="/savings")
