"""No document that plans are chosen on judges them, or it is said."""

import pytest
from transformers import AutoTokenizer

from app import api, searches
from app.registry import get_model
from core.__main__ import main
from core.damage.texts import HALVES, calibration_texts
from core.models import BUNDLED
from core.records.searches import load_searches
from core.tokens import documents_of
from tests.support.damage import save_tiny
from tests.support.models import tiny_model


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(BUNDLED["demo"])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> str:
    return save_tiny(tiny_model, tmp_path_factory.mktemp("models") / "tiny")


def document(number: int, words: int = 300) -> str:
    """About 2,000 tokens that name their document."""
    return " ".join(f"w{number}x{word}" for word in range(words))


def numbers_in(text, tokenizer, count: int = 20) -> set[int]:
    words = tokenizer.decode([token for chunk in text.chunks for token in chunk])
    return {number for number in range(count) if f"w{number}x" in words}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("count", [2, 3, 10])
def test_long_documents_are_on_one_side_each(tokenizer, count, seed):
    """Ten documents of 2,000 tokens: all ten are in the calibration text and in the held-out one."""
    texts = calibration_texts(tokenizer, [document(number) for number in range(count)], seed=seed)
    chosen, judged = (numbers_in(text, tokenizer) for text in texts)
    assert chosen and judged and not chosen & judged and not texts[0].halves
    assert all(text.num_tokens <= 8192 for text in texts)


@pytest.mark.parametrize("again", [lambda text: text, lambda text: text.replace(" ", "\n ")])
def test_a_document_that_is_there_twice_is_on_one_side(tokenizer, again):
    """The same document twice, perhaps with other line ends, is chosen on and judges."""
    documents = [document(number, 25) for number in range(20)]
    texts = calibration_texts(tokenizer, [*documents, *map(again, documents)], chunk_tokens=128)
    chosen, judged = (numbers_in(text, tokenizer) for text in texts)
    assert chosen and judged and not chosen & judged


@pytest.mark.parametrize("documents", [1, 2])
def test_one_document_is_cut_in_halves_that_say_so(tokenizer, documents):
    """A text that is one document: the two texts are mixed pieces of it, and nothing says so."""
    given = [document(0), "A short one."][:documents]
    chosen, judged = calibration_texts(tokenizer, given, chunk_tokens=64)
    ids = tokenizer(document(0), add_special_tokens=False).input_ids
    assert chosen.halves and judged.halves and min(len(chosen.chunks), len(judged.chunks)) > 8
    assert [*chosen.chunks[0][:64]] == ids[:64]
    last, first = (tokenizer.decode(chunk) for chunk in (chosen.chunks[-1], judged.chunks[0]))
    numbers = [int(words.replace(".", " ").split("w0x")[at].split()[0]) for words, at in ((last, -2), (first, 2))]
    assert numbers[1] - numbers[0] > 5  # a gap


def test_a_text_that_is_too_short_for_both_is_refused(tokenizer):
    """A short document is no text to judge on."""
    with pytest.raises(ValueError, match="give a longer text"):
        calibration_texts(tokenizer, [document(0, 30)])


def test_windows_line_ends_part_documents():
    """A text with Windows line ends, or spaces in its empty lines, is taken for one document."""
    assert documents_of("One.\r\n\r\nTwo.\n \t\nThree.\rstill") == ["One.", "Two.", "Three.\nstill"]


def test_bundled_texts_that_share_no_document_stay_as_they_are(tokenizer):
    """Records on the bundled texts stay valid: their hashes are those of the stored searches."""
    from core.places import RESULTS

    stored = {kept.record.seed: kept.record.texts for kept in load_searches(RESULTS)[0] if kept.record.model == "demo"}
    for text in calibration_texts(tokenizer):
        assert text.sha256 == stored[0][text.split].sha256 and not text.halves


def test_the_record_and_the_command_say_how_one_document_was_parted(tiny, tmp_path, capsys):
    """--text with one document: neither record nor command says that it judged itself."""
    (tmp_path / "one.txt").write_text(document(0, 400))
    sizes = [
        "--tokens",
        "512",
        "--held-out-tokens",
        "512",
        "--chunk-tokens",
        "128",
        "--text",
        str(tmp_path / "one.txt"),
    ]
    where = ["--model", tiny, "--results", str(tmp_path), "--journal", str(tmp_path / "runs")]
    assert main(["search", "--followers", "1", *sizes, *where]) == 0
    assert HALVES in capsys.readouterr().err
    [(record, _)], _ = load_searches(tmp_path)
    assert record.settings["parted"] == HALVES
    assert HALVES in searches.about_record(record, get_model(tiny).identity)


def test_the_page_and_the_endpoint_say_how_one_document_was_parted(tiny):
    """/suggest and the page's own text: one document judges itself."""
    *_, last = api.suggest_endpoint(tiny, "followers", 1, document(0, 400), head_map="identity")
    assert HALVES in last["source"]
    *_, several = api.suggest_endpoint(tiny, "followers", 1, "\n\n".join(map(document, range(4))), head_map="identity")
    assert HALVES not in several["source"]
    chosen, judged = searches.meters(get_model(tiny), "\n\n".join(map(document, range(4))), 1024)
    tokenizer = get_model(tiny).tokenizer
    assert not numbers_in(chosen.text, tokenizer) & numbers_in(judged.text, tokenizer)
