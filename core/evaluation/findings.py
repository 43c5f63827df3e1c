"""What the records of a model say, in sentences: what is free, what a tenth of the cache costs, what similarity foretells.

From records alone: a changed record changes the sentence. The page shows them, and the README between two marks, where
`python -m core findings --model NAME --write README.md` puts them. Imports no torch.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from core.evaluation.losses import LossIndex
from core.evaluation.resolve import (
    MARGIN,
    TRAINED_ON,
    PlanSummary,
    Task,
    Verdict,
    dense_name,
    pairs_of,
    summaries,
    tasks_of,
    twins_of,
)
from core.places import with_shipped
from core.plan import SharingPlan
from core.records.correlations import RankCorrelation, correlations_in
from core.records.scores import Record, load_records
from core.records.searches import PlanDamage, StoredSearch, load_searches, plans_of

SAVING = 0.1
"""The share of the KV cache whose price is told."""
PRICE_TASKS, MOST_TASKS = 4, 8
"""How many tasks a sentence and a table name at most."""


@dataclass(frozen=True)
class Findings:
    """The data of the sentences on one dense model.

    tasks: those that resolve best first. plans: every plan over all tasks that resolve. saving: the least harmful plan
    found that saves SAVING of the cache; scored: the smallest such plan whose scores were measured, with these scores.
    problems: a sentence for each file among the results that could not be used.
    """

    model: str
    tasks: tuple[Task, ...] = ()
    plans: tuple[PlanSummary, ...] = ()
    saving: PlanDamage | None = None
    scored: tuple[PlanDamage, PlanSummary] | None = None
    correlations: tuple[RankCorrelation, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def resolving(self) -> tuple[Task, ...]:
        """The tasks that tell plans apart."""
        return tuple(task for task in self.tasks if task.resolves)

    @property
    def free(self) -> PlanSummary | None:
        """The free plan with most followers, of equals the one that loses least; tuned models are other models."""
        return _largest_free(self.plans)

    @property
    def free_in_answers(self) -> PlanSummary | None:
        """The same, judged by right answers alone, without perplexities, which show smaller losses."""
        return _largest_free(summaries(task for task in self.tasks if task.score.higher_is_better))


def _sharing(plans: Iterable[PlanSummary]) -> list[PlanSummary]:
    """The plans that share and do nothing else, for the sentences speak of layers that share; tuned models are other models."""
    untrained = [plan for plan in plans if plan.record.kind not in TRAINED_ON]
    return [plan for plan in untrained if len(plan.record.followers) == plan.record.changed]


def _largest_free(plans: Iterable[PlanSummary]) -> PlanSummary | None:
    return max(
        (plan for plan in _sharing(plans) if plan.free),
        key=lambda plan: (len(plan.record.followers), -plan.mean_drop[0]),
        default=None,
    )


def findings_of(
    model: str, tasks: Iterable[Task], plans: Iterable[PlanSummary], searches: Iterable[StoredSearch]
) -> Findings:
    """The findings on a dense model, from tasks and plans of any models and from stored searches."""
    mine = [kept for kept in searches if kept.record.model == model]
    own = tuple(plan for plan in plans if plan.dense_model == model)
    enough = _plans_that_save(mine)
    scored = [(found, plan) for found in enough for plan in own if _is_of(plan.record, found)]
    pairs = [kept.record for kept in mine if kept.record.kind == "pairs"]
    return Findings(
        model, tuple(task for task in tasks if task.dense.model == model), own,
        saving=min(enough, key=lambda found: found.damage, default=None),
        scored=min(scored, key=lambda both: (both[0].followers, both[0].damage), default=None),
        correlations=tuple(correlations_in(pairs[-1])) if pairs else (),
    )  # fmt: skip


def _plans_that_save(searches: Sequence[StoredSearch]) -> list[PlanDamage]:
    """Plans that searches found to save SAVING of the cache, judged on text that no choice saw; all on the same texts."""
    searches = [kept for kept in searches if kept.record.kind == "search"]
    if not searches:
        return []
    texts = max(searches, key=lambda kept: len(kept.points)).record.texts
    return [
        found
        for kept in searches
        if kept.record.texts == texts
        for role in ("found", "chosen")
        for found in plans_of(kept.points, role)
        if found.held_out and found.cache_saving > SAVING - 1e-9
    ]


def _is_of(record: Record, found: PlanDamage) -> bool:
    """Whether a score is of a plan that was found, heads included."""
    return (record.plan, record.head_map) == (str(found.plan), found.head_map)


def load_findings(
    results: Path, model: str, index: LossIndex, keep: bool = False
) -> Iterator[Findings | tuple[int, int]]:
    """The findings on a dense model, after (read, to read) for each record whose answers had to be read for it.

    keep: what the answers say is also written beside the records, so that nobody has to read them again. Raises ValueError when there are no records of it.
    """
    results = with_shipped(results)
    records, problems = load_records(results)
    twins = twins_of(records)
    places = [(results, record) for record in records if dense_name(record.model, twins) == model]
    if not places:
        raise ValueError(f"There are no records of {model} in {results}: measure it with python -m core evaluate.")
    pairs = pairs_of(places)
    missing = len(index.missing(pairs))
    for done, _ in enumerate(index.learn(pairs), start=1):
        yield done, missing
    if keep:
        index.write(results, model, pairs)
    tasks = tasks_of(pairs, index)
    searches, more_problems = load_searches(results)
    found = findings_of(model, tasks, summaries(tasks), searches)
    yield replace(found, problems=(*problems, *index.problems, *more_problems))


# In words


def sentences(found: Findings) -> list[str]:
    """Each finding in plain words; what was not measured is left out."""
    said = (_free(found), _tuned(found), _saving(found), _similarity(found), _tasks(found), _phased(found))
    return [sentence for sentence in said if sentence]


def _free(found: Findings) -> str:
    if not found.resolving:
        return ""
    if plan := found.free:
        return _free_words(plan) + "."
    own = _sharing(found.plans)
    lightest = min(
        (plan for plan in own if plan.asked_enough),
        key=lambda plan: (plan.count("yes"), plan.record.changed),
        default=None,
    )
    if lightest is None:
        return "No plan was asked of enough tasks to be called free." if own else ""
    worse = [both for both in lightest.verdicts.values() if both[1].worse == "yes"]
    start = f"No plan that only shares was found free. Nearest to it is {_plan(lightest.record)}, worse on {_losses(worse)}."
    if plan := found.free_in_answers:
        return f"{start} Judged by right answers alone, without perplexities: {_free_words(plan)}."
    return start


def _free_words(plan: PlanSummary) -> str:
    followers, told = len(plan.record.followers), plan.count("no")
    drop, stderr = plan.mean_drop
    of = f"{followers} of {plan.record.num_layers} layers can share for free, with {_plan(plan.record)}"
    shown = f", and on {told} it is shown that less than {100 * MARGIN:.0f} point is lost" if told else ""
    mean = f"; the mean change is {_signed(-100 * drop, 100 * stderr)} points"
    return f"{of}: on none of {len(plan.verdicts)} tasks is the model found worse{shown}{mean}"


def _tuned(found: Findings) -> str:
    free = [plan.record for plan in found.plans if plan.free and plan.record.kind == "tuned"]
    return " ".join(f"Tuned with {_plan(record)} in place, {record.model} is free." for record in free)


def _saving(found: Findings) -> str:
    if not (plan := found.saving):
        return ""
    mapped = ", heads mapped" if plan.head_map else ""
    words = (
        f"{SAVING:.0%} of the KV cache costs {_nats(plan)}{_gain(plan)}: of the plans found that save as much, "
        f"{_layers(plan.plan.name, plan.plan.paper_notation)}{mapped}, does least damage ({plan.followers} followers, "
        f"{plan.cache_saving:.1%} saved)."
    )
    if found.scored is None:
        return words
    measured, scores = found.scored
    whose = "It loses"
    if (measured.plan, measured.head_map) != (plan.plan, plan.head_map):
        whose = (
            f"The nearest plan with scores, {_plan(scores.record)} with {measured.followers} followers, saves "
            f"{measured.cache_saving:.1%} and costs {_nats(measured)}; it loses"
        )
    most = sorted(scores.verdicts.values(), key=lambda both: -_standard_errors(both[1]))[:PRICE_TASKS]
    return f"{words} {whose} most on {_losses(most)}; worse on {scores.count('yes')} of {len(scores.verdicts)} tasks."


def _standard_errors(verdict: Verdict) -> float:
    return verdict.loss.drop / (verdict.loss.stderr or 1 / verdict.record.num_samples)


def _similarity(found: Findings) -> str:
    if not found.correlations:
        return ""
    best = min(found.correlations, key=lambda one: one.rho)
    return f"{best.describe()} Of {len(found.correlations)} ways to compare layers no other one foretells more."


def _tasks(found: Findings) -> str:
    if not found.tasks:
        return ""
    best = ", ".join(map(_name, found.resolving[:3]))
    names = [task.name for task in found.tasks if not task.resolves]
    folded = f" {len(names)} of {len(found.tasks)} scores cannot tell the plans apart." if names else ""
    by = f" (the worst plan loses {found.resolving[0].resolution:.0f} standard errors)" if best else ""
    return f"Plans are told apart best by {best}{by}.{folded}" if best else folded.strip()


def _phased(found: Findings) -> str:
    """How plans whose phases differ were scored."""
    records = [verdict.record for plan in found.plans for _, verdict in plan.verdicts.values()]
    return " ".join(dict.fromkeys(f"Plan {one.plan_name}: {one.scoring}" for one in records if one.scoring))


def _name(task: Task) -> str:
    return f"{task.dense.task} ({task.metric})"


def _plan(record: Record) -> str:
    return _layers(record.plan, _paper(record)) + (", heads mapped" if record.kind == "head-mapped" else "")


def _paper(record: Record) -> str:
    return SharingPlan.parse(record.plan, record.num_layers).paper_notation


def _layers(name: str, paper: str) -> str:
    return f"plan {name} (paper: {paper})" if paper else f"plan {name}"


def _nats(plan: PlanDamage) -> str:
    judged = plan.judged
    return f"{judged.damage:.3f} ± {judged.stderr:.3f} nats per token"


def _gain(plan: PlanDamage) -> str:
    """What a loss that falls by sharing does not mean."""
    judged = plan.judged
    if judged.damage > 0:
        return ""
    return (
        f" (no more than nothing: the model predicts the text no worse with it, but otherwise, by {judged.kl:.3f} nats of KL "
        "divergence, so that this text is no measure of what is lost)"
    )


def _losses(verdicts: Iterable[tuple[Task, Verdict]]) -> str:
    return ", ".join(f"{_name(task)} {change_words(task, verdict)}" for task, verdict in verdicts)


def change_words(task: Task, verdict: Verdict) -> str:
    """What sharing changed: points of a share (−1.2 ± 0.3 points), else percent (+3.4 ± 0.2%), or times as much (×12)."""
    loss, score = verdict.loss, task.score
    if not score.higher_is_better and loss.drop > 9 * score.value:
        return f"×{1 + loss.drop / score.value:,.0f}"
    if score.higher_is_better:
        change, error, unit = -100 * loss.drop, 100 * (loss.stderr or 0), " points"
    else:
        change, error, unit = 100 * loss.drop / score.value, 100 * (loss.stderr or 0) / score.value, "%"
    return _signed(change, error) + unit


def _signed(change: float, error: float) -> str:
    return f"{round(change, 1) + 0.0:+.1f} ± {error:.1f}".replace("-", "−")


# In a document

SECTION = "What the records say"
_END = "<!-- end of findings -->"


def _begin(model: str) -> str:
    return f"<!-- findings: python -m core findings --model {model} --write README.md -->"


def markdown(found: Findings) -> str:
    """The sentences as a list, and the tasks that resolve as a table."""
    rows = [
        f"| {task.name} | {task.score.value:.3f} | {change_words(task, task.worst)} | {task.resolution:.0f} | "
        f"{sum(one.worse == 'yes' for one in task.verdicts)} of {len(task.verdicts)} |"
        for task in found.resolving[:MOST_TASKS]
    ]
    head = ["| task | dense | worst plan | ÷ its error | plans that are worse |", "|---|---|---|---|---|"]
    lines = [f"- {sentence}" for sentence in sentences(found)] + (["", *head, *rows] if rows else [])
    return "\n".join(lines) + "\n"


def written(document: str, model: str) -> str | None:
    """The findings on a model as they stand in a document; None where they do not."""
    match = re.search(f"{re.escape(_begin(model))}\n\n(.*?)\n{re.escape(_END)}", document, re.DOTALL)
    return match[1] if match else None


def with_findings(document: str, found: Findings) -> str:
    """The document with these findings in their place: between the marks, else in a section before `## Limits`.

    Raises ValueError when the document has neither.
    """
    block = f"{_begin(found.model)}\n\n{markdown(found)}\n{_END}"
    if (old := written(document, found.model)) is not None:
        return document.replace(f"{_begin(found.model)}\n\n{old}\n{_END}", block)
    before, heading, after = document.partition("\n## Limits\n")
    if not heading:
        raise ValueError("The document has no place for findings: it needs a section ## Limits to stand before.")
    title = "" if f"\n## {SECTION}\n" in before else f"\n## {SECTION}\n\n{INTRODUCTION}\n"
    return f"{before}{title}\n{block}\n{heading}{after}"


INTRODUCTION = """\
Written by `python -m core findings` from the records alone. A plan is *worse* on a task when a paired test says so (McNemar
or paired differences; 5%, by Holm over all tasks of the plan), *not worse* when the 95% interval of the drop ends below
one point (1% of a perplexity); *free* when no task that can tell plans apart finds it worse."""
