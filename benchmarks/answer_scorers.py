"""Scorers of benchmarks/instruction_tuning.py: which part of an answer is right, from 0 to 1.

Exact answers are out of reach of a model that has seen a hundred translations, and parts of them are not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any


def right_letters(item: Mapping[str, Any], answer: str) -> float:
    """2 matching letters / all letters of both."""
    return _alike(item["answer"].casefold(), answer.strip().casefold())


def right_sounds(item: Mapping[str, Any], answer: str) -> float:
    """The same of sounds, which stand between blanks."""
    return _alike(item["answer"].split(), answer.split())


def _alike(right: Sequence[str], written: Sequence[str]) -> float:
    return SequenceMatcher(None, right, written, autojunk=False).ratio()
