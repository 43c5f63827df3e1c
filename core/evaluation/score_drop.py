"""How much the score of a plan on a task is below the dense model's, measured with lm-eval, for the budget of a search."""

from collections.abc import Sequence
from pathlib import Path

from core.evaluation.compare import Difference, compare, load_evaluation
from core.evaluation.evaluate import Options, evaluate
from core.plan import SharingPlan
from core.records.scores import Record


class ScoreDrop:
    """Measures drops of one task's score; every score is stored as a record, and read again where it is there.

    task: any task of `python -m core evaluate`; the drop is that of its first metric. limit: its first documents only.
    results: where records are kept. about: `model_name` and `weights_sha256` of `core.evaluation.evaluate.evaluate`.
    `measured` holds the `core.evaluation.compare.Difference` of each plan that was asked for.
    """

    def __init__(self, model, tokenizer, task: str, limit: int | None, results: Path, **about):
        self.model, self.tokenizer, self.task = model, tokenizer, task
        self.results, self.about = Path(results), {"options": Options(limit=limit), "results": results, **about}
        self.measured: dict[SharingPlan, Difference] = {}
        self.dense = self._record("", {})

    def __call__(self, plan: SharingPlan, head_map: dict[int, tuple[int, ...]]) -> float:
        """The drop, in the metric's own unit; negative where the shared model is better."""
        shared = self._record(plan, head_map)
        places = [load_evaluation(self.results / record.path.parent) for record in (self.dense, shared)]
        self.measured[plan] = self._of_task(compare(*places))
        return self.measured[plan].drop

    def _record(self, plan: SharingPlan | str, head_map: dict) -> Record:
        [record] = evaluate(self.model, self.tokenizer, [plan], [self.task], head_map=head_map, **self.about)
        return record

    def _of_task(self, differences: Sequence[Difference]) -> Difference:
        title = f"{self.dense.task} ({self.dense.settings})" if self.dense.settings else self.dense.task
        metric = next(iter(self.dense.metrics))
        return next(one for one in differences if (one.task, one.metric) == (title, metric))
