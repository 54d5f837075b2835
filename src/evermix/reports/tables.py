"""Rich tables for the terminal: arms compared, decisions, compute, corpora."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from evermix.reports import summary, units
from evermix.reports.summary import Result

Formatter = Callable[[float | None], str]


def print_result(result: Result, console: Console) -> None:
    """Headline, tables of arms, decisions and compute; what is missing is left out.

    A swarm and a life of several phases have tables of their own.
    """
    if result.get("method") == "olmix":
        from evermix.reports.olmix.tables import print_decided

        print_decided(result, console)
        return
    if "lives" in result:
        from evermix.reports.lives.tables import print_life

        print_life(result, console)
        return
    console.print(Text(summary.headline(result), style="bold"))
    objective = summary.objective_name(result)
    for gain in summary.gains(result):
        console.print(Text(f"  {gain.arm}: {summary.gain_sentence(gain, objective)}"))
    if result.get("arms"):
        console.print(mixture_table(result))
        console.print(quality_table(result))
        console.print(compute_table(result))
    for decision in result.get("decisions") or []:
        console.print(decision_table(result, decision))


def mixture_table(result: Result) -> Table:
    """Rows domains; per arm its final share and its epochs over the whole run."""
    arms: Mapping[str, Any] = result["arms"]
    table = _table("Mixture (share of tokens after the last decision) and epochs (passes over the domain)")
    table.add_column("domain", overflow="fold")
    table.add_column("tokens", justify="right", no_wrap=True)
    for column in ("share", "epochs"):
        for arm in arms:
            table.add_column(f"{arm}\n{column}", justify="right", no_wrap=True)
    tokens = {domain["name"]: domain.get("n_tokens") for domain in result.get("domains") or []}
    for name in summary.domain_names(result):
        shares = [units.share((arm.get("mixture") or {}).get(name)) for arm in arms.values()]
        epochs = [units.number((arm.get("epochs") or {}).get(name), 2) for arm in arms.values()]
        table.add_row(Text(name), units.count(tokens.get(name)), *shares, *epochs)
    return table


def quality_table(result: Result) -> Table:
    """Rows domains and means; per arm bits per byte and perplexity on held-out text, the best in bold."""
    arms: Mapping[str, Any] = result["arms"]
    weights = summary.objective_weights(result)
    table = _table("Held-out text: lower is better")
    table.add_column("domain", overflow="fold")
    for column in ("bits/byte", "perplexity"):
        for arm in arms:
            table.add_column(f"{arm}\n{column}", justify="right", no_wrap=True)
    for name in summary.domain_names(result):
        measured = [(arm.get("per_domain") or {}).get(name) or {} for arm in arms.values()]
        label = Text(name) if weights.get(name) else Text(f"{name} (not in the objective)", style="dim")
        bits = _best_bold([one.get("bits_per_byte") for one in measured], units.number)
        perplexities = _best_bold([one.get("perplexity") for one in measured], units.perplexity)
        table.add_row(label, *bits, *perplexities)
    table.add_section()
    for row, means in summary.mean_rows(result).items():
        bits = _best_bold([mean.get("mean_bits_per_byte") for mean in means], units.number)
        table.add_row(row, *bits, *_best_bold([mean.get("mean_perplexity") for mean in means], units.perplexity))
    return table


def compute_table(result: Result) -> Table:
    """Columns arms; FLOPs by part, and the decision's overhead over training alone."""
    arms: Mapping[str, Any] = result["arms"]
    table = _table("Compute")
    table.add_column("")
    for name in arms:
        table.add_column(name, justify="right", no_wrap=True)
    costs = [summary.cost(result, name) for name in arms]
    seconds = [sum((arm.get("seconds_by_part") or {}).values()) for arm in arms.values()]
    table.add_row("training", *[units.flops(cost.training_flops) for cost in costs])
    table.add_row("decision", *[units.flops(cost.decision_flops or None) for cost in costs])
    table.add_row("overhead of the decision", *[units.change(cost.overhead or None) for cost in costs], style="bold")
    table.add_row("cross-checks (optional)", *[units.flops(cost.cross_check_flops or None) for cost in costs])
    table.add_row("all", *[units.flops(arm.get("flops")) for arm in arms.values()])
    table.add_row("time", *[units.seconds(value or None) for value in seconds])
    return table


def decision_title(decision: Mapping[str, Any]) -> str:
    """`Decision of arm evermix at 40% of the budget: mode probe-law, KL weight 0.05`."""
    parts = [f"Decision of arm {decision['arm']}" if decision.get("arm") else "Decision"]
    if decision.get("at_fraction") is not None:
        parts.append(f"at {units.share(decision['at_fraction'], 0)} of the budget")
    elif decision.get("at_token") is not None:
        parts.append(f"at {units.count(decision['at_token'])} tokens")
    title = " ".join(parts)
    if decision.get("mode"):
        title += f": mode {decision['mode']}"
    if decision.get("kl_weight") is not None:
        title += f", KL weight {decision['kl_weight']:.3g}"
    return title


def decision_table(result: Result, decision: Mapping[str, Any]) -> Table:
    """Rows domains; old and new share, the other modes' choices, predicted and realised loss."""
    modes = {mode: found for mode, found in (decision.get("modes") or {}).items() if mode != decision.get("mode")}
    table = _table(decision_title(decision))
    table.add_column("domain", overflow="fold")
    for column in ("old", "new", *modes, "bound", "predicted\nloss", "realised\nloss"):
        table.add_column(column, justify="right", overflow="fold", min_width=6 if column != "bound" else 5)
    binding = binding_reasons(decision)
    predicted, realised = decision.get("predicted_loss_nats") or {}, decision.get("realised_loss_nats") or {}
    for name in summary.domain_names(result) or list(decision.get("mixture") or {}):
        others = [units.share((found.get("mixture") or {}).get(name)) for found in modes.values()]
        table.add_row(
            Text(name),
            units.share((decision.get("old") or {}).get(name)),
            Text(units.share((decision.get("mixture") or {}).get(name)), style="bold"),
            *others,
            binding.get(name, ""),
            units.number(predicted.get(name)),
            units.number(realised.get(name)),
        )
    return table


def binding_reasons(decision: Mapping[str, Any]) -> dict[str, str]:
    """domain -> the constraint that holds it, from names, `name: reason` strings, or objects."""
    found: dict[str, str] = {}
    for item in decision.get("binding") or []:
        if isinstance(item, Mapping):
            found[str(item.get("domain"))] = str(item.get("reason") or "bound")
        else:
            name, _, reason = str(item).rpartition(": ")
            found[name or reason] = reason if name else "bound"
    return found


def print_corpora(corpora: Sequence[Mapping[str, Any]], console: Console) -> None:
    """One row per registry corpus; the columns are the keys of its description."""
    table = _table("Corpora that a recipe may name as `registry: NAME`")
    columns = list(dict.fromkeys(key for corpus in corpora for key in corpus))
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for corpus in corpora:
        table.add_row(*[Text(str(corpus.get(column, ""))) for column in columns])
    console.print(table)


def _best_bold(values: Sequence[float | None], formatter: Formatter) -> list[Text]:
    known = [value for value in values if units.known(value)]
    best = min(known) if len(known) > 1 else None
    return [Text(formatter(value), style="bold" if value is not None and value == best else "") for value in values]


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
