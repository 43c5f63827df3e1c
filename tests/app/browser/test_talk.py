"""The talk in the browser: given with the keyboard alone, in large type, over a page that cannot be reached meanwhile."""

from urllib.parse import parse_qs, urlsplit

import pytest

from app import text
from app.talk.slides import SLIDES
from tests.support.browser import prompt_box, wait_until_idle

pytestmark = pytest.mark.browser

NAMES = [slide.name for slide in SLIDES]
PROJECTOR = {"width": 1024, "height": 768}
SMALL_TYPE = """() => {
  const small = [];
  for (const one of document.querySelectorAll('#talk .talk *')) {
    const own = [...one.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
    const box = one.getBoundingClientRect(), at = one.getScreenCTM?.(), scale = at ? Math.hypot(at.a, at.b) : 1;
    if (own && box.width && !one.closest('.talk-status') && parseFloat(getComputedStyle(one).fontSize) * scale < 28)
      small.push(one.textContent.trim());
  }
  return small;
}"""
OUTSIDE = """() => {
  const talk = document.querySelector('#talk .talk'), slide = talk.querySelector('.talk-slide'), out = [];
  for (const one of talk.querySelectorAll('*')) {
    const frame = (slide.contains(one) ? slide : talk).getBoundingClientRect();
    const box = one.getBoundingClientRect();
    if (!box.width || !box.height || one.closest('.talk-status, svg, .text')) continue;
    const over = box.right > frame.right + 1 || box.left < frame.left - 1 || box.bottom > frame.bottom + 1 || box.top < frame.top - 1;
    if (over) out.push(one.className + ': ' + one.textContent.trim().slice(0, 40));
  }
  return out;
}"""
# Whether the talk has the full screen, as often as the browser told of a change; the last `true` or `false` is the present.
WATCH = """window.told = []; document.addEventListener('fullscreenchange', () =>
  told.push(document.fullscreenElement === document.querySelector('#talk .talk')))"""
# All of these before the browser does anything that they ask of it, as on a busy machine.
PRESS = """keys => {
  for (const key of keys) document.body.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}));
}"""


def talk(page) -> str:
    """What the address says of the talk; empty where it says nothing."""
    return parse_qs(urlsplit(page.url).query).get("talk", [""])[0]


def wait_for_slide(page, name: str) -> None:
    """Until the slide is there with all that it shows."""
    page.wait_for_function(
        "name => { const at = document.querySelector('#talk .talk-slide'); return at?.dataset.ready === name; }",
        arg=name,
    )


def is_open(page) -> bool:
    return page.locator("#talk .talk").is_visible()


def test_a_whole_talk_with_the_keyboard_alone(open_page):
    page = open_page("?talk=1&model=demo", viewport=PROJECTOR)
    assert is_open(page) and page.evaluate("document.activeElement.id") == "talk-title"
    for number, slide in enumerate(SLIDES, start=1):
        wait_for_slide(page, slide.name)
        assert page.inner_text("#talk-title") == text.TALK[slide.name]["title"]
        assert page.inner_text("#talk .talk-said") == text.TALK[slide.name]["student"]
        assert talk(page) == str(number) and page.title().startswith(f"{number}. {slide.title}")
        following = SLIDES[number].title if number < len(SLIDES) else ""
        assert following in page.inner_text("#talk .talk-next-slide")
        assert slide.title in page.inner_text("#talk .talk-status")
        assert page.evaluate(SMALL_TYPE) == [] and page.evaluate(OUTSIDE) == []
        assert page.evaluate("(at => at.scrollHeight <= at.clientHeight)(document.querySelector('#talk .talk'))")
        page.keyboard.press(("ArrowRight", "PageDown", " ", "ArrowDown")[number % 4])
    page.keyboard.press("Home")
    wait_for_slide(page, NAMES[0])
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    wait_for_slide(page, NAMES[-2])
    page.keyboard.press("3")
    page.keyboard.press("PageUp")
    wait_for_slide(page, NAMES[1])
    page.keyboard.press("0")
    wait_for_slide(page, NAMES[9])
    page.keyboard.press("Escape")
    wait_until_idle(page)
    assert not is_open(page) and talk(page) == "" and page.evaluate("explorer.shown") == SLIDES[9].view


def test_a_slide_whose_chart_is_still_drawn_makes_no_other_one_ready(open_page):
    page = open_page("?talk=guide&model=demo", viewport=PROJECTOR)
    wait_for_slide(page, "guide")
    page.evaluate("""() => {
      const draw = Plotly.newPlot;
      window.held = [];
      Plotly.newPlot = (...asked) => new Promise(go => held.push(go)).then(() => draw(...asked));
    }""")
    for number, name in enumerate(("alike", "guide"), start=1):
        page.keyboard.press(str(NAMES.index(name) + 1))
        page.wait_for_function(f"held.length === {number}")
    ready = "document.querySelector('#talk .talk-slide').dataset.ready ?? ''"
    assert (
        page.evaluate(f"(async () => {{ held[0](); await new Promise(go => setTimeout(go, 300)); return {ready}; }})()")
        == ""
    )
    page.evaluate("held[1]()")
    wait_for_slide(page, "guide")


def test_both_models_write_on_a_key(open_page):
    page = open_page("?talk=part&model=demo&plan=1-23", viewport=PROJECTOR)
    wait_for_slide(page, "part")
    assert page.locator("#talk mark").count() == 0
    page.keyboard.press("g")
    page.wait_for_function(
        "again => document.querySelector('#talk .talk-verdict')?.innerText.includes(again)", arg=text.TALK_AGAIN
    )
    assert page.locator("#talk .talk-pane mark").count() == 2
    assert page.evaluate(SMALL_TYPE) == [] and page.evaluate(OUTSIDE) == []
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    wait_for_slide(page, "part")
    assert page.locator("#talk .talk-pane mark").count() == 2  # what was written stays


def test_p_opens_and_leaves_and_comes_back_but_types_in_a_field(open_page):
    page = open_page("?model=demo")
    prompt_box(page).fill("")
    prompt_box(page).press("p")
    assert prompt_box(page).input_value() == "p" and not is_open(page)
    page.locator("#view-generate h2").focus()
    page.keyboard.press("p")
    wait_for_slide(page, NAMES[0])
    page.keyboard.press("7")
    wait_for_slide(page, NAMES[6])
    page.keyboard.press("v")
    wait_until_idle(page)
    assert not is_open(page) and page.evaluate("explorer.shown") == SLIDES[6].view == "where"
    page.keyboard.press("p")
    wait_for_slide(page, NAMES[6])
    page.keyboard.press("p")
    assert not is_open(page)
    page.click("[data-talk]")
    wait_for_slide(page, NAMES[6])
    page.keyboard.press("Escape")
    page.wait_for_function("document.activeElement.hasAttribute('data-talk')")


def test_the_page_behind_cannot_be_reached(open_page):
    page = open_page("?model=demo&talk=10")
    wait_for_slide(page, "turn")
    reached = page.evaluate("""() => [...document.querySelectorAll('a[href], button, input, textarea, [tabindex="0"]')]
      .filter(one => !one.closest('#talk') && !one.closest('[inert]') && one.offsetParent).map(one => one.outerHTML)""")
    assert reached == []
    dialog = page.locator("#talk [role=dialog]")
    assert dialog.get_attribute("aria-modal") == "true" and dialog.get_attribute("aria-labelledby") == "talk-title"
    for _ in range(14):
        page.keyboard.press("Tab")
        assert page.evaluate("!!document.activeElement.closest('#talk')")
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("!!document.activeElement.closest('#talk')")
    page.locator("#talk a[data-view=evaluate]").focus()
    page.keyboard.press("Enter")
    wait_until_idle(page)
    assert not is_open(page) and page.evaluate("explorer.shown") == "evaluate"
    assert page.locator("[inert]").count() == 0 and page.evaluate("document.documentElement.style.overflow") == ""


def test_a_blank_screen_the_keys_and_another_word(open_page):
    page = open_page("?model=demo&talk=attention")
    wait_for_slide(page, "attention")
    page.keyboard.press("b")
    assert "blank" in page.get_attribute("#talk .talk", "class")
    page.keyboard.press("ArrowRight")  # lights it only
    assert "blank" not in page.get_attribute("#talk .talk", "class")
    assert page.get_attribute("#talk .talk-slide", "data-slide") == "attention"
    last = page.inner_text("#talk .talk-looks b")
    arcs = page.locator("#talk .talk-arcs path").count()
    page.keyboard.press("w")
    assert page.inner_text("#talk .talk-looks b") != last and arcs > 0
    page.keyboard.press("?")
    assert page.locator("#talk .talk-keys").is_visible()
    assert page.evaluate(SMALL_TYPE) == []


def test_a_slide_that_was_made_is_kept_until_the_plan_changes(open_page):
    page = open_page("?model=demo&talk=3")
    wait_for_slide(page, "share")
    calls = []
    page.on("request", lambda request: calls.append(request.url) if "component_server" in request.url else None)
    page.keyboard.press("ArrowLeft")
    wait_for_slide(page, "alike")
    page.keyboard.press("ArrowRight")
    wait_for_slide(page, "share")
    assert len(calls) <= 1  # the slide before was not made yet
    page.keyboard.press("v")
    page.evaluate("explorer.apply({plan: '5-9'})")
    page.keyboard.press("p")
    page.wait_for_function("document.querySelector('#talk .talk-slide').innerText.includes('5-9')")


def test_a_talk_begun_while_the_full_screen_is_being_left_stays_open(open_page):
    page = open_page("?model=demo")
    page.evaluate(WATCH)
    page.keyboard.press("p")
    page.wait_for_function("told.at(-1) === true")
    for keys in ("vp", "ff"):
        page.evaluate("told = []")
        page.evaluate(PRESS, keys)
        page.wait_for_function("told.length")
        assert is_open(page) and talk(page) == "1", keys
        page.wait_for_function("told.at(-1) === true")  # and has it again
    wait_for_slide(page, NAMES[0])
    page.keyboard.press("f")
    page.wait_for_function("told.at(-1) === false")
    assert is_open(page)  # asked for with a key of the talk
    page.keyboard.press("f")
    page.wait_for_function("told.at(-1) === true")
    page.evaluate("document.exitFullscreen()")  # as Escape does, which the browser keeps to itself
    page.wait_for_function("document.querySelector('#talk .talk').hidden")
    assert talk(page) == ""


def test_a_talk_left_before_it_has_the_full_screen_gives_it_back(open_page):
    page = open_page("?model=demo")
    page.evaluate(WATCH)
    page.evaluate(PRESS, "pv")
    page.wait_for_function("told.includes(true)")
    page.wait_for_function("!document.fullscreenElement")
    page.wait_for_function("document.activeElement.matches('[data-talk], #view-similarity h2')")  # and the focus
    assert not is_open(page)


@pytest.mark.parametrize("size", [(1920, 1080), (390, 844)])
def test_other_screens(open_page, size):
    page = open_page("?model=demo&talk=1", viewport={"width": size[0], "height": size[1]}, color_scheme="dark")
    for slide in SLIDES:
        wait_for_slide(page, slide.name)
        if size[0] > 1000:
            assert page.evaluate(SMALL_TYPE) == [] and page.evaluate(OUTSIDE) == []
        assert page.evaluate("(at => at.scrollWidth <= at.clientWidth)(document.querySelector('#talk .talk'))")
        page.click("#talk [data-does=forth]")
