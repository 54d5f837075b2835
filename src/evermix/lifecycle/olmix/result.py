"""The record of a swarm's decision: domains, proxies and their cost, the mixture, its evidence, and what reuse cost."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import spearmanr

from evermix.lifecycle.olmix.deciding import Decided
from evermix.lifecycle.olmix.workshop import Workshop, held_out_metrics, requested_tokens
from evermix.trust.measured import run_objective

_FEWEST = 4  # runs that a rank correlation is told for


def decision_record(shop: Workshop, decided: Decided) -> dict[str, Any]:
    """Plain values, for `result.json`."""
    recommendation, diagnosis = decided.recommendation, decided.diagnosis
    return {
        "model": shop.recipe.model.checkpoint or shop.recipe.model.rung,
        "n_tokens": requested_tokens(shop.recipe),
        "max_epochs": shop.recipe.constraints.max_epochs,
        "domains": _domains(shop, decided),
        "swarm": _swarm(shop, decided),
        "mixture": dict(decided.mixture.as_dict),
        "proposal": None if recommendation is None else recommendation.as_dict,
        "era": shop.study.era.number,
        "strategy": shop.study.era.strategy,
        "released": list(decided.released),
        "diagnosis": None if diagnosis is None else diagnosis.as_dict,
        "held_out_tasks": _held_out(shop, decided),
    }


def _domains(shop: Workshop, decided: Decided) -> list[dict[str, Any]]:
    epochs = decided.mixture.epochs(requested_tokens(shop.recipe))
    return [
        {
            "name": row["name"],
            "n_tokens": domain.n_tokens,
            "n_bytes": row["train_n_bytes"],
            "n_documents": row["train_n_documents"],
            "share": decided.mixture[domain.name],
            "epochs": float(passes),
        }
        for row, domain, passes in zip(shop.store.counts(), shop.store.domains, epochs, strict=True)
    ]


def _swarm(shop: Workshop, decided: Decided) -> dict[str, Any]:
    """What the proxies were, how many, and what they cost; this era's apart from those of all eras."""
    entries = shop.project.ledger.entries()
    proxies = {entry.key: entry.payload for entry in entries if entry.kind == "proxy"}
    rescored = sum(entry.payload["flops"] for entry in entries if entry.kind == "rescore")
    here = [proxies[run_id] for run_id in _runs_of_era(shop) if run_id in proxies]
    swarm = shop.swarm
    return {
        "rung": swarm.training.rung,
        "n_parameters": {
            "non_embedding": shop.proxy_size.non_embedding,
            "output_projection": shop.proxy_size.output_projection,
        },
        "steps": swarm.steps,
        "tokens_per_proxy": swarm.n_tokens,
        "simulated_epoching": shop.recipe.swarm.simulated_epoching,
        "metrics": [name for metric in swarm.metrics for name in metric.names],
        "this_era": _cost(here),
        "all_eras": _cost(list(proxies.values()), rescored),
        "left_out": [vars(run) for run in decided.left_out],
    }


def _runs_of_era(shop: Workshop) -> list[str]:
    view = shop.study.now()
    numbers = {view.era.number} | ({view.era.parent} if view.era.is_release else set())
    return [run_id for run_id, told in view.state.told.items() if told.era in numbers]


def _cost(proxies: list[dict[str, Any]], rescored: float = 0.0) -> dict[str, Any]:
    """Runs, tokens, FLOPs and seconds, each distinct training once; and FLOPs of scoring old runs anew."""
    distinct = {proxy["proxy"]: proxy for proxy in proxies}.values()
    return {
        "n_runs": len(proxies),
        "n_trained": len(distinct),
        "n_tokens": sum(proxy["n_tokens"] for proxy in distinct),
        "flops": sum(proxy["flops"] for proxy in distinct) + rescored,
        "seconds": sum(proxy["seconds"] for proxy in distinct),
    }


def _held_out(shop: Workshop, decided: Decided) -> dict[str, Any]:
    """Per metric of a held-out task: how its ranking of the runs agrees with the fitted objective (Spearman)."""
    hidden, recommendation = held_out_metrics(shop.recipe), decided.recommendation
    if not hidden or recommendation is None:
        return {}
    fitted = recommendation.fitted
    observations = fitted.observations
    objective = run_objective(observations, fitted.objective, fitted.law.predict(observations.weights))
    proxies = {entry.key: entry.payload for entry in shop.project.ledger.entries() if entry.kind == "proxy"}
    rows = [
        (value, proxies[run_id]["metrics"])
        for run_id, value in zip(observations.run_ids or (), objective.values.tolist(), strict=True)
        if run_id in proxies
    ]
    names = [name for name in dict.fromkeys(n for _, m in rows for n in m) if name.split(":")[0] in hidden]
    maximised = {name for metric in shop.swarm.metrics for name in metric.maximised}
    found = {}
    for name in names:
        pairs = np.array([(value, metrics[name]) for value, metrics in rows if name in metrics])
        if len(pairs) >= _FEWEST and np.ptp(pairs[:, 1]) > 0:
            rank = float(spearmanr(pairs[:, 0], pairs[:, 1]).statistic)
            found[name] = {"agreement": -rank if name in maximised else rank, "n_runs": len(pairs)}
    return found
