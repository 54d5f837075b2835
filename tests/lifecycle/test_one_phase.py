"""The whole chain over one phase, on a tiny budget: results, reuse of finished work, and death at any moment."""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evermix.errors import ConstraintError, CorpusError, EvermixError, ProjectError, RecipeError
from evermix.ledger import Ledger
from evermix.lifecycle import plan, run
from evermix.recipe import Recipe
from evermix.reports import log
from evermix.results import PhaseResult, RunResult
from evermix.version import SCHEMA_VERSION
from tests.lifecycle.killing import begin, comparable, run_recipe

Make = Callable[..., dict[str, Any]]
Finished = tuple[dict[str, Any], RunResult]
Pieces = list[tuple[int, int]]
REGULAR = [20, 30, 40, 48, 60]  # steps of the curve: thirds, the decision, where the decay begins
ENDS = [9, 11, 13, 15, 18, 22, 25, 30]  # of the experiment's segments, which begin at step 8 and grow
OWN: Pieces = [(120, 192), (192, 240)]  # rows from the decision on, cut again where the decay begins
NATURAL: Pieces = [(0, 192), (192, 240)]  # an arm that has nothing in common with others


def _run(content: dict[str, Any]) -> RunResult:
    return run(Recipe.model_validate(content))


def _phase(result: RunResult, arm: str) -> PhaseResult:
    ((phase,),) = result.arms[arm].orders
    return phase


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_recipe: Make) -> Finished:
    """A recipe that decides as is the default, by an experiment within the run, and its result."""
    content = tiny_recipe(tmp_path_factory.mktemp("run") / "project", arms=["natural", "uniform", "evermix"])
    content["constraints"] = {"floor": 0.01}
    return content, _run(content)


@pytest.fixture(scope="module")
def probed(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The same by probes on the way, with every mode cross-checked."""
    content = finished[0] | {"project": str(tmp_path_factory.mktemp("probed") / "project")}
    content["decision"] = content["decision"] | {"mode": "probe-law", "cross_checks": True}
    return content, _run(content)


@pytest.fixture(scope="module", params=["finished", "probed"])
def either(request: pytest.FixtureRequest) -> Finished:
    """By experiments within the run, and by probes."""
    found: Finished = request.getfixturevalue(request.param)
    return found


def test_result_says_what_was_decided_and_what_it_cost(either: Finished) -> None:
    content, result = either
    written = json.loads((Path(content["project"]) / "result.json").read_text())
    assert {key: value for key, value in written.items() if key != "seal"} == result.to_json()
    assert list(result.arms) == ["natural", "uniform", "evermix"]
    assert not result.has_phases
    (decision,) = result.decisions
    arm = _phase(result, "evermix")
    assert arm.decisions == (decision,)
    assert arm.mixture == decision.mixture
    assert arm.compute.flops == pytest.approx(sum(part.flops for part in arm.compute.by_part.values()))
    n = result.model.non_embedding + result.model.output_projection
    assert arm.n_tokens == pytest.approx(60 * 4 * 32)
    assert arm.compute.by_part["training"].flops == pytest.approx(6 * n * arm.n_tokens)
    assert sum(arm.tokens.values()) == 60 * 4 * 32
    losses = [score.loss_nats for score in arm.per_domain.values()]
    assert arm.means.perplexity == pytest.approx(np.mean(np.exp(losses)))
    assert arm.means_over_all.perplexity == pytest.approx(arm.means.perplexity)
    pieces = [8, *REGULAR] if decision.mode == "in-run" else REGULAR
    assert [point.n_tokens for point in arm.curve] == [step * 128 for step in pieces]


def test_probes_are_counted_and_every_mode_is_asked(probed: Finished) -> None:
    result = probed[1]
    (decision,) = result.decisions
    assert decision.mode == "probe-law"
    assert decision.evidence == "probes"
    assert set(decision.modes) == {"probe-law", "interpolation", "gradient"}
    for mode in decision.modes.values():
        assert mode.mixture is not None
        shares = np.array(list(mode.mixture.values()))
        assert shares.sum() == pytest.approx(1)
        assert shares.min() >= 0.01 - 1e-6
    n = result.model.non_embedding + result.model.output_projection
    assert _phase(result, "evermix").compute.by_part["probes"].flops == 4 * n * 4 * 5 * 4 * 32


def test_an_experiment_costs_what_it_reads(finished: Finished) -> None:
    content, result = finished
    (decision,) = result.decisions
    assert decision.mode == decision.evidence == "in-run"
    assert [segment.step for segment in decision.segments] == [8, *ENDS]
    assert set(decision.responses) == {"code", "prose", "noise"}
    assert decision.expected is not None
    assert decision.modes == decision.probes == {}
    for shares in (decision.mixture, *(segment.mixture for segment in decision.segments)):
        assert sum(shares.values()) == pytest.approx(1)
        assert min(shares.values()) >= 0.01 - 1e-6
    n = result.model.non_embedding + result.model.output_projection
    parts = _phase(result, "evermix").compute.by_part
    assert set(parts) == {"training", "evaluation"}
    ((phase,),) = plan(Recipe.model_validate(content)).phases
    read = len(decision.segments) * 3 * phase.evaluation_sequences * 32
    assert parts["evaluation"].flops == decision.compute.flops == 2 * n * read


def test_tokens_follow_the_schedule_exactly(either: Finished) -> None:
    arm = _phase(either[1], "evermix")
    starts = [part.start_row for part in arm.schedule]
    assert starts == [0, *(4 * step for step in ([8, *ENDS] if arm.decisions[0].mode == "in-run" else [30]))]
    sizes = np.diff([*starts, 60 * 4])
    for name, n_tokens in arm.tokens.items():
        wanted = sum(part.mixture.get(name, 0.0) * size * 32 for part, size in zip(arm.schedule, sizes, strict=True))
        assert abs(n_tokens - wanted) <= len(starts) * 32


@pytest.mark.parametrize(
    ("made", "uniform", "evermix"),
    [
        ("probed", OWN, OWN),  # what they have in common is there once
        ("finished", NATURAL, [(0, 32), (32, 120), *OWN]),  # the experiment is one piece
    ],
)
def test_uniform_and_evermix_share_their_beginning_where_probes_decide(
    made: str, uniform: Pieces, evermix: Pieces, request: pytest.FixtureRequest
) -> None:
    content, result = request.getfixturevalue(made)
    ledger = Ledger(Path(content["project"]) / "ledger.sqlite")
    segments = [entry.payload for entry in ledger.entries("segment")]
    ends = [(each["start_row"], each["end_row"]) for each in segments]
    common = [(0, 120)] if made == "probed" else []
    assert sorted(ends) == sorted([*common, *NATURAL, *uniform, *evermix])
    (outcome,) = ledger.entries("outcome")
    assert outcome.payload["realised_loss_nats"] == result.decisions[0].realised_loss_nats
    losses = {name: score.loss_nats for name, score in _phase(result, "evermix").per_domain.items()}
    assert result.decisions[0].realised_loss_nats == losses


def test_arms_are_compared_over_the_same_held_out_sequences(finished: Finished) -> None:
    pairs = {(each.arm, each.baseline): each for each in finished[1].comparisons}
    assert set(pairs) == {(a, b) for a in finished[1].arms for b in finished[1].arms if a != b}
    for (arm, baseline), pair in pairs.items():
        assert pair.order == 0
        assert set(pair.difference_stderr_nats) == {"code", "prose", "noise"}
        assert pair.difference_stderr_nats == pytest.approx(pairs[baseline, arm].difference_stderr_nats)
        assert min(pair.difference_stderr_nats.values()) > 0


def test_the_second_run_trains_nothing(finished: Finished) -> None:
    content, result = finished
    before = _files(Path(content["project"]) / "runs")
    assert _run(content) == result
    assert _files(Path(content["project"]) / "runs") == before


@pytest.mark.parametrize("arm", ["natural", "uniform", "evermix"])
def test_one_pretraining_is_a_recipe_of_one_phase(
    finished: Finished, tmp_path_factory: pytest.TempPathFactory, phased: RunResult, arm: str
) -> None:
    """Written with a phase or without: the same weights, mixtures, losses and decisions."""
    without, one = _phase(finished[1], arm), _phase(phased, arm)
    assert one.model_id == without.model_id
    assert one.mixture == without.mixture
    assert one.schedule == without.schedule
    assert one.per_domain == without.per_domain
    assert comparable(one.decisions) == comparable(without.decisions)
    assert len(one.decisions) == (arm == "evermix")
    assert one.epochs == without.epochs
    assert one.compute.flops == pytest.approx(without.compute.flops)


@pytest.fixture(scope="module")
def phased(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """The same recipe as one phase of kind pretrain, in a project of its own."""
    project = tmp_path_factory.mktemp("phased") / "project"
    phases = [{"name": "pretraining", "kind": "pretrain"}]
    return _run(finished[0] | {"project": str(project), "phases": phases})


def test_a_result_is_read_back_as_it_was(finished: Finished) -> None:
    content, result = finished
    assert RunResult.load(Path(content["project"]) / "result.json") == result
    assert RunResult.from_json(result.to_json()) == result


@pytest.mark.parametrize("version", [None, SCHEMA_VERSION - 1, SCHEMA_VERSION + 1, "5"])
def test_a_result_of_another_layout_is_refused_and_written_anew_by_the_next_run(
    finished: Finished, tmp_path: Path, version: object
) -> None:
    content, result = finished
    plain = result.to_json() | {"schema_version": version}
    if version is None:
        del plain["schema_version"]
    path = tmp_path / "result.json"
    path.write_text(json.dumps(plain))
    with pytest.raises(ProjectError, match=f"schema version {SCHEMA_VERSION}"):
        RunResult.load(path)
    kept = Path(content["project"]) / "result.json"
    kept.write_text(json.dumps(plain))
    assert _run(content) == result
    assert RunResult.load(kept) == result


@pytest.mark.parametrize("damaged", ["", "{", "[]", "{}"])
def test_a_damaged_result_is_refused(tmp_path: Path, damaged: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(damaged)
    with pytest.raises(ProjectError, match=r"result\.json"):
        RunResult.load(path)


def test_an_unknown_key_of_a_result_is_named(finished: Finished) -> None:
    plain = finished[1].to_json()
    plain["arms"]["uniform"]["orders"][0][0]["unknown"] = 1
    with pytest.raises(ProjectError, match=r"arms\.uniform\.orders\.0\.0\.unknown"):
        RunResult.from_json(plain)


def test_another_version_of_the_package_trains_nothing_anew(
    tmp_path: Path, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names of finished work hold the version of the training, and not that of the package."""
    content = tiny_recipe(tmp_path / "project", model={"rung": "0.05M"})
    content["corpus"] = content["corpus"] | {"store": str(tmp_path / "tokens")}
    result = _run(content)
    runs, tokens = _files(tmp_path / "project" / "runs"), set(_files(tmp_path / "tokens"))
    _raised_everywhere(monkeypatch, "VERSION", "99.0.0")
    assert _run(content).arms == result.arms
    assert _files(tmp_path / "project" / "runs") == runs
    assert set(_files(tmp_path / "tokens")) == tokens
    _raised_everywhere(monkeypatch, "TRAINING_VERSION", 99)
    anew = _run(content)
    after = _files(tmp_path / "project" / "runs")
    assert {path: after[path] for path in runs} == runs
    assert len(_done(after)) == 2 * len(_done(runs))
    assert set(_files(tmp_path / "tokens")) == tokens
    assert _phase(anew, "evermix").model_id != _phase(result, "evermix").model_id
    assert _phase(anew, "evermix").per_domain == _phase(result, "evermix").per_domain


def _raised_everywhere(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    """Another value of a constant of evermix.version, in every module that has imported it."""
    modules = [module for key, module in sys.modules.items() if key.startswith("evermix.") and hasattr(module, name)]
    assert len(modules) > 1
    for module in modules:
        monkeypatch.setattr(module, name, value)


def _files(folder: Path) -> dict[Path, int]:
    """When every file under a folder was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def _done(files: dict[Path, int]) -> list[Path]:
    return [path for path in files if path.name == "done.json"]


def test_killed_at_any_moment_it_goes_on_to_the_same_result(tmp_path: Path, tiny_recipe: Make) -> None:
    """kill -9 after ever more work, until the run ends by itself; the result equals an undisturbed one bit for bit."""
    content = tiny_recipe(tmp_path / "killed")
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps(content))
    kills = 0
    for n_files in (3, 25, 50, 10_000):
        process = begin(run_recipe, recipe)
        while process.is_alive() and _count_files(tmp_path / "killed") < n_files:
            time.sleep(0.02)
        if process.is_alive():
            process.kill()
            kills += 1
        process.join()
        if process.exitcode == 0:
            break
    assert kills >= 3
    resumed = RunResult.load(tmp_path / "killed" / "result.json")
    undisturbed = _run(content | {"project": str(tmp_path / "whole")})
    whole = undisturbed.model_copy(update={"project": resumed.project})
    assert comparable(resumed) == comparable(whole)


def _count_files(folder: Path) -> int:
    """Files ever seen under the runs folder; a growing measure of progress."""
    return sum(len(files) for _, _, files in os.walk(folder))


@pytest.mark.parametrize("mode", ["interpolation", "gradient"])
def test_every_mode_keeps_every_constraint(mode: str, tmp_path: Path, tiny_recipe: Make) -> None:
    content = tiny_recipe(tmp_path / "p", arms=["evermix"])
    content["decision"] = content["decision"] | {"mode": mode}
    content["constraints"] = {"fixed": {"code": 0.3}, "caps": {"noise": 0.05}, "floors": {"noise": 0.02}}
    content["objective"] = {"quantity": "bits_per_byte", "weights": {"prose": 1.0, "noise": 0.0}}
    arm = _phase(_run(content), "evermix")
    assert arm.means.bits_per_byte == pytest.approx(arm.per_domain["prose"].bits_per_byte)
    assert arm.objective_value == pytest.approx(arm.means.bits_per_byte)
    assert arm.mixture["code"] == pytest.approx(0.3, abs=1e-6)
    assert 0.02 - 1e-6 <= arm.mixture["noise"] <= 0.05 + 1e-6


def test_text_that_has_changed_is_taken_only_if_that_is_accepted(
    tmp_path: Path, tiny_recipe: Make, text_folder: Path
) -> None:
    own = tmp_path / "own.jsonl"
    own.write_bytes((text_folder / "code.jsonl").read_bytes())
    content = tiny_recipe(tmp_path / "project", arms=["uniform"])
    content["domains"][0]["files"] = [str(own)]
    content |= {"training": content["training"] | {"tokens": 13 * 4 * 32}, "decision": {}}
    first = _run(content)
    lines = own.read_text().splitlines(keepends=True)
    sizes = [len(json.loads(line)["text"].encode()) for line in lines]
    own.write_text("".join(lines[:-3]))
    project = tmp_path / "project"
    trained = sorted((project / "runs").iterdir())
    said = (
        rf"that of 1 domain has changed: 'code': 1 file, {len(lines):,} documents, {sum(sizes):,} bytes before, "
        rf"1 file, {len(lines) - 3:,} documents, {sum(sizes[:-3]):,} bytes now\. Hint: .*--accept-changed-text"
    )
    with pytest.raises(ProjectError, match=said):
        _run(content)
    assert sorted((project / "runs").iterdir()) == trained
    assert RunResult.load(project / "result.json") == first
    second = run(Recipe.model_validate(content), accept_changed_text=True)
    assert second.domains[0].n_documents < first.domains[0].n_documents
    assert _run(content) == second, "what was accepted is known"
    (line,) = [line for line in log(project) if line.kind == "text" and line.payload["before"]]
    assert line.story == f"changed text was taken: code from {len(lines):,} documents to {len(lines) - 3:,} documents"
    content["domains"][0]["max_bytes"] = 20_000
    assert _run(content).domains[0].n_bytes < 20_000, "what the recipe itself changes needs no word"


@pytest.mark.parametrize("mode", ["in-run", "probe-law"])
def test_several_decision_points(tmp_path: Path, tiny_recipe: Make, mode: str) -> None:
    content = tiny_recipe(tmp_path / "p", arms=["evermix"])
    content["decision"] = content["decision"] | {"mode": mode, "at": [0.4, 0.7]}
    result = _run(content)
    first, second = result.decisions
    assert [first.at_step, second.at_step] == [24, 42]
    schedule = _phase(result, "evermix").schedule
    ends = [*(part.start_row for part in schedule[1:]), 60 * 4]
    for decision in (first, second):
        rows = dict.fromkeys(decision.old, 0.0)
        for part, end in zip(schedule, ends, strict=True):
            for name, share in part.mixture.items():
                rows[name] += share * max(0, min(end, 4 * decision.at_step) - part.start_row)
        assert decision.old == pytest.approx({name: n / (4 * decision.at_step) for name, n in rows.items()})
    if mode == "probe-law":
        blend = {n: (24 * first.old[n] + 18 * first.mixture[n]) / 42 for n in first.old}
        assert second.old == pytest.approx(blend)


@pytest.mark.parametrize("phases", [[], [{"name": "first", "kind": "pretrain"}]])
def test_probes_at_every_purity_on_the_way(tmp_path: Path, tiny_recipe: Make, phases: list[dict[str, Any]]) -> None:
    content = tiny_recipe(tmp_path / "p", arms=["evermix"], model={"rung": "0.05M"})
    probes = content["decision"]["probes"] | {"purities": [0.3, 0.9], "design": "pure"}
    content["decision"] = content["decision"] | {"mode": "probe-law", "probes": probes}
    (decision,) = _run(content | ({"phases": phases} if phases else {})).decisions
    names = ("code", "prose", "noise")
    assert set(decision.probes) == {"old", *(f"{name}@{purity:g}" for name in names for purity in (0.3, 0.9))}
    for name in names:
        for purity in (0.3, 0.9):
            shares = decision.probes[f"{name}@{purity:g}"].shares
            expected = {other: (1 - purity) * decision.old[other] + purity * (other == name) for other in names}
            assert shares == pytest.approx(expected)
    planned = plan(Recipe.model_validate(content | ({"phases": phases} if phases else {})))
    assert planned.phases[0][0].n_probes == len(decision.probes)


def test_designed_probes_on_the_way(tmp_path: Path, tiny_recipe: Make) -> None:
    """As many as the recipe says; every domain takes every level of the prior once, before the sum is made one."""
    content = tiny_recipe(tmp_path / "p", arms=["evermix"], model={"rung": "0.05M"})
    designed: dict[str, Any] = {"design": "designed", "number": 4, "levels": [0.1, 0.4, 1.2, 2.3]}
    content["decision"] = content["decision"] | {
        "mode": "probe-law",
        "probes": content["decision"]["probes"] | designed,
        "at": [0.4, 0.7],
    }
    first, second = _run(content).decisions
    assert set(first.probes) == {f"mixture {number}" for number in range(1, 5)}
    shares = np.array([list(probe.shares.values()) for probe in first.probes.values()])
    levels = 3 * shares  # of a uniform prior, up to a factor per probe
    in_least = {tuple(sorted(np.round(row / row.min(), 6))) for row in levels}
    possible = itertools.product(designed["levels"], repeat=3)
    assert in_least <= {tuple(sorted(np.round(np.array(row) / min(row), 6))) for row in possible}
    assert len({tuple(probe.shares.values()) for probe in (*first.probes.values(), *second.probes.values())}) == 8
    planned = plan(Recipe.model_validate(content))
    assert planned.phases[0][0].n_probes == 4


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"constraints": {"max_epochs": 0.01}}, ConstraintError, "too few"),
        ({"domains": [{"name": "x", "files": ["nowhere.jsonl"]}]}, CorpusError, r"nowhere\.jsonl"),
        ({"model": {"checkpoint": "nowhere"}}, EvermixError, "nowhere"),
        ({"model": {"rung": "3M"}}, RecipeError, "ladder"),
    ],
)
def test_input_that_cannot_work(
    changes: dict[str, Any], error: type[EvermixError], words: str, tmp_path: Path, tiny_recipe: Make
) -> None:
    with pytest.raises(error, match=words):
        _run(tiny_recipe(tmp_path / "p") | changes)


def test_plan_agrees_with_the_run(either: Finished) -> None:
    content, result = either
    planned = plan(Recipe.model_validate(content))
    ((phase,),) = planned.phases
    uniform, evermix = _phase(result, "uniform"), _phase(result, "evermix")
    assert phase.n_tokens == uniform.n_tokens
    assert planned.n_parameters == result.model.non_embedding + result.model.output_projection
    assert planned.arms["uniform"].flops == uniform.compute.flops
    assert planned.arms["evermix"].flops_by_part is not None
    (decision,) = result.decisions
    evidence = "evaluation" if decision.mode == "in-run" else "probes"
    assert planned.arms["evermix"].flops_by_part[evidence] == evermix.compute.by_part[evidence].flops
    assert list(phase.decided_at) == [decision.at_step]
    assert phase.n_probes == len(decision.probes)
    assert phase.n_segments == len(decision.segments[1:])


def test_guards_and_named_mixtures_hold_for_probes_too(tmp_path: Path, tiny_recipe: Make) -> None:
    """No loss is predicted to be worse than at the natural mixture by more than the tolerance; one guard binds."""
    free = tiny_recipe(tmp_path / "free", arms=["evermix"])
    free["decision"] = free["decision"] | {
        "mode": "probe-law",
        "kl": 0.0,
        "compare": {"mine": {"code": 0.5, "prose": 0.5}},
    }
    free["objective"] = {"weights": {"prose": 1.0}}
    (loose,) = _run(free).decisions
    assert set(loose.predicted_objective) == {"chosen", "so far", "start", "natural", "uniform", "mine"}
    assert loose.ceilings is None
    guarded = free | {"project": str(tmp_path / "guarded")}
    guarded["decision"] = free["decision"] | {"guards": [{"reference": "uniform", "metrics": ["code"]}]}
    (held,) = _run(guarded).decisions
    assert held.ceilings is not None
    assert set(held.ceilings) == {"code"}
    assert loose.predicted_loss_nats["code"] > held.ceilings["code"]
    assert held.predicted_loss_nats["code"] <= held.ceilings["code"] + 1e-6
    assert held.mixture["code"] > loose.mixture.get("code", 0.0)
