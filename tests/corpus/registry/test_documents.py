from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from evermix.corpus.registry.documents import clean, grouped, split_long, tidy_documents


def test_clean_gives_unix_lines_without_controls() -> None:
    assert clean("\ufeffa \r\nb\x00\x1b\r\n\n\n\n\nc\n") == "a\nb\n\n\nc"
    assert clean("e\u0301") == "\u00e9"


@given(st.text())
def test_clean_text_is_utf8_and_stable(text: str) -> None:
    once = clean(text)
    once.encode("utf-8")
    assert clean(once) == once


@given(st.text(alphabet="ab \n", max_size=400), st.integers(4, 50))
def test_split_loses_line_breaks_only(text: str, longest: int) -> None:
    parts = list(split_long(text, longest))
    assert all(len(part) <= longest for part in parts)
    assert "".join(parts).replace("\n", "") == text.replace("\n", "")


@given(st.lists(st.text(alphabet="abc\n", max_size=5), max_size=20))
def test_tidy_drops_duplicates_and_forgets_the_order(texts: list[str]) -> None:
    tidy = tidy_documents(texts)
    assert len(set(tidy)) == len(tidy)
    assert tidy == tidy_documents(reversed(texts))
    assert all(text.strip() for text in tidy)


def test_grouped() -> None:
    assert list(grouped("abcde", 2, "+")) == ["a+b", "c+d", "e"]
