"""A number of things is said as people say it."""

from __future__ import annotations

import pytest

from foundation.counts import counted, time_text


def test_one_is_one_thing_and_every_other_number_several() -> None:
    assert counted(1, "day") == "1 day"
    assert counted(0, "day") == "0 days"
    assert counted(1_000, "day") == "1,000 days"
    assert counted(2, "freeze of 90 days", "freezes of 90 days") == "2 freezes of 90 days"
    assert counted(1, "freeze of 90 days", "freezes of 90 days") == "1 freeze of 90 days"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (60, "1 minute"),
        (3_605, "1 hour"),
        (90_061, "1 day 1 hour"),
        (84_737_566.9, "980 days 18 hours"),
    ],
)
def test_a_time_is_said_in_its_two_largest_units(seconds: float, said: str) -> None:
    assert time_text(seconds) == said
