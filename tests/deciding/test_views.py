"""The view of a proposal holds what the proposal says, and survives JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evermix.deciding import AssessedProposal, fit, propose
from evermix.observations import read_observations
from evermix.recipe import StudyRecipe
from evermix.results import ProposalView

SWARM = Path(__file__).parents[2] / "examples" / "swarm"


def proposed(**asked: object) -> AssessedProposal:
    recipe = {"law": "power-link", "tokens": "200B", "kl": 0.2, "resamples": 6, **asked}
    return propose(fit(read_observations(SWARM).observations, StudyRecipe.model_validate(recipe)))


def test_the_view_is_of_the_proposal_and_survives_json() -> None:
    found = proposed()
    view = found.view
    assert ProposalView.model_validate(json.loads(json.dumps(view.model_dump(mode="json"), allow_nan=False))) == view
    assert view.mixture == dict(found.mixture.as_dict)
    assert view.runs is not None
    assert (view.runs.n_runs, len(view.runs.domains)) == (40, 6)
    assert [row.name for row in view.comparison.rows] == [row.name for row in found.comparison.rows]
    ours, theirs = view.comparison["natural"].gain, found.comparison["natural"].gain
    assert ours is not None
    assert theirs is not None
    assert ours.corrected == pytest.approx(theirs.corrected)
    before, after = found.fitted.law.predict([found.comparison["natural"].mixture.weights, found.mixture.weights])
    change = next(one for one in view.changes if one.name == "code_bpb")
    i = found.fitted.observations.metrics.index("code_bpb")
    assert (change.before, change.after) == pytest.approx((before[i], after[i]))


def test_a_view_says_why_nothing_was_assessed() -> None:
    view = proposed(resamples=0).view
    assert view.bootstrap is None
    assert view.assessment_absent
    assert [warning.kind for warning in view.warnings] == ["mixed units"]  # which needs no resamples


def test_the_path_of_a_chosen_pull_is_kept() -> None:
    view = proposed(kl="auto", resamples=0).view
    assert view.kl.choice is not None
    assert [point.kl for point in view.kl.path] == sorted(point.kl for point in view.kl.path) or view.kl.path
