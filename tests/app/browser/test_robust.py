"""What does not go as planned: two tabs, a telephone, and a server that is started again under an open page."""

import re

import pytest

from app import text
from tests.support.browser import (
    DESKTOP,
    evaluate,
    free_port,
    go_to,
    plan_box,
    prompt_box,
    serve,
    type_plan,
    wait_for,
    wait_for_words,
    wait_until_idle,
)

pytestmark = pytest.mark.browser


def test_two_tabs_of_one_visitor_have_views_and_plans_of_their_own(open_page):
    first = open_page("?view=savings")
    second = open_page("?view=savings&plan=2-3", beside=first)
    type_plan(first, "5-6")
    first.wait_for_function("explorer.view.plan === '5-6' && explorer.idle")
    go_to(second, "speed")
    assert first.evaluate("explorer.shown") == "savings" and second.evaluate("explorer.view.plan") == "2-3"
    assert plan_box(second).input_value() == "2-3" and "plan=2-3" in second.url
    type_plan(second, "8-9")
    second.wait_for_function("explorer.view.plan === '8-9' && explorer.idle")
    assert first.evaluate("explorer.view.plan") == "5-6" and "−2.1%" in first.inner_text("#savings-cards")


def test_a_telephone_reaches_every_view_by_touch_without_scrolling_sideways(open_page):
    page = open_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, device_scale_factor=2)
    for name in text.VIEWS:
        page.tap(f".bar nav a[data-view={name}]")
        wait_until_idle(page)
        assert page.evaluate("explorer.shown") == name
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        small = page.evaluate(_SMALL_TARGETS)
        assert not small, f"{name}: {small}"


# Of what a finger hits, apart from what is part of a sentence: links, and the words that one looks from (WCAG 2.5.8, inline).
_SMALL_TARGETS = """[...document.querySelectorAll('button, .bar a, .next a, summary')].filter(one => {
  const {width, height} = one.getBoundingClientRect();
  return one.offsetParent && !one.closest('.chart') && getComputedStyle(one).visibility !== 'hidden'
    && width && (height < 40 || width < 40) && !one.closest('#strip, [data-word]');
}).map(one => `${one.outerHTML.slice(0, 80)} ${Math.round(one.getBoundingClientRect().height)}`)"""


_STREAMS = """(() => {  // a server of two streams: the first ends while an event is waited for, whose answer is in the second
  const plain = window.fetch.bind(window), line = told => `data: ${JSON.stringify(told)}\\n\\n`;
  const streams = [[{msg: 'close_stream'}], [{msg: 'process_completed', event_id: 'e'}, {msg: 'close_stream'}]];
  window.fetch = async (input, init) => {
    const url = input instanceof Request ? input.url : String(input);
    if (!url.includes('/pretended/')) return plain(input, init);
    if (url.includes('queue/join')) return new Response(JSON.stringify({event_id: 'e'}));
    return new Response((streams.shift() || []).map(line).join(''));
  };
})();"""


def test_what_is_asked_for_while_the_stream_of_answers_ends_is_answered(open_page):
    first = open_page("?view=savings")
    first.context.add_init_script(_STREAMS)
    page = open_page("?view=savings", beside=first)
    asked = """async () => {
      await fetch('/pretended/queue/join', {method: 'POST'});
      return (await fetch('/pretended/queue/data')).text();
    }"""
    told = page.evaluate(asked)
    assert told.count("close_stream") == 1 and told.index("process_completed") < told.index("close_stream")


@pytest.fixture
def own_server(results):
    """`own_server()` starts the page at one address, again and again; `stop()` kills it as a crash would."""
    port, running = free_port(), []

    def start() -> str:
        running.append(serve(port, results))
        return wait_for(f"http://127.0.0.1:{port}/", running[-1])

    def stop() -> None:
        running[-1].kill()
        running[-1].wait(timeout=20)

    yield start, stop
    if running[-1].poll() is None:
        stop()


def test_an_evaluation_whose_server_ended_says_so_and_can_be_run_again(browser, own_server):
    start, stop = own_server
    context = browser.new_context(viewport=DESKTOP)
    context.set_default_timeout(120_000)
    page = context.new_page()
    page.goto(start() + "?view=evaluate&model=demo", wait_until="domcontentloaded")
    wait_until_idle(page)
    evaluate(page, 500)
    wait_for_words(page, "#evaluate-progress", "of 500")
    stop()
    wait_for_words(page, "#evaluate-progress", text.GRADIO_FIXES["broken"])
    start()
    page.click("#evaluate-broken a")
    wait_until_idle(page)
    assert page.locator("#evaluate-limit input[type=number]").input_value() == "500"  # by the address
    evaluate(page, 10)
    wait_for_words(page, "#evaluate-progress", "n = 10")
    context.close()


def test_a_page_outlives_a_restart_of_its_server_with_its_inputs(browser, own_server):
    start, stop = own_server
    context = browser.new_context(viewport=DESKTOP)
    context.set_default_timeout(120_000)
    page = context.new_page()
    page.goto(start() + "?view=generate&plan=5-6", wait_until="domcontentloaded")
    wait_until_idle(page)
    prompt_box(page).fill("The fox said that")
    page.wait_for_function("location.search.includes('prompt=')")
    go_to(page, "savings")
    batch = page.locator("#savings-batch input[type=number]")
    batch.fill("7")
    batch.press("Tab")
    page.wait_for_function("location.search.includes('savings-batch=7')")
    stop()
    batch.fill("8")
    batch.press("Tab")
    page.wait_for_selector(f":text({text.GRADIO_FIXES['lost']!r})")  # a sentence, not silence
    page.wait_for_function("location.search.includes('savings-batch=8')")  # what is chosen meanwhile stays
    start()
    page.wait_for_selector(f":text({text.GRADIO_FIXES['lost']!r})", state="detached")
    wait_until_idle(page)
    assert page.evaluate("explorer.shown") == "savings" and plan_box(page).input_value() == "5-6"
    assert batch.input_value() == "8"
    type_plan(page, "5-9")
    page.wait_for_function("explorer.view.plan === '5-9' && explorer.idle")
    assert re.search(r"−8\.3%", page.inner_text("#savings-cards"))  # 4 of 24 layers: 4/48
    go_to(page, "generate")
    assert prompt_box(page).input_value() == "The fox said that"
    context.close()
