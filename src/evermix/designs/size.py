"""How many runs a law wants."""

from __future__ import annotations

from evermix.errors import ObservationError

_FACTORS = {"power-link": 2.0, "log-linear": 3.0}


def recommended_runs(n_live: int, law: str = "log-linear") -> int:
    """Runs over `n_live` domains: 3 (m + 1) for log-linear (METHODS 1.1) and families not named here, 2 for power-link.

    The power-link law ranks at m + 1 runs as the log-linear law does at 2 (m + 1) to 3 (m + 1) on both published
    swarms; 2 (m + 1) leave it runs to spare for noise.

    Args:
        law: name of the family.
    """
    if n_live < 1:
        raise ObservationError("a design needs at least one live domain", received=n_live)
    return round(_FACTORS.get(law, 3.0) * (n_live + 1))
