"""What `evermix design` shows and writes: mixtures to measure."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import yaml
from rich.console import Console

from evermix.deciding.next_runs import RULE, Designed
from evermix.designs import Settledness
from evermix.files import write_atomically
from evermix.printing import Table, Text
from evermix.reports.layout import note, plain_table, rest_row
from evermix.reports.units import NOTHING, count, share

_RUNS, _DOMAINS, _NAMED = 12, 30, 4


def write_design(designed: Designed, folder: Path) -> None:
    """ratios.csv, and tokens.yaml where every count is known, each atomically; `read_observations` reads them."""
    names = designed.prior.domains.names
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["run", *names])
    for run_id, mixture in designed.runs.items():
        writer.writerow([run_id, *map(repr, mixture.weights.tolist())])
    write_atomically(folder / "ratios.csv", stream.getvalue())
    counts = {d.name: d.n_tokens for d in designed.prior.domains}
    if all(n is not None for n in counts.values()):
        text = yaml.safe_dump({"token_counts": counts}, allow_unicode=True, sort_keys=False)
        write_atomically(folder / "tokens.yaml", str(text))


def print_design(designed: Designed, console: Console, out: Path | None, everything: bool = False) -> None:
    """What was designed, what each domain gets, the runs, and what to do next."""
    n, m = len(designed.runs), len(designed.prior.domains)
    console.print(Text(f"{n:,} runs over {m:,} domains: {designed.kind} design", style="bold"))
    if designed.settled is not None:
        console.print(Text(settled_sentence(designed.settled, n)))
    console.print()
    console.print(runs_table(designed, everything))
    console.print(domains_table(designed, everything))
    if out is None:
        note(console, "--out FOLDER writes them as ratios.csv, for your trainer and for `evermix fit`.")
        return
    console.print(Text(f"mixtures: {out / 'ratios.csv'}"))
    console.print(Text(f"next:     train them, write {out / 'metrics.csv'} (run, metrics...), then: evermix fit {out}"))


def settled_sentence(settled: Settledness, n_next: int) -> str:
    """'More runs would move up to 12% of the tokens (90% confidence), ...: about 40 more would leave 5%'."""
    whole, some = settled.change(confidence=RULE.confidence), settled.change(n_next, RULE.confidence)
    wanted = settled.runs_until(RULE)
    sure = f"{RULE.confidence:.0%} confidence"
    text = f"After {settled.n_runs:,} runs, more would move at most {share(whole)} of the mixture's tokens ({sure})"
    if not wanted:
        return f"{text}: enough, by the rule of {share(RULE.total_variation, 0)}."
    return (
        f"{text}, these {n_next:,} at most {share(some)}; under {share(RULE.total_variation, 0)} after {wanted:,} more."
    )


def runs_table(designed: Designed, everything: bool = False) -> Table:
    """Rows runs: the largest shares of each, and on how many domains it is trained."""
    table = plain_table("Runs" + (", most valuable first" if designed.settled is not None else ""))
    table.add_column("run", no_wrap=True)
    table.add_column("domains", justify="right", no_wrap=True)
    table.add_column("largest shares", overflow="fold")
    shown = list(designed.runs.items()) if everything else list(designed.runs.items())[:_RUNS]
    for run_id, mixture in shown:
        order = np.argsort(-mixture.weights, kind="stable")[:_NAMED]
        largest = [f"{mixture.domains.names[j]} {mixture.weights[j]:.0%}" for j in order if mixture.weights[j] >= 0.005]
        table.add_row(Text(run_id), str(int((mixture.weights > 0).sum())), Text(", ".join(largest)))
    if len(shown) < len(designed.runs):
        rest_row(table, len(designed.runs) - len(shown), "runs")
    return table


def domains_table(designed: Designed, everything: bool = False) -> Table:
    """Rows domains, largest prior first: prior, and the shares that the runs give it."""
    weights = np.array([mixture.weights for mixture in designed.runs.values()])
    table = plain_table("Shares over the runs")
    table.add_column("domain", overflow="fold", min_width=12)
    for column in ("tokens", "prior", "mean", "median", "most", "runs\nwith it"):
        table.add_column(column, justify="right", no_wrap=True)
    order = np.argsort(-designed.prior.weights, kind="stable")
    shown = order if everything else order[:_DOMAINS]
    for j in shown:
        drawn, domain = weights[:, j], designed.prior.domains.domains[j]
        numbers = [share(float(x)) for x in (drawn.mean(), np.median(drawn), drawn.max())]
        tokens = count(domain.n_tokens) if domain.n_tokens is not None else NOTHING
        prior = share(float(designed.prior.weights[j]))
        table.add_row(Text(domain.name), tokens, prior, *numbers, f"{int((drawn > 0).sum()):,}")
    if len(shown) < len(order):
        rest_row(table, len(order) - len(shown), "domains")
    return table
