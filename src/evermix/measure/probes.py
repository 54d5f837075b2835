"""Probes: short LoRA trainings of the current model, one per component (OP-Mix, arXiv 2605.15220; METHODS 2.1).

Components are `old` (the mixture used so far, a virtual domain) and one per domain d and purity, trained on
`purity * d + (1 - purity) * old`. All probes of a decision start from the same adapter weights and meet the sequences
of a domain in the same order, so that what they share cancels in comparisons (common random numbers).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from evermix.corpus.store import TokenStore
from evermix.errors import CheckpointError
from evermix.executors.job import CachedJob
from evermix.measure.interpolation import Adapter, Interpolation
from evermix.mixture import Mixture
from evermix.models.loading import load_model
from evermix.schedule import MixtureSchedule
from evermix.training.evaluation import HeldoutText, evaluate
from evermix.training.segment import (
    LearningRate,
    Optimisation,
    Precision,
    Segment,
    StepReport,
    divergence_named,
    full_disk_named,
    train_segment,
)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Component:
    """A direction in which the model can be trained.

    Attributes:
        name: of its domain, or `old`.
        trained_on: what its probe is trained on, over the text's domains.
        shares: the same over what a decision shares out: these domains, or bundles of them.
    """

    name: str
    trained_on: Mixture
    shares: Mixture


@dataclass(frozen=True)
class ProbeSettings:
    """How a probe is trained; the learning rate is constant, without warm-up."""

    steps: int
    batch_sequences: int
    learning_rate: float
    rank: int
    alpha: float
    seed: int
    precision: Precision = "auto"


@dataclass(frozen=True)
class Probe:
    """A finished probe: its component, adapter folder, decision losses (domains,) in nats per token, and cost."""

    component: Component
    adapter: Path
    loss_nats: Floats
    n_tokens: int
    seconds: float


def train_probe(
    base: Path,
    store: TokenStore,
    component: Component,
    settings: ProbeSettings,
    heldout: HeldoutText,
    folder: Path,
    report: StepReport | None = None,
) -> Probe:
    """Train one probe of the checkpoint `base` into `folder`, or read it if it was finished before."""

    def work(folder: Path) -> dict[str, Any]:
        started = time.monotonic()
        model = _adapted(load_model(base), settings.rank, settings.alpha, settings.seed)
        segment = _segment(component, settings)
        train_segment(model, store, segment, folder, report=report)
        with divergence_named(segment):
            scores = evaluate(model, heldout)
        with full_disk_named(folder):
            model.save_pretrained(str(folder / "adapter"), safe_serialization=True)
        n_rows = settings.steps * settings.batch_sequences
        return {
            "component": component.name,
            "trained_on": component.trained_on.as_dict,
            "settings": asdict(settings),
            "loss_nats": scores.loss_nats.tolist(),
            "n_tokens": round(n_rows * float(component.trained_on.weights @ store.mean_lengths)),
            "seconds": time.monotonic() - started,
        }

    record = probe_job(folder).run(work)
    losses = np.array(record["loss_nats"])
    return Probe(component, folder / "adapter", losses, record["n_tokens"], record["seconds"])


def probe_job(folder: Path) -> CachedJob:
    """The training of the probe in a folder."""
    return CachedJob(folder, ("loss_nats", "n_tokens", "seconds"))


def load_probe(base: Path, adapter: Path) -> PreTrainedModel:
    """The checkpoint `base` with the adapter of one of its probes."""
    from peft import PeftModel

    with _quietly():
        model: Any = PeftModel.from_pretrained(load_model(base), str(adapter))
    return model


def _segment(component: Component, settings: ProbeSettings) -> Segment:
    optimisation = Optimisation(
        learning_rate=settings.learning_rate,
        schedule=LearningRate("constant", settings.steps),
        batch_sequences=settings.batch_sequences,
        weight_decay=0.0,
        precision=settings.precision,
    )
    return Segment(
        MixtureSchedule.constant(component.trained_on),
        settings.steps,
        optimisation,
        settings.seed,
        learning_rate_key="training.learning_rate or decision.probes.learning_rate_factor",
    )


def _adapted(model: PreTrainedModel, rank: int, alpha: float, seed: int) -> Any:
    """The model with a fresh adapter on every linear layer but the output."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules="all-linear",
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]), _quietly():
        torch.manual_seed(seed)
        return get_peft_model(model, config)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without PEFT's notes on what it settles by itself: Conv1D layers, experts of a mixture."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False", category=UserWarning)
        warnings.filterwarnings("ignore", message=".*did not match any targeted module", category=RuntimeWarning)
        yield


_REHEARSED = 8  # tokens
_CLOSE = 1e-3  # of the spread of logits


def check_probing(model: PreTrainedModel, source: str, *, interpolated: bool) -> None:
    """A rehearsal, before anything is trained: the model must take adapters, and be interpolated as PEFT applies them.

    Args:
        model: not to be used afterwards.
        interpolated: whether candidates between probes will be made.

    Raises:
        CheckpointError: it cannot; names the layer, where one is to blame.
    """
    from peft import get_peft_model_state_dict

    try:
        adapted = _adapted(model, 1, 1.0, 0)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise CheckpointError(
            f"{source}: a checkpoint to be probed must take LoRA adapters ({str(error).splitlines()[0]})",
            hint="method olmix decides without probes of the model",
        ) from error
    if not interpolated:
        return
    generator = torch.Generator().manual_seed(0)
    for name, weight in adapted.named_parameters():
        if ".lora_B." in name:
            weight.data = 0.1 * torch.randn(weight.shape, generator=generator).to(weight)
    adapter = Adapter.of(1.0, get_peft_model_state_dict(adapted), source)
    ids = torch.arange(_REHEARSED, device=model.device)[None] % model.get_input_embeddings().num_embeddings
    with torch.no_grad():
        expected = adapted.eval()(input_ids=ids).logits
    try:
        found = Interpolation(adapted.unload(), [adapter]).logits([1.0], ids)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error.rule}", received=error.received, hint=error.hint) from error
    if not bool((found - expected).abs().max() <= _CLOSE * expected.std()):
        raise CheckpointError(
            f"{source}: a checkpoint whose probes are interpolated must have layers that are what their weights are",
            received=type(model).__name__,
            hint="take mode probe-law, which interpolates nothing",
        )
