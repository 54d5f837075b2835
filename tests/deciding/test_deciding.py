"""fit, propose and what_if from a table of runs, on a planted world."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evermix.deciding import FittedLaw, fit, moved, named_mixture, propose, what_if
from evermix.domains import Domain, DomainSet
from evermix.errors import ConstraintError, DomainError, MixtureError, ObservationError, RecipeError
from evermix.mixture import Mixture
from evermix.observations import Observations, read_observations
from evermix.recipe.decision import StudyRecipe
from tests.study.planted import DOMAINS, METRICS, measure, true_objective

SET = DomainSet(Domain(name, n_tokens) for name, n_tokens in DOMAINS.items())


def swarm(n: int = 24, *, dead: str | None = None, accuracy: bool = False, unit: float = 1.0) -> Observations:
    """Runs around uniform; `accuracy` turns the last metric round, `unit` scales the first."""
    rng = np.random.default_rng(5)
    weights = rng.dirichlet(np.ones(len(DOMAINS)), n)
    if dead is not None:
        weights[:, SET.index(dead)] = 0
        weights /= weights.sum(axis=1, keepdims=True)
    rows = [measure(dict(zip(DOMAINS, p, strict=True)), seed) for seed, p in enumerate(weights)]
    values = np.array([[row[name] for name in METRICS] for row in rows])
    values[:, 0] *= unit
    if accuracy:
        values[:, 2] = 1 - values[:, 2] / 10
    maximised = frozenset({METRICS[2]}) if accuracy else frozenset()
    return Observations(SET, weights, METRICS, values, maximised=maximised)


def recipe(**keys: object) -> StudyRecipe:
    return StudyRecipe.model_validate({"law": "power-link", "resamples": 20, "kl": 0.02, **keys})


@pytest.fixture(scope="module")
def fitted() -> FittedLaw:
    return fit(swarm(), recipe())


def test_a_law_is_judged_on_runs_it_has_not_seen(fitted: FittedLaw) -> None:
    assert fitted.calibration.objective.spearman > 0.8
    assert fitted.prior.source.startswith("natural")
    assert fitted.left_out == ()


def test_the_order_of_rows_changes_nothing_and_that_of_columns_only_rounding() -> None:
    """The same table with its rows, its domains and its metrics in another order; kl is chosen by the runs."""
    runs, asked = swarm(16), StudyRecipe(law="power-link", resamples=8)
    fitted, rng = fit(runs, asked), np.random.default_rng(1)
    found, rows = propose(fitted), rng.permutation(16)
    assert fit(runs.subset(runs=rows), asked).observations == fitted.observations
    domains, metrics = rng.permutation(4), rng.permutation(3)
    turned = Observations(
        DomainSet([SET.domains[j] for j in domains]),
        runs.weights[rows][:, domains],
        tuple(METRICS[i] for i in metrics),
        runs.values[rows][:, metrics],
        run_ids=tuple((runs.run_ids or ())[k] for k in rows),
    )
    again = propose(fit(turned, asked))
    assert again.kl.relative == found.kl.relative
    assert again.mixture.as_dict == pytest.approx(found.mixture.as_dict, abs=1e-6)
    intervals = [
        dict(zip(each.mixture.domains.names, each.bootstrap.weight_intervals().tolist(), strict=True))
        for each in (found, again)
        if each.bootstrap is not None
    ]
    for name in DOMAINS:
        assert intervals[1][name] == pytest.approx(intervals[0][name], abs=1e-5)


def test_the_proposal_comes_with_its_evidence(fitted: FittedLaw) -> None:
    found = propose(fitted, recipe(tokens="50B"))
    names = {row.name for row in found.comparison.rows}
    assert {"proposal", "natural", "uniform", "unimax", "best run"} <= names
    epochs = 50e9 * found.mixture.weights / SET.n_tokens
    np.testing.assert_allclose(found.comparison["proposal"].epochs, epochs, rtol=1e-9)
    assert epochs.max() <= 4 + 1e-6
    assert true_objective(found.mixture.as_dict) < true_objective(Mixture.natural(SET).as_dict)
    record = found.as_dict
    assert record["mixture"] == found.mixture.as_dict
    assert record["n_tokens"] == 50_000_000_000


def test_without_resamples_there_are_no_intervals(fitted: FittedLaw) -> None:
    found = propose(fitted, recipe(resamples=0))
    assert found.bootstrap is None
    assert found.comparison["natural"].interval is None


def test_kl_auto_is_chosen_by_runs_that_did_not_propose(fitted: FittedLaw) -> None:
    found = propose(fitted, recipe(kl="auto", resamples=0))
    assert found.kl.choice is not None
    assert found.kl.weight == pytest.approx(found.kl.choice.kl / 0.02 * propose(fitted, recipe(resamples=0)).kl.weight)
    klnats = [point.proposal.kl_nats for point in sorted(found.kl.path, key=lambda point: point.kl)]
    assert klnats == sorted(klnats, reverse=True)


def test_where_too_few_runs_choose_kl_that_of_the_mixture_before_holds() -> None:
    few = fit(swarm(3), recipe(kl="auto", resamples=0))
    found = propose(few, kl_before=0.03)
    assert found.kl.relative == 0.03
    assert "mixture before" in found.kl.source
    assert propose(few).kl.relative == 0.2


def test_a_kl_weight_may_be_given_in_the_objectives_unit(fitted: FittedLaw) -> None:
    assert propose(fitted, recipe(kl=None, kl_weight=0.05, resamples=0)).problem.kl_weight == 0.05


def test_accuracy_and_its_reflection_ask_for_the_same_mixture() -> None:
    one, other = fit(swarm(accuracy=True), recipe()), fit(swarm(), recipe())
    assert one.observations.orientation.sign.tolist() == [1, 1, -1]
    shares = {"unit": "deviations"}
    answers = [
        propose(each, recipe(resamples=0, objective=shares)).mixture
        for each in (
            fit(swarm(accuracy=True), recipe(objective=shares)),
            fit(swarm(), recipe(objective=shares)),
        )
    ]
    assert answers[0].total_variation(answers[1]) < 0.05
    natural = Mixture.natural(SET)
    assert one.predict(natural)[2] == pytest.approx(1 - other.predict(natural)[2] / 10, abs=0.02)


def test_in_deviations_a_change_of_unit_changes_nothing() -> None:
    asked = recipe(resamples=0, objective={"unit": "deviations"})
    plain, scaled = (propose(fit(swarm(unit=unit), asked)).mixture for unit in (1.0, 1000.0))
    np.testing.assert_allclose(plain.weights, scaled.weights, atol=1e-4)


def test_guards_hold_in_the_metrics_own_unit(fitted: FittedLaw) -> None:
    free = propose(fitted, recipe(objective={"weights": {"programs": 1.0}}, resamples=0))
    natural = fitted.predict(Mixture.natural(SET))
    asked = recipe(
        objective={"weights": {"programs": 1.0}},
        guards=[{"reference": "natural", "tolerance": 0.01, "metrics": ["reading"]}],
    )
    held = propose(fit(swarm(), asked))
    reading = METRICS.index("reading")
    assert fitted.predict(free.mixture)[reading] > 1.01 * natural[reading]
    assert fitted.predict(held.mixture)[reading] <= 1.01 * natural[reading] * (1 + 1e-6)
    assert any(dual.constraint == "guard:reading" for dual in held.proposal.duals)


def test_the_worst_metric_and_the_worst_law(fitted: FittedLaw) -> None:
    natural = fitted.predict(Mixture.natural(SET))
    mean, metric, law = (
        propose(fitted, recipe(objective={"aggregate": aggregate}, resamples=0)).mixture
        for aggregate in ("mean", "worst metric", "worst law")
    )
    worst = [(fitted.predict(p) / natural).max() for p in (mean, metric)]
    assert worst[1] <= worst[0] + 1e-6
    assert law.total_variation(mean) < 0.5


def test_groups_are_means_of_means() -> None:
    asked = recipe(objective={"groups": {"text": ["reading"], "skills": {"a": ["programs"], "b": ["sums"]}}})
    assert fit(swarm(), asked).objective.weights == pytest.approx((0.5, 0.25, 0.25))


def test_a_domain_without_runs_keeps_its_prior_share_and_the_rest_is_decided() -> None:
    found = propose(fit(swarm(dead="maths"), recipe(tokens="20B")))
    assert found.fitted.unsampled_domains == ("maths",)
    prior = found.fitted.prior.mixture
    assert found.mixture["maths"] == pytest.approx(prior["maths"])
    assert found.mixture.total_variation(prior) > 0.1
    assert found.comparison["proposal"].epochs is not None


def test_metrics_that_no_law_can_learn_are_left_out_and_said() -> None:
    runs = swarm()
    values = np.column_stack([runs.values, np.full(runs.n_runs, 3.0)])
    constant = Observations(SET, runs.weights, (*METRICS, "flat"), values)
    assert [(item.kind, item.name) for item in fit(constant, recipe()).left_out] == [("metric", "flat")]
    with pytest.raises(ObservationError, match="at least one metric must differ"):
        fit(Observations(SET, runs.weights, ("flat",), values[:, -1:]), recipe())


def test_standard_errors_weigh_the_fit() -> None:
    runs = swarm()
    values, errors = runs.values.copy(), np.full(runs.values.shape, 0.01)
    values[:6] += 1.0
    errors[:6] = 3.0
    spoilt = Observations(SET, runs.weights, METRICS, values, standard_errors=errors)
    plain = Observations(SET, runs.weights, METRICS, values)
    natural, truth = Mixture.natural(SET), fit(runs, recipe()).predict(Mixture.natural(SET))
    with_errors, without = (np.abs(fit(o, recipe()).predict(natural) - truth).max() for o in (spoilt, plain))
    assert with_errors < 0.2 * without


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        ({"law": "cubic"}, RecipeError, "got 'cubic'"),
        ({"objective": {"weights": {"redaing": 1.0}}}, ConstraintError, "redaing"),
        ({"prior": {"web": 0.5, "kode": 0.5}}, Exception, "kode"),
        ({"guards": [{"metrics": ["redaing"]}]}, ConstraintError, "redaing"),
        ({"constraints": {"caps": {"wbe": 0.1}}}, Exception, "wbe"),
        ({"constraints": {"max_epochs": 2}}, ConstraintError, "max_epochs needs the tokens of the target run"),
        ({"tokens": "9T", "constraints": {"max_epochs": 1}}, ConstraintError, "1,520,000,000,000"),
        ({"constraints": {"floors": {"web": 0.7, "code": 0.6}}}, ConstraintError, "sum to at most 1"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(keys: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        propose(fit(swarm(), recipe(**keys)))


def test_named_mixtures(fitted: FittedLaw) -> None:
    assert named_mixture(fitted, "uniform") == Mixture.uniform(SET)
    assert named_mixture(fitted, "prior") == Mixture.natural(SET)
    best = named_mixture(fitted, "best observed")
    means = fitted.observations.values.mean(axis=1)
    np.testing.assert_allclose(best.weights, fitted.observations.weights[means.argmin()])
    with pytest.raises(ConstraintError, match="known: natural"):
        named_mixture(fitted, "best")


def test_what_if_foretells_the_true_change_within_its_interval(fitted: FittedLaw) -> None:
    before = Mixture.uniform(SET)
    answer = what_if(fitted, before, {"spam": 0.0})
    np.testing.assert_allclose(answer.after.weights, [1 / 3, 1 / 3, 1 / 3, 0])
    assert (answer.low <= answer.value_after - answer.value_before).all()
    assert (answer.better > 0.9).all()
    true = true_objective(answer.after.as_dict) - true_objective(before.as_dict)
    change, low, high = answer.objective_change
    assert low - 0.02 < true < high + 0.02
    assert set(answer.as_dict["metrics"]) == set(METRICS)
    assert answer.n_laws == 20
    assert change < 0


def test_moving_shares() -> None:
    start = Mixture.uniform(SET)
    np.testing.assert_allclose(moved(start, {"web": 0.7}).weights, [0.7, 0.1, 0.1, 0.1])
    np.testing.assert_allclose(moved(start, {}, {"web": -0.1, "code": 0.1}).weights, [0.15, 0.35, 0.25, 0.25])
    np.testing.assert_allclose(moved(start, {"web": 0.5}, {"code": 0.05}).weights, [0.5, 0.3, 0.1, 0.1])
    for shares, raises in (
        ({"web": 1.2}, {}),
        ({}, {"web": -0.3}),
        ({"web": 0.6, "code": 0.6}, {}),
        ({"web": 0.5}, {"web": 0.1}),
    ):
        with pytest.raises(MixtureError):
            moved(start, shares, raises)


def with_constant(name: str = "quiz", value: float = 0.25) -> Observations:
    """The same runs with one more metric, on which all score alike."""
    runs = swarm()
    values = np.column_stack([runs.values, np.full(runs.n_runs, value)])
    return Observations(SET, runs.weights, (*METRICS, name), values, maximised=frozenset({name}))


@pytest.mark.parametrize(
    ("asked", "same_as"),
    [
        ({}, {}),
        ({"weights": {METRICS[0]: 2.0, "quiz": 3.0}}, {"weights": {METRICS[0]: 1.0}}),
        (
            {"groups": {"text": {"prose": [METRICS[0], METRICS[1]], "quizzes": ["quiz"]}, "rest": [METRICS[2]]}},
            {"groups": {"text": [METRICS[0], METRICS[1]], "rest": [METRICS[2]]}},
        ),
        (
            {"groups": {"prose": METRICS, "quizzes": ["quiz"]}, "group_weights": {"prose": 1.0, "quizzes": 5.0}},
            {"groups": {"prose": METRICS}},
        ),
    ],
)
def test_a_metric_on_which_all_runs_score_alike_leaves_the_objective(asked: dict, same_as: dict) -> None:
    guards = [{"reference": "natural", "tolerance": 0.1, "metrics": ["quiz", METRICS[1]]}]
    found = propose(fit(with_constant(), recipe(objective=asked, guards=guards)))
    guards = [{"reference": "natural", "tolerance": 0.1, "metrics": [METRICS[1]]}]
    without = propose(fit(swarm(), recipe(objective=same_as, guards=guards)))
    np.testing.assert_array_equal(found.mixture.weights, without.mixture.weights)
    (told,) = (w for w in found.warnings if w.kind == "metric left out")
    assert "'quiz'" in told.message
    assert "0.25 in every run" in told.message
    assert not any(w.kind == "metric left out" for w in without.warnings)


def test_a_constant_metric_in_a_table_leaves_the_objective_too(tmp_path: Path) -> None:
    with_constant().to_csv(tmp_path)
    reading = read_observations(tmp_path)
    asked = recipe(objective={"weights": {METRICS[0]: 1.0, "quiz": 1.0}}, resamples=0)
    found = propose(fit(reading.observations, asked, reading.left_out))
    assert [w.kind for w in found.warnings] == ["metric left out"]
    dropped = recipe(objective={"drop": ["quiz"]}, resamples=0)
    assert propose(fit(with_constant(), dropped)).warnings == ()


def test_an_objective_without_a_metric_that_differs_is_an_error() -> None:
    with pytest.raises(ConstraintError, match=r"objective must be one that a law can learn, got 'quiz: .*every run"):
        fit(with_constant(), recipe(objective={"weights": {"quiz": 1.0}}))
    with pytest.raises(ConstraintError, match="objective must be one that a law can learn"):
        fit(with_constant(), recipe(objective={"groups": {"all": ["quiz"]}}))
    runs = with_constant()
    runs = Observations(SET, runs.weights, ("a", "b"), np.ones((runs.n_runs, 2)))
    with pytest.raises(ObservationError, match=r"at least one metric must differ between runs.*a: .*b: .*Hint"):
        fit(runs, recipe())
    with pytest.raises(ConstraintError, match="an objective weight must name a metric"):
        fit(with_constant(), recipe(objective={"weights": {METRICS[0]: 1.0, "quizz": 1.0}}))


def test_runs_of_several_sizes_or_budgets_are_refused_and_one_of_them_may_be_chosen() -> None:
    """Two thirds of the runs are of another size, whose losses are lower by far more than mixtures differ."""
    runs, size = swarm(24), np.repeat([2e7, 6e7], [8, 16])
    pooled = replace(runs, values=runs.values - np.where(size > 3e7, 0.5, 0.0)[:, None], n_parameters=size)
    with pytest.raises(ObservationError, match=r"one model size.*got '20M \(8 runs\), 60M \(16 runs\).*model_size=60M"):
        fit(pooled, recipe())
    chosen = fit(pooled, recipe(), where={"model_size": "60M"})
    assert chosen.observations == pooled.subset(runs=size > 3e7).in_canonical_order()
    assert [item.kind for item in chosen.left_out] == ["run"] * 8
    natural = Mixture.natural(SET)
    np.testing.assert_allclose(chosen.predict(natural) + 0.5, fit(runs, recipe()).predict(natural), atol=0.05)
    with pytest.raises(ObservationError, match=r"one token budget.*got '1B \(12 runs\), 2B \(12 runs\)"):
        fit(replace(runs, n_tokens=np.repeat([1e9, 2e9], 12)), recipe())
    counted = replace(runs, n_tokens=1e9 + np.arange(24) * 1e5)  # as trackers count: one budget
    assert fit(counted, recipe()).observations.n_runs == 24
    for where, message in (({"model_size": "60M"}, "neither"), ({"n_tokens": "many"}, "neither")):
        with pytest.raises(ObservationError, match=message):
            fit(runs, recipe(), where=where)
    with pytest.raises(ObservationError, match=r"none has that n_tokens, got '5B'\. Hint: there are 1B \(24 runs\)"):
        fit(counted, recipe(), where={"n_tokens": "5B"})


@pytest.mark.parametrize("n_holders", [1, 2, 3])
def test_a_domain_in_fewer_than_three_runs_keeps_its_prior_share_and_that_is_said(n_holders: int) -> None:
    """Spam, which was never worth anything, looks wonderful in the runs that hold it."""
    runs, rng = swarm(40, dead="spam"), np.random.default_rng(0)
    weights, values = runs.weights.copy(), runs.values.copy()
    lucky = rng.choice(40, n_holders, replace=False)
    weights[lucky] = 0.7 * weights[lucky] + 0.3 * (np.array(SET.names) == "spam")
    values[lucky] -= 0.3
    found = propose(fit(replace(runs, weights=weights, values=values), recipe(kl=0.001)))
    kinds = {warning.kind: warning for warning in found.warnings}
    assert found.bootstrap is not None
    assert found.bootstrap.kind == "runs"  # as without those runs
    interval = found.bootstrap.weight_intervals()[SET.index("spam")]
    prior = found.fitted.prior.mixture["spam"]
    if n_holders == 3:
        assert "domain in few runs" not in kinds
        assert found.mixture["spam"] != pytest.approx(prior, abs=0.02)
        return
    assert found.mixture["spam"] == pytest.approx(prior, abs=1e-9)
    assert interval.tolist() == pytest.approx([prior, prior])
    assert f"'spam' is in {n_holders} run{'s' * (n_holders > 1)} only" in kinds["domain in few runs"].message
    assert found.as_dict["scarce_domains"] == found.view.scarce_domains == {"spam": n_holders}
    assert found.view.held["spam"] == f"in {n_holders} run{'s' * (n_holders > 1)} only"
    assert found.bootstrap.n_failed == 0


def test_what_a_recipe_says_of_a_domain_in_few_runs_holds() -> None:
    runs = swarm(20, dead="spam")
    weights = runs.weights.copy()
    weights[3] = 0.7 * weights[3] + 0.3 * (np.array(SET.names) == "spam")
    fitted = fit(replace(runs, weights=weights), recipe(resamples=0))
    prior = fitted.prior.mixture["spam"]
    for constraints, expected in (
        ({"fixed": {"spam": 0.1}}, 0.1),
        ({"caps": {"spam": 0.2}}, 0.2),
        ({"floors": {"spam": 0.5}}, 0.5),
        ({"groups": {"rest": {"members": ["spam", "web"], "greatest": 0.5}}}, None),
    ):
        found = propose(fitted, recipe(resamples=0, constraints=constraints))
        assert found.problem.bounds.hold(found.mixture.weights, 1e-6)
        if expected is None:
            assert 0 < found.mixture["spam"] < prior
        else:
            assert found.mixture["spam"] == pytest.approx(expected, abs=1e-6)


def test_metrics_of_several_units_are_averaged_with_a_warning() -> None:
    mixed = propose(fit(swarm(accuracy=True), recipe(resamples=0)))
    (told,) = mixed.warnings
    assert told.kind == "mixed units"
    assert told.numbers == {"lower": list(METRICS[:2]), "higher": [METRICS[2]]}
    for asked in ({"unit": "deviations"}, {"weights": {METRICS[0]: 1.0}}, {"drop": [METRICS[2]]}):
        assert propose(fit(swarm(accuracy=True), recipe(resamples=0, objective=asked))).warnings == ()
    assert propose(fit(swarm(), recipe(resamples=0))).warnings == ()


def test_a_name_that_is_nearly_one_is_guessed() -> None:
    with pytest.raises(ConstraintError, match=r"Hint: did you mean 'reading'\? known: reading, programs, sums"):
        fit(swarm(), recipe(objective={"weights": {"Readng": 1.0}}))
    with pytest.raises(DomainError, match=r"did you mean 'maths'\? known"):
        propose(fit(swarm(), recipe(resamples=0, compare={"mine": {"math": 1.0}})))
