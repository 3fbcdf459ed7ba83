"""What the lines say of an account: exposure in multiples of equity, profit without deposits."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.journal.marks import ReturnIndexPoint, build_mark, format_exposure_line
from execution.orders.account_snapshot import AccountSnapshot
from sizing.settings import Limits

NOON = np.datetime64("2024-03-05T17:30", "ns")
HOUR = np.timedelta64(1, "h")
DAY = np.timedelta64(24, "h")
usd = st.integers(1_000, 1_000_000).map(float)


def test_exposure_line_counts_unknown_instruments_as_stocks() -> None:
    positions = {"NVDA": Decimal(-100), "BTCUSD": Decimal("0.5"), "~XYZ": Decimal(10)}
    prices = {"NVDA": 100.0, "BTCUSD": 20_000.0, "~XYZ": 50.0}
    account = AccountSnapshot(29_500.0, positions, prices, NOON, max_leverage=4.0)
    found = build_mark(account, Limits(), 0.0)
    assert (found.equity, found.gross_stock, found.gross_crypto) == (30_000.0, 10_500.0, 10_000.0)
    assert format_exposure_line(found) == (
        "exposure: stocks 0.350x of 4x, coins 0.333x; BTCUSD +0.333, NVDA -0.333, ~XYZ +0.017"
    )


@pytest.mark.parametrize(
    ("at", "ceiling"),
    [("2024-03-05T17:30", 4.0), ("2024-03-05T21:00", 1.96), ("2024-03-09T17:30", 1.96)],
)
def test_stock_leverage_ceiling_depends_on_time_of_day(at: str, ceiling: float) -> None:
    account = AccountSnapshot(30_000.0, {}, {}, np.datetime64(at, "ns"), max_leverage=4.0)
    assert build_mark(account, Limits(), 0.0).stock_ceiling == pytest.approx(ceiling)


@given(st.lists(st.tuples(usd, st.floats(-0.5, 2.0)), min_size=1, max_size=6), usd)
def test_deposit_does_not_count_as_the_days_profit(
    days: list[tuple[float, float]], yesterday: float
) -> None:
    """The growth of each dollar is the same whatever was deposited or withdrawn."""
    plain = moved = ReturnIndexPoint.first_point(NOON - DAY, yesterday)
    for k, (equity, share) in enumerate(days):
        at = NOON + k * HOUR
        worth = float(moved.equity) * equity / float(plain.equity)
        plain = plain.next_point(at, equity, 0.0)
        moved = moved.next_point(at, worth * (1 + share), worth * share)
    assert float(moved.daily_loss) == pytest.approx(1 - days[-1][0] / yesterday, abs=1e-6)
    assert float(moved.daily_loss) == pytest.approx(float(plain.daily_loss), abs=1e-9)
