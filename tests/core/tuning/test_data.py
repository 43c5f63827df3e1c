"""Documents, token ids, what counts in the loss, what is held out, and the order of training."""

import json
import lzma

import numpy as np
import pytest

from core.tuning.encoding import Encoder
from core.tuning.held_out import HeldOut, _mean
from core.tuning.recipe import TuneRecipe
from core.tuning.rows import UNCOUNTED, batch_of, in_order, prepare
from core.tuning.sources import Document, source_of
from tests.support.tokenizers import small_tokenizer

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
SMALL = TuneRecipe(context_tokens=16, batch_rows=2, held_out_share=0.2)


def write(path, content: str | bytes):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def texts(source) -> list[str]:
    return [document.text for document in source]


def words(encoder: Encoder, document: Document) -> tuple[str, str]:
    """All of a document as a model reads it, and what of it counts."""
    ids, counted = encoder(document)
    said = [token for token, counts in zip(ids, counted, strict=True) if counts]
    return encoder.tokenizer.decode(ids), encoder.tokenizer.decode(said)


# Sources


def test_documents_of_a_text(tmp_path):
    by_lines = write(tmp_path / "a.txt", "One.\nStill one.\n\n \nTwo.")
    assert texts(source_of(by_lines)) == ["One.\nStill one.", "Two."]
    marked = "One.\n\nStill one.\n<|endoftext|>\nTwo.\n<|endoftext|>\n"
    packed = write(tmp_path / "b.txt.xz", lzma.compress(marked.encode()))
    source = source_of(packed)
    assert texts(source) == ["One.\n\nStill one.", "Two."]
    assert source.bytes == packed.stat().st_size and source.name == "b.txt.xz"


def test_documents_of_json_lines(tmp_path):
    lines = [{"text": "One.", "source": "a book"}, {"text": " "}, {"text": "Two."}]
    assert texts(source_of(write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines))))) == ["One.", "Two."]
    pair = {"prompt": "Two?", "response": "2"}
    turns = {"messages": [{"role": "user", "content": "Two?"}, {"role": "assistant", "content": "2"}]}
    both = source_of(write(tmp_path / "b.jsonl", "\n".join(map(json.dumps, [pair, turns]))))
    assert [document.messages for document in both] == [(("user", "Two?"), ("assistant", "2"))] * 2


BAD_LINES = {
    '{"txt": "a"}': "line 1 has the fields",
    '{"text": 1}': "line 1 has a text that is no text",
    '{"prompt": "a", "response": ""}': "line 1 ends without an answer",
    '{"messages": []}': "line 1 ends without an answer",
    '{"messages": [{"role": "tool", "content": "a"}]}': "line 1 has a message of the role 'tool'",
    '{"messages": ["a"]}': "line 1 has a message that is not",
    '{"text": "a"}\n{"prompt": "a", "response": "b"}': "line 2 is of another kind",
    "[": "line 1",
}


@pytest.mark.parametrize("content", BAD_LINES)
def test_faulty_lines_are_named(tmp_path, content):
    with pytest.raises(ValueError, match="bad.jsonl, ") as error:
        source_of(write(tmp_path / "bad.jsonl", content))
    assert BAD_LINES[content] in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.txt", None, "There is no file"),
        ("a.csv", "x", "is no text that is known"),
        ("a.txt", b"\xff", "is not a text file in UTF-8"),
        ("a.txt.xz", b"no xz", "is not packed by xz"),
    ],
)
def test_files_that_are_none(tmp_path, name, content, said):
    if content is not None:
        write(tmp_path / name, content)
    with pytest.raises(ValueError, match=said):
        texts(source_of(tmp_path / name))


def test_a_name_that_is_nothing():
    with pytest.raises(ValueError, match="no data set on the hub"):
        source_of("neither/a/file")


def test_a_data_set_on_the_hub_is_read_as_far_as_needed_and_runs_no_code(monkeypatch, tokenizer):
    asked = []

    def rows():
        for number in range(10**6):
            asked.append(number)
            yield {"text": f"Document {number} of many words.", "id": number}

    def load_dataset(*args, **kwargs):
        asked.append((args, kwargs["trust_remote_code"], kwargs["split"]))
        return rows()

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    monkeypatch.setattr("core.tuning.sources.hub_is_reachable", lambda: True)
    source = source_of("owner/name:plain", split="validation")
    prepared = prepare(Encoder(tokenizer, 97), source, TuneRecipe(context_tokens=16, max_tokens=300))
    assert asked[0] == (("owner/name", "plain"), False, "validation") and len(asked) < 20
    assert prepared.about.name == "owner/name:plain (validation)" and len(prepared.about.sha256) == 64
    assert prepared.about.documents + prepared.about.held_out_documents == len(asked) - 1
    assert prepared.about.tokens + 30 >= 300


def test_many_documents_at_once_are_read_as_one_by_one(tokenizer):
    encoder = Encoder(tokenizer, embedding_rows=97)
    asked = Document(messages=(("user", "Two?"), ("assistant", "the river")))
    documents = [Document(f"{number} the old man of {number} years" * (number % 3)) for number in range(300)]
    documents = [*documents[:10], asked, *documents[10:], asked]
    together = list(encoder.encoded(documents))
    assert [document for document, _ in together] == documents
    assert [encoded for _, encoded in together] == [encoder(document) for document in documents]


def test_a_hub_that_fails_is_one_sentence(monkeypatch):
    def load_dataset(*_, **__):
        raise RuntimeError("Dataset scripts are no longer supported,\nbut found name.py")

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    monkeypatch.setattr("core.tuning.sources.hub_is_reachable", lambda: True)
    with pytest.raises(ValueError, match="Could not read the data set owner/name .*scripts are no longer") as error:
        list(source_of("owner/name"))
    assert "\n" not in str(error.value)


# Token ids


def test_of_a_text_everything_counts():
    encoder = Encoder(small_tokenizer(), 512)
    ids, counted = encoder(Document("the old man"))
    assert ids[0] == encoder.begin == 1 and ids.count(1) == 1 and all(counted)


def test_of_a_pair_the_response_counts_with_the_end_of_the_text():
    encoder = Encoder(small_tokenizer(), 512)
    pair = Document(messages=(("user", "the old man"), ("assistant", "went down")))
    ids, counted = encoder(pair)
    assert ids[0] == encoder.begin and ids[-1] == encoder.tokenizer.eos_token_id
    assert words(encoder, pair)[1] == "went down</s>"
    asked = encoder.tokenizer("the old man").input_ids
    assert ids[: len(asked)] == asked and not any(counted[: len(asked)])  # as an evaluation asks it


def test_a_chat_template_writes_conversations(tokenizer):
    tokenizer.chat_template = TEMPLATE
    encoder = Encoder(tokenizer, 97)
    turns = Document(messages=(("system", "Be."), ("user", "A"), ("assistant", "B"), ("user", "C"), ("assistant", "D")))
    whole, counted = words(encoder, turns)
    unknown = tokenizer.decode(tokenizer.encode(tokenizer.apply_chat_template(
        [{"role": role, "content": content} for role, content in turns.messages], tokenize=False
    )))  # fmt: skip
    assert whole == unknown and counted == tokenizer.decode(tokenizer.encode("B</assistant>D</assistant>"))


def test_conversations_that_cannot_be_written(tokenizer):
    turns = Document(messages=(("user", "A"), ("assistant", "B"), ("user", "C"), ("assistant", "D")), line=7)
    with pytest.raises(ValueError, match="no chat template, which the conversation of line 7 needs"):
        Encoder(tokenizer, 97)(turns)
    tokenizer.chat_template = "{{ raise_exception('no more') }}"
    with pytest.raises(ValueError, match=r"refuses the conversation of line 7 \(no more\)"):
        Encoder(tokenizer, 97)(turns)
    tokenizer.chat_template = "{{ messages | length }}" + TEMPLATE
    with pytest.raises(ValueError, match="rewrites earlier turns of the conversation of line 7"):
        Encoder(tokenizer, 97)(turns)


# Rows


def test_texts_become_full_rows_that_lose_no_token(tokenizer, text_file):
    encoder = Encoder(tokenizer, 97)
    prepared = prepare(encoder, source_of(text_file), SMALL)
    assert {len(row.inputs) for row in prepared.training} == {16}
    said = np.concatenate([row.targets for row in prepared.training])
    read = np.concatenate([prepared.training[0].inputs[:1], said])
    apart = {document.sha256 for document in source_of(text_file)}
    assert prepared.about.documents == 16 and prepared.about.held_out_documents == 4 and len(apart) == 20
    assert len(read) <= prepared.about.tokens < len(read) + 16
    assert np.array_equal(np.concatenate([row.inputs for row in prepared.training])[1:], said[:-1])


def test_held_out_documents_are_never_trained_on(tokenizer, tmp_path):
    twice = [f"Number {n % 10} goes to the river." for n in range(20)]
    path = write(tmp_path / "twice.txt", "\n\n".join(twice))
    prepared = prepare(Encoder(tokenizer, 97), source_of(path), SMALL)
    assert prepared.about.held_out_documents == 4  # two documents, each there twice
    trained, held = (
        tokenizer.decode(np.concatenate([row.inputs for row in rows]))
        for rows in (prepared.training, prepared.held_out)
    )
    numbers = [{n for n in "0123456789" if f"umber{n}" in text.replace("<unk>", "")} for text in (trained, held)]
    assert numbers[0] and numbers[1] and not numbers[0] & numbers[1]
    assert prepare(
        Encoder(tokenizer, 97), source_of(path), TuneRecipe(seed=5, context_tokens=16, held_out_share=0.2)
    ).about == (prepared.about)


def test_one_document_cannot_be_parted(tokenizer, tmp_path):
    path = write(tmp_path / "one.txt", "Only one document, which goes on and on. " * 9)
    with pytest.raises(ValueError, match="holds one document, of which no part can be held out"):
        prepare(Encoder(tokenizer, 97), source_of(path), SMALL)
    other = write(tmp_path / "other.txt", "Another document, in a file of its own.")
    prepared = prepare(Encoder(tokenizer, 97), source_of(path), SMALL, source_of(other))
    assert prepared.about.held_out_name == "other.txt" and prepared.about.documents == 1
    with pytest.raises(ValueError, match="1 documents of one.txt are trained on too"):
        prepare(Encoder(tokenizer, 97), source_of(path), SMALL, source_of(path))


def test_answers_that_do_not_fit_are_left_out_and_counted(tokenizer, lines_file):
    prepared = prepare(Encoder(tokenizer, 97), source_of(lines_file), SMALL)
    assert prepared.left_out == 0 and all(row.counted for row in prepared.training)
    tight = prepare(Encoder(tokenizer, 97), source_of(lines_file), TuneRecipe(context_tokens=11, held_out_share=0.2))
    assert tight.left_out == 11  # "Count to 10." and those after it take all of it
    with pytest.raises(ValueError, match="nothing to train on"):
        prepare(Encoder(tokenizer, 97), source_of(lines_file), TuneRecipe(context_tokens=8, held_out_share=0.2))


def test_a_batch_is_padded_where_nothing_counts(tokenizer, lines_file):
    prepared = prepare(Encoder(tokenizer, 97), source_of(lines_file), TuneRecipe(context_tokens=64, held_out_share=0.2))
    batch = batch_of(prepared.training[:3])
    for row, inputs, labels in zip(prepared.training, batch["input_ids"], batch["labels"], strict=False):
        assert inputs[: len(row.inputs)].tolist() == row.inputs.tolist()
        assert (labels != UNCOUNTED).sum() == row.counted and (labels[len(row.inputs) :] == UNCOUNTED).all()


def test_the_order_is_passes_over_all_rows(tokenizer, text_file):
    rows = prepare(Encoder(tokenizer, 97), source_of(text_file), SMALL).training
    count = len(rows)
    recipe = TuneRecipe(steps=count, batch_rows=2)
    ordered = in_order(rows, recipe)
    assert sorted(ordered.order[:count]) == sorted(ordered.order[count:]) == list(range(count))
    assert ordered.order[:count].tolist() != ordered.order[count:].tolist()
    assert (
        ordered.sha256
        == in_order(rows, recipe).sha256
        != in_order(rows, TuneRecipe(steps=count, batch_rows=2, seed=1)).sha256
    )
    assert ordered.tokens(3) == 48


def test_the_error_of_a_mean_over_rows():
    losses, counts = np.array([2.0, 4.0, 6.0, 4.0]), np.array([2, 2, 2, 2])
    assert _mean(losses, counts).loss == 2.0
    assert _mean(losses, counts).stderr == pytest.approx(np.std([1, 2, 3, 2], ddof=1) / 2)
    assert _mean(losses[:1], counts[:1]) == HeldOut(1.0, None)


def test_steps_are_one_pass_and_warming_up_is_a_quarter_at_most():
    recipe = TuneRecipe(batch_rows=2, accumulate=2).for_rows(201)
    assert (recipe.steps, recipe.eval_every, recipe.warmup_steps) == (51, 6, 12)
    assert TuneRecipe(steps=400, eval_every=7).for_rows(3).changed() == {"--steps": 400, "--eval-every": 7}
    assert TuneRecipe(steps=1).for_rows(3).warmup_steps == 0


@pytest.mark.parametrize(
    "field", ["steps=-1", "batch_rows=0", "learning_rate=0", "held_out_share=1", "clip=inf", "context_tokens=0"]
)
def test_figures_that_make_no_training(field):
    name, _, value = field.partition("=")
    with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} is "):
        TuneRecipe(**{name: float(value)})
    with pytest.raises(ValueError, match="--method is 'half': it must be one of full, lora"):
        TuneRecipe(method="half")
