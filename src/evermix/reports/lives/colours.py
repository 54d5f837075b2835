"""Colours and marks of arms, parts of the compute, and domains: the same in every figure of a life."""

from __future__ import annotations

from collections.abc import Sequence

_ARMS = {
    "evermix": ("#009E73", "o"),
    "retrain": ("#0072B2", "s"),
    "uniform": ("#56B4E9", "D"),
    "natural": ("#E69F00", "^"),
    "fixed-replay": ("#CC79A7", "v"),
    "naive": ("#D55E00", "P"),
    "oracle": ("#8a8f98", "*"),
    "mergemix": ("#B8A800", "X"),
    "lora-merge": ("#7E7BD9", "<"),
    "wsd-restart": ("#9C6B4E", ">"),
    "proxy-swarm": ("#17A0A0", "p"),
}
_OTHER = ("#8a8f98", "h")
PARTS = {
    "prefix": "#8a8f98",
    "training": "#56B4E9",
    "probes": "#009E73",
    "evaluation": "#E69F00",
    "specialists": "#CC79A7",
    "proxies": "#0072B2",
    "generation": "#D55E00",
    "decay": "#7E7BD9",
}
_DOMAINS = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#B8A800", "#7E7BD9", "#9C6B4E", "#8a8f98",
)  # fmt: skip
_HATCHES = ("", "////", "....", "xxxx")


def arm_colour(arm: str) -> str:
    """One colour per arm."""
    return _ARMS.get(arm, _OTHER)[0]


def arm_mark(arm: str) -> str:
    """One mark per arm."""
    return _ARMS.get(arm, _OTHER)[1]


def part_colour(part: str) -> str:
    """One colour per part of the compute."""
    return PARTS.get(part, "#b5bac2")


def domain_fills(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Name -> colour and hatch; no two names alike before 40."""
    n = len(_DOMAINS)
    return {name: (_DOMAINS[i % n], _HATCHES[i // n % len(_HATCHES)]) for i, name in enumerate(names)}
