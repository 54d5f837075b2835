from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from evermix.corpora.documents import clean, grouped, html_text, roff_text, split_long, tidy_documents


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


def test_html_blocks_become_paragraphs_and_navigation_goes() -> None:
    page = (
        "<html><head><title>T</title><style>p{}</style></head><body>"
        '<div class="navheader"><div><p>Prev<br>Next<img src="x"></p></div></div>'
        "<h1>A &amp; B</h1><p>One\n   two <i>three</i>.</p><script>var x;</script>"
        "<pre>a  b\n  c</pre><ul><li>x</li><li>y</li></ul></body></html>"
    )
    assert html_text(page) == "A & B\n\nOne two three.\n\na  b\n  c\n\nx\n\ny"


def test_html_survives_stray_end_tags() -> None:
    assert html_text("</pre></div><p>a  b</p></nav>c") == "a b\n\nc"


def test_roff_fonts_escapes_and_paragraphs() -> None:
    page = (
        '.\\" comment\n.TH LS 1\n.SH NAME\nls \\- list\n.PP\nUse \\fB\\-a\\fP, \\f[I]x\\f[]\nor\n.BR ptrace (2)\n'
        '.BI "long f(enum " r ", int " p );\n.TP\n.B \\-\\-all\nshow it\\(aqs \\e\n.in +4n\n.EX\nint  x;\n  y;\n.EE\n'
    )
    assert roff_text(page) == (
        "NAME\n\nls - list\n\nUse -a, x or ptrace(2) long f(enum r, int p);\n\n--all show it's \\\n\nint  x;\n  y;"
    )


def test_roff_leaves_out_tables_redirections_and_mdoc() -> None:
    assert roff_text("a\n.TS\nl l.\nx\ty\n.TE\nb") == "a b"
    assert roff_text(".so man1/ls.1") == ""
    assert roff_text(".Dd May 1\n.Dt LS 1\ntext") == ""


def test_roff_unbalanced_quotes_do_not_stop_it() -> None:
    assert roff_text('.B "open\nend') == "open end"
