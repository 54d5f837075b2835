"""Plans of several phases, before any text is read: against what the definition of each arm says, and the example's."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from transformers import GPT2Config

from evermix.corpora import CORPORA
from evermix.errors import CheckpointError
from evermix.lifecycle import plan
from evermix.recipe import Recipe
from evermix.reports.plans import print_plan

EXAMPLE = Path(__file__).parents[2] / "examples" / "4-midtraining.yaml"
STEPS = (20, 10, 5)
ROWS, LENGTH = 4, 32


def recipe(**changes: Any) -> Recipe:
    """Three phases of 20, 10 and 5 steps, one new domain each."""
    phases = [
        {"name": "base", "kind": "pretrain", "tokens": STEPS[0] * ROWS * LENGTH},
        {"name": "b", "add": [{"name": "b", "files": "b.txt"}], "tokens": STEPS[1] * ROWS * LENGTH},
        {"name": "c", "add": [{"name": "c", "files": "c.txt"}], "tokens": STEPS[2] * ROWS * LENGTH},
    ]
    content = {
        "project": "somewhere",
        "domains": [{"name": "a", "files": "a.txt"}],
        "tokenizer": {"vocab_size": 300},
        "corpus": {"sequence_length": LENGTH, "heldout_sequences": 16},
        "model": {"rung": "0.05M"},
        "training": {"tokens": 1000, "batch_sequences": ROWS, "decay_fraction": 0.2},
        "decision": {"always": True, "probes": {"steps": 5, "evaluation_sequences": 8}},
        "phases": phases,
    }
    return Recipe.model_validate(content | changes)


def test_arms_cost_what_their_definition_says() -> None:
    arms = ("uniform", "retrain", "oracle", "mergemix", "proxy-swarm")
    swarm = {"rung": "0.05M", "tokens": 1000, "runs": 6}
    planned = plan(recipe(arms=arms, swarm=swarm, training={"tokens": 1000, "batch_sequences": ROWS, "trunk": False}))
    per_step, costs = ROWS * LENGTH, planned.arms
    assert costs["uniform"].n_tokens == sum(STEPS) * per_step
    assert costs["uniform"].flops == 6 * (planned.n_parameters or 0) * sum(STEPS) * per_step
    assert costs["uniform"].tokens_by_part == {"prefix": 20 * per_step, "training": 15 * per_step}
    assert costs["retrain"].n_tokens == (20 + 30 + 35) * per_step
    assert costs["oracle"].tokens_by_part["training"] == 7 * 15 * per_step
    assert costs["mergemix"].tokens_by_part["specialists"] == 2 * 15 * per_step
    assert costs["mergemix"].tokens_by_part["evaluation"] == 12 * 8 * (2 + 3) * LENGTH
    assert costs["proxy-swarm"].tokens_by_part["proxies"] == 2 * 6 * 1000  # not over a single domain


def test_arms_cost_a_decay_more_on_a_trunk() -> None:
    """The branches of 4, 2 and 1 steps; the trunk of the last phase ends where the branch leaves it."""
    on, off = (
        plan(
            recipe(
                arms=("uniform", "retrain", "oracle", "mergemix", "lora-merge"),
                training={"tokens": 1000, "batch_sequences": ROWS, "trunk": trunk},
            )
        ).arms
        for trunk in (True, False)
    )
    steps = {part: n / (ROWS * LENGTH) for part, n in on["uniform"].tokens_by_part.items()}
    assert steps == pytest.approx({"prefix": 20, "training": 10 + 4, "decay": 4 + 2 + 1})
    assert on["uniform"].n_tokens - off["uniform"].n_tokens == pytest.approx((4 + 2) * ROWS * LENGTH)
    tried = {part: on["oracle"].tokens_by_part[part] / (ROWS * LENGTH) for part in ("training", "decay")}
    assert tried == pytest.approx({"training": 6 * 15 + 10 + 4, "decay": 4 + 2 + 1})  # others are booked as they end
    assert on["mergemix"].tokens_by_part["specialists"] == off["mergemix"].tokens_by_part["specialists"]
    assert (on["retrain"], on["lora-merge"]) == (off["retrain"], off["lora-merge"])


@pytest.mark.parametrize(
    ("replay", "mode", "n_probes"),
    [
        ({"recompute": "none"}, "probe-law", [0, 2, 2]),
        ({"recompute": "all"}, "probe-law", [0, 2, 2]),  # the new domain's probes tell about the others too
        ({"recompute": "none"}, "gradient", [0, 2, 2]),
        ({"recompute": "all"}, "gradient", [0, 3, 4]),
        ({"recompute": ["a"]}, "interpolation", [0, 3, 3]),
        ({"purities": [0.2, 0.5, 0.8]}, "probe-law", [0, 3, 3]),
    ],
)
def test_probes_of_every_phase(replay: dict[str, Any], mode: str, n_probes: list[int]) -> None:
    asked = recipe(
        replay=replay, decision={"always": True, "mode": mode, "probes": {"steps": 5, "evaluation_sequences": 8}}
    )
    planned = plan(asked)
    assert [phase.n_probes for phase in planned.phases[0]] == n_probes
    spent = planned.arms["evermix"]
    assert spent.tokens_by_part["probes"] == sum(n_probes) * 5 * ROWS * LENGTH
    assert spent.flops_by_part is not None
    assert spent.flops_by_part["probes"] == 4 * (planned.n_parameters or 0) * spent.tokens_by_part["probes"]


def test_a_pretraining_over_several_domains_is_decided_on_the_way() -> None:
    domains = [{"name": name, "files": f"{name}.txt"} for name in ("a", "x")]
    asked = {"always": True, "mode": "probe-law", "at": [0.25, 0.5], "probes": {"steps": 5}}
    planned = plan(recipe(domains=domains, decision=asked))
    assert planned.phases[0][0].n_probes == 3
    assert planned.phases[0][0].decided_at == (5, 10)
    assert [phase.decided_at for phase in planned.phases[0][1:]] == [(0,), (0,)]
    parts = planned.arms["evermix"].tokens_by_part
    assert parts["prefix"] == pytest.approx(0.25 * 20 * ROWS * LENGTH)
    assert parts["probes"] == (2 * 3 + 2 + 2) * 5 * ROWS * LENGTH


def test_a_pretraining_over_several_domains_is_decided_by_experiments_within_it() -> None:
    """Experiments of a and x, and probes before the later phases; what is read is planned, and no training is added."""
    domains = [{"name": name, "files": f"{name}.txt"} for name in ("a", "x")]
    probes = {"steps": 5, "evaluation_sequences": 8}
    planned = plan(
        recipe(domains=domains, decision={"always": True, "at": [0.5], "probes": probes}, arms=("uniform", "evermix"))
    )
    first, *later = planned.phases[0]
    assert (first.n_probes, first.n_segments, first.decided_at) == (0, 8, (10,))
    assert [(phase.n_probes, phase.n_segments, phase.decided_at) for phase in later] == [(2, 0, (0,))] * 2
    parts, trained = planned.arms["evermix"].tokens_by_part, planned.arms["uniform"].tokens_by_part
    assert {part: parts[part] for part in trained} == trained
    assert parts["probes"] == (2 + 2) * 5 * ROWS * LENGTH
    read = 9 * first.evaluation_sequences * 2 + 3 * 8 * 3 + 3 * 8 * 4
    assert parts["evaluation"] == read * LENGTH


def test_without_the_size_of_the_model_tokens_are_planned() -> None:
    planned = plan(recipe(model={"checkpoint": "somewhere"}, orders=2))
    assert planned.n_parameters is None
    assert planned.arms["evermix"].flops is None
    assert planned.arms["evermix"].flops_by_part is None
    assert planned.orders == (("base", "b", "c"), ("base", "c", "b"))
    console = Console(width=140, file=io.StringIO())
    print_plan(planned, console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Tokens of every arm, about" in printed
    assert "order 2" in printed


def test_the_example_is_of_real_corpora() -> None:
    loaded = Recipe.load(EXAMPLE)
    added = [domain for phase in loaded.phases for domain in phase.add]
    assert {domain.registry for domain in (*loaded.domains, *added)} <= set(CORPORA)
    planned = plan(loaded)
    assert [phase.kind for phase in planned.phases[0]] == ["pretrain", "midtrain", "midtrain", "midtrain"]
    baselines = {"uniform", "naive", "fixed-replay"}
    assert set(planned.arms) == {"evermix", "retrain", *baselines, *(f"{arm}+compute" for arm in baselines)}
    assert (planned.arms["evermix"].flops or 0) < 0.6 * (planned.arms["retrain"].flops or 0)
    console = Console(width=140, file=io.StringIO())
    print_plan(planned, console)
    assert "licences" in console.file.getvalue()  # type: ignore[attr-defined]


def test_positions_for_the_teacher_of_sdft(tmp_path: Path) -> None:
    """It reads three sequences at once; said before anything is trained, not when the phase begins."""
    GPT2Config(vocab_size=300, n_positions=64, n_embd=8, n_layer=1, n_head=1).save_pretrained(tmp_path)
    talk = {"name": "talk", "kind": "instruct", "add": [{"name": "d", "files": "d.jsonl", "format": "chat"}]}
    changes = {"model": {"checkpoint": str(tmp_path)}, "phases": [{"name": "base"}, talk | {"trainer": "sdft"}]}
    with pytest.raises(CheckpointError, match="the three sequences of trainer sdft: it has 64, not 96"):
        plan(recipe(**changes))
    assert plan(recipe(**(changes | {"phases": [{"name": "base"}, talk]}))).n_parameters is None
