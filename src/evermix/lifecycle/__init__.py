"""The lifecycle: one chain from a recipe through context, evidence, decisions, training and scores to a result."""

from evermix.lifecycle.planning import plan
from evermix.lifecycle.running import compare, run
from evermix.lifecycle.updating import Updating, plan_update, undo, update

__all__ = ["Updating", "compare", "plan", "plan_update", "run", "undo", "update"]
