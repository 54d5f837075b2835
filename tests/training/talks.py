"""A store of conversations beside text, and models for it, for the tests of trainers."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import PreTrainedModel

from evermix.corpus import StoreSettings, TextSource, TokenStore, build_store, train_bpe
from evermix.mixture import Mixture
from evermix.models.ladder import build_model
from evermix.schedule import MixtureSchedule
from evermix.training.segment import LearningRate, Optimisation, Segment

LENGTH = 48


def talk_store(folder: Path) -> TokenStore:
    """A chat domain, with answers of one to three words and plain prompts, and a text domain."""
    lines = [json.dumps({"prompt": f"count to {k}:", "answer": " größe" * (1 + k % 3)}) for k in range(80)]
    (folder / "talk.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "prose.txt").write_text("\n".join(f"one could count to {k} and back" for k in range(200)))
    sources = [
        TextSource("talk", ("talk.jsonl",), format="chat"),
        TextSource("prose", ("prose.txt",), documents="line"),
    ]
    tokenizer = train_bpe({"a": [(folder / "prose.txt").read_text()]}, 300)
    return build_store(sources, tokenizer, folder / "s", StoreSettings(LENGTH, 0.3, base=folder))


def new_model(store: TokenStore) -> PreTrainedModel:
    """The same random model each time."""
    return build_model("0.2M", store.vocab_size, LENGTH, store.end_id, seed=1)


def weights(model: PreTrainedModel) -> torch.Tensor:
    """All of them, shape (weights,)."""
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def segment_of(store: TokenStore, end: int, share: float = 0.6, accumulation: int = 1) -> Segment:
    """A segment with `share` of the first domain, the rest of the second."""
    shares = [share, 1 - share] if len(store.domains) == 2 else [1.0]
    optimisation = Optimisation(3e-3, LearningRate("wsd", 8, 2, 3), 6, gradient_accumulation=accumulation)
    schedule = MixtureSchedule.constant(Mixture(store.domains, shares))
    return Segment(schedule, end, optimisation, 7, (end,), (4, end), first_sequence=12)
