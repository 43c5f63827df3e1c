"""What a visitor sees at first sight: real results, readable and calm, in both modes, by mouse and by keyboard."""

import re

import pytest

from app import text
from tests.support.browser import go_to, prompt_box

pytestmark = pytest.mark.browser


def test_first_sight_is_full_of_real_results(open_page):
    page = open_page()
    assert "Layer 17 computes, 18–22 reuse" in page.inner_text("#strip .sentence")
    dense, shared = page.inner_text("#pane-dense .text"), page.inner_text("#pane-shared .text")
    prompt = prompt_box(page).input_value()
    assert (
        dense.startswith(prompt) and shared.startswith(prompt) and min(len(dense), len(shared)) > len(prompt) + 10
    )  # both wait where they part
    go_to(page, "savings")
    assert len(re.findall(r"−\d+\.\d%", page.inner_text("#savings-cards"))) == 4
    go_to(page, "scores")
    assert page.locator("#scores-table tbody tr").count() > 5
    assert page.locator("#view-scores .chart .main-svg").count() >= 3
    assert not page.locator("[data-title*=Share]").count()  # plotly's button that uploads a chart
    assert page.evaluate("document.documentElement.scrollWidth") <= 1440


def test_every_view_can_be_reached_from_the_bar_of_a_projector(open_page):
    page = open_page(viewport={"width": 1024, "height": 768})
    for width in (1024, 1280):
        page.set_viewport_size({"width": width, "height": 768})
        assert page.evaluate("(nav => nav.scrollWidth <= nav.clientWidth)(document.querySelector('.bar nav'))")


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_all_views_are_readable_and_calm(open_page, mode, width):
    page = open_page(color_scheme=mode, viewport={"width": width, "height": 844})
    assert page.evaluate("layoutShifts") < 0.15  # Web Vitals: 0.1 is good, 0.25 is poor; jumping parts give 0.3 to 1
    for view in text.VIEWS:
        go_to(page, view)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, view
        ratios = [one for one in page.evaluate(_CONTRASTS) if one[0] < 4.5]
        assert not ratios, (view, sorted(ratios)[:5])
        small = "[...document.querySelectorAll('.chart text')].map(t => parseFloat(getComputedStyle(t).fontSize))"
        assert min(page.evaluate(small), default=14) >= 14, view
        assert page.evaluate(_CUT_AXIS_TITLES) == [], view


@pytest.mark.parametrize("width", [1920, 1440, 1024, 600, 390])
def test_nothing_jumps_while_the_server_is_slow(open_page, width):
    page = open_page(answers_after_s=1, viewport={"width": width, "height": 844})
    assert page.evaluate("layoutShifts") < 0.2


_CUT_AXIS_TITLES = """[...document.querySelectorAll('.chart .xtitle, .chart .ytitle')].filter(title => {
  const words = title.getBoundingClientRect(), chart = title.closest('.chart').getBoundingClientRect();
  return words.left < chart.left || words.right > chart.right || words.bottom > chart.bottom || words.top < chart.top;
}).map(title => title.textContent)"""
# WCAG contrast of every visible word against the nearest opaque ground, of our own HTML.
_CONTRASTS = """() => {
  const rgb = css => css.match(/[0-9.]+/g).map(Number);
  const linear = c => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
  const parts = [.2126, .7152, .0722];
  const light = colour => parts.reduce((sum, part, i) => sum + part * linear(colour[i] / 255), 0);
  const over = ([r, g, b, a = 1], ground) => [r, g, b].map((c, i) => c * a + ground[i] * (1 - a));
  const ground = element => {
    if (!element) return [255, 255, 255];
    const colour = rgb(getComputedStyle(element).backgroundColor);
    return colour[3] === undefined ? colour : over(colour, ground(element.parentElement));
  };
  const own = 'h1, h2, h3, .lead, .lead b, .tagline, .note, .sentence, .badge, .chip, .hint, .big, .pair span, '
    + '.pair b, .pane .text span, .pane mark, .facts span, .facts b, .warning, dt, dd, .bar a, th, td, '
    + '.key span, .verdict';
  return [...document.querySelectorAll(own)].filter(e => e.innerText?.trim() && e.offsetParent).map(e => {
    const behind = ground(e), a = light(over(rgb(getComputedStyle(e).color), behind)), b = light(behind);
    return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), e.className + ' ' + e.innerText.slice(0, 30)];
  });
}"""


def test_the_mode_button_switches_page_and_charts_and_is_remembered(open_page):
    page = open_page("?view=similarity")
    ink = "getComputedStyle(document.querySelector('#similarity-heatmap .xtick text')).fill"
    light = page.evaluate(ink)
    page.click(".bar .mode")
    page.wait_for_function(f"{ink} !== '{light}'")
    assert "dark" in page.evaluate("document.body.className")
    page = open_page(beside=page)
    assert "dark" in page.evaluate("document.body.className")


def test_everything_can_be_reached_by_keyboard_and_has_a_name(open_page):
    page = open_page()
    nameless = page.evaluate(
        """[...document.querySelectorAll('input, textarea, button, a[href], [role=img]')].filter(e => e.offsetParent
           && !(e.ariaLabel || e.innerText?.trim() || e.labels?.length || e.closest('label')
                || e.getAttribute('aria-labelledby') || e.title)).map(e => e.outerHTML.slice(0, 120))"""
    )
    assert not nameless
    page.locator("#plan-text input, #plan-text textarea").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement !== document.body")
