"""Nested design: names `source:topic:quality` are drawn level by level, each with a prior and a scatter of its own.

    p_leaf = prod over its ancestors a of s_a,   (s of the children of one node) ~ Dirichlet(A q),  q ~ prior^T

Shares within different nodes are drawn independently, so the mean of p is the product of the levels' q. A node at a
fixed ratio keeps s = q in every run, exactly. Leaves may lie at different depths. The minimum weight of a level is a
share within the node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from evermix.constraints import Bounds, GroupBound
from evermix.designs.dirichlet import WIDER, DirichletOptions, concentrations, dirichlet_draws, tempered
from evermix.designs.feasible import SwarmRules, check_request, cover, distinct, finish, onto_support
from evermix.domains import DomainSet
from evermix.errors import ConstraintError, MixtureError
from evermix.mixture import Mixture

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
_SLACK = 1e-9


@dataclass(frozen=True)
class LevelOptions:
    """One level of nested names; level 1 shares all tokens among sources, level 2 a source among its topics, ...

    Attributes:
        scatter: strength, temperature and minimum weight (a share within the node) of this level.
        prior: amounts of this level's nodes by path ("web:science"), of which only the proportions within a node
            count; a node whose children it does not name takes those of the design's prior.
        fixed_ratio: True keeps the prior's inner weights of every node that this level divides; names keep those of
            these nodes only ("web" on level 2: the topics of web).
    """

    scatter: DirichletOptions = field(default_factory=DirichletOptions)
    prior: Mapping[str, float] = field(default_factory=dict)
    fixed_ratio: bool | frozenset[str] = False


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
    def is_fixed_ratio(self) -> bool:
        kept = self.options.fixed_ratio
        return len(self.children) == 1 or (kept if isinstance(kept, bool) else self.parent in kept)

    def draw(self, n: int, rng: np.random.Generator, attempt: int = 0) -> Floats:
        """Shares of the children in n runs, shape (n, children); stronger at later attempts."""
        if self.is_fixed_ratio:
            return np.tile(self.base, (n, 1))
        scatter, n_sampled = self.options.scatter, int((self.base > 0).sum())
        totals = concentrations(scatter.strength, scatter.per_domain, n_sampled, n, rng) * WIDER**attempt
        minimum = scatter.minimum(n_sampled)
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
        MixtureError: if a domain is also the parent of others, or names of a level's prior or fixed ratio fit no node.
        ConstraintError: if bounds cannot be met with the fixed ratios, or a grid would change them.
    """
    rules = rules or SwarmRules()
    check_request(n, 0.0, rules)
    splits = _splits(prior, levels)
    atoms = _atoms(prior.domains, splits, rules)
    sampled = _product(splits, [split.base[None] for split in splits], len(prior.domains))[0]
    shares = [np.zeros((n, len(split.children))) for split in splits]

    def attempt(rows: Ints, t: int) -> Floats:
        for split, share in zip(splits, shares, strict=True):
            share[rows] = split.draw(len(rows), rng, t)
        weights = _cover_top_down(splits, shares, rules.coverage, rng)
        if atoms.bounds is None:
            return weights if rules.grid is None else finish(weights, sampled > 0, rules, 0.0, rng)
        collapsed = [_within(row, atoms.bounds) for row in atoms.collapse(weights)]
        inner = replace(rules, bounds=atoms.bounds)
        return atoms.expand(finish(np.array(collapsed), atoms.collapse(sampled[None])[0] > 0, inner, 0.0, rng))

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
    for name in () if isinstance(options.fixed_ratio, bool) else options.fixed_ratio:
        if name not in nodes:
            raise MixtureError(
                f"a name at a fixed ratio on level {level} must be a node that it divides", received=name
            )


def _product(splits: list[Split], shares: list[Floats], n_domains: int) -> Floats:
    """Leaf weights of runs, shape (runs, domains), from the shares within every node."""
    weights = np.ones((len(shares[0]), n_domains))
    for split, share in zip(splits, shares, strict=True):
        for child, leaves in enumerate(split.leaves):
            weights[:, leaves] *= share[:, child, None]
    return weights


def _cover_top_down(splits: list[Split], shares: list[Floats], coverage: int, rng: np.random.Generator) -> Floats:
    """Leaf weights after covering each node's children within the runs that have the node: so all leaves are.

    By induction: a node is in at least `coverage` runs, and each of its sampled children in as many of those.
    """
    covered: list[Floats] = []
    reach = {"": np.ones(len(shares[0]))}
    for split, share in zip(splits, shares, strict=True):
        present = reach[split.parent] > 0
        inner = share.copy()
        if not split.is_fixed_ratio and present.any():
            minimum = split.options.scatter.minimum(int((split.base > 0).sum()))
            needed = SwarmRules(coverage=min(coverage, int(present.sum())))
            inner[present] = cover(share[present], split.base > 0, needed, minimum, rng)
        covered.append(inner)
        for child, name in enumerate(split.children):
            reach[name] = reach[split.parent] * inner[:, child]
    return _product(splits, covered, sum(len(leaves) for leaves in splits[0].leaves))


def _atoms(domains: DomainSet, splits: list[Split], rules: SwarmRules) -> Atoms:
    """The largest parts at a fixed ratio on all their levels; bounds act on them."""
    labels, inner = np.arange(len(domains)), np.ones(len(domains))
    whole = set(domains.names)
    for split in reversed(splits):
        if not split.is_fixed_ratio:
            continue
        if all(child in whole for child in split.children):
            whole.add(split.parent)
            for share, leaves in zip(split.base, split.leaves, strict=True):
                inner[leaves] *= share
                labels[leaves] = split.leaves[0][0]
        elif len(split.children) > 1 and rules.bounds is not None:
            raise ConstraintError(
                f"bounds must not meet a fixed ratio above free ones, as within '{split.parent}'",
                hint="fix the ratios of the levels below it too, or leave out the bounds",
            )
    atoms = Atoms.of(np.unique(labels, return_inverse=True)[1], inner, rules.bounds)
    if rules.grid is not None and any(split.is_fixed_ratio and len(split.children) > 1 for split in splits):
        raise ConstraintError("a grid must not meet fixed inner ratios, which it would change", hint="leave it out")
    return atoms


def _within(weights: Floats, bounds: Bounds) -> Floats:
    """One run's atoms within bounds, on the drawn support where bounds allow."""
    if bounds.hold(weights):
        return weights
    return onto_support(bounds.clip(weights), weights > 0, 0.0, bounds)


@dataclass(frozen=True)
class Atoms:
    """Parts of a domain set at a fixed ratio, each one domain for bounds: p_j = weight of j's atom * inner_j.

    Attributes:
        label: shape (domains,), the atom of each domain.
        inner: shape (domains,), sums to 1 within an atom.
        bounds: over atoms; None for none.
    """

    label: Ints
    inner: Floats
    bounds: Bounds | None

    @classmethod
    def of(cls, label: Ints, inner: Floats, bounds: Bounds | None) -> Atoms:
        """Bounds over leaves carried to atoms: l_a = max_j lower_j / inner_j, u_a = min_j upper_j / inner_j.

        Raises:
            ConstraintError: if no atom weights meet them, or a group holds part of an atom.
        """
        n_atoms = int(label.max()) + 1
        if bounds is None or n_atoms == len(label):
            return cls(label, inner, bounds)
        used = inner > 0
        lower, upper = np.zeros(n_atoms), np.ones(n_atoms)
        np.maximum.at(lower, label[used], bounds.lower[used] / inner[used])
        np.minimum.at(upper, label[used], bounds.upper[used] / inner[used])
        if (
            (bounds.lower[~used] > 0).any()
            or (lower > upper + _SLACK).any()
            or lower.sum() > 1 + _SLACK
            or upper.sum() < 1 - _SLACK
        ):
            raise ConstraintError(
                "bounds must hold a mixture with the fixed inner ratios", hint="free a level, or loosen the bounds"
            )
        groups = tuple(_group_over_atoms(group, label, used, n_atoms) for group in bounds.groups)
        return cls(label, inner, Bounds(np.minimum(lower, upper), upper, ("",) * n_atoms, groups))

    @property
    def n_atoms(self) -> int:
        return int(self.label.max()) + 1

    def collapse(self, weights: Floats) -> Floats:
        """Atom weights, shape (runs, domains) -> (runs, atoms)."""
        totals = np.zeros((self.n_atoms, len(weights)))
        np.add.at(totals, self.label, weights.T)
        return totals.T.copy()

    def expand(self, weights: Floats) -> Floats:
        """Leaf weights, shape (runs, atoms) -> (runs, domains)."""
        leaves: Floats = weights[:, self.label] * self.inner
        return leaves


def _group_over_atoms(group: GroupBound, label: Ints, used: npt.NDArray[np.bool_], n_atoms: int) -> GroupBound:
    inside, outside = np.zeros(n_atoms, dtype=bool), np.zeros(n_atoms, dtype=bool)
    inside[label[used & group.members]] = True
    outside[label[used & ~group.members]] = True
    if (inside & outside).any():
        raise ConstraintError(
            f"group '{group.name}' must not hold a part of domains at a fixed ratio",
            hint="free that level, or leave out the group",
        )
    return GroupBound(group.name, inside, group.lower, group.upper)
