"""Runs that begin to share at different moments: the same tokens, the same beginnings, and records that a stop does not change."""

import json
from functools import partial

import numpy as np
import pytest
import torch

import core.demo.grid
from core.__main__ import main
from core.damage.similarity import attention_similarity
from core.demo.grid import first_shared_step, moments
from core.demo.recipe import Recipe
from core.demo.scores import skill_scores
from core.demo.skills import SKILLS
from core.demo.trainer import Trainer
from core.records.emergence import load_emergences
from core.records.pretraining import load_pretrainings

TINY = (
    "--steps 6 --batch-rows 2 --context-tokens 32 --skill-examples 64 --layers 3 --width 16 --heads 2 --kv-heads 1 "
    "--intermediate 24 --vocabulary 300 --warmup-steps 2 --plan 1-2 --device cpu --scores-only"
)
HOW_LONG = {"versions", "git_commit", "machine", "date", "duration_s", "command", "seconds", "places"}


def train(corpus, out, *more: str) -> int:
    where = ["--corpus", str(corpus), "--out", str(out), "--results", str(out / "results")]
    return main(["train-demo", *where, *TINY.split(), *more])


@pytest.fixture(scope="module")
def tiny_runs():
    """Two questions a skill, one thread, and first weights so large that layers do not all look alike."""
    threads, config_of = torch.get_num_threads(), Recipe.config
    torch.set_num_threads(1)

    def far_apart(recipe):
        config = config_of(recipe)
        config.initializer_range = 0.5
        return config

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(core.demo.grid, "skill_scores", partial(skill_scores, count=2))
        patched.setattr(Recipe, "config", far_apart)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def grid(corpus, tiny_runs, tmp_path_factory):
    """A whole grid: its folder, what every step read, and the weights that each stage of seed 0 began with."""
    out, read, weights = tmp_path_factory.mktemp("grid"), {}, {}
    step_of = Trainer._step

    def watched(self, stage, loss_of):
        read[self.recipe.seed, stage.name, stage.step] = self._batch(stage.step).tolist()
        if stage.step == 0 and self.recipe.seed == 0:
            weights[stage.name] = {name: tensor.clone() for name, tensor in stage.model.state_dict().items()}
        return step_of(self, stage, loss_of)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Trainer, "_step", watched)
        assert (
            train(corpus, out, *["--share-from", "0", "0.5", "never", "--seeds", "0", "1", "--similarity-at", "4"]) == 0
        )
    return out, read, weights


def records(out) -> dict:
    """The records by seed and moment."""
    found, problems = load_pretrainings(out / "results")
    assert problems == []
    return {(one.seed, one.share_from): one for one in found}


def test_every_run_of_a_seed_reads_the_same_tokens_in_the_same_order(grid):
    _, read, _ = grid
    trunk, late = [("dense", step) for step in range(6)], [("from-0.5", step) for step in range(3, 6)]
    early = [("from-0", step) for step in range(6)]
    assert sorted(read) == sorted((seed, *one) for seed in (0, 1) for one in (*trunk, *late, *early))
    for (seed, _, step), tokens in read.items():
        assert tokens == read[seed, "dense", step]
    assert read[0, "dense", 0] != read[1, "dense", 0] and read[0, "dense", 0] != read[0, "dense", 1]


def test_sharing_from_the_first_step_trains_the_view_and_never_trains_the_dense_model(grid):
    _, _, weights = grid
    dense, shared = weights["dense"], weights["from-0"]
    lacking = sorted(name for name in dense if name not in shared)
    assert lacking == ["model.layers.2.self_attn.k_proj.weight", "model.layers.2.self_attn.q_proj.weight"]
    assert all(torch.equal(tensor, dense[name]) for name, tensor in shared.items())


def test_there_is_a_record_for_each_cell_and_no_weights(grid):
    out, _, _ = grid
    found = records(out)
    assert sorted(found, key=str) == sorted(((seed, at) for seed in (0, 1) for at in (0.0, 0.5, None)), key=str)
    assert not list(out.rglob("*.pt")) and not list(out.rglob("*.safetensors"))
    one = found[0, 0.5]
    assert (one.model, one.plan, one.steps, one.tokens, one.recipe["seed"]) == ("demo", "1-2", 6, 6 * 2 * 32, 2407)
    assert set(one.scores) == {"prose_nats_per_token", "prose_bits_per_char", *SKILLS}
    prose = one.scores["prose_nats_per_token"]
    assert prose.n > 1 and prose.stderr > 0 and not prose.higher_is_better and one.scores["recall"].n == 2
    assert [step for step, _ in one.losses] == [6] and one.seconds > 0
    nats = {key: record.scores["prose_nats_per_token"].value for key, record in found.items()}
    assert len(set(nats.values())) == len(nats)  # six different models
    assert len({record.experiment for record in found.values()}) == 1


def test_a_stopped_grid_goes_on_to_the_same_records_in_whatever_order_its_cells_come(
    corpus, grid, tmp_path, monkeypatch
):
    steps = Trainer._steps
    monkeypatch.setattr(Trainer, "_steps", lambda self, stage, last: steps(self, stage, min(last, stage.step + 2)))

    def asked(share_from: str) -> int:
        return train(corpus, tmp_path, "--seeds", "0", "--share-from", share_from)

    assert asked("never") == asked("never") == 1  # the trunk is past the half now
    for share_from in ("0.5", "never"):
        codes = [asked(share_from)]
        while codes[-1]:
            codes.append(asked(share_from))
        assert len(codes) > 2
    whole, parts = records(grid[0]), records(tmp_path)
    assert sorted(parts, key=str) == [(0, 0.5), (0, None)]
    for key, record in parts.items():
        assert record.model_dump(exclude=HOW_LONG) == whole[key].model_dump(exclude=HOW_LONG)
    monkeypatch.setattr(Trainer, "_step", None)
    assert train(corpus, tmp_path, "--seeds", "0", "--share-from", "never", "0.5") == 0  # all is stored


def test_similarity_is_that_of_the_weights_at_each_moment(grid):
    out, _, weights = grid
    [record], problems = load_emergences(out / "results")
    assert problems == [] and record.num_layers == 3 and record.methods == ["head_mean", "per_head", "best_head"]
    assert [one.step for one in record.checkpoints] == moments(6, 4) == [0, 1, 2, 6]
    assert [one.tokens for one in record.checkpoints] == [64 * step for step in (0, 1, 2, 6)]
    model = Trainer(Recipe(**record.recipe | {"plan": "1-2"}), "cpu", out, {}).model("")
    model.load_state_dict(weights["dense"])
    tokens = np.load(out / "work" / "prose_validation.npy")[: record.text.tokens]
    rows = torch.from_numpy(tokens).view(record.text.rows, -1).long()
    for method in record.methods:
        expected = np.mean([attention_similarity(model.eval(), row, method) for row in rows], axis=0)
        assert np.allclose(record.checkpoints[0].matrix(method, 3), expected, atol=6e-4)
    first, last = (record.checkpoints[at].similarity["per_head"] for at in (0, -1))
    assert first != last
    assert (out / "results" / record.path).stat().st_size < 4000


def test_moments_lie_in_equal_ratios_as_far_as_whole_steps_go():
    assert moments(3700, 12) == [0, 18, 31, 53, 91, 154, 262, 444, 755, 1282, 2178, 3700]
    assert moments(11, 12) == list(range(12)) and moments(9, 2) == [0, 9]
    for count in (1, 13):
        with pytest.raises(ValueError, match="from 2 to 12"):
            moments(11, count)
    assert first_shared_step(Recipe(), 0.8) == Recipe().trunk_steps


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("--share-from 1", "less than 1"), ("--share-from half", "half"), ("--share-from nan", "less than 1"),
        ("--share-from 0.99", "leaves none of 6 steps"), ("--share-from never --plan dense", "shares nothing"),
        ("--share-from 0 --similarity-at 4", "add never"), ("--share-from never --similarity-at 9", "from 2 to 7"),
        ("--share-from 0 --seeds -1", "--seeds has -1"),
    ],
)  # fmt: skip
def test_what_makes_no_grid_is_one_line(corpus, tmp_path, capsys, more, words):
    assert train(corpus, tmp_path, *more.split()) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and words in err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("--share-from never", "no second model"), ("--share-from 0 0.5", "add --scores-only"),
        ("--seeds 1", "add --scores-only"), ("--similarity-at 4", "add --scores-only"), ("--share-from 1", "less than 1"),
    ],
)  # fmt: skip
def test_models_with_weights_share_from_one_moment(corpus, tmp_path, capsys, more, words):
    arguments = ["--corpus", str(corpus), "--out", str(tmp_path), *TINY.removesuffix("--scores-only").split()]
    assert main(["train-demo", *arguments, *more.split()]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and words in err


def test_share_from_sets_where_the_two_bundled_models_part(corpus, tmp_path):
    arguments = ["--corpus", str(corpus), "--out", str(tmp_path), *TINY.removesuffix("--scores-only").split()]
    assert main(["train-demo", *arguments, "--share-from", "0.5", "--stop-after", "0"]) == 1
    assert json.loads((tmp_path / "work" / "recipe.json").read_text())["trunk_share"] == 0.5
