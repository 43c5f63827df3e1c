"""The two phases of a model that writes text, and what layers that do other things in each of them need.

Prefill is the call that fills an empty cache, or that has none: the prompt. Every later call, on a cache that holds tokens,
decodes, however many tokens it brings. So the same tokens get the same answer whether they come one by one or several at once
(drafts that are checked, answers that are scored), the rows of a beam search and of a padded batch are in one phase, and the
cache holds what decoding reads and nothing else. A prompt of one token is a prompt. What follows from it: a call without a
cache is all prefill, and a prompt in several pieces, or the second turn of a conversation, is read by what the plan says of
decoding.

What a layer caches is what decoding reads of it. A layer that shares in prefill alone computes its own keys there too, because
it attends by itself when decoding; one that skips in prefill alone computes keys and values; one that shares in decoding
alone computes keys for the prompt, and leaves them. Only a layer that needs nothing of its own in decoding (`skip`, `kv`)
caches nothing. A leader is a plain layer in its phase, and caches whatever its own decoding needs.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from core.plan.groups import Group, layers_of
from core.plan.parts import PHASES, Mechanism, Part, Phase, canonical_parts

if TYPE_CHECKING:
    from core.plan.sharing_plan import SharingPlan

CACHED: Mapping[Mechanism | None, str] = MappingProxyType(
    {None: "kv", "share": "v", "skip": "", "kv": "", "keys": "v", "topk": "kv"}
)
"""What of its own keys (k) and values (v) a layer caches, by what it does in decoding."""

NEEDED: Mapping[Mechanism | None, str] = MappingProxyType(
    {None: "qkvo", "share": "vo", "skip": "", "kv": "qo", "keys": "qvo", "topk": "qkvo"}
)
"""Which of its queries, keys, values and output projection a layer uses, by what it does."""


def held_for(*mechanisms: Mechanism | None) -> Mechanism | None:
    """The mechanism of which a layer has all weights that it needs for each of these; None: those of a whole layer."""
    needed = {one for mechanism in mechanisms for one in NEEDED[mechanism]}
    return next((mechanism for mechanism, has in NEEDED.items() if needed == set(has)), None)


def without_needless_marks(parts: Iterable[Part]) -> tuple[list[Group], tuple[Part, ...]]:
    """The shared groups that apply in both phases, and all other parts, of which those that do so lose their marks.

    parts: in their one order.
    """
    of_both: list[Group] = []
    left: list[Part] = []
    found = {phase: [part for part in parts if part.phase == phase] for phase in PHASES}
    skipped = [
        {layer for part in found[phase] if part.mechanism == "skip" for layer in part.layers} for phase in PHASES
    ]
    always = skipped[0] & skipped[1]
    what = [{(part.mechanism, part.layers, part.positions) for part in found[phase]} for phase in PHASES]
    for part in parts:
        in_both = {(part.mechanism, part.layers, part.positions)} <= what[0] & what[1]
        if not part.phase:
            left.append(part)
        elif part.mechanism == "skip":
            if alone := tuple(layer for layer in part.layers if layer not in always):
                left.append(Part("skip", alone, phase=part.phase))
        elif not in_both:
            left.append(part)
        elif part.phase == PHASES[0]:
            if part.mechanism == "share":
                of_both.append(part.layers)
            else:
                left.append(Part(part.mechanism, part.layers, part.positions))
    if always:
        left.append(Part("skip", tuple(sorted(always))))
    return of_both, canonical_parts(left)


def of_phase(parts: Iterable[Part], phase: Phase) -> tuple[tuple[Group, ...], tuple[Part, ...]]:
    """Of a plan's parts what applies in a phase, without marks: the shared groups, and the others."""
    found = [part for part in parts if part.phase in (None, phase)]
    return (
        tuple(part.layers for part in found if part.mechanism == "share"),
        tuple(Part(one.mechanism, one.layers, one.positions) for one in found if one.mechanism != "share"),
    )


def check_phases(prefill: "SharingPlan", decode: "SharingPlan") -> None:
    """Raise ValueError, in one sentence, for what does less in prefill and saves nothing there.

    Keys and values that decoding needs are computed in prefill whatever a layer does. Then `kv` and `keys` leave nothing out,
    and `topk` never does where there are many queries: all positions are multiplied, and those not chosen are masked.
    """
    for layer in prefill.changed:
        mechanism, needed = prefill.mechanism_of(layer), CACHED[decode.mechanism_of(layer)]
        same = (mechanism, prefill.source_of(layer), prefill.positions_of(layer)) == (
            decode.mechanism_of(layer), decode.source_of(layer), decode.positions_of(layer),
        )  # fmt: skip
        if same:
            continue
        if mechanism == "topk":
            raise ValueError(
                f"Layer {layer} would choose positions in prefill, which saves nothing: there all positions are multiplied, and those "
                f"not chosen are masked; mark topk @decode, or leave the mark out; {layers_of(prefill.num_layers)}."
            )
        if mechanism in ("kv", "keys") and needed == "kv":
            raise ValueError(
                f"Layer {layer} would save nothing by {mechanism} in prefill: it computes keys and values of its own there, because "
                f"decoding reads them from its cache; mark {mechanism} @decode, or leave the mark out; {layers_of(prefill.num_layers)}."
            )


def check_one_phase(plan: "SharingPlan", what: str) -> None:
    """Raise ValueError, in one sentence, where a plan's phases differ and `what` ("Tuning", …) knows one alone."""
    if plan.phased:
        raise ValueError(
            f"{what} knows no phases, and plan {plan.name} does in prefill what it does not do in decoding, or the other way round: "
            f"leave the marks out, or give the plan of one phase, for example {next(filter(None, map(str, plan.phases)))}."
        )
