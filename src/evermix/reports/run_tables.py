"""Tables of a run: how the arms end and what they cost, mixtures and repetition, quality, forgetting, tasks, text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from evermix.printing import Text
from evermix.reports import units
from evermix.reports.answer import Mean, Quality, RunView, cost_sentence, equal_compute_note, headline, staying_sentence
from evermix.reports.decision_tables import decision_lines, decision_tables, decisions_grid
from evermix.reports.layout import Cell, Grid, best, cells, note, show
from evermix.reports.project import load_findings
from evermix.reports.proposal import print_warnings
from evermix.results import APART, Means, PhaseResult, RunResult, TaskScore

_ORDERS = 3
_SEVERAL = 3  # decisions from which the terminal shows one line of each


def print_project(project: Path, console: Console) -> None:
    """The tables of a project's result; of one that is not finished how far it is, and what was decided.

    Raises:
        ProjectError: as `report`.
    """
    findings = load_findings(project)
    if findings.result is not None:
        print_result(findings.result, console)
        return
    done = f"{len(findings.segments)} trainings and {len(findings.decisions)} decisions so far"
    console.print(Text(f"Not finished: {done}.", style="bold"))
    show(console, [decisions_grid(findings.decisions)])


def print_result(result: RunResult, console: Console) -> None:
    """Headline, every comparison in a sentence, then all tables that have something to show."""
    view = RunView(result)
    console.print(Text(headline(result), style="bold"))
    for each in view.differences:
        console.print(Text(f"  {each.arm}: {each.words}; {each.domain_words}."))
    for arm in view.arms:
        for sentence in (cost_sentence(view, arm), staying_sentence(view, arm)):
            if sentence is not None:
                console.print(Text(f"  {arm}: {sentence}"))
    if view.arms:
        show(console, [end_grid(view), quality_grid(view, brief=True), mixture_grid(view, brief=True)])
        if result.before is not None and units.known(result.before.mean_accuracy):
            note(
                console,
                f"mean accuracy on all tasks before the first phase: {units.share(result.before.mean_accuracy)}",
            )
        show(console, [compute_grid(view)])
        for order in range(min(view.n_orders, _ORDERS)) if result.has_phases else ():
            show(console, [phases_grid(view, order), forgetting_grid(view, order)])
        show(console, [tasks_grid(view, order) for order in range(min(view.n_orders, _ORDERS))])
        if view.n_orders > _ORDERS:
            note(console, f"... {view.n_orders - _ORDERS} more orders: the report and --json have them")
    _print_decisions(view, console)


def _print_decisions(view: RunView, console: Console) -> None:
    decisions = view.decisions
    if len(decisions) > _SEVERAL:
        show(console, [decisions_grid(decisions)])
    for decision in decisions if len(decisions) <= _SEVERAL else ():
        show(console, decision_tables(decision))
        for line in decision_lines(decision):
            console.print(Text(line))
        if decision.proposal is not None:
            print_warnings(decision.proposal, console)


def quality_text(quality: Quality, mean: Mean) -> str:
    """'33.1' or, of several orders, '33.1 ± 0.4' with the standard error."""
    text = quality.text(mean.value)
    return text if mean.stderr is None else f"{text} ± {quality.text(mean.stderr)}"


def end_grid(view: RunView) -> Grid:
    """Rows arms; what they end with, and what they spent."""
    saves = "retrain" in view.arms
    columns = ["arm", *(quality.label for quality in view.qualities), "compute"]
    columns += [*["saved against retrain"] * saves, "tokens", "time"]
    leading = {q.name: q.best([view.mean(arm, q).value for arm in view.arms]) for q in view.qualities}
    rows = []
    for arm in view.arms:
        row, spent = [Cell(arm)], view.spent(arm)
        for quality in view.qualities:
            mean = view.mean(arm, quality)
            row.append(Cell(quality_text(quality, mean), "best" if mean.value == leading[quality.name] else ""))
        saved = [units.share(view.saved(arm))] if saves else []
        row += cells(
            units.flops(spent.flops), *saved, units.count(spent.n_tokens), units.seconds(spent.seconds or None)
        )
        rows.append(row)
    orders = f", means of {view.n_orders} orders ± standard error" if view.n_orders > 1 else ""
    title = f"{'After the last phase' if view.n_phases > 1 else 'At the end'}{orders}"
    return Grid(title, columns, rows, note=equal_compute_note(view.result.arms.values()))


def phases_grid(view: RunView, order: int) -> Grid:
    """Rows phases of an order; per arm the objective after each, and the share of what was new in it."""
    rows = []
    for phase, name in enumerate(view.result.orders[order]):
        here = [view.row(arm, order, phase) for arm in view.arms]
        leading = view.objective.best([row.objective_value for row in here])
        texts = [
            Cell(_phase_text(view, row), "best" if row.objective_value == leading and len(here) > 1 else "")
            for row in here
        ]
        rows.append([Cell(f"{phase + 1} {name}"), *texts])
    title = f"Order {order + 1}: " if view.n_orders > 1 else ""
    return Grid(f"{title}{view.objective.label} after each phase (its new share)", ["after phase", *view.arms], rows)


def _phase_text(view: RunView, row: PhaseResult) -> str:
    value = view.objective.text(row.objective_value)
    return f"{value} ({units.share(row.new_share, 0)})" if row.number and row.new else value


def by_phase_grid(view: RunView) -> Grid:
    """Rows phases by their place; per arm the objective after it and the compute until then, means over orders."""
    rows = []
    for phase in range(view.n_phases):
        values: list[float | None] = [view.mean(arm, view.objective, phase).value for arm in view.arms]
        spent = [units.flops(view.spent(arm, phase).flops) for arm in view.arms]
        told = best(values, lambda value: view.objective.text(value or 0.0))
        rows.append([Cell(view.phase_name(phase)), *told, *cells(*spent)])
    n = len(view.arms)
    groups = [("", 1), (view.objective.label, n), ("compute so far", n)]
    return Grid("Phase by phase", ["after phase", *view.arms * 2], rows, groups)


def compute_grid(view: RunView) -> Grid:
    """Rows arms; FLOPs by part from the first phase to the last, the decisions' overhead, and the sum."""
    names, rows = view.part_names(), []
    for arm in view.arms:
        parts, overhead = view.parts(arm), view.overhead(arm)
        spent = [units.flops(parts[name].flops or None if name in parts else None) for name in names]
        extra = units.NOTHING if overhead is None else units.change(overhead[0] / overhead[1])
        rows.append([Cell(arm), *cells(*spent, extra), Cell(units.flops(view.spent(arm).flops), "best")])
    note = "Overhead: what deciding cost beyond training. Cross-checks and the scoring of tasks are in no sum."
    return Grid("Compute by part", ["arm", *map(part_name, names), "overhead", "all"], rows, note=note)


def part_name(part: str) -> str:
    """As a heading."""
    return f"{part.replace('_', ' ')}{' (not in all)' if part in APART else ''}"


def mixture_grid(view: RunView, order: int = 0, *, brief: bool = False) -> Grid:
    """Rows domains; per arm its share at the end and, where it is another, over the last phase, and all its epochs."""
    rows_of = [view.row(arm, order) for arm in view.arms]
    tokens = {domain.name: domain.n_tokens for domain in view.result.domains}
    changed = not brief and any(row.average_mixture != row.mixture for row in rows_of)
    rows = []
    for name in view.domains:
        shares = [_share(row.mixture, name) for row in rows_of]
        shares += [_share(row.average_mixture, name) for row in rows_of] if changed else []
        epochs = [units.number(row.epochs.get(name), 2) for row in rows_of]
        rows.append(cells(name, units.count(tokens.get(name)), *shares, *epochs))
    n = len(view.arms)
    cap = view.result.max_epochs
    last = "in the last phase" if view.n_phases > 1 else "over the run"
    groups = [("", 2), ("share at the end", n), *[(f"share {last}", n)] * changed, ("epochs", n)]
    title = "Mixture (share of tokens) and epochs (passes over the domain)"
    note = f"At most {cap:g} epochs of each domain." if cap is not None else ""
    return Grid(title, ["domain", "tokens", *view.arms * (len(groups) - 1)], rows, groups, note=note)


def _share(mixture: dict[str, float], name: str) -> str:
    return units.share(mixture.get(name, 0.0))


def quality_grid(view: RunView, order: int = 0, *, brief: bool = False) -> Grid:
    """Rows domains and means; per arm bits per byte, perplexity and, unless brief, loss on test text at the end."""
    rows_of = [view.row(arm, order) for arm in view.arms]
    weights = view.weights(view.domains)
    rows = []
    for name in view.domains:
        scores = [row.per_domain.get(name) for row in rows_of]
        counted = name not in weights or weights[name] > 0
        row = [Cell(name) if counted else Cell(f"{name} (not in the objective)", "faint")]
        row += best([None if s is None else s.bits_per_byte for s in scores], units.number)
        row += best([None if s is None else s.perplexity for s in scores], units.perplexity)
        losses = [None if s is None else f"{s.loss_nats:.3f} ± {s.loss_stderr_nats:.3f}" for s in scores]
        rows.append([*row, *cells(*(text or units.NOTHING for text in losses if not brief))])
    feet = [[Cell(label), *_mean_cells(means, brief)] for label, means in _mean_rows(view, rows_of).items()]
    n = len(view.arms)
    groups = [("", 1), ("bits per byte", n), ("perplexity", n), *[("loss (nats) ± s.e.", n)] * (not brief)]
    return Grid("Test text: lower is better", ["domain", *view.arms * (len(groups) - 1)], rows, groups, feet)


def _mean_rows(view: RunView, rows: Sequence[PhaseResult]) -> dict[str, list[Means]]:
    """Label -> means per arm: under the objective's weights, and over all domains where that differs."""
    weights = view.weights(view.domains)
    everything = [row.means_over_all for row in rows]
    if len({round(weight, 12) for weight in weights.values()}) <= 1:
        return {"mean": everything}
    counted = sum(weight > 0 for weight in weights.values())
    label = f"mean of the {counted} in the objective" if counted < len(weights) else "mean as the objective weighs"
    return {label: [row.means for row in rows], f"mean of all {len(weights)}": everything}


def _mean_cells(means: Sequence[Means], brief: bool) -> list[Cell]:
    return [
        *best([mean.bits_per_byte for mean in means], units.number),
        *best([mean.perplexity for mean in means], units.perplexity),
        *([] if brief else best([mean.loss_nats for mean in means], units.number)),
    ]


def share_grid(view: RunView, order: int) -> Grid:
    """Rows phases and, below each, its domains; per arm their shares."""
    rows = []
    for phase, name in enumerate(view.result.orders[order]):
        here = [view.row(arm, order, phase) for arm in view.arms]
        new = [Cell(f"{units.share(row.new_share)} new" if phase and row.new else "", "best") for row in here]
        rows.append([Cell(f"{phase + 1} {name}", "best"), *new])
        for domain in dict.fromkeys(domain for row in here for domain in row.mixture):
            label = f"{domain} (new)" if phase and domain in here[0].new else domain
            shares = [units.share(row.mixture[domain]) if domain in row.mixture else units.NOTHING for row in here]
            rows.append([Cell(f"\u2003{label}"), *cells(*shares)])
    return Grid("What every phase was trained on", ["phase and domain", *view.arms], rows)


def forgetting_grid(view: RunView, order: int) -> Grid | None:
    """Rows domains; per arm how much the loss at the end lies above the least after an earlier phase, in nats."""
    last = [view.row(arm, order) for arm in view.arms]
    names = list(dict.fromkeys(name for row in last for name in row.forgetting_nats))
    if not names:
        return None
    risen = [[row.forgetting_nats.get(n) for row in last] for n in names]
    rows = [[Cell(name), *best(values, _signed)] for name, values in zip(names, risen, strict=True)]
    foot = [Cell("mean"), *best([row.mean_forgetting_nats for row in last], _signed)]
    return Grid("Forgetting at the end (nats per token)", ["domain", *view.arms], rows, foot=[foot])


def _signed(value: float | None) -> str:
    return f"{value:+.3f}" if units.known(value) else units.NOTHING


def tasks_grid(view: RunView, order: int) -> Grid | None:
    """Rows metrics of tasks; their value before the first phase, if known, and per arm at the end; None if no tasks."""
    columns: dict[str, dict[str, TaskScore]] = {arm: view.row(arm, order).tasks for arm in view.arms}
    if view.result.before is not None:
        columns = {"before": view.result.before.tasks, **columns}
    names = list(dict.fromkeys(name for arm in view.arms for name in columns[arm]))
    if not names:
        return None
    rows = [cells(name, *(_score(scores.get(name)) for scores in columns.values())) for name in names]
    title = "Tasks ± standard error" + (f", order {order + 1}" if view.n_orders > 1 else "")
    return Grid(title, ["metric", *columns], rows)


def _score(score: TaskScore | None) -> str:
    if score is None:
        return units.NOTHING
    return units.number(score.value) + ("" if score.stderr is None else f" ± {score.stderr:.3f}")


def corpus_grid(result: RunResult) -> Grid | None:
    """Rows domains; tokens, rows, bytes and documents of their training side, decision and test tokens."""
    counts = [
        (d.n_tokens, d.n_rows, d.n_bytes, d.n_documents, d.decision_tokens, d.test_tokens) for d in result.domains
    ]
    rows = [cells(d.name, *map(units.count, row)) for d, row in zip(result.domains, counts, strict=True)]
    columns = ["domain", "tokens", "rows for training", "bytes", "documents", "decision tokens", "test tokens"]
    return Grid("Corpus", columns, rows) if rows else None


def facts(result: RunResult) -> list[tuple[str, str]]:
    """What the run was, label and value."""
    view = RunView(result)
    swarm = result.proposal.swarm if result.proposal is not None else None
    evidence = "a swarm of proxies (arXiv 2602.12237)" if result.method == "olmix" else "probes of the model on the way"
    tokens = sum(row.n_tokens for row in next(iter(result.arms.values())).orders[0]) if result.arms else None
    found: list[tuple[str, object]] = [
        ("method", f"{result.method}: {evidence}"),
        ("model", result.model.name),
        ("non-embedding parameters", units.count(result.model.non_embedding)),
        ("tokens per arm", units.count(tokens) if tokens else None),
        ("tokens of the target run", units.count(swarm.n_tokens) if swarm is not None and swarm.n_tokens else None),
        ("objective", view.objective.label),
        ("most epochs", result.max_epochs),
        ("seed", result.seed),
        ("recipe", result.recipe_fingerprint),
        ("evermix", result.evermix_version),
    ]
    return [(label, str(value)) for label, value in found if value is not None]
