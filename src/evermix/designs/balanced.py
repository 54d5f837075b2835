"""Balanced design: few mixtures around a centre, for an experiment that looks for the slope in every domain's share.

With L levels l and n = B L mixtures, every domain takes every level once in each block of L mixtures:

    p_kj = c_j l_kj / sum_i c_i l_ki,   c the centre

so that no domain is favoured, whatever their number, and the mean over a block is near the centre. Which domain takes
which level when is found by exchange: from the best of some random starts, two levels of a domain change places within
a block for as long as that lowers

    sum_{i<j} r_ij^4 / (m - 1)  +  sum_j sum_t r_jt^2  +  balance * sd_k(sum_j c_j l_kj)^2

with r_ij the correlation of the log levels of two domains, r_jt that with the time trends that will be taken out
(straight and bent), and the spread of the sums, for which levels are not quite what was meant. More domains than
mixtures cannot all be uncorrelated; balanced and free of trend they are all the same. Coordinate exchange: Meyer and
Nachtsheim 1995.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt

from evermix.errors import MixtureError
from evermix.mixture import Mixture

Floats = npt.NDArray[np.float64]
_STARTS = 40
_BALANCE = 20.0
_ROUNDS = 4  # of exchanges through all domains; later ones gain next to nothing
_LARGEST = 256  # domains: beyond it the best start is taken as it is


def balanced_design(centre: Mixture, n: int, levels: tuple[float, ...], rng: np.random.Generator) -> list[Mixture]:
    """n mixtures in which every domain takes every level equally often, in an order that is to be kept.

    Args:
        centre: what levels are multiples of; a domain of no share keeps none.
        n: mixtures, a multiple of the number of levels.
        levels: at least two, > 0.
        rng: draws which domain takes which level when.

    Raises:
        MixtureError: on levels or n out of range.
    """
    check_levels(levels, n)
    drawn = balanced_levels(centre.weights, n, levels, rng)
    return [Mixture.normalised(centre.domains, row * centre.weights) for row in drawn]


def balanced_levels(centre: Floats, n: int, levels: tuple[float, ...], rng: np.random.Generator) -> Floats:
    """The levels alone, shape (n, domains); every column holds every level n / len(levels) times."""
    check_levels(levels, n)
    trend = _trend(n)
    starts = [_shuffled(len(centre), n, levels, rng) for _ in range(_STARTS)]
    best = min(starts, key=lambda each: _badness(each, centre, trend))
    if len(centre) <= _LARGEST:
        _exchange(best, centre, trend, len(levels))
    return best


def check_levels(levels: tuple[float, ...], n: int) -> None:
    """Nothing, if n mixtures can be made of the levels.

    Raises:
        MixtureError: if they cannot.
    """
    if len(set(levels)) < 2 or not all(np.isfinite(level) and level > 0 for level in levels):
        raise MixtureError("a balanced design needs at least two different levels above 0", received=list(levels))
    if n < len(levels) or n % len(levels):
        raise MixtureError(f"mixtures of a balanced design must be a multiple of {len(levels)} levels", received=n)


def _shuffled(n_domains: int, n: int, levels: tuple[float, ...], rng: np.random.Generator) -> Floats:
    blocks = [np.array([rng.permutation(levels) for _ in range(n_domains)]).T for _ in range(n // len(levels))]
    return np.vstack(blocks)


def _trend(n: int) -> Floats:
    """A straight and a bent line over the mixtures, centred, of length one and orthogonal, shape (n, 2 or fewer)."""
    time = np.linspace(-1, 1, n)
    basis = np.linalg.qr(np.column_stack([np.ones(n), time, time**2])[:, : min(3, n)])[0]
    result: Floats = basis[:, 1 : max(1, n - 1)]
    return result


def _badness(levels: Floats, centre: Floats, trend: Floats) -> float:
    logs = np.log(levels)
    logs = logs - logs.mean(axis=0)
    unit = logs / np.linalg.norm(logs, axis=0)
    correlation = unit.T @ unit
    n_domains = len(centre)
    among = ((correlation**4).sum() - n_domains) / 2 / max(n_domains - 1, 1)
    with_trend = ((trend.T @ unit) ** 2).sum()
    return float(among + with_trend + _BALANCE * (levels @ centre).std() ** 2)


def _exchange(levels: Floats, centre: Floats, trend: Floats, block: int) -> None:
    """Change levels of a domain within a block for as long as that is better, in place."""
    value = _badness(levels, centre, trend)
    for _ in range(_ROUNDS):
        before = value
        for j in range(levels.shape[1]):
            for start in range(0, len(levels), block):
                for a, b in combinations(range(start, start + block), 2):
                    levels[[a, b], j] = levels[[b, a], j]
                    tried = _badness(levels, centre, trend)
                    if tried < value - 1e-12:
                        value = tried
                    else:
                        levels[[a, b], j] = levels[[b, a], j]
        if value == before:
            return
