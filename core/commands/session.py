"""What the commands sweep, search, head-maps, mechanisms and similarity have in common: texts, journal, bar, records."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from core.damage.meter import DamageMeter
from core.damage.texts import HALVES, Text, calibration_texts, documents_for, random_texts, read_documents
from core.gguf_source import quantization_of
from core.records.journal import Journal
from core.records.provenance import model_name, origin, provenance
from core.records.searches import PlanDamage, SearchRecord, TextInfo, save_search
from core.sharing.families import num_layers_of, vocab_size_of


class Session:
    """Model, texts and journal of one command; its progress bar, on terminals only; and its record."""

    def __init__(self, args: argparse.Namespace):
        from core.models import weights_sha256

        self.args, self.start, self.step = args, time.monotonic(), ""
        self.bar: tqdm | None = None
        self.name, self.model, self.tokenizer, self.texts = _loaded(args)
        if self.texts[0].halves:
            print(f"Note: {HALVES}.", file=sys.stderr)
        self.weights = weights_sha256(self.model)
        self.journal = Journal(args.journal, *self._conditions())

    def _conditions(self) -> list[str]:
        """What else decides a loss, so that a journal never lends one to a record that says something else of it."""
        config = self.model.config.to_diff_dict() | {"_name_or_path": None}
        about = origin(self.model.device) | {"config": config, "attention": self.model.config._attn_implementation}
        return [self.weights, str(self.model.dtype), json.dumps(about, sort_keys=True, default=str)]

    def meters(self) -> tuple[DamageMeter, DamageMeter]:
        """Meters of damage on the calibration text and on the held-out one, with nothing run yet."""
        settings = {"execution": self.args.execution, "batch_tokens": self.args.batch_tokens, "journal": self.journal}
        chosen_on, judged_on = (DamageMeter(self.model, text, **settings) for text in self.texts)
        return chosen_on, judged_on

    @staticmethod
    def evaluations(*meters: DamageMeter) -> tuple[int, int]:
        """Layers that these meters have run, and that running each plan on its own would have taken."""
        runners = [meter.runner for meter in meters]
        return sum(r.layer_evaluations for r in runners), sum(r.naive_layer_evaluations for r in runners)

    def show(self, step: str, done: int, total: int) -> None:
        """Move the bar."""
        if step != self.step:
            self.close()
            self.bar, self.step = tqdm(desc=step, total=total, leave=False, disable=None), step
        if self.bar is not None:
            self.bar.update(done - self.bar.n)

    def close(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.close()

    def save(self, name: str, settings: dict[str, Any], points: list[PlanDamage], evaluations: tuple[int, int]) -> Path:
        """Store a record with these points; the path of its file."""
        self.close()
        return save_search(self.args.results, self.record(name, settings, evaluations), points)

    def record(self, name: str, settings: dict[str, Any], evaluations: tuple[int, int]) -> SearchRecord:
        """What a record says of this command, which has run until now."""
        args = self.args
        texts = {
            text.split: TextInfo(sha256=text.sha256, tokens=text.num_tokens, chunks=len(text.chunks))
            for text in self.texts
        }
        return SearchRecord(
            name=name + (f"+seed={args.seed}" if args.seed else "") + (f"+text={args.text.stem}" if args.text else ""),
            model=self.name, weights_sha256=self.weights, num_layers=num_layers_of(self.model),
            dtype=str(self.model.dtype).removeprefix("torch."), execution=args.execution, texts=texts, seed=args.seed,
            settings=settings | ({"parted": HALVES} if self.texts[0].halves else {}),
            layer_evaluations=evaluations[0], naive_layer_evaluations=evaluations[1],
            quantization=quantization_of(self.model), **provenance(self.start, self.model.device),
        )  # fmt: skip


class _Loaded(NamedTuple):
    """What the arguments ask for; a shape has no tokenizer."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None
    texts: tuple[Text, Text]


def _loaded(args: argparse.Namespace) -> _Loaded:
    from core.models import load_model, random_model  # here: `--help` and bad options answer at once

    lengths = {name: getattr(args, name) for name in ("tokens", "held_out_tokens", "chunk_tokens", "seed")}
    _check_lengths(lengths)
    if args.shape:
        if args.model or args.text:
            raise ValueError("--shape stands for random weights and tokens: leave out --model and --text.")
        name, model = random_model(args.shape, args.dtype, args.device, args.seed)
        return _Loaded(name, model, None, random_texts(vocab_size_of(model), **lengths))
    model, tokenizer = load_model(args.model, dtype=args.dtype, device=args.device)
    name = model_name(args.model)
    documents = read_documents(args.text) if args.text else documents_for(name, args.seed)
    return _Loaded(name, model, tokenizer, calibration_texts(tokenizer, documents, **lengths))


def _check_lengths(lengths: dict[str, int]) -> None:
    for name in ("tokens", "held_out_tokens"):
        if not 1 <= lengths["chunk_tokens"] <= lengths[name]:
            option = name.replace("_", "-")
            raise ValueError(f"--{option} must be at least --chunk-tokens, and that at least 1.")
