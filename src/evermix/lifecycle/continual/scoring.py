"""Scores of a model on held-out text, kept by model and text, so that nothing is scored twice."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.files import read_record, write_json
from evermix.ledger import content_hash
from evermix.lifecycle.continual.bench import LifeBench
from evermix.lifecycle.continual.learner import Cost
from evermix.models.loading import load_model
from evermix.training.evaluation import evaluate

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """A model's scores on the held-out text of some domains.

    Attributes:
        per_domain: domain -> loss_nats, loss_stderr_nats, bits_per_byte, perplexity.
        cost: of the scoring.
    """

    per_domain: dict[str, dict[str, float]]
    cost: Cost

    @property
    def loss_nats(self) -> Floats:
        """Loss of every domain in nats per token, shape (domains,)."""
        return np.array([scores["loss_nats"] for scores in self.per_domain.values()])


def score(bench: LifeBench, model_id: str, model: Path, names: Sequence[str]) -> Scores:
    """Score a checkpoint on all held-out text of `names`, or read the scores it has."""
    fingerprints = [[name, bench.rows.domains[bench.rows.index(name)].fingerprint] for name in names]
    key = content_hash(["scores", model_id, fingerprints, bench.recipe.corpus.heldout_sequences])
    marker = bench.project.run_folder(f"scores-{key}") / "done.json"
    if not marker.exists():
        marker.parent.mkdir(parents=True, exist_ok=True)
        write_json(marker, _score(bench, model, names))
    record = read_record(marker, "per_domain", "cost")
    return Scores(record["per_domain"], Cost(**record["cost"]))


def _score(bench: LifeBench, model: Path, names: Sequence[str]) -> dict[str, Any]:
    heldout = bench.heldout(names)
    started = time.monotonic()
    scores = evaluate(load_model(model), heldout).per_domain()
    seconds = time.monotonic() - started
    cost = Cost("evaluation", bench.size.evaluation(heldout.n_tokens), heldout.n_tokens, seconds)
    return {"per_domain": scores, "cost": vars(cost)}
