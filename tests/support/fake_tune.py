"""`python -m tests.support.fake_tune tune …`: what `python -m core tune` writes and how it ends, without training anything.

A step takes 30 ms; the record is written again after every step, a checkpoint is the record itself.
"""

import signal
import sys
import time
from argparse import ArgumentParser
from pathlib import Path

from core.commands.head_map import head_map_of
from core.corrections import Corrections
from core.records.files import parse_as, write_file, write_record
from core.records.provenance import provenance
from core.records.tunings import TuningRecord, save_tuning

STEP_S = 0.03


def main() -> int:
    """0 when all steps are done, 130 after Ctrl-C, 1 when the time was up, 2 for data that are not there."""
    args = _arguments()
    stopped: list[int] = []
    signal.signal(signal.SIGINT, lambda *_: stopped.append(1))
    if args.data == "missing.txt":
        print("Traceback that nobody wants to read\nmissing.txt is no file: name one.", file=sys.stderr)
        return 2
    path, end = args.out / "tuning.json", time.monotonic() + args.stop_after
    record = parse_as(TuningRecord, path.read_bytes()) if path.exists() else _begun(args)
    while record.steps < args.steps and not stopped and time.monotonic() < end:
        time.sleep(STEP_S)
        record = _one_more(record)
        write_record(path, record)
    if record.steps < args.steps:
        return 130 if stopped else 1
    record = record.model_copy(update={"finished": True, "saved": (record.steps, 2.0, 0.01)})
    write_record(path, record)
    write_file(args.out / "config.json", b"{}")
    write_file(args.out / "README.md", b"# tuned\n")
    save_tuning(args.results, record)
    return 0


def _arguments():
    parser = ArgumentParser()
    parser.add_argument("command", choices=["tune"])
    for name in ("model", "plan", "data", "method"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("out", "results"):
        parser.add_argument(f"--{name}", required=True, type=Path)
    for name in ("batch-rows", "context-tokens", "steps", "eval-every", "held-out-tokens", "warmup-steps"):
        parser.add_argument(f"--{name}", required=True, type=int)
    parser.add_argument("--stop-after", required=True, type=float)
    parser.add_argument("--control", action="store_true")
    parser.add_argument("--objective", default="text")
    parser.add_argument("--head-map")
    parser.add_argument("--corrections", default="")
    return parser.parse_args()


def _begun(args) -> TuningRecord:
    data = {"name": Path(args.data).name, "sha256": "0", "bytes": 9, "documents": 2, "tokens": 4, "held_out_tokens": 2}
    return TuningRecord(
        model=Path(args.model).name, weights_sha256="0", num_layers=6, plan=args.plan, control=args.control,
        method=args.method, objective=args.objective, head_map=head_map_of(args.head_map) or {},
        corrections=Corrections.parse(args.corrections).as_config() if args.corrections else None, recipe={"steps": args.steps, "seed": 0}, data=data, tokens_seen=0, steps=0,
        seconds=0.0, finished=False, held_out=[(0, 3.0, 0.01)], held_out_dense=(2.5, 0.01), out_name=args.out.name,
        **provenance(time.monotonic(), "cpu"),
    )  # fmt: skip


def _one_more(record: TuningRecord) -> TuningRecord:
    step = record.steps + 1
    losses = [*record.losses, (step, 3.0 - step / 100)]
    return record.model_copy(update={"steps": step, "losses": losses, "seconds": record.seconds + STEP_S})


if __name__ == "__main__":
    sys.exit(main())
