"""How much the score of a plan on a task is below the dense model's, measured with lm-eval, for the budget of a search."""

import json
from functools import partial
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from core.evaluation.catalogue import Benchmark, load_benchmarks
from core.evaluation.compare import Difference, Evaluation, compare
from core.evaluation.evaluate import evaluate
from core.evaluation.options import Options
from core.plan import HeadMapLike, SharingPlan
from core.records.scores import Record


class ScoreDrop:
    """Measures drops of one task's score; every score is stored as a record, and read again where it is there.

    task: any task of `python -m core evaluate`, or a group with a score of its own; the drop is that of its first metric.
    limit: its first documents only. results: where records are kept. model_name, weights_sha256: as for
    `core.evaluation.evaluate.evaluate`. execution: of followers, see `core.sharing.share_attention`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        task: str,
        limit: int | None,
        results: Path,
        *,
        model_name: str,
        weights_sha256: str,
        execution: str = "auto",
    ):
        self.task, self.results = _scored_once(task), Path(results)
        self._evaluate = partial(
            evaluate, model, tokenizer, options=Options(limit=limit, execution=execution), results=results,
            model_name=model_name, weights_sha256=weights_sha256,
        )  # fmt: skip
        self._measured: dict[tuple[SharingPlan, str], Difference] = {}
        self.dense = self._record("", {})

    def __call__(self, plan: SharingPlan, head_map: HeadMapLike) -> float:
        """The drop, in the metric's own unit; negative where the shared model is better."""
        return self.difference(plan, head_map).drop

    def difference(self, plan: SharingPlan, head_map: HeadMapLike) -> Difference:
        """The drop of a plan with this very head map, and how sure it is; measured once."""
        key = plan, json.dumps(sorted((layer, [*heads]) for layer, heads in head_map.items()))
        if key not in self._measured:
            both = self.dense, self._record(plan, head_map)
            of_task = [Evaluation(self.results, {record.task: record}) for record in both]
            first = next(iter(self.dense.metrics))
            self._measured[key] = next(one for one in compare(*of_task) if one.metric == first)
        return self._measured[key]

    def _record(self, plan: SharingPlan | str, head_map: HeadMapLike) -> Record:
        [record] = self._evaluate([plan], [self.task], head_map=head_map)
        return record


def _scored_once(task: str) -> Benchmark:
    """The benchmark of this name. Raises ValueError for a group or tag without a score of its own: which one is meant?"""
    benchmarks = load_benchmarks([task.strip()] if task.strip() else [])
    if len(benchmarks) > 1:
        names = ", ".join(benchmark.name for benchmark in benchmarks[:6])
        raise ValueError(
            f"{task!r} stands for {len(benchmarks)} tasks without a score in common, and a drop is that of one score: "
            f"name one of them ({names}{', …' if len(benchmarks) > 6 else ''})."
        )
    return benchmarks[0]
