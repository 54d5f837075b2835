"""TRL's trainer against the plain one: the same weights on the same rows, resumed or not."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from evermix.corpus import TokenStore
from evermix.errors import TrainingError
from evermix.models.loading import load_model
from evermix.training.evaluation import HeldoutText, evaluate
from evermix.training.segment import MakeTrainer, Segment, plain_trainer, train_segment

from .talks import new_model, segment_of, talk_store, weights

pytest.importorskip("trl")
from evermix.training.sft import _rows, sft_trainer  # needs trl


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    return talk_store(tmp_path_factory.mktemp("store"))


def _trained(store: TokenStore, segment: Segment, folder: Path, make: MakeTrainer) -> PreTrainedModel:
    model = new_model(store)
    train_segment(
        model, store, segment, folder, heldout=HeldoutText.from_store(store, "decision", 4), make_trainer=make
    )
    return model


def _apart(store: TokenStore, a: PreTrainedModel, b: PreTrainedModel) -> float:
    """How far two trained models are from each other, as a part of how far one is from where it began."""
    return float((weights(a) - weights(b)).norm() / (weights(a) - weights(new_model(store))).norm())


@pytest.mark.parametrize("accumulation", [1, 2])
def test_it_reaches_the_weights_of_the_plain_trainer(store: TokenStore, tmp_path: Path, accumulation: int) -> None:
    segment = segment_of(store, 8, accumulation=accumulation)
    plain = _trained(store, segment, tmp_path / "plain", plain_trainer)
    sft = _trained(store, segment, tmp_path / "sft", sft_trainer)
    assert _apart(store, plain, sft) < 1e-3
    heldout = HeldoutText.from_store(store, "decision")
    np.testing.assert_allclose(evaluate(sft, heldout).loss_nats, evaluate(plain, heldout).loss_nats, rtol=1e-5)


def test_divergence_is_named(store: TokenStore, tmp_path: Path) -> None:
    segment = segment_of(store, 8)
    wild = replace(segment, optimisation=replace(segment.optimisation, learning_rate=1e30))
    with pytest.raises(TrainingError, match=r"training diverged at step \d of 8 \(.*talk.*: loss .* nats per token\)"):
        _trained(store, wild, tmp_path, sft_trainer)


def test_text_alone_is_learnt_too(tmp_path: Path, store: TokenStore) -> None:
    prose = store.subset(["prose"])
    plain = _trained(prose, segment_of(prose, 4), tmp_path / "plain", plain_trainer)
    assert _apart(store, plain, _trained(prose, segment_of(prose, 4), tmp_path / "sft", sft_trainer)) < 1e-3


def test_workers_change_nothing(store: TokenStore, tmp_path: Path) -> None:
    segment = segment_of(store, 3)
    helped = replace(segment, optimisation=replace(segment.optimisation, workers=1))
    alone = _trained(store, segment, tmp_path / "alone", sft_trainer)
    assert torch.equal(weights(alone), weights(_trained(store, helped, tmp_path / "helped", sft_trainer)))
    pickle.dumps(_rows(store).format["format_kwargs"]["transform"])  # as workers that are not forked need it


class _Killed(BaseException):
    pass


def test_a_killed_run_resumes_to_the_same_weights(store: TokenStore, tmp_path: Path) -> None:
    segment, heldout = segment_of(store, 8), HeldoutText.from_store(store, "decision", 4)
    whole = _trained(store, segment, tmp_path / "whole", sft_trainer)

    def die(step: int) -> None:
        if step == 6:
            raise _Killed

    with pytest.raises(_Killed):
        train_segment(new_model(store), store, segment, tmp_path / "cut", report=die, make_trainer=sft_trainer)
    again = new_model(store)
    train_segment(again, store, segment, tmp_path / "cut", heldout=heldout, make_trainer=sft_trainer)
    assert torch.equal(weights(whole), weights(again))


def test_a_checkpoint_holds_weights_and_nothing_of_the_trainer(store: TokenStore, tmp_path: Path) -> None:
    trained = _trained(store, segment_of(store, 4), tmp_path, sft_trainer)
    checkpoint = tmp_path / "checkpoint-4"
    names = {path.name for path in tmp_path.rglob("*")}
    assert not names & {"README.md", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert torch.equal(weights(load_model(checkpoint)), weights(trained))
    before = new_model(store).config.to_diff_dict()
    assert {k: v for k, v in load_model(checkpoint).config.to_diff_dict().items() if k in before} == before
