"""Decisions by accuracy: what base, probes and interpolated models answer wrongly, and that it decides."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from evermix.constraints import Constraints
from evermix.domains import DomainSet
from evermix.errors import TaskError
from evermix.ledger import Ledger, Project
from evermix.lifecycle import plan, run
from evermix.lifecycle.evidence.modes import MODES
from evermix.lifecycle.evidence.probed import DecisionProblem, ProbeMeasurement, TaskMeasurement
from evermix.lifecycle.progress import Reporter
from evermix.lifecycle.scoring import check_tasks
from evermix.measure.probes import Component, Probe
from evermix.mixture import Mixture
from evermix.objective import Objective
from evermix.recipe import Recipe
from evermix.results import Decision
from evermix.tasks.likelihood_tasks import AnswerItem, AnswerTask
from evermix.training.evaluation import HeldoutText

Make = Callable[..., dict[str, Any]]
STEPS, BATCH = 12, 4


@pytest.fixture(scope="module")
def life(tiny_recipe: Make, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Letters to be answered, then digits; what is asked in the tasks is what is trained on."""
    folder = tmp_path_factory.mktemp("talk")
    for name, pairs in {"letters": [("x", " a"), ("y", " a")], "digits": [("1", " b"), ("2", " b")]}.items():
        items = [{"prompt": f"{asked} {number}:", "answer": a} for number in range(30) for asked, a in pairs]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, items)))

    def make(project: Path, **changes: Any) -> dict[str, Any]:
        content = tiny_recipe(project)
        asked = [{"name": n, "files": [str(folder / f"{n}.jsonl")], "format": "chat"} for n in ("letters", "digits")]
        task = {"kind": "exact", "max_new_tokens": 3, "max_items": 9}
        content |= {
            "domains": [content["domains"][1]],
            "model": {"rung": "0.05M"},
            "training": {"tokens": 8 * BATCH * 32, "batch_sequences": BATCH, "learning_rate": 0.02, "evaluations": 0},
            "phases": [
                {"name": "base", "kind": "pretrain"},
                *({"name": n["name"], "kind": "instruct", "add": [n], "examples": STEPS * BATCH} for n in asked),
            ],
            "constraints": {"max_epochs": None, "floor": 0.01},
            "tasks": [
                *(
                    {"name": f"{n} asked", "domain": n, "file": str(folder / f"{n}.jsonl"), **task}
                    for n in ("letters", "digits")
                ),
                {"name": "only reported", "file": str(folder / "digits.jsonl"), "role": "held-out", **task},
            ],
            "decision": {"by": "accuracy", "always": True, "probes": {"steps": 5}},
            "arms": ["evermix"],
        }
        return content | changes

    return make


def _decisions(recipe: dict[str, Any]) -> list[Decision]:
    """As the ledger keeps them."""
    run(Recipe.model_validate(recipe))
    ledger = Ledger(Path(recipe["project"]) / "ledger.sqlite")
    return [Decision.model_validate(entry.payload) for entry in ledger.entries("decision")]


@pytest.mark.parametrize("mode", ["probe-law", "interpolation"])
def test_a_phase_is_decided_by_what_is_answered(life: Make, tmp_path: Path, mode: str) -> None:
    recipe = life(tmp_path / "project")
    recipe["decision"] |= {"mode": mode}
    letters, digits = _decisions(recipe)
    assert letters.tasks is not None
    assert set(letters.tasks.base) == {"letters asked"}  # digits are not there yet
    rates = digits.tasks
    assert rates is not None
    assert set(rates.base) == set(rates.predicted) == {"letters asked", "digits asked"}
    assert set(rates.probes) == set(digits.probes)
    steps = 10 * np.array([list(each.values()) for each in (rates.base, *rates.probes.values())])
    assert np.allclose(steps - 0.5, np.round(steps - 0.5))  # (wrong + 1/2) / (9 + 1)
    assert digits.predicted_objective["chosen"] == pytest.approx(np.mean(list(rates.predicted.values())))
    assert sum(digits.mixture.values()) == pytest.approx(1)
    by_loss = recipe | {"project": str(tmp_path / "by-loss"), "decision": recipe["decision"] | {"by": "loss"}}
    smooth = _decisions(by_loss)[1]
    assert smooth.tasks is None
    written = digits.compute.by_part["evaluation"].flops
    assert written > smooth.compute.by_part["evaluation"].flops  # writing is counted


def test_what_is_judged_has_not_been_decided_for(life: Make, tmp_path: Path) -> None:
    """The mean accuracy is of the task that only the report sees; of all tasks, if there is no such one."""
    recipe = life(tmp_path / "project")
    row = run(Recipe.model_validate(recipe)).arms["evermix"].orders[0][-1]
    values = {name: row.tasks[f"{name}:accuracy"].value for name in (task["name"] for task in recipe["tasks"])}
    assert row.mean_accuracy == values["only reported"]
    recipe |= {"tasks": recipe["tasks"][:2]}
    row = run(Recipe.model_validate(recipe)).arms["evermix"].orders[0][-1]
    assert row.mean_accuracy == pytest.approx((values["letters asked"] + values["digits asked"]) / 2)


def test_the_plan_says_that_answers_cost(life: Make, tmp_path: Path) -> None:
    recipe = life(tmp_path)
    by_loss = recipe | {"decision": {"by": "loss"}}
    (said,) = plan(Recipe.model_validate(recipe)).not_estimated
    assert said.startswith("evaluation: ")
    assert plan(Recipe.model_validate(by_loss)).not_estimated == ()


def test_interpolating_to_a_probe_answers_as_the_probe(life: Make, tmp_path: Path, monkeypatch: Any) -> None:
    """Mode interpolation writes with merged weights, the probes' own scores with PEFT's adapter: the same answers."""
    seen: list[DecisionProblem] = []
    interpolate = MODES["interpolation"]

    def kept(problem: DecisionProblem) -> Any:
        seen.append(problem)
        return interpolate(problem)

    monkeypatch.setitem(MODES, "interpolation", kept)
    recipe = life(tmp_path / "project")
    recipe["decision"] |= {"mode": "interpolation"}
    _decisions(recipe)
    problem = seen[-1]
    n = len(problem.measured.base_loss_nats)
    for k, one_hot in enumerate(np.eye(len(problem.measured.probes))):
        simulated = problem.simulated(one_hot)
        assert simulated[n:] == pytest.approx(problem.measured.observations.values[k, n:])
        assert simulated[:n] == pytest.approx(problem.measured.observations.values[k, :n], abs=1e-4)


def test_accuracy_decides_against_the_losses() -> None:
    """Losses ask for domain a, error rates for domain b: with the weight on the errors, b is what is trained on."""
    domains = DomainSet(["a", "b"])
    shares = [Mixture(domains, [0.9, 0.1]), Mixture(domains, [0.1, 0.9])]
    losses = [np.array([1.0, 2.0]), np.array([2.5, 2.0])]
    probes = [
        Probe(Component(str(k), share, share), Path(), loss, 100, 1.0)
        for k, (share, loss) in enumerate(zip(shares, losses, strict=True))
    ]
    heldout = HeldoutText(domains, (torch.zeros((2, 8), dtype=torch.long),) * 2, np.array([10.0, 10.0]))
    tasks = TaskMeasurement(("t",), np.array([0.8]), np.array([[0.8], [0.4]]), lambda model: np.array([0.5]), 10)
    base = np.array([2.0, 2.0])
    measured = ProbeMeasurement("base", Path(), shares[0], tuple(probes), base, heldout, 0.0, 0.0, 0.0, tasks)

    def share_of_b(weights: dict[str, float]) -> float:
        objective = Objective.from_dict(("a", "b", "t"), weights, "metric")
        bounds = Constraints(None, 0.01).bounds(domains, 100)
        own = (0, 1, 1)
        problem = DecisionProblem(
            measured, objective, bounds, Mixture.uniform(domains), 0.5, 8, 3, 0, own, level_horizon=2.0
        )
        return MODES["probe-law"](problem).proposal.mixture["b"]

    assert share_of_b({"a": 1.0, "b": 1.0}) < 0.45
    assert share_of_b({"t": 1.0}) > 0.55


def test_tasks_of_another_package_must_have_an_accuracy(life: Make, tmp_path: Path) -> None:
    """Whether they have is seen only when they are opened."""
    recipe = Recipe.model_validate(life(tmp_path))
    item = AnswerItem("q", "a", "file, line 1")
    reporter = Reporter(Project(tmp_path / "project"), None)
    context: Any = SimpleNamespace(recipe=recipe, tasks=(AnswerTask("smooth", (item,)),) * 3, reporter=reporter)
    with pytest.raises(TaskError, match="accuracy or a score, got 'smooth, smooth'"):
        check_tasks(context)


def test_what_cannot_decide_is_refused(life: Make, tmp_path: Path) -> None:
    recipe = life(tmp_path)
    with pytest.raises(ValidationError, match="no gradient"):
        Recipe.model_validate(recipe | {"decision": {"by": "accuracy", "mode": "gradient"}})
    twins = [recipe["tasks"][0] | {"name": "letters"}]
    with pytest.raises(ValidationError, match="name of its own: 'letters' names a domain"):  # of a later phase
        Recipe.model_validate(recipe | {"tasks": twins})
    only_reported = [task | {"role": "held-out"} for task in recipe["tasks"]]
    with pytest.raises(ValidationError, match="role fit"):
        Recipe.model_validate(recipe | {"tasks": only_reported})


@pytest.mark.parametrize("by", ["accuracy", "tasks"])
def test_tasks_decide_within_a_pretraining_too(by: str, life: Make, tmp_path: Path) -> None:
    """Conversations and text in a recipe without phases; the decision on the way counts the answers."""
    recipe = life(tmp_path / "project")
    talks = [phase["add"][0] for phase in recipe["phases"][1:]]
    recipe |= {"domains": [*recipe["domains"], *talks], "decision": {**recipe["decision"], "by": by}}
    del recipe["phases"]
    (decision,) = run(Recipe.model_validate(recipe)).decisions
    assert decision.tasks is not None
    assert set(decision.tasks.predicted) == {"letters asked", "digits asked"}
    assert decision.predicted_objective["chosen"] == pytest.approx(np.mean(list(decision.tasks.predicted.values())))
