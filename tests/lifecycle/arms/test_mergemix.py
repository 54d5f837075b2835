"""Arm mergemix: its candidates against points by hand, and its choice and compute against its own record."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from evermix.lifecycle.evidence import EVIDENCE
from evermix.lifecycle.evidence.merges import MergesMeasured
from evermix.lifecycle.history import DataHistory
from evermix.lifecycle.state import ModelState
from evermix.observations import Observations
from evermix.results import Compute, PhaseResult, RunResult
from tests.lifecycle.arms.conftest import Make, opened

Rows = dict[str, tuple[PhaseResult, ...]]
Floats = npt.NDArray[np.float64]


def test_candidates_lie_evenly_between_old_and_new(rows: Rows) -> None:
    (decision,) = rows["mergemix"][1].decisions
    middles = [(k + 0.5) / 12 for k in range(12)]
    assert [shares["code"] for shares, _ in decision.candidates] == pytest.approx(middles)
    assert [shares["old"] for shares, _ in decision.candidates] == pytest.approx(middles[::-1])


def test_the_optimum_of_the_merges_law_is_decided(life: Make, tmp_path: Path) -> None:
    """Merges whose losses follow a log-linear law: against a search of the line by the law that was planted."""
    content = life(tmp_path / "project", arms=["mergemix"])
    context = opened(content | {"decision": {"prior": "half-new"}})
    base, phase = context.orders[0][:2]
    history = DataHistory(context.rows).then(context.over_all(context.named_mixture(base)), base.n_rows)
    state = ModelState("base", None, history)
    request = EVIDENCE["merges"].request(context, state, (base, phase), "mergemix")
    assert request is not None
    components = request.components.components

    def losses(shares: Floats) -> Floats:  # of prose and code, by shares of old and code
        return np.exp([0.1, -0.2]) + np.exp(shares @ np.array([[-1.1, 0.4], [0.5, -1.2]]))

    line = (np.arange(12) + 0.5) / 12
    shares = np.column_stack([1 - line, line])
    runs = Observations(components, shares, phase.domains, losses(shares))
    decision = MergesMeasured(runs, Compute()).conclude(context, state, request)
    points = np.column_stack([1 - (fine := np.linspace(0.01, 0.99, 9801)), fine])
    assert request.prior.as_dict == pytest.approx({"prose": 0.5, "code": 0.5})
    assert decision.prior == pytest.approx({"old": 0.5, "code": 0.5})
    assert decision.kl_weight is not None
    cost = np.exp(losses(points)).mean(axis=1) + decision.kl_weight * (points * np.log(points / 0.5)).sum(axis=1)
    assert decision.shares["code"] == pytest.approx(fine[cost.argmin()], abs=0.01)
    assert abs(decision.shares["code"] - line[np.exp(losses(shares)).mean(axis=1).argmin()]) > 0.01


def test_what_is_decided_is_trained_on(rows: Rows) -> None:
    for row in rows["mergemix"][1:]:
        assert row.decisions[0].mixture == pytest.approx(row.mixture)
        assert row.decisions[0].mode == "log-linear"


def test_mixtures_of_later_phases_keep_the_proportions_of_what_was_learnt(rows: Rows) -> None:
    second, third = rows["mergemix"][1:]
    spent = {"prose": 20 + 10 * second.mixture["prose"], "code": 10 * second.mixture["code"]}
    shares = third.decisions[0].shares
    assert third.mixture == pytest.approx(
        {**{name: shares["old"] * n / 30 for name, n in spent.items()}, "noise": shares["noise"]}
    )


def test_compute_by_part(lived: tuple[Path, RunResult], rows: Rows) -> None:
    n, phase = n_parameters(lived[1]), 10 * 4 * 32
    for row, n_domains, trunk in zip(rows["mergemix"][1:], (2, 3), (10, 8), strict=True):  # steps of ten
        parts = row.compute.by_part
        assert parts["specialists"].flops == 6 * n * 2 * phase
        assert parts["training"].flops == 6 * n * trunk * 4 * 32
        assert parts["decay"].flops == 6 * n * 2 * 4 * 32
        assert parts["evaluation"].n_tokens == 12 * n_domains * 8 * 32  # 8 sequences of 32 tokens each
        assert parts["evaluation"].flops == 2 * n * parts["evaluation"].n_tokens
        assert set(parts) == {"specialists", "evaluation", "training", "decay"}


def test_the_specialist_of_one_new_domain_is_the_naive_arm(lived: tuple[Path, RunResult], rows: Rows) -> None:
    segments = [
        path for path in (lived[0] / "runs").glob("*/done.json") if path.parent.name == rows["naive"][1].model_id
    ]
    assert len(segments) == 1  # trained once for both


def n_parameters(result: RunResult) -> int:
    """Those that FLOPs are counted with."""
    return result.model.non_embedding + result.model.output_projection
