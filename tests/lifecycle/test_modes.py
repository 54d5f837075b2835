"""Decision modes against their definition: the published decision of a midtraining, point by point."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from evermix.constraints import Bounds
from evermix.designs.balanced import balanced_design
from evermix.domains import DomainSet
from evermix.laws.log_linear import LogLinearLaw
from evermix.lifecycle.evidence.modes import MODES, decide_by_interpolation
from evermix.lifecycle.evidence.probed import DecisionProblem, ProbeMeasurement
from evermix.measure.probes import Component, Probe
from evermix.mixture import Mixture
from evermix.models.ladder import build_model
from evermix.objective import Objective
from evermix.observations.runs import Runs
from evermix.training.evaluation import HeldoutText, evaluate

COMPONENTS, TEXTS = DomainSet(["old", "new"]), DomainSet(["a", "b"])
PURITIES = (0.1, 0.9)


def _base() -> PreTrainedModel:
    return build_model("0.05M", 300, 16, 0, seed=3)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two adapters with random matrices; they stand for probes at 10% and 90% new."""
    folders = []
    _base().save_pretrained(folder := tmp_path_factory.mktemp("published"))
    for seed in range(2):
        model = get_peft_model(_base(), LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
        model.save_pretrained(str(folder / str(seed)))
        folders.append(folder / str(seed))
    return folders


def test_the_published_decision_of_a_midtraining(adapters: list[Path]) -> None:
    """Nine models at effective new shares .1 to .9, merged here by PEFT; the law; 0.05 per nat towards half new."""
    generator = torch.Generator().manual_seed(5)
    ids = tuple(torch.randint(0, 300, (4, 16), generator=generator) for _ in TEXTS)
    heldout = HeldoutText(TEXTS, ids, np.array([60.0, 60.0]))
    shares = [Mixture(COMPONENTS, [1 - u, u]) for u in PURITIES]
    probes = [
        Probe(
            Component(f"new@{u:g}", mixture, mixture),
            folder,
            evaluate(_merged([folder], [1.0]), heldout).loss_nats,
            1,
            0,
        )
        for u, mixture, folder in zip(PURITIES, shares, adapters, strict=True)
    ]
    base = evaluate(_base(), heldout).loss_nats
    old, half = Mixture(COMPONENTS, [1.0, 0.0]), Mixture.uniform(COMPONENTS)
    measured = ProbeMeasurement("base", adapters[0].parent, old, tuple(probes), base, heldout, 0, 0, 0)
    objective = Objective.from_dict(TEXTS.names, None, "loss_nats")
    free = Bounds(np.zeros(2), np.ones(2), ("", ""))
    problem = DecisionProblem(measured, objective, free, half, None, 20, 5, 0, (0, 1), kl_weight=0.05)
    decided = decide_by_interpolation(problem).proposal

    points = np.arange(1, 10) / 10
    weights = [((0.9 - s) / 0.8, (s - 0.1) / 0.8) for s in points]
    losses = np.array([evaluate(_merged(adapters, w), heldout).loss_nats for w in weights])
    runs = Runs.of(np.column_stack([1 - points, points]), losses)
    law = LogLinearLaw(huber_delta=0.02, scaled=False, ridge=0.0).fit(runs)
    line = np.linspace(1e-4, 1 - 1e-4, 9999)
    every = np.column_stack([1 - line, line])
    cost = law.predict(every).mean(axis=1) + 0.05 * (every * np.log(2 * every)).sum(axis=1)
    assert decided.kl_weight == 0.05
    assert decided.mixture["new"] == pytest.approx(line[cost.argmin()], abs=2e-3)
    assert 0.01 < decided.mixture["new"] < 0.99


@pytest.mark.parametrize(("m", "h"), [(3, 1.0), (12, 1.0), (12, 3.0), (64, 2.0)])
def test_six_designed_probes_find_the_optimum_of_planted_slopes(m: int, h: float) -> None:
    """L_d = l_d - (b_d / h) log p_d after a probe: at horizon h the best for the mean loss has shares b_d / sum b."""
    domains, rng = DomainSet([f"d{j}" for j in range(m)]), np.random.default_rng(m)
    slopes, uniform = rng.uniform(0.1, 0.6, m), Mixture.uniform(domains)
    drawn = balanced_design(uniform, 6, (0.05, 0.15, 0.4, 0.9, 1.6, 2.9), rng)
    base = rng.uniform(3, 4, m)
    losses = [base - slopes / h * np.log((each.weights + 1e-4) / (1 / m + 1e-4)) for each in drawn]
    probes = [
        Probe(Component(str(k), each, each), Path(), loss, 100, 1.0)
        for k, (each, loss) in enumerate(zip(drawn, losses, strict=True))
    ]
    heldout = HeldoutText(domains, (torch.zeros((2, 8), dtype=torch.long),) * m, np.full(m, 10.0))
    measured = ProbeMeasurement("base", Path(), uniform, tuple(probes), base, heldout, 0, 0, 0)
    objective = Objective.from_dict(domains.names, None, "loss_nats")
    free, own = Bounds(np.zeros(m), np.ones(m), ("",) * m), tuple(range(m))
    problem = DecisionProblem(measured, objective, free, uniform, None, 20, 5, 0, own, slope_horizon=h, kl_weight=0.0)
    found = MODES["probe-law"](problem).proposal.mixture
    np.testing.assert_allclose(found.weights, slopes / slopes.sum(), rtol=0.08)  # slopes are never quite sure


def _merged(folders: list[Path], weights: list[float] | tuple[float, ...]) -> PreTrainedModel:
    """The base and the weighted sum of what each adapter adds to it, each merged by PEFT itself."""
    base, target = _base(), _base()
    with torch.no_grad():
        for w, folder in zip(weights, folders, strict=True):
            merged = PeftModel.from_pretrained(_base(), str(folder)).merge_and_unload()
            for name, parameter in target.named_parameters():
                parameter += w * (merged.get_parameter(name) - base.get_parameter(name))
    return target.eval()
