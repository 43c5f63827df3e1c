"""The models in memory: loaded once, used by all visitors, the least recently used one dropped first."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any

from app import links, settings, text
from app.compute import compute
from core.configs import text_config
from core.evaluation.resolve import BUNDLED_TWINS
from core.plan import SharingPlan, read_head_map
from core.records.provenance import model_name, model_place
from core.records.scores import Record
from core.records.searches import SearchRecord
from core.records.timings import TimingRecord

if TYPE_CHECKING:  # the page is there before torch is
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

View = dict[str, str]
"""What the whole page is about: `model`, `plan`, and `heads` where the plan has a head map (JSON; `app.links` reads its short form too)."""


class LRUCache:
    """A bounded cache for several threads: equal keys are made once, and different keys do not wait for each other."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._items: OrderedDict[Hashable, Any] = OrderedDict()
        self._making: dict[Hashable, _Turns] = {}  # of keys that somebody asks for right now
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The item of `key`, made by `make()` when it is not there; what `make` raises is raised and not kept."""
        with self._turn(key):
            with self._lock:
                if key in self._items:
                    self._items.move_to_end(key)
                    return self._items[key]
            item = make()
            with self._lock:
                self._items[key] = item
                while len(self._items) > self.capacity:
                    self._items.popitem(last=False)
        return item

    def drop(self, unwanted: Callable[[Any], bool]) -> None:
        """Forget the items whose keys are not wanted any more."""
        with self._lock:
            for key in [key for key in self._items if unwanted(key)]:
                del self._items[key]

    @contextmanager
    def _turn(self, key: Hashable) -> Iterator[None]:
        """One thread at a time for each key; the lock is gone with the last who waits for it."""
        with self._lock:
            turns = self._making.setdefault(key, _Turns())
            turns.threads += 1
        try:
            with turns.lock:
                yield
        finally:
            with self._lock:
                turns.threads -= 1
                if not turns.threads:
                    del self._making[key]


@dataclass
class _Turns:
    """Threads that have or wait for one key of a cache."""

    lock: Lock = field(default_factory=Lock)
    threads: int = 0


@dataclass(frozen=True)
class ModelIdentity:
    """How records know a model: by the name that they give to it, and by the hash of its weights."""

    name: str
    _model: "PreTrainedModel" = field(repr=False, compare=False)

    @cached_property
    def weights_sha256(self) -> str:
        """SHA-256 of the weights, made when it is first asked for: of a large model it takes a while."""
        from core.models import weights_sha256

        return weights_sha256(self._model)

    def is_of(self, record: Record | SearchRecord) -> bool:
        """Whether a record was measured with this very model."""
        return record.model == self.name and record.weights_sha256 == self.weights_sha256

    @property
    def twin(self) -> str:
        """What records call a model of the same sizes whose weights may be others: a hub id without its owner."""
        return self.name.rpartition("/")[2]

    def note_on(self, record: Record | SearchRecord | TimingRecord) -> str:
        """What has to be said of a record that is shown for this model but was measured on its twin."""
        if record.model == self.name:
            return ""
        if record.quantization:
            return text.TWIN_QUANTIZED.format(file=record.quantization.removeprefix("GGUF "), model=record.model)
        return text.TWIN_RANDOM if getattr(record, "weights", "") == "random" else text.TWIN.format(model=record.model)

    def was_timed(self, record: TimingRecord) -> bool:
        """Whether a timing is of this very model, or of random weights in its place, which take as long."""
        same = record.model == self.name and record.num_layers == text_config(self._model).num_hidden_layers
        return same and record.weights in ("random", self.weights_sha256)


@dataclass
class LoadedModel:
    """A dense model, what the page needs to know about it, and its shared views by plan.

    name: as it was first asked for. identity: how records know it. place: its folder as it was when it was loaded, or the
        name; what is kept of a model is kept by it, since two folders may have one name, and one folder may change.
    tuned: a model fine-tuned with `fixed_plan` in place; it has no dense version of its own and is compared with
        `model`, the dense model that it belongs to. name and identity are the tuned model's, dense_identity the other's.
    """

    name: str
    identity: ModelIdentity
    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    dense_identity: ModelIdentity
    tuned: "PreTrainedModel | None" = None
    fixed_plan: SharingPlan | None = None
    place: Hashable = None
    _views: LRUCache = field(default_factory=lambda: LRUCache(settings.VIEWS_PER_MODEL))

    @property
    def num_layers(self) -> int:
        """Layers of the dense model."""
        return text_config(self.model).num_hidden_layers

    @property
    def num_heads(self) -> int:
        """Query heads of a layer."""
        return text_config(self.model).num_attention_heads

    def plan(self, text: str) -> SharingPlan:
        """The plan that `text` means for this model: its fixed plan if it has one.

        Raises ValueError for bad text, and for a plan that shares between layers of different kinds.
        """
        if self.fixed_plan:
            return self.fixed_plan
        from core.sharing.families import check_kinds

        plan = SharingPlan.parse(text, self.num_layers)
        check_kinds(self.model, plan)
        return plan

    @cached_property
    def kinds(self) -> list[int]:
        """The kind of each layer: those of one kind may share."""
        from core.sharing.families import layer_kinds

        return layer_kinds(self.model)

    def head_map(self, plan: SharingPlan, heads: str) -> dict[int, tuple[int, ...]]:
        """The head map that the text `heads` means, in either form ({} for an empty one). Raises ValueError for a bad one."""
        if not heads:
            return {}
        if self.tuned:
            raise ValueError(text.NO_HEADS_FOR_TUNED)
        from core.sharing.view import check_head_map

        as_json = links.lengthen(heads)
        try:
            found = read_head_map(as_json)
        except ValueError as error:
            raise ValueError(text.BAD_HEADS) from error
        check_head_map(found, plan, self.num_heads)
        return found

    def shared(self, plan: SharingPlan, heads: str = "") -> "PreTrainedModel":
        """The shared model for `plan`: a view of the dense model (no second copy of weights), or the tuned model.

        heads: its head map as a link has it; empty for direct sharing.
        """
        from core import share_attention

        head_map = self.head_map(plan, heads)
        key = plan, tuple(sorted(head_map.items()))
        return self.tuned or self._views.get(key, lambda: _warmed(share_attention(self.model, plan, head_map)))


_models = LRUCache(settings.server.models_in_memory)
_configs: dict[str, "PretrainedConfig"] = {}
_twins: dict[str, str] = {}


def loaded_configs() -> dict[str, "PretrainedConfig"]:
    """The configuration of every model that was loaded since the start, by the name that records give to it."""
    return dict(_configs)


def get_model(name: str) -> LoadedModel:
    """The model of this name (bundled, fetched, hub id, local folder or GGUF file), loaded if need be.

    Raises ValueError if it cannot.
    """
    name = (name or "").strip() or settings.default_model()
    place = _place(name)
    return _models.get(place, lambda: _load(name, place))


def load_first() -> None:
    """Load the first model; on a Space, where nobody is there to click, it is fetched first where the network allows."""
    if settings.ON_A_SPACE and not settings.server.model:
        from core.fetching import fetch

        with suppress(ValueError):  # without a network the bundled demo is shown
            for _ in fetch(settings.OFFERED_MODEL):
                pass
    get_model("")


def _place(name: str) -> Hashable:
    """The folder or file with its state, so that a model saved again is another one; or the name."""
    place = model_place(name)
    if isinstance(place, str):
        return place
    try:
        files = [place] if place.is_file() else [file for file in sorted(place.iterdir()) if file.is_file()]
        states = [(file.name, file.stat()) for file in files]
    except OSError:  # loading it will say why
        return place
    return place, tuple((file, state.st_mtime_ns, state.st_size) for file, state in states)


def _load(name: str, place: Hashable) -> LoadedModel:
    from core import load_model
    from core.sharing.view import plan_of

    model, tokenizer = load_model(name)
    identity, plan = ModelIdentity(model_name(name), model), plan_of(model)
    if getattr(model.config, "quantization_config", None):
        _ = identity.weights_sha256  # now: quantized weights are packed anew by their first call
    _warmed(model)
    _configs[identity.name] = model.config
    if not plan.followers:
        return LoadedModel(name, identity, model, tokenizer, identity, place=place)
    twin = _dense_twin(name, identity)
    _twins[identity.name] = twin.identity.name
    return LoadedModel(name, identity, twin.model, tokenizer, twin.identity, tuned=model, fixed_plan=plan, place=place)


def _warmed(model: "PreTrainedModel") -> "PreTrainedModel":
    """The model after a first short call, which takes longer than all later ones and would be measured with them."""
    compute(_first_call, model)
    return model


def _first_call(model: "PreTrainedModel") -> None:
    import torch

    with torch.inference_mode():
        model(torch.zeros(1, 8, dtype=torch.long, device=model.device), use_cache=True)


def dense_twins() -> dict[str, str]:
    """Tuned model → the dense model that it was made from, by the names of their records: bundled, or loaded here."""
    return BUNDLED_TWINS | _twins


def _dense_twin(name: str, identity: ModelIdentity) -> LoadedModel:
    """The dense model that a tuned one was made from: known of the bundled ones, wherever their weights lie."""
    for tuned, dense in BUNDLED_TWINS.items():
        if model_place(name) == tuned or get_model(tuned).identity.weights_sha256 == identity.weights_sha256:
            return get_model(dense)
    raise ValueError(
        f"{name} was tuned with a sharing plan and has no dense version to compare it with: load the dense model that "
        "it was made from, and choose the plan here."
    )
