"""Many sharing plans on one text, with the work of common prefixes done once; and what their logits cost in loss.

Two plans that agree up to a layer have the same hidden states up to there. Plans are sorted so that neighbours agree
on as much as possible; each one starts at the hidden states where it parts from the plan before it. Every layer runs
as the module of a `share_attention` view, with the masks and position embeddings that the model's own forward makes,
so that the logits equal those of the view to the bit.
"""

from collections.abc import Iterable, Iterator
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from core.damage.roles import Role, Roles, common_prefix, groups_in, in_order, roles_of
from core.damage.texts import Batch
from core.plan import SharingPlan
from core.sharing.call import AttentionCall
from core.sharing.families import decoder_of, layer_kinds, layers_of
from core.sharing.view import share_attention


class PlanRunner:
    """Runs a dense model under many plans on the same tokens; counts the layers that it runs.

    model: a dense decoder; it stays as it is. execution: see `share_attention`.
    Kept during a batch: the hidden states of one path through the layers, [layers, rows, tokens, width], and what one
    plan's leaders leave for its followers. `layer_evaluations` and `naive_layer_evaluations` count, in layers run on
    one batch, what was done and what running each plan from its first layer would have done.
    """

    def __init__(self, model: PreTrainedModel, execution: str = "auto"):
        self.model, self.execution = model, execution
        self.frame = share_attention(model, "")
        layers = cast(nn.ModuleList, layers_of(self.frame))
        self.num_layers, self.kinds = len(layers), layer_kinds(model)
        self.modules: dict[tuple[int, Role], nn.Module] = {(i, Role()): layer for i, layer in enumerate(layers)}
        gives_tuple = _gives_tuple(self.frame)
        self._stand_ins = [_StandIn(gives_tuple) for _ in layers]
        for index, stand_in in enumerate(self._stand_ins):
            layers[index] = stand_in
        self.layer_evaluations = self.naive_layer_evaluations = 0

    @torch.inference_mode()
    def logits(self, input_ids: torch.Tensor, plans: Iterable[Roles]) -> Iterator[tuple[Roles, torch.Tensor]]:
        """The logits [rows, tokens, vocabulary] of each plan on `input_ids` [rows, tokens], sorted by `in_order`."""
        self.frame(input_ids=input_ids, use_cache=False)
        states = [self._stand_ins[0].hidden_states]
        arguments = [stand_in.arguments for stand_in in self._stand_ins]
        call = AttentionCall(decoder_of(self.frame).config._attn_implementation, self.execution)
        ordered, previous = in_order(plans), Roles()
        for roles in reversed(ordered):  # long spans first: their views hold the modules of the short ones too
            self._make_modules(roles)
        for roles in ordered:
            shared = common_prefix(previous, roles)
            del states[shared + 1 :]
            _forget(call, shared)
            for layer in range(shared, self.num_layers):
                states.append(self._run(layer, roles[layer], states[-1], arguments[layer], call))
            self.naive_layer_evaluations += self.num_layers
            yield roles, self._head(input_ids, states[-1])
            previous = roles

    def _head(self, input_ids: torch.Tensor, hidden_states: torch.Tensor) -> torch.Tensor:
        """What the model's own forward makes of the last layer's output."""
        last = self._stand_ins[-1]
        last.output = hidden_states
        logits = self.frame(input_ids=input_ids, use_cache=False).logits
        last.output = None
        return logits

    def _run(
        self,
        layer: int,
        role: Role,
        hidden_states: torch.Tensor,
        arguments: tuple[tuple[Any, ...], dict[str, Any]],
        call: AttentionCall,
    ) -> torch.Tensor:
        self.layer_evaluations += 1
        args, kwargs = arguments
        extra = {} if role == Role() else {"shared_attention": call}
        output = self.modules[layer, role](hidden_states, *args, **kwargs, **extra)
        return output[0] if isinstance(output, tuple) else output

    def _make_modules(self, roles: Roles) -> None:
        if all((layer, role) in self.modules for layer, role in enumerate(roles)):
            return
        plan = self._wide_plan(roles)
        heads = {layer: role.heads for layer, role in enumerate(roles) if role.heads is not None}
        layers = layers_of(share_attention(self.model, plan, heads, self.execution))
        for layer, role in enumerate(roles_of(plan, heads)):
            self.modules.setdefault((layer, role), layers[layer])

    def _wide_plan(self, roles: Roles) -> SharingPlan:
        """The plan with these roles in which layers that they leave dense follow too, up to a leader's last follower.

        A view of it has modules for many other plans: those of shorter spans, and of pairs of layers.
        """
        group_of, parts = groups_in(roles)
        last = {leader: group[-1] for leader, group in group_of.items()}
        for layer, role in enumerate(roles):
            if role == Role():
                around = (one for one in last if one < layer < last[one] and self.kinds[one] == self.kinds[layer])
                if (leader := max(around, default=None)) is not None:
                    group_of[leader].append(layer)
        groups = tuple(tuple(sorted(group)) for group in group_of.values())
        return SharingPlan((), self.num_layers, groups, parts)


class _StandIn(nn.Module):
    """Takes a layer's place in the model's own forward: keeps what the layer would get, gives back `output`."""

    output: torch.Tensor | None = None

    def __init__(self, gives_tuple: bool):
        super().__init__()
        self.gives_tuple = gives_tuple

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """What the layer would be called with."""
        self.hidden_states, self.arguments = hidden_states, (args, kwargs)
        output = hidden_states if self.output is None else self.output
        return (output, None) if self.gives_tuple else output


@torch.inference_mode()
def _gives_tuple(model: PreTrainedModel) -> bool:
    """Whether the family's layers give their hidden states as the first of several outputs."""
    seen = []
    hook = layers_of(model)[0].register_forward_hook(lambda module, args, output: seen.append(output))
    model(input_ids=torch.zeros(1, 2, dtype=torch.long, device=model.device), use_cache=False)
    hook.remove()
    return isinstance(seen[0], tuple)


def _forget(call: AttentionCall, layer: int) -> None:
    """Drop what leaders from `layer` on left in the call."""
    for left in (call.weights, call.inputs):
        for leader in [leader for leader in left if leader >= layer]:
            del left[leader]
    call.lent = {leader: kept for leader, kept in call.lent.items() if leader < layer}
    call.places = {leader: kept for leader, kept in call.places.items() if leader < layer}


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
