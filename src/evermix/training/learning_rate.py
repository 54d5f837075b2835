"""Learning-rate schedules over the steps of a whole run, as factors of the peak rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class LearningRate:
    """Factor of the peak learning rate at each step.

    Warm-up: (s + 1) / w for s < w. Then either
    - `wsd` (warmup-stable-decay): 1, and over the last d steps linearly to zero: (total - s) / d;
    - `cosine`: 0.1 + 0.45 (1 + cos(pi (s - w) / (total - w)));
    - `constant`: 1.

    Attributes:
        total_steps, warmup_steps, decay_steps: optimiser steps.
    """

    kind: Literal["wsd", "cosine", "constant"]
    total_steps: int
    warmup_steps: int = 0
    decay_steps: int = 0

    def __call__(self, step: int) -> float:
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.kind == "constant":
            return 1.0
        if self.kind == "wsd":
            return min(1.0, max(self.total_steps - step, 0) / max(self.decay_steps, 1))
        progress = (step - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1)
        return 0.1 + 0.45 * (1 + math.cos(math.pi * min(progress, 1.0)))
