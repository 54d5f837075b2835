"""Space-filling design: few mixtures that stand evenly for a whole region of the simplex.

A pool far larger than the design is laid over the region (scrambled Sobol points through exponential spacings,
p_j = log u_j / sum log u, uniform on the simplex or on random faces of it), and the design is the subset of it with the
least energy distance to the pool, chosen greedily (support points: Mak and Joseph 2018; greedily: kernel herding, Chen,
Welling, Smola 2010):

    next = argmin_x  mean_z |x - z|  -  sum_{chosen y} |x - y| / (number chosen + 1)

with |.| the distance of square roots of weights (Hellinger), in which a domain's last per cent counts as much as it
does for a law: near the middle of what is wanted, far from what is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evermix.designs.feasible import SwarmRules, assemble
from evermix.domains import DomainSet
from evermix.errors import MixtureError
from evermix.mixture import Mixture

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
_POOL_PER_RUN = 16
_LARGEST_POOL = 4096
_LARGEST_POOL_CELLS = 4_000_000
_LARGEST_SOBOL = 4096
_ZERO = 1e-12


@dataclass(frozen=True)
class SpaceFillingOptions:
    """The region.

    Attributes:
        faces: share of the mixtures that lie on faces, where random domains are exactly zero; the number of domains
            left is log-uniform from 1 (a vertex) to all but one.
        minimum_weight: weights under it become zero.
    """

    faces: float = 0.0
    minimum_weight: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.faces <= 1:
            raise MixtureError("the share of mixtures on faces must be in [0, 1]", received=self.faces)


def space_filling_design(
    domains: DomainSet,
    n: int,
    rng: np.random.Generator,
    options: SpaceFillingOptions | None = None,
    rules: SwarmRules | None = None,
) -> list[Mixture]:
    """n mixtures that fill the simplex, or the part of it within the rules' bounds, more evenly than random ones.

    Raises:
        MixtureError: on options or n out of range.
        ConstraintError: if a grid is too coarse for the bounds.
    """
    options, rules = options or SpaceFillingOptions(), rules or SwarmRules()

    def draw(k: int, attempt: int) -> Floats:
        pool = simplex_pool(len(domains), _pool_size(k, len(domains)), options.faces / (1 + attempt), rng)
        if rules.bounds is not None:
            inside = np.array([rules.bounds.clip(row) for row in pool])
            pool = np.where(inside > _ZERO, inside, 0.0)
        return pool[representative(pool, k)]

    return [Mixture.normalised(domains, row) for row in assemble(draw, n, rules, options.minimum_weight, rng)]


def representative(pool: npt.ArrayLike, n: int, chosen: npt.ArrayLike | None = None) -> Ints:
    """Positions of n mixtures that stand for a pool (mixtures, domains): the greedy minimum of the energy distance.

    Thins a Dirichlet swarm to its most even part, or adds to mixtures `chosen` before, shape (k, domains).

    Raises:
        MixtureError: if the pool holds fewer than n mixtures.
    """
    roots = np.sqrt(np.asarray(pool, dtype=np.float64))
    if n > len(roots):
        raise MixtureError(f"a pool of {len(roots)} mixtures must hold the number asked for", received=n)
    apart = distances(roots, roots)
    centrality = apart.mean(axis=1)
    repulsion, count = np.zeros(len(roots)), 0
    if chosen is not None and len(np.asarray(chosen)):
        before = np.sqrt(np.asarray(chosen, dtype=np.float64))
        repulsion, count = distances(roots, before).sum(axis=1), len(before)
    taken = np.zeros(len(roots), dtype=bool)
    picked = []
    for _ in range(n):
        score = np.where(taken, np.inf, centrality - repulsion / (count + 1))
        best = int(score.argmin())
        taken[best] = True
        picked.append(best)
        repulsion += apart[best]
        count += 1
    return np.array(picked, dtype=np.intp)


def distances(a: Floats, b: Floats) -> Floats:
    """Euclidean distances between rows, shape (a, b)."""
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    result: Floats = np.sqrt(np.maximum(squares, 0.0))
    return result


def simplex_pool(n_domains: int, n: int, faces: float, rng: np.random.Generator) -> Floats:
    """n mixtures uniform over the simplex, a share of them uniform over random faces, shape (n, domains)."""
    amounts = -np.log(_unit_cube(n_domains, n, rng))
    n_faces = round(faces * n) if n_domains > 1 else 0
    sizes = np.exp(rng.uniform(0, np.log(n_domains), n_faces)).astype(np.intp)
    for row, size in enumerate(sizes):
        amounts[row, rng.permutation(n_domains)[size:]] = 0.0
    return amounts / amounts.sum(axis=1, keepdims=True)


def _unit_cube(n_dimensions: int, n: int, rng: np.random.Generator) -> Floats:
    """n points of the open cube: scrambled Sobol; plainly random past the dimensions where that still helps."""
    from scipy.stats import qmc  # half a second: only those who fill a space wait for it

    if n_dimensions > _LARGEST_SOBOL:
        points: Floats = rng.uniform(size=(n, n_dimensions))
    else:
        sobol = qmc.Sobol(n_dimensions, scramble=True, seed=rng)
        points = sobol.random_base2(int(np.ceil(np.log2(max(n, 2)))))[:n]
    return np.clip(points, 1e-12, 1 - 1e-12)


def _pool_size(n: int, n_domains: int) -> int:
    """Many times n, within memory and seconds."""
    most = min(_LARGEST_POOL, _LARGEST_POOL_CELLS // n_domains)
    return max(2 * n, min(_POOL_PER_RUN * n, most), 2)
