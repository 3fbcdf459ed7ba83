"""Who waits is told until when, for what, and why not for everything."""

from __future__ import annotations

import numpy as np
import pytest

from execution.live.waiting import waiting_line

BOTH = ("NVDA", "BTCUSD")


@pytest.mark.parametrize(
    ("due", "symbols", "line"),
    [
        (
            "2024-10-05T15:00",
            BOTH,
            "15:00Z, coins only: stocks are shut, again at 2024-10-07T14:30Z.",
        ),
        ("2024-10-01T15:00", BOTH, "15:00Z, coins only: stocks again at 2024-10-01T15:30Z."),
        ("2024-10-01T15:30", BOTH, "15:30Z, stocks only: coins again at 2024-10-01T16:00Z."),
        ("2024-10-01T15:30", ("NVDA",), "15:30Z."),
        ("2024-10-05T15:00", ("BTC/USD",), "15:00Z."),
        ("2024-10-01T19:45", BOTH, "19:45Z."),
    ],
)
def test_a_pass_is_announced_with_what_may_be_decided_then(
    due: str, symbols: tuple[str, ...], line: str
) -> None:
    at = np.datetime64(due, "ns")
    assert waiting_line(at, symbols) == f"The next pass is at {due[:11]}{line}"
