"""`evermix compare` on the command line: one tiny run of two phases, trained once, and what every verb says of it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from evermix.results import RunResult
from evermix.results.plan import RunPlan
from tests.cli.called import Ended, evermix

pytest.importorskip("torch")

ARMS = "evermix,uniform,retrain,mergemix"


@dataclass(frozen=True)
class Compared:
    """A recipe of two phases, its project, and what `evermix compare` printed."""

    recipe: Path
    project: Path
    planned: Ended
    ended: Ended


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, tiny_recipe: Callable[..., dict[str, Any]]) -> Compared:
    folder = tmp_path_factory.mktemp("compare")
    content = tiny_recipe(folder / "project")
    code, prose, noise = content["domains"]
    content |= {
        "domains": [prose, code],
        "model": {"rung": "0.05M"},
        "training": {"tokens": 13 * 4 * 32, "batch_sequences": 4, "evaluations": 0, "checkpoints": 1},
        "decision": content["decision"] | {"at": None},
        "phases": [
            {"name": "base", "kind": "pretrain"},
            {"name": "noise", "add": [noise], "remove": ["code"], "tokens": 5 * 4 * 32},
        ],
        "constraints": {"max_epochs": None},
        "arms": ["uniform"],
        "equal_compute": True,
    }
    recipe = folder / "recipe.json"
    recipe.write_text(json.dumps(content))
    planned = evermix("compare", recipe, "--arms", ARMS, "--dry-run", "--json")
    ended = evermix("compare", recipe, "--arms", ARMS, "--json")
    assert (planned.code, ended.code) == (0, 0), planned.err + ended.err
    return Compared(recipe, folder / "project", planned, ended)


def result_of(ended: Ended) -> RunResult:
    """What `--json` printed is a RunResult, with the comparison beside it."""
    return RunResult.from_json({key: value for key, value in ended.json.items() if key != "comparison"})


def test_it_runs_the_arms_asked_for_and_leaves_the_picture(compared: Compared) -> None:
    comparison = compared.ended.json["comparison"]
    rows = ["evermix", "uniform", "uniform+compute", *ARMS.split(",")[2:]]
    assert list(result_of(compared.ended).arms) == rows
    assert {each["baseline"] for each in comparison["differences"]} == set(rows) - {"evermix"}
    assert [each["baseline"] for each in comparison["differences"] if each["at_equal_compute"]] == ["uniform+compute"]
    assert set(comparison["pareto_front"]) <= set(rows)
    assert all((compared.project / f"pareto.{kind}").exists() for kind in ("svg", "png"))
    page = (compared.project / "report.html").read_text(encoding="utf-8")
    assert "noise (new)" in page
    assert "against uniform+compute" in page


def test_equal_compute_may_be_left_out(compared: Compared) -> None:
    asked = ("compare", compared.recipe, "--arms", "evermix,uniform", "--dry-run", "--json")
    assert list(evermix(*asked).json["arms"]) == ["evermix", "uniform", "uniform+compute"]
    assert list(evermix(*asked, "--no-equal-compute").json["arms"]) == ["evermix", "uniform"]
    text = evermix("compare", compared.recipe, "--arms", "evermix,uniform", "--dry-run").out
    assert "+compute: on as many more tokens as what evermix spends on deciding pays for." in text


def test_the_plan_is_what_it_costs(compared: Compared) -> None:
    """Every part of every arm, for text of which every row has the same length."""
    planned, result = RunPlan.model_validate(compared.planned.json), result_of(compared.ended)
    assert planned.orders == (("base", "noise"),)
    assert [phase.new for phase in planned.phases[0]] == [("prose", "code"), ("noise",)]
    assert planned.n_parameters == result.model.non_embedding + result.model.output_projection
    for name, arm in planned.arms.items():
        spent = result.arms[name].last[0].cumulative_compute
        assert arm.flops_by_part == pytest.approx({part: each.flops for part, each in spent.by_part.items()}), name
        assert arm.flops == pytest.approx(spent.flops)


def test_run_and_the_other_verbs_know_what_was_compared(compared: Compared) -> None:
    ended = evermix("run", compared.recipe)
    assert ended.code == 0
    assert "After 2 phases, uniform has a mean perplexity of" in ended.out
    assert evermix("status", compared.project).out.count("After 2 phases, uniform") == 1
    log = evermix("log", compared.project).out
    assert "Decision of arm evermix before noise" in log
    assert "trained base" in log
    again = evermix("compare", compared.recipe, "--arms", "uniform,retrain")
    assert "picture: " in again.out
    assert "saved against retrain" in again.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--arms", "evermix,everything"), "got 'everything'"),
        (("--arms", ","), "--arms must be names of arms"),
        (("--arms", "uniform,uniform"), "arms must be unique"),
        (("--arms", "best-run"), "best-run belongs to method olmix"),
        (("--orders", "7"), "orders, not 7"),
    ],
)
def test_what_does_not_fit_is_one_line(compared: Compared, arguments: tuple[str, ...], said: str) -> None:
    ended = evermix("compare", compared.recipe, *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert ended.err.count("\n") == 1


def test_a_recipe_without_phases_has_three_arms(tiny_recipe: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    content = tiny_recipe(tmp_path / "project") | {"model": {"rung": "0.05M"}}
    content["training"] = {"tokens": 13 * 4 * 32, "batch_sequences": 4, "evaluations": 0, "checkpoints": 1}
    content["decision"] = content["decision"] | {"at": None}
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps(content))
    ended = evermix("compare", recipe, "--arms", "natural,uniform", "--json")
    assert ended.code == 0, ended.err
    assert set(ended.json["arms"]) == {"natural", "uniform"}
    assert (tmp_path / "project" / "pareto.png").exists()
    assert "retrain belongs to a recipe with phases" in evermix("compare", recipe, "--arms", "retrain").err
    assert "orders need a recipe with phases" in evermix("compare", recipe, "--orders", "2").err
    of_probes = ("decision", "start")
    olmix = {key: value for key, value in content.items() if key not in of_probes} | {"method": "olmix", "arms": []}
    recipe.write_text(json.dumps(olmix))
    assert "compare needs at least one arm" in evermix("compare", recipe).err
    planned = evermix("compare", recipe, "--arms", "natural,evermix,best-run", "--dry-run", "--json")
    assert planned.code == 0, planned.err
    assert list(planned.json["arms"]) == ["natural", "evermix", "best-run"]
