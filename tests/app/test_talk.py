"""What the slides of the talk show: of models with records, without any, tuned, and of the dense plan."""

import json
import re

import pytest

from app import measured, services, settings, text, views
from app.components.page import page_script
from app.panels import talk
from app.registry import get_model
from app.talk import content, drawing, records, slides
from app.talk.content import content_of, writing
from core.plan import SharingPlan
from core.records.searches import load_searches
from tests.support.scores import right, store
from tests.support.streams import items

DEMO = {"model": "demo", "plan": "17-22"}
TUNED = {"model": "demo-tuned-17-22", "plan": "17-22"}
NAMES = [slide.name for slide in slides.SLIDES]
PREDICTED = {"share", "saves"}
"""Slides whose numbers come from formulas, for which the sizes of a model are enough."""


def words_of(shown: content.Content) -> str:
    """The text of a slide, without tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", shown.html))


def test_the_talk_has_a_slide_for_each_idea_in_order():
    assert 8 <= len(slides.SLIDES) <= 12 and len(set(NAMES)) == len(NAMES)
    assert NAMES[0] == "attention" and NAMES[-1] == "turn"
    assert {slide.view for slide in slides.SLIDES} <= set(views.VIEWS)
    told = json.loads(slides.as_json())
    assert [one["name"] for one in told] == NAMES
    for one in told:  # two lines of large type
        assert all(0 < len(one[level]) <= 125 for level in ("newcomer", "student", "researcher")), one["name"]
        assert len(one["title"]) <= 30
    assert set(text.TALK_LINKS) <= set(views.VIEWS)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "plan", ["17-22", "dense", "3-4,14-15,16-17,19-20,21-22", "1-23", "skip 5 18,kv 8-11", "19-22,topk8 2_5"]
)
def test_every_slide_shows_something_of_the_demo(name, plan):
    shown = content_of(name, {"model": "demo", "plan": plan})
    assert words_of(shown).strip() and "nan" not in words_of(shown)
    assert (drawing.CHART in shown.html) == (shown.figure is not None)
    if name == "share" and "skip" in plan:
        assert SharingPlan.parse(plan, 24).describe() in words_of(shown) and text.TALK_NO_SHARING not in words_of(shown)
        assert shown.html.count('class="skipped"') == 2 and shown.html.count('class="reads"') == 3
    if plan == "dense" and name in ("share", "cost"):
        assert not re.search(r"[+−±]\d", words_of(shown)) or name == "share"


@pytest.mark.parametrize("name", NAMES)
def test_every_slide_shows_something_of_a_tuned_model(name):
    assert words_of(content_of(name, TUNED)).strip()


@pytest.mark.parametrize("name", NAMES)
def test_without_records_a_slide_says_so_and_has_no_number_of_its_own(name, view, tmp_path, monkeypatch):
    monkeypatch.setattr(settings.server, "results", tmp_path)
    shown = content_of(name, view)
    assert text.TALK_BADGES["recorded"] not in shown.html
    expected = {
        "cost": (text.TALK_NO_DAMAGE.format(plan="2-4"), text.TALK_NO_SCORES.format(plan="2-4")),
        "guide": (text.TALK_NO_PAIRS,),
        "best": (text.TALK_NO_SEARCH,),
        "mends": (text.TALK_NO_WAYS,),
    }
    for sentence in expected.get(name, ()):
        assert sentence in words_of(shown)
    if name in expected:
        assert not re.search(r"\d\.\d", words_of(shown)) and shown.figure is None
    elif re.search(r"\d\.\d|\d%", words_of(shown)):
        assert text.TALK_BADGES["predicted" if name in PREDICTED else "measured"] in shown.html


def test_the_weights_of_the_first_slide_are_those_of_the_model():
    shown = content_of("attention", DEMO)
    groups = json.loads(re.search(r'data-arcs="([^"]*)"', shown.html)[1].replace("&quot;", '"'))
    layer, head = map(int, re.search(r"Layer (\d+), head (\d+)", words_of(shown)).groups())
    ids, _ = services.token_ids("demo", text.TALK_SENTENCE, 128)
    weights = services.layer_weights("demo", ids, layer)[head]
    assert layer == 17 and len(groups) == len(ids)
    for i, j, weight in groups[-1]:
        assert weight == pytest.approx(float(weights[i, j]), abs=1e-4)
    assert all(sum(weight for *_, weight in group) <= 1.001 for group in groups)


def test_the_damage_is_that_of_the_record_on_text_that_no_choice_saw():
    demo = get_model("demo")
    plan = demo.plan("17-22")
    direct = records.damage_of(demo, plan, {})
    stored = [
        point
        for kept in load_searches(settings.server.results)[0]
        if kept.record.model == "demo"
        for point in kept.points
        if point.plan == plan and point.split == "held-out"
    ]
    assert direct and direct.damage in [point.damage for point in stored if point.role in ("identity", "contiguous")]
    mapped = next(point for point in stored if point.role == "damage")
    found = records.damage_of(demo, plan, mapped.head_map)
    assert found and found.damage == mapped.damage != direct.damage
    assert content.signed(direct.damage, direct.stderr) in words_of(content_of("cost", DEMO))
    assert records.damage_of(demo, SharingPlan.parse("2-3,9-11,20-23", 24), {}) is None
    assert content.signed(-0.0123, 0.004) == "−0.012 ± 0.004"


def test_scores_are_those_of_the_plan_and_its_heads():
    demo = get_model("demo")
    [(_, direct), *_] = records.losses_of(demo, demo.plan("17-22"), {})
    assert direct.record.kind == "direct" and direct.record.plan == "17-22"
    mine = [one.record for one in measured.store().plans if one.record.model == "demo"]
    mapped_record = next(record for record in mine if record.kind == "head-mapped")
    plan = demo.plan(mapped_record.plan)
    [(_, mapped), *_] = records.losses_of(demo, plan, mapped_record.head_map)
    assert mapped.record.kind == "head-mapped" and mapped.record.head_map == mapped_record.head_map
    [(_, tuned), *_] = records.losses_of(get_model("demo-tuned-17-22"), demo.plan("17-22"), {})
    assert tuned.record.kind == "tuned"
    errors = [records.standard_errors(one) for _, one in records.losses_of(demo, demo.plan("12-22"), {})]
    assert errors == sorted(errors, reverse=True)


def test_rivals_of_the_best_plan_have_its_size_and_its_text():
    found, span, late, paper = records.rivals(get_model("demo"), 5)
    assert found.followers == span.followers == late.followers == 5
    assert late.plan.name == "18-23" and paper.plan.followers
    assert found.damage <= span.damage <= late.damage
    assert {one.split for one in (found, span, late, paper)} == {"calibration"} and found.held_out.split == "held-out"
    assert len({one.tokens for one in (found, span, late, paper)}) == 1
    assert records.rivals(get_model("demo"), 0).found.followers == 1


def test_tuning_is_compared_on_one_task_with_all_its_ways():
    kinds = ["direct", "head-mapped", "tuned", "control"]
    for asked, told in (("12-22", "12-22"), ("17-22", "17-22"), ("10-14", None)):  # the last one was never tuned
        ways = records.ways(get_model("demo"), SharingPlan.parse(asked, 24))
        assert list(ways.losses) == kinds and ways.plan == (told or ways.plan) != "10-14"
    assert ways.losses["tuned"].loss.drop < ways.losses["direct"].loss.drop
    assert {one.record.task for one in ways.losses.values()} == {ways.task.dense.task}
    shown = words_of(content_of("mends", {"model": "demo", "plan": "12-22"}))
    assert "12-22" in shown and text.TALK_NO_TUNED not in shown


@pytest.fixture
def scored(tmp_path, monkeypatch):
    """400 questions: dense 360 right, shared 280; the function stores a tuned model, or a control of a plan and a seed."""
    monkeypatch.setattr(settings.server, "results", tmp_path)
    store(tmp_path, "", right(360))
    store(tmp_path, "17-22", right(280))

    def add(count: int, control: bool = False, plan: str = "17-22", seed: int = 0, **changes) -> None:
        told = {
            "of": "demo",
            "control": control,
            "plan": plan,
            "method": "full",
            "objective": "text",
            "tokens": 9,
            "steps": 1,
        }
        name = f"{'control' if control else 'tuned'}-{plan}-{seed}-{len(changes)}"
        about = {"model": name, "weights_sha256": name, "kind": "control" if control else "tuned"} | changes
        tuning = told | {"seed": seed, "data_sha256": "0"}
        store(tmp_path, "" if control else plan, right(count), **about, tuning=tuning)

    return add


def test_the_control_stands_beside_the_tuned_model_where_it_was_measured(scored):
    scored(340)
    scored(399, control=True, seed=1)  # of another seed's tokens
    scored(398, control=True, plan="12-22")  # of another plan
    scored(397, control=True, options={"kv_cache": "quantized-4"})
    plan = SharingPlan.parse("17-22", 24)
    assert list(records.ways(get_model("demo"), plan).losses) == ["direct", "tuned"]
    assert text.TALK_CONTROL not in words_of(content_of("mends", DEMO))
    scored(364, control=True, plan="")  # of every plan
    ways = records.ways(get_model("demo"), plan)
    assert list(ways.losses) == ["direct", "tuned", "control"]
    assert ways.losses["control"].loss.drop == pytest.approx(-0.01) and ways.losses["tuned"].loss.drop == pytest.approx(
        0.05
    )
    shown = words_of(content_of("mends", DEMO))
    assert text.TALK_WAYS["control"] in shown and text.TALK_CONTROL in shown
    scored(368, control=True)  # its own
    assert records.ways(get_model("demo"), plan).losses["control"].loss.drop == pytest.approx(-0.02)


def test_a_model_without_a_tuned_twin_says_what_was_not_measured(results, view, monkeypatch):
    monkeypatch.setattr(records, "dense_name", lambda name: "demo")
    assert text.TALK_NO_WAYS in words_of(content_of("mends", view))


def test_both_models_write_on_request():
    *_, last = items(writing({"model": "demo", "plan": "1-23"}))
    assert "<mark>" in last and "part at the mark" in last
    *_, same = items(writing({"model": "demo", "plan": "dense"}))
    assert text.SAME in same and "<mark>" not in same
    shown = [json.loads(one) for one in items(talk.write(DEMO))]
    assert {one["name"] for one in shown} == {"part"} and [one["ended"] for one in shown[-2:]] == [False, True]
    [refused] = [json.loads(one) for one in items(talk.write({"model": "demo", "plan": "9-3"}))]
    assert "reversed" in refused["html"] and refused["ended"]


@pytest.mark.parametrize(
    "asked",
    [
        None, "share", 3, [], {}, {"name": "share"}, {"name": 4, "view": DEMO}, {"name": "share", "view": []},
        {"name": "share", "view": {"model": "demo"}}, {"name": "share", "view": {"model": 1, "plan": "17-22"}},
        {"name": "share", "view": {**DEMO, "more": "x"}}, {"name": "nowhere", "view": DEMO},
        {"name": "share", "view": {"model": "demo", "plan": "17-99"}},
        {"name": "share", "view": {**DEMO, "heads": "{"}}, {"name": "share", "view": {**TUNED, "heads": "{}"}},
    ],
)  # fmt: skip
def test_whatever_a_program_asks_it_gets_one_sentence(asked):
    answer = talk.slide(asked)
    assert answer["html"].startswith('<p class="error"') and answer["figure"] == ""


def test_what_a_model_says_is_no_html(monkeypatch, view):
    monkeypatch.setattr(text, "TALK_SENTENCE", "<b>&</b>")
    assert "<b>&lt;</b>" in content_of("attention", view).html


def test_charts_of_slides_have_no_small_type():
    for name in ("alike", "guide"):
        figure = talk.slide({"name": name, "view": DEMO})["figure"]
        assert not re.search(r'font":\{[^}]*"size"', figure) and json.loads(figure)["layout"]["meta"]["description"]


def test_the_strip_has_room_for_its_numbers():
    for layers in (2, 24, 32, 80):
        plan = SharingPlan(((0, 1),), layers)
        numbered = sorted(drawing._numbered(plan))
        assert 0 in numbered and len(numbered) <= 24
        assert drawing.strip(plan).count("<i ") == layers


def test_every_slide_and_word_that_the_browser_needs_is_there():
    script = page_script("talk")
    component = talk.build()
    for name in re.findall(r"words\.(\w+)", script):
        assert name in json.loads(component.props["words"]) or name == "look"
    assert {"write", "halt"} <= set(re.findall(r"'(\w+)'", script))
