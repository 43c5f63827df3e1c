"""A decoder of Llama's shape in plain PyTorch, compiled whole: gpt-fast's approach, on a model's own weights.

What makes gpt-fast fast (https://github.com/pytorch-labs/gpt-fast): keys and values in buffers of fixed size, written at a
position that is a tensor; a mask over the whole buffer; attention spelled out, for the compiler to fuse; and one step, the
choice of the token included, as one graph (`mode="reduce-overhead"`, `fullgraph=True`, coordinate descent tuning), which on
a GPU is recorded and replayed. Not taken over: its fused projection of queries, keys and values, which would need
a second copy of the weights; its order of rotary dimensions, since weights here have transformers'.
"""

from typing import Any

import torch
import torch._inductor.config as inductor
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import DynamicCache, PreTrainedModel

from core.sharing.families import decoder_of, layers_of
from core.timing.peers.peer import LeftOut, Peer, mark_step

SHAPES = ("llama", "mistral", "qwen2", "qwen3")
"""Model types of this shape: RMS norms before attention and MLP, rotary embedding, grouped heads, SwiGLU; biases and norms of
queries and keys where the model has them."""
_REHEARSALS = 3  # compiling, recording, and once more


def check_shape(model: PreTrainedModel, max_tokens: int) -> None:
    """Raise LeftOut, with the reason, for a model of another shape, or whose windows end within `max_tokens`."""
    kind, config = model.config.model_type, model.config
    if kind not in SHAPES:
        raise LeftOut(f"It is written for models of type {', '.join(SHAPES)}, not {kind}.")
    windows = [getattr(layer, "sliding_window", None) for layer in DynamicCache(config=config).layers]
    if (window := min(filter(None, windows), default=max_tokens)) < max_tokens:
        raise LeftOut(f"It has no sliding windows, and this model's hold {window:,} of {max_tokens:,} tokens.")
    if config.hidden_act != "silu":
        raise LeftOut(f"It is written for the activation silu, not {config.hidden_act}.")
    if config.rope_parameters.get("rope_type", "default") in ("dynamic", "longrope"):
        raise LeftOut("It has no rotary embedding that changes with the length of the text.")


class PlainDecoder(nn.Module):
    """A dense decoder over the weights of `model`, with room for `max_tokens` of each of `batch_size` rows."""

    cos: torch.Tensor
    sin: torch.Tensor
    causal: torch.Tensor

    def __init__(self, model: PreTrainedModel, batch_size: int, max_tokens: int):
        super().__init__()
        check_shape(model, max_tokens)
        decoder: Any = decoder_of(model)
        self.embedding: Any = decoder.embed_tokens
        self.output: Any = model.get_output_embeddings()
        self.layers = nn.ModuleList(_Layer(layer, batch_size, max_tokens) for layer in layers_of(model))
        self.norm = _Norm(decoder.norm)
        positions = torch.arange(max_tokens, device=model.device)
        cos, sin = decoder.rotary_emb(self.embedding.weight[:1], positions[None])
        self.register_buffer("cos", cos[0])
        self.register_buffer("sin", sin[0])
        self.register_buffer("causal", positions[None] <= positions[:, None])

    def forward(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Logits [batch, vocabulary] after ids [batch, tokens] at these positions [tokens]."""
        rotary, mask = (self.cos[positions], self.sin[positions]), self.causal[None, None, positions]
        hidden = self.embedding(ids)
        for layer in self.layers:
            hidden = layer(hidden, positions, rotary, mask)
        return self.output(self.norm(hidden[:, -1]))


class _Layer(nn.Module):
    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, layer: Any, batch_size: int, max_tokens: int):
        super().__init__()
        attention, mlp = layer.self_attn, layer.mlp
        self.head_dim = attention.head_dim
        self.query, self.key, self.value, self.out = (getattr(attention, f"{name}_proj") for name in "qkvo")
        self.gate, self.up, self.down = mlp.gate_proj, mlp.up_proj, mlp.down_proj
        self.before_attention, self.before_mlp = _Norm(layer.input_layernorm), _Norm(layer.post_attention_layernorm)
        self.query_norm = _Norm(attention.q_norm) if hasattr(attention, "q_norm") else nn.Identity()
        self.key_norm = _Norm(attention.k_norm) if hasattr(attention, "k_norm") else nn.Identity()
        weight = attention.k_proj.weight
        self.groups = attention.q_proj.weight.shape[0] // weight.shape[0]
        size = (batch_size, weight.shape[0] // self.head_dim, max_tokens, self.head_dim)
        self.register_buffer("keys", weight.new_zeros(size))
        self.register_buffer("values", weight.new_zeros(size))
        for buffer in (self.keys, self.values):  # else a step that writes them would not be recorded as a graph
            torch._dynamo.mark_static_address(buffer)

    def forward(self, hidden: torch.Tensor, positions: torch.Tensor, rotary: Any, mask: torch.Tensor) -> torch.Tensor:
        hidden = hidden + self._attended(self.before_attention(hidden), positions, rotary, mask)
        normed = self.before_mlp(hidden)
        return hidden + self.down(functional.silu(self.gate(normed)) * self.up(normed))

    def _attended(self, hidden: torch.Tensor, positions: torch.Tensor, rotary: Any, mask: torch.Tensor) -> torch.Tensor:
        heads = (*hidden.shape[:2], -1, self.head_dim)
        query = _rotated(self.query_norm(self.query(hidden).view(heads)).transpose(1, 2), *rotary)
        key = _rotated(self.key_norm(self.key(hidden).view(heads)).transpose(1, 2), *rotary)
        self.keys[:, :, positions] = key
        self.values[:, :, positions] = self.value(hidden).view(heads).transpose(1, 2)
        keys = self.keys.repeat_interleave(self.groups, dim=1)
        values = self.values.repeat_interleave(self.groups, dim=1)
        attended = functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
        return self.out(attended.transpose(1, 2).reshape(*hidden.shape[:2], -1))


class _Norm(nn.Module):
    """RMS norm with the weight of another module."""

    def __init__(self, norm: Any):
        super().__init__()
        self.weight, self.epsilon = norm.weight, norm.variance_epsilon

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        exact = hidden.float()
        return self.weight * (exact * torch.rsqrt(exact.pow(2).mean(-1, keepdim=True) + self.epsilon)).to(hidden.dtype)


def _rotated(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = heads.chunk(2, dim=-1)
    return heads * cos + torch.cat([-second, first], dim=-1) * sin


class PlainPeer(Peer):
    """`PlainDecoder` with compiled steps. Raises LeftOut for another shape, or where nothing can be compiled."""

    def __init__(self, model: PreTrainedModel, batch_size: int, max_tokens: int):
        self.decoder = PlainDecoder(model, batch_size, max_tokens).eval()
        self.compiled: Any = torch.compile(self._chosen, mode="reduce-overhead", fullgraph=True)
        self.precision, self.path = str(model.dtype).removeprefix("torch."), "compiled, static cache"
        tokens = torch.zeros(batch_size, dtype=torch.long, device=model.device)
        self._go_to(0, tokens)
        try:
            with inductor.patch(coordinate_descent_tuning=True):
                for _ in range(_REHEARSALS):
                    self.step(tokens)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # of the compiler, and of what it needs: a C++ compiler on a CPU, Triton on a GPU
            raise LeftOut(f"torch.compile could not compile it here: {str(error).splitlines()[0]}") from error

    def _chosen(self, tokens: torch.Tensor, position: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.decoder(tokens[:, None], position)
        return logits.argmax(-1), logits

    def _go_to(self, position: int, like: torch.Tensor) -> None:
        self.position = torch.tensor([position], device=like.device)

    @torch.no_grad()
    def read(self, prompt: torch.Tensor) -> torch.Tensor:
        """See `Peer.read`; not compiled, as gpt-fast has it by default."""
        self._go_to(prompt.shape[1], prompt)
        logits: torch.Tensor = self.decoder(prompt, torch.arange(prompt.shape[1], device=prompt.device))
        return logits

    @torch.no_grad()
    def step(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Peer.step`."""
        mark_step(tokens)
        with sdpa_kernel(SDPBackend.MATH):  # so that the compiler sees what attention is made of
            chosen, logits = self.compiled(tokens, self.position)
        self.position += 1
        return chosen.clone(), logits
