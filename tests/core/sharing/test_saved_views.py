"""Saved views: followers' queries and keys are left out of the folder, also of fused projections, and nothing is lost."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import core
from core import share_attention
from core.sharing.families import attention_modules
from core.sharing.view import plan_of
from tests.support.families import fastest

PLAN = "0_2,1-3-5"  # within layers of one kind, also where kinds alternate
FOLLOWERS = (2, 3, 5)
HEAD_MAP = {2: (3, 0, 0, 1), 5: (1, 1, 2, 3)}
SEPARATE = ("llama", "gemma2", "gptj", "gpt_oss")
FUSED = ("phi3", "gpt2", "gpt_neox", "falcon", "falcon (grouped)", "bloom", "codegen", "mpt", "gpt_bigcode")


def tokens() -> torch.Tensor:
    return torch.randint(1, 97, (2, 9), generator=torch.Generator().manual_seed(1))


def file_bytes(folder: Path) -> int:
    """Bytes of all tensors in a folder's safetensors files, without their headers."""
    size = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as tensors:
            size += sum(tensors.get_tensor(name).nbytes for name in iter(tensors.keys()))
    return size


def query_and_key_bytes(model, layer: int) -> int:
    """Bytes of a dense layer's parameters that take part in queries and keys alone."""
    view = share_attention(model, f"{layer - 2}_{layer}")
    dense, follower = attention_modules(model)[layer], attention_modules(view)[layer]
    total = [sum(p.nbytes for p in module.parameters()) for module in (dense, follower)]
    return total[0] - total[1]


@pytest.fixture
def load(monkeypatch):
    monkeypatch.setattr("core.models.AutoTokenizer.from_pretrained", lambda *_, **__: "a tokenizer")
    monkeypatch.setattr("core.models.probe", lambda *_: None)
    return lambda folder, dtype="float32": core.load_model(folder, dtype=dtype, device="cpu")[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("family", SEPARATE + FUSED)
@torch.no_grad()
def test_a_saved_view_comes_back_without_queries_and_keys(family, dtype, tmp_path, load):
    fastest(family).save_pretrained(tmp_path / "float32")
    model = load(tmp_path / "float32", dtype)
    view = share_attention(model, PLAN, head_map=HEAD_MAP)
    model.save_pretrained(tmp_path / "dense")
    view.save_pretrained(tmp_path / "shared")
    left_out = sum(query_and_key_bytes(model, layer) for layer in FOLLOWERS)
    assert left_out > 0
    assert file_bytes(tmp_path / "dense") - file_bytes(tmp_path / "shared") == left_out
    loaded = load(tmp_path / "shared", dtype)
    assert type(loaded) is type(model)
    assert plan_of(loaded).name == PLAN and loaded.sharing_head_map == HEAD_MAP
    assert json.loads((tmp_path / "shared" / "config.json").read_text())["sharing_plan"] == PLAN
    assert torch.equal(loaded(tokens()).logits, view(tokens()).logits)
    loaded.save_pretrained(tmp_path / "again")
    assert file_bytes(tmp_path / "again") == file_bytes(tmp_path / "shared")


def test_queries_and_keys_are_two_thirds_of_a_fused_projection():
    model = fastest("gpt_neox")
    assert query_and_key_bytes(model, 2) == 2 * 48 * (48 + 1) * 4


@pytest.mark.parametrize("family", SEPARATE + FUSED)
def test_a_view_copies_no_parameter(family):
    model = fastest(family)
    view = share_attention(model, PLAN)
    storages = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    assert {parameter.untyped_storage().data_ptr() for parameter in view.parameters()} <= storages
    names = dict(model.named_parameters())
    for name, parameter in view.named_parameters():
        assert parameter.untyped_storage().data_ptr() == names[name].untyped_storage().data_ptr()


@pytest.mark.parametrize("family", ["phi3", "gpt2", "gpt_neox", "falcon", "bloom"])
def test_training_a_view_of_a_fused_family_changes_the_values_of_the_original(family):
    model = fastest(family)
    view = share_attention(model, PLAN).train()
    dense = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.AdamW(view.parameters(), lr=0.01, weight_decay=0.1)
    view(tokens(), labels=tokens()).loss.backward()
    optimizer.step()
    fused = [name for name in dense if ".5." in name and any(part in name for part in ("qkv", "c_attn", "query_key"))]
    assert fused
    for name in fused:
        now = dict(model.named_parameters())[name]
        rows = (now != dense[name]).flatten(1).any(1) if family != "gpt2" and now.ndim == 2 else (now != dense[name])
        rows = rows.any(0) if rows.ndim == 2 else rows
        assert 0 < rows.sum() <= len(rows) // 3  # the others belong to queries and keys that no layer uses


def test_a_plan_that_does_not_fit_the_folder_is_refused(tmp_path, load):
    fastest("phi3").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for fields, sentence in (
        ({"sharing_plan": "1-9"}, "out of range"),
        ({"sharing_plan": "1-2", "sharing_head_map": {"2": [9, 9, 9, 9]}}, "must list one leader head"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | fields))
        with pytest.raises(ValueError, match=sentence):
            load(tmp_path)
