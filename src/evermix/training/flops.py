"""Compute in FLOPs, counted alike everywhere (METHODS 2, last paragraph).

With N = non-embedding parameters + output projection: training 6 N per token, LoRA training of a frozen base 4 N,
evaluation 2 N.
"""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedModel


@dataclass(frozen=True)
class ModelSize:
    """Parameter counts of a model (no unit)."""

    non_embedding: int
    output_projection: int

    @classmethod
    def of(cls, model: PreTrainedModel) -> ModelSize:
        """Count a model; a tied output projection counts once more, for it computes once more."""
        embedding = model.get_input_embeddings().weight
        output = model.get_output_embeddings().weight
        total = sum(parameter.numel() for parameter in model.parameters())
        tied = output is embedding
        body = total - embedding.numel() - (0 if tied else output.numel())
        return cls(body, output.numel())

    @property
    def counted(self) -> int:
        """N of the formulas."""
        return self.non_embedding + self.output_projection

    def training(self, n_tokens: float) -> float:
        """FLOPs of training every weight on `n_tokens`."""
        return 6.0 * self.counted * n_tokens

    def adapter_training(self, n_tokens: float) -> float:
        """FLOPs of training LoRA adapters on `n_tokens`."""
        return 4.0 * self.counted * n_tokens

    def evaluation(self, n_tokens: float) -> float:
        """FLOPs of a forward pass over `n_tokens`."""
        return 2.0 * self.counted * n_tokens
