"""The report: one HTML file with everything inside it, readable without network, in light and dark, and on paper.

One page for every recipe: a section is there when there is something to show.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from evermix.errors import ProjectError
from evermix.files import write_atomically
from evermix.reports import page_plots, units
from evermix.reports.answer import Difference, RunView, cost_sentence, decided_version, headline, staying_sentence
from evermix.reports.decision_tables import (
    decision_lines,
    decision_tables,
    decision_title,
    decisions_grid,
    swarm_facts,
)
from evermix.reports.history import mixture_before, study_state, tree
from evermix.reports.layout import Grid, cells
from evermix.reports.pareto import pareto_svgs
from evermix.reports.project import Findings, load_findings
from evermix.reports.proposal import gain_card, law_grid, pull_words, ratio_note, warnings_of
from evermix.reports.proposal import headline as headline_of_proposal
from evermix.reports.run_tables import (
    by_phase_grid,
    compute_grid,
    corpus_grid,
    end_grid,
    facts,
    forgetting_grid,
    mixture_grid,
    quality_grid,
    share_grid,
    tasks_grid,
)
from evermix.results import Decision, RunResult
from evermix.results.entries import RecipeEntry, SegmentEntry
from evermix.results.proposal import ProposalView
from evermix.wording import shown

_WORDS = {"better": "a gain", "even": "within the noise: no gain", "worse": "a loss"}
_DETAILED = 12  # decisions that are shown one by one


def report(project: str | Path, out: str | Path | None = None) -> Path:
    """Write the report atomically and return its path; nothing else in the project is touched.

    Args:
        out: the file; None for `<project>/report.html`.

    Raises:
        ProjectError: if there is no project in that folder, its result is damaged, another evermix wrote it, or the
            file cannot be written there.
    """
    folder = Path(project)
    page, text = folder / "report.html" if out is None else Path(out), render(load_findings(folder))
    try:
        write_atomically(page, text)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise ProjectError(
            f"{page}: the report must be written somewhere ({error.strerror})",
            hint=f"name a file that may be written: `evermix report {folder} --out report.html`",
        ) from error
    return page


def write_proposal(view: ProposalView, page: str | Path) -> None:
    """Write what runs propose as a page, atomically."""
    made = Decision(
        arm="",
        phase="",
        label="from measured runs" if view.runs is None else f"from {view.runs.n_runs:,} runs",
        evidence="swarm",
        mode=view.law,
        shares=view.mixture,
        mixture=view.mixture,
        prior={name: share for name, share in view.prior.mixture.items() if share is not None},
        kl_weight=view.kl.weight,
        proposal=view,
    )
    values = _decided([made]) | {
        "state": "",
        "name": Path(page).stem,
        "history": None,
        "headline": headline_of_proposal(view),
        "cards": [gain_card(view, row) for row in view.references],
        "facts": [],
    }
    write_atomically(Path(page), _page(values))


def render(findings: Findings) -> str:
    """The page as text."""
    return _page(context(findings))


def _page(values: dict[str, Any]) -> str:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    def source(name: str) -> str:
        return files("evermix.reports").joinpath(name).read_text(encoding="utf-8")

    environment = Environment(
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(source),
    )
    return environment.get_template("page.html").render(values)


def _shown(value: Any) -> Any:
    """A value of the page: names with control characters spelt out, no secrets; markup of our own stays."""
    return shown(value) if type(value) is str else value


def context(findings: Findings) -> dict[str, Any]:
    """The values of the page's template."""
    study = study_state(findings)
    found = {"name": findings.name, "history": tree(study.history) if study is not None else None}
    if findings.result is None:
        return found | _unfinished(findings, "" if study is None else study.words)
    if study is None:
        return found | {"state": ""} | _finished(findings.result)
    if study.version != decided_version(findings.result):
        state = f"an update is under way ({study.words}): this is the mixture before it"
        return found | {"state": state} | _finished(findings.result)
    before = mixture_before(findings.folder)
    return found | {"state": ""} | _finished(findings.result.with_mixture_before(before))


def _unfinished(findings: Findings, study_words: str) -> dict[str, Any]:
    """What there is so far: what was trained and decided; of a study of somebody's own trainer its history."""
    recipe, decisions, segments = findings.recipe, findings.decisions, findings.segments
    done = f"{len(segments)} trainings and {len(decisions)} decisions so far"
    told = f"{study_words[0].upper()}{study_words[1:]}." if recipe is None and study_words else ""
    waiting = f"; {study_words}" if study_words and not told else ""
    return _decided(decisions) | {
        "state": "" if told else "still running: this is what there is so far",
        "headline": told or f"Not finished: {done}{waiting}.",
        "cards": [],
        "trained": trained_grid(segments),
        "facts": [] if recipe is None else recipe_facts(recipe),
    }


def _decided(decisions: Sequence[Decision]) -> dict[str, Any]:
    """What a page shows of decisions where no training is judged yet."""
    return {
        **dict.fromkeys(("objective", "seed", "noise"), ""),
        "sentences": [],
        "final": _figure_of(decisions[-1], "final") if decisions else None,
        "paretos": {},
        "tables": [],
        "orders": [],
        "decided": decisions_grid(decisions) if len(decisions) > 1 else None,
        "decisions": [_decision(one, number) for number, one in enumerate(decisions[:_DETAILED])],
        **dict.fromkeys(("trained", "compute", "costs", "corpus")),
    }


def recipe_facts(recipe: RecipeEntry) -> list[tuple[str, str]]:
    """What the recipe says of itself, label and value."""
    found = [
        ("method", recipe.method),
        ("tokens per arm", None if recipe.training.tokens is None else units.count(recipe.training.tokens)),
        ("arms", ", ".join(recipe.arms) or None),
        ("phases", ", ".join(phase.name for phase in recipe.phases) or None),
        ("seed", None if recipe.seed is None else str(recipe.seed)),
    ]
    return [(label, value) for label, value in found if value is not None]


def trained_grid(segments: Sequence[SegmentEntry]) -> Grid | None:
    """Rows trainings that the ledger of an unfinished run holds."""
    rows = [cells(each.label, units.spread_out(each.mixture), units.count(each.compute.n_tokens)) for each in segments]
    return Grid("Trained so far", ["trained", "mixture", "tokens"], rows, words=[1]) if rows else None


def _finished(result: RunResult) -> dict[str, Any]:
    view, decisions = RunView(result), RunView(result).decisions
    trained = bool(view.arms)
    proposed = result.proposal.proposal if result.proposal is not None else None
    cards = [_card(each, view) for each in view.differences]
    cards += [] if proposed is None else [gain_card(proposed, row) for row in proposed.references]
    told = [(arm, sentence(view, arm)) for arm in view.arms for sentence in (cost_sentence, staying_sentence)]
    several = trained and (len(view.arms) > 1 or view.n_phases > 1)
    deciding = [one for one in decisions if one.arm == view.ours] if trained else decisions
    return {
        "headline": headline(result),
        "objective": view.objective.label,
        "seed": result.seed,
        "noise": _noise_words(view),
        "cards": cards,
        "sentences": [(arm, text) for arm, text in told if text is not None],
        "final": _figure_of(deciding[-1], "final") if deciding else None,
        "paretos": {label: _markup(svg) for label, svg in pareto_svgs(view).items()} if several else {},
        "tables": _tables(view) if trained else [],
        "orders": [_order(view, order) for order in range(view.n_orders)] if result.has_phases and trained else [],
        "decided": decisions_grid(decisions) if len(decisions) > 1 else None,
        "decisions": [_decision(one, number) for number, one in enumerate(decisions[:_DETAILED])],
        "trained": None,
        "compute": _markup(page_plots.compute_plot(view)) if trained else None,
        "costs": compute_grid(view) if trained else None,
        "corpus": corpus_grid(result),
        "facts": facts(result),
    }


def _noise_words(view: RunView) -> str:
    """What ± stands for on the cards of trained arms; "" where there are none."""
    if not view.differences:
        return ""
    if view.n_orders > 1:
        return f"± is the 95% interval over {view.n_orders} orders of the phases, seed {view.result.seed}."
    return f"± is the 95% interval from the test sequences; one run per arm, seed {view.result.seed}."


def _card(each: Difference, view: RunView) -> dict[str, str]:
    return {
        "head": f"{view.objective.label}, {each.arm} against {each.baseline}",
        "figure": each.figure,
        "noise": each.interval,
        "words": f"{each.exchange}: {_WORDS[each.verdict]}",
        "note": f"{each.compute_words}; {each.domain_words}",
        "verdict": each.verdict,
    }


def _tables(view: RunView) -> list[dict[str, Any]]:
    """What the arms end with, each with its figure."""
    one = not view.result.has_phases
    best, ends = "Lower is better; the best of each row is bold.", end_grid(view)
    found: list[dict[str, Any]] = [_section("At the end", ends, f"The best of each column is bold. {ends.note}")]
    if not one:
        found.append(_section("Phase by phase", by_phase_grid(view)))
    found.append(_section("Quality on test text", quality_grid(view), best))
    curves = page_plots.curves_plot(view, 0, view.n_phases - 1)
    note = "Each panel has its own scale; the steep beginning is cut off. Dotted upright lines: a mixture was decided."
    found.append(_section("Loss over the last phase" if not one else "Loss over the run", None, note, curves))
    found.append(_section("Tasks", tasks_grid(view, 0)) if one else _section("", None))
    epochs = page_plots.epochs_plot(view)
    found.append(_section("Mixtures and repetition", mixture_grid(view), mixture_grid(view).note, epochs))
    return [section for section in found if section["grid"] is not None or section["figure"] is not None]


def _section(title: str, grid: Grid | None, note: str = "", figure: str | None = None) -> dict[str, Any]:
    return {"title": title, "grid": grid, "note": note, "figure": None if figure is None else _markup(figure)}


def _order(view: RunView, order: int) -> dict[str, Any]:
    """One order of the phases: losses, shares, forgetting, tasks, decisions."""
    names = ", ".join(view.result.orders[order])
    made = [one for one in view.result.decisions if one.order == order]
    tried = [(arm, page_plots.tried_plot(view, order, arm)) for arm in view.arms]
    return {
        "title": f"Order {order + 1}: {names}" if view.n_orders > 1 else f"Phases: {names}",
        "open": not order,
        "losses": _markup(page_plots.losses_plot(view, order)),
        "shares": _markup(page_plots.shares_plot(view, order)),
        "tables": [
            (grid.title, grid)
            for grid in (
                share_grid(view, order),
                forgetting_grid(view, order),
                tasks_grid(view, order),
                decisions_grid(made) if order else None,
            )
            if grid is not None
        ],
        "tried": [(arm, _markup(svg)) for arm, svg in tried if svg is not None],
    }


def _decision(decision: Decision, number: int) -> dict[str, Any]:
    proposal = decision.proposal
    prediction = page_plots.prediction_plot(decision, f"prediction{number}")
    path = None if proposal is None else page_plots.path_plot(proposal, f"path{number}")
    grids = [grid for grid in decision_tables(decision) if grid is not None]
    return {
        "title": decision_title(decision),
        "open": not number,
        "lines": [*decision_lines(decision), *([] if proposal is None else [pull_words(proposal)])],
        "tables": [*grids, *([] if proposal is None else [law_grid(proposal)])],
        "figure": _figure_of(decision, f"mixture{number}") if number else None,
        "path": None if path is None else _markup(path),
        "prediction": None if prediction is None else _markup(prediction),
        "horizon": units.count(decision.probe_tokens) if decision.probe_tokens else "",
        "warnings": [] if proposal is None else warnings_of(proposal),
        "ratio": "" if proposal is None else ratio_note(proposal),
        "facts": [] if decision.swarm is None else swarm_facts(decision.swarm),
    }


def _figure_of(decision: Decision, prefix: str) -> dict[str, Any]:
    return {"title": decision_title(decision), "figure": _markup(page_plots.decision_plot(decision, prefix))}


def _markup(svg: str) -> Any:
    """SVG that the template does not escape; matplotlib escapes the names in it."""
    from markupsafe import Markup

    return Markup(svg)
