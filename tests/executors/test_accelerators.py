"""Each worker sees one accelerator."""

from __future__ import annotations

from pathlib import Path

import pytest

from evermix.executors import Job, LocalProcesses
from evermix.executors.accelerators import one_of, visible_accelerators


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
