"""Tables of fits, proposals, what-ifs and designs: what must be in them is, and no more rows than one can read."""

from __future__ import annotations

import json

import numpy as np
import pytest
from rich.console import Console

from evermix.deciding import AssessedProposal, Designed, fit, propose, what_if
from evermix.deciding.views import runs_info
from evermix.designs import Settledness
from evermix.domains import DomainSet
from evermix.laws import list_laws
from evermix.mixture import Mixture
from evermix.observations import LeftOut, Observations, Reading
from evermix.recipe.decision import StudyRecipe
from evermix.reports.design_tables import print_design, settled_sentence
from evermix.reports.fit_tables import fit_record, held_out_table, print_fit, print_what_if, what_if_headline
from evermix.reports.layout import table
from evermix.reports.listings import laws_table
from evermix.reports.proposal import (
    changes_grid,
    duals_grid,
    headline,
    mixture_grid,
    print_proposal,
    runs_words,
    spread_grid,
)
from evermix.results import ProposalView
from evermix.trust import screen

from .swarm import fitted, reading, recommendation, text


def printed(show: object, *arguments: object, **options: object) -> str:
    console = Console(width=160, highlight=False)
    with console.capture() as captured:
        show(*arguments[:2], console, *arguments[2:], **options)  # type: ignore[operator]
    return captured.get()


def shown(found: AssessedProposal, verbose: bool = True) -> str:
    """All that is printed of a proposal."""
    console = Console(width=160, highlight=False)
    with console.capture() as captured:
        print_proposal(found.view, console, verbose=verbose)
    return captured.get()


def many_metrics(n: int) -> Observations:
    """The bundled swarm's losses, each repeated with a little noise."""
    runs, rng = reading().observations, np.random.default_rng(0)
    values = np.repeat(runs.values[:, :4], n // 4, axis=1)
    values = values + 0.01 * rng.standard_normal(values.shape)
    return Observations(runs.domains, runs.weights, tuple(f"m{i:03d}" for i in range(values.shape[1])), values)


def test_fit_says_what_was_read_and_what_not() -> None:
    left = (LeftOut("column", "a", "why"), LeftOut("column", "b", "why"), LeftOut("run", "r", "no metric"))
    page = printed(print_fit, fitted(), Reading(reading().observations, left, reading().findings))
    assert "40 runs, 6 domains, 5 metrics (1 maximised)" in page
    assert "2 columns (a, b): why" in page
    assert "run r: no metric" in page
    assert "power-link" in page
    assert "b + c (sum_j" in page


def test_many_metrics_show_the_ends_only() -> None:
    law = fit(many_metrics(100), StudyRecipe(law="power-link"))
    short, long = text(held_out_table(law)), text(held_out_table(law, everything=True))
    assert "... 88 more metrics (--all)" in short
    assert short.count("\n") < 30
    assert all(f"m{i:03d}" in long for i in range(100))
    assert runs_words(runs_info(law.observations)).endswith("100 metrics (lower is better)")


def test_fit_record_is_json_of_finite_or_null() -> None:
    screened = screen(fitted().law, fitted().observations, calibration=fitted().calibration)
    record = json.loads(json.dumps(fit_record(fitted(), reading(), screened)))
    assert list(record) == [
        *("n_runs", "domains", "metrics", "maximised", "left_out", "findings"),
        *("law", "objective", "prior", "calibration", "screening"),
    ]
    assert sum(record["objective"].values()) == pytest.approx(1)
    assert record["calibration"]["objective"]["spearman"] > 0.5
    assert {row["metric"] for row in record["screening"]} == set(record["metrics"])
    assert "text" in printed(print_fit, fitted(), reading(), screened)


def test_proposal_shows_gain_epochs_and_bounds() -> None:
    found = recommendation()
    assert headline(found.view).startswith("Predicted gain of the proposal: over natural ")
    assert "90% interval" in headline(found.view)
    mixture = text(table(mixture_grid(found.view)))
    share = f"{found.mixture['math']:.1%}"
    assert next(line for line in mixture.splitlines() if line.startswith(" math")).split()[2] == share
    assert "epochs" in next(line for line in mixture.splitlines() if line.startswith(" math"))  # at its cap
    assert "raise epochs:math" in text(table(duals_grid(found.view)))
    page = shown(found)
    for name in ("natural", "uniform", "unimax", "best run", "Warnings", "KL weight", "skills"):
        assert name in page


def test_the_answer_comes_first_and_diagnostics_when_asked() -> None:
    found = recommendation()
    page, short = shown(found), shown(found, verbose=False)
    order = ["Mixture: ", "Predicted gain ", "Warnings", "Read: ", "Law: ", "Comparison: ", "Metrics: "]
    assert [page.index(words) for words in order] == sorted(page.index(words) for words in order)
    assert short.split("More: ")[0].rstrip() == page.split("Read: ")[0].rstrip()
    lines = str(found).splitlines()
    first, largest = max(found.mixture.as_dict.items(), key=lambda pair: pair[1])
    assert lines[0].split() == [first, f"{largest:.1%}"]
    assert found.bootstrap is not None
    assert f"gain {found.bootstrap.gain('natural')}" in lines
    assert lines[-len(found.warnings) :] == [str(warning) for warning in found.warnings]


def test_every_line_fits_a_narrow_terminal() -> None:
    found = recommendation()
    view = found.view
    for drawn in (table(mixture_grid(view)), table(spread_grid(view)), held_out_table(found.fitted)):
        assert "…" not in text(drawn, 80)
        assert text(drawn, 80).splitlines()[0].strip()
        assert len(text(drawn, 80).splitlines()) == len(text(drawn, 160).splitlines())  # nothing is folded or cut
    assert text(held_out_table(found.fitted), 80).count("90%") >= 1


def test_without_resamples_nothing_claims_an_interval() -> None:
    found = recommendation(resamples=0)
    page = shown(found)
    assert "No intervals: nothing was resampled" in page
    assert "interval " not in text(table(mixture_grid(found.view)))
    assert "none were looked for" in page


def test_without_token_counts_epochs_cannot_be_told() -> None:
    runs = many_metrics(4)
    bare = Observations(DomainSet(runs.domains.names), runs.weights, runs.metrics, runs.values)
    found = propose(fit(bare, StudyRecipe(law="power-link", kl=0.2, resamples=4)))
    page = shown(found)
    assert "Epochs cannot be told" in page
    assert "--tokens" in page
    assert "natural" not in page.split("Warnings")[0].replace("natural,", "")


def test_a_domain_that_was_never_sampled_is_held_and_has_no_price() -> None:
    runs = reading().observations
    seen = runs.weights.copy()
    seen[:, -1] = 0
    known = seen.sum(axis=1) > 0.2
    shares = seen[known] / seen[known].sum(axis=1, keepdims=True)
    dead = Observations(runs.domains, shares, runs.metrics[:4], runs.values[known, :4])
    found = propose(fit(dead, StudyRecipe(law="power-link", kl=0.2, resamples=4)))
    page = shown(found)
    assert next(line for line in page.splitlines() if line.startswith(" math")).rstrip().endswith("never sampled")
    assert "fixed:math" not in page
    assert "Never sampled" in printed(print_fit, found.fitted, Reading(dead, (), ()))


def test_metric_changes_are_in_the_metrics_own_units() -> None:
    law, view = fitted(), recommendation().view
    expected = law.predict(recommendation().mixture) - law.predict(recommendation().comparison["natural"].mixture)
    changes = {change.name: change for change in view.changes}
    change = changes["exam_acc"]
    i = law.observations.metrics.index("exam_acc")
    row = next(line for line in text(table(changes_grid(view))).splitlines() if line.startswith(" exam_acc"))
    assert float(row.split()[3]) == pytest.approx(expected[i], abs=0.01)
    assert change.after - change.before == pytest.approx(expected[i])
    assert (change.improvement > 0) == (expected[i] > 0)
    assert all(one.low <= one.high for one in view.changes if one.kind == "metric")
    assert [one.name for one in view.changes][:3] == ["objective", "text", "skills"]


def test_the_view_holds_what_the_proposal_says() -> None:
    found = recommendation()
    view = found.view
    assert ProposalView.model_validate(json.loads(json.dumps(view.model_dump(mode="json")))) == view
    assert view.mixture == dict(found.mixture.as_dict)
    assert view.runs is not None
    assert (view.runs.n_runs, len(view.runs.domains)) == (40, 6)
    assert view.objective.value(found.proposal.objective_value) == found.proposal.objective_value  # signs differ
    assert view.held["math"] == "epochs"
    names = [row.name for row in found.comparison.rows]
    assert [row.name for row in view.comparison.rows] == names
    gain = found.comparison["natural"].gain
    assert gain is not None
    assert view.comparison["natural"].gain.corrected == pytest.approx(gain.corrected)
    unsure = recommendation(resamples=0).view
    assert unsure.bootstrap is None
    assert unsure.assessment_absent


def test_what_if_names_what_moved_first() -> None:
    answer = what_if(fitted(), Mixture.natural(fitted().observations.domains), {"math": 0.2})
    page = printed(print_what_if, answer, fitted())
    shares = page[page.index("Shares of tokens") :].splitlines()
    assert shares[4].startswith(" math")
    assert "+18.33 points" in shares[4]
    assert "better" in what_if_headline(answer, fitted())


def test_laws_table_says_what_each_needs() -> None:
    rows = {row["name"]: row for row in list_laws()}
    assert rows["log-linear"]["runs_needed"] == "m + 1"
    assert rows["bimix"]["runs_needed"] == "2m + 1"
    assert rows["boosted-trees"]["extra"] == "regress"
    assert rows["power-link"]["convex"] is True
    assert "auto" not in rows
    assert all(name in text(laws_table(list(rows.values()))) for name in rows)


def test_design_says_how_settled_the_mixture_is() -> None:
    domains = fitted().observations.domains
    runs = {f"run-{k:04d}": Mixture.uniform(domains) for k in range(20)}
    settled = Settledness(40, np.full(10, 0.2), np.full(10, 0.01))
    designed = Designed("adaptive", Mixture.natural(domains), runs, settled)
    assert "at most 20.0%" in settled_sentence(settled, 20)
    assert "after 600 more" in settled_sentence(settled, 20)  # 40 (0.2 / 0.05)^2 - 40
    assert "enough" in settled_sentence(Settledness(40, np.full(10, 0.01), np.zeros(10)), 20)
    console = Console(width=120)
    with console.capture() as captured:
        print_design(designed, console, None)
    page = captured.get()
    assert "... 8 more runs (--all)" in page
    assert designed.as_dict["settled"]["runs_until"] == 600
