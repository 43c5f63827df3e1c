"""Two texts that grow in the browser."""

import re

import pytest

from tests.support.browser import prompt_box, wait_until_idle

pytestmark = pytest.mark.browser


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
