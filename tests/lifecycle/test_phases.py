"""Several phases on a tiny budget: what is trained, what it costs, going on after death, what a recipe may change."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from evermix.errors import DomainError, EvermixError, RecipeError
from evermix.laws.horizon import Horizon, Moves, learnt
from evermix.ledger import Ledger, Project
from evermix.lifecycle import plan, run
from evermix.lifecycle.context import open_context
from evermix.lifecycle.evidence.modes import MODES
from evermix.lifecycle.evidence.worth import STAYS
from evermix.lifecycle.progress import Reporter
from evermix.recipe import Recipe
from evermix.reports.answer import RunView
from evermix.reports.decision_tables import decision_lines
from evermix.reports.run_tables import print_result
from evermix.results import Decision, PhaseResult, RunResult
from tests.lifecycle.killing import comparable, kill_at

Make = Callable[..., dict[str, Any]]
Finished = tuple[dict[str, Any], RunResult]
ARMS = ["evermix", "uniform", "naive", "fixed-replay", "retrain"]


@pytest.fixture(scope="module")
def life(tiny_recipe: Make) -> Make:
    """A recipe of three phases: prose; then code; then prose revised and noise beside it."""

    def make(project: Path, **changes: Any) -> dict[str, Any]:
        content = tiny_recipe(project)
        code, prose, noise = content["domains"]
        content |= {
            "domains": [prose],
            "model": {"rung": "0.05M"},
            "training": {"tokens": 20 * 4 * 32, "batch_sequences": 4, "evaluations": 2, "checkpoints": 4},
            "phases": [
                {"name": "base", "kind": "pretrain"},
                {"name": "code", "add": [code], "tokens": 10 * 4 * 32},
                {"name": "both", "add": [noise], "revise": [{**prose, "max_bytes": 60_000}], "tokens": 12 * 4 * 32},
            ],
            "constraints": {"max_epochs": None, "floor": 0.01},
            "arms": ["evermix"],
        }
        return content | changes

    return make


def _run(content: dict[str, Any]) -> RunResult:
    return run(Recipe.model_validate(content))


def _rows(result: RunResult, arm: str) -> tuple[PhaseResult, ...]:
    (rows,) = result.arms[arm].orders
    return rows


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, life: Make) -> Finished:
    content = life(tmp_path_factory.mktemp("life") / "project", arms=ARMS)
    return content, _run(content)


def test_every_arm_goes_through_every_phase(finished: Finished) -> None:
    content, result = finished
    assert RunResult.load(Path(content["project"]) / "result.json") == result
    assert result.has_phases
    assert result.orders == (("base", "code", "both"),)
    assert set(result.arms) == set(ARMS)
    for arm in ARMS:
        rows = _rows(result, arm)
        assert [row.phase for row in rows] == ["base", "code", "both"]
        assert [row.number for row in rows] == [0, 1, 2]
        assert set(rows[2].per_domain) == {"code", "prose (2)", "noise"}
        assert all(sum(row.mixture.values()) == pytest.approx(1) for row in rows)
        assert set(rows[1].forgetting_nats) == {"prose"}
        assert set(rows[2].forgetting_nats) == {"code"}
        assert rows[1].forgetting_nats["prose"] == pytest.approx(
            rows[1].per_domain["prose"].loss_nats - rows[0].per_domain["prose"].loss_nats
        )


def test_passes_over_every_text_are_counted_over_all_phases(finished: Finished) -> None:
    """Rows by the mixtures of all phases so far, over the rows that there are; retrain begins anew at each."""
    result, steps = finished[1], (20, 10, 12)
    n_rows = {domain.name: domain.n_rows for domain in result.domains}
    for arm in ("uniform", "naive", "evermix"):
        spent = dict.fromkeys(n_rows, 0.0)
        for row, n_steps in zip(_rows(result, arm), steps, strict=True):
            for name, share in row.mixture.items():
                spent[name] += share * n_steps * 4
            used = {name: n for name, n in spent.items() if n > 0}
            assert set(row.epochs) == set(row.tokens) == set(used)
            for name, n in used.items():
                assert row.epochs[name] * n_rows[name] == pytest.approx(n, abs=2)
                assert row.tokens[name] == pytest.approx(32 * n, abs=2 * 32)
    assert sum(_rows(result, "retrain")[2].tokens.values()) == 42 * 4 * 32


def test_mixtures_of_the_arms(finished: Finished) -> None:
    rows = {arm: _rows(finished[1], arm) for arm in ARMS}
    assert rows["naive"][1].mixture == {"code": 1.0}
    assert rows["fixed-replay"][1].mixture == pytest.approx({"prose": 0.1, "code": 0.9})
    assert rows["uniform"][2].mixture == pytest.approx(dict.fromkeys(("code", "prose (2)", "noise"), 1 / 3))
    (decision,) = rows["evermix"][1].decisions
    assert rows["evermix"][1].mixture == pytest.approx(decision.mixture)
    assert set(decision.probes) == {"code@0.1", "code@0.9"}
    assert decision.probes["code@0.9"].shares == pytest.approx({"prose": 0.1, "code": 0.9})
    assert set(rows["evermix"][2].decisions[0].shares) == {"code", "prose (2)", "noise"}


def test_compute_is_counted_alike(finished: Finished) -> None:
    result = finished[1]
    n = result.model.non_embedding + result.model.output_projection
    rows = {arm: _rows(result, arm) for arm in ARMS}
    steps, per_step = (20, 10, 12), 4 * 32
    assert rows["naive"][0].compute.by_part["prefix"].flops == 6 * n * steps[0] * per_step
    branches = 4 + 2  # those of phases whose trunk goes on
    assert rows["naive"][2].cumulative_compute.flops == pytest.approx(6 * n * (sum(steps) + branches) * per_step)
    assert rows["retrain"][2].cumulative_compute.n_tokens == (20 + 30 + 42) * per_step
    decided = rows["evermix"][1]
    probes = decided.compute.by_part["probes"]
    assert probes.flops == 4 * n * probes.n_tokens
    assert probes.n_tokens == 2 * 5 * per_step  # two probes of five steps
    assert decided.compute.flops == pytest.approx(sum(part.flops for part in decided.compute.by_part.values()))


def test_a_second_run_trains_nothing(finished: Finished) -> None:
    content, result = finished
    before = {path: path.stat().st_mtime_ns for path in Path(content["project"]).glob("runs/*/done.json")}
    assert _run(content) == result
    assert {path: path.stat().st_mtime_ns for path in Path(content["project"]).glob("runs/*/done.json")} == before


def test_orders_share_what_they_have_in_common_and_are_compared_and_averaged(life: Make, tmp_path: Path) -> None:
    content = life(tmp_path / "project", arms=["uniform", "naive"])
    content["phases"][2] = {"name": "noise", "add": content["phases"][2]["add"], "tokens": 10 * 4 * 32}
    result = _run(content | {"orders": 2})
    arm = result.arms["uniform"]
    (one, other) = arm.orders
    assert result.orders == (("base", "code", "noise"), ("base", "noise", "code"))
    assert one[0].model_id == other[0].model_id
    assert one[1].model_id != other[1].model_id
    assert [row.order for row in arm.phases] == [0, 0, 0, 1, 1, 1]
    assert arm.last == (one[-1], other[-1])
    view = RunView(result)
    mean = view.mean("uniform", view.objective)
    assert mean.value == pytest.approx((one[-1].objective_value + other[-1].objective_value) / 2)
    assert mean.stderr is not None
    compared = [(each.arm, each.baseline, each.order) for each in result.comparisons]
    assert sorted(compared) == [
        ("naive", "uniform", 0),
        ("naive", "uniform", 1),
        ("uniform", "naive", 0),
        ("uniform", "naive", 1),
    ]
    for each in result.comparisons:
        assert set(each.difference_stderr_nats) == {"prose", "code", "noise"}
        assert min(each.difference_stderr_nats.values()) > 0


def test_killed_in_any_phase_it_goes_on(finished: Finished, life: Make, tmp_path: Path) -> None:
    content = life(tmp_path / "project", arms=ARMS)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(content))
    for part in ("code: training to step 8", "code: decay", "both: decay"):
        assert kill_at(recipe, tmp_path / "project" / "status.json", f'"{part}"')
    resumed = _run(content)
    assert comparable(resumed.to_json()["arms"]) == comparable(finished[1].to_json()["arms"])


def _take_up(finished: dict[str, Any], project: Path) -> None:
    """Let a project begin with what another one has trained; it holds for whoever would train the same."""
    shutil.copytree(Path(finished["project"]) / "runs", project / "runs")


def test_every_mode_is_asked_beside_the_one_that_decides(finished: Finished, life: Make, tmp_path: Path) -> None:
    content = life(tmp_path / "project")
    _take_up(finished[0], tmp_path / "project")
    content["decision"] = content["decision"] | {"cross_checks": True}
    for row in _rows(_run(content), "evermix")[1:]:
        (decision,) = row.decisions
        assert set(decision.modes) == set(MODES)
        assert decision.modes[decision.mode].mixture == pytest.approx(decision.mixture)
        for mode in decision.modes.values():
            if mode.mixture is None:
                assert mode.status.startswith("failed: ")
            else:
                assert sum(mode.mixture.values()) == pytest.approx(1)
                assert set(mode.mixture) == set(row.per_domain)
        assert row.compute.by_part["cross-checks"].flops > 0


@pytest.mark.parametrize(
    ("mode", "recomputed", "components"),
    [
        ("probe-law", "all", {"code", "prose (2)", "noise"}),
        ("probe-law", "none", {"old", "prose (2)", "noise"}),
        ("probe-law", ["code"], {"code", "prose (2)", "noise"}),
        ("interpolation", "none", {"old", "prose (2)", "noise"}),
        ("gradient", "none", {"old", "prose (2)", "noise"}),
        ("gradient", "all", {"code", "prose (2)", "noise"}),
    ],
)
def test_every_mode_decides_over_what_is_recomputed(
    finished: Finished, life: Make, tmp_path: Path, mode: str, recomputed: Any, components: set[str]
) -> None:
    content = life(tmp_path / "project", replay={"recompute": recomputed})
    _take_up(finished[0], tmp_path / "project")
    content["decision"] = content["decision"] | {"mode": mode}
    rows = _rows(_run(content), "evermix")
    (decision,) = rows[2].decisions
    assert set(decision.shares) == components
    assert sum(decision.mixture.values()) == pytest.approx(1)
    assert min(decision.shares.values()) >= 0.01 - 1e-6
    assert len(rows[1].decisions[0].probes) == (3 if (mode, recomputed) == ("gradient", "all") else 2)


def test_the_horizon_moves_predictions_away_from_the_base(life: Make, tmp_path: Path) -> None:
    """At horizon h the fitted losses are base + h (probe - base): the prediction lies about h times as far away."""
    made = {}
    for horizon in (1.0, 3.0):
        content = life(tmp_path / str(horizon), replay={"recompute": "none"})
        content["decision"] = content["decision"] | {"probes": content["decision"]["probes"] | {"horizon": horizon}}
        content["phases"] = content["phases"][:2]
        (made[horizon],) = _rows(_run(content), "evermix")[1].decisions
    assert made[1.0].probes == made[3.0].probes
    base = made[1.0].base_loss_nats["code"]
    near, far = (base - made[horizon].predicted_loss_nats["code"] for horizon in (1.0, 3.0))
    assert 0 < near < far


def test_the_horizon_is_learnt_from_what_an_earlier_phase_did(finished: Finished) -> None:
    """At first the recipe's; then by how far phase `code` moved its loss, on decision text that the next one reads."""
    (first,), (second,) = (row.decisions for row in _rows(finished[1], "evermix")[1:])
    assert first.horizon == {"prose": 2.0, "code": 2.0}
    names = tuple(second.horizon or {})
    assert names == ("code", "prose (2)", "noise")
    base, then = first.base_loss_nats["code"], second.base_loss_nats["code"]
    came = Moves({"code": (first.predicted_loss_nats["code"] - base) / 2.0}, {"code": then - base})
    expected = learnt(Horizon(2.0, 0.35, 0.35), [came], names).factor
    assert list((second.horizon or {}).values()) == pytest.approx(np.asarray(expected).tolist())
    assert second.horizon != dict.fromkeys(names, 2.0)
    (said,) = (line for line in decision_lines(second) if line.startswith("Horizon: "))
    assert said.endswith("times as far as probes moved them.")
    assert f"{max((second.horizon or {}).values()):.1f}" in said


def test_merged_probes_are_pure_beside_designed_ones(finished: Finished, life: Make, tmp_path: Path) -> None:
    """What is merged must lie in the span of the probes; what a law reads need not."""
    _take_up(finished[0], tmp_path / "project")
    content = life(tmp_path / "project", arms=["evermix", "lora-merge"])
    designed = {"design": "designed", "number": 2, "levels": [0.2, 1.5]}
    content["decision"] = content["decision"] | {"probes": content["decision"]["probes"] | designed}
    result = _run(content)
    by_law, merged = (_rows(result, arm)[2].decisions[0].probes for arm in ("evermix", "lora-merge"))
    assert set(by_law) == {"mixture 1", "mixture 2"}
    assert "old" in merged
    assert {"prose (2)", "noise"} < set(merged)
    counted = plan(Recipe.model_validate(content)).phases[0][2].n_probes
    assert counted == 2


def test_replay_auto_recomputes_what_promises_to_pay(finished: Finished, life: Make, tmp_path: Path) -> None:
    _take_up(finished[0], tmp_path / "project")
    rows = _rows(_run(life(tmp_path / "project", replay={"recompute": "auto"})), "evermix")
    (decision,) = rows[2].decisions
    assert set(decision.recomputed) <= {"code"}
    assert set(decision.shares) in ({"old", "prose (2)", "noise"}, {"code", "prose (2)", "noise"})


def test_phases_keep_their_start_where_deciding_promises_too_little(life: Make, tmp_path: Path) -> None:
    """No probe is trained then, and the report says what was expected."""
    content = life(tmp_path / "project", arms=["evermix", "uniform"])
    content["decision"] = content["decision"] | {"always": False}
    result = _run(content)
    ours, theirs = _rows(result, "evermix"), _rows(result, "uniform")
    for row, other in zip(ours[1:], theirs[1:], strict=True):
        assert row.decisions == ()
        assert row.stayed is not None
        assert row.stayed.gain <= row.stayed.cost
        assert row.model_id == other.model_id
    assert not list((tmp_path / "project" / "runs").glob("probe-*"))
    console = Console(width=200, file=io.StringIO())
    print_result(result, console)
    printed = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    assert "evermix: Kept its start in code, both: deciding was expected to gain" in printed


def test_a_worse_mixture_than_the_start_is_not_taken(life: Make, tmp_path: Path) -> None:
    """A prior that pulls away from what counts: by the law it loses, so the start stays; unless `always`."""
    content = life(
        tmp_path / "project", start="uniform", objective={"weights": {"code": 0.9, "noise": 0.05, "prose": 0.05}}
    )
    base, code, both = content["phases"]
    content["phases"] = [base, code | {"add": [*code["add"], *both["add"]], "tokens": 400 * 4 * 32}]
    content["decision"] |= {"prior": "half-new", "kl_weight": 1e9}
    made = {}
    for always in (False, True):
        content["decision"]["always"] = always
        (made[always],) = _rows(_run(content | {"project": str(tmp_path / f"{always}")}), "evermix")[1].decisions
    assert made[False].mixture == pytest.approx(dict.fromkeys(("prose", "code", "noise"), 1 / 3))
    assert made[True].mixture == pytest.approx({"prose": 0.5, "code": 0.25, "noise": 0.25}, abs=1e-4)
    for always, decision in made.items():
        assert decision.expected is not None
        assert decision.expected.gain < 0
        assert decision.expected.stays is not always
        assert (decision.status == STAYS) is not always


def test_retention_lowers_the_share_of_what_is_new(life: Make, tmp_path: Path) -> None:
    """The constraint is the only difference, so the old domain's predicted loss obeys it and the new share falls.

    It is half-way between what the free optimum and what the best mixture for the old domain alone would let it rise.
    """
    free = life(tmp_path / "free", replay={"recompute": "none"})
    free["phases"] = [{"name": "base", "tokens": 300 * 4 * 32}, free["phases"][1]]
    free["training"] = free["training"] | {"learning_rate": 1e-2}
    free["decision"] = {"always": True, "kl": 0.0, "probes": {"steps": 20, "rank": 4, "evaluation_sequences": 16}}

    def decided(name: str, **changes: Any) -> Decision:
        content = free | {"project": str(tmp_path / name)} | changes
        if name != "free":  # the same base and probes
            shutil.copytree(tmp_path / "free" / "runs", tmp_path / name / "runs")
        (decision,) = _rows(_run(content), "evermix")[1].decisions
        return decision

    loose = decided("free")
    gentle = decided("gentle", objective={"weights": {"prose": 1.0}})
    assert gentle.probes == loose.probes
    rise, least = (made.predicted_loss_nats["prose"] - made.base_loss_nats["prose"] for made in (loose, gentle))
    assert rise > max(least, 0)
    assert loose.ceilings is None
    allowed = (rise + max(least, 0)) / 2
    decision = decided("held", retention={"max_rise": allowed})
    assert decision.ceilings == pytest.approx({"prose": decision.base_loss_nats["prose"] + allowed})
    assert decision.predicted_loss_nats["prose"] <= decision.base_loss_nats["prose"] + allowed + 1e-6
    assert decision.new_share < loose.new_share


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 3}, "phase 'base' was begun, so seed must stay 0"),
        ({"constraints": {"max_epochs": None, "floor": 0.02}}, "so constraints.floor must stay 0.01"),
    ],
)
def test_what_was_begun_must_stay(finished: Finished, change: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        _run(finished[0] | change)


def test_a_phase_that_was_begun_must_stay_and_later_ones_may_change(life: Make, tmp_path: Path) -> None:
    content = life(tmp_path / "project")
    base, code, both = content["phases"]
    content["phases"] = [base, code]
    first = _run(content)
    with pytest.raises(RecipeError, match="phase 'code' was begun, so steps must stay 10"):
        _run(content | {"phases": [base, {**code, "tokens": 12 * 4 * 32}]})
    with pytest.raises(RecipeError, match="must stay in their order: this project has begun base > code"):
        _run(content | {"phases": [base, both, code]})
    prose = Path(content["domains"][0]["files"][0])
    other = tmp_path / "prose.jsonl"
    other.write_bytes(b"\n".join(prose.read_bytes().splitlines()[5:]))
    with pytest.raises(RecipeError, match="the text of 'prose' must stay"):
        _run(content | {"domains": [{**content["domains"][0], "files": [str(other)]}]})
    later = _run(content | {"phases": [base, code, both]})
    assert _rows(later, "evermix")[0] == _rows(first, "evermix")[0]
    then, now = (_rows(result, "evermix")[1] for result in (first, later))
    assert (then.model_id, then.per_domain, then.decisions) == (now.model_id, now.per_domain, now.decisions)
    more = now.compute.by_part["training"].n_tokens - then.compute.by_part["training"].n_tokens
    assert more == pytest.approx(2 * 4 * 32)  # the trunk goes on beyond its fork, for there is a later phase now
    kinds = [entry.kind for entry in Ledger(tmp_path / "project" / "ledger.sqlite").entries()]
    assert kinds.count("segment") == 3 + 3 + 2


def test_no_room_under_the_caps_is_said(life: Make, tmp_path: Path) -> None:
    with pytest.raises(EvermixError, match="max_epochs"):
        _run(life(tmp_path / "project", constraints={"max_epochs": 0.001}))


def test_a_phase_of_conversations_beside_text(life: Make, tmp_path: Path) -> None:
    """Shares are of rows; only answers are learnt and scored; compute counts real tokens."""
    pairs = tmp_path / "sums.jsonl"
    lines = [json.dumps({"prompt": f"{a} + {b} =", "answer": f" {a + b}"}) for a in range(20) for b in range(20)]
    pairs.write_text("\n".join(lines))
    content = life(tmp_path / "project", arms=["evermix", "uniform"])
    sums = {"name": "sums", "files": [str(pairs)], "format": "chat"}
    content["corpus"] = content["corpus"] | {"store": None}
    content["phases"] = [
        content["phases"][0],
        {"name": "talk", "kind": "instruct", "add": [sums], "examples": 48, "training": {"learning_rate": 1e-3}},
    ]
    result = _run(content)
    n = result.model.non_embedding + result.model.output_projection
    rows = _rows(result, "uniform")
    assert rows[1].mixture == pytest.approx({"prose": 0.5, "sums": 0.5})
    assert rows[1].n_rows == 48
    trained = [rows[1].compute.by_part[part] for part in ("training", "decay")]
    assert [part.flops for part in trained] == pytest.approx([6 * n * part.n_tokens for part in trained])
    n_tokens = sum(part.n_tokens for part in trained)
    assert 24 * 32 < n_tokens < 24 * 32 + 24 * 16  # text rows are full, sums are short
    assert rows[1].per_domain["sums"].loss_nats > 0
    assert set(_rows(result, "evermix")[1].decisions[0].probes) == {"sums@0.1", "sums@0.9"}


def test_a_recipe_walks_down_the_chain(life: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every phase goes from evidence to a decision to training, each once, and none is climbed back into."""
    entered: list[str] = []
    part = Reporter.part

    def noted(self: Reporter, name: str, *args: Any, **kwargs: Any) -> Any:
        if name != "corpus" and entered[-1:] != [name]:
            entered.append(name)
        return part(self, name, *args, **kwargs)

    monkeypatch.setattr(Reporter, "part", noted)
    _run(life(tmp_path / "project"))
    assert entered == ["training", *("probes", "decision", "training") * 2]


def test_shares_by_domain_are_those_of_the_text_that_a_phase_has(life: Make, tmp_path: Path) -> None:
    """A revised domain is its newest text; a domain of another phase is refused, never read as uniform."""
    content = life(tmp_path / "project")
    recipe = Recipe.model_validate(content)
    project = Project(recipe.project_folder)
    context = open_context(recipe, project, Reporter(project, None))
    both = context.orders[0][2]
    found = context.named_mixture(both, {"prose": 0.6, "noise": 0.4})
    assert found.as_dict == pytest.approx({"code": 0.0, "prose (2)": 0.6, "noise": 0.4})
    with pytest.raises(DomainError, match="noise"):
        context.named_mixture(context.orders[0][1], {"noise": 1.0})
