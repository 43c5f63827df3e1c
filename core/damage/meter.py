"""The damage of plans on a text, batch by batch: the increase of the mean loss against the dense model."""

from collections.abc import Iterable, Iterator, MutableMapping

import numpy as np
from transformers import PreTrainedModel

from core.damage.budget import cache_saving
from core.damage.choices import BATCH_TOKENS
from core.damage.roles import Roles, in_order, label, roles_of
from core.damage.runner import PlanRunner, Scorer
from core.damage.texts import Text
from core.plan import HeadMap, SharingPlan
from core.records.journal import Journal
from core.records.searches import PlanDamage
from core.tokens import check_ids, embedding_rows

# Larger arrays of the demo model's vocabulary would go back to the system after each use, and come anew, page by page.

MappedPlan = tuple[SharingPlan, HeadMap]
"""A plan (or a `core.records.searches.LayerPair`) with its head map: what is measured."""


class DamageMeter:
    """Measures the damage of plans on a text, batch by batch; what was measured once is not run again.

    `known` holds it: for each batch {label of a plan: sums of the rows, [2, rows]}. With a journal
    (`core.records.journal`) it is kept in a file too, so that a search goes on where it was stopped, and every other
    sweep or search on the same batches builds on it.
    """

    def __init__(
        self, model: PreTrainedModel, text: Text, *, execution: str = "auto", batch_tokens: int = BATCH_TOKENS,
        journal: Journal | None = None,
    ):  # fmt: skip
        check_ids((text.first, *(one for chunk in text.chunks for one in chunk)), embedding_rows(model))
        self.runner, self.text = PlanRunner(model, execution), text
        self.num_layers = self.runner.num_layers
        self.dense = roles_of(SharingPlan((), self.num_layers))
        self.batches = list(text.batches(batch_tokens, model.device))
        self.known: list[MutableMapping[str, np.ndarray]] = [
            {} if journal is None else journal.of(f"{batch.sha256} {execution}") for batch in self.batches
        ]
        self._savings: dict[SharingPlan, float] = {}

    def stream(self, plans: Iterable[MappedPlan]) -> Iterator[PlanDamage]:
        """The damage of each plan after each batch, all plans once per batch; close the iterator to stop."""
        mapped = {roles_of(plan, heads): (plan, heads) for plan, heads in plans}
        ordered = in_order(mapped)
        for number, known in enumerate(self.known):
            missing = [roles for roles in ordered if label(roles) not in known]
            yield from [self._damage(*mapped[roles], number) for roles in ordered if label(roles) in known]
            for roles in self._run(number, missing):
                yield self._damage(*mapped[roles], number)

    def measure(self, plans: Iterable[MappedPlan]) -> list[PlanDamage]:
        """The damage of each plan on the whole text, in the order of the plans."""
        plans = list(plans)
        found = {roles_of(one.plan, one.head_map): one for one in self.stream(plans) if one.finished}
        return [found[roles_of(*mapped)] for mapped in plans]

    def _run(self, number: int, plans: list[Roles]) -> Iterator[Roles]:
        """Run plans on a batch, and before them the dense model, which the divergence needs."""
        if not plans:
            return
        batch, scorer = self.batches[number], None
        for roles, logits in self.runner.logits(batch.inputs, [self.dense, *plans]):
            scorer = scorer or Scorer(batch, logits)
            self.known[number][label(roles)] = scorer(logits)
            if roles in plans:
                yield roles

    def _damage(self, plan: SharingPlan, heads: HeadMap, last_batch: int) -> PlanDamage:
        known, batches = self.known[: last_batch + 1], self.batches[: last_batch + 1]
        name = label(roles_of(plan, heads))
        losses, kls = np.concatenate([sums[name] for sums in known], axis=1)
        dense, _ = np.concatenate([sums[label(self.dense)] for sums in known], axis=1)
        tokens = np.concatenate([batch.tokens for batch in batches])
        (damage, stderr), (kl, kl_stderr) = mean_per_token(losses - dense, tokens), mean_per_token(kls, tokens)
        return PlanDamage(
            plan=plan, head_map=heads, split=self.text.split, damage=damage, stderr=stderr, kl=kl, kl_stderr=kl_stderr,
            cache_saving=self._saving(plan), tokens=int(tokens.sum()), total_tokens=self.text.num_tokens,
        )  # fmt: skip

    def rows_of(self, measured: PlanDamage) -> tuple[float, ...]:
        """The damage of each chunk, nats per token, of a plan that was measured on the whole text."""
        name = label(roles_of(measured.plan, measured.head_map))
        sums = [known[name][0] - known[label(self.dense)][0] for known in self.known]
        tokens = np.concatenate([batch.tokens for batch in self.batches])
        return tuple(float(row) for row in np.concatenate(sums) / tokens)

    def _saving(self, plan: SharingPlan) -> float:
        if plan not in self._savings:
            self._savings[plan] = cache_saving(self.runner.model, plan)
        return self._savings[plan]


def mean_per_token(sums: np.ndarray, tokens: np.ndarray) -> tuple[float, float]:
    """Mean per token, and its standard error as a ratio estimate over chunks (Cochran, Sampling Techniques, §2.11).

    sums, tokens: of each chunk, [chunks]. The error of a single chunk is NaN.
    """
    mean = float(sums.sum() / tokens.sum())
    chunks = len(sums)
    if chunks < 2:
        return mean, float("nan")
    residuals = ((sums - mean * tokens) ** 2).sum()
    return mean, float(np.sqrt(chunks / (chunks - 1) * residuals) / tokens.sum())
