"""Constraints: what a mixture may not do, whatever the law says."""

from evermix.constraints.bounds import Bounds, GroupBound
from evermix.constraints.rules import Constraints, GroupTotal, NoRegression

__all__ = ["Bounds", "Constraints", "GroupBound", "GroupTotal", "NoRegression"]
