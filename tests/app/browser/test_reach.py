"""Whoever comes with a keyboard, a screen reader, a telephone or paper: axe, focus, live words, style that arrives, print."""

import json
import re

import pytest

from app import settings, text
from tests.support.browser import go_to, wait_until_idle

pytestmark = pytest.mark.browser

SERIOUS = ("serious", "critical")
ALLOWED: dict[str, str] = {}
"""Rule of axe → why it may be broken: what is gradio's own and cannot be mended from outside."""


def violations(page) -> list[str]:
    """What axe finds serious on the page as it stands: rule, where, and what is wrong."""
    from axe_playwright_python.base import AXE_SCRIPT

    if not page.evaluate("!!window.axe"):
        page.evaluate(AXE_SCRIPT)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{rule['id']}: {' '.join(map(str, node['target']))}: {node['html'][:160]}"
        for rule in found["violations"]
        if rule["impact"] in SERIOUS and rule["id"] not in ALLOWED
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1440, 900), (1024, 768), (390, 844)])
def test_axe_finds_nothing_serious_in_any_view(open_page, mode, width, height):
    page = open_page(color_scheme=mode, viewport={"width": width, "height": height})
    found = {}
    for view in text.VIEWS:
        page.evaluate("name => explorer.show(name)", view)
        wait_until_idle(page)
        found[view] = violations(page)
    assert not any(found.values()), json.dumps(found, indent=1)


def test_the_first_stop_leads_to_the_view_and_all_others_follow_from_top_to_bottom(open_page):
    page = open_page("?view=savings")
    page.evaluate("document.activeElement?.blur()")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == text.SKIP_LINK
    assert page.evaluate("document.activeElement.getBoundingClientRect().top") >= 0  # to be seen while it has the focus
    places = []
    for _ in range(120):
        page.keyboard.press("Tab")
        place = page.evaluate(_PLACE)
        if place is None:
            break
        if not places or places[-1] != place:
            places.append(place)
    order = [place for place in ("head", "controls", "savings", "foot") if place in places]
    assert places == order and {"head", "controls", "savings"} <= set(places)
    page.evaluate("document.querySelector('.skip').focus()")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.matches('#view-savings h2')")


_PLACE = """(() => {
  const one = document.activeElement;
  if (!one || one === document.body || one.classList.contains('skip')) return null;
  for (const [name, at] of [['head', '#head'], ['controls', '#controls, #offer'], ['savings', '#view-savings'], ['foot', '#foot']])
    if (one.closest(at)) return name;
  return one.outerHTML.slice(0, 120);
})()"""


def test_a_view_that_is_opened_has_the_focus_at_its_heading(open_page):
    page = open_page()
    page.focus(".bar nav a[data-view=savings]")
    page.keyboard.press("Enter")
    wait_until_idle(page)
    page.wait_for_function("document.activeElement.matches('#view-savings h2')")
    go_to(page, "generate")
    page.wait_for_function("document.activeElement.matches('#view-generate h2')")


def test_list_boxes_close_when_the_focus_leaves_them_and_with_escape(open_page):
    page = open_page("?view=savings")
    box = page.locator("#savings-shape input")
    for key in ("Tab", "Escape"):
        box.click()
        page.wait_for_selector("#savings-shape [role=listbox]", state="attached")
        page.keyboard.press(key)
        page.wait_for_selector("[role=listbox]", state="detached")


def test_what_changes_by_itself_is_said_but_not_whole_texts(open_page):
    page = open_page()
    assert page.locator("#verdict [aria-live=polite], #verdict [role=status]").count()
    assert not page.locator(":is([aria-live]:not([aria-live=off]), [role=status], [role=log]) .text").count()
    go_to(page, "evaluate")
    assert page.locator("#evaluate-progress:is([aria-live=polite], [role=status])").count()


def test_every_rule_of_the_style_reaches_what_it_is_for(open_page):
    page = open_page()
    files = {path.name: path.read_text(encoding="utf-8") for path in sorted((settings.ASSETS / "style").glob("*.css"))}
    dead = page.evaluate(_DEAD_RULES, files)
    assert not dead, "\n".join(dead)


# gradio puts its own class before every selector: inside @media nothing else is left of a rule, so that one for what stands
# outside of gradio's container, or one with a comma in brackets, is lost; and so is any other rule in @ (@page, @supports).
_DEAD_RULES = """files => {
  const split = list => {
    const parts = ['']; let depth = 0;
    for (const letter of list) {
      depth += '([' .includes(letter) - ')]'.includes(letter);
      if (letter === ',' && !depth) parts.push(''); else parts[parts.length - 1] += letter;
    }
    return parts.map(part => part.trim().replace(/\\s+/g, ' '));
  };
  const rules = (sheet, media, found) => {
    for (const rule of sheet.cssRules) {
      if (rule instanceof CSSMediaRule) rules(rule, [...media, rule.media.mediaText], found);
      else if (rule instanceof CSSStyleRule) for (const one of split(rule.selectorText)) found.push([media.join(' and '), one]);
      else if (rule instanceof CSSKeyframesRule) found.push([media.join(' and '), '@keyframes ' + rule.name]);
      else found.push([media.join(' and '), rule.cssText.replace(/\\s+/g, ' ')]);
    }
    return found;
  };
  const arrived = new Set();
  for (const sheet of document.styleSheets) {
    const media = sheet.media.mediaText ? [sheet.media.mediaText] : [];
    for (const [at, one] of rules(sheet, media, [])) arrived.add(at + ' | ' + one);
  }
  const own = [...document.querySelector('.gradio-container').classList].find(name => /^gradio-container-/.test(name));
  const prefix = `.gradio-container.${own} .contain`;
  const outside = /^(html|body|:root|gradio-app|\\.gradio-container|\\.dark$)/;
  const dead = [];
  for (const [name, text] of Object.entries(files)) {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(text);
    for (const [at, one] of rules(sheet, [], [])) {
      const inside = one.startsWith('.dark ') ? `.dark ${prefix} ${one.slice(6)}` : `${prefix} ${one}`;
      if (!arrived.has(at + ' | ' + one) && (outside.test(one) || !arrived.has(at + ' | ' + inside)))
        dead.push(`${name}: ${at} ${one}`);
    }
  }
  return dead;
}"""


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_every_view_prints_on_one_or_two_pages(open_page, mode, tmp_path):
    page = open_page(color_scheme=mode)
    pages = {}
    for view in text.VIEWS:
        page.evaluate("name => explorer.show(name)", view)
        wait_until_idle(page)
        pdf = page.pdf(path=tmp_path / f"{view}.pdf", prefer_css_page_size=True)
        pages[view] = len(re.findall(rb"/Type\s*/Page\b", pdf))
    long = {view: count for view, count in pages.items() if not 1 <= count <= 2}
    assert not long


def test_print_shows_model_plan_and_view_without_controls_on_white(open_page):
    page = open_page("?view=savings", color_scheme="dark")
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.is_visible("#headline .chip") and page.is_visible("#savings-cards .card")
    for selector in (".bar nav", ".bar .mode", "#controls", "#view-savings .controls", "#view-savings .next", ".skip"):
        assert not page.locator(selector).first.is_visible(), selector
    ground = page.evaluate("getComputedStyle(document.querySelector('#view-savings')).backgroundColor")
    assert ground == "rgb(255, 255, 255)"
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    assert page.evaluate("document.body.classList.contains('dark')")
