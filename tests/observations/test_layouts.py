"""The layouts that people have are read without options, and by id."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evermix.errors import ObservationError
from evermix.observations import ReadOptions, read_observations

MIXTURES = {"r1": (0.5, 0.5, 0.0), "r2": (0.2, 0.3, 0.5), "r3": (0.1, 0.1, 0.8), "r4": (1.0, 0.0, 0.0)}
LOSSES = {"r1": (3.0, 2.5), "r2": (2.9, 2.7), "r3": (2.8, 2.2), "r4": (3.3, 2.1)}


def write(path: Path, *rows: Any) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)
    return path


def check(source: Any, domains: tuple[str, ...], measured: tuple[str, ...], **options: Any) -> Any:
    reading = read_observations(source, options=ReadOptions(**options))
    observed = reading.observations
    assert observed.domains.names == domains
    assert observed.metrics == measured
    assert sorted(observed.run_ids or ()) == sorted(MIXTURES)
    for k, run_id in enumerate(observed.run_ids or ()):
        np.testing.assert_allclose(observed.weights[k], MIXTURES[run_id])
        np.testing.assert_allclose(observed.values[k], LOSSES[run_id])
    return reading


def test_olmix_layout(tmp_path: Path) -> None:
    head = ("", "run", "name", "index")
    ratios = [(k, run, f"swarm-{k}", k, *MIXTURES[run]) for k, run in enumerate(MIXTURES)]
    metrics = [(k, run, f"swarm-{k}", 9 - k, *LOSSES[run]) for k, run in enumerate(reversed(LOSSES))]
    write(tmp_path / "ratios.csv", (*head, "art_and_design", "games", "art_history"), *ratios)
    write(tmp_path / "metrics.csv", (*head, "arc:rc::olmes", "mbpp:3shot::none"), *metrics)
    (tmp_path / "tokens.yaml").write_text(
        "token_counts:\n  games: 7\n  art_history: 1e3\n  art_and_design: 67760078203\nrelative_sizes:\n  games: 1.0\n"
    )
    names = ("art_and_design", "games", "art_history")
    reading = check(tmp_path, names, ("arc:rc::olmes", "mbpp:3shot::none"))
    np.testing.assert_array_equal(reading.observations.domains.n_tokens, [67760078203, 7, 1000])
    assert [item.name for item in reading.left_out if item.kind == "column"] == [
        "(unnamed column 1)",
        "name",
        "index",
    ] * 2
    assert "tokens.yaml: relative_sizes" in [item.name for item in reading.left_out]


def test_regmix_layout(tmp_path: Path) -> None:
    names = [f"train_the_pile_{name}" for name in ("arxiv", "pile_cc", "dm_mathematics")]
    losses = [f"metric/the_pile_{name}_val_loss" for name in ("arxiv", "pile_cc")]
    ratios = write(tmp_path / "train_mixture.csv", ("index", *names), *((r, *MIXTURES[r]) for r in MIXTURES))
    metrics = write(tmp_path / "train_loss.csv", ("index", *losses), *((r, *LOSSES[r]) for r in reversed(LOSSES)))
    short = ("arxiv", "pile_cc", "dm_mathematics"), ("arxiv", "pile_cc")
    check(tmp_path, *short)
    write(tmp_path / "test_mixture.csv", ("index", *names))
    write(tmp_path / "test_loss.csv", ("index", *losses))
    with pytest.raises(
        ObservationError, match=r"2: \(test_mixture.csv, test_loss.csv\); \(train_mixture.csv, train_loss"
    ):
        read_observations(tmp_path)
    check((ratios, metrics), *short)
    check([str(ratios), str(metrics)], tuple(names), tuple(losses), strip=False)
    dropped = read_observations((ratios, metrics), options=ReadOptions(drop=("metric/the_pile_arxiv_val_loss",)))
    assert dropped.observations.metrics == ("pile_cc",)


@pytest.mark.parametrize("style", ["config.weights.{}", "config/mixture/{}", "weights.{}", "{}_ratio", "mix/{}", "{}"])
def test_one_wide_table(tmp_path: Path, style: str) -> None:
    columns = [style.format(name) for name in ("web:science:high", "web:science:low", "code")]
    rows = [(run, 4e8, *MIXTURES[run], 0.3 + k, *LOSSES[run]) for k, run in enumerate(MIXTURES)]
    source = write(tmp_path / "runs.csv", ("run", "n_tokens", *columns, "lr", "eval/loss", "eval/bpb"), *rows)
    options = {"metrics": ("eval/*",)}
    reading = check(source, ("web:science:high", "web:science:low", "code"), ("eval/loss", "eval/bpb"), **options)
    assert reading.observations.n_tokens.tolist() == [4e8] * 4
    assert [item.name for item in reading.left_out] == ["lr"]


def test_wandb_csv_export(tmp_path: Path) -> None:
    head = ("Name", "State", "Notes", "Runtime", "weights.web", "weights.code", "weights.math", "lr", "weight_decay")
    rows = [
        (run, "finished", "", 60 + k, *MIXTURES[run], 0.1 * k, 0.1, 99, k, LOSSES[run][0], LOSSES[run][1], 5 - k)
        for k, run in enumerate(MIXTURES)
    ]
    crashed = ("r9", "crashed", "", 5, "", "", "", "", "", "", 1, "", "", "")
    header = (*head, "_step", "_runtime", "eval/loss", "eval/code/bpb", "train/loss")
    source = write(tmp_path / "wandb.csv", header, *rows, crashed)
    reading = check(source, ("web", "code", "math"), ("eval/loss", "eval/code/bpb"))
    left = {(item.kind, item.name) for item in reading.left_out}
    assert {("run", "r9"), ("column", "train/loss"), ("column", "lr"), ("column", "weight_decay")} < left


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
def test_wandb_nested_export(tmp_path: Path, suffix: str) -> None:
    records = [
        {
            "id": run,
            "config": {"lr": {"value": 0.1 * k}, "weights": {"value": dict(zip("abc", MIXTURES[run], strict=True))}},
            "summary": {"eval/loss": LOSSES[run][0], "acc": LOSSES[run][1], "_step": 10 + k, "_wandb": {"runtime": k}},
            "tags": ["x"],
        }
        for k, run in enumerate(MIXTURES)
    ]
    source = tmp_path / f"runs{suffix}"
    if suffix == ".parquet":
        arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(arrow.Table.from_pylist(records), source)
    else:
        text = "\n".join(map(json.dumps, records)).encode()
        source.write_bytes(gzip.compress(text) if suffix.endswith("gz") else text)
    reading = check(source, ("a", "b", "c"), ("eval/loss", "acc"), maximise=("acc",))
    assert reading.observations.maximised == {"acc"}


def test_percentages_on_request(tmp_path: Path) -> None:
    rows = [(run, *(100 * w for w in MIXTURES[run])) for run in MIXTURES]
    ratios = write(tmp_path / "mixtures.tsv", ("run", "web", "code", "math"))
    ratios.write_text("\n".join("\t".join(map(str, row)) for row in [("run", "web", "code", "math"), *rows]))
    write(tmp_path / "losses.csv", ("run", "x", "y"), *((run, *LOSSES[run]) for run in LOSSES))
    check(tmp_path, ("web", "code", "math"), ("x", "y"), percent=True)


def test_standard_errors_beside_metrics_and_in_their_own_table(tmp_path: Path) -> None:
    write(tmp_path / "ratios.csv", ("run", "web", "code", "math"), *((r, *MIXTURES[r]) for r in MIXTURES))
    rows = [(r, LOSSES[r][0], 0.1, *LOSSES[r][1:], 0.2) for r in LOSSES]
    write(tmp_path / "metrics.csv", ("run", "acc,none", "acc_stderr,none", "loss", "loss_se"), *rows)
    reading = check(tmp_path, ("web", "code", "math"), ("acc,none", "loss"))
    np.testing.assert_array_equal(reading.observations.standard_errors, [[0.1, 0.2]] * 4)
    write(tmp_path / "standard_errors.csv", ("run", "loss"), *((r, 0.5) for r in reversed(LOSSES)))
    np.testing.assert_array_equal(read_observations(tmp_path).observations.standard_errors, [[0.1, 0.5]] * 4)


def test_weights_repeated_among_the_metrics_are_no_metrics(tmp_path: Path) -> None:
    names = ("web", "code", "math")
    write(tmp_path / "ratios.csv", ("run", *names), *((r, *MIXTURES[r]) for r in MIXTURES))
    write(tmp_path / "metrics.csv", ("run", *names, "x", "y"), *((r, *MIXTURES[r], *LOSSES[r]) for r in LOSSES))
    assert [item.name for item in check(tmp_path, names, ("x", "y")).left_out] == list(names)
    write(tmp_path / "metrics.csv", ("run", "web", "code"), *((r, *LOSSES[r]) for r in LOSSES))
    check(tmp_path, names, ("web", "code"))


def test_seeds_make_replicates(tmp_path: Path) -> None:
    write(tmp_path / "ratios.csv", ("run", "web", "code"), ("a", 0.5, 0.5), ("b", 0.1, 0.9))
    rows = [("b", 1, 2.0), ("a", 1, 3.0), ("a", 2, 3.2), ("b", 2, 2.4)]
    write(tmp_path / "metrics.csv", ("run", "seed", "loss"), *rows)
    observed = read_observations(tmp_path).observations
    assert observed.run_ids == ("a/1", "a/2", "b/1", "b/2")
    np.testing.assert_array_equal(observed.values[:, 0], [3.0, 3.2, 2.0, 2.4])
    assert [group.tolist() for group in observed.replicates] == [[0, 1], [2, 3]]
    np.testing.assert_allclose(observed.noise_from_replicates, [np.sqrt((0.02 + 0.08) / 2)])


def test_lines_are_counted_as_an_editor_counts_them(tmp_path: Path) -> None:
    (tmp_path / "ratios.csv").write_text('\nrun,web,"co\nde"\n\n"a\nb",0.5,0.5\nc,0.5,x\n')
    (tmp_path / "metrics.csv").write_text('run,loss\n"a\nb",1\nc,2\n')
    with pytest.raises(ObservationError, match=r"ratios.csv, line 7, column 'co\\nde': .* got 'x'"):
        read_observations(tmp_path)


def test_options_precede_the_layout(tmp_path: Path) -> None:
    write(tmp_path / "ratios.csv", ("key", "web", "code"), ("a", 0.5, 0.5), ("b", 0.1, 0.9))
    write(tmp_path / "metrics.csv", ("key", "acc", "loss"), ("a", 0.5, 2), ("b", 0.1, 3))
    (tmp_path / "layout.yaml").write_text("id: key\nmaximise: [acc]\n")
    assert read_observations(tmp_path).observations.maximised == {"acc"}
    other = read_observations(tmp_path, options=ReadOptions(maximise=("l*",)))
    assert other.observations.maximised == {"loss"}


@pytest.mark.parametrize("cell", ["9" * 10**5 + "x", "9" * 10**5, "1." + "0" * 10**5, "1" * 10**5 + ",5"])
def test_a_cell_without_end_is_refused(tmp_path: Path, cell: str) -> None:
    (tmp_path / "ratios.csv").write_text(f"run,web,code\na,0.5,0.5\nb,0.2,{cell.replace(',', '.')}\n")
    (tmp_path / "metrics.csv").write_text("run,loss\na,3\nb,2\n")
    with pytest.raises(ObservationError, match=r"ratios.csv, line 3, column 'code': .*100,00\d characters") as caught:
        read_observations(tmp_path)
    assert len(str(caught.value)) < 1000


def test_names_and_counts_meet_however_they_are_spelt(tmp_path: Path) -> None:
    """NFC in one file, NFD in the other; counts as recipes write amounts."""
    (tmp_path / "ratios.csv").write_text("run,caf\u00e9,code\nr\u00e9,0.5,0.5\nb,0.2,0.8\n", encoding="utf-8")
    (tmp_path / "metrics.csv").write_text("run,loss\nre\u0301,3\nb,2\n", encoding="utf-8")
    (tmp_path / "tokens.yaml").write_text("cafe\u0301: 1_000_000\ncode: 1.5B\n", encoding="utf-8")
    found = read_observations(tmp_path).observations
    assert found.run_ids == ("r\u00e9", "b")
    assert [(d.name, d.n_tokens) for d in found.domains] == [("caf\u00e9", 10**6), ("code", 15 * 10**8)]


def _two_sizes(folder: Path, sizes: tuple[str, str], named: str = "model_size") -> Path:
    """Every mixture run at two sizes, under one id: the metrics of the greater size are 1 lower."""
    write(folder / "ratios.csv", ("run", "x", "y", "z"), *((r, *MIXTURES[r]) for r in MIXTURES))
    rows = [(r, size, *(v - k for v in LOSSES[r])) for k, size in enumerate(sizes) for r in LOSSES]
    write(folder / "metrics.csv", ("run", named, "a", "b"), *rows)
    return folder


@pytest.mark.parametrize(
    ("sizes", "named", "where"),
    [
        (("20M", "60M"), "model_size", {"model_size": "60M"}),
        (("20000000", "6.001e7"), "config.n_params", {"model_size": 60e6}),
        (("20_000_000", "60_000_000"), "n_tokens", {"train_tokens": "0.06B"}),
        (("small", "large"), "model_size", {"model_size": "large"}),
        (("a", "b"), "optimiser", {"optimiser": "b"}),
    ],
)
def test_runs_of_one_size_are_chosen_by_a_column(
    tmp_path: Path, sizes: tuple[str, str], named: str, where: dict[str, str | float]
) -> None:
    source = _two_sizes(tmp_path, sizes, named)
    with pytest.raises(ObservationError, match=r"different values|runs of one model size"):
        read_observations(source)
    reading = read_observations(source, where=where)
    assert reading.observations.run_ids == tuple(MIXTURES)
    np.testing.assert_allclose(reading.observations.values, [[v - 1 for v in LOSSES[r]] for r in LOSSES])
    unasked = [item for item in reading.left_out if "where asks for" in item.reason]
    assert [item.name for item in unasked] == [f"metrics.csv, line {k}" for k in range(2, 6)]
    (tmp_path / "layout.yaml").write_text(json.dumps({"where": where}))
    assert read_observations(source).observations == reading.observations


def test_what_where_cannot_choose_is_named_with_what_there_is(tmp_path: Path) -> None:
    source = _two_sizes(tmp_path, ("20M", "60M"))
    with pytest.raises(
        ObservationError, match=r"none has that model_size, got '1B'\. Hint: there are 20M \(4\), 60M \(4\)"
    ):
        read_observations(source, where={"model_size": "1B"})
    with pytest.raises(
        ObservationError, match=r"must name a column of the runs, got 'depth'\. Hint: there are \['run'"
    ):
        read_observations(source, where={"depth": 3})
    (tmp_path / "layout.yaml").write_text("where: [model_size]\n")
    with pytest.raises(ObservationError, match="where must be a mapping"):
        read_observations(source)


SHARES = "run,web,code\n1,0.5,0.5\n2,0.2,0.8\n3,0.9,0.1\n"


def swarm(folder: Path, measured: str, shares: str = SHARES, suffix: str = ".csv") -> Path:
    (folder / f"ratios{suffix}").write_text(shares, encoding="utf-8")
    (folder / f"metrics{suffix}").write_text(measured, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("header", "cells", "metrics", "errors"),
    [
        ("loss,loss_fi,loss_se", "3.{k},2.{k},2.5{k}", ("loss", "loss_fi", "loss_se"), ()),
        ("loss,loss_se", "3.{k},2.5{k}", ("loss", "loss_se"), ()),
        ("loss,loss_se", "3.{k},0.1{k}", ("loss",), ("loss",)),
        ("acc,acc_se,f1,f1_se", "0.{k},0.02,0.6{k},0.01", ("acc", "f1"), ("acc", "f1")),
        ("acc,acc_se,f1", "0.{k},0.02{k},0.6{k}", ("acc", "acc_se", "f1"), ()),
        ("acc,acc_se,f1,f1_stderr", "0.{k},0.02,0.6{k},0.01", ("acc", "f1"), ("acc", "f1")),
        ('"arc|acc,none","arc|acc_stderr,none"', "0.{k},0.02", ("arc|acc,none",), ("arc|acc,none",)),
    ],
)
def test_standard_errors_only_where_they_are_unmistakable(
    tmp_path: Path, header: str, cells: str, metrics: tuple[str, ...], errors: tuple[str, ...]
) -> None:
    table = f"run,{header}\n" + "".join(f"{k},{cells.format(k=k)}\n" for k in (1, 2, 3))
    reading = read_observations(swarm(tmp_path, table), options=ReadOptions(strip=False))
    found = reading.observations
    known = found.standard_errors
    assert found.metrics == tuple(m for m in metrics if m not in {item.name for item in reading.left_out})
    has = () if known is None else [m for m, e in zip(found.metrics, known.T, strict=True) if not np.isnan(e).all()]
    assert tuple(has) == errors


def test_an_ending_that_was_asked_for_is_taken(tmp_path: Path) -> None:
    table = "run,loss,loss_fi,loss_se\n1,3,2,.1\n2,3.1,2.1,.1\n3,3.2,2.2,.1\n"
    found = read_observations(swarm(tmp_path, table), options=ReadOptions(error_suffixes=("_se",), strip=False))
    assert found.observations.metrics == ("loss", "loss_fi")


@pytest.mark.parametrize("mark", [";", "\t"])
@pytest.mark.parametrize("comma", [False, True])
def test_names_with_commas_and_decimal_commas(tmp_path: Path, mark: str, comma: bool) -> None:
    measured = "run;arc|acc,none;loss\n1;0.25;3.125\n2;0.5;2.5\n3;0.75;3\n"
    shares = SHARES.replace(",", ";")
    texts = [text.replace(".", "," if comma else ".").replace(";", mark) for text in (measured, shares)]
    reading = read_observations(swarm(tmp_path, *texts), options=ReadOptions(strip=False))
    found = reading.observations
    assert found.metrics == ("arc|acc,none", "loss")
    np.testing.assert_array_equal(found.values, [[0.25, 3.125], [0.5, 2.5], [0.75, 3]])
    np.testing.assert_array_equal(found.weights, [[0.5, 0.5], [0.2, 0.8], [0.9, 0.1]])
    assert [f.rule for f in reading.findings].count("decimal commas") == 2 * comma


def test_what_may_be_thousands_is_no_decimal(tmp_path: Path) -> None:
    with pytest.raises(ObservationError, match=r"write decimals with a point, .* in the whole file"):
        read_observations(swarm(tmp_path, "run;loss\n1;1,250\n2;1,500\n3;2,500\n", SHARES.replace(",", ";")))


@pytest.mark.parametrize("ids", ["1.0 2.0 3.0", "1 2 3", "1.00 2.00 3.00"])
def test_whole_ids_join_however_they_are_written(tmp_path: Path, ids: str) -> None:
    a, b, c = ids.split()
    found = read_observations(swarm(tmp_path, f"run,loss\n{a},3\n{b},2\n{c},1\n")).observations
    assert found.run_ids == ("1", "2", "3")


def test_versions_as_ids_stay_apart(tmp_path: Path) -> None:
    shares = SHARES.replace("\n1,", "\n1.0,").replace("\n2,", "\n1.1,").replace("\n3,", "\n1.10,")
    found = read_observations(swarm(tmp_path, "run,loss\n1.0,3\n1.1,2\n1.10,1\n", shares)).observations
    assert found.run_ids == ("1.0", "1.1", "1.10")


@pytest.mark.parametrize("cell", ["Infinity", "failed", "-inf", "1e300"])
def test_bad_runs_are_left_out_when_asked(tmp_path: Path, cell: str) -> None:
    swarm(tmp_path, f"run,loss\n1,3\n2,{cell}\n3,1\n4,2\n", SHARES + "4,0.3,0.9\n")
    with pytest.raises(ObservationError, match="line 3, column 'loss'"):
        read_observations(tmp_path)
    with pytest.raises(ObservationError, match="line 5: weights must sum to 1"):
        read_observations(tmp_path, options=ReadOptions(drop_runs=("2",)))
    for options in (
        ReadOptions(drop_bad_runs=True),
        ReadOptions(drop_runs=("2", "4")),
        ReadOptions(drop_runs=("[24]",)),
    ):
        reading = read_observations(tmp_path, options=options)
        assert reading.observations.run_ids == ("1", "3")
        assert [item.name for item in reading.left_out if item.kind == "run"] == ["2", "4"]
    with pytest.raises(ObservationError, match="must match at least one name, got 'x'"):
        read_observations(tmp_path, options=ReadOptions(drop_runs=("x", "2", "4")))
    with pytest.raises(ObservationError, match="must leave at least one run"):
        read_observations(tmp_path, options=ReadOptions(drop_runs=("*",)))
