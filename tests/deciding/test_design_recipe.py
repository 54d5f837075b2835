"""The design of a recipe: its keys are the options of designs/, and first swarms keep to them."""

import numpy as np
import pytest
from pydantic import ValidationError

import evermix as em
from evermix.deciding.next_runs import draw_swarm
from evermix.designs import DirichletOptions, LevelOptions, SwarmRules, dirichlet_design, nested_design
from evermix.domains import Domain, DomainSet
from evermix.errors import MixtureError
from evermix.mixture import Mixture
from evermix.recipe import DesignRecipe, Recipe, StudyRecipe

FLAT = DomainSet(Domain(name, 10**9 * (k + 1)) for k, name in enumerate(("web", "code", "maths", "law")))
DEEP = DomainSet(Domain(name, 10**9) for name in ("web:a", "web:b", "code:a", "code:b", "code:c"))


def drawn(domains: DomainSet, n: int = 12, **keys: object) -> np.ndarray:
    prior = Mixture.natural(domains)
    mixtures = draw_swarm(prior, n, np.random.default_rng(0), DesignRecipe.model_validate(keys))
    return np.array([mixture.weights for mixture in mixtures])


def weights(mixtures: list[Mixture]) -> np.ndarray:
    return np.array([mixture.weights for mixture in mixtures])


def test_the_default_is_the_default_of_the_designs() -> None:
    rng = np.random.default_rng(0)
    assert np.array_equal(drawn(FLAT), weights(dirichlet_design(Mixture.natural(FLAT), 12, rng)))
    rng = np.random.default_rng(0)
    assert np.array_equal(drawn(DEEP), weights(nested_design(Mixture.natural(DEEP), 12, rng)))


def test_scatter_and_rules_are_passed_on() -> None:
    options = DirichletOptions(strength=(1.0, 2.0), per_domain=False, temperature=0.5, minimum_weight=0.05)
    expected = dirichlet_design(
        Mixture.natural(FLAT), 12, np.random.default_rng(0), options, SwarmRules(coverage=3, grid=0.01)
    )
    found = drawn(FLAT, kind="sparse", strength=[1, 2], temperature=0.5, minimum_weight=0.05, coverage=3, grid=0.01)
    assert np.array_equal(found, weights(expected))


def test_levels_have_settings_of_their_own() -> None:
    """The topics of web keep their ratio; code has a prior of its own on the second level; the first is uniform."""
    second = {"prior": {"code:a": 1, "code:b": 1, "code:c": 2}, "fixed_ratio": ["web"], "strength": [2, 4]}
    found = drawn(DEEP, 40, temperature=0.0, levels=[{}, second])
    assert np.allclose(found[:, 0], found[:, 1])
    levels = [
        LevelOptions(DirichletOptions(temperature=0.0)),
        LevelOptions(DirichletOptions(strength=(2, 4), temperature=0.0), second["prior"], frozenset({"web"})),  # type: ignore[arg-type]
    ]
    assert np.array_equal(found, weights(nested_design(Mixture.natural(DEEP), 40, np.random.default_rng(0), levels)))


def test_every_run_keeps_caps_and_floor() -> None:
    for kind in ("dirichlet", "sparse", "dense", "space-filling"):
        found = drawn(FLAT, 30, kind=kind, caps={"law": 0.2}, floor=0.05)
        assert found.min() >= 0.05 - 1e-9
        assert found[:, 3].max() <= 0.2 + 1e-9


def test_a_name_that_fits_no_node_is_refused() -> None:
    with pytest.raises(MixtureError, match="prior of level 1 must name nodes of that level"):
        drawn(DEEP, levels=[{"prior": {"books": 1}}])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"grid": 0.03}, "1 / whole number"),
        ({"strength": [5, 1]}, "the least comes first"),
        ({"kind": "sparse", "levels": [{}]}, "belong to kind nested"),
        ({"kind": "space-filling", "temperature": 0.5}, "drawn around no prior"),
    ],
)
def test_settings_that_do_not_fit_are_refused(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DesignRecipe.model_validate(keys)


def test_a_swarm_of_a_recipe_is_designed_by_its_keys() -> None:
    recipe = Recipe.model_validate(
        {
            "project": "p",
            "method": "olmix",
            "domains": [{"name": "a", "files": "a.txt"}, {"name": "b", "files": "b.txt"}],
            "training": {"tokens": "1M"},
            "swarm": {"design": {"kind": "dense", "temperature": 0.5}},
        }
    )
    asked = recipe.study_recipe(10**6, {"a": "a", "b": "b"}, {}, [])
    assert asked.design == DesignRecipe(kind="dense", temperature=0.5)


def test_the_function_gives_a_first_swarm_or_the_next_runs() -> None:
    first = em.design({"web": 3 * 10**9, "code": 10**9}, n_runs=6)
    assert (first.kind, list(first.runs)) == ("dirichlet", [f"run-{k:04d}" for k in range(6)])
    assert first.settled is None
    mixtures = np.array([mixture.weights for mixture in first.runs.values()])
    values = np.column_stack([2 + mixtures[:, 0] ** 2, 1 + mixtures[:, 1]])
    known = em.Observations(first.prior.domains, mixtures, ("x", "y"), values)
    following = em.design(known, StudyRecipe(law="log-linear"), 2)
    assert (following.kind, list(following.runs)) == ("adaptive", ["run-0006", "run-0007"])
    assert following.settled is not None
