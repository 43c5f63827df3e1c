"""Compare ways to choose which leader head each head of a follower reads: head maps, by likeness or by damage."""

import argparse

from core.commands.session import Session
from core.damage.choices import HEAD_MAP_METHODS
from core.damage.head_maps import CANDIDATES, PASSES, HeadMapper, improve
from core.damage.meter import DamageMeter
from core.plan import HeadMap, SharingPlan
from core.records.searches import PlanDamage
from core.sharing.families import check_kinds, num_layers_of


def run(args: argparse.Namespace) -> int:
    """Measure the head map of every method for every plan, on both texts; one record and one table each. 0 when done."""
    session = Session(args)
    plans = [SharingPlan.parse(text, num_layers_of(session.model)) for text in args.plan]
    for plan in plans:
        check_kinds(session.model, plan)
    mapper = HeadMapper(session.model, session.texts[0], "damage", args.keep_groups)
    for plan in plans:
        meters = session.meters()
        maps = {name: mapper.of_method(plan, name) for name in HEAD_MAP_METHODS if name != "damage"}
        for step in improve(meters[0], plan, mapper):
            [best] = step.front
            maps["damage"] = best.head_map
            session.show(f"head map of {plan}", step.done, step.total)
        _report(session, plan, maps, meters)
    return 0


def _report(
    session: Session, plan: SharingPlan, maps: dict[str, HeadMap], meters: tuple[DamageMeter, DamageMeter]
) -> None:
    print(f"Plan {plan.name}: damage in nats/token, where the heads were chosen and on held-out text")
    chosen, judged = (meter.measure((plan, heads) for heads in maps.values()) for meter in meters)
    for name, *both in zip(maps, chosen, judged, strict=True):
        print(f"{name:>14} " + "   ".join(f"{one.damage:.4f} ± {one.stderr:.4f}" for one in both))
    settings = {"candidates": CANDIDATES, "passes": PASSES, "keep_groups": session.args.keep_groups}
    lines = [*_lines(maps, chosen), *_lines(maps, judged)]
    name = f"head-maps+{plan}" + "+keep-groups" * session.args.keep_groups
    print(f"Stored in {session.save(name, settings, lines, session.evaluations(*meters))}.")


def _lines(names: dict[str, HeadMap], measured: list[PlanDamage]) -> list[PlanDamage]:
    return [line for name, one in zip(names, measured, strict=True) for line in one.lines(name)]
