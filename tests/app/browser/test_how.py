"""How it works follows model and plan; the level of wording changes texts and nothing else, and links carry it."""

import re

import pytest

from app import text
from tests.support.browser import go_to, type_plan, wait_for_words, wait_until_idle

pytestmark = pytest.mark.browser
NUMBERS = re.compile(r"[−+]?\d[\d.,]*%?")


def words(page) -> str:
    """What a visitor reads of the view on screen."""
    return page.inner_text(f"#view-{page.evaluate('explorer.shown')}")


def choose_level(page, level: str) -> None:
    page.select_option("#level", level)
    page.wait_for_function("level => document.body.dataset.level === level", arg=level)


def numbers(page) -> list[str]:
    """Numbers in cards, rows and formulas."""
    return NUMBERS.findall(page.inner_text("#how-drawing .cards .pair >> nth=0") + page.inner_text(".step-rows"))


def test_the_drawing_follows_the_plan(open_page):
    page = open_page("?view=how&model=demo&plan=17-22")
    assert "Layer 17" in page.inner_text(".step-row.of-leader") and "Layers 18–22" in page.inner_text(
        ".step-row.of-follower"
    )
    assert page.locator(".step-layer.of-leader").get_attribute("aria-label").startswith("Layer 17, a leader")
    assert "reuses layer 17" in page.inner_text(".step-rows")
    type_plan(page, "5-6")
    wait_for_words(page, ".step-rows", "Layer 6")
    assert page.inner_text(".step-row.of-leader").startswith("Layer 5")
    type_plan(page, "dense")
    wait_for_words(page, "#how-drawing", text.HOW_DENSE)
    assert page.locator(".step-row.of-follower, .step-layer.of-follower").count() == 0


def test_the_drawing_follows_its_controls_and_a_link_holds_them(open_page):
    page = open_page("?view=how&model=demo&plan=17-22&how-context=300&how-dtype=float32")
    assert "T = 300 tokens" in words(page) and "6×300" in words(page)
    box = page.locator("#how-context input[type=number]")
    box.fill("512")
    box.press("Tab")
    wait_for_words(page, "#how-drawing", "T = 512")
    page.wait_for_function("location.search.includes('how-context=512')")


def test_head_maps_and_windows_are_drawn_with_words_for_screen_readers(open_page):
    page = open_page('?view=how&model=demo&plan=17-18&heads={"18":[3,0,1,2,5,4]}')
    assert "head 0 reads leader head 3" in page.get_attribute(".step-layer.heads", "aria-label")
    assert page.locator(".step-layer.heads path.line").count() == 6


def test_the_level_changes_texts_and_no_number_and_no_label(open_page):
    page = open_page("?view=how&model=demo&plan=17-22")
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    seen, labels = {}, page.locator(".bar nav").inner_text() + page.inner_text("#how-context")
    for level in text.LEVELS:
        choose_level(page, level)
        seen[level] = words(page), numbers(page)
        assert page.locator(".bar nav").inner_text() + page.inner_text("#how-context") == labels
    assert [request for request in requests if "plotly" not in request] == []  # which is fetched when there is time
    assert len({found for found, _ in seen.values()}) == 3
    assert seen["newcomer"][1] == seen["student"][1] == seen["researcher"][1] != []
    assert "highlighter" in seen["newcomer"][0] and "highlighter" not in seen["student"][0]
    assert "One decode step" in seen["researcher"][0]


def test_a_link_opens_at_its_level_and_the_level_stays(open_page):
    page = open_page("?view=savings&level=researcher")
    assert "Closed-form" in words(page) and page.input_value("#level") == "researcher"
    go_to(page, "how")
    assert "One decode step" in words(page) and "level=researcher" in page.url
    page.go_back()
    page.wait_for_function("explorer.shown === 'savings'")
    choose_level(page, "newcomer")
    assert "level=newcomer" in page.url
    other = open_page("?view=savings", beside=page)
    assert other.input_value("#level") == "newcomer" and "stopwatch" in words(other)
    choose_level(other, "student")
    assert "level=" not in other.url
    assert open_page("?view=savings&level=wizard").input_value("#level") == "student"


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 1024, 390])
def test_the_drawing_is_readable_at_every_width(open_page, mode, width):
    page = open_page(
        "?view=how&model=demo&plan=17-22", color_scheme=mode, viewport={"width": width, "height": 768},
    )  # fmt: skip
    wait_until_idle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sizes = page.evaluate(
        """[...document.querySelectorAll('#how-drawing .step-layer')].map(
          svg => 16 * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width)"""
    )
    rows = page.evaluate(
        "[...document.querySelectorAll('.step-rows *')].map(e => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert min(sizes) >= 15.5 and min(rows) >= 15.5
    pair = [box.bounding_box() for box in page.locator(".step-pair figure").all()]
    assert (pair[0]["y"] == pair[1]["y"]) == (width > 820)  # beside each other, or below on a telephone
    outside = page.evaluate(
        """[...document.querySelectorAll('.step-layer text, .formula math')].filter(one => {
          const words = one.getBoundingClientRect();
          const box = (one.parentElement.querySelector('rect') || one.closest('.formula')).getBoundingClientRect();
          return words.left < box.left || words.right > box.right + 1; }).map(one => one.textContent)"""
    )
    assert outside == []
