"""The file to take away, taken in the browser: it opens without a network, without a fault, and prints on a few pages."""

import re

import pytest

pytestmark = pytest.mark.browser


def taken(page, tmp_path):
    with page.expect_download() as download:
        page.click("#take-away")
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    return path


def opened_offline(browser, path):
    context = browser.new_context(viewport={"width": 1024, "height": 768})
    context.set_offline(True)
    page, faults = context.new_page(), []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: faults.append(request.url) if not request.url.startswith("file:") else None)
    page.goto(path.as_uri())
    return page, faults


def pages_of(pdf: bytes) -> int:
    return len(re.findall(rb"/Type\s*/Page[^s]", pdf))


def test_one_click_takes_a_file_that_opens_offline_and_prints(open_page, browser, tmp_path):
    page = open_page()
    path = taken(page, tmp_path)
    assert path.suffix == ".html" and "demo" in path.name
    written, address = page.inner_text("#pane-shared .text"), page.url
    copy, faults = opened_offline(browser, path)
    assert not faults and copy.title().startswith("demo with plan 17-22")
    assert copy.locator("svg").count() >= 3 and copy.locator("blockquote").nth(1).inner_text() == written
    assert copy.get_by_role("link", name="This view on the page").get_attribute("href") == address
    assert copy.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert 1 <= pages_of(copy.pdf(prefer_css_page_size=True)) <= 4
    copy.context.close()


def test_the_file_is_of_the_present_plan_and_settings(open_page, browser, tmp_path):
    page = open_page("?view=savings&plan=5-6&savings-batch=3")
    copy, faults = opened_offline(browser, taken(page, tmp_path))
    assert not faults and "demo with plan 5-6" in copy.inner_text("h1")
    assert "3 × 1,024 tokens" in copy.inner_text("#savings")
    assert copy.locator("#texts").count() == 0  # none were written here
    copy.context.close()


def test_a_real_model_with_many_scores_fits_on_four_pages(browser, tmp_path):
    from app.take_away.comparison import gather
    from app.take_away.page import write

    path = write(gather({"model": "demo-tuned-17-22", "plan": "17-22"}))
    copy, faults = opened_offline(browser, path)
    assert not faults and 1 <= pages_of(copy.pdf(prefer_css_page_size=True)) <= 4
    copy.context.close()
