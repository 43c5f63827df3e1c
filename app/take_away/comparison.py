"""Everything that the page knows about its model and plan, gathered once, in plain data and tables of numbers."""

import json
from dataclasses import dataclass, field
from datetime import datetime, timezone

import pandas as pd

from app import comparing, searches, services, settings, text
from app.measured import timings
from app.registry import LoadedModel, View, get_model
from core.cost import DEVICES, ModelShape, bytes_of, largest_batch, predict_decode, stored_bytes
from core.plan import HeadMap, SharingPlan
from core.records.provenance import git_commit
from core.records.searches import PlanDamage
from core.records.timings import TimingRecord, timings_frame
from core.timing.predicted import with_measured_bandwidth


@dataclass(frozen=True)
class Sizes:
    """For which sizes savings are predicted: as the view *Savings* has them."""

    batch: int = 1
    context: int = 1024
    prompt: int = 512
    dtype: str = "bfloat16"
    execution: str = "recompute"


@dataclass(frozen=True)
class Hardware:
    """On what, and for which sizes, speed is predicted: as the view *Speed* has it."""

    device: str = "NVIDIA H200"
    devices: int = 1
    batch: int = 16
    context: int = 8192
    dtype: str = "bfloat16"
    bandwidth: str = "measured"


@dataclass(frozen=True)
class Texts:
    """What both models wrote, as the page shows it: titles of the panes, prompt and continuation, and the verdict."""

    dense_title: str
    dense: str
    shared_title: str
    shared: str
    verdict: str = ""


@dataclass(frozen=True)
class Comparison:
    """One model with one plan. Tables are empty, and `damage` None, where nothing is known.

    savings, over_context: `core.cost.savings_frame` at the chosen context, and over all. speed: quantity, unit, dense,
    shared, predicted. timed: `core.records.timings.timings_frame`. scores: `app.comparing.scores`. commands: what made the
    measurements, each once. missing: why there are no predictions, in a sentence.
    """

    model: str
    plan: SharingPlan
    head_map: HeadMap
    tuned: bool
    url: str
    sizes: Sizes
    hardware: Hardware
    savings: pd.DataFrame
    over_context: pd.DataFrame
    speed: pd.DataFrame
    timed: pd.DataFrame
    scores: pd.DataFrame
    scores_note: str = ""
    damage: PlanDamage | None = None
    damage_about: str = ""
    texts: Texts | None = None
    commands: tuple[str, ...] = ()
    missing: str = ""
    version: str = settings.VERSION
    commit: str | None = field(default_factory=git_commit)
    date: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    @property
    def plan_words(self) -> str:
        """The plan as titles name it."""
        return self.plan.name + (text.HEAD_MAPPED if self.head_map else "")


SPEED_COLUMNS = ("quantity", "unit", "dense", "shared")


def gather(
    view: View,
    url: str = "",
    sizes: Sizes = Sizes(),
    hardware: Hardware = Hardware(),
    texts: Texts | None = None,
) -> Comparison:
    """The comparison that a view is about. Raises ValueError for a bad model, plan or head map, and for bad numbers."""
    model = get_model(view["model"])
    plan = model.plan(view["plan"])
    head_map = model.head_map(plan, view.get("heads", ""))
    nothing = pd.DataFrame()
    over_context, speed, missing = nothing, pd.DataFrame(columns=list(SPEED_COLUMNS)), ""
    try:
        shape = services.shape_of(services.LOADED, model.name)
    except ValueError as problem:
        missing = str(problem)
    else:
        over_context = services.savings(
            shape, plan, sizes.batch, sizes.context, sizes.prompt, sizes.dtype, sizes.execution
        )
        speed = _speed(shape, plan, hardware)
    savings = over_context[over_context.context == sizes.context] if len(over_context) else over_context
    timed = _timings_of(model, plan, head_map)
    side, against, note = _sides(model, plan, head_map)
    scores = comparing.scores(side, against) if side and against else pd.DataFrame(columns=list(comparing.COLUMNS))
    damage, about = _damage_of(model, plan, head_map)
    measured = (*(record for one in (side, against) if one for _, record in one.places), *timed)
    return Comparison(
        model=model.identity.name, plan=plan, head_map=head_map, tuned=bool(model.tuned), url=url, sizes=sizes,
        hardware=hardware, savings=savings.reset_index(drop=True), over_context=over_context, speed=speed,
        timed=timings_frame(timed), scores=scores, scores_note=note, damage=damage, damage_about=about, texts=texts,
        commands=tuple(dict.fromkeys(record.command for record in measured)), missing=missing,
    )  # fmt: skip


def _speed(shape: ModelShape, plan: SharingPlan, asked: Hardware) -> pd.DataFrame:
    """A decode step of both models, predicted. Raises ValueError for hardware that there is none of."""
    known = dict(DEVICES) if asked.bandwidth == "data sheet" else with_measured_bandwidth(timings())
    if asked.device not in known:
        raise ValueError(f"There is no hardware {asked.device[:80]!r}: use one of {', '.join(known)}.")
    device = known[asked.device].times(asked.devices)
    columns = []
    for one in (SharingPlan((), plan.num_layers), plan):
        step = predict_decode(shape, one, device, asked.batch, asked.context, asked.dtype)
        needed = stored_bytes(shape, one, asked.batch, asked.context, bytes_of(asked.dtype)).total
        most = largest_batch(shape, one, device, asked.context, asked.dtype) if device.memory_bytes else None
        columns.append((1e3 * step.step_s, step.tokens_per_s, float(needed), most))
    units = {"step": "ms", "tokens": "tokens/s", "memory": "bytes", "batch": "texts"}
    rows = zip(units.items(), *columns, strict=True)
    return pd.DataFrame([(name, unit, dense, shared) for (name, unit), dense, shared in rows], columns=SPEED_COLUMNS)


def _timings_of(model: LoadedModel, plan: SharingPlan, head_map: HeadMap) -> list[TimingRecord]:
    """Timings of this plan, of this very model or of one of its sizes and name; none where heads are mapped."""
    if head_map or not plan:
        return []
    names = {model.identity.name, model.identity.twin, model.dense_identity.name}
    return [
        record
        for record in timings()
        if record.model in names and record.num_layers == plan.num_layers and record.plan == str(plan)
    ]


def _sides(
    model: LoadedModel, plan: SharingPlan, head_map: HeadMap
) -> tuple[comparing.Side | None, comparing.Side | None, str]:
    """The records of the plan and of the dense model, those of the model's twin where it has none of its own."""
    kind = "tuned" if model.tuned else "head-mapped" if head_map else "direct"
    for name in dict.fromkeys((model.identity.name, model.identity.twin)):
        try:
            side = comparing.side(name, str(plan), kind, head_map or None)
        except ValueError:  # no records of that name
            continue
        against = comparing.side(name, "dense")
        note = model.identity.note_on(side.places[0][1]) if side.places else ""
        return side, against, note
    return None, None, ""


def _damage_of(model: LoadedModel, plan: SharingPlan, head_map: HeadMap) -> tuple[PlanDamage | None, str]:
    """The damage of this very plan, on text that no choice has seen where there is such, and how it was measured."""
    known = searches.known(model.name)
    for found in (*known.front, *known.contiguous):
        if (found.plan, found.head_map) == (plan, head_map):
            return found.judged, known.about(found)
    for kept in reversed([] if model.fixed_plan else searches.records_of(model)):
        for point in kept.points:
            if point.split == "held-out" and (point.plan, point.head_map) == (plan, head_map):
                return point, searches.about_record(kept.record, model.identity)
    rows = known.sweep[known.sweep.plan == str(plan)] if len(known.sweep) and not head_map else known.sweep[:0]
    if rows.empty:
        return None, ""
    row = rows.iloc[0]
    damage = PlanDamage(
        plan=plan, split="calibration", damage=row.damage, stderr=row.damage_stderr, kl=row.kl, kl_stderr=row.kl_stderr,
        cache_saving=0.0, tokens=int(row.tokens),
    )  # fmt: skip
    return damage, known.sweep_about


def texts_of(told: str) -> tuple[str, Texts | None]:
    """The address and the two texts that the browser tells of, as JSON; nothing for what is not of that form."""
    try:
        found = json.loads(told[:_LONGEST_TOLD]) if told else {}
        url = str(found.get("url", ""))
        parts = {name: str(found.get(name, ""))[:_LONGEST_PART] for name in Texts.__dataclass_fields__}
    except (ValueError, AttributeError, RecursionError):
        return "", None
    address = url if url.startswith(("http://", "https://")) and len(url) <= _LONGEST_PART else ""
    return address, Texts(**parts) if parts["dense"].strip() and parts["shared"].strip() else None


_LONGEST_TOLD, _LONGEST_PART = 400_000, 60_000
