"""Evaluations in the browser: progress, Stop, other tabs, a killed server."""

import time

import pytest

from core.records.scores import load_records
from tests.support.browser import (
    PATIENCE_MS,
    evaluate,
    free_port,
    go_to,
    prompt_box,
    serve,
    wait_for,
    wait_for_words,
    wait_until_idle,
)

pytestmark = pytest.mark.browser


def task_shown(page) -> str:
    return page.locator("#scores-task input").input_value()


def test_an_evaluation_shows_progress_and_its_scores_appear_at_once_and_in_other_tabs(open_page, results):
    page, other = open_page("?view=evaluate"), open_page("?view=scores")
    evaluate(page, 20)
    page.wait_for_selector("#evaluate-stop:not([disabled])")
    page.wait_for_selector("#evaluate-progress [role=progressbar]")
    wait_for_words(page, "#evaluate-progress", "n = 20")
    page.wait_for_selector("#evaluate-go:not([disabled])")
    assert len(list(results.glob("demo/*/*limit=20.json"))) == 4
    go_to(page, "scores")
    page.wait_for_function("document.querySelector('#scores-task input').value.includes('limit=20')")
    page.wait_for_function("document.querySelectorAll('#scores-table tbody tr').length === 2")
    wait_for_words(page, "#scores-details", "--limit 20")
    assert "limit=20" not in task_shown(other)
    other.reload(wait_until="domcontentloaded")
    wait_until_idle(other)
    other.click("#scores-folded summary")  # twenty questions do not tell the two apart
    assert other.locator("#scores-folded tr:has-text('demo_copy · exact_match · limit=20')").count() == 1


def test_an_evaluation_leaves_room_for_generation_and_stops_at_once(open_page, results):
    page = open_page("?view=evaluate&generate-pause=false")
    evaluate(page, 480)
    wait_for_words(page, "#evaluate-progress", "of 480")
    prompt = "A fox went to the sea and"
    go_to(page, "generate")
    prompt_box(page).fill(prompt)
    page.click("#generate-go")
    written = "p => { const shown = document.querySelector('#pane-dense .text').innerText;"
    written += " return shown.startsWith(p) && shown.length > p.length + 40; }"
    page.wait_for_function(written, arg=prompt, timeout=10_000)
    go_to(page, "evaluate")
    page.click("#evaluate-stop")
    wait_for_words(page, "#evaluate-progress", "Stopped")
    assert not list(results.glob("demo/*/*limit=480.json"))
    page.wait_for_selector("#evaluate-go:not([disabled])")
    evaluate(page, 10)  # starts at once: the stopped one has left the thread
    wait_for_words(page, "#evaluate-progress", "n = 10")


def test_a_closed_tab_stops_its_evaluation(open_page, results):
    closed, page = open_page("?view=evaluate"), open_page("?view=evaluate")
    evaluate(closed, 490)
    wait_for_words(closed, "#evaluate-progress", "of 490")
    evaluate(page, 30)
    wait_for_words(page, "#evaluate-progress", "before you")
    closed.close()
    wait_for_words(page, "#evaluate-progress", "n = 30")
    assert not list(results.glob("demo/*/*limit=490.json"))


def test_a_benchmark_of_ones_own_is_uploaded_checked_and_measured(open_page, tmp_path):
    page = open_page("?view=evaluate")
    good, bad = tmp_path / "colours.jsonl", tmp_path / "bad.jsonl"
    good.write_text('{"prompt": "${1+1} <b>Snow</b> is", "choices": ["white", "black"], "answer": "white"}')
    bad.write_text(good.read_text() + "\n{]")
    chooser = page.locator("input[type=file]:has(+ #evaluate-upload)")
    chooser.set_input_files(bad)
    wait_for_words(page, "#evaluate-error", "bad.jsonl, line 2")
    chooser.set_input_files(good)
    wait_for_words(page, "#evaluate-tasks", "custom_colours")
    evaluate(page, 10)
    wait_for_words(page, "#evaluate-progress", "custom_colours")
    page.wait_for_selector("#evaluate-go:not([disabled])")
    go_to(page, "scores")
    page.wait_for_function("document.querySelector('#scores-task input').value.includes('custom_colours')")
    page.locator("#answers-only").click()
    wait_for_words(page, "#answers-page", "${1+1} <b>Snow</b> is")


def test_a_killed_server_loses_the_running_task_only(browser, tmp_path):
    port = free_port()
    server, address, results = serve(port, tmp_path), f"http://127.0.0.1:{port}/", tmp_path
    try:
        wait_for(address, server)
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(f"{address}?view=evaluate", wait_until="domcontentloaded")
        wait_until_idle(page)
        evaluate(page, 200)
        last_moment = time.monotonic() + PATIENCE_MS / 1000
        while len(stored := list(results.glob("demo/dense/*.json"))) < 2:  # the page may be slow to show it
            assert time.monotonic() < last_moment
            page.wait_for_timeout(50)
        server.kill()
        server.wait()
        before = {path: path.stat().st_mtime_ns for path in stored}
        assert len(list(results.glob("demo/17-22/*.json"))) < 2
        server = serve(port, results)
        wait_for(address, server)
        page.goto(f"{address}?view=evaluate", wait_until="domcontentloaded")
        wait_until_idle(page)
        evaluate(page, 200)
        wait_for_words(page, "#evaluate-progress", "n = 200")
        page.close()
        assert {path: path.stat().st_mtime_ns for path in before} == before
        records, problems = load_records(results)
        assert len(records) == 4 and not problems
    finally:
        server.kill()
        server.wait()
