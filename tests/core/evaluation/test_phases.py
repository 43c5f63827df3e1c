"""Plans whose phases differ are scored as they write: sharing in decoding alone must not look free."""

import json

import pytest
import torch
from transformers import DynamicCache

from core.commands.evaluate import _report
from core.cost.kv_caches import CacheKind
from core.evaluation.cached import CachedModel
from core.evaluation.harness import EvaluatedModel
from core.evaluation.options import Options
from core.evaluation.own_benchmarks import load_benchmark
from core.records.files import safe_name
from core.records.scores import SCORED_BY, Record, load_records, to_frame
from core.sharing.view import share_attention
from tests.core.evaluation.test_cached import requests, tokens_of

PLAN = "2-4@decode"


def likelihoods(view, tokenizer, through_cache: bool, given, **how) -> list[float]:
    options = (view, tokenizer, 3, lambda *_: None)
    scorer = CachedModel(*options, CacheKind("full"), True) if through_cache else EvaluatedModel(*options)
    return [value for value, _ in scorer._loglikelihood_tokens(given, **how)]


@torch.no_grad()
def one_by_one(view, prompt: list[int], answer: list[int], first: int) -> float:
    """The log-likelihood of an answer when `first` tokens are read in one call, and each of the others in one of its own."""
    text, cache = [*prompt, *answer], DynamicCache(config=view.config)
    calls = [text[:first], *([token] for token in text[first:-1])]
    logits = [view(input_ids=torch.tensor([part]), past_key_values=cache).logits[0] for part in calls]
    told = torch.cat(logits).log_softmax(-1)[-len(answer) :]
    return told.gather(1, torch.tensor(answer)[:, None]).sum().item()


@pytest.mark.parametrize("plan", [PLAN, "2-4@prefill", "skip 3@prefill,kv 2-4@decode", "topk2 2-4@decode"])
def test_answers_are_scored_token_by_token_and_texts_half_by_half(model, tokenizer, plan):
    view = share_attention(model, plan)
    for (_, prompt, answer), found in zip(requests(), likelihoods(view, tokenizer, True, requests()), strict=True):
        first = (len(prompt) + len(answer)) // 2 if len(prompt) == 1 else len(prompt) - 1
        assert found == pytest.approx(one_by_one(view, prompt, answer, max(1, first)), rel=1e-4)
    texts = [(("", text), [0], tokens_of(text)) for text in ("A text without a prompt", "Another text", "x", "xy")]
    for (_, prompt, answer), found in zip(texts, likelihoods(view, tokenizer, True, texts, override_bs=3), strict=True):
        assert found == pytest.approx(one_by_one(view, prompt, answer, max(1, (1 + len(answer)) // 2)), rel=1e-4)


def test_in_one_pass_sharing_in_decoding_alone_looks_free_and_through_the_cache_it_does_not(model, tokenizer):
    view = share_attention(model, PLAN)
    texts = [(("", text), [0], tokens_of(text)) for text in ("A text without a prompt", "Another text")]
    for given in (requests(), texts):
        assert likelihoods(view, tokenizer, False, given) == likelihoods(model, tokenizer, False, given)
        dense, found = (likelihoods(one, tokenizer, True, given) for one in (model, view))
        assert dense == pytest.approx(likelihoods(model, tokenizer, False, given), rel=1e-4)
        assert max(abs(one - other) for one, other in zip(dense, found, strict=True)) > 0.1


def test_records_say_by_which_way_they_were_scored(measure, tmp_path, capsys):
    rows = [
        {"prompt": "The sky is", "choices": ["blue", "loud"], "answer": 0},
        {"prompt": "A", "choices": ["b", "cd"], "answer": 1},
    ]
    mine = load_benchmark("\n".join(map(json.dumps, rows)), "mine")
    written, texts, choices = measure([PLAN], ["demo_copy", "demo_prose", mine])
    assert [one.scored_by for one in (choices, written, texts)] == ["cache", "generation", "cache"]
    assert choices.scoring == SCORED_BY["cache"] and written.scoring.startswith("Scored by what was written")
    assert all(one.counted_cache.bytes for one in (choices, written, texts))
    assert choices.path.parent.name == safe_name(PLAN) and load_records(tmp_path)[1] == []
    assert json.loads((tmp_path / choices.path).read_text())["plan"] == PLAN
    dense, shared = measure(["dense", "2-4"], ["demo_prose"])
    assert texts.metrics["bits_per_byte"].value not in (
        dense.metrics["bits_per_byte"].value,
        shared.metrics["bits_per_byte"].value,
    )
    for one in (dense, shared):
        assert one.scored_by is None and one.scoring == "" and "scored_by" not in json.loads(one.model_dump_json())
    assert set(to_frame([dense, texts]).scored_by) == {"", "cache"}
    assert measure([PLAN], ["demo_prose"]) == [texts]  # stored, not measured again
    _report([dense, texts, choices], 3, tmp_path)
    said = capsys.readouterr().out
    assert said.count(f"{PLAN}: {SCORED_BY['cache']}") == 1 and "dense:" not in said


def test_a_plan_with_phases_and_quantized_weights_and_cache_is_scored_too(measure):
    pytest.importorskip("optimum.quanto")
    (record,) = measure([PLAN], ["demo_prose"], options=Options(limit=2, batch_size=2, kv_cache="quantized-8"))
    assert record.scored_by == "cache" and record.held == {"kv_cache": "quantized-8"}


def test_a_record_that_does_not_say_how_a_plan_with_phases_was_scored_is_refused(measure):
    phased, plain = measure([PLAN, "2-4"], ["demo_prose"])
    lost = {name: value for name, value in phased.model_dump().items() if name != "scored_by"}
    with pytest.raises(ValueError, match="not said how it was scored"):
        Record.model_validate(lost)
    with pytest.raises(ValueError, match="has no phases"):
        Record.model_validate(plain.model_dump() | {"scored_by": "cache"})
