"""What a recipe with phases may change once it was begun: phases that no arm has begun, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evermix.errors import RecipeError
from evermix.ledger import content_hash
from evermix.lifecycle.continual.bench import LifeBench
from evermix.recipe import Recipe
from evermix.recipe.timeline import Phase, base_name

_KIND = "stage-begun"
_WHOLE_LIFE = ("seed", "model", "tokenizer", "start", "decision", "replay", "retention")


def check_unchanged(bench: LifeBench, orders: Sequence[Sequence[Phase]]) -> None:
    """Compare the recipe with what was begun under it before.

    Raises:
        RecipeError: a phase that was begun, or something that holds for the whole life, is another one now; names the
            phase, the key, and both values.
    """
    entries = [e.payload for e in bench.project.ledger.entries() if e.kind == _KIND]
    begun = {tuple(payload["path"]): payload["content"] for payload in entries}
    for stages in orders:
        for stage in stages:
            path = tuple(each.name for each in stages[: stage.number + 1])
            if path in begun:
                _compare(path[-1], begun[path], _content(bench, stage))
    first = [stage.name for stage in orders[0]]
    for path in [tuple(payload["path"]) for payload in entries if payload["in_first_order"]]:
        if list(path) != first[: len(path)]:
            raise RecipeError(
                f"phases that were begun must stay in their order: this project has begun {' > '.join(path)}",
                received=" > ".join(first),
                hint="add or change phases after these, or take another project folder",
            )


def note_begun(bench: LifeBench, stages: Sequence[Phase], in_first_order: bool) -> None:
    """Keep what the last of `stages` is, now that an arm begins it."""
    path = [stage.name for stage in stages]
    record = {"path": path, "in_first_order": in_first_order, "content": _content(bench, stages[-1])}
    bench.project.ledger.append(_KIND, content_hash([path, in_first_order]), record)


def _content(bench: LifeBench, stage: Phase) -> dict[str, Any]:
    """All of the recipe that a stage depends on; rules about domains of later phases are not among it."""
    recipe = bench.recipe
    texts = {name: bench.rows.domains[bench.rows.index(name)].fingerprint for name in stage.domains}
    return {
        "domains": texts,
        "kind": stage.recipe.kind,
        "trainer": stage.recipe.trainer,
        "steps": stage.n_steps,
        "training": stage.training.model_dump(mode="json", exclude={"tokens", "evaluations", "checkpoints", "workers"}),
        "corpus": recipe.corpus.model_dump(mode="json", exclude={"store", "workers"}),
        "objective": _of_domains(recipe.objective.model_dump(mode="json"), stage),
        "constraints": _of_domains(recipe.constraints.model_dump(mode="json"), stage),
        **{key: _plain(recipe, key) for key in _WHOLE_LIFE},
    }


def _plain(recipe: Recipe, key: str) -> Any:
    value = getattr(recipe, key)
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def _of_domains(rules: Mapping[str, Any], stage: Phase) -> dict[str, Any]:
    """Rules without those about domains that the stage does not have."""
    there = {base_name(name) for name in stage.domains}
    return {
        key: {name: share for name, share in value.items() if name in there} if isinstance(value, dict) else value
        for key, value in rules.items()
    }


def _compare(phase: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for key, old, new in _differences(before, now, ""):
        raise RecipeError(
            f"phase '{phase}' was begun, so {_said(key)} must stay {_shown(old)}",
            received=_shown(new),
            hint="put it back, or take another project folder; phases after those that were begun may be changed",
        )


def _said(key: str) -> str:
    name = key.removeprefix("domains.")
    return f"the text of '{name}'" if name != key else key


def _differences(before: Any, now: Any, key: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in dict.fromkeys([*before, *now]):
            yield from _differences(before.get(name), now.get(name), f"{key}.{name}" if key else name)
    elif before != now:
        yield key, before, now


def _shown(value: Any) -> Any:
    return "as it was before" if value is None else value
