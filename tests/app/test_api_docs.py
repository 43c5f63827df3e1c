"""docs/api.md tells of every endpoint and of every argument, with its default, and of nothing else."""

import inspect
import json
import re

import pytest

from app.api import ENDPOINTS
from tests.test_docs import ROOT, blocks

GUIDE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", GUIDE, re.MULTILINE | re.DOTALL))


def arguments(name: str) -> dict[str, str]:
    """Argument → default, as the table of an endpoint has them."""
    rows = re.findall(r"^\| `(\w+)` \|(.*?)\|", SECTIONS[name], re.MULTILINE)
    return {argument: default.strip() for argument, default in rows}


def parameters_of(name: str) -> dict[str, inspect.Parameter]:
    """What a program can give: gradio itself gives the request."""
    parameters = inspect.signature(ENDPOINTS[name][0]).parameters
    return {argument: parameter for argument, parameter in parameters.items() if argument != "request"}


def test_every_endpoint_is_told_of():
    assert set(SECTIONS) - {"MCP"} == set(ENDPOINTS)
    assert re.findall(r"^\| \[`/(\w+)`\]\(#(\w+)\)", GUIDE, re.MULTILINE) == [
        (name, name) for name in SECTIONS if name != "MCP"
    ]


@pytest.mark.parametrize("name", ENDPOINTS)
def test_every_argument_is_told_of_in_its_place(name):
    parameters = parameters_of(name)
    told = arguments(name)
    assert list(told) == list(parameters)
    for argument, parameter in parameters.items():
        default = "" if parameter.default is parameter.empty else f"`{json.dumps(parameter.default)}`"
        assert told[argument] == default, argument


@pytest.mark.parametrize("name", ENDPOINTS)
def test_every_endpoint_has_an_example_in_both_languages(name):
    [python], [shell] = blocks(SECTIONS[name], "python"), blocks(SECTIONS[name], "sh")
    assert f'api_name="/{name}"' in python and shell.count(f"/gradio_api/call/{name}") == 2
    given = json.loads(re.search(r"'(\{.*\})'", shell)[1])["data"]
    assert len(given) == len(arguments(name))


@pytest.mark.parametrize("name", ENDPOINTS)
def test_the_docstring_describes_every_argument_in_one_line(name):
    """As gradio reads it for MCP: what goes on in a second line is lost."""
    head, below = inspect.getdoc(ENDPOINTS[name][0]).split("\nArgs:\n")
    told = dict(re.findall(r"^    (\w+): (.+)$", below, re.MULTILINE))
    assert list(told) == list(parameters_of(name)) and len(told) == len(below.splitlines())
    assert all(words.endswith(".") for words in told.values()) and head
