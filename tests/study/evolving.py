"""A log-linear world whose domains come and go: every optimum can be found by brute force."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from evermix.domains import DomainSet
from evermix.mixture import Mixture
from evermix.recipe.decision import StudyRecipe
from evermix.study import Study, Trial

TOKENS = {"web": 6 * 10**11, "code": 2 * 10**11, "maths": 10**11, "books": 10**11}
NEW = {"papers": 5 * 10**10, "forum": 2 * 10**11, "wiki": 10**10}
METRICS = ("reading", "programs", "sums")
T = {
    "web": (-0.9, 0.3, 0.4),
    "code": (0.5, -1.6, -0.3),
    "maths": (0.6, 0.1, -1.9),
    "books": (-1.1, 0.5, 0.6),
    "papers": (-0.4, 0.2, -1.4),
    "forum": (-0.7, -0.6, 0.3),
    "wiki": (-1.5, 0.2, 0.1),
}
KL = 0.05
RECIPE = StudyRecipe.model_validate({"law": "log-linear", "kl_weight": KL, "resamples": 0})


def measure(shares: Mapping[str, float], *, revised: Mapping[str, Sequence[float]] | None = None) -> dict[str, float]:
    """exp(c) + exp(t . p) without noise; parts of a domain do what the whole does."""
    rows = {**T, **(revised or {})}
    total = np.zeros(len(METRICS))
    for name, share in shares.items():
        total += share * np.array(rows.get(name, rows[name.split(":")[0]]))
    return dict(zip(METRICS, (1.0 + np.exp(total)).tolist(), strict=True))


def objective(shares: Mapping[str, float], domains: DomainSet, **keys: Mapping[str, Sequence[float]]) -> float:
    """Mean metric + lambda KL over the leaves, towards natural."""
    mixture = Mixture.from_dict(domains, shares)
    return float(np.mean(list(measure(shares, **keys).values()))) + KL * mixture.kl(Mixture.natural(domains))


def least_objective(domains: DomainSet, around: np.ndarray, n: int, **keys: Mapping[str, Sequence[float]]) -> float:
    """The least `objective` of n mixtures drawn around one, (domains,)."""
    rows = {**T, **keys.get("revised", {})}
    table = np.array([rows.get(name, rows[name.split(":")[0]]) for name in domains.names])
    draws = np.random.default_rng(0).dirichlet(around, n)
    natural = Mixture.natural(domains).weights
    kl = (draws * np.log(np.maximum(draws, 1e-300) / natural)).sum(axis=1)
    return float(((1.0 + np.exp(draws @ table)).mean(axis=1) + KL * kl).min())


def answer(study: Study, runs: Sequence[Trial], **keys: Mapping[str, Sequence[float]]) -> None:
    """Tell what the world measures."""
    for run in runs:
        study.tell(run.run_id, measure(run.mixture.as_dict, **keys))


def begun(folder: Path, recipe: StudyRecipe = RECIPE, *, propose: bool = True) -> Study:
    """A study with its first swarm told, and proposed."""
    study = Study(folder, TOKENS, recipe)
    answer(study, study.ask(15))
    if propose:
        study.propose()
    return study
