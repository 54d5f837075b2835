"""Arm mergemix: its candidates against points by hand, and its choice and costs against its own record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

Rows = dict[str, list[dict[str, Any]]]


def test_candidates_lie_evenly_between_old_and_new(rows: Rows) -> None:
    told = rows["mergemix"][1]["told"]
    middles = [(k + 0.5) / 12 for k in range(12)]
    assert [candidate["code"] for candidate in told["candidates"]] == pytest.approx(middles)
    assert [candidate["old"] for candidate in told["candidates"]] == pytest.approx(middles[::-1])


def test_the_stage_is_trained_on_the_best_merge_expanded_to_its_leaves(rows: Rows) -> None:
    for row in rows["mergemix"][1:]:
        told = row["told"]
        best = told["candidates"][int(np.argmin(told["objective_values"]))]
        assert told["shares"] == pytest.approx(best)
    second, third = rows["mergemix"][1:]
    spent = {"prose": 20 + 10 * second["mixture"]["prose"], "code": 10 * second["mixture"]["code"]}
    old = third["told"]["shares"]["old"]
    assert third["mixture"] == pytest.approx(
        {**{name: old * n / 30 for name, n in spent.items()}, "noise": third["told"]["shares"]["noise"]}
    )


def test_costs_by_part(lived: tuple[Path, dict[str, Any]], rows: Rows) -> None:
    n, stage = sum(lived[1]["n_parameters"].values()), 10 * 4 * 32
    for row, n_domains in zip(rows["mergemix"][1:], (2, 3), strict=True):
        parts = row["cost"]["by_part"]
        assert parts["specialists"]["flops"] == 6 * n * 2 * stage
        assert parts["training"]["flops"] == 6 * n * stage
        assert parts["evaluation"]["n_tokens"] == 12 * n_domains * 8 * 32  # 8 sequences of 32 tokens each
        assert parts["evaluation"]["flops"] == 2 * n * parts["evaluation"]["n_tokens"]
        assert set(parts) == {"specialists", "evaluation", "training"}


def test_the_specialist_of_one_new_domain_is_the_naive_arm(lived: tuple[Path, dict[str, Any]], rows: Rows) -> None:
    segments = [
        path for path in (lived[0] / "runs").glob("*/done.json") if path.parent.name == rows["naive"][1]["model"]
    ]
    assert len(segments) == 1  # trained once for both
