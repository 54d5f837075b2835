"""The budget of a decision: the formula kept, whatever the mode and the size."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from evermix.lifecycle.evidence.probe_budget import candidate_count, planned_probes
from evermix.recipe import Recipe

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
    plan = planned.plan
    assert len(planned.at_steps) == n_decisions
    assert plan.n_probes == 1 + m
    extra = {"probe-law": 0, "interpolation": candidate_count(recipe.decision, m), "gradient": 15}[mode]
    evaluations = plan.n_probes + 1 + extra
    spent = n_decisions * (4 * 16 * plan.steps * plan.n_probes + 2 * evaluations * m * plan.evaluation_sequences)
    smallest = n_decisions * (4 * 16 * 5 * plan.n_probes + 2 * evaluations * m * 4)
    assert spent <= max(0.14 * 6 * 16 * steps, smallest)
    assert sum(work.flops_per_parameter_token * work.n_tokens for work in planned.work) == spent * 256
    assert 5 <= plan.steps <= 200
    assert 4 <= plan.evaluation_sequences <= 128
