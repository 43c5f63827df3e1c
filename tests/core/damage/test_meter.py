"""Damage batch by batch: the increase of the mean loss over real tokens; what is known is not run again."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import sem

from core.damage.meter import DamageMeter, mean_per_token
from core.damage.roles import label, roles_of
from core.damage.runner import Scorer
from core.records.journal import Journal
from core.records.searches import LayerPair
from core.sharing.view import share_attention
from tests.support import damage
from tests.support.damage import plan

PLANS = ("", "0-1", "0-5", "1-2", "1-3,4-5", "1-4", "2-3", "2-5", "4-5")
text = partial(damage.text, chunks=3, length=12, shrink=1)


def test_damage_is_the_increase_of_the_mean_loss_over_real_tokens(tiny_model):
    model, sample = tiny_model(), text()
    [found] = DamageMeter(model, sample, batch_tokens=30).measure([(plan("1-4"), {})])
    dense_sums, shared_sums, kls = [], [], []
    for chunk in sample.chunks:  # one by one, without padding
        ids = torch.tensor([[0, *chunk]])
        with torch.inference_mode():
            dense, shared = (m(ids).logits[0, :-1].log_softmax(-1) for m in (model, share_attention(model, "1-4")))
        targets = torch.tensor(chunk)[:, None]
        dense_sums.append(-dense.gather(1, targets).sum().item())
        shared_sums.append(-shared.gather(1, targets).sum().item())
        kls.append((dense.exp() * (dense - shared)).sum().item())
    tokens = np.array([len(chunk) for chunk in sample.chunks])
    expected = np.array(shared_sums) - np.array(dense_sums)
    assert found.tokens == tokens.sum() == sample.num_tokens and found.finished and found.split == "calibration"
    assert found.damage == pytest.approx(expected.sum() / tokens.sum(), rel=1e-4)
    assert found.kl == pytest.approx(np.sum(kls) / tokens.sum(), rel=1e-4) and found.kl_stderr > 0
    assert found.cache_saving == pytest.approx(3 / 12) and found.head_map == {}


def test_standard_error_of_equal_chunks_is_that_of_their_mean():
    increase = np.array([1.0, 2.0, 4.0, 8.0])
    mean, stderr = mean_per_token(increase, np.full(4, 10))
    assert mean == pytest.approx(0.375) and stderr == pytest.approx(sem(increase / 10))
    assert np.isnan(mean_per_token(increase[:1], np.array([10]))[1])


def test_damages_come_batch_by_batch_and_what_is_known_is_not_run_again(tiny_model, tmp_path):
    model, sample, journal = tiny_model(), text(), Journal(tmp_path, "weights")
    plans = [(plan(written), {}) for written in ("1-2", "1-3")]
    stream = DamageMeter(model, sample, batch_tokens=12, journal=journal).stream(plans)
    first = [next(stream) for _ in range(3)]
    stream.close()
    assert [(one.plan, one.head_map) for one in first] == [*plans, plans[0]]
    assert [one.tokens for one in first] == [12, 12, 23] and not first[0].finished
    with journal.path.open("a") as file:
        file.write('{"text": "cut sho')  # a crash in the middle of a line
    resumed = DamageMeter(model, sample, batch_tokens=12, journal=Journal(tmp_path, "weights"))
    whole = resumed.measure(plans)
    fresh = DamageMeter(model, sample, batch_tokens=12)
    assert whole == fresh.measure(plans)
    assert resumed.runner.naive_layer_evaluations < fresh.runner.naive_layer_evaluations
    again = DamageMeter(model, sample, batch_tokens=12, journal=Journal(tmp_path, "weights"))
    again.measure(plans)
    assert again.runner.layer_evaluations == 0


def test_labels_are_unique():
    written = [roles_of(plan(p)) for p in PLANS] + [
        roles_of(LayerPair.of(1, 4, 6)),
        roles_of(plan("1-2"), {2: [0, 0, 1, 1]}),
    ]
    assert len({label(roles) for roles in written}) == len(written)
    assert label(written[-1]) == "2<1:0.0.1.1"


def test_divergence_of_equal_logits_is_zero():
    batch = next(text().batches(100))
    logits = torch.randn(*batch.targets.shape, 97, generator=torch.Generator().manual_seed(0)) * 5
    assert np.abs(Scorer(batch, logits)(logits)[1]).max() < 1e-4
