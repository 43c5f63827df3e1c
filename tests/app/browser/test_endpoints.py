"""Endpoints of the running server, as programs call them, and as docs/api.md says that they are called."""

import contextlib
import io
import json
import re
import runpy
import shutil
import subprocess

import pytest

from app.api import ENDPOINTS
from tests.app.test_api_docs import SECTIONS, arguments
from tests.test_docs import blocks

pytestmark = pytest.mark.browser
THERE = "http://127.0.0.1:7860"
REQUIRED = {"generate": {"prompt": "A fox"}, "similarity": {"text": "A fox went."}}


@pytest.fixture(scope="module")
def client(address):
    from gradio_client import Client

    return Client(address, verbose=False, analytics_enabled=False)


def test_programs_find_exactly_the_named_endpoints(client):
    assert set(client.view_api(return_format="dict")["named_endpoints"]) == {f"/{name}" for name in ENDPOINTS}


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


@pytest.mark.parametrize("name", ENDPOINTS)
def test_the_python_example_of_the_guide_runs(name, address, tmp_path):
    [example] = blocks(SECTIONS[name], "python")
    printed, file = io.StringIO(), tmp_path / "example.py"
    file.write_text(example.replace(THERE, address.rstrip("/")))
    with contextlib.redirect_stdout(printed):
        runpy.run_path(str(file))
    assert printed.getvalue().replace("Loaded as API", "").strip()


@pytest.mark.parametrize("name", ENDPOINTS)
def test_the_shell_example_of_the_guide_runs(name, address):
    if not shutil.which("curl"):
        pytest.skip("There is no curl.")
    [example] = blocks(SECTIONS[name], "sh")
    done = subprocess.run(
        ["bash", "-c", example.replace(THERE, address.rstrip("/"))],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    *_, last = re.findall(r"^event: (\w+)\ndata: (.*)$", done.stdout, re.MULTILINE)
    assert last[0] == "complete" and json.loads(last[1])[0], done.stdout[-500:]


def test_a_shell_reads_the_sentence_too(address):
    if not shutil.which("curl"):
        pytest.skip("There is no curl.")
    [example] = blocks(SECTIONS["savings"], "sh")
    bad = example.replace(THERE, address.rstrip("/")).replace("22-26", "26-22")
    done = subprocess.run(["bash", "-c", bad], capture_output=True, text=True, timeout=120, check=True)
    assert "event: error" in done.stdout and "Span 26-22 is reversed" in done.stdout


@pytest.mark.parametrize("name", ENDPOINTS)
def test_ten_megabytes_are_refused_at_once(name, client):
    text = next(argument for argument in arguments(name))
    with pytest.raises(Exception, match="has 10,000,000 characters|413"):  # a body of so much is not even read
        client.predict(**{**REQUIRED.get(name, {}), text: "x" * 10_000_000}, api_name=f"/{name}")
