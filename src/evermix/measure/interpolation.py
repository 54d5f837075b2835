"""Interpolation: the model theta + sum_i w_i Delta_i for any w, exactly, with nothing merged to disk.

Source: OP-Mix (arXiv 2605.15220), candidates in weight space. The adapters' matrices are stacked, so that one product
per weight matrix gives the candidate:

    W(w) = W + B diag(w) A,   A = [A_1; ...; A_m] (m r, in),   B = s [B_1, ..., B_m] (out, m r),   s = alpha / r

which costs about as much as m r / 2 tokens of forward pass and holds one candidate's weights in memory, whatever m.
By the chain rule, with G = dL/dW(w) = sum over tokens t of g_t x_t^T, where x_t is what the layer reads and g_t the
gradient of what it writes,

    dL/dw_i = <G, Delta_i> = sum over the rows k of adapter i of  (B^T G * A)_k              (1)
            = sum over the rows k of adapter i of  sum over t of (B^T g_t)_k (A x_t)_k       (2)

A Conv1D layer, as GPT-2 has them, holds W transposed, (in, out), and takes (B diag(w) A)^T.
A Conv1D layer, as GPT-2 has them, holds W transposed, (in, out), and takes (B diag(w) A)^T.
(2) never forms G: per token it costs m r (in + out) multiplications instead of in * out; each matrix takes the cheaper.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.func import functional_call
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from evermix.errors import CheckpointError
from evermix.training.evaluation import Evaluation, HeldoutText, sequence_losses, summarise

_OTHER_MODE = "take mode probe-law, which interpolates nothing"
_NAME = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<half>[AB])(?:\.default)?\.weight")


@dataclass(frozen=True)
class Adapter:
    """One trained adapter.

    Attributes:
        scale: alpha / r.
        down: parameter name of the base model -> A, shape (r, in).
        up: parameter name of the base model -> B, shape (out, r).
    """

    scale: float
    down: dict[str, torch.Tensor]
    up: dict[str, torch.Tensor]

    @classmethod
    def load(cls, folder: Path) -> Adapter:
        """Read what PEFT saved; CheckpointError if it is no plain LoRA adapter."""
        try:
            config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
            tensors = load_file(folder / "adapter_model.safetensors")
        except (OSError, ValueError, SafetensorError) as error:
            raise CheckpointError(f"{folder}: an adapter must be a folder that PEFT wrote ({error})") from error
        if config.get("use_dora") or config.get("use_rslora") or config.get("rank_pattern"):
            raise CheckpointError(f"{folder}: the adapter must be plain LoRA of one rank")
        return cls.of(config["lora_alpha"] / config["r"], tensors, str(folder))

    @classmethod
    def of(cls, scale: float, tensors: Mapping[str, torch.Tensor], source: str) -> Adapter:
        """From PEFT's names and their matrices; CheckpointError if there is anything but LoRA matrices."""
        halves: dict[str, dict[str, torch.Tensor]] = {"A": {}, "B": {}}
        for name, tensor in tensors.items():
            match = _NAME.fullmatch(name)
            if match is None:
                raise CheckpointError(f"{source}: the adapter must hold LoRA matrices only", received=name)
            halves[match["half"]][f"{match['module']}.weight"] = tensor.detach().float()
        return cls(scale, halves["A"], halves["B"])


Floats = npt.NDArray[np.float64]
_CPU_BACKWARD_TOKENS = 1024  # what a backward pass keeps should stay near the cache (2.5 plain passes, not 3.7)


class _Tap(torch.autograd.Function):
    """Identity on what a layer writes; its backward pass adds formula (2) to the gradient of `share`."""

    @staticmethod
    def forward(ctx: Any, output: torch.Tensor, share: torch.Tensor, read: torch.Tensor, *halves: torch.Tensor) -> Any:
        """output (..., out), share (components,), read (..., in), halves A (m r, in) and B (out, m r)."""
        ctx.save_for_backward(read, *halves)
        ctx.n_components = len(share)
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (gradient,) = gradients
        read, down, up = ctx.saved_tensors
        rows = (gradient.flatten(0, -2) @ up) * (read.flatten(0, -2) @ down.T)
        share = rows.sum(dim=0).view(ctx.n_components, -1).sum(dim=1)
        return gradient, share, None, None, None


class Interpolation:
    """A frozen base model and its stacked adapters.

    Args:
        model: the base model; it is put in evaluation mode and its weights are left as they are.
        adapters: one per component, all on the same weight matrices and of one rank and scale.

    Raises:
        CheckpointError: if adapters differ in what they adapt, or adapt what the model does not have, or a layer that
            cannot be interpolated: neither linear nor Conv1D, or with weights that another layer has too.
    """

    def __init__(self, model: PreTrainedModel, adapters: Sequence[Adapter]) -> None:
        self.model = model.eval().requires_grad_(False)
        self.n_components = len(adapters)
        names = set(adapters[0].down)
        parameters = dict(model.named_parameters(remove_duplicate=False))
        if any(set(adapter.down) != names for adapter in adapters):
            raise CheckpointError("adapters must adapt the same weight matrices of the base model")
        if missing := sorted(names - set(parameters)):
            raise CheckpointError(
                f"{missing[0]}: an adapter that is interpolated must be of a linear layer or Conv1D, not of experts",
                hint=_OTHER_MODE,
            )
        self.base = {name: parameters[name] for name in sorted(names)}
        self._transposed = {name for name in self.base if isinstance(self._layer(name), Conv1D)}
        self.down: dict[str, torch.Tensor] = {}
        self.up: dict[str, torch.Tensor] = {}
        for name, weight in self.base.items():
            self.down[name] = torch.cat([a.down[name] for a in adapters]).to(weight)
            self.up[name] = torch.cat([a.scale * a.up[name] for a in adapters], dim=1).to(weight)
            self._check_layer(name)
        self._some = next(iter(self.base.values()))
        self._tappable = [name for name in self.base if self._is_cheaper_without_g(name)]
        self._formed = [name for name in self.base if name not in self._tappable]

    def _layer(self, name: str) -> torch.nn.Module:
        return self.model.get_submodule(name.rpartition(".")[0])

    def _check_layer(self, name: str) -> None:
        """The layer must be W x or x W with a W of its own."""
        weight, layer = self.base[name], self._layer(name)
        shape = (self.up[name].shape[0], self.down[name].shape[1])
        is_known = isinstance(layer, torch.nn.Linear | Conv1D)
        if not is_known or tuple(weight.shape) != (shape[::-1] if name in self._transposed else shape):
            raise CheckpointError(
                f"{name}: a layer that is interpolated must be linear or Conv1D, of {shape[0]} x {shape[1]} weights",
                received=f"{type(layer).__name__}, {tuple(weight.shape)}",
                hint=_OTHER_MODE,
            )
        every = self.model.named_parameters(remove_duplicate=False)
        shared = [other for other, each in every if each is weight and self._layer(other) is not layer]
        if shared:
            raise CheckpointError(
                f"{name}: a layer that is interpolated must have weights of its own; they are those of {shared[0]} too",
                hint=_OTHER_MODE,
            )

    def _is_cheaper_without_g(self, name: str) -> bool:
        out, rows = self.up[name].shape
        inside = self.down[name].shape[1]
        return rows * (inside + out) < inside * out

    def weights_at(self, w: npt.ArrayLike) -> dict[str, torch.Tensor]:
        """The adapted matrices of candidate `w`, shape (components,), on or off the simplex."""
        share = torch.as_tensor(np.asarray(w), dtype=self._some.dtype, device=self._some.device)
        if share.shape != (self.n_components,):
            raise CheckpointError(f"w must have one entry per component ({self.n_components})", received=share.shape)
        merged = {}
        for name, weight in self.base.items():
            rank = self.down[name].shape[0] // self.n_components
            left, right = self.up[name] * share.repeat_interleave(rank), self.down[name]
            if name in self._transposed:
                left, right = right.T, left.T
            merged[name] = torch.addmm(weight, left, right)
        return merged

    @contextmanager
    def merged(self, w: npt.ArrayLike) -> Iterator[PreTrainedModel]:
        """The model with the weights of candidate `w` in place, for what needs a whole model, such as generation."""
        before = {name: weight.data for name, weight in self.base.items()}
        try:
            for name, weight in self.weights_at(w).items():
                self.base[name].data = weight
            yield self.model
        finally:
            for name, weight in before.items():
                self.base[name].data = weight

    def logits(self, w: npt.ArrayLike, ids: torch.Tensor) -> torch.Tensor:
        """Logits of candidate `w`, shape (batch, length, vocab)."""
        with torch.no_grad():
            return self._forward(self.weights_at(w), ids)

    @torch.no_grad()
    def evaluate(self, w: npt.ArrayLike, heldout: HeldoutText) -> Evaluation:
        """Score candidate `w` on every domain."""
        weights = self.weights_at(w)
        losses: list[list[torch.Tensor]] = [[] for _ in heldout.sequences]
        for cpu_batch in heldout.batches():
            batch = cpu_batch.to(self.model.device)
            losses[batch.domain].append(sequence_losses(self._forward(weights, batch.ids), batch.labels))
        return summarise(heldout, losses)

    def evaluate_with_gradient(self, w: npt.ArrayLike, heldout: HeldoutText) -> tuple[Evaluation, Floats]:
        """Scores of candidate `w`, and d loss_j / d w, shape (domains, components), in nats; one backward pass."""
        weights = self.weights_at(w)
        for name in self._formed:
            weights[name].requires_grad_(True)
        share = torch.zeros(self.n_components, dtype=self._some.dtype, device=self._some.device, requires_grad=True)
        losses: list[list[torch.Tensor]] = [[] for _ in heldout.sequences]
        gradient = np.zeros((len(heldout.sequences), self.n_components))
        batch_tokens = _CPU_BACKWARD_TOKENS if self._some.device.type == "cpu" else 8192
        with self._tapped(share):
            for cpu_batch in heldout.batches(batch_tokens):
                batch, j = cpu_batch.to(self.model.device), cpu_batch.domain
                values = sequence_losses(self._forward(weights, batch.ids), batch.labels)
                torch.autograd.backward(heldout.share_of_loss(values, batch))
                losses[j].append(values.detach())
                if sum(map(len, losses[j])) == len(heldout.sequences[j]):
                    gradient[j] = self._collect(weights, share)
        return summarise(heldout, losses), gradient

    @contextmanager
    def _tapped(self, share: torch.Tensor) -> Iterator[None]:
        """For as long as it is open, backward passes add to `share.grad` what the matrices without G give."""

        def hook(name: str) -> Any:
            def tap(_: torch.nn.Module, read: tuple[torch.Tensor, ...], written: torch.Tensor) -> Any:
                halves = (self.down[name], self.up[name])
                return _Tap.apply(written, share, read[0].detach(), *halves)  # type: ignore[no-untyped-call]

            return tap

        modules = [(name, self._layer(name)) for name in self._tappable]
        handles = [module.register_forward_hook(hook(name)) for name, module in modules]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _collect(self, weights: dict[str, torch.Tensor], share: torch.Tensor) -> Floats:
        """dL/dw from the gradients that lie on `weights` and `share`, which are cleared; shape (components,)."""
        total = np.zeros(self.n_components)
        for name in self._formed:
            slope = weights[name].grad
            if slope is not None:
                slope = slope.T if name in self._transposed else slope
                rows = ((self.up[name].T @ slope) * self.down[name]).sum(dim=1)
                total += rows.view(self.n_components, -1).sum(dim=1).double().cpu().numpy()
                weights[name].grad = None
        if share.grad is not None:
            total += share.grad.double().cpu().numpy()
            share.grad = None
        return total

    def _forward(self, weights: dict[str, torch.Tensor], ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = functional_call(self.model, weights, (), {"input_ids": ids}).logits
        return logits
