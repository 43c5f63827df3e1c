"""The command on a tiny model: the folder at its end, its control, a run that was killed, and what is refused."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from core.__main__ import main
from core.models import load_model, weights_sha256
from core.records.tunings import load_tunings, tuned_of
from core.sharing.corrections import correction_parameters
from core.sharing.view import plan_of
from core.tuning import run
from core.tuning.encoding import Encoder
from core.tuning.held_out import held_out_loss
from core.tuning.recipe import TuneRecipe
from core.tuning.rows import prepare
from core.tuning.run import Tuning
from core.tuning.sources import source_of
from core.tuning.trainer import SharingTrainer, is_exhausted
from tests.support.models import tiny_model

SIZES = "--batch-rows 2 --context-tokens 24 --learning-rate 1e-3 --warmup-steps 2 --held-out-share 0.2 --device cpu"
PLAN = "--plan 1-3"


def tune(model, data, out, *more: str) -> int:
    given = ["--model", str(model), "--data", str(data), "--out", str(out), "--results", str(out.parent / "results")]
    return main(["tune", *given, *SIZES.split(), *" ".join(more).split()])


def records(out):
    return load_tunings(out.parent / "results")


def held_rows(tokenizer, data):
    recipe = TuneRecipe(context_tokens=24, held_out_share=0.2)
    return prepare(Encoder(tokenizer, 97), source_of(data), recipe).held_out


# The folder


@pytest.mark.parametrize("options", ["--method full", "--method lora --lora-rank 2 --dtype bfloat16"])
def test_a_tuned_folder_says_what_it_is_and_gives_the_same_losses_elsewhere(model_folder, text_file, tmp_path, options):
    out = tmp_path / "tuned"
    assert tune(model_folder, text_file, out, PLAN, "--steps 4", options) == 0
    [record] = records(out)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(out, elsewhere)
    shutil.rmtree(model_folder)
    model, tokenizer = load_model(elsewhere, device="cpu", dtype="float32")
    assert str(plan_of(model)) == "1-3" and not (out / "work").exists()
    weights = set(model.state_dict())
    assert "model.layers.1.self_attn.q_proj.weight" in weights
    assert not weights & {f"model.layers.{layer}.self_attn.{part}_proj.weight" for layer in (2, 3) for part in "qk"}
    assert not any("lora" in name for name in weights) and model.config.use_cache
    found = held_out_loss(model, held_rows(tokenizer, text_file), 2, record.recipe["dtype"])
    tolerance = 1e-5 if record.recipe["dtype"] == "float32" else 1e-3  # reused weights are rounded elsewhere
    assert record.saved[0] == 4 and record.saved[1] == pytest.approx(found.loss, rel=tolerance)
    assert record.saved[2] == pytest.approx(found.stderr, rel=100 * tolerance)
    assert [step for step, *_ in record.held_out] == [0, 1, 2, 3, 4] and record.held_out[0][1] != record.saved[1]
    assert record.finished and record.tokens_seen == 4 * 2 * 24 and record.out_name == "tuned"
    said = tuned_of(model.config)
    assert said == record.tuned and (said.of, said.control, said.plan, said.steps) == ("tiny", False, "1-3", 4)


@pytest.mark.parametrize("options", ["--method full", "--method lora --lora-rank 2"])
def test_plans_of_other_mechanisms_are_tuned_as_shared_ones_are(model_folder, text_file, tmp_path, options):
    out, plan = tmp_path / "tuned", "skip 1,kv 2-3"
    given = ["--model", str(model_folder), "--data", str(text_file), "--out", str(out), "--plan", plan, "--steps", "3"]
    given += ["--results", str(tmp_path / "results"), *SIZES.split(), *options.split()]
    assert main(["tune", *given]) == 0
    [record] = records(out)
    model, tokenizer = load_model(out, device="cpu", dtype="float32")
    assert (str(plan_of(model)), record.plan, tuned_of(model.config).plan) == (plan, plan, plan)
    found = held_out_loss(model, held_rows(tokenizer, text_file), 2, record.recipe["dtype"])
    assert record.saved[1] == pytest.approx(found.loss, rel=1e-5) and record.saved[1] != record.held_out[0][1]
    card = (out / "README.md").read_text()
    assert "Layer 1 skips attention; layer 3 reads the keys and values of 2" in card
    control = ["--control", *given]
    control[control.index(str(out))] = str(tmp_path / "control")
    assert main(["tune", *control]) == 0
    assert {one.control for one in records(out)} == {True, False} and len({one.path for one in records(out)}) == 2


def test_what_other_mechanisms_do_not_have_is_refused_before_anything_is_written(
    model_folder, text_file, tmp_path, capsys
):
    (tmp_path / "heads.json").write_text('{"3": [0, 1, 2, 3]}')
    given = ["--model", str(model_folder), "--data", str(text_file), "--out", str(tmp_path / "tuned")]
    given += ["--results", str(tmp_path / "results"), *SIZES.split()]
    for more, said in (
        (["--plan", "kv 2-3", "--head-map", str(tmp_path / "heads.json")], "names layer 3, which is no follower"),
        (["--plan", "kv 2-3", "--corrections", "alignment"], "no layer of plan kv 2-3 shares them"),
    ):
        assert main(["tune", *given, *more]) == 2
        assert said in capsys.readouterr().err and not (tmp_path / "tuned").exists()


def test_the_card_tells_this_run(model_folder, text_file, tmp_path):
    assert tune(model_folder, text_file, tmp_path / "tuned", PLAN, "--steps 2 --seed 3") == 0
    [record] = records(tmp_path / "tuned")
    card = (tmp_path / "tuned" / "README.md").read_text()
    for fact in (
        record.data.sha256, f"{text_file.stat().st_size:,} bytes", "16 documents", "Held out: 4 documents", "seed 3",
        "2 of 2 steps of 2 × 1 rows", f"{record.saved[1]:.4f} ± {record.saved[2]:.4f}", "Layer 1 computes, 2–3 reuse",
        f"{record.held_out[0][1]:.4f}", f"{record.held_out_dense[0]:.4f}", record.weights_sha256, str(record.machine),
    ):  # fmt: skip
        assert fact in card, fact
    assert str(tmp_path) not in card  # no places of this machine


def test_scores_of_tuned_and_control(model_folder, text_file, tmp_path):
    """`evaluate` takes both folders, and its records say what they are of."""
    from core.records import load_records

    (tmp_path / "own.jsonl").write_text(json.dumps({"text": "Number 3: the old man went down."}))
    assert tune(model_folder, text_file, tmp_path / "tuned", PLAN, "--steps 3") == 0
    assert tune(model_folder, text_file, tmp_path / "control", "--control --steps 3") == 0
    given = [part for name in ("tuned", "control", "tiny") for part in ("--model", str(tmp_path / name))]
    scores = tmp_path / "scores"
    assert (
        main(
            [
                "evaluate",
                *given,
                "--benchmark",
                str(tmp_path / "own.jsonl"),
                "--results",
                str(scores),
                "--device",
                "cpu",
            ]
        )
        == 0
    )
    found = {record.model: record for record in load_records(scores)[0]}
    assert {name: record.kind for name, record in found.items()} == {
        "tuned": "tuned",
        "control": "control",
        "tiny": "dense",
    }
    assert found["tiny"].tuning is None and found["control"].tuning["control"] and found["tuned"].tuning["of"] == "tiny"
    assert found["control"].plan == "" and len({record.weights_sha256 for record in found.values()}) == 3


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("corrections", ["alignment", "rank=2,alignment"])
def test_corrections_are_learnt_and_come_along(model_folder, text_file, tmp_path, corrections, method):
    options = f"--steps 6 --corrections {corrections} --method {method}"
    assert tune(model_folder, text_file, tmp_path / "tuned", PLAN, options) == 0
    [record] = records(tmp_path / "tuned")
    model, tokenizer = load_model(tmp_path / "tuned", device="cpu")
    learnt = correction_parameters(model)
    moved = [p for name, p in learnt.items() if name.endswith("alignment") and not torch.equal(p, torch.eye(len(p)))]
    assert not any("lora" in name for name in model.state_dict())
    assert len(moved) == 2 and len(learnt) == (6 if "rank" in corrections else 2)
    found = held_out_loss(model, held_rows(tokenizer, text_file), 2)
    assert record.saved[1] == pytest.approx(found.loss, rel=1e-5) and record.saved[1] < record.held_out[0][1]
    assert record.tuned.corrections == record.corrections == {"rank": 2 * ("rank" in corrections), "alignment": True}
    assert "Each follower has learnt corrections (" in (tmp_path / "tuned" / "README.md").read_text()


def test_corrections_that_learnt_nothing_beside_adapters_fold_away(model_folder, text_file, tmp_path):
    """Adapters are merged, and only then is folded what says no more than a head map."""
    options = f"{PLAN} --steps 2 --method lora --corrections rank=2,alignment --learning-rate 1e-60"  # 0 in float32
    heads = '--head-map {"2":[3,0,0,1]}'
    assert tune(model_folder, text_file, tmp_path / "tuned", options, heads) == 0
    model, _ = load_model(tmp_path / "tuned", device="cpu")
    assert not correction_parameters(model) and model.sharing_head_map == {2: (3, 0, 0, 1)}


# Control, objectives, forms of data


def test_the_control_sees_the_same_tokens_in_the_same_order(model_folder, text_file, tmp_path, monkeypatch):
    seen: dict[str, list] = {}
    loss = SharingTrainer.compute_loss

    def noting(self, model, inputs, *args, **kwargs):
        batch = [inputs["input_ids"].tolist(), inputs["labels"].tolist()]
        seen.setdefault(str(plan_of(self.model)) or "dense", []).append(batch)
        return loss(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(SharingTrainer, "compute_loss", noting)
    steps = "--steps 12 --eval-every 6"  # more than one pass
    assert tune(model_folder, text_file, tmp_path / "tuned", PLAN, steps) == 0
    assert tune(model_folder, text_file, tmp_path / "control", PLAN, steps, "--control") == 0
    assert seen["1-3"] == seen["dense"] and len(seen["dense"]) == 12
    tuned, control = sorted(records(tmp_path / "tuned"), key=lambda record: record.control)
    assert tuned.data == control.data and control.control and control.tuned.control
    assert control.held_out[0][1:] == control.held_out_dense == tuned.held_out_dense
    model, _ = load_model(tmp_path / "control", device="cpu")
    assert not plan_of(model).followers and "model.layers.3.self_attn.q_proj.weight" in model.state_dict()


@pytest.mark.parametrize("method", ["full", "lora"])
def test_distillation_brings_the_shared_model_nearer_to_the_dense_one(model_folder, text_file, tmp_path, method):
    tiny_model(num_hidden_layers=4).save_pretrained(model_folder)  # without dropout, which keeps the two apart
    options = f"--objective distillation --steps 20 --batch-rows 8 --method {method} --learning-rate 3e-3"
    assert tune(model_folder, text_file, tmp_path / "tuned", PLAN, options) == 0
    [record] = records(tmp_path / "tuned")
    losses = [loss for _, loss in record.losses]
    assert losses[-1] < 0.7 * losses[0] and record.objective == "distillation"


def test_pairs_with_gradient_checkpointing(model_folder, lines_file, tmp_path):
    options = f"{PLAN} --steps 2 --context-tokens 64 --gradient-checkpointing --accumulate 2"
    assert tune(model_folder, lines_file, tmp_path / "tuned", options) == 0
    [record] = records(tmp_path / "tuned")
    assert record.data.documents == 16 and record.recipe["gradient_checkpointing"]
    assert record.tokens_seen < 2 * 4 * 64  # rows are as long as they are


# Stopped, killed, and gone on

KILLED = """
import os, signal, sys
from pathlib import Path
import torch
import core.tuning.trainer as trainer
from core.__main__ import main
torch.set_num_threads(1)

def dies(function, moment):
    def wrapped(self, *args, **kwargs):
        result = function(self, *args, **kwargs)
        if moment(*args):
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return wrapped

def at_step(step):
    kill = dies(trainer.Teller.on_step_end, lambda args, state, control: state.global_step == step)
    trainer.Teller.on_step_end = kill

def while_saving(part):
    setattr(trainer.SharingTrainer, part, dies(getattr(trainer.Trainer, part), lambda *_: True))

def run(out, die):
    child = os.fork()
    if not child:
        die()
        os._exit(main([*sys.argv[2:], "--out", out]))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

folder = sys.argv[1]
codes = [run(f"{folder}/whole", lambda: None)]
for step in (2, 4, 5, 7):
    codes.append(run(f"{folder}/killed", lambda: at_step(step)))
for part in ("_save_optimizer_and_scheduler", "_save_rng_state"):
    codes.append(run(f"{folder}/killed", lambda: while_saving(part)))
codes.append(run(f"{folder}/killed", lambda: None))
print(codes)
"""


@pytest.mark.parametrize("method", ["full", "lora", "lora --corrections rank=2,alignment"])
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_weights(model_folder, text_file, tmp_path, method):
    """By SIGKILL, after a step or in the middle of a checkpoint; dropout draws from the random numbers that go on."""
    given = ["tune", "--model", str(model_folder), "--data", str(text_file), "--results", str(tmp_path / "results")]
    options = f"{PLAN} --steps 9 --eval-every 3 --method {method} {SIZES}".split()
    command = [sys.executable, "-c", KILLED, str(tmp_path), *given, *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr
    killed = -signal.SIGKILL
    assert json.loads(done.stdout.splitlines()[-1]) == [0, killed, killed, killed, killed, killed, killed, 0]
    hashes = {weights_sha256(load_model(tmp_path / run, device="cpu")[0]) for run in ("whole", "killed")}
    assert len(hashes) == 1
    # both runs have one record, the later one's: nothing but the folder's name tells them apart
    [record] = load_tunings(tmp_path / "results")
    assert record.out_name == "killed" and [step for step, *_ in record.held_out] == [0, 3, 6, 9]


def test_a_run_that_is_stopped_says_how_to_go_on(model_folder, text_file, tmp_path, capsys, monkeypatch):
    out, options = tmp_path / "tuned", f"{PLAN} --steps 6 --eval-every 2"
    assert tune(model_folder, text_file, out, options, "--stop-after 0") == 1
    told = capsys.readouterr().out
    assert "Stopped at step 1 of 6, with a checkpoint. To go on: python -m core" in told
    [record] = records(out)
    assert (record.finished, record.steps, record.saved) == (False, 1, None) and not (out / "config.json").exists()

    step = SharingTrainer.training_step

    def interrupted(self, *args, **kwargs):
        if self.state.global_step == 3:
            signal.raise_signal(signal.SIGINT)
        return step(self, *args, **kwargs)

    monkeypatch.setattr(SharingTrainer, "training_step", interrupted)
    assert tune(model_folder, text_file, out, options) == 130
    assert "Stopped at step 4 of 6" in capsys.readouterr().out
    monkeypatch.undo()
    assert tune(model_folder, text_file, out, options) == 0
    assert "Going on from step 4 of 6" in capsys.readouterr().out
    [record] = records(out)
    assert record.finished and [step for step, *_ in record.held_out] == [0, 2, 4, 6]
    assert tune(model_folder, text_file, out, options) == 0
    assert "Nothing to do" in capsys.readouterr().out
    assert tune(model_folder, text_file, tmp_path / "whole", options) == 0
    models = [load_model(tmp_path / name, device="cpu")[0] for name in ("tuned", "whole")]
    assert len(set(map(weights_sha256, models))) == 1


@pytest.mark.parametrize("method", ["full", "lora --corrections rank=2,alignment"])
def test_training_stops_when_the_held_out_loss_rises_and_the_best_weights_are_kept(
    model_folder, text_file, tmp_path, method
):
    options = f"{PLAN} --steps 40 --eval-every 1 --patience 2 --learning-rate 0.3 --warmup-steps 0 --method {method}"
    assert tune(model_folder, text_file, tmp_path / "tuned", options) == 0
    [record] = records(tmp_path / "tuned")
    after = {step: loss for step, loss, _ in record.held_out if step}
    best = min(after, key=after.get)
    assert record.steps == max(after) == best + 2 < 40
    assert record.saved[0] == best and record.saved[1] == pytest.approx(after[best], rel=1e-5)
    assert "chosen among the checkpoints" in (tmp_path / "tuned" / "README.md").read_text()


def test_when_a_run_has_waited_long_enough():
    log = [{"step": step, "eval_loss": loss} for step, loss in enumerate([1.0, 3.0, 2.0, 2.5, 2.0])]
    assert (
        not is_exhausted(log[:4], 2) and is_exhausted(log, 2) and not is_exhausted(log, 0) and not is_exhausted([], 1)
    )


@pytest.mark.parametrize(
    ("part", "method"), [("optimizer.pt", "full"), ("corrections.safetensors", "lora --corrections rank=2")]
)
def test_a_damaged_checkpoint_is_named(model_folder, text_file, tmp_path, capsys, part, method):
    out, options = tmp_path / "tuned", f"{PLAN} --steps 6 --method {method}"
    assert tune(model_folder, text_file, out, options, "--stop-after 0") == 1
    (out / "work" / "checkpoint-1" / part).write_bytes(b"PK")
    assert tune(model_folder, text_file, out, options) == 2
    assert "checkpoint-1 is no whole checkpoint of this run" in capsys.readouterr().err
    shutil.rmtree(out / "work" / "checkpoint-1")
    assert tune(model_folder, text_file, out, options) == 0


# What is refused


REFUSED = {
    "--plan 1-9": "layers 0 to 3",
    "--steps 2": "give --plan, such as 17-22, or --control",
    "--plan 1-3 --steps -1": "--steps is -1",
    "--plan 1-3 --context-tokens 9999": "this model was made for 512",
    "--control --objective distillation": "The control of a distillation is the dense model itself",
    "--control --head-map {\"2\":[0,0,0,0]}": "leave --head-map out",
    "--plan 1-3 --head-map {\"9\":[0]}": "head map names layer 9",
    "--plan 1-3 --corrections rank": "is no correction, or stands twice",
    "--control --corrections rank=2": "A control shares nothing to correct: leave --corrections out",
    "--plan 1-3 --dtype float16": "--dtype is 'float16'",
    "--plan 1-3 --held-out nowhere.txt": "There is no file nowhere.txt",
}  # fmt: skip


@pytest.mark.parametrize("options", REFUSED)
def test_bad_input_is_one_line(model_folder, text_file, tmp_path, capsys, options):
    assert tune(model_folder, text_file, tmp_path / "out", options) == 2
    err = capsys.readouterr().err
    assert REFUSED[options] in err and err.count("\n") == 1
    assert not (tmp_path / "out" / "work").exists()


def test_a_folder_with_something_else_in_it_is_left_alone(model_folder, text_file, tmp_path, capsys, monkeypatch):
    assert tune(model_folder, text_file, model_folder, PLAN) == 2
    assert "holds another model" in capsys.readouterr().err
    out = tmp_path / "tuned"
    assert tune(model_folder, text_file, out, PLAN, "--steps 3 --stop-after 0") == 1
    assert tune(model_folder, text_file, out, PLAN, "--steps 4") == 2
    assert "holds a run with another recipe (steps 3, now 4)" in capsys.readouterr().err
    text_file.write_text(text_file.read_text() + "\n\nOne more document.")
    assert tune(model_folder, text_file, out, PLAN, "--steps 3") == 2
    assert "another data" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert tune(model_folder, text_file, out, PLAN) == 2
    assert "one process on one device" in capsys.readouterr().err


def test_a_loss_that_is_no_number_is_told(model_folder, text_file, tmp_path, capsys, monkeypatch):
    loss = SharingTrainer.compute_loss
    monkeypatch.setattr(
        SharingTrainer, "compute_loss", lambda self, *args, **kwargs: loss(self, *args, **kwargs) * torch.nan
    )
    assert tune(model_folder, text_file, tmp_path / "tuned", PLAN, "--steps 3") == 2
    assert "The loss at step 1 is nan: give a lower --learning-rate" in capsys.readouterr().err


def test_what_shares_already_is_not_tuned_anew(model_folder, text_file, tmp_path):
    assert tune(model_folder, text_file, tmp_path / "tuned", PLAN, "--steps 1") == 0
    with pytest.raises(ValueError, match="tuned already shares attention with plan 1-3: tune the dense model"):
        Tuning(tmp_path / "tuned", "1-2", text_file, tmp_path / "again", TuneRecipe(), device="cpu").run()


def test_the_record_in_the_folder_is_kept_up_while_it_runs(model_folder, text_file, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "_KEEP_S", 0.0)
    seen = []

    def look(progress):
        if progress.loss is not None:
            record = json.loads((tmp_path / "out" / "tuning.json").read_text(encoding="utf-8"))
            seen.append((progress.step, record["steps"], len(record["losses"]), record["finished"]))

    recipe = TuneRecipe(context_tokens=24, batch_rows=2, held_out_share=0.2, warmup_steps=1, steps=3)
    Tuning(model_folder, "1-3", text_file, tmp_path / "out", recipe, device="cpu", on_progress=look).run()
    assert seen == [(step, step, step, False) for step in (1, 2, 3)]


def test_a_plan_whose_phases_differ_is_refused(model_folder, text_file, tmp_path):
    with pytest.raises(
        ValueError, match=r"^Tuning, which reads whole texts at once, knows no phases, and plan 1-3@decode .*\.$"
    ):
        Tuning(model_folder, "1-3@decode", text_file, tmp_path / "out", TuneRecipe(), device="cpu").run()
