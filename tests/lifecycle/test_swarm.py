"""A project decided by a swarm, on a tiny budget: run, every kind of update, undo, failures, death at any moment."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evermix.errors import ProjectError, RecipeError
from evermix.ledger import Ledger
from evermix.lifecycle import Updating, plan, plan_update, run, undo, update
from evermix.recipe import DomainRecipe, Recipe, TextUpdate
from evermix.results import Decision, RunResult, SwarmRecord
from evermix.study import Study
from tests.in_this_process import in_this_process
from tests.lifecycle.killing import kill_when

Make = Callable[[Path], dict[str, Any]]
Finished = tuple[dict[str, Any], RunResult]


@pytest.fixture(scope="session")
def swarm_recipe(tiny_recipe: Callable[..., dict[str, Any]]) -> Make:
    """A function that gives a recipe of method olmix over code and prose, as plain values."""

    def make(project: Path) -> dict[str, Any]:
        content = tiny_recipe(project)
        for part in ("decision", "constraints", "objective", "start"):
            content.pop(part, None)
        content["domains"] = [domain for domain in content["domains"] if domain["name"] != "noise"]
        content["corpus"] = content["corpus"] | {"store": str(project / "tokens")}
        return content | {
            "method": "olmix",
            "swarm": {
                "rung": "0.05M",
                "tokens": 12 * 4 * 32,
                "batch_sequences": 4,
                "learning_rate": 1e-2,
                "workers": 1,
            },
            "decision": {"law": "power-link", "resamples": 4, "kl": 0.2},
            "arms": [],
        }

    return make


def _recipe(content: dict[str, Any]) -> Recipe:
    return Recipe.model_validate(content)


def _files(text_folder: Path, name: str, domain: str | None = None) -> DomainRecipe:
    return DomainRecipe(name=domain or name, files=(str(text_folder / f"{name}.jsonl"),))


def _proposal(result: RunResult) -> Decision:
    assert result.proposal is not None
    return result.proposal


def _swarm(result: RunResult) -> SwarmRecord:
    record = _proposal(result).swarm
    assert record is not None
    return record


def _trained(project: Path) -> set[str]:
    return {folder.name for folder in (project / "runs").glob("proxy-*") if (folder / "done.json").exists()}


@pytest.fixture
def no_workers() -> Iterator[None]:
    """The swarm of `finished` has workers, and so have those that fail and that are killed."""
    with in_this_process():
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, swarm_recipe: Make) -> Finished:
    content = swarm_recipe(tmp_path_factory.mktemp("olmix") / "project")
    return content, run(_recipe(content))


def test_a_swarm_becomes_a_mixture(finished: Finished) -> None:
    content, result = finished
    project = Path(content["project"])
    assert RunResult.load(project / "result.json") == result
    proposal, swarm = _proposal(result), _swarm(result)
    assert result.arms == {}
    assert result.untrained_decisions == (proposal,)
    assert sum(proposal.mixture.values()) == pytest.approx(1)
    assert proposal.mode == "power-link"
    assert proposal.assessment_absent is None  # resamples were asked for
    assert proposal.proposal is not None
    planned = plan(_recipe(content)).swarm
    assert planned is not None
    assert swarm.this_version.n_runs == planned.n_runs == 6  # 2 (m + 1) for power-link
    assert swarm.this_version == swarm.all_versions
    assert swarm.tokens_per_proxy == planned.tokens_per_proxy == 12 * 4 * 32
    assert swarm.n_tokens == _recipe(content).training.tokens  # of the run that the mixture is for
    n = swarm.non_embedding + swarm.output_projection
    assert n == planned.n_parameters
    assert planned.flops == 6 * n * 12 * 4 * 32 * 6
    assert swarm.this_version.flops > planned.flops
    assert proposal.compute.by_part["proxies"].flops == swarm.this_version.flops
    study = Study(project)
    assert study.mixture is not None
    assert study.mixture.as_dict == proposal.mixture
    assert set(study.observations()[0].metrics) == {"code", "prose"}


def test_the_same_command_again_trains_nothing(finished: Finished) -> None:
    content, result = finished
    before = _trained(Path(content["project"]))
    assert run(_recipe(content)) == result
    assert _trained(Path(content["project"])) == before


def test_other_domains_than_the_project_s_are_refused(finished: Finished, text_folder: Path) -> None:
    content, _ = finished
    more = [*content["domains"], {"name": "noise", "files": [str(text_folder / "noise.jsonl")]}]
    with pytest.raises(RecipeError, match=r"new: noise; missing: none.*evermix update"):
        run(_recipe(content | {"domains": more}))


@pytest.mark.usefixtures("no_workers")
def test_updates_one_after_the_other(tmp_path: Path, swarm_recipe: Make, text_folder: Path) -> None:
    """Add, revise, partition, remove, undo: what keeps a fixed ratio keeps it, and nothing is trained twice."""
    recipe = _recipe(swarm_recipe(tmp_path / "project"))
    first = run(recipe)
    project = Path(recipe.project)

    addition = TextUpdate(add=(_files(text_folder, "noise"),))
    planned = plan_update(recipe, addition)
    runs = {name: way.n_runs for name, way in planned.plan.strategies.items()}
    assert runs["mixture"] < runs["full"]
    assert planned.plan.chosen.strategy == "auto"
    assert Study(project).domains.names == ("code", "prose")  # a plan records nothing

    before = _trained(project)
    added = update(recipe, addition, Updating("mixture"))
    assert len(_trained(project) - before) == runs["mixture"]
    mixture, before_it = _proposal(added).mixture, _proposal(first).mixture
    assert mixture["code"] / mixture["prose"] == pytest.approx(before_it["code"] / before_it["prose"])
    assert _swarm(added).strategy == "mixture"
    assert _swarm(added).version == 1
    diagnosis = _swarm(added).diagnosis
    assert diagnosis is not None
    assert diagnosis.one_minus_rho is not None
    assert 0 <= diagnosis.one_minus_rho <= 1
    told = Study(project).now().state.measured
    assert all("noise" in run.metrics for run in told.values())  # earlier proxies were scored on the new text

    lines = (text_folder / "noise.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "noise2.jsonl").write_text("".join(lines[:40]))
    revised = update(
        recipe,
        TextUpdate(revise=(DomainRecipe(name="noise", files=(str(tmp_path / "noise2.jsonl"),)),)),
        Updating("mixture", n_runs=4),
    )
    assert _swarm(revised).this_version.n_runs == 4
    assert set(Study(project).observations()[0].metrics) == {"code", "prose", "noise (2)"}

    for part, chosen in (("a", lines[:20]), ("b", lines[20:40])):
        (tmp_path / f"{part}.jsonl").write_text("".join(chosen))
    parts = tuple(DomainRecipe(name=f"noise:{k}", files=(str(tmp_path / f"{k}.jsonl"),)) for k in "ab")
    split = update(recipe, TextUpdate(partition={"noise": parts}), Updating("auto", n_runs=4))
    assert list(_proposal(split).mixture) == ["code", "prose", "noise:a", "noise:b"]

    before = _trained(project)
    removed = update(recipe, TextUpdate(remove=("noise:b",)))
    assert _trained(project) == before
    kept = {name: share for name, share in _proposal(split).mixture.items() if name != "noise:b"}
    assert _proposal(removed).mode == "carried over"
    assert _proposal(removed).assessment_absent is not None
    assert _proposal(removed).mixture == pytest.approx(
        {name: share / sum(kept.values()) for name, share in kept.items()}
    )

    assert _proposal(undo(recipe)).mixture == pytest.approx(_proposal(split).mixture)
    assert _trained(project) == before
    kinds = [entry.kind for entry in Ledger(project / "ledger.sqlite").entries()]
    assert kinds.count("change") == 5


@pytest.mark.usefixtures("no_workers")
def test_a_changed_text_is_named_and_may_be_revised(tmp_path: Path, swarm_recipe: Make, text_folder: Path) -> None:
    content = swarm_recipe(tmp_path / "project")
    own = tmp_path / "code.jsonl"
    own.write_bytes((text_folder / "code.jsonl").read_bytes())
    content["domains"][0]["files"] = [str(own)]
    content["swarm"]["runs"] = 5
    assert _swarm(run(_recipe(content))).this_version.n_runs == 5
    own.write_text("".join(own.read_text().splitlines(keepends=True)[:-3]))
    with pytest.raises(ProjectError, match=r"text of domain 'code' .* changed .*evermix update revise"):
        run(_recipe(content))
    revised = DomainRecipe.model_validate(content["domains"][0])
    assert plan_update(_recipe(content), TextUpdate(revise=(revised,))).plan.update.changes[0].name == "code"


@pytest.mark.parametrize("changed", [{"rung": "0.2M"}, {"tokens": 20_000}])
def test_proxies_of_another_size_or_budget_are_refused_before_any_is_trained(
    finished: Finished, changed: dict[str, object]
) -> None:
    content, _ = finished
    before = _trained(Path(content["project"]))
    with pytest.raises(ProjectError, match=r"must be of one size and budget.*parameters and [\d,]+ tokens"):
        run(_recipe(content | {"swarm": content["swarm"] | changed}))
    assert _trained(Path(content["project"])) == before


def test_an_update_needs_a_project(tmp_path: Path, swarm_recipe: Make) -> None:
    with pytest.raises(ProjectError, match="needs a project that has decided"):
        update(_recipe(swarm_recipe(tmp_path / "none")), TextUpdate(remove=("code",)))


@pytest.mark.usefixtures("no_workers")
def test_tasks_make_up_the_objective_and_held_out_ones_are_only_seen(tmp_path: Path, swarm_recipe: Make) -> None:
    for name in ("seen", "hidden"):
        items = [{"prompt": f"for {name} in range({k}):\n", "answer": f"    print({k})"} for k in range(6)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    content = swarm_recipe(tmp_path / "project")
    content["decision"] = content["decision"] | {"by": "tasks"}
    content["tasks"] = [
        {"name": "seen", "file": str(tmp_path / "seen.jsonl"), "weight": 2},
        {"name": "hidden", "file": str(tmp_path / "hidden.jsonl"), "role": "held-out"},
    ]
    result = run(_recipe(content))
    study = Study(Path(content["project"]))
    assert set(study.observations()[0].metrics) == {"code", "prose", "seen"}
    objective = study.fit().objective
    weights = dict(zip(objective.metrics, objective.weights, strict=True))
    assert weights == {"code": 0.0, "prose": 0.0, "seen": 1.0}
    hidden = _swarm(result).held_out_tasks
    assert set(hidden) == {"hidden"}
    assert hidden["hidden"].agreement is not None
    assert -1 <= hidden["hidden"].agreement <= 1


def test_tasks_that_decide(tmp_path: Path, swarm_recipe: Make) -> None:
    """A scorer that fails does so before a proxy is trained; one that says the same of all leaves the objective.

    Other weights of the tasks, with the same runs, are another decision; the proxies stay.
    """
    items = {"loops": ("for x in range({k}):\n", "    print({k})"), "words": ("The value {k} is", " a number")}
    for name, (prompt, answer) in items.items():
        lines = [json.dumps({"prompt": prompt.format(k=k), "answer": answer.format(k=k)}) for k in range(6)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    content = swarm_recipe(tmp_path / "project") | {"arms": ["natural"]}
    content["decision"] = content["decision"] | {"by": "tasks"}
    content["training"] = content["training"] | {"tokens": 10 * 4 * 32, "evaluations": 0}
    content["tasks"] = [{"name": name, "file": str(tmp_path / f"{name}.jsonl")} for name in items]
    (tmp_path / "quiz.jsonl").write_text("\n".join(json.dumps({"prompt": f"for x in {k}"}) for k in range(3)))
    quiz = {"file": str(tmp_path / "quiz.jsonl"), "scorer": f"{tmp_path}/rules.py:grade", "max_new_tokens": 2}
    content["tasks"].append({"name": "quiz", "kind": "scorer", **quiz})
    (tmp_path / "rules.py").write_text("def grade(item, answer):\n    return item['solution'] == answer\n")
    with pytest.raises(ProjectError, match=r"untrained proxy before others are trained.*raised KeyError: 'solution'"):
        run(_recipe(content))
    assert not _trained(tmp_path / "project")  # nothing was paid for
    (tmp_path / "rules.py").write_text("def grade(item, answer):\n    return 0.5\n")
    with in_this_process():
        both = run(_recipe(content))
    evidence = _proposal(both).proposal
    assert evidence is not None
    (told,) = (warning for warning in evidence.warnings if warning.kind == "metric left out")
    assert "without 'quiz': it is 0.5 in every run" in told.message
    trained = _trained(tmp_path / "project")
    content["tasks"][0]["weight"] = 0.0
    with in_this_process():
        words = run(_recipe(content))
    assert _trained(tmp_path / "project") == trained
    assert _proposal(words).mixture != _proposal(both).mixture
    assert _proposal(both).proposal is not None  # decided, though no arm was trained on it
    assert [decision.arm for decision in both.untrained_decisions] == ["evermix"]


@pytest.mark.usefixtures("no_workers")
def test_the_target_is_trained_on_every_arm(tmp_path: Path, swarm_recipe: Make) -> None:
    content = swarm_recipe(tmp_path / "project") | {"arms": ["natural", "evermix", "best-run"]}
    content["training"] = content["training"] | {"tokens": 10 * 4 * 32, "evaluations": 1, "checkpoints": 1}
    recipe = _recipe(content)
    result = run(recipe)
    assert set(result.arms) == {"natural", "evermix", "best-run"}
    phases = {name: arm.orders[0][0] for name, arm in result.arms.items()}
    for phase in phases.values():
        assert phase.means.bits_per_byte > 0
        assert phase.tasks == {}
    proposal = _proposal(result)
    assert phases["evermix"].mixture == pytest.approx(proposal.mixture)
    assert phases["evermix"].decisions == (proposal,)
    assert result.untrained_decisions == ()
    assert set(proposal.realised_loss_nats or {}) == {"code", "prose"}
    told = {run.run_id: run for run in Study(Path(content["project"])).now().state.measured.values()}
    assert any(phases["best-run"].mixture == pytest.approx(dict(run.shares)) for run in told.values())
    planned = plan(recipe).arms
    for name, phase in phases.items():
        assert set(planned[name].tokens_by_part) == set(phase.compute.by_part)


def test_a_killed_swarm_goes_on_and_ends_alike(tmp_path: Path, swarm_recipe: Make, finished: Finished) -> None:
    """kill -9 after the first finished proxy: two workers train the rest in whatever order they do, and the proposal
    with all its evidence is that of one worker undisturbed, to the last digit."""
    _, undisturbed = finished
    content = swarm_recipe(tmp_path / "project")
    content["swarm"] = content["swarm"] | {"workers": 2}
    (tmp_path / "recipe.json").write_text(json.dumps(content))
    assert kill_when(tmp_path / "recipe.json", lambda: bool(_trained(tmp_path / "project")))
    n_before = len(_trained(tmp_path / "project"))
    assert n_before >= 1
    result = run(_recipe(content))
    measured = Study(tmp_path / "project").now().state.measured
    assert measured == Study(Path(finished[0]["project"])).now().state.measured
    assert _proposal(result).mixture == _proposal(undisturbed).mixture
    assert _proposal(result).proposal == _proposal(undisturbed).proposal
