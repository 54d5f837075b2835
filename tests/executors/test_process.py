"""What a worker may use of the machine: cores within affinity and container, one accelerator of several."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from evermix.executors import Job, LocalProcesses
from evermix.executors.process import available_cores, one_of, visible_accelerators

ALL = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000", ALL),
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("160000 100000", min(ALL, 2)),
        ("99900000 100000", ALL),
        ("", ALL),
    ],
)
def test_version_2(tmp_path: Path, quota: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert available_cores(tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", ALL), ("100000", 1)])
def test_version_1(tmp_path: Path, quota: str, cores: int) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert available_cores(tmp_path) == cores


def test_no_quota_at_all(tmp_path: Path) -> None:
    assert available_cores(tmp_path) == ALL


def test_listed_ones_come_before_those_of_the_driver(tmp_path: Path) -> None:
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / name).mkdir()
    assert visible_accelerators({}, tmp_path) == ("0", "1")
    assert visible_accelerators({"CUDA_VISIBLE_DEVICES": "3, GPU-5f"}, tmp_path) == ("3", "GPU-5f")
    assert visible_accelerators({"CUDA_VISIBLE_DEVICES": ""}, tmp_path) == ()
    assert visible_accelerators({}, tmp_path / "none") == ()


def test_places_share_them_in_turn() -> None:
    assert [one_of(("a", "b"), place)["CUDA_VISIBLE_DEVICES"] for place in range(5)] == ["a", "b", "a", "b", "a"]
    assert one_of(("a",), 3) == one_of((), 0) == {}


def test_workers_at_once_see_different_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    call = f"{__package__}.jobs:tell_accelerator"
    jobs = [
        Job(str(k), call, {"marker": str(tmp_path / str(k)), "others": [str(tmp_path / str(1 - k))]}, tmp_path / str(k))
        for k in range(2)
    ]
    assert LocalProcesses(2, logs=tmp_path / "logs").run(jobs) == []
    assert {(tmp_path / str(k)).read_text() for k in range(2)} == {"4", "7"}
