"""Texts to choose plans on and to judge them: disjoint, as long as asked, the same for the same seed."""

import pytest

from core.damage.choices import CALIBRATION_TOKENS, HELD_OUT_TOKENS
from core.damage.texts import bundled_documents, calibration_texts, documents_for, read_documents
from core.models import BUNDLED
from core.tokens import documents_of


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(BUNDLED["demo"])


def test_bundled_texts_are_disjoint_and_the_seed_decides(tokenizer):
    assert [t.num_tokens for t in calibration_texts(tokenizer)] == [CALIBRATION_TOKENS, HELD_OUT_TOKENS]
    sizes = {"tokens": 2048, "held_out_tokens": 1024}
    chosen, held_out = calibration_texts(tokenizer, **sizes)
    assert (chosen.num_tokens, held_out.num_tokens) == (2048, 1024)
    assert (chosen.split, held_out.split) == ("calibration", "held-out")
    assert (chosen.sha256, held_out.sha256) == tuple(t.sha256 for t in calibration_texts(tokenizer, **sizes))
    assert chosen.sha256 != calibration_texts(tokenizer, **sizes, seed=1)[0].sha256
    opening = [d[:40] for d in bundled_documents()[::2]]  # of passages, not of exercises
    words = [tokenizer.decode([i for chunk in t.chunks for i in chunk]) for t in (chosen, held_out)]
    used = [{o for o in opening if o in w} for w in words]
    assert used[0] and used[1] and not used[0] & used[1]


def test_a_short_text_is_shared_in_proportion(tokenizer, tmp_path):
    documents = documents_of("\n\n".join(f"Number {i} is a short document about the sea." for i in range(200)))
    assert len(documents) == 200
    chosen, held_out = calibration_texts(
        tokenizer, documents, tokens=30000, held_out_tokens=10000, chunk_tokens=64
    )  # fmt: skip
    assert chosen.num_tokens == pytest.approx(3 * held_out.num_tokens, rel=0.1)
    with pytest.raises(ValueError, match="give a longer text"):
        calibration_texts(tokenizer, ["Too short."])
    file = tmp_path / "text.txt"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="UTF-8"):
        read_documents(file)


def test_a_model_reads_what_it_knows():
    articles = documents_for("SmolLM2-135M-Instruct")
    assert documents_for("demo", seed=3) == bundled_documents(3) and articles != documents_for("demo")
    assert len(articles) == len(set(articles)) == 250 and all(100 <= len(one.split()) <= 180 for one in articles)
    assert len({" ".join(one.split()[:4]) for one in articles}) == 250  # each of another subject
