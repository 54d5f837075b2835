"""Continual midtraining: seven stages of real domains, each seed another order, against every baseline of OP-Mix.

    python benchmarks/midtraining.py [--seeds 0 1 2] [--arms evermix uniform ...] [--on-trunk [evermix uniform ...]]

It goes on where it stopped. What was not measured this time stays in the result file as it was, with the version that
measured it, and stands beside arms of the same version alone. `--arms` are trained with an optimiser of their own in
every phase (`trunk: false`); `--on-trunk` are trained on a trunk, and stand in the rows as `evermix, on a trunk`.
`evermix, always` decides before every stage, whether that is expected to be worth it or not; `uniform+compute of
always` has as many more tokens as that costs.

A 0.2M model learns Python and a dictionary first, then six domains one after the other, 400k tokens per stage. Judged
after every stage: mean perplexity over all domains seen so far (the objective of every arm that decides), forgetting,
and compute in FLOPs counted as METHODS 2 says. Written down before the first run and not changed afterwards; settings
of decisions were chosen on seed 100, which has other domains and another base.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import Any

import numpy as np
from harness import RESULTS, RUNS, Target, cost, mean_and_error, quoted_row, write_results

import evermix as em
from evermix.recipe import Recipe
from evermix.results import PhaseResult

ADDED = {
    "law": {"registry": "legal", "max_bytes": "1M"},
    "medicine": {"registry": "biomedical", "max_bytes": "2M"},
    "dialogue": {"registry": "dialogue", "max_bytes": "1M"},
    "german-manuals": {"registry": "manpages-de", "max_bytes": "1.5M"},
    "cpp": {"registry": "cpp-headers", "max_bytes": "3M"},
    "formal-maths": {"registry": "metamath", "max_bytes": "2M"},
}
BASE = {
    "python": {"registry": "python-stdlib", "max_bytes": "3M"},
    "dictionary": {"registry": "dictionary", "max_bytes": "3M"},
}
BASELINES = ("natural", "uniform", "naive", "fixed-replay", "retrain", "oracle")
MORE = ("mergemix", "lora-merge")  # not proxy-swarm: it costs 10,000 times the life
ON_TRUNK = ("evermix", "uniform")
TRUNK = ", on a trunk"
ALWAYS = "evermix, always"


def recipe(seed: int, arms: tuple[str, ...], *, trunk: bool = False, always: bool = False) -> Recipe:
    """The recipe of one seed; its order of the added domains is drawn from the seed.

    Args:
        always: decide whatever it is expected to gain.
    """
    order = np.random.default_rng(seed).permutation(list(ADDED)).tolist()
    return Recipe.model_validate(
        {
            "project": str(RUNS / f"midtraining-{seed}{'-trunk' if trunk else ''}{'-always' if always else ''}"),
            "seed": seed,
            "domains": [{"name": name, **source} for name, source in BASE.items()],
            "tokenizer": {"vocab_size": 512},
            "corpus": {"sequence_length": 64, "heldout_fraction": 0.05, "heldout_sequences": 128},
            "model": {"rung": "0.2M"},
            "training": {
                "tokens": 400_000,
                "batch_sequences": 16,
                "learning_rate": 5e-3,
                "evaluations": 4,
                "checkpoints": 1,
                "trunk": trunk,
            },
            "phases": [
                {"name": "base", "tokens": 400_000},
                *({"name": name, "add": [{"name": name, **ADDED[name]}]} for name in order),
            ],
            "constraints": {"floor": 0.01},
            "decision": {"always": always},
            "arms": list(arms),
        }
    )


def measured(seed: int, arms: tuple[str, ...], on_trunk: tuple[str, ...]) -> dict[str, tuple[PhaseResult, ...]]:
    """Row of the comparison -> its phases, trained now where they were not yet; baselines at equal compute too."""
    off = em.run(recipe(seed, arms)).arms if arms else {}
    on = dict(em.run(recipe(seed, on_trunk, trunk=True)).arms) if on_trunk else {}
    if "evermix" in on_trunk:
        always = em.run(recipe(seed, ("evermix", "uniform"), trunk=True, always=True)).arms
        on[ALWAYS], on["uniform+compute of always"] = always["evermix"], always["uniform+compute"]
    found = {name: arm.orders[0] for name, arm in off.items()}
    return found | {f"{name}{TRUNK}": arm.orders[0] for name, arm in on.items()}


def rows_of(seed: int, found: dict[str, tuple[PhaseResult, ...]]) -> list[dict[str, Any]]:
    """One row per arm and phase; `uniform+compute` is arm uniform at equal compute."""
    return [
        {
            "seed": seed,
            "arm": arm,
            "version": em.__version__,
            "stage": phase.phase,
            "number": phase.number,
            "new_share": phase.new_share,
            "mean_perplexity": phase.means_over_all.perplexity,
            "mean_loss_nats": phase.means_over_all.loss_nats,
            "mean_bits_per_byte": phase.means_over_all.bits_per_byte,
            "forgetting_nats": phase.forgetting_nats,
            "perplexity": {name: score.perplexity for name, score in phase.per_domain.items()},
            "cost": cost(phase.compute),
            "cumulative_cost": cost(phase.cumulative_compute),
            "sweep": swept(phase),
        }
        for arm, phases in found.items()
        for phase in phases
    ]


def swept(phase: PhaseResult) -> dict[str, float] | None:
    """Share of what is new -> the objective that it reached, where a sweep decided."""
    for decision in phase.decisions:
        if decision.evidence == "sweep":
            new = [(sum(shares.get(name, 0.0) for name in phase.new), value) for shares, value in decision.candidates]
            return {f"{share:g}": value for share, value in new}
    return None


def over_stages(rows: list[dict[str, Any]], arm: str, key: str, seed: int) -> list[float]:
    """A quantity after every stage but the first, which is the same for most arms."""
    return [row[key] for row in rows if row["arm"] == arm and row["seed"] == seed and row["number"]]


def gains(rows: list[dict[str, Any]], rival: str, seeds: list[int], ours: str = "evermix") -> list[float]:
    """Per seed: by how many percent an arm's mean perplexity is lower than a rival's, averaged over stages."""
    found = []
    for seed in seeds:
        ours_then, theirs = (np.array(over_stages(rows, arm, "mean_perplexity", seed)) for arm in (ours, rival))
        found.append(float(100 * np.mean(1 - ours_then / theirs)))
    return found


def on_trunk(rows: list[dict[str, Any]]) -> list[Target]:
    """Against uniform on the same trunk with the same tokens, and the best arm at up to 1.1 times the compute."""
    ours = f"evermix{TRUNK}"
    there = [row for row in rows if row["arm"].endswith(TRUNK)]
    if not there:
        return []
    seeds, version = sorted({row["seed"] for row in there}), there[0]["version"]
    gain, error = mean_and_error(gains(rows, f"uniform{TRUNK}", seeds, ours))
    what = "on a trunk: mean perplexity lower than of uniform on the same trunk, mean over stages"
    targets = [Target(what, gain, 2.0, "%"), Target(f"{what}, less two standard errors", gain - 2 * error, 0.0, "%")]
    others = dict.fromkeys(row["arm"] for row in rows if row["version"] == version and row["arm"] != ours)
    spent = {arm: np.mean([flops_of(rows, arm, seed) for seed in seeds]) for arm in (ours, *others)}
    near = [arm for arm in others if spent[arm] <= 1.1 * spent[ours]]
    least = min(near, key=lambda arm: float(np.mean(gains(rows, arm, seeds, ours))))
    what = f"on a trunk: mean perplexity lower than of the best other arm at up to 1.1 times the compute ({least})"
    return [*targets, Target(what, float(np.mean(gains(rows, least, seeds, ours))), 0.0, "%")]


def verdict(rows: list[dict[str, Any]], seeds: list[int]) -> list[Target]:
    """The issue's targets without a trunk, against baselines at equal compute where that was measured."""
    targets, names = [], [row["arm"] for row in rows]
    (version,) = {row["version"] for row in rows}
    for rival in ("retrain", "fixed-replay", "uniform"):
        quoted = quoted_row(rival, names)
        gain, error = mean_and_error(gains(rows, quoted, seeds))
        what = f"mean perplexity lower than of {quoted}, mean over stages"
        if rival == "retrain":
            targets.append(Target(what, gain, 0.0, "%"))
        else:
            targets.append(Target(f"{what}, less two standard errors", gain - 2 * error, 0.0, "%"))

    saved = [100 * (1 - flops_of(rows, "evermix", seed) / flops_of(rows, "retrain", seed)) for seed in seeds]
    targets.append(Target("cumulative compute saved against retraining at every stage", min(saved), 66.0, "%"))
    regret = []
    for seed in seeds:
        ours, best = (np.array(over_stages(rows, arm, "mean_loss_nats", seed)) for arm in ("evermix", "oracle"))
        regret.append(float(100 * np.mean(ours / best - 1)))
    what = "mean loss above that of the oracle sweep of the share, mean over stages"
    targets.append(Target(what, float(np.mean(regret)), 0.5, "%", at_least=False))
    return [replace(target, name=f"{target.name} (version {version})") for target in targets]


def markdown_table(rows: list[dict[str, Any]], ours: str = "evermix") -> str:
    """The lines of docs/phases.md: mean perplexity and compute of every arm without a trunk, against evermix's."""
    mine = [row for row in rows if row["arm"].endswith(TRUNK) == ours.endswith(TRUNK)]
    seeds = sorted({row["seed"] for row in mine})
    lines = ["| arm | mean perplexity | cumulative compute |", "|---|---|---|"]
    for arm in dict.fromkeys(row["arm"] for row in mine if row["arm"] != ours):
        above = []
        for seed in seeds:
            theirs, our = (np.array(over_stages(rows, each, "mean_perplexity", seed)) for each in (arm, ours))
            above.append(float(100 * np.mean(theirs / our - 1)))
        spent = np.mean([flops_of(rows, arm, seed) / flops_of(rows, ours, seed) for seed in seeds])
        mean, error = mean_and_error(above)
        lines.append(f"| `{arm}` | {mean:+.1f}% ± {error:.1f} | {spent:.2f} |")
    return "\n".join(lines)


def trunk_table(rows: list[dict[str, Any]]) -> str:
    """The same of the arms on a trunk."""
    return markdown_table(rows, f"evermix{TRUNK}")


def flops_of(rows: list[dict[str, Any]], arm: str, seed: int) -> float:
    """Of a whole life."""
    return next(r for r in reversed(rows) if r["arm"] == arm and r["seed"] == seed)["cumulative_cost"]["flops"]


def main() -> None:
    """Run what is asked for, and write it beside what was measured before."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="*", default=["evermix", *BASELINES, *MORE])
    parser.add_argument("--on-trunk", nargs="*", default=ON_TRUNK)
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for seed in asked.seeds:
        found = measured(seed, tuple(asked.arms), tuple(asked.on_trunk))
        rows += rows_of(seed, found)
        for arm in found:
            shown = [round(value, 2) for value in over_stages(rows, arm, "mean_perplexity", seed)]
            print(f"seed {seed} {arm:19s} mean perplexity after each stage: {shown}", flush=True)
    now = {(row["seed"], row["arm"]) for row in rows}
    before = json.loads((RESULTS / "midtraining.json").read_text())["rows"]
    rows = [*(row for row in before if (row["seed"], row["arm"]) not in now), *rows]
    without = [row for row in rows if not row["arm"].endswith(TRUNK)]
    seeds = sorted({row["seed"] for row in without})
    write_results("midtraining", sorted({row["seed"] for row in rows}), rows, verdict(without, seeds) + on_trunk(rows))
    print(trunk_table(rows))


if __name__ == "__main__":
    main()
