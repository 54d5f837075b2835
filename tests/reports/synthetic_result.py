"""A result of ten domains and three arms, built by a formula; shapes as `evermix run` writes them."""

from __future__ import annotations

import math
from typing import Any

NAMES = (
    "web",
    "python-code",
    "stackexchange:questions-and-answers:high",
    "论文",
    "Übersetzungen",
    "a-domain-with-a-name-that-goes-on-and-on-and-on-for-ever",
    "wiki [en] $x$",
    "<b>books</b> & more",
    "noise",
    "legal",
)
ARMS = ("natural", "uniform", "evermix")
TOTAL = 4_000_000
WEIGHT_SHIFT = (0.04, 0.06, 0.03, 0.02, 0.01, 0.0, -0.02, -0.03, -0.08, -0.03)


def result(n_domains: int = 10, gain: float = 0.05) -> dict[str, Any]:
    """`gain`: how many nats the evermix arm is below uniform on every domain but the ninth."""
    names = [*NAMES, *[f"domain-{j}" for j in range(len(NAMES), n_domains)]][:n_domains]
    sizes = {name: 60_000 * (j + 1) ** 2 for j, name in enumerate(names)}
    mixtures = _mixtures(names, sizes)
    arms = {arm: _arm(arm, names, sizes, mixtures, gain) for arm in ARMS}
    return {
        "evermix_version": "0.1.0",
        "recipe_fingerprint": "0123456789abcdef",
        "seed": 0,
        "objective": {"quantity": "perplexity", "weights": {n: float(n != "noise") for n in names}},
        "total_tokens": TOTAL,
        "n_parameters": {"non_embedding": 200_000, "output_projection": 65_536},
        "model": "0.2M",
        "domains": [
            {"name": n, "n_tokens": s, "n_bytes": 3 * s, "n_documents": s // 400, "heldout_tokens": 32_768}
            for n, s in sizes.items()
        ],
        "arms": arms,
        "decisions": [_decision(names, mixtures, arms["evermix"])],
    }


def _mixtures(names: list[str], sizes: dict[str, int]) -> dict[str, dict[str, float]]:
    total = sum(sizes.values())
    uniform = {name: 1 / len(names) for name in names}
    shift = [*WEIGHT_SHIFT, *[0.0] * len(names)][: len(names)]
    raw = {name: max(uniform[name] + s, 0.01) for name, s in zip(names, shift, strict=True)}
    decided = {name: value / sum(raw.values()) for name, value in raw.items()}
    return {"natural": {n: s / total for n, s in sizes.items()}, "uniform": uniform, "evermix": decided}


def _arm(arm: str, names: list[str], sizes: dict[str, int], mixtures: dict[str, Any], gain: float) -> dict[str, Any]:
    def loss(j: int, part: float) -> float:
        offset = {"natural": 0.12 if j < 5 else -0.02, "uniform": 0.0, "evermix": 0.2 if j == 8 else -gain}[arm]
        return 2.4 + 0.2 * (j % 5) + offset * part + 2.5 * math.exp(-4 * part)

    per_domain = {n: _measured(loss(j, 1.0)) for j, n in enumerate(names)}
    counted = [per_domain[n] for n in names if n != "noise"]
    share = mixtures[arm]
    parts = {"training": 6.4e12, "probes": 0.0, "evaluation": 2.0e11, "cross_checks": 0.0}
    if arm == "evermix":
        parts |= {"probes": 7.1e11, "cross_checks": 3e11}
    return {
        "mixture": share,
        "average_mixture": share,
        "schedule": [{"start_token": 0, "mixture": share}],
        "objective_value": sum(one["perplexity"] for one in counted) / len(counted),
        "mean_loss_nats": sum(one["loss_nats"] for one in per_domain.values()) / len(names),
        "mean_bits_per_byte": sum(one["bits_per_byte"] for one in per_domain.values()) / len(names),
        "mean_perplexity": sum(one["perplexity"] for one in per_domain.values()) / len(names),
        "per_domain": per_domain,
        "epochs": {n: TOTAL * share[n] / sizes[n] for n in names},
        "tokens": {n: round(TOTAL * share[n]) for n in names},
        "flops": sum(parts.values()),
        "flops_by_part": parts,
        "seconds_by_part": {"training": 310.0, "evaluation": 20.0},
        "curve": [
            {"n_tokens": round(TOTAL * k / 8), "loss_nats": {n: loss(j, k / 8) for j, n in enumerate(names)}}
            for k in range(1, 9)
        ],
    }


def _measured(loss: float) -> dict[str, float]:
    return {
        "loss_nats": loss,
        "loss_stderr_nats": 0.008,
        "bits_per_byte": loss / (3 * math.log(2)),
        "perplexity": math.exp(loss),
    }


def _decision(names: list[str], mixtures: dict[str, Any], arm: dict[str, Any]) -> dict[str, Any]:
    realised = {n: one["loss_nats"] for n, one in arm["per_domain"].items()}
    predicted = {n: value + 0.03 * math.sin(j) for j, (n, value) in enumerate(realised.items())}
    tilted = {n: (mixtures["evermix"][n] + mixtures["uniform"][n]) / 2 for n in names}
    modes = {
        mode: {"mixture": share, "predicted_loss_nats": predicted, "objective_value": value, "status": "optimal"}
        for mode, share, value in (
            ("probe-law", mixtures["evermix"], 15.1),
            ("interpolation", tilted, 15.3),
            ("gradient", tilted, 15.2),
        )
    }
    return {
        "arm": "evermix",
        "at_token": round(0.4 * TOTAL),
        "at_fraction": 0.4,
        "mode": "probe-law",
        "prior": mixtures["uniform"],
        "old": mixtures["uniform"],
        "mixture": mixtures["evermix"],
        "kl_weight": 0.05,
        "binding": ["web: epochs"],
        "predicted_loss_nats": predicted,
        "predicted_objective": {"chosen": 15.1, "start": 15.9, "natural": 17.2, "uniform": 15.9},
        "realised_loss_nats": realised,
        "modes": modes,
        "flops": 1.01e12,
        "seconds": 61.0,
        "flops_by_part": {"probes": 6.9e11, "evaluation": 2e10, "cross_checks": 3e11},
    }
