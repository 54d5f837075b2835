"""A model's whole life: pretraining, continual midtraining and instruction tuning, one phase after the other."""

from evermix.lifecycle.continual.running import run

__all__ = ["run"]
