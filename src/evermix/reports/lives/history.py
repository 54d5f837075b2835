"""Ledger entries of a life in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evermix.reports import units
from evermix.reports.figures import listed
from evermix.reports.tables import binding_reasons

Payload = Mapping[str, Any]


def trained(payload: Payload) -> str:
    """A `stage-segment`: what was trained, on which rows of the life, on what mixture."""
    rows = f"rows {payload.get('start_row', '?'):,} to {payload.get('end_row', '?'):,}"
    part = "" if payload.get("part") in (None, "training") else f" as {payload['part']}"
    tokens = units.count(payload.get("n_tokens"))
    return (
        f"trained {payload.get('label', '?')}{part}, {rows}, {tokens} tokens: {_shares(payload.get('mixture') or {})}"
    )


def decided(payload: Payload) -> str:
    """A `stage-decision`: how much of the stage goes to what is new, and how the loss is predicted to change."""
    new = listed(list(payload.get("new") or []))
    text = f"decided stage {payload.get('stage', '?')}: {units.share(payload.get('new_share'))} for {new}"
    text += f", by {payload.get('mode', '?')}: {_shares(payload.get('mixture') or {})}"
    if payload.get("released"):
        text += f"; released: {listed(list(payload['released']))}"
    held = binding_reasons(payload)
    if held:
        text += f"; held by constraints: {', '.join(f'{name} ({reason})' for name, reason in held.items())}"
    return text


def begun(payload: Payload) -> str:
    """A `stage-begun`: the phases up to this one."""
    return f"began stage {' > '.join(payload.get('path') or [])}"


def spent(payload: Payload) -> tuple[float | None, float | None]:
    """FLOPs and seconds of an entry: its own, or the sum over its `costs`."""
    costs = payload.get("costs")
    if payload.get("flops") is not None or not isinstance(costs, list):
        return payload.get("flops"), payload.get("seconds")
    return sum(cost["flops"] for cost in costs), sum(cost["seconds"] for cost in costs)


def _shares(mixture: Mapping[str, float], n: int = 4) -> str:
    named = sorted(mixture, key=lambda name: -mixture[name])
    rest = f" and {len(named) - n} more" if len(named) > n else ""
    return ", ".join(f"{name} {units.share(mixture[name])}" for name in named[:n]) + rest
