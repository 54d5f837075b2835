"""What came of decisions before earlier phases: how far each phase moved the losses that its probes had foretold.

Where a phase begins with a decision by probes, the model is read on decision text; so what the phase before has done is
known where that began with one too, without reading any text more, and test text is never looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evermix.laws.horizon import Horizon, Moves, learnt
from evermix.results import Decision

_SHARED_SD, _OWN_SD = 0.35, 0.35  # of the logarithm of a horizon that only the recipe knows


def learnt_from(earlier: Sequence[Decision]) -> list[Any]:
    """What a horizon is learnt from, besides the losses of the model as it is; JSON-able."""
    return [[each.number, each.base_loss_nats, each.predicted_loss_nats, each.horizon] for each in _of_probes(earlier)]


def learnt_horizon(
    by_itself: float, earlier: Sequence[Decision], number: int, base: Mapping[str, float], names: Sequence[str]
) -> Horizon:
    """The horizon of a decision before a phase, learnt from those before.

    Args:
        by_itself: the recipe's.
        earlier: decisions that the model's training has followed, in order.
        number: of the phase that is to be decided.
        base: losses of the model as it is, domain -> nats.
        names: of the metrics.
    """
    prior = Horizon(by_itself, _SHARED_SD, _OWN_SD)
    before = _of_probes(earlier)
    ends = [(each.number, each.base_loss_nats) for each in before] + [(number, base)]
    moves = [
        _moves(decision, losses)
        for decision, (then, losses) in zip(before, ends[1:], strict=True)
        if then == decision.number + 1
    ]
    return learnt(prior, moves, names)


def _of_probes(decisions: Sequence[Decision]) -> list[Decision]:
    """Those before phases that foretold by probes at a horizon."""
    return [each for each in decisions if each.evidence == "probes" and not each.at_step and each.horizon is not None]


def _moves(decision: Decision, after: Mapping[str, float]) -> Moves:
    """Of domains whose losses were foretold, and are read again."""
    base, horizon = decision.base_loss_nats, decision.horizon or {}
    names = [name for name in decision.predicted_loss_nats if name in after and name in base and name in horizon]
    foretold = {name: (decision.predicted_loss_nats[name] - base[name]) / horizon[name] for name in names}
    return Moves(foretold, {name: after[name] - base[name] for name in names})
