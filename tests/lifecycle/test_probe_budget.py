"""The budget of a decision: the formula kept, whatever the mode and the size."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from evermix.lifecycle import plan
from evermix.lifecycle.evidence.probe_budget import candidate_count, planned_probes
from evermix.recipe import ProbeRecipe, Recipe
from evermix.reports.plans import print_plan

_MODES = ["probe-law", "interpolation", "gradient"]


@given(st.sampled_from(_MODES), st.integers(2, 60), st.integers(2_000, 100_000), st.integers(1, 3))
def test_decisions_stay_within_the_budget(mode: str, m: int, steps: int, n_decisions: int) -> None:
    at = [0.2, 0.4, 0.6][:n_decisions]
    recipe = Recipe.model_validate(
        {
            "project": "p",
            "domains": [{"name": f"d{j}", "files": ["x"]} for j in range(m)],
            "corpus": {"sequence_length": 256, "heldout_sequences": 128},
            "training": {"tokens": steps * 16 * 256, "batch_sequences": 16},
            "decision": {"at": at, "mode": mode},
        }
    )
    (phase,) = recipe.timeline(recipe.phase_orders[0])
    planned = planned_probes(recipe, phase)
    assert planned is not None
    one = planned.plan
    assert len(planned.at_steps) == n_decisions
    assert one.n_probes == (min(6, 1 + m) if mode == "probe-law" else 1 + m)
    extra = {"probe-law": 0, "interpolation": candidate_count(recipe.decision, m), "gradient": 15}[mode]
    evaluations = one.n_probes + 1 + extra
    spent = n_decisions * (4 * 16 * one.steps * one.n_probes + 2 * evaluations * m * one.evaluation_sequences)
    smallest = n_decisions * (4 * 16 * 5 * one.n_probes + 2 * evaluations * m * 4)
    assert spent <= max(ProbeRecipe().budget * 6 * 16 * steps, smallest)
    assert sum(work.flops_per_parameter_token * work.n_tokens for work in planned.work) == spent * 256
    assert 5 <= one.steps <= 200
    assert 4 <= one.evaluation_sequences <= 128


def test_what_holds_probes_to_200_steps_is_said() -> None:
    """A budget for more is told in the plan, with the key that gives it; the published 2,500 steps are taken."""
    recipe = {
        "project": "p",
        "domains": [{"name": "a", "files": ["x"]}],
        "corpus": {"sequence_length": 256, "heldout_sequences": 128},
        "training": {"tokens": 10_000 * 16 * 256, "batch_sequences": 16},
        "phases": [{"name": "one", "kind": "pretrain"}, {"name": "two", "add": [{"name": "b", "files": ["y"]}]}],
        "decision": {"always": True, "probes": {"budget": 0.14}},
    }
    planned = plan(Recipe.model_validate(recipe)).phases[0][1]
    console = Console(width=140, file=io.StringIO())
    print_plan(plan(Recipe.model_validate(recipe)), console)
    printed = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    assert planned.steps_per_probe == 200
    assert planned.affordable_steps_per_probe is not None
    # two probes of s steps cost 2 * 4 N b s; three evaluations of two domains 2 N each of 128 sequences
    evaluations = 2 * 3 * 2 * planned.evaluation_sequences
    assert planned.affordable_steps_per_probe == (0.14 * 6 * 16 * 10_000 - evaluations) // (2 * 4 * 16)
    assert f"the budget would pay for {planned.affordable_steps_per_probe:,} (decision.probes.steps" in printed
    published = plan(Recipe.model_validate(recipe | {"decision": {"always": True, "probes": {"steps": 2500}}})).phases[
        0
    ][1]
    assert published.steps_per_probe == 2500
    assert published.affordable_steps_per_probe is None
