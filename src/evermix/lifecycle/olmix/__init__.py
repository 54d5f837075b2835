"""Olmix (arXiv 2602.12237): a swarm of proxies decides the mixture, and updates of the domain set reuse it."""

from evermix.lifecycle.olmix.running import run
from evermix.lifecycle.olmix.updating import PlannedUpdate, Updating, plan_update, undo, update

__all__ = ["PlannedUpdate", "Updating", "plan_update", "run", "undo", "update"]
