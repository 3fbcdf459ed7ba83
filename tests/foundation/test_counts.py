"""A number of things is said as people say it."""

from __future__ import annotations

import pytest

from foundation.counts import time_text


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
