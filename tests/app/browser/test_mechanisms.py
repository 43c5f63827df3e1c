"""The part Mechanisms in the browser: drawn from a record, or the command that makes one; a click applies a plan."""

import pytest

from app import text
from tests.support.browser import ROOT, wait_for_words, wait_until_idle
from tests.support.made_up_mechanisms import made_up

pytestmark = pytest.mark.browser
ADDRESS = "?view=mechanisms&model=demo"
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.fixture
def record(results):
    """A made-up record of the bundled model, for as long as the test takes."""
    stored = made_up(results, ROOT / "results")
    yield stored
    (results / stored.path).unlink()


def drawn(page, chart: str) -> list[str]:
    """The names of the traces of a chart, once it is drawn."""
    page.wait_for_selector(f"#{chart} .main-svg")
    return page.evaluate(f"document.querySelector('#{chart} .js-plotly-plot').data.map(trace => trace.name)")


def test_without_a_record_the_command_stands_there(open_page):
    page = open_page(f"{ADDRESS}-tuned-17-22")
    wait_for_words(page, "#mechanisms-verdict", "This model was tuned with its plan in place")
    assert not page.locator("#mechanisms-charts").is_visible()


def test_lines_bars_and_verdict_come_from_the_record(open_page, record):
    page = open_page(ADDRESS)
    names = [text.MECHANISM_NAMES[name] for name in ("share", "skip", "kv", "keys", "mixture")]
    assert drawn(page, "mechanisms-curves") == names
    assert len(drawn(page, "mechanisms-layers")) == 2
    wait_for_words(page, "#mechanisms-verdict", "95% interval")
    page.locator("#mechanisms-budget label").nth(1).click()
    wait_for_words(page, "#mechanisms-verdict", "FLOPs")
    page.wait_for_function("location.search.includes('mechanisms-budget=flops')")
    page.wait_for_function(
        "name => document.querySelector('#mechanisms-curves .js-plotly-plot').data.some(trace => trace.name === name)",
        arg=text.MECHANISM_NAMES["topk"],
    )


def test_a_click_on_a_point_makes_its_plan_the_pages_and_marks_it(open_page, record):
    page = open_page(ADDRESS)
    drawn(page, "mechanisms-curves")
    page.evaluate(
        """() => {
          const plot = document.querySelector('#mechanisms-curves .js-plotly-plot');
          const at = plot.data.findIndex(trace => trace.name.startsWith('skip'));
          plot.emit('plotly_click', {points: [{data: plot.data[at], curveNumber: at, pointNumber: 1, pointIndex: 1,
            x: plot.data[at].x[1], y: plot.data[at].y[1], customdata: plot.data[at].customdata[1]}]});
        }"""
    )
    page.wait_for_function("explorer.view.plan.startsWith('skip 2')")
    wait_until_idle(page)
    page.wait_for_function(
        "name => document.querySelector('#mechanisms-curves .js-plotly-plot').data[0].name === name",
        arg=text.MECHANISMS_HERE,
    )


def test_a_chart_of_mechanisms_is_a_table_too(open_page, record):
    page = open_page(ADDRESS)
    drawn(page, "mechanisms-layers")
    page.locator("#mechanisms-layers .chart-opener").click()
    page.locator("#mechanisms-layers .chart-list button").first.click()
    page.wait_for_selector("#mechanisms-layers .chart-table table")
    assert page.locator("#mechanisms-layers .chart-table tbody tr").count() == 4 * 23


def test_mechanisms_fit_on_a_telephone(open_page, record):
    page = open_page(ADDRESS, **PHONE)
    drawn(page, "mechanisms-curves")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
