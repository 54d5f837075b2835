"""The history of a project from its ledger: what happened, what it cost, why this mixture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from evermix.domain_updates import DomainUpdate
from evermix.ledger import Entry
from evermix.printing import Text
from evermix.reports import units
from evermix.reports.decision_tables import binding_reasons, decision_title
from evermix.reports.layout import Grid, cells, show
from evermix.reports.project import read_entries, require_project, typed
from evermix.reports.units import listed, share, spread_out
from evermix.results import Decision
from evermix.results.entries import (
    AskEntry,
    ChangeEntry,
    CorpusEntry,
    FailureEntry,
    KnownTextEntry,
    OutcomeEntry,
    PhaseBegunEntry,
    ProbeEntry,
    ProposalEntry,
    ProxyEntry,
    RecipeEntry,
    SegmentEntry,
    SourceEntry,
    Spent,
    StudyEntry,
    TellEntry,
    TextsEntry,
)
from evermix.study.history import in_words

_SPENDING = {
    "segment": "training",
    "probe": "probes",
    "decision": "decisions",
    "proxy": "proxies",
    "rescore": "scoring proxies anew",
}


@dataclass(frozen=True)
class LogLine:
    """A ledger entry in words: `at` is ISO-8601 UTC; FLOPs and seconds are None where the entry tells none."""

    number: int
    at: str
    kind: str
    key: str
    story: str
    flops: float | None
    seconds: float | None
    payload: dict[str, Any]

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def log(project: str | Path) -> list[LogLine]:
    """All that happened in a project, oldest first.

    Raises:
        ProjectError: if there is no project in that folder, its ledger is damaged, or another evermix wrote it.
    """
    folder = Path(project)
    require_project(folder)
    return [_line(entry) for entry in read_entries(folder)]


def _line(entry: Entry) -> LogLine:
    spent = typed(entry, Spent) if entry.kind in _SPENDING else Spent()
    flops, seconds = spent.flops, spent.seconds
    if spent.compute is not None:
        flops, seconds = spent.compute.flops, spent.compute.seconds
    return LogLine(entry.number, entry.at, entry.kind, entry.key, story(entry), flops, seconds, entry.payload)


def print_log(lines: Sequence[LogLine], console: Console) -> None:
    """The history as a table, and what all of it cost."""
    if not lines:
        console.print("nothing happened yet")
        return
    rows = []
    for line in _told_once(lines):
        when = line.at[:19].replace("T", " ")
        rows.append(
            cells(str(line.number), when, line.kind, line.story, units.flops(line.flops), units.seconds(line.seconds))
        )
    show(console, [Grid("", ["no.", "when (UTC)", "what", "story", "FLOPs", "time"], rows, words=[1, 2, 3])])
    parts = [
        f"{plural} {units.flops(total)}"
        for kind, plural in _SPENDING.items()
        if (total := sum(line.flops or 0 for line in lines if line.kind == kind))
    ]
    if parts:
        decided = any(line.kind == "decision" for line in lines)
        remark = " (a decision's own figure includes its probes)" if decided else ""
        console.print(Text(f"spent: {', '.join(parts)}{remark}"))


def _told_once(lines: Sequence[LogLine]) -> Iterator[LogLine]:
    """Without what a proxy's own entry says already: that it was asked for, and what was told of it."""
    proxies = {line.key for line in lines if line.kind == "proxy"}
    rescored = {line.key.partition(":")[0] for line in lines if line.kind == "rescore"}
    for line in lines:
        told = line.kind in ("ask", "tell") and line.key in proxies
        retold = line.kind == "retell" and line.key.partition("/")[0] in rescored
        if not told and not retold:
            yield line


def story(entry: Entry) -> str:
    """One entry in words; an unknown kind tells its key."""
    return (_STORIES[entry.kind](entry) if entry.kind in _STORIES else "") or entry.key


def _recipe(entry: Entry) -> str:
    recipe = typed(entry, RecipeEntry)
    names = [domain.name for domain in recipe.domains]
    seed = "?" if recipe.seed is None else recipe.seed
    if recipe.phases:
        names += [domain.name for phase in recipe.phases for domain in phase.add]
        phases = f"{len(recipe.phases)} phases ({', '.join(phase.name for phase in recipe.phases)})"
        return f"{phases} over {len(set(names))} domains, arms {', '.join(recipe.arms)}, seed {seed}"
    return f"{units.count(recipe.training.tokens)} tokens over {len(names)} domains, seed {seed}"


def _corpus(entry: Entry) -> str:
    domains = typed(entry, CorpusEntry).domains
    total = sum(domain.n_tokens or 0 for domain in domains)
    return f"{units.count(total)} tokens in {len(domains)} domains" if domains else ""


def _text(entry: Entry) -> str:
    found = typed(entry, TextsEntry)
    new = [name for name in found.domains if name not in found.before]
    changed = [
        f"{name} from {_documents(before)} to {_documents(found.domains[name])}"
        for name, before in found.before.items()
        if name in found.domains
    ]
    parts = [f"read {listed(new)}" if new else "", f"changed text was taken: {listed(changed)}" if changed else ""]
    return "; ".join(part for part in parts if part)


def _documents(text: KnownTextEntry) -> str:
    return "?" if text.n_documents is None else f"{text.n_documents:,} documents"


def _segment(entry: Entry) -> str:
    found = typed(entry, SegmentEntry)
    part = "" if found.part == "training" else f" as {found.part}"
    known = found.start_row is not None and found.end_row is not None
    rows = f", rows {found.start_row:,} to {found.end_row:,}" if known else ""
    mixture = f": {spread_out(found.mixture)}" if found.mixture else ""
    return f"trained {found.label}{part}{rows}, {units.count(found.compute.n_tokens)} tokens{mixture}"


def _probe(entry: Entry) -> str:
    found = typed(entry, ProbeEntry)
    return f"probed {found.component} for {'?' if found.steps is None else found.steps} steps"


def _decision(entry: Entry) -> str:
    found = typed(entry, Decision)
    text = decision_title(found)
    if found.new and found.new_share:
        text += f"; {share(found.new_share)} for {listed(found.new)}"
    if found.old:
        moved = sorted(found.mixture, key=lambda name: -abs(found.mixture[name] - found.old.get(name, 0.0)))[:3]
        changes = [f"{name} {share(found.old.get(name, 0.0))} to {share(found.mixture[name])}" for name in moved]
        text += f"; most changed: {', '.join(changes)}"
    else:
        text += f": {spread_out(found.mixture)}"
    if found.recomputed:
        text += f"; recomputed: {listed(found.recomputed)}"
    return text + _expected(found) + _held(found)


def _expected(found: Decision) -> str:
    values = {name: value for name, value in found.predicted_objective.items() if units.known(value)}
    if "chosen" not in values:
        return ""
    places = units.decimals_for(list(values.values()))
    others = ", ".join(f"{name} {units.fixed(value, places)}" for name, value in values.items() if name != "chosen")
    return f"; predicted objective {units.fixed(values['chosen'], places)}{f' ({others})' if others else ''}"


def _held(found: Decision) -> str:
    held = binding_reasons(found.binding)
    return f"; held by constraints: {', '.join(f'{name} ({reason})' for name, reason in held.items())}" if held else ""


def _begun(entry: Entry) -> str:
    return f"began phase {' > '.join(typed(entry, PhaseBegunEntry).path)}"


def _outcome(entry: Entry) -> str:
    found = typed(entry, OutcomeEntry)
    realised = found.realised_loss_nats
    errors = [abs(realised[name] - value) for name, value in found.predicted_loss_nats.items() if name in realised]
    return f"realised against predicted: off by {sum(errors) / len(errors):.3f} nats on average" if errors else ""


def _study(entry: Entry) -> str:
    names = [str(row[0]) for row in typed(entry, StudyEntry).domains]
    return f"a study of {len(names)} domains: {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}"


def _ask(entry: Entry) -> str:
    return f"{entry.key}: {spread_out(typed(entry, AskEntry).shares)}"


def _tell(entry: Entry) -> str:
    found = typed(entry, TellEntry)
    further = " further" if entry.kind == "retell" else ""
    return f"{found.run_id} measured{further} {_metrics(found.metrics)}"


def _proxy(entry: Entry) -> str:
    verb = "trained and scored" if entry.kind == "proxy" else "scored anew on"
    return f"{entry.key.partition(':')[0]}: {verb} {_metrics(typed(entry, ProxyEntry).metrics)}"


def _metrics(metrics: dict[str, float]) -> str:
    shown = ", ".join(f"{name} {units.number(value)}" for name, value in list(metrics.items())[:3])
    return f"{shown}{f' and {len(metrics) - 3} more' if len(metrics) > 3 else ''}" or "nothing new"


def _source(entry: Entry) -> str:
    found = typed(entry, SourceEntry)
    if found.files:
        place = f"text of {', '.join(found.files)}"
    elif found.registry:
        place = f"text of registry corpus {found.registry}"
    else:
        place = f"text of dataset {found.dataset.path}"
    return f"{entry.key.rpartition('@')[0]}: {place}"


def _failure(entry: Entry) -> str:
    found = typed(entry, FailureEntry)
    return f"proxy {found.run} failed and is left out: {found.reason}; its trace: {found.log}"


def _change(entry: Entry) -> str:
    """An update, a recomputation or an undo of the domain set."""
    found = typed(entry, ChangeEntry)
    if found.what == "undo":
        return f"taken back: version {found.to} goes on"
    kept = [] if found.fixed_ratio is None else list(found.fixed_ratio.shares)
    fixed = f"; at a fixed ratio: {listed(kept)}" if kept else ""
    if found.what == "recompute":
        return f"recompute {', '.join(found.recomputed)}{fixed}"
    runs = "no runs needed" if found.carried else "as many runs as the plan says"
    runs = f"{found.n_runs} new runs" if found.n_runs else runs
    return f"{in_words(DomainUpdate.from_dict(found.update or {}))} (strategy {found.strategy}, {runs}){fixed}"


def _proposal(entry: Entry) -> str:
    found = typed(entry, ProposalEntry)
    return f"from {len(found.runs)} runs: {spread_out(found.mixture)}"


_STORIES: dict[str, Callable[[Entry], str]] = {
    "recipe": _recipe,
    "corpus": _corpus,
    "text": _text,
    "segment": _segment,
    "probe": _probe,
    "decision": _decision,
    "outcome": _outcome,
    "phase-begun": _begun,
    "result": lambda entry: "finished",
    "study": _study,
    "ask": _ask,
    "tell": _tell,
    "retell": _tell,
    "proxy": _proxy,
    "rescore": _proxy,
    "change": _change,
    "failure": _failure,
    "source": _source,
    "tokenizer": lambda entry: "the tokenizer that all domains share from now on",
    "proposal": _proposal,
}
