"""run: every arm of a recipe through its phases, in every order that it asks for; resumable at any moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from rich.console import Console

from evermix.errors import ProjectError
from evermix.ledger import Project
from evermix.lifecycle.arms import ARMS
from evermix.lifecycle.arms.decided import BestRunArm, Evermix, decide_before
from evermix.lifecycle.assembling import PhaseResults, assemble, phase_result
from evermix.lifecycle.changes import check_unchanged, note_begun
from evermix.lifecycle.context import RunContext, open_context, over_every_text
from evermix.lifecycle.equal_compute import Entrant, entrants, estimate, in_turn, phases_of
from evermix.lifecycle.evidence import EVIDENCE
from evermix.lifecycle.known_text import note_text
from evermix.lifecycle.progress import Reporter
from evermix.lifecycle.scoring import check_tasks, score_before
from evermix.lifecycle.state import ModelState, check_trainers
from evermix.lifecycle.text import corpus_record
from evermix.lifecycle.work import TRAINING
from evermix.recipe import Recipe
from evermix.recipe.phases import Phase
from evermix.results import Decision, RunResult


def run(recipe: Recipe, *, accept_changed_text: bool = False, console: Console | None = None) -> RunResult:
    """Run a recipe, or go on where it stopped; `result.json` in the project folder holds what it returns.

    Args:
        recipe: what is wanted.
        accept_changed_text: whether text that has changed since the project began is taken, and what depends on it
            trained anew; else it is refused.
        console: for progress; None for none.

    Raises:
        EvermixError: on input that cannot work, or a project that another process is running.
    """
    check_trainers(recipe)
    project = Project(recipe.project_folder)
    with project.lock():
        return finish(open_context(recipe, project, Reporter(project, console), accept_changed_text))


def compare(
    recipe: Recipe,
    arms: Sequence[str] | None = None,
    orders: int | None = None,
    *,
    equal_compute: bool | None = None,
    accept_changed_text: bool = False,
    console: Console | None = None,
) -> RunResult:
    """Run a recipe with other arms, or in so many orders of its phases; returns what `run` does.

    What `run` or another comparison has trained in the same project is not trained again.

        em.compare(recipe, ["evermix", "fixed-replay", "retrain"], orders=3)

    Args:
        arms: names; None for the recipe's.
        orders: how many, the first being the recipe's own; None for the recipe's.
        equal_compute: whether baselines are also trained on as many tokens more as the arm that decides spends on
            deciding; None for what the recipe says.
        accept_changed_text: as in `run`.
        console: for progress; None for none.

    Raises:
        RecipeError: if arms or orders do not fit the recipe.
        EvermixError: on input that cannot work, or a project that another process is running.
    """
    changed = recipe.with_arms(arms, orders, equal_compute)
    return run(changed, accept_changed_text=accept_changed_text, console=console)


def finish(context: RunContext) -> RunResult:
    """All arms through all phases, and the result into the project folder; the project's lock is held."""
    recipe, project = context.recipe, context.project
    check_tasks(context)
    _drop_stale_result(project, recipe)
    project.ledger.append("recipe", recipe.fingerprint(), recipe.model_dump(mode="json"))
    project.ledger.append("corpus", context.rows.fingerprint, corpus_record(context.store))
    if recipe.phases:
        check_unchanged(context, context.orders)
    if context.swarm_project is None:
        note_text(over_every_text(recipe), project, context.reporter)
    before = score_before(context)
    decided = _decide_without_training(context)
    names = _arms(context, decided)
    found = _go_through_all(context, entrants(recipe, names))
    result = assemble(context, found, () if Evermix.name in names else decided, before)
    result.save(project.folder / "result.json")
    project.ledger.append("result", _result_key(context, decided), result.to_json())
    context.reporter.done()
    return result


def _go_through_all(context: RunContext, rows: Sequence[Entrant]) -> dict[Entrant, list[PhaseResults]]:
    """Every row of the comparison, in their order: per order of the phases, its results."""
    orders = range(len(context.orders))
    work = {(row, k): _work(context, row, k) for row in rows for k in orders}
    context.reporter.expect(sum(sum(phases) for phases in work.values()))
    found: dict[Entrant, list[PhaseResults]] = {}

    def spent(order: int, arm: str) -> list[float]:
        return [result.compute.counted.flops for result in found[Entrant(arm)][order]]

    for number, row in enumerate(in_turn(rows), 1):
        place = f"arm {number} of {len(rows)} ({row.name})"
        lengths = [phases_of(row, context.orders[k], partial(spent, k)) for k in orders]
        found[row] = [go_through(context, row, k, lengths[k], place, work[row, k]) for k in orders]
    return {row: found[row] for row in rows}


def go_through(
    context: RunContext, entrant: Entrant, order: int, phases: Sequence[Phase], place: str, n_tokens: Sequence[float]
) -> PhaseResults:
    """One row of the comparison through the phases of one order.

    Args:
        context: of the run.
        entrant: the row.
        order: which.
        phases: of that order, as long as the row has them.
        place: the row among all, for the reader.
        n_tokens: of each phase, see `Reporter.stage`.
    """
    state, rows = ModelState.initial(context), PhaseResults()
    for number, phase in enumerate(phases):
        places = [place]
        places += [f"order {order + 1} of {len(context.orders)}"] * (len(context.orders) > 1)
        places += [f"phase {number + 1} of {len(phases)} ({phase.name})"] * (len(phases) > 1)
        if len(phases) > 1:
            context.reporter.say(", ".join(places))
        if context.recipe.phases:
            note_begun(context, context.orders[order][: number + 1], in_first_order=not order)
        with context.reporter.stage(", ".join(places), n_tokens[number]):
            outcome = ARMS[entrant.arm].run(context, state, phases[: number + 1])
            rows.append(phase_result(context, entrant.name, order, phase, outcome, rows))
        state = replace(outcome.state, decisions=(*state.decisions, *outcome.decisions))
    return rows


def _work(context: RunContext, row: Entrant, order: int) -> list[float]:
    """What each phase costs the row, in tokens of training; the runs of a swarm over one phase come before all arms."""
    n = context.size.counted
    each = estimate(context.recipe, row, context.orders[order], n)
    if context.swarm_project is not None:
        each = [[work for work in works if work.part == "training"] for works in each]
    return [sum(work.flops(n) for work in works) / (TRAINING * n) for works in each]


def _decide_without_training(context: RunContext) -> tuple[Decision, ...]:
    """The decision of a swarm over one phase, which needs no model: made whichever arms are trained."""
    if context.swarm_project is None:
        return ()
    first: Sequence[Phase] = context.orders[0][:1]
    evidence = EVIDENCE[context.recipe.decided_by]
    decision = decide_before(context, ModelState.initial(context), first, Evermix.name, evidence)
    return () if decision is None else (decision,)


def _arms(context: RunContext, decided: Sequence[Decision]) -> list[str]:
    """The recipe's, without best-run where a mixture was carried over and no run is the best."""
    carried = any(decision.proposal is None for decision in decided)
    left_out = [BestRunArm.name] if carried and BestRunArm.name in context.recipe.arms else []
    if left_out:
        context.reporter.say("arm best-run is left out: the mixture was carried over without runs")
    return [arm for arm in context.recipe.arms if arm not in left_out]


def _result_key(context: RunContext, decided: Sequence[Decision]) -> str:
    """A result per recipe, and per version of the domain set that a swarm has decided."""
    made = "".join(f"-{d.swarm.version}-{d.swarm.this_version.n_runs}" for d in decided if d.swarm is not None)
    return f"{context.recipe.fingerprint()}{made}"


def _drop_stale_result(project: Project, recipe: Recipe) -> None:
    """Remove `result.json` unless it is this recipe's: that of another one must not pass for it."""
    kept = project.folder / "result.json"
    try:
        stale = RunResult.load(kept).recipe_fingerprint != recipe.fingerprint()
    except FileNotFoundError:
        return
    except ProjectError:  # damaged, or of another schema: it is written anew at the end
        stale = True
    if stale:
        kept.unlink()
