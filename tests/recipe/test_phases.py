"""Phases one after the other: names of texts, new and known domains, rows, orders."""

from __future__ import annotations

from itertools import pairwise, permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from evermix.recipe import Recipe
from evermix.recipe.phases import base_name, lengthened


def domain(name: str) -> dict[str, Any]:
    return {"name": name, "files": ["x"]}


def recipe(**changes: Any) -> Recipe:
    content: dict[str, Any] = {
        "project": "p",
        "domains": [domain("a"), domain("b")],
        "corpus": {"sequence_length": 10},
        "training": {"tokens": 4000, "batch_sequences": 4},
    }
    return Recipe.model_validate(content | changes)


TALK = {"name": "talk", "kind": "instruct", "add": [domain("d")], "examples": 40}
SDFT = {"trainer": "sdft"}
LIFE = [
    {"name": "base", "kind": "pretrain"},
    {"name": "more", "add": [domain("c")], "tokens": 800},
    {"name": "mend", "revise": [domain("a")], "remove": ["b"], "training": {"batch_sequences": 8}},
    TALK,
]


def test_domains_steps_and_rows_of_a_life() -> None:
    made = recipe(phases=LIFE)
    stages = made.timeline(made.phase_orders[0])
    assert [stage.domains for stage in stages] == [
        ("a", "b"),
        ("a", "b", "c"),
        ("c", "a (2)"),
        ("a (2)", "c", "d"),
    ]
    assert [stage.new for stage in stages] == [("a", "b"), ("c",), ("a (2)",), ("d",)]
    assert [stage.n_steps for stage in stages] == [4000 // 10 // 4, 800 // 10 // 4, 4000 // 10 // 8, 40 // 4]
    assert stages[2].training.batch_sequences == 8
    assert stages[2].training.learning_rate == made.training.learning_rate
    assert all(before.end_row == after.first_row for before, after in pairwise(stages))


def test_which_phases_are_on_a_trunk_and_go_on_with_its_optimiser() -> None:
    phases = [
        {"name": "base", "kind": "pretrain"},
        {"name": "same", "training": {"decay_fraction": 0.5}},
        {"name": "round", "training": {"schedule": "cosine"}},
        {"name": "after"},
        {"name": "wide", "training": {"batch_sequences": 8}},
    ]

    def found(key: str, **changes: Any) -> list[Any]:
        made = recipe(phases=phases, **changes)
        return [getattr(phase, key) for phase in made.timeline(made.phase_orders[0])]

    assert found("on_trunk") == [True, True, False, True, True]
    assert found("carries_on") == [False, True, False, False, False]
    assert found("is_last") == [False, False, False, False, True]
    assert found("fork_step") == [80, 50, 100, 80, 40]
    training = {"tokens": 4000, "batch_sequences": 4, "trunk": False}
    assert found("on_trunk", training=training) == found("carries_on", training=training) == [False] * 5
    made = recipe()
    (phase,) = made.timeline(made.phase_orders[0])
    assert (phase.on_trunk, phase.carries_on, phase.is_last) == (False, False, True)


def test_longer_phases_move_those_after_them() -> None:
    """100, 20, 50 and 10 steps of 4, 4, 8 and 4 rows; 7 and 3 more in the first and the third."""
    made = recipe(phases=LIFE)
    stages = made.timeline(made.phase_orders[0])
    longer = lengthened(stages, (7, 0, 3, 0))
    assert [stage.n_steps for stage in longer] == [107, 20, 53, 10]
    assert [stage.first_row for stage in longer] == [0, 428, 508, 932]
    assert [stage.own_steps for stage in longer] == [stage.n_steps for stage in stages]
    assert [stage.warmup_steps for stage in longer] == [stage.warmup_steps for stage in stages] == [2, 0, 1, 0]
    assert [stage.domains for stage in longer] == [stage.domains for stage in stages]
    assert lengthened(longer, (0, 0, 0, 0)) == lengthened(stages, (0, 0, 0, 0)) == stages


@given(st.permutations(["more", "mend", "talk"]))
def test_a_text_has_one_name_in_every_order(rest: list[str]) -> None:
    made = recipe(phases=LIFE, orders=[["base", *rest]])
    stages = made.timeline(made.phase_orders[0])
    assert set(stages[-1].domains) == {"a (2)", "c", "d"}
    assert all(set(stage.known) | set(stage.new) == set(stage.domains) for stage in stages)
    assert set(made.labels.sources) == {"a", "b", "c", "d", "a (2)"}
    assert stages[-1].end_row == recipe(phases=LIFE).timeline(made.phases)[-1].end_row


def test_orders_are_drawn_without_repetition_and_keep_the_pretraining_first() -> None:
    made = recipe(phases=LIFE, orders=6)
    names = [tuple(phase.name for phase in order) for order in made.phase_orders]
    assert set(names) == {("base", *rest) for rest in permutations(["more", "mend", "talk"])}
    assert names[0] == ("base", "more", "mend", "talk")
    assert names == [tuple(phase.name for phase in order) for order in recipe(phases=LIFE, orders=6).phase_orders]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phases": [{"name": "x", "add": [domain("a")]}]}, "phase 'x': 'a' is there already"),
        ({"phases": [{"name": "x", "remove": ["z"]}]}, "and 'z' is not"),
        ({"phases": [{"name": "x", "revise": [domain("z")]}]}, "and 'z' is not"),
        ({"phases": [{"name": "x", "remove": ["a", "b"]}]}, "must have a domain left"),
        ({"phases": [{"name": "x", "tokens": 70}]}, "at least 2 steps: 7 rows in batches of 4"),
        ({"phases": [{"name": "x"}, {"name": "x"}]}, "phase names must be unique"),
        ({"phases": [{"name": "x"}, {"name": "y", "kind": "pretrain"}]}, "only the first phase"),
        ({"phases": [{"name": "x", "examples": 10}]}, "budget in tokens"),
        ({"phases": [{"name": "x", "trainer": "sft"}]}, "trained by trainer plain"),
        ({"phases": [TALK | {"trainer": "sft", "distillation": {"generations": 1}}]}, r"sdft \(trainer: sft\)"),
        ({"phases": [{"name": "x", "distillation": {}}]}, r"belongs to trainer sdft \(trainer: plain\)"),
        ({"phases": [TALK | SDFT | {"distillation": {"generations": 0}}]}, "greater than or equal to 1"),
        ({"phases": [TALK | SDFT | {"distillation": {"skipped_tokens": -1}}]}, "greater than or equal to 0"),
        ({"phases": [TALK | SDFT | {"distillation": {"teacher_rate": 1.5}}]}, "less than or equal to 1"),
        ({"phases": [TALK | SDFT | {"distillation": {"temperature": 2}}]}, "Extra inputs are not permitted"),
        ({"phases": [{"name": "x", "training": {"gradient_accumulation": 3}}]}, "must be a multiple of gradient_acc"),
        ({"phases": [{"name": "x"}], "orders": [["y"]]}, "an order must name every phase once"),
        ({"phases": LIFE, "orders": [["more", "base", "mend", "talk"]]}, "the pretraining 'base' must be first"),
        ({"phases": LIFE, "orders": 7}, "3 phases have only 6 orders, not 7"),
        ({"phases": LIFE, "replay": {"recompute": ["z"]}}, "unknown domain 'z'"),
        ({"orders": 2}, "belongs to a recipe with phases"),
        ({"arms": ["naive"]}, "arm naive belongs to a recipe with phases"),
        ({"method": "olmix", "domains": [{**domain("a"), "format": "chat"}]}, "format chat belongs to method op-mix"),
        ({"domains": []}, "must have at least one domain"),
    ],
)
def test_what_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        recipe(**changes)


def test_the_base_of_a_name() -> None:
    assert [base_name(name) for name in ("law", "law (2)", "law (12)", "law (b)", "(2)")] == [
        "law",
        "law",
        "law",
        "law (b)",
        "(2)",
    ]
