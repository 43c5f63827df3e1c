"""Random mixtures of all mechanisms in one plan, on a tiny Llama, against the plan imposed from outside."""

import torch
from hypothesis import assume, event, given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache, StaticCache

from core import SharingPlan, share_attention
from core.sharing.cache import cache_bytes
from tests.support.families import close
from tests.support.mechanisms import imposed
from tests.support.mixtures import mixed_plans

VOCABULARY, CLOSE_CALL = 61, 1e-5


def model_of(plan: SharingPlan, kv_heads: int, implementation: str):
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama", num_hidden_layers=plan.num_layers, hidden_size=32, intermediate_size=20, num_attention_heads=4,
        num_key_value_heads=kv_heads, vocab_size=VOCABULARY, max_position_embeddings=64, initializer_range=0.3,
        pad_token_id=None, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config, attn_implementation=implementation).eval()


@given(
    plan=st.integers(2, 8).flatmap(lambda layers: mixed_plans(layers)), kv_heads=st.sampled_from([1, 2, 4]),
    implementation=st.sampled_from(["eager", "sdpa"]), execution=st.sampled_from(["auto", "reuse", "recompute"]),
    rows=st.integers(1, 3), length=st.integers(1, 12), kind=st.sampled_from(["none", "dynamic", "static"]), data=st.data(),
)  # fmt: skip
@torch.no_grad()
def test_any_mixture_is_what_its_parts_say(plan, kv_heads, implementation, execution, rows, length, kind, data):
    event(" ".join(sorted({plan.mechanism_of(layer) or "" for layer in plan.changed})) or "dense")
    ids = torch.randint(0, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(1))
    visible = torch.ones(rows, length, dtype=torch.long)
    for row in range(rows):
        visible[row, : data.draw(st.integers(0, length - 1))] = 0
    model = model_of(plan, kv_heads, implementation)
    view = share_attention(model, plan, execution=execution)
    model.set_attn_implementation("eager")
    with imposed(model, plan) as did:
        expected = model(ids, attention_mask=visible, use_cache=False).logits
    assume(did.margin > CLOSE_CALL)  # else rounding chooses
    cuts = sorted(data.draw(st.sets(st.integers(1, length - 1)))) if kind != "none" and length > 1 else []
    caches = {"none": lambda: None, "dynamic": lambda: DynamicCache(config=model.config)}
    cache = caches.get(kind, lambda: StaticCache(model.config, length + 2))()
    done, logits = 0, []
    for chunk in ids.tensor_split(cuts, dim=1):
        done += chunk.shape[1]
        options = {"past_key_values": cache, "use_cache": cache is not None}
        logits.append(view(chunk, attention_mask=visible[:, :done], **options).logits)
    close(torch.cat(logits, 1)[visible.bool()], expected[visible.bool()])
    if kind == "dynamic":
        stores = {"share": 1, "keys": 1, "kv": 0, "skip": 0}
        tensors = sum(stores.get(plan.mechanism_of(layer) or "", 2) for layer in range(plan.num_layers))
        assert cache_bytes(cache) == tensors * rows * kv_heads * length * 8 * 4
