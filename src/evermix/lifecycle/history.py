"""DataHistory: all rows that a model has been trained on, over every phase, as one schedule of mixtures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evermix.domains import DomainSet
from evermix.mixture import Mixture
from evermix.schedule import MixtureSchedule

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DataHistory:
    """What a model was trained on so far.

    Attributes:
        domains: the texts of all phases, with their rows; mixtures are over them, with zeros for what is absent.
        schedule: the mixtures, from row 0 on; None before the first row.
        n_rows: rows trained on.
    """

    domains: DomainSet
    schedule: MixtureSchedule | None = None
    n_rows: int = 0

    def then(self, mixture: Mixture, n_rows: int) -> DataHistory:
        """Go on with `n_rows` of `mixture`."""
        if self.schedule is None:
            schedule = MixtureSchedule.constant(mixture)
        elif self.schedule.segments[-1].mixture == mixture:
            schedule = self.schedule
        else:
            schedule = self.schedule.then(self.n_rows, mixture)
        return DataHistory(self.domains, schedule, self.n_rows + n_rows)

    @property
    def spent(self) -> Floats:
        """Rows of every text used so far, shape (texts,)."""
        if self.schedule is None:
            return np.zeros(len(self.domains))
        return self.schedule.sequences_spent(self.n_rows)

    def proportions(self, names: Sequence[str]) -> Mixture | None:
        """In which proportions the rows of `names` were used, over just them; None if none of them was.

        This is the virtual domain `old`, expanded to its leaves, through however many phases.
        """
        spent = np.array([self.spent[self.domains.index(name)] for name in names])
        if spent.sum() <= 0:
            return None
        return Mixture.normalised(DomainSet(self.domains.domains[self.domains.index(name)] for name in names), spent)
