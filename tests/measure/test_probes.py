"""Probes: what they are trained on, that a finished one is never trained again, and that they share what they can."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evermix.corpus.store import TokenStore
from evermix.domains import DomainSet
from evermix.errors import TrainingError
from evermix.ledger import Project
from evermix.lifecycle.progress import Reporter
from evermix.lifecycle.text import open_text
from evermix.measure.interpolation import Adapter, Interpolation
from evermix.measure.probes import Component, ProbeSettings, train_probe
from evermix.mixture import Mixture
from evermix.models.ladder import build_model
from evermix.models.loading import load_model
from evermix.recipe import Recipe
from evermix.training.evaluation import HeldoutText, evaluate

SETTINGS = ProbeSettings(steps=6, batch_sequences=4, learning_rate=6e-3, rank=4, alpha=8, seed=11)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, tiny_recipe: Callable[..., dict[str, object]]) -> TokenStore:
    project = Project(tmp_path_factory.mktemp("store"))
    return open_text(Recipe.model_validate(tiny_recipe(project.folder)), project, Reporter(project, None))


@pytest.fixture(scope="module")
def base(store: TokenStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    build_model("0.2M", store.vocab_size, store.sequence_length, store.end_id, seed=0).save_pretrained(folder)
    return folder


def test_a_probe_learns_its_domain_and_is_its_adapter(store: TokenStore, base: Path, tmp_path: Path) -> None:
    heldout = HeldoutText.from_store(store, "decision", 8)
    noise = store.domains.index("noise")
    component = Component("noise", Mixture.from_dict(store.domains, {"noise": 0.9, "code": 0.1}), noise)
    probe = train_probe(base, store, component, SETTINGS, heldout, tmp_path / "p")
    before = evaluate(load_model(base), heldout).loss_nats
    assert probe.loss_nats[noise] < before[noise] - 0.05
    again = Interpolation(load_model(base), [Adapter.load(probe.adapter)]).evaluate([1.0], heldout)
    assert again.loss_nats == pytest.approx(probe.loss_nats, abs=1e-4)
    assert probe.n_tokens == 6 * 4 * 32


def _mostly_first(domains: DomainSet) -> Component:
    name = domains.names[0]
    mixture = Mixture.uniform(domains).blend(Mixture.from_dict(domains, {name: 1.0}), 0.9)
    return Component(name, mixture, mixture)


def test_a_finished_probe_is_read_and_a_torn_one_redone(store: TokenStore, base: Path, tmp_path: Path) -> None:
    heldout = HeldoutText.from_store(store, "decision", 4)
    component = _mostly_first(store.domains)
    steps: list[int] = []
    first = train_probe(base, store, component, SETTINGS, heldout, tmp_path / "p", steps.append)
    assert steps[-1] == 6
    steps.clear()
    second = train_probe(base, store, component, SETTINGS, heldout, tmp_path / "p", steps.append)
    assert steps == []
    assert np.array_equal(first.loss_nats, second.loss_nats)
    (tmp_path / "p" / "done.json").unlink()
    third = train_probe(base, store, component, SETTINGS, heldout, tmp_path / "p", steps.append)
    assert steps[-1] == 6
    assert np.array_equal(first.loss_nats, third.loss_nats)


def test_a_probe_that_diverges_names_its_keys(store: TokenStore, base: Path, tmp_path: Path) -> None:
    heldout, component = (
        HeldoutText.from_store(store, "decision", 4),
        _mostly_first(store.domains),
    )
    keys = r"lower training\.learning_rate or decision\.probes\.learning_rate_factor"
    with pytest.raises(TrainingError, match=rf"training diverged at step \d of 6 \(.*\)\. Hint: {keys}"):
        train_probe(base, store, component, replace(SETTINGS, learning_rate=1e30), heldout, tmp_path / "p")
    assert not (tmp_path / "p" / "done.json").exists()
