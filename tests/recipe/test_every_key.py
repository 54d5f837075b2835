"""No key of a recipe without a meaning: each is described in docs/recipe.md, and refused where it has none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from evermix.errors import RecipeError
from evermix.recipe import Recipe, StudyRecipe
from evermix.recipe.whole import Arm

PAGE = Path(__file__).parents[2] / "docs" / "recipe.md"
INTERNAL = {"base"}


def sections(annotation: Any) -> list[type[BaseModel]]:
    """The models that a key may hold, itself, in a list or by name."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in sections(part)]


def leaves(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """(path of keys, field) of every key that holds a value."""
    for key, field in model.model_fields.items():
        below = sections(field.annotation)
        if not below:
            yield (*above, key), field
        for section in below:
            yield from leaves(section, (*above, key))


KEYS = {".".join(path): field for path, field in leaves(Recipe) if path[0] not in INTERNAL}
ROWS = {
    line.split("|")[1].strip(" *`").replace("[]", "").replace(".NAME", ""): line
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ")
}


def test_there_are_many_keys() -> None:
    assert len(KEYS) > 100


@pytest.mark.parametrize("key", KEYS)
def test_every_key_says_what_it_means(key: str) -> None:
    description = KEYS[key].description
    assert description, f"{key} has no description"
    assert description in ROWS[key].replace("\\|", "|")


@pytest.mark.parametrize("key", [".".join(path) for path, _ in leaves(StudyRecipe)])
def test_a_study_has_the_same_keys(key: str) -> None:
    """What is asked of a table of runs is asked by the words of a recipe; R is the recipe's training.tokens."""
    head = key.split(".")[0]
    places = {"objective": key, "constraints": key, "design": f"swarm.{key}", "seed": key, "tokens": "training.tokens"}
    assert places.get(head, f"decision.{key}") in KEYS


BASE: dict[str, Any] = {
    "project": "p",
    "domains": [{"name": "a", "files": "a.jsonl"}, {"name": "b", "files": "b.jsonl"}],
    "training": {"tokens": "10M"},
}
SWARM = {**BASE, "method": "olmix", "arms": []}
PHASES = {**BASE, "phases": [{"name": "base"}, {"name": "more", "training": {"schedule": "cosine"}}]}
LATER = {**BASE, "phases": [{"name": "base", "kind": "pretrain"}, {"name": "more", "tokens": "5M"}]}
TASK = {"name": "qa", "file": "qa.jsonl"}


def domain(**keys: object) -> dict[str, Any]:
    return {"domains": [{"name": "a", "files": "a.jsonl"} | keys, {"name": "b", "files": "b.jsonl"}]}


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (BASE, {"model": {"rung": "4M", "checkpoint": "some/model"}}, "model.rung: a checkpoint has its own size"),
    (BASE, {"tokenizer": {"vocab_size": 512, "path": "t"}}, "tokenizer.vocab_size: an existing tokenizer"),
    (BASE, {"tokenizer": {"end_token": "</s>"}}, "tokenizer.end_token: belongs to an existing tokenizer"),
    (BASE, {"training": {"tokens": "10M", "schedule": "cosine", "decay_fraction": 0.1}}, "belongs to schedule wsd"),
    (
        PHASES,
        {"training": {"tokens": "10M", "schedule": "cosine", "trunk": True}},
        "training.trunk: true belongs to schedule wsd, whose rate is constant before it decays (schedule: cosine)",
    ),
    (
        PHASES,
        {"training": {"tokens": "10M", "trunk": True}},
        "phases.1.training.schedule: cosine has no constant rate to branch off from (training.trunk: true)",
    ),
    (BASE, {"training": {"tokens": "10M", "trunk": False}}, "training.trunk: belongs to a recipe with phases"),
    (SWARM, {"swarm": {"schedule": "cosine", "decay_fraction": 0.1}}, "swarm.decay_fraction: belongs to schedule wsd"),
    (SWARM, {"swarm": {"tokens": "1M", "chinchilla": 2}}, "swarm.chinchilla: give tokens or chinchilla"),
    (BASE, domain(format="chat", text_field="body"), "domains.0.text_field: has no meaning with format chat"),
    (BASE, domain(format="jsonl", documents="line"), "domains.0.documents: has no meaning with format jsonl"),
    (BASE, domain(registry="legal"), "exactly one of files, registry, dataset"),
    (
        BASE,
        {"objective": {"weights": {"a": 1}, "groups": {"x": ["a", "b"]}}},
        "objective.groups: give weights or groups",
    ),
    (BASE, {"objective": {"group_weights": {"x": 1}}}, "objective.group_weights: group_weights need groups"),
    (BASE, {"tasks": [TASK | {"stop": ["."]}]}, "tasks.0.stop: a task of kind answer has no stop"),
    (SWARM, {"tasks": [TASK | {"domain": "c"}]}, "tasks.0.domain: "),
    (BASE, {"replay": {"evidence": "in-run"}}, "replay: belongs to a recipe with phases"),
    (BASE, {"retention": {"max_rise": 0.1}}, "retention: belongs to a recipe with phases"),
    (
        LATER,
        {"replay": {"evidence": "in-run"}, "retention": {"max_rise": 0.1}},
        "retention.max_rise: is held by probes, which know the losses before a phase: set replay.evidence to probes "
        "(given: 0.1)",
    ),
    (
        LATER,
        {"replay": {"evidence": "in-run", "recompute": "none"}},
        "replay.recompute: experiments decide the share of every domain",
    ),
    (
        LATER,
        {"replay": {"evidence": "in-run"}, "decision": {"mode": "gradient"}},
        "replay.evidence: in-run belongs to decision.mode in-run",
    ),
    (
        BASE,
        {"decision": {"mode": "interpolation", "probes": {"design": "designed"}}},
        "decision.probes.design: mode interpolation interpolates between pure probes",
    ),
    (
        BASE,
        {"decision": {"probes": {"number": 8}}},
        "decision.probes.number: must be a multiple of the 6 levels (given: 8)",
    ),
    (
        BASE,
        {"decision": {"probes": {"levels": [0.5, 0.5, 1.5]}}},
        "decision.probes.levels: levels must differ (given: [0.5, 0.5, 1.5])",
    ),
    (BASE, {"decision": {"prior": "half-new"}}, "decision.prior: half-new belongs to decisions by probes in a recipe"),
    (BASE, {"orders": 2}, "orders: belongs to a recipe with phases"),
    (BASE, {"swarm": {"runs": 8}}, "swarm: belongs to method olmix"),
    (BASE, {"arms": ["best-run"]}, "arm best-run belongs to method olmix"),
    (BASE, {"arms": ["retrain"]}, "arm retrain belongs to a recipe with phases"),
    (BASE, {"arms": []}, "at least one arm"),
    (BASE, {"objective": {"bits_per_byte_factor": {"a": 0.4}}}, "objective.bits_per_byte_factor: belongs to a table"),
    (SWARM, {"decision": {"at": [0.2]}}, "decision.at: belongs to"),
    (SWARM, {"decision": {"cross_checks": True}}, "decision.cross_checks: belongs to"),
    (BASE, {"decision": {"resamples": 0}}, "decision.resamples: belongs to"),
]


@pytest.mark.parametrize(("base", "changes", "message"), REFUSED, ids=[message for *_, message in REFUSED])
def test_what_means_nothing_here_is_refused(
    base: dict[str, Any], changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """Each would otherwise be ignored in silence; the error names the key."""
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump({**base, **changes}))
    with pytest.raises(RecipeError) as caught:
        Recipe.load(path)
    assert message in str(caught.value)


def test_arms_of_a_recipe_are_those_of_the_lifecycle() -> None:
    """The recipe lists the names, so that it needs no training library; the registry has a class for each."""
    pytest.importorskip("torch")
    from evermix.lifecycle.arms import ARMS

    assert set(get_args(Arm)) == set(ARMS)
