"""Token counts: how much text each domain has, from tokens.yaml."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import yaml

from evermix.domains import Domain, DomainSet
from evermix.errors import DomainError, ObservationError
from evermix.observations.cells import Fault, parse
from evermix.observations.findings import LeftOut
from evermix.observations.formats import decoded, file_bytes

_KEY = "token_counts"
_MOST = 1e18


def domain_set(
    names: Sequence[str], columns: Sequence[str], tokens: Path | None, where: Path
) -> tuple[DomainSet, list[LeftOut]]:
    """Domains in the order of their columns, with counts if a file of them is given.

    Args:
        names: the domains' names.
        columns: their names in the table of weights; counts may be under either.
        tokens: the file of counts, `token_counts: {web: 1200}` or just `{web: 1200}`, or None.
        where: the table of weights, for messages.

    Raises:
        ObservationError: if a name is not that of a domain, or a domain has no count while others have.
    """
    counts: dict[str, int] = {}
    left_out: list[LeftOut] = []
    if tokens is not None:
        counts, left_out = read_token_counts(tokens)
    by_name = {}
    known = ", ".join(map(repr, list(counts)[:12]))
    for name, column in zip(names, columns, strict=True):
        key = name if name in counts else column
        if tokens is not None and key not in counts:
            raise ObservationError(
                f"{tokens}: every domain of {where.name} must have a token count, one has none",
                received=name,
                hint=f"add it; counts are given for {known}",
            )
        by_name[name] = counts.pop(key, None)
    reason = "token count of a domain that is not in the table of weights"
    left_out += [LeftOut("row", f"{tokens.name if tokens else ''}: {name}", reason) for name in counts]
    try:
        return DomainSet(Domain(name, n_tokens) for name, n_tokens in by_name.items()), left_out
    except DomainError as error:
        raise ObservationError(f"{where}: {error.rule}", received=error.received, hint=error.hint) from error


def read_token_counts(path: Path) -> tuple[dict[str, int], list[LeftOut]]:
    """Name -> tokens of a YAML file, and what else the file has; ObservationError naming file, line and key."""
    try:
        root = yaml.compose(decoded(path, file_bytes(path)), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ObservationError(f"{path}: token counts must be valid YAML ({' '.join(str(error).split())})") from error
    entries = _entries(path, root)
    left_out = []
    if _KEY in entries:
        reason = f"only {_KEY} is read from {path.name}"
        left_out = [LeftOut("row", f"{path.name}: {key}", reason) for key in entries if key != _KEY]
        entries = _entries(path, entries[_KEY])
    return {key: _count(path, key, node) for key, node in entries.items()}, left_out


def _entries(path: Path, node: yaml.Node | None) -> dict[str, yaml.Node]:
    line = 1 if node is None else node.start_mark.line + 1
    if not isinstance(node, yaml.MappingNode) or not node.value:
        raise ObservationError(f"{path}, line {line}: token counts must be a mapping of names to numbers")
    entries: dict[str, yaml.Node] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        name = key.value.strip() if isinstance(key, yaml.ScalarNode) else ""
        if not name or name in entries:
            raise ObservationError(f"{path}, line {line}: names must be unique and not empty", received=str(name))
        entries[name] = value
    return entries


def _count(path: Path, name: str, node: yaml.Node) -> int:
    text = node.value if isinstance(node, yaml.ScalarNode) else "a nested value"
    number = parse(text)
    good = not isinstance(number, Fault) and not math.isnan(number) and 0 <= number <= _MOST and number == int(number)
    if not good or isinstance(number, Fault):
        raise ObservationError(
            f"{path}, line {node.start_mark.line + 1}: the token count of {name!r} must be a whole number >= 0",
            received=text,
        )
    return int(text) if text.strip().lstrip("+").isdecimal() else int(number)
