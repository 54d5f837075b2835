"""The history of a project from its ledger: what happened, what it cost, why this mixture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from evermix.reports import units
from evermix.reports.figures import listed
from evermix.reports.lives import history as life
from evermix.reports.project import read_entries, require_project
from evermix.reports.tables import binding_reasons, decision_title

Payload = Mapping[str, Any]
_SPENDING = {
    "segment": "segments",
    "probe": "probes",
    "decision": "decisions",
    "proxy": "proxies",
    "rescore": "scoring proxies anew",
    "stage-segment": "training stages",
    "stage-decision": "deciding stages",
}


def read_log(project: str | Path) -> list[dict[str, Any]]:
    """Ledger entries, oldest first: `number`, `at` (ISO, UTC), `kind`, `key`, `story`, `flops`, `seconds`, `payload`.

    Raises:
        ProjectError: if there is no project in that folder, or its ledger is damaged.
    """
    project = Path(project)
    require_project(project)
    return [
        {
            "number": entry.number,
            "at": entry.at,
            "kind": entry.kind,
            "key": entry.key,
            "story": story(entry.kind, entry.key, entry.payload),
            "flops": flops,
            "seconds": seconds,
            "payload": entry.payload,
        }
        for entry in read_entries(project)
        for flops, seconds in [life.spent(entry.payload)]
    ]


def print_log(entries: Sequence[Mapping[str, Any]], console: Console) -> None:
    """The history as a table, and what all of it cost."""
    if not entries:
        console.print("nothing happened yet")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("no.", justify="right", no_wrap=True)
    table.add_column("when (UTC)", no_wrap=True)
    table.add_column("what")
    table.add_column("story", overflow="fold")
    table.add_column("FLOPs", justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    for entry in _told_once(entries):
        spent = (units.flops(entry["flops"]), units.seconds(entry["seconds"]))
        when = str(entry["at"])[:19].replace("T", " ")
        table.add_row(str(entry["number"]), when, entry["kind"], Text(entry["story"]), *spent)
    console.print(table)
    parts = [
        f"{plural} {units.flops(total)}"
        for kind, plural in _SPENDING.items()
        if (total := sum(entry["flops"] or 0 for entry in entries if entry["kind"] == kind))
    ]
    if parts:
        decided = any(entry["kind"] in ("decision", "stage-decision") for entry in entries)
        remark = " (a decision's own figure includes its probes)" if decided else ""
        console.print(Text(f"spent: {', '.join(parts)}{remark}"))


def _told_once(entries: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Without what a proxy's own entry says already: that it was asked for, and what was told of it."""
    proxies = {entry["key"] for entry in entries if entry["kind"] == "proxy"}
    rescored = {entry["key"].partition(":")[0] for entry in entries if entry["kind"] == "rescore"}
    for entry in entries:
        told = entry["kind"] in ("ask", "tell") and entry["key"] in proxies
        retold = entry["kind"] == "retell" and entry["key"].partition("/")[0] in rescored
        if not told and not retold:
            yield entry


def story(kind: str, key: str, payload: Payload) -> str:
    """One entry in words; an unknown kind tells its key."""
    if kind == "ask":
        return f"{key}: {_largest(payload.get('shares') or {})}"
    if kind in ("proxy", "rescore"):
        return f"{key.partition(':')[0]}: {_VERBS[kind]} {_metrics(payload)}"
    if kind == "source":
        return f"{key.rpartition('@')[0]}: {_place(payload)}"
    return (_STORIES[kind](payload) if kind in _STORIES else "") or key


def _recipe(payload: Payload) -> str:
    names = [domain.get("name", "?") for domain in payload.get("domains") or []]
    tokens = units.count((payload.get("training") or {}).get("tokens"))
    phases = payload.get("phases") or []
    if phases:
        names += [domain.get("name", "?") for phase in phases for domain in phase.get("add") or []]
        stages = f"{len(phases)} phases ({', '.join(phase.get('name', '?') for phase in phases)})"
        arms = ", ".join(payload.get("arms") or [])
        return f"a life of {stages} over {len(set(names))} domains, arms {arms}, seed {payload.get('seed', '?')}"
    return f"{tokens} tokens over {len(names)} domains, seed {payload.get('seed', '?')}"


def _corpus(payload: Payload) -> str:
    domains = payload.get("domains")
    if not isinstance(domains, list):
        return ""
    total = sum(domain.get("n_tokens", domain.get("train_n_tokens")) or 0 for domain in domains)
    return f"{units.count(total)} tokens in {len(domains)} domains"


def _segment(payload: Payload) -> str:
    arms = payload.get("arms") or payload.get("arm") or "?"
    names = arms if isinstance(arms, str) else ", ".join(arms)
    steps = f"steps {payload.get('start_step', '?')} to {payload.get('end_step', '?')}"
    return f"trained {names}, {steps}, {units.count(payload.get('n_tokens'))} tokens"


def _probe(payload: Payload) -> str:
    return f"probed {payload.get('component', '?')} for {payload.get('steps', '?')} steps"


def _decision(payload: Payload) -> str:
    old, new = payload.get("old") or {}, payload.get("mixture") or {}
    moved = sorted(new, key=lambda name: -abs(new[name] - old.get(name, 0.0)))[:3]
    changes = ", ".join(f"{name} {units.share(old.get(name))} to {units.share(new[name])}" for name in moved)
    text = f"{decision_title(payload)}; most changed: {changes}"
    return text + _expected(payload) + _held(payload)


def _expected(payload: Payload) -> str:
    predicted = payload.get("predicted_objective") or {}
    chosen = predicted.get("chosen")
    rivals = [name for name in ("start", "natural", "uniform") if name in predicted]
    others = [f"{name} {units.number(predicted[name])}" for name in rivals]
    return f"; predicted objective {units.number(chosen)} ({', '.join(others)})" if units.known(chosen) else ""


def _held(payload: Payload) -> str:
    held = binding_reasons(payload)
    return f"; held by constraints: {', '.join(f'{name} ({reason})' for name, reason in held.items())}" if held else ""


def _outcome(payload: Payload) -> str:
    predicted = payload.get("predicted_loss_nats") or {}
    realised = payload.get("realised_loss_nats") or {}
    errors = [abs(realised[name] - predicted[name]) for name in predicted if units.known(realised.get(name))]
    return f"realised against predicted: off by {sum(errors) / len(errors):.3f} nats on average" if errors else ""


def _definition(payload: Payload) -> str:
    names = [row[0] for row in payload.get("domains") or []]
    return f"a study of {len(names)} domains: {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}"


def _largest(shares: Mapping[str, float], n: int = 4) -> str:
    named = sorted(shares, key=lambda name: -shares[name])
    rest = f" and {len(named) - n} more" if len(named) > n else ""
    return ", ".join(f"{name} {units.share(shares[name])}" for name in named[:n]) + rest


def _tell(payload: Payload) -> str:
    return f"{payload.get('run_id', '?')} measured {_metrics(payload)}"


def _retell(payload: Payload) -> str:
    return f"{payload.get('run_id', '?')} measured further {_metrics(payload)}"


def _metrics(payload: Payload) -> str:
    metrics = payload.get("metrics") or {}
    shown = ", ".join(f"{name} {units.number(value)}" for name, value in list(metrics.items())[:3])
    return f"{shown}{f' and {len(metrics) - 3} more' if len(metrics) > 3 else ''}" or "nothing new"


def _place(payload: Payload) -> str:
    """Where the text of a domain comes from."""
    if payload.get("files"):
        return f"text of {', '.join(payload['files'])}"
    if payload.get("registry"):
        return f"text of registry corpus {payload['registry']}"
    return f"text of dataset {(payload.get('dataset') or {}).get('path', '?')}"


def _failure(payload: Payload) -> str:
    return f"proxy {payload['run']} failed twice and is left out: {payload['reason']}; its trace: {payload['log']}"


def _change(payload: Payload) -> str:
    """An update, a release or an undo of the domain set."""
    if payload["what"] == "undo":
        return f"taken back: era {payload['to']} goes on"
    kept = list((payload.get("frozen") or {}).get("shares") or {})
    frozen = f"; frozen: {listed(kept)}" if kept else ""
    if payload["what"] == "release":
        return f"release {', '.join(payload['released'])}{frozen}"
    runs = "no runs needed" if payload.get("carried") else "as many runs as the plan says"
    runs = f"{payload['n_runs']} new runs" if payload.get("n_runs") else runs
    return f"{_in_words(payload['update'])} (strategy {payload['strategy']}, {runs}){frozen}"


def _in_words(update: Payload) -> str:
    from evermix.domain_updates import DomainUpdate
    from evermix.study.history import in_words

    return in_words(DomainUpdate.from_dict(dict(update)))


def _proposal(payload: Payload) -> str:
    return f"from {len(payload.get('runs') or [])} runs: {_largest(payload.get('mixture') or {})}"


_VERBS = {"proxy": "trained and scored", "rescore": "scored anew on"}
_STORIES: dict[str, Callable[[Payload], str]] = {
    "recipe": _recipe,
    "corpus": _corpus,
    "segment": _segment,
    "probe": _probe,
    "decision": _decision,
    "outcome": _outcome,
    "result": lambda payload: "finished",
    "study": _definition,
    "tell": _tell,
    "retell": _retell,
    "change": _change,
    "failure": _failure,
    "stage-segment": life.trained,
    "stage-decision": life.decided,
    "stage-begun": life.begun,
    "tokenizer": lambda payload: "the tokenizer that all domains share from now on",
    "proposal": _proposal,
}
