"""Scripts of the page, run without a browser: by node, where there is one."""

import json
import shutil
import subprocess
from typing import Any

import pytest

from app.components.page import page_script

NODE = shutil.which("node")
_EACH = """
const cases = JSON.parse(require('fs').readFileSync(0, 'utf8'));
console.log(JSON.stringify(cases.map(({name, arguments: given}) => eval(name)(...given))));
"""


def call(scripts: tuple[str, ...], *calls: tuple[str, list[Any]]) -> list[Any]:
    """What functions of these scripts return: one call for each (name, arguments), in one process."""
    if not NODE:
        pytest.skip("There is no node: install Debian's package nodejs.")
    cases = json.dumps([{"name": name, "arguments": arguments} for name, arguments in calls])
    source = "\n".join(map(page_script, scripts)) + _EACH
    done = subprocess.run([NODE, "-e", source], input=cases, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout)
    return found
