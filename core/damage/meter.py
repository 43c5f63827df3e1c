"""The damage of many sharing plans on one text, with the work of common prefixes done once.

Two plans that agree up to a layer have the same hidden states up to there. Plans are sorted so that neighbours agree
on as much as possible; each one starts at the hidden states where it parts from the plan before it. Every layer runs
as the module of a `share_attention` view, with the masks and position embeddings that the model's own forward makes,
so that the logits equal those of the view to the bit.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from core.damage.texts import Batch, Text
from core.plan import SharingPlan
from core.records.searches import Journal
from core.sharing.families import decoder_of, layers_of
from core.sharing.view import AttentionCall, share_attention

# Larger arrays of the demo model's vocabulary would go back to the system after each use, and come anew, page by page.
BATCH_TOKENS = 1024


class Role(NamedTuple):
    """What one layer does: it follows `leader` (with its heads reading the leader heads `heads`), or computes."""

    leader: int | None = None
    leads: bool = False  # others reuse its weights
    heads: tuple[int, ...] | None = None  # None: each head reads the leader's head of the same number

    @property
    def order(self) -> tuple:
        """Sort key; layers that only compute come first, so that the dense plan is the first of all."""
        return self.leader is not None, self.leads, self.leader or 0, self.heads or ()


Roles = tuple[Role, ...]


def roles_of(plan: SharingPlan, head_map: Mapping[int, Sequence[int]] | None = None) -> Roles:
    """The role of each layer under a sharing plan."""
    return _roles({layer: plan.leader_of(layer) for layer in plan.followers}, plan.num_layers, head_map or {})


def pair_roles(leader: int, follower: int, num_layers: int) -> Roles:
    """Layer `follower` alone reuses the weights of layer `leader`; the layers between them compute their own."""
    return _roles({follower: leader}, num_layers, {})


def _roles(leaders: dict[int, int], num_layers: int, head_map: Mapping[int, Sequence[int]]) -> Roles:
    heads = {layer: tuple(heads) for layer, heads in head_map.items()}
    leading = set(leaders.values())
    return tuple(Role(leaders.get(layer), layer in leading, heads.get(layer)) for layer in range(num_layers))


@dataclass(frozen=True)
class Damage:
    """The increase of the mean loss against the dense model on the same text, in nats per token.

    `kl` is the mean Kullback-Leibler divergence KL(dense ‖ shared) of the next-token distributions, nats too. Standard
    errors are over the chunks of the text: they say how far the mean would move on other text of the same kind; NaN
    for a single chunk.
    """

    mean: float
    stderr: float
    kl: float
    kl_stderr: float
    tokens: int

    @classmethod
    def over_chunks(cls, increase: np.ndarray, kl: np.ndarray, tokens: np.ndarray) -> "Damage":
        """From the sums of each chunk, all [chunks]."""
        return cls(*_mean(increase, tokens), *_mean(kl, tokens), int(tokens.sum()))


def _mean(sums: np.ndarray, tokens: np.ndarray) -> tuple[float, float]:
    """Mean per token, and its standard error as a ratio estimate over chunks (Cochran, Sampling Techniques, §2.11)."""
    mean = float(sums.sum() / tokens.sum())
    chunks = len(sums)
    if chunks < 2:
        return mean, float("nan")
    residuals = ((sums - mean * tokens) ** 2).sum()
    return mean, float(np.sqrt(chunks / (chunks - 1) * residuals) / tokens.sum())


class PlanRunner:
    """Runs a dense model under many plans on the same tokens; counts the layers that it runs.

    model: a dense decoder; it stays as it is. execution: see `share_attention`.
    Kept during a batch: the hidden states of one path through the layers, [layers, rows, tokens, width], and what one
    plan's leaders leave for its followers. `layer_evaluations` and `naive_layer_evaluations` count, in layers run on
    one batch, what was done and what running each plan from its first layer would have done.
    """

    def __init__(self, model, execution: str = "auto"):
        self.model, self.execution = model, execution
        self.frame = share_attention(model, "")
        layers = layers_of(self.frame)
        self.num_layers = len(layers)
        self.modules: dict[tuple[int, Role], nn.Module] = {(i, Role()): layer for i, layer in enumerate(layers)}
        gives_tuple = _gives_tuple(self.frame)
        for index in range(self.num_layers):
            layers[index] = _StandIn(gives_tuple)
        self.layer_evaluations = self.naive_layer_evaluations = 0

    @torch.inference_mode()
    def logits(self, input_ids: torch.Tensor, plans: Iterable[Roles]) -> Iterator[tuple[Roles, torch.Tensor]]:
        """The logits [rows, tokens, vocabulary] of each plan on `input_ids` [rows, tokens], sorted by `in_order`."""
        stand_ins = layers_of(self.frame)
        self.frame(input_ids=input_ids, use_cache=False)
        states = [stand_ins[0].hidden_states]
        arguments = [stand_in.arguments for stand_in in stand_ins]
        call = AttentionCall(decoder_of(self.frame).config._attn_implementation, self.execution)
        plans, previous = in_order(plans), ()
        for roles in reversed(plans):  # long spans first: their views hold the modules of the short ones too
            self._make_modules(roles)
        for roles in plans:
            shared = _common_prefix(previous, roles)
            del states[shared + 1 :]
            _forget(call, shared)
            for layer in range(shared, self.num_layers):
                states.append(self._run(layer, roles[layer], states[-1], arguments[layer], call))
            self.naive_layer_evaluations += self.num_layers
            yield roles, self._head(input_ids, states[-1])
            previous = roles

    def _head(self, input_ids: torch.Tensor, hidden_states: torch.Tensor) -> torch.Tensor:
        """What the model's own forward makes of the last layer's output."""
        last = layers_of(self.frame)[-1]
        last.output = hidden_states
        logits = self.frame(input_ids=input_ids, use_cache=False).logits
        last.output = None
        return logits

    def _run(self, layer: int, role: Role, hidden_states, arguments: tuple[tuple, dict], call: AttentionCall):
        self.layer_evaluations += 1
        args, kwargs = arguments
        extra = {} if role == Role() else {"shared_attention": call}
        output = self.modules[layer, role](hidden_states, *args, **kwargs, **extra)
        return output[0] if isinstance(output, tuple) else output

    def _make_modules(self, roles: Roles) -> None:
        if all((layer, role) in self.modules for layer, role in enumerate(roles)):
            return
        last = {role.leader: layer for layer, role in enumerate(roles) if role.leader is not None}
        plan = SharingPlan(tuple(last.items()), self.num_layers)
        heads = {layer: role.heads for layer, role in enumerate(roles) if role.heads is not None}
        layers = layers_of(share_attention(self.model, plan, heads, self.execution))
        for layer, role in enumerate(roles_of(plan, heads)):
            self.modules.setdefault((layer, role), layers[layer])


class _StandIn(nn.Module):
    """Takes a layer's place in the model's own forward: keeps what the layer would get, gives back `output`."""

    output = None

    def __init__(self, gives_tuple: bool):
        super().__init__()
        self.gives_tuple = gives_tuple

    def forward(self, hidden_states, *args, **kwargs):
        self.hidden_states, self.arguments = hidden_states, (args, kwargs)
        output = hidden_states if self.output is None else self.output
        return (output, None) if self.gives_tuple else output


@torch.inference_mode()
def _gives_tuple(model) -> bool:
    """Whether the family's layers give their hidden states as the first of several outputs."""
    seen = []
    hook = layers_of(model)[0].register_forward_hook(lambda module, args, output: seen.append(output))
    model(input_ids=torch.zeros(1, 2, dtype=torch.long, device=model.device), use_cache=False)
    hook.remove()
    return isinstance(seen[0], tuple)


def in_order(plans: Iterable[Roles]) -> list[Roles]:
    """The plans, each once, sorted so that neighbours have long common prefixes."""
    return sorted(set(plans), key=lambda roles: [role.order for role in roles])


def _common_prefix(first: Roles, second: Roles) -> int:
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, second)))


def _forget(call: AttentionCall, layer: int) -> None:
    """Drop what leaders from `layer` on left in the call."""
    for left in (call.weights, call.inputs):
        for leader in [leader for leader in left if leader >= layer]:
            del left[leader]


class Scorer:
    """Sums the loss, and KL(dense ‖ shared), of each row of a batch, in nats; logits are taken in float32.

    KL: Σ p·(log p − log q) over the vocabulary, p the dense model's next-token probabilities, q the shared model's.
    """

    def __init__(self, batch: Batch, dense: torch.Tensor):
        self.batch = batch
        log_p = dense.float().log_softmax(-1)
        self.p = log_p.exp()
        self.negative_entropy = torch.linalg.vecdot(self.p, log_p)

    def __call__(self, logits: torch.Tensor) -> np.ndarray:
        """[2, rows]: losses and divergences of logits [rows, tokens, vocabulary]."""
        log_q = logits.float().log_softmax(-1)  # on a CPU twice as fast as logsumexp
        losses = -log_q.gather(-1, self.batch.targets[..., None])[..., 0]
        kl = self.negative_entropy - torch.linalg.vecdot(self.p, log_q)
        per_token = torch.stack([losses, kl]).masked_fill(~self.batch.mask, 0)
        return per_token.sum(-1, dtype=torch.float64).cpu().numpy()


class Cell(NamedTuple):
    """The damage of one plan so far: on `damage.tokens` of the `total_tokens` tokens of the text."""

    roles: Roles
    damage: Damage
    total_tokens: int

    @property
    def finished(self) -> bool:
        """Whether the whole text went in."""
        return self.damage.tokens == self.total_tokens


class DamageMeter:
    """Measures the damage of plans on a text, batch by batch; what was measured once is not run again.

    `known` holds it: for each batch {label of a plan: sums of the rows, [2, rows]}. With a journal
    (`core.records.searches`) it is kept in a file too, so that a search goes on where it was stopped, and every other
    sweep or search on the same batches builds on it.
    """

    def __init__(
        self, model, text: Text, *, execution: str = "auto", batch_tokens: int = BATCH_TOKENS,
        journal: Journal | None = None,
    ):  # fmt: skip
        self.runner, self.text = PlanRunner(model, execution), text
        self.num_layers = self.runner.num_layers
        self.dense = roles_of(SharingPlan((), self.num_layers))
        self.batches = list(text.batches(batch_tokens, model.device))
        self.known: list[MutableMapping[str, np.ndarray]] = [
            {} if journal is None else journal.of(f"{batch.sha256} {execution}") for batch in self.batches
        ]

    def stream(self, plans: Iterable[Roles]) -> Iterator[Cell]:
        """A `Cell` for each plan after each batch, all plans once per batch; close the iterator to stop."""
        plans = in_order(plans)
        for number, known in enumerate(self.known):
            missing = [roles for roles in plans if label(roles) not in known]
            yield from [self._cell(roles, number) for roles in plans if label(roles) in known]
            for roles in self._run(number, missing):
                yield self._cell(roles, number)

    def measure(self, plans: Iterable[Roles]) -> dict[Roles, Damage]:
        """The damage of each plan on the whole text."""
        return {cell.roles: cell.damage for cell in self.stream(plans) if cell.finished}

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

    def _cell(self, roles: Roles, last_batch: int) -> Cell:
        known, batches = self.known[: last_batch + 1], self.batches[: last_batch + 1]
        losses, kl = np.concatenate([sums[label(roles)] for sums in known], axis=1)
        dense, _ = np.concatenate([sums[label(self.dense)] for sums in known], axis=1)
        tokens = np.concatenate([batch.tokens for batch in batches])
        return Cell(roles, Damage.over_chunks(losses - dense, kl, tokens), self.text.num_tokens)


def label(roles: Roles) -> str:
    """A short unique text for the roles of all layers: `18<17,19<17:0.0.2`; empty for the dense plan."""
    return ",".join(
        f"{layer}<{role.leader}" + ("" if role.heads is None else ":" + ".".join(map(str, role.heads)))
        for layer, role in enumerate(roles)
        if role.leader is not None
    )
