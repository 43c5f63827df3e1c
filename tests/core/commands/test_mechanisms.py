"""`python -m core mechanisms`: one command for the whole comparison, which can be stopped, and what it refuses."""

import shlex
import subprocess
import sys

import pytest

from core.commands import mechanisms
from core.records.mechanisms import layer_costs, mechanism_curves, verdict_on_sharing
from core.records.searches import load_searches

SHORT = ["--plans", "4", "--chunk-tokens", "128", "--batch-tokens", "512", "--mechanisms", "share", "skip", "topk8"]


def test_one_command_stores_and_tells_it_all(command, folder, capsys):
    assert command("mechanisms", *SHORT) == 0
    said = capsys.readouterr()
    [stored], problems = load_searches(folder / "results")
    record, points = stored
    assert not problems and record.kind == "mechanisms"
    assert record.name == "mechanisms+mechanisms=share,skip,topk8+plans=4"
    asked = {
        "targets": "0.05 0.1 0.2 0.3 0.4",
        "budgets": "cache flops",
        "mechanisms": "share skip topk8",
        "head_map": "output",
    }
    assert (
        record.settings.items()
        >= (asked | {"batch": 1, "context_tokens": 4096, "plans": 4, "chunk_tokens": 128}).items()
    )
    curves = mechanism_curves(stored)
    assert set(curves.budget) == {"cache", "flops"} and {"share", "skip", "mixture"} <= set(curves.mechanism)
    assert record.settings["method"] == "foretold steps, looking back"
    assert set(layer_costs(stored).layer) == {1, 2, 3, 4, 5} and set(layer_costs(stored).mechanism) == {
        "share",
        "skip",
        "topk",
    }
    assert verdict_on_sharing(stored) in said.out and "paired over 4 chunks" in said.out
    assert (
        "at equal savings of cache" in said.out
        and "cheapest" in said.out
        and "damage is measured within 128" in said.out
    )
    assert "15 single layers took" in said.err and "more plans: up to" in said.err
    assert any(point.head_map for point in points) and all(point.rows for point in points if point.role != "layer")
    assert command("mechanisms", *SHORT) == 0
    again = capsys.readouterr()
    [(repeated, same)], _ = load_searches(folder / "results")
    assert same == points and repeated.layer_evaluations == 0 and record.layer_evaluations > 0
    assert "what a journal knows is not" in again.err


def test_numbers_of_topk_stand_side_by_side(command, folder, capsys):
    arguments = ["--mechanisms", "topk16,topk8", "skip", "--plans", "1", "--targets", "0.05", "--chunk-tokens", "64"]
    assert command("mechanisms", *arguments) == 0
    table = capsys.readouterr().out.split("\n\n")[0].splitlines()
    assert table[2].split() == ["word", "skip", "topk8", "topk16", "cheapest"] and len(table) == 4 + 5
    assert {line.split()[-1] for line in table[4:]} == {"skip"} and "saves of cache" in table[
        1
    ]  # topk saves none of it
    [stored], _ = load_searches(folder / "results")
    costs = layer_costs(stored)
    assert (
        len(costs) == 3 * 5 and (costs.groupby("layer").damage.idxmin() != costs[costs.mechanism == "skip"].index).any()
    )


def test_commands_that_score_the_winners_are_read_by_evaluate(command, capsys):
    from core.__main__ import parser_of
    from core.commands.head_map import head_map_of

    assert command("mechanisms", *SHORT, "--targets", "0.1", "0.2") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  python -m core evaluate")]
    parsed = [parser_of("evaluate").parse_args(shlex.split(line)[3:]) for line in lines]
    assert parsed[0].plan[0] == "dense" and parsed[0].head_map is None and len(parsed) > 1
    assert all(len(one.plan) == 1 and head_map_of(one.head_map) for one in parsed[1:])
    assert any(plan.startswith("skip") for plan in parsed[0].plan)


def test_a_budget_of_time_is_of_a_device(command, folder, capsys):
    arguments = [
        "--budget",
        "time",
        "--device-profile",
        "h200",
        "--batch",
        "4",
        "--context-tokens",
        "512",
        "--targets",
        "0.05",
    ]
    assert command("mechanisms", *SHORT, *arguments) == 0
    [stored], _ = load_searches(folder / "results")
    assert stored.record.settings["device_profile"] == "NVIDIA H200" and stored.record.settings["batch"] == 4
    assert all(set(point.savings) == {"time"} for point in stored.points)
    assert "the predicted step time saved" in capsys.readouterr().out
    assert stored.record.name.endswith("+device-profile=NVIDIA,H200")  # however it was written


def test_ctrl_c_leaves_no_record_and_the_same_command_goes_on(command, folder, capsys, monkeypatch):
    shown = mechanisms.Session.show
    stops = iter(range(30))

    def stop(*args) -> None:
        if next(stops, None) is None:
            raise KeyboardInterrupt
        shown(*args)

    monkeypatch.setattr(mechanisms.Session, "show", stop)
    assert command("mechanisms", *SHORT) == 130
    assert "the same command goes on from there" in capsys.readouterr().err
    assert not list(folder.glob("results/**/*.jsonl"))
    monkeypatch.setattr(mechanisms.Session, "show", shown)
    assert command("mechanisms", *SHORT) == 0
    [(resumed, points)], _ = load_searches(folder / "results")
    for file in [*folder.glob("results/**/*.jsonl"), *folder.glob("runs/*.jsonl")]:
        file.unlink()
    assert command("mechanisms", *SHORT) == 0
    [(fresh, same)], _ = load_searches(folder / "results")
    assert same == points and 0 < resumed.layer_evaluations < fresh.layer_evaluations


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--targets", "1.5"), "each above 0 and below 1"),
        (("--targets", "0"), "each above 0 and below 1"),
        (
            ("--mechanisms", "share", "prune"),
            "There is no mechanism 'prune': choose of share, skip, kv, keys and topk64",
        ),
        (("--mechanisms", "topk256", "--chunk-tokens", "256"), "topk256 leaves out nothing of chunks of 256 tokens"),
        (("--budget", "time"), "needs a device whose time is predicted"),
        (("--device-profile", "abacus"), "'abacus' names no device"),
        (("--plans", "0"), "allow 1 or more of them"),
        (("--batch", "0"), "batch_size is 0"),
        (("--context-tokens", "-1"), "context_tokens is -1"),
        (("--text", "nowhere.txt"), "nowhere.txt"),
    ],
)
def test_bad_input_is_one_line(command, capsys, arguments, reason):
    assert command("mechanisms", *arguments) == 2
    error = capsys.readouterr().err
    assert reason in error and error.count("\n") == 1 and "Traceback" not in error


def test_a_gpu_gets_batches_that_its_memory_holds(monkeypatch):
    class Session:
        class model:
            device = type("Device", (), {"type": "cuda"})

    for words, tokens in ((49_152, 8192), (151_936, 3533), (2**24, 1024)):
        monkeypatch.setattr(mechanisms, "vocab_size_of", lambda model, words=words: words)
        assert mechanisms._batch_tokens(Session) == tokens
    Session.model.device.type = "cpu"
    assert mechanisms._batch_tokens(Session) == 1024


def test_help_is_there_without_torch():
    code = "import sys; sys.modules['torch'] = None; from core.__main__ import main; main(['mechanisms', '--help'])"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "share skip kv keys topk16" in said and "--device-profile NAME" in said


def test_the_usual_name_is_plain():
    from core.__main__ import parser_of

    usual = parser_of("mechanisms").parse_args(["mechanisms"])
    assert mechanisms._record_name(usual, usual.targets) == "mechanisms"
    other = parser_of("mechanisms").parse_args(["mechanisms", "--head-map", "identity", "--budget", "flops", "cache"])
    assert mechanisms._record_name(other, [0.1]) == "mechanisms+budget=flops,cache+targets=0.1+head-map=identity"
