"""TRL's trainer against the plain one: the same weights on the same rows, resumed or not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from evermix.corpus import StoreSettings, TextSource, TokenStore, build_store, train_bpe
from evermix.mixture import Mixture
from evermix.models.ladder import build_model
from evermix.models.loading import load_model
from evermix.schedule import MixtureSchedule
from evermix.training.evaluation import HeldoutText, evaluate
from evermix.training.learning_rate import LearningRate
from evermix.training.segment import MakeTrainer, Optimisation, Segment, plain_trainer, train_segment

pytest.importorskip("trl")
from evermix.training.sft import sft_trainer

LENGTH = 48


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    """A chat domain, with answers of one to six words, and a text domain."""
    folder = tmp_path_factory.mktemp("store")
    lines = [json.dumps({"prompt": f"count to {k}:", "answer": " größe" * (1 + k % 6)}) for k in range(80)]
    (folder / "talk.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "prose.txt").write_text("\n".join(f"one could count to {k} and back" for k in range(200)))
    sources = [
        TextSource("talk", ("talk.jsonl",), format="chat"),
        TextSource("prose", ("prose.txt",), documents="line"),
    ]
    tokenizer = train_bpe({"a": [(folder / "prose.txt").read_text()]}, 300)
    return build_store(sources, tokenizer, folder / "s", StoreSettings(LENGTH, 0.3, base=folder))


def _model(store: TokenStore) -> PreTrainedModel:
    return build_model("0.2M", store.vocab_size, LENGTH, store.end_id, seed=1)


def _segment(store: TokenStore, end: int, share: float = 0.6, accumulation: int = 1) -> Segment:
    mixture = Mixture(store.domains, [share, 1 - share])
    optimisation = Optimisation(3e-3, LearningRate("wsd", 8, 2, 3), 6, gradient_accumulation=accumulation)
    return Segment(MixtureSchedule.constant(mixture), end, optimisation, 7, (end,), (4, end), first_sequence=12)


def _trained(store: TokenStore, segment: Segment, folder: Path, make: MakeTrainer) -> PreTrainedModel:
    model = _model(store)
    train_segment(model, store, segment, folder, heldout=HeldoutText.from_store(store, 4), make_trainer=make)
    return model


def _weights(model: PreTrainedModel) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def _apart(store: TokenStore, a: PreTrainedModel, b: PreTrainedModel) -> float:
    """How far two trained models are from each other, as a part of how far one is from where it began."""
    return float((_weights(a) - _weights(b)).norm() / (_weights(a) - _weights(_model(store))).norm())


@pytest.mark.parametrize("accumulation", [1, 2])
def test_it_reaches_the_weights_of_the_plain_trainer(store: TokenStore, tmp_path: Path, accumulation: int) -> None:
    segment = _segment(store, 8, accumulation=accumulation)
    plain = _trained(store, segment, tmp_path / "plain", plain_trainer)
    sft = _trained(store, segment, tmp_path / "sft", sft_trainer)
    assert _apart(store, plain, sft) < 1e-3
    heldout = HeldoutText.from_store(store)
    np.testing.assert_allclose(evaluate(sft, heldout).loss_nats, evaluate(plain, heldout).loss_nats, rtol=1e-5)


def test_text_alone_is_learnt_too(tmp_path: Path, store: TokenStore) -> None:
    prose = store.subset(["prose"])
    optimisation = Optimisation(3e-3, LearningRate("constant", 3), 4)
    segment = Segment(MixtureSchedule.constant(Mixture.uniform(prose.domains)), 3, optimisation, 7)
    plain = _trained(prose, segment, tmp_path / "plain", plain_trainer)
    assert _apart(store, plain, _trained(prose, segment, tmp_path / "sft", sft_trainer)) < 1e-3


class _Killed(BaseException):
    pass


def test_a_killed_run_resumes_to_the_same_weights(store: TokenStore, tmp_path: Path) -> None:
    segment, heldout = _segment(store, 8), HeldoutText.from_store(store, 4)
    whole = _trained(store, segment, tmp_path / "whole", sft_trainer)

    def die(step: int) -> None:
        if step == 6:
            raise _Killed

    with pytest.raises(_Killed):
        train_segment(_model(store), store, segment, tmp_path / "cut", report=die, make_trainer=sft_trainer)
    again = _model(store)
    train_segment(again, store, segment, tmp_path / "cut", heldout=heldout, make_trainer=sft_trainer)
    assert torch.equal(_weights(whole), _weights(again))


def test_a_checkpoint_holds_weights_and_nothing_of_the_trainer(store: TokenStore, tmp_path: Path) -> None:
    trained = _trained(store, _segment(store, 4), tmp_path, sft_trainer)
    checkpoint = tmp_path / "checkpoint-4"
    names = {path.name for path in tmp_path.rglob("*")}
    assert not names & {"README.md", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert torch.equal(_weights(load_model(checkpoint)), _weights(trained))
    before = _model(store).config.to_diff_dict()
    assert {k: v for k, v in load_model(checkpoint).config.to_diff_dict().items() if k in before} == before
