"""The lifecycle: what is trained when, and how a decision is reached; all on the same parts."""

from evermix.lifecycle.comparing import compare
from evermix.lifecycle.olmix import Updating, plan_update, undo, update
from evermix.lifecycle.running import plan, run

__all__ = ["Updating", "compare", "plan", "plan_update", "run", "undo", "update"]
