"""The models in memory: loaded once, used by all visitors, the least recently used one dropped first."""

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import anyio

from app import links, loading, settings, text
from app.allocator import give_back
from app.asked import LONGEST_NAME
from app.compute import compute
from app.visitors import visitor
from core import pretrained
from core.configs import text_config
from core.cost import ModelShape
from core.evaluation.resolve import BUNDLED_TWINS
from core.plan import MECHANISMS, Part, SharingPlan, read_head_map
from core.records.peers import PeersRecord
from core.records.provenance import model_name, model_place
from core.records.scores import Record
from core.records.searches import SearchRecord
from core.records.timings import TimingRecord
from core.records.tunings import tuned_of

if TYPE_CHECKING:  # the page is there before torch is
    import gradio as gr
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

View = dict[str, str]
"""What the whole page is about: `model`, `plan`, and `heads` where the plan has a head map (JSON; `app.links` reads its short form too)."""


MOST_FILES = 1000
"""Of a folder so many files say whether it has changed."""
REMEMBERED = 64
"""Sizes of models that were loaded, which those of their records are told by."""


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

    def __len__(self) -> int:
        return len(self._items)

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


_NUMBER_FORMATS = ("float32", "bfloat16", "float16")


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

    def is_of_in_other_numbers(self, record: SearchRecord) -> bool:
        """Whether a record was measured with this model, also where its weights were in another number format."""
        if record.model != self.name or record.dtype not in _NUMBER_FORMATS:
            return False
        return self.is_of(record) or record.weights_sha256 == self._weights_in(record.dtype)

    def _weights_in(self, dtype: str) -> str:
        import torch

        from core.models import weights_sha256

        if dtype not in self._in_other_numbers:
            self._in_other_numbers[dtype] = weights_sha256(self._model, getattr(torch, dtype))
        return self._in_other_numbers[dtype]

    @cached_property
    def _in_other_numbers(self) -> dict[str, str]:
        return {}

    @property
    def twin(self) -> str:
        """What records call a model of the same sizes whose weights may be others: a hub id without its owner."""
        return self.name.rpartition("/")[2]

    def note_on(self, record: Record | SearchRecord | TimingRecord | PeersRecord) -> str:
        """What has to be said of a record that is shown for this model but was measured on its twin."""
        if record.model == self.name:
            return ""
        if record.quantization:
            return text.TWIN_QUANTIZED.format(file=record.quantization.removeprefix("GGUF "), model=record.model)
        return text.TWIN_RANDOM if getattr(record, "weights", "") == "random" else text.TWIN.format(model=record.model)

    def was_timed(self, record: TimingRecord | PeersRecord) -> bool:
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
    meters: LRUCache = field(default_factory=lambda: LRUCache(settings.METERS_IN_MEMORY))

    @cached_property
    def num_bytes(self) -> int:
        """What the weights take; a tuned model's are beside those of its dense twin, which is counted by itself."""
        from core.sharing.storage import stored_tensors

        model = self.model if self.tuned is None else self.tuned
        return sum(tensor.numel() * tensor.element_size() for _, tensor in stored_tensors(model))

    @property
    def num_layers(self) -> int:
        """Layers of the dense model."""
        return text_config(self.model).num_hidden_layers

    @cached_property
    def native(self) -> str:
        """What the model shares by itself, as the text of a plan (`kv 18-20-21 19_24`); empty for most models."""
        from core.sharing.native import native_plan_of

        return str(native_plan_of(self.model))

    @property
    def num_heads(self) -> int:
        """Query heads of a layer."""
        return text_config(self.model).num_attention_heads

    def plan(self, text: str) -> SharingPlan:
        """The plan that `text` means for this model: its fixed plan if it has one.

        Raises ValueError for bad text, for a plan that shares between layers of different kinds, and for parts that a model
        of this family cannot do.
        """
        if self.fixed_plan:
            return self.fixed_plan
        plan = SharingPlan.parse(text, self.num_layers)
        self._check(plan)
        return plan

    def _check(self, plan: SharingPlan) -> None:
        from core.sharing.families import check_kinds
        from core.sharing.mechanisms import check_parts

        for of_phase in plan.phases:
            check_kinds(self.model, of_phase)
            check_parts(self.model, of_phase)

    @cached_property
    def cannot(self) -> dict[str, str]:
        """Mechanism → why no layers of this model can do it, in a sentence; mechanisms that it can do are left out."""
        found: dict[str, str] = {}
        pair = next(((one, other) for one in range(self.num_layers) for other in range(one + 1, self.num_layers)
                     if self.kinds[one] == self.kinds[other]), None)  # fmt: skip
        for mechanism in MECHANISMS[1:]:
            layers = (1,) if mechanism == "skip" else pair
            if layers is None or layers[-1] >= self.num_layers:
                continue
            try:
                part = Part(mechanism, layers, 1 if mechanism == "topk" else 0)
                self._check(SharingPlan(num_layers=self.num_layers, parts=(part,)))
            except ValueError as reason:
                found[mechanism] = str(reason)
        return found

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

    def beside(self, text: str) -> "PreTrainedModel":
        """What a plan is set beside: the dense model, or a view of it under another plan; of a tuned model its dense twin's.

        Raises ValueError for bad text, and for a plan that this model cannot have.
        """
        plan = SharingPlan.parse(text, self.num_layers)
        if not plan:
            return self.model
        from core import share_attention

        self._check(plan)
        return self._views.get((plan, ()), lambda: _warmed(share_attention(self.model, plan)))


class Models:
    """The models in memory, the least recently used one dropped first; the one that is shown first stays.

    They are bounded in number and in the memory that they take together (`settings.server.models_in_memory`, `models_gb`).
    What is dropped is gone as soon as nothing computes with it: whatever is made of a model is kept by the model itself.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, LoadedModel] = OrderedDict()
        self._lock = Lock()

    def find(self, place: Hashable) -> LoadedModel | None:
        """The model of this place; None where it is not in memory."""
        with self._lock:
            if (found := self._kept.get(place)) is not None:
                self._kept.move_to_end(place)
            return found

    def named(self, name: str) -> LoadedModel | None:
        """A dense model in memory that records call so; None where there is none."""
        with self._lock:
            return next((one for one in self._kept.values() if one.identity.name == name and one.tuned is None), None)

    def keep(self, model: LoadedModel) -> LoadedModel:
        """Keep a model that was loaded, and drop others where there are too many now."""
        with self._lock:
            self._kept[model.place] = model
            self._kept.move_to_end(model.place)
        self.make_room(0, model)
        return model

    def make_room(self, needed_bytes: int, kept: LoadedModel | None = None) -> None:
        """Drop models until there are not too many, and until another one of so many bytes has room beside them.

        Raises ValueError where the machine has not so much memory, whatever is dropped.
        """
        first, free, dropped = _place(settings.default_model()), loading.free_bytes(), 0
        with self._lock:
            for place in [one for one in self._kept if one != first and self._kept[one] is not kept]:
                many = len(self._kept) + bool(needed_bytes) > settings.server.models_in_memory
                large = sum(one.num_bytes for one in self._kept.values()) + needed_bytes
                if not (many or large > settings.server.models_gb * 1e9 or needed_bytes > free):
                    break
                gone = self._kept.pop(place)
                free += gone.num_bytes
                dropped += 1
                del gone
        if dropped:
            give_back()
        if needed_bytes > free:
            raise ValueError(text.NO_ROOM.format(needed=needed_bytes / 1e9, free=free / 1e9))

    def clear(self) -> None:
        """Forget all models."""
        with self._lock:
            self._kept.clear()
        give_back()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def num_bytes(self) -> int:
        """What all of them take together."""
        with self._lock:
            return sum(model.num_bytes for model in self._kept.values())


_models = Models()
_shapes: OrderedDict[str, ModelShape | None] = OrderedDict()
_twins: OrderedDict[str, str] = OrderedDict()


def loaded_shapes() -> dict[str, ModelShape | None]:
    """The sizes of the models that were loaded last, by the name that records give to them; None: not understood."""
    return dict(_shapes)


def get_model(name: str, wait: bool = True) -> LoadedModel:
    """The model of this name (bundled, fetched, hub id, local folder or GGUF file): at once if it is in memory.

    Else it is loaded (`app.loading`). Whoever calls from within the server waits for that; in an event of the page or an
    endpoint it is waited for at most `settings.server.load_wait_seconds`, or not at all. Raises ValueError, in one sentence, if the model
    may not be shown here, cannot be loaded, or is still being loaded (`app.loading.StillLoading`).
    """
    from gradio.context import LocalContext  # here: what computes without a page has no use for gradio

    name, place = _asked(name)
    request = LocalContext.request.get(None)
    return _models.find(place) or loads.get(name, place, None if request is None else visitor(request), wait)


def is_loading(name: str) -> bool:
    """Whether the model is on its way."""
    with suppress(ValueError):
        return loads.is_running(_asked(name)[1])
    return False


async def coming(name: str, request: "gr.Request | None") -> AsyncIterator["loading.Load"]:
    """The load of a model, as often as there is something new to say of it, until the model can be had or not.

    Nothing where it is in memory. Raises ValueError where it may not be shown, or too many others are loaded already.
    """
    name, place = await anyio.to_thread.run_sync(_asked, name)
    if _models.find(place) is None:
        async with aclosing(loads.coming(name, place, visitor(request))) as steps:
            async for load in steps:
                yield load


async def ready(name: str, request: "gr.Request | None") -> None:
    """Wait a while for a model that is not in memory, without a thread. Whoever then asks for it hears what is wrong."""
    with suppress(ValueError), anyio.move_on_after(settings.server.load_wait_seconds):
        async with aclosing(coming(name, request)) as loads_of_it:
            async for _ in loads_of_it:
                pass


def _asked(name: str) -> tuple[str, Hashable]:
    """The name that is meant, and its place. Raises ModelProblem for what is no name, or is not shown on this server."""
    if not isinstance(name or "", str):
        raise loading.ModelProblem(text.MODEL_NAME_BAD)
    name = (name or "").strip() or settings.default_model()
    if len(name) > LONGEST_NAME or any(char < " " or "\ud800" <= char <= "\udfff" or char == "\x7f" for char in name):
        raise loading.ModelProblem(text.MODEL_NAME_BAD)
    check_listed(name)
    return name, _place(name)


def check_listed(name: str) -> None:
    """In public mode raise ModelProblem for a model that is not listed, whether it exists or not: nothing is looked up."""
    if settings.server.public and name not in allowed_models():
        raise loading.ModelProblem(text.MODEL_NOT_LISTED.format(names=", ".join(allowed_models())))


def allowed_models() -> list[str]:
    """What a server for strangers shows: the bundled models, the fetched and the offered ones, and those in the settings."""
    from core.models import BUNDLED

    listed = [*pretrained.fetched(), settings.OFFERED_MODEL, settings.server.model, *BUNDLED, *settings.server.models]
    return list(dict.fromkeys(filter(None, listed)))


def name_in_records(name: str) -> str:
    """What records call the model that a visitor names; in public mode no folder is looked up for what is not listed."""
    name = name or settings.default_model()
    return name if settings.server.public and name not in allowed_models() else model_name(name)


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
        files = [place] if place.is_file() else list(islice(place.iterdir(), MOST_FILES))
        states = [(file.name, file.stat()) for file in sorted(files) if file.is_file()]
    except OSError:  # loading it will say why
        return place
    return place, tuple((file, state.st_mtime_ns, state.st_size) for file, state in states)


def _is_trusted(place: Hashable) -> bool:
    """Whether a model needs no trial: it came with the project, was fetched into its own folder with a checksum, or is the
    one that whoever runs the server has chosen."""
    if settings.server.model and place == _place(settings.server.model):
        return True
    if isinstance(place, str):
        from core.models import BUNDLED

        return place in BUNDLED
    folder = place[0] if isinstance(place, tuple) else place
    return folder in [model.folder.resolve() for model in pretrained.CATALOGUE.values() if model.has_file]


def _look(place: Hashable) -> None:
    """Raise ValueError for a folder whose configuration alone is not admitted: no process is started for it."""
    from core.admission.configs import check_config
    from core.admission.files import Folder
    from core.admission.limits import Limits

    folder = place[0] if isinstance(place, tuple) else place
    if isinstance(folder, Path) and (folder / "config.json").exists():
        check_config(Folder(folder, Limits(**loading.admitted())))


def _load(name: str, place: Hashable, needed_bytes: int = 0) -> LoadedModel:
    """Load a model here and keep it. needed_bytes: of its weights, where they are known."""
    from core import load_model
    from core.admission import Limits
    from core.sharing.view import plan_of

    _models.make_room(needed_bytes)
    model, tokenizer = load_model(name, limits=Limits(**loading.admitted()))
    identity, plan = ModelIdentity(model_name(name), model), plan_of(model)
    if getattr(model.config, "quantization_config", None):
        _ = identity.weights_sha256  # now: quantized weights are packed anew by their first call
    _warmed(model)
    _remember(_shapes, identity.name, _shape_of(model.config))
    if not plan:
        return _models.keep(LoadedModel(name, identity, model, tokenizer, identity, place=place))
    twin = _dense_twin(name, identity, model)
    _remember(_twins, identity.name, twin.identity.name)
    loaded = LoadedModel(
        name, identity, twin.model, tokenizer, twin.identity, tuned=model, fixed_plan=plan, place=place
    )
    return _models.keep(loaded)


def _shape_of(config: "PretrainedConfig") -> ModelShape | None:
    """The sizes of a model, as far as they are understood."""
    with suppress(ValueError):
        return ModelShape.from_config(config)
    return None


def _remember(kept: OrderedDict[str, Any], name: str, value: Any) -> None:
    """Keep it under a name, as one of the last ones."""
    kept[name] = value
    kept.move_to_end(name)
    while len(kept) > REMEMBERED:
        kept.popitem(last=False)


def _load_here(name: str) -> LoadedModel:
    """A model that another one is loaded with, in the same thread."""
    place = _place(name)
    return _models.find(place) or _load(name, place)


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


def _dense_twin(name: str, identity: ModelIdentity, model: "PreTrainedModel") -> LoadedModel:
    """The dense model that a tuned one was made from: known of the bundled ones, wherever their weights lie, and of those
    that say so, where the model that they name is at hand: nothing is fetched for what a folder says."""
    for tuned, dense in BUNDLED_TWINS.items():
        if model_place(name) == tuned or _load_here(tuned).identity.weights_sha256 == identity.weights_sha256:
            return _load_here(dense)
    if about := tuned_of(model.config):
        twin = _at_hand(about.of)
        if twin is None or twin.num_layers != text_config(model).num_hidden_layers:
            raise ValueError(text.TUNE_UNKNOWN_DENSE.format(name=name, dense=about.of[:80]))
        return twin
    raise ValueError(
        f"{name} was tuned with a sharing plan and has no dense version to compare it with: load the dense model that "
        "it was made from, and choose the plan here."
    )


def _at_hand(name: str) -> LoadedModel | None:
    """The dense model that records call so, if it is in memory, bundled or fetched."""
    from core.models import BUNDLED

    if name in (*BUNDLED, *pretrained.fetched()):
        found = _load_here(name)
        return found if found.tuned is None else None
    return _models.named(name)


loads = loading.Loads(
    lambda place: _models.find(place), lambda *asked: _load(*asked), _is_trusted, loading.Trials(), _look
)
"""What is being loaded right now."""
