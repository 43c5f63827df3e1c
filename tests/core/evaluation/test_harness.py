"""The model as lm-eval sees it: the same requests and scores, with bars, batches and cut-off texts in hand."""

import json

import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from core.evaluation.catalogue import load_benchmarks
from core.evaluation.evaluate import evaluate
from core.evaluation.harness import EvaluatedModel
from core.evaluation.options import Options
from core.models import load_model
from core.records.scores import load_samples
from core.sharing.view import share_attention
from core.tasks import TASKS

SKILL_TASKS = ["demo_recall", "demo_where_is", "demo_arithmetic", "demo_copy"]


def test_shared_logits_of_one_token_answers_are_right_for_a_view(model, tokenizer):
    """HFLM scores all one-token continuations of a context from one forward call; a view must not mind."""
    requests = [
        Instance("loglikelihood", {}, (context, continuation), 0)
        for context in ("Roses are", "Violets are red and")
        for continuation in ("a", "b", "xyz", "c")
    ]
    view = share_attention(model, "2-4")
    ours = EvaluatedModel(view, tokenizer, 3, lambda done, total: None).loglikelihood(requests)
    one_by_one = HFLM(view, tokenizer=tokenizer, batch_size=1, logits_cache=False).loglikelihood(requests)
    assert [row[1] for row in ours] == [row[1] for row in one_by_one]
    assert [row[0] for row in ours] == pytest.approx([row[0] for row in one_by_one], rel=1e-5)


def test_a_right_answer_counts(measure, monkeypatch, tokenizer):
    """A model that continues every prompt with its right answer scores 1: prompts, stops and targets fit together."""
    documents = [doc for b in load_benchmarks(SKILL_TASKS) for task in b.tasks.values() for doc in task.eval_docs]
    texts = {doc["prompt"]: f" {doc['answer']}." for doc in documents}

    def answer(self, context, max_length, stop, **kwargs):
        rows = [tokenizer.encode(texts[p]) for p in self.tokenizer.batch_decode(context, skip_special_tokens=True)]
        return torch.tensor(
            [[*c, *row[:5], *row[5:], *[0] * (99 - len(row))] for c, row in zip(context.tolist(), rows, strict=True)]
        )

    monkeypatch.setattr(HFLM, "_model_generate", answer)
    assert [r.metrics["exact_match"].value for r in measure(tasks=SKILL_TASKS, limit=20)] == [1.0] * 4


def test_the_tokenizer_and_the_model_stay_as_they_were(measure, model, tokenizer):
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    measure(["1-5"], ["demo_copy", "demo_prose"], limit=2)
    assert tokenizer.pad_token is None
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_the_tasks_own_answer_length_counts(measure, model, tmp_path):
    model.generation_config.max_new_tokens = 50
    (record,) = measure(tasks=["demo_arithmetic"])
    assert all(len(sample["answer"][0]) <= 6 for sample in load_samples(tmp_path, record))
    assert model.generation_config.max_new_tokens == 50


def test_prose_is_scored_from_the_first_token_on_and_no_further(tmp_path):
    model, tokenizer = load_model("demo", device="cpu")
    about = {"model_name": "demo", "weights_sha256": "abc", "results": tmp_path, "options": Options(limit=3)}
    (record,) = evaluate(model, tokenizer, [], ["demo_prose"], **about)
    scores = []
    for line in (TASKS / "prose.jsonl").read_text(encoding="utf-8").splitlines()[:3]:
        passage = json.loads(line)["text"]
        ids = tokenizer(passage, return_tensors="pt").input_ids  # the tokenizer itself puts <|endoftext|> first
        with torch.no_grad():
            nats = torch.nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:], reduction="sum").item()
        scores.append(nats / np.log(2) / len(passage.encode()))
    assert record.metrics["bits_per_byte"].value == pytest.approx(np.mean(scores), rel=1e-5)


def test_requests_that_lose_their_beginning_are_counted(measure, model):
    model.config.max_position_embeddings = 60
    (record,) = measure(tasks=["demo_recall"])
    assert record.truncated_requests == 4
    model.config.max_position_embeddings = 1024
    assert measure(["2-4"], ["demo_recall"])[0].truncated_requests == 0


def test_truncated_log_likelihoods_are_counted_and_too_long_answers_refused(model, tokenizer):
    model.config.max_position_embeddings = 20
    evaluated = EvaluatedModel(model, tokenizer, 3, lambda done, total: None)
    requests = [Instance("loglikelihood", {}, ("w" * n, "abc"), 0) for n in (17, 18, 19, 40)]
    evaluated.loglikelihood(requests)
    assert evaluated.truncated == 2
    with pytest.raises(ValueError, match="An answer has 21 tokens, but the model's context only 20"):
        evaluated.loglikelihood([Instance("loglikelihood", {}, ("w", "a" * 21), 0)])


def test_a_tokenizer_without_any_special_token_is_refused(model, tokenizer):
    tokenizer.bos_token = tokenizer.eos_token = None
    with pytest.raises(ValueError, match="knows no token for the beginning or end of a text"):
        EvaluatedModel(model, tokenizer, 3, lambda done, total: None)
