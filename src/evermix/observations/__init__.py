"""Observations: runs x domains, runs x metrics; readers that check every cell, and costs that laws can learn."""

from evermix.observations.findings import Finding, LeftOut
from evermix.observations.options import ReadOptions
from evermix.observations.orientation import Orientation
from evermix.observations.reading import Reading, read_observations
from evermix.observations.runs import Runs
from evermix.observations.table import Observations

__all__ = ["Finding", "LeftOut", "Observations", "Orientation", "ReadOptions", "Reading", "Runs", "read_observations"]
