"""Tune: the command that is shown is the one that runs, Stop leaves a run that goes on, and where it may not run at all."""

import json
import shlex
from argparse import ArgumentParser
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest

from app import jobs, settings, text, tunings
from app.charts import tuning as charts
from app.components import html
from app.panels import model as model_panel
from app.panels import tune
from core.records.tunings import TuningRecord
from tests.support.page import Words

GOLDEN = Path(__file__).resolve().parents[2] / "golden_records" / "tuning-v1.json"
PLAIN = ("text", "none")  # objective and corrections
CHOICE = ("full", False, 20, "", *PLAIN)


@pytest.fixture
def own_machine(tmp_path, monkeypatch):
    """A folder for results and one for tuned models, and a command that trains nothing."""
    for name, value in (("results", tmp_path / "results"), ("tuned", tmp_path / "tuned"), ("tune_seconds", 60.0)):
        monkeypatch.setattr(settings.server, name, value)
    monkeypatch.setattr(settings, "TUNE_PROGRAM", "tests.support.fake_tune")
    return tmp_path


def steps_of(running) -> list[tuple]:
    return [step for step in running if not isinstance(step, jobs.Rest)]


def shown_words(outputs: tuple) -> str:
    return Words(outputs[0]).words


def test_the_command_is_understood_and_names_what_was_chosen(own_machine, view):
    from core.commands.arguments import tune as command

    parser = ArgumentParser()
    command.add_arguments(parser)
    for method, control in (("full", False), ("lora", True)):
        wanted = tunings.asked(view, method, control, 40, "", *PLAIN)
        line = tunings.command_line(wanted)
        assert line in shown_words(tune.command(view, method, control, 40, "", *PLAIN))
        args = parser.parse_args(shlex.split(line)[4:])
        assert (args.plan, args.method, args.control, args.steps) == ("2-4", method, control, 40)
        assert args.context_tokens == 128 and Path(args.data).is_file()  # the tiny model was made for no more
        assert args.out == tunings.folder_of(wanted) and args.results == settings.server.results


HEADS = {"heads": '{"3": [3, 0, 0, 1], "4": [1, 1, 2, 3]}'}


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_command_carries_the_heads_of_the_view_what_is_learnt_from_and_what_besides(own_machine, view, method):
    from core.commands.arguments import tune as command
    from core.commands.head_map import head_map_of

    parser = ArgumentParser()
    command.add_arguments(parser)
    choice = (method, False, 40, "", "distillation", "rank=8,alignment")
    wanted = tunings.asked(view | HEADS, *choice)
    assert tunings.command_line(wanted) in shown_words(tune.command(view | HEADS, *choice))
    args = parser.parse_args(shlex.split(tunings.command_line(wanted))[4:])
    assert head_map_of(args.head_map) == {3: (3, 0, 0, 1), 4: (1, 1, 2, 3)}
    assert (args.objective, args.corrections) == ("distillation", "rank=8,alignment")
    others = [tunings.asked(view, *choice), tunings.asked(view | HEADS, method, False, 40, "", "text", "rank=8,alignment"),
              tunings.asked(view | HEADS, method, False, 40, "", "distillation", "alignment")]  # fmt: skip
    assert len({tunings.folder_of(one) for one in (wanted, *others)}) == 4  # each goes on by itself
    assert not {"--head-map", "--objective", "--corrections"} & set(tunings.command(tunings.asked(view, *CHOICE)))


def test_a_control_leaves_out_what_only_followers_have_and_says_so(own_machine, view):
    words = shown_words(tune.command(view | HEADS, "full", True, 20, "", "text", "alignment"))
    assert "--control" in words and "--head-map" not in words and "--corrections" not in words
    assert text.TUNE_LEFT_OUT in words
    assert text.TUNE_LEFT_OUT not in shown_words(tune.command(view, "full", True, 20, "", *PLAIN))
    alike = [
        tunings.asked(view | extra, "full", True, 20, "", "text", what)
        for extra, what in ((HEADS, "alignment"), ({}, "none"))
    ]
    assert alike[0] == alike[1]


def test_the_cost_counts_the_teacher_and_what_followers_learn_besides(own_machine, view):
    plain = tunings.cost(tunings.asked(view, *CHOICE))
    taught = tunings.cost(tunings.asked(view, "full", False, 20, "", "distillation", "none"))
    assert taught["flops"] != plain["flops"] and taught["memory"] != plain["memory"]
    words = shown_words(tune.command(view, "full", False, 20, "", "distillation", "alignment"))
    assert text.TUNE_COST_TEACHER in words and text.TUNE_COST_TEACHER not in shown_words(tune.command(view, *CHOICE))
    assert "adds 32 parameters to " in words  # a matrix of 4 × 4 heads for each of two followers
    assert "adds" not in shown_words(tune.command(view, *CHOICE))
    wide = shown_words(tune.command(view, "full", False, 20, "", "text", "rank=8"))
    assert "adds" in wide  # the deltas of two followers


def test_what_a_step_took_is_told_of_a_run_that_did_the_same(own_machine, view):
    steps_of(tune.run(view, *CHOICE))
    assert "when it was last tuned" not in shown_words(tune.command(view, "full", False, 20, "", "text", "alignment"))


def test_a_stored_run_is_named_by_all_that_was_chosen(own_machine, view):
    steps_of(tune.run(view | HEADS, "full", False, 20, "", "distillation", "alignment"))
    (choice,) = tune.runs_anew(view)[0]["choices"]
    assert choice[0].startswith("2-4, heads mapped · full, distillation, alignment · 20 steps")


def test_the_cost_is_told_in_words_before_and_after_somebody_measured_it(own_machine, view):
    before = shown_words(tune.command(view, *CHOICE))
    assert "20 steps of 4 rows of at most 128 tokens: about 10,240 tokens" in before and "predicted" in before
    steps_of(tune.run(view, *CHOICE))
    again = shown_words(tune.command(view, *CHOICE))
    assert "when it was last tuned" in again


@pytest.mark.parametrize(
    ("change", "choice", "told"),
    [({"plan": "dense"}, CHOICE, text.TUNE_DENSE), ({"heads": '{"3": [9, 0, 0, 0]}'}, CHOICE, "head map"),
     ({}, ("all", False, 20, "", *PLAIN), "method"), ({}, ("full", False, 10**9, "", *PLAIN), "steps"),
     ({}, ("full", False, 20, "", "reward", "none"), "objective"), ({}, ("full", False, 20, "", "text", "rank=9"), "correction"),
     ({}, ("full", True, 20, "", "distillation", "none"), text.TUNE_NO_TEACHER),
     ({"model": "demo-tuned-17-22"}, CHOICE, text.TUNE_ALREADY)],
)  # fmt: skip
def test_what_cannot_be_tuned_is_said_and_not_started(own_machine, view, change, choice, told):
    command, problem, go = tune.command(view | change, *choice)
    assert not command and told in problem and not go["interactive"]
    assert told in steps_of(tune.run(view | change, *choice))[-1][1]
    assert not settings.server.tuned.exists()


def test_a_dense_plan_has_a_control(own_machine, view):
    assert "--control" in shown_words(tune.command(view | {"plan": "dense"}, "full", True, 20, "", *PLAIN))


def test_a_run_tells_its_losses_and_ends_in_the_lists(own_machine, view):
    told = steps_of(tune.run(view, *CHOICE))
    charts = [json.loads(step[4]) for step in told if isinstance(step[4], str)]
    assert charts and charts[0]["layout"]["meta"]["title"] == text.TUNE_CHART_TITLE
    assert 'role="progressbar"' in "".join(step[0] for step in told if isinstance(step[0], str))
    assert "3.000" in told[-1][0] and "2.000 ± 0.010" in told[-1][0] and not told[-1][1]
    (folder,) = settings.server.tuned.iterdir()
    assert str(folder) in model_panel.choices() and tunings.finished_folders() == [str(folder)]
    choice, chart, about, name, models = tune.runs_anew(view)
    assert len(choice["choices"]) == 1 and name == ("tiny", view["plan"]) and str(folder) in models["choices"]
    assert "held-out text" in chart and "core" in about
    assert tune.runs(view, name)[:3] == (gr.skip(),) * 3  # nothing new, nothing drawn
    other = view | {"plan": "0-1"}
    assert tune.runs(other, name)[:3] == (gr.skip(),) * 3  # a plan without a run leaves what is shown
    chosen = tune.runs(view, ("tiny", "0-1"))[0]["value"]
    assert chosen == choice["value"] and view["plan"] in chosen


def test_stop_leaves_a_run_that_goes_on(own_machine, view):
    visitor = SimpleNamespace(session_hash="visitor")
    choice = ("full", False, 1000, "", *PLAIN)
    running = tune.run(view, *choice, visitor)
    for step in running:
        if not isinstance(step, jobs.Rest) and "Step " in str(step[0]):
            assert not tune._stops.press(visitor)["interactive"]
            break
    end = steps_of(running)[-1]
    assert "with a checkpoint" in end[0] and not end[1]
    wanted = tunings.asked(view, *choice)
    stopped_at = tunings.live(tunings.folder_of(wanted)).steps
    assert 0 < stopped_at < 1000 and tunings.can_go_on(wanted)
    assert tune.command(view, *choice)[2]["value"] == text.TUNE_AGAIN
    again = tune.run(view, *choice, visitor)
    seen = next(step for step in again if not isinstance(step, jobs.Rest) and "Step " in str(step[0]))
    assert str(stopped_at) in seen[0]
    tune._stops.press(visitor)
    assert tunings.live(tunings.folder_of(wanted)).steps >= stopped_at and steps_of(again)


def test_stop_while_the_command_is_being_loaded_is_no_fault(own_machine, view):
    """Its last line, KeyboardInterrupt, was shown as an error: it had ended by the signal before it could note it."""
    visitor = SimpleNamespace(session_hash="visitor")
    running = tune.run(view, "full", False, 1000, "", *PLAIN, visitor)
    assert text.TUNE_STARTS in next(running)[0]
    tune._stops.press(visitor)
    assert steps_of(running)[-1][:2] == (html.note(text.TUNE_NOT_BEGUN), "")


def test_a_budget_of_seconds_ends_a_run_with_a_checkpoint(own_machine, view, monkeypatch):
    monkeypatch.setattr(settings.server, "tune_seconds", 3.0)
    end = steps_of(tune.run(view, "full", False, 1000, "", *PLAIN))[-1]
    assert "with a checkpoint" in end[0]


def test_a_closed_tab_ends_the_process(own_machine, view):
    running = tune.run(view, "full", False, 1000, "", *PLAIN)
    for step in running:
        if not isinstance(step, jobs.Rest) and "Step " in str(step[0]):
            break
    running.close()
    folder = tunings.folder_of(tunings.asked(view, "full", False, 1000, "", *PLAIN))
    import time

    time.sleep(1.5)  # the process is asked to end, and nobody waits for it
    steps = tunings.live(folder).steps
    time.sleep(0.5)
    assert tunings.live(folder).steps == steps < 1000 and not jobs.line.running


def test_a_fault_of_the_command_is_one_sentence(own_machine, view):
    end = steps_of(tune.run(view, "full", False, 20, "missing.txt", *PLAIN))[-1]
    assert "missing.txt is no file: name one." in end[1] and "Traceback" not in end[1] and not end[0]


@pytest.mark.parametrize(
    ("setting", "value"), [("public", True), ("read_only", True), ("tune_seconds", 0.0)],
)  # fmt: skip
def test_where_it_may_not_run_the_command_is_there_all_the_same(own_machine, view, monkeypatch, setting, value):
    monkeypatch.setattr(settings.server, "models", (view["model"],))
    monkeypatch.setattr(settings.server, setting, value)
    words = shown_words(tune.command(view, *CHOICE))
    assert "python -m core tune" in words and text.TUNE_NOT_HERE in words
    assert str(own_machine / "tuned") not in words and "--data=my-text.txt" in words
    assert text.TUNE_NOT_HERE in list(tune.run(view, *CHOICE))[-1][1]


def test_a_plan_and_its_control_stand_side_by_side():
    golden = TuningRecord.model_validate_json(GOLDEN.read_text(encoding="utf-8"))
    control = golden.model_copy(update={"control": True, "plan": ""})
    other = control.model_copy(update={"recipe": golden.recipe | {"seed": 8}})
    assert tunings.together(golden, [golden, other, control]) == [golden, control]
    assert tunings.together(golden, [golden, other]) == [golden]
    distilled = golden.model_copy(
        update={"recipe": golden.recipe | {"objective": "distillation"}, "objective": "distillation"}
    )
    assert tunings.together(distilled, [distilled, control]) == [
        distilled
    ]  # it learned from the dense model, not from the text


def test_the_loss_of_a_distilled_run_is_called_a_distance_and_the_dense_line_stands_in_the_legend():
    golden = TuningRecord.model_validate_json(GOLDEN.read_text(encoding="utf-8"))
    golden = golden.model_copy(update={"held_out_dense": (2.0, 0.1)})
    names = {}
    for objective in ("text", "distillation"):
        figure = charts.losses([golden.model_copy(update={"objective": objective})])
        names[objective] = [trace.name for trace in figure.data]
        assert text.TUNE_CHART["dense"] in names[objective] and not figure.layout.annotations
    who = text.TUNE_CHART["tuned"].format(plan=golden.plan)
    assert text.TUNE_CHART["training"].format(who=who) in names["text"]
    assert text.TUNE_CHART["distance"].format(who=who) in names["distillation"]
    assert text.TUNE_CHART["training"].format(who=who) not in names["distillation"]


def test_losses_are_read_off_the_record_that_a_run_rewrites(tmp_path):
    golden = TuningRecord.model_validate_json(GOLDEN.read_text(encoding="utf-8"))
    begun = golden.model_copy(update={"finished": False, "losses": [(1, 3.5)], "steps": 1})
    (tmp_path / "tuning.json").write_text(begun.model_dump_json(), encoding="utf-8")
    assert tunings.live(tmp_path) == begun
    (tmp_path / "tuning.json").write_text("{", encoding="utf-8")
    assert tunings.live(tmp_path) is None
