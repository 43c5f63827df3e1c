"""Views: one on screen at a time, each with an address, drawn when it is looked at, and only then."""

import json
import re
from urllib.parse import parse_qs, urlsplit

import pytest

from app import text
from tests.support.browser import go_to, plan_box, type_plan, wait_until_idle

pytestmark = pytest.mark.browser


def asked(page) -> dict[str, str]:
    """What the address asks for."""
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def on_screen(page) -> list[str]:
    return page.evaluate("[...document.querySelectorAll('.view')].filter(e => e.offsetParent).map(e => e.id)")


def test_every_view_has_an_address_and_a_way_to_the_next(open_page):
    page = open_page()
    for name, title in text.VIEWS.items():
        assert on_screen(page) == [f"view-{name}"] and asked(page)["view"] == name
        assert page.inner_text(f"#view-{name} h2").strip() == title
        assert page.inner_text(".bar nav a[aria-current]") == title
        page.click(f"#view-{name} .next a")
        wait_until_idle(page)
    assert asked(page)["view"] == next(iter(text.VIEWS))


def test_only_what_is_on_screen_is_made_and_asked_for(open_page):
    page = open_page()
    assert page.locator(".view").count() == 1
    go_to(page, "savings")
    calls = []
    page.on("request", lambda request: calls.append(request.url) if request.method == "POST" else None)
    before = page.inner_text("#savings-cards")
    type_plan(page, "5-6")
    page.wait_for_function("old => document.querySelector('#savings-cards').innerText !== old", arg=before)
    wait_until_idle(page)
    assert 1 <= len(calls) <= 4  # the text, as it was typed and finished, and the cards


def test_a_view_that_was_left_keeps_its_state_and_catches_up(open_page):
    page = open_page("?view=savings")
    batch = page.locator("#savings-batch input[type=number]")
    batch.fill("7")
    batch.press("Tab")
    page.wait_for_function("location.search.includes('savings-batch=7')")
    go_to(page, "speed")
    type_plan(page, "2-9")
    page.wait_for_function("explorer.view.plan === '2-9'")
    go_to(page, "savings")
    assert batch.input_value() == "7" and "−14.6%" in page.inner_text("#savings-cards")  # 7 of 24 layers: 7/48


def test_a_link_in_the_bar_changes_no_setting(open_page):
    page = open_page("?view=savings&savings-batch=4")
    type_plan(page, "5-6")
    page.wait_for_function("explorer.view.plan === '5-6'")
    batch = page.locator("#savings-batch input[type=number]")
    batch.fill("7")
    batch.press("Tab")
    page.wait_for_function("location.search.includes('savings-batch=7')")
    go_to(page, "speed")
    go_to(page, "savings")
    assert batch.input_value() == "7"
    assert "savings-batch=7" in page.get_attribute(".bar nav a[data-view=savings]", "href")  # for another tab


def test_back_and_forward_walk_through_views_and_plans(open_page):
    page = open_page()
    go_to(page, "savings")
    for plan in ("5-6", "8-11"):
        type_plan(page, plan)
        page.wait_for_function("plan => explorer.view.plan === plan", arg=plan)
        page.locator("#view-savings h2").focus()
    page.go_back()
    page.wait_for_function("explorer.view.plan === '5-6' && explorer.idle")
    page.wait_for_function("document.querySelector('#plan-text :is(input, textarea)').value === '5-6'")
    page.go_back()
    page.wait_for_function("explorer.view.plan === '17-22' && explorer.shown === 'savings'")
    page.go_back()
    page.wait_for_function("explorer.shown === 'generate'")
    page.go_forward()
    page.go_forward()
    page.go_forward()
    page.wait_for_function("explorer.view.plan === '8-11' && explorer.shown === 'savings'")
    assert asked(page)["plan"] == "8-11"


def test_a_link_opens_the_view_with_its_options_and_names_what_cannot_be(open_page):
    page = open_page(
        "?view=savings&plan=5-6&savings-batch=9&savings-shape=Llama-3-8B&savings-dtype=int3&savings-prompt=x"
    )
    assert plan_box(page).input_value() == "5-6"
    assert page.locator("#savings-batch input[type=number]").input_value() == "9"
    problems = page.inner_text("#link-problems")
    assert re.search(r"savings-dtype=int3: .*one of float32, bfloat16", problems) and "savings-prompt=x" in problems
    again = open_page("?" + page.url.partition("?")[2])
    assert again.locator("#savings-batch input[type=number]").input_value() == "9"
    assert open_page("?view=nowhere").evaluate("explorer.shown") == "generate"


def test_numbers_of_the_headline_lead_to_where_they_come_from(open_page):
    page = open_page("?view=how")
    page.click("#headline a[data-part=cache]")
    page.wait_for_function("document.querySelector('#savings-batch input[type=number]')?.value === '16'")
    assert asked(page)["view"] == "savings"
    page.click("#headline a[data-part=speed]")
    page.wait_for_function("document.querySelector('#speed-context input[type=number]')?.value === '1024'")
    name = json.loads(page.get_attribute("#headline a[data-part=task]", "data-options"))["scores-task"]
    page.click("#headline a[data-part=task]")
    wait_until_idle(page)
    assert page.input_value("#scores-task input") == name
    page.click("#headline a[data-part=damage]")
    wait_until_idle(page)
    assert on_screen(page) == ["view-where"]
