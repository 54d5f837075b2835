"""Arm lora-merge: the merged checkpoint against W + sum of (alpha / r) w_i B_i A_i by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from evermix.errors import ConvergenceError
from evermix.ledger import Ledger
from evermix.lifecycle.arms.lora_merge import adapter_weights
from evermix.results import Decision, PhaseResult, ProbeRecord, RunResult

Rows = dict[str, tuple[PhaseResult, ...]]


def decision(Q: list[list[float]], p: list[float]) -> Decision:
    names = [f"component {j}" for j in range(len(p))]
    shares = dict(zip(names, p, strict=True))
    return Decision(
        arm="lora-merge",
        phase="code",
        label="before code",
        evidence="probes",
        mode="probe-law",
        shares=shares,
        mixture=shares,
        probes={
            f"probe {i}": ProbeRecord(shares=dict(zip(names, row, strict=True)), loss_nats={})
            for i, row in enumerate(Q)
        },
        new=tuple(names[-1:]),
    )


@given(st.floats(0, 1))
def test_between_two_probes_the_weights_are_those_of_the_line(p: float) -> None:
    w = adapter_weights(decision([[0.9, 0.1], [0.1, 0.9]], [1 - p, p]))
    assert w == pytest.approx([1 - (p - 0.1) / 0.8, (p - 0.1) / 0.8])


def test_with_more_probes_than_components_the_effective_mixture_is_the_decided_one() -> None:
    Q = [[0.5, 0.3, 0.2], [0.95, 0.03, 0.02], [0.05, 0.93, 0.02], [0.05, 0.03, 0.92]]
    w = adapter_weights(decision(Q, [0.2, 0.5, 0.3]))
    assert w @ np.array(Q) == pytest.approx([0.2, 0.5, 0.3])
    assert w.sum() == pytest.approx(1)


def test_recomputed_domains_without_probes_keep_their_proportions() -> None:
    Q = [[0.54, 0.36, 0.1], [0.06, 0.04, 0.9]]  # old 0.6 / 0.4, and one new domain at two purities
    w = adapter_weights(decision(Q, [0.2, 0.6, 0.2]))
    assert w @ np.array(Q) == pytest.approx([0.48, 0.32, 0.2])


def test_probes_that_do_not_span_the_mixture_are_refused() -> None:
    with pytest.raises(ConvergenceError, match="span"):
        adapter_weights(decision([[0.5, 0.5], [0.5, 0.5]], [0.9, 0.1]))


def test_the_model_is_the_base_with_the_probes_updates(lived: tuple[Path, RunResult], rows: Rows) -> None:
    project = lived[0]
    before, row = rows["lora-merge"][:2]
    base = load_file(next((project / "runs" / before.model_id).glob("checkpoint-*")) / "model.safetensors")
    merged = load_file(project / "runs" / row.model_id / "merged" / "model.safetensors")
    w = row.decisions[0].adapter_weights
    assert w is not None
    adapters = {}
    for entry in Ledger(project / "ledger.sqlite").entries("probe"):
        if entry.payload["base"] == before.model_id and entry.payload["component"] in w:
            folder = project / "runs" / f"probe-{entry.key}" / "adapter"
            adapters[entry.payload["component"]] = load_file(folder / "adapter_model.safetensors")
    assert set(adapters) == set(w) == {"code@0.1", "code@0.9"}
    assert merged.keys() == base.keys()
    changed = 0
    for name, weight in base.items():
        expected = weight.clone()
        for component, tensors in adapters.items():
            module = f"base_model.model.{name.removesuffix('.weight')}"
            if f"{module}.lora_A.weight" in tensors:
                down, up = tensors[f"{module}.lora_A.weight"], tensors[f"{module}.lora_B.weight"]
                expected += w[component] * 32 / 4 * up @ down  # alpha 32, rank 4
                changed += 1
        torch.testing.assert_close(merged[name], expected, atol=1e-6, rtol=1e-5)
    assert changed


def test_it_decides_as_evermix_does_and_is_not_trained(rows_anew: Rows) -> None:
    assert rows_anew["lora-merge"][0].model_copy(update={"arm": "evermix"}) == rows_anew["evermix"][0]
    evermix, merged = rows_anew["evermix"][1], rows_anew["lora-merge"][1]
    assert merged.mixture == pytest.approx(evermix.mixture)
    assert set(merged.compute.by_part) == {"probes", "evaluation"}
    assert merged.compute.by_part["probes"] == evermix.compute.by_part["probes"]


def test_it_has_no_trunk(rows: Rows, rows_anew: Rows) -> None:
    """A merged model is not trained on: it stands on one whose rate has decayed, whatever the recipe says."""
    on, off = ([(row.model_id, row.per_domain, row.record) for row in each["lora-merge"]] for each in (rows, rows_anew))
    assert on == off


def test_the_next_phase_knows_what_the_probes_read(rows: Rows) -> None:
    code = rows["lora-merge"][1].mixture["code"]
    read = 20 + 2 * 5  # steps of the pretraining and of two probes of five steps
    assert rows["lora-merge"][2].decisions[0].old == pytest.approx(
        {"prose": 1 - 10 * code / read, "code": 10 * code / read, "noise": 0}
    )
