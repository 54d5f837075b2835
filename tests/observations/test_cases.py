"""Every check says what the documentation says that it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from evermix.errors import ObservationError
from evermix.observations import read_observations
from tests.observations.cases import ERRORS, FINDINGS, LEFT_OUT, Case

PAGE = (Path(__file__).parents[2] / "docs" / "observations.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rows(name: str) -> list[str]:
    """Messages that the page gives for a check."""
    found = [line.split("|")[2].strip().strip("`") for line in PAGE.splitlines() if line.startswith(f"| {name} |")]
    assert found, f"the page must have a row for {name!r}"
    return found


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    ERRORS[name].write(Path("swarm"))
    with pytest.raises(ObservationError) as caught:
        read_observations("swarm", options=ERRORS[name].options)
    message = str(caught.value)
    assert "\n" not in message
    assert any(message.startswith(row) for row in rows(name)), message
    assert "swarm" in message


@pytest.mark.parametrize("name", LEFT_OUT)
def test_left_out(name: str) -> None:
    LEFT_OUT[name].write(Path("swarm"))
    said = [str(item) for item in read_observations("swarm", options=LEFT_OUT[name].options).left_out]
    assert rows(name)[0] in said


@pytest.mark.parametrize("name", FINDINGS)
def test_findings(name: str) -> None:
    FINDINGS[name].write(Path("swarm"))
    said = [str(finding) for finding in read_observations("swarm", options=FINDINGS[name].options).findings]
    assert rows(name)[0] in said


def test_a_sound_swarm_has_nothing_to_say_but_its_columns() -> None:
    Case({}).write(Path("swarm"))
    reading = read_observations("swarm")
    assert reading.left_out == ()
    assert [finding.rule for finding in reading.findings] == ["columns"]
