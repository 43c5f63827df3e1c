"""What a Hugging Face Space reads: the header of the README, and requirements that can be met there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from app import text

ROOT = Path(__file__).resolve().parents[1]
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
# https://huggingface.co/docs/hub/spaces-config-reference; license, thumbnail and language are of every repository's card.
DOCUMENTED = {
    "title": str, "emoji": str, "colorFrom": str, "colorTo": str, "sdk": str, "python_version": str, "sdk_version": str,
    "suggested_hardware": str, "suggested_storage": str, "app_file": str, "app_build_command": str, "app_port": int,
    "base_path": str, "fullWidth": bool, "header": str, "short_description": str, "models": list, "datasets": list,
    "tags": list, "thumbnail": str, "pinned": bool, "hf_oauth": bool, "hf_oauth_scopes": list,
    "hf_oauth_expiration_minutes": int, "disable_embedding": bool, "startup_duration_timeout": str,
    "custom_headers": dict, "preload_from_hub": list, "license": str,
}  # fmt: skip
HARDWARE = {
    "cpu-basic",
    "cpu-upgrade",
    "t4-small",
    "t4-medium",
    "l4x1",
    "l4x4",
    "a10g-small",
    "a10g-large",
    "a100-large",
}
NEEDED = {
    "title",
    "emoji",
    "colorFrom",
    "colorTo",
    "sdk",
    "sdk_version",
    "python_version",
    "app_file",
    "license",
    "models",
}


def read(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


@pytest.fixture
def header() -> dict:
    assert read("README.md").startswith("---\n")
    return yaml.safe_load(read("README.md").split("---\n")[1])


def test_the_header_has_documented_keys_of_their_types(header):
    assert set(header) <= set(DOCUMENTED) and set(header) >= NEEDED
    assert [key for key, value in header.items() if not isinstance(value, DOCUMENTED[key])] == []


def test_the_header_is_true(header):
    pinned = dict(line.split(" ;")[0].split("==") for line in read("constraints.txt").splitlines() if "==" in line)
    assert header["sdk"] == "gradio" and header["sdk_version"] == pinned["gradio"]
    assert (ROOT / header["app_file"]).is_file() and header["title"] == text.TITLE
    assert f"python:{header['python_version']}." in read("Dockerfile")
    assert header["license"] == "apache-2.0" and "Apache License" in read("LICENSE")[:200]
    assert {header["colorFrom"], header["colorTo"]} <= COLOURS and header["suggested_hardware"] in HARDWARE
    assert len(header["short_description"]) <= 60 and header["header"] in ("mini", "default")
    assert re.fullmatch(r"\d+[mh]", header["startup_duration_timeout"])


@pytest.mark.parametrize("torch", ["2.8", "2.11"])
@pytest.mark.parametrize("python", ["3.10", "3.12"])
def test_requirements_can_be_met_where_spaces_run(python, torch, tmp_path):
    """Resolved against the package index, nothing installed; torch 2.8 to 2.11 is what ZeroGPU offers."""
    (tmp_path / "torch.txt").write_text(f"torch=={torch}.*\n", encoding="utf-8")
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--python-version", python]
    command += ["--python-platform", "linux", "-c", str(tmp_path / "torch.txt"), str(ROOT / "requirements.txt")]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("UV_")}
    done = subprocess.run(command, env=kept, capture_output=True, text=True, timeout=300, check=False)
    if re.search(r"dns error|[Cc]onnect|client error|timed out|Network unreachable", done.stderr):
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    found = dict(re.findall(r"^([\w.-]+)==(\S+)", done.stdout, re.MULTILINE))
    assert found["torch"].startswith(f"{torch}.") and {"gradio", "transformers", "lm-eval"} <= set(found)
