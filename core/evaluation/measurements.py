"""What is to be measured: each plan on each benchmark, with everything that its record says but the scores."""

import shlex
from collections.abc import Sequence
from typing import Any, NamedTuple

from transformers import PreTrainedModel

from core.evaluation.catalogue import Benchmark
from core.evaluation.documents import data_sha256
from core.evaluation.options import Options
from core.gguf_source import quantization_of
from core.plan import HeadMapLike, SharingPlan
from core.quantization import cache_maker
from core.records.provenance import git_commit, machine, versions
from core.records.scores import Kind, Record
from core.records.tunings import tuned_of
from core.sharing.families import num_layers_of
from core.sharing.view import plan_of, share_attention


class Measurement(NamedTuple):
    """One plan on one benchmark. model: the view that runs the plan. draft: its record, still without scores."""

    model: PreTrainedModel
    benchmark: Benchmark
    draft: Record


def measurements(
    model: PreTrainedModel,
    plans: Sequence[SharingPlan | str],
    head_map: HeadMapLike,
    benchmarks: Sequence[Benchmark],
    options: Options,
    about_model: dict[str, Any],
    command_options: Sequence[str],
) -> list[Measurement]:
    """Every plan on every benchmark, in this order; the arguments are those of `core.evaluation.evaluate.evaluate`.

    about_model: `model` and `weights_sha256` of the records.
    """
    about = about_model | _about_model(model) | _about_run(model, options)
    views = _views(model, plans, head_map, options.execution)
    for view, _ in views if options.cache_kind.bits else ():
        cache_maker(view, options.cache_kind)  # whether there is such a cache for it, before anything is measured
    about_benchmarks = [_about_benchmark(benchmark) for benchmark in benchmarks]
    return [
        Measurement(
            view,
            benchmark,
            _draft(
                about | about_plan | asked | _about_scoring(view, benchmark), [*benchmark.arguments, *command_options]
            ),
        )
        for view, about_plan in views
        for benchmark, asked in zip(benchmarks, about_benchmarks, strict=True)
    ]


def _views(
    model: PreTrainedModel, plans: Sequence[SharingPlan | str], head_map: HeadMapLike, execution: str
) -> list[tuple[PreTrainedModel, dict[str, Any]]]:
    """A view of the model for each plan, and what the records say about the plan."""
    num_layers, own = num_layers_of(model), plan_of(model)
    parsed = [SharingPlan.parse(plan, num_layers) if isinstance(plan, str) else plan for plan in plans] or [own]
    return [_view(model, plan, own, head_map, execution) for plan in dict.fromkeys(parsed)]


def _view(
    model: PreTrainedModel, plan: SharingPlan, own: SharingPlan, head_map: HeadMapLike, execution: str
) -> tuple[PreTrainedModel, dict[str, Any]]:
    tuned = bool(own) and plan == own
    view = model if tuned else share_attention(model, plan, head_map or None, execution)
    kind = "tuned" if tuned else _kind(model, plan, head_map)
    heads = {layer: tuple(heads) for layer, heads in (_own_heads(model, head_map) if tuned else head_map).items()}
    return view, {
        "plan": str(plan), "followers": plan.followers, "kind": kind, "execution": execution, "head_map": heads
    }  # fmt: skip


def _own_heads(model: PreTrainedModel, asked: HeadMapLike) -> HeadMapLike:
    """The head map that a model was saved with. Raises ValueError when another one is asked for."""
    own = vars(model).get("sharing_head_map") or {}
    if asked and {layer: tuple(heads) for layer, heads in asked.items()} != {k: tuple(v) for k, v in own.items()}:
        raise ValueError(
            f"This model was saved with plan {plan_of(model)} and {'a head map of its own' if own else 'no head map'}: leave "
            "--head-map out, or give the dense model."
        )
    return own


def _kind(model: PreTrainedModel, plan: SharingPlan, head_map: HeadMapLike) -> Kind:
    if plan:
        return "head-mapped" if head_map else "direct"
    tuned = tuned_of(model.config)
    return "control" if tuned and tuned.control else "dense"


def _about_model(model: PreTrainedModel) -> dict[str, Any]:
    tuned = tuned_of(model.config)
    about = {"num_layers": num_layers_of(model), "dtype": str(model.dtype).removeprefix("torch.")}
    about |= {"tuning": tuned and tuned.model_dump(exclude_none=True)}
    return about | {"quantization": quantization_of(model)}


def _about_run(model: PreTrainedModel, options: Options) -> dict[str, Any]:
    seeds = dict.fromkeys(("python", "numpy", "torch", "fewshot"), options.seed)
    about = {"limit": options.limit, "seeds": seeds, "options": options.changed, "batch_size": options.batch_size}
    return about | {"versions": versions(), "git_commit": git_commit(), "machine": machine(model.device)}


def _about_benchmark(benchmark: Benchmark) -> dict[str, Any]:
    about = {"task": benchmark.name, "task_version": benchmark.version, "data_source": benchmark.data_source}
    num_fewshot = max(task.get_config("num_fewshot") for task in benchmark.tasks.values())
    return about | {"data_sha256": data_sha256(benchmark), "num_fewshot": num_fewshot}


def _about_scoring(view: PreTrainedModel, benchmark: Benchmark) -> dict[str, Any]:
    """How answers are scored, of a plan whose phases differ; other plans get the same scores either way."""
    if not plan_of(view).phased:
        return {}
    writes = all(task.OUTPUT_TYPE == "generate_until" for task in benchmark.tasks.values())
    return {"scored_by": "generation" if writes else "cache"}


def _draft(about: dict[str, Any], arguments: Sequence[str]) -> Record:
    command = ["python", "-m", "core", "evaluate", "--model", about["model"], "--plan", about["plan"] or "dense"]
    return Record.model_construct(**about, command=shlex.join([*command, *arguments]))
