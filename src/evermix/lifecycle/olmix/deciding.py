"""From the measured swarm to a mixture: proxies of the era's design, releases where they pay, the proposal."""

from __future__ import annotations

from dataclasses import dataclass

from evermix.deciding import AssessedProposal
from evermix.errors import ConstraintError, ConvergenceError, ObservationError
from evermix.executors import Executor, LocalProcesses
from evermix.lifecycle.olmix.measuring import LeftOutRun, measure_design, score_earlier
from evermix.lifecycle.olmix.workshop import Workshop
from evermix.mixture import Mixture
from evermix.study import Diagnosis


@dataclass(frozen=True, eq=False)
class Decided:
    """The mixture over today's domains, and what it rests on.

    Attributes:
        recommendation: None where the mixture was carried over without runs (a removal).
        diagnosis: what reuse cost; None where nothing is frozen.
        released: unaffected domains that were taken out of the bundle, by `auto` or because they were named.
        left_out: proxies that failed twice.
    """

    mixture: Mixture
    recommendation: AssessedProposal | None
    diagnosis: Diagnosis | None
    released: tuple[str, ...]
    left_out: tuple[LeftOutRun, ...]


def executor_of(shop: Workshop) -> Executor:
    """Processes of this machine, as many at once as the recipe says."""
    return LocalProcesses(shop.recipe.swarm.workers, logs=shop.project.folder / "logs")


def decide(shop: Workshop) -> Decided:
    """Measure what the era needs and propose its mixture; what was done before is not done again.

    Raises:
        ProjectError: if no proxy could be measured.
        ObservationError, ConstraintError, ConvergenceError: if no mixture can be proposed from them.
    """
    study, executor = shop.study, executor_of(shop)
    left_out = score_earlier(shop, executor) if study.era.number else ()
    carried = study.era.carried
    if carried is not None:
        return Decided(carried, None, None, (), left_out)
    left_out += measure_design(shop, executor)
    if _release_what_pays(shop):
        left_out += measure_design(shop, executor)
    with shop.reporter.part("decision", "proposing a mixture", shop.recipe.decision.resamples or None) as report:
        recommendation = study.propose(progress=lambda done, total: report(done))
    return Decided(recommendation.mixture, recommendation, diagnosis_of(shop), study.era.released, left_out)


def _release_what_pays(shop: Workshop) -> tuple[str, ...]:
    """With strategy auto, once per update: take out of the bundle what is worth its runs; the released domains.

    Where the runs cannot tell (too few, or no law can be fitted to all of them), nothing is released.
    """
    study = shop.study
    if study.era.strategy != "auto" or study.era.is_release or study.space is None:
        return ()
    try:
        with shop.reporter.part("decision", "judging what to release", None):
            released = study.release()
    except (ObservationError, ConvergenceError, ConstraintError) as error:
        shop.reporter.say(f"nothing is released, for what it is worth is unknown: {error}")
        return ()
    if released:
        shop.reporter.say(f"released, because it is worth its runs: {', '.join(released)}")
    return released


def diagnosis_of(shop: Workshop) -> Diagnosis | None:
    """What keeping frozen proportions cost, as far as the runs can tell."""
    if shop.study.space is None:
        return None
    try:
        with shop.reporter.part("decision", "diagnosing reuse", None):
            return shop.study.diagnose()
    except (ObservationError, ConvergenceError, ConstraintError) as error:
        shop.reporter.say(f"no diagnosis of reuse: {error}")
        return None
