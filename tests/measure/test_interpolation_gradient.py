"""The two formulas of dL/dw against each other: with dL/dW formed, and from what layers read and write."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evermix.domains import DomainSet
from evermix.measure.adapters import Adapter
from evermix.measure.interpolation import Interpolation
from evermix.models.ladder import build_model
from evermix.training.evaluation import HeldoutText

W = [0.8, -0.3]


def _interpolation(rank: int) -> Interpolation:
    """Two random adapters, whose rank is filled up with rows of zeros."""
    model = build_model("0.2M", 300, 16, 0, seed=3)
    names = [n for n, p in model.named_parameters() if "_proj" in n and p.ndim == 2]
    generator = torch.Generator().manual_seed(1)
    adapters = []
    for _ in range(2):
        down, up = {}, {}
        for name in names:
            out, inside = model.get_parameter(name).shape
            down[name], up[name] = torch.zeros(rank, inside), torch.zeros(out, rank)
            down[name][:4] = 0.1 * torch.randn(4, inside, generator=generator)
            up[name][:, :4] = 0.1 * torch.randn(out, 4, generator=generator)
        adapters.append(Adapter(2.0, down, up))
    return Interpolation(model, adapters)


def _heldout(batch_sizes: tuple[int, ...]) -> HeldoutText:
    generator = torch.Generator().manual_seed(5)
    sequences = tuple(torch.randint(0, 300, (n, 16), generator=generator) for n in batch_sizes)
    return HeldoutText(DomainSet([f"d{n}" for n in batch_sizes]), sequences, np.full(len(batch_sizes), 100.0))


def test_both_formulas_agree() -> None:
    """Rank 2 x 4 is below the width 64 / 2, rank 2 x 40 above it; 130 sequences are more than one batch."""
    heldout = _heldout((130, 3))
    scores, low = _interpolation(4).evaluate_with_gradient(W, heldout)
    same, high = _interpolation(40).evaluate_with_gradient(W, heldout)
    assert np.abs(low).max() > 1e-3
    assert high == pytest.approx(low, rel=1e-3, abs=1e-6)
    assert same.loss_nats == pytest.approx(scores.loss_nats, abs=1e-6)


def test_nothing_stays_on_the_model() -> None:
    interpolation = _interpolation(4)
    before = interpolation.evaluate(W, _heldout((4,))).loss_nats
    first = interpolation.evaluate_with_gradient(W, _heldout((4,)))[1]
    assert interpolation.evaluate_with_gradient(W, _heldout((4,)))[1] == pytest.approx(first, abs=0)
    assert interpolation.evaluate(W, _heldout((4,))).loss_nats == pytest.approx(before, abs=0)
    assert not any(module._forward_hooks for module in interpolation.model.modules())


def test_conversations_are_scored_and_differentiated_over_their_answers() -> None:
    """Against scores of the same sequences cut to size by hand, and central differences."""
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(0, 300, (150, 16), generator=generator)
    roles = torch.zeros_like(ids, dtype=torch.uint8)
    for k in range(len(ids)):
        end = 5 + k % 9
        roles[k, :3], roles[k, 3:end] = 1, 2
    heldout = HeldoutText(DomainSet(["talk"]), (ids,), np.array([500.0]), (roles,))
    interpolation = _interpolation(4)
    scores, gradient = interpolation.evaluate_with_gradient(W, heldout)
    assert scores.loss_nats == pytest.approx(interpolation.evaluate(W, heldout).loss_nats, abs=1e-6)
    losses = []
    for row, kinds in zip(ids, roles, strict=True):
        logs = interpolation.logits(W, row[None, : int((kinds > 0).sum())])[0].log_softmax(dim=-1)
        losses += [-float(logs[t - 1, row[t]]) for t in range(1, len(logs)) if kinds[t] == 2]
    assert scores.loss_nats[0] == pytest.approx(np.mean(losses), rel=1e-5)
    for i in range(len(W)):
        step = 5e-3 * np.eye(len(W))[i]
        above, below = (interpolation.evaluate(W + sign * step, heldout).loss_nats[0] for sign in (1, -1))
        assert gradient[0, i] == pytest.approx((above - below) / 1e-2, rel=0.03, abs=2e-4)
