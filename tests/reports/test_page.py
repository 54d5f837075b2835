"""The page: whole, self-contained, safe for any name, the same for every recipe, and there for unfinished projects."""

import json
import re
from pathlib import Path

import pytest

import evermix as em
from evermix.errors import ProjectError
from evermix.ledger import Ledger
from evermix.reports.answer import RunView
from evermix.reports.pareto import pareto_files, pareto_svgs
from evermix.results import RunResult

from .printing import page_of
from .synthetic_result import NAMES, one_phase, phases, proposal, swarm, with_equal_compute

ROOM = Path(em.__file__).parent / "reports"


@pytest.mark.parametrize(
    "result", [one_phase(1), one_phase(25), phases(1), phases(3, 2, accuracy=True), swarm(proposal())]
)
def test_page_is_whole_and_self_contained(tmp_path: Path, result: RunResult) -> None:
    page, parsed = page_of(tmp_path / "demo", result)
    assert len(parsed.ids) == len(set(parsed.ids))
    outside = set(re.findall(r"https?://[^\s\"'<>]+", page)) - {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert outside == set()
    assert "<script" not in page
    assert "@import" not in page
    assert re.findall(r'(?:src|href)="(?!#)[^"]*"', page) == []
    assert "<b>books" not in page


def test_names_are_escaped_and_kept(tmp_path: Path) -> None:
    page, parsed = page_of(tmp_path / "demo", one_phase())
    assert "<b>books" not in page
    for name in NAMES:
        assert name in parsed.text
    assert page.count("<svg") == 6  # mixture, Pareto, curves, epochs, prediction, compute


def test_answer_comes_first(tmp_path: Path) -> None:
    _, parsed = page_of(tmp_path / "demo", one_phase(gain=0.05))
    text = parsed.text
    answer = text.index("4.9% (±0.8%) lower than uniform")
    assert answer < text.index("11.1% on top of") < text.index("Quality on test text")
    _, parsed = page_of(tmp_path / "demo", one_phase(gain=0.001))
    assert "within the noise: no gain" in parsed.text


def test_a_baseline_at_equal_compute_is_on_the_page(tmp_path: Path) -> None:
    """First in the headline and on the cards, a row of the tables, a point of the picture."""
    result = with_equal_compute(one_phase(gain=0.05), "uniform")
    page, parsed = page_of(tmp_path / "demo", result)
    text = parsed.text
    assert text.index("lower than uniform at equal compute") < text.index("evermix against uniform+compute")
    assert text.index("evermix against uniform+compute") < text.index("evermix against natural")
    assert "+compute: on as many more tokens as what evermix spends on deciding pays for." in text
    (svg,) = pareto_svgs(RunView(result)).values()
    assert svg in page
    assert "uniform+compute" in svg


def test_same_result_same_page(tmp_path: Path) -> None:
    assert page_of(tmp_path / "demo", one_phase())[0] == page_of(tmp_path / "demo", one_phase())[0]
    assert [path.name for path in (tmp_path / "demo").iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(("n_phases", "n_orders"), [(1, 1), (3, 2)])
def test_page_of_phases(tmp_path: Path, n_phases: int, n_orders: int) -> None:
    page, parsed = page_of(tmp_path / "run", phases(n_phases, n_orders))
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?!#)', page.replace("xlink:href", "href"))
    assert "Quality against compute: mean perplexity" in parsed.text
    assert ("Order 2: " in parsed.text) == (n_orders == 2)
    for word in ("Forgetting at the end", "Phase by phase", "Shares of every phase"):
        assert (word in parsed.text) == (n_phases > 1)


def test_what_was_in_one_copy_only_is_on_every_page(tmp_path: Path) -> None:
    """Epochs, cross-checks, predicted against realised with one phase; ceilings, forgetting with several; and why no
    intervals."""
    one = page_of(tmp_path / "one", one_phase())[1].text
    many = page_of(tmp_path / "many", phases())[1].text
    for word in ("epochs", "predicted loss", "No intervals and warnings", "Compute by part", "At most 4 epochs"):
        assert word in one.replace("Compute", "Compute by part") or word in one
    assert "its own predicted objective" in one
    assert "realised loss" in one
    assert "ceiling" in many
    assert "No intervals and warnings: 2 probes leave nothing to resample" in many


def test_page_shows_decisions_sweeps_and_tasks(tmp_path: Path) -> None:
    result = phases(arms={"evermix": 0.0, "oracle": -0.01, "new-arm": 0.1}, accuracy=True)
    text = page_of(tmp_path / "run", result)[1].text
    assert "old 70.0%, 论文 30.0%" in text
    assert "论文 (cap)" in text
    assert "120 MFLOP" in text  # what a decision cost
    assert "Every share that oracle tried" in text
    assert "spelling:accuracy" in text
    assert "Quality against compute: mean accuracy" in text


def test_page_of_a_swarm(tmp_path: Path) -> None:
    text = page_of(tmp_path / "run", swarm(proposal()))[1].text
    for words in ("predicted gain over natural", "31.0–45.0", "Mind this. Do that.", "worker died: signal 9", "quiz:"):
        assert words in text


def test_running_project_shows_what_there_is(tmp_path: Path) -> None:
    project = tmp_path / "running"
    ledger = Ledger(project / "ledger.sqlite")
    ledger.append("recipe", "a", {"seed": 3, "training": {"tokens": 1000}, "arms": ["evermix", "natural"]})
    ledger.append("corpus", "b", {"domains": [{"name": name, "train_n_tokens": 500} for name in NAMES]})
    assert "Not finished" in page_of(project, None)[1].text
    made = one_phase().decisions[0].model_copy(update={"realised_loss_nats": None, "realised_objective": None})
    ledger.append("decision", "c", made.model_dump(mode="json"))
    page, parsed = page_of(project, None)
    assert "still running" in parsed.text
    assert "Decision of arm evermix at 40% of pretraining" in parsed.text
    assert page.count("<svg") == 1


def test_no_project(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="must exist"):
        em.report(tmp_path / "absent")
    with pytest.raises(ProjectError, match="neither ledger nor result"):
        em.report(tmp_path)
    (tmp_path / "result.json").write_text("{", encoding="utf-8")
    with pytest.raises(ProjectError, match=r"result\.json: must be valid JSON"):
        em.report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_project_of_another_evermix_is_refused(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps({"evermix_version": "0.4.0", "lives": {}}), encoding="utf-8")
    for verb in (em.report, em.status):
        with pytest.raises(ProjectError, match=r"of another evermix.*none \(evermix 0\.4\.0\)"):
            verb(tmp_path)
    (tmp_path / "result.json").unlink()
    Ledger(tmp_path / "ledger.sqlite").append("stage-segment", "s", {"label": "base"})
    for verb in (em.report, em.status, em.log):
        with pytest.raises(ProjectError, match=r"entry 1 is of one before 0\.5"):
            verb(tmp_path)


def test_an_entry_of_another_shape_is_named(tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger.sqlite").append("decision", "d", {"mixture": {"web": 1.0}})
    with pytest.raises(ProjectError, match=r"ledger entry 1 \(decision\): arm"):
        em.log(tmp_path)


def test_an_arm_that_is_far_off_is_named_with_its_value() -> None:
    view = RunView(phases(arms={"evermix": -0.06, "uniform": 0.0, "retrain": -0.05, "naive": 2.5}))
    (svg,) = pareto_svgs(view).values()
    value = view.objective.text(view.mean("naive", view.objective).value)
    assert f"naive ({value}, above)" in svg
    assert "evermix (" not in svg


@pytest.mark.parametrize(
    ("content", "names"),
    [(phases(2, arms={"evermix": 0.0}, accuracy=True), ["pareto", "pareto-accuracy"]), (one_phase(), ["pareto"])],
)
def test_the_picture_can_always_be_drawn(tmp_path: Path, content: RunResult, names: list[str]) -> None:
    written = pareto_files(content, tmp_path)
    assert [path.name for path in written] == [f"{name}.{kind}" for name in names for kind in ("svg", "png")]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written if path.suffix == ".png")


def test_the_room_reads_fields_not_keys() -> None:
    asked = [
        f"{path.name}: {line}"
        for path in ROOM.glob("*.py")
        for line in path.read_text().splitlines()
        if '.get("' in line
    ]
    assert asked == []
