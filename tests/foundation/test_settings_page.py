"""A table of settings says what the classes do: their types, their bounds, their own words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import InputError, refuse_outside
from foundation.settings_page import (
    Row,
    bounds_text,
    default_text,
    field_meanings,
    number_text,
    rows_of,
    type_text,
)


@dataclass(frozen=True)
class Base:
    """What others extend.

    seed: of the draws,
        at least 0.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InputError("seed")


@dataclass(frozen=True)
class Inner:
    """A group.

    share: of a dollar, above 0.
    """

    share: Decimal = Decimal("0.5")

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InputError("share")


@dataclass(frozen=True)
class Outer(Base):
    """Settings.

    first, last: minutes.
    cents: USD in whole cents.
    inner: what it holds.

    note: this is prose and no field.
    """

    first: float | None = None
    last: float = 10.0
    cents: float = 5.0
    inner: Inner = field(default_factory=Inner)
    unsaid: int = 0

    def __post_init__(self) -> None:
        Base.__post_init__(self)
        if self.first is not None and not 1 < self.first < 390:
            raise InputError("first")
        if not 0 < self.cents < 1e6 or round(self.cents * 100) != self.cents * 100:
            raise InputError("cents")


@given(st.integers(-1000, 999), st.integers(1, 1000), st.sampled_from([1, 10, 1000]))
def test_the_bounds_of_a_field_are_those_that_its_class_refuses_to_leave(
    low: int, size: int, unit: int
) -> None:
    least, most = low / unit, (low + size) / unit

    @dataclass(frozen=True)
    class Bounded:
        value: float = (least + most) / 2

        def __post_init__(self) -> None:
            refuse_outside(self, value=(least, most))

    @dataclass(frozen=True)
    class Open:
        value: float = (least + most) / 2

        def __post_init__(self) -> None:
            if not least < self.value < most:
                raise InputError("value")

    words = number_text(least), number_text(most)
    assert bounds_text(Bounded(), "value") == "≥ {}, ≤ {}".format(*words)
    assert bounds_text(Open(), "value") == "> {}, < {}".format(*words)


def test_bounds_are_found_below_null_of_decimals_and_of_what_is_extended() -> None:
    assert bounds_text(Outer(), "first") == "> 1, < 390"
    assert bounds_text(Inner(), "share") == "> 0, ≤ 1"
    assert bounds_text(Outer(), "seed") == "≥ 0"
    assert bounds_text(Outer(), "last") == ""


def test_numbers_that_are_no_interval_have_no_bounds() -> None:
    assert bounds_text(Outer(), "cents") == ""


def test_a_fields_meaning_is_its_line_in_the_docstrings() -> None:
    assert field_meanings(Outer) == {
        "seed": "of the draws, at least 0.",
        "first": "minutes.",
        "last": "minutes.",
        "cents": "USD in whole cents.",
        "inner": "what it holds.",
    }


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (float, "number"),
        (int | None, "whole number or null"),
        (Literal["a", "b"], "`a` or `b`"),
        (Literal["auto"] | bool, "`auto` or true or false"),
        (tuple[str, ...], "list of texts"),
        (tuple[tuple[float, float], ...], "list of lists of numbers"),
        (tuple[Inner, ...], "list of {share}"),
        (Mapping[str, Any], "mapping"),
    ],
)
def test_a_type_is_said_in_words(kind: Any, words: str) -> None:
    assert type_text(kind) == words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "`null`"),
        (True, "`true`"),
        (2.0, "`2`"),
        ([5, "a"], "`[5, a]`"),
        ([{"since": "x"}], "1 entry"),
        ("", '`""`'),
        ("???", "none: it is needed"),
        ("${oc.env:MAX,4.0}", "`4.0`, or `$MAX`"),
        ("${sizing.strategy}", "that of `sizing.strategy`"),
        ("out/${now:%Y}", "`out/TIME`"),
        ("${oc.env:A,${oc.env:B,.}/c}/d", "`${A:-${B:-.}/c}/d`"),
    ],
)
def test_a_default_reads_as_it_is_written(value: Any, text: str) -> None:
    assert default_text(value) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.0001, "0.0001"), (1e12, "1e12"), (1_000_000, "1000000"), (2**63, "2^63"), (1e-7, "1e-7")],
)
def test_a_number_is_written_as_a_person_would(number: float, text: str) -> None:
    assert number_text(number) == text


def test_a_row_is_made_of_the_class_that_has_the_key_or_of_the_comment_beside_it() -> None:
    rows = list(
        rows_of({"seed": 3, "inner": {"share": 0.5}, "mode": "dry"}, [Outer()], {"mode": "a|b"})
    )
    assert rows == [
        Row("seed", "whole number", "≥ 0", "`3`", "of the draws, at least 0."),
        Row("inner", "group", "", "", "what it holds."),
        Row("inner.share", "number", "> 0, ≤ 1", "`0.5`", "of a dollar, above 0."),
        Row("mode", "text", "", "`dry`", "a|b"),
    ]
    assert rows[-1].line == "| `mode` | text |  | `dry` | a\\|b |"


@pytest.mark.parametrize("key", ["unsaid", "nowhere"])
def test_a_key_whose_meaning_nobody_says_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=key):
        list(rows_of({key: 0}, [Outer()], {}))
