"""What every benchmark here shares: the machine's name, domain sets as recipes, and the form of result files."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import yaml
from parts_of_corpora import in_recipe

from evermix.files import write_json
from evermix.recipe import Recipe
from evermix.results import Compute

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent))  # some benchmarks use what the tests have
RESULTS = HERE / "results"
RUNS = HERE.parent / "runs" / "bench"


@dataclass(frozen=True)
class Target:
    """A goal that the issue names: `at_least` says whether value >= goal or value <= goal is wanted."""

    name: str
    value: float
    goal: float
    unit: str
    at_least: bool = True

    @property
    def met(self) -> bool:
        return bool(self.value >= self.goal if self.at_least else self.value <= self.goal)


def machine() -> dict[str, Any]:
    """Processor, cores and versions that a result was measured with."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    import torch

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "gpu": gpu,
        "threads_per_process": 1,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def write_results(name: str, seeds: list[int], rows: list[dict[str, Any]], targets: list[Target]) -> None:
    """Write `results/NAME.json` and print its targets."""
    listed = [{k: v for k, v in {**asdict(t), "met": t.met}.items() if k != "at_least"} for t in targets]
    write_json(RESULTS / f"{name}.json", {"machine": machine(), "seeds": seeds, "rows": rows, "targets": listed})
    for target in targets:
        sign = ">=" if target.at_least else "<="
        verdict = "met    " if target.met else "NOT met"
        print(f"{verdict} {target.name}: {target.value:.4g} {sign} {target.goal:g} {target.unit}")


@dataclass(frozen=True)
class DomainSetUnderTest:
    """A domain set fixed in `domain_sets/`: its domains, which of them are clean, and a skewed objective."""

    label: str
    domains: list[dict[str, Any]]
    clean: list[str]
    skewed: dict[str, float]

    @classmethod
    def load(cls, label: str) -> DomainSetUnderTest:
        content = yaml.safe_load((HERE / "domain_sets" / f"{label}.yaml").read_text())
        return cls(label, content["domains"], content["clean"], content["skewed"])

    def objectives(self) -> dict[str, dict[str, float]]:
        """The three objectives of the benchmark: mean of the clean domains, mean of all, skewed."""
        return {
            "clean": dict.fromkeys(self.clean, 1.0),
            "all": {domain["name"]: 1.0 for domain in self.domains},
            "skewed": self.skewed,
        }

    def recipe(self, seed: int, project: str, **changes: Any) -> Recipe:
        """The benchmark's recipe: a 0.2M model, by default 1.6M tokens in 1,562 steps, decided within the run."""
        content = {
            "project": str(RUNS / project),
            "seed": seed,
            "domains": in_recipe(self.domains, RUNS / "parts"),
            "tokenizer": {"vocab_size": 512},
            "corpus": {
                "sequence_length": 64,
                "store": str(RUNS / f"tokens-{self.label}"),
                "heldout_sequences": 256,
                "heldout_fraction": 0.05,
            },
            "model": {"rung": "0.2M"},
            "training": {
                "tokens": changes.pop("tokens", 1_600_000),
                "batch_sequences": 16,
                "learning_rate": 5e-3,
                "evaluations": 8,
            },
            "constraints": {"max_epochs": 8, "floor": 0.01},
            **changes,
        }
        return Recipe.model_validate(content)


def quoted_row(baseline: str, measured: Iterable[str]) -> str:
    """The row of a baseline that a gain is quoted against: at equal compute where that was measured."""
    equal = f"{baseline}+compute"
    return equal if equal in set(measured) else baseline


def both_rows(baseline: str, measured: Iterable[str]) -> list[str]:
    """The rows of a baseline in a table: with equal tokens, and at equal compute where that was measured."""
    return list(dict.fromkeys([baseline, quoted_row(baseline, measured)]))


def cost(compute: Compute) -> dict[str, Any]:
    """What work cost, in all and by part, as plain values."""
    total = {"flops": compute.flops, "n_tokens": compute.n_tokens, "seconds": compute.seconds}
    return total | {"by_part": {name: part.model_dump() for name, part in compute.by_part.items()}}


def mean_and_error(values: list[float]) -> tuple[float, float]:
    """Mean and its standard error over seeds."""
    array = np.array(values, dtype=float)
    return float(array.mean()), float(array.std(ddof=1) / np.sqrt(len(array))) if len(array) > 1 else float("nan")


def load_results(name: str) -> dict[str, Any]:
    """A committed result file."""
    content: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return content
