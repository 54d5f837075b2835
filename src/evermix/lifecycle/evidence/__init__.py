"""Kinds of evidence: who makes the observations that decisions stand on; one class and one line here each."""

from evermix.lifecycle.evidence.base import DecisionRequest, Evidence, Measured
from evermix.lifecycle.evidence.in_run import InRunEvidence
from evermix.lifecycle.evidence.merges import MergeEvidence
from evermix.lifecycle.evidence.probes import ProbeEvidence
from evermix.lifecycle.evidence.swarm import SwarmEvidence
from evermix.lifecycle.evidence.sweep import SweepEvidence
from evermix.results.run_result import EvidenceName

EVIDENCE: dict[EvidenceName, Evidence] = {
    "in-run": InRunEvidence(),
    "probes": ProbeEvidence(),
    "swarm": SwarmEvidence(),
    "merges": MergeEvidence(),
    "sweep": SweepEvidence(),
}

__all__ = ["EVIDENCE", "DecisionRequest", "Evidence", "Measured"]
