"""Figures of a swarm: one look for all, each written as SVG and as PNG."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from evermix.files import write_atomically
from evermix.wording import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GREY, FAINT = "#222222", "#8a8f98", "#d9dce1"
GREEN, ORANGE, BLUE, RED = "#009E73", "#E69F00", "#0072B2", "#D55E00"  # Okabe and Ito's
_DPI = 144
_STYLE = {
    "svg.hashsalt": "evermix",
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.titlesize": 8.5,
    "axes.labelsize": 9,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
}


@contextmanager
def figure_file(folder: Path, name: str, width: float, height: float) -> Iterator[Figure]:
    """A figure of so many inches; when the block ends well, `name`.svg and `name`.png are in the folder."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE), warnings.catch_warnings():
        # A name may have letters that the font lacks: they are drawn as boxes, which is no fault of the figure.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        figure.draw_without_rendering()  # places everything, once for both files
        figure.set_layout_engine("none")
        for kind, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
            stream = io.BytesIO()
            figure.savefig(stream, format=kind, dpi=_DPI, metadata=metadata)
            write_atomically(folder / f"{name}.{kind}", stream.getvalue())


def short(name: str, length: int = 30) -> str:
    """A name that fits, without letters that would be read as formulas."""
    name = visible(name, lines=False)
    cut = name if len(name) <= length else f"{name[: length - 1]}…"
    return cut.replace("$", r"\$")


def name_rows(axes: Axes, names: list[str]) -> None:
    """One row per name, the first on top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
