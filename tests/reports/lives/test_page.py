"""The page, the picture and the tables of a life: whole and self-contained, whatever the names, finished or not."""

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

import evermix as em
from evermix.ledger import Ledger
from evermix.reports.lives.answer import Lives, as_life
from evermix.reports.lives.pareto import pareto_files, pareto_svgs
from evermix.reports.log import print_log, read_log
from evermix.reports.progress import print_status, read_status
from evermix.reports.tables import print_result

from ..synthetic_result import result as pretraining
from ..test_html import page_of
from .synthetic_life import NAMES, life


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(("n_stages", "n_orders"), [(1, 1), (3, 2)])
def test_page_is_whole_and_self_contained(tmp_path: Path, n_stages: int, n_orders: int) -> None:
    page, parsed = page_of(tmp_path / "life", life(n_stages, n_orders))
    assert len(parsed.ids) == len(set(parsed.ids))
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?!#)', page.replace("xlink:href", "href"))
    assert "<b>books" not in page
    text = " ".join(" ".join(parsed.text).split())
    for name in NAMES[:n_stages]:
        assert name in text
    assert "Quality against compute: mean perplexity" in text
    assert ("Order 2: " in text) == (n_orders == 2)


def test_page_shows_decisions_sweeps_and_tasks(tmp_path: Path) -> None:
    _, parsed = page_of(tmp_path / "life", life(arms={"evermix": 0.0, "oracle": -0.01, "new-arm": 0.1}, accuracy=True))
    text = " ".join(" ".join(parsed.text).split())
    assert "old 70.0%, 论文 30.0%" in text
    assert "论文 (cap)" in text
    assert "120 MFLOP" in text  # what a decision cost
    assert "Every share that oracle tried" in text
    assert "spelling:accuracy" in text
    assert "Quality against compute: mean accuracy" in text


def test_a_life_that_is_not_finished_has_a_page_a_status_and_a_log(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    phases = [{"name": "base", "add": []}, {"name": "law", "add": [{"name": "law"}]}]
    recipe = {"phases": phases, "domains": [{"name": "web"}], "arms": ["evermix", "retrain"], "seed": 3}
    ledger.append("recipe", "r", recipe)
    ledger.append("stage-begun", "b", {"path": ["base", "law"]})
    ledger.append(
        "stage-segment",
        "s",
        {
            "label": "law: training",
            "start_row": 1000,
            "end_row": 1640,
            "mixture": {"web": 0.25, "law": 0.75},
            "part": "training",
            "flops": 3e9,
            "n_tokens": 40_960,
            "seconds": 4.0,
        },
    )
    ledger.append("stage-decision", "d", life()["lives"]["evermix"][0][2]["told"])
    stories = {entry["kind"]: entry for entry in read_log(tmp_path)}
    assert stories["recipe"]["story"] == "a life of 2 phases (base, law) over 2 domains, arms evermix, retrain, seed 3"
    assert stories["stage-begun"]["story"] == "began stage base > law"
    trained = "trained law: training, rows 1,000 to 1,640, 41k tokens: law 75.0%, web 25.0%"
    assert stories["stage-segment"]["story"] == trained
    decided = stories["stage-decision"]
    assert decided["story"].startswith(f"decided stage s2: 30.0% for {NAMES[2]}, by probe-law: ")
    assert (decided["flops"], decided["seconds"]) == (1.2e8, 2.5)
    assert stories["stage-begun"]["flops"] is None
    console = Console(width=200, file=io.StringIO())
    print_log(read_log(tmp_path), console)
    assert "training stages 3 GFLOP, deciding stages 120 MFLOP" in printed(console)
    (tmp_path / "status.json").write_text(json.dumps({"part": "training", "pid": 0}))
    console = Console(width=200, file=io.StringIO())
    print_status(read_status(tmp_path), console)
    assert "1 stage training, 1 stage decision" in printed(console)
    _, parsed = page_of(tmp_path, None)
    text = " ".join(" ".join(parsed.text).split())
    assert "Not finished: 1 trainings and 1 decisions of stages so far." in text
    assert "law: training" in text


def test_status_of_a_finished_life_is_its_headline(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps(life()))
    assert em.status(tmp_path)["headline"].startswith("After 4 stages, evermix has")


@pytest.mark.parametrize("n_orders", [1, 5])
def test_tables(n_orders: int) -> None:
    console = Console(width=160, file=io.StringIO())
    print_result(life(n_orders=n_orders), console)
    text = printed(console)
    assert "saved against retrain" in text
    assert "60.0%" in text
    assert text.count("(its new share)") == min(n_orders, 3)
    assert ("2 more orders" in text) == (n_orders == 5)
    assert re.search(r"naive .*\(100%\)", text)


def test_an_arm_that_is_far_off_is_named_with_its_value() -> None:
    lives = Lives(life(arms={"evermix": -0.06, "uniform": 0.0, "retrain": -0.05, "naive": 2.5}))
    (svg,) = pareto_svgs(lives).values()
    value = lives.objective.text(lives.mean("naive", "objective_value").value)
    assert f"naive ({value}, above)" in svg
    assert "evermix (" not in svg


@pytest.mark.parametrize("content", [life(2, arms={"evermix": 0.0}, accuracy=True), as_life(pretraining())])
def test_the_picture_can_always_be_drawn(tmp_path: Path, content: dict[str, object]) -> None:
    written = pareto_files(Lives(content), tmp_path)
    names = ["pareto", "pareto-accuracy"] if "max_epochs" in content else ["pareto"]
    assert [path.name for path in written] == [f"{name}.{kind}" for name in names for kind in ("svg", "png")]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written if path.suffix == ".png")
