"""`python -m tests.benchmarks.kills --kills 30 --seed 0`: what is left when a running command is killed, and whether it goes on.

Evaluations, searches, sweeps, similarities, training, tuning, a program that only writes records, and the server while it writes
a text are killed with SIGKILL at random moments. After each kill every file of the store must load or be passed over
without a word, and the same command, run to its end, must leave what an undisturbed run leaves. All on a model of eight
layers or, for the texts, the bundled demo, with small limits.

Commands run in processes of their own, forked from this one, which has imported what they need: so moments fall into
their work. The server is started as users start it. Exit code 1 when anything was lost.
"""

import argparse
import contextlib
import json
import lzma
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from core.__main__ import COMMANDS
from core.__main__ import main as command
from core.evaluation.answers import load_answers
from core.places import ASSETS
from core.records.files import append_line
from core.records.journal import Journal
from core.records.provenance import git_commit
from core.records.scores import Record, load_records, save_record
from core.records.searches import PlanDamage, SearchRecord, load_searches, save_search
from core.records.timings import TimingRecord, load_timings, save_timing
from core.records.tunings import load_tunings, read_tunings
from tests.benchmarks.record import Run
from tests.support.browser import ROOT, free_port, serve, wait_for

GOLDEN = Path(__file__).parents[1] / "golden_records"
KINDS = ("evaluation", "search", "sweep", "similarity", "training", "tuning", "writing", "generation")
UNEQUAL = {"date", "duration_s", "command", "layer_evaluations", "naive_layer_evaluations", "seconds", "losses"}
"""What a run that went on says otherwise than one in one go: when, how long, how much was still to be computed,
and over how many steps a mean loss is, which begins anew where a run goes on."""
_TEXTS = "--tokens 256 --held-out-tokens 128 --chunk-tokens 64 --batch-tokens 64 --longest-span 2"
_PROMPT = "The old captain went down to the sea"
_NEW_TOKENS = 200


@dataclass
class Outcome:
    """What came of the kills of one kind. misses: runs that ended before their kill. goes_on: runs after a kill, to the
    end, that left what an undisturbed run leaves. cut_lines: of journals, passed over. litter: temporary files left."""

    kills: int = 0
    misses: int = 0
    goes_on: int = 0
    cut_lines: int = 0
    litter: int = 0
    undisturbed_s: float = 0.0
    lost: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For the record."""
        return vars(self) | {"undisturbed_s": round(self.undisturbed_s, 2)}


# Programs that are killed


def arguments_of(kind: str, folder: Path) -> list[str]:
    """The command line of one kind, with its files below `folder`."""
    kept = ["--results", str(folder / "results")]
    model = ["--model", str(folder.parent / "small"), "--device", "cpu"]
    searched = [*model, *kept, "--journal", str(folder / "journal"), *_TEXTS.split()]
    if kind == "evaluation":
        plans = ["--plan", "dense", "--plan", "2-4", "--plan", "1-2,5-6"]
        asked = ["--tasks", "demo_recall,demo_copy", "--limit", "6", "--batch-size", "6"]
        return ["evaluate", *model, *plans, *asked, *kept]
    if kind == "search":
        return ["search", "--followers", "2", "--beam", "2", *searched]
    if kind == "sweep":
        return ["sweep", *searched]
    if kind == "similarity":
        return ["similarity", "--against-damage", *searched[:-2]]
    if kind == "tuning":
        how = "--plan 2-4 --steps 30 --batch-rows 2 --context-tokens 32 --eval-every 3 --held-out-tokens 256"
        data = [
            "--data",
            str(corpus_in(folder.parent) / "prose_train.txt.xz"),
            "--out",
            str(folder / "models" / "tuned"),
        ]
        return ["tune", *model, *data, *how.split(), *kept]
    sizes = "--steps 120 --batch-rows 2 --context-tokens 32 --skill-examples 320 --layers 3 --width 16 --heads 2"
    more = "--kv-heads 1 --intermediate 24 --vocabulary 400 --warmup-steps 2 --plan 1-2 --device cpu"
    corpus = ["--corpus", str(corpus_in(folder.parent)), "--out", str(folder / "models")]
    return ["train-demo", *corpus, *sizes.split(), *more.split()]


def make_small_model(work: Path) -> int:
    """A model of eight layers with random weights, and the demo's tokenizer, in `work/small`: runs take seconds."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    demo, folder = ASSETS / "models" / "demo", work / "small"
    config = AutoConfig.from_pretrained(demo, num_hidden_layers=8)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    for file in demo.glob("tokenizer*.json"):
        shutil.copy(file, folder)
    return 0


def corpus_in(folder: Path) -> Path:
    """A small corpus in the form that `train-demo` takes."""
    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for split, count in (("train", 60), ("validation", 20)):
        file = corpus / f"prose_{split}.txt.xz"
        if not file.exists():
            said = "the old man went down to the river at night.\n"
            with lzma.open(file, "wt", encoding="utf-8") as packed:
                packed.write("<|endoftext|>\n".join(f"{split} {n}: {said * 3}" for n in range(count)))
    return corpus


def run_command(kind: str, folder: Path) -> int:
    """Run the command of this kind here; its exit code."""
    if kind == "training":  # short: a checkpoint every 10 steps, and few questions to a model that knows nothing
        from core.demo import scores, trainer

        trainer.CHECKPOINT_STEPS, scores.skill_scores.__defaults__ = 10, (2, 1, 2)
    return command(arguments_of(kind, folder))


def write_records(folder: Path) -> int:
    """Write records of all kinds, with answers, and a journal, again and again; what is there already is passed over."""
    results, rounds = folder / "results", 40
    journal = Journal(folder / "journal", "kills")
    score = Record.model_validate_json((GOLDEN / "v1.json").read_bytes())
    timing = TimingRecord.model_validate_json((GOLDEN / "timing-v1.json").read_bytes())
    first, *lines = (GOLDEN / "search-v1.jsonl").read_bytes().splitlines()
    search = SearchRecord.model_validate_json(first)
    points = [PlanDamage.model_validate_json(line, context={"num_layers": search.num_layers}) for line in lines]
    for number in range(rounds):
        answers = [
            {"doc_id": n, "filter": "none", "target": n, "answer": [f"{number}" * 40], "scores": {"exact_match": 1.0}}
            for n in range(300)
        ]
        save_record(results, score.model_copy(update={"task": f"task_{number}"}), answers)
        save_timing(results, timing.model_copy(update={"batch_size": number + 1}))
        save_search(results, search.model_copy(update={"seed": number % 3}), points)
        batch = journal.of(f"batch {number}")
        for plan in range(20):
            batch[f"{plan}-{plan + 1}"] = np.full((2, 64), number + plan / 7)
        append_line(results / "demo" / "losses.jsonl", json.dumps({"version": 0, "number": number}))
    return 0


PROGRAMS: dict[str, Callable[[Path], int]] = {
    **{kind: lambda folder, kind=kind: run_command(kind, folder) for kind in KINDS if kind not in ("writing", "generation")},
    "writing": write_records,
}  # fmt: skip


def import_all(kinds: Sequence[str]) -> None:
    """Import what the commands of these kinds need, but run nothing: no threads yet, so that processes can be forked."""
    names = {"evaluation": "evaluate", "training": "train-demo", "tuning": "tune"}
    wanted = [names.get(kind, kind) for kind in kinds]
    for name in set(wanted) & set(COMMANDS):
        __import__(COMMANDS[name])
    if wanted and set(wanted) != {"writing"}:
        import core.models  # noqa: F401


def start(program: Callable[[Path], int], folder: Path) -> int:
    """Run a program in a process, and a group of processes, of its own, which is silent; its number."""
    if process := os.fork():
        return process
    code = 70
    try:
        os.setsid()
        log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(log, stream)
        code = program(folder)
    finally:
        if sys.exc_info()[0] is not None:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(process: int, at_most_s: float) -> int | None:
    """The exit code of a process; None when it has not ended by then."""
    deadline = time.monotonic() + at_most_s
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.002)


# What is left


def left(folder: Path) -> dict[str, Any]:
    """What a run has left that another one must leave too, as JSON can hold it."""
    results = folder / "results"
    found: dict[str, Any] = {}
    for record in load_records(results)[0]:
        found[str(record.path)] = [record.model_dump(mode="json", exclude=UNEQUAL), load_answers(results, record)[0]]
    for timing in load_timings(results)[0]:
        found[str(timing.path)] = timing.model_dump(mode="json", exclude=UNEQUAL)
    for tuning in load_tunings(results):
        found[str(tuning.path)] = tuning.model_dump(mode="json", exclude=UNEQUAL)
    for record, points in load_searches(results)[0]:
        lines = [point.model_dump(mode="json") for point in points]
        found[str(record.path)] = [record.model_dump(mode="json", exclude=UNEQUAL), lines]
    for weights in sorted((folder / "models").glob("*/*.safetensors")):
        found[str(weights.relative_to(folder))] = sha256(weights.read_bytes()).hexdigest()
    return found


def look_at(folder: Path, outcome: Outcome) -> None:
    """Look at a store whose writer was killed: what cannot be read is lost."""
    results = folder / "results"
    for load in (load_records, load_timings, load_searches, read_tunings):
        outcome.lost += load(results)[1]
    for record in load_records(results)[0]:
        if problem := load_answers(results, record)[1]:
            outcome.lost.append(problem)
    outcome.litter += len([file for file in folder.rglob(".*.tmp") if file.is_file()])
    for journal in (folder / "journal").glob("*.jsonl"):
        *whole, last = journal.read_bytes().split(b"\n")
        outcome.cut_lines += bool(last)
        for line in filter(None, whole):
            with contextlib.suppress(ValueError):
                json.loads(line)
                continue
            outcome.cut_lines += 1


def kill_runs(kind: str, kills: int, rng: random.Random, work: Path, limit_s: float = 600) -> Outcome:
    """Kill a program of this kind so often; what came of it."""
    outcome, program = Outcome(), PROGRAMS[kind]
    whole = work / f"{kind}-whole"
    whole.mkdir()
    began = time.monotonic()
    if (code := wait(start(program, whole), limit_s)) != 0:
        outcome.lost.append(f"{kind}: the undisturbed run ended with {code}: {_log(whole)}")
        return outcome
    outcome.undisturbed_s = time.monotonic() - began
    expected = left(whole)
    assert expected, f"{kind} leaves something"
    number, since_fresh = 0, 0
    folder = _fresh(work, kind, number)
    while outcome.kills < kills:
        process = start(program, folder)
        code = wait(process, rng.uniform(0.02, 0.98) * outcome.undisturbed_s)
        if code is None:
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
            outcome.kills += 1
            since_fresh += 1
            look_at(folder, outcome)
        else:
            outcome.misses += 1
        if code is not None or outcome.kills == kills or rng.random() < 0.3:
            if code is None:
                code = wait(start(program, folder), limit_s)
            if code != 0:
                outcome.lost.append(f"{kind}: a run after {since_fresh} kills ended with {code}: {_log(folder)}")
            elif (found := left(folder)) != expected:
                outcome.lost.append(f"{kind}: after {since_fresh} kills {_difference(expected, found)}")
            else:
                outcome.goes_on += since_fresh > 0
            number, since_fresh = number + 1, 0
            folder = _fresh(work, kind, number)
    return outcome


def _fresh(work: Path, kind: str, number: int) -> Path:
    folder = work / f"{kind}-{number}"
    folder.mkdir()
    return folder


def _log(folder: Path) -> str:
    with contextlib.suppress(OSError):
        return (folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip()[-300:]
    return ""


def _difference(expected: dict[str, Any], found: dict[str, Any]) -> str:
    differing = sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))
    return f"{len(differing)} of {len(expected)} files are others: {', '.join(differing[:3])}"


# The server


def kill_server(kills: int, rng: random.Random, work: Path) -> Outcome:
    """Kill the server while it writes a text, so often; each next server must write the undisturbed text."""
    outcome = Outcome()
    results = work / "generation" / "results"
    shutil.copytree(ROOT / "results" / "demo", results / "demo")
    before = left(results.parent)
    expected = ""
    for number in range(kills + 1):
        with _server(results) as (process, address):
            began = time.monotonic()
            client = _client(address)
            if number and (told := _text(client)) != expected:
                outcome.lost.append(f"generation: after {number} kills another text: {told[:60]!r}")
            elif number:
                outcome.goes_on += 1
            else:
                expected = _text(client)
                outcome.undisturbed_s = time.monotonic() - began
            if number == kills:
                break
            job = client.submit(prompt=_PROMPT, model="demo", max_new_tokens=_NEW_TOKENS, api_name="/generate")
            while not job.outputs() and not job.done():
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.5))
            outcome.misses += job.done()
            process.send_signal(signal.SIGKILL)
            process.wait()
            outcome.kills += 1
            look_at(results.parent, outcome)
            if left(results.parent) != before:
                outcome.lost.append("generation: the records changed")
    return outcome


def remove_model(work: Path) -> dict[str, Any]:
    """Remove the folder of a model under a server that has it in memory: what is answered then, and whether others go on."""
    folder = work / "removed" / "mine"
    shutil.copytree(ASSETS / "models" / "demo", folder)
    with _server(work / "removed" / "results", "--model", str(folder)) as (_, address):
        client = _client(address)
        before = _text(client, str(folder))
        shutil.rmtree(folder)
        after = _text(client, str(folder))
        demo = _text(client)
    sentence = after.endswith(".") and "\n" not in after and "Traceback" not in after
    found = {"same_text_from_memory": before == after, "refused_in_a_sentence": sentence and before != after}
    return found | {"others_go_on": bool(demo), "said": after[:200].replace(str(folder), "FOLDER")}


@contextlib.contextmanager
def _server(results: Path, *more: str) -> Iterator[tuple[subprocess.Popen, str]]:
    port = int(os.environ.get("KILLS_PORT") or free_port())
    process = serve(port, results, *more)
    try:
        yield process, wait_for(f"http://127.0.0.1:{port}/", process)
    finally:
        process.kill()
        process.wait(timeout=60)


def _client(address: str) -> Any:
    from gradio_client import Client

    return Client(address, verbose=False)


def _text(client: Any, model: str = "demo") -> str:
    """The text of the shared model, or the sentence that refuses it."""
    from gradio_client.exceptions import AppError

    try:
        found = client.predict(prompt=_PROMPT, model=model, max_new_tokens=_NEW_TOKENS // 4, api_name="/generate")
    except AppError as error:
        return str(error)
    return str(found["shared"]["text"])


# The record


def shares(kills: int, kinds: Sequence[str]) -> dict[str, int]:
    """How many of all kills each kind gets: as evenly as can be, the first ones more."""
    return {kind: kills // len(kinds) + (number < kills % len(kinds)) for number, kind in enumerate(kinds)}


def main(arguments: list[str] | None = None) -> int:
    """Kill, look, go on, and write the record; 1 when something was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.kills", description=__doc__.split(":", 2)[2])
    parser.add_argument("--kills", type=int, default=30, help="in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="what is killed")
    parser.add_argument("--out", type=Path, help="where the record goes (default: beside this file)")
    args = parser.parse_args(arguments)
    run = Run("kills")
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    if commit := git_commit():
        os.environ["GIT_COMMIT"] = commit  # of all runs, whatever is committed meanwhile
    rng = random.Random(args.seed)
    outcomes: dict[str, Outcome] = {}
    removed: dict[str, Any] = {}

    def keep() -> list[str]:
        """Write what is known so far, so that a record of hours is not lost with its last part; what was lost."""
        lost = [sentence for outcome in outcomes.values() for sentence in outcome.lost]
        answered = removed and (removed["same_text_from_memory"] or removed["refused_in_a_sentence"])
        if removed and not (answered and removed["others_go_on"]):
            lost.append(f"model folder removed under the server: {removed}")
        run.write(
            args.out, seed=args.seed, asked=args.kills, kills=sum(outcome.kills for outcome in outcomes.values()),
            lost=lost, of={kind: outcome.as_json() for kind, outcome in outcomes.items()}, model_folder_removed=removed,
            seconds=round((datetime.now(timezone.utc) - run.began).total_seconds()),
        )  # fmt: skip
        return lost

    with tempfile.TemporaryDirectory(prefix="kills-") as place:
        work = Path(place)
        os.environ["SHARED_ATTENTION_CACHE"] = str(work / "cache")
        import_all(args.kinds)
        if set(args.kinds) & {"evaluation", "search", "sweep", "similarity", "tuning"}:
            assert wait(start(make_small_model, work), 300) == 0, _log(work)
        dealt = shares(args.kills, args.kinds)
        for kind in sorted(dealt, key=lambda kind: kind == "generation"):  # last: its client starts threads
            outcomes[kind] = (
                kill_server(dealt[kind], rng, work) if kind == "generation" else kill_runs(kind, dealt[kind], rng, work)
            )
            print(kind, outcomes[kind].as_json(), flush=True)
            keep()
        if "generation" in args.kinds:
            removed = remove_model(work)
            print("model folder removed under the server:", removed, flush=True)
    lost = keep()
    print(f"{sum(outcome.kills for outcome in outcomes.values())} kills, {len(lost)} losses.")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
