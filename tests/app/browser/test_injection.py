"""Words of visitors, links and files stay words: markup in them never becomes a part of the page, in any view.

Every place that takes words from outside is given a picture that does not exist, whose `onerror` would tell of itself. None
of these pictures may be there, whether or not the Content-Security-Policy would have stopped its script.
"""

import json
import re
from urllib.parse import quote, urlencode

import pytest

from app import text
from core.plan import SharingPlan
from core.records.files import write_file
from core.records.provenance import Machine
from core.records.scores import Metric, pack_lines, save_record
from tests.support.browser import (
    DESKTOP,
    PATIENCE_MS,
    evaluate,
    free_port,
    go_to,
    plan_box,
    prompt_box,
    serve,
    wait_for,
    wait_for_words,
    wait_until_idle,
)
from tests.support.page import score_record

pytestmark = pytest.mark.browser

RAN = "() => [window.ran || [], document.querySelectorAll('img[src=\"x\"], svg[data-mark], script[data-mark]').length]"


def mark(place: str) -> str:
    """Markup that would tell that it is no text, at each of the places where one forgets to escape."""
    tell = f"(window.ran = window.ran || []).push('{place}')"
    return f'\'"></title></textarea></script><img src=x onerror="{tell}"><svg data-mark onload="{tell}">${{{tell}}}'


def check(page, *places: str) -> int:
    """That nothing ran and nothing stands there; the number of checks."""
    ran, there = page.evaluate(RAN)
    assert ran == [] and there == 0, (places, ran, there)
    return len(places)


@pytest.fixture(scope="module")
def hostile_results(tmp_path_factory):
    """Records whose every word is markup: model, task, metric, machine, command, versions, questions and answers."""
    folder = tmp_path_factory.mktemp("hostile") / "results"
    for model, plan in (("demo", ""), ("demo", "2-3"), (mark("record model"), "2-3")):
        record = score_record("", mark("record task"), mark("record metric"), 0.5).model_copy(
            update={
                "model": model, "plan": plan, "num_layers": 24, "kind": "direct" if plan else "dense",
                "followers": SharingPlan.parse(plan or "dense", 24).followers, "num_samples": 2,
                "metrics": {mark("record metric"): Metric(value=0.5, stderr=0.1)}, "command": mark("record command"),
                "machine": Machine(cpu=mark("record machine"), cpu_cores=2), "versions": {mark("version name"): mark("version")},
                "task_version": mark("task version"),
            }
        )  # fmt: skip
        rows = [{"doc_id": n, "filter": mark("filter"), "target": mark("target"), "answer": mark("answer"),
                 "scores": {mark("record metric"): float(n)}} for n in range(2)]  # fmt: skip
        save_record(folder, record, rows)
        documents = [{"task": record.task, "doc_id": n, "prompt": mark("question"), "choices": [mark("choice"), "no"],
                      "right": mark("right")} for n in range(2)]  # fmt: skip
        write_file(folder / record.documents_path, pack_lines(documents))
    broken = folder / "demo" / f"{re.sub('[^a-z<>=]', '', mark('file').replace('/', ''))}.json"
    broken.write_text(json.dumps({"model": mark("broken record")}))
    return folder


@pytest.fixture(scope="module")
def hostile_page(browser, hostile_results):
    """`open(query)` at a server of these records; console errors count as faults."""
    port = free_port()
    server = serve(port, hostile_results)
    address, contexts, faults = wait_for(f"http://127.0.0.1:{port}/", server), [], []

    def open_it(query: str = ""):
        context = browser.new_context(viewport=DESKTOP)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: faults.append(dialog.message))
        page.goto(address + query, wait_until="domcontentloaded")
        wait_until_idle(page)
        return page

    open_it.faults = faults
    yield open_it
    for context in contexts:
        context.close()
    server.terminate()
    server.wait(timeout=20)


OPTIONS = (
    "plan", "heads", "prompt", "system", "chat", "seed", "temperature", "max-tokens", "similarity-text", "similarity-method",
    "where-text", "savings-batch", "savings-dtype", "speed-device", "scores-task", "scores-axis", "scores-kinds", "evaluate-tasks",
    "evaluate-limit", "level", "talk", "nosuch", mark("name"),
)  # fmt: skip


def test_links(hostile_page):
    """Every option of a link, in every view."""
    hostile_page.faults.clear()
    checks = 0
    for view in text.VIEWS:
        page = hostile_page("?" + urlencode({name: mark(name) for name in OPTIONS} | {"view": view}))
        checks += check(page, *(f"{view} {name}" for name in OPTIONS))
        page.context.close()
    for model in (mark("model"), "../" + mark("path"), "~" + mark("user"), "owner/" + mark("hub")):
        page = hostile_page(f"?model={quote(model)}&view={quote(mark('view'))}")
        checks += check(page, model)
        page.context.close()
    assert checks >= 45 and hostile_page.faults == []


def test_what_is_typed(hostile_page):
    hostile_page.faults.clear()
    page = hostile_page("?view=generate&generate-pause=false")
    checks = 0
    prompt_box(page).fill(mark("prompt"))
    page.click("#generate-go")
    wait_until_idle(page)
    checks += check(page, "prompt", "text of both models")
    plan_box(page).fill(mark("plan"))
    plan_box(page).press("Enter")
    page.wait_for_function("document.querySelector('#plan-error')?.innerText.length > 5")
    checks += check(page, "plan")
    go_to(page, "similarity")
    page.fill("#similarity-text textarea", mark("similarity"))
    page.click("#similarity-compute")
    wait_until_idle(page)
    checks += check(page, "similarity", "axes of charts")
    go_to(page, "where")
    page.fill("#where-text textarea", mark("where"))
    page.locator("#where-text textarea").press("Tab")
    wait_until_idle(page)
    checks += check(page, "where")
    go_to(page, "evaluate")
    box = page.locator("#evaluate-tasks input")
    box.fill(mark("task"))
    box.press("Enter")
    wait_until_idle(page)
    checks += check(page, "task", "command")
    assert checks == 8 and hostile_page.faults == []
    page.context.close()


def test_records(hostile_page):
    """Models, tasks, metrics, machines, commands, questions and answers of records."""
    hostile_page.faults.clear()
    page = hostile_page("?view=scores&plan=2-3")
    check(page, "table", "details")
    wait_for_words(page, "#view-scores", "<img")  # it is shown, as words
    for view in text.VIEWS:
        go_to(page, view) if view != "scores" else None
        check(page, view)
    with page.expect_download() as download:
        page.click("#take-away")
    taken = page.context.new_page()
    taken.goto(f"data:text/html,{quote(download.value.path().read_text(encoding='utf-8'))[:1_500_000]}")
    check(taken, "file to take away")
    assert hostile_page.faults == []
    page.context.close()


def test_uploads(hostile_page, tmp_path):
    """A benchmark of one's own whose name, questions and answers are markup, evaluated and read answer by answer.

    The last test here: what it evaluates is stored among the records, and shown instead of theirs.
    """
    hostile_page.faults.clear()
    page = hostile_page("?view=evaluate")
    choices = [mark("own choice"), "no"]
    line = json.dumps({"prompt": mark("own question"), "choices": choices, "answer": mark("own choice")})
    odd, own = tmp_path / mark("file name").replace("/", "")[:120], tmp_path / "own.jsonl"
    odd = odd.with_name(f"{odd.name}.jsonl")
    odd.write_text(f"{line}\n{{]{mark('broken line')}")
    own.write_text(line)
    chooser = page.locator("input[type=file]:has(+ #evaluate-upload)")
    chooser.set_input_files(odd)
    wait_for_words(page, "#evaluate-error", "line 2")
    check(page, "file name", "broken line")
    chooser.set_input_files(own)
    wait_for_words(page, "#evaluate-tasks", "custom_own")
    check(page, "upload")
    evaluate(page, 10)
    wait_for_words(page, "#evaluate-progress", "custom_own")
    page.wait_for_selector("#evaluate-go:not([disabled])")
    check(page, "progress")
    go_to(page, "scores")
    check(page, "scores", "answers")
    assert hostile_page.faults == []
    page.context.close()
