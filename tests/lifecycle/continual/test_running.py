"""Lives on a tiny budget: what is trained, what it costs, going on after death, and what a recipe may change."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evermix.errors import EvermixError, RecipeError
from evermix.ledger import Ledger
from evermix.lifecycle.continual import run
from evermix.recipe import Recipe
from tests.lifecycle.continual.killing import comparable, kill_at

Make = Callable[..., dict[str, Any]]
ARMS = ["evermix", "uniform", "naive", "fixed-replay", "retrain"]


@pytest.fixture(scope="module")
def life(tiny_recipe: Make) -> Callable[..., dict[str, Any]]:
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
            "constraints": {"max_epochs": None},
            "arms": ["evermix"],
        }
        return content | changes

    return make


def _run(content: dict[str, Any]) -> dict[str, Any]:
    return run(Recipe.model_validate(content))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, life: Make) -> tuple[dict[str, Any], dict[str, Any]]:
    content = life(tmp_path_factory.mktemp("life") / "project", arms=ARMS)
    return content, _run(content)


def test_every_arm_goes_through_every_stage(finished: tuple[dict[str, Any], dict[str, Any]]) -> None:
    content, result = finished
    assert json.loads((Path(content["project"]) / "result.json").read_text()) == result
    assert set(result["lives"]) == set(ARMS)
    for (rows,) in result["lives"].values():
        assert [row["stage"] for row in rows] == ["base", "code", "both"]
        assert set(rows[2]["per_domain"]) == {"code", "prose (2)", "noise"}
        assert all(sum(row["mixture"].values()) == pytest.approx(1) for row in rows)
        assert set(rows[1]["forgetting_nats"]) == {"prose"}
        assert set(rows[2]["forgetting_nats"]) == {"code"}
        assert rows[1]["forgetting_nats"]["prose"] == pytest.approx(
            rows[1]["per_domain"]["prose"]["loss_nats"] - rows[0]["per_domain"]["prose"]["loss_nats"]
        )


def test_mixtures_of_the_arms(finished: tuple[dict[str, Any], dict[str, Any]]) -> None:
    lives = {arm: rows for arm, (rows,) in finished[1]["lives"].items()}
    assert lives["naive"][1]["mixture"] == {"code": 1.0}
    assert lives["fixed-replay"][1]["mixture"] == pytest.approx({"prose": 0.1, "code": 0.9})
    assert lives["uniform"][2]["mixture"] == pytest.approx(dict.fromkeys(("code", "prose (2)", "noise"), 1 / 3))
    told = lives["evermix"][1]["told"]
    assert lives["evermix"][1]["mixture"] == pytest.approx(told["mixture"])
    assert set(told["probes"]) == {"code@0.1", "code@0.9"}
    assert told["probes"]["code@0.9"]["shares"] == pytest.approx({"prose": 0.1, "code": 0.9})
    assert set(lives["evermix"][2]["told"]["shares"]) == {"code", "prose (2)", "noise"}


def test_compute_is_counted_alike(finished: tuple[dict[str, Any], dict[str, Any]]) -> None:
    result = finished[1]
    n = sum(result["n_parameters"].values())
    lives = {arm: rows for arm, (rows,) in result["lives"].items()}
    steps, per_step = (20, 10, 12), 4 * 32
    assert lives["naive"][0]["cost"]["by_part"]["prefix"]["flops"] == 6 * n * steps[0] * per_step
    assert lives["naive"][2]["cumulative_cost"]["flops"] == 6 * n * sum(steps) * per_step
    whole = sum(steps[0] * per_step * k + steps[1] * per_step * (k > 1) * (k - 1) for k in (1, 2, 3))
    assert whole  # the sum of all retrainings: 20, then 30, then 42 steps
    assert lives["retrain"][2]["cumulative_cost"]["n_tokens"] == (20 + 30 + 42) * per_step
    decided = lives["evermix"][1]
    probes = decided["cost"]["by_part"]["probes"]
    assert probes["flops"] == 4 * n * probes["n_tokens"]
    assert probes["n_tokens"] == 2 * 5 * per_step  # two probes of five steps
    assert decided["cost"]["flops"] == pytest.approx(sum(p["flops"] for p in decided["cost"]["by_part"].values()))


def test_a_second_run_trains_nothing(finished: tuple[dict[str, Any], dict[str, Any]]) -> None:
    content, result = finished
    before = {path: path.stat().st_mtime_ns for path in Path(content["project"]).glob("runs/*/done.json")}
    assert _run(content) == result
    assert {path: path.stat().st_mtime_ns for path in Path(content["project"]).glob("runs/*/done.json")} == before


def test_orders_share_what_they_have_in_common_and_are_averaged(life: Make, tmp_path: Path) -> None:
    content = life(tmp_path / "project", arms=["uniform"])
    prose = content["domains"][0]
    content["phases"][2] = {"name": "noise", "add": content["phases"][2]["add"], "tokens": 10 * 4 * 32}
    del prose
    result = _run(content | {"orders": 2})
    (one, other) = result["lives"]["uniform"]
    assert result["orders"] == [["base", "code", "noise"], ["base", "noise", "code"]]
    assert one[0]["model"] == other[0]["model"]
    assert one[1]["model"] != other[1]["model"]
    mean = result["arms"]["uniform"]["mean_loss_nats"]["mean"]
    assert mean == pytest.approx((one[-1]["mean_loss_nats"] + other[-1]["mean_loss_nats"]) / 2)


def test_killed_in_any_stage_it_goes_on(
    finished: tuple[dict[str, Any], dict[str, Any]], life: Make, tmp_path: Path
) -> None:
    content = life(tmp_path / "project", arms=ARMS)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(content))
    for part in ("code: training", "both: training"):
        assert kill_at(recipe, tmp_path / "project" / "status.json", f'"{part}"')
    assert comparable(_run(content))["lives"] == comparable(finished[1])["lives"]


@pytest.mark.parametrize(
    ("mode", "release", "components"),
    [
        ("probe-law", "all", {"code", "prose (2)", "noise"}),
        ("probe-law", "none", {"old", "prose (2)", "noise"}),
        ("probe-law", ["code"], {"code", "prose (2)", "noise"}),
        ("interpolation", "none", {"old", "prose (2)", "noise"}),
        ("gradient", "none", {"old", "prose (2)", "noise"}),
        ("gradient", "all", {"code", "prose (2)", "noise"}),
    ],
)
def test_every_mode_decides_over_what_is_released(
    life: Make, tmp_path: Path, mode: str, release: Any, components: set[str]
) -> None:
    content = life(tmp_path / "project", replay={"release": release})
    content["decision"] = content["decision"] | {"mode": mode}
    rows = _run(content)["lives"]["evermix"][0]
    told = rows[2]["told"]
    assert set(told["shares"]) == components
    assert sum(told["mixture"].values()) == pytest.approx(1)
    assert min(told["shares"].values()) >= 0.01 - 1e-6
    assert len(rows[1]["told"]["probes"]) == (3 if (mode, release) == ("gradient", "all") else 2)


def test_the_horizon_moves_predictions_away_from_the_base(life: Make, tmp_path: Path) -> None:
    """At horizon h the fitted losses are base + h (probe - base): the prediction lies about h times as far away."""
    told = {}
    for horizon in (1.0, 3.0):
        content = life(tmp_path / str(horizon), replay={"horizon": horizon, "release": "none"})
        content["phases"] = content["phases"][:2]
        told[horizon] = _run(content)["lives"]["evermix"][0][1]["told"]
    assert told[1.0]["probes"] == told[3.0]["probes"]
    base = told[1.0]["base_loss_nats"]["code"]
    near, far = (base - told[horizon]["predicted_loss_nats"]["code"] for horizon in (1.0, 3.0))
    assert 0 < near < far


def test_release_auto_frees_what_promises_to_pay(life: Make, tmp_path: Path) -> None:
    rows = _run(life(tmp_path / "project", replay={"release": "auto"}))["lives"]["evermix"][0]
    assert set(rows[2]["told"]["released"]) <= {"code"}
    assert set(rows[2]["told"]["shares"]) in ({"old", "prose (2)", "noise"}, {"code", "prose (2)", "noise"})


def test_retention_lowers_the_share_of_what_is_new(life: Make, tmp_path: Path) -> None:
    """The constraint is the only difference, so the old domain's predicted loss obeys it and the new share falls."""
    free = life(tmp_path / "free", replay={"release": "none"})
    free["phases"] = [{"name": "base", "tokens": 300 * 4 * 32}, free["phases"][1]]
    free["training"] = free["training"] | {"learning_rate": 1e-2}
    free["decision"] = {"kl": 0.0, "probes": {"steps": 20, "rank": 4, "evaluation_sequences": 16}}
    loose = _run(free)["lives"]["evermix"][0][1]["told"]
    rise = loose["predicted_loss_nats"]["prose"] - loose["base_loss_nats"]["prose"]
    least = loose["probes"]["code@0.1"]["loss_nats"]["prose"] - loose["base_loss_nats"]["prose"]
    assert rise > max(least, 0)
    allowed = (rise + max(least, 0)) / 2
    held = _run(free | {"project": str(tmp_path / "held"), "retention": {"max_rise": allowed}})
    told = held["lives"]["evermix"][0][1]["told"]
    assert told["predicted_loss_nats"]["prose"] <= told["base_loss_nats"]["prose"] + allowed + 1e-6
    assert told["new_share"] < loose["new_share"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 3}, "phase 'base' was begun, so seed must stay 0"),
        ({"constraints": {"max_epochs": None, "floor": 0.02}}, "so constraints.floor must stay 0.01"),
    ],
)
def test_what_was_begun_must_stay(
    finished: tuple[dict[str, Any], dict[str, Any]], change: dict[str, Any], message: str
) -> None:
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
    assert later["lives"]["evermix"][0][:2] == first["lives"]["evermix"][0]
    kinds = [entry.kind for entry in Ledger(tmp_path / "project" / "ledger.sqlite").entries()]
    assert kinds.count("stage-segment") == 3


def test_no_room_under_the_caps_is_said(life: Make, tmp_path: Path) -> None:
    with pytest.raises(EvermixError, match="max_epochs"):
        _run(life(tmp_path / "project", constraints={"max_epochs": 0.001}))


def test_a_phase_of_conversations_beside_text(life: Make, tmp_path: Path) -> None:
    """Shares are of rows; only answers are learnt and scored; costs count real tokens."""
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
    n = sum(result["n_parameters"].values())
    rows = result["lives"]["uniform"][0]
    assert rows[1]["mixture"] == pytest.approx({"prose": 0.5, "sums": 0.5})
    assert rows[1]["n_rows"] == 48
    training = rows[1]["cost"]["by_part"]["training"]
    assert training["flops"] == pytest.approx(6 * n * training["n_tokens"])
    assert 24 * 32 < training["n_tokens"] < 24 * 32 + 24 * 16  # text rows are full, sums are short
    assert rows[1]["per_domain"]["sums"]["loss_nats"] > 0
    assert set(result["lives"]["evermix"][0][1]["told"]["probes"]) == {"sums@0.1", "sums@0.9"}
