"""Plots as SVG text for a web page: they take its text colour, so one drawing serves light and dark.

Every function returns one `<svg>` element, whose ids begin with `prefix`. Names longer than 28 characters are cut;
the tables have them in full.
Colours are Okabe and Ito's, which colour-blind readers can tell apart; marks and line styles differ as well.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from evermix.reports import summary, units
from evermix.reports.summary import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, _FAINT = "#010203", "#040506"  # stand-ins, replaced by the page's own colours
GREY = "#8a8f98"
_ARM_COLOURS = {"natural": "#E69F00", "uniform": "#56B4E9", "evermix": "#009E73"}
_MORE_COLOURS = ("#CC79A7", "#D55E00", "#7E7BD9", "#B8A800", "#999999")
_LINES = ("-", "--", "-.", ":")
_MARKS = "osD^vP"
_PART_COLOURS = {"training": "#56B4E9", "probes": "#009E73", "evaluation": "#E69F00", "cross_checks": "#CC79A7"}
_ROW_INCHES = 0.3
_WIDTH_INCHES = 9.9
_NAME_LENGTH = 28


def arm_colours(arms: Sequence[str]) -> dict[str, str]:
    """The same arm has the same colour in every plot."""
    spare = iter(_MORE_COLOURS * (1 + len(arms) // len(_MORE_COLOURS)))
    return {arm: _ARM_COLOURS.get(arm) or next(spare) for arm in arms}


def mixture_plot(names: Sequence[str], decision: Mapping[str, Any], prefix: str = "mixture") -> str:
    """Share of every domain before and after a decision."""
    bars = {"before": decision.get("old") or {}, "after": decision.get("mixture") or {}}
    colours = {"before": GREY, "after": _ARM_COLOURS["evermix"]}
    with page_figure(height_of(len(names), 2), prefix) as drawing:
        axes = drawing.figure.subplots()
        _grouped_bars(axes, names, bars, colours, "{:.1%}")
        axes.set_xlabel("share of the training tokens")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        legend(drawing.figure, axes)
    return drawing.svg


def epochs_plot(result: Result, max_epochs: float | None) -> str:
    """Passes over every domain in each arm, and the cap."""
    arms = result["arms"]
    bars = {arm: found.get("epochs") or {} for arm, found in arms.items()}
    names = summary.domain_names(result)
    with page_figure(height_of(len(names), len(arms)), "epochs") as drawing:
        axes = drawing.figure.subplots()
        _grouped_bars(axes, names, bars, arm_colours(list(arms)), "{:.2f}")
        if max_epochs is not None:
            axes.axvline(max_epochs, color="#D55E00", linestyle="--", linewidth=1.5, label=f"cap ({max_epochs:g})")
        axes.set_xlabel("epochs (passes over the domain) in the whole run")
        legend(drawing.figure, axes)
    return drawing.svg


def curves_plot(result: Result) -> str:
    """Held-out loss of every domain over the run, one small panel each; dashed where a mixture was decided."""
    arms = {arm: found["curve"] for arm, found in result["arms"].items() if found.get("curve")}
    names = summary.domain_names(result)
    columns = min(len(names), 4 if len(names) <= 12 else 5)
    rows = math.ceil(len(names) / columns)
    decided = sorted({d["at_token"] for d in result.get("decisions") or [] if d.get("at_token") is not None})
    with page_figure(1.55 * rows + 0.8, "curves") as drawing:
        grid = drawing.figure.subplots(rows, columns, squeeze=False, sharex=True)
        colours = arm_colours(list(result["arms"]))
        for axes, name in zip(grid.flat, names, strict=False):
            _curve_panel(axes, name, arms, colours)
            for token in decided:
                axes.axvline(token, color=INK, linestyle=":", linewidth=0.9)
        for axes in list(grid.flat)[len(names) :]:
            axes.set_visible(False)
        for above, axes in zip(grid.flat, list(grid.flat)[columns:], strict=False):
            if not axes.get_visible():
                above.tick_params(labelbottom=True)
        drawing.figure.supxlabel("training tokens", fontsize=9)
        drawing.figure.supylabel("held-out loss (nats per token)", fontsize=9)
        legend(drawing.figure, grid[0][0])
    return drawing.svg


def _curve_panel(axes: Axes, name: str, arms: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    """One domain; the steep first quarter is cut at the top, so that the arms can be told apart."""
    axes.set_title(short(name, 22), fontsize=9)
    later: list[float] = []
    for number, (arm, curve) in enumerate(arms.items()):
        points = [(p["n_tokens"], p["loss_nats"][name]) for p in curve if units.known(p["loss_nats"].get(name))]
        tokens, losses = [p[0] for p in points], [p[1] for p in points]
        later += losses[len(losses) // 4 :]
        line, mark = _LINES[number % len(_LINES)], _MARKS[number % len(_MARKS)]
        axes.plot(tokens, losses, label=arm, color=colours[arm], linestyle=line, marker=mark, markersize=3)
    if later:
        margin = 0.06 * (max(later) - min(later)) or 0.05
        axes.set_ylim(min(later) - margin, max(later) + margin)
    axes.xaxis.set_major_formatter(lambda value, _: units.count(value))
    axes.locator_params(axis="x", nbins=3)
    axes.locator_params(axis="y", nbins=4)


def prediction_plot(names: Sequence[str], decision: Mapping[str, Any], prefix: str = "prediction") -> str:
    """Predicted and realised loss of every domain, and beside it what the prediction was off by."""
    predicted, realised = decision["predicted_loss_nats"], decision["realised_loss_nats"]
    rows = [name for name in names if units.known(predicted.get(name)) and units.known(realised.get(name))]
    with page_figure(height_of(len(rows), 1), prefix) as drawing:
        levels, errors = drawing.figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        for row, name in enumerate(rows):
            levels.plot([predicted[name], realised[name]], [row, row], color=GREY, linewidth=2, zorder=1)
        where = range(len(rows))
        values = [predicted[name] for name in rows]
        levels.scatter(values, where, s=34, facecolors="none", edgecolors="#D55E00", linewidths=1.6, label="predicted")
        levels.scatter([realised[name] for name in rows], where, s=22, color="#009E73", label="realised")
        levels.set_xlabel("loss (nats per token)")
        differences = [realised[name] - predicted[name] for name in rows]
        errors.barh(where, differences, height=0.55, color=GREY)
        errors.axvline(0, color=INK, linewidth=0.8)
        errors.locator_params(axis="x", nbins=5)
        errors.set_xlabel("realised - predicted (nats)")
        name_rows(levels, rows)
        legend(drawing.figure, levels)
    return drawing.svg


def compute_plot(result: Result) -> str:
    """FLOPs of every arm by part."""
    arms = {arm: found.get("flops_by_part") or {} for arm, found in result["arms"].items()}
    parts = [part for part in _PART_COLOURS if any(found.get(part) for found in arms.values())]
    parts += sorted({part for found in arms.values() for part in found if part not in _PART_COLOURS and found[part]})
    with page_figure(height_of(len(arms), 1), "compute") as drawing:
        axes = drawing.figure.subplots()
        left = [0.0] * len(arms)
        for part in parts:
            sizes = [float(found.get(part) or 0.0) for found in arms.values()]
            colour = _PART_COLOURS.get(part, GREY)
            axes.barh(range(len(arms)), sizes, left=left, height=0.6, color=colour, label=part.replace("_", " "))
            left = [start + size for start, size in zip(left, sizes, strict=True)]
        for row, total in enumerate(left):
            axes.annotate(units.flops(total), (total, row), (4, 0), textcoords="offset points", va="center", fontsize=8)
        axes.set_xlim(0, max(left, default=0.0) * 1.16 or 1.0)
        axes.xaxis.set_major_formatter(lambda value, _: units.flops(value) if value else "0")
        axes.locator_params(axis="x", nbins=5)
        name_rows(axes, list(arms))
        legend(drawing.figure, axes)
    return drawing.svg


def _grouped_bars(
    axes: Axes,
    names: Sequence[str],
    bars: Mapping[str, Mapping[str, float]],
    colours: Mapping[str, str],
    label: str,
) -> None:
    """One group of horizontal bars per domain, each with its value at its end."""
    height = 0.8 / max(len(bars), 1)
    longest = 0.0
    for number, (series, values) in enumerate(bars.items()):
        where = [row + (number - (len(bars) - 1) / 2) * height for row in range(len(names))]
        sizes = [float(values.get(name) or 0.0) for name in names]
        longest = max([longest, *sizes])
        axes.barh(where, sizes, height=height * 0.92, color=colours[series], label=series)
        for place, size in zip(where, sizes, strict=True):
            text = label.format(size)
            axes.annotate(text, (size, place), (3, 0), textcoords="offset points", va="center", fontsize=7)
    axes.set_xlim(0, longest * 1.12 or 1.0)
    name_rows(axes, names)


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [short(name) for name in names])
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.grid(axis="y", visible=False)


def short(name: str, length: int = _NAME_LENGTH) -> str:
    cut = name if len(name) <= length else name[: length - 1] + "…"
    return cut.replace("$", r"\$")


def height_of(n_rows: int, n_bars: int) -> float:
    return 1.1 + n_rows * max(_ROW_INCHES, 0.17 * n_bars + 0.06)


def legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=max(len(labels), 1), frameon=False, fontsize=9)


class _Drawing:
    """A figure that is being drawn, and its SVG once it is done."""

    def __init__(self, figure: Figure) -> None:
        self.figure = figure
        self.svg = ""


@contextmanager
def page_figure(height_inches: float, prefix: str) -> Iterator[_Drawing]:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": prefix,
        "font.family": ["DejaVu Sans"],
        "font.size": 9,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.labelsize": 9,
        "axes.edgecolor": _FAINT,
        "axes.facecolor": "none",
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": _FAINT,
        "grid.linewidth": 0.6,
        "xtick.color": INK,
        "ytick.color": INK,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8.5,
        "lines.linewidth": 1.6,
    }
    with rc_context(style), warnings.catch_warnings():
        # The viewer's fonts draw the text; that ours lacks a glyph does not matter.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        drawing = _Drawing(Figure(figsize=(_WIDTH_INCHES, height_inches), layout="constrained"))
        yield drawing
        stream = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        drawing.figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
        drawing.svg = _for_page(stream.getvalue(), prefix)


def _for_page(svg: str, prefix: str) -> str:
    """The element alone, scaling with the page, in its colours, with ids that no other plot has."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(
        r'(<svg [^>]*?)width="([\d.]+)pt" height="[\d.]+pt"', r'\1style="max-width:\2pt" role="img"', svg, count=1
    )
    svg = svg.replace(INK, "currentColor").replace(_FAINT, "var(--line)")
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'href="#', f'href="#{prefix}-', svg)
    return re.sub(r"url\(#", f"url(#{prefix}-", svg)
