"""Why retraining at every stage stays ahead: the gap to it at stages of two lengths.

    python benchmarks/stage_length.py [--seeds 0]      goes on where it stopped

The lives of midtraining.py with three stages (a base and two domains). Retraining trains on everything anew, for as
long as all stages so far; the continual model has read as much by then, but of the newest domain no more than its share
of one stage. If that is what separates them, the gap closes as stages get longer.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from harness import RUNS, write_results
from midtraining import recipe as life

from evermix.lifecycle.continual import run
from evermix.recipe import Recipe

LENGTHS = (400_000, 1_600_000)
ARMS = ("evermix", "retrain")
N_STAGES = 3


def recipe(seed: int, tokens: int) -> Recipe:
    """The first stages of a seed's life, each of so many tokens."""
    content = life(seed, ARMS).model_dump(mode="json", exclude_unset=True)
    content["project"] = str(RUNS / f"stage-length-{seed}-{tokens}")
    content["training"]["tokens"] = tokens
    content["phases"] = [phase | {"tokens": tokens} for phase in content["phases"][:N_STAGES]]
    return Recipe.model_validate(content)


def rows_of(seed: int, tokens: int) -> list[dict[str, Any]]:
    """One row per stage after the first: mean perplexities, and how far each domain's loss is above retraining's."""
    lives = {arm: orders[0] for arm, orders in run(recipe(seed, tokens))["lives"].items()}
    rows = []
    for ours, theirs in zip(lives["evermix"][1:], lives["retrain"][1:], strict=True):
        gaps = {
            name: scores["loss_nats"] - theirs["per_domain"][name]["loss_nats"]
            for name, scores in ours["per_domain"].items()
        }
        rows.append(
            {
                "seed": seed,
                "tokens_per_stage": tokens,
                "stage": ours["stage"],
                "mean_perplexity": ours["mean_perplexity"],
                "mean_perplexity_of_retraining": theirs["mean_perplexity"],
                "above_retraining_percent": 100 * (ours["mean_perplexity"] / theirs["mean_perplexity"] - 1),
                "loss_above_retraining_nats": gaps,
                "new_domain_above_retraining_nats": float(np.mean([gaps[name] for name in ours["new"]])),
            }
        )
    return rows


def main() -> None:
    """Run every length; there is no target, only the reason for one that was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for seed in asked.seeds:
        for tokens in LENGTHS:
            rows += rows_of(seed, tokens)
            shown = [round(row["above_retraining_percent"], 1) for row in rows if row["tokens_per_stage"] == tokens]
            print(f"seed {seed}, {tokens:,} tokens per stage: {shown} % above retraining", flush=True)
    write_results("stage_length", asked.seeds, rows, [])


if __name__ == "__main__":
    main()
