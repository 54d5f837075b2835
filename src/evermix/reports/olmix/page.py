"""The page of a swarm: decision, evidence, what keeping proportions costs, cost, history, targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evermix.reports import arm_grids, plots, summary, units
from evermix.reports.figures import decimals_for, figure
from evermix.reports.grid import Cell, Grid
from evermix.reports.olmix import answer, tables
from evermix.reports.olmix.history import open_study, tree
from evermix.reports.olmix.plans import swarm_counts, swarm_words
from evermix.reports.olmix.plots import path_plot, shares_plot
from evermix.reports.project import Findings
from evermix.reports.summary import Result

_VERDICTS = {"better": "a gain", "even": "not certain", "worse": "a loss"}


def context(findings: Findings) -> dict[str, Any]:
    """What the template is filled with; a study of somebody's own trainer has its history only."""
    result, study = findings.result, open_study(findings.folder)
    decided = result.get("mixture") is not None
    found = {
        "name": findings.name,
        "state": "",
        "headline": f"A study of {len(study.domains)} domains: {len(study.now().state.told)} runs told.",
        "history": tree(study.history()),
        "facts": _facts(result),
        "decided": decided,
    }
    counted = swarm_counts(findings.folder) if answer.is_swarm(result) else None
    if counted is None:
        return found
    if not decided:
        state = "still running: this is what there is so far"
        return found | {"state": state, "headline": f"Not finished: {swarm_words(counted)}."}
    current = result["era"] == counted["era"]
    state = "" if current else f"an update is under way ({swarm_words(counted)}): this is the mixture before it"
    before = mixture_before(findings) if current else None
    named = {"state": state, "headline": answer.headline(result)}
    return found | named | _decision(result, before) | _evidence(result) | _targets(result)


def _decision(result: Result, before: Mapping[str, float] | None) -> dict[str, Any]:
    diagnosis = result.get("diagnosis")
    return {
        "sentences": answer.swarm_sentences(result) + answer.reuse_sentences(result),
        "moved": "" if before is None else answer.moved_sentence(before, result["mixture"]),
        "shares": _picture(shares_plot(result, answer.natural_shares(result), before)),
        "mixture": _mixture_grid(result, before),
        "release": None if diagnosis is None else _release_grid(diagnosis),
        "held_out": _held_out_grid(result.get("held_out_tasks") or {}),
        "swarm": _swarm_grid(result["swarm"]),
        "swarm_facts": _swarm_facts(result["swarm"]),
        "failures": _failures(result["swarm"]),
        "corpus": _corpus_grid(result),
    }


def _evidence(result: Result) -> dict[str, Any]:
    """What the proposal stands on; nothing where the mixture was carried over without runs."""
    proposal = result.get("proposal")
    if proposal is None:
        return {"cards": [], "comparison": None, "warnings": []}
    return {
        "cards": [_card(proposal, name) for name in _rivals(proposal)],
        "comparison": _comparison_grid(proposal),
        "frozen": ", ".join(answer.frozen_names(result)),
        "path": _path(proposal),
        "pull": _pull(proposal),
        "law": _law_grid(proposal["calibration"]),
        "law_name": proposal["law"],
        "warnings": proposal["warnings"],
    }


def _targets(result: Result) -> dict[str, Any]:
    """The trained target, if there is one."""
    if not result.get("arms"):
        return {"target_cards": [], "quality": None, "curves": None, "tasks": None, "costs": None}
    view = answer.target_view(result)
    curves = any(arm.get("curve") for arm in view["arms"].values())
    cards = [arm_grids.gain_card(gain, view) for gain in answer.target_gains(result)]
    for card, gain in zip(cards, answer.target_gains(result), strict=True):
        card["exchange"] = f"{units.number(gain.ours)} instead of {units.number(gain.theirs)}"
    rows = [[Cell(name), *map(Cell, cells)] for name, cells in tables.task_rows(result)]
    return {
        "target_cards": cards,
        "quality": arm_grids.quality_grid(view),
        "curves": _picture(plots.curves_plot(view)) if curves else None,
        "tasks": Grid(["task", *view["arms"]], rows) if rows else None,
        "costs": _arm_cost_grid(view),
    }


def mixture_before(findings: Findings) -> dict[str, float] | None:
    """The mixture that the last update of the domains found; None where there was no update."""
    state = open_study(findings.folder).now().state
    updates = [era for era in state.eras.path() if era.update is not None]
    return None if not updates else _mixture_at(findings, updates[-1].entry - 1)


def _mixture_at(findings: Findings, entry: int) -> dict[str, float] | None:
    mixture = open_study(findings.folder).at(entry).mixture
    return None if mixture is None else dict(mixture.as_dict)


def _picture(svg: str) -> Any:
    """SVG that the template does not escape; the plots escape the names in it."""
    from markupsafe import Markup

    return Markup(svg)


def _rivals(proposal: Mapping[str, Any]) -> list[str]:
    return [name for name in answer.comparison_rows(proposal) if name != "proposal"]


def _card(proposal: Mapping[str, Any], over: str) -> dict[str, str]:
    gain = answer.comparison_rows(proposal)[over].get("gain")
    verdict = "even"
    if gain is not None and gain["interval"]["low"] > 0:
        verdict = "better"
    elif gain is not None and gain["interval"]["high"] < 0:
        verdict = "worse"
    value, _, interval = answer.gain_words(proposal, over).partition(" ")
    return {"verdict": verdict, "over": over, "figure": value, "interval": interval, "words": _VERDICTS[verdict]}


def _mixture_grid(result: Result, before: Mapping[str, float] | None) -> Grid:
    natural, frozen = answer.natural_shares(result), answer.frozen_names(result)
    intervals = ((result.get("proposal") or {}).get("bootstrap") or {}).get("weights") or {}
    rows = []
    for row in result["domains"]:
        name = row["name"]
        cells = [Cell(name), Cell(units.share(natural.get(name)))]
        cells += [] if before is None else [Cell(units.share(before.get(name)))]
        cells += [Cell(units.share(row["share"]), "best"), Cell(tables.ends(intervals.get(name)))]
        cells.append(Cell(units.number(row.get("epochs"), 2)))
        cells += [Cell(units.share(frozen.get(name)))] if frozen else []
        rows.append(cells)
    for name in before or {}:
        if name not in result["mixture"]:
            gone = [Cell(name, "faint"), Cell(""), Cell(units.share((before or {})[name])), Cell("gone", "faint")]
            rows.append([*gone, *[Cell("")] * (3 if frozen else 2)])
    columns = ["domain", "natural", *(["before"] if before is not None else []), "share", "90% interval", "epochs"]
    return Grid([*columns, *(["within the frozen part"] if frozen else [])], rows)


def _comparison_grid(proposal: Mapping[str, Any]) -> Grid:
    found = answer.comparison_rows(proposal)
    ours = found["proposal"]["objective_value"]
    places = decimals_for([row["objective_value"] for row in found.values()])
    rows = []
    for name, row in found.items():
        cells = tables.comparison_cells(row, ours, places)
        spread = [units.number(row["kl_to_prior"], 2), units.number(row["effective_domains"], 1)]
        rows.append([Cell(name, "best" if name == "proposal" else ""), *map(Cell, [*cells, *spread])])
    columns = ["mixture", "predicted", "gain of the proposal", "90% interval", "P(better)"]
    return Grid([*columns, "KL to prior (nats)", "effective domains"], rows)


def _path(proposal: Mapping[str, Any]) -> Any:
    kl = proposal["kl"]
    if not kl["path"] or not kl["choice"]:
        return None
    return _picture(path_plot(kl["path"], kl["choice"]["kl"], proposal["prior"]["mixture"]))


def _pull(proposal: Mapping[str, Any]) -> str:
    return f"Prior: {proposal['prior']['source']}. KL weight {figure(proposal['kl']['weight'])} per nat: " + (
        f"{proposal['kl']['source']}."
    )


def _law_grid(calibration: Mapping[str, Any]) -> Grid:
    rows = [_law_row(row, row["name"], "") for row in calibration["metrics"]]
    columns = ["metric", "runs", "rank correlation", "R²", "typical error", "in the 90% interval"]
    return Grid(columns, rows, foot=[_law_row(calibration["objective"], "the objective", "best")])


def _law_row(row: Mapping[str, Any], name: str, mark: str) -> list[Cell]:
    coverage = (row.get("coverage") or {}).get("90%")
    values = [units.number(row["spearman"], 2), units.number(row["r2"], 2), figure(row["rmse"])]
    return [Cell(name, mark), *map(Cell, [str(row["n_runs"]), *values, units.share(coverage, 0)])]


def _release_grid(diagnosis: Mapping[str, Any]) -> Grid:
    chosen = {row["domain"] for row in diagnosis["release"]}
    rows = [
        [Cell(f"{name} (advised)" if name in chosen else name), *map(Cell, cells)]
        for name, cells in tables.release_rows(diagnosis)
    ]
    return Grid(["frozen domain", "coupling", "gain of releasing it", "80% interval", "runs"], rows)


def _held_out_grid(found: Mapping[str, Mapping[str, Any]]) -> Grid | None:
    rows = [
        [Cell(name), Cell(units.number(row["agreement"], 2)), Cell(str(row["n_runs"]))] for name, row in found.items()
    ]
    return Grid(["metric", "rank agreement with the objective", "proxies"], rows) if rows else None


def _swarm_grid(swarm: Mapping[str, Any]) -> Grid:
    rows = []
    for label, key in (("since the last update", "this_era"), ("all together", "all_eras")):
        spent = swarm[key]
        counts = [str(spent["n_runs"]), str(spent["n_trained"]), units.count(spent["n_tokens"])]
        cells = [*counts, units.flops(spent["flops"]), units.seconds(spent["seconds"])]
        rows.append([Cell(label), *map(Cell, cells)])
    same = swarm["this_era"] == swarm["all_eras"]
    return Grid(["", "runs", "trained", "tokens", "FLOPs", "work"], rows[1:] if same else rows)


def _swarm_facts(swarm: Mapping[str, Any]) -> list[tuple[str, str]]:
    parameters = swarm["n_parameters"]
    counted = f"{units.count(parameters['non_embedding'])} and {units.count(parameters['output_projection'])}"
    epoching = "each domain repeats as in the target run" if swarm["simulated_epoching"] else "no"
    return [
        ("proxy", str(swarm["rung"])),
        ("non-embedding parameters and output projection", counted),
        ("tokens of each", f"{units.count(swarm['tokens_per_proxy'])} in {swarm['steps']:,} steps"),
        ("simulated epoching", epoching),
        ("metrics", ", ".join(swarm["metrics"])),
    ]


def _failures(swarm: Mapping[str, Any]) -> Grid | None:
    rows = [[Cell(run["run_id"]), Cell(run["reason"]), Cell(run["log"])] for run in swarm["left_out"]]
    return Grid(["proxy", "reason", "trace"], rows) if rows else None


def _arm_cost_grid(view: Result) -> Grid:
    rows = []
    for name, arm in view["arms"].items():
        seconds = sum((arm.get("seconds_by_part") or {}).values())
        rows.append([Cell(name), Cell(units.flops(arm.get("flops"))), Cell(units.seconds(seconds or None))])
    return Grid(["arm", "training", "time"], rows)


def _corpus_grid(result: Result) -> Grid:
    keys = ("n_tokens", "n_bytes", "n_documents")
    rows = [[Cell(row["name"]), *[Cell(units.count(row.get(key))) for key in keys]] for row in result["domains"]]
    return Grid(["domain", "tokens", "bytes", "documents"], rows)


def _facts(result: Result) -> list[tuple[str, str]]:
    model = result.get("model")
    if isinstance(model, Mapping):
        model = model.get("checkpoint") or model.get("rung")
    found = [
        ("method", "olmix: a swarm of proxies (arXiv 2602.12237)"),
        ("target model", model),
        ("tokens of the target run", units.count(result.get("n_tokens")) if result.get("n_tokens") else None),
        ("most epochs", result.get("max_epochs")),
        ("domains", len(summary.domain_names(result)) or None),
        ("seed", result.get("seed")),
        ("recipe", result.get("recipe_fingerprint")),
        ("evermix", result.get("evermix_version")),
    ]
    return [(label, str(value)) for label, value in found if value is not None]
