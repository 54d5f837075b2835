"""LoRA adapters as plain tensors: the update of a weight W is Delta = (alpha / r) B A."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from evermix.errors import CheckpointError

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
        halves: dict[str, dict[str, torch.Tensor]] = {"A": {}, "B": {}}
        for name, tensor in tensors.items():
            match = _NAME.fullmatch(name)
            if match is None:
                raise CheckpointError(f"{folder}: the adapter must hold LoRA matrices only", received=name)
            halves[match["half"]][f"{match['module']}.weight"] = tensor.float()
        return cls(config["lora_alpha"] / config["r"], halves["A"], halves["B"])
