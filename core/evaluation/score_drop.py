"""How much the score of a plan on a task is below the dense model's, measured with lm-eval, for the budget of a search."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from core.evaluation.compare import Difference, compare, load_evaluation, title
from core.evaluation.evaluate import evaluate
from core.evaluation.options import Options
from core.plan import HeadMapLike, SharingPlan
from core.records.scores import Record


class ScoreDrop:
    """Measures drops of one task's score; every score is stored as a record, and read again where it is there.

    task: any task of `python -m core evaluate`; the drop is that of its first metric. limit: its first documents only.
    results: where records are kept. model_name, weights_sha256: as for `core.evaluation.evaluate.evaluate`.
    `measured` holds the `core.evaluation.compare.Difference` of each plan that was asked for.
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
    ):
        self.task, self.results = task, Path(results)
        self._evaluate = partial(
            evaluate, model, tokenizer, options=Options(limit=limit), results=results, model_name=model_name,
            weights_sha256=weights_sha256,
        )  # fmt: skip
        self.measured: dict[SharingPlan, Difference] = {}
        self.dense = self._record("", {})

    def __call__(self, plan: SharingPlan, head_map: HeadMapLike) -> float:
        """The drop, in the metric's own unit; negative where the shared model is better."""
        shared = self._record(plan, head_map)
        places = [load_evaluation(self.results / record.path.parent) for record in (self.dense, shared)]
        self.measured[plan] = self._of_task(compare(*places))
        return self.measured[plan].drop

    def _record(self, plan: SharingPlan | str, head_map: HeadMapLike) -> Record:
        [record] = self._evaluate([plan], [self.task], head_map=head_map)
        return record

    def _of_task(self, differences: Sequence[Difference]) -> Difference:
        wanted = (title(self.dense), next(iter(self.dense.metrics)))
        return next(one for one in differences if (one.task, one.metric) == wanted)
