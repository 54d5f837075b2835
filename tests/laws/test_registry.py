"""A law is added by one class and one line of the registry; all that lists or names laws follows."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from evermix.cli.app import app
from evermix.cli.reference import laws_table
from evermix.deciding.fitting import chosen_law
from evermix.laws import registry
from evermix.laws.base import MixingLaw, weighted
from evermix.observations.runs import Runs


class MeanLaw(MixingLaw):
    """Every mixture is as good as any other."""

    name = "mean"
    formula = "mean_k y_k"
    source = "a test"

    def fit(self, runs):
        table = weighted(runs)
        self.mean_ = (table.weights**2 * table.values).sum(axis=0) / table.n_effective
        self.n_domains_, self.n_metrics_ = table.mixtures.shape[1], table.values.shape[1]
        self.objective_, self.noise_ = table.spread**2, table.spread
        self.converged_ = np.ones(self.n_metrics_, dtype=bool)
        return self

    def predict(self, P):
        return np.broadcast_to(self.mean_, (*self._mixtures(P).shape[:-1], self.n_metrics_)).copy()


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.LAWS, MeanLaw.name, MeanLaw)


def test_a_recipe_may_name_it_and_fit_it() -> None:
    law = chosen_law("mean").fit(Runs.of([[0.5, 0.5], [0.1, 0.9]], [[1.0], [2.0]]))
    assert law.predict([0.3, 0.7]).tolist() == [1.5]


def test_the_table_in_the_docs_and_the_command_line_list_it() -> None:
    assert "| `mean` | mean_k y_k |  |  |  | m + 1 | a test |" in laws_table()
    told = CliRunner().invoke(app, ["list-laws", "--json"])
    assert "mean" in {row["name"] for row in json.loads(told.stdout)}


def test_the_conformance_suite_runs_on_every_law_of_the_registry() -> None:
    from tests.laws.test_conformance import NAMES

    assert set(NAMES) | {"mean"} == set(registry.LAWS)
