"""Damaged files: either one line that says what is wrong, or what a naive reader sees in the same cells."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from evermix.errors import EvermixError, ObservationError
from evermix.observations import Reading, ReadOptions, raw, read_observations

N_PER_KIND = 300
AS_NAMED = ReadOptions(strip=False)
MISSING = ("", " ", "nan", "NaN", "null", "none", "NA")
INFINITE = ("inf", "-inf", "1e400", "-1e400", "9" * 400)
NUMBERS = ("1e99", "1e101", "-0.0", "-1e-9", "0.25 ", "+0.25", "1e-400", "0.1", "3.5", "100")
LIKE_NUMBERS = ("true", "False", "0x10", "1_000", "\u0661", "\uff11", "50%", "0,5", "1.0.0")
TEXTS = ("é", "\x00", '"', '""', "\n", "a\nb", "\ufeff", "run", "web", "\U0001f600", "\u202e", "{}", "[1]", "'", "\\")
ODD = (*MISSING, *INFINITE, *NUMBERS, *LIKE_NUMBERS, *TEXTS)


def tables(rng: random.Random) -> tuple[list[list[str]], list[list[str]]]:
    """Weights and metrics of ten runs, in different orders."""
    ratios, metrics = [["", "run", "web", "code", "web:books"]], [["run", "name", "loss", "acc,x"]]
    for k in range(10):
        a, b = sorted((rng.randint(0, 1000), rng.randint(0, 1000)))
        ratios.append([str(k), f"r{k}", f"{a / 1000}", f"{(b - a) / 1000}", f"{(1000 - b) / 1000}"])
        metrics.append([f"r{k}", f"swarm-{k:02}", f"{rng.uniform(2, 4)}", f"{rng.uniform(0, 1)}"])
    head, *body = metrics
    rng.shuffle(body)
    return ratios, [head, *body]


def as_csv(rows: list[list[str]]) -> bytes:
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue().encode()


def mutate_cells(rng: random.Random, rows: list[list[str]]) -> list[list[str]]:
    rows = [list(row) for row in rows]
    for _ in range(rng.choice((0, 1, 1, 2))):
        k, other = rng.randrange(len(rows)), rng.randrange(len(rows))
        j = rng.randrange(len(rows[k]) or 1)
        match rng.randrange(7):
            case 0 if rows[k]:
                rows[k][j % len(rows[k])] = rng.choice(ODD)
            case 1:
                rows[k], rows[other] = rows[other], rows[k]
            case 2:
                rows.insert(k, list(rows[other]))
            case 3 if len(rows) > 1:
                del rows[k]
            case 4 if rows[k] and rows[other]:
                j, i = j % len(rows[k]), rng.randrange(len(rows[other]))
                rows[k][j], rows[other][i] = rows[other][i], rows[k][j]
            case 5:
                rows[k].insert(j, rng.choice(ODD))
            case 6 if rows[k]:
                del rows[k][j % len(rows[k])]
    return rows


def mutate_bytes(rng: random.Random, data: bytes) -> bytes:
    content = bytearray(data)
    for _ in range(rng.choice((0, 0, 1, 2, 5))):
        at = rng.randrange(len(content) or 1)
        match rng.randrange(6):
            case 0 if content:
                content[at % len(content)] ^= 1 << rng.randrange(8)
            case 1:
                content[at:at] = rng.choice(ODD).encode()
            case 2:
                del content[at : at + rng.choice((1, 5, 40))]
            case 3 if rng.random() < 0.3:
                del content[at:]
            case 4:
                old, new = rng.choice((b",;", b",\t", b"\n\r", b"..", b",|", b'"\x27'))
                content = content.replace(bytes([old]), bytes([new]))
            case 5:
                content[:0] = rng.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\n", b"# x\n", b""))
    return bytes(content)


def naive_csv(data: bytes) -> list[dict[str, str]]:
    """Rows of a CSV file as stdlib gives them, cells stripped."""
    text = data.decode("utf-8-sig")
    header = text.lstrip("\r\n").splitlines()[0]
    mark = "," if "," in header else "\t" if "\t" in header else ";"
    lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=mark))
    head, *body = [[cell.strip() for cell in line] for line in lines if len(line) > 1 or "".join(line).strip()]
    return [dict(zip(head, line, strict=True)) for line in body]


def naive_number(cell: object) -> float:
    """The number a person sees, NaN for nothing, ValueError for what no reader may take for a number."""
    if cell is None or (isinstance(cell, str) and cell.lower() in ("", "nan", "null", "none", "na", "n/a", "<na>")):
        return math.nan
    if isinstance(cell, bool) or not isinstance(cell, str | int | float):
        raise ValueError(cell)
    if isinstance(cell, str) and not re.match(r"^[-+0-9.eE]+$", cell):
        raise ValueError(cell)
    return float(cell)


def naive_id(cell: object) -> str:
    return str(int(cell)) if isinstance(cell, float) and cell == cell // 1 else str(cell)


def budgets(reading: Reading) -> list[str]:
    return re.findall(r"(?:tokens|parameters) of each run from '(.*?)'", reading.findings[0].detail)


def check(reading: Reading, ratios: list[dict[str, str]], metrics: list[dict[str, str]]) -> None:
    """Every run, weight and value must be what the rows say, and every row and column must be used or listed."""
    found = re.match(r"run ids from '(.*?)';", reading.findings[0].detail)
    observed, ids = reading.observations, found[1] if found else "by position"
    if not found:
        assert ratios == metrics
        ratios = metrics = [row | {ids: str(k)} for k, row in enumerate(ratios, start=1)]
    left = {(item.kind, item.name) for item in reading.left_out}
    listed = {name for kind, name in left if kind in ("column", "metric")}
    used = {*observed.domains.names, *observed.metrics, ids, *budgets(reading)}
    for column in (*ratios[0], *metrics[0]):
        unnamed = not column and any(name.startswith("(unnamed") for name in listed)
        assert column in used | listed or unnamed, column
    for row in (*ratios, *metrics):
        run_id = naive_id(row[ids])
        assert run_id in (observed.run_ids or ()) or ("run", run_id) in left or not any(row.values()), row
    for k, run_id in enumerate(observed.run_ids or ()):
        said = [
            [naive_number(row[c]) for c in observed.domains.names] for row in ratios if naive_id(row[ids]) == run_id
        ]
        assert said
        for weights in said:
            assert abs(sum(weights) - 1) < 0.011
            assert observed.weights[k] == pytest.approx([w / sum(weights) for w in weights], abs=1e-12)
        measured = [[naive_number(row[c]) for c in observed.metrics] for row in metrics if naive_id(row[ids]) == run_id]
        assert measured
        for values in measured:
            assert observed.values[k].tolist() == pytest.approx(values, rel=1e-15, nan_ok=True)


def outcome(folder: Path, oracle: Callable[[], tuple[list[dict[str, str]], list[dict[str, str]]]]) -> bool:
    """Whether the folder was read; what was read must be right, and a refusal one line."""
    try:
        reading = read_observations(folder, options=AS_NAMED)
    except EvermixError as error:
        refusal = str(error)
    else:
        check(reading, *oracle())
        return True
    assert "\n" not in refusal
    assert str(folder) in refusal or "metric" in refusal
    return False


def test_damaged_csv_is_refused_or_read_rightly(tmp_path: Path) -> None:
    rng = random.Random(0)
    read = 0
    for _ in range(N_PER_KIND):
        ratios, metrics = tables(rng)
        data = {"ratios.csv": as_csv(mutate_cells(rng, ratios)), "metrics.csv": as_csv(mutate_cells(rng, metrics))}
        victim = rng.choice(sorted(data))
        data[victim] = mutate_bytes(rng, data[victim])
        for name, content in data.items():
            (tmp_path / name).write_bytes(content)
        read += outcome(tmp_path, lambda data=data: (naive_csv(data["ratios.csv"]), naive_csv(data["metrics.csv"])))
    assert N_PER_KIND * 0.1 < read < N_PER_KIND * 0.9


def test_bytes_alone_are_refused_or_read_rightly(tmp_path: Path) -> None:
    rng = random.Random(1)
    read = 0
    for _ in range(N_PER_KIND):
        ratios, metrics = map(as_csv, tables(rng))
        ratios, metrics = mutate_bytes(rng, ratios), mutate_bytes(rng, metrics)
        (tmp_path / "ratios.csv").write_bytes(ratios)
        (tmp_path / "metrics.csv").write_bytes(metrics)
        read += outcome(tmp_path, lambda r=ratios, m=metrics: (naive_csv(r), naive_csv(m)))
    assert N_PER_KIND * 0.05 < read < N_PER_KIND * 0.95


ODD_JSON = [
    None,
    True,
    math.nan,
    math.inf,
    -math.inf,
    10**400,
    1e308,
    -1,
    "0.25",
    "x",
    [],
    [0.5],
    {},
    {"a": 0.5},
    "",
    "\ud800",
    0,
]


def as_json_lines(rng: random.Random, rows: list[list[str]]) -> bytes:
    header, *body = rows
    lines = []
    for row in body:
        record = {key: cell if key in ("run", "name") else float(cell) for key, cell in zip(header, row, strict=True)}
        if rng.random() < 0.03:
            record[rng.choice(header)] = rng.choice(ODD_JSON)
        line = json.dumps(record)
        match rng.randrange(60):
            case 0:
                line = line[: rng.randrange(len(line))]
            case 1:
                line = '{"deep": ' * 3000 + line + "}" * 3000
            case 2:
                line = line.replace('"web"', '"code"')
            case 3:
                line = "[" * 100_000
            case 4:
                line = f"[{line}]"
            case 5:
                line = line + "\n" + line
            case 6:
                line = ""
        lines.append(line)
    return "\n".join(lines).encode()


def naive_json_lines(data: bytes) -> list[dict[str, str]]:
    """Records with the one level of nesting that the damage makes joined by points."""
    rows = []
    for line in data.decode("utf-8-sig").split("\n"):
        if line.strip():
            record = json.loads(line)
            flat = {key: value for key, value in record.items() if not isinstance(value, dict)}
            inner = {f"{k}.{i}": part for k, v in record.items() if isinstance(v, dict) for i, part in v.items()}
            rows.append(flat | inner)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return [{column.strip(): row.get(column) for column in columns} for row in rows]


def test_damaged_json_lines_are_refused_or_read_rightly(tmp_path: Path) -> None:
    rng = random.Random(2)
    read = 0
    for _ in range(N_PER_KIND):
        ratios, metrics = (as_json_lines(rng, rows) for rows in tables(rng))
        if rng.random() < 0.3:
            ratios = mutate_bytes(rng, ratios)
        (tmp_path / "ratios.jsonl").write_bytes(ratios)
        (tmp_path / "metrics.jsonl").write_bytes(metrics)
        read += outcome(tmp_path, lambda r=ratios, m=metrics: (naive_json_lines(r), naive_json_lines(m)))
    assert N_PER_KIND * 0.05 < read < N_PER_KIND * 0.95


def test_a_table_that_unzips_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw, "MOST_BYTES", 10_000)
    (tmp_path / "ratios.csv.gz").write_bytes(gzip.compress(b"run,a,b\n" + b"r,0.5,0.5\n" * 100_000))
    (tmp_path / "metrics.csv").write_text("run,loss\nr,1\n")
    with pytest.raises(ObservationError, match=r"ratios.csv.gz: a table must have at most 10,000 bytes"):
        read_observations(tmp_path)


def test_damaged_gzip_is_refused(tmp_path: Path) -> None:
    rng = random.Random(3)
    ratios, metrics = map(as_csv, tables(rng))
    whole = gzip.compress(ratios, mtime=0)
    (tmp_path / "metrics.csv").write_bytes(metrics)
    for _ in range(200):
        data = bytearray(whole)
        if rng.random() < 0.5:
            del data[rng.randrange(len(data)) :]
        else:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        (tmp_path / "ratios.csv.gz").write_bytes(data)
        outcome(tmp_path, lambda: (naive_csv(ratios), naive_csv(metrics)))


def test_damaged_parquet_is_refused(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rng = random.Random(4)
    (header, *body), metrics = tables(rng)
    columns = {name: [row[j] for row in body] for j, name in enumerate(header)}
    numbers = {
        name: [float(c) for c in cells] if name in ("web", "code", "web:books") else cells
        for name, cells in columns.items()
    }
    parquet.write_table(arrow.table(numbers), tmp_path / "ratios.parquet")
    (tmp_path / "metrics.csv").write_bytes(as_csv(metrics))
    assert outcome(tmp_path, lambda: (naive_csv(as_csv([header, *body])), naive_csv(as_csv(metrics))))
    whole = (tmp_path / "ratios.parquet").read_bytes()
    for _ in range(100):
        (tmp_path / "ratios.parquet").write_bytes(whole[: rng.randrange(len(whole))])
        assert not outcome(tmp_path, lambda: ([], []))


def test_one_damaged_table_with_damaged_companions_is_refused_or_read_rightly(tmp_path: Path) -> None:
    """A single table, whose columns of weights must be found, beside token counts and a layout."""
    rng = random.Random(5)
    yaml = b"token_counts:\n  web: 1000\n  code: 2e3\n  web:books: 30\n"
    read = 0
    for _ in range(N_PER_KIND):
        (head, *body), metrics = tables(rng)
        of_run = {row[0]: row[2:] for row in metrics}
        rows = [[*row[1:], *of_run[row[1]]] for row in ([head, *body])]
        data = mutate_bytes(rng, as_csv(mutate_cells(rng, rows)))
        (tmp_path / "swarm.csv").write_bytes(data)
        (tmp_path / "tokens.yaml").write_bytes(mutate_bytes(rng, yaml) if rng.random() < 0.5 else yaml)
        (tmp_path / "layout.yaml").write_bytes(
            mutate_bytes(rng, b"maximise: ['acc,x']\n") if rng.random() < 0.3 else b"{}"
        )
        read += outcome(tmp_path, lambda d=data: (naive_csv(d), naive_csv(d)))
    assert N_PER_KIND * 0.05 < read < N_PER_KIND * 0.95
