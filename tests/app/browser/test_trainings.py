"""Training runs in the browser: the slider over the moments of one, and the seeds of those that shared from some moment on: the
records that come with the project."""

import pytest

from tests.support.browser import wait_for_words

pytestmark = pytest.mark.browser

SLIDER, SAID = "#similarity-moment input[type=range]", "#emergence-said"
VALUES = "JSON.stringify(document.querySelector('#emergence-heatmap .chart').data?.[0].z ?? null)"


def test_the_slider_shows_similarity_arising_by_keyboard_and_stands_in_the_link(open_page):
    page = open_page("?view=similarity")
    slider = page.locator(SLIDER)
    slider.scroll_into_view_if_needed()
    wait_for_words(page, SAID, "Moment 1 of 12, before the first step")
    page.locator("#emergence-heatmap").scroll_into_view_if_needed()
    page.wait_for_function(f"{VALUES} !== 'null'")
    before = page.evaluate(VALUES)
    slider.focus()
    page.keyboard.press("ArrowRight")
    wait_for_words(page, SAID, "Moment 2 of 12: after 6 of 1,150 steps")
    page.keyboard.press("End")
    wait_for_words(page, SAID, "Moment 12 of 12: after 1,150 of 1,150 steps")
    page.wait_for_function(f"{VALUES} !== {before!r}")
    page.wait_for_function("location.search.includes('similarity-moment=12')")
    again = open_page("?" + page.url.partition("?")[2])
    again.wait_for_selector(SLIDER)
    wait_for_words(again, SAID, "Moment 12 of 12")
    assert again.locator(SLIDER).input_value() == "12"


def test_the_slider_follows_the_method_and_fits_a_telephone(open_page):
    page = open_page("?view=similarity&similarity-moment=7", viewport={"width": 390, "height": 844}, has_touch=True)
    slider = page.locator(SLIDER)
    slider.scroll_into_view_if_needed()
    wait_for_words(page, SAID, "Moment 7 of 12")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    box = slider.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390
    slider.fill("4")
    wait_for_words(page, SAID, "Moment 4 of 12")
    first = page.inner_text(SAID)
    page.click("#similarity-method label:nth-of-type(2)")
    page.wait_for_function(f"document.querySelector('{SAID}').innerText !== {first!r}")
    assert "Moment 4 of 12" in page.inner_text(SAID)


def test_every_seed_is_a_point_of_when_to_share(open_page):
    page = open_page("?view=scores")
    page.wait_for_selector("#when-about p")
    wait_for_words(page, "#when-about", "3 seeds at every moment")
    page.locator("#when-chart").scroll_into_view_if_needed()
    data = "document.querySelector('#when-chart .chart').data"
    page.wait_for_function(f"{data}?.[1].x.length === 12")
    assert page.evaluate("document.querySelector('#when-chart .chart').layout.xaxis.ticktext") == [
        "0%",
        "50%",
        "80%",
        "never",
    ]
    page.locator("#when-score input").click()
    page.get_by_role("option", name="recall", exact=False).click()
    page.wait_for_function("document.querySelector('#when-chart figcaption').innerText.includes('recall')")
    page.wait_for_function("location.search.includes('when-score=recall')")
