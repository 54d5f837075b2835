"""Arm `lora-merge`: the probes of arm `evermix`, merged at the mixture it decides, are the stage's model.

No training follows the decision. With Q the mixtures of the probes over components (one row each) and p the decided
shares, the adapters' weights are the ones of least norm with

    Q^T w = p        (so that sum_i w_i = 1, for the rows of Q and p sum to 1)

and the model is theta + sum_i w_i Delta_i (METHODS 2, baselines). A decision may give released domains shares that no
probe of its own stands for: then only the shares of the new domains are kept, and the rest in the proportions so far.
The model's life goes on by the rows that the probes were trained on, booked at the effective mixture. Where nothing is
decided, as in a pretraining, the arm does what `evermix` does.
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
from evermix.measure.interpolation import Adapter, Interpolation
from evermix.measure.merging import save_interpolated
from evermix.mixture import Mixture
from evermix.models.loading import load_model
from evermix.recipe.timeline import Phase

Floats = npt.NDArray[np.float64]
_CHECKPOINT = "merged"
_ROUNDING = 1e-12


def lora_merge(bench: LifeBench, learner: Learner, stages: Sequence[Phase]) -> Outcome:
    """Decide the last stage's mixture as `evermix` does, and merge the probes at it."""
    stage = stages[-1]
    decision = None if stage.recipe.kind == "pretrain" else decide_stage(bench, learner, stage)
    if decision is None:
        return evermix(bench, learner, stages)
    probes = _probes(bench, learner, decision.record)
    w = adapter_weights(decision.record)
    told = [
        [name, probe["loss_nats"]] for name, probe in decision.record["probes"].items()
    ]  # no ids: later phases change them
    run_id = content_hash(["lora-merge", learner.run_id, told, [share.hex() for share in w.tolist()]])
    checkpoint = bench.project.run_folder(run_id) / _CHECKPOINT
    if not checkpoint.exists():
        _merge(learner, [probe.adapter for probe in probes], w, checkpoint)
    n_rows = sum(probe.n_steps for probe in probes) * stage.batch_rows
    effective = w @ np.array([probe.trained_on.weights for probe in probes])
    mixture = Mixture.normalised(bench.rows, np.where(effective < _ROUNDING, 0.0, effective))
    merged = Learner(run_id, checkpoint, learner.life.then(mixture, n_rows))
    names = decision.record["probes"]
    record = decision.record | {"adapter_weights": dict(zip(names, w.tolist(), strict=True))}
    return Outcome(merged, checkpoint, run_id, mixture, decision.costs, record)


def adapter_weights(record: Mapping[str, Any]) -> Floats:
    """Weights of the probes of a decision, shape (probes,), whose effective mixture is the decided one.

    Where the probes cannot give it, the one with the same shares of the new domains and one share for all the others.

    Args:
        record: of the decision, with `probes` (name -> shares of components), `shares` and `new`.

    Raises:
        ConvergenceError: if the probes do not span even that.
    """
    names = list(record["shares"])
    p = np.array([record["shares"][name] for name in names])
    Q = np.array([[probe["shares"][name] for name in names] for probe in record["probes"].values()])
    others = np.array([float(name not in record["new"]) for name in names])
    totals = np.column_stack([others, *(column for column in np.eye(len(names)) if column @ others == 0)])
    for columns in (np.eye(len(names)), totals):
        w: Floats = np.linalg.lstsq((Q @ columns).T, p @ columns, rcond=None)[0]
        if np.allclose(w @ Q @ columns, p @ columns, atol=1e-9):
            return w
    raise ConvergenceError(
        "probes to be merged must span the shares of the new domains",
        received=f"{len(Q)} probes of {len(names)} components",
        hint="raise replay.purities, so that every probe is mostly of its own component",
    )


@dataclass(frozen=True)
class _Probe:
    """A finished probe of the decision: its adapter, what it was trained on, and for how many steps."""

    adapter: Path
    trained_on: Mixture
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
        trained_on = Mixture.from_dict(bench.rows, entry.payload["trained_on"])
        adapter = bench.project.run_folder(f"probe-{entry.key}") / "adapter"
        found.append(_Probe(adapter, trained_on, entry.payload["steps"]))
    return found


def _merge(learner: Learner, adapters: Sequence[Path], w: Floats, checkpoint: Path) -> None:
    assert learner.checkpoint is not None  # it was probed
    interpolation = Interpolation(load_model(learner.checkpoint), [Adapter.load(folder) for folder in adapters])
    save_interpolated(interpolation, w, checkpoint)
