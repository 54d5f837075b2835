"""Proxies: named by their content, trained once, scored on what is new, and repeated as often as the target would."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evermix.corpus.store import TokenStore
from evermix.errors import CorpusError, RecipeError, TrainingError
from evermix.ledger import Project
from evermix.lifecycle.progress import Reporter
from evermix.lifecycle.text import open_text
from evermix.measure.swarm import Proxy, Swarm, measure_proxy
from evermix.mixture import Mixture
from evermix.models.loading import load_model
from evermix.recipe import ProxyTraining, Recipe, TaskRecipe
from evermix.schedule import MixtureSchedule
from evermix.training.data import open_stream
from evermix.training.evaluation import HeldoutText, evaluate

TRAINING = ProxyTraining(rung="0.05M", batch_sequences=4, learning_rate=1e-2, checkpoints=0)


def _quiet(done: int, total: int) -> None:
    """Nobody watches."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, tiny_recipe: Callable[..., dict[str, object]]) -> TokenStore:
    project = Project(tmp_path_factory.mktemp("store"))
    return open_text(Recipe.model_validate(tiny_recipe(project.folder)), project, Reporter(project, None))


@pytest.fixture
def swarm(store: TokenStore, tmp_path: Path) -> Swarm:
    return Swarm(store, TRAINING, 12, 3, 8, (), tmp_path, tmp_path / "runs")


def _mixture(store: TokenStore, code: float, prose: float) -> Mixture:
    return Mixture.from_dict(store.domains, {"code": code, "prose": prose, "noise": 1 - code - prose})


def test_its_metrics_are_those_of_its_kept_weights(swarm: Swarm, store: TokenStore) -> None:
    proxy = swarm.proxy(_mixture(store, 0.5, 0.3))
    measure_proxy(proxy.arguments, _quiet)
    measured = proxy.result()
    model = load_model(proxy.folder / "weights")
    expected = evaluate(model, HeldoutText.from_store(store, "decision", 8)).bits_per_byte
    assert measured.metrics == pytest.approx(dict(zip(store.domains.names, expected, strict=True)))
    assert measured.n_tokens == 12 * 4 * 32
    counted = sum(p.numel() for p in model.parameters())  # tied embeddings: body and output projection
    n_scored = sum(min(8, len(store.heldout(j, "decision"))) for j in range(3)) * 32
    assert measured.flops == 6 * counted * measured.n_tokens + 2 * counted * n_scored


def test_a_finished_proxy_is_never_trained_again(swarm: Swarm, store: TokenStore) -> None:
    proxy = swarm.proxy(_mixture(store, 0.5, 0.5))
    steps: list[int] = []
    measure_proxy(proxy.arguments, lambda done, total: steps.append(done))
    assert steps[-1] == 12
    first = proxy.result()
    proxy.marker.unlink()
    shutil.rmtree(proxy.folder / "scores")
    measure_proxy(proxy.arguments, lambda done, total: pytest.fail("it was trained again"))
    assert proxy.result().metrics == first.metrics


def test_a_proxy_that_diverges_names_the_swarm_s_rate(swarm: Swarm, store: TokenStore) -> None:
    wild = replace(swarm, training=TRAINING.model_copy(update={"learning_rate": 1e30}))
    proxy = wild.proxy(_mixture(store, 0.5, 0.5))
    with pytest.raises(TrainingError, match=r"diverged at step \d of 12 \(.*\)\. Hint: lower swarm\.learning_rate"):
        measure_proxy(proxy.arguments, _quiet)
    assert not proxy.is_trained


def test_its_name_depends_on_what_decides_its_weights_and_on_nothing_else(swarm: Swarm, store: TokenStore) -> None:
    mixture = _mixture(store, 0.5, 0.5)
    proxy = swarm.proxy(mixture)
    assert proxy.run_id == swarm.proxy(_mixture(store, 0.5, 0.5)).run_id
    assert proxy.run_id != swarm.proxy(_mixture(store, 0.5, 0.4)).run_id
    assert proxy.run_id != replace(swarm, seed=4).proxy(mixture).run_id
    assert proxy.run_id != replace(swarm, steps=13).proxy(mixture).run_id
    assert proxy.run_id == replace(swarm, evaluation_sequences=4).proxy(mixture).run_id
    # a domain that it is not trained on decides nothing: the set may grow around it
    smaller = replace(swarm, store=store.subset(("code", "prose")))
    assert proxy.run_id == smaller.proxy(Mixture(smaller.store.domains, [0.5, 0.5])).run_id


def test_new_metrics_cost_an_evaluation_and_no_training(swarm: Swarm, store: TokenStore, tmp_path: Path) -> None:
    smaller = replace(swarm, store=store.subset(("code", "prose")))
    proxy = smaller.proxy(Mixture(smaller.store.domains, [0.4, 0.6]))
    measure_proxy(proxy.arguments, _quiet)
    again = Proxy(swarm, {}, kept_as=proxy.run_id)
    measure_proxy(again.arguments, lambda done, total: pytest.fail("it was trained again"))
    metrics = again.result().metrics
    assert set(metrics) == {"code", "prose", "noise"}
    assert {name: metrics[name] for name in ("code", "prose")} == proxy.result().metrics
    direct = swarm.proxy(_mixture(store, 0.4, 0.6))
    measure_proxy(direct.arguments, _quiet)
    assert direct.result().metrics == metrics


def test_an_earlier_proxy_without_weights_is_an_error(swarm: Swarm) -> None:
    with pytest.raises(CorpusError, match="an earlier proxy's weights must be there"):
        measure_proxy(Proxy(swarm, {}, kept_as="0" * 16).arguments, _quiet)


def test_tasks_are_metrics_too(swarm: Swarm, store: TokenStore, tmp_path: Path) -> None:
    items = [{"prompt": f"def f{k}(", "answer": "self):"} for k in range(5)]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    task = TaskRecipe(name="signature", file="t.jsonl")
    proxy = replace(swarm, tasks=(task,)).proxy(_mixture(store, 0.6, 0.2))
    measure_proxy(proxy.arguments, _quiet)
    assert list(proxy.result().metrics) == ["code", "prose", "noise", "signature"]
    assert proxy.result().metrics["signature"] > 0
    assert proxy.run_id == swarm.proxy(_mixture(store, 0.6, 0.2)).run_id
    with pytest.raises(RecipeError, match="must not have the name of a domain"):
        _ = replace(swarm, tasks=(TaskRecipe(name="code", file="t.jsonl"),)).metrics


def test_simulated_epoching_repeats_a_domain_as_often_as_the_target(store: TokenStore) -> None:
    factor = 0.25
    mixture = _mixture(store, 0.5, 0.25)
    target_sequences = 400
    whole, part = store, store.shrunk(factor)
    schedule = MixtureSchedule.constant(mixture)
    target, proxy = open_stream(whole, schedule, 0), open_stream(part, schedule, 0)
    target.draw(target_sequences)
    drawn = proxy.draw(round(target_sequences * factor))
    assert proxy.epochs() == pytest.approx(target.epochs(), rel=0.1)
    assert drawn.max() < part.flat_offsets[-1]
    # the part is the beginning of each domain, in the same order as the whole
    for j in range(3):
        n = part.train_sizes[j]
        assert n == max(1, round(whole.train_sizes[j] * factor))
        assert np.array_equal(part.train(j), whole.train(j)[:n])
    rows = part.read(np.arange(part.flat_offsets[-1]))
    assert np.array_equal(rows, np.concatenate([part.train(j) for j in range(3)]))


def test_a_shrunk_store_makes_other_proxies(swarm: Swarm, store: TokenStore) -> None:
    mixture = _mixture(store, 0.5, 0.5)
    assert swarm.proxy(mixture).run_id != replace(swarm, store=store.shrunk(0.5)).proxy(mixture).run_id
    proxy = replace(swarm, store=store.shrunk(0.05)).proxy(mixture)
    measure_proxy(proxy.arguments, _quiet)
    assert set(proxy.result().metrics) == set(store.domains.names)


def test_a_mixture_over_other_domains_is_refused(swarm: Swarm, store: TokenStore) -> None:
    with pytest.raises(CorpusError, match="over the domains of the store"):
        swarm.proxy(Mixture.uniform(store.subset(("code", "prose")).domains))
