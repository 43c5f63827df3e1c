"""Scores in the browser: one selection, by mouse and keyboard."""

from pathlib import Path

import pytest

from tests.support.browser import wait_for_words, wait_until_idle

pytestmark = pytest.mark.browser


def test_scores_tell_how_they_were_measured_and_can_be_taken_away(open_page):
    page = open_page("?view=scores")
    assert "python -m core evaluate" in page.inner_text("#scores-details pre")
    with page.expect_download() as download:
        page.click("#scores-export")
    header = Path(download.value.path()).read_text().splitlines()[0]
    assert {"model", "plan", "value", "stderr", "n", "command"} <= set(header.split(","))


def test_a_click_on_a_bar_selects_it_everywhere(open_page):
    page = open_page("?view=scores")
    page.locator("#scores-task input").click()
    page.get_by_role("option", name="demo_prose").first.click()  # where every bar is long enough to click on
    page.wait_for_selector("#scores-tradeoff :text('demo_prose')")
    ring = "JSON.stringify(document.querySelector('#scores-tradeoff .chart').data.find(t => t.name === 'selected').x)"
    before = page.evaluate(ring)
    page.wait_for_selector("#scores-bars :text('demo_prose')")
    wait_until_idle(page)  # a chart that is drawn again has other bars
    page.locator("#scores-bars .point").last.click(force=True)
    chosen = "#scores-table tr[aria-selected=true]"
    page.wait_for_function(f"document.querySelector('{chosen}').innerText.includes('1-23')")
    wait_for_words(page, "#scores-details", "--plan 1-23")
    wait_for_words(page, "#answers-page", "1-23 on")
    page.wait_for_function(f"{ring} !== {before!r}")
    page.locator("#scores-table tr[data-id]").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_function(f"document.querySelector('{chosen}').innerText.includes('dense')")


def test_a_score_that_cannot_tell_is_folded_and_can_be_opened(open_page):
    page = open_page("?view=scores")
    wait_for_words(page, "#scores-findings", "In plain words")
    assert not page.is_visible("#scores-folded tr[data-id]")
    page.click("#scores-folded summary")
    page.locator("#scores-folded tr[data-id]", has_text="winogrande").click()
    wait_for_words(page, "#scores-about", "no better than guessing")
    assert "winogrande" in page.input_value("#scores-task input")
