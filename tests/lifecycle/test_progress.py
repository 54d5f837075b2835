"""Bars and `status.json`: units, the arm at hand, the time that is left over all."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from evermix.corpus import StoreSettings, TextSource, build_store, train_bpe
from evermix.ledger import Project
from evermix.lifecycle.progress import Reporter, WorkLeft, in_bytes, in_words


@pytest.mark.parametrize(
    ("n", "text"), [(0, "0 bytes"), (999, "999 bytes"), (21_500_000, "21.5 MB"), (3e9, "3.0 GB"), (1500, "1.5 kB")]
)
def test_bytes_have_a_unit(n: float, text: str) -> None:
    assert in_bytes(n) == text


def test_times_are_rounded_to_what_is_known() -> None:
    assert [in_words(s) for s in (3, 610, 7200)] == ["under a minute", "about 10 min", "about 2.0 h"]


def test_what_was_found_finished_says_nothing_of_the_speed() -> None:
    work = WorkLeft(total=400.0)
    assert work.seconds_left(0) is None
    work.begin(100, now=0)
    work.end(now=0.5)  # found finished
    work.begin(100, now=1)
    assert work.seconds_left(2) is None
    work.reach(50, 50)
    assert work.seconds_left(11) == pytest.approx(250 * 10 / 50)
    work.reach(500, 450)  # more than was expected
    work.end(now=21)
    assert (work.behind, work.worked, work.seconds) == (200, 500, 20)
    work.begin(200, now=30)
    assert work.seconds_left(35) == pytest.approx(200 * 20 / 500)
    work.reach(100, 0)  # half of it was found finished
    assert (work.share, work.seconds_left(40)) == (0.75, pytest.approx(100 * 20 / 500))
    work.reach(150, 50)
    assert work.seconds_left(40) == pytest.approx(50 * 30 / 550)
    work.end(now=50)
    assert (work.behind, work.worked, work.share) == (400, 600, None)


def test_bars_and_status_tell_units_arm_and_time_left(tmp_path: Path) -> None:
    project, shown = Project(tmp_path), io.StringIO()
    reporter = Reporter(project, Console(file=shown, width=160))
    with reporter.part("corpus", "tokenising", None, unit="bytes") as report:
        report(0)
        report(21_500_000)
    with reporter.part("corpus", "tokenising", None, unit="bytes") as report:
        report(10_000_000, 40_000_000)
    reporter.expect(3000)
    with (
        reporter.stage("arm 2 of 3 (evermix), phase 1 of 2 (web)", 1000),
        reporter.part("training", "web: training", 100, tokens_per_step=10) as report,
    ):
        report._written = -100.0  # the next report is written down
        report(50)
    lines = [line.rstrip() for line in shown.getvalue().splitlines()]
    assert "?" not in shown.getvalue()
    assert "21.5 MB" in lines[0]
    assert "10.0 MB of 40.0 MB" in lines[1]
    assert "arm 2 of 3 (evermix): web: training" in lines[2]
    assert "50 of 100 steps" in lines[2]
    assert "in all" in lines[2]
    status = json.loads((tmp_path / "status.json").read_text())
    assert (status["place"], status["unit"], status["step"]) == (
        "arm 2 of 3 (evermix), phase 1 of 2 (web)",
        "steps",
        50,
    )
    assert status["share_of_run"] == pytest.approx(500 / 3000, abs=1e-4)
    assert status["seconds_left"] >= 0


def test_the_bytes_to_tokenise_are_known_before_the_first_is(tmp_path: Path) -> None:
    texts = {name: [f"{name} {k} " + "word " * 20 for k in range(60)] for name in ("a", "b", "c")}
    for name, lines in texts.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(lines))
    sources = [TextSource(name, (f"{name}.txt",), documents="line") for name in texts]
    events = []
    build_store(sources, train_bpe(texts, 300), tmp_path / "s", StoreSettings(16, 0.2, base=tmp_path), events.append)
    first = next(k for k, event in enumerate(events) if event.stage == "tokenising")
    known = {event.domain: event.total_bytes for event in events[:first] if event.total_bytes is not None}
    assert known == {name: sum(len(line.encode()) for line in lines) for name, lines in texts.items()}
