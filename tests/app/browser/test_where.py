"""Where to share, in the browser."""

import pytest

from tests.support.browser import PATIENCE_MS, go_to, plan_box, prompt_box

pytestmark = pytest.mark.browser


def test_spans_fill_in_stop_keeps_them_and_a_click_makes_one_the_plan(open_page):
    page = open_page("?view=where")
    page.click("#where-sweep")
    page.wait_for_selector("#where-progress:has-text('left')")
    go_to(page, "generate")
    prompt_box(page).fill("A fox")
    page.click("#generate-go")  # a sweep does not keep others waiting
    page.wait_for_function("document.querySelector('#pane-shared .text').innerText.length > 20")
    page.wait_for_selector("#generate-go:not([disabled])")
    go_to(page, "where")
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
    page = open_page("?view=where")
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
    page = open_page(page.url.removeprefix(address).replace("view=where", "view=generate"))
    assert "head-mapped" in page.inner_text(".chip") and "head-mapped" in page.inner_text("#pane-shared h3")
