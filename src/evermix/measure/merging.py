"""Merging: one model out of several that were trained from the same one, by weights.

    theta(w) = theta_0 + sum_i w_i (theta_i - theta_0) = (1 - sum_i w_i) theta_0 + sum_i w_i theta_i

The second form is what is computed: on the simplex the base drops out, and w = e_i gives theta_i to the last bit.
Source: MergeMix (METHODS 2, baselines): a merged model stands for one that was trained on the mixture w.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from evermix.errors import CheckpointError
from evermix.files import new_folder
from evermix.measure.interpolation import Interpolation
from evermix.models.loading import load_model, on_gpu
from evermix.training.evaluation import Evaluation, HeldoutText, evaluate
from evermix.training.segment import full_disk_named

Weights = dict[str, torch.Tensor]


class Merging:
    """A base model and specialists trained from it; all of them are held in the host's memory.

    Args:
        base: checkpoint that the specialists were trained from.
        specialists: one checkpoint per component.

    Raises:
        CheckpointError: if one cannot be read, or a specialist's parameters are not those of the base.
    """

    def __init__(self, base: Path, specialists: Sequence[Path]) -> None:
        self.model = load_model(base).eval().requires_grad_(False)
        self.base: Weights = {name: weight.detach().clone() for name, weight in self.model.named_parameters()}
        self.specialists = [_like(self.base, path) for path in specialists]
        self.model = on_gpu(self.model)

    def weights_at(self, w: npt.ArrayLike) -> Weights:
        """Every parameter of the merged model; w has shape (specialists,), on or off the simplex."""
        shares = np.asarray(w, dtype=np.float64)
        if shares.shape != (len(self.specialists),):
            raise CheckpointError(
                f"w must have one entry per specialist ({len(self.specialists)})", received=shares.shape
            )
        merged: Weights = {}
        for name, weight in self.base.items():
            total = (1 - float(shares.sum())) * weight.double()
            for share, specialist in zip(shares.tolist(), self.specialists, strict=True):
                total += share * specialist[name].double()
            merged[name] = total.to(weight)
        return merged

    def evaluate(self, w: npt.ArrayLike, heldout: HeldoutText) -> Evaluation:
        """Score the merged model on every domain; nothing is written to disk."""
        return evaluate(_put(self.model, self.weights_at(w)), heldout)


def save_interpolated(interpolation: Interpolation, w: npt.ArrayLike, folder: Path) -> None:
    """Write the model theta + sum_i w_i Delta_i as a checkpoint that is there whole or not at all.

    The interpolation's own model takes on these weights: it is not to be used afterwards.
    """
    model = _put(interpolation.model, interpolation.weights_at(w))
    with new_folder(folder) as temporary, full_disk_named(folder):
        model.save_pretrained(str(temporary))


def _put(model: PreTrainedModel, weights: Mapping[str, torch.Tensor]) -> PreTrainedModel:
    with torch.no_grad():
        for name, weight in weights.items():
            model.get_parameter(name).copy_(weight)
    return model


def _like(base: Weights, path: Path) -> Weights:
    """The parameters of a checkpoint, which must be those of the base."""
    found: Weights = {name: weight.detach() for name, weight in load_model(path).named_parameters()}
    if {name: weight.shape for name, weight in found.items()} != {name: w.shape for name, w in base.items()}:
        raise CheckpointError(f"{path}: a specialist must have the parameters of the model that it was trained from")
    return found
