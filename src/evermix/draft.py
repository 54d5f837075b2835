"""A first recipe for a folder of data files: commented, loadable, with sizes guessed from the data."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evermix.errors import CorpusError, RecipeError
from evermix.files import write_atomically
from evermix.recipe import CorpusRecipe, DecisionRecipe, ObjectiveRecipe, ProbeRecipe, TrainingRecipe

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
class Source:
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
    return _render(folder.resolve().name, sources)


def find_sources(folder: Path, base: Path) -> list[Source]:
    """Domains of `folder` in order of name; hidden files, empty files and unknown endings are passed over."""
    taken: set[str] = set()
    found: list[Source] = []
    for path in sorted(folder.iterdir()):
        files = tuple(_data_files(path))
        if not files:
            continue
        name = _unique(_domain_name(path), path, taken)
        taken.add(name)
        size = sum(file.stat().st_size * _expansion(file) for file in files)
        found.append(Source(name, _patterns(path, files, base), files, size, _text_field(files)))
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
    from evermix.corpus.readers import decode, read_lines

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


def _documents(source: Source) -> str | None:
    """What one document of plain text is; None for records. Few or long files are cut into paragraphs to split them."""
    if source.text_field is not None:
        return None
    many, short = len(source.files) >= _MANY_FILES, source.text_bytes / len(source.files) <= _LONG_FILE_BYTES
    return "file" if many and short else "paragraph"


@dataclass(frozen=True)
class _Sizes:
    """Everything that is guessed from the amount of data."""

    rung: str
    vocab_size: int
    tokens: int
    total: float
    sequence_length: int
    batch_sequences: int
    learning_rate: float
    start: str
    floor: float


def _sizes(sources: list[Source]) -> _Sizes:
    """The largest rung for which one pass over the corpus is 20 tokens per parameter; at most two passes in all."""
    total = sum(source.n_tokens for source in sources)
    smallest = min(source.n_tokens for source in sources)
    fitting = [rung for rung in _RUNGS if rung[1] * _TOKENS_PER_PARAMETER <= total]
    rung, n_parameters, vocab_size = fitting[-1] if fitting else _RUNGS[0]
    tokens = _two_digits(min(n_parameters * _TOKENS_PER_PARAMETER, 2 * total))
    length = 256 if smallest >= 50 * 256 else 128 if smallest >= 50 * 128 else 64
    most = 16 if n_parameters < 4e6 else 64
    batch = next((b for b in (64, 32, 16, 8) if b <= most and tokens / (b * length) >= 300), 4)
    uniform_fits = 0.4 * tokens / len(sources) <= _MAX_EPOCHS / 2 * smallest
    return _Sizes(
        rung=rung,
        vocab_size=vocab_size,
        tokens=tokens,
        total=total,
        sequence_length=length,
        batch_sequences=batch,
        learning_rate=3e-3 if n_parameters < 4e6 else 1e-3,
        start="uniform" if uniform_fits else "natural",
        floor=min(0.01, _two_digits(2e5 / len(sources)) / 1e6),
    )


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


def _render_domain(source: Source) -> str:
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


def _render(name: str, sources: list[Source]) -> str:
    sizes = _sizes(sources)
    small = sizes.total < _RUNGS[0][1] * _TOKENS_PER_PARAMETER
    note = "the corpus is small even for this rung: expect noisy decisions" if small else "20 tokens per parameter"
    reason = "" if sizes.start == "uniform" else " (uniform would repeat the smallest domain too often)"
    return _TEMPLATE.format(
        project=_quoted(f"runs/{name}"),
        domains="\n".join(_render_domain(source) for source in sources),
        total=_amount(sizes.total),
        tokens=_amount(sizes.tokens),
        note=note,
        vocab_size=sizes.vocab_size,
        length=sizes.sequence_length,
        batch=sizes.batch_sequences,
        rate=f"{sizes.learning_rate:g}",
        rung=sizes.rung,
        start=sizes.start,
        reason=reason,
        floor=f"{sizes.floor:g}",
        example=_quoted(sources[0].name),
        corpus=CorpusRecipe(),
        training=TrainingRecipe(tokens=1),
        decision=DecisionRecipe(),
        probes=ProbeRecipe(),
        objective=ObjectiveRecipe(),
        at=list(DecisionRecipe().at),
        purities=list(ProbeRecipe().purities),
        max_epochs=_MAX_EPOCHS,
    )


_TEMPLATE = """\
# A recipe for evermix. Show what it will do: `evermix run RECIPE --dry-run`; do it: `evermix run RECIPE`.
# Commented keys show their default. Amounts may be written 250k, 1.5M, 20B.

project: {project}   # folder for everything that is made; running again goes on from there
seed: 0
# method: op-mix   # probes of the model decide on the way. olmix: a swarm of small proxies decides beforehand; it has
#                    the keys swarm and tasks, and other keys of decision: docs/olmix.md
# phases: []   # a life of several phases, each with another domain set, instead of one pretraining: docs/continual.md,
#                also for the keys that belong to it: orders, replay and retention

# Domains: what the mixture shares tokens out among. Paths and globs are relative to this file.
#   files       paths or globs of JSONL, Parquet or plain text, also .gz and .zst; '!pattern' leaves files out
#   registry    instead of files: a corpus that a package registry carries, see `evermix list-corpora`
#   dataset     instead of files: arguments of datasets.load_dataset, such as {{path: ..., split: train}}
#   text_field  where the text is in a record            format     auto, jsonl, parquet, text or chat
#   documents   of plain text: file, paragraph or line   max_bytes  read at most so much
domains:   # about {total} tokens in all, at 2.5 bytes per token
{domains}

tokenizer:
  vocab_size: {vocab_size}   # of a byte-level BPE that is trained on the corpus
  # path: null   # or an existing tokenizer: file, folder or hub name

corpus:
  sequence_length: {length}   # tokens per training sequence
  # heldout_fraction: {corpus.heldout_fraction:g}   # of the documents of each domain, for evaluation only
  # heldout_sequences: {corpus.heldout_sequences}   # at most so many per domain
  # store: null   # folder of the tokenised text; null: in the project folder
  # workers: {corpus.workers}   # domains that are tokenised at once
  # chat_template: auto   # of format chat: the checkpoint's own or plain; plain; or a file

model:
  rung: {rung}   # non-embedding parameters: 0.2M, 1M, 4M, 15M, 30M or 60M
  # checkpoint: null   # or start from a Hugging Face model: folder or hub name

training:
  tokens: {tokens}   # budget of each arm; {note}
  batch_sequences: {batch}
  # gradient_accumulation: {training.gradient_accumulation}
  learning_rate: {rate}
  # schedule: {training.schedule}   # warmup-stable-decay, or cosine
  # warmup_fraction: {training.warmup_fraction:g}
  # decay_fraction: {training.decay_fraction:g}
  # weight_decay: {training.weight_decay:g}
  # clip_norm: {training.clip_norm:g}
  # evaluations: {training.evaluations}   # points of the loss curves
  # checkpoints: {training.checkpoints}   # for going on after an interruption
  # workers: {training.workers}   # processes that load data
  # precision: {training.precision}   # bfloat16 on a GPU that has it; or float32, bfloat16

start: {start}   # mixture before the first decision: uniform, natural, or a share for each domain{reason}

# The decision: short LoRA probes of the current model say what each domain would bring.
decision:
  at: {at}   # fractions of the budget; several are allowed
  mode: {decision.mode}   # probe-law, interpolation or gradient
  kl: null   # pull towards the prior; null: what suits the mode; 0 trusts the probes alone
  prior: {decision.prior}   # what the pull is towards; auto: start, the mixture above; or natural, uniform, shares
  # by: {decision.by}   # of held-out text; with phases and tasks also accuracy
  # candidates: {decision.candidates}   # mode interpolation
  # gradient_evaluations: {decision.gradient_evaluations}   # mode gradient
  cross_checks: false   # true also runs the other modes, for the report
  # With method olmix also law, kl_weight, guards, compare and resamples.
  # probes:
  #   budget: {probes.budget:g}   # part of the run's training FLOPs that all decisions may spend
  #   steps: null   # of one probe; null: what the budget allows
  #   purities: {purities}   # share of the domain in its probes
  #   rank: {probes.rank}
  #   alpha: {probes.alpha:g}
  #   learning_rate_factor: {probes.learning_rate_factor:g}
  #   evaluation_sequences: null   # held-out sequences per domain for scoring; null: what the budget allows

objective:
  quantity: {objective.quantity}   # perplexity, loss_nats or bits_per_byte: choose the one that you report
  # weights: {{{example}: 1}}   # what counts and how much; domains left out count 0; default: all alike
  # groups: null   # instead of weights: family -> domains, means of means; group_weights: family -> weight
  # With method olmix also maximise, drop, unit and aggregate.

constraints:
  max_epochs: {max_epochs}   # most passes over any domain
  floor: {floor}   # least share of every domain
  # floors: {{}}   # domain: least share
  # caps: {{}}   # domain: greatest share
  # fixed: {{}}   # domain: exact share
  # groups: {{}}   # name: {{members: [domains], least: 0, greatest: 1}} bounds the sum of their shares

# What is trained, each on the same budget and seed. The two baselines show what deciding gained and cost
# as much as it does: leave them out with [evermix].
arms: [natural, uniform, evermix]
"""
