"""The table of the part Scores, and how one score was measured."""

import json
from collections.abc import Sequence
from functools import lru_cache
from html import escape
from typing import Any

import pandas as pd

from app import text, units
from app.components import html
from app.components.mini_strip import mini_strip
from app.kinds import kind_of
from app.measured import Selected
from core.evaluation.recovery import SEEDS_FOR_BETTER, Recovery
from core.plan import SharingPlan


def score_table(frame: pd.DataFrame, selected: Selected | None = None) -> str:
    """All selected scores with standard error and number of samples. Rows can be chosen; one may be already."""
    head = "".join(f"<th scope='col'>{title}</th>" for title in text.SCORE_COLUMNS)
    rows = "".join(_score_row(row, (row.path, row.metric) == selected) for row in frame.itertuples())
    return (
        f'<div class="table" tabindex="0" role="region" aria-label="Scores"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _score_row(row: Any, chosen: bool) -> str:
    point = escape(json.dumps([row.path, row.metric]))
    return f'<tr tabindex="0" data-id="{point}" aria-selected="{str(chosen).lower()}">{_score_cells(row)}</tr>'


def _score_cells(row: Any) -> str:
    value, saved = f"{row.value:.3f}{units.plus_minus(row.stderr)}", f"{row.saved_percent:.1f}%"
    values = (
        kind_of(row.kind, row.compression).words,
        row.task,
        row.metric,
        value,
        worse_words(row),
        row.n,
        saved,
        row.machine,
    )
    spans = ",<wbr>".join(f"<span>{escape(span)}</span>" for span in row.plan.split(","))  # lines break between spans
    drawn = mini_strip(_plan(row.plan, row.num_layers))
    cells = [escape(row.model), f"{drawn} {spans}", *(escape(str(value)) for value in values)]
    return "".join(f"<td>{cell}</td>" for cell in cells)


@lru_cache(1024)
def _plan(plan_name: str, num_layers: int) -> SharingPlan:
    return SharingPlan.parse(plan_name, num_layers)


def worse_words(row: Any) -> str:
    """Whether a plan is worse than dense, with the p-value; a dash for dense models and without a comparison."""
    if not row.worse:
        return "–"
    p_value = units.p_value(row.p_value)
    return f"{row.worse} ({p_value})" if p_value else row.worse


def folded_tasks(reasons: dict[str, str], count: int) -> str:
    """The scores that cannot tell plans apart, each with the reason, folded; rows can be chosen. count: of all scores."""
    if not reasons:
        return ""
    head = "".join(f"<th scope='col'>{title}</th>" for title in text.FOLDED_COLUMNS)
    rows = "".join(
        f'<tr tabindex="0" data-id="{escape(json.dumps(name))}"><td>{escape(name)}</td><td>{escape(reason)}</td></tr>'
        for name, reason in reasons.items()
    )
    summary = escape(text.FOLDED_TASKS.format(count=len(reasons), all=count))
    return (
        f'<details class="folded"><summary>{summary}</summary><div class="table" tabindex="0"><table><thead><tr>{head}'
        f"</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )


def measurement(row: dict) -> str:
    """How one score was measured: the command, the machine, the file."""
    value = f"{row['value']:.3f}{units.plus_minus(row['stderr'])}"
    kind = kind_of(row["kind"], row["compression"]).words
    facts = (
        f"{row['model']} · {row['plan']} ({kind}) · {row['task']} {row['metric']} = {value}, n = {row['n']}, "
        f"{row['num_fewshot']}-shot, {row['dtype']}{row['quantization'] and ' from ' + row['quantization']}, {row['machine']}, {row['date']:%Y-%m-%d}, {row['duration_s']:.0f} s"
    )
    return (
        f'<div class="measurement"><h3>{escape(text.SCORES_COMMAND_LABEL)}</h3>{html.badge("measured_there")}'
        f"<p>{escape(facts)}</p><pre tabindex='0'>{escape(row['command'])}</pre>{html.note('results/' + row['path'])}{_scored(row)}</div>"
    )


def recovered_list(mine: Sequence[Recovery], others: Sequence[Recovery]) -> str:
    """Sentences on what was recovered: those of the page's plan, and the others folded; nothing where there are none."""
    if not mine:
        return ""
    first, more = ("".join(f"<li>{escape(recovery_words(one))}</li>" for one in some) for some in (mine, others))
    summary = escape((text.RECOVERED_OTHER if len(others) == 1 else text.RECOVERED_OTHERS).format(count=len(others)))
    folded = more and f'<details class="folded"><summary>{summary}</summary><ul>{more}</ul></details>'
    about = html.note(text.RECOVERED_ABOUT) if any(one.share is not None for one in (*mine, *others)) else ""
    return f'<div class="findings"><ul>{first}</ul>{folded}{about}</div>'


def _scored(row: dict) -> str:
    """How a plan whose phases differ was scored; nothing of other plans, whose scores do not depend on it."""
    return html.note(text.SCORED_BY.get(row.get("scored_by") or "", ""))


def recovery_words(found: Recovery) -> str:
    """What tuning recovered of a plan's damage, in a sentence, or why that is not known."""
    recipe = f" ({found.recipe})" if found.recipe else ""
    said = text.RECOVERED_PLAN.format(plan=found.plan, recipe=recipe)
    if found.share is None:
        return said + text.RECOVERED_UNKNOWN.format(reason=found.reason)
    one, many = text.RECOVERED_SEEDS
    said += text.RECOVERED.format(
        share=_share(found.share, found.stderr or 0.0), documents=f"{found.documents:,}",
        seeds=one if found.seeds == 1 else many.format(count=found.seeds),
        against=_against(found),
    )  # fmt: skip
    if found.better:
        return f"{said} {text.RECOVERED_BETTER.format(p=units.p_value(found.p_value))}"
    return (
        f"{said} {text.RECOVERED_NOT_BETTER.format(least=SEEDS_FOR_BETTER)}"
        if found.share > 1 and not found.distilled
        else said
    )


def _against(found: Recovery) -> str:
    if found.controlled:
        return text.RECOVERED_CONTROL
    return text.RECOVERED_TEACHER if found.distilled else text.RECOVERED_DENSE


def _share(share: float, stderr: float) -> str:
    """Percent with its standard error; a digit behind the point where the error is below one."""
    digits = 1 if 100 * stderr < 1 else 0
    return f"{100 * share:.{digits}f} ± {100 * stderr:.{digits}f}%".replace("-", "−")
