"""Model, plan and sliders: everything follows, and bad input is explained."""

import re
import time

import pytest

from tests.support.browser import changes, go_to, plan_box, type_plan, wait_until_idle

pytestmark = pytest.mark.browser


def test_bad_plans_get_a_sentence_and_stay_in_the_box(open_page):
    page = open_page()
    for bad, told in (
        ("9-3", "reversed"),
        ("5-40", "out of range"),
        ("1-3,2-4", "overlap"),
        ("0~3", "layer 0"),
        ("?", "span"),
    ):
        type_plan(page, bad)
        page.wait_for_function(f"document.querySelector('#plan-error').innerText.includes('{told}')")
        assert plan_box(page).input_value() == bad
    assert "Layer 17" in page.inner_text("#strip .sentence")
    type_plan(page, "5-6,10-12")
    page.wait_for_function("!document.querySelector('#plan-error .error')")
    assert "5 computes, 6 reuses; layer 10 computes, 11–12 reuse" in page.inner_text("#strip .sentence")


def test_a_model_that_cannot_be_loaded_gets_a_sentence_and_the_page_goes_on(open_page):
    page = open_page()
    box = page.locator("#model-name input")
    box.fill("nobody/no-such-model")
    page.click("#model-load")
    page.wait_for_selector("#model-error .error")
    assert box.input_value() == "nobody/no-such-model"
    assert "demo" in page.inner_text(".chip")
    page.locator("#prompt textarea").fill("The old king and his")
    page.click("#generate-go")
    page.wait_for_function("document.querySelector('#pane-dense .text').innerText.startsWith('The old king and his ')")


def test_a_plan_is_typed_and_what_is_looked_at_follows(open_page):
    page = open_page("?view=savings")
    cards = changes(page, "#savings-cards .cards", lambda: type_plan(page, "22-23"))
    assert "Layer 22 computes, 23 reuses" in page.inner_text("#strip .sentence")
    assert "−2.1%" in cards  # one follower of 24 layers caches no keys: 1/48
    assert plan_box(page).input_value() == "22-23" and "plan=22-23" in page.url
    go_to(page, "similarity")
    page.wait_for_function("document.querySelector('#similarity-heatmap .chart').ariaLabel.includes('22-23')")


def test_savings_follow_sliders_and_other_models(open_page):
    page = open_page("?view=savings")
    batch = page.locator("#savings-batch input[type=range]")
    batch.focus()
    before = page.inner_text("#savings-cards")
    start = time.monotonic()
    after = changes(page, "#savings-cards .cards", lambda: batch.press("ArrowRight"))
    assert time.monotonic() - start < 2
    megabytes = [float(re.search(r"dense\s+([\d.]+) MB", words)[1]) for words in (before, after)]
    assert megabytes[1] == pytest.approx(2 * megabytes[0], rel=0.01)
    page.click("#savings-shape input")
    page.click("[role=option]:has-text('Llama-3-8B')")
    page.wait_for_function("document.querySelector('#savings-plan input, #savings-plan textarea').value === '23-29'")
    assert "TFLOP" in page.inner_text("#savings-cards") or "PFLOP" in page.inner_text("#savings-cards")


def test_speed_follows_sliders_hardware_and_the_plan(open_page):
    page = open_page("?view=speed&speed-shape=Llama-3-8B")
    assert page.locator("#speed-fits tbody tr").count() > 10 and "predicted" in page.inner_text("#speed-cards")
    batch = page.locator("#speed-batch input[type=range]")
    batch.focus()
    before = page.inner_text("#speed-cards")
    after = changes(page, "#speed-cards .cards", lambda: batch.press("Home"))
    dense = [re.search(r"Tokens per second.*?dense\s+([\d,]+)", words, re.DOTALL)[1] for words in (before, after)]
    many, one = (int(number.replace(",", "")) for number in dense)
    assert one < many  # one text at a time: fewer tokens per second than sixteen
    page.click("#speed-device input")
    slower = changes(page, "#speed-cards .cards", lambda: page.click("[role=option]:has-text('Laptop')"))
    assert "+" in slower and "TB per second" not in page.inner_text("#speed-cards")
    changes(page, "#speed-cards .cards", lambda: type_plan(page, "2-20"))
    assert page.locator("#speed-plan input, #speed-plan textarea").input_value() == "3-27"
    page.locator("#speed-plan input, #speed-plan textarea").fill("3-99")
    page.keyboard.press("Enter")
    page.wait_for_selector("#speed-error .error")
    assert not page.locator("#speed-fits tbody tr").count()


def test_two_pages_do_not_disturb_each_other_and_links_open_the_same_view(open_page):
    first, second = open_page(), open_page("?plan=2-3,8-10")
    assert plan_box(second).input_value() == "2-3,8-10"
    type_plan(second, "11-12")
    second.wait_for_function("document.querySelector('.chip').innerText.includes('11-12')")
    assert "17-22" in first.inner_text(".chip") and plan_box(first).input_value() == "17-22"
    wait_until_idle(first), wait_until_idle(second)  # the texts of first sight are done
    first.click("#generate-go")
    second.click("#generate-go")
    for page, plan in ((first, "17-22"), (second, "11-12")):
        page.wait_for_function("plan => document.querySelector('#pane-shared h3').innerText.includes(plan)", arg=plan)
        wait_until_idle(page)
        assert plan in page.inner_text("#pane-shared h3")
    third = open_page("?" + second.url.partition("?")[2])
    assert plan_box(third).input_value() == "11-12" and "11-12" in third.inner_text("#pane-shared h3")
