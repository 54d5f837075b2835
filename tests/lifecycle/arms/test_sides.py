"""Text that decides never judges: other test text changes scores alone, other decision text none of the scores."""

from __future__ import annotations

import ast
import inspect
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import evermix
from evermix.corpus.split import Side
from evermix.corpus.store import TokenStore
from evermix.files import read_record, write_record
from evermix.ledger import Ledger
from evermix.lifecycle import run
from evermix.lifecycle.context import RunContext
from evermix.lifecycle.scoring import score
from evermix.recipe import Recipe
from evermix.results import PhaseResult, RunResult
from evermix.training.evaluation import HeldoutText

Make = Callable[..., dict[str, Any]]
Runs = Callable[[str], RunResult]
ARMS = ("natural", "evermix", "mergemix", "proxy-swarm", "oracle")
SCORES = {"per_domain", "objective_value", "means", "means_over_all", "forgetting_nats", "mean_forgetting_nats"}
OF_DECISIONS = {"realised_loss_nats", "realised_objective"}


def _life(life: Make, project: Path) -> dict[str, Any]:
    """Two phases in which every kind of evidence decides, by an objective that knows the bytes of the text."""
    content = life(project, arms=list(ARMS), objective={"quantity": "bits_per_byte"}, retention={"max_rise": 0.5})
    content["phases"] = content["phases"][:2]
    content["training"] = {**content["training"], "evaluations": 2}
    content["decision"] = {**content["decision"], "candidates": 5, "cross_checks": False}
    return content


def _study(life: Make, project: Path) -> dict[str, Any]:
    """A pretraining decided by a swarm whose runs a study keeps."""
    content = life(project, arms=["evermix"], method="olmix", objective={"quantity": "bits_per_byte"})
    prose, (_, code, _) = content["domains"], content.pop("phases")
    content["domains"] = [*prose, *code["add"]]
    content["decision"] = {"law": "power-link", "resamples": 4, "kl": 0.2}
    return content


def _other_text(store: Path, side: Side) -> None:
    """Random tokens, and other bytes to them, in the place of one side of every domain; sealed, so that it is taken."""
    rng = np.random.default_rng(5)
    for meta in store.glob("*/meta.json"):
        for name in (side, f"{side}_bytes"):
            file = meta.parent / f"{name}.npy"
            kept = np.load(file)
            np.save(file, rng.permuted(kept.reshape(-1)).reshape(kept.shape) if name == side else kept + 1)
        write_record(meta, read_record(meta), [path.name for path in meta.parent.iterdir() if path != meta])


@pytest.fixture(scope="module", params=[_life, _study], ids=["phases", "study"])
def runs(request: pytest.FixtureRequest, life: Make, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The run on the text as it is (``""``), and with other text on one side; each in a project of its own."""
    folder, made = tmp_path_factory.mktemp("sides"), dict[str, RunResult]()

    def result(side: str) -> RunResult:
        if side not in made:
            content = request.param(life, folder / f"project-{side}")
            tokens = folder / f"tokens-{side}"
            if side:
                result("")
                shutil.copytree(folder / "tokens-", tokens)
                _other_text(tokens, "test" if side == "test" else "decision")
            content["corpus"] = {**content["corpus"], "store": str(tokens)}
            made[side] = run(Recipe.model_validate(content))
        return made[side]

    return result


def _rows(result: RunResult) -> dict[tuple[str, int], PhaseResult]:
    return {(row.arm, row.number): row for arm in result.arms.values() for rows in arm.orders for row in rows}


def _without_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_seconds(each) for key, each in value.items() if key != "seconds"}
    return [_without_seconds(each) for each in value] if isinstance(value, list | tuple) else value


def _but_scores(row: PhaseResult) -> Any:
    """All of a phase but what it is judged by: mixtures, schedules, weights, curves, decisions."""
    kept = row.model_dump(mode="json", exclude=SCORES)
    kept["decisions"] = [{k: v for k, v in d.items() if k not in OF_DECISIONS} for d in kept["decisions"]]
    return _without_seconds(kept)


def _scores(row: PhaseResult) -> Any:
    realised = [(decision.realised_loss_nats, decision.realised_objective) for decision in row.decisions]
    return json.loads(json.dumps([row.model_dump(mode="json", include=SCORES), realised]))


def _told(result: RunResult) -> list[Any]:
    """What a study was told, as its ledger has it; nothing for a run without one."""
    entries = Ledger(Path(result.project) / "ledger.sqlite").entries()
    return [_without_seconds(entry.payload) for entry in entries if entry.kind in ("ask", "tell", "proposal", "probe")]


def test_other_test_text_changes_scores_and_nothing_else(runs: Runs) -> None:
    before, after = runs(""), runs("test")
    theirs = _rows(after)
    assert any(row.decisions for row in theirs.values())
    for key, row in _rows(before).items():
        assert _but_scores(theirs[key]) == _but_scores(row), key
        for name, scores in row.per_domain.items():
            assert theirs[key].per_domain[name].loss_nats != scores.loss_nats, key
            assert theirs[key].per_domain[name].bits_per_byte != scores.bits_per_byte, key
        assert theirs[key].objective_value != row.objective_value, key
        for one, other in zip(theirs[key].decisions, row.decisions, strict=True):
            assert one.realised_loss_nats != other.realised_loss_nats
    assert _told(after) == _told(before)


def test_other_decision_text_changes_decisions_and_no_score_of_the_same_weights(runs: Runs) -> None:
    before, after = _rows(runs("")), _rows(runs("decision"))
    for key, row in before.items():
        other = after[key]
        assert [point.loss_nats for point in other.curve] != [point.loss_nats for point in row.curve] or not row.curve
        for one, two in zip(other.decisions, row.decisions, strict=True):
            assert one.predicted_loss_nats != two.predicted_loss_nats, key
            assert one.mixture != two.mixture or key[0] == "oracle", key  # the oracle chooses from a grid
        if other.model_id == row.model_id:
            assert _scores(other)[0] == _scores(row)[0], key
    if ("natural", 1) in before:
        assert all(after["natural", k].model_id == before["natural", k].model_id for k in range(2))


READERS = (TokenStore.heldout, TokenStore.heldout_bytes, TokenStore.roles, HeldoutText.from_store, RunContext.heldout)


@pytest.mark.parametrize("reads", [*READERS, RunContext.objective, score])
def test_no_reader_of_held_out_text_has_a_default_side(reads: Callable[..., Any]) -> None:
    parameters = inspect.signature(reads).parameters
    assert parameters.get("side", parameters.get("split")).default is inspect.Parameter.empty  # type: ignore[union-attr]


def test_test_text_is_asked_for_where_results_are_assembled_alone() -> None:
    """In the rooms that train, measure and decide the word stands in no code but that of `assembling`."""
    package = Path(evermix.__file__).parent
    rooms = ("lifecycle", "measure", "training", "tasks", "study", "deciding", "models")
    found = {
        file.relative_to(package).as_posix()
        for room in rooms
        for file in (package / room).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value == "test"
    }
    assert found == {"lifecycle/assembling.py"}
