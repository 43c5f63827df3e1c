"""Shared fixtures: tiny random models of every supported family, on a machine without network."""

import asyncio
import os
import tempfile
from pathlib import Path
from zlib import crc32

_cache = tempfile.TemporaryDirectory(prefix="shared-attention-cache-")
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    GRADIO_ANALYTICS_ENABLED="False",
    TOKENIZERS_PARALLELISM="false",
    SHARED_ATTENTION_CACHE=_cache.name,  # what was fetched on this machine is not seen
)
if not Path("/proc/driver/nvidia/version").exists():  # no GPU: Triton's interpreter runs kernels, if it is known early
    os.environ.setdefault("TRITON_INTERPRET", "1")

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.support import models

torch.set_num_threads(1)  # tiny matrices: a second thread only waits, and on a busy machine waits long

# The suite runs few examples, and the same ones everywhere; `make properties` runs many, and new ones every time.
EXAMPLES = {"deadline": None, "print_blob": True, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("suite", max_examples=60, derandomize=True, database=None, **EXAMPLES)
settings.register_profile("properties", max_examples=2000, **EXAMPLES)
settings.load_profile("suite")


def _opens_a_browser(item: pytest.Item) -> bool:
    return item.get_closest_marker("browser") is not None or "browser" in item.path.parts


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Other tests find no event loop while a browser is open in this process: Playwright leaves its own marked as running."""
    if _opens_a_browser(item):
        return (yield)
    left = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        return (yield)
    finally:
        asyncio._set_running_loop(left)


def pytest_addoption(parser):
    parser.addoption("--whole-grid", action="store_true", help="every cell of the tests marked grid, not one in six")
    parser.addoption("--families-table", type=Path, metavar="FILE", help="write the table family × check as Markdown")


_ONE_IN = 6


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """A browser test that fails is run once more and named in the summary (RERUN): see docs/decisions.md.

    Of a grid of families × mechanisms × checks the suite runs one cell in six, the same ones everywhere; `make grid` all.
    """
    for item in filter(_opens_a_browser, items):
        item.add_marker(pytest.mark.flaky(reruns=1))
    if config.getoption("--whole-grid"):
        return
    left = [item for item in items if item.get_closest_marker("grid") and crc32(item.name.encode()) % _ONE_IN]
    if left:
        config.hook.pytest_deselected(items=left)
        out = set(map(id, left))
        items[:] = [item for item in items if id(item) not in out]


_families_table: dict[str, dict[str, str]] = {}


@pytest.fixture
def families_table() -> dict[str, dict[str, str]]:
    """Family → check → result, filled by the parity grid and printed at the end."""
    return _families_table


def pytest_terminal_summary(terminalreporter, config):
    if not _families_table:
        return
    checks = list(dict.fromkeys(check for results in _families_table.values() for check in results))
    rows = [["family", *checks], ["---"] * (len(checks) + 1)]
    rows += [[family, *(results.get(check, "") for check in checks)] for family, results in _families_table.items()]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    terminalreporter.write_line(table)
    if path := config.getoption("--families-table"):
        path.write_text(f"{table}\n", encoding="utf-8")


@pytest.fixture(params=models.FAMILIES)
def family(request) -> str:
    """The name of each family variant in turn."""
    return request.param


@pytest.fixture
def tiny_config():
    """`tiny_config(family="llama", **fields)` makes the configuration of a tiny model."""
    return models.tiny_config


@pytest.fixture
def tiny_model():
    """`tiny_model(family="llama", attn_implementation="sdpa", seed=0, **fields)` makes a random tiny model."""
    return models.tiny_model
