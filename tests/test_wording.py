"""Words from outside: what is shown of them, what is kept, and which are one and the same."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evermix.errors import EvermixError, RecipeError
from evermix.wording import HIDDEN, amount, composed, visible, without_secrets


@given(st.text(st.characters(), max_size=30))
def test_what_is_visible_can_be_written_and_obeys_nothing(text: str) -> None:
    shown = visible(text, lines=False)
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cs", "Zl", "Zp"}
    assert not {unicodedata.bidirectional(c) for c in shown} & {
        "LRE",
        "RLE",
        "LRO",
        "RLO",
        "PDF",
        "LRI",
        "RLI",
        "FSI",
        "PDI",
    }
    shown.encode()
    assert visible(shown, lines=False) == shown


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"])))
def test_what_is_visible_already_stays(text: str) -> None:
    assert visible(text, lines=False) == text


def test_a_message_repeats_only_the_ends_of_what_is_long() -> None:
    long = "".join(f"{k} " for k in range(12_000))
    for error in (RecipeError("a key must be short", received=long), RecipeError(long), RecipeError("x", hint=long)):
        assert len(str(error)) < 3_000
        assert f"{len(long):,} characters" in str(error) or f"{len(repr(long)):,} characters" in str(error)
        assert "0 1 2 3 4" in str(error)
        assert "11999" in str(error)
    assert str(EvermixError("a file must exist", received="a" * 100)) == f"a file must exist, got '{'a' * 100}'"


def test_a_message_is_one_line_without_control_codes() -> None:
    error = RecipeError("domain 'a\x1b[2J\nb' must exist", received="\x07\u202eb", hint="use \udce9")
    assert str(error) == r"domain 'a\x1b[2J\nb' must exist, got '\x07\u202eb'. Hint: use \udce9"


SECRETS = [
    {"token": "s3cret"},
    {"dataset": {"path": "x", "token": "s3cret"}},
    {"storage_options": {"client_kwargs": [{"aws_secret_access_key": "s3cret", "api-key": "s3cret"}]}},
    {"password": "s3cret", "user": "me"},
    {"use_auth_token": "s3cret", "hub_api_key": "s3cret", "Authorization": "s3cret"},
    "https://me:s3cret@host.example/data.jsonl",
    "https://s3cret@host.example/data.jsonl",
    ["s3://bucket/x?X-Amz-Signature=s3cret&x=1", "https://host.example/a?access_token=s3cret"],
]


@pytest.mark.parametrize("value", SECRETS, ids=str)
def test_secrets_are_not_shown(value: object) -> None:
    assert "s3cret" not in str(without_secrets(value))
    assert HIDDEN in str(without_secrets(value))
    assert "s3cret" not in str(RecipeError("a dataset must have a path", received=value))
    assert "s3cret" not in str(RecipeError(f"no such place: {value}")) or not isinstance(value, str)


def test_tokens_of_a_known_form_are_never_shown() -> None:
    assert str(RecipeError("not authorised with hf_" + "aB3" * 11)) == f"not authorised with {HIDDEN}"


@pytest.mark.parametrize(
    "value",
    [
        {"tokens": 5, "n_tokens": "20B", "tokenizer": "gpt2", "token": 0.25, "max_tokens": "7"},
        {"token": "$HF_TOKEN", "password": "${PASSWORD}", "secret": ["a", "b"], "api_key": ""},
        {"keys": "a", "keyword": "b", "path": "user@host:data", "url": "https://host.example/a?x=1#@b"},
    ],
    ids=str,
)
def test_what_is_no_secret_stays(value: object) -> None:
    assert without_secrets(value) == value


@given(st.text(max_size=20))
def test_names_that_look_alike_are_one(name: str) -> None:
    assert composed(unicodedata.normalize("NFD", name)) == composed(name) == composed(composed(name))


@given(st.integers(0, 10**30), st.sampled_from(["", "k", "M", "B", "T"]))
def test_whole_amounts_are_exact(value: int, unit: str) -> None:
    power = {"": 0, "k": 3, "M": 6, "B": 9, "T": 12}[unit]
    assert amount(f"{value:_}{unit}") == value * 10**power


@pytest.mark.parametrize(
    "text", ["", "x", "1.5", "1,000", "-1", "1.5.2", "0x10", "1e999", "nan", "inf", "9" * 10**5, "½"]
)
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        amount(text)
