"""Continual midtraining of a mature model: SmolLM2-135M learns five domains new to it, each seed another order.

    python benchmarks/midtraining_mature.py [--seeds 0 1 2]      goes on where it stopped, killed at whatever moment
    python benchmarks/midtraining_mature.py --collect            writes the result of the orders that are done by now

The model learns general English first, which it knows: text of its own kind, that arms can replay, and on which is seen
what it forgets. Then formal maths, German manuals, medicine, Perl and pronunciation, 30,720 tokens each. `retrain`
begins every stage with the checkpoint and trains on all domains so far, with all their tokens. Judged after every
stage: mean perplexity over all domains seen, the loss on English, and compute in FLOPs counted as METHODS 2 says.
Written down before the first run; nothing was chosen on these orders (the rate is that of instruction_tuning.py).

With n stages of equal length and decisions that cost a part o of them, 1 - 2 (1 + o) / (n + 1) is saved against
retraining at every stage. By the plan of this recipe that is 67%, so the goal of 66% leaves little room.

One process, one thread. An order is some 1.2 PFLOP, half of it `retrain`: about six hours of a core of the machine of
the results (51 GFLOP a second, by the CPU time of its probes' steps on a busy machine), three orders most of a day, and
twice or more where the core is shared. An order keeps 14 GB of weights until it is done, and takes 3.5 GB of memory.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from harness import RUNS, Target, mean_and_error, write_results
from midtraining import flops_of, gains, rows_of

import evermix as em
from evermix.files import write_json
from evermix.recipe import Recipe

NAME = "midtraining_mature"
ENGLISH = "english"
ADDED = {
    "formal-maths": {"registry": "metamath", "max_bytes": "1M"},
    "german-manuals": {"registry": "manpages-de", "max_bytes": "1M"},
    "medicine": {"registry": "biomedical", "max_bytes": "1M"},
    "perl": {"registry": "perl", "max_bytes": "1M"},
    "pronunciation": {"registry": "pronunciation", "max_bytes": "1M"},
}
ALWAYS = "evermix, always"
ARMS = ("uniform", "evermix", ALWAYS, "fixed-replay", "naive", "retrain")
SEEDS = [0, 1, 2]
TOKENS = 30_720
LENGTH, BATCH = 128, 4


def recipe(seed: int, arm: str, tokens: int) -> Recipe:
    """The recipe of one seed, from which the order of the domains is drawn, and one arm.

    By default so short a stage keeps its start: `evermix, always` decides before every one.
    """
    order = np.random.default_rng(seed).permutation(list(ADDED)).tolist()
    return Recipe.model_validate(
        {
            "project": str(project(seed, tokens) / ("always" if arm == ALWAYS else "arms")),
            "seed": seed,
            "domains": [{"name": ENGLISH, "registry": "brown", "max_bytes": "1M"}],
            "model": {"checkpoint": "registry:smollm2-135m-instruct"},
            "corpus": {
                "sequence_length": LENGTH,
                "heldout_fraction": 0.05,
                "heldout_sequences": max(2, min(32, tokens // 960)),
                "store": str(RUNS / NAME / "tokens"),
                "workers": 1,
            },
            "training": {
                "tokens": tokens,
                "batch_sequences": BATCH,
                "learning_rate": 2e-4,
                "warmup_fraction": 0.1,
                "evaluations": 0,
                "checkpoints": 0,
                "precision": "bfloat16",
            },
            "phases": [
                {"name": ENGLISH},
                *({"name": name, "add": [{"name": name, **ADDED[name]}]} for name in order),
            ],
            "constraints": {"floor": 0.01},
            "decision": {"always": arm == ALWAYS},
            "arms": [trained(arm)],
        }
    )


def trained(arm: str) -> str:
    """The arm by its name in recipes."""
    return "evermix" if arm == ALWAYS else arm


def project(seed: int, tokens: int) -> Path:
    """Where an order is trained: 14 GB of weights, which are removed when the order is done."""
    return RUNS / NAME / f"{seed}-{tokens}"


def kept_rows(seed: int, arm: str, tokens: int) -> Path:
    """The rows of an arm that went through all stages."""
    return RUNS / NAME / f"rows-{seed}-{arm}-{tokens}.json"


def train(seed: int, tokens: int) -> None:
    """Every arm of an order that has no rows yet; what two arms have in common is trained once."""
    for arm in ARMS:
        if not kept_rows(seed, arm, tokens).exists():
            found = em.run(recipe(seed, arm, tokens)).arms[trained(arm)].orders[0]
            write_json(kept_rows(seed, arm, tokens), {"rows": rows_of(seed, {arm: found})})
        for row in load(seed, arm, tokens):
            print(f"seed {seed} {arm:12s} {row['number']} {row['stage']:15s} {described(row)}", flush=True)
    shutil.rmtree(project(seed, tokens), ignore_errors=True)


def load(seed: int, arm: str, tokens: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(kept_rows(seed, arm, tokens).read_text())["rows"]
    return rows


def described(row: dict[str, Any]) -> str:
    """A row in a line."""
    flops = row["cumulative_cost"]["flops"] / 1e12
    english = row["perplexity"][ENGLISH]
    return f"mean perplexity {row['mean_perplexity']:.3f}, English {english:.3f}, {flops:.0f} TFLOP so far"


def finished(seeds: list[int], tokens: int) -> list[int]:
    """Those whose order every arm went through."""
    return [seed for seed in seeds if all(kept_rows(seed, arm, tokens).exists() for arm in ARMS)]


def forgotten(rows: list[dict[str, Any]], arm: str, seed: int) -> float:
    """By how many nats per token English is worse at the end than it was after its own stage."""
    own = [row for row in rows if row["arm"] == arm and row["seed"] == seed]
    return float(np.log(own[-1]["perplexity"][ENGLISH] / own[0]["perplexity"][ENGLISH]))


def verdict(rows: list[dict[str, Any]], seeds: list[int]) -> list[Target]:
    """The goals, over the orders that are there."""
    of = f"{len(seeds)} of {len(SEEDS)} orders"
    targets = []
    for rival in ("retrain", "uniform", "fixed-replay", "naive"):
        gain, error = mean_and_error(gains(rows, rival, seeds))
        spread = f" (standard error {error:.2g})" if len(seeds) > 1 else ""
        targets.append(Target(f"mean perplexity lower than of {rival}, mean over stages, {of}{spread}", gain, 0.0, "%"))
    saved = [100 * (1 - flops_of(rows, "evermix", seed) / flops_of(rows, "retrain", seed)) for seed in seeds]
    targets.append(Target(f"cumulative compute saved against retraining, {of}", min(saved), 66.0, "%"))
    lost = float(np.mean([forgotten(rows, "evermix", seed) for seed in seeds]))
    targets.append(Target(f"general English forgotten after five domains, {of}", lost, 0.05, "nats", at_least=False))
    return targets


def collect(seeds: list[int], tokens: int) -> None:
    """Print the goals, and write results/midtraining_mature.json unless stages are shorter than they should be."""
    there = finished(seeds, tokens)
    print(f"{len(there)} of {len(seeds)} orders are done")
    rows = [row for seed in there for arm in ARMS for row in load(seed, arm, tokens)]
    if there and tokens == TOKENS:
        write_results(NAME, there, rows, verdict(rows, there))
    elif there:
        print(*verdict(rows, there), sep="\n")


def main() -> None:
    """Train what is asked for, then collect."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of a stage; others than the default are for trying")
    parser.add_argument("--collect", action="store_true", help="train nothing")
    asked = parser.parse_args()
    for seed in [] if asked.collect else asked.seeds:
        train(seed, asked.tokens)
    collect(asked.seeds, asked.tokens)


if __name__ == "__main__":
    main()
