"""Observations: runs x domains, runs x metrics; readers that check every cell, and costs that laws can learn."""

from evermix.observations.reading import Reading, read_observations, without_mute_metrics
from evermix.observations.runs import Orientation, Runs
from evermix.observations.sources import Finding, LeftOut, ReadOptions
from evermix.observations.table import Observations

__all__ = [
    "Finding",
    "LeftOut",
    "Observations",
    "Orientation",
    "ReadOptions",
    "Reading",
    "Runs",
    "read_observations",
    "without_mute_metrics",
]
