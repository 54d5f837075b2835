"""Names lose what says nothing, and never what tells them apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evermix.observations.columns import short_names


@pytest.mark.parametrize(
    ("domains", "metrics", "short"),
    [
        (["config.weights.web_a", "config.weights.web_b"], ["m"], (["web_a", "web_b"], ["m"])),
        (["web_science", "web_sports"], ["arc", "mmlu"], (["web_science", "web_sports"], ["arc", "mmlu"])),
        (["web:science", "web:code"], ["web:x", "web:y"], (["web:science", "web:code"], ["web:x", "web:y"])),
        (["data_science", "data_work"], ["a", "b"], (["data_science", "data_work"], ["a", "b"])),
        (["train_the_pile_a", "train_the_pile_b"], ["x", "y"], (["the_pile_a", "the_pile_b"], ["x", "y"])),
        (["train_a", "train_"], ["x"], (["train_a", "train_"], ["x"])),
        (["weights.a", "weights.b"], ["summary.eval/loss"], (["a", "b"], ["eval/loss"])),
        (["a", "b"], ["eval/loss", "eval/acc"], (["a", "b"], ["eval/loss", "eval/acc"])),
        (["a", "b"], ["web_loss", "code_loss"], (["a", "b"], ["web", "code"])),
        (["a", "b"], ["loss", "web_loss"], (["a", "b"], ["loss", "web_loss"])),
    ],
)
def test_examples(domains: list[str], metrics: list[str], short: tuple[list[str], list[str]]) -> None:
    assert short_names(domains, metrics) == short


PARTS = st.lists(st.sampled_from(["train", "config", "weights", "web", "a", "loss", "val", ""]), min_size=1, max_size=4)
NAMES = st.lists(st.tuples(PARTS, st.sampled_from("._/-:")).map(lambda t: t[1].join(t[0])), min_size=1, unique=True)


@given(NAMES, NAMES)
def test_names_stay_distinct_parts_of_themselves(domains: list[str], metrics: list[str]) -> None:
    for names, short in zip((domains, metrics), short_names(domains, metrics), strict=True):
        assert len(set(short)) == len(names)
        assert all(part in name for part, name in zip(short, names, strict=True))
        assert short == names or all(short)
        assert all(part.count(":") == name.count(":") for part, name in zip(short, names, strict=True))
