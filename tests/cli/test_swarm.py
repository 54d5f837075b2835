"""design, fit, propose, what-if, laws as a user meets them: a swarm in; tables, JSON, files and errors out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evermix.cli.swarm_options import overlaid, shares
from evermix.domain_updates import Add, Remove
from evermix.errors import RecipeError
from evermix.mixture import Mixture
from evermix.recipe.decision import StudyRecipe
from evermix.study import Study
from tests.cli.called import Ended
from tests.study.evolving import NEW, RECIPE, begun
from tests.study.evolving import answer as tell

SWARM = Path(__file__).parents[2] / "examples" / "swarm"
QUICK = ("--law", "power-link", "--kl", "0.2", "--resamples", "10")
Run = Callable[..., Ended]


def answer(run: Run, *arguments: object) -> Any:
    """What a verb says in JSON."""
    ended = run(*arguments, "--json")
    assert (ended.code, ended.err) == (0, "")
    return ended.json


def test_fit(run: Run, tmp_path: Path) -> None:
    record = answer(run, "fit", SWARM, "--law", "power-link")
    assert (record["n_runs"], len(record["domains"]), record["maximised"]) == (40, 6, ["exam_acc"])
    assert record["screening"] is None
    code, out, err = run("fit", SWARM, "--law", "power-link", "--screen", "--plots", tmp_path)
    assert (code, err) == (0, "")
    assert "Held-out prediction" in out
    assert "Screening: " in out
    assert {path.name for path in tmp_path.glob("*.png")} == {"predictions.png", "effects.png"}


def test_fit_chooses_the_law_by_itself(run: Run) -> None:
    record = answer(run, "fit", SWARM, "--drop", "*_bpb")
    assert record["law"]["name"] == "auto"
    assert set(record["law"]["chosen"]) == set(record["metrics"]) == {"exam_acc"}


def test_tables_may_stand_in_two_files(run: Run) -> None:
    pair = ("fit", SWARM / "ratios.csv", "--metrics", SWARM / "metrics.csv", "--law", "power-link")
    record = answer(run, *pair, "--token-counts", SWARM / "tokens.yaml", "--maximise", "exam_acc")
    assert record["n_runs"] == 40
    assert all(domain["n_tokens"] for domain in record["domains"])


def test_where_chooses_runs_of_one_size(run: Run, tmp_path: Path) -> None:
    for name in ("tokens.yaml", "layout.yaml", "ratios.csv"):
        if (SWARM / name).exists():
            (tmp_path / name).write_text((SWARM / name).read_text())
    head, *rows = (SWARM / "metrics.csv").read_text().splitlines()
    sized = [f"{row},{'20M' if k % 4 else '60M'}" for k, row in enumerate(rows)]
    (tmp_path / "metrics.csv").write_text("\n".join([f"{head},size", *sized, ""]).replace(",size", ",model_size"))
    refused = run("fit", tmp_path, "--law", "power-link")
    assert refused.code == 2
    assert "20M (30 runs), 60M (10 runs)" in " ".join(refused.err.split())
    assert "--where model_size=20M" in " ".join(refused.err.split())
    assert answer(run, "fit", tmp_path, "--law", "power-link", "--where", "model_size=20M")["n_runs"] == 30
    for wrong in ("model_size", "=20M", "model_size="):
        assert "--where must be COLUMN=VALUE" in run("fit", tmp_path, "--where", wrong).err
    assert "measured runs" in run("design", SWARM / "tokens.yaml", "--where", "model_size=20M").err


def test_propose(run: Run, tmp_path: Path) -> None:
    out_file = tmp_path / "mix.json"
    ask = ("propose", SWARM, *QUICK, "--tokens", "200B", "--cap", "code=0.2", "--guard", "natural=0.05")
    record = answer(run, *ask, "--out", out_file)
    assert json.loads(out_file.read_text()) == pytest.approx(record["mixture"])
    assert sum(record["mixture"].values()) == pytest.approx(1)
    assert record["mixture"]["code"] <= 0.2 + 1e-6
    assert record["mixture"]["math"] * 200 / 5 <= 4 + 1e-4  # epochs
    rows = {row["name"]: row for row in record["comparison"]["rows"]}
    assert {"proposal", "natural", "uniform", "unimax", "best run"} <= set(rows)
    assert rows["natural"]["epochs"]["math"] == pytest.approx(200 / 300)
    assert {"fit", "kl", "bootstrap", "calibration", "warnings", "proposal"} <= set(record)
    again = ("propose", SWARM, *QUICK, "--tokens", "200B", "--compare", out_file, "--plots", tmp_path / "plots")
    again = (*again, "--verbose", "--report", tmp_path / "page.html")
    code, out, err = run(*again)
    assert (code, err) == (0, "")
    assert "\n mix " in out
    assert out.rstrip().endswith(f"plots: {tmp_path / 'plots'}")
    assert len(list((tmp_path / "plots").glob("*.svg"))) == 4
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.index("predicted gain over natural") < page.index("Decision from 40 runs: mode power-link")
    for name in ("web:science", "exam_acc", "rank correlation", "</html>"):
        assert name in page


def test_the_example_is_a_swarm_that_proposes(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "swarm"
    code, out, _ = run("example", folder)
    assert (code, str(folder) in out) == (0, True)
    record = answer(run, "propose", folder, *QUICK, "--tokens", "10M")
    assert record["mixture"]["noise"] < 0.02
    assert [(row["kind"], row["name"]) for row in record["fit"]["left_out"]] == []
    assert (record["fit"]["n_runs"], len(record["mixture"]), len(record["fit"]["metrics"])) == (36, 7, 6)
    (folder / "metrics.csv").write_text("mine")
    code, _, err = run("example", folder)
    assert (code, "--force" in err, (folder / "metrics.csv").read_text()) == (2, True, "mine")
    assert run("example", folder, "--force")[0] == 0
    assert (folder / "metrics.csv").read_text().startswith("run,code-cpp_bpb")
    code, _, err = run("example", folder / "metrics.csv")
    assert (code, "into a folder" in err) == (2, True)


def test_a_recipe_file_says_the_same_as_options(run: Run, tmp_path: Path) -> None:
    recipe = tmp_path / "study.yaml"
    recipe.write_text("law: power-link\nkl: 0.2\nresamples: 0\nobjective: {weights: {math_bpb: 1}}\n")
    by_file = answer(run, "propose", SWARM, "--recipe", recipe)
    options = ("--law", "power-link", "--kl", "0.2", "--resamples", "0", "--weight", "math_bpb=1")
    assert by_file["mixture"] == answer(run, "propose", SWARM, *options)["mixture"]
    over = answer(run, "propose", SWARM, "--recipe", recipe, "--fix", "books=0.3")
    assert over["mixture"]["books"] == pytest.approx(0.3)


def test_what_if(run: Run, tmp_path: Path) -> None:
    record = answer(run, "what-if", SWARM, *QUICK, "--set", "math=0.2", "--move", "web:forums=-0.1")
    assert record["after"]["math"] == pytest.approx(0.2)
    assert record["after"]["web:forums"] == pytest.approx(record["before"]["web:forums"] - 0.1)
    change = record["metrics"]["math_bpb"]
    assert change["low"] <= change["change"] + 0.05
    assert change["change"] == pytest.approx(change["after"] - change["before"])
    code, out, err = run("what-if", SWARM, *QUICK, "--from", "best-observed", "--set", "code=0")
    assert (code, err) == (0, "")
    assert out.startswith("Predicted gain in the objective")
    start = tmp_path / "start.json"
    start.write_text('{"math": 0.5, "code": 0.5}')
    assert answer(run, "what-if", SWARM, *QUICK, "--from", start, "--set", "math=0.4")["before"]["code"] == 0.5


def test_what_if_starts_from_the_proposal(run: Run) -> None:
    proposed = answer(run, "propose", SWARM, *QUICK)["mixture"]
    before = answer(run, "what-if", SWARM, *QUICK, "--from", "proposal", "--set", "code=0")["before"]
    assert before == pytest.approx(proposed, abs=1e-6)


def test_list_laws(run: Run) -> None:
    assert {"log-linear", "power-link", "nearest"} <= {row["name"] for row in answer(run, "list-laws")}
    assert "m + 1" in run("list-laws")[1]


@pytest.mark.parametrize("kind", ["dirichlet", "sparse", "dense", "nested", "space-filling"])
def test_design_writes_what_fit_reads(run: Run, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "swarm"
    ask = ("design", SWARM / "tokens.yaml", "--kind", kind, "--runs", "20", "--cap", "math=0.3", "--out", folder)
    record = answer(run, *ask)
    assert record["kind"] == kind
    assert len(record["runs"]) == 20
    assert all(one["mixture"]["math"] <= 0.3 + 1e-6 for one in record["runs"])
    rows = [f"{one['run']},{1 + one['mixture']['math']},{2 - one['mixture']['code']}" for one in record["runs"]]
    (folder / "metrics.csv").write_text("\n".join(["run,a,b", *rows]) + "\n")
    read = answer(run, "fit", folder, "--law", "nearest")
    assert read["n_runs"] == 20
    assert [domain["name"] for domain in read["domains"]] == list(record["prior"])


def test_options_of_design_and_keys_of_a_recipe_are_the_same(run: Run, tmp_path: Path) -> None:
    """Both ways, and the study that begins with the recipe, ask for the same mixtures."""
    keys = {"kind": "sparse", "strength": [0.2, 2.0], "temperature": 0.5, "grid": 0.01, "caps": {"math": 0.3}}
    (tmp_path / "r.yaml").write_text(json.dumps({"law": "power-link", "seed": 3, "design": keys}))
    source = SWARM / "tokens.yaml"
    written = answer(run, "design", source, "--recipe", tmp_path / "r.yaml", "--runs", "9")
    options = ("--kind", "sparse", "--strength", "0.2", "2", "--temperature", "0.5", "--grid", "0.01")
    said = answer(run, "design", source, *options, "--cap", "math=0.3", "--seed", "3", "--runs", "9")
    assert said["runs"] == written["runs"]
    study = Study(tmp_path / "s", said["n_tokens"], StudyRecipe.load(tmp_path / "r.yaml"), n_runs=9)
    asked = [dict(each.mixture.as_dict) for each in study.ask(9)]
    assert asked == [pytest.approx(one["mixture"]) for one in said["runs"]]


def test_design_overwrites_only_when_told(run: Run, tmp_path: Path) -> None:
    ask = ("design", SWARM / "tokens.yaml", "--runs", "4", "--out", tmp_path)
    assert run(*ask)[0] == 0
    before = (tmp_path / "ratios.csv").read_bytes()
    code, _, err = run(*ask, "--seed", "1")
    assert code == 2
    assert "--force" in err
    assert (tmp_path / "ratios.csv").read_bytes() == before
    assert run(*ask, "--seed", "1", "--force")[0] == 0
    assert (tmp_path / "ratios.csv").read_bytes() != before


def test_design_goes_on_from_a_swarm(run: Run) -> None:
    record = answer(run, "design", SWARM, "--law", "power-link", "--runs", "3")
    assert record["kind"] == "adaptive"
    assert [one["run"] for one in record["runs"]] == ["run-0040", "run-0041", "run-0042"]
    assert 0 <= record["settled"]["change_of_next"] <= record["settled"]["change"] <= 1


def test_a_study_is_a_source_too(run: Run, tmp_path: Path) -> None:
    study = Study(tmp_path / "s", {"a": 10**9, "b": 10**9}, StudyRecipe(law="power-link", kl=0.1, resamples=4))
    for k, asked in enumerate(study.ask(6)):
        study.tell(asked.run_id, {"loss": 2 + asked.mixture["a"] ** 2 + 0.01 * k, "other": 1 + 0.1 * k})
    record = answer(run, "propose", tmp_path / "s", "--drop", "other")
    assert record["fit"]["metrics"] == ["loss"]
    assert {"kind": "metric", "name": "other", "reason": "asked for with drop"} in record["fit"]["left_out"]
    kept = [entry["kind"] for entry in json.loads(run("log", tmp_path / "s", "--json")[1])]
    assert kept.count("proposal") == 1
    assert record["law"] == "power-link"  # the study's own recipe
    assert record["bootstrap"]["n_resamples"] + record["bootstrap"]["n_failed"] == 4


@pytest.fixture
def updated(tmp_path: Path) -> Study:
    """A study with a removed domain, a new one, and the others frozen."""
    prior = {"web": 0.5, "code": 0.2, "maths": 0.2, "books": 0.1}
    recipe = RECIPE.model_copy(update={"prior": prior, "resamples": 4})
    study = begun(tmp_path / "s", recipe)
    study.update([Remove("books"), Add("papers", NEW["papers"])], "mixture")
    tell(study, study.ask(6))
    return study


def test_a_study_with_frozen_domains_is_asked_within_them(run: Run, updated: Study) -> None:
    folder = updated.project.folder
    fitted, expected = updated.fit(), updated.now().recommend()
    record = answer(run, "fit", folder)
    assert record["n_runs"] == 6
    assert record["prior"]["mixture"] == pytest.approx(dict(fitted.prior.mixture.as_dict))
    found = answer(run, "propose", folder)
    assert found["mixture"] == pytest.approx(dict(expected.mixture.as_dict))
    assert found["fixed_ratio"] == expected.as_dict["fixed_ratio"]
    moved = answer(run, "what-if", folder, "--from", "proposal", "--set", "papers=0.3")
    assert moved["before"] == pytest.approx(dict(expected.mixture.as_dict))
    after = Mixture.from_dict(updated.domains, moved["after"])
    predicted = dict(zip(fitted.observations.metrics, fitted.predict(after), strict=True))
    assert {name: row["after"] for name, row in moved["metrics"].items()} == pytest.approx(predicted)


def test_options_go_on_top_of_a_studys_recipe_as_it_holds_today(run: Run, updated: Study) -> None:
    """The study's own prior is over the domains it began with; it has no share for the new one, and one too many."""
    folder = updated.project.folder
    seeded = answer(run, "fit", folder, "--seed", "3")
    plain = answer(run, "fit", folder)
    assert seeded["prior"]["mixture"] == pytest.approx(plain["prior"]["mixture"])
    assert answer(run, "propose", folder, "--cap", "papers=0.01")["mixture"]["papers"] == pytest.approx(0.01, abs=1e-6)


def test_a_frozen_domain_does_not_move_alone(run: Run, updated: Study) -> None:
    status, _, error = run("what-if", updated.project.folder, "--set", "code=0.3")
    assert status == 2
    assert "kept its proportion, got 'code'" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fit", "absent"), "absent: a source must be a file or folder that exists"),
        (("fit", SWARM, "--law", "magic"), "a law must be a known one, got 'magic'"),
        (("fit", SWARM, "--drop", "nope"), "drop must match at least one name, got 'nope'"),
        (("fit", SWARM, "--weight", "nope=1", "--law", "power-link"), "must name a metric, got 'nope'"),
        (("fit", SWARM, "--weight", "math_bpb"), "--weight must be METRIC=WEIGHT, got 'math_bpb'"),
        (("fit", SWARM, "--seed", "-1"), "--seed: input should be"),
        (("propose", SWARM, *QUICK, "--cap", "nope=0.1"), "got 'nope'"),
        (("propose", SWARM, *QUICK, "--cap", "math=2"), "--cap math: input should be less than or equal to 1"),
        (("propose", SWARM, *QUICK, "--cap", "math"), "--cap must be DOMAIN=SHARE, got 'math'"),
        (("propose", SWARM, *QUICK, "--floor", "0.3"), "Hint: lower them by 0.8"),
        (("propose", SWARM, *QUICK, "--tokens", "many"), "--tokens: must be an amount such as"),
        (("propose", SWARM, *QUICK, "--tokens", "9T"), "epochs"),
        (("propose", SWARM, "--law", "power-link", "--kl", "soft"), "--kl must be a number, got 'soft'"),
        (("propose", SWARM, *QUICK, "--max-epochs", "2"), "max_epochs needs the tokens of the target run"),
        (("propose", SWARM, *QUICK, "--guard", "best=0.1"), "--guard: input should be 'natural'"),
        (("propose", SWARM, *QUICK, "--prior", "best"), "--prior: input should be"),
        (("propose", SWARM, *QUICK, "--compare", "absent.json"), "absent.json: no such file"),
        (("what-if", SWARM, *QUICK), "--set DOMAIN=SHARE"),
        (("what-if", SWARM, *QUICK, "--set", "math=1.5"), "the share of 'math' must stay between 0 and 1"),
        (("what-if", SWARM, *QUICK, "--from", "best", "--set", "math=0.5"), "got 'best'"),
        (("design", "absent"), "absent: domains must be a YAML file of token counts"),
        (("design", SWARM, "--kind", "magic"), "--kind must be a known one, got 'magic'"),
        (("design", SWARM, "--floor", "0.1"), "no such option, got '--floor'"),
        (("design", SWARM / "tokens.yaml", "--kind", "adaptive"), "an adaptive design needs measured runs"),
    ],
)
def test_errors_are_one_line_that_names_the_fault(run: Run, arguments: tuple[object, ...], message: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_shares_split_at_the_last_sign() -> None:
    assert shares(["a=b=0.5", "c=-0.1"], "--move") == {"a=b": 0.5, "c": -0.1}
    assert shares(None, "--set") is None
    with pytest.raises(RecipeError, match="once"):
        shares(["a=1", "a=2"], "--set")


def test_options_go_over_the_recipe() -> None:
    recipe = StudyRecipe.model_validate({"law": "bimix", "constraints": {"floor": 0.01, "caps": {"a": 0.5}}})
    laid = overlaid(recipe, {"law": None, "kl": 0.1, "constraints": {"caps": {"b": 0.2}}})
    assert (laid.law, laid.kl, laid.constraints.floor) == ("bimix", 0.1, 0.01)
    assert laid.constraints.caps == {"a": 0.5, "b": 0.2}
