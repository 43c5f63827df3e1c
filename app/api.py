"""Endpoints for programs (gradio_client, curl, MCP): the same functions that the page uses, under stable names.

What the page would show as a sentence comes back as an error with that sentence. `docs/api.md` shows them; of the
docstrings the lines below `Args:` describe the arguments to programs, one line each.
"""

import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import gradio as gr
import pandas as pd

from app import comparing, jobs, mechanisms, searches, services, settings
from app import text as text_of_page
from app.asked import LARGEST, LARGEST_SIZE, cut, flag, number, one_of, prompts, texts, whole, words
from app.line import Wait
from app.measured import WAYS, store
from app.registry import get_model, name_in_records, ready
from app.visitors import visitor
from app.writings import Texts, writings
from core.cost import fits_frame, known_shapes
from core.plan import SharingPlan
from core.records.searches import PlanDamage

if TYPE_CHECKING:  # it imports torch
    from core.decoding.generation import PairProgress


def add_endpoints() -> None:
    """Register all endpoints in the current gr.Blocks."""
    for name, (endpoint, limits) in ENDPOINTS.items():
        endpoint.__name__ = name  # what MCP calls the tool
        gr.api(endpoint, api_name=name, **limits)


@contextmanager
def sentences_as_errors() -> Iterator[None]:
    """Bad input reaches the caller as its sentence."""
    try:
        yield
    except ValueError as problem:
        raise gr.Error(cut(str(problem)), print_exception=False) from problem


def savings_endpoint(
    model: str = "",
    plan: str = settings.DEFAULT_PLAN,
    batch_size: int = 1,
    context_tokens: int = 1024,
    prompt_tokens: int = 512,
    dtype: str = "bfloat16",
) -> dict:
    """Predicted savings of a sharing plan, and what fits where.

    The answer is {quantity: {unit, dense, shared, saved_percent}}, and under `fits` one row for each device with the
    dense and the shared model: {device, model, needed_bytes, memory_bytes, fits, largest_batch, step_ms, tokens_per_s,
    bound, usd_per_million_tokens}. What is not known, or does not fit, is null.

    Args:
        model: bundled or fetched name, hub id, folder or GGUF file (empty: the page's), or a well-known shape (Llama-3-8B).
        plan: spans first-last, or groups of listed layers such as 2-4-6, separated by commas; empty for dense.
        batch_size: texts at once, 1 to 1,000,000,000.
        context_tokens: length of each text, 1 to 1,000,000,000.
        prompt_tokens: how many of these are read at once, 0 to 1,000,000,000; more than the context count as the context.
        dtype: number format of the cache, and for `fits` of the weights too: float32, bfloat16, float16 or float8.
    """
    with sentences_as_errors():
        words(model=model, plan=plan, dtype=dtype)
        batch_size, context_tokens, prompt_tokens = _sizes(batch_size, context_tokens, prompt_tokens)
        shape = services.shape_of(model if model in known_shapes() else services.LOADED, model)
        parsed = SharingPlan.parse(plan, shape.num_layers)
        frame = services.savings(shape, parsed, batch_size, context_tokens, prompt_tokens, dtype)
        fits = fits_frame(shape, parsed, batch_size, context_tokens, dtype).drop(columns="basis")
    chosen = frame[frame.context == context_tokens]
    return _by_quantity(chosen[["quantity", "unit", "dense", "shared", "saved_percent"]]) | {"fits": _rows(fits)}


def similarity_endpoint(text: str, model: str = "", method: str = "head_mean") -> dict:
    """Similarity of the attention of each two layers: {method, tokens, text_tokens, note, similarity [layers][layers]}.

    Of a text of `text_tokens` tokens the first `tokens` are looked at, 512 at most; `note` says so where these are not
    all.

    Args:
        text: at least two tokens, at most 20,000 characters.
        model: bundled or fetched name, hub id, folder or GGUF file; empty: the page's.
        method: how two layers are compared: head_mean, per_head or best_head.
    """
    with sentences_as_errors():
        words(model=model, method=method)
        prompts(text=text)
        found = services.similarity(model, text, method)
    note = services.said_of(found.tokens, found.text_tokens)
    about = {"method": method, "tokens": found.tokens, "text_tokens": found.text_tokens, "note": note}
    return about | {"similarity": found.matrix.tolist()}


async def generate_endpoint(
    prompt: str,
    model: str = "",
    plan: str = settings.DEFAULT_PLAN,
    max_new_tokens: int = settings.DEFAULT_NEW_TOKENS,
    temperature: float = 0.0,
    seed: int = 0,
    chat: bool = False,
    system: str = "",
    details: bool = False,
    against: str = "",
    request: gr.Request | None = None,
) -> AsyncIterator[dict]:
    """Dense and shared continuation of a prompt, streamed: {dense, shared, first_difference, first_token_differs, line}.

    With against, `dense` is the text of that plan, and everything that compares is of the two plans.

    While others come first, `line` says how many, and both texts are empty. batch: how many texts each step was for.

    Times are measured here. first_token_differs: whether the two times to the first token differ by more than they vary;
    null until they were measured often enough to tell, which for long prompts is after the last token. With details also
    {speed_differs, parting}: whether the times of the later steps differ by more than they spread, and, from the first
    different token on, {tokens, character, dense, shared} with the likeliest tokens of each model at that place,
    [{text, probability, chosen}].

    Args:
        prompt: the text to continue, of fewer tokens than the model's context and at most 20,000 characters.
        model: bundled or fetched name, hub id, folder or GGUF file; empty: the page's.
        plan: spans first-last, or groups of listed layers such as 2-4-6, separated by commas; empty for dense.
        max_new_tokens: 1 to 300.
        temperature: 0 (the likeliest token) to 10.
        seed: of the random numbers, the same for both, from 0.
        chat: answer the prompt as a turn of a conversation, by the model's chat template.
        system: what the conversation begins with, at most 20,000 characters; empty for what the template says.
        details: also speed_differs and parting.
        against: the plan that stands beside it, without a head map; empty for dense.
    """
    with sentences_as_errors():
        words(model=model, plan=plan, against=against)
        prompts(prompt=prompt, system=system)
        max_new_tokens = whole("max_new_tokens", max_new_tokens, high=settings.server.max_new_tokens)
        temperature, seed = number("temperature", temperature), whole("seed", seed, low=0)
        chat, details = flag("chat", chat), flag("details", details)
        asked = Texts(model, plan, prompt, max_new_tokens, temperature, seed, chat=chat, system=system, against=against)
        await ready(model, request)  # a turn in the line is for writing
        reader = writings.reader(asked)
        try:
            async for wait in reader.waiting(visitor(request)):
                yield _told(None, details, wait.words)
            async for progress in reader.progress():
                yield _told(progress, details)
        finally:
            await reader.leave()


def _told(progress: "PairProgress | None", details: bool, line: str = "") -> dict:
    """What a program is told of two texts; None: nothing of them is there yet."""
    from core.decoding.generation import PairProgress, Stream

    values = asdict(progress or PairProgress(Stream(), Stream()))
    return {name: value for name, value in values.items() if details or name not in _DETAILS} | {"line": line}


_DETAILS = ("speed_differs", "parting")


def scores_endpoint(model: str = "", plan: str = "", task: str = "") -> list[dict]:
    """Measured scores, one per record and metric; an empty argument selects all. Dense rows have the plan `dense`.

    Args:
        model: as records name it, or a local folder.
        plan: as records write it, such as 17-22, or dense.
        task: name of the task, such as hellaswag.
    """
    with sentences_as_errors():
        words(model=model, plan=plan, task=task)
        frame = store().frame
        for column, wanted in (("model", model and name_in_records(model)), ("task", task)):
            if wanted:
                one_of(column, wanted, sorted(set(frame[column])))
                frame = frame[frame[column] == wanted]
        if plan:
            frame = frame[frame.plan == _plan_of_any(plan, sorted(set(store().frame.num_layers)))]
    rows = _rows(frame.rename(columns={"path": "file"}))  # `path` would be fetched
    return [{**row, "date": row["date"].isoformat()} for row in rows]


def compare_endpoint(
    plan: str = settings.DEFAULT_PLAN,
    against: str = "dense",
    model: str = "",
    against_model: str = "",
    kind: str = "",
    against_kind: str = "",
    task: str = "",
    batch_size: int = 1,
    context_tokens: int = 1024,
    prompt_tokens: int = 512,
    dtype: str = "bfloat16",
) -> dict:
    """A plan against the dense model, or against another plan: stored scores with a paired test, and predicted savings.

    The answer is {plan, against, scores, verdicts, savings, note}. plan, against: {model, plan, paper_notation, followers,
    kind, folder, records, scoring} of what was compared; scoring says how a plan whose phases differ was scored. scores: a row for each metric of each task that both were asked of
    alike, {task, metric, settings, higher_is_better, n, plan, plan_stderr, against, against_stderr, drop, drop_stderr,
    low, high, p_value, p_adjusted, paired, worse}: `drop` is how much worse the plan is, with its 95% interval; `worse`
    is yes, no or cannot tell. verdicts: how many rows say which. savings: {quantity: {unit, dense, plan, against,
    plan_saved_percent, against_saved_percent}}. note: what could not be compared; empty where all could.

    Args:
        plan: spans first-last, or groups of listed layers, separated by commas; dense for no sharing.
        against: the same, for the other side.
        model: as records name it, such as demo or SmolLM2-135M-Instruct; empty: the page's.
        against_model: of the other side, where it is another one, such as the dense model of a tuned one.
        kind: direct, head-mapped or tuned; empty for the first of these that was measured.
        against_kind: the same, for the other side.
        task: only this task; empty for all.
        batch_size: for the savings: texts at once, 1 to 1,000,000,000.
        context_tokens: for the savings: length of each text, 1 to 1,000,000,000.
        prompt_tokens: for the savings: how many of these are read at once, 0 to 1,000,000,000.
        dtype: for the savings: number format of the cache: float32, bfloat16, float16 or float8.
    """
    with sentences_as_errors():
        words(plan=plan, against=against, model=model, against_model=against_model, task=task, dtype=dtype)
        words(kind=kind, against_kind=against_kind)
        sizes = _sizes(batch_size, context_tokens, prompt_tokens)
        for name, chosen in (("kind", kind), ("against_kind", against_kind)):
            one_of(name, chosen, ("", *WAYS))
        name = comparing.name_of(model)
        one = comparing.side(name, plan, kind)
        other = comparing.side(comparing.name_of(against_model) if against_model else name, against, against_kind)
        comparing.check_comparable(one, other)
        if task:
            one_of("task", task, sorted({record.task for _, record in (*one.places, *other.places)}))
        found = comparing.scores(one, other, task)
        shape = comparing.shape_of(one.model, one.plan.num_layers)
        saved = comparing.savings(shape, one.plan, other.plan, *sizes, dtype)
    return {
        "plan": one.about,
        "against": other.about,
        "scores": _rows(found),
        "verdicts": {worse: int((found.worse == worse).sum()) for worse in ("yes", "no", "cannot tell")},
        "savings": _by_quantity(saved),
        "note": _not_compared(one, other, found),
    }


def _not_compared(one: comparing.Side, other: comparing.Side, found: pd.DataFrame) -> str:
    for side in (one, other):
        if not side.places:
            plans = ", ".join(comparing.measured_plans(side.model))
            return f"There are no scores of {side.plan.name} ({side.kind}) of {side.model}: measured are {plans}."
    return "" if len(found) else "No task was asked of both in the same way."


def sweep_endpoint(
    model: str = "", text: str = "", tokens: int = settings.CALIBRATION_TOKENS[0], followers: int = 0
) -> Iterator[dict]:
    """The damage of every span of layers, or of every single follower, streamed: {done, total} and then the rows.

    While others come first, total is 0, and `line` says how many.

    Damage is how much the mean loss rises above the dense model's on the same text, in nats per token. The last value is
    {rows, tokens, source}, a row for each span: {plan, first, last, followers, damage, damage_stderr, kl, kl_stderr};
    source says how it was measured. Without text and with the default tokens a stored sweep answers at once.

    Args:
        model: bundled or fetched name, hub id, folder or GGUF file; empty: the page's. Not a tuned one.
        text: to measure on, at most 1,000,000 characters; empty for bundled passages.
        tokens: of the text, 64 to 65,536; times the number of spans at most 4,000,000.
        followers: at most so many in a span: 1 for single followers, 0 for any.
    """
    with sentences_as_errors():
        words(model=model)
        texts(text=text)
        tokens, followers = whole("tokens", tokens, *settings.SUGGEST_TOKENS), whole("followers", followers, low=0)
        _check_sweep(model, tokens, followers)
        known = searches.known(model)
        frame, about = known.sweep, known.sweep_about
        if text.strip() or tokens != settings.CALIBRATION_TOKENS[0] or frame.empty:
            found, shown_at = [], 0.0
            for step in jobs.in_turn(searches.spans(model, text, tokens, followers)):
                if not isinstance(step, searches.Step):
                    yield _waits(step)
                    continue
                found += step.items
                if step.done < step.total and time.monotonic() - shown_at > 1 / settings.SWEEP_UPDATES_PER_SECOND:
                    shown_at = time.monotonic()
                    yield {"done": step.done, "total": step.total}
            frame, about = searches.frame_of(found), f"{searches.about_here(found[-1], text)} {step.work}".strip()
        frame = frame[frame.followers <= followers] if followers else frame
        of_tokens = int(frame.tokens.max())
    yield {"rows": _rows(frame.drop(columns=["tokens", "finished"])), "tokens": of_tokens, "source": about}


def _waits(wait: Wait | jobs.Rest) -> dict | jobs.Rest:
    """What a program is told while it stands in the line."""
    return {"done": 0, "total": 0, "line": wait.words} if isinstance(wait, Wait) else wait


def _check_sweep(model: str, tokens: int, followers: int) -> None:
    """Raise ValueError for a tuned model, for one in which no layers can share, and for more work than a server lends."""
    searches.check(model, "followers", "")
    kinds = get_model(model).kinds
    sizes = [kinds.count(kind) for kind in set(kinds)]
    spans = sum(max(0, size - many) for size in sizes for many in range(1, min(followers or size, size) + 1))
    if not spans:
        raise ValueError("No two layers of this model can share attention weights: there is nothing to sweep.")
    if spans * tokens > settings.SWEEP_TOKENS:
        raise ValueError(
            f"{spans:,} spans on {tokens:,} tokens each are too much work: ask for at most "
            f"{settings.SWEEP_TOKENS // spans:,} tokens, or for fewer followers."
        )


def suggest_endpoint(
    model: str = "",
    budget: str = "cache_saving",
    value: float = 10.0,
    text: str = "",
    tokens: int = settings.CALIBRATION_TOKENS[0],
    protect_first: int = 0,
    protect_last: int = 0,
    longest_span: int = 0,
    head_map: str = "",
) -> Iterator[dict]:
    """The plan of least damage for a budget, streamed: {step, done, total} while it is measured, and then the plan.

    While others come first, total is 0, and `line` says how many.

    The plan: {plan, paper_notation, followers, head_map, predicted: {cache_saved_percent}, measured: {damage, stderr,
    tokens} in nats per token on held-out text, chosen_on: the same where it was chosen, best_span: the best single span
    of as many followers, likewise, source: how it was measured}. Without text, limits, head_map and another number of
    tokens than the default, the stored search of a bundled model answers at once.

    Args:
        model: bundled or fetched name, hub id, folder or GGUF file; empty: the page's. Not a tuned one.
        budget: cache_saving (percent of the KV cache), damage (nats per token, not to exceed) or followers.
        value: of the budget.
        text: to choose and judge on, half each, at most 1,000,000 characters; empty for bundled passages.
        tokens: in each half, 64 to 65,536.
        protect_first: so many first layers never reuse.
        protect_last: so many last layers never reuse.
        longest_span: in layers, the leader included; 0 for any.
        head_map: identity, most_similar, one_to_one, output or damage; empty: as stored, else output.
    """
    with sentences_as_errors():
        words(model=model, budget=budget, head_map=head_map)
        texts(text=text)
        layers = {"protect_first": protect_first, "protect_last": protect_last, "longest_span": longest_span}
        first, last, longest = (whole(name, count, low=0) for name, count in layers.items())
        limits, value = (first, last, longest or None), number("value", value)
        tokens = whole("tokens", tokens, *settings.SUGGEST_TOKENS)
        searches.check(model, budget, head_map)
        known = searches.known(model)
        asked = text.strip() or head_map or any(limits) or tokens != settings.CALIBRATION_TOKENS[0]
        if asked or searches.answers(known, budget, value) is None:
            steps = searches.suggestions(model, text, tokens, budget, value, limits, head_map or "output")
            for step in jobs.in_turn(steps):
                if not isinstance(step, searches.Step):
                    yield _waits(step)
                    continue
                if step.done < step.total:
                    yield {"step": step.items[-1].step, "done": step.done, "total": step.total}
            known = searches.with_suggestion(known, step, text)
        found = searches.answers(known, budget, value)
    yield _suggestion(found, known)


def _suggestion(found: PlanDamage, known: searches.Known) -> dict:
    span = known.best_span_like(found)
    return {
        "plan": found.plan.name,
        "paper_notation": found.plan.paper_notation,
        "followers": found.followers,
        "head_map": {str(layer): list(heads) for layer, heads in found.head_map.items()},
        "predicted": {"cache_saved_percent": 100 * found.cache_saving},
        "measured": _damage(found.held_out),
        "chosen_on": _damage(found),
        "best_span": {"plan": span.plan.name, **_damage(span.held_out)} if span else None,
        "source": known.about(found),
    }


def mechanisms_endpoint(model: str = "", budget: str = "cache") -> dict:
    """What stored records say of mechanisms: damage against saving, the cheapest of each layer, and a verdict on sharing.

    The answer is {curves, layers, verdict, note, source}. curves: a row for each mechanism (share, skip, kv, keys, topk,
    mixture) and size, {mechanism, target, saving, damage, stderr, held_out, plan, head_map}; damage in nats per token, on
    held-out text where held_out is true. layers: of each layer the mechanism that does least damage alone for what it saves,
    {layer, mechanism, damage, stderr, saving, plan, head_map}. verdict: one sentence on Shared Attention. note: how to measure what is not there.

    Args:
        model: bundled or fetched name, hub id, folder or GGUF file; empty: the page's.
        budget: what is saved: cache (bytes of keys and values), flops (of attention) or time (of a step, predicted).
    """
    with sentences_as_errors():
        words(model=model, budget=budget)
        one_of("budget", budget, mechanisms.BUDGETS)
        found = mechanisms.compared(model, budget)
        if found is None:
            fixed, name = get_model(model).fixed_plan, get_model(model).identity.name
            note = text_of_page.NOT_FOR_TUNED if fixed else text_of_page.MECHANISMS_NOTE.format(model=name)
            return {"curves": [], "layers": [], "verdict": "", "note": note, "source": ""}
    curves = found.curve(budget)
    kept = curves.assign(damage=curves.nats, stderr=curves.error, held_out=curves.held)
    layers = mechanisms.cheapest(found.layers, budget)
    return {
        "curves": _rows(kept[["mechanism", "target", "saving", "damage", "stderr", "held_out", "plan", "head_map"]]),
        "layers": _rows(layers[["layer", "mechanism", "damage", "stderr", "saving", "plan", "head_map"]]),
        "verdict": found.verdict(budget),
        "note": "",
        "source": found.about,
    }


def _damage(measured: PlanDamage) -> dict:
    return {"damage": measured.damage, "stderr": measured.stderr, "tokens": measured.tokens}


def _sizes(batch_size: object, context_tokens: object, prompt_tokens: object) -> tuple[int, int, int]:
    """Batch, context and prompt of a formula. Raises ValueError with one sentence for what is none."""
    return (
        whole("batch_size", batch_size, high=LARGEST_SIZE),
        whole("context_tokens", context_tokens, high=LARGEST_SIZE),
        whole("prompt_tokens", prompt_tokens, low=0, high=LARGEST_SIZE),
    )


def _plan_of_any(plan: str, depths: list[int]) -> str:
    """The plan as records of some model write it. Raises the ValueError of the deepest where no model has such a plan."""
    problem: ValueError | None = None
    for num_layers in depths:
        try:
            return SharingPlan.parse(plan, num_layers).name
        except ValueError as error:
            problem = error
    if problem:
        raise problem
    return plan


def _by_quantity(frame: pd.DataFrame) -> dict[str, dict]:
    return {row.pop("quantity"): row for row in _rows(frame)}


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows in plain data: null for what is not known, and as fractions whole numbers that no JSON reader keeps."""
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{str(name): _plain(value) for name, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):  # a head map: JSON has no numbers as keys, and gradio's writer refuses them
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, int) and abs(value) > LARGEST:
        return float(value)
    return None if isinstance(value, float) and math.isinf(value) else value


_Limits = dict[str, Any]
_QUICK: _Limits = {"concurrency_limit": 16}
"""Some of these may wait a while for a model that is being loaded (`app.loading`); others must not wait behind them."""
ENDPOINTS: dict[str, tuple[Callable, _Limits]] = {
    "savings": (savings_endpoint, _QUICK),
    "similarity": (similarity_endpoint, {"concurrency_limit": 8, "concurrency_id": "attention"}),
    "generate": (generate_endpoint, {"concurrency_limit": None}),  # they wait in a line of our own
    "scores": (scores_endpoint, _QUICK),
    "compare": (compare_endpoint, _QUICK),
    "mechanisms": (mechanisms_endpoint, _QUICK),
    "sweep": (jobs.unhurried(sweep_endpoint), {"concurrency_limit": None}),
    "suggest": (jobs.unhurried(suggest_endpoint), {"concurrency_limit": None}),
}
"""Name → function and how many may run at once."""
