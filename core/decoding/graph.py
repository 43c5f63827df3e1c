"""Decoding near the hardware's limit: the prompt once, then one token per step, dense or shared.

On a GPU a step is recorded as a CUDA graph over a preallocated cache and replayed for every further token: attention
reads what is cached and no more, leaders write their weights once, followers read only them and their values, layers that
skip attention nothing, and those of `kv` and `keys` their leader's rows in place. A model like Llama, up to 32 texts at once, is run
by a few kernels for each layer (`core.decoding.plain_step`), and recorded on each of its devices. Of others, layers are the
transformers model's own, with compiled norms, rotary embeddings and MLPs. Models whose attention is more
than a softmax over cached keys are refused: `core.decoding.start` has their own forward for a step.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from importlib import import_module
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import AttentionInterface, Cache, PreTrainedModel

from core.decoding.buffers import Buffer, Clock, buffers_of, room_of
from core.decoding.eager import Decoder, check_positions
from core.sharing.call import AttentionCall
from core.sharing.corrections import corrections_of
from core.sharing.families import (
    AttentionModule,
    attention_modules,
    decoder_of,
    hands_keywords_on,
)
from core.sharing.hooks import call_of
from core.sharing.native import native_plan_of
from core.sharing.storage import twin_of
from core.sharing.view import plan_of

if TYPE_CHECKING:
    from core.decoding.plain_step import PlainStep

_log = logging.getLogger(__name__)
_STEP = "shared_attention_step"
STAGES_APART = {torch.float32: 1e-3, torch.bfloat16: 0.15}
"""‖logits − the own forward's‖ ÷ ‖those‖, a few times what rounding makes of it (docs/decisions.md)."""


class GraphDecoder(Decoder):
    """Decoding by a recorded step over a preallocated cache.

    capture: record a CUDA graph; otherwise the same kernels are started one by one (a model on several devices).
    fuse: compile norms, rotary embeddings and MLPs of a model that is not plain. plain: step by `plain_step`, which needs
    Triton; None: where the model is plain and on GPUs. like: a decoder of the dense model whose buffers this one uses too,
    for timing two models of which only one fits; their texts would be wrong.

    Raises ValueError for a model whose attention needs more than these steps do; RuntimeError when it cannot be recorded.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        batch_size: int,
        max_tokens: int,
        capture: bool | None = None,
        fuse: bool | None = None,
        like: Decoder | None = None,
        plain: bool | None = None,
    ):
        if not hands_keywords_on(model):
            raise ValueError(
                f"models of type {model.config.model_type!r} are not known to attend where these steps can."
            )
        if corrections_of(model):
            raise ValueError("followers with corrections compute more than recorded steps do.")
        if native_plan_of(model):
            raise ValueError(
                "recorded steps know no layers that read the keys and values of another one by themselves."
            )
        plan = plan_of(model)
        if plan.phased:
            raise ValueError("recorded steps know no plan whose phases differ.")
        if any(part.mechanism == "topk" for part in plan.parts):
            raise ValueError("recorded steps read all that is cached, and choose no positions (topk).")
        super().__init__(model)
        self.attending = plan.num_layers - len(plan.skipped)
        self.max_tokens = max_tokens
        self.attention = "triton"
        self.clocks: dict[torch.device, Clock] = {}
        shared_with = like.buffers if isinstance(like, GraphDecoder) else None
        self.buffers: list[Buffer] = buffers_of(model, max_tokens, self.clocks, shared_with)
        self.cache = Cache(layers=list(self.buffers))
        self.length, self.room = 0, room_of(self.buffers)
        self.heads: dict[int, torch.Tensor] = {}  # layer → whose weights each of its query heads uses
        self.tokens = torch.zeros(batch_size, 1, dtype=torch.long, device=model.device)
        self.plain = self._plain_step(plain)
        if self.plain is not None:
            self.logits = self.plain.logits
            self.room = min(self.room or max_tokens, max_tokens)  # its rotation is known that far
        else:
            fuse = "SPACES_ZERO_GPU" not in os.environ if fuse is None else fuse  # ZeroGPU has no torch.compile
            self.stepper = _stepping_view(model, fuse)
        recordable = _is_on_gpus(model) if self.plain is not None else _is_on_one_gpu(model)
        self.capture = recordable if capture is None else capture
        self.graphs: list[torch.cuda.CUDAGraph] = []
        self._rehearse()
        if len(self._stages()) > 1:
            self._check_stages()
        self.restart()

    @torch.inference_mode()
    def _check_stages(self) -> None:
        """Raise RuntimeError where steps over several devices are not those of the model's own forward, rounding apart."""
        own = Decoder(self.model)
        expected = own.prefill(torch.zeros_like(self.tokens)).float()
        self._go_to(0)
        found = self.step(torch.zeros_like(self.tokens[:, 0])).float().to(expected.device)
        apart = (found - expected).norm() / expected.norm()
        if not apart < STAGES_APART[self.model.dtype]:
            raise RuntimeError(f"a step over several devices is {apart:.1%} apart from the model's own forward.")

    def _plain_step(self, plain: bool | None) -> "PlainStep | None":
        """Raises ValueError where a plain step is asked for and the model has none."""
        if plain is False or (plain is None and self.model.device.type != "cuda"):
            return None
        try:
            step = import_module("core.decoding.plain_step")  # needs Triton
            with torch.inference_mode():
                return step.PlainStep(self.model, self.tokens, self.max_tokens, self.buffers, self.clocks)
        except ValueError as reason:
            if plain:
                raise
            _log.info("Steps go by the model's own code: %s", reason)
            return None

    def prefill(self, input_ids: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """See `Decoder.prefill`; the whole prompt at once, on an empty cache."""
        if self.length:
            raise ValueError(f"This decoder has read {self.length:,} tokens already: restart it before another prompt.")
        self._check(input_ids, input_ids.shape[1])
        self._set_stepping(False)
        logits = super().prefill(input_ids, **kwargs)
        self._go_to(input_ids.shape[1])
        return logits

    @torch.inference_mode()
    def fill(self, tokens: int) -> None:
        """Pretend that `tokens` tokens were read: random keys and values, for timing without the prefill."""
        self._check(self.tokens, tokens)
        for buffer in self.buffers:
            buffer.keys.normal_()
            buffer.values.normal_()
        self._go_to(tokens)

    def rewind(self, tokens: int) -> None:
        """Go back to the first `tokens` tokens of those that were read, to take the steps after them again.

        Of layers with a sliding window the rows that later steps wrote over stay: good for measuring, not for texts.
        """
        self._go_to(tokens)

    def restart(self) -> None:
        """See `Decoder.restart`; the buffers and the recorded step are used again."""
        self._go_to(0)

    @torch.inference_mode()
    def _go_to(self, tokens: int) -> None:
        self._set_stepping(True)
        self.length = tokens
        for buffer in self.buffers:
            buffer.cumulative_length = tokens
        for clock in self.clocks.values():
            clock.position.fill_(tokens)

    @torch.inference_mode()
    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """See `Decoder.step`; ValueError where the buffers are full."""
        self._check(tokens, self.length + 1)
        if tokens.data_ptr() != self.tokens.data_ptr():  # else the step before has chosen them
            self.tokens.copy_(tokens[:, None])
        logits = self._replay() if self.graphs else self._run()
        self.length += 1
        for buffer in self.buffers:
            buffer.cumulative_length += 1
        return logits

    @torch.inference_mode()
    def step_greedily(self, tokens: torch.Tensor) -> torch.Tensor:
        """See `Decoder.step_greedily`; a plain step has chosen already."""
        logits = self.step(tokens)
        return logits.argmax(-1) if self.plain is None else self.plain.choice

    def _check(self, rows: torch.Tensor, tokens: int) -> None:
        """Refuse other rows than this decoder has, and more tokens than fit: the step would write over the oldest."""
        if len(rows) != len(self.tokens):
            raise ValueError(
                f"This decoder was made for {len(self.tokens)} rows and got {len(rows)}: make another one."
            )
        if self.room is not None and tokens > self.room:
            raise ValueError(
                f"This decoder has room for {self.room:,} tokens of a row, not for {tokens:,}: make it with a larger "
                "max_tokens."
            )
        check_positions(self.model, tokens, self.positions)

    @property
    def cache_bytes(self) -> int:
        """See `Decoder.cache_bytes`; what the buffers could hold beyond that is not counted."""
        return sum(buffer.bytes for buffer in self.buffers)

    def _set_stepping(self, stepping: bool) -> None:
        for buffer in self.buffers:
            buffer.stepping = stepping

    @torch.inference_mode()
    def _rehearse(self) -> None:
        """Allocate the buffers, compile the kernels, and record the graph."""
        self._set_stepping(True)
        if not self.capture:
            self.path = "kernels"
            self._run()
            return
        self.path = "cuda graph"
        for _ in range(3):
            self._go_to(0)
            for device, receive, run in self._stages():
                receive()
                with torch.cuda.device(device), _beside():
                    run()
        for device, receive, run in self._stages():
            receive()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.device(device):
                beside = torch.cuda.Stream()  # torch's own is of the device that recorded first, and would record there
                with torch.cuda.graph(graph, stream=beside, capture_error_mode="thread_local"):
                    run()
            self.graphs.append(graph)

    def _stages(self) -> "list[tuple[torch.device, Callable[[], object], Callable[[], object]]]":
        """What a step is made of: the device, what it waits for from others, and what is recorded there."""
        if self.plain is None:
            return [(self.model.device, lambda: None, self._forward_once)]
        return [(stage.device, stage.receive, stage.run) for stage in self.plain.stages]

    def _replay(self) -> torch.Tensor:
        if len(self.graphs) == 1:
            self.graphs[0].replay()
            return self.logits
        for graph, (device, receive, _) in zip(self.graphs, self._stages(), strict=True):
            receive()
            with torch.cuda.device(device):
                graph.replay()
        return self.logits

    def _run(self) -> torch.Tensor:
        for device, receive, run in self._stages():
            receive()
            with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
                run()
        return self.logits

    def _forward_once(self) -> None:
        """A step by the model's own code."""
        for clock in self.clocks.values():
            clock.tick()
        clock = self.clocks.setdefault(self.tokens.device, Clock(self.tokens.device))
        call = _StepCall(self.buffers, self.heads)
        self.logits = self.stepper(
            input_ids=self.tokens, position_ids=clock.position[None], past_key_values=self.cache, use_cache=True,
            logits_to_keep=1, shared_attention=call,
        ).logits[:, -1]  # fmt: skip
        if call.layers_seen != self.attending:
            raise ValueError(f"{self.model.config.model_type} models do not compute attention where these steps can.")
        for clock in self.clocks.values():
            clock.position.add_(1)


@contextmanager
def _beside() -> Iterator[None]:
    """On a stream of its own, as what is to be recorded has to run before."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        yield
    torch.cuda.current_stream().wait_stream(side)


def _is_on_gpus(model: PreTrainedModel) -> bool:
    return all(parameter.device.type == "cuda" for parameter in model.parameters())


def _is_on_one_gpu(model: PreTrainedModel) -> bool:
    return model.device.type == "cuda" and len({parameter.device for parameter in model.parameters()}) == 1


_NOT_PLAIN = ("softcap", "s_aux", "position_bias", "alibi")


class _StepCall(AttentionCall):
    """Attention of one new token per row over the buffers."""

    def __init__(self, buffers: list[Buffer], heads: dict[int, torch.Tensor]):
        super().__init__(_STEP, "reuse")
        self.kernels = import_module("core.decoding.kernels")
        self.buffers, self.heads, self.layers_seen = buffers, heads, 0

    def attend(
        self,
        module: AttentionModule,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: Any,
        scaling: float | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, None]:
        """A dense layer's attention; the result [batch, 1, heads, head_dim], no weights."""
        self._check(module, mask, kwargs)
        output = self.kernels.attend(query, key, value, self._end(module), scaling or query.shape[-1] ** -0.5)
        return output.transpose(1, 2), None

    def lead(
        self,
        module: AttentionModule,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: Any,
        scaling: float | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, None]:
        """A leader's attention: its weights, written once, and its own values under them."""
        self._check(module, mask, kwargs)
        self.weights[module.layer_idx] = self.kernels.attention_weights(
            query, key, self._end(module), scaling or query.shape[-1] ** -0.5
        )
        return self._weigh(module, module.layer_idx, value, None)

    def follow(self, module: AttentionModule, value: torch.Tensor) -> tuple[torch.Tensor, None]:
        """A follower's attention: its values under its leader's weights."""
        self.layers_seen += 1
        return self._weigh(module, module.leader, value, module.head_map)

    def _weigh(self, module: AttentionModule, leader: int, value: torch.Tensor, head_map) -> tuple[torch.Tensor, None]:
        weights = self.weights[leader] = self.weights[leader].to(value.device)
        if module.layer_idx not in self.heads:  # made in the rehearsal: a graph cannot copy from the host
            heads = range(weights.shape[1]) if head_map is None else head_map
            self.heads[module.layer_idx] = torch.tensor(list(heads), dtype=torch.int32, device=value.device)
        output = self.kernels.weighted_values(weights, value, self._end(module), self.heads[module.layer_idx])
        return output.transpose(1, 2), None

    def _end(self, module: AttentionModule) -> torch.Tensor:
        return self.buffers[module.layer_idx].end

    def _check(self, module: AttentionModule, mask, kwargs) -> None:
        self.layers_seen += 1
        if mask is not None or any(kwargs.get(name) is not None for name in _NOT_PLAIN):
            raise ValueError(f"attention of {module.config.model_type} is more than a softmax over cached keys.")


def _attend(module, query, key, value, attention_mask, shared_attention=None, **kwargs):
    call: Any = call_of(shared_attention)  # of `_StepCall`: this function is registered for its models alone
    return call.attend(module, query, key, value, attention_mask, **kwargs)


AttentionInterface.register(_STEP, _attend)  # and no mask function of that name: a step needs no mask


def _stepping_view(model: PreTrainedModel, fuse: bool) -> PreTrainedModel:
    view = twin_of(model)
    for config in (view.config, decoder_of(view).config):  # equal, unless the model reads more than text
        config._attn_implementation_internal = _STEP
    if fuse:
        for module in attention_modules(view):
            _fuse_rotary(module)
        for module in view.modules():
            if _can_fuse(module):
                module.forward = MethodType(_compiled(type(module).forward), module)
    return view


def _can_fuse(module: nn.Module) -> bool:
    """Norms and MLPs of transformers' own, without experts (whose choice of rows is not fixed) or hooks."""
    name, own = type(module).__name__, type(module).__module__.startswith("transformers.models.")
    hooked = "forward" in vars(module) or hasattr(module, "experts")
    return own and not hooked and name.endswith(("Norm", "MLP"))


def _fuse_rotary(module: AttentionModule) -> None:
    """Let this attention module's forward use a compiled `apply_rotary_pos_emb`: the function is looked up by name."""
    forward = type(module).forward
    forward = getattr(forward, "__wrapped__", forward)
    lends = hasattr(
        module, "exchange"
    )  # then its forward is that of `mechanisms.lending`, which runs its family's within
    if ("forward" in vars(module) and not lends) or "apply_rotary_pos_emb" not in forward.__globals__:
        return
    names = {**forward.__globals__, "apply_rotary_pos_emb": _compiled(forward.__globals__["apply_rotary_pos_emb"])}
    function = FunctionType(forward.__code__, names, forward.__name__, forward.__defaults__, forward.__closure__)
    function.__kwdefaults__ = forward.__kwdefaults__
    if lends:
        module.family_forward = function
    else:
        module.forward = MethodType(function, module)


@cache
def _compiled(function: Callable) -> Callable:
    return torch.compile(function)
