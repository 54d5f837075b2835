"""Reuse: what stays of a mixture and its runs when the domain set changes."""

from evermix.reuse.space import CollapsedSpace
from evermix.reuse.updates import Add, Change, DomainUpdate, Lineage, Partition, Remove, Revise, carry_through, ghost
from evermix.reuse.virtual import VirtualDomain, collapse, effective_prior, expand, flatten

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
    "ghost",
]
