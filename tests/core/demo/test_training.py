"""The training command on a tiny recipe: two models, the same tokens, and a stopped run that goes on to equal weights."""

from functools import partial

import pytest
import torch

import core.demo.training
from core import load_model
from core.__main__ import main
from core.demo.recipe import Recipe
from core.demo.scores import exact_share, skill_scores
from core.demo.skills import SKILLS, Example, evaluation_examples
from core.demo.training import Run
from core.models import weights_sha256
from core.sharing.view import plan_of
from core.tuning.sources import source_of

TINY = "--steps 10 --batch-rows 4 --context-tokens 64 --skill-examples 320 --layers 4 --width 32 --heads 2 --kv-heads 1"
TINY += " --intermediate 48 --vocabulary 400 --warmup-steps 2 --plan 1-2 --device cpu"


@pytest.fixture(autouse=True)
def two_questions(monkeypatch):
    """Untrained models answer nothing: two questions a skill show that they are asked."""
    monkeypatch.setattr(core.demo.training, "skill_scores", partial(skill_scores, count=2))


def train(corpus, out, *more) -> int:
    return main(["train-demo", "--corpus", str(corpus), "--out", str(out), *TINY.split(), *more])


def test_two_models_from_one_run(corpus, tmp_path):
    assert train(corpus, tmp_path / "out") == 0
    dense, tokenizer = load_model(tmp_path / "out" / "demo", device="cpu")
    tuned, _ = load_model(tmp_path / "out" / "demo-tuned-1-2", device="cpu")
    assert plan_of(dense).name == "dense" and plan_of(tuned).name == "1-2"
    ids = tokenizer("37 men went to the river").input_ids
    assert ids[0] == tokenizer.bos_token_id and tokenizer.decode(ids[1:3]) == "37"
    assert not torch.equal(*(m.model.layers[3].mlp.up_proj.weight for m in (dense, tuned)))  # trained apart
    card = (tmp_path / "out" / "demo-tuned-1-2" / "README.md").read_text()
    assert "Layer 1 computes, 2 reuses" in card and "10 steps of 4 × 64 tokens" in card


def test_a_stopped_run_goes_on_to_the_same_weights(corpus, tmp_path, monkeypatch):
    assert train(corpus, tmp_path / "whole") == 0
    all_steps = Run._steps

    def two_steps(self, stage, last_step):
        all_steps(self, stage, min(last_step, stage.step + 2))

    monkeypatch.setattr(Run, "_steps", two_steps)
    codes = [train(corpus, tmp_path / "parts")]
    while codes[-1]:
        codes.append(train(corpus, tmp_path / "parts"))
    assert len(codes) > 3
    for name in ("demo", "demo-tuned-1-2"):
        hashes = {weights_sha256(load_model(tmp_path / run / name, device="cpu")[0]) for run in ("whole", "parts")}
        assert len(hashes) == 1


def test_bad_input_is_one_line(corpus, tmp_path, capsys):
    assert train(tmp_path, tmp_path / "out") == 2
    assert "prose_train.txt.xz is missing" in capsys.readouterr().err
    assert train(corpus, tmp_path / "out", "--plan", "3-9") == 2
    assert "layers 0 to 3" in capsys.readouterr().err
    assert train(corpus, tmp_path / "out", "--stop-after", "0") == 1
    assert train(corpus, tmp_path / "out", "--seed", "7") == 2
    assert "another recipe" in capsys.readouterr().err


def test_the_learning_rate_rises_holds_and_falls():
    recipe = Recipe(steps=100, warmup_steps=10, decay_share=0.4)
    assert recipe.rate(0) == 0.1 and recipe.rate(9) == recipe.rate(59) == 1
    assert recipe.rate(80) == 0.5 and recipe.rate(100) == 0


@pytest.mark.parametrize(
    "part",
    [lambda state: state["model"].pop("model.norm.weight"), lambda state: state["optimizers"][0].popitem()],
    ids=["weights", "optimizer"],
)
def test_a_checkpoint_that_lacks_something_is_refused(corpus, tmp_path, capsys, monkeypatch, part):
    steps = Run._steps
    monkeypatch.setattr(Run, "_steps", lambda self, stage, last: steps(self, stage, min(last, 2)))
    assert train(corpus, tmp_path) == 1
    state = torch.load(tmp_path / "work" / "trunk.pt")
    part(state)
    torch.save(state, tmp_path / "work" / "trunk.pt")
    assert train(corpus, tmp_path) == 2
    assert "trunk.pt is no whole checkpoint of this recipe" in capsys.readouterr().err
    (tmp_path / "work" / "trunk.pt").write_bytes(b"PK")
    assert train(corpus, tmp_path) == 2


@pytest.mark.parametrize(
    "option",
    ["--steps 0", "--batch-rows -1", "--decay-share 1.5", "--trunk-share nan", "--warmup-steps -1", "--vocabulary 200",
     "--vocabulary 40000", "--kv-heads 3", "--width 30", "--skill-examples 3"],
)  # fmt: skip
def test_figures_that_make_no_training_are_one_line(corpus, tmp_path, capsys, option):
    assert train(corpus, tmp_path, *option.split()) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and option.split()[0] in err


def test_exact_answers_are_counted():
    model, tokenizer = load_model("demo", device="cpu")
    examples = evaluation_examples("recall", 4, seed=9)
    wrong = Example(examples[0].prompt, " 9.")
    assert exact_share(model, tokenizer, [*examples, wrong], batch_size=2) == 0.8


def test_a_text_to_tune_on_holds_prose_and_exercises_of_training_alone(corpus, tmp_path, capsys):
    def written(*more: str) -> list[str]:
        out = tmp_path / "demo.txt"
        command = ["demo-text", "--corpus", str(corpus), "--out", str(out), "--characters", "6000", *more]
        assert main(command) == 0
        documents = [document.text for document in source_of(out)]
        assert f"{len(out.read_text()):,} characters" in capsys.readouterr().out
        return documents

    documents = written()
    prose = [document for document in documents if "old man of" in document]
    exercises = [document for document in documents if document not in prose]
    assert documents != prose + exercises and len(set(prose)) == len(prose)  # mixed, none twice
    assert all(document.startswith("train ") for document in prose)
    assert sum(map(len, exercises)) / sum(map(len, documents)) == pytest.approx(0.25, abs=0.05)
    asked = {example.prompt for skill in SKILLS for example in evaluation_examples(skill, 500, seed=1)}
    assert not [one for one in exercises for prompt in asked if one.startswith(prompt)]
    assert documents == written() != written("--seed", "1")
    assert all("old man of" in document for document in written("--skill-share", "0"))
    assert not any("old man of" in document for document in written("--skill-share", "1"))
    command = ["demo-text", "--corpus", str(corpus), "--out", str(tmp_path / "no.txt"), "--skill-share", "2"]
    assert main(command) == 2 and "between 0 and 1" in capsys.readouterr().err
