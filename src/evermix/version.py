"""Which evermix this is: the version of the package, and those of what it keeps on disk."""

from __future__ import annotations

VERSION = "0.5.0"

TRAINING_VERSION = 3
"""Raised by hand when the same configuration would give other weights or other scores.

Names of finished work hold it, and nothing else that changes with a release: an upgrade trains nothing anew.
"""

SCHEMA_VERSION = 7
"""Raised when `result.json` or the ledger of a project is laid out otherwise; an older project is refused."""
