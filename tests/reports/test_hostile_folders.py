"""Reports on model folders that take a server down: each is loaded rightly or refused in one sentence, soon and small."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
)

import core
from core.admission import Limits, check_folder
from core.admission.configs import check_config
from core.admission.files import Folder
from core.models import BUNDLED, load_model
from tests.support import hostile

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="bounds of memory and pipes as Linux has them")
SECONDS, MEGABYTES = 15, 400
ALL = {f"{group}: {name}": case for group, cases in hostile.CASES.items() for name, case in cases.items()}


class Outcome(NamedTuple):
    """What a process of its own made of a folder."""

    words: str
    seconds: float
    megabytes: int


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    return hostile.sound(tmp_path_factory.mktemp("models") / "sound")


def made(sound: Path, number: int, make: hostile.Make) -> Path:
    folder = sound.with_name(f"case{number:03}")
    shutil.copytree(sound, folder)
    make(folder)
    return folder


def in_cache(home: Path, hub_id: str, folder: Path) -> Path:
    """A snapshot of a hub model as the hub's client keeps it: links to blobs."""
    store = home / "hub" / f"models--{hub_id.replace('/', '--')}"
    snapshot = store / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    for place in (snapshot, store / "blobs", store / "refs"):
        place.mkdir(parents=True)
    (store / "refs" / "main").write_text(snapshot.name)
    for number, file in enumerate(sorted(folder.iterdir())):
        shutil.copy(file, store / "blobs" / str(number))
        (snapshot / file.name).symlink_to(Path("../../blobs") / str(number))
    return snapshot


HUB = {
    "sound": (lambda _: None, hostile.LOADS),
    "deep": (hostile.config(num_hidden_layers=10**7), "num_hidden_layers = 10000000"),
    "wide": (hostile.config(intermediate_size=900_000), "more than fit in there"),
    "lying": (hostile.entry(shape=[10**12]), "takes other than 160 bytes"),
    "sharded": (hostile.sharded(), hostile.LOADS),
    "outward": (hostile.sharded(model__norm__weight="../../../x.safetensors"), "outside of it"),
    "padded": (hostile.tokenizer(padding={"pad_to_multiple_of": 10**9}), "pads every text"),
}
"""Models on the hub, of which there is a copy in the cache."""


@pytest.fixture(scope="module")
def outcomes(sound) -> dict[str, Outcome]:
    """Of every case, from one process that forks one for each."""
    folders = [made(sound, number, make) for number, (make, _) in enumerate(ALL.values())]
    for number, (name, (make, _)) in enumerate(HUB.items()):
        in_cache(sound.parent, f"someone/hub-{name}", made(sound, 900 + number, make))
    models = [str(sound), *map(str, folders), *(f"someone/hub-{name}" for name in HUB)]
    run = subprocess.run(
        [sys.executable, "-m", "tests.support.hostile_worker", *models],
        capture_output=True, text=True, timeout=600, check=False, cwd=Path(core.__file__).parents[1],
        env=os.environ | {"HF_HOME": str(sound.parent), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    found = {name: Outcome(*outcome) for name, *outcome in map(json.loads, run.stdout.splitlines())}
    assert found["sound"].words == "LOADS"
    hub = {f"hub: {name}": found[f"hub-{name}"] for name in HUB}
    return {name: found[folder.name] for name, folder in zip(ALL, folders, strict=True)} | hub


def test_there_are_many():
    assert len(ALL) >= 80


@pytest.mark.parametrize("name", [*ALL, *(f"hub: {name}" for name in HUB)])
def test_a_hostile_folder_is_loaded_rightly_or_refused(outcomes, name):
    words, seconds, megabytes = outcomes[name]
    _, expected = ALL[name] if name in ALL else HUB[name.removeprefix("hub: ")]
    if expected is hostile.LOADS:
        assert words == "LOADS"
    else:
        assert re.search(expected, words), words
    assert "\n" not in words and len(words) < 600 and "Traceback" not in words
    assert seconds < SECONDS and megabytes < MEGABYTES


STRICT = Limits(inside=True, pickles=False)


def test_in_public_mode_links_stay_in_the_model_and_pickles_out(sound, tmp_path):
    check_folder(sound, STRICT)
    check_folder(in_cache(tmp_path, "someone/sound", sound), STRICT)  # links to blobs of the same model
    linked = made(sound, 800, hostile.FILES["links to elsewhere, on one's own machine"][0])
    check_folder(linked)
    with pytest.raises(ValueError, match=r"model\.safetensors that is a link to another place"):
        check_folder(linked, STRICT)
    pickled = made(sound, 801, hostile.pickled)
    check_folder(pickled)
    with pytest.raises(ValueError, match=r"pytorch_model\.bin, a format that can hold code: save them as safetensors"):
        check_folder(pickled, STRICT)
    with pytest.raises(ValueError, match="a format that can hold code"):
        load_model(pickled, device="cpu", limits=STRICT)


def test_limits_can_be_narrowed(sound):
    """What a server of little memory sets."""
    for name, most in {
        "layers": 5,
        "width": 39,
        "vocabulary": 256,
        "heads": 3,
        "weights_bytes": 1000,
        "tensors": 9,
    }.items():
        with pytest.raises(ValueError, match=r"^The folder .*\.$"):
            check_folder(sound, Limits(**{name: most}))


@pytest.mark.parametrize("name", BUNDLED)
def test_what_the_folder_holds_is_said(name):
    weights = check_folder(BUNDLED[name], STRICT)
    assert weights is not None and weights.size > 1_000_000


def test_every_family_that_writes_text_is_admitted(tmp_path):
    """The largest of every family, as its makers configured it, and every well-known shape."""
    folder, refused = Folder(tmp_path, Limits()), {}
    configs = {
        name: _default(name) for name in {**MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, **MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES}
    }
    shapes = json.loads((Path(core.__file__).parent / "cost" / "shapes.json").read_text())
    configs |= {name: json.dumps(shape["config"]) for name, shape in shapes.items()}
    for name, config in configs.items():
        if config:
            (tmp_path / "config.json").write_text(config)
            try:
                check_config(folder)
            except ValueError as error:
                refused[name] = str(error)
    assert refused == {} and sum(map(bool, configs.values())) > 200


def _default(name: str) -> str | None:
    """config.json of a family; None of one that has no default."""
    try:
        return CONFIG_MAPPING[name]().to_json_string(use_diff=False)
    except Exception:  # noqa: BLE001 - some are made of parts that must be given, others need packages
        return None
