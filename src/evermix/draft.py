"""A first recipe for a folder of data files: the template draft.yaml, filled in from the data."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from evermix.errors import CorpusError, RecipeError
from evermix.files import write_atomically

_BYTES_PER_TOKEN = 2.5
_EXPANSION = {".gz": 3.5, ".zst": 3.5, ".parquet": 2.5, ".pq": 2.5}
_RECORDS = (".jsonl", ".ndjson", ".json", ".parquet", ".pq")
_PROSE = (".txt", ".text", ".md", ".rst", ".tex", ".html")
_CODE = (".py", ".c", ".h", ".cpp", ".hpp", ".java", ".js", ".ts", ".go", ".rs", ".rb", ".pl", ".sh", ".sql")
_SUFFIXES = (*_RECORDS, *_PROSE, *_CODE)
_COMPRESSED = (".gz", ".zst")
_FIELDS = ("text", "content", "body", "document", "raw_content", "article", "code", "passage", "message")
UNSURE = "SET_ME"
_LONG_FILE_BYTES = 200_000
_MANY_FILES = 100

# rung of the ladder, non-embedding parameters, tokenizer vocabulary that suits it
_RUNGS = (
    ("0.2M", 0.2e6, 1024),
    ("1M", 1e6, 4096),
    ("4M", 4e6, 4096),
    ("15M", 15e6, 8192),
    ("30M", 30e6, 16384),
    ("60M", 60e6, 16384),
)
_TOKENS_PER_PARAMETER = 20
_MAX_EPOCHS = 4


@dataclass(frozen=True)
class DraftedDomain:
    """One domain as found.

    Attributes:
        name: folder or file name without its endings.
        patterns: globs relative to the recipe's folder.
        files: the files that the patterns match now.
        text_bytes: estimate of the text they hold, decompressed.
        text_field: field of the text in records; None for plain text.
    """

    name: str
    patterns: tuple[str, ...]
    files: tuple[Path, ...]
    text_bytes: float
    text_field: str | None

    @property
    def n_tokens(self) -> float:
        """Rough estimate, at 2.5 bytes per token."""
        return self.text_bytes / _BYTES_PER_TOKEN


def init(folder: str | Path, output: str | Path = "recipe.yaml", *, overwrite: bool = False) -> Path:
    """Write a commented recipe for a folder of data files, atomically; returns where.

    Each sub-folder and each file becomes a domain; text field, model size and budget are guessed from the data.

        recipe = em.Recipe.load(em.init("my-data"))

    Args:
        folder: JSONL, Parquet and plain text, also as .gz or .zst.
        output: a YAML file; its paths are relative to its folder.
        overwrite: whether it may exist.

    Raises:
        RecipeError: `folder` holds no data, or `output` exists and `overwrite` is not set.
        CorpusError: a data file cannot be read.
    """
    folder, output = Path(folder), Path(output)
    if output.is_dir():
        raise RecipeError(f"{output}: the output must be a file, not a folder", hint="name a .yaml file")
    if output.exists() and not overwrite:
        raise RecipeError(f"{output}: the output must not exist yet", hint="--force overwrites, --output names another")
    write_atomically(output, draft_recipe(folder, base=output.parent))
    return output


def draft_recipe(folder: Path, *, base: Path | None = None) -> str:
    """Commented YAML recipe: each sub-folder and each file of `folder` with data becomes one domain.

    Args:
        folder: where the data files are.
        base: folder in which the recipe will lie; its paths are relative to it. Default: the current folder.

    Raises:
        RecipeError: no such folder, or nothing in it that can be read as text.
        CorpusError: a first record cannot be read, or has no text field; names file and line.
    """
    folder = Path(folder)
    if not folder.is_dir():
        kind = "not a file" if folder.exists() else "which must exist"
        raise RecipeError(f"{folder}: data is drafted from a folder, {kind}", hint="give the folder of your data files")
    sources = find_sources(folder, base or Path())
    if not sources:
        raise RecipeError(
            f"{folder}: the folder must hold data files", hint="known endings: " + " ".join((*_SUFFIXES, *_COMPRESSED))
        )
    template = Template(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    return template.substitute(
        _guessed(sources),
        project=_quoted(f"runs/{folder.resolve().name}"),
        domains="\n".join(map(_rendered, sources)),
        example=_quoted(sources[0].name),
    )


def find_sources(folder: Path, base: Path) -> list[DraftedDomain]:
    """Domains of `folder` in order of name; hidden files, empty files and unknown endings are passed over."""
    taken: set[str] = set()
    found: list[DraftedDomain] = []
    for path in sorted(folder.iterdir()):
        files = tuple(_data_files(path))
        if not files:
            continue
        name = _unique(_domain_name(path), path, taken)
        taken.add(name)
        size = sum(file.stat().st_size * _expansion(file) for file in files)
        found.append(DraftedDomain(name, _patterns(path, files, base), files, size, _text_field(files)))
    return found


def _data_files(path: Path) -> Iterator[Path]:
    if path.name.startswith("."):
        return
    if path.is_dir():
        for child in sorted(path.iterdir()):
            yield from _data_files(child)
    elif path.is_file() and _ending(path) and path.stat().st_size:
        yield path


def _ending(path: Path) -> str:
    """`.jsonl.gz` of a known kind, else the empty string."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = suffixes.pop() if suffixes and suffixes[-1] in _COMPRESSED else ""
    if suffixes and suffixes[-1] in _SUFFIXES:
        length = len(suffixes[-1]) + len(packed)
        return path.name[-length:]
    return path.name[-len(packed) :] if packed and not suffixes else ""


def _expansion(path: Path) -> float:
    return _EXPANSION.get(path.suffix.lower(), 1.0)


def _domain_name(path: Path) -> str:
    stem = path.name if path.is_dir() else path.name[: -len(_ending(path))]
    return stem.replace(":", "-").strip() or "domain"


def _unique(name: str, path: Path, taken: set[str]) -> str:
    """`notes.txt` beside `notes.jsonl` becomes `notes-txt`."""
    if name in taken:
        name = f"{name}-{_ending(path).replace('.', '-').strip('-') or 'files'}"
    number = 2
    while name in taken:
        name, number = f"{name}-{number}", number + 1
    return name


def _patterns(path: Path, files: tuple[Path, ...], base: Path) -> tuple[str, ...]:
    root = glob.escape(Path(os.path.relpath(path.resolve(), base.resolve())).as_posix())
    if path.is_file():
        return (root,)
    return tuple(f"{root}/**/*{ending}" for ending in dict.fromkeys(_ending(file) for file in files))


def _text_field(files: tuple[Path, ...]) -> str | None:
    """Field of the first file with records; files of one domain share it."""
    from evermix.corpus.readers import format_of

    for file in files:
        kind = format_of(file)
        if kind == "jsonl":
            return _field_of(_first_record(file), file)
        if kind == "parquet":
            return _column_of(file)
    return None


def _first_record(path: Path) -> dict[str, Any]:
    from evermix.corpus.blocks import decode, read_lines

    for number, offset, raw in read_lines(path):
        line = decode(path, raw, offset)
        if line.strip():
            try:
                record = json.loads(line)
            except ValueError as error:
                raise CorpusError(
                    f"{path}:{number}: must be valid JSON ({error})", hint="write one JSON object per line"
                ) from error
            if isinstance(record, dict):
                return record
            raise CorpusError(f"{path}:{number}: must be a JSON object", hint="write one JSON object per line")
    raise CorpusError(f"{path}: must hold at least one record", hint="remove the file or fill it")


def _column_of(path: Path) -> str:
    """The first usual name that is a column of text; UNSURE if there is none."""
    from evermix.corpus.readers import read_documents

    for name in _FIELDS:
        try:
            next(read_documents(path, "parquet", name, "file"), None)
        except CorpusError as error:
            if "whole Parquet" in error.rule:
                raise
            continue
        return name
    return UNSURE


def _field_of(record: dict[str, Any], path: Path) -> str:
    """A usual name if there is one, else the field with the longest string."""
    strings = {name: value for name, value in record.items() if isinstance(value, str)}
    if not strings:
        found = ", ".join(map(str, record)) or "none"
        raise CorpusError(
            f"{path}: a record must have a text field (fields found: {found})", hint="add one whose value is a string"
        )
    usual = next((name for name in _FIELDS if name in strings), None)
    return usual or max(strings, key=lambda name: len(strings[name]))


def _documents(source: DraftedDomain) -> str | None:
    """What one document of plain text is; None for records. Few or long files are cut into paragraphs to split them."""
    if source.text_field is not None:
        return None
    many, short = len(source.files) >= _MANY_FILES, source.text_bytes / len(source.files) <= _LONG_FILE_BYTES
    return "file" if many and short else "paragraph"


def _guessed(sources: list[DraftedDomain]) -> dict[str, object]:
    """Every number of the template that goes by the amount of data.

    The largest rung for which one pass over the corpus is 20 tokens per parameter; at most two passes in all.
    """
    total, smallest = sum(source.n_tokens for source in sources), min(source.n_tokens for source in sources)
    fitting = [rung for rung in _RUNGS if rung[1] * _TOKENS_PER_PARAMETER <= total]
    rung, n_parameters, vocab_size = fitting[-1] if fitting else _RUNGS[0]
    tokens = _two_digits(min(n_parameters * _TOKENS_PER_PARAMETER, 2 * total))
    length = 256 if smallest >= 50 * 256 else 128 if smallest >= 50 * 128 else 64
    most = 16 if n_parameters < 4e6 else 64
    uniform_fits = 0.4 * tokens / len(sources) <= _MAX_EPOCHS / 2 * smallest
    return {
        "rung": rung,
        "vocab_size": vocab_size,
        "tokens": _amount(tokens),
        "note": "20 tokens per parameter"
        if fitting
        else "the corpus is small even for this rung: decisions will be noisy",
        "total": _amount(total),
        "length": length,
        "batch": next((b for b in (64, 32, 16, 8) if b <= most and tokens / (b * length) >= 300), 4),
        "rate": f"{3e-3 if n_parameters < 4e6 else 1e-3:g}",
        "start": "uniform" if uniform_fits else "natural",
        "reason": "" if uniform_fits else " (uniform would repeat the smallest domain too often)",
        "floor": f"{min(0.01, _two_digits(2e5 / len(sources)) / 1e6):g}",
        "max_epochs": _MAX_EPOCHS,
    }


def _two_digits(value: float) -> int:
    return max(int(float(f"{value:.2g}")), 1)


def _amount(value: float) -> str:
    for size, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{suffix}" if value < 999.5 * size else f"{value / size:.0f}{suffix}"
    return f"{value:.0f}"


def _quoted(text: str) -> str:
    """A YAML scalar; quoted unless it can be nothing but a string."""
    plain = re.fullmatch(r"[A-Za-z][\w./-]*", text, flags=re.ASCII)
    reserved = text.lower() in {"yes", "no", "on", "off", "true", "false", "null", "y", "n"}
    return text if plain and not reserved else json.dumps(text, ensure_ascii=not text.isprintable())


def _rendered(source: DraftedDomain) -> str:
    patterns = ", ".join(_quoted(pattern) for pattern in source.patterns)
    about = f"{len(source.files)} file{'s' if len(source.files) > 1 else ''}, about {_amount(source.n_tokens)} tokens"
    lines = [f"  - name: {_quoted(source.name)}   # {about}", f"    files: [{patterns}]"]
    if source.text_field == UNSURE:
        lines.append(f"    text_field: {UNSURE}   # none of the usual names: set it to the column that holds the text")
    elif source.text_field is not None:
        lines.append(f"    text_field: {_quoted(source.text_field)}")
    documents = _documents(source)
    if documents is not None:
        lines.append(f"    documents: {documents}")
    return "\n".join(lines)
