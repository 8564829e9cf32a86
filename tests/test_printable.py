"""Text from elsewhere does nothing to a terminal or a spreadsheet, and still says what it said."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevit.errors import BundleError
from edgevit.printable import cell, json_text, printable

ANY = st.text(st.characters())  # surrogates, too
QUIET = settings(max_examples=100, derandomize=True, database=None, deadline=None)


def acts(text: str) -> set[str]:
    """What of ``text`` a terminal obeys, by Unicode's own classes: controls, formats, surrogates, separators of lines."""
    return {each for each in text if unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp")} | {
        each
        for each in text
        if unicodedata.bidirectional(each) in ("LRE", "LRO", "RLE", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    }


@QUIET
@given(ANY)
def test_printable_is_one_line_that_does_nothing(text: str) -> None:
    shown = printable(text)
    assert not acts(shown)
    assert len(shown.splitlines()) <= 1
    shown.encode("utf-8")
    assert printable(shown) == shown


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("\x1b]0;owned\x07\x1b[2J", "\\x1b]0;owned\\x07\\x1b[2J"),
        ("\x9b31mred", "\\x9b31mred"),
        ("a\nedgevit: faked\r\t\x7f", "a\\nedgevit: faked\\r\\t\\x7f"),
        ("gnp.\u202egpj", "gnp.\\u202egpj"),
        ("\u2066\u200f\u061c\u2028\ufeff", "\\u2066\\u200f\\u061c\\u2028\\ufeff"),
        ("\udcff.png", "\\udcff.png"),
        ("größe 日本 👩\u200d🔬 C:\\new", "größe 日本 👩\u200d🔬 C:\\new"),
        (3.5, "3.5"),
    ],
)
def test_printable(text: object, want: str) -> None:
    assert printable(text) == want


@QUIET
@given(st.recursive(ANY | st.none() | st.booleans() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(ANY, inner)))
def test_json_reads_back_and_does_nothing(document: object) -> None:
    text = json_text(document)
    assert not acts(text)
    text.encode("utf-8")
    # Python reads a pair of surrogates as one character, as every reader of JSON does.
    whole = json.loads(json.dumps(document))
    assert json.loads(text) == whole
    assert json.loads(json_text(document, indent=2)) == whole


@QUIET
@given(ANY)
def test_no_cell_is_a_formula(text: str) -> None:
    assert cell(text)[:1] not in set("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
    assert cell(text).removeprefix("'") == text.removeprefix("'")


@pytest.mark.parametrize("value", [-1, -0.5, 3, None, float("-inf"), "", "a=b", "2026-01-02", "'quoted'"])
def test_other_cells_stay(value: object) -> None:
    assert cell(value) == value


def test_error_is_one_line() -> None:
    """For those who use the library as well."""
    assert str(BundleError("x\nedgevit: faked\x1b[2J")) == "x\\nedgevit: faked\\x1b[2J"
