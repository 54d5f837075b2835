"""Sources: which files of a folder hold the weights, the metrics, the token counts and the layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evermix.errors import ObservationError
from evermix.observations.formats import stem_and_suffix

_RATIOS = ("ratios", "ratio", "mixtures", "mixture", "weights")
_METRICS = ("metrics", "metric", "losses", "loss")
_ERRORS = ("standard_errors",)


@dataclass(frozen=True)
class Source:
    """The files of one swarm; `ratios` and `metrics` are the same file where one holds both.

    Attributes:
        ratios, metrics: tables of weights and of metrics.
        errors: table of standard errors, or None.
        tokens: YAML file with token counts, or None.
        layout: YAML file with read options, or None.
    """

    ratios: Path
    metrics: Path
    errors: Path | None = None
    tokens: Path | None = None
    layout: Path | None = None


def find_source(source: str | Path | Sequence[str | Path]) -> Source:
    """The files that `source` means: a folder, one file, or a pair (ratios, metrics).

    Raises:
        ObservationError: if there are none, or several that could be meant.
    """
    if not isinstance(source, str | Path):
        paths = [Path(part) for part in source]
        if len(paths) != 2:
            raise ObservationError("a source of several files must be a pair (ratios, metrics)", received=len(paths))
        return Source(paths[0], paths[1])
    path = Path(source)
    if path.is_dir():
        return _in_folder(path)
    if not path.exists():
        raise ObservationError(f"{path}: a source must be a file or folder that exists", hint="check the path")
    return Source(path, path)


def _in_folder(folder: Path) -> Source:
    tables = sorted(path for path in folder.iterdir() if path.is_file() and stem_and_suffix(path)[1])
    ratios, metrics = _by_prefix(tables, _RATIOS), _by_prefix(tables, _METRICS)
    pairs = sorted(ratios.keys() & metrics.keys())
    beside = {"tokens": _first(folder, "tokens.yaml", "tokens.yml"), "layout": _first(folder, "layout.yaml")}
    if len(pairs) == 1:
        (prefix,) = pairs
        errors = _by_prefix(tables, _ERRORS).get(prefix)
        files = [_only(found) for found in (ratios[prefix], metrics[prefix], errors) if found]
        return Source(files[0], files[1], files[2] if errors else None, **beside)
    if pairs:
        named = "; ".join(f"({_only(ratios[p]).name}, {_only(metrics[p]).name})" for p in pairs)
        raise ObservationError(
            f"{folder}: a folder must hold one pair of tables, this one has {len(pairs)}: {named}",
            hint=f"choose one, as a pair of files ({_only(ratios[pairs[0]])}, {_only(metrics[pairs[0]])})",
        )
    if len(tables) == 1 and not ratios and not metrics:
        return Source(tables[0], tables[0], **beside)
    raise ObservationError(
        f"{folder}: a folder must hold a pair such as ratios.csv and metrics.csv, or one table with both",
        received=", ".join(path.name for path in tables) or "no table",
        hint="name the files so, or give the pair (ratios, metrics)",
    )


def _by_prefix(tables: Sequence[Path], words: Sequence[str]) -> dict[str, list[Path]]:
    """Tables called `<prefix><word>`: {"": [ratios.csv]}, {"train_": [train_mixture.csv]}."""
    found: dict[str, list[Path]] = {}
    for path in tables:
        stem = stem_and_suffix(path)[0].lower()
        for word in words:
            prefix = stem[: -len(word)]
            if stem.endswith(word) and (not prefix or prefix[-1] in "_-."):
                found.setdefault(prefix, []).append(path)
                break
    return found


def _only(paths: Sequence[Path]) -> Path:
    if len(paths) > 1:
        raise ObservationError(
            f"{paths[0].parent}: one file must hold each table, not several",
            received=", ".join(path.name for path in paths),
            hint="give the pair (ratios, metrics) that is meant",
        )
    return paths[0]


def _first(folder: Path, *names: str) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)
