"""What the page of a life shows: the answer, the Pareto picture, and every order stage by stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evermix.reports import units
from evermix.reports.grid import Cell, Grid
from evermix.reports.lives import pareto, plots
from evermix.reports.lives.answer import APART, Difference, Lives, Row, headline
from evermix.reports.lives.tables import part_name, parts_of, quality_text
from evermix.reports.project import Findings
from evermix.reports.summary import Result
from evermix.reports.tables import binding_reasons

_OPEN_ORDERS = 1


def context(findings: Findings) -> dict[str, Any]:
    """The values of the page's template."""
    lives = Lives(findings.result)
    finished = bool(lives.arms)
    return {
        "name": findings.name,
        "finished": findings.finished,
        "headline": headline(findings.result),
        "objective": lives.objective.label,
        "n_orders": len(lives.orders),
        "seed": findings.result.get("seed"),
        "cards": [_card(lives, each) for each in lives.differences] if finished else [],
        "paretos": {label: _svg(svg) for label, svg in pareto.pareto_svgs(lives).items()} if finished else {},
        "end": end_grid(lives) if finished else None,
        "by_stage": by_stage_grid(lives) if finished else None,
        "spent": spent_grid(lives) if finished else None,
        "compute": _svg(plots.compute_plot(lives)) if finished else None,
        "costs": cost_grid(lives) if finished else None,
        "apart": APART in parts_of(lives) if finished else False,
        "orders": [_order(lives, number) for number in range(len(lives.orders))] if finished else [],
        "trained": _trained_grid(findings.result.get("segments") or []) if not finished else None,
        "decided": _decided_grid(findings.result.get("stage_decisions") or []) if not finished else None,
        "corpus": _corpus_grid(findings.result),
        "facts": _facts(lives),
    }


def _svg(text: str) -> Any:
    from markupsafe import Markup

    return Markup(text)


def _card(lives: Lives, each: Difference) -> dict[str, str]:
    write = lives.objective.text
    return {
        "verdict": each.verdict,
        "figure": units.change(each.relative),
        "noise": f"± {units.share(each.noise)}",
        "against": f"{each.arm} against {each.baseline}",
        "exchange": f"{write(each.ours)} instead of {write(each.theirs)}",
        "words": {"better": "a gain", "even": "within the noise", "worse": "a loss"}[each.verdict],
        "compute": each.compute_words,
    }


def end_grid(lives: Lives) -> Grid:
    """Rows arms; what they end with, and what they spent."""
    columns = ["arm", *(quality.label for quality in lives.qualities), "compute"]
    saves = "retrain" in lives.arms
    columns += ["against retrain"] if saves else []
    best = {
        quality.key: quality.best([lives.mean(arm, quality.key).value for arm in lives.arms])
        for quality in lives.qualities
    }
    rows = []
    for arm in lives.arms:
        row = [Cell(arm)]
        for quality in lives.qualities:
            mean = lives.mean(arm, quality.key)
            row.append(Cell(quality_text(quality, mean), "best" if mean.value == best[quality.key] else ""))
        row.append(Cell(units.flops(lives.cost(arm))))
        if saves:
            row.append(Cell(units.change(_more(lives.saved(arm)))))
        row += [Cell(units.count(lives.cost(arm, "n_tokens"))), Cell(units.seconds(lives.cost(arm, "seconds")))]
        rows.append(row)
    return Grid([*columns, "tokens", "time"], rows)


def _more(saved: float | None) -> float | None:
    return None if saved is None else -saved


def by_stage_grid(lives: Lives) -> Grid:
    """Rows stages by their place; per arm the objective after it, mean over orders."""
    rows = []
    for stage in range(lives.n_stages):
        values = [lives.mean(arm, "objective_value", stage).value for arm in lives.arms]
        best = lives.objective.best(values)
        cells = [Cell(lives.objective.text(value), "best" if value == best else "") for value in values]
        rows.append([Cell(_stage_name(lives, stage)), *cells])
    return Grid(["after stage", *lives.arms], rows, [("", 1), (lives.objective.label, len(lives.arms))])


def spent_grid(lives: Lives) -> Grid:
    """Rows stages by their place; per arm the compute until its end, mean over orders."""
    rows = [
        [Cell(_stage_name(lives, stage)), *[Cell(units.flops(lives.cost(arm, stage=stage))) for arm in lives.arms]]
        for stage in range(lives.n_stages)
    ]
    return Grid(["after stage", *lives.arms], rows, [("", 1), ("compute so far", len(lives.arms))])


def _stage_name(lives: Lives, stage: int) -> str:
    names = dict.fromkeys(order[stage] for order in lives.orders)
    return f"{stage + 1} {next(iter(names))}" if len(names) == 1 else f"{stage + 1} of every order"


def cost_grid(lives: Lives) -> Grid:
    """Rows arms; FLOPs by part from the first stage to the last."""
    parts = parts_of(lives)
    rows = []
    for arm in lives.arms:
        spent = lives.parts(arm)
        cells = [Cell(units.flops(spent.get(part) or None)) for part in parts]
        rows.append([Cell(arm), *cells, Cell(units.flops(lives.cost(arm)), "best")])
    return Grid(["arm", *map(part_name, parts), "all"], rows)


def _order(lives: Lives, number: int) -> dict[str, Any]:
    sweeps = [(arm, plots.sweep_plot(lives, number, arm)) for arm in lives.arms]
    return {
        "title": f"Order {number + 1}: {', '.join(lives.orders[number])}" if len(lives.orders) > 1 else "Stages",
        "open": number < _OPEN_ORDERS,
        "losses": _svg(plots.losses_plot(lives, number)),
        "shares": _svg(plots.shares_plot(lives, number)),
        "share_grid": share_grid(lives, number),
        "forgetting": forgetting_grid(lives, number),
        "decisions": decisions_grid(lives, number),
        "sweeps": [(arm, _svg(svg)) for arm, svg in sweeps if svg],
        "tasks": tasks_grid(lives, number),
    }


def share_grid(lives: Lives, order: int) -> Grid:
    """Rows stages and, below each, its domains; per arm their shares."""
    rows = []
    each = [lives.lives[arm][order] for arm in lives.arms]
    for stage, name in enumerate(lives.orders[order]):
        here = [stages[stage] for stages in each]
        told = [Cell("" if not stage else f"{units.share(row['new_share'])} new", "best") for row in here]
        rows.append([Cell(f"{stage + 1} {name}", "best"), *told])
        for domain in dict.fromkeys(domain for row in here for domain in row["mixture"]):
            label = f"{domain} (new)" if stage and domain in here[0]["new"] else domain
            cells = [Cell(units.share(row["mixture"].get(domain))) for row in here]
            rows.append([Cell(f"\u2003{label}"), *cells])
    return Grid(["stage and domain", *lives.arms], rows)


def forgetting_grid(lives: Lives, order: int) -> Grid | None:
    """Rows domains; per arm how much the loss at the end lies above the least after an earlier stage, in nats."""
    last = {arm: lives.lives[arm][order][-1] for arm in lives.arms}
    names = list(dict.fromkeys(name for row in last.values() for name in row.get("forgetting_nats") or {}))
    if not names:
        return None
    rows = [[Cell(name), *_signed([row["forgetting_nats"].get(name) for row in last.values()])] for name in names]
    foot = [Cell("mean"), *_signed([row.get("mean_forgetting_nats") for row in last.values()])]
    return Grid(["domain", *last], rows, foot=[foot])


def _signed(values: Sequence[float | None]) -> list[Cell]:
    known = [value for value in values if units.known(value)]
    best = min(known) if len(known) > 1 else None
    return [
        Cell(f"{value:+.3f}" if units.known(value) else units.NOTHING, "best" if value == best else "")
        for value in values
    ]


def decisions_grid(lives: Lives, order: int) -> Grid | None:
    """Rows decided stages of every arm: the share of what is new, what held it, what it cost."""
    rows = []
    for arm in lives.arms:
        for row in lives.lives[arm][order]:
            told = row.get("told") or {}
            records = [one for one in told.get("decisions") or [told] if "shares" in one]
            for record in records:
                rows.append([Cell(arm), Cell(f"{row['number'] + 1} {row['stage']}"), *_decision_cells(row, record)])
    columns = ["arm", "stage", "decided by", "shares of components", "released", "held by", "deciding cost"]
    return Grid(columns, rows) if rows else None


def _decision_cells(row: Row, told: Mapping[str, Any]) -> list[Cell]:
    shares = ", ".join(f"{name} {units.share(share)}" for name, share in told["shares"].items())
    held = ", ".join(f"{name} ({reason})" for name, reason in binding_reasons(told).items())
    costs = told.get("costs") or [{"flops": part["flops"]} for part in _deciding(row)]
    spent = sum(cost["flops"] for cost in costs)
    released = ", ".join(told.get("released") or []) or units.NOTHING
    texts = [
        str(told.get("mode") or told.get("law") or units.NOTHING) + (", accuracy" if told.get("error_rates") else ""),
        shares,
        released,
        held or units.NOTHING,
        units.flops(spent),
    ]
    return [Cell(text) for text in texts]


def _deciding(row: Row) -> list[Mapping[str, float]]:
    """The parts of a stage's cost that are not the training of its model."""
    training = ("prefix", "training", "decay", APART)
    return [part for name, part in row["cost"]["by_part"].items() if name not in training]


def tasks_grid(lives: Lives, order: int) -> Grid | None:
    """Rows metrics of tasks; their value before the first stage, if known, and per arm at the end; None if no tasks."""
    last = {arm: lives.lives[arm][order][-1].get("tasks") or {} for arm in lives.arms}
    names = list(dict.fromkeys(name for tasks in last.values() for name in tasks))
    if not names:
        return None
    first = {"before": lives.before["tasks"]} if lives.before else {}
    columns = {**first, **last}
    return Grid(
        ["metric", *columns], [[Cell(name), *[_measured(one.get(name)) for one in columns.values()]] for name in names]
    )


def _measured(found: Mapping[str, Any] | None) -> Cell:
    if found is None:
        return Cell(units.NOTHING)
    text = units.number(found.get("value"))
    return Cell(f"{text} ± {found['stderr']:.3f}" if units.known(found.get("stderr")) else text)


def _trained_grid(segments: Sequence[Mapping[str, Any]]) -> Grid | None:
    """Rows trainings that the ledger of an unfinished life holds."""
    rows = [
        [Cell(str(each.get("label"))), Cell(_shares(each)), Cell(units.count(each.get("n_tokens")))]
        for each in segments
    ]
    return Grid(["trained", "mixture", "tokens"], rows) if rows else None


def _decided_grid(decisions: Sequence[Mapping[str, Any]]) -> Grid | None:
    rows = [[Cell(str(each.get("stage"))), Cell(str(each.get("mode"))), Cell(_shares(each))] for each in decisions]
    return Grid(["decided", "by", "mixture"], rows) if rows else None


def _shares(payload: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {units.share(share)}" for name, share in (payload.get("mixture") or {}).items())


def _corpus_grid(result: Result) -> Grid | None:
    rows = [[Cell(each["name"]), Cell(units.count(each.get("n_rows")))] for each in result.get("domains") or []]
    return Grid(["domain", "rows for training"], rows) if rows and "n_rows" in result["domains"][0] else None


def _facts(lives: Lives) -> list[tuple[str, str]]:
    result = lives.result
    parameters = result.get("n_parameters") or {}
    model = result.get("model")
    if isinstance(model, Mapping):
        model = model.get("checkpoint") or model.get("rung")
    found = [
        ("model", model),
        ("non-embedding parameters", units.count(parameters.get("non_embedding")) if parameters else None),
        ("objective", lives.objective.label),
        ("most epochs over a life", result.get("max_epochs")),
        ("seed", result.get("seed")),
        ("recipe", result.get("recipe_fingerprint")),
        ("evermix", result.get("evermix_version")),
    ]
    return [(label, str(value)) for label, value in found if value is not None]
