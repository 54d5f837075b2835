"""The project folder: append-only ledger, run folders with completion markers, and the lock."""

from evermix.ledger.journal import Entry, Ledger
from evermix.ledger.project import Project, content_hash

__all__ = ["Entry", "Ledger", "Project", "content_hash"]
