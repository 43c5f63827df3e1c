"""Scores that are read through a cache: the protocol, what was counted, records, and comparing full with quantized."""

import json
import re

import pytest
import torch

from core.__main__ import main
from core.cost import ModelShape, held_cache_bytes
from core.cost.kv_caches import KV_CACHES, CacheKind, cache_kind
from core.evaluation import cached
from core.evaluation import evaluate as runner
from core.evaluation.cached import CachedModel
from core.evaluation.compare import compare, load_evaluation, read_held
from core.evaluation.harness import EvaluatedModel
from core.evaluation.options import Options
from core.records.scores import Record, load_records
from core.sharing.cache import cache_bytes
from core.sharing.storage import weight_bytes
from core.sharing.view import share_attention
from tests.support.families import fastest, plans
from tests.support.quantized import needs

REQUESTS = [
    ("The cat", " sat on the mat"),
    ("A", "b"),
    ("The cat", " slept"),
    ("One more text", "x"),
    ("One more text", "y"),
]


def tokens_of(text: str) -> list[int]:
    return list(text.encode())


def requests():
    return [((one, other), tokens_of(one), tokens_of(other)) for one, other in REQUESTS]


def scored(model, tokenizer, kind: CacheKind | None, batch_size: int = 3):
    """Log-likelihoods and greedy flags of REQUESTS, in one pass where no kind is given; and the model that said them."""
    given = (model, tokenizer, batch_size, lambda *_: None)
    evaluated = EvaluatedModel(*given) if kind is None else CachedModel(*given, kind)
    return evaluated._loglikelihood_tokens(requests()), evaluated


@pytest.mark.parametrize("plan", ["", "2-4"])
@pytest.mark.parametrize("residual", [1, 3, 128])
def test_with_a_full_cache_the_protocol_gives_what_one_pass_gives(model, tokenizer, plan, residual):
    view = share_attention(model, plan)
    expected, _ = scored(view, tokenizer, None)
    found, _ = scored(view, tokenizer, CacheKind("full", None, residual))
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], rel=1e-4)


OWN_MASKS_AND_POSITIONS = (
    "biogpt", "bloom", "codegen", "falcon (alibi)", "falcon (grouped)", "gpt2", "gpt_neo", "gptj", "mpt", "opt", "phi3",
    "stablelm",
)  # fmt: skip


@pytest.mark.parametrize("family", OWN_MASKS_AND_POSITIONS)
def test_padding_and_positions_are_right_in_every_family(family, tokenizer):
    """Prompts are padded on the left, answers on the right, and both lie in one cache."""
    dense = fastest(family, vocab_size=257)
    view = share_attention(dense, plans(dense)[0])
    expected, _ = scored(view, tokenizer, None)
    found, _ = scored(view, tokenizer, CacheKind("full", None, 4))
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], rel=1e-5)


@pytest.mark.parametrize("plan", ["", "2-4"])
def test_scores_are_those_of_single_tokens_through_the_quantized_cache(model, tokenizer, plan):
    view, kind = share_attention(model, plan), CacheKind("quantized-8", 8, 4)
    found, evaluated = scored(view, tokenizer, kind)
    for (_, prompt, answer), (value, _) in zip(requests(), found, strict=True):
        cache, total = evaluated.new_cache(), 0.0
        with torch.no_grad():
            for part in filter(None, (prompt[:-1], prompt[-1:])):
                logits = view(input_ids=torch.tensor([part]), past_key_values=cache).logits[0, -1]
            for token in answer:
                total += logits.log_softmax(-1)[token].item()
                logits = view(input_ids=torch.tensor([[token]]), past_key_values=cache).logits[0, -1]
        assert value == pytest.approx(total, rel=1e-3)


def test_the_cache_is_read_quantized(model, tokenizer):
    full, _ = scored(model, tokenizer, None)
    found, _ = scored(model, tokenizer, CacheKind("quantized-8", 8, 4))
    differs = [abs(one - other) > 1e-5 * abs(one) for (one, _), (other, _) in zip(full, found, strict=True)]
    assert differs == [True, False, True, True, True]  # of the second one, a prompt of one token is all that was read
    assert [value for value, _ in found] == pytest.approx([value for value, _ in full], rel=0.05)


def test_what_the_caches_held_is_counted(model, tokenizer):
    kind, shape = CacheKind("quantized-8", 8, 4), ModelShape.from_config(model.config)
    _, evaluated = scored(share_attention(model, "2-4"), tokenizer, kind)
    # equal inputs run once, the longest first: three, and then one, of which nothing comes after the first call
    inputs = sorted(
        {(one[:-1] or one, one[1:][-1:] + other[:-1]) for one, other in REQUESTS}, key=lambda one: -len("".join(one))
    )
    held = []
    for batch in (inputs[:3], inputs[3:]):
        first, then = (max(len(one[part]) for one in batch) for part in (0, 1))
        held.append((len(batch), first + then, then))
    counted = evaluated.counted()
    assert counted.tokens == sum(rows * tokens for rows, tokens, _ in held)
    assert counted.unquantized_tokens == sum(rows * (written % 4) for rows, _, written in held)
    assert len(held) == 2 and held[1][2] == 0
    assert counted.bytes == sum(
        held_cache_bytes(shape, "2-4", rows, tokens, kind, 4, written).total for rows, tokens, written in held
    )


@pytest.mark.parametrize("plan", ["", "2-4"])
def test_generated_answers_are_those_of_single_tokens_through_the_quantized_cache(model, tokenizer, plan):
    view = share_attention(model, plan)
    evaluated = CachedModel(view, tokenizer, 2, lambda *_: None, CacheKind("quantized-8", 8, 4))
    prompts = torch.randint(1, 257, (2, 12), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(prompts)
    written = evaluated._model_generate(prompts, 24, ["no such text"], attention_mask=mask, min_new_tokens=12)
    assert evaluated.counted().tokens == 2 * 23  # all but the last token, which nobody read
    cache, tokens = evaluated.new_cache(), prompts[:, :-1]
    with torch.no_grad():
        view(input_ids=tokens, past_key_values=cache)
        for last in range(11, 23):
            logits = view(input_ids=written[:, last : last + 1], past_key_values=cache).logits[:, -1]
            logits[:, 0] = -torch.inf  # the end, which `min_new_tokens` forbids
            assert torch.equal(logits.argmax(-1), written[:, last + 1])


def test_texts_and_generated_answers_are_read_through_the_cache(measure, tmp_path, monkeypatch):
    read = []
    maker = cached.cache_maker

    def watched(model, kind):
        make = maker(model, kind)
        return lambda: read.append(make()) or read[-1]

    monkeypatch.setattr(cached, "cache_maker", watched)
    options = Options(limit=2, batch_size=2, kv_cache="quantized-8")
    texts, answers = measure(["2-4"], ["demo_prose", "demo_copy"], options=options)
    assert read and all(layer._quantized_values is not None for cache in read for layer in cache.layers)
    assert texts.counted_cache.bytes + answers.counted_cache.bytes == sum(map(cache_bytes, read))
    assert texts.path.name == "demo_prose+kv_cache=quantized-8+limit=2.json"
    full = measure(["2-4"], ["demo_prose"], options=Options(limit=2, batch_size=2))[0]
    one, other = (record.metrics["bits_per_byte"].value for record in (texts, full))
    assert one != other and one == pytest.approx(other, rel=0.05)
    assert full.counted_cache is None


def test_records_say_how_cache_and_weights_were_held(measure, model, tmp_path):
    pytest.importorskip("optimum.quanto")
    options = Options(limit=2, batch_size=2, kv_cache="quantized-8", weights="int8")
    dense, shared = measure(["dense", "2-4"], ["demo_copy"], options=options)
    assert dense.options == {"limit": 2, "kv_cache": "quantized-8", "weights": "int8"} and dense.weights_sha256 == "abc"
    assert dense.settings == "kv_cache=quantized-8, limit=2, weights=int8"
    assert shared.held == {"kv_cache": "quantized-8", "weights": "int8"} and shared.asked == {"limit": 2}
    assert shared.weight_bytes < dense.weight_bytes < weight_bytes(model)
    assert shared.counted_cache.bytes_per_token < dense.counted_cache.bytes_per_token
    assert load_records(tmp_path)[0] == sorted([dense, shared], key=lambda record: record.path.as_posix())
    assert measure(["2-4"], ["demo_copy"], options=options) == [shared]  # stored, not measured again


@needs("optimum.quanto")
@pytest.mark.parametrize("kv_cache", ["quantized-4", "quantized-8"])
def test_head_mapped_and_tuned_models_run_quantized(measure, model, tokenizer, tmp_path, kv_cache):
    options = Options(limit=2, batch_size=2, kv_cache=kv_cache, weights="int4")
    (mapped,) = measure(["2-4"], ["demo_prose"], options=options, head_map={3: [0, 0, 1, 1]})
    (direct,) = measure(["2-4"], ["demo_prose"], options=options)
    about = {"model_name": "tuned", "weights_sha256": "abc", "results": tmp_path, "options": options}
    (tuned,) = runner.evaluate(share_attention(model, "2-4"), tokenizer, [], ["demo_prose"], **about)
    assert (mapped.kind, direct.kind, tuned.kind) == ("head-mapped", "direct", "tuned")
    assert mapped.metrics != direct.metrics == tuned.metrics
    assert mapped.counted_cache == direct.counted_cache == tuned.counted_cache
    assert mapped.weight_bytes == direct.weight_bytes == tuned.weight_bytes


def test_a_record_without_counts_has_no_word_of_them(measure):
    (record,) = measure()
    assert "counted_cache" not in json.loads(record.model_dump_json())
    old = {name: value for name, value in json.loads(record.model_dump_json()).items() if name != "weight_bytes"}
    again = Record.model_validate(old)
    assert again.weight_bytes is None and json.loads(again.model_dump_json()) == old


def test_full_and_quantized_of_one_plan_are_compared_answer_by_answer(measure, tmp_path):
    for kv_cache in ("full", "quantized-8"):
        measure(["2-4"], ["demo_prose"], options=Options(limit=4, batch_size=2, kv_cache=kv_cache))
    folder = tmp_path / "tiny" / "2-4"
    both = load_evaluation(folder, {}), load_evaluation(folder, read_held("kv_cache=quantized-8"))
    (difference,) = compare(*both)
    assert difference.paired and difference.n == 4 and difference.task == "demo_prose (limit=4)"
    assert difference.drop != 0 and difference.stderr > 0


def test_compare_is_told_how_cache_and_weights_are_held(measure, tmp_path, capsys):
    for kv_cache in ("full", "quantized-8"):
        measure(["2-4"], ["demo_prose"], options=Options(limit=4, batch_size=2, kv_cache=kv_cache))
    folder = str(tmp_path / "tiny" / "2-4")
    assert main(["compare", folder, folder, "--shared-held", "kv_cache=quantized-8"]) == 0
    said = capsys.readouterr().out
    assert "demo_prose (limit=4)" in said and "kv_cache None / quantized-8" in said
    assert main(["compare", folder, folder]) == 0  # each file with itself
    assert len(re.findall("bits_per_byte", capsys.readouterr().out)) == 2
    assert main(["compare", folder, folder, "--shared-held", "weights=int4"]) == 2
    assert "holds no records with weights=int4: those there are with full or kv_cache" in capsys.readouterr().err


def test_ways_to_hold_are_read():
    assert read_held("full") == read_held("kv_cache=full") == {}
    assert read_held("weights=int8, kv_cache=quantized") == {"weights": "int8", "kv_cache": "quantized-4"}
    with pytest.raises(ValueError, match="'cache=4' is no way to hold cache and weights: write kv_cache=quantized-4"):
        read_held("cache=4")


def test_options_know_their_names():
    assert Options(kv_cache="quantized").changed == {"kv_cache": "quantized-4"} and Options().changed == {}
    with pytest.raises(ValueError, match="no KV cache 'int4'"):
        Options(kv_cache="int4")
    with pytest.raises(ValueError, match="no weights 'int3': use one of full, int8, int4"):
        Options(weights="int3")


def test_what_cannot_be_quantized_is_refused_before_anything_is_measured(
    model, tokenizer, tiny_model, no_measuring, tmp_path
):
    no_measuring()
    about = {"model_name": "tiny", "weights_sha256": "abc", "results": tmp_path}
    windows = tiny_model("mistral-sliding", vocab_size=257, eos_token_id=0)
    with pytest.raises(ValueError, match="sliding windows"):
        list(
            runner.evaluate(
                windows, tokenizer, ["dense"], ["demo_copy"], options=Options(kv_cache="quantized-8"), **about
            )
        )
    model.config.dequantized_from = "GGUF Q4_1"
    with pytest.raises(ValueError, match="quantized before"):
        list(runner.evaluate(model, tokenizer, ["dense"], ["demo_copy"], options=Options(weights="int8"), **about))
    assert not list(tmp_path.rglob("*.json"))


@needs("optimum.quanto")
def test_the_command_repeats_itself(tmp_path, capsys):
    options = [
        "--tasks",
        "demo_copy",
        "--limit",
        "2",
        "--kv-cache",
        "quantized",
        "--weights",
        "int4",
        "--plan",
        "17-22",
    ]
    assert main(["evaluate", "--device", "cpu", *options, "--results", str(tmp_path)]) == 0
    ((record,), problems) = load_records(tmp_path)
    assert problems == [] and record.held == {"kv_cache": "quantized-4", "weights": "int4"}
    assert record.command.endswith("--kv-cache quantized --weights int4") and record.path.parent.name == "17-22"
    quantized = cache_kind("quantized-4")
    assert quantized == KV_CACHES["quantized-4"] and record.counted_cache.bytes_per_token > 0
