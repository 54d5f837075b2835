"""Baselines at equal compute: FLOPs against those of the arm that decides, weights against a longer recipe's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evermix.ledger import Ledger
from evermix.lifecycle import plan, run
from evermix.lifecycle.arms import ARMS
from evermix.lifecycle.course import schedule_of
from evermix.lifecycle.equal_compute import entrants, estimate, extra_steps, in_turn, phases_of
from evermix.lifecycle.progress import Reporter
from evermix.recipe import Recipe
from evermix.recipe.phases import lengthened
from evermix.reports.answer import RunView
from evermix.results import PhaseResult, RunResult
from tests.lifecycle.killing import comparable, kill_at

Make = Callable[..., dict[str, Any]]
Finished = tuple[dict[str, Any], RunResult]
PER_STEP = 4 * 32  # tokens


@pytest.fixture(scope="module")
def life(tiny_recipe: Make) -> Make:
    """Prose and code, decided on the way; then noise; then prose once more. Two orders of the last two."""

    def make(project: Path, **changes: Any) -> dict[str, Any]:
        content = tiny_recipe(project)
        code, prose, noise = content["domains"]
        content |= {
            "domains": [prose, code],
            "model": {"rung": "0.05M"},
            "training": {
                "tokens": 20 * PER_STEP,
                "batch_sequences": 4,
                "evaluations": 0,
                "checkpoints": 4,
                "trunk": False,
            },
            "decision": {**content["decision"], "mode": "probe-law"},
            "phases": [
                {"name": "base", "kind": "pretrain"},
                {"name": "noise", "add": [noise], "tokens": 10 * PER_STEP},
                {"name": "more", "revise": [{**prose, "max_bytes": 60_000}], "tokens": 12 * PER_STEP},
            ],
            "orders": 2,
            "constraints": {"max_epochs": None, "floor": 0.01},
            "arms": ["uniform", "evermix"],
            "equal_compute": True,
        }
        return content | changes

    return make


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, life: Make) -> Finished:
    content = life(tmp_path_factory.mktemp("equal") / "project")
    return content, _run(content)


def _run(content: dict[str, Any]) -> RunResult:
    return run(Recipe.model_validate(content))


def _names(content: dict[str, Any], **changes: Any) -> list[str]:
    return [row.name for row in entrants(Recipe.model_validate(content | changes))]


def test_every_arm_has_a_row_and_baselines_a_second_one(life: Make, tmp_path: Path) -> None:
    content = life(tmp_path, arms=["uniform", "evermix", "naive", "retrain"])
    both = ["uniform", "uniform+compute", "evermix", "naive", "naive+compute", "retrain"]
    assert _names(content) == both
    assert _names(content, equal_compute=False) == content["arms"]
    assert _names(content, arms=["uniform", "natural"]) == ["uniform", "natural"]
    assert _names(content, arms=["fixed-replay", "oracle", "lora-merge"]) == ["fixed-replay", "oracle", "lora-merge"]
    rows = in_turn(entrants(Recipe.model_validate(content)))
    assert [row.name for row in rows[4:]] == ["uniform+compute", "naive+compute"]


@pytest.mark.parametrize(
    ("arms", "decider"),
    [
        (["natural", "mergemix", "evermix"], "evermix"),
        (["natural", "proxy-swarm", "mergemix"], "proxy-swarm"),
        (["natural", "oracle", "retrain", "mergemix"], "mergemix"),
    ],
)
def test_whose_compute_it_is(life: Make, tmp_path: Path, arms: list[str], decider: str) -> None:
    rows = entrants(Recipe.model_validate(life(tmp_path, arms=arms)))
    assert [row.given for row in rows if row.given is not None] == [decider]


def test_a_row_looks_like_its_arm_and_unlike_every_other(life: Make, tmp_path: Path) -> None:
    arms = ["evermix", "natural", "uniform", "naive", "fixed-replay"]
    rows = entrants(Recipe.model_validate(life(tmp_path, arms=arms)))
    assert [row.label for row in rows[1:3]] == ["natural", "natural, equal compute"]
    for what in ("name", "label", "colour"):
        assert len({getattr(row, what) for row in rows}) == len(rows) == 9
    own = {row.colour for row in rows if row.given is not None}
    assert not own & {arm.colour for arm in ARMS.values()}
    assert rows[4].colour == "#387597"  # 0.65 of 56, B4 and E9
    assert rows[4].mark == ARMS["uniform"].mark


def test_extra_steps_by_hand() -> None:
    """100 steps for 1,000 FLOPs are 10 a step: 1,144 are 14.4 steps more."""
    assert extra_steps(100, 1000, 1144) == 14
    assert extra_steps(100, 1000, 1146) == 15
    assert extra_steps(100, 1000, 1004) == 0
    assert extra_steps(100, 1000, 1000) == 0
    assert extra_steps(100, 1000, 400) == 0  # never shortened


@given(st.integers(1, 10_000), st.floats(1, 1e18), st.floats(1, 50))
def test_no_more_than_half_a_step_is_missing(n_steps: int, own: float, times: float) -> None:
    per_step = own / n_steps
    spent = own + extra_steps(n_steps, own, times * own) * per_step
    assert abs(spent - times * own) <= per_step / 2 * (1 + 1e-6)


def test_a_longer_phase_warms_up_as_long_and_decays_over_the_same_part(life: Make, tmp_path: Path) -> None:
    content = life(tmp_path)
    content["training"] |= {"tokens": 200 * PER_STEP, "warmup_fraction": 0.05, "decay_fraction": 0.2}
    recipe = Recipe.model_validate(content)
    phases = recipe.timeline(recipe.phase_orders[0])
    longer = lengthened(phases, (50, 0, 3))
    before, after = (schedule_of(each[0]) for each in (phases, longer))
    assert (before.total_steps, before.warmup_steps, before.decay_steps) == (200, 10, 40)
    assert (after.total_steps, after.warmup_steps, after.decay_steps) == (250, 10, 50)
    assert schedule_of(longer[1]) == schedule_of(phases[1])
    assert all(before(step) == after(step) for step in range(160))


def test_both_rows_are_in_the_result_and_are_compared(finished: Finished) -> None:
    result = finished[1]
    names = ["uniform", "uniform+compute", "evermix"]
    assert list(result.arms) == names
    row = result.arms["uniform+compute"]
    assert (row.arm, row.given, row.label) == ("uniform", "evermix", "uniform, equal compute")
    assert {phase.arm for phase in row.phases} == {"uniform+compute"}
    pairs = {(each.arm, each.baseline, each.order) for each in result.comparisons}
    assert pairs == {(a, b, k) for a in names for b in names if a != b for k in (0, 1)}
    assert RunResult.load(Path(finished[0]["project"]) / "result.json") == result


def test_they_cost_the_same_within_half_a_step_in_every_phase_of_every_order(finished: Finished) -> None:
    result = finished[1]
    n = result.model.non_embedding + result.model.output_projection
    pairs = list(_pairs(result))
    assert len(pairs) == 6
    for ours, theirs, steps in pairs:
        assert ours.phase == theirs.phase
        assert abs(ours.compute.flops - theirs.compute.flops) <= 6 * n * PER_STEP / 2
        assert ours.compute.flops == pytest.approx(6 * n * ours.n_tokens)
        assert ours.n_rows > 4 * steps == theirs.n_rows
    view = RunView(result)
    assert {each.baseline for each in view.differences if each.at_equal_compute} == {"uniform+compute"}


def _pairs(result: RunResult) -> Iterator[tuple[PhaseResult, PhaseResult, int]]:
    """Phase by phase of all orders: the row at equal compute, the arm that decides, and the recipe's steps."""
    steps = {"base": 20, "noise": 10, "more": 12}
    for mine, others in zip(result.arms["uniform+compute"].orders, result.arms["evermix"].orders, strict=True):
        for ours, theirs in zip(mine, others, strict=True):
            yield ours, theirs, steps[ours.phase]


def test_steps_by_hand(finished: Finished) -> None:
    """A probe's step costs 4/6 of one of training, a sequence read 2/6 of one trained on; a step is four sequences.

    On the way: an old and two domains, 5 steps each; before a phase: two probes of 5 steps. Base and probes are read
    on 8 sequences of each domain.
    """
    for row, _, own in _pairs(finished[1]):
        n_probes = 3 if row.phase == "base" else 2
        steps = n_probes * 5 * 4 / 6 + (n_probes + 1) * 8 * len(row.per_domain) * (2 / 6) / 4
        assert row.n_rows / 4 - own == round(steps)


def test_later_phases_begin_where_the_longer_ones_end(finished: Finished) -> None:
    content, result = finished
    segments = {e.key: e.payload for e in Ledger(Path(content["project"]) / "ledger.sqlite").entries("segment")}
    for rows in result.arms["uniform+compute"].orders:
        begin = rows[0].n_rows
        for row in rows[1:]:
            assert segments[row.model_id]["end_row"] == begin + row.n_rows
            assert begin in {segment["start_row"] for segment in segments.values()}
            begin += row.n_rows
    begun = [e.payload for e in Ledger(Path(content["project"]) / "ledger.sqlite").entries("phase-begun")]
    assert {each["content"]["steps"] for each in begun} == {20, 10, 12}  # the recipe's own


def test_the_weights_are_those_of_a_recipe_of_as_many_tokens(tmp_path: Path, tiny_recipe: Make) -> None:
    """A longer recipe, whose warm-up and decision are at the same steps of it, trains the very same model."""
    equal = _run(tiny_recipe(tmp_path / "equal", equal_compute=True, model={"rung": "0.05M"}))
    ((row,),) = equal.arms["uniform+compute"].orders
    n_steps = row.n_rows // 4
    assert n_steps > 60
    content = tiny_recipe(tmp_path / "longer", arms=["uniform"], model={"rung": "0.05M"})
    content["training"] = content["training"] | {"tokens": n_steps * PER_STEP, "warmup_fraction": 0.02 * 60 / n_steps}
    content["decision"] = content["decision"] | {"at": [0.5 * 60 / n_steps]}
    ((longer,),) = _run(content).arms["uniform"].orders
    by_name = {"arm": "uniform+compute", "model_id": row.model_id, "curve": row.curve}  # it is cut where theirs was
    assert comparable(longer.model_copy(update=by_name)) == comparable(row)


def test_where_nothing_is_decided_nothing_is_trained_anew(tmp_path: Path, life: Make) -> None:
    """Of one domain there is nothing to decide: the row at equal compute is that at equal tokens, in every digit."""
    content = life(tmp_path / "project", arms=["evermix", "uniform"], orders=1)
    content["domains"] = content["domains"][:1]
    content["phases"] = content["phases"][:1]
    result = _run(content)
    assert list(result.arms) == ["evermix", "uniform", "uniform+compute"]
    same, given = (result.arms[name].orders for name in ("uniform", "uniform+compute"))
    assert given[0][0].model_copy(update={"arm": "uniform"}) == same[0][0]
    assert len(list((tmp_path / "project" / "runs").glob("*/checkpoint-*"))) == 2  # where it decays, and the end
    (against,) = (each for each in RunView(result).differences if each.at_equal_compute)
    assert against.words.endswith("at equal compute")


def test_killed_on_the_way_it_ends_as_if_undisturbed(finished: Finished, life: Make, tmp_path: Path) -> None:
    content = life(tmp_path / "project", orders=1)
    content["phases"] = content["phases"][:2]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(content))
    for phase in ("phase 1", "phase 2"):
        assert kill_at(recipe, tmp_path / "project" / "status.json", f"(uniform+compute), {phase}")
    resumed = _run(content)
    for name, arm in finished[1].arms.items():
        assert comparable(resumed.arms[name].orders[0]) == comparable(arm.orders[0][:2])


def test_a_second_run_trains_nothing_and_expects_what_it_has_planned(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is expected of a row, in tokens of training, is what its trainings have cost."""
    content, result = finished
    expected, stages = list[float](), dict[str, float]()
    stage = Reporter.stage

    @contextmanager
    def noted(self: Reporter, place: str, n_tokens: float) -> Iterator[None]:
        name = place.split("(")[1].split(")")[0]
        stages[name] = stages.get(name, 0.0) + n_tokens
        with stage(self, place, n_tokens):
            yield

    monkeypatch.setattr(Reporter, "stage", noted)
    monkeypatch.setattr(Reporter, "expect", lambda self, n: expected.append(n))
    folder = Path(content["project"])
    before = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/done.json")}
    assert _run(content) == result
    assert {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/done.json")} == before
    assert list(stages) == ["uniform", "evermix", "uniform+compute"]
    assert expected == [pytest.approx(sum(stages.values()))]
    n = result.model.non_embedding + result.model.output_projection
    for name, n_tokens in stages.items():
        assert n_tokens == pytest.approx(sum(row.compute.flops for row in result.arms[name].phases) / (6 * n))


def test_the_plan_is_what_it_costs(finished: Finished) -> None:
    """Text alone, so that every row has its full length: FLOPs of the plan are those of the run."""
    content, result = finished
    planned = plan(Recipe.model_validate(content))
    assert list(planned.arms) == list(result.arms)
    assert planned.arms["uniform+compute"].given == "evermix"
    for name, arm in planned.arms.items():
        spent = [row.cumulative_compute.flops for row in result.arms[name].last]
        assert arm.flops == pytest.approx(sum(spent) / len(spent)), name


def test_a_swarm_is_estimated_where_the_size_of_the_model_is_known(tiny_recipe: Make, tmp_path: Path) -> None:
    content = tiny_recipe(tmp_path, arms=["natural", "evermix"], method="olmix", equal_compute=True)
    content = {key: value for key, value in content.items() if key != "decision"}
    content["swarm"] = {"rung": "0.05M", "tokens": 8 * PER_STEP, "batch_sequences": 4, "runs": 6}
    recipe = Recipe.model_validate(content)
    planned = plan(recipe)
    assert planned.arms["natural+compute"].flops == pytest.approx(
        planned.arms["evermix"].flops, abs=6 * (planned.n_parameters or 0) * PER_STEP / 2
    )
    unknown = plan(Recipe.model_validate(content | {"tokenizer": {"path": "somewhere.json"}}))
    assert list(unknown.arms) == ["natural", "evermix"]
    assert "natural+compute" in unknown.not_estimated[-1]


def test_phases_are_lengthened_by_what_was_spent(life: Make, tmp_path: Path) -> None:
    recipe = Recipe.model_validate(life(tmp_path))
    phases = recipe.timeline(recipe.phase_orders[0])
    spent = {"uniform": [20.0, 10.0, 12.0], "evermix": [25.0, 10.4, 9.0]}
    rows = {row.name: phases_of(row, phases, spent.__getitem__) for row in entrants(recipe) if row.arm == "uniform"}
    assert rows["uniform"] == phases
    assert [(each.n_steps, each.first_row) for each in rows["uniform+compute"]] == [(25, 0), (10, 100), (12, 140)]
    row = next(row for row in entrants(recipe) if row.name == "uniform+compute")
    assert len(estimate(recipe, row, phases, 1000)) == 3
