"""Other programs beside this project: they compute the same, take turns, and are told apart where they do not."""

from collections import Counter
from itertools import pairwise

import pytest
import torch

from core.models import load_model
from core.timing.peers import turns
from core.timing.peers.own import OwnPeer
from core.timing.peers.peer import LeftOut, Peer
from core.timing.peers.plain import PlainDecoder, PlainPeer
from core.timing.peers.stock import StockPeer
from core.timing.peers.turns import BLOCK_STEPS, CHECKED_STEPS, SETTLING_STEPS, compare, own_logits, time_in_turns

ROOM = 64
OF_ITS_SHAPE = ("llama", "llama-biases-tied", "mistral", "qwen2", "qwen3")


@pytest.fixture
def uncompiled(monkeypatch):
    """Compiling takes half a minute; what is compiled is the same."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)


def prompt(rows: int = 2, tokens: int = 9) -> torch.Tensor:
    return torch.randint(90, (rows, tokens), generator=torch.Generator().manual_seed(1))


def alike(peer: Peer, model, ids: torch.Tensor) -> turns.Alike:
    return compare(peer, ids, own_logits(model, ids))


@pytest.mark.parametrize("family", OF_ITS_SHAPE)
def test_the_plain_decoder_chooses_the_tokens_of_the_model(tiny_model, uncompiled, family):
    model, ids = tiny_model(family), prompt()
    found = alike(PlainPeer(model, 2, ROOM), model, ids)
    assert found.tokens == found.checked == 2 * (1 + CHECKED_STEPS) and found.apart < 1e-5


def test_the_plain_decoder_chooses_the_tokens_of_the_bundled_model(uncompiled):
    model, _ = load_model("demo", device="cpu")
    found = alike(PlainPeer(model, 1, ROOM), model, prompt(rows=1))
    assert found.tokens == found.checked and found.apart < 1e-5


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what torch's compiler imports
def test_the_plain_decoder_is_compiled_whole(tiny_model):
    model, ids = tiny_model(num_hidden_layers=1), prompt()
    found = alike(PlainPeer(model, 2, ROOM), model, ids)
    assert found.tokens == found.checked


def test_the_plain_decoder_has_no_weights_of_its_own(tiny_model):
    model = tiny_model("llama-biases-tied")
    own = {parameter.data_ptr() for parameter in model.parameters()}
    assert {parameter.data_ptr() for parameter in PlainDecoder(model, 2, ROOM).parameters()} == own


@pytest.mark.parametrize(
    ("family", "fields", "reason"),
    [
        ("smollm3", {}, "not smollm3"),
        ("mistral-sliding", {}, "this model's hold 8 of 64 tokens"),
        ("llama", {"hidden_act": "gelu"}, "not gelu"),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "rotary embedding"),
    ],
)
def test_models_of_another_shape_are_left_out_with_the_reason(tiny_model, family, fields, reason):
    with pytest.raises(LeftOut, match=reason):
        PlainDecoder(tiny_model(family, **fields), 1, ROOM)


def test_where_nothing_can_be_compiled_the_plain_decoder_is_left_out(tiny_model, monkeypatch):
    def fail(*_):
        raise RuntimeError("No working C++ compiler\nfound")

    monkeypatch.setattr(torch, "compile", lambda function, **_: fail)
    with pytest.raises(LeftOut, match=r"could not compile it here: No working C\+\+ compiler$"):
        PlainPeer(tiny_model(), 1, ROOM)


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("family", ["llama", "qwen3", "mistral-sliding"])
def test_the_loop_of_generate_writes_what_generate_writes(tiny_model, family, static):
    model, ids = tiny_model(family), prompt()
    peer = StockPeer(model, ROOM, static)
    settings = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    settings |= {"cache_implementation": "static"} if static else {}
    expected = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)
    for _ in range(2):  # reading again begins anew
        tokens = [peer.read(ids).argmax(-1)]
        for _ in range(7):
            tokens.append(peer.step(tokens[-1])[0])
    assert torch.stack(tokens, 1).tolist() == expected[:, ids.shape[1] :].tolist()


def test_this_project_is_held_against_the_model_too(tiny_model):
    model, ids = tiny_model(), prompt()
    peer = OwnPeer(model, 2, ROOM)
    for _ in range(2):
        found = alike(peer, model, ids)
        assert found.tokens == found.checked and found.apart < 1e-5


class _Fake(Peer):
    """Writes the model's own tokens, and from its `wrong`th step on others."""

    precision, path = "float32", "fake"

    def __init__(self, model=None, wrong: int = 10**6, order: list | None = None, name: str = ""):
        self.peer = StockPeer(model, ROOM, static=False) if model is not None else None
        self.wrong, self.order, self.name, self.steps = wrong, order, name, 0

    def read(self, prompt):
        self.steps = 0
        return self.peer.read(prompt) if self.peer else torch.zeros(len(prompt), 5)

    def step(self, tokens):
        self.steps += 1
        if self.order is not None:
            self.order.append(self.name)
            return tokens, torch.zeros(len(tokens), 5)
        chosen, logits = self.peer.step(tokens)
        return (chosen, logits) if self.steps < self.wrong else ((chosen + 1) % 97, logits.roll(1, -1))


def test_a_program_that_writes_other_tokens_is_found_out(tiny_model):
    model, ids = tiny_model(), prompt()
    found = alike(_Fake(model, wrong=CHECKED_STEPS - 3), model, ids)
    assert found.checked - found.tokens == 2 * 4 and found.apart > 0.01


def test_every_step_of_every_peer_is_timed_once_in_blocks_that_settle_first():
    written: list[str] = []
    peers = [_Fake(order=written, name=name) for name in "abc"]
    new_tokens = 2 * BLOCK_STEPS + 3
    times_s = time_in_turns(peers, prompt(), new_tokens)
    assert [len(taken) for taken in times_s] == [new_tokens] * 3 and min(map(min, times_s)) > 0
    each = new_tokens + 3 * SETTLING_STEPS
    assert Counter(written) == dict.fromkeys("abc", each) and each <= turns.room_for(9, new_tokens) - 9
    block = BLOCK_STEPS + SETTLING_STEPS
    assert written[: 4 * block] == [name for name in "abcb" for _ in range(block)]


def test_the_order_of_the_peers_changes_and_every_place_comes_to_everyone():
    rounds = [turns.order(4, number) for number in range(4)]
    assert all(sorted(places) == [0, 1, 2, 3] for places in rounds)
    assert all(len({places[place] for places in rounds}) == 4 for place in range(4))
    before = Counter(pair for places in rounds for pair in pairwise(places))
    assert len(before) == 8  # not always after the same neighbour


def test_there_is_room_for_the_check_where_few_tokens_are_timed():
    assert turns.room_for(100, 1) == 100 + CHECKED_STEPS
