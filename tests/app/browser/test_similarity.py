"""The heatmap, the arcs and the maps in the browser."""

import pytest

from tests.support.browser import changes, wait_until_idle

pytestmark = pytest.mark.browser

MARKED = "document.querySelector('#similarity-heatmap .chart').layout.shapes.filter(s => s.name === 'mark').map(s => [s.x0, s.y0])"


def click_cell(page, later: int, earlier: int) -> None:
    page.locator("#similarity-heatmap").scroll_into_view_if_needed()
    area = page.locator("#similarity-heatmap .nsewdrag").bounding_box()
    cell = area["width"] / 23
    page.mouse.click(area["x"] + (later - 0.5) * cell, area["y"] + (earlier + 0.5) * cell)


def test_a_click_on_the_heatmap_marks_the_cell_and_shows_arcs_and_maps(open_page):
    page = open_page("?view=similarity")
    page.wait_for_function(f"JSON.stringify({MARKED}) === '[[17.5,16.5],[17.5,16.5]]'")  # the plan's first pair
    words = changes(page, "#map-pair .sentence", lambda: click_cell(page, 9, 4))
    assert "layer 4" in words and "layer 9" in words
    page.wait_for_function(f"JSON.stringify({MARKED}) === '[[8.5,3.5],[8.5,3.5]]'")
    page.wait_for_function("document.querySelector('#map-right figcaption').innerText.includes('9')")
    assert page.locator("#map-difference figcaption").inner_text() == "Layer 9 less layer 4"
    page.wait_for_function("document.getElementById('maps').getBoundingClientRect().top < innerHeight / 2")
    page.wait_for_function("/map-leader=4&map-follower=9/.test(location.search)")
    page.locator("#map-leader input").click()
    page.get_by_role("option", name="layer 2", exact=True).click()
    page.wait_for_function(f"JSON.stringify({MARKED}) === '[[8.5,1.5],[8.5,1.5]]'")


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


def test_words_say_what_they_look_at_by_mouse_and_by_keyboard(open_page):
    page = open_page("?view=similarity")
    words = page.locator("#map-arcs [data-word]")
    assert words.count() == 24 and page.locator("#map-arcs [data-word][tabindex='0']").count() == 1
    said = page.locator("#map-arcs .arcs-said")
    words.nth(5).hover()
    assert said.inner_text() == words.nth(5).get_attribute("aria-label")
    assert page.locator("#map-arcs svg .above").count() and page.locator("#map-arcs svg .below").count()
    widths = page.evaluate(
        "[...document.querySelectorAll('#map-arcs svg path')].map(p => Number(p.getAttribute('stroke-width')))"
    )
    assert max(widths) > 2 * min(widths)
    words.nth(7).click()
    page.keyboard.press("ArrowRight")
    assert said.inner_text() == words.nth(8).get_attribute("aria-label")
    page.keyboard.press("Home")
    assert said.inner_text() == words.first.get_attribute("aria-label")
    assert page.evaluate("explorer.shown") == "similarity"
    page.mouse.move(5, 5)
    page.keyboard.press("Tab")
    assert not page.evaluate("!!document.activeElement.dataset.word")


def test_the_window_moves_over_the_text_and_stands_in_the_link(open_page):
    page = open_page("?view=similarity")
    start = page.locator("#map-start input[type=number]")
    first = page.locator("#map-arcs [data-word]").first
    before = first.inner_text()
    start.fill("30")
    start.press("Tab")
    page.wait_for_function("document.querySelector('#map-pair').innerText.includes('words 30 to 53')")
    assert "is on words before" in page.inner_text("#map-pair")
    shown = first.inner_text()
    page.wait_for_function("location.search.includes('map-start=30')")
    again = open_page("?" + page.url.partition("?")[2])
    again.wait_for_function("document.querySelector('#map-pair').innerText.includes('words 30 to 53')")
    assert again.locator("#map-arcs [data-word]").first.inner_text() == shown != before


def test_a_link_holds_pair_head_and_method(open_page):
    page = open_page("?view=similarity&map-leader=3&map-follower=12&map-head=1&similarity-method=best_head")
    assert "layer 3 (head 1)" in page.inner_text("#map-pair")
    assert page.locator("#similarity-method input:checked").input_value() == "best_head"
    page.evaluate("explorer.apply({plan: '5-6'})")
    wait_until_idle(page)
    page.wait_for_function("document.querySelector('#map-pair').innerText.includes('layer 5 computes (head 1)')")


def test_maps_and_arcs_fit_a_telephone(open_page):
    page = open_page("?view=similarity", viewport={"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    sizes = page.evaluate(
        """[...document.querySelectorAll('#view-similarity .chart text')]
           .filter(t => t.textContent).map(t => parseFloat(getComputedStyle(t).fontSize))"""
    )
    assert min(sizes) >= 14
    overlaps = page.evaluate(
        """[...document.querySelectorAll('#map-left .ytick text')].filter(t => t.textContent.trim())
           .map(t => t.getBoundingClientRect().top).sort((a, b) => a - b)
           .map((top, at, all) => at ? top - all[at - 1] : 99)"""
    )
    assert min(overlaps) >= 13
    assert all(
        box["height"] >= 40
        for box in (page.locator(at).bounding_box() for at in ("#map-arcs button >> nth=0", "#map-left .chart-opener"))
    )
