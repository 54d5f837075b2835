"""Interpolation: the model theta + sum_i w_i Delta_i for any w, exactly, with nothing merged to disk.

Source: OP-Mix (arXiv 2605.15220), candidates in weight space. The adapters' matrices are stacked, so that one product
per weight matrix gives the candidate:

    W(w) = W + B diag(w) A,   A = [A_1; ...; A_m] (m r, in),   B = s [B_1, ..., B_m] (out, m r),   s = alpha / r

which costs about as much as m r / 2 tokens of forward pass and holds one candidate's weights in memory, whatever m.
By the chain rule, with G = dL/dW(w) from an ordinary backward pass,

    dL/dw_i = <G, Delta_i> = sum over the rows k of adapter i of (B^T G * A)_k
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.func import functional_call
from transformers import PreTrainedModel

from evermix.errors import CheckpointError
from evermix.measure.adapters import Adapter
from evermix.training.evaluation import Evaluation, HeldoutText, sequence_losses, summarise

Floats = npt.NDArray[np.float64]


class Interpolation:
    """A frozen base model and its stacked adapters.

    Args:
        model: the base model; it is put in evaluation mode and its weights are left as they are.
        adapters: one per component, all on the same weight matrices and of one rank and scale.

    Raises:
        CheckpointError: if adapters differ in what they adapt, or adapt what the model does not have.
    """

    def __init__(self, model: PreTrainedModel, adapters: Sequence[Adapter]) -> None:
        self.model = model.eval().requires_grad_(False)
        self.n_components = len(adapters)
        names = set(adapters[0].down)
        parameters = dict(model.named_parameters())
        if any(set(adapter.down) != names for adapter in adapters) or not names <= set(parameters):
            raise CheckpointError("adapters must adapt the same weight matrices of the base model")
        self.base = {name: parameters[name] for name in sorted(names)}
        self.down: dict[str, torch.Tensor] = {}
        self.up: dict[str, torch.Tensor] = {}
        for name, weight in self.base.items():
            self.down[name] = torch.cat([a.down[name] for a in adapters]).to(weight)
            self.up[name] = torch.cat([a.scale * a.up[name] for a in adapters], dim=1).to(weight)

    def weights_at(self, w: npt.ArrayLike) -> dict[str, torch.Tensor]:
        """The adapted matrices of candidate `w`, shape (components,), on or off the simplex."""
        some = next(iter(self.base.values()))
        share = torch.as_tensor(np.asarray(w), dtype=some.dtype, device=some.device)
        if share.shape != (self.n_components,):
            raise CheckpointError(f"w must have one entry per component ({self.n_components})", received=share.shape)
        merged = {}
        for name, weight in self.base.items():
            rank = self.down[name].shape[0] // self.n_components
            merged[name] = torch.addmm(weight, self.up[name] * share.repeat_interleave(rank), self.down[name])
        return merged

    def logits(self, w: npt.ArrayLike, ids: torch.Tensor) -> torch.Tensor:
        """Logits of candidate `w`, shape (batch, length, vocab)."""
        with torch.no_grad():
            return self._forward(self.weights_at(w), ids)

    @torch.no_grad()
    def evaluate(self, w: npt.ArrayLike, heldout: HeldoutText) -> Evaluation:
        """Score candidate `w` on every domain."""
        weights = self.weights_at(w)
        losses: list[list[torch.Tensor]] = [[] for _ in heldout.sequences]
        for j, batch in heldout.batches():
            ids = batch.to(self.model.device)
            losses[j].append(sequence_losses(self._forward(weights, ids), ids))
        return summarise(heldout, losses)

    def evaluate_with_gradient(self, w: npt.ArrayLike, heldout: HeldoutText) -> tuple[Evaluation, Floats]:
        """Scores of candidate `w`, and d loss_j / d w, shape (domains, components), in nats; one backward pass."""
        weights = {name: weight.requires_grad_(True) for name, weight in self.weights_at(w).items()}
        losses: list[list[torch.Tensor]] = [[] for _ in heldout.sequences]
        gradient = np.zeros((len(heldout.sequences), self.n_components))
        last_of = {j: k for k, (j, _) in enumerate(heldout.batches())}
        for k, (j, batch) in enumerate(heldout.batches()):
            ids = batch.to(self.model.device)
            values = sequence_losses(self._forward(weights, ids), ids)
            torch.autograd.backward(values.sum() / len(heldout.sequences[j]))
            losses[j].append(values.detach())
            if k == last_of[j]:
                gradient[j] = self._contract(weights)
        return summarise(heldout, losses), gradient

    def _contract(self, weights: dict[str, torch.Tensor]) -> Floats:
        """dL/dw from the gradients that lie on `weights`, which are cleared; shape (components,)."""
        total = np.zeros(self.n_components)
        for name, weight in weights.items():
            if weight.grad is None:
                continue
            rows = ((self.up[name].T @ weight.grad) * self.down[name]).sum(dim=1)
            total += rows.view(self.n_components, -1).sum(dim=1).double().cpu().numpy()
            weight.grad = None
        return total

    def _forward(self, weights: dict[str, torch.Tensor], ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = functional_call(self.model, weights, (), {"input_ids": ids}).logits
        return logits
