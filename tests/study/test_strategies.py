"""Updates under each strategy, against optima found by brute force in a world whose law is known."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from evermix.domain_updates import Add, Partition, Remove, Revise
from evermix.domains import Domain, DomainSet
from evermix.errors import ConstraintError, DomainError, ProjectError
from evermix.mixture import Mixture
from evermix.recipe.decision import StudyRecipe
from evermix.study import Study
from tests.study.evolving import NEW, RECIPE, TOKENS, answer, begun, least_objective, objective

PAPERS = Add("papers", NEW["papers"])


def one_share(study: Study, name: str, before: Mapping[str, float], high: float = 1.0) -> dict[str, float]:
    """The best mixture that keeps the others' proportions, by a search over one share."""
    domains = study.domains

    def shares(r: float) -> dict[str, float]:
        return {**{other: (1 - r) * share for other, share in before.items()}, name: r}

    found = minimize_scalar(lambda r: objective(shares(r), domains), bounds=(1e-9, high), method="bounded")
    return shares(float(found.x))


def proportions(mixture: Mixture, names: tuple[str, ...]) -> np.ndarray:
    shares = np.array([mixture[name] for name in names])
    return shares / shares.sum()


def test_full_reuse_solves_the_component_problem_and_keeps_the_proportions(tmp_path: Path) -> None:
    study = begun(tmp_path / "s")
    before = study.mixture
    assert before is not None
    plan = study.update(PAPERS, "mixture")
    assert study.mixture is None
    asked = study.ask(plan.chosen.n_runs)
    for run in asked:
        if run.mixture["papers"] < 1:
            np.testing.assert_allclose(proportions(run.mixture, tuple(TOKENS)), before.weights, rtol=1e-12)
    answer(study, asked)
    found = study.propose().mixture
    np.testing.assert_allclose(proportions(found, tuple(TOKENS)), before.weights, rtol=1e-12)
    best = one_share(study, "papers", before.as_dict)
    assert found["papers"] == pytest.approx(best["papers"], abs=1e-4)
    assert study.mixture == found


def test_a_bundle_takes_a_sixth_of_the_runs_of_a_full_swarm(tmp_path: Path) -> None:
    study = begun(tmp_path / "s")
    plan = study.plan(PAPERS)
    assert {name: each.n_runs for name, each in plan.strategies.items()} == {
        "full": 18,  # 3 (5 + 1)
        "swarm": 3,  # 18 - 15
        "mixture": 6,  # 3 (1 + 1)
        "auto": 6,
    }
    assert "names of the domains" in plan.unavailable["partial"]
    assert plan.strategies["swarm"].n_reused == 15
    assert plan.chosen.components == ("fixed ratio", "papers")
    assert plan.chosen.fixed_ratio == pytest.approx(study.mixture.as_dict)  # type: ignore[union-attr]
    partial = study.plan(PAPERS, "partial", ["maths"]).chosen
    assert partial.components == ("fixed ratio", "maths", "papers")
    assert partial.n_runs == 9
    assert study.domains.names == tuple(TOKENS)  # nothing was written
    assert plan.as_dict["strategies"]["mixture"]["n_runs"] == 6


def test_caps_are_carried_to_the_bundle(tmp_path: Path) -> None:
    capped = RECIPE.model_copy(update={"tokens": 10**12})
    study = begun(tmp_path / "s", capped)
    before = study.mixture
    assert before is not None
    answer_all(study, PAPERS)
    found = study.propose().mixture
    most = min(4 * TOKENS[name] / 10**12 / before[name] for name in TOKENS if before[name] > 0)
    least = max(1 - most, 0.0)
    assert found["papers"] <= 4 * NEW["papers"] / 10**12 + 1e-9
    assert 1 - found["papers"] <= most + 1e-9
    best = one_share(study, "papers", before.as_dict, 4 * NEW["papers"] / 10**12)
    assert found["papers"] == pytest.approx(max(best["papers"], least), abs=1e-4)


def answer_all(study: Study, update: Add | Remove | Revise | Partition, strategy: str = "mixture") -> None:
    plan = study.update(update, strategy)  # type: ignore[arg-type]
    answer(study, study.ask(plan.chosen.n_runs))


def test_partial_reuse_is_at_least_as_good_and_full_recomputation_the_best(tmp_path: Path) -> None:
    reached = {}
    for strategy, recompute in (("mixture", ()), ("partial", ("maths",)), ("full", ()), ("swarm", ())):
        study = begun(tmp_path / strategy)
        plan = study.update(PAPERS, strategy, recompute)  # type: ignore[arg-type]
        answer(study, study.ask(plan.chosen.n_runs))
        reached[strategy] = objective(study.propose().mixture.as_dict, study.domains)
    best = least_objective(study.domains, np.ones(5), 200_000)
    assert reached["full"] <= best + 1e-6
    assert reached["swarm"] == pytest.approx(reached["full"], abs=1e-6)
    assert reached["full"] <= reached["partial"] + 1e-7 <= reached["mixture"] + 2e-7


def test_removing_costs_no_runs_and_renormalises(tmp_path: Path) -> None:
    study = begun(tmp_path / "s")
    before = study.mixture
    assert before is not None
    plan = study.update(Remove("books"))
    assert plan.chosen.n_runs == 0
    left = {name: before[name] for name in ("web", "code", "maths")}
    assert study.mixture is not None
    assert study.mixture.as_dict == pytest.approx({name: share / sum(left.values()) for name, share in left.items()})
    carried = study.mixture
    answer_all(study, PAPERS)  # what was carried can be fixed_ratio
    assert proportions(study.propose().mixture, tuple(left)) == pytest.approx(list(carried.weights), rel=1e-12)


def test_five_updates_in_a_row_each_its_own_way(tmp_path: Path) -> None:
    study = begun(tmp_path / "s")
    changed = {"code": (0.2, -1.9, -0.5)}
    answer_all(study, PAPERS)
    first = study.propose().mixture
    plan = study.update([Add("forum", NEW["forum"])], "partial", recompute=["papers"])
    assert plan.chosen.components == ("fixed ratio", "papers", "forum")
    answer(study, study.ask(plan.chosen.n_runs))
    second = study.propose().mixture
    assert proportions(second, tuple(TOKENS)) == pytest.approx(list(proportions(first, tuple(TOKENS))), rel=1e-12)
    plan = study.update(Revise("code", TOKENS["code"]), "auto")  # sits in two bundles by now
    assert plan.chosen.components == ("fixed ratio", "code")
    answer(study, study.ask(plan.chosen.n_runs), revised=changed)
    third = study.propose().mixture
    kept = ("web", "maths", "books", "papers", "forum")
    assert proportions(third, kept) == pytest.approx(list(proportions(second, kept)), rel=1e-12)
    parts = (Domain("web:news", 2 * 10**11), Domain("web:blogs", 4 * 10**11))
    plan = study.update([Partition("web", parts), Remove("books")], "mixture")
    answer(study, study.ask(plan.chosen.n_runs), revised=changed)
    fourth = study.propose().mixture
    kept = ("code", "maths", "papers", "forum")
    assert proportions(fourth, kept) == pytest.approx(list(proportions(third, kept)), rel=1e-12)
    study.update(Add("wiki", NEW["wiki"]), "full")
    answer(study, study.ask(24), revised=changed)
    fifth = study.propose().mixture
    assert fifth.domains.names == ("web:news", "web:blogs", "code", "maths", "papers", "forum", "wiki")
    best = least_objective(fifth.domains, 8 * fifth.weights + 0.1, 100_000, revised=changed)
    assert objective(fifth.as_dict, study.domains, revised=changed) <= best + 1e-4
    assert [version.strategy for version in study.now().state.versions.path()] == [
        "full", "mixture", "partial", "auto", "mixture", "full"
    ]  # fmt: skip


def test_runs_of_the_bundle_are_evidence_when_a_domain_is_released(tmp_path: Path) -> None:
    study = begun(tmp_path / "s")
    answer_all(study, PAPERS)
    narrow = study.propose().mixture
    assert study.recompute("maths") == ("maths",)
    assert study.mixture == narrow
    assert study.version.is_recomputation
    assert study.version.n_runs == 9 - 4  # 3 (2 + 1), of which the six in hand count for at most half
    assert study.observations()[0].n_runs == 6
    answer(study, study.ask(5))
    wide = study.propose()
    assert wide.fitted.observations.n_runs == 11
    kept = ("web", "code", "books")
    assert proportions(wide.mixture, kept) == pytest.approx(list(proportions(narrow, kept)), rel=1e-12)
    before, after = objective(narrow.as_dict, study.domains), objective(wide.mixture.as_dict, study.domains)
    assert after <= before + 1e-7


def test_runs_that_do_not_keep_the_proportions_are_named(tmp_path: Path) -> None:
    study = begun(tmp_path / "s")
    answer_all(study, PAPERS)
    observations, left_out = study.observations()
    assert observations.n_runs == 6
    assert len(left_out) == 15
    assert {item.reason for item in left_out} == {"does not keep the fixed proportions"}


def test_the_evidence_knows_every_run_and_what_is_gone(tmp_path: Path) -> None:
    study = begun(tmp_path / "s")
    answer_all(study, Revise("books", TOKENS["books"]))
    evidence = study.fit_all_runs()
    assert evidence.observations.n_runs == 21
    assert evidence.retired == ("books (until 1)",)
    assert evidence.prior.mixture["books (until 1)"] == 0
    diagnosis = study.diagnose()
    assert set(diagnosis.coupling) == {"web", "code", "maths"}


def test_past_its_design_a_bundle_is_measured_where_it_matters(tmp_path: Path) -> None:
    study = begun(tmp_path / "s")
    answer_all(study, PAPERS)
    more = study.ask(2)
    space = study.space
    assert space is not None
    assert space.holds(np.array([run.mixture.weights for run in more])).all()
    assert len(study.pending()) == 2


def test_a_rename_and_an_empty_revision_keep_runs_and_mixture(tmp_path: Path) -> None:
    domains = DomainSet(Domain(name, n, f"hash of {name}") for name, n in TOKENS.items())
    study = Study(tmp_path / "s", domains, RECIPE)
    answer(study, study.ask(15))
    before = study.propose().mixture
    study.update([Remove("web"), Add("internet", TOKENS["web"], "hash of web"), Revise("code", 10**11, "hash of code")])
    assert study.mixture is not None
    assert study.mixture["internet"] == pytest.approx(before["web"])
    assert study.mixture["code"] == pytest.approx(before["code"])
    assert study.observations()[0].n_runs == 15
    assert study.domains.domains[study.domains.index("internet")].fingerprint == "hash of web"


def test_without_a_proposal_no_ratio_can_be_kept_and_the_way_out_is_told(tmp_path: Path) -> None:
    study = begun(tmp_path / "s", propose=False)
    with pytest.raises(
        ProjectError, match=r"strategy 'auto' needs a mixture whose ratio is kept.*propose\(\).*full, swarm"
    ):
        study.update(PAPERS)
    assert study.domains.names == tuple(TOKENS)
    study.update(PAPERS, "swarm")
    assert study.domains.names[-1] == "papers"


@pytest.mark.parametrize(
    ("strategy", "recompute", "error", "message"),
    [
        ("cheap", (), ProjectError, "known: full, swarm, mixture, partial, auto"),
        ("mixture", ("web",), ProjectError, "strategy partial, and no other"),
        ("partial", (), ProjectError, "strategy partial, and no other"),
        ("partial", ("papers",), DomainError, "leaves alone can be recomputed"),
        ("partial", ("wbe",), DomainError, "got 'wbe'"),
        ("partial", tuple(TOKENS), ProjectError, "needs unaffected domains with a share"),
    ],
)
def test_what_cannot_be_planned_is_refused_by_name(
    tmp_path: Path, strategy: str, recompute: tuple[str, ...], error: type[Exception], message: str
) -> None:
    study = begun(tmp_path / "s")
    with pytest.raises(error, match=message):
        study.update(PAPERS, strategy, recompute)  # type: ignore[arg-type]


def test_releases_are_checked(tmp_path: Path) -> None:
    study = begun(tmp_path / "s")
    with pytest.raises(ProjectError, match="none at a fixed ratio"):
        study.recompute("web")
    with pytest.raises(ProjectError, match="must have domains at a fixed ratio to be diagnosed"):
        study.recompute()
    answer_all(study, PAPERS)
    with pytest.raises(DomainError, match="only a domain at a fixed ratio"):
        study.recompute("papers")


def test_a_floor_on_a_domain_fixed_at_zero_is_refused_with_the_way_out(tmp_path: Path) -> None:
    study = begun(tmp_path / "s", ruled(caps={"books": 0.0}))
    assert study.mixture is not None
    assert study.mixture["books"] == 0
    answer_all(study, PAPERS)
    with pytest.raises(ConstraintError, match="recompute 'books'"):
        Study(tmp_path / "s", recipe=ruled(floors={"books": 0.1})).propose()


def ruled(**constraints: dict[str, float]) -> StudyRecipe:
    return StudyRecipe.model_validate({**RECIPE.model_dump(exclude_unset=True), "constraints": constraints})


def test_the_power_link_law_takes_two_thirds_of_the_runs(tmp_path: Path) -> None:
    study = Study(tmp_path / "s", TOKENS, StudyRecipe(law="power-link"), n_runs=7)
    study.tell("mine", {"reading": 2.0}, mixture={"web": 1.0})
    plan = study.plan([PAPERS, Add("forum", NEW["forum"])])
    assert {name: each.n_runs for name, each in plan.strategies.items()} == {"full": 14, "swarm": 13}
    assert plan.unavailable["mixture"] == "needs a mixture whose ratio is kept"


def test_what_a_bundle_cannot_tell_is_said_and_what_it_need_not_is_not(tmp_path: Path) -> None:
    given = RECIPE.model_dump(exclude={"kl_weight"}, exclude_unset=True)
    study = begun(tmp_path / "s", StudyRecipe.model_validate({**given, "kl": 0.02}))
    before = study.mixture
    assert before is not None
    study.update([PAPERS, Add("forum", NEW["forum"])], "mixture", n_runs=6)
    answer(study, study.ask(study.remaining))
    asked = StudyRecipe.model_validate({**given, "kl": "auto", "resamples": 4, "tokens": "500B"})
    found = Study(tmp_path / "s", recipe=asked).propose()
    kinds = {warning.kind: warning for warning in found.warnings}
    assert "natural, uniform" in kinds["fixed ratio"].message
    assert not {"confounded domains", "too few runs", "domain never sampled"} & set(kinds)
    assert found.fitted.law_name == "log-linear"
    assert found.kl.choice is not None
    assert found.kl.choice.scores  # six runs over three components suffice to choose it
    assert found.as_dict["fixed_ratio"] == pytest.approx(before.as_dict)
