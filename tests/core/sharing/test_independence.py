"""Views and their original at the same time: steps of many threads interleaved, exceptions, and nothing left behind."""

import gc
import threading
import weakref
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
import torch

from core import share_attention
from core.sharing.call import AttentionCall
from core.sharing.families import attention_modules
from tests.support.families import fastest

STEPS = 5
HEAD_MAP = {2: (3, 0, 0, 1), 4: (1, 1, 2, 3)}


def tokens(seed: int, rows: int = 2) -> torch.Tensor:
    return torch.randint(1, 97, (rows, 9), generator=torch.Generator().manual_seed(seed))


def decode(model, ids: torch.Tensor) -> torch.Tensor:
    """Greedy continuation; the first row is padded."""
    visible = torch.ones_like(ids)
    visible[0, :3] = 0
    return model.generate(ids, attention_mask=visible, max_new_tokens=STEPS, do_sample=False, pad_token_id=0)


def meet(models, parties: int) -> None:
    """Make every thread wait for all others in every layer of every step."""
    barrier = threading.Barrier(parties)

    def wait(*_):
        barrier.wait(timeout=60)

    for model in models:
        for module in attention_modules(model):
            module.register_forward_pre_hook(wait)


def run_in_threads(function, *arguments) -> list[Future]:
    """The outcomes of `function` on each row of arguments, each in its own thread."""
    with ThreadPoolExecutor(len(arguments[0])) as pool:
        return [pool.submit(function, *row) for row in zip(*arguments, strict=True)]


def several(family: str) -> list:
    """The dense model and views of it with different plans, head maps and executions; one of them twice."""
    model = fastest(family)
    mapped = share_attention(model, "1-2,3-5", head_map=HEAD_MAP)
    return [
        model,
        share_attention(model, "1-3"),
        mapped,
        mapped,
        share_attention(model, "0-5", execution="recompute"),
        share_attention(model, "4-5", execution="reuse"),
    ]


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "stablelm"])
def test_interleaved_steps_give_the_same_tokens_as_alone(family):
    models = several(family)
    prompts = [tokens(seed) for seed in range(len(models))]
    alone = [decode(model, ids) for model, ids in zip(models, prompts, strict=True)]
    meet(dict.fromkeys(models), len(models))
    together = run_in_threads(decode, models, prompts)
    assert all(torch.equal(mine.result(), reference) for mine, reference in zip(together, alone, strict=True))


@pytest.mark.parametrize("family", ["llama", "stablelm"])
def test_gradients_of_two_threads_do_not_mix(family):
    model = fastest(family)
    views = [share_attention(model, text).train() for text in ("1-3", "2-5")]

    def gradients(view):
        view.zero_grad()
        view(tokens(1), labels=tokens(1), use_cache=False).loss.backward()
        return [parameter.grad for parameter in view.parameters()]

    alone = [gradients(view) for view in views]
    meet(views, len(views))
    for mine, reference in zip(run_in_threads(gradients, views), alone, strict=True):
        assert all(torch.equal(*pair) for pair in zip(mine.result(), reference, strict=True) if pair[1] is not None)


class Stop(Exception):
    """An interruption in the middle of a forward call."""


def stop_once(view, layer: int) -> None:
    """Let the next call fail when it reaches a layer."""

    def stop(*_):
        hook.remove()
        raise Stop

    hook = attention_modules(view)[layer].register_forward_pre_hook(stop)


@pytest.mark.parametrize("family", ["llama", "stablelm"])
def test_an_exception_in_one_thread_stays_there(family):
    models = several(family)[:3]
    prompts = [tokens(seed) for seed in range(len(models))]
    alone = [decode(model, ids) for model, ids in zip(models, prompts, strict=True)]
    stop_once(models[1], layer=3)
    together = run_in_threads(decode, models, prompts)
    assert isinstance(together[1].exception(), Stop)
    assert torch.equal(together[0].result(), alone[0]) and torch.equal(together[2].result(), alone[2])
    assert torch.equal(decode(models[1], prompts[1]), alone[1])


@pytest.mark.parametrize("layer", [1, 2, 5])
@pytest.mark.parametrize("family", ["llama", "stablelm"])
@torch.no_grad()
def test_nothing_is_left_of_a_call(family, layer, monkeypatch):
    """Neither of one that ended nor of one that failed: the weights of its leaders are freed."""
    calls, begin = [], AttentionCall.__init__

    def watched(call, *args):
        calls.append(weakref.ref(call))
        begin(call, *args)

    monkeypatch.setattr(AttentionCall, "__init__", watched)
    view = share_attention(fastest(family), "1-3,4-5")
    before = view(tokens(1), use_cache=False).logits
    stop_once(view, layer)
    with pytest.raises(Stop):
        view(tokens(2), use_cache=False)
    after = view(tokens(1), use_cache=False).logits
    gc.collect()
    assert torch.equal(before, after)
    assert len(calls) == 3 and not any(call() for call in calls)


@pytest.mark.parametrize("family", ["llama", "stablelm"])
def test_a_layer_outside_a_call_is_refused(family):
    """Not served from what an earlier call, or one that failed, has left."""
    view = share_attention(fastest(family), "1-3")
    seen = []
    hook = attention_modules(view)[2].register_forward_pre_hook(lambda *call: seen.append(call[1:]), with_kwargs=True)
    view(tokens(1), use_cache=False)
    hook.remove()
    args, kwargs = seen[0]
    with pytest.raises(RuntimeError, match="outside a call of its decoder"):
        attention_modules(view)[2](
            *args, **{name: value for name, value in kwargs.items() if name != "shared_attention"}
        )


def test_rows_of_a_batch_do_not_see_each_other():
    view = share_attention(fastest("llama"), "1-3,4-5")
    together = view(tokens(1, rows=4), use_cache=False).logits
    for row in range(4):
        alone = view(tokens(1, rows=4)[row : row + 1], use_cache=False).logits[0]
        assert (together[row] - alone).abs().max() <= 1e-5 * alone.abs().max()


def test_a_deleted_view_is_freed():
    model = fastest("llama")
    view = share_attention(model, "1-3")
    decode(view, tokens(1))
    gone = weakref.ref(view)
    del view
    gc.collect()
    assert gone() is None
    assert model(tokens(1)).logits.isfinite().all()
