"""The history of a study's domains and mixtures: one tree for terminal and page, any state in it, how many runs of the
current version are measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.tree import Tree

from evermix.errors import ProjectError
from evermix.printing import Text
from evermix.reports import units
from evermix.reports.layout import Grid, cells, show
from evermix.reports.project import Findings, read_entries, require_project
from evermix.reports.units import listed, share
from evermix.study import Study
from evermix.study.history import Edge, History, MixtureNode, VersionNode
from evermix.study.state import State

_NAMES = 8
_SHARES = 6


@dataclass(frozen=True)
class Branch:
    """A node of the tree: a domain set, a mixture, or a way back.

    Attributes:
        kind: "version", "mixture" or "undo".
        label: what it is. detail: what is in it.
        entry: of the ledger, what `evermix log --at` takes.
        current: whether the project is there now.
        below: what came of it, in the order of the ledger.
    """

    kind: str
    label: str
    detail: str
    entry: int
    at: str
    current: bool
    below: tuple[Branch, ...]


def open_study(project: Path) -> Study:
    """The study in a project folder, to be looked at.

    Raises:
        ProjectError: if there is none.
    """
    require_project(project)
    if not any(entry.kind == "study" for entry in read_entries(project)):
        raise ProjectError(
            f"{project}: a history of domains and mixtures needs a swarm or a study",
            hint="`evermix log` without --graph and --at shows what happened here",
        )
    return Study(project, read_only=True)


def tree(history: History) -> Branch:
    """The first domain set with all that came of it."""
    return _version(history, history.versions[0], "began", None)


def _version(history: History, node: VersionNode, what: str, edge: Edge | None) -> Branch:
    below = [_below(history, each) for each in history.edges if each.source == node.id]
    fixed = [each for each in history.edges if each.kind == "fix" and each.target == node.id]
    detail = f"{len(node.domains)} domains: {listed(node.domains, _NAMES)}; {node.n_runs} runs"
    if node.fixed_ratio:
        source = f" as in {fixed[0].source}" if fixed else ""
        detail += f"; at a fixed ratio{source}: {listed(node.fixed_ratio, _NAMES)}"
    strategy = f" ({node.strategy})" if edge is not None and edge.kind == "update" else ""
    label = f"{node.id}: {what}{strategy}"
    return Branch("version", label, detail, node.entry, node.at, node.current, tuple(each for each in below if each))


def _below(history: History, edge: Edge) -> Branch | None:
    """What an edge from a domain set leads to; None for the ones that are drawn elsewhere."""
    if edge.kind in ("update", "recompute"):
        target = next(version for version in history.versions if version.id == edge.target)
        return _version(history, target, edge.what, edge)
    if edge.kind in ("propose", "carry"):
        return _mixture(next(node for node in history.mixtures if node.id == edge.target), edge.what)
    if edge.kind == "undo":
        return Branch("undo", f"{edge.what}: back to {edge.target}", "", edge.entry, "", False, ())
    return None


def _mixture(node: MixtureNode, what: str) -> Branch:
    shares = sorted(node.shares.items(), key=lambda pair: -pair[1])
    words = listed([f"{name} {share(value)}" for name, value in shares], _SHARES)
    return Branch("mixture", f"{node.id}, {what}", words, node.entry, node.at, node.current, ())


def print_history(history: History, console: Console) -> None:
    """The tree, what is current in bold."""
    console.print(_drawn(tree(history), None))
    console.print(Text("Numbers in brackets are ledger entries: `evermix log PROJECT --at N` shows that state.", "dim"))


def _drawn(branch: Branch, above: Tree | None) -> Tree:
    text = Text.assemble((f"[{branch.entry}] ", "dim"), (branch.label, "bold" if branch.current else ""))
    text.append(f"  {branch.at[:16].replace('T', ' ')}", "dim")
    text.append("  <- now" if branch.current else "", "bold")
    if branch.detail:
        text.append(f"\n{branch.detail}")
    drawn = Tree(text, guide_style="dim") if above is None else above.add(text)
    for each in branch.below:
        _drawn(each, drawn)
    return drawn


@dataclass(frozen=True)
class PastDomain:
    """A domain of a past state; `share` is None where no mixture was decided yet."""

    name: str
    n_tokens: int | None
    fingerprint: str | None
    share: float | None


@dataclass(frozen=True)
class PastState:
    """Domains and mixture as they were after a ledger entry.

    Attributes:
        at: when, ISO-8601 UTC.
        version: of the domain set; `strategy` of the update that began it.
        n_runs: measured by then.
        fixed_ratio: domains that kept their proportions.
    """

    entry: int
    at: str
    version: int
    strategy: str
    n_runs: int
    fixed_ratio: tuple[str, ...]
    domains: tuple[PastDomain, ...]

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def past_state(project: Path, number: int) -> PastState:
    """Domains and mixture as they were after ledger entry `number`.

    Raises:
        ProjectError: if there is no study, or it has no such entry.
    """
    view = open_study(project).at(number)
    version, mixture = view.version, view.mixture
    return PastState(
        number,
        view.state.entries[-1].at,
        version.number,
        version.strategy,
        len(view.state.measured),
        tuple(version.space.fixed_ratio) if version.space is not None else (),
        tuple(
            PastDomain(d.name, d.n_tokens, d.fingerprint, None if mixture is None else mixture[d.name])
            for d in version.domains
        ),
    )


def print_past_state(found: PastState, console: Console) -> None:
    """A past state as a table."""
    when = found.at[:19].replace("T", " ")
    words = f"After entry {found.entry} ({when} UTC): version {found.version}, {found.n_runs} runs measured"
    console.print(Text(words, style="bold"))
    marked = bool(found.fixed_ratio)
    rows = []
    for row in found.domains:
        numbers = [units.count(row.n_tokens), share(row.share), row.fingerprint or units.NOTHING]
        mark = ["fixed ratio" if row.name in found.fixed_ratio else ""] if marked else []
        rows.append(cells(row.name, *numbers, *mark))
    columns = ["domain", "tokens", "share", "content", *[""] * marked]
    show(console, [Grid("Domains and mixture", columns, rows)])
    if all(row.share is None for row in found.domains):
        console.print("no mixture was decided yet")


@dataclass(frozen=True)
class StudyState:
    """How far a study is.

    Attributes:
        measured, wanted: runs of the current version of the domain set, those asked for or yet to be.
        version: of the domain set, 0 before any update.
        n_domains: today. n_runs: measured in all.
        is_swarm: whether evermix trains its runs; else somebody's own trainer does.
    """

    measured: int
    wanted: int
    version: int
    n_domains: int
    n_runs: int
    is_swarm: bool
    history: History

    @property
    def words(self) -> str:
        """`5 of 8 proxies are done`, after updates with the version that they are of; of a foreign study its size."""
        if not self.is_swarm:
            return f"a study of {self.n_domains} domains: {self.n_runs} runs measured"
        after = f" of version {self.version}" if self.version else ""
        return f"{self.measured} of {self.wanted} proxies{after} are done"

    @property
    def counts(self) -> dict[str, int]:
        """Plain values, for JSON."""
        return {"measured": self.measured, "wanted": self.wanted, "version": self.version}


def study_state(findings: Findings) -> StudyState | None:
    """The study of a project; None where it holds none."""
    if not findings.has_study:
        return None
    study = Study(findings.folder, read_only=True)
    view = study.now()
    versions = _same_design(view.state)
    asked = [entry for entry in view.state.asks if entry.payload["version"] in versions]
    measured = sum(entry.key in view.state.measured for entry in asked)
    is_swarm = any(entry.kind == "recipe" for entry in findings.entries)
    wanted, told = len(asked) + study.remaining, len(view.state.measured)
    return StudyState(measured, wanted, view.version.number, len(study.domains), told, is_swarm, study.history())


def mixture_before(project: Path) -> dict[str, float] | None:
    """The mixture that the last update of a study's domains found; None where there was no update."""
    study = open_study(project)
    updates = [each for each in study.now().state.versions.path() if each.update is not None]
    mixture = study.at(updates[-1].entry - 1).mixture if updates else None
    return None if mixture is None else dict(mixture.as_dict)


def so_far(project: Path) -> str | None:
    """How many proxies of the current version are done; None where no swarm has begun in that folder."""
    entries = read_entries(project)
    study = study_state(Findings(project, project.name, None, entries))
    return None if study is None else study.words


def _same_design(state: State) -> set[int]:
    """Numbers of the current version and of those that it only recomputed domains of."""
    numbers, version = {state.version.number}, state.version
    while version.is_recomputation and version.parent is not None:
        version = state.versions.versions[version.parent]
        numbers.add(version.number)
    return numbers
