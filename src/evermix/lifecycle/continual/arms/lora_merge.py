"""Arm `lora-merge`: the probes of arm `evermix`, merged at the mixture it decides, are the stage's model.

No training follows the decision. With Q the mixtures of the probes over components (one row each) and p the decided
shares, the adapters' weights are the ones of least norm with

    Q^T w = p        (so that sum_i w_i = 1, for the rows of Q and p sum to 1)

and the model is theta + sum_i w_i Delta_i (METHODS 2, baselines). Its life goes on by the rows that the probes were
trained on, booked at the decided mixture. Where nothing is decided, as in a pretraining, it does what `evermix` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.errors import ConvergenceError, ProjectError
from evermix.ledger import content_hash
from evermix.lifecycle.continual.arms.base import Outcome
from evermix.lifecycle.continual.arms.evermix import evermix
from evermix.lifecycle.continual.bench import LifeBench
from evermix.lifecycle.continual.deciding import decide_stage
from evermix.lifecycle.continual.learner import Learner
from evermix.measure.adapters import Adapter
from evermix.measure.interpolation import Interpolation
from evermix.measure.merging import save_interpolated
from evermix.models.loading import load_model
from evermix.recipe.timeline import Stage

Floats = npt.NDArray[np.float64]
_CHECKPOINT = "merged"


def lora_merge(bench: LifeBench, learner: Learner, stages: Sequence[Stage]) -> Outcome:
    """Decide the last stage's mixture as `evermix` does, and merge the probes at it."""
    stage = stages[-1]
    decision = None if stage.phase.kind == "pretrain" else decide_stage(bench, learner, stage)
    if decision is None:
        return evermix(bench, learner, stages)
    probes = _probes(bench, learner, decision.record)
    w = adapter_weights(decision.record)
    run_id = content_hash(["lora-merge", learner.run_id, [p.run_id for p in probes], [x.hex() for x in w.tolist()]])
    checkpoint = bench.project.run_folder(run_id) / _CHECKPOINT
    if not checkpoint.exists():
        _merge(learner, [probe.adapter for probe in probes], w, checkpoint)
    n_rows = sum(probe.n_steps for probe in probes) * stage.batch_rows
    merged = Learner(run_id, checkpoint, learner.life.then(decision.mixture, n_rows))
    names = decision.record["probes"]
    record = decision.record | {"adapter_weights": dict(zip(names, w.tolist(), strict=True))}
    return Outcome(merged, checkpoint, run_id, decision.mixture, decision.costs, record)


def adapter_weights(record: Mapping[str, Any]) -> Floats:
    """Weights of the probes of a decision, shape (probes,), whose effective mixture is the decided one.

    Args:
        record: of the decision, with `probes` (name -> shares of components) and `shares`.

    Raises:
        ConvergenceError: if the probes do not span the decided mixture.
    """
    names = list(record["shares"])
    p = np.array([record["shares"][name] for name in names])
    Q = np.array([[probe["shares"][name] for name in names] for probe in record["probes"].values()])
    w: Floats = np.linalg.lstsq(Q.T, p, rcond=None)[0]
    if not np.allclose(Q.T @ w, p, atol=1e-9):
        raise ConvergenceError(
            "probes to be merged must span the decided mixture",
            received=f"{len(Q)} probes of {len(names)} components",
            hint="raise replay.purities, so that every probe is mostly of its own component",
        )
    return w


@dataclass(frozen=True)
class _Probe:
    """A finished probe of the decision: its id, its adapter, and for how many steps it was trained."""

    run_id: str
    adapter: Path
    n_steps: int


def _probes(bench: LifeBench, learner: Learner, record: Mapping[str, Any]) -> list[_Probe]:
    """The probes that a decision stands on, in its order; the ledger knows them by base, component and losses."""
    entries = [entry for entry in bench.project.ledger.entries("probe") if entry.payload["base"] == learner.run_id]
    found: list[_Probe] = []
    for name, told in record["probes"].items():
        of_it = (e for e in entries if e.payload["component"] == name and e.payload["loss_nats"] == told["loss_nats"])
        entry = next(of_it, None)
        if entry is None:
            raise ProjectError(
                f"{bench.project.folder}: the ledger must hold probe '{name}' of the decision before {record['stage']}",
                hint="take another project folder",
            )
        folder = bench.project.run_folder(f"probe-{entry.key}")
        found.append(_Probe(entry.key, folder / "adapter", entry.payload["steps"]))
    return found


def _merge(learner: Learner, adapters: Sequence[Path], w: Floats, checkpoint: Path) -> None:
    assert learner.checkpoint is not None  # it was probed
    interpolation = Interpolation(load_model(learner.checkpoint), [Adapter.load(folder) for folder in adapters])
    save_interpolated(interpolation, w, checkpoint)
