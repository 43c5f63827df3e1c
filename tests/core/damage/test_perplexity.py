"""Damage against what lm-eval scores: the same losses on the same documents."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

import core
from core.damage.meter import DamageMeter
from core.damage.roles import label, roles_of
from core.damage.texts import Text
from core.evaluation.evaluate import Options, evaluate
from core.models import BUNDLED
from tests.support.damage import plan


def test_damage_equals_evaluate_on_the_perplexity_task(tiny_model, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(BUNDLED["demo"])
    model, count = tiny_model(vocab_size=len(tokenizer)), 3
    lines = (Path(core.__file__).parent / "tasks" / "prose.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    documents = [json.loads(line)["text"] for line in lines]
    ids = [tuple(tokenizer(document, add_special_tokens=False)["input_ids"]) for document in documents]
    meter = DamageMeter(model, Text(tuple(ids), first=tokenizer.bos_token_id))
    [damage] = meter.measure([(plan("1-4"), {})])
    about = {"model_name": "tiny", "weights_sha256": "0", "options": Options(limit=count), "results": tmp_path}
    for written, record in zip(
        ("", "1-4"), evaluate(model, tokenizer, ["", "1-4"], ["demo_prose"], **about), strict=True
    ):
        nats = meter.known[0][label(roles_of(plan(written)))][0]
        bits_per_byte = [n / math.log(2) / len(d.encode()) for n, d in zip(nats, documents, strict=True)]
        assert record.metrics["bits_per_byte"].value == pytest.approx(np.mean(bits_per_byte), rel=1e-5)
    assert damage.tokens == sum(map(len, ids))
