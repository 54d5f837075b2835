"""A first recipe for a folder of data files: the template draft.yaml, filled in from the data."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template

from evermix.corpus.looking import Look, look
from evermix.corpus.patterns import matches
from evermix.corpus.readers import bare_name
from evermix.errors import CorpusError, RecipeError
from evermix.files import write_atomically
from evermix.wording import composed, visible

_BYTES_PER_TOKEN = 2.5
_EXPANSION = {".gz": 3.5, ".gzip": 3.5, ".zst": 3.5, ".zstd": 3.5, ".bz2": 4, ".xz": 4.5, ".parquet": 2.5, ".pq": 2.5}
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
_LEAST_STEPS = 14  # that the recipe loads, its amounts rounded; so little text decides nothing


@dataclass(frozen=True)
class DraftedDomain:
    """One domain as found.

    Attributes:
        name: folder or file name without its endings.
        patterns: globs relative to the recipe's folder.
        files: the files that the patterns match now.
        text_bytes: estimate of the text they hold, decompressed.
        text_field: field of the text in records; None for plain text and conversations.
        format: of the recipe's domain.
        documents: what one document of its plain text is; None where it has none.
    """

    name: str
    patterns: tuple[str, ...]
    files: tuple[Path, ...]
    text_bytes: float
    text_field: str | None
    format: str = "auto"
    documents: str | None = None

    @property
    def n_tokens(self) -> float:
        """Rough estimate, at 2.5 bytes per token."""
        return self.text_bytes / _BYTES_PER_TOKEN


def init(
    folder: str | Path,
    output: str | Path = "recipe.yaml",
    *,
    overwrite: bool = False,
    say: Callable[[str], None] | None = None,
) -> Path:
    """Write a commented recipe for a folder of data files, atomically; returns where.

    Each sub-folder and each file becomes a domain; format, text field, model size and budget are guessed from the data.
    What is left out stands in the recipe too.

        recipe = em.Recipe.load(em.init("my-data"))

    Args:
        folder: text, JSON lines, Parquet and conversations, also compressed.
        output: a YAML file; its paths are relative to its folder.
        overwrite: whether it may exist.
        say: called with a line for every kind of file that is left out.

    Raises:
        RecipeError: `folder` holds no data, or `output` exists and `overwrite` is not set.
    """
    folder, output = Path(folder), Path(output)
    if output.is_dir():
        raise RecipeError(f"{output}: the output must be a file, not a folder", hint="name a .yaml file")
    if output.exists() and not overwrite:
        raise RecipeError(f"{output}: the output must not exist yet", hint="--force overwrites, --output names another")
    domains, left_out = _found(folder, output.parent)
    write_atomically(output, _filled(folder, domains, left_out))
    if say is not None:
        for line in left_out:
            say(line)
    return output


def draft_recipe(folder: Path, *, base: Path | None = None) -> str:
    """Commented YAML recipe: each sub-folder and each file of `folder` with data becomes one domain.

    Args:
        folder: where the data files are.
        base: folder in which the recipe will lie; its paths are relative to it. Default: the current folder.

    Raises:
        RecipeError: no such folder, or nothing in it that can be read as text.
    """
    return _filled(Path(folder), *_found(Path(folder), base or Path()))


def _found(folder: Path, base: Path) -> tuple[list[DraftedDomain], list[str]]:
    if not folder.is_dir():
        kind = "not a file" if folder.exists() else "which must exist"
        raise RecipeError(f"{folder}: data is drafted from a folder, {kind}", hint="give the folder of your data files")
    domains, left_out = find_sources(folder, base)
    if not domains:
        seen = f"left out: {'; '.join(left_out[:5])}" if left_out else "it holds no files"
        raise RecipeError(
            f"{folder}: the folder must hold data files", hint=f"{seen}; see docs/corpus.md for what is read"
        )
    return domains, left_out


def _filled(folder: Path, domains: list[DraftedDomain], left_out: list[str]) -> str:
    template = Template(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    return template.substitute(
        _guessed(domains),
        project=_quoted(f"runs/{_printable(folder.resolve().name)}"),
        domains="\n".join([*map(_rendered, domains), *(f"  # left out: {line}" for line in left_out)]),
        example=_quoted(domains[0].name),
    )


# ---- what lies in the folder

_SURROGATE = re.compile("[\ud800-\udfff]")  # a byte of a name that is not UTF-8
_OF_SHARDS = re.compile(r"[0-9]+-of-[0-9]+")


def find_sources(folder: Path, base: Path) -> tuple[list[DraftedDomain], list[str]]:
    """Domains of `folder` in order of name, and a line for each reason why files are left out (hidden ones: none).

    Args:
        folder: its files and sub-folders become domains; shards of one name are one domain.
        base: folder that the patterns are relative to.
    """
    entries: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir(), key=lambda path: (path.is_symlink(), path.name)):
        if not path.name.startswith("."):
            entries.setdefault(_OF_SHARDS.sub("", path.name), []).append(path)
    taken: set[str] = set()
    seen: set[str] = set()
    domains: list[DraftedDomain] = []
    reasons: dict[str, list[str]] = {}
    for paths in entries.values():
        groups: dict[Look, list[Path]] = {}
        for file in _files_of(paths, reasons):
            name = str(file.relative_to(folder))
            try:
                if (real := os.path.realpath(file)) in seen:
                    raise CorpusError("the same file is found by another name")
                seen.add(real)
                groups.setdefault(_looked(file), []).append(file)
            except CorpusError as error:
                reasons.setdefault(error.rule.replace(str(file), name), []).append(name)
        domains += _domains(paths, _merged(groups), base, taken)
    domains.sort(key=lambda domain: domain.name)
    return domains, [visible(_told(reason, names), lines=False) for reason, names in reasons.items()]


def _files_of(paths: list[Path], reasons: dict[str, list[str]]) -> list[Path]:
    """Files in the folder or of the shards `paths`; links that lead nowhere too."""
    try:
        return [
            file
            for path in paths
            for file in (matches(f"./{glob.escape(path.name)}/**/*", path.parent).files if path.is_dir() else [path])
        ]
    except CorpusError as error:
        reasons.setdefault(error.rule, []).extend(path.name for path in paths)
        return []


def _looked(file: Path) -> Look:
    if not file.is_file():
        raise CorpusError("a link that leads nowhere" if file.is_symlink() else "no regular file")
    if not file.stat().st_size:
        raise CorpusError("empty")
    return look(file)


def _merged(groups: dict[Look, list[Path]]) -> list[tuple[Look, list[Path]]]:
    """Groups of files that make one domain each, the largest first; plain text joins records, which auto reads too."""
    plain = Look("prose")
    merged = {key: list(files) for key, files in groups.items() if key.kind not in ("prose", "code")}
    texts = {kind: groups.get(Look(kind), []) for kind in ("prose", "code")}
    if files := texts["prose"] + texts["code"]:
        records = [key for key in merged if key.kind == "records" and key.format == "auto"]
        is_code = _size(texts["code"]) > _size(texts["prose"])
        home = max(records, key=lambda key: _size(merged[key])) if records else Look("code") if is_code else plain
        merged[home] = sorted(merged.get(home, []) + files)
    return sorted(merged.items(), key=lambda group: -_size(group[1]))


def _domains(
    paths: list[Path], groups: list[tuple[Look, list[Path]]], base: Path, taken: set[str]
) -> Iterator[DraftedDomain]:
    for number, (key, files) in enumerate(groups):
        kind = key.text_field.replace(".", "-") if key.text_field else "chat" if key.kind == "chat" else "text"
        name = _domain_name(paths[0]) + (f"-{kind}" if number else "")
        name = _unique(name, paths[0], taken)
        taken.add(name)
        size = _size(files)
        yield DraftedDomain(
            name,
            _patterns(paths, files, base),
            tuple(files),
            size,
            key.text_field,
            key.format,
            _documents(key, files, size),
        )


def _size(files: Iterable[Path]) -> float:
    return sum(file.stat().st_size * _EXPANSION.get(file.suffix.lower(), 1.0) for file in files)


def _documents(key: Look, files: list[Path], size: float) -> str | None:
    """What one document of plain text is: source code is a file; few or long files are cut into paragraphs."""
    if key.kind not in ("prose", "code"):
        return None
    many, short = len(files) >= _MANY_FILES, size / len(files) <= _LONG_FILE_BYTES
    return "file" if key.kind == "code" or (many and short) else "paragraph"


def _printable(name: str) -> str:
    return "".join(character if character.isprintable() else "_" for character in name)


def _domain_name(path: Path) -> str:
    stem = path.name if path.is_dir() else Path(bare_name(path)).stem
    stem = re.sub(rf"[-._]?{_OF_SHARDS.pattern}", "", stem)
    return composed(_printable(stem).replace(":", "-")).strip() or "domain"


def _unique(name: str, path: Path, taken: set[str]) -> str:
    """`notes.txt` beside `notes.jsonl` becomes `notes-txt`."""
    if name in taken:
        name = f"{name}-{_printable(_ending(path)).replace('.', '-').strip('-*') or 'files'}"
    number = 2
    while name in taken:
        name, number = f"{name}-{number}", number + 1
    return name


def _ending(path: Path) -> str:
    """`.jsonl.gz` of a file's name, its numbers as `*`."""
    bare = bare_name(path)
    more = path.name[len(bare) :]
    return Path(bare).suffix + re.sub("[0-9]+", "*", more)


def _patterns(paths: list[Path], files: list[Path], base: Path) -> tuple[str, ...]:
    """Globs of `files` in the folder or among the shards `paths`; what they match beside these is left out again."""
    if paths[0].is_dir():
        found = [
            f"{_written(paths[0], base)}/**/*{glob.escape(e).replace('[*]', '*')}"
            for e in dict.fromkeys(map(_ending, files))
        ]
    elif len(paths) > 1:
        found = [_OF_SHARDS.sub("*-of-*", _written(path, base)) for path in paths]
    else:
        found = [_written(paths[0], base)]
    found = list(dict.fromkeys(_SURROGATE.sub("?", pattern) for pattern in found))
    wanted = {os.path.realpath(file) for file in files}
    matched = [path for pattern in found for path in matches(pattern, base).files]
    others = {os.path.realpath(path): path for path in matched if not path.is_file() or path.stat().st_size}
    beside = [path for real, path in others.items() if real not in wanted]
    if len(beside) > len(files):
        return tuple(_written(file, base) for file in files)
    return (*found, *(f"!{_written(path, base)}" for path in beside))


def _written(path: Path, base: Path) -> str:
    """A path as a pattern that matches it from `base`, whatever its name."""
    parent = os.path.realpath(path.parent)
    relative = Path(os.path.relpath(os.path.join(parent, path.name), os.path.realpath(base))).as_posix()
    pattern = _SURROGATE.sub("?", glob.escape(relative))
    return f"./{pattern}" if pattern.startswith(("!", "~")) else pattern


def _told(reason: str, names: list[str]) -> str:
    if names[0] in reason:
        return reason
    return f"{names[0]} and {len(names) - 1} more: {reason}" if len(names) > 1 else f"{names[0]}: {reason}"


# ---- what is written


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
    batch = next((b for b in (64, 32, 16, 8) if b <= most and tokens / (b * length) >= 300), 4)
    tokens = max(tokens, _LEAST_STEPS * batch * length)
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
        "batch": batch,
        "rate": f"{3e-3 if n_parameters < 4e6 else 1e-3:g}",
        "start": "auto" if uniform_fits else "natural",
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
    if source.format != "auto":
        lines.append(f"    format: {source.format}")
    if source.text_field is not None:
        lines.append(f"    text_field: {_quoted(source.text_field)}")
    if source.documents is not None:
        lines.append(f"    documents: {source.documents}")
    return "\n".join(lines)
