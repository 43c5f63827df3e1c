"""Two things never stand under one key: each has its own, or one sentence says why not."""

import json

import gradio as gr
import pytest

from app import measured, registry, settings
from app.charts import speed as speed_charts
from app.charts import where as where_charts
from app.panels import evaluate as evaluate_panel
from app.panels.where import suggestion
from core.__main__ import main
from core.records.scores import load_records, save_record
from core.records.searches import load_searches
from core.records.timings import load_timings
from tests.support.damage import LAYERS, made_up, save_tiny
from tests.support.models import tiny_model
from tests.support.page import clickable, score_record


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two folders of one name, with different weights, and one beside the first."""
    root = tmp_path_factory.mktemp("models")
    save_tiny(tiny_model, root / "a" / "tiny")
    save_tiny(lambda **fields: tiny_model(seed=1, **fields), root / "b" / "tiny")
    return root


def benchmark(path, question: str):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"prompt": question, "choices": ["yes", "no"], "answer": 0}))
    return path


@pytest.mark.parametrize("names", [("en/test.jsonl", "de/test.jsonl"), ("a b.jsonl", "a_b.jsonl")])
def test_two_benchmarks_of_one_name_are_refused(tmp_path, capsys, names):
    """--benchmark en/test.jsonl --benchmark de/test.jsonl: the first is dropped without a word."""
    files = [benchmark(tmp_path / name, f"Is it {name}?") for name in names]
    given = [part for file in files for part in ("--benchmark", str(file))]
    assert main(["evaluate", *given, "--results", str(tmp_path / "results")]) == 2
    assert "rename one of the files" in capsys.readouterr().err and not (tmp_path / "results").exists()


def test_one_benchmark_given_twice_is_measured_once(models, tmp_path):
    """A file that is named twice is no collision."""
    file = str(benchmark(tmp_path / "test.jsonl", "Is it?"))
    where = ["--results", str(tmp_path / "results"), "--model", str(models / "a/tiny")]
    assert main(["evaluate", "--benchmark", file, "--benchmark", file, *where]) == 0
    assert len(load_records(tmp_path / "results")[0]) == 1


def test_the_page_keeps_the_first_of_two_uploads_of_one_name(tmp_path):
    """A second upload of the same name takes the first one's place without a word."""
    first, second = (benchmark(tmp_path / folder / "test.jsonl", folder) for folder in ("en", "de"))
    own, *_ = evaluate_panel.add_benchmark(str(first), {}, [])
    *kept, error = evaluate_panel.add_benchmark(str(second), own, [])
    assert "rename the file" in error and all(isinstance(update, dict) and "value" not in update for update in kept)
    assert not evaluate_panel.add_benchmark(str(first), own, [])[2]


@pytest.mark.parametrize("more", [[], ["--overwrite"]])
def test_two_models_of_one_name_are_refused(models, tmp_path, capsys, more):
    """Model folders of equal name under --overwrite: the second takes the first one's records."""
    given = ["--model", str(models / "a/tiny"), "--model", str(models / "b/tiny"), "--tasks", "demo_copy"]
    assert main(["evaluate", *given, "--limit", "2", "--results", str(tmp_path / "results"), *more]) == 2
    assert "both be called 'tiny'" in capsys.readouterr().err and not (tmp_path / "results").exists()


def test_timings_of_other_conditions_are_measured_and_kept_apart(models, tmp_path, capsys):
    """Timings are called "stored already" although execution, --new or the weights differ."""
    short = ["measure", "--plan", "2-4", "--context", "8", "--device", "cpu", "--results", str(tmp_path)]
    first = ["--model", str(models / "a/tiny"), "--new", "2"]
    asked = [
        first, [*first[:-1], "3"], [*first, "--execution", "recompute"], ["--model", str(models / "b/tiny"), *first[2:]]
    ]  # fmt: skip
    for more in asked:
        assert main([*short, *more]) == 0 and "stored already" not in capsys.readouterr().out
    records, problems = load_timings(tmp_path)
    assert not problems and len({record.point for record in records}) == 4
    for more in asked:
        assert main([*short, *more]) == 0 and "stored already" in capsys.readouterr().out
    assert main([*short, *first, "--generate"]) == 0  # more is asked than is stored
    assert main([*short, *asked[1], "--overwrite"]) == 0
    assert len(load_timings(tmp_path)[0]) == 4 and any(record.generate for record in load_timings(tmp_path)[0])


def test_searches_on_two_texts_of_one_name_are_both_kept(models, tmp_path):
    """search --text en/a.txt, then de/a.txt: the second record takes the first one's place."""
    for folder in ("en", "de"):
        (tmp_path / folder).mkdir()
        words = (f"The {number}th {folder} ship came in at {number * 7} in the morning." for number in range(150))
        (tmp_path / folder / "a.txt").write_text("\n\n".join(words))
    sizes = ["--tokens", "512", "--held-out-tokens", "512", "--journal", str(tmp_path / "runs")]
    where = ["--model", str(models / "a/tiny"), "--results", str(tmp_path / "results")]
    for folder in ("en", "de", "en"):
        text = ["--text", str(tmp_path / folder / "a.txt")]
        assert main(["sweep", "--longest-span", "2", *text, *sizes, *where]) == 0
    records, problems = load_searches(tmp_path / "results")
    assert not problems and len({record.texts["calibration"].sha256 for record, _ in records}) == len(records) == 2
    assert {record.kind for record, _ in records} == {"sweep"}


def test_a_name_with_tuned_in_it_is_a_name_like_any_other(tmp_path, monkeypatch):
    """Any model with -tuned- in its name is taken for a bundled one."""
    monkeypatch.setattr(settings.server, "results", tmp_path)
    monkeypatch.setattr(registry, "_twins", {})
    of = {"model": "tiny-tuned-on-law"}
    for record in (score_record("", "copy", "acc", 0.9), score_record("", "copy", "acc", 0.5).model_copy(update=of)):
        save_record(tmp_path, record)
    shared = score_record("2-3", "copy", "acc", 0.4).model_copy(update=of)
    save_record(tmp_path, shared)
    assert measured.dense_of(shared).model == "tiny-tuned-on-law"
    assert set(measured.store().frame.dense_model) == {"tiny", "tiny-tuned-on-law"}
    assert measured.dense_of(shared.model_copy(update={"kind": "tuned"})).model == "tiny-tuned-on-law"


def test_the_dense_score_beside_an_answer_is_of_the_same_weights(tmp_path, monkeypatch):
    """A model that was trained on keeps its name: answers stand beside the older weights' dense ones."""
    monkeypatch.setattr(settings.server, "results", tmp_path)
    save_record(tmp_path, score_record("", "copy", "acc", 0.9))
    newer = score_record("2-3", "copy", "acc", 0.4).model_copy(update={"weights_sha256": "newer"})
    save_record(tmp_path, newer)
    assert measured.dense_of(newer) is None


def test_a_click_on_the_best_single_span_applies_no_other_plans_heads(known, view):
    """A click on "best single span" may apply another plan's head map (matched by name only)."""
    mapped = made_up(1, 0.1).model_copy(update={"head_map": {1: (3, 2, 1, 0)}})
    known = suggestion.replace(known, front=(mapped,), contiguous=(made_up(1, 0.2),))
    traces = clickable(where_charts.front(suggestion.front_frame(known)).to_json())
    applied = {}
    for trace in traces:
        [point] = trace["customdata"]
        applied[trace["name"]] = suggestion.apply_point(gr.EventData(None, {"id": point}), known, view)[0]
    assert applied["any mix of spans (found)"]["heads"] == json.dumps({1: [3, 2, 1, 0]})
    assert "heads" not in applied["best single span"]


def test_bars_of_plans_that_begin_alike_stand_apart():
    """Bars are told apart by a short name of their plan: long plans that begin alike lie over each other."""
    import pandas as pd

    plans = ["0-1,3-4,6-7,9-10,12-13", "0-1,3-4,6-7,9-10,12-14", "2-3"]
    rows = pd.DataFrame({"batch_size": 1, "context_tokens": 64, "plan": plans})
    assert len(set(speed_charts._timing_names(rows))) == 3


@pytest.fixture
def view(models):
    return {"model": str(models / "a/tiny"), "plan": "2-4"}


@pytest.fixture
def known(view, tmp_path, monkeypatch):
    from app import searches

    monkeypatch.setattr(settings.server, "results", tmp_path)
    found = searches.known(view["model"])
    assert found.num_layers == LAYERS
    return found


def test_a_layer_that_stands_twice_in_a_head_map_is_refused(view, tmp_path, capsys):
    """{"3": …, "3": …}: the first row is dropped without a word."""
    twice = '{"3": [0, 1, 2, 3], "3": [3, 2, 1, 0]}'
    with pytest.raises(ValueError, match="is not one"):
        registry.get_model(view["model"]).shared(registry.get_model(view["model"]).plan("2-4"), twice)
    (tmp_path / "heads.json").write_text(twice)
    heads = ["--head-map", str(tmp_path / "heads.json"), "--results", str(tmp_path / "results")]
    assert main(["evaluate", "--model", view["model"], "--plan", "2-4", "--tasks", "demo_copy", *heads]) == 2
    assert "stands twice" in capsys.readouterr().err


def test_the_score_of_the_page_is_that_of_its_head_map(view, tmp_path, monkeypatch):
    """Direct and head-mapped scores of one plan are told apart by the plan's name only."""
    from app.panels import scores

    monkeypatch.setattr(settings.server, "results", tmp_path)
    heads = {layer: (3, 2, 1, 0) for layer in (3, 4)}
    direct = score_record("2-4", "copy", "acc", 0.4)
    mapped = direct.model_copy(update={"kind": "head-mapped", "head_map": heads})
    for record in (direct, mapped):
        save_record(tmp_path, record)
    frame = measured.store().frame
    for heads_of_page, record in (("", direct), (json.dumps(heads), mapped)):
        found = scores._selected_row(frame, {**view, "heads": heads_of_page}, None)
        assert found["path"] == record.path.as_posix()


def test_documents_in_two_files_are_refused(tmp_path):
    """Task data under two names: the second is dropped without a word."""
    from lm_eval.api.task import TaskConfig

    from core.evaluation.task_data import local_documents

    for name in ("piqa.jsonl", "piqa.test.jsonl"):
        (tmp_path / name).write_text(json.dumps({"goal": name}))
    with pytest.raises(ValueError, match="keep one of them"):
        local_documents(tmp_path, TaskConfig(task="piqa", dataset_path="piqa", test_split="test"))


def test_all_stored_searches_are_drawn():
    """Curves of more searches than there are symbols: the fifth and further ones are dropped without a word."""
    import pandas as pd

    rows = [
        {
            "role": "found",
            "name": f"search+{number}",
            "plan": "2-3",
            "followers": 1,
            "saved_percent": 5.0,
            "damage": 0.1,
        }
        | {"stderr": 0.01, "head_map": {}}
        for number in range(7)
    ]
    drawn = json.loads(where_charts.search_curves(pd.DataFrame(rows)).to_json())["data"]
    assert len(drawn) == 7
