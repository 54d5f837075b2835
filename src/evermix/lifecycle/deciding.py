"""decide: one decision, made once: the request, its evidence, what is concluded, and its entry in the ledger."""

from __future__ import annotations

from evermix.lifecycle.context import RunContext
from evermix.lifecycle.evidence import DecisionRequest, Evidence
from evermix.lifecycle.state import ModelState
from evermix.results import Decision


def decide(context: RunContext, evidence: Evidence, state: ModelState, request: DecisionRequest) -> Decision:
    """Answer a request by observations, or read the answer that was given before.

    The key is asked for again after measuring: what a study has been told by then is a part of it.

    Raises:
        ConvergenceError, ConstraintError, ObservationError: if no mixture can be decided.
    """
    ledger = context.project.ledger
    kept = ledger.find("decision", request.key(context, state, evidence))
    if kept is None or not evidence.is_complete(context, request):
        measured = evidence.measure(context, state, request)
        key = request.key(context, state, evidence)
        kept = ledger.find("decision", key)
        if kept is None:
            decision = measured.conclude(context, state, request)
            ledger.append("decision", key, decision.model_dump(mode="json"))
            kept = ledger.find("decision", key)
    assert kept is not None  # it was appended above
    return Decision.model_validate(kept.payload).model_copy(update={"arm": request.arm})
