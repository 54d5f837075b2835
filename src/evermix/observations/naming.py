"""Naming: columns such as `config.weights.web` or `metric/the_pile_web_val_loss`, by the name `web` that people use."""

from __future__ import annotations

import re
from collections.abc import Sequence

_DOMAIN_WORDS = frozenset(
    ("weight", "weights", "mixture", "mixtures", "ratio", "ratios", "proportion", "proportions", "train", "domain")
)
_DOMAIN_PARTS = _DOMAIN_WORDS | {"config", "summary", "value", "training", "mix", "share", "shares", "domains", "data"}
_METRIC_WORDS = frozenset(("summary", "summary_metrics", "metric", "metrics"))
_DOMAIN_ENDINGS = ("weight", "weights", "ratio", "proportion", "share")
_METRIC_ENDINGS = ("val", "valid", "validation", "loss")
_MARKS = "./_-"


def short_names(domains: Sequence[str], metrics: Sequence[str]) -> tuple[list[str], list[str]]:
    """Shorter names of both kinds of columns, or the columns' own where shortening is not safe.

    Off comes what every column of a kind begins with, as far as it consists of words like `config`, `weights`, `train`
    or `metric`; what every one ends with, as far as it is `_weight` or `_val_loss`; and then a prefix such as
    `the_pile_` that all domains and all metrics share. A name is never cut at or after a colon, and never so that
    two become one or one becomes empty.
    """
    shares = _safe(domains, _without_ends(domains, _DOMAIN_PARTS, _DOMAIN_ENDINGS))
    values = _safe(metrics, _without_ends(metrics, _METRIC_WORDS, _METRIC_ENDINGS))
    if len(shares) > 1 and len(values) > 1:
        length = len(_common_prefix([*shares, *values]))
        shorter = _safe(shares, [name[length:] for name in shares]), _safe(values, [name[length:] for name in values])
        if length and shorter[0] != shares and shorter[1] != values:
            return shorter
    return shares, values


def _without_ends(names: Sequence[str], words: frozenset[str], endings: tuple[str, ...]) -> list[str]:
    short = list(names)
    while short and (length := _common_word(short, words)):
        short = [name[length:] for name in short]
    trimmed = True
    while trimmed and len(short) > 1:
        trimmed = False
        for ending in endings:
            if all(re.search(rf"[./_-]{ending}$", name) for name in short):
                short, trimmed = [name[: -len(ending) - 1] for name in short], True
    return short


def _common_word(names: Sequence[str], words: frozenset[str]) -> int:
    """Length of the boilerplate word and mark with which all names begin; 0 without one."""
    match = re.match(r"([A-Za-z_]+)[./]", names[0]) or re.match(r"([A-Za-z]+)[_-]", names[0])
    if match is None or match[1].lower() not in words:
        return 0
    if match[0][-1] in "_-" and (len(names) == 1 or match[1].lower() not in _DOMAIN_WORDS | _METRIC_WORDS):
        return 0
    return len(match[0]) if all(name.startswith(match[0]) for name in names) else 0


def _common_prefix(names: Sequence[str]) -> str:
    """What all names begin with, up to its last mark, and before any colon."""
    first, last = min(names), max(names)
    length = next((k for k, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    prefix = first[:length].split(":")[0]
    return prefix[: max((prefix.rfind(mark) for mark in _MARKS), default=-1) + 1]


def _safe(names: Sequence[str], short: Sequence[str]) -> list[str]:
    """`short`, or `names` if that loses or confuses something."""
    good = all(name and name == name.strip() and name[0] not in ":" + _MARKS for name in short)
    return list(short) if good and len(set(short)) == len(names) else list(names)
