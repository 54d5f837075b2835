"""Inspection: metrics that say nothing are left out, and what a reader of the numbers should know is found."""

from __future__ import annotations

import re

import numpy as np

from evermix.errors import ObservationError
from evermix.observations.findings import Finding, LeftOut
from evermix.observations.replicates import groups_of_equal_rows
from evermix.observations.table import Observations

_HIGHER_IS_BETTER = frozenset(("acc", "accuracy", "f1", "em", "bleu", "rouge", "mcc", "auc", "winrate"))


def inspect(observations: Observations, where: str) -> tuple[Observations, list[LeftOut], list[Finding]]:
    """Observations without metrics that no law can learn and runs that are then without any; left out; findings.

    Args:
        observations: as read.
        where: the source, for messages.

    Raises:
        ObservationError: if no metric remains.
    """
    left_out: list[LeftOut] = []
    while True:
        reasons = _mute_metrics(observations)
        kept = [name for name in observations.metrics if name not in reasons]
        left_out += [LeftOut("metric", name, reason) for name, reason in reasons.items()]
        if not kept:
            raise ObservationError(
                f"{where}: at least one metric must differ between runs, of {observations.n_runs} that were read",
                received="; ".join(f"{name}: {reason}" for name, reason in list(reasons.items())[:5]),
            )
        observations = observations.subset(metrics=kept)
        measured = ~np.isnan(observations.values).all(axis=1)
        if measured.all():
            return observations, left_out, _findings(observations)
        ids = np.array(observations.run_ids, dtype=object)[~measured]
        left_out += [LeftOut("run", str(name), "it has no metric at all but those left out") for name in ids]
        observations = observations.subset(runs=measured)


def _mute_metrics(observations: Observations) -> dict[str, str]:
    reasons: dict[str, str] = {}
    for i, name in enumerate(observations.metrics):
        column = observations.values[:, i]
        known = column[~np.isnan(column)]
        if not len(known):
            reasons[name] = "it has no value in any run"
        elif len(known) == 1:
            reasons[name] = "it has a value in one run only"
        elif known.min() == known.max():
            reasons[name] = f"it is {known[0]:.6g} in every run: no law can learn from a constant"
    return reasons


def _findings(observations: Observations) -> list[Finding]:
    found = [
        *_missing_cells(observations),
        *_never_sampled(observations),
        *_too_few_runs(observations),
        *_replicates(observations),
    ]
    doubtful = [
        name
        for name in observations.metrics
        if name not in observations.maximised and _HIGHER_IS_BETTER & set(re.split(r"[^a-z0-9]+", name.lower()))
    ]
    if doubtful:
        detail = f"{', '.join(doubtful)}: taken as lower is better; if higher is better, name them in maximise"
        found.append(Finding("direction", detail))
    return found


def _missing_cells(observations: Observations) -> list[Finding]:
    missing = np.isnan(observations.values).sum(axis=0)
    if not missing.any():
        return []
    each = ", ".join(f"{observations.metrics[i]} {missing[i]}" for i in np.flatnonzero(missing)[:8])
    more = ", ..." if (missing > 0).sum() > 8 else ""
    return [
        Finding("missing cells", f"{missing.sum()} of {observations.values.size} cells have no value: {each}{more}")
    ]


def _never_sampled(observations: Observations) -> list[Finding]:
    live = set(observations.live_domains)
    dead = [name for name in observations.domains.names if name not in live]
    return (
        [Finding("never sampled", f"no run was trained on {', '.join(dead)}: nothing is known of them")] if dead else []
    )


def _too_few_runs(observations: Observations) -> list[Finding]:
    n_live = len(observations.live_domains)
    repeated = sum(len(group) - 1 for group in groups_of_equal_rows(observations.weights))
    distinct = observations.n_runs - repeated
    if distinct >= n_live + 1:
        return []
    detail = (
        f"{distinct} distinct mixtures for {n_live} sampled domains: a law with one coefficient per domain has "
        f"{n_live + 1} parameters and needs {n_live + 1 - distinct} more"
    )
    return [Finding("too few runs", detail)]


def _replicates(observations: Observations) -> list[Finding]:
    groups = observations.replicates
    if not groups:
        return []
    detail = f"mixtures run more than once: {len(groups)}, with {sum(map(len, groups))} runs; they tell the noise"
    return [Finding("replicates", detail)]
