"""Reports about models whose configuration has several parts, that of the decoder among them."""

import re
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer

import core
from core import load_model, share_attention
from core.__main__ import main
from core.cost import ModelShape, parameter_count
from core.models import BUNDLED
from core.records.scores import load_records
from core.sharing.families import decoder_of
from tests.support.families import close, padding, tokens
from tests.support.multimodal import KINDS, config_of, make_multimodal, widest_plan
from tests.support.oracle import shared_by_oracle
from tests.support.tokenizers import letters_tokenizer


@pytest.mark.parametrize("kind", KINDS)
def test_text_alone_is_shared_rightly(kind):
    """Gemma 3 (4B and more), Mistral 3, Qwen2-VL: is attention shared rightly where the decoder is one part of several?"""
    model, eager = make_multimodal(kind), make_multimodal(kind, "eager")
    plan = widest_plan(model)
    with torch.no_grad(), shared_by_oracle(eager, plan):
        expected = eager(input_ids=tokens(), attention_mask=padding(), use_cache=False).logits
    asked = {"input_ids": tokens(), "attention_mask": padding()}
    greedy = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    for execution in ("reuse", "recompute"):
        view = share_attention(model, plan)
        with torch.no_grad():
            close(view(**asked, execution=execution).logits[:, 4:], expected[:, 4:])
        assert torch.equal(view.generate(**asked, **greedy), view.generate(**asked, **greedy, use_cache=False))


@pytest.mark.parametrize("kind", ["gemma3", "llava", "paligemma"])
@torch.no_grad()
def test_an_image_is_read_rightly_too(kind):
    """Gemma 3 (4B): followers under a mask that lets the parts of an image see each other."""
    model, eager = make_multimodal(kind), make_multimodal(kind, "eager")
    plan, ids = widest_plan(model), tokens(1, 12) % 80
    ids[:, 2:6] = 90  # the image's four parts
    asked = {"input_ids": ids, "pixel_values": torch.randn(1, 3, 28, 28, generator=torch.Generator().manual_seed(0))}
    if kind != "llava":
        asked["token_type_ids"] = (ids == 90).long()
    with shared_by_oracle(eager, plan):
        expected = eager(**asked, use_cache=False).logits
    for execution in ("reuse", "recompute"):
        close(share_attention(model, plan, execution=execution)(**asked).logits, expected)


@pytest.mark.parametrize("kind", ["gemma3", "qwen2_vl", "llava"])
def test_a_view_is_trained(kind):
    """Gemma 3 (4B): gradients of a view whose decoder is one part of several."""
    model, plan = make_multimodal(kind), widest_plan(make_multimodal(kind))
    types = {"token_type_ids": torch.zeros_like(tokens())} if kind == "gemma3" else {}
    view = share_attention(model, plan).train()
    view(input_ids=tokens(), labels=tokens(), **types).loss.backward()
    assert all(parameter.grad is not None for parameter in decoder_of(view).parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_view_comes_back(kind, tmp_path):
    """Qwen2-VL: "is no decoder language model (its type is 'qwen2_vl')"."""
    for folder, model in (("dense", make_multimodal(kind)), ("view", None)):
        model = model or share_attention(make_multimodal(kind), widest_plan(make_multimodal(kind)))
        loaded, _ = load_model(_saved(model, tmp_path / folder))
        with torch.no_grad():
            assert torch.equal(loaded(input_ids=tokens()).logits, model(input_ids=tokens()).logits)
        assert str(core.sharing.plan_of(loaded)) == str(core.sharing.plan_of(model))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "llama4"])
def test_costs_are_those_of_the_decoder(kind):
    """Savings of Gemma 3 (4B): "Costs of the model type 'gemma3' are not known"."""
    model = make_multimodal(kind)
    shape, plan = ModelShape.from_config(model.config), widest_plan(model)
    assert ModelShape.from_config(model.config.to_dict()) == shape
    assert (
        ModelShape.from_config(model.config.to_diff_dict()) == shape
    )  # as in config.json: without what is the default
    for one in (model, share_attention(model, plan)):
        modules = (decoder_of(one), one.get_output_embeddings())
        counted = {parameter for module in modules for parameter in module.parameters()}
        assert parameter_count(shape, core.sharing.plan_of(one)).total == sum(p.numel() for p in counted)


def test_what_a_published_configuration_leaves_out():
    """Savings of Gemma 3 (4B), from its config.json, which does not say how many heads there are."""
    text = {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34}
    shape = ModelShape.from_config({"model_type": "gemma3", "text_config": text | {"sliding_window": 1024}})
    assert (shape.num_heads, shape.num_kv_heads, shape.head_dim, shape.vocab_size) == (8, 4, 256, 262_208)
    assert shape.tied_embeddings and shape.sliding_windows[:6] == (1024,) * 5 + (None,)


COMMANDS = {
    "evaluate": ["evaluate", "--plan", "dense", "--plan", "3-4-6-7", "--tasks", "demo_prose", "--limit", "1"],
    "search": ["search", "--followers", "2", "--head-map", "output"],
    "sweep": ["sweep", "--longest-span", "3", "--check-naive"],
    "similarity": ["similarity", "--against-damage"],
    "head-maps": ["head-maps", "--plan", "3-4-6", "--keep-groups"],
    "measure": ["measure", "--plan", "3-4-6", "--context", "8", "--new", "2"],
}
SHORT = ["--tokens", "64", "--held-out-tokens", "64", "--chunk-tokens", "32"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_it(command, tmp_path, monkeypatch):
    """Gemma 3 (4B): 'Gemma3Config' object has no attribute 'num_hidden_layers', from every command."""
    folder = _saved(
        make_multimodal("gemma3", vocab_size=_vocabulary(), max_position_embeddings=4096), tmp_path / "model"
    )
    asked = COMMANDS[command] + ["--model", folder, "--results", str(tmp_path / "results"), "--device", "cpu"]
    if command not in ("evaluate", "measure"):
        asked += [*SHORT, "--journal", str(tmp_path / "journal")]
    assert main(asked) == 0
    if command == "evaluate":
        records, problems = load_records(tmp_path / "results")
        assert not problems and {record.plan for record in records} == {"", "3-4-6-7"}


def test_the_page_takes_it(tmp_path):
    """Gemma 3 (4B) on the page: Generate, Similarity, Suggest and Savings fail."""
    from app import searches, services
    from app.panels import model, similarity
    from app.registry import get_model

    name = _saved(make_multimodal("gemma3", vocab_size=_vocabulary()), tmp_path / "model")
    loaded = get_model(name)
    assert loaded.num_layers == 8 and loaded.num_heads == 4
    shown = model.show(loaded, "3-4-6")
    assert shown["view"] == {"model": name, "plan": "3-4-6"} and not shown["plan_error"]
    *_, last = services.generate(name, "3-4-6", "The sea", 4, 0.0, 0)
    assert last.shared.finished and last.shared.tokens == 4
    assert services.similarity(name, "The sea was calm that day.", "per_head").matrix.shape == (8, 8)
    drawn = similarity.draw(
        shown["view"], "The sea was calm that day.", "per_head", None, None, "mean of all heads", 1, None
    )
    assert [update.get("value") for update in drawn if isinstance(update, dict)][:2] == [3, 4]
    assert services.shape_of(services.LOADED, name).num_layers == 8
    meter, _ = searches.meters(loaded, "", 64)
    assert max(map(len, meter.text.chunks)) <= 16
    assert services.savings(services.shape_of(services.LOADED, name), loaded.plan("3-4-6"), 1, 64, 8, "bfloat16").size


def test_a_part_that_cannot_share_is_refused_with_one_sentence():
    """Kimi K2.5 and InstructBLIP: a decoder of another form, and one that cannot do without an image."""
    refused = {
        "kimi_k25": "no value or output projection of a known form",
        "instructblip": "needs pixel_values, qformer",
    }
    for kind, reason in refused.items():
        with torch.device("meta"):
            model = AutoModelForImageTextToText.from_config(AutoConfig.for_model(kind))
        with pytest.raises(ValueError, match=reason):
            share_attention(model, "0-1")


def test_a_folder_of_llama_4_is_its_decoder(tmp_path):
    """Llama 4: "its decoder layers were not found", for the whole model and for its decoder alone."""
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes = {"image_size": 28, "patch_size": 14, "pixel_shuffle_ratio": 0.5}
    widths = dict.fromkeys(("vision_output_dim", "projector_input_dim", "projector_output_dim"), 16)
    torch.manual_seed(0)
    text = config_of("llama4").text_config.to_dict()
    config = AutoConfig.for_model("llama4", text_config=text, vision_config=vision | sizes | widths)
    whole = AutoModelForImageTextToText.from_config(config).eval()
    loaded, _ = load_model(_saved(whole, tmp_path))
    plan = widest_plan(whole)
    with torch.no_grad():
        views = [share_attention(model, plan)(input_ids=tokens()).logits for model in (whole, loaded)]
    assert str(plan) == "0-1-2-4-5-6,3_7" and torch.equal(*views)


SIZES = "num_hidden_layers|num_attention_heads|num_key_value_heads|vocab_size|hidden_size|max_position_embeddings"


def test_sizes_are_read_in_one_place():
    """Gemma 3 (4B): wherever a size is read off `model.config`, the next model of several parts fails."""
    root = Path(core.__file__).parent.parent
    reads = re.compile(rf'config\b[^\n#]*\.({SIZES})\b|getattr\([^\n]*config[^\n]*"({SIZES})"')
    through = re.compile(r"text_config\(")
    found = [
        f"{path.relative_to(root)}: {line.strip()}"
        for folder in ("core", "app")
        for path in (root / folder).rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if reads.search(line) and not through.search(line)
    ]
    assert [line for line in found if not line.startswith("core/configs.py")] == []


def _vocabulary() -> int:
    return len(AutoTokenizer.from_pretrained(BUNDLED["demo"]))


def _saved(model, folder) -> str:
    model.save_pretrained(folder)
    letters_tokenizer(model.get_input_embeddings().num_embeddings).save_pretrained(folder)
    return str(folder)
