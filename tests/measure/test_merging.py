"""Merging against arithmetic by hand: one specialist alone, means, and losses of models that were built so."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evermix.domains import DomainSet
from evermix.errors import CheckpointError
from evermix.measure.merging import Merging
from evermix.models.ladder import build_model
from evermix.training.evaluation import HeldoutText, evaluate


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four models of one shape: a base and three specialists."""
    folder = tmp_path_factory.mktemp("models")
    for seed in range(4):
        build_model("0.05M", 300, 16, 0, seed).save_pretrained(folder / str(seed))
    return [folder / str(seed) for seed in range(4)]


@pytest.fixture(scope="module")
def merging(folders: list[Path]) -> Merging:
    return Merging(folders[0], folders[1:])


@pytest.fixture(scope="module")
def heldout() -> HeldoutText:
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, 300, (4, 16)))
    return HeldoutText(DomainSet(["text"]), (ids,), np.array([60.0]))


@pytest.mark.parametrize("k", [0, 1, 2])
def test_a_specialist_alone_is_itself_to_the_last_bit(merging: Merging, k: int) -> None:
    for name, weight in merging.weights_at(np.eye(3)[k]).items():
        assert torch.equal(weight, merging.specialists[k][name])


def test_no_weight_at_all_is_the_base(merging: Merging) -> None:
    assert all(torch.equal(weight, merging.base[name]) for name, weight in merging.weights_at([0, 0, 0]).items())


@given(st.lists(st.floats(-1, 2), min_size=3, max_size=3))
@settings(max_examples=20)
def test_it_is_linear_in_the_weights(merging: Merging, w: list[float]) -> None:
    for name, weight in merging.weights_at(w).items():
        base = merging.base[name].double()
        update = sum(x * (each[name].double() - base) for x, each in zip(w, merging.specialists, strict=True))
        torch.testing.assert_close(weight, (base + update).float(), atol=1e-5, rtol=1e-5)


def test_losses_are_those_of_a_model_with_these_weights(
    merging: Merging, folders: list[Path], heldout: HeldoutText
) -> None:
    model = build_model("0.05M", 300, 16, 0, 1)
    assert merging.evaluate([1, 0, 0], heldout).loss_nats == pytest.approx(evaluate(model, heldout).loss_nats)
    others = [dict(build_model("0.05M", 300, 16, 0, seed).named_parameters()) for seed in (1, 2, 3)]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(sum(other[name] for other in others) / 3)
    found = merging.evaluate([1 / 3, 1 / 3, 1 / 3], heldout)
    assert found.loss_nats == pytest.approx(evaluate(model, heldout).loss_nats, abs=1e-5)


def test_what_does_not_fit_is_refused(merging: Merging, folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="one entry per specialist"):
        merging.weights_at([0.5, 0.5])
    build_model("0.2M", 300, 16, 0, 1).save_pretrained(tmp_path / "other")
    with pytest.raises(CheckpointError, match=f"other{os.sep}?: a specialist must have the parameters"):
        Merging(folders[0], [tmp_path / "other"])
