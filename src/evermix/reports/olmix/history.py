"""The history of a project's domains and mixtures as one tree, in the terminal and for the page; any state in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from evermix.errors import ProjectError
from evermix.reports import units
from evermix.reports.figures import listed
from evermix.reports.layout import plain_table
from evermix.reports.project import read_entries, require_project

if TYPE_CHECKING:
    from evermix.study import Study
    from evermix.study.history import Edge, EraNode, History, MixtureNode

_NAMES = 8
_SHARES = 6


@dataclass(frozen=True)
class Branch:
    """A node of the tree: a domain set, a mixture, or a way back.

    Attributes:
        kind: "era", "mixture" or "undo".
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
    """The study in a project folder.

    Raises:
        ProjectError: if there is none.
    """
    from evermix.study import Study

    require_project(project)
    if not any(entry.kind == "study" for entry in read_entries(project)):
        raise ProjectError(
            f"{project}: a history of domains and mixtures needs a swarm or a study",
            hint="`evermix log` without --graph and --at shows what happened here",
        )
    return Study(project)


def tree(history: History) -> Branch:
    """The first domain set with all that came of it."""
    return _era(history, history.eras[0], "began", None)


def _era(history: History, node: EraNode, what: str, edge: Edge | None) -> Branch:
    below = [_below(history, each) for each in history.edges if each.source == node.id]
    frozen = [each for each in history.edges if each.kind == "freeze" and each.target == node.id]
    detail = f"{len(node.domains)} domains: {listed(node.domains, _NAMES)}; {node.n_runs} runs"
    if node.frozen:
        source = f" as in {frozen[0].source}" if frozen else ""
        detail += f"; frozen{source}: {listed(node.frozen, _NAMES)}"
    strategy = f" ({node.strategy})" if edge is not None and edge.kind == "update" else ""
    label = f"{node.id}: {what}{strategy}"
    return Branch("era", label, detail, node.entry, node.at, node.current, tuple(each for each in below if each))


def _below(history: History, edge: Edge) -> Branch | None:
    """What an edge from a domain set leads to; None for the ones that are drawn elsewhere."""
    if edge.kind in ("update", "release"):
        target = next(era for era in history.eras if era.id == edge.target)
        return _era(history, target, edge.what, edge)
    if edge.kind in ("propose", "carry"):
        return _mixture(next(node for node in history.mixtures if node.id == edge.target), edge.what)
    if edge.kind == "undo":
        return Branch("undo", f"{edge.what}: back to {edge.target}", "", edge.entry, "", False, ())
    return None


def _mixture(node: MixtureNode, what: str) -> Branch:
    shares = sorted(node.shares.items(), key=lambda pair: -pair[1])
    words = listed([f"{name} {units.share(share)}" for name, share in shares], _SHARES)
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


def past_state(project: Path, number: int) -> dict[str, Any]:
    """Domains and mixture as they were after ledger entry `number`, as plain values.

    Raises:
        ProjectError: if there is no study, or it has no such entry.
    """
    view = open_study(project).at(number)
    era, mixture = view.era, view.mixture
    return {
        "entry": number,
        "at": view.state.entries[-1].at,
        "era": era.number,
        "strategy": era.strategy,
        "n_runs": len(view.state.told),
        "frozen": list(era.space.frozen) if era.space is not None else [],
        "domains": [
            {
                "name": domain.name,
                "n_tokens": domain.n_tokens,
                "fingerprint": domain.fingerprint,
                "share": None if mixture is None else mixture[domain.name],
            }
            for domain in era.domains
        ],
    }


def print_past_state(found: Mapping[str, Any], console: Console) -> None:
    """A past state as a table."""
    runs = f"{found['n_runs']} runs told"
    when = str(found["at"])[:19].replace("T", " ")
    console.print(Text(f"After entry {found['entry']} ({when} UTC): era {found['era']}, {runs}", style="bold"))
    decided = any(row["share"] is not None for row in found["domains"])
    console.print(_state_table(found))
    if not decided:
        console.print("no mixture was decided yet")


def _state_table(found: Mapping[str, Any]) -> Table:
    table = plain_table("Domains and mixture")
    table.add_column("domain", overflow="fold")
    for column in ("tokens", "share", "content"):
        table.add_column(column, justify="right")
    if found["frozen"]:
        table.add_column("")
    for row in found["domains"]:
        cells = [units.count(row["n_tokens"]), units.share(row["share"]), row["fingerprint"] or units.NOTHING]
        mark = ["frozen" if row["name"] in found["frozen"] else ""] if found["frozen"] else []
        table.add_row(Text(row["name"]), *cells, *mark)
    return table
