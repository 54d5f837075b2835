"""check: everything that a project has stored, compared with what was written; what is damaged, with the way out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from evermix.corpus.tokenizer import fingerprint_of
from evermix.errors import EvermixError, ProjectError
from evermix.executors.job import MARKER, PROGRESS_FILE
from evermix.files import MOVE_AWAY, faults, read_json, sealed_files
from evermix.ledger import Entry, Ledger
from evermix.reports import units
from evermix.reports.project import require_project, typed
from evermix.results import RunResult
from evermix.results.entries import CorpusEntry, LiveStatus, ProxyEntry, read_as

_AGAIN = "run the same command again: this part is done again by itself"


@dataclass(frozen=True)
class Fault:
    """Something that is not as it was written, and the way out."""

    what: str
    way_out: str


@dataclass(frozen=True)
class CheckReport:
    """What `check` has found.

    Attributes:
        project: its folder.
        stores: folders of tokenised text.
        n_entries: of the ledger.
        n_records: finished pieces of work, checkpoints of unfinished ones, and tokenised domains.
        n_files: that they stand for, and `n_bytes` of these.
        faults: what is damaged or gone.
    """

    project: str
    stores: tuple[str, ...]
    n_entries: int
    n_records: int
    n_files: int
    n_bytes: int
    faults: tuple[Fault, ...]

    @property
    def is_whole(self) -> bool:
        """Whether nothing is damaged."""
        return not self.faults

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "is_whole": self.is_whole}


def check(project: str | Path) -> CheckReport:
    """Read all that a project and its token store hold, and compare it with the hashes that were written with it.

    The ledger, `result.json`, every finished piece of work, checkpoints of what is unfinished, tokenised text,
    tokenizers. Nothing is changed. It takes as long as hashing the files does: about a second per gigabyte where the
    processor has instructions for SHA-256, three where it has none.

    Raises:
        ProjectError: if there is no project in that folder.
    """
    folder = Path(project)
    require_project(folder)
    found = list(_json_faults(folder))
    entries: tuple[Entry, ...] = ()
    stores = [folder / "tokens"]
    try:
        entries = _entries(folder)
        stores += [Path(named) for entry in entries if (named := _named_store(entry))]
        found += _gone(folder, entries)
    except ProjectError as error:
        found.append(_as_fault(error))
    stores = [store for store in dict.fromkeys(stores) if store.is_dir()]
    records = [*_work(folder), *(record for store in stores for record in _records(store))]
    of_records = {record: faults(record) for record in records}
    found += [Fault(fault, _AGAIN) for wrong in of_records.values() for fault in wrong]
    for store in stores:
        found += _tokenizer_faults(store)
    files = [seal for record, wrong in of_records.items() if not wrong for seal in sealed_files(record).values()]
    n_bytes = sum(seal["n_bytes"] for seal in files)
    return CheckReport(
        str(folder), tuple(map(str, stores)), len(entries), len(records), len(files), n_bytes, tuple(found)
    )


def print_check(found: CheckReport, console: Console) -> None:
    """Every fault with its way out, or one line if there is none."""
    for fault in found.faults:
        console.print(Text(f"damaged: {fault.what}\n  way out: {fault.way_out}"), soft_wrap=True)
    looked_at = (
        f"{found.n_entries:,} ledger entries, {found.n_records:,} records, "
        f"{found.n_files:,} files of {units.count(found.n_bytes)}B"
    )
    if found.is_whole:
        console.print(Text(f"all is as it was written: {looked_at}"))
    else:
        n = len(found.faults)
        console.print(Text(f"{n} {'thing is' if n == 1 else 'things are'} damaged; looked at {looked_at}"))


def _as_fault(error: EvermixError) -> Fault:
    what = error.rule if error.received is None else f"{error.rule}, got {error.received!r}"
    return Fault(what, error.hint or MOVE_AWAY)


def _json_faults(folder: Path) -> Iterator[Fault]:
    """Of the result, and of what a process says of itself."""
    for name in ("result.json", "status.json"):
        path = folder / name
        if not path.exists():
            continue
        try:
            if name == "result.json":
                RunResult.load(path)
            else:
                read_as(LiveStatus, read_json(path), str(path))
        except ProjectError as error:
            yield _as_fault(error)


def _entries(folder: Path) -> tuple[Entry, ...]:
    path = folder / "ledger.sqlite"
    if path.exists():
        return tuple(Ledger(path, read_only=True).entries())
    if (folder / "runs").exists():
        raise ProjectError(f"{path} is gone", hint="run the same command again: finished runs are kept")
    return ()


def _named_store(entry: Entry) -> str | None:
    """The folder of tokenised text that a run used."""
    return typed(entry, CorpusEntry).store if entry.kind == "corpus" else None


def _work(folder: Path) -> Iterator[Path]:
    """Records of finished work, and of checkpoints where the work is unfinished."""
    yield from sorted(folder.glob(f"runs/**/{MARKER}"))
    for path in sorted(folder.glob(f"runs/**/checkpoint-*/{PROGRESS_FILE}")):
        if not (path.parents[1] / MARKER).exists():
            yield path


def _records(store: Path) -> Iterator[Path]:
    for pattern in ("store.json", "*/meta.json", "surveys/*.json", "trained-*.json"):
        yield from sorted(path for path in store.glob(pattern) if ".tmp-" not in str(path))


def _gone(folder: Path, entries: tuple[Entry, ...]) -> Iterator[Fault]:
    """Runs that the ledger knows as finished, of which there is no record."""
    for entry in entries:
        names = {"segment": entry.key, "probe": f"probe-{entry.key}"}
        name = f"proxy-{typed(entry, ProxyEntry).proxy}" if entry.kind == "proxy" else names.get(entry.kind)
        if name is not None and not (folder / "runs" / name / MARKER).exists():
            yield Fault(f"{folder / 'runs' / name / MARKER} is gone", _AGAIN)


def _tokenizer_faults(store: Path) -> Iterator[Fault]:
    """A tokenizer is named by its content."""
    for file in sorted(store.glob("tokenizer-*.json")):
        try:
            if fingerprint_of(file) != file.stem.removeprefix("tokenizer-"):
                yield Fault(f"{file} holds another tokenizer", _AGAIN)
        except EvermixError as error:
            yield Fault(error.rule, _AGAIN)
