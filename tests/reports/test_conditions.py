"""Results are printed with the conditions that they were measured under."""

import json
import lzma

import pytest

from core.__main__ import main
from core.commands import search as search_command
from core.demo import training
from core.demo.skills import SKILLS
from core.records import provenance
from core.records.searches import load_searches
from tests.support.damage import save_tiny
from tests.support.models import tiny_model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> str:
    return save_tiny(tiny_model, tmp_path_factory.mktemp("models") / "tiny")


def run(tmp_path, *arguments: str) -> int:
    sizes = ["--tokens", "512", "--held-out-tokens", "512"]
    return main([*arguments, *sizes, "--journal", str(tmp_path / "runs"), "--results", str(tmp_path / "results")])


def test_the_printed_score_is_that_of_the_mapped_plan(tiny, tmp_path, monkeypatch, capsys):
    """search --score-drop with --head-map damage: the score beside the mapped plan is the unmapped plan's."""
    from core.evaluation.score_drop import ScoreDrop

    monkeypatch.setattr(search_command, "print", lambda *_: None, raising=False)
    asked, difference = [], ScoreDrop.difference

    def noted(self, plan, head_map):
        asked.append((str(plan), head_map))
        return difference(self, plan, head_map)

    monkeypatch.setattr(ScoreDrop, "difference", noted)
    budget = ["--score-drop", "1", "--task", "demo_copy", "--limit", "2", "--protect-first", "4"]
    assert run(tmp_path, "search", "--model", tiny, *budget, "--head-map", "damage") == 0
    [(_, points)], _ = load_searches(tmp_path / "results")
    chosen = next(point for point in points if point.role == "chosen")
    assert asked[-1] == (str(chosen.plan), chosen.head_map) and chosen.head_map
    stored = [json.loads(path.read_bytes()) for path in (tmp_path / "results/tiny").glob("*/demo_copy*.json")]
    maps = [{int(layer): tuple(heads) for layer, heads in record["head_map"].items()} for record in stored]
    assert chosen.head_map in maps


def test_a_head_map_that_loses_too_much_is_not_taken(tiny, tmp_path, monkeypatch, capsys):
    """search --score-drop with --head-map damage: the improved map may lose more than was allowed."""
    from core.evaluation.score_drop import ScoreDrop

    seen: list[dict] = []

    def drop(self, plan, head_map):
        seen.append(dict(head_map))
        return 0.0 if head_map == seen[0] else 5.0

    monkeypatch.setattr(ScoreDrop, "__call__", drop)
    monkeypatch.setattr(ScoreDrop, "difference", lambda *_: type("D", (), dict.fromkeys(
        ("stderr", "drop"), 0.0) | {"task": "t", "metric": "m"})())  # fmt: skip
    budget = ["--score-drop", "1", "--task", "demo_copy", "--limit", "2", "--protect-first", "5"]
    assert run(tmp_path, "search", "--model", tiny, *budget, "--head-map", "damage") == 0
    [(_, points)], _ = load_searches(tmp_path / "results")
    assert next(point for point in points if point.role == "chosen").head_map == seen[0]
    assert len(seen) == 1 or "keeps the one it was chosen with" in capsys.readouterr().out


@pytest.mark.parametrize("changed", ["versions", "git_commit", "machine"])
def test_a_journal_of_other_conditions_is_not_gone_on_from(tiny, tmp_path, monkeypatch, changed):
    """A journal resumed after an upgrade puts old measurements under new versions, commit and machine."""
    assert run(tmp_path, "sweep", "--model", tiny, "--longest-span", "2") == 0
    other = {
        "versions": lambda: {"torch": "99"},
        "git_commit": lambda: "another",
        "machine": lambda device=None: provenance.Machine(cpu="another", cpu_cores=1),
    }
    assert run(tmp_path, "sweep", "--model", tiny, "--longest-span", "2") == 0
    assert load_searches(tmp_path / "results")[0][0].record.layer_evaluations == 0
    monkeypatch.setattr(provenance, changed, other[changed])
    assert run(tmp_path, "sweep", "--model", tiny, "--longest-span", "2") == 0
    assert load_searches(tmp_path / "results")[0][0].record.layer_evaluations > 0


def test_a_model_card_tells_of_its_own_corpus_only(tmp_path, monkeypatch):
    """Model cards state "418 books, 47 M tokens" for any corpus."""
    monkeypatch.setattr(training, "skill_scores", lambda *_: dict.fromkeys([*SKILLS, "skill_examples"], 2))
    for split, count in (("train", 60), ("validation", 20)):
        documents = (f"{split} {n}: she went down to the sea at night.\n" * 3 for n in range(count))
        with lzma.open(tmp_path / f"prose_{split}.txt.xz", "wt") as file:
            file.write("<|endoftext|>\n".join(documents))
    sizes = "--steps 2 --batch-rows 2 --context-tokens 32 --skill-examples 320 --layers 4 --width 32 --heads 2"
    sizes += " --kv-heads 1 --intermediate 48 --vocabulary 400 --warmup-steps 1 --plan 1-2 --device cpu"
    train = ["train-demo", "--corpus", str(tmp_path), "--out", str(tmp_path / "out"), *sizes.split()]
    assert main(train) == 0
    card = (tmp_path / "out/demo/README.md").read_text()
    assert "60 documents" in card and "20 documents" in card and "2 held-out examples" in card
    assert not any(word in card for word in ("418", "47 M", "Gutenberg", "apache", "language: en"))
    with lzma.open(tmp_path / "prose_train.txt.xz", "wt") as file:
        file.write("Another corpus.")
    assert main(train) == 2  # what was read from the former one would go on under the name of this one
