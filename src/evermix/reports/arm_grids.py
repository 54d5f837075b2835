"""Cards and tables of trained arms on a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evermix.reports import summary, units
from evermix.reports.grid import Cell, Grid
from evermix.reports.summary import Result


def gain_card(gain: summary.Gain, result: Result) -> dict[str, str]:
    several = len(summary.decided_arms(result)) > 1
    return {
        "verdict": gain.verdict,
        "figure": units.change(gain.relative),
        "noise": f"± {units.share(gain.noise)}" if gain.noise else "",
        "against": f"{gain.arm} against {gain.baseline}" if several else f"against {gain.baseline}",
        "exchange": f"{units.perplexity(gain.ours)} instead of {units.perplexity(gain.theirs)}",
        "words": {"better": "a gain", "even": "within the noise: no gain", "worse": "a loss"}[gain.verdict],
        "domains": f"lower loss on {gain.better_domains} of {gain.n_domains} domains" if gain.n_domains else "",
    }


def mixture_grid(result: Result) -> Grid:
    arms: Mapping[str, Any] = result["arms"]
    rows = []
    for name in summary.domain_names(result):
        row = [Cell(name)]
        for key, write in (("mixture", units.share), ("average_mixture", units.share), ("epochs", _two)):
            row += [Cell(write((arm.get(key) or {}).get(name))) for arm in arms.values()]
        rows.append(row)
    groups = [("", 1), ("share at the end", len(arms)), ("share over the run", len(arms)), ("epochs", len(arms))]
    return Grid(["domain", *list(arms) * 3], rows, groups)


def _two(value: float | None) -> str:
    return units.number(value, 2)


def quality_grid(result: Result) -> Grid:
    arms: Mapping[str, Any] = result["arms"]
    weights = summary.objective_weights(result)
    rows = []
    for name in summary.domain_names(result):
        measured = [(arm.get("per_domain") or {}).get(name) or {} for arm in arms.values()]
        row = [Cell(name) if weights.get(name) else Cell(f"{name} (not in the objective)", "faint")]
        row += _best([one.get("bits_per_byte") for one in measured], units.number)
        row += _best([one.get("perplexity") for one in measured], units.perplexity)
        row += [Cell(_loss_with_error(one)) for one in measured]
        rows.append(row)
    feet = []
    for label, means in summary.mean_rows(result).items():
        foot = [Cell(label)]
        foot += _best([mean.get("mean_bits_per_byte") for mean in means], units.number)
        foot += _best([mean.get("mean_perplexity") for mean in means], units.perplexity)
        foot += _best([mean.get("mean_loss_nats") for mean in means], units.number)
        feet.append(foot)
    groups = [("", 1), ("bits per byte", len(arms)), ("perplexity", len(arms)), ("loss (nats) ± s.e.", len(arms))]
    return Grid(["domain", *list(arms) * 3], rows, groups, feet)


def _loss_with_error(measured: Mapping[str, Any]) -> str:
    text = units.number(measured.get("loss_nats"))
    stderr = measured.get("loss_stderr_nats")
    return f"{text} ± {stderr:.3f}" if units.known(stderr) else text


def _best(values: Sequence[float | None], write: Any) -> list[Cell]:
    known = [value for value in values if units.known(value)]
    best = min(known) if len(known) > 1 else None
    return [Cell(write(value), "best" if value is not None and value == best else "") for value in values]


def cost_grid(result: Result) -> Grid:
    rows = []
    for name, arm in result["arms"].items():
        spent, parts = summary.cost(result, name), arm.get("flops_by_part") or {}
        times = arm.get("seconds_by_part") or {}
        rows.append(
            [
                Cell(name),
                Cell(units.flops(spent.training_flops)),
                Cell(units.flops(spent.decision_flops) if spent.decision_flops else units.NOTHING),
                Cell(units.change(spent.overhead) if spent.decision_flops else units.NOTHING),
                Cell(units.flops(spent.cross_check_flops) if spent.cross_check_flops else units.NOTHING),
                Cell(units.flops(parts.get("evaluation"))),
                Cell(units.flops(arm.get("flops"))),
                Cell(units.seconds(sum(times.values())) if times else units.NOTHING),
            ]
        )
    columns = ["arm", "training", "decision", "overhead", "cross-checks", "evaluation", "all", "time"]
    return Grid(columns, rows)


def corpus_grid(result: Result) -> Grid:
    keys = ("n_tokens", "n_bytes", "n_documents", "heldout_tokens")
    rows = [
        [Cell(domain["name"]), *[Cell(units.count(domain.get(key))) for key in keys]] for domain in result["domains"]
    ]
    return Grid(["domain", "tokens", "bytes", "documents", "held-out tokens"], rows)
