"""The lifecycle: what is trained when, and how a decision is reached; all on the same parts."""

from evermix.lifecycle.plan import plan
from evermix.lifecycle.pretraining import run

__all__ = ["plan", "run"]
