"""Endpoints for programs, called as functions."""

import json

import gradio as gr
import pytest

from app import api
from core.cost import DEVICES, fits_frame, known_shapes, kv_cache_bytes
from tests.support.gguf_files import write_gguf
from tests.support.page import PROMPT


def test_savings_endpoint_counts_like_the_core():
    answer = api.savings_endpoint("Llama-3-8B", "22-26", 2, 1000, 500, "float16")
    shape = known_shapes()["Llama-3-8B"]
    assert answer["KV cache"]["shared"] == kv_cache_bytes(shape, "22-26", 2, 1000)


def test_savings_endpoint_says_what_fits():
    rows = api.savings_endpoint("Llama-3-8B", "22-26", 16, 8192)["fits"]
    assert json.dumps(rows) and len(rows) == 2 * len(DEVICES)
    expected = fits_frame(known_shapes()["Llama-3-8B"], "22-26", 16, 8192)
    assert [row["largest_batch"] for row in rows] == expected.largest_batch.tolist()
    assert [row["step_ms"] is None for row in rows] == (~expected.fits).tolist()


def test_endpoints_answer_bad_input_with_the_sentence(folder):
    for call in (
        lambda: api.savings_endpoint("Llama-3-8B", "5-2"),
        lambda: api.savings_endpoint("Llama-3-8B", dtype="int3"),
        lambda: api.similarity_endpoint("", folder),
        lambda: api.similarity_endpoint(PROMPT, folder, "no-such-method"),
        lambda: list(api.generate_endpoint("", folder, "2-4")),
    ):
        with pytest.raises(gr.Error) as caught:
            call()
        assert caught.value.message.endswith(".")


def test_generate_endpoint_streams_plain_data(folder):
    last = list(api.generate_endpoint(PROMPT, folder, "2-4", 4))[-1]
    assert last["dense"]["tokens"] == last["shared"]["tokens"] == 4 and json.dumps(last)


def test_generate_endpoint_speaks_to_instruct_models(folder, tmp_path):
    write_gguf(tmp_path / "tiny.gguf")
    plain, chat = (
        list(api.generate_endpoint("Hi", str(tmp_path), "2-4", 2, chat=chat, system="Be brief." if chat else ""))[-1]
        for chat in (False, True)
    )
    assert chat["dense"]["prompt_tokens"] > plain["dense"]["prompt_tokens"] + 10
    with pytest.raises(gr.Error, match="has no chat template"):
        list(api.generate_endpoint("Hi", folder, "2-4", 2, chat=True))


def test_scores_endpoint_selects(results):
    rows = api.scores_endpoint(plan="2-3", task="copy")
    assert [row["value"] for row in rows] == [0.8] and json.dumps(rows)
