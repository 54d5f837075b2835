"""A list of jobs that is not in order is refused before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evermix.errors import ExecutorError
from evermix.executors import Job, LocalProcesses
from evermix.executors.job import log_name, one_line


def refused(tmp_path: Path, jobs: list[Job]) -> str:
    with pytest.raises(ExecutorError) as caught:
        LocalProcesses(1, logs=tmp_path / "logs").run(jobs)
    assert not (tmp_path / "logs").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_keys_differ(tmp_path: Path) -> None:
    jobs = [Job("a", "m:f", {}, tmp_path / "1"), Job("a", "m:f", {}, tmp_path / "2")]
    assert refused(tmp_path, jobs) == "the jobs of one run must have different keys, got 'a'"


def test_markers_differ(tmp_path: Path) -> None:
    jobs = [Job("a", "m:f", {}, tmp_path / "1"), Job("b", "m:f", {}, tmp_path / "1")]
    assert refused(tmp_path, jobs).startswith("jobs a and b must not share the marker")


@pytest.mark.parametrize("value", [Path("x"), float("nan"), {1, 2}, b"bytes"])
def test_arguments_are_json(tmp_path: Path, value: object) -> None:
    good = Job("good", "m:f", {}, tmp_path / "0")
    assert refused(tmp_path, [good, Job("bad", "m:f", {"x": value}, tmp_path / "1")]).startswith("job bad: arguments")


@pytest.mark.parametrize("call", ["", "module", "module.function", ":f", "m:", "m:f.g", "a b:f", "1m:f", "m:f()"])
def test_calls_are_checked(call: str) -> None:
    with pytest.raises(ExecutorError, match=r"must read package\.module:function"):
        Job("a", call, {}, Path("done"))


def test_keys_are_not_empty() -> None:
    with pytest.raises(ExecutorError, match="must have a key"):
        Job("", "m:f", {}, Path("done"))


@given(st.text(min_size=1))
def test_log_names_are_file_names(key: str) -> None:
    name = log_name(key)
    assert Path(name).name == name
    assert not name.startswith(".")
    assert len(name.encode()) <= 255


def test_plain_keys_name_their_log() -> None:
    assert log_name("run-0012_a.b=c@d,e+f") == "run-0012_a.b=c@d,e+f.log"


@given(st.text())
def test_reasons_are_one_printable_line(message: str) -> None:
    line = one_line(ValueError(message))
    assert line.isprintable()
    assert len(line) <= 500
