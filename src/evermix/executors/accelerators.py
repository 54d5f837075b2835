"""Which accelerators this process may use, so that each worker gets one of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "CUDA_VISIBLE_DEVICES"
_DRIVER = Path("/proc/driver/nvidia/gpus")


def visible_accelerators(environment: Mapping[str, str] = os.environ, driver: Path = _DRIVER) -> tuple[str, ...]:
    """As CUDA_VISIBLE_DEVICES lists them; where that is unset, the numbers of all that the driver knows."""
    listed = environment.get(VARIABLE)
    if listed is not None:
        return tuple(name.strip() for name in listed.split(",") if name.strip())
    return tuple(str(k) for k in range(len(list(driver.iterdir())))) if driver.is_dir() else ()


def one_of(accelerators: tuple[str, ...], place: int) -> dict[str, str]:
    """The variable that shows a worker one accelerator of several, in turn; nothing where there are fewer than two."""
    return {VARIABLE: accelerators[place % len(accelerators)]} if len(accelerators) > 1 else {}
