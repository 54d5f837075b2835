from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evermix.constraints import NoRegression
from evermix.domain_updates import CollapsedSpace
from evermix.errors import ConvergenceError, MixtureError, ObservationError
from evermix.laws.mapped import on_totals
from evermix.laws.power_link import PowerLinkLaw
from evermix.mixture import Mixture
from evermix.observations import Observations
from evermix.observations.runs import Runs
from evermix.solvers.problem import MixtureProblem
from evermix.solvers.solve import solve
from evermix.trust.bootstrap import Bootstrap, BootstrapOptions, apart, bootstrap
from evermix.trust.calibration import calibrate, misfit_of
from evermix.trust.comparison import compare
from evermix.trust.references import Request
from evermix.trust.resampling import choose, resamples, stretch
from tests.solvers.planted import planted_law
from tests.trust.swarms import LinearLaw, StrictLinearLaw, World, domain_set, linear_law, linear_world, world

Floats = npt.NDArray[np.float64]


def _fitted_problem(w: World, kl_weight: float = 0.1) -> MixtureProblem:
    return w.problem(w.fitted(LinearLaw()), kl_weight)


@dataclass(frozen=True)
class Checked:
    """One planted world: what was promised, and what is true."""

    noisy: bool
    trust: Bootstrap
    gain: float
    objective: float
    best: Floats
    beats: float


@pytest.fixture(scope="module")
def checked() -> list[Checked]:
    """40 worlds, every other one with little noise and enough runs, the others with much noise and few runs."""
    return [_checked(seed, noisy=bool(seed % 2)) for seed in range(40)]


def _checked(seed: int, noisy: bool) -> Checked:
    rng = np.random.default_rng(seed)
    n_runs, noise = (12, 0.4) if noisy else (30, 0.15)
    w = linear_world(n_runs, noise, rng)
    problem = _fitted_problem(w)
    rmse = calibrate(problem.law, w.observations, w.objective).objective.rmse
    trust = bootstrap(problem, w.observations, BootstrapOptions(40, seed), heldout_rmse=rmse)
    p = trust.proposal.mixture.weights
    truth = float(w.true_value(p))
    measured = w.truth.predict(p) + noise * rng.standard_normal((200, 3))
    beats = float((w.objective.value(measured) < trust.best.objective_value).mean())
    best = solve(w.problem(w.truth, 0.1)).mixture.weights
    return Checked(noisy, trust, float(w.true_value(problem.prior.weights)) - truth, truth, best, beats)


def test_intervals_cover_the_truth(checked: list[Checked]) -> None:
    """90% intervals of gain and objective hold the truth in at least 80% of worlds, of weights in 75%."""
    assert np.mean([c.gain in c.trust.gain("natural").interval for c in checked]) >= 0.8
    assert np.mean([c.objective in c.trust.objective_interval("proposal") for c in checked]) >= 0.8
    inside = []
    for c in checked:
        low, high = c.trust.weight_intervals().T
        inside.append(float(((low <= c.best) & (c.best <= high)).mean()))
    assert np.mean(inside) >= 0.75


def test_the_corrected_gain_is_less_biased(checked: list[Checked]) -> None:
    """With few noisy runs the apparent gain is too high on average; the correction takes most of that off."""
    gains = [(c.trust.gain("natural"), c.gain) for c in checked if c.noisy]
    apparent = np.mean([gain.apparent - true for gain, true in gains])
    corrected = np.mean([gain.corrected - true for gain, true in gains])
    assert apparent > 0
    assert abs(corrected) < 0.6 * apparent


def test_the_probability_to_beat_the_best_run_is_calibrated(checked: list[Checked]) -> None:
    """Over the worlds its mean is close to how often a measurement of the proposal is below the best run's."""
    promised, kept = [c.trust.probability_beats_best_run for c in checked], [c.beats for c in checked]
    assert abs(np.mean(promised) - np.mean(kept)) < 0.15
    assert np.corrcoef(promised, kept)[0, 1] > 0.5


def test_replicates_are_drawn_together() -> None:
    w = linear_world(8, 0.1, np.random.default_rng(0), replicates=3)
    law = w.fitted(LinearLaw())
    for draw in resamples("runs", w.observations, law, 20, np.random.default_rng(1)):
        assert draw.counts is not None
        counts = draw.counts.reshape(8, 3)
        assert (counts == counts[:, :1]).all()
        assert counts[:, 0].sum() == 8


def test_wild_residuals_have_the_laws_noise_and_keep_metrics_together() -> None:
    w = linear_world(12, 0.2, np.random.default_rng(0))
    law = w.fitted(LinearLaw())
    fitted = law.predict(w.observations.weights)
    draws = list(resamples("residuals", w.observations, law, 50, np.random.default_rng(1)))
    errors = np.array([draw.values - fitted for draw in draws])
    np.testing.assert_allclose(np.sqrt((errors**2).mean(axis=(0, 1))), law.noise_, rtol=1e-9)
    signs = np.sign(errors / errors[0])
    assert (signs == signs[:, :, :1]).all()


def test_few_runs_resample_residuals_and_say_so() -> None:
    w = linear_world(6, 0.1, np.random.default_rng(3))
    law = w.fitted(LinearLaw())
    chosen = choose(w.observations, law)
    assert chosen.kind == "residuals"
    assert "too few" in chosen.reason
    trust = bootstrap(w.problem(law, 0.1), w.observations, BootstrapOptions(20), heldout_rmse=0.1)
    assert trust.kind == "residuals"
    assert trust.as_dict["reason"] == chosen.reason
    many = linear_world(40, 0.1, np.random.default_rng(3))
    assert choose(many.observations, many.fitted(LinearLaw())).kind == "runs"


def test_a_bundle_counts_the_parameters_of_its_components() -> None:
    """As the same law on the totals alone: 12 mixtures bear 3 components, not 8 leaves."""
    leaves = domain_set(8)
    space = CollapsedSpace.fix(leaves, {f"d{j}": 1 / 6 for j in range(6)})
    rng = np.random.default_rng(5)
    totals = rng.dirichlet(np.ones(3), 12)
    values = totals @ np.array([[3.0, 2.0, 4.0], [1.0, 2.0, 2.0]]).T + 0.05 * rng.standard_normal((12, 2))
    inside = Observations(space.components, totals, ("a", "b"), values)
    over_leaves = Observations(leaves, space.expand(totals), ("a", "b"), values)
    law = LinearLaw().fit(Runs.of(totals, inside.costs))
    bundled = on_totals(LinearLaw(), space).fit(Runs.of(over_leaves.weights, over_leaves.costs))
    assert stretch(over_leaves, bundled) == stretch(inside, law) == pytest.approx(np.sqrt(12 / 9))
    assert choose(over_leaves, bundled) == choose(inside, law)
    assert choose(over_leaves, bundled).kind == "runs"
    assert choose(over_leaves, LinearLaw().fit(Runs.of(over_leaves.weights, over_leaves.costs))).kind == "residuals"


def _held_by(n: int, n_domains: int, m: int) -> tuple[Observations, LinearLaw]:
    """60 runs over m domains, the first `n_domains` of which n runs hold each."""
    w = linear_world(60, 0.1, np.random.default_rng(4), m=m)
    P = w.observations.weights.copy()
    for j in range(n_domains):
        P[~np.isin(np.arange(60), (np.arange(n) * 20 + j) % 60), j] = 0
    P /= P.sum(axis=1, keepdims=True)
    observations = Observations(w.observations.domains, P, w.observations.metrics, w.truth.predict(P))
    return observations, LinearLaw().fit(Runs.of(observations.weights, observations.costs))


def test_a_few_domains_held_by_one_run_do_not_change_how_all_runs_are_resampled() -> None:
    observations, law = _held_by(1, 5, 8)
    assert choose(observations, law).kind == "runs"
    alone = (observations.weights[:, :5] > 0).any(axis=1)
    for draw in resamples("runs", observations, law, 20, np.random.default_rng(0)):
        assert draw.counts is not None
        assert (draw.counts[alone] == 1).all()
        assert draw.counts.sum() == 60
    many = choose(*_held_by(1, 7, 10))
    assert many.kind == "residuals"
    assert "7 of 60 mixtures are all that hold some domain" in many.reason


def test_many_domains_held_by_three_runs_each_resample_residuals() -> None:
    assert "domains per draw" in choose(*_held_by(3, 24, 26)).reason


def test_failed_resamples_are_counted() -> None:
    w = linear_world(8, 0.1, np.random.default_rng(0))
    law = w.fitted(StrictLinearLaw())
    # 8 runs leave 5.3 distinct ones on average: some draws fall under the 5 that the law needs
    options = BootstrapOptions(60, resampling="runs")
    trust = bootstrap(w.problem(law, 0.1), w.observations, options, heldout_rmse=0.1)
    assert trust.n_failed + trust.n_resamples == 60
    assert trust.n_failed > 0
    assert trust.failures == {"a strict law over 4 domains needs more runs": trust.n_failed}


def test_mostly_failed_is_an_error() -> None:
    w = linear_world(8, 0.1, np.random.default_rng(0), m=6)
    law = w.fitted(StrictLinearLaw())
    with pytest.raises(ConvergenceError, match=r"at most half of the 20 resamples.*strict law"):
        bootstrap(w.problem(law, 0.1), w.observations, BootstrapOptions(20, resampling="runs"), heldout_rmse=0.1)


def test_same_seed_same_answer_and_progress() -> None:
    w = linear_world(20, 0.1, np.random.default_rng(0))
    problem = _fitted_problem(w)
    seen: list[tuple[int, int]] = []
    first = bootstrap(
        problem, w.observations, BootstrapOptions(10, 7), heldout_rmse=0.1, progress=lambda i, n: seen.append((i, n))
    )
    second = bootstrap(problem, w.observations, BootstrapOptions(10, 7), heldout_rmse=0.1)
    assert np.array_equal(first.proposals, second.proposals)
    assert seen == [(i, 10) for i in range(1, 11)]


def test_noiseless_runs_leave_no_doubt() -> None:
    """Without noise every resample gives the same law: intervals have no width, and equal the truth."""
    w = linear_world(20, 0.0, np.random.default_rng(0))
    problem = _fitted_problem(w)
    trust = bootstrap(problem, w.observations, BootstrapOptions(20), heldout_rmse=0.0)
    true = float(w.true_value(problem.prior.weights) - w.true_value(trust.proposal.mixture.weights))
    gain = trust.gain("natural")
    assert gain.interval.low == pytest.approx(true, abs=1e-5)
    assert gain.interval.high == pytest.approx(true, abs=1e-5)
    assert gain.optimism == pytest.approx(0, abs=1e-5)
    assert gain.percent == pytest.approx(100 * true / float(w.true_value(problem.prior.weights)), abs=1e-3)


def test_percentages_are_of_the_metric_whatever_its_direction() -> None:
    """A metric to be maximised has costs with an arbitrary shift; percentages must not depend on it."""
    w = linear_world(30, 0.05, np.random.default_rng(1))
    o = w.observations
    upside = Observations(o.domains, o.weights, o.metrics, 10 - o.values, maximised=frozenset(o.metrics))
    law = LinearLaw().fit(Runs.of(upside.weights, upside.costs))
    trust = bootstrap(w.problem(law, 0.1), upside, BootstrapOptions(20), heldout_rmse=0.1)
    same = bootstrap(_fitted_problem(w), o, BootstrapOptions(20), heldout_rmse=0.1)
    level = 10 - float(w.true_value(Mixture.natural(o.domains).weights))
    assert trust.gain("natural").apparent == pytest.approx(same.gain("natural").apparent, rel=1e-3)
    assert trust.gain("natural").base == pytest.approx(level, rel=0.02)
    mixed = Observations(o.domains, o.weights, o.metrics, o.values * [1, -1, 1], maximised=frozenset({o.metrics[1]}))
    law = LinearLaw().fit(Runs.of(mixed.weights, mixed.costs))
    gain = bootstrap(w.problem(law, 0.1), mixed, BootstrapOptions(5), heldout_rmse=0.1).gain("natural")
    assert np.isnan(gain.percent)
    assert gain.as_dict["percent"] is None


def test_guards_follow_each_resampled_law() -> None:
    w = linear_world(30, 0.05, np.random.default_rng(2))
    law = w.fitted(LinearLaw())
    natural = Mixture.natural(w.observations.domains)
    guard = NoRegression(reference=natural, tolerance=0.0)
    problem = MixtureProblem.guarded(law, w.objective, w.problem(law, 0.05).bounds, natural, 0.05, guard)
    options = BootstrapOptions(
        10,
        ceilings=lambda law: guard.ceilings(law.predict(natural.weights), w.objective.metrics),
        keep_laws=True,
    )
    trust = bootstrap(problem, w.observations, options, heldout_rmse=0.1)
    assert len(trust.laws) == trust.n_resamples
    for resampled, p in zip(trust.laws, trust.proposals, strict=True):
        assert (resampled.predict(p) <= resampled.predict(natural.weights) + 1e-4).all()


def test_power_link_with_missing_cells() -> None:
    rng = np.random.default_rng(5)
    w = world(planted_law("power-link", 5, 3, rng), 30, 0.01, rng)
    o = w.observations
    values = o.values.copy()
    values[rng.random(values.shape) < 0.1] = np.nan
    holed = World(w.truth, replace(o, values=values), w.objective)
    law = holed.fitted(PowerLinkLaw())
    trust = bootstrap(holed.problem(law, 0.02), holed.observations, BootstrapOptions(10))
    assert trust.n_resamples == 10
    assert np.isfinite(trust.heldout_rmse)
    assert trust.gain("natural").apparent > 0


def test_bad_input_is_named() -> None:
    w = linear_world(20, 0.1, np.random.default_rng(0))
    with pytest.raises(ObservationError, match="at least 2 resamples"):
        BootstrapOptions(1)
    with pytest.raises(ObservationError, match="auto, runs or residuals"):
        BootstrapOptions(resampling="cases")
    trust = bootstrap(_fitted_problem(w), w.observations, BootstrapOptions(3), heldout_rmse=0.1)
    with pytest.raises(ObservationError, match="followed"):
        trust.gain("nonesuch")
    with pytest.raises(MixtureError, match="reserved"):
        Request(named={"natural": Mixture.uniform(w.observations.domains)}).references(
            w.observations.domains, Mixture.uniform(w.observations.domains)
        )
    other = replace(w.observations, metrics=("a", "b", "c"))
    with pytest.raises(ObservationError, match="same metrics"):
        bootstrap(_fitted_problem(w), other, BootstrapOptions(3), heldout_rmse=0.1)


def curved_law(rng: np.random.Generator, m: int = 4) -> PowerLinkLaw:
    """A power-link law with random parameters, as if fitted; far from linear."""
    law = PowerLinkLaw()
    law.b_, law.c_ = rng.uniform(1, 2, 3), rng.uniform(0.5, 1, 3)
    law.a_, law.tau_ = rng.uniform(0.3, 0.8, 3), np.exp(rng.normal(-1, 1, (3, m)))
    law.n_domains_, law.n_metrics_ = m, 3
    return law


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    m=st.integers(2, 6),
    n_runs=st.integers(8, 30),
    noise=st.sampled_from([0.0, 0.02, 0.3, 2.0]),
    is_curved=st.booleans(),
    kl_weight=st.sampled_from([0.0, 0.02, 0.5]),
    n_resamples=st.integers(2, 6),
)
@example(seed=5, m=5, n_runs=8, noise=2.0, is_curved=True, kl_weight=0.0, n_resamples=2)  # negative predictions
def test_every_estimate_lies_inside_its_interval(
    seed: int, m: int, n_runs: int, noise: float, is_curved: bool, kl_weight: float, n_resamples: int
) -> None:
    rng = np.random.default_rng(seed)
    truth = curved_law(rng, m) if is_curved else linear_law(3 + 0.5 * rng.standard_normal((3, m)))
    w = world(truth, n_runs, noise, rng)
    problem = w.problem(w.fitted(LinearLaw()), kl_weight)
    try:
        trust = bootstrap(problem, w.observations, BootstrapOptions(n_resamples, seed))
    except ConvergenceError:
        return
    shares = trust.proposal.mixture.weights
    for level in (0.5, 0.9):
        low, high = trust.weight_intervals(level).T
        assert (low <= shares).all()
        assert (shares <= high).all()
        for name, told in zip(trust.mixtures, trust.costs_full, strict=True):
            assert trust.objective_estimate(name) in trust.objective_interval(name, level)
            low, high = trust.cost_intervals(name, level).T
            assert ((low <= told) & (told <= high)).all()
            if name != "proposal":
                gain = trust.gain(name, level)
                assert gain.corrected in gain.interval
                change = trust.costs_full[0] - told
                low, high = trust.cost_change_intervals(name, level).T
                assert ((low <= change) & (change <= high)).all()
    rows = compare(problem, trust.proposal, w.observations, bootstrap=trust).rows
    assert all(row.objective_value in row.interval for row in rows if row.interval is not None)


def test_misfit_that_cross_validation_sees_widens_intervals_to_the_truth() -> None:
    """A straight law in a curved world with hardly any noise, near its runs: resamples agree and are wrong."""
    held = np.zeros((12, 2))
    for seed in range(len(held)):
        rng = np.random.default_rng(seed)
        w = world(curved_law(rng), 30, 0.003, rng, replicates=2)
        problem = w.problem(w.fitted(LinearLaw()), 0.5)
        misfit = calibrate(problem.law, w.observations, w.objective).misfit
        options = BootstrapOptions(12, seed, references={"natural": problem.prior})
        plain = bootstrap(problem, w.observations, options, heldout_rmse=0.1)
        p, prior = plain.proposal.mixture.weights, problem.prior.weights
        gain = float(w.true_value(prior) - w.true_value(p))
        wider = replace(plain, misfit=misfit)
        held[seed] = [gain in trust.gain("natural").interval for trust in (plain, wider)]
    without, with_misfit = held.mean(axis=0)
    assert without <= 0.4
    assert with_misfit >= 0.9


def test_misfit_is_what_noise_and_estimation_do_not_explain() -> None:
    errors = np.array([3.0, -3.0, 5.0, -5.0, np.nan])
    assert misfit_of(errors, np.zeros(5), 0.0) == pytest.approx(np.sqrt(17))
    assert misfit_of(errors, np.full(5, 1.0), 3.0) == pytest.approx(np.sqrt(17 - 1 - 9))
    assert misfit_of(errors, np.full(5, 1.0), 5.0) == 0.0
    assert misfit_of(errors, np.array([0, 0, 1e9, 1e9, 0]), 0.0) == pytest.approx(3.0)  # of those it knows nothing
    assert misfit_of(errors[:2], np.zeros(2), 0.0) == 0.0


def test_mixtures_as_far_apart_as_runs_are_err_independently() -> None:
    runs = np.eye(3)
    np.testing.assert_allclose(
        apart(runs, np.array([[1.0, 0, 0], [0.5, 0.5, 0], [0, 1.0, 0]]), runs[0]), [0.0, 1.0, 2.0]
    )
