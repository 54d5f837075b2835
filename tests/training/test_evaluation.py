"""Scores against closed forms and against the model's own loss."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from evermix.domains import DomainSet
from evermix.models.ladder import build_model
from evermix.training.evaluation import HeldoutText, evaluate


def _heldout(vocab: int) -> HeldoutText:
    generator = torch.Generator().manual_seed(0)
    sequences = tuple(torch.randint(0, vocab, (n, 16), generator=generator) for n in (5, 3))
    return HeldoutText(DomainSet(["a", "b"]), sequences, np.array([5 * 15 * 2.0, 3 * 15 * 4.0]))


def test_a_model_that_knows_nothing_scores_the_logarithm_of_the_vocabulary() -> None:
    model = build_model("0.2M", 300, 16, 0, seed=0)
    with torch.no_grad():
        model.get_input_embeddings().weight.zero_()
    scores = evaluate(model, _heldout(300))
    assert scores.loss_nats == pytest.approx([math.log(300)] * 2)
    assert scores.perplexity == pytest.approx([300, 300])
    assert scores.bits_per_byte == pytest.approx([math.log2(300) / 2, math.log2(300) / 4])
    assert scores.stderr_nats == pytest.approx([0, 0], abs=1e-6)


def test_loss_is_the_model_s_own_and_the_error_that_of_the_mean() -> None:
    model = build_model("0.2M", 300, 16, 0, seed=1).train()
    heldout = _heldout(300)
    scores = evaluate(model, heldout)
    assert model.training
    with torch.no_grad():
        for j, ids in enumerate(heldout.sequences):
            each = [float(model(input_ids=row[None], labels=row[None]).loss) for row in ids]
            assert scores.loss_nats[j] == pytest.approx(np.mean(each), rel=1e-5)
            assert scores.stderr_nats[j] == pytest.approx(np.std(each, ddof=1) / math.sqrt(len(each)), rel=1e-3)


def test_per_domain_names_units() -> None:
    table = evaluate(build_model("0.2M", 300, 16, 0, seed=1), _heldout(300)).per_domain()
    assert set(table["a"]) == {"loss_nats", "loss_stderr_nats", "bits_per_byte", "perplexity"}
