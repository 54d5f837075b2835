"""Measure the swarm of `evermix example` anew: 36 proxies of 0.05M parameters, about 10 minutes on two cores.

    python tools/sample_swarm.py [project; runs/sample-swarm by default]

Domains are real text of packages, and one of noise. The tables hold bits per byte of held-out text, noise aside.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import evermix as em
from evermix.observations import Observations

FOLDER = Path(__file__).parents[1] / "src" / "evermix" / "observations" / "sample_swarm"
RECIPE = {
    "method": "olmix",
    "domains": [
        {"name": "code-cpp", "registry": "cpp-headers", "max_bytes": "3M"},
        {"name": "code-python", "registry": "python-stdlib", "max_bytes": "3M"},
        {"name": "dictionary", "registry": "dictionary", "max_bytes": "3M"},
        {"name": "biomedical", "registry": "biomedical", "max_bytes": "1.5M"},
        {"name": "licences", "registry": "legal", "max_bytes": "600k"},
        {"name": "dialogue", "registry": "dialogue", "max_bytes": "400k"},
        {"name": "noise", "registry": "hex-noise", "max_bytes": "2M"},
    ],
    "tokenizer": {"vocab_size": 512},
    "corpus": {"sequence_length": 64, "heldout_fraction": 0.05, "heldout_sequences": 256},
    "swarm": {
        "rung": "0.05M",
        "runs": 36,
        "tokens": "260K",
        "batch_sequences": 8,
        "learning_rate": 1e-2,
        "evaluation_sequences": 128,
    },
    "objective": {"quantity": "bits_per_byte"},
    "decision": {"law": "power-link", "resamples": 0},
    "model": {"rung": "0.2M"},
    "training": {"tokens": "1.6M", "batch_sequences": 16, "learning_rate": 5e-3},
    "arms": [],
}


def measure(project: Path) -> Observations:
    """The runs of the swarm; what was measured already is read."""
    em.run(em.Recipe.model_validate({"project": str(project), **RECIPE}))
    return tables(em.Study(project))


def tables(study: em.Study) -> Observations:
    """Nats per token as bits per byte, without the loss on noise; rounded to what noise leaves of them."""
    measured, _ = study.observations()
    weights = measured.weights.round(4)
    weights[range(len(weights)), weights.argmax(axis=1)] += 1 - weights.sum(axis=1)
    factors = study.recipe.objective.bits_per_byte_factor or {}
    wanted = [i for i, name in enumerate(measured.metrics) if name != "noise"]
    names = [measured.metrics[i] for i in wanted]
    return replace(
        measured,
        weights=weights,
        metrics=tuple(f"{name}_bpb" for name in names),
        values=(measured.values[:, wanted] * [factors[name] for name in names]).round(4),
        standard_errors=None,
        n_parameters=None,
    )


if __name__ == "__main__":
    measure(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs/sample-swarm")).to_csv(FOLDER)
