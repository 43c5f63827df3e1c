"""Endpoints for programs (gradio_client, curl): the same functions that the page uses, under stable names.

What the page would show as a sentence comes back as an error with that sentence.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import gradio as gr

from app import searches, services, settings
from app.asked import number, whole, words
from app.measured import store
from core.cost import fits_frame, known_shapes
from core.plan import SharingPlan
from core.records.provenance import model_name
from core.records.searches import PlanDamage


def add_endpoints() -> None:
    """Register all endpoints in the current gr.Blocks."""
    gr.api(savings_endpoint, api_name="savings")
    gr.api(similarity_endpoint, api_name="similarity", concurrency_limit=1, concurrency_id="attention")
    gr.api(generate_endpoint, api_name="generate", concurrency_limit=2, concurrency_id="generate")
    gr.api(scores_endpoint, api_name="scores")
    gr.api(suggest_endpoint, api_name="suggest", concurrency_limit=4, concurrency_id="search")


@contextmanager
def sentences_as_errors() -> Iterator[None]:
    """Bad input reaches the caller as its sentence."""
    try:
        yield
    except ValueError as problem:
        raise gr.Error(str(problem), print_exception=False) from problem


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

    model: a bundled or fetched name, hub id, local folder or GGUF file (empty: that of the page), or a well-known shape
    (such as Llama-3-8B), which is not loaded.
    plan: spans first-last, or groups of listed layers such as 2-4-6, separated by commas; empty for dense.
    dtype: number format of the cache, and for `fits` of the weights too: float32, bfloat16, float16 or float8.
    """
    with sentences_as_errors():
        words(model=model, plan=plan, dtype=dtype)
        batch_size, context_tokens = whole("batch_size", batch_size), whole("context_tokens", context_tokens)
        prompt_tokens = whole("prompt_tokens", prompt_tokens, low=0)
        shape = services.shape_of(model if model in known_shapes() else services.LOADED, model)
        parsed = SharingPlan.parse(plan, shape.num_layers)
        frame = services.savings(shape, parsed, batch_size, context_tokens, prompt_tokens, dtype)
        fits = fits_frame(shape, parsed, batch_size, context_tokens, dtype).drop(columns="basis")
    rows = fits.astype(object).where(fits.notna(), None).to_dict("records")
    quantities = (
        frame[frame.context == context_tokens]
        .set_index("quantity")[["unit", "dense", "shared", "saved_percent"]]
        .to_dict("index")
    )
    return quantities | {"fits": rows}


def similarity_endpoint(text: str, model: str = "", method: str = "head_mean") -> dict:
    """Similarity of the attention of each two layers: {method, tokens, text_tokens, note, similarity [layers][layers]}.

    Of a text of `text_tokens` tokens the first `tokens` are looked at; `note` says so where these are not all.
    """
    with sentences_as_errors():
        words(text=text, model=model, method=method)
        found = services.similarity(model, text, method)
    note = services.said_of(found.tokens, found.text_tokens)
    about = {"method": method, "tokens": found.tokens, "text_tokens": found.text_tokens, "note": note}
    return about | {"similarity": found.matrix.tolist()}


def generate_endpoint(
    prompt: str,
    model: str = "",
    plan: str = settings.DEFAULT_PLAN,
    max_new_tokens: int = settings.DEFAULT_NEW_TOKENS,
    temperature: float = 0.0,
    seed: int = 0,
    chat: bool = False,
    system: str = "",
    details: bool = False,
) -> Iterator[dict]:
    """Dense and shared continuation of a prompt, streamed: {dense, shared, first_difference, first_token_differs}.

    Times are measured here. first_token_differs: whether the two times to the first token differ by more than they vary;
    null until they were measured often enough to tell, which for long prompts is after the last token.
    chat: answer the prompt as a turn of a conversation, which begins with `system`, by the model's chat template.
    details: also {speed_differs, parting}: whether the times of the later steps differ by more than they spread, and, from
    the first different token on, {tokens, character, dense, shared} with the likeliest tokens of each model at that place,
    [{text, probability, chosen}].
    """
    with sentences_as_errors():
        words(prompt=prompt, model=model, plan=plan, system=system)
        max_new_tokens = whole("max_new_tokens", max_new_tokens, high=settings.MAX_NEW_TOKENS)
        temperature, seed = number("temperature", temperature), whole("seed", seed, low=0)
        asked = (model, plan, prompt, max_new_tokens, temperature, seed)
        with services.texts_line.place() as place:
            for _ in place.waiting():
                pass
            for progress in services.generate(*asked, chat=chat, system=system):
                yield {name: value for name, value in asdict(progress).items() if details or name not in _DETAILS}


_DETAILS = ("speed_differs", "parting")


def scores_endpoint(model: str = "", plan: str = "", task: str = "") -> list[dict]:
    """Measured scores, one per record and metric; an empty argument selects all. Dense rows have the plan `dense`.

    model: as records name it, or a local folder.
    """
    with sentences_as_errors():
        words(model=model, plan=plan, task=task)
    frame = store().frame
    for column, wanted in (("model", model and model_name(model)), ("plan", plan), ("task", task)):
        frame = frame[frame[column] == wanted] if wanted else frame
    rows = frame.astype(object).where(frame.notna(), None).rename(columns={"path": "file"})  # `path` would be fetched
    return [{**row, "date": row["date"].isoformat()} for row in rows.to_dict("records")]


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

    budget: cache_saving (percent of the KV cache), damage (nats per token, not to exceed) or followers; value: of it.
    text: to choose and judge on, half each; empty for bundled passages. tokens: in each half.
    protect_first, protect_last: layers that never reuse. longest_span: in layers; 0 for any.
    head_map: identity, most_similar, one_to_one, output or damage. Empty, without text, limits and another number of
    tokens than the default: the stored search of a bundled model answers at once, else output.

    The plan: {plan, paper_notation, followers, head_map, predicted: {cache_saved_percent}, measured: {damage, stderr,
    tokens} in nats per token on held-out text, chosen_on: the same where it was chosen, best_span: the best single span
    of as many followers, likewise, source: how it was measured}.
    """
    with sentences_as_errors():
        words(model=model, budget=budget, text=text, head_map=head_map)
        layers = {"protect_first": protect_first, "protect_last": protect_last, "longest_span": longest_span}
        first, last, longest = (whole(name, count, low=0) for name, count in layers.items())
        limits, value = (first, last, longest or None), number("value", value)
        tokens = whole("tokens", tokens, *settings.SUGGEST_TOKENS)
        searches.check(model, budget, head_map)
        known = searches.known(model)
        asked = text.strip() or head_map or any(limits) or tokens != settings.CALIBRATION_TOKENS[0]
        if asked or searches.answers(known, budget, value) is None:
            for step in searches.suggestions(model, text, tokens, budget, value, limits, head_map or "output"):
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


def _damage(measured: PlanDamage) -> dict:
    return {"damage": measured.damage, "stderr": measured.stderr, "tokens": measured.tokens}
