"""The result of a life of some stages by some arms, built by a formula; shapes as `evermix run` writes them."""

from __future__ import annotations

import math
from typing import Any

NAMES = ("web", "论文", "<b>books</b> & more", "wiki $x$", "law (2)", "a-domain-with-a-name-that-goes-on-and-on")
ARMS = {"evermix": -0.06, "uniform": 0.0, "naive": 1.2, "retrain": -0.05}
"""Arm -> nats above uniform on every domain."""
STEP = 1e9


def life(
    n_stages: int = 4, n_orders: int = 1, arms: dict[str, float] | None = None, *, accuracy: bool = False
) -> dict[str, Any]:
    """Phase k has domains 0 to k; every order has another luck, the same for all arms but a little."""
    shifts = ARMS if arms is None else arms
    lives = {
        arm: [_life(arm, shift, n_stages, order, accuracy) for order in range(n_orders)]
        for arm, shift in shifts.items()
    }
    names = [f"s{k}" for k in range(n_stages)]
    return {
        "evermix_version": "0.1.0",
        "recipe_fingerprint": "0123456789abcdef",
        "seed": 7,
        "model": "0.2M",
        "n_parameters": {"non_embedding": 200_000, "output_projection": 65_536},
        "objective": {"quantity": "perplexity", "weights": None},
        "max_epochs": 4.0,
        "orders": [[names[0], *names[1 + k % 2 :], *names[1 : 1 + k % 2]] for k in range(n_orders)],
        "domains": [{"name": name, "n_rows": 1000 * (j + 1)} for j, name in enumerate(NAMES[:n_stages])],
        "lives": lives,
        "arms": {},
    }


def _life(arm: str, shift: float, n_stages: int, order: int, accuracy: bool) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for stage in range(n_stages):
        names = NAMES[: stage + 1]
        losses = {name: 3 + 0.1 * j + shift * (stage > 0) + 0.02 * order for j, name in enumerate(names)}
        losses = {name: loss + 0.003 * order * (arm == "uniform") for name, loss in losses.items()}
        parts = _parts(arm, stage)
        row = {
            "arm": arm,
            "stage": f"s{stage}",
            "number": stage,
            "kind": "midtrain" if stage else "pretrain",
            "new": [names[-1]],
            "mixture": dict.fromkeys(names, 1 / (stage + 1)) if arm != "naive" else {names[-1]: 1.0},
            "new_share": 1.0 if arm == "naive" else 1 / (stage + 1),
            "per_domain": {
                name: {
                    "loss_nats": loss,
                    "loss_stderr_nats": 0.01,
                    "bits_per_byte": loss / 3,
                    "perplexity": math.exp(loss),
                }
                for name, loss in losses.items()
            },
            "objective_value": sum(map(math.exp, losses.values())) / len(losses),
            "mean_loss_nats": sum(losses.values()) / len(losses),
            "mean_bits_per_byte": sum(losses.values()) / len(losses) / 3,
            "mean_perplexity": sum(map(math.exp, losses.values())) / len(losses),
            "forgetting_nats": dict.fromkeys(names[:-1], shift),
            "mean_forgetting_nats": shift if stage else 0.0,
            "cost": _sum([parts]),
            "cumulative_cost": _sum([*(earlier["cost"]["by_part"] for earlier in rows), parts]),
            "told": _told(arm, stage, names),
        }
        if accuracy:
            row["mean_accuracy"] = 0.5 - 0.1 * shift
            row["scoring_cost"] = _sum([{"scoring": {"flops": 5e6, "n_tokens": 1e3, "seconds": 1.0}}])
            row["tasks"] = {"spelling:accuracy": {"value": 0.5 - 0.1 * shift, "stderr": 0.02}}
        rows.append(row)
    return rows


def _parts(arm: str, stage: int) -> dict[str, dict[str, float]]:
    def part(flops: float) -> dict[str, float]:
        return {"flops": flops, "n_tokens": flops / 1e3, "seconds": flops / 1e9}

    if not stage:
        return {"prefix": part(STEP)}
    own = {"training": part(STEP * (1 + stage) if arm == "retrain" else STEP)}
    return {"probes": part(STEP / 10), "evaluation": part(STEP / 50), **own} if arm == "evermix" else own


def _sum(costs: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    parts: dict[str, dict[str, float]] = {}
    for cost in costs:
        for name, values in cost.items():
            part = parts.setdefault(name, {"flops": 0.0, "n_tokens": 0.0, "seconds": 0.0})
            for key in part:
                part[key] += values[key]
    return {key: sum(part[key] for part in parts.values()) for key in ("flops", "n_tokens", "seconds")} | {
        "by_part": parts
    }


def _told(arm: str, stage: int, names: tuple[str, ...]) -> dict[str, Any]:
    if arm == "oracle" and stage:
        return {"new_share": 0.3, "sweep": {"0.1": 21.0, "0.3": 20.0, "0.5": 22.0}}
    if arm != "evermix" or not stage:
        return {}
    return {
        "stage": f"s{stage}",
        "mode": "probe-law",
        "new": [names[-1]],
        "released": [],
        "shares": {"old": 0.7, names[-1]: 0.3},
        "new_share": 0.3,
        "mixture": {name: 1 / len(names) for name in names},
        "binding": [f"{names[-1]}: cap"],
        "costs": [
            {"part": "probes", "flops": 1e8, "n_tokens": 1e5, "seconds": 2.0},
            {"part": "evaluation", "flops": 2e7, "n_tokens": 1e4, "seconds": 0.5},
        ],
    }
