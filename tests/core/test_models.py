"""Loading: the bundled models, local folders, and one sentence for everything that cannot be loaded."""

import json
import shutil
from threading import Barrier, Thread

import pytest
import torch
from transformers import AutoModelForCausalLM, BertConfig, MambaConfig, T5Config

from core import load_model
from core.models import BUNDLED, weights_sha256
from core.sharing.view import plan_of


def sentence(name) -> str:
    with pytest.raises(ValueError) as caught:
        load_model(name)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    return message


def test_the_demo_model_is_the_default():
    model, tokenizer = load_model(device="cpu")
    assert plan_of(model).name == "dense" and model.dtype == torch.float32 and not model.training
    assert sum(parameter.numel() for parameter in model.parameters()) == 10_527_936
    assert tokenizer("37").input_ids == [0, *tokenizer.convert_tokens_to_ids(["3", "7"])]


def test_the_tuned_model_comes_with_its_plan():
    model, _ = load_model("demo-tuned-17-22", dtype="bfloat16", device="cpu")
    assert plan_of(model).name == "17-22" and model.dtype == torch.bfloat16
    assert not any(".18.self_attn.q_proj" in name for name in model.state_dict())


def test_the_demo_model_is_an_ordinary_folder():
    plain = AutoModelForCausalLM.from_pretrained(BUNDLED["demo"], dtype=torch.float32)
    model, _ = load_model(str(BUNDLED["demo"]), device="cpu")
    assert weights_sha256(plain) == weights_sha256(model)
    assert all(path.stat().st_size <= 9_000_000 for folder in BUNDLED.values() for path in folder.iterdir())


def test_the_hash_is_of_the_weights():
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 3)
    before = weights_sha256(model)
    assert before == weights_sha256(model)
    with torch.no_grad():
        model.bias[1] += 1
    assert before != weights_sha256(model)


def test_names_that_lead_nowhere(tmp_path):
    assert "hub cannot be reached" in sentence("no-such/model")
    assert "no folder '/no/such/folder'" in sentence("/no/such/folder")
    assert "no hub id such as" in sentence("what? a model!")
    assert "holds no model: it has no config.json" in sentence(tmp_path)


def test_folders_that_hold_something_else(tmp_path):
    (tmp_path / "config.json").write_text("{")
    assert sentence(tmp_path).startswith(f"The folder {tmp_path} has a config.json that is no proper JSON")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no-such-family"}))
    assert "no-such-family" in sentence(tmp_path)
    for config in (BertConfig(), T5Config()):
        config.save_pretrained(tmp_path)
        assert f"is no decoder language model (its type is '{config.model_type}')" in sentence(tmp_path)
    MambaConfig(num_hidden_layers=2).save_pretrained(tmp_path)
    assert "'mamba' are not supported yet: a decoder layer without an attention module" in sentence(tmp_path)


def test_a_folder_without_weights_or_tokenizer(tmp_path):
    shutil.copy(BUNDLED["demo"] / "config.json", tmp_path)
    assert "Could not load the tokenizer of" in sentence(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED["demo"] / name, tmp_path)
    assert "Could not load the weights of" in sentence(tmp_path)


def test_unknown_dtypes_are_refused():
    with pytest.raises(ValueError, match="no dtype 'int3': use float32, bfloat16, float16 or auto"):
        load_model(dtype="int3")


@pytest.mark.parametrize("device", ["banana", "cuda:99"])
def test_a_device_that_is_not_there_is_one_sentence(device):
    with pytest.raises(ValueError, match=f"The device '{device}' cannot be used here: use "):
        load_model("demo", device=device)


def test_models_are_loaded_by_several_threads_at_once():
    """What transformers changes in itself while it loads, two threads that load at once would change for good."""
    start, problems = Barrier(2), []

    def load():
        start.wait()
        try:
            load_model("demo")
        except ValueError as problem:
            problems.append(problem)

    threads = [Thread(target=load) for _ in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not problems
    again, _ = load_model("demo")
    assert again.get_output_embeddings().weight is again.get_input_embeddings().weight
