"""What the commands sweep, search, head-maps and similarity have in common: arguments, texts, journal, bar, records."""

import time
from datetime import datetime, timezone
from pathlib import Path

from tqdm import tqdm

from core.cost import ModelShape, kv_cache_bytes
from core.damage.runner import BATCH_TOKENS, Damage, DamageMeter
from core.damage.texts import (
    CALIBRATION_TOKENS,
    CHUNK_TOKENS,
    HELD_OUT_TOKENS,
    calibration_texts,
    random_texts,
    read_documents,
)
from core.plan import SharingPlan
from core.records.provenance import command, git_commit, machine, model_name, versions
from core.records.scores import RESULTS
from core.records.searches import Journal, Point, SearchRecord, TextInfo, save_search
from core.sharing.view import EXECUTIONS

JOURNALS = Path(__file__).parents[2] / "runs" / "searches"


CONTEXT_TOKENS = 4096
"""Tokens in the cache that savings are predicted for; it matters for models with sliding windows only."""


def add_common_arguments(parser) -> None:
    """Model, texts and files."""
    parser.add_argument("--model", help="bundled name, hub id or folder (default: the bundled demo model)")
    parser.add_argument(
        "--shape", metavar="NAME", help="for timing: random weights of a well-known size, such as llama-3-8b, and "
        "random tokens",
    )  # fmt: skip
    parser.add_argument("--text", type=Path, metavar="FILE", help="text file (default: the bundled passages)")
    parser.add_argument("--tokens", type=int, default=CALIBRATION_TOKENS, help="to choose on (default: %(default)s)")
    parser.add_argument(
        "--held-out-tokens", type=int, default=HELD_OUT_TOKENS, help="to judge on (default: %(default)s)"
    )
    parser.add_argument("--chunk-tokens", type=int, default=CHUNK_TOKENS, help="read at a time (default: %(default)s)")
    parser.add_argument(
        "--batch-tokens", type=int, default=BATCH_TOKENS, help="computed at a time (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="which documents are held out (default: %(default)s)")
    parser.add_argument("--device", help="e.g. cpu or cuda (default: the GPU when there is one)")
    parser.add_argument("--dtype", help="float32, bfloat16 or float16 (default: float32 on a CPU)")
    parser.add_argument("--execution", choices=EXECUTIONS, default="auto")
    parser.add_argument("--journal", type=Path, default=JOURNALS, metavar="DIR", help="measurements to go on from")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where records are kept")


class Session:
    """Model, texts and journal of one command; its progress bar, on terminals only; and its record."""

    def __init__(self, args):
        from core.models import weights_sha256

        self.args, self.start, self.bar, self.step = args, time.monotonic(), None, ""
        self.name, self.model, self.tokenizer, self.texts = _loaded(args)
        self.weights = weights_sha256(self.model)
        self.journal = Journal(args.journal, self.weights, str(self.model.dtype), self.model.device.type)

    def meter(self, text: int = 0) -> DamageMeter:
        """A meter of damage on the calibration text (0) or the held-out one (1)."""
        return DamageMeter(
            self.model, self.texts[text], execution=self.args.execution, batch_tokens=self.args.batch_tokens,
            journal=self.journal,
        )  # fmt: skip

    def score_drop(self, task: str, limit: int | None):
        """Measures what a plan loses on a task (`core.evaluation.score_drop.ScoreDrop`)."""
        from core.evaluation.score_drop import ScoreDrop  # lm-eval takes seconds to load

        if self.tokenizer is None:
            raise ValueError("Random weights have no scores: leave out --score-drop, or --shape.")
        about = {"model_name": self.name, "weights_sha256": self.weights}
        return ScoreDrop(self.model, self.tokenizer, task, limit, self.args.results, **about)

    def show(self, step: str, done: int, total: int) -> None:
        """Move the bar."""
        if step != self.step:
            self.close()
            self.bar, self.step = tqdm(desc=step, total=total, leave=False, disable=None), step
        self.bar.update(done - self.bar.n)

    def close(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.close()

    def save(self, name: str, settings: dict, points: list[Point], evaluations: tuple[int, int]) -> Path:
        """Store a record with these points; the path of its file."""
        self.close()
        return save_search(self.args.results, self._record(name, settings, evaluations), points)

    def _record(self, name: str, settings: dict, evaluations: tuple[int, int]) -> SearchRecord:
        args = self.args
        texts = {
            split: TextInfo(sha256=text.sha256, tokens=text.num_tokens, chunks=len(text.chunks))
            for split, text in zip(("calibration", "held-out"), self.texts)
        }
        return SearchRecord(
            name=name + (f"+seed={args.seed}" if args.seed else "") + (f"+text={args.text.stem}" if args.text else ""),
            model=self.name, weights_sha256=self.weights, num_layers=self.model.config.num_hidden_layers,
            dtype=str(self.model.dtype).removeprefix("torch."), execution=args.execution, texts=texts, seed=args.seed,
            settings=settings, layer_evaluations=evaluations[0], naive_layer_evaluations=evaluations[1],
            versions=versions(), git_commit=git_commit(), machine=machine(self.model.device),
            date=datetime.now(timezone.utc), duration_s=round(time.monotonic() - self.start, 3),
            command=command(),
        )  # fmt: skip


def _loaded(args) -> tuple:
    """(name, model, tokenizer, (calibration, held-out)) that the arguments ask for; a shape has no tokenizer."""
    from core.models import load_model, random_model  # here: `--help` and bad options answer at once

    lengths = {name: getattr(args, name) for name in ("tokens", "held_out_tokens", "chunk_tokens", "seed")}
    _check_lengths(lengths)
    if args.shape:
        if args.model or args.text:
            raise ValueError("--shape stands for random weights and tokens: leave out --model and --text.")
        name, model = random_model(args.shape, args.dtype, args.device, args.seed)
        return name, model, None, random_texts(model.config.vocab_size, **lengths)
    model, tokenizer = load_model(args.model, dtype=args.dtype, device=args.device)
    texts = calibration_texts(tokenizer, args.text and read_documents(args.text), **lengths)
    return model_name(args.model), model, tokenizer, texts


def _check_lengths(lengths: dict[str, int]) -> None:
    for name in ("tokens", "held_out_tokens"):
        if not 1 <= lengths["chunk_tokens"] <= lengths[name]:
            option = name.replace("_", "-")
            raise ValueError(f"--{option} must be at least --chunk-tokens, and that at least 1.")


def cache_saving(model, plan: SharingPlan) -> float:
    """Share of the dense model's KV cache that a plan saves after CONTEXT_TOKENS tokens (predicted), below 0.5.

    For a family whose sizes `core.cost.shapes` does not know, all layers are taken to cache equally much.
    """
    try:
        shape = ModelShape.from_config(model.config)
    except ValueError:
        return len(plan.followers) / (2 * plan.num_layers)
    dense = SharingPlan((), plan.num_layers)
    return 1 - kv_cache_bytes(shape, plan, 1, CONTEXT_TOKENS) / kv_cache_bytes(shape, dense, 1, CONTEXT_TOKENS)


def point(role: str, plan: SharingPlan | str, damage: Damage, split: str, saving: float, **more) -> Point:
    """A point of a record from a measured damage; a plan in words stands for a pair of layers. more: further fields."""
    followers = len(plan.followers) if isinstance(plan, SharingPlan) else 1
    return Point(
        role=role, plan=str(plan), followers=followers, split=split, damage=damage.mean, stderr=damage.stderr,
        kl=damage.kl, cache_saving=saving, tokens=damage.tokens, **more,
    )  # fmt: skip
