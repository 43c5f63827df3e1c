"""What is known about where sharing is cheap in a model: from stored records, or measured here on a text."""

from dataclasses import dataclass, field, replace

import pandas as pd

from app import settings, text
from app.registry import LoadedModel, LRUCache, get_model
from core.records.searches import SearchRecord, StoredSearch, load_searches

_meters = LRUCache(settings.METERS_IN_MEMORY)


@dataclass(frozen=True)
class Known:
    """Damages of spans, fronts of a search and pairs of layers of one model, each with a sentence on its source.

    sweep: `core.damage.spans.sweep_frame`. front, contiguous: `core.damage.search.Found` by size. pairs: `core.damage.guide.guide_frame`.
    improved: of front plans from other searches than that of `front_about`, by plan name, the sentence on theirs.
    """

    model: str
    num_layers: int
    sweep: pd.DataFrame
    sweep_about: str = ""
    front: tuple = ()
    contiguous: tuple = ()
    front_about: str = ""
    improved: dict[str, str] = field(default_factory=dict)
    pairs: pd.DataFrame = field(default_factory=pd.DataFrame)
    correlations: tuple = ()
    pairs_about: str = ""

    def about(self, found) -> str:
        """Where a plan of the front is from."""
        return self.improved.get(found.plan.name, self.front_about)


def meters(model: LoadedModel, own_text: str, tokens: int) -> tuple:
    """(calibration, held-out) `DamageMeter`s of the dense model; what they have measured stays in memory.

    own_text: a visitor's text; empty for the bundled passages. Raises ValueError for a text that is too short.
    """
    key = (model.name, own_text.strip(), tokens)
    return _meters.get(key, lambda: _make_meters(model, own_text.strip(), tokens))


def _make_meters(model: LoadedModel, own_text: str, tokens: int) -> tuple:
    from core.damage.runner import DamageMeter
    from core.damage.texts import calibration_texts, documents_of

    longest = getattr(model.model.config, "max_position_embeddings", None) or settings.CALIBRATION_CHUNK_TOKENS
    chunk = min(settings.CALIBRATION_CHUNK_TOKENS, tokens // 4, longest)
    sizes = {"tokens": tokens, "held_out_tokens": tokens, "chunk_tokens": chunk}
    texts = calibration_texts(model.tokenizer, documents_of(own_text) if own_text else None, **sizes)
    return tuple(DamageMeter(model.model, one, batch_tokens=settings.CALIBRATION_BATCH_TOKENS) for one in texts)


def known(name: str) -> Known:
    """What the stored records say about the model of this name; nothing where its weights are others."""
    from core.damage.guide import stored_guide
    from core.damage.search import stored
    from core.damage.spans import stored_sweep

    model = get_model(name)
    found = Known(model.name, model.num_layers, stored_sweep([]))
    if model.fixed_plan:
        return found
    mine = _records_of(model)
    for record, points in {kept.record.kind: kept for kept in mine}.values():  # of each kind the last: the largest
        about = about_record(record)
        if record.kind == "sweep":
            found = replace(found, sweep=stored_sweep(points), sweep_about=about)
        elif record.kind == "search":
            front, spans = (stored(points, role, model.num_layers) for role in ("found", "contiguous"))
            others = [kept for kept in mine if kept.record.kind == "search" and kept.record.texts == record.texts]
            front, improved = _with_better_plans(front, others)
            found = replace(found, front=front, contiguous=spans, front_about=about, improved=improved)
        elif record.kind == "pairs":
            frame, correlations = stored_guide(record, points)
            found = replace(found, pairs=frame, correlations=tuple(correlations), pairs_about=about)
    return found


def _records_of(model: LoadedModel) -> list[StoredSearch]:
    """The stored records of this model's weights, those with most points last, and of equals the least harmful, which
    is the one with head maps.
    """
    records, _ = load_searches(settings.RESULTS)
    mine = [kept for kept in records if model.identity.is_of(kept.record)]
    return sorted(mine, key=_rank)


def _with_better_plans(front: tuple, others: list[StoredSearch]) -> tuple[tuple, dict[str, str]]:
    """The front with the least harmful plan of each size in other searches on the same texts, and where these are from.

    Damage is compared where plans were chosen: the held-out text takes no part in any choice.
    """
    from core.damage.search import stored

    best, improved = {found.followers: found for found in front}, {}
    for record, points in others:
        for found in stored(points, "chosen", record.num_layers):
            before = best.get(found.followers)
            if found.held_out and before and found.damage.mean < before.damage.mean:
                best[found.followers] = found
                improved[found.plan.name] = about_record(record)
    return tuple(best.values()), improved


def _rank(kept) -> tuple[int, float]:
    return len(kept.points), -sum(point.damage for point in kept.points)


def about_record(record: SearchRecord) -> str:
    """One sentence about how a stored search was measured."""
    return text.ABOUT_STORED.format(
        tokens=f"{record.texts['calibration'].tokens:,}", machine=record.machine, date=f"{record.date:%Y-%m-%d}",
        command=record.command,
    )  # fmt: skip
