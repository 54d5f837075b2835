"""run: every arm of a recipe through its phases, in every order that it asks for; resumable at any moment."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from evermix.errors import ProjectError
from evermix.ledger import Project
from evermix.lifecycle.arms import ARMS
from evermix.lifecycle.arms.decided import BestRunArm, Evermix, decide_before
from evermix.lifecycle.assembling import PhaseResults, assemble, phase_result
from evermix.lifecycle.changes import check_unchanged, note_begun
from evermix.lifecycle.context import RunContext, open_context, over_every_text
from evermix.lifecycle.known_text import note_text
from evermix.lifecycle.progress import Reporter
from evermix.lifecycle.scoring import check_tasks, score_before
from evermix.lifecycle.state import ModelState, check_trainers
from evermix.lifecycle.text import corpus_record
from evermix.lifecycle.work import TRAINING, training
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
    accept_changed_text: bool = False,
    console: Console | None = None,
) -> RunResult:
    """Run a recipe with other arms, or in so many orders of its phases; returns what `run` does.

    What `run` or another comparison has trained in the same project is not trained again.

        em.compare(recipe, ["evermix", "fixed-replay", "retrain"], orders=3)

    Args:
        arms: names; None for the recipe's.
        orders: how many, the first being the recipe's own; None for the recipe's.
        accept_changed_text: as in `run`.
        console: for progress; None for none.

    Raises:
        RecipeError: if arms or orders do not fit the recipe.
        EvermixError: on input that cannot work, or a project that another process is running.
    """
    return run(recipe.with_arms(arms, orders), accept_changed_text=accept_changed_text, console=console)


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
    each = {(arm, k): _work(context, arm, k) for arm in names for k in range(len(context.orders))}
    context.reporter.expect(sum(sum(phases) for phases in each.values()))
    arms: dict[str, list[PhaseResults]] = {}
    for number, arm in enumerate(names, 1):
        place = f"arm {number} of {len(names)} ({arm})"
        arms[arm] = [go_through(context, arm, k, place, each[arm, k]) for k in range(len(context.orders))]
    untrained = () if Evermix.name in arms else decided
    result = assemble(context, arms, untrained, before)
    result.save(project.folder / "result.json")
    project.ledger.append("result", _result_key(context, decided), result.to_json())
    context.reporter.done()
    return result


def go_through(context: RunContext, arm: str, order: int, place: str, n_tokens: Sequence[float]) -> PhaseResults:
    """One arm through the phases of one order.

    Args:
        context: of the run.
        arm: its name.
        order: which.
        place: the arm among all, for the reader.
        n_tokens: of each phase, see `Reporter.stage`.
    """
    phases, state, rows = context.orders[order], ModelState.initial(context), PhaseResults()
    for number, phase in enumerate(phases):
        places = [place]
        places += [f"order {order + 1} of {len(context.orders)}"] * (len(context.orders) > 1)
        places += [f"phase {number + 1} of {len(phases)} ({phase.name})"] * (len(phases) > 1)
        if len(phases) > 1:
            context.reporter.say(", ".join(places))
        if context.recipe.phases:
            note_begun(context, phases[: number + 1], in_first_order=not order)
        with context.reporter.stage(", ".join(places), n_tokens[number]):
            outcome = ARMS[arm].run(context, state, phases[: number + 1])
            rows.append(phase_result(context, arm, order, phase, outcome, rows))
        state = outcome.state
    return rows


def _work(context: RunContext, arm: str, order: int) -> list[float]:
    """What each phase costs the arm, in tokens of training; the runs of a swarm over one phase come before all arms."""
    recipe, phases, n = context.recipe, context.orders[order], context.size.counted
    if context.swarm_project is not None:
        return [training(recipe, phase).n_tokens for phase in phases]
    each = [ARMS[arm].estimate(recipe, phases[: k + 1]) for k in range(len(phases))]
    return [sum(work.flops(n) for work in works) / (TRAINING * n) for works in each]


def _decide_without_training(context: RunContext) -> tuple[Decision, ...]:
    """The decision of a swarm over one phase, which needs no model: made whichever arms are trained."""
    if context.swarm_project is None:
        return ()
    first: Sequence[Phase] = context.orders[0][:1]
    evidence = context.recipe.decided_by
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
