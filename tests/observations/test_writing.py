"""What is written reads back equal, whatever the names."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evermix.domains import Domain, DomainSet
from evermix.errors import ObservationError
from evermix.observations import Observations, read_observations
from evermix.wording import composed

ROLES = ("run", "index", "name", "seed", "_x", "n_tokens", "a", "a_stderr", "a_se", "a*", "[a]", "train_a", "metric/a")
LITERALS = (
    "1",
    "1.0",
    "nan",
    "null",
    "yes",
    "a,b",
    'a"b',
    "a\nb",
    "a\r\nb",
    "#",
    "- x",
    "é",
    "a\u2028b",
    "State",
    "\U0001f600",
)
TRICKY = st.sampled_from((*ROLES, *LITERALS))
NAME = st.one_of(TRICKY, st.text(min_size=1, max_size=8)).map(composed).filter(lambda name: name == name.strip())
DOMAIN = NAME.filter(lambda name: all(name.split(":")))
NUMBER = st.floats(-1e99, 1e99)


@st.composite
def observations(draw: st.DrawFn) -> Observations:
    names = draw(st.lists(DOMAIN, min_size=1, max_size=4, unique=True))
    metrics = draw(st.lists(NAME, min_size=1, max_size=4, unique=True))
    runs = draw(st.lists(NAME, min_size=2, max_size=5, unique=True))
    raw = np.array(
        draw(st.lists(st.lists(st.floats(1e-3, 1), min_size=len(names), max_size=len(names)), min_size=5, max_size=5))
    )
    weights = raw[: len(runs)] / raw[: len(runs)].sum(axis=1, keepdims=True)
    shape = (len(runs), len(metrics))
    values = np.array(draw(st.lists(NUMBER, min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))).reshape(shape)
    values[0], values[1] = 1.5, 2.5
    for k in range(2, len(runs)):
        values[k, draw(st.lists(st.integers(1, max(1, shape[1] - 1)), max_size=2)) if shape[1] > 1 else []] = np.nan
    known = draw(st.booleans())
    counts = [draw(st.integers(0, 10**15)) if known else None for _ in names]
    amounts = draw(st.one_of(st.none(), st.lists(st.floats(1, 1e15), min_size=len(runs), max_size=len(runs))))
    errors = np.where(np.isnan(values), np.nan, 0.1) if draw(st.booleans()) else None
    return Observations(
        domains=DomainSet(Domain(name, n) for name, n in zip(names, counts, strict=True)),
        weights=weights,
        metrics=tuple(metrics),
        values=values,
        standard_errors=errors,
        run_ids=tuple(runs),
        n_tokens=amounts,
        n_parameters=amounts,
        maximised=frozenset(draw(st.sets(st.sampled_from(metrics)))),
    )


@settings(max_examples=80, deadline=None)
@given(observations())
def test_csv_round_trip_is_exact(observed: Observations) -> None:
    with tempfile.TemporaryDirectory() as folder:
        observed.to_csv(folder)
        back = read_observations(folder).observations
    assert back == observed
    assert Observations.from_json(observed.to_json()) == observed


def test_an_older_table_of_standard_errors_does_not_stay(tmp_path: Path) -> None:
    fields = (DomainSet(["a", "b"]), [[0.5, 0.5], [0.1, 0.9]], ("m",), [[1.0], [2.0]])
    Observations(*fields, standard_errors=[[0.1], [0.1]]).to_csv(tmp_path)
    Observations(*fields).to_csv(tmp_path)
    assert read_observations(tmp_path).observations == Observations(*fields)


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    observed = Observations(DomainSet(["a"]), [[1.0]], ("\ud800",), [[1.0]])
    with pytest.raises(ObservationError, match="valid Unicode"):
        observed.to_csv(tmp_path)
