"""Endpoints of the running server, as programs call them."""

import pytest

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def client(address):
    from gradio_client import Client

    return Client(address, verbose=False, analytics_enabled=False)


def test_programs_find_exactly_the_named_endpoints(client):
    assert set(client.view_api(return_format="dict")["named_endpoints"]) == {
        "/savings",
        "/similarity",
        "/generate",
        "/scores",
        "/suggest",
    }


def test_endpoints_answer(client):
    savings = client.predict(model="Llama-3-8B", plan="22-26", api_name="/savings")
    assert savings["KV cache"]["saved_percent"] == pytest.approx(100 * 4 / 64)
    similarity = client.predict(text="A fox went to the sea.", api_name="/similarity")
    assert len(similarity["similarity"]) == len(similarity["similarity"][0]) == 24
    job = client.submit(prompt="A fox", max_new_tokens=8, api_name="/generate")
    job.result()
    assert job.outputs()[-1]["shared"]["tokens"] == 8
    assert client.predict(plan="dense", api_name="/scores")


def test_endpoints_answer_bad_input_with_the_sentence(client):
    with pytest.raises(Exception, match="reversed"):
        client.predict(plan="9-3", api_name="/savings")
