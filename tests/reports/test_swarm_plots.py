"""Plots: whole files of both kinds, and the numbers behind the heat map."""

from __future__ import annotations

import struct
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from evermix.deciding import fit
from evermix.recipe.decision import StudyRecipe
from evermix.reports.fit_plots import STEP, Effects, draw_fit, draw_predictions
from evermix.reports.proposal_plots import draw_proposal

from .swarm import fitted, reading, recommendation


def check_pair(folder: Path, name: str) -> str:
    """A PNG of some size, and an SVG that parses; returns the SVG."""
    png = (folder / f"{name}.png").read_bytes()
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    assert 400 < width < 4000
    assert 200 < height < 6000
    svg = (folder / f"{name}.svg").read_text(encoding="utf-8")
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    return svg


def test_every_plot_is_there_in_both_kinds(tmp_path: Path) -> None:
    draw_fit(fitted(), tmp_path / "new" / "plots")
    draw_proposal(recommendation(), tmp_path / "new" / "plots")
    found = {path.name for path in (tmp_path / "new" / "plots").iterdir()}
    names = ("predictions", "effects", "weights", "kl_path")
    assert found == {f"{name}.{kind}" for name in names for kind in ("svg", "png")}
    for name in names:
        check_pair(tmp_path / "new" / "plots", name)


def test_the_same_plot_is_the_same_file(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        draw_predictions(fitted(), tmp_path / folder)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_the_path_shows_how_kl_was_chosen(tmp_path: Path) -> None:
    draw_proposal(recommendation(kl="auto", resamples=0), tmp_path)
    assert "judged by laws" in check_pair(tmp_path, "kl_path")


def test_effects_are_what_the_law_says_of_one_more_point() -> None:
    law = fitted()
    effects = Effects.of(law)
    p, j = law.prior.mixture.weights, effects.domains.index("math")
    moved = p * (1 - STEP / (1 - p[j]))
    moved[j] += STEP * (1 + p[j] / (1 - p[j]))
    assert moved.sum() == pytest.approx(1)
    assert moved[j] - p[j] == pytest.approx(STEP)
    costs = law.law.predict(np.array([p, moved]))
    spread = law.observations.costs.std(axis=0)
    np.testing.assert_allclose(effects.values[j], (costs[0] - costs[1]) / spread)
    assert effects.values[j, effects.metrics.index("math_bpb")] > 0  # more mathematics is better for mathematics
    ordered = effects.ordered()
    assert sorted(ordered.domains) == sorted(effects.domains)
    i, k = ordered.metrics.index("exam_acc"), ordered.domains.index("books")
    assert ordered.values[k, i] == effects.values[effects.domains.index("books"), effects.metrics.index("exam_acc")]


def test_one_metric_and_names_of_formulas(tmp_path: Path) -> None:
    runs = reading().observations.subset(metrics=["math_bpb"])
    odd = type(runs)(
        runs.domains, runs.weights, ("a $x_1$ metric of a name that is far too long to be shown",), runs.values
    )
    draw_fit(fit(odd, StudyRecipe(law="power-link")), tmp_path)
    check_pair(tmp_path, "predictions")
    check_pair(tmp_path, "effects")
