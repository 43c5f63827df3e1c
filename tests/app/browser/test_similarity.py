"""The heatmap and the two maps in the browser."""

import pytest

from tests.support.browser import changes

pytestmark = pytest.mark.browser


def test_a_click_on_the_heatmap_opens_the_two_maps(open_page):
    page = open_page("?view=similarity")
    page.locator("#similarity-heatmap").scroll_into_view_if_needed()
    area = page.locator("#similarity-heatmap .nsewdrag").bounding_box()
    cell = area["width"] / 24
    x, y = area["x"] + 9.5 * cell, area["y"] + 4.5 * cell
    words = changes(page, "#map-pair .sentence", lambda: page.mouse.click(x, y))
    assert "layer 4" in words and "layer 9" in words
    page.wait_for_function("document.querySelector('#map-right figcaption').innerText.includes('9')")


def test_similarity_follows_the_text_and_the_method(open_page):
    page = open_page("?view=similarity")
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
