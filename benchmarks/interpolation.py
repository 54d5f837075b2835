"""What does one candidate of the interpolation cost, and is it exact? Against merging and against PEFT's ways.

Every way scores the same candidate on the same held-out text, in one process, round-robin; a repetition's time is
divided by that of the plain forward pass in the same repetition, and medians and quartiles over repetitions are kept.
On a CPU times are CPU seconds of the one thread (another process on the machine then hardly matters); wall-clock
seconds are kept beside them, and are what counts on a GPU.

    python benchmarks/interpolation.py [--repetitions 9]
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from evermix.domains import DomainSet
from evermix.measure.interpolation import Adapter, Interpolation
from evermix.models.ladder import build_model
from evermix.models.loading import load_model
from evermix.training.evaluation import HeldoutText, evaluate

SEED = 20261121
RANK, ALPHA = 16, 32
B_STANDARD_DEVIATION = 0.02
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
PLAIN, OURS, GRADIENT = "plain forward pass", "interpolation", "interpolation with gradient"


@dataclass(frozen=True)
class Case:
    """A model, how many adapters, and the held-out text: `domains` x 16 sequences of 256 tokens."""

    name: str
    rung: str
    vocab_size: int
    n_adapters: int
    n_domains: int


CASES = (Case("a", "0.2M", 512, 11, 4), Case("b", "4M", 4096, 5, 1))


class Bench:
    """The base model, adapters on disk, one candidate `w`, and every way to score it."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.case, self.folder = case, folder
        rng = np.random.default_rng(SEED)
        self.base = self._base()
        self.adapters = [Adapter.load(self._save_adapter(k)) for k in range(case.n_adapters)]
        self.names = [str(k) for k in range(case.n_adapters)]
        self.w: np.ndarray[Any, np.dtype[np.float64]] = rng.dirichlet(np.ones(case.n_adapters))
        ranks = rng.zipf(1.3, (case.n_domains, 16, 256)) % case.vocab_size
        self.heldout = HeldoutText(
            DomainSet([f"d{j}" for j in range(case.n_domains)]),
            tuple(torch.from_numpy(ids.astype(np.int64)) for ids in ranks),
            np.full(case.n_domains, 16 * 255 * 3.0),
        )
        self.interpolation = Interpolation(self._base(), [self._on_device(a) for a in self.adapters])
        self.mergeable = self._base()
        self.peft = self._peft_model()
        self.all_active = self._peft_model()
        self.all_active.base_model.set_adapter(self.names)

    def _base(self) -> PreTrainedModel:
        model = build_model(self.case.rung, self.case.vocab_size, 256, 0, SEED)
        return model.to(DEVICE).eval().requires_grad_(False)

    def _on_device(self, adapter: Adapter) -> Adapter:
        halves = ({name: tensor.to(DEVICE) for name, tensor in half.items()} for half in (adapter.down, adapter.up))
        return Adapter(adapter.scale, *halves)

    def _save_adapter(self, k: int) -> Path:
        """An adapter as PEFT makes it, with random B of a trained one's size."""
        torch.manual_seed(SEED + k)
        config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(self._base(), config)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter.data, std=B_STANDARD_DEVIATION)
        model.save_pretrained(str(self.folder / str(k)))
        return self.folder / str(k)

    def _peft_model(self) -> PeftModel:
        model = PeftModel.from_pretrained(self._base(), str(self.folder / "0"), adapter_name="0")
        for name in self.names[1:]:
            model.load_adapter(str(self.folder / name), adapter_name=name)
        return model.eval()

    # ---- ways to evaluate the candidate: each returns the model to read logits from

    def methods(self) -> dict[str, Callable[[], object]]:
        return {
            PLAIN: lambda: evaluate(self.base, self.heldout),
            OURS: lambda: self.interpolation.evaluate(self.w, self.heldout),
            GRADIENT: lambda: self.interpolation.evaluate_with_gradient(self.w, self.heldout),
            "merged in place": lambda: self._merged_in_place(self._score),
            "merged to disk": lambda: self._merged_to_disk(self._score),
            "PEFT cat": lambda: self._combined("cat", self._score),
            "PEFT linear": lambda: self._combined("linear", self._score),
            "PEFT svd": lambda: self._combined("svd", self._score),
            "PEFT all active, set_scale": lambda: self._all_active(self._score),
        }

    def _score(self, model: PreTrainedModel) -> object:
        return evaluate(model, self.heldout)

    @torch.no_grad()
    def _add_deltas(self, model: PreTrainedModel) -> None:
        parameters = dict(model.named_parameters())
        for share, adapter in zip(self.w.tolist(), self.interpolation_adapters, strict=True):
            for name, up in adapter.up.items():
                parameters[name].addmm_(up, adapter.down[name], alpha=share * adapter.scale)

    @property
    def interpolation_adapters(self) -> list[Adapter]:
        if not hasattr(self, "_moved"):
            self._moved = [self._on_device(adapter) for adapter in self.adapters]
        return self._moved

    def _merged_in_place(self, then: Callable[[PreTrainedModel], object]) -> object:
        self._add_deltas(self.mergeable)
        result = then(self.mergeable)
        with torch.no_grad():
            for name, weight in self.base.named_parameters():
                self.mergeable.get_parameter(name).copy_(weight)
        return result

    def _merged_to_disk(self, then: Callable[[PreTrainedModel], object]) -> object:
        model = copy.deepcopy(self.base)
        self._add_deltas(model)
        with tempfile.TemporaryDirectory(dir=self.folder) as target:
            model.save_pretrained(target)
            return then(load_model(Path(target)).to(DEVICE))

    def _combined(self, kind: str, then: Callable[[PreTrainedModel], object]) -> object:
        rank = {"svd_rank": min(self.case.n_adapters * RANK, self.base.config.hidden_size)} if kind == "svd" else {}
        self.peft.add_weighted_adapter(self.names, self.w.tolist(), "mix", combination_type=kind, **rank)
        self.peft.set_adapter("mix")
        result = then(self.peft)
        self.peft.delete_adapter("mix")
        return result

    def _all_active(self, then: Callable[[PreTrainedModel], object]) -> object:
        for module in self.all_active.modules():
            if hasattr(module, "set_scale"):
                for name, share in zip(self.names, self.w.tolist(), strict=True):
                    module.set_scale(name, share)
        return then(self.all_active)

    # ---- exactness

    @torch.no_grad()
    def logit_errors(self) -> dict[str, float]:
        """Largest difference of a logit from a model whose weights were added up in float64."""
        ids = self.heldout.sequences[0][:4].to(DEVICE)
        target = self._base()
        for name, weight in target.named_parameters():
            if name in self.adapters[0].up:
                deltas = [
                    share * a.scale * (a.up[name].double() @ a.down[name].double())
                    for share, a in zip(self.w.tolist(), self.adapters, strict=True)
                ]
                weight.copy_((weight.double().cpu() + sum(deltas)).to(weight))
        expected = target(input_ids=ids).logits

        def read(model: PreTrainedModel) -> torch.Tensor:
            return model(input_ids=ids).logits.clone()

        found = {
            OURS: self.interpolation.logits(self.w, ids),
            "merged in place": self._merged_in_place(read),
            "merged to disk": self._merged_to_disk(read),
            **{f"PEFT {kind}": self._combined(kind, read) for kind in ("cat", "linear", "svd")},
            "PEFT all active, set_scale": self._all_active(read),
        }
        return {name: float((logits - expected).abs().max()) for name, logits in found.items()}

    def gradient_error(self) -> float:
        """Largest error of dL/dw relative to differences of fourth order of a float64 model's loss:
        (8 (L(h) - L(-h)) - (L(2h) - L(-2h))) / 12 h."""
        _, gradient = self.interpolation.evaluate_with_gradient(self.w, self.heldout)
        small = HeldoutText(self.heldout.domains, tuple(s[:16] for s in self.heldout.sequences), self.heldout.n_bytes)
        exact = Interpolation(self._base().double(), [self._on_device(a) for a in self.adapters])
        h = 0.05
        errors = []
        for i in np.linspace(0, self.case.n_adapters - 1, 3).astype(int):
            unit = np.eye(self.case.n_adapters)[i]
            up, down, up2, down2 = (exact.evaluate(self.w + k * h * unit, small).loss_nats for k in (1, -1, 2, -2))
            slope = (8 * (up - down) - (up2 - down2)) / (12 * h)
            errors.append(np.abs(gradient[:, i] - slope).max() / np.abs(slope).max())
        return float(max(errors))


def _seconds(method: Callable[[], object]) -> tuple[float, float]:
    """(CPU seconds, wall seconds) of one call."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    method()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.process_time() - cpu, time.perf_counter() - wall


def measure(case: Case, repetitions: int) -> list[dict[str, Any]]:
    """One row per way to evaluate a candidate."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(case, Path(folder))
        methods = bench.methods()
        for method in methods.values():
            method()
        times = {name: np.empty((repetitions, 2)) for name in methods}
        for k in range(repetitions):
            for name, method in methods.items():
                times[name][k] = _seconds(method)
            print(f"case {case.name}: repetition {k + 1} of {repetitions}", flush=True)
        errors, gradient_error = bench.logit_errors(), bench.gradient_error()
    clock = 1 if DEVICE.type == "cuda" else 0
    rows = []
    for name, seconds in times.items():
        ratio = seconds[:, clock] / times[PLAIN][:, clock]
        quartiles = np.percentile(ratio, [25, 50, 75])
        rows.append(
            {
                "case": case.name,
                "rung": case.rung,
                "n_adapters": case.n_adapters,
                "rank": RANK,
                "n_tokens": bench.heldout.n_tokens,
                "method": name,
                "cpu_seconds": float(np.median(seconds[:, 0])),
                "wall_seconds": float(np.median(seconds[:, 1])),
                "relative_time": float(quartiles[1]),
                "relative_time_quartiles": [float(quartiles[0]), float(quartiles[2])],
                "max_logit_error": errors.get(name),
                "max_relative_gradient_error": gradient_error if name == GRADIENT else None,
            }
        )
    return rows


def targets(rows: list[dict[str, Any]]) -> list[harness.Target]:
    """The issue's goals, per case."""
    found = []
    for case in CASES:
        row = {r["method"]: r for r in rows if r["case"] == case.name}
        label = f"{case.rung}, {case.n_adapters} adapters"
        found += [
            harness.Target(
                f"candidate ({label})", row[OURS]["relative_time"], 1.15, "x plain forward pass", at_least=False
            ),
            harness.Target(
                f"candidate and gradient ({label})", row[GRADIENT]["relative_time"], 3.2, "x plain forward pass", False
            ),
            harness.Target(f"logits ({label})", row[OURS]["max_logit_error"], 1e-4, "largest difference", False),
            harness.Target(
                f"gradient ({label})",
                row[GRADIENT]["max_relative_gradient_error"],
                1e-2,
                "relative to finite differences",
                False,
            ),
        ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="peft")
    rows = [row for case in CASES for row in measure(case, arguments.repetitions)]
    for row in rows:
        error = "" if row["max_logit_error"] is None else f"{row['max_logit_error']:.1e}"
        low, high = row["relative_time_quartiles"]
        print(f"{row['rung']:5} {row['method']:28} {row['relative_time']:6.2f} [{low:.2f}, {high:.2f}]  {error}")
    harness.write_results("interpolation", [SEED], rows, targets(rows))


if __name__ == "__main__":
    main()
