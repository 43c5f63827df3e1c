"""Find and load models: the bundled ones, any Hugging Face hub id, any local folder."""

import hashlib
import json
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urlparse
from urllib.request import getproxies

import torch
from accelerate import dispatch_model, infer_auto_device_map
from accelerate.utils import get_balanced_memory
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.constants import ENDPOINT
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
)
from transformers.utils import chat_template_utils, logging
from transformers.utils.hub import cached_file
from transformers.utils.peft_utils import ADAPTER_CONFIG_NAME, find_adapter_config_file

from core.admission import NO_CODE, Limits, check_beside, check_folder, check_weights
from core.admission.probe import probe
from core.admission.templates import BoundedEnvironment
from core.admission.tokenizer_files import FILES as TOKENIZER_FILES
from core.admission.weights import INDEX as WEIGHTS_INDEX
from core.admission.weights import SINGLE as WEIGHTS
from core.admission.weights import Weights
from core.configs import spelled_windows
from core.corrections import Corrections
from core.cost import known_config
from core.gguf_source import GgufFile, dequantizing, gguf_file, loading
from core.places import MODELS, folder_named
from core.plan import SharingPlan
from core.pretrained import place_of
from core.sharing.checkpoints import UNWRAPPING, admit_untied, check_complete, check_unwrapping, is_wrapped
from core.sharing.families import attention_modules, check_windows
from core.sharing.storage import stored_tensors
from core.sharing.view import as_ordinary, shared_class
from core.tokens import check_tokenizer, embedding_rows

# Whoever renders the template of a tokenizer, lm-eval too, does it within bounds.
vars(chat_template_utils)["ImmutableSandboxedEnvironment"] = BoundedEnvironment

BUNDLED: dict[str, Path] = {name: MODELS / name for name in ("demo", "demo-tuned-17-22")}
"""The models that come with the project, by name."""

PRESETS: tuple[str, ...] = (
    "HuggingFaceTB/SmolLM2-135M-Instruct",
    "HuggingFaceTB/SmolLM2-135M",
    "HuggingFaceTB/SmolLM2-1.7B",
    "Qwen/Qwen3-0.6B",
    "Qwen/Qwen2.5-0.5B",
    "Qwen/Qwen2.5-Coder-0.5B-Instruct",
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
    "meta-llama/Llama-3.2-1B",
    "mistralai/Mistral-7B-v0.1",
)
"""Hub models worth a try; the first ones need little memory."""

_P = ParamSpec("_P")
_R = TypeVar("_R")
_building = threading.RLock()
"""transformers changes itself while it builds or loads a model (its default dtype, how weights are made and tied), and what
two threads change at once stays changed: weights of the bundled model were then said to be missing. One at a time."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_HUB_ID_LETTERS = 96  # at most, by the hub's own rule


def _one_at_a_time(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """The function, run by one thread after the other."""

    @wraps(function)
    def alone(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with _building:
            return function(*args, **kwargs)

    return alone


@_one_at_a_time
def load_model(
    name_or_path: str | Path | None = None,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    limits: Limits | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a decoder and its tokenizer: (model in eval mode, tokenizer).

    name_or_path: a bundled model's name (default: `demo`), the name of one that was fetched (`core.pretrained`), a hub
        id, a local folder, or a GGUF file: its path, a folder that holds nothing else, or `hub-id:file.gguf`. A folder
        saved from a view (its config has `sharing_plan`) comes back as that view. Weights of GGUF files are dequantized.
    dtype: torch dtype or its name; default float32 on a CPU, else as the weights are stored (quantized: bfloat16).
    device: torch device; default the first GPU when there is one, else the CPU.
    limits: how large a model may be, and what its folder may hold (`core.admission`); by default far beyond real ones.

    Raises ValueError, in one sentence, for a model that does not exist, cannot be reached, is no decoder, is of a family
    that attention sharing does not support, or is not admitted. Code from a model repository is never run.
    """
    limits = limits or Limits()
    name = place_of(str(name_or_path or "demo").strip())
    device = _device(device)
    dtype = _dtype(dtype, device)
    if (file := gguf_file(name, partial(_hub_file, name), limits)) is not None:
        return _from_gguf(file, file.dtype if dtype == "auto" else dtype, device)
    source = _source(name)
    fetch = {"local_files_only": not (Path(source).is_dir() or hub_is_reachable())}
    _refuse_adapter(source, fetch)
    folder = _folder_of(source, fetch)
    weights = check_folder(folder, limits)
    config = _explained(source, "", _config, source, **fetch)
    model_class, elements = _class_of(source, config)
    own = {"config": config} if config.model_type in _SPELLED_PATTERNS else {}
    tokenizer = _explained(
        source, "the tokenizer of ", AutoTokenizer.from_pretrained, source, **NO_CODE, **fetch, **own
    )
    probe(tokenizer, source)
    if not Path(source).is_dir():
        _fetch_weights(source, folder, fetch)
        weights = check_weights(folder, limits)
    packed = bool(getattr(config, "quantization_config", None))
    _check_amount(source, elements, weights, packed)
    pickles = {} if limits.pickles else {"use_safetensors": True}
    model: Any = _weights(source, model_class, dtype, fetch | own | pickles)
    check_tokenizer(tokenizer, embedding_rows(model))
    model = as_ordinary(model.to(device).eval())
    _try_out(source, model)
    return model, tokenizer


def _hub_file(name: str, hub_id: str, file: str) -> str:
    """The local copy of a file on the hub; `name` is what the user called it."""
    return _explained(name, "", hf_hub_download, hub_id, file, local_files_only=not hub_is_reachable())


def _from_gguf(
    file: GgufFile, dtype: torch.dtype | str, device: torch.device
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model and the tokenizer in a GGUF file, dequantized, as an ordinary folder would give them."""
    source, folder, what = str(file.path), file.folder, file.arguments
    _refuse_adapter(folder, {})
    check_beside(file.path, file.limits)
    with loading(file), _quiet():
        config = _explained(source, "", AutoConfig.from_pretrained, folder, **NO_CODE, **what)
        model_class, elements = _class_of(source, config)
        _check_amount(source, elements, Weights(0, file.path.stat().st_size), packed=True)
        tokenizer = _explained(source, "the tokenizer of ", AutoTokenizer.from_pretrained, folder, **NO_CODE, **what)
        probe(tokenizer, source)
        what |= {"config": config, "dtype": dtype} | dequantizing()
        model = _explained(source, "the weights of ", model_class.from_pretrained, folder, **NO_CODE, **what)
    file.finish(model, tokenizer)
    model = model.to(device).eval()
    _try_out(source, model)
    return model, tokenizer


def _weights(
    source: str, model_class: type[PreTrainedModel], dtype: torch.dtype | str, fetch: dict[str, Any]
) -> PreTrainedModel:
    """The model with its weights, every one of them from the files. Raises ValueError where they do not fit."""
    options = {"dtype": dtype, "output_loading_info": True, "ignore_mismatched_sizes": True} | fetch
    load = partial(_explained, source, "the weights of ", model_class.from_pretrained, source, **NO_CODE, **options)
    with _quiet():
        model, report = load()
        if is_wrapped(report):
            check_unwrapping(model, report, source)
            model, report = load(key_mapping=UNWRAPPING)
    check_complete(model, report, source)
    admit_untied(model)
    return model


@torch.inference_mode()
def _try_out(source: str, model: PreTrainedModel) -> None:
    """Raises ValueError for a model that two tokens do not go through: sizes that its files agree on need not fit."""
    if getattr(model.config, "quantization_config", None):
        return  # its first call packs weights anew, and their hash is taken before
    tokens = torch.zeros(1, 2, dtype=torch.long, device=model.device)
    logits = _explained(source, "what it takes to run ", model, input_ids=tokens, use_cache=False).logits
    if logits.isnan().any():
        raise ValueError(
            f"{source} computes no numbers in {str(model.dtype).removeprefix('torch.')}: check its config.json, or give a "
            "dtype of wider range such as float32."
        )


@_one_at_a_time
def random_model(
    shape_name: str,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    seed: int = 0,
) -> tuple[str, PreTrainedModel]:
    """A model of a well-known size (`core.cost.known_shapes`) with random weights: (name, model in eval mode).

    For timing, which does not depend on what the weights are; its words mean nothing. dtype: default float32 on a CPU,
    else bfloat16. device: several, such as `cuda:0,cuda:1`, take layers in turn. Raises ValueError for a shape or dtype
    that is not known.
    """
    name, fields = known_config(shape_name)
    devices = [
        torch.device(part) for part in str(device or ("cuda" if torch.cuda.is_available() else "cpu")).split(",")
    ]
    dtype = _dtype(dtype or ("float32" if devices[0].type == "cpu" else "bfloat16"), devices[0])
    config = AutoConfig.for_model(**fields)
    torch.manual_seed(seed)
    with devices[0] if len(devices) == 1 else torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, **NO_CODE)
    return f"{name}-random", (model if len(devices) == 1 else _spread(model, devices)).eval()


@torch.no_grad()
def _spread(model: PreTrainedModel, devices: list[torch.device]) -> PreTrainedModel:
    """A model without storage gets random weights, its blocks one after the other on the devices."""
    free = {index: torch.cuda.mem_get_info(device)[0] for index, device in enumerate(devices)}
    whole = list(model._no_split_modules or ())
    balanced = get_balanced_memory(model, free, no_split_module_classes=whole)
    placed = infer_auto_device_map(model, balanced, no_split_module_classes=whole)
    for part, index in placed.items():
        model.get_submodule(part).to_empty(device=devices[index])
    for parameter in model.parameters():
        parameter.normal_(std=0.02)
    for module in model.modules():
        if "Rotary" in type(module).__name__:
            model._init_weights(module)  # its frequencies are no parameters
    return dispatch_model(model, placed, main_device=0, skip_keys=model._skip_keys_device_placement)


def weights_sha256(model: torch.nn.Module, dtype: torch.dtype | None = None) -> str:
    """SHA-256 over the names, shapes and bytes of a model's weights, in the order of their names (hexadecimal).

    Of quantized weights: over what they are made of, as they are run on this device. dtype: of the same weights in this number
    format, one after the other, so that what was measured in it is known to be of this model; integers stay as they are.
    """
    digest = hashlib.sha256()
    for name, tensor in stored_tensors(model):
        if dtype is not None and tensor.is_floating_point():
            tensor = tensor.to(dtype)
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _source(name: str) -> str:
    """The folder or hub id behind what a user typed."""
    if name in BUNDLED:
        return str(BUNDLED[name])
    if folder := folder_named(name):
        if not any(os.path.lexists(folder / file) for file in ("config.json", ADAPTER_CONFIG_NAME)):
            raise ValueError(
                f"The folder {name} holds no model: it has no config.json. Give a Hugging Face model folder."
            )
        return str(folder)
    if not _HUB_ID.fullmatch(name) or len(name) > _HUB_ID_LETTERS:
        shown = name if len(name) <= _HUB_ID_LETTERS else f"{name[:40]}…{name[-20:]}"
        raise ValueError(
            f"There is no folder {shown!r}, and it is no hub id such as Qwen/Qwen3-0.6B. Bundled: {', '.join(BUNDLED)}."
        )
    return name


def hub_is_reachable() -> bool:
    """Whether the hub answers at all; the hub's own client would retry for half a minute before it says no."""
    hub = urlparse(ENDPOINT)
    if getproxies():
        return True  # only the client knows how to go through a proxy
    try:
        socket.create_connection((hub.hostname, hub.port or 443), timeout=5).close()
    except OSError:
        return False
    return True


def _device(device: torch.device | str | None) -> torch.device:
    default = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device or default)
    except (AssertionError, RuntimeError) as error:  # the first: torch was built without CUDA
        raise ValueError(f"The device {str(device)!r} cannot be used here: use {default}, or leave it out.") from error
    return torch.device(device or default)


def _dtype(dtype: torch.dtype | str | None, device: torch.device) -> torch.dtype | str:
    if isinstance(dtype, str) and dtype != "auto":
        resolved = getattr(torch, dtype, None)
        if not isinstance(resolved, torch.dtype) or not resolved.is_floating_point:
            raise ValueError(f"There is no dtype {dtype!r}: use float32, bfloat16, float16 or auto.")
        return resolved
    return dtype or (torch.float32 if device.type == "cpu" else "auto")


def _refuse_adapter(source: str, fetch: dict[str, bool]) -> None:
    """Raises ValueError for an adapter: transformers would load the base model that it names, and report on neither."""
    if _explained(source, "", find_adapter_config_file, source, **fetch):
        raise ValueError(
            f"{source} holds a PEFT adapter, which is no model of its own: merge it into its base model with "
            "merge_and_unload(), save that with save_pretrained(), and give its folder."
        )


def _folder_of(source: str, fetch: dict[str, bool]) -> Path:
    """The folder to be looked at: of a hub id its snapshot in the cache, with the small files that are there."""
    if Path(source).is_dir():
        return Path(source)
    config = _explained(source, "", cached_file, source, "config.json", **fetch)
    optional = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    for name in (*TOKENIZER_FILES, "generation_config.json", "chat_template.jinja", WEIGHTS_INDEX):
        _explained(source, "", cached_file, source, name, **optional, **fetch)
    return Path(config).parent


def _fetch_weights(source: str, folder: Path, fetch: dict[str, bool]) -> None:
    """Bring safetensors files of a hub id into its snapshot, so that their headers are read before they are believed."""
    names = [WEIGHTS]
    if (folder / WEIGHTS_INDEX).exists():
        names = sorted(set(json.loads((folder / WEIGHTS_INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
    snapshot = partial(snapshot_download, source, revision=folder.name, allow_patterns=names, **fetch)
    with _quiet():
        _explained(source, "the weights of ", snapshot)


_SPARE_ELEMENTS = 10_000_000
"""What a small configuration may ask for beyond its files; the loaded model is told apart tensor by tensor."""

_SPELLED_PATTERNS = frozenset({"exaone4", "exaone_moe"})
"""Types whose configuration may spell its kinds of layers, `LLLG`; transformers reads numbers only."""


def _config(source: str, **fetch: Any) -> PreTrainedConfig:
    """The configuration, with its pattern of windows read where it is spelled."""
    fields, _ = PreTrainedConfig.get_config_dict(source, **NO_CODE, **fetch)
    pattern = fields.get("sliding_window_pattern")
    if fields.get("model_type") not in _SPELLED_PATTERNS or fields.get("layer_types") or not isinstance(pattern, str):
        return AutoConfig.from_pretrained(source, **NO_CODE, **fetch)
    slides = spelled_windows(pattern, fields.get("num_hidden_layers", 32))
    has_window = fields.get("sliding_window", True) is not None
    kinds = ["sliding_attention" if sliding and has_window else "full_attention" for sliding in slides]
    return AutoConfig.for_model(**fields | {"layer_types": kinds, "name_or_path": source})


def _class_of(source: str, config: PreTrainedConfig) -> tuple[type[PreTrainedModel], int]:
    """What to load: the model's class, or for a saved view one without followers' queries and keys; and its parameters.

    ValueError when the model is no decoder, is of another family, or its plan does not fit.
    """
    kind = config.model_type
    encoder = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False)
    writes_text = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or kind in MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES
    if config.is_encoder_decoder or encoder or not writes_text:
        raise ValueError(
            f"{source} is no decoder language model (its type is {kind!r}): attention sharing needs a model that "
            "generates text token by token, such as Llama or Qwen."
        )
    # A model that reads images or sound too is loaded whole: given text alone it is a decoder like any other.
    auto_class = AutoModelForCausalLM if kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES else AutoModelForMultimodalLM
    with torch.device("meta"):  # the architecture alone, before any weights are fetched
        skeleton = _explained(source, "the architecture of ", auto_class.from_config, config, **NO_CODE)
        plan = SharingPlan.parse(getattr(config, "sharing_plan", ""), len(attention_modules(skeleton)))
        check_windows(skeleton)
        if not plan:
            return type(skeleton), _elements(skeleton)
        head_map = getattr(config, "sharing_head_map", None) or {}
        heads = {int(layer): tuple(row) for layer, row in head_map.items()}
        model_class = shared_class(type(skeleton), plan, heads, Corrections.of_config(config))
        shared = model_class(config)  # whether plan and head map fit
    return model_class, _elements(shared)


def _elements(skeleton: PreTrainedModel) -> int:
    """Numbers that a model holds, tied ones once, its tables included."""
    skeleton.tie_weights()
    return sum(
        tensor.numel() for tensor in {id(one): one for one in [*skeleton.parameters(), *skeleton.buffers()]}.values()
    )


def _check_amount(source: str, elements: int, weights: Weights | None, packed: bool) -> None:
    """Raises ValueError where a configuration asks for far more numbers than the files can hold: all would be made up."""
    if weights is None:
        return
    if elements > (8 if packed else 1) * weights.size + _SPARE_ELEMENTS:
        raise ValueError(
            f"The weights of {source} are {weights.size / 1e6:,.1f} MB, and its configuration asks for {elements:,} numbers, "
            "more than fit in there: give the complete model, with the configuration that belongs to it."
        )


def _explained(source: str, part: str, load: Callable, *args, **kwargs) -> Any:
    try:
        return load(*args, **kwargs)
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # nearly anything, a panic in Rust too: what a user needs is one sentence
        raise ValueError(_sentence(source, part, error)) from error


def _sentence(source: str, part: str, error: BaseException) -> str:
    chain = []
    cause: BaseException | None = error
    while cause is not None:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip(".: ")
    if any("trust_remote_code" in str(cause) for cause in chain):
        return (
            f"{source} needs code of its own to be loaded, and code of a model is never run here: give a model of a type "
            "that transformers itself knows."
        )
    if isinstance(error, KeyError):
        first_line = f"an entry {first_line} is missing"
    if "automatic conversion of the weights" in first_line or "_kernel_" in first_line:  # a quantized one to be random
        first_line = (
            "tensors that belong together, such as those of one expert or a quantized weight, are not all there"
        )
    if Path(source).exists():
        if part != "the weights of ":
            return f"Could not load {part}{source}: {first_line}"
        return f"Could not load {part}{source} ({first_line}): copy or download its files again if they are damaged."
    if any(isinstance(cause, GatedRepoError) for cause in chain):
        return (
            f"{source} is gated: accept its licence on huggingface.co and log in with `hf auth login`, then try again."
        )
    if any(isinstance(cause, RepositoryNotFoundError) for cause in chain):
        return f"There is no model {source} on the Hugging Face hub (or it is private): check the spelling."
    unreachable = (LocalEntryNotFoundError, ConnectionError, HfHubHTTPError)
    if any(isinstance(cause, unreachable) or "offline" in str(cause).lower() for cause in chain):
        return (
            f"Could not fetch {part}{source}: the Hugging Face hub cannot be reached and no local copy exists. "
            f"Connect to the network, give a local folder, or use a bundled model ({', '.join(BUNDLED)})."
        )
    return f"Could not load {part}{source}: {first_line}"


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars, and no report on the followers' query and key weights, which are missing on purpose."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
