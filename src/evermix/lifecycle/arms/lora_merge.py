"""Arm `lora-merge`: the probes of arm `evermix`, merged at the mixture it decides, are the phase's model.

No training follows the decision. With Q the mixtures of the probes over components (one row each) and p the decided
shares, the adapters' weights are the ones of least norm with

    Q^T w = p        (so that sum_i w_i = 1, for the rows of Q and p sum to 1)

and the model is theta + sum_i w_i Delta_i (METHODS 2, baselines). A decision may give recomputed domains shares that no
probe of its own stands for: then only the shares of the new domains are kept, and the rest in the proportions so far.
The model's history goes on by the rows that the probes were trained on, booked at the effective mixture. Where nothing
is decided, as in a pretraining, the arm does what `evermix` does without a trunk: a merged model is not trained on, so
that it must stand on one whose rate has decayed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.errors import ConvergenceError, ProjectError
from evermix.executors.job import CachedJob
from evermix.ledger import content_hash
from evermix.lifecycle.arms.base import Arm, PhaseOutcome
from evermix.lifecycle.arms.decided import Evermix, decide_before
from evermix.lifecycle.context import RunContext
from evermix.lifecycle.evidence.probes import ProbeEvidence
from evermix.lifecycle.state import ModelState
from evermix.lifecycle.work import Work
from evermix.measure.interpolation import Adapter, Interpolation
from evermix.measure.merging import save_interpolated
from evermix.measure.probes import probe_job
from evermix.mixture import Mixture
from evermix.models.loading import load_model
from evermix.recipe import Recipe
from evermix.recipe.phases import Phase
from evermix.results import Decision

Floats = npt.NDArray[np.float64]
_CHECKPOINT = "merged"
_ROUNDING = 1e-12
_PROBES = ProbeEvidence(to_be_merged=True)


class LoraMerge(Arm):
    """Decide as `evermix` does by probes, and merge the probes at the decided mixture."""

    name, label, colour, mark = "lora-merge", "LoRA merge", "#7E7BD9", "<"

    def run(self, context: RunContext, state: ModelState, phases: Sequence[Phase]) -> PhaseOutcome:
        """Decide the last phase's mixture, and merge the probes at it."""
        phase = phases[-1]
        is_pretraining = phase.recipe.kind == "pretrain"
        decision = None if is_pretraining else decide_before(context, state, phases, self.name, _PROBES)
        if decision is None:
            return Evermix().run(context, state, (*phases[:-1], phase.by_itself))
        probes = _probes(context, state, decision)
        w = adapter_weights(decision)
        seen = [[name, probe.loss_nats] for name, probe in decision.probes.items()]  # no ids: later phases change them
        run_id = content_hash(["lora-merge", state.run_id, seen, [share.hex() for share in w.tolist()]])
        job = CachedJob(context.project.run_folder(run_id), ("adapter_weights",))

        def merge(folder: Path) -> dict[str, Any]:
            if not all(probe_job(probe.adapter.parent).is_whole() for probe in probes):
                _train_again(context, state, phases)
            adapters = [Adapter.load(probe.adapter) for probe in probes]
            save_interpolated(Interpolation(load_model(state.trained), adapters), w, folder / _CHECKPOINT)
            return {"adapter_weights": w.tolist()}

        job.run(merge)
        checkpoint = job.folder / _CHECKPOINT
        n_rows = sum(probe.n_steps for probe in probes) * phase.batch_rows
        effective = w @ np.array([probe.trained_on.weights for probe in probes])
        mixture = Mixture.normalised(context.rows, np.where(effective < _ROUNDING, 0.0, effective))
        merged = ModelState(run_id, checkpoint, state.history.then(mixture, n_rows))
        weights = dict(zip(decision.probes, w.tolist(), strict=True))
        told = decision.model_copy(update={"adapter_weights": weights})
        first_row = state.history.n_rows
        return PhaseOutcome(merged, merged, mixture, decision.compute, first_row, (told,))

    def estimate(self, recipe: Recipe, phases: Sequence[Phase]) -> list[Work]:
        """The probes are the training, where there are any before a phase."""
        if phases[-1].recipe.kind != "pretrain":
            work = _PROBES.estimate(recipe, phases[-1])
            if work:
                return work
        return Evermix().estimate(recipe, (*phases[:-1], phases[-1].by_itself))


def adapter_weights(decision: Decision) -> Floats:
    """Weights of the probes of a decision, shape (probes,), whose effective mixture is the decided one.

    Where the probes cannot give it, the one with the same shares of the new domains and one share for all the others.

    Raises:
        ConvergenceError: if the probes do not span even that.
    """
    names = list(decision.shares)
    p = np.array([decision.shares[name] for name in names])
    Q = np.array([[probe.shares[name] for name in names] for probe in decision.probes.values()])
    others = np.array([float(name not in decision.new) for name in names])
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


def _train_again(context: RunContext, state: ModelState, phases: Sequence[Phase]) -> None:
    """The probes of a decision that are damaged; it stands, for they come out as they were."""
    request = _PROBES.request(context, state, phases, LoraMerge.name)
    assert request is not None  # there is a decision
    _PROBES.measure(context, state, request)


@dataclass(frozen=True)
class _Probe:
    """A finished probe of the decision: its adapter, what it was trained on, and for how many steps."""

    adapter: Path
    trained_on: Mixture
    n_steps: int


def _probes(context: RunContext, state: ModelState, decision: Decision) -> list[_Probe]:
    """The probes that a decision stands on, in its order; the ledger knows them by base, component and losses."""
    entries = [entry for entry in context.project.ledger.entries("probe") if entry.payload["base"] == state.run_id]
    found: list[_Probe] = []
    for name, told in decision.probes.items():
        of_it = (e for e in entries if e.payload["component"] == name and e.payload["loss_nats"] == told.loss_nats)
        entry = next(of_it, None)
        if entry is None:
            raise ProjectError(
                f"{context.project.folder}: the ledger must hold probe '{name}' of the decision before "
                f"{decision.phase}",
                hint="take another project folder",
            )
        trained_on = Mixture.from_dict(context.rows, entry.payload["trained_on"])
        adapter = context.project.run_folder(f"probe-{entry.key}") / "adapter"
        found.append(_Probe(adapter, trained_on, entry.payload["steps"]))
    return found
