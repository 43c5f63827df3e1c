"""How much the score of a plan on a task is below the dense model's, measured with lm-eval, for the budget of a search."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from core.evaluation.compare import Difference, Evaluation, compare, title
from core.evaluation.evaluate import evaluate
from core.evaluation.options import Options
from core.plan import HeadMapLike, SharingPlan
from core.records.scores import Record


class ScoreDrop:
    """Measures drops of one task's score; every score is stored as a record, and read again where it is there.

    task: any task of `python -m core evaluate`; the drop is that of its first metric. limit: its first documents only.
    results: where records are kept. model_name, weights_sha256: as for `core.evaluation.evaluate.evaluate`. execution:
    of followers, see `core.sharing.share_attention`.
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
        self.task, self.results = task, Path(results)
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
            self._measured[key] = self._of_task(compare(*of_task))
        return self._measured[key]

    def _record(self, plan: SharingPlan | str, head_map: HeadMapLike) -> Record:
        [record] = self._evaluate([plan], [self.task], head_map=head_map)
        return record

    def _of_task(self, differences: Sequence[Difference]) -> Difference:
        wanted = (title(self.dense), next(iter(self.dense.metrics)))
        return next(one for one in differences if (one.task, one.metric) == wanted)
