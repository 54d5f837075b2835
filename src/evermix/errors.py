"""One hierarchy of errors: each message states the rule, the value received, and the way out.

The command line prints them as one line and exits with code 2; the library raises them.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from evermix.wording import LONGEST_MESSAGE, shortened, visible, without_secrets


def known_names(name: str, known: Iterable[str], most: int = 20) -> str:
    """A hint for a name that is none of the known: the nearest one, if any is near, and what there is."""
    names = list(known)
    folded = {each.casefold(): each for each in reversed(names)}
    near = get_close_matches(name.casefold(), folded, n=1)
    guess = f"did you mean '{folded[near[0]]}'? " if near else ""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{guess}known: {', '.join(names[:most])}{more}"


class EvermixError(Exception):
    """Base of every error that evermix raises on purpose.

    Its message holds no secret, spells out control characters, and repeats only the ends of what is very long.

    Args:
        rule: what must hold, naming the file, row, field or domain concerned.
        received: the value that broke the rule; omitted from the message when None.
        hint: the way out.
    """

    def __init__(self, rule: str, *, received: object = None, hint: str | None = None) -> None:
        self.rule = rule
        self.received = received
        self.hint = hint
        super().__init__(str(self))

    def __str__(self) -> str:
        message = shortened(self.rule, LONGEST_MESSAGE)
        if self.received is not None:
            message += f", got {shortened(repr(without_secrets(self.received)))}"
        if self.hint:
            message += f". Hint: {shortened(self.hint, LONGEST_MESSAGE)}"
        return visible(without_secrets(message), lines=False)


def to_install(extra: str) -> str:
    """How an optional part of evermix is installed; it is in no package index yet, so that a checkout is needed.

    Args:
        extra: of pyproject.toml.
    """
    return f"in the checkout of evermix: pip install -e '.[{extra}]'"


class RecipeError(EvermixError):
    """The recipe, or a value given in its place, breaks a rule."""


class DomainError(EvermixError):
    """A domain or a domain set is malformed."""


class MixtureError(EvermixError):
    """Weights are not a mixture over their domain set."""


class ObservationError(EvermixError):
    """A table of runs is malformed or too small for what is asked of it."""


class ConstraintError(EvermixError):
    """Constraints contradict each other or cannot be met; the message says by how much."""


class CorpusError(EvermixError):
    """A data file cannot be read, or holds too little text."""


class TokenizerError(EvermixError):
    """A tokenizer cannot be loaded, or does not belong to the model or store at hand."""


class CheckpointError(EvermixError):
    """A model checkpoint cannot be loaded or does not fit the run."""


class TrainingError(EvermixError):
    """Training diverged: a loss is no number, or so large that its perplexity is none.

    Args:
        detail: which loss, of what.
        where: the step, where it is known.
        hint: the way out.
    """

    def __init__(self, detail: str, *, where: str = "", hint: str = "lower the learning rate") -> None:
        self.detail, self.where = detail, where
        super().__init__(f"training diverged{where} ({detail})", hint=hint)


class TaskError(EvermixError):
    """An evaluation task's items cannot be read, or cannot be scored with the model at hand."""


class NotFittedError(EvermixError):
    """A law was asked to predict before it was fitted."""


class ConvergenceError(EvermixError):
    """A fit or a solver did not converge; its result must not be used."""


class ProjectError(EvermixError):
    """The project folder is missing, damaged, or in use by another process."""


class ExecutorError(EvermixError):
    """A list of jobs cannot be run as it is, or a worker process cannot be started."""
