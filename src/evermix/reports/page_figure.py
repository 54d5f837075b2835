"""A figure as SVG text for a web page: it takes the page's text colour, so one drawing serves light and dark.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; marks, line styles and hatches differ as well.
Names longer than 28 characters are cut; the tables have them in full.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from evermix.wording import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, _FAINT = "#010203", "#040506"  # stand-ins, replaced by the page's own colours
GREY, GREEN, ORANGE, RED = "#8a8f98", "#009E73", "#E69F00", "#D55E00"
LINES = ("-", "--", "-.", ":")
_PARTS = {
    "prefix": "#8a8f98",
    "training": "#56B4E9",
    "probes": "#009E73",
    "evaluation": "#E69F00",
    "specialists": "#CC79A7",
    "proxies": "#0072B2",
    "generation": "#D55E00",
    "decay": "#7E7BD9",
    "cross-checks": "#CC79A7",
}
_DOMAINS = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#B8A800", "#7E7BD9", "#9C6B4E", "#8a8f98",
)  # fmt: skip
_HATCHES = ("", "////", "....", "xxxx")
_ROW_INCHES = 0.3
_WIDTH_INCHES = 9.9
_NAME_LENGTH = 28


def part_colour(part: str) -> str:
    """One colour per part of the compute."""
    return _PARTS.get(part, "#b5bac2")


def domain_fills(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Name -> colour and hatch; no two names alike before 40."""
    n = len(_DOMAINS)
    return {name: (_DOMAINS[i % n], _HATCHES[i // n % len(_HATCHES)]) for i, name in enumerate(names)}


def grouped_bars(
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
    """One row per name, the first on top."""
    axes.set_yticks(range(len(names)), [short(name) for name in names])
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.grid(axis="y", visible=False)


def short(name: str, length: int = _NAME_LENGTH) -> str:
    """A name that fits, without letters that would be read as formulas."""
    name = visible(name, lines=False)
    cut = name if len(name) <= length else name[: length - 1] + "…"
    return cut.replace("$", r"\$")


def height_of(n_rows: int, n_bars: int) -> float:
    """Inches for so many rows of bars."""
    return 1.1 + n_rows * max(_ROW_INCHES, 0.17 * n_bars + 0.06)


def legend(figure: Figure, axes: Axes) -> None:
    """Above all panels, in rows of at most six."""
    handles, labels = axes.get_legend_handles_labels()
    ncols = min(max(len(labels), 1), 6)
    figure.legend(handles, labels, loc="outside upper left", ncols=ncols, frameon=False, fontsize=9)


def draw_share_axis(axes: Axes) -> None:
    """Shares in percent."""
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")


class Drawing:
    """A figure that is being drawn, and its SVG once it is done."""

    def __init__(self, figure: Figure) -> None:
        self.figure = figure
        self.svg = ""


@contextmanager
def page_figure(height_inches: float, prefix: str) -> Iterator[Drawing]:
    """A figure in the page's own colours; when the block ends well, its `svg` is there, ids beginning with `prefix`."""
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
        drawing = Drawing(Figure(figsize=(_WIDTH_INCHES, height_inches), layout="constrained"))
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
