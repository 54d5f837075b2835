"""The ladder: Llama-style models (RMSNorm, rotary positions, SwiGLU, tied embeddings) named by their
non-embedding parameters; and the size of any model, by which compute is counted in FLOPs.

A layer of width d with feed-forward width f has 4 d^2 + 3 d f + 2 d parameters. Compute is counted alike everywhere
(METHODS 2, last paragraph). With N = non-embedding parameters + output projection: training 6 N per token, LoRA
training of a frozen base 4 N, evaluation 2 N.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from evermix.errors import RecipeError


@dataclass(frozen=True)
class Rung:
    """Shape of one model of the ladder: widths in features."""

    width: int
    feed_forward: int
    layers: int
    heads: int


LADDER: dict[str, Rung] = {
    "0.05M": Rung(48, 112, 2, 3),
    "0.2M": Rung(64, 176, 4, 4),
    "1M": Rung(128, 344, 5, 4),
    "4M": Rung(256, 688, 5, 4),
    "15M": Rung(384, 1120, 8, 6),
    "30M": Rung(512, 1280, 10, 8),
    "60M": Rung(640, 1760, 12, 10),
}


def find_rung(name: str) -> Rung:
    """The rung called `name`; RecipeError lists the known ones."""
    if name not in LADDER:
        raise RecipeError("model.rung must be on the ladder", received=name, hint=f"known: {', '.join(LADDER)}")
    return LADDER[name]


def counted_parameters(name: str, vocab_size: int) -> int:
    """N of the FLOPs: layers (4 d^2 + 3 d f + 2 d) + d + vocabulary d, non-embedding and output projection."""
    rung = find_rung(name)
    layer = 4 * rung.width**2 + 3 * rung.width * rung.feed_forward + 2 * rung.width
    return rung.layers * layer + rung.width + vocab_size * rung.width


def build_model(name: str, vocab_size: int, sequence_length: int, end_id: int, seed: int) -> PreTrainedModel:
    """A freshly initialised model; the same seed gives the same weights."""
    rung = find_rung(name)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=rung.width,
        intermediate_size=rung.feed_forward,
        num_hidden_layers=rung.layers,
        num_attention_heads=rung.heads,
        num_key_value_heads=rung.heads,
        max_position_embeddings=sequence_length,
        tie_word_embeddings=True,
        bos_token_id=end_id,
        eos_token_id=end_id,
        use_cache=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


# ---- compute


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
