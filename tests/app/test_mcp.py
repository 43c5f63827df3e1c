"""The endpoints as MCP tools: with the package `mcp` they are listed and answer; without it a sentence says what to do."""

import ast
import asyncio
import importlib.util
import inspect

import pytest

import app.__main__ as started
from app.api import ENDPOINTS
from tests.support.browser import ROOT, free_port, serve, wait_for


def test_without_the_package_a_sentence_says_how_to_get_it(monkeypatch, capsys):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "mcp" else found(name, *more))
    monkeypatch.setattr(started, "port_problem", lambda host, port: "")
    assert started.main(["--mcp"]) == 2
    assert capsys.readouterr().err == f"{started.MCP_MISSING}\n" and "pip install" in started.MCP_MISSING


@pytest.fixture(scope="module")
def served():
    """The address of the tools, served by the command that users type."""
    pytest.importorskip("mcp")
    port = free_port()
    server = serve(port, ROOT / "results", "--mcp")
    try:
        yield f"{wait_for(f'http://127.0.0.1:{port}/', server)}gradio_api/mcp/"
    finally:
        server.terminate()
        server.wait(timeout=20)


async def with_session(address: str, ask):
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async with streamablehttp_client(address) as (read, write, _), ClientSession(read, write) as session:
        await session.initialize()
        return await ask(session)


@pytest.mark.filterwarnings("default")  # the package's own
def test_the_tools_are_the_endpoints_with_a_description_of_every_argument(served):
    async def ask(session):
        return (await session.list_tools()).tools

    tools = {tool.name: tool for tool in asyncio.run(with_session(served, ask))}
    assert set(tools) == set(ENDPOINTS)
    for name, tool in tools.items():
        told = tool.inputSchema["properties"]
        assert list(told) == list(inspect.signature(ENDPOINTS[name][0]).parameters) and len(tool.description) > 60
        assert all(one["description"].endswith(".") for one in told.values())


@pytest.mark.filterwarnings("default")
def test_a_tool_answers_a_stream_with_its_last_value_and_bad_input_with_the_sentence(served):
    async def ask(session):
        given = {"model": "Llama-3-8B", "plan": "22-26"}
        saved = await session.call_tool("savings", given)
        written = await session.call_tool("generate", {"prompt": "A fox", "model": "demo", "max_new_tokens": 6})
        refused = await session.call_tool("savings", given | {"plan": "26-22"})
        return saved, written, refused

    saved, written, refused = asyncio.run(with_session(served, ask))
    assert ast.literal_eval(saved.content[0].text)["KV cache"]["saved_percent"] == 6.25
    assert ast.literal_eval(written.content[0].text)["shared"]["tokens"] == 6
    assert refused.isError and "Span 26-22 is reversed" in refused.content[0].text
