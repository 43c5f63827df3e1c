"""Scores in the browser: one selection, by mouse and keyboard."""

from pathlib import Path

import pytest

from tests.support.browser import wait_for_words

pytestmark = pytest.mark.browser


def test_scores_tell_how_they_were_measured_and_can_be_taken_away(open_page):
    page = open_page()
    assert "python -m core evaluate" in page.inner_text("#scores-details pre")
    with page.expect_download() as download:
        page.click("#scores-export")
    header = Path(download.value.path()).read_text().splitlines()[0]
    assert {"model", "plan", "value", "stderr", "n", "command"} <= set(header.split(","))


def test_a_click_on_a_bar_selects_it_everywhere(open_page):
    page = open_page()
    ring = "JSON.stringify(document.querySelector('#scores-tradeoff .chart').data.find(t => t.name === 'selected').x)"
    before = page.evaluate(ring)
    page.locator("#scores-bars .bars .point").last.scroll_into_view_if_needed()
    page.locator("#scores-bars .bars .point").last.click(force=True)
    chosen = "#scores-table tr[aria-selected=true]"
    page.wait_for_function(f"document.querySelector('{chosen}').innerText.includes('1-23')")
    wait_for_words(page, "#scores-details", "--plan 1-23")
    wait_for_words(page, "#answers-page", "1-23 on")
    page.wait_for_function(f"{ring} !== {before!r}")
    page.locator("#scores-table tr[data-id]").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_function(f"document.querySelector('{chosen}').innerText.includes('dense')")
