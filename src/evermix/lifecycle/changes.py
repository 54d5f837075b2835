"""What a recipe with phases may change once it was begun: phases that no arm has begun, and nothing else.

A recipe of one phase may change at will: what it trains is named by its content, and nothing goes on from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evermix.errors import RecipeError
from evermix.ledger import content_hash
from evermix.lifecycle.context import RunContext
from evermix.recipe import Recipe
from evermix.recipe.phases import Phase, base_name

_KIND = "phase-begun"
_WHOLE_RUN = ("seed", "model", "tokenizer", "start", "decision", "replay", "retention")


def check_unchanged(context: RunContext, orders: Sequence[Sequence[Phase]]) -> None:
    """Compare the recipe with what was begun under it before.

    Raises:
        RecipeError: a phase that was begun, or something that holds for the whole run, is another one now; names the
            phase, the key, and both values.
    """
    entries = [e.payload for e in context.project.ledger.entries() if e.kind == _KIND]
    begun = {tuple(payload["path"]): payload["content"] for payload in entries}
    for phases in orders:
        for phase in phases:
            path = tuple(each.name for each in phases[: phase.number + 1])
            if path in begun:
                _compare(path[-1], begun[path], _content(context, phase))
    first = [phase.name for phase in orders[0]]
    for path in [tuple(payload["path"]) for payload in entries if payload["in_first_order"]]:
        if list(path) != first[: len(path)]:
            raise RecipeError(
                f"phases that were begun must stay in their order: this project has begun {' > '.join(path)}",
                received=" > ".join(first),
                hint="add or change phases after these, or take another project folder",
            )


def note_begun(context: RunContext, phases: Sequence[Phase], in_first_order: bool) -> None:
    """Keep what the last of `phases` is, now that an arm begins it."""
    path = [phase.name for phase in phases]
    record = {"path": path, "in_first_order": in_first_order, "content": _content(context, phases[-1])}
    context.project.ledger.append(_KIND, content_hash([path, in_first_order]), record)


def _content(context: RunContext, phase: Phase) -> dict[str, Any]:
    """All of the recipe that a phase depends on; rules about domains of later phases are not among it."""
    recipe = context.recipe
    texts = {name: context.rows.domains[context.rows.index(name)].fingerprint for name in phase.domains}
    return {
        "domains": texts,
        "kind": phase.recipe.kind,
        "trainer": phase.recipe.trainer,
        **_distillation(phase),
        "steps": phase.n_steps,
        "training": phase.training.model_dump(mode="json", exclude={"tokens", "evaluations", "checkpoints", "workers"}),
        "corpus": recipe.corpus.model_dump(mode="json", exclude={"store", "workers"}),
        "objective": _of_domains(recipe.objective.model_dump(mode="json"), phase),
        "constraints": _of_domains(recipe.constraints.model_dump(mode="json"), phase),
        **{key: _plain(recipe, key) for key in _WHOLE_RUN},
    }


def _distillation(phase: Phase) -> dict[str, Any]:
    return {"distillation": phase.recipe.distillation.model_dump()} if phase.recipe.trainer == "sdft" else {}


def _plain(recipe: Recipe, key: str) -> Any:
    value = getattr(recipe, key)
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def _of_domains(rules: Mapping[str, Any], phase: Phase) -> dict[str, Any]:
    """Rules without those about domains that the phase does not have."""
    there = {base_name(name) for name in phase.domains}
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
