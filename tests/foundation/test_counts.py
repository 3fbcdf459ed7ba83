"""A number of things is said as people say it."""

from __future__ import annotations

from fractions import Fraction

from foundation.counts import counted, dollars_text


def test_one_is_one_thing_and_every_other_number_several() -> None:
    assert counted(1, "day") == "1 day"
    assert counted(0, "day") == "0 days"
    assert counted(1_000, "day") == "1,000 days"
    assert counted(2, "freeze of 90 days", "freezes of 90 days") == "2 freezes of 90 days"
    assert counted(1, "freeze of 90 days", "freezes of 90 days") == "1 freeze of 90 days"


def test_dollars_have_cents_where_there_are_any() -> None:
    assert dollars_text(Fraction(10_000)) == "$10,000"
    assert dollars_text(Fraction("1234.5")) == "$1,234.50"
