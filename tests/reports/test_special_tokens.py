"""Reports on what tokenizers put around a text: an end before the answer, two beginnings, tokens that no row is for."""

import json

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from core import attention_similarity
from core.__main__ import main
from core.damage.meter import DamageMeter
from core.damage.texts import calibration_texts
from core.decoding.generation import generate_pair
from core.demo.scores import exact_share
from core.demo.skills import Example
from core.evaluation.evaluate import evaluate
from core.evaluation.harness import EvaluatedModel
from core.evaluation.options import Options
from core.models import load_model
from core.records.scores import load_samples
from core.tokens import body_ids, prompt_ids
from tests.support.models import tiny_model
from tests.support.tokenizers import byte_tokenizer

ROWS = 262
ORDINARY, ENDING = "<s> $A", "<s> $A </s>"


def tokenizer_of(template: str | None, **tokens: str | None) -> PreTrainedTokenizerFast:
    """Bytes, with what the template puts around them; tokens: in place of its special tokens."""
    tokenizer = byte_tokenizer()
    names = {"bos_token": "<s>", "eos_token": "</s>"} | tokens
    tokenizer.add_tokens(["<s>", "</s>", *filter(None, tokens.values())], special_tokens=True)
    for name, token in names.items():
        setattr(tokenizer, name, token)
    if template:
        marks = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("<s>", "</s>")]
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=template, special_tokens=marks)
    return tokenizer


def model_of(rows: int = ROWS):
    return tiny_model(vocab_size=rows, eos_token_id=None, max_position_embeddings=1024)


def answers(tokenizer, folder, tasks=("demo_copy", "demo_prose"), model=None):
    """What a model answers, with its scores, as the records keep them; and a task of choices asked directly."""
    about = {"model_name": "m", "weights_sha256": "x", "results": folder, "options": Options(limit=2)}
    records = evaluate(model or model_of(), tokenizer, [""], tasks, **about)
    return [[sample["answer"] for sample in load_samples(folder, record)] for record in records]


def likelihoods(tokenizer):
    pairs = [("Roses are", " red"), ("Roses are", " blue"), ("", "Violets")]
    requests = [Instance("loglikelihood", {}, pair, 0) for pair in pairs]
    return EvaluatedModel(model_of(), tokenizer, 2, lambda *_: None).loglikelihood(requests)


@pytest.mark.parametrize("template", [ENDING, "<s> <s> $A", "<s> $A </s> </s>"])
def test_answers_are_not_scored_behind_an_end(tmp_path, template):
    """A tokenizer that appends EOS (`<s> $A </s>`): acc_norm 0.0 where 1.0 is right."""
    assert likelihoods(tokenizer_of(template)) == likelihoods(tokenizer_of(ORDINARY))
    given = answers(tokenizer_of(template), tmp_path / "odd")
    assert given == answers(tokenizer_of(ORDINARY), tmp_path / "plain")


def test_right_answers_are_right_whatever_the_tokenizer_appends(tmp_path):
    """A model that writes ` e` wherever it is asked, and likes to end a text behind an x or a q."""
    file = tmp_path / "letters.jsonl"
    rows = [
        {"prompt": "abcd", "choices": ["e", "x"], "answer": 0},
        {"prompt": "ghi", "choices": ["q", "e"], "answer": 1},
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    tokenizer = tokenizer_of(ENDING)
    space, right, *wrong = tokenizer.encode(" exq", add_special_tokens=False)
    model = tiny_model(vocab_size=ROWS, hidden_size=264, intermediate_size=8)
    with torch.no_grad():  # each token's row says what follows it
        for name, parameter in model.named_parameters():
            parameter.fill_(1.0 if "norm" in name else 0.0)
        model.model.embed_tokens.weight.copy_(torch.eye(ROWS, 264))
        model.lm_head.weight[space] = 0.1
        model.lm_head.weight[right, space] = 0.3
        model.lm_head.weight[tokenizer.eos_token_id, wrong] = 9.0
    model.save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    run = ["evaluate", "--model", str(tmp_path / "m"), "--benchmark", str(file), "--device", "cpu"]
    assert main([*run, "--results", str(tmp_path)]) == 0
    [record] = [json.loads(path.read_text()) for path in (tmp_path / "m" / "dense").glob("*.json")]
    assert record["metrics"]["acc_norm"]["value"] == record["metrics"]["acc"]["value"] == 1.0


def test_texts_go_on_from_their_own_end():
    """Generate: the continuation starts from an EOS."""
    texts = []
    for template in (ORDINARY, ENDING):
        *_, last = generate_pair(model_of(), model_of(), tokenizer_of(template), "Roses are", max_new_tokens=8)
        texts.append((last.dense.text, last.dense.prompt_tokens))
    assert texts[0] == texts[1] and texts[0][1] == 10


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("tokens", [{}, {"pad_token": "</s>"}, {"pad_token": "<s>", "eos_token": "<s>"}])
def test_padding_changes_no_answer(tokens, padding_side):
    """pad = EOS, or padding on the right: batches answer otherwise than single rows."""
    model, tokenizer = model_of(), tokenizer_of(ENDING, **tokens)
    tokenizer.padding_side = padding_side
    prompts = ["a", "a much longer prompt", "some more"]
    requests = [Instance("generate_until", {}, (p, {"until": ["\n"], "max_gen_toks": 6}), 0) for p in prompts]
    batched, single = (EvaluatedModel(model, tokenizer, size, lambda *_: None) for size in (3, 1))
    assert batched.generate_until(requests) == single.generate_until(requests)
    examples = [Example(p, text) for p, text in zip(prompts, single.generate_until(requests), strict=True)]
    assert exact_share(model, tokenizer, examples, 3) == exact_share(model, tokenizer, examples, 1)


@pytest.mark.parametrize("template", [ORDINARY, ENDING, None])
def test_a_text_begins_once(template):
    """A chat template writes `<s>`, and the tokenizer adds another one."""
    tokenizer = tokenizer_of(template)
    ids = prompt_ids(tokenizer, "<s>[INST] a")
    assert ids.count(tokenizer.bos_token_id) == 1 == len(ids) - len("[INST] a")
    assert prompt_ids(tokenizer, "<s><s>[INST] a") == ids
    assert body_ids(tokenizer, "<s>[INST] a") == ids[1:]
    evaluated = EvaluatedModel(model_of(), tokenizer, 2, lambda *_: None)
    rows, mask = evaluated.tok_batch_encode(["a", "<s>[INST] a", "<s>b"])
    begun = 1 if template else 0
    assert mask.sum(1).tolist() == [1 + begun, len(ids), 2] and rows[1].tolist() == ids


@pytest.mark.parametrize("template", [ORDINARY, "$A", None])
@pytest.mark.parametrize("tokens", [{}, {"bos_token": None}, {"eos_token": "<s>"}])
def test_ordinary_tokenizers_give_what_they_gave(template, tokens):
    """Scores stay comparable: the ids of lm-eval itself, one by one and in batches."""
    tokenizer, texts = tokenizer_of(template, **tokens), ["Roses are", " a", "äöü\n\n"]
    ours, theirs = EvaluatedModel(model_of(), tokenizer, 2, lambda *_: None), HFLM(model_of(), tokenizer=tokenizer)
    for text in [*texts, *(["<s>once", "</s>red"] if tokenizer.bos_token else [])]:
        assert ours.tok_encode(text) == theirs.tok_encode(text)
        assert ours._encode_pair(text, " more") == theirs._encode_pair(text, " more")
    for mine, lm_evals in zip(ours.tok_batch_encode(texts), theirs.tok_batch_encode(texts), strict=True):
        assert torch.equal(mine, lm_evals)


def test_a_tokenizer_that_begins_but_never_ends(tmp_path):
    """No EOS: lm-eval crashes on it, and would add a padding token that the embedding does not know."""
    tokenizer = tokenizer_of(ORDINARY, eos_token=None)
    given = answers(tokenizer, tmp_path, ["demo_copy"], model_of(len(tokenizer)))
    assert len(given[0]) == 2


def test_calibration_texts_hold_no_ends():
    """Texts to measure damage on are joined by one token each, whatever the tokenizer puts around them."""
    documents = [f"<s>{'words and more words ' * 9}" for _ in range(9)]
    chosen, _ = calibration_texts(tokenizer_of(ENDING), documents, tokens=128, held_out_tokens=128, chunk_tokens=32)
    plain, _ = calibration_texts(
        tokenizer_of(ORDINARY), [d[3:] for d in documents], tokens=128, held_out_tokens=128, chunk_tokens=32
    )
    assert chosen == plain


class TestMoreTokensThanRows:
    """A tokenizer with more tokens than the embedding has rows: IndexError, or on a GPU whatever lies there."""

    def folder(self, path):
        model_of(257).save_pretrained(path)
        tokenizer = byte_tokenizer()
        tokenizer.add_tokens(["<more>"])
        tokenizer.save_pretrained(path)
        return path

    @pytest.mark.parametrize(
        "command",
        ["evaluate --tasks demo_copy", "search --followers 1", "similarity", "sweep", "measure --plan 1-2"],
    )
    def test_every_command_says_so_before_it_begins(self, tmp_path, capsys, command):
        """A tokenizer with one token more than the model: every command dies in the middle."""
        assert main([*command.split(), "--model", str(self.folder(tmp_path)), "--results", str(tmp_path)]) == 2
        err = capsys.readouterr().err
        assert "knows 258 tokens and the model's embedding 257" in err and "'<more>' (257)" in err

    def test_a_special_token_beyond_the_embedding_is_refused_where_it_is_read(self, tmp_path):
        """Gemma's token for images lies beyond its embedding: texts are fine until they name it."""
        model, tokenizer = model_of(259), tokenizer_of(ORDINARY, pad_token="<pad>")
        assert tokenizer.pad_token_id == 259
        answers(tokenizer, tmp_path, ["demo_copy"], model)
        bad = "words <pad> words"
        with pytest.raises(ValueError, match="has the token id 259, but the model's embedding knows 259 tokens"):
            next(generate_pair(model, model, tokenizer, bad))
        with pytest.raises(ValueError, match="token id 259"):
            attention_similarity(model, prompt_ids(tokenizer, bad))
        with pytest.raises(ValueError, match="token id 259"):
            DamageMeter(
                model, calibration_texts(tokenizer, [bad * 20] * 9, tokens=64, held_out_tokens=64, chunk_tokens=16)[0]
            )
        evaluated = EvaluatedModel(model, tokenizer, 2, lambda *_: None)
        with pytest.raises(ValueError, match="token id 259"):
            evaluated.loglikelihood([Instance("loglikelihood", {}, (bad, " a"), 0)])

    def test_rows_without_tokens_are_fine(self, tmp_path):
        """Embeddings are often padded to a round number of rows."""
        model_of(320).save_pretrained(tmp_path)
        byte_tokenizer().save_pretrained(tmp_path)
        assert load_model(tmp_path, device="cpu")[0].model.embed_tokens.num_embeddings == 320
