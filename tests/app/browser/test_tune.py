"""Tune in the browser: the command follows the choice and is copied; a run is stopped, goes on, and ends in the lists."""

import pytest

from tests.support.browser import (
    PATIENCE_MS,
    free_port,
    serve,
    type_plan,
    wait_for,
    wait_for_words,
    wait_until_idle,
)

pytestmark = pytest.mark.browser
HEADS = '{"18":[3,0,1,2,5,4]}'
LONG_MS = 240_000  # a process that imports torch, on two cores that others use too


@pytest.fixture(scope="module")
def own_address(tmp_path_factory):
    """A page of one's own, with an empty folder of results and one for tuned models."""
    folder = tmp_path_factory.mktemp("tuning")
    port = free_port()
    server = serve(
        port, folder / "results", "--tuned", str(folder / "tuned"), "--tune-seconds", "200", "--model", "demo"
    )
    try:
        yield wait_for(f"http://127.0.0.1:{port}/", server)
    finally:
        server.terminate()
        server.wait(timeout=20)


@pytest.fixture
def page(browser, own_address):
    """The view *Evaluate*; nothing may go wrong in it."""
    faults: list[str] = []
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=own_address)
    page = context.new_page()
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(f"{own_address}?view=evaluate&plan=17-22", wait_until="domcontentloaded")
    wait_until_idle(page)
    yield page
    context.close()
    assert not faults


def choose_steps(page, steps: int) -> None:
    box = page.locator("#tune-steps input[type=number]")
    box.fill(str(steps))
    box.press("Tab")
    wait_for_words(page, "#tune-command", f"--steps {steps}")


def wait_for_end(page) -> None:
    page.wait_for_selector("#tune-go:not([disabled])", timeout=LONG_MS)


def test_the_command_follows_the_choice_and_is_copied(page):
    wait_for_words(page, "#tune-command", "--plan 17-22")
    type_plan(page, "12-22")
    wait_for_words(page, "#tune-command", "--plan 12-22")
    page.get_by_label("low-rank changes of them (LoRA)").check()
    page.locator("#tune-control input").check()
    wait_for_words(page, "#tune-command", "--method lora --control")
    wait_for_words(page, "#tune-command", "tokens and")  # what it costs
    page.click("#tune-command .copy")
    wait_for_words(page, "#tune-command .copy", "Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.inner_text("#tune-command pre") and copied.startswith("python -m core tune")
    page.wait_for_function("location.search.includes('tune-method=lora') && location.search.includes('plan=12-22')")


def test_heads_teacher_and_corrections_are_in_the_command_and_in_the_link(page, own_address):
    page.goto(f"{own_address}?view=evaluate&plan=17-22&heads={HEADS}", wait_until="domcontentloaded")
    wait_until_idle(page)
    wait_for_words(page, "#tune-command", "--head-map '{\"18\": [3, 0, 1, 2, 5, 4]}'")
    page.get_by_label("what it expects there (distillation)").check()
    page.get_by_label("to mix the leader's heads (alignment)").check()
    wait_for_words(page, "#tune-command", "--objective distillation")
    wait_for_words(page, "#tune-command", "--corrections alignment")
    wait_for_words(page, "#tune-command", "adds 180 parameters to ")  # 6 × 6 heads, of five followers
    page.wait_for_function(
        "location.search.includes('tune-objective=distillation') && location.search.includes('tune-corrections=alignment')"
    )
    wait_until_idle(page)
    page.reload(wait_until="domcontentloaded")
    wait_until_idle(page)
    wait_for_words(page, "#tune-command", "--objective distillation")
    wait_for_words(page, "#tune-command", "--corrections alignment")
    page.locator("#tune-control input").check()
    wait_for_words(page, "#tune-error", "nothing to learn from its own guesses")


def test_a_run_is_stopped_goes_on_and_ends_in_the_lists(page, own_address):
    page.goto(f"{page.url}&heads={HEADS}&tune-corrections=alignment", wait_until="domcontentloaded")
    wait_until_idle(page)
    choose_steps(page, 60)  # long enough for Stop to be pressed meanwhile
    page.click("#tune-go")
    page.wait_for_function("document.querySelector('#tune-progress').innerText.includes('Step ')", timeout=LONG_MS)
    page.click("#tune-stop")
    wait_for_end(page)
    assert "with a checkpoint" in page.inner_text("#tune-progress"), page.inner_text("#tune-problem")
    wait_for_words(page, "#tune-go", "Go on")
    page.click("#tune-go")
    page.wait_for_selector("#tune-stop:not([disabled])")
    wait_for_end(page)
    assert "Done: held-out loss" in page.inner_text("#tune-progress"), page.inner_text("#tune-problem")
    page.wait_for_selector("#tune-losses .chart[data-drawn] .plot-container")
    wait_for_words(page, "#tune-about", "python -m core tune")
    tuned = page.get_attribute("#tune-progress a", "href")  # the tuned model, on the same view
    assert "demo-17-22-full-60" in tuned
    assert "heads mapped · full, text, alignment" in page.input_value("#tune-run input")
    page.click("#model-name input")
    page.wait_for_selector("[role=option]:has-text('demo-17-22-full-60')")
    page.goto(f"{own_address}{tuned}", wait_until="domcontentloaded")
    wait_until_idle(page)
    wait_for_words(page, "#tune-error", "This model is tuned already")  # it is open
