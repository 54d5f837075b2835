"""What a study appends to its ledger; nothing here trusts that no other process has written meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from evermix.deciding.proposing import AssessedProposal
from evermix.errors import ObservationError, ProjectError
from evermix.mixture import Mixture
from evermix.study.carrying import carry_runs
from evermix.study.records import Asked, Planned, Told
from evermix.study.state import State

_SAME = 1e-9


def positive_shares(mixture: Mixture) -> dict[str, float]:
    """Domain -> share, zeros left out."""
    return {name: share for name, share in mixture.as_dict.items() if share > 0}


def write_ask(state: State, choose: Callable[[int], Planned | None]) -> Asked | None:
    """Append the era's next run, and return it; None if `choose` has none to give.

    Args:
        choose: position, the number of runs that the era has asked for -> the next run. A run that the era has asked
            for already, as another process may have, is passed over.

    Raises:
        ProjectError: if another process has changed the domains meanwhile.
    """
    era, passed_over = state.era.number, 0
    while True:
        if state.era.number != era:
            raise _changed_meanwhile(state)
        planned = choose(len(state.asked_in_era) + passed_over)
        if planned is None:
            return None
        shares = positive_shares(planned.mixture)
        if shares in state.asked_in_era:
            passed_over += 1
            continue
        foretold = None if planned.foretold is None else dict(planned.foretold)
        run_id = f"run-{len(state.asks):04d}"
        if state.ledger.append("ask", run_id, {"era": era, "shares": shares, "predicted": foretold}):
            return Asked(run_id, planned.mixture)
        state = state.again()


def write_tell(state: State, told: Told, *, mixture_given: bool) -> None:
    """Append a measured run, or what is new of a run told before.

    Args:
        mixture_given: whether the shares come from the caller, and must agree with those told before.

    Raises:
        ObservationError: if the run was told otherwise, or on a branch that was undone.
    """
    while True:
        known = state.told_anywhere.get(told.run_id)
        if known is None:
            if state.ledger.append("tell", told.run_id, told.as_dict):
                return
        else:
            if mixture_given:
                _check_mixture(state, known, told)
            known.merged(told)
            news = _news(state, known, told)
            if news is None:
                return
            number = sum(e.kind == "retell" and e.payload["run_id"] == told.run_id for e in state.entries) + 1
            if state.ledger.append("retell", f"{told.run_id}/{number}", news):
                return
        state = state.again()


def write_change(state: State, what: str, record: Mapping[str, Any]) -> State:
    """Append an update, a release or an undo; the state after it.

    Raises:
        ProjectError: if another process has changed the domains meanwhile.
    """
    if not state.ledger.append("change", f"{state.eras.n_changes + 1:04d}", {"what": what, **record}):
        raise _changed_meanwhile(state)
    return state.again()


def write_proposal(state: State, proposed: AssessedProposal) -> None:
    """Append a proposal with the runs and the recipe that it rests on, unless the era's last one is the very same."""
    era = state.era.number
    record: dict[str, Any] = {
        "era": era,
        "mixture": dict(proposed.mixture.as_dict),
        "runs": [told.run_id for told, _ in state.carried.rows],
        "recipe": proposed.recipe.model_dump(mode="json", exclude_unset=True),
        "kl": proposed.kl.relative,
    }
    while True:
        before = state.proposals(era)
        if before and before[-1].payload == record:
            return
        if state.ledger.append("proposal", f"{era}-{len(before):04d}", record):
            return
        state = state.again()


def _news(state: State, known: Told, told: Told) -> dict[str, Any] | None:
    """The part of `told` that does not count in the current era yet; None if all of it does."""
    visible = state.told.get(told.run_id)
    if visible is None:
        raise ObservationError(
            f"run '{told.run_id}' was told in era {known.era}, which was undone or is on another branch",
            hint="tell it under another name, with its mixture",
        )
    metrics = {name: value for name, value in told.metrics.items() if name not in visible.metrics}
    errors = {name: value for name, value in told.standard_errors.items() if name not in visible.standard_errors}
    n_tokens = told.n_tokens if visible.n_tokens is None else None
    if not metrics and not errors and n_tokens is None:
        return None
    return {
        "run_id": told.run_id,
        "era": state.era.number,
        "metrics": metrics,
        "standard_errors": errors,
        "n_tokens": n_tokens,
    }


def _check_mixture(state: State, known: Told, told: Told) -> None:
    """The mixture told before, over today's domains where the run is older than they are."""
    before: Mapping[str, float] = known.shares
    if known.era != told.era:
        rows = carry_runs([known], state.eras.path()).rows if known.era in state.eras.line else ()
        before = rows[0][1] if rows else {}
    names = {*before, *told.shares}
    if any(abs(before.get(name, 0.0) - told.shares.get(name, 0.0)) > _SAME for name in names):
        raise ObservationError(
            f"run '{told.run_id}' was told already, with another mixture, and a ledger is never changed",
            received=dict(told.shares),
            hint="tell a repeated run under a name of its own, or leave the mixture out to add metrics",
        )


def _changed_meanwhile(state: State) -> ProjectError:
    return ProjectError(
        f"{state.ledger.path}: another process has changed the domains of this study", hint="look at it first"
    )
