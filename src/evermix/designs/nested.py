"""Nested design: names `source:topic:quality` are drawn level by level, each with a prior and a scatter of its own.

    p_leaf = prod over its ancestors a of s_a,   (s of the children of one node) ~ Dirichlet(A q),  q ~ prior^T

Shares within different nodes are drawn independently, so the mean of p is the product of the levels' q. A frozen node
keeps s = q in every run, exactly. Leaves may lie at different depths. The minimum weight of a level is a share within
the node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from evermix.constraints import Bounds
from evermix.designs.atoms import Atoms
from evermix.designs.dirichlet import WIDER, DirichletOptions, concentrations, dirichlet_draws, tempered
from evermix.designs.feasible import SwarmRules, check_request, cover, distinct, finish, onto_support
from evermix.domains import DomainSet
from evermix.errors import ConstraintError, MixtureError
from evermix.mixture import Mixture

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]


@dataclass(frozen=True)
class LevelOptions:
    """One level of nested names; level 1 shares all tokens among sources, level 2 a source among its topics, ...

    Attributes:
        scatter: strength, temperature and minimum weight (a share within the node) of this level.
        prior: amounts of this level's nodes by path ("web:science"), of which only the proportions within a node
            count; a node whose children it does not name takes those of the design's prior.
        frozen: True keeps the prior's inner weights of every node that this level divides; names keep those of
            these nodes only ("web" on level 2: the topics of web).
    """

    scatter: DirichletOptions = field(default_factory=DirichletOptions)
    prior: Mapping[str, float] = field(default_factory=dict)
    frozen: bool | frozenset[str] = False


@dataclass(frozen=True)
class Split:
    """How one node's share is divided.

    Attributes:
        parent: path, "" for the whole.
        children: paths.
        leaves: per child the columns of its leaves.
        base: q, shape (children,).
    """

    parent: str
    children: tuple[str, ...]
    leaves: tuple[Ints, ...]
    base: Floats
    options: LevelOptions

    @property
    def is_frozen(self) -> bool:
        frozen = self.options.frozen
        return len(self.children) == 1 or (frozen if isinstance(frozen, bool) else self.parent in frozen)

    def draw(self, n: int, rng: np.random.Generator, attempt: int = 0) -> Floats:
        """Shares of the children in n runs, shape (n, children); stronger at later attempts."""
        if self.is_frozen:
            return np.tile(self.base, (n, 1))
        scatter, n_live = self.options.scatter, int((self.base > 0).sum())
        totals = concentrations(scatter.strength, scatter.per_domain, n_live, n, rng) * WIDER**attempt
        minimum = scatter.minimum(n_live)
        drawn = dirichlet_draws(self.base, totals, rng)
        drawn /= drawn.sum(axis=1, keepdims=True)
        kept = np.where((drawn >= minimum) | (drawn == drawn.max(axis=1, keepdims=True)), drawn, 0.0)
        shares: Floats = kept / kept.sum(axis=1, keepdims=True)
        return shares


def nested_design(
    prior: Mixture,
    n: int,
    rng: np.random.Generator,
    levels: Sequence[LevelOptions] = (),
    rules: SwarmRules | None = None,
) -> list[Mixture]:
    """n mixtures over the leaves, drawn level by level; levels past the end of `levels` have default options.

    Raises:
        MixtureError: if a domain is also the parent of others, or a level's prior or frozen names fit no node.
        ConstraintError: if bounds cannot be met with the frozen inner weights, or a grid would change them.
    """
    rules = rules or SwarmRules()
    check_request(n, 0.0, rules)
    splits = _splits(prior, levels)
    atoms = _atoms(prior.domains, splits, rules)
    live = _product(splits, [split.base[None] for split in splits], len(prior.domains))[0]
    shares = [np.zeros((n, len(split.children))) for split in splits]

    def attempt(rows: Ints, t: int) -> Floats:
        for split, share in zip(splits, shares, strict=True):
            share[rows] = split.draw(len(rows), rng, t)
        weights = _cover_top_down(splits, shares, rules.coverage, rng)
        if atoms.bounds is None:
            return weights if rules.grid is None else finish(weights, live > 0, rules, 0.0, rng)
        collapsed = [_within(row, atoms.bounds) for row in atoms.collapse(weights)]
        inner = replace(rules, bounds=atoms.bounds)
        return atoms.expand(finish(np.array(collapsed), atoms.collapse(live[None])[0] > 0, inner, 0.0, rng))

    return [Mixture.normalised(prior.domains, row) for row in distinct(attempt, n, rules.bounds)] if n else []


def nested_prior(prior: Mixture, levels: Sequence[LevelOptions] = ()) -> Mixture:
    """The mean of a nested design without minimum weights: the product of the levels' tempered priors."""
    splits = _splits(prior, levels)
    weights = _product(splits, [split.base[None] for split in splits], len(prior.domains))
    return Mixture.normalised(prior.domains, weights[0])


def _splits(prior: Mixture, levels: Sequence[LevelOptions]) -> list[Split]:
    """Every node with children, parents before their descendants."""
    paths = [tuple(name.split(":")) for name in prior.domains.names]
    depth = max(map(len, paths))
    if len(levels) > depth:
        raise MixtureError(f"a nested design over names of {depth} levels must not have more", received=len(levels))
    splits: list[Split] = []
    for level in range(depth):
        options = levels[level] if level < len(levels) else LevelOptions()
        nodes: dict[str, dict[str, list[int]]] = {}
        for j, path in enumerate(paths):
            if len(path) > level:
                nodes.setdefault(":".join(path[:level]), {}).setdefault(":".join(path[: level + 1]), []).append(j)
        for parent in nodes:
            if parent in prior.domains:
                raise MixtureError(
                    "a domain must not be the parent of others in a nested design",
                    received=parent,
                    hint=f"rename it, for example '{parent}:rest'",
                )
        _check_names(options, nodes, level + 1)
        splits += [_split(parent, children, prior, options) for parent, children in nodes.items()]
    return splits


def _split(parent: str, children: dict[str, list[int]], prior: Mixture, options: LevelOptions) -> Split:
    named = [child for child in children if child in options.prior]
    if named and len(named) < len(children):
        missing = next(child for child in children if child not in options.prior)
        raise MixtureError(f"the prior of a level must name all children of '{parent}'", received=f"no '{missing}'")
    columns = tuple(np.array(leaves) for leaves in children.values())
    amounts = np.array([options.prior[c] for c in children] if named else [prior.weights[j].sum() for j in columns])
    if (amounts < 0).any() or not np.isfinite(amounts).all():
        raise MixtureError(f"prior amounts of the children of '{parent}' must be numbers >= 0", received=amounts.min())
    if amounts.sum() <= 0:
        amounts = np.ones(len(children))  # a node without prior mass: its parent gives it none
    return Split(parent, tuple(children), columns, tempered(amounts, options.scatter.temperature), options)


def _check_names(options: LevelOptions, nodes: dict[str, dict[str, list[int]]], level: int) -> None:
    children = {child for inner in nodes.values() for child in inner}
    for name in options.prior:
        if name not in children:
            raise MixtureError(f"the prior of level {level} must name nodes of that level", received=name)
    for name in () if isinstance(options.frozen, bool) else options.frozen:
        if name not in nodes:
            raise MixtureError(f"a frozen name of level {level} must be a node that it divides", received=name)


def _product(splits: list[Split], shares: list[Floats], n_domains: int) -> Floats:
    """Leaf weights of runs, shape (runs, domains), from the shares within every node."""
    weights = np.ones((len(shares[0]), n_domains))
    for split, share in zip(splits, shares, strict=True):
        for child, leaves in enumerate(split.leaves):
            weights[:, leaves] *= share[:, child, None]
    return weights


def _cover_top_down(splits: list[Split], shares: list[Floats], coverage: int, rng: np.random.Generator) -> Floats:
    """Leaf weights after covering each node's children within the runs that have the node: so all leaves are.

    By induction: a node is in at least `coverage` runs, and each of its live children in as many of those.
    """
    covered: list[Floats] = []
    reach = {"": np.ones(len(shares[0]))}
    for split, share in zip(splits, shares, strict=True):
        present = reach[split.parent] > 0
        inner = share.copy()
        if not split.is_frozen and present.any():
            minimum = split.options.scatter.minimum(int((split.base > 0).sum()))
            needed = SwarmRules(coverage=min(coverage, int(present.sum())))
            inner[present] = cover(share[present], split.base > 0, needed, minimum, rng)
        covered.append(inner)
        for child, name in enumerate(split.children):
            reach[name] = reach[split.parent] * inner[:, child]
    return _product(splits, covered, sum(len(leaves) for leaves in splits[0].leaves))


def _atoms(domains: DomainSet, splits: list[Split], rules: SwarmRules) -> Atoms:
    """The largest parts whose inner weights are all frozen; bounds act on them."""
    labels, inner = np.arange(len(domains)), np.ones(len(domains))
    whole = set(domains.names)
    for split in reversed(splits):
        if not split.is_frozen:
            continue
        if all(child in whole for child in split.children):
            whole.add(split.parent)
            for share, leaves in zip(split.base, split.leaves, strict=True):
                inner[leaves] *= share
                labels[leaves] = split.leaves[0][0]
        elif len(split.children) > 1 and rules.bounds is not None:
            raise ConstraintError(
                f"bounds must not meet frozen weights above free ones, as within '{split.parent}'",
                hint="freeze the levels below it too, or leave out the bounds",
            )
    atoms = Atoms.of(np.unique(labels, return_inverse=True)[1], inner, rules.bounds)
    if rules.grid is not None and any(split.is_frozen and len(split.children) > 1 for split in splits):
        raise ConstraintError("a grid must not meet frozen inner weights, which it would change", hint="leave it out")
    return atoms


def _within(weights: Floats, bounds: Bounds) -> Floats:
    """One run's atoms within bounds, on the drawn support where bounds allow."""
    if bounds.hold(weights):
        return weights
    return onto_support(bounds.clip(weights), weights > 0, 0.0, bounds)
