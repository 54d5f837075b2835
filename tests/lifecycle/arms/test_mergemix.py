"""Arm mergemix: its candidates against points by hand, and its choice and compute against its own record."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evermix.results import PhaseResult, RunResult

Rows = dict[str, tuple[PhaseResult, ...]]


def test_candidates_lie_evenly_between_old_and_new(rows: Rows) -> None:
    (decision,) = rows["mergemix"][1].decisions
    middles = [(k + 0.5) / 12 for k in range(12)]
    assert [shares["code"] for shares, _ in decision.candidates] == pytest.approx(middles)
    assert [shares["old"] for shares, _ in decision.candidates] == pytest.approx(middles[::-1])


def test_the_phase_is_trained_on_the_best_merge_expanded_to_its_leaves(rows: Rows) -> None:
    for row in rows["mergemix"][1:]:
        (decision,) = row.decisions
        best = decision.candidates[int(np.argmin([value for _, value in decision.candidates]))][0]
        assert decision.shares == pytest.approx(best)
        assert decision.mixture == pytest.approx(row.mixture)
    second, third = rows["mergemix"][1:]
    spent = {"prose": 20 + 10 * second.mixture["prose"], "code": 10 * second.mixture["code"]}
    shares = third.decisions[0].shares
    assert third.mixture == pytest.approx(
        {**{name: shares["old"] * n / 30 for name, n in spent.items()}, "noise": shares["noise"]}
    )


def test_compute_by_part(lived: tuple[Path, RunResult], rows: Rows) -> None:
    n, phase = n_parameters(lived[1]), 10 * 4 * 32
    for row, n_domains in zip(rows["mergemix"][1:], (2, 3), strict=True):
        parts = row.compute.by_part
        assert parts["specialists"].flops == 6 * n * 2 * phase
        assert parts["training"].flops == 6 * n * phase
        assert parts["evaluation"].n_tokens == 12 * n_domains * 8 * 32  # 8 sequences of 32 tokens each
        assert parts["evaluation"].flops == 2 * n * parts["evaluation"].n_tokens
        assert set(parts) == {"specialists", "evaluation", "training"}


def test_the_specialist_of_one_new_domain_is_the_naive_arm(lived: tuple[Path, RunResult], rows: Rows) -> None:
    segments = [
        path for path in (lived[0] / "runs").glob("*/done.json") if path.parent.name == rows["naive"][1].model_id
    ]
    assert len(segments) == 1  # trained once for both


def n_parameters(result: RunResult) -> int:
    """Those that FLOPs are counted with."""
    return result.model.non_embedding + result.model.output_projection
