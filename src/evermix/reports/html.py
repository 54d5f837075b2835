"""The report: one HTML file with everything inside it, readable without network, in light and dark, and on paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from evermix.files import write_atomically
from evermix.reports import plots, summary, units
from evermix.reports.arm_grids import corpus_grid, cost_grid, gain_card, mixture_grid, quality_grid
from evermix.reports.grid import Cell, Grid
from evermix.reports.project import Findings, load_findings
from evermix.reports.summary import Result
from evermix.reports.tables import binding_reasons, decision_title


def write_report(project: str | Path) -> Path:
    """Write `<project>/report.html` atomically.

    Raises:
        ProjectError: if there is no project in that folder, or its result is damaged.
    """
    project = Path(project)
    page = project / "report.html"
    write_atomically(page, render(load_findings(project)))
    return page


def render(findings: Findings) -> str:
    """The page as text."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    def source(name: str) -> str:
        return files("evermix.reports").joinpath(name).read_text(encoding="utf-8")

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(source),
    )
    if findings.is_life:
        from evermix.reports.lives.page import context as life

        return environment.get_template("life.html").render(life(findings))
    if findings.is_swarm:
        from evermix.reports.olmix.page import context

        return environment.get_template("swarm.html").render(context(findings))
    return environment.get_template("page.html").render(_context(findings))


def _context(findings: Findings) -> dict[str, Any]:
    result = findings.result
    evaluated = bool(result.get("arms"))
    decisions = list(result.get("decisions") or [])
    names = summary.domain_names(result)
    return {
        "name": findings.name,
        "finished": findings.finished,
        "headline": summary.headline(result),
        "objective": summary.objective_name(result),
        "gains": [gain_card(gain, result) for gain in summary.gains(result)],
        "costs": [(arm, summary.cost_sentence(result, arm)) for arm in summary.decided_arms(result)],
        "has_noise": any(gain.noise for gain in summary.gains(result)),
        "seed": result.get("seed"),
        "final_mixture": _picture(plots.mixture_plot(names, decisions[-1], "final")) if decisions and names else None,
        "final_title": decision_title(decisions[-1]) if decisions else "",
        "mixtures": mixture_grid(result) if evaluated else None,
        "quality": quality_grid(result) if evaluated else None,
        "curves": _curves(result),
        "epochs": _picture(plots.epochs_plot(result, findings.max_epochs)) if _has(result, "epochs") else None,
        "compute": _picture(plots.compute_plot(result)) if _has(result, "flops_by_part") else None,
        "costs_grid": cost_grid(result) if evaluated else None,
        "decisions": [_decision(names, decision, number) for number, decision in enumerate(decisions)],
        "corpus": corpus_grid(result) if result.get("domains") else None,
        "facts": _facts(result),
    }


def _picture(svg: str) -> Any:
    """SVG that the template does not escape; plots.py escapes the names in it."""
    from markupsafe import Markup

    return Markup(svg)


def _has(result: Result, key: str) -> bool:
    return any(arm.get(key) for arm in (result.get("arms") or {}).values())


def _curves(result: Result) -> Any:
    return _picture(plots.curves_plot(result)) if _has(result, "curve") and summary.domain_names(result) else None


def _decision(names: Sequence[str], decision: Mapping[str, Any], number: int) -> dict[str, Any]:
    rows_of = names or list(decision.get("mixture") or {})
    predicted, realised = decision.get("predicted_loss_nats") or {}, decision.get("realised_loss_nats") or {}
    shown = bool(predicted) and bool(realised)
    objective = decision.get("predicted_objective") or {}
    return {
        "title": decision_title(decision),
        "grid": _decision_grid(rows_of, decision),
        "mixture": _picture(plots.mixture_plot(rows_of, decision, f"mixture{number}")) if number or rows_of else None,
        "prediction": _picture(plots.prediction_plot(rows_of, decision, f"prediction{number}")) if shown else None,
        "horizon": units.count(decision.get("prediction_horizon_tokens")),
        "objective": [(name, units.number(value)) for name, value in objective.items() if units.known(value)],
        "modes": _modes_grid(decision),
        "flops": units.flops(decision.get("flops")),
        "checks": units.flops((decision.get("flops_by_part") or {}).get("cross_checks") or None),
        "seconds": units.seconds(decision.get("seconds")),
    }


def _decision_grid(names: Sequence[str], decision: Mapping[str, Any]) -> Grid:
    others = {mode: found for mode, found in (decision.get("modes") or {}).items() if mode != decision.get("mode")}
    held = binding_reasons(decision)
    rows = []
    for name in names:
        row = [Cell(name)]
        row += [Cell(units.share((decision.get(key) or {}).get(name))) for key in ("prior", "old")]
        row.append(Cell(units.share((decision.get("mixture") or {}).get(name)), "best"))
        row += [Cell(units.share((found.get("mixture") or {}).get(name))) for found in others.values()]
        row.append(Cell(held.get(name, "")))
        for key in ("predicted_loss_nats", "realised_loss_nats"):
            row.append(Cell(units.number((decision.get(key) or {}).get(name))))
        rows.append(row)
    columns = ["domain", "prior", "before", "after", *others, "held by", "predicted loss", "realised loss"]
    return Grid(columns, rows)


def _modes_grid(decision: Mapping[str, Any]) -> Grid | None:
    modes: Mapping[str, Any] = decision.get("modes") or {}
    if len(modes) < 2:
        return None
    rows = [
        [
            Cell(mode + (" (chosen)" if mode == decision.get("mode") else "")),
            Cell(units.number(found.get("objective_value"))),
            Cell(str(found.get("status") or units.NOTHING)),
        ]
        for mode, found in modes.items()
    ]
    return Grid(["mode", "its own predicted objective", "status"], rows)


def _facts(result: Result) -> list[tuple[str, str]]:
    parameters = result.get("n_parameters") or {}
    model = result.get("model")
    if isinstance(model, Mapping):
        model = model.get("checkpoint") or model.get("rung")
    found = [
        ("model", model),
        ("non-embedding parameters", units.count(parameters.get("non_embedding")) if parameters else None),
        ("tokens per arm", units.count(result["total_tokens"]) if result.get("total_tokens") else None),
        ("objective", summary.objective_name(result)),
        ("seed", result.get("seed")),
        ("recipe", result.get("recipe_fingerprint")),
        ("evermix", result.get("evermix_version")),
    ]
    return [(label, str(value)) for label, value in found if value is not None]
