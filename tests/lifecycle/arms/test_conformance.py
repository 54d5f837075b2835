"""Every arm and every kind of evidence: what the registries promise of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from evermix.ledger import Ledger
from evermix.lifecycle import plan
from evermix.lifecycle.arms import ARMS
from evermix.lifecycle.arms.decided import DecidedArm
from evermix.lifecycle.arms.mixtures import Uniform
from evermix.lifecycle.context import RunContext
from evermix.lifecycle.deciding import decide
from evermix.lifecycle.evidence import EVIDENCE
from evermix.lifecycle.state import ModelState
from evermix.recipe import Recipe
from evermix.recipe.whole import Arm
from evermix.results import PhaseResult, RunResult
from evermix.results.run_result import EvidenceName
from tests.lifecycle.arms.conftest import OF_PHASES, anew, opened

Make = Callable[..., dict[str, Any]]
Rows = dict[str, tuple[PhaseResult, ...]]
DECIDED_BY: dict[str, str] = {"probes": "evermix"} | {
    arm.evidence: arm.name for arm in ARMS.values() if isinstance(arm, DecidedArm) and arm.name in OF_PHASES
}

BEFORE_PHASES = [name for name, kind in EVIDENCE.items() if kind.before_phases]
"""Of evidence on the way: tests/lifecycle/test_in_run.py."""


def test_recipes_and_results_know_every_one() -> None:
    assert set(get_args(Arm)) == set(ARMS)
    assert set(get_args(EvidenceName)) == set(EVIDENCE)


@pytest.mark.parametrize("name", ARMS)
def test_an_arm_has_a_name_and_a_look_of_its_own(name: str, rows: Rows, lived: tuple[Path, RunResult]) -> None:
    arm = ARMS[name]
    assert arm.name == name
    for look in ("label", "colour", "mark"):
        assert getattr(arm, look)
        assert [getattr(other, look) for other in ARMS.values()].count(getattr(arm, look)) == 1, look
    if name in rows:
        shown = lived[1].arms[name]
        assert (shown.arm, shown.label, shown.colour, shown.mark) == (name, arm.label, arm.colour, arm.mark)
        assert {row.arm for row in rows[name]} == {name}


@pytest.fixture(scope="module", params=["on a trunk", "anew"])
def either(request: pytest.FixtureRequest, life: Make) -> tuple[RunResult, Make]:
    """A result with a trunk or without, and what makes its recipe for other arms."""
    on_trunk = request.param == "on a trunk"
    project, result = request.getfixturevalue("lived" if on_trunk else "lived_anew")

    def make(arms: list[str]) -> dict[str, Any]:
        content = life(project, arms=arms)
        return content if on_trunk else anew(content)

    return result, make


@pytest.mark.parametrize("name", OF_PHASES)
def test_an_arm_books_the_parts_that_it_has_estimated(name: str, either: tuple[RunResult, Make]) -> None:
    result, make = either
    recipe, rows = Recipe.model_validate(make([name])), result.arms[name].orders[0]
    (phases,) = [recipe.timeline(order) for order in recipe.phase_orders]
    for k, row in enumerate(rows):
        estimated = Counter[str]()
        for work in ARMS[name].estimate(recipe, phases[: k + 1]):
            estimated[work.part] += work.n_tokens  # type: ignore[assignment]
        booked = {part: compute.n_tokens for part, compute in row.compute.by_part.items()}
        assert {part for part, n in estimated.items() if n} == set(booked)
        for part in {"prefix", "training", "decay", "probes", "specialists"} & set(booked):
            assert estimated[part] == pytest.approx(booked[part]), part
    planned = plan(recipe).arms[name]
    total = rows[-1].cumulative_compute
    assert {part for part, n in planned.tokens_by_part.items() if n} == set(total.by_part)
    assert planned.flops == pytest.approx(total.flops, rel=0.1)


@pytest.fixture(scope="module")
def reached(either: tuple[RunResult, Make]) -> tuple[RunContext, ModelState]:
    """The context of the finished run, and the model after its first phase, the same for every arm that decides."""
    result, make = either
    context = opened(make(list(result.arms)))
    outcome = Uniform().run(context, ModelState.initial(context), context.orders[0][:1])
    return context, outcome.state


@pytest.mark.parametrize("name", BEFORE_PHASES)
def test_evidence_asks_for_nothing_where_nothing_is_to_be_decided(
    name: EvidenceName, reached: tuple[RunContext, ModelState]
) -> None:
    context, _ = reached
    evidence, phases = EVIDENCE[name], context.orders[0][:1]
    assert evidence.name == name
    assert evidence.request(context, ModelState.initial(context), phases, "evermix") is None
    assert evidence.estimate(context.recipe, phases[0]) == []


@pytest.mark.parametrize("name", BEFORE_PHASES)
def test_a_decision_is_made_once_and_says_what_it_stands_on(
    name: EvidenceName, reached: tuple[RunContext, ModelState], either: tuple[RunResult, Make]
) -> None:
    context, state = reached
    rows = {arm: each.orders[0] for arm, each in either[0].arms.items()}
    evidence, phases = EVIDENCE[name], context.orders[0][:2]
    before = len(_decisions(context))
    request = evidence.request(context, state, phases, "of this test")
    assert request is not None
    assert evidence.is_complete(context, request)
    first, second = (decide(context, evidence, state, request) for _ in range(2))
    assert len(_decisions(context)) == before  # the run has made it
    assert first == second
    assert first.arm == "of this test"
    assert first.evidence == name
    assert (first.assessment_absent is None) == (first.proposal is not None)
    assert first.compute.flops > 0
    assert first.compute.n_tokens > 0
    assert first.mixture == pytest.approx({name: share for name, share in first.mixture.items() if share > 0})
    assert sum(first.mixture.values()) == pytest.approx(1)
    assert set(first.mixture) <= set(phases[1].domains)
    assert sum(first.shares.values()) == pytest.approx(1)
    booked = {work.part for work in evidence.estimate(context.recipe, phases[1])}
    assert booked == set(first.compute.by_part)
    (trained_on,) = rows[DECIDED_BY[name]][1].decisions
    unrealised = {"arm": first.arm, "realised_loss_nats": None, "realised_objective": None}
    assert trained_on.model_copy(update=unrealised) == first


@pytest.mark.parametrize("name", BEFORE_PHASES)
def test_measuring_again_observes_the_same(name: EvidenceName, reached: tuple[RunContext, ModelState]) -> None:
    context, state = reached
    evidence = EVIDENCE[name]
    request = evidence.request(context, state, context.orders[0][:2], "evermix")
    assert request is not None
    trained = {path: path.stat().st_mtime_ns for path in context.project.folder.glob("runs/*/done.json")}
    observations = evidence.measure(context, state, request).observations
    assert {path: path.stat().st_mtime_ns for path in context.project.folder.glob("runs/*/done.json")} == trained
    assert set(observations.domains.names) == set(request.components.components.names)
    assert set(observations.metrics) == set(request.phase.domains)
    assert observations.weights.sum(axis=1) == pytest.approx(1)


def _decisions(context: RunContext) -> list[Any]:
    return list(Ledger(context.project.folder / "ledger.sqlite").entries("decision"))
