"""Words that come from outside, as evermix keeps and shows them: names, quantities, secrets."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

LONGEST_VALUE = 200
LONGEST_MESSAGE = 2000
HIDDEN = "***"
_AMOUNT = re.compile(r"(\d[\d_]*(?:\.[\d_]*)?(?:e[+-]?\d+)?)\s*([kmbgt]?)", re.ASCII)
_SUFFIXES = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9, "t": 10**12}
_LONGEST_AMOUNT = 50

# Invisible: control codes, line and paragraph separators, lone surrogates, zero-width spaces, marks of direction.
_BESIDE_LINES = "\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028\u2029\ud800-\udfff\u200b\u200e\u200f\u061c\u2060\ufeff"
_INVISIBLE = re.compile(f"[{_BESIDE_LINES}\u202a-\u202e\u2066-\u2069]")
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")

_SECRET = re.compile(
    r"(?:^|[_\W])(?:token|password|passwd|passphrase|secret|credentials?|authorization|(?:api|access|secret|private)[_-]?key)$",
    re.IGNORECASE,
)
_IN_URL = re.compile(r"(?<=://)[^/\s@'\"]+(?=@)")
_IN_QUERY = re.compile(
    r"(?<=[?&])((?:[\w.-]*[_-])?(?:token|password|secret|signature|sig|api[_-]?key|access[_-]?key)=)[^&\s'\"]+",
    re.IGNORECASE,
)
_KNOWN_FORM = re.compile(r"\b(?:hf_|sk-|ghp_|github_pat_|glpat-)[A-Za-z0-9_-]{16,}")
_OF_ENVIRONMENT = re.compile(r"\$(?:\w+|\{\w+\})", re.ASCII)


def visible(text: str, *, lines: bool = True) -> str:
    """The text with what a terminal would obey or hide spelt out, as `\\x1b`; line breaks too unless `lines`."""
    spelt = _INVISIBLE.sub(_spelt, text)
    return spelt if lines else spelt.replace("\n", "\\n").replace("\t", "\\t")


def _spelt(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def escaped_json(text: str) -> str:
    """A JSON document with the same invisible characters as JSON escapes: it says the same."""
    return _INVISIBLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def shortened(text: str, most: int = LONGEST_VALUE) -> str:
    """The text; of one longer than `most` its beginning, its end, and how long it is."""
    if len(text) <= most:
        return text
    return f"{text[: most * 2 // 3]} ... {text[-most // 5 :]} ({len(text):,} characters)"


def composed(name: str) -> str:
    """A name in Unicode's composed form (NFC), with pairs of surrogates joined: equal names are then equal strings."""
    return unicodedata.normalize("NFC", pairs_joined(name))


def pairs_joined(text: str) -> str:
    """The text with characters that were written as two surrogates, as JSON does with emoji, as themselves."""
    return _PAIR.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), text)


def is_unicode(text: str) -> bool:
    """Whether a text is Unicode: without half of a surrogate pair."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def amount(text: str) -> int:
    """`250000`, `1_000_000`, `1.5M`, `20B` or `2e9` as a whole number.

    Raises:
        ValueError: for anything else; says what an amount looks like.
    """
    plain = text.strip().lower()
    match = _AMOUNT.fullmatch(plain) if len(plain) <= _LONGEST_AMOUNT else None
    if match is None:
        way_out = ", without commas: 1_500_000" if "," in plain else ""
        raise ValueError(f"must be an amount such as 250000, 1.5M or 20B{way_out}")
    digits = match[1].replace("_", "")
    if digits.isdecimal():
        return int(digits) * _SUFFIXES[match[2]]
    found = float(digits) * _SUFFIXES[match[2]]
    if not math.isfinite(found):
        raise ValueError("must be a finite amount")
    if not match[2] and not found.is_integer():
        raise ValueError("must be a whole number")
    return round(found)


def as_amount(number: float) -> str:
    """60000000 as `60M`, to four digits: what `amount` reads."""
    scale, suffix = next(
        ((n, s) for n, s in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")) if number >= n), (1.0, "")
    )
    return f"{number / scale:.4g}{suffix}"


def without_secrets(value: Any) -> Any:
    """A value as it may be shown and kept: of passwords, tokens and keys only that they were given.

    Hidden are text under a key such as `token` or `api_key`, what stands before the @ of an address, secrets in its
    query, and text of a well-known form. `$NAME`, which refers to the environment, stays.
    """
    if isinstance(value, str):
        value = _IN_URL.sub(HIDDEN, value)
        value = _IN_QUERY.sub(rf"\1{HIDDEN}", value)
        return _KNOWN_FORM.sub(HIDDEN, value)
    if isinstance(value, Mapping):
        return {key: HIDDEN if _is_secret(key, item) else without_secrets(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(without_secrets, value)) if type(value) in (list, tuple) else value
    return value


def shown(words: str, *, lines: bool = True) -> str:
    """Words as they may be printed: without secrets, and `visible`."""
    return visible(str(without_secrets(words)), lines=lines)


def with_secrets(value: Any, environment: Mapping[str, str], key: str = "") -> Any:
    """A value as it is used: secrets that refer to the environment, `token: $NAME`, are looked up there.

    Raises:
        ValueError: for a name that the environment does not have, and for a secret that was hidden when it was kept.
    """
    if isinstance(value, Mapping):
        return {name: with_secrets(item, environment, str(name)) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(with_secrets(item, environment) for item in value)
    if not isinstance(value, str) or _SECRET.search(key) is None:
        return value
    if value == HIDDEN:
        raise ValueError(f"{key} was hidden when it was written down; give it again, best as `{key}: $NAME`")
    if _OF_ENVIRONMENT.fullmatch(value) is None:
        return value
    name = value.strip("${}")
    if name not in environment:
        raise ValueError(f"{key} refers to the environment variable {name}, which is not set")
    return environment[name]


def secrets_in(value: Any) -> list[str]:
    """All that `without_secrets` hides under the keys of mappings."""
    if isinstance(value, Mapping):
        own = [str(item) for key, item in value.items() if _is_secret(key, item)]
        return own + [found for item in value.values() for found in secrets_in(item)]
    return [found for item in value for found in secrets_in(item)] if isinstance(value, list | tuple) else []


def _is_secret(key: object, value: object) -> bool:
    named = isinstance(key, str) and _SECRET.search(key) is not None
    return named and isinstance(value, str) and value != "" and _OF_ENVIRONMENT.fullmatch(value) is None
