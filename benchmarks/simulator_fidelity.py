"""How well does each decision mode foretell real training? 20 mixtures trained from one checkpoint, for each mode:
Spearman correlation of the predicted with the true mean loss and per domain, and the slope of true against predicted.

    python benchmarks/simulator_fidelity.py [a-0 b-0 ...]      goes on where it stopped, and writes after every base

The checkpoint is the model after the first experiment within the run: mode in-run reads that experiment, the other
modes probe the model as it then is. Mixtures, predictions and truths are in the result file, so that laws can be
compared later without training. A seed of a set takes about half an hour of one core, of 64 domains an hour.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import harness
import numpy as np
from rich.console import Console
from scipy.stats import spearmanr

from evermix.corpus.split import Side
from evermix.designs.dirichlet import dirichlet_candidates
from evermix.domains import DomainSet
from evermix.ledger import Project
from evermix.lifecycle.context import RunContext, open_context
from evermix.lifecycle.course import Course
from evermix.lifecycle.evidence.base import on_the_way
from evermix.lifecycle.evidence.in_run import InRunEvidence
from evermix.lifecycle.evidence.modes import MODES
from evermix.lifecycle.evidence.probes import ProbeEvidence, decision_problem
from evermix.lifecycle.evidence.timetable import timetable
from evermix.lifecycle.progress import Reporter
from evermix.lifecycle.scoring import score
from evermix.lifecycle.state import ModelState, decision_steps
from evermix.mixture import Mixture
from evermix.recipe import DecisionRecipe, ProbeRecipe, Recipe
from evermix.recipe.phases import Phase
from evermix.results import DomainScore

BASES = ["a-0", "b-0", "c-0", "a-1", "b-1", "a-2", "b-2", "d64-0"]  # set and seed
Predicted = tuple[np.ndarray, float]  # losses, and the FLOPs of measuring what they stand on
N_MIXTURES = 20
MOST_INTERPOLATED = 10  # domains: beyond it interpolation takes as long as the truths
MOST_PURE = 24  # domains: beyond it five steps of a pure probe of each cost more than twice the budget
LARGER, FEWER = {"d64": "1M"}, {"d64": 10}  # set -> size of its model, and how many mixtures of it are trained
BUDGET = 0.05  # of the run's FLOPs for the probes of every design
DESIGNS: dict[str, dict[str, Any]] = {
    "pure": {"design": "pure"},
    "6 designed": {"design": "designed"},
    "8 designed": {"design": "designed", "number": 8, "levels": [0.05, 0.12, 0.25, 0.5, 0.9, 1.4, 2.0, 2.8]},
    "12 designed": {"design": "designed", "number": 12},
}


def truth_mixtures(domains: DomainSet, clean: list[str]) -> list[Mixture]:
    """Uniform, natural, uniform over the clean domains, and random ones with a floor of 1% (seeded, as the set)."""
    uniform = Mixture.uniform(domains)
    tidy = Mixture.normalised(domains, [1.0 if d.name in clean else 0.05 for d in domains])
    rng = np.random.default_rng(20261121)
    drawn = dirichlet_candidates(uniform, N_MIXTURES - 3, rng, strength=(0.7, 4.0), minimum_weight=0.0)
    floor = 0.01 * len(domains)
    return [uniform, Mixture.natural(domains), tidy, *(m.blend(uniform, floor) for m in drawn)]


def open_one_phase(recipe: Recipe) -> tuple[RunContext, Phase]:
    """The context of a recipe of one phase, and the phase."""
    project = Project(recipe.project_folder)
    context = open_context(recipe, project, Reporter(project, Console(force_terminal=False, quiet=True)))
    return context, context.orders[0][0]


def to_the_decision(context: RunContext, phase: Phase) -> Course:
    """The training up to the first decision by probes, on the start mixture."""
    at = decision_steps(context.recipe.decision.probed_at, phase.n_steps)[0]
    start = context.over_all(context.named_mixture(phase))
    return Course.begin(ModelState.initial(context), phase).on(context, start, at)


def through_the_experiment(context: RunContext, phase: Phase) -> Course:
    """The training up to the first decision in the run, through its experiment."""
    evidence, planned, start = InRunEvidence(), timetable(context.recipe, phase), context.named_mixture(phase)
    assert planned is not None, "the recipe decides within the run"
    measuring = evidence.measuring(context, phase)
    before = [(context.over_all(start), planned.begin)]
    course = Course.begin(ModelState.initial(context), phase).through(context, before, measuring)
    return course.through(context, evidence.experiment(context, course.state, phase, start, 0), measuring)


def to_the_end(context: RunContext, begun: Course, mixture: Mixture, side: Side) -> dict[str, DomainScore]:
    """Scores on one side's text at the end of the phase, the rest of it trained on another mixture."""
    phase = begun.phase
    state = begun.on(context, context.over_all(mixture), phase.n_steps).state
    return score(context, state.run_id, state.trained, phase.domains, side).per_domain


def measure(set_under_test: harness.DomainSetUnderTest, seed: int) -> list[dict[str, Any]]:
    """One row per decision mode: its predictions against trainings from the same checkpoint."""
    label, asked = set_under_test.label, {"quantity": "loss_nats", "weights": set_under_test.objectives()["all"]}
    more = {"model": {"rung": LARGER[label]}} if label in LARGER else {}
    context, phase = open_one_phase(set_under_test.recipe(seed, f"{label}-{seed}", objective=asked, **more))
    begun, leaves = through_the_experiment(context, phase), context.leaves(phase.domains)
    mixtures, true = truth_mixtures(leaves, set_under_test.clean)[: FEWER.get(label)], []
    points = np.array([mixture.weights for mixture in mixtures])
    predicted = {"in-run": by_segments(context, begun, points), **by_designs(context, begun, points)}
    if len(leaves) <= MOST_INTERPOLATED:
        interpolating = [mode for mode in MODES if mode != "probe-law"]
        predicted |= by_probes(context, begun, points, DESIGNS["pure"], interpolating)
    for number, mixture in enumerate(mixtures):
        scores = to_the_end(context, begun, mixture, "test")
        true.append([scores[name].loss_nats for name in phase.domains])
        print(set_under_test.label, seed, "truth", number, flush=True)
    where, names = {"set": set_under_test.label, "seed": seed}, list(phase.domains)
    rows: list[dict[str, Any]] = [
        {
            **where,
            "mode": mode,
            **compare(found, np.array(true), leaves, set_under_test.clean),
            "measuring_flops_part": flops / context.size.training(phase.n_rows * context.store.sequence_length),
            "predicted": found.tolist(),
        }
        for mode, (found, flops) in predicted.items()
    ]
    print(*({k: v for k, v in row.items() if k != "predicted"} for row in rows), sep="\n", flush=True)
    return [*rows, {**where, "mode": "truth", "domains": names, "mixtures": points.tolist(), "true": true}]


def by_segments(context: RunContext, begun: Course, points: np.ndarray) -> Predicted:
    """By the law of the experiment that the model has gone through."""
    evidence = InRunEvidence()
    start = context.named_mixture(begun.phase)
    request = on_the_way(context, begun.state, begun.phase, start, "evermix")
    measured = evidence.measure(context, begun.state, request)
    return measured.law(context, request).predict(points), measured.compute.flops


def by_designs(context: RunContext, begun: Course, points: np.ndarray) -> dict[str, Predicted]:
    """Mode probe-law, as what its probes are trained on -> predicted losses of mixtures; all at equal cost.

    Pure probes are left out where five steps of each would cost twice the budget.
    """
    designs = {n: asked for n, asked in DESIGNS.items() if n != "pure" or points.shape[1] <= MOST_PURE}
    return {
        f"probe-law, {name}": by_probes(context, begun, points, asked, ["probe-law"])["probe-law"]
        for name, asked in designs.items()
    }


def by_probes(
    context: RunContext, begun: Course, points: np.ndarray, asked: dict[str, Any], modes: Sequence[str]
) -> dict[str, Predicted]:
    """mode -> predicted losses of mixtures, by probes of the model as it is, for BUDGET of the run's FLOPs."""
    probes = ProbeRecipe.model_validate({"budget": BUDGET, **asked})
    decision = context.recipe.decision.model_copy(update={"probes": probes})
    context = replace(context, recipe=context.recipe.model_copy(update={"decision": decision}))
    evidence = ProbeEvidence()
    start = context.named_mixture(begun.phase)
    request = evidence.request_on_the_way(context, begun.state, begun.phase, start, "evermix")
    found = evidence.measure(context, begun.state, request)
    problem = decision_problem(context, begun.state, request, found.measured)
    return {mode: (np.asarray(MODES[mode](problem).predict(points)), found.compute.flops) for mode in modes}


def compare(predicted: np.ndarray, true: np.ndarray, domains: DomainSet, clean: list[str]) -> dict[str, Any]:
    chosen = [domains.index(name) for name in clean]
    per_domain = [float(spearmanr(predicted[:, j], true[:, j]).statistic) for j in range(true.shape[1])]
    means = predicted.mean(axis=1), true.mean(axis=1)
    return {
        "spearman_mean_loss": float(spearmanr(*means).statistic),
        "spearman_clean_loss": float(
            spearmanr(predicted[:, chosen].mean(axis=1), true[:, chosen].mean(axis=1)).statistic
        ),
        "spearman_mean_perplexity": float(
            spearmanr(np.exp(predicted).mean(axis=1), np.exp(true).mean(axis=1)).statistic
        ),
        "spearman_per_domain_mean": float(np.mean(per_domain)),
        "spearman_per_domain": dict(zip(domains.names, per_domain, strict=True)),
        "slope_true_over_predicted": float(np.polyfit(means[0], means[1], 1)[0]),
        "true_spread_nats": float(means[1].std()),
        "predicted_spread_nats": float(means[0].std()),
        "n_mixtures": len(true),
    }


def targets_of(rows: list[dict[str, Any]]) -> list[harness.Target]:
    """The issue's: for the default mode on the sets of ten domains, its worst base."""
    of_mode = [row for row in rows if row["mode"] == DecisionRecipe().mode]
    default, many = ([row for row in of_mode if row["set"] in sets] for sets in (("a", "b"), ("d64",)))
    found = []
    if many:
        part = 100 * max(row["measuring_flops_part"] for row in many)
        what = "64 domains, 1M parameters: FLOPs of a decision"
        found.append(harness.Target(what, part, 5.0, "% of training", at_least=False))
    if not default:
        return found
    worst = min(row["spearman_mean_loss"] for row in default)
    per_domain = min(row["spearman_per_domain_mean"] for row in default)
    slopes = [row["slope_true_over_predicted"] for row in default]
    return [
        *found,
        harness.Target("in-run: Spearman of the mean loss, worst base", worst, 0.9, "rank correlation"),
        harness.Target("in-run: mean Spearman per domain, worst base", per_domain, 0.9, "rank correlation"),
        harness.Target("in-run: least slope of true over predicted", min(slopes), 0.8, "nats per nat"),
        harness.Target("in-run: greatest slope", max(slopes), 1.25, "nats per nat", at_least=False),
    ]


def main() -> None:
    """Measure the bases that are asked for, and write each beside those that were measured before."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bases", nargs="*", default=BASES, metavar="SET-SEED", help=f"default: {' '.join(BASES)}")
    for base in parser.parse_args().bases:
        label, seed = base.rsplit("-", 1)
        rows = measure(harness.DomainSetUnderTest.load(label), int(seed))
        path = harness.RESULTS / "simulator_fidelity.json"
        before = json.loads(path.read_text())["rows"] if path.exists() else []
        rows = [*(row for row in before if (row["set"], row["seed"]) != (label, int(seed))), *rows]
        rows.sort(key=lambda row: (row["set"], row["seed"]))
        harness.write_results("simulator_fidelity", sorted({row["seed"] for row in rows}), rows, targets_of(rows))


if __name__ == "__main__":
    main()
