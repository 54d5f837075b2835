"""Domain updates: what changes in a domain set, and what of a mixture and its runs stays afterwards."""

from evermix.domain_updates.fixed_ratio import CollapsedSpace, VirtualDomain, collapse, effective_prior, expand, flatten
from evermix.domain_updates.updates import (
    Add,
    Change,
    DomainUpdate,
    Lineage,
    Partition,
    Remove,
    Revise,
    carry_through,
    retired_name,
)

__all__ = [
    "Add",
    "Change",
    "CollapsedSpace",
    "DomainUpdate",
    "Lineage",
    "Partition",
    "Remove",
    "Revise",
    "VirtualDomain",
    "carry_through",
    "collapse",
    "effective_prior",
    "expand",
    "flatten",
    "retired_name",
]
