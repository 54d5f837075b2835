"""Two ranks under torchrun train the same model as one process: the same sequences, split over the ranks."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from evermix.corpus.store import TokenStore
from evermix.ledger import Project
from evermix.lifecycle.progress import Reporter
from evermix.lifecycle.text import open_text
from evermix.mixture import Mixture
from evermix.models.ladder import build_model
from evermix.recipe import Recipe
from evermix.schedule import MixtureSchedule
from evermix.training.segment import LearningRate, Optimisation, Segment, train_segment

_STEPS = 6


def train(store: TokenStore, folder: Path) -> dict[str, torch.Tensor]:
    """Six steps of four sequences each over all ranks."""
    schedule = MixtureSchedule.constant(Mixture(store.domains, [0.6, 0.3, 0.1]))
    optimisation = Optimisation(3e-3, LearningRate("constant", _STEPS), batch_sequences=4)
    model = build_model("0.2M", store.vocab_size, store.sequence_length, store.end_id, seed=0)
    train_segment(model, store, Segment(schedule, _STEPS, optimisation, seed=7), folder)
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def test_two_ranks_equal_one_process(tiny_recipe: Callable[..., dict[str, object]], tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    recipe = Recipe.model_validate(tiny_recipe(project.folder))
    store = open_text(recipe, project, Reporter(project, None))
    alone = train(store, tmp_path / "alone")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = Path(__file__).parents[2]
    paths = os.pathsep.join((str(root), str(root / "src")))  # this source, whatever is installed
    environment = os.environ | {"PYTHONPATH": paths, "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={port}"]
    command += ["-m", "tests.training.test_ranks", str(store.folder), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    together = load_file(tmp_path / "together.safetensors")
    for name, parameter in alone.items():
        assert together[name].numpy() == pytest.approx(parameter.numpy(), abs=2e-5), name


if __name__ == "__main__":
    weights = train(TokenStore.open(Path(sys.argv[1])), Path(sys.argv[2]) / "ranks")
    assert torch.distributed.get_world_size() == 2  # or each rank would have trained by itself, on all sequences
    if int(os.environ["RANK"]) == 0:
        save_file(weights, Path(sys.argv[2]) / "together.safetensors")
