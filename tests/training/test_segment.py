"""A segment: resuming, going on from a parent with another mixture, torn checkpoints; all bitwise on CPU."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from evermix.corpus.store import TokenStore
from evermix.errors import TrainingError
from evermix.ledger import Project
from evermix.lifecycle.progress import Reporter
from evermix.lifecycle.text import open_text
from evermix.mixture import Mixture
from evermix.models.ladder import build_model
from evermix.recipe import Recipe
from evermix.schedule import MixtureSchedule
from evermix.training.data import StreamSampler
from evermix.training.evaluation import HeldoutText, evaluate, is_loss
from evermix.training.segment import LearningRate, Optimisation, Segment, newest_checkpoint, spread_steps, train_segment


def test_warmup_stable_decay() -> None:
    rate = LearningRate("wsd", total_steps=100, warmup_steps=10, decay_steps=20)
    assert [rate(s) for s in (0, 9, 10, 80, 90, 99, 100)] == pytest.approx([0.1, 1, 1, 1, 0.5, 0.05, 0])


def test_cosine_ends_at_a_tenth() -> None:
    rate = LearningRate("cosine", total_steps=110, warmup_steps=10)
    assert [rate(s) for s in (10, 60, 110)] == pytest.approx([1, 0.55, 0.1])


@given(st.sampled_from(["wsd", "cosine", "constant"]), st.integers(1, 500), st.integers(0, 20), st.integers(0, 100))
def test_factor_stays_between_zero_and_one(kind: str, total: int, warmup: int, decay: int) -> None:
    rate = LearningRate(kind, total, warmup, decay)  # type: ignore[arg-type]
    assert all(0 <= rate(step) <= 1 for step in range(total + 1))


@given(st.integers(1, 200), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_before_its_decay_a_schedule_is_a_constant_one(total: int, warmup: float, decay: float, until: float) -> None:
    """Its factors up to any step, that step's own among them where there is one, and nothing of its length."""
    rate = LearningRate("wsd", total, round(warmup * total), round(decay * total))
    end = round(until * (total - rate.decay_steps))
    found = rate.until(end)
    assert [found(step) for step in range(end)] == [rate(step) for step in range(end)]
    assert end == total or found(end) == rate(end)
    assert found == LearningRate("wsd", total + 7, rate.warmup_steps, rate.decay_steps + 7).until(end)
    assert found == LearningRate("constant", total + 7, rate.warmup_steps).until(end)
    for past in range(total - rate.decay_steps + 1, total + 1):
        assert rate.until(past) == rate


def test_a_cosine_is_named_by_its_whole_length() -> None:
    rate = LearningRate("cosine", 12, 2)
    assert rate.until(6) == rate


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, tiny_recipe: Callable[..., dict[str, object]]) -> TokenStore:
    project = Project(tmp_path_factory.mktemp("store"))
    return open_text(Recipe.model_validate(tiny_recipe(project.folder)), project, Reporter(project, None))


class _Killed(BaseException):
    pass


def _segment(schedule: MixtureSchedule, end_step: int, *, accumulation: int = 1, workers: int = 0) -> Segment:
    rate = LearningRate("wsd", 12, 2, 4)
    optimisation = Optimisation(3e-3, rate, 4, gradient_accumulation=accumulation, workers=workers)
    return Segment(schedule, end_step, optimisation, 7, evaluate_at=(3, end_step), checkpoint_at=(4, end_step))


def _model(store: TokenStore) -> PreTrainedModel:
    return build_model("0.2M", store.vocab_size, store.sequence_length, store.end_id, seed=0)


def _equal(a: PreTrainedModel, b: PreTrainedModel) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_a_killed_segment_resumes_to_the_same_weights(store: TokenStore, tmp_path: Path) -> None:
    segment = _segment(MixtureSchedule.constant(Mixture(store.domains, [0.6, 0.3, 0.1])), 8)
    heldout = HeldoutText.from_store(store, "decision", 4)
    undisturbed, resumed = _model(store), _model(store)
    progress = train_segment(undisturbed, store, segment, tmp_path / "whole", heldout=heldout)

    def die(step: int) -> None:
        if step == 6:
            raise _Killed

    with pytest.raises(_Killed):
        train_segment(resumed, store, segment, tmp_path / "cut", heldout=heldout, report=die)
    (tmp_path / "cut" / "checkpoint-5").mkdir()  # torn: written in part when the process died
    found = newest_checkpoint(tmp_path / "cut")
    assert found is not None
    assert found.name == "checkpoint-4"
    assert not (tmp_path / "cut" / "checkpoint-5").exists()
    _damaged_checkpoints_are_not_gone_on_with(found, tmp_path)
    again = _model(store)
    progress_again = train_segment(again, store, segment, tmp_path / "cut", heldout=heldout)
    assert _equal(undisturbed, again)
    assert progress.curve == progress_again.curve
    assert [point["step"] for point in progress.curve] == [3, 8]


def _damaged_checkpoints_are_not_gone_on_with(checkpoint: Path, tmp_path: Path) -> None:
    files = sorted(path.name for path in checkpoint.iterdir())
    assert {"model.safetensors", "optimizer.pt", "rng_state.pth", "trainer_state.json"} < set(files)
    for name in files:
        copy = tmp_path / f"damaged {name}"
        shutil.copytree(checkpoint, copy / checkpoint.name)
        file = copy / checkpoint.name / name
        raw = file.read_bytes()
        file.write_bytes(raw[: len(raw) // 2] + b"\0" + raw[len(raw) // 2 + 1 :])
        assert newest_checkpoint(copy) is None or file.read_bytes() == raw
        assert list(copy.iterdir()) == [] or file.read_bytes() == raw


def test_a_child_goes_on_with_the_optimiser_of_its_parent(store: TokenStore, tmp_path: Path) -> None:
    """Two segments on one mixture are one run."""
    schedule = MixtureSchedule.constant(Mixture.uniform(store.domains))
    whole, first = _model(store), _model(store)
    train_segment(whole, store, _segment(schedule, 10), tmp_path / "whole")
    train_segment(first, store, _segment(schedule, 5), tmp_path / "first")
    second = _model(store)
    train_segment(second, store, _segment(schedule, 10), tmp_path / "second", parent=tmp_path / "first/checkpoint-5")
    assert _equal(whole, second)
    other = _model(store)
    changed = schedule.then(5 * 4, Mixture(store.domains, [1.0, 0.0, 0.0]))
    train_segment(other, store, _segment(changed, 10), tmp_path / "other", parent=tmp_path / "first/checkpoint-5")
    assert not _equal(whole, other)


@pytest.mark.parametrize("fork", [1, 5, 8])
def test_a_constant_piece_and_a_decaying_one_are_one_run(store: TokenStore, tmp_path: Path, fork: int) -> None:
    """Bit for bit: within the warm-up, after it, and up to the step with which the decay begins."""
    schedule = MixtureSchedule.constant(Mixture.uniform(store.domains))
    whole, begun, ended = (_model(store) for _ in range(3))
    undivided = _segment(schedule, 12)
    train_segment(whole, store, undivided, tmp_path / "whole")
    rate = undivided.optimisation.schedule.until(fork)
    assert rate == LearningRate("constant", fork, 2)
    first = replace(undivided, end_step=fork, optimisation=replace(undivided.optimisation, schedule=rate))
    train_segment(begun, store, first, tmp_path / "begun")
    train_segment(ended, store, undivided, tmp_path / "ended", parent=tmp_path / f"begun/checkpoint-{fork}")
    assert _equal(whole, ended)
    assert not _equal(whole, begun)


def test_workers_change_nothing(store: TokenStore, tmp_path: Path) -> None:
    schedule = MixtureSchedule.constant(Mixture.uniform(store.domains))
    plain, workers = _model(store), _model(store)
    train_segment(plain, store, _segment(schedule, 4), tmp_path / "plain")
    train_segment(workers, store, _segment(schedule, 4, workers=2), tmp_path / "workers")
    assert _equal(plain, workers)


def test_gradient_accumulation_gives_the_same_step(store: TokenStore, tmp_path: Path) -> None:
    schedule = MixtureSchedule.constant(Mixture.uniform(store.domains))
    plain, accumulated = _model(store), _model(store)
    train_segment(plain, store, _segment(schedule, 4), tmp_path / "plain")
    train_segment(accumulated, store, _segment(schedule, 4, accumulation=2), tmp_path / "accumulated")
    for x, y in zip(plain.parameters(), accumulated.parameters(), strict=True):
        assert torch.allclose(x, y, atol=2e-4)


def test_bfloat16_trains_float32_weights_to_nearly_the_same(store: TokenStore, tmp_path: Path) -> None:
    schedule = MixtureSchedule.constant(Mixture.uniform(store.domains))
    segment = _segment(schedule, 8)
    halved = replace(segment, optimisation=replace(segment.optimisation, precision="bfloat16"))
    heldout = HeldoutText.from_store(store, "decision", 4)
    losses, models = [], []
    for name, asked in {"untrained": None, "whole": segment, "half": halved}.items():
        models.append(_model(store))
        if asked is not None:
            train_segment(models[-1], store, asked, tmp_path / name)
        losses.append(evaluate(models[-1], heldout).loss_nats)
    untrained, whole, half = losses
    assert {parameter.dtype for parameter in models[-1].parameters()} == {torch.float32}
    assert not _equal(models[1], models[2])
    assert np.abs(half - whole).max() < 0.1 * np.abs(untrained - whole).min()


def test_spread_steps() -> None:
    assert spread_steps(0, 40, 100, 5) == (20, 40)
    assert spread_steps(40, 100, 100, 5) == (60, 80, 100)
    assert spread_steps(0, 7, 100, 0) == (7,)


@pytest.mark.parametrize(("accumulation", "end", "rate"), [(1, 8, 1e30), (2, 8, 1e30), (1, 1, 1e38)])
def test_divergence_stops_the_training_at_its_step(
    store: TokenStore, tmp_path: Path, accumulation: int, end: int, rate: float
) -> None:
    """At the first step that has no loss; at a step that no number can hold."""
    schedule = MixtureSchedule.constant(Mixture.uniform(store.domains))
    segment = _segment(schedule, end, accumulation=accumulation)
    wild = replace(segment, optimisation=replace(segment.optimisation, learning_rate=rate), learning_rate_key="my.key")
    with pytest.raises(TrainingError, match=rf"training diverged at step \d of {end} \(.*\)\. Hint: lower my\.key"):
        train_segment(_model(store), store, wild, tmp_path, heldout=HeldoutText.from_store(store, "decision", 4))


def test_the_domain_whose_text_has_no_loss_is_named(store: TokenStore, tmp_path: Path) -> None:
    """Tokens whose embedding is no number stand in the first rows of one domain only; one that none meets is found."""
    segment = _segment(MixtureSchedule.constant(Mixture.uniform(store.domains)), 8)
    drawn = np.array(StreamSampler(store, segment.mixtures, segment.seed, 32).rows(0, 32))
    owners = np.searchsorted(store.flat_offsets, drawn, side="right") - 1
    code, prose, noise = (set(store.read(drawn[owners == j]).ravel().tolist()) for j in range(3))
    model = LlamaForCausalLM(LlamaConfig(**{**_model(store).config.to_dict(), "tie_word_embeddings": False}))
    with torch.no_grad():
        model.get_input_embeddings().weight[sorted(prose - code - noise)] = math.nan
    with pytest.raises(TrainingError, match=r"at step \d of 8 \(prose: loss nan nats per token\)"):
        train_segment(model, store, segment, tmp_path / "drawn")
    unseen = sorted(set(range(store.vocab_size)) - code - prose - noise)
    model = LlamaForCausalLM(model.config)
    with torch.no_grad():
        model.get_input_embeddings().weight[unseen[:1]] = math.nan
    with pytest.raises(TrainingError, match=r"at step 8 of 8 \(weights that are no numbers: model.embed_tokens"):
        train_segment(model, store, segment, tmp_path / "unseen")


def test_a_loss_without_a_perplexity_is_none() -> None:
    assert is_loss(12.5)
    assert is_loss(709)
    assert not any(map(is_loss, (math.nan, math.inf, 710, 1e30)))
