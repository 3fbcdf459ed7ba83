"""A day that is decided a quarter of an hour before its close and filled in the closing auction."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from execution.decision.rebalancing import rebalance
from execution.orders.lending import MarginTerms
from execution.orders.orders import Order, TimeInForce
from foundation.errors import InputError
from tests.marketsimulator.accounts import account_on
from tests.marketsimulator.runs import settings_of
from tests.support.messages import refused
from trainingdata.bars import build_panel
from trainingdata.corporate_actions import CorporateAction
from trainingdata.instruments import instrument
from trainingdata.timeframe import FillTime, Timeframe

CLOSING = Timeframe("1d", fill="close")
STOCK = instrument("AAA")


def test_closing_auction_position_earns_dividend_and_pays_interest() -> None:
    """A position is bought on Tuesday at 100 on margin: interest applies to Tuesday's fill, and
    Wednesday's sale fills at Wednesday's close.
    """
    ends = CLOSING.stock_clock.ends
    times = ends[(ends > np.datetime64("2024-10-01")) & (ends < np.datetime64("2024-10-05"))]
    # From the close before until 15:45: open, high, low, close, volume.
    rows = [[90, 99, 89, 95], [100, 120, 99, 110], [112, 115, 70, 80], [81, 82, 80, 81]]
    values = np.array([[*row, 1e9] for row in rows], dtype=float)
    bars = build_panel([(STOCK, times, values)], "by hand", CLOSING)
    opens = np.datetime64("2024-10-02T13:30", "ns")
    broker = account_on(bars, 10_000.0, actions=(CorporateAction("AAA", opens, dividend=1.0),))

    broker.submit([Order("b", "AAA", "buy", Decimal(150), "test", tif="cls")])
    assert not broker.fills
    broker.advance(1)
    (bought,) = broker.fills
    assert (bought.price, bought.at) == (100.0, np.datetime64("2024-10-01T20:00"))
    row = broker.equity_row()
    (rate,) = MarginTerms().interest_rate_on(np.array(["2024-10-01"], dtype="datetime64[D]"))
    interest = 5_000.0 * rate / 360
    assert row.interest == pytest.approx(interest, abs=0.01)
    assert row.dividends == 150.0
    assert row.equity == pytest.approx(10_000 + 150 * 10 + 150 - row.interest, abs=0.01)

    broker.submit([Order("s", "AAA", "sell", Decimal(150), "test", reduces=True, tif="cls")])
    broker.advance(2)
    sold = broker.fills[-1]
    assert (sold.price, sold.at) == (112.0, np.datetime64("2024-10-02T20:00"))
    broker.advance(3)
    assert broker.equity_row().interest == 0.0


@pytest.mark.parametrize(("fill", "tif"), [("open", "opg"), ("close", "cls")])
def test_daily_auction_order_closes_before_reversing_the_position(
    fill: FillTime, tif: TimeInForce
) -> None:
    move = [STOCK], [Decimal(10)], [Decimal(-5)], [float("inf")], ["test"]
    (order,) = rebalance("x", np.datetime64("2024-10-01T20:00"), *move, Timeframe("1d", fill))
    assert (order.tif, order.qty, order.side, order.reduces) == (tif, 10, "sell", True)


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (["fill=close", "timeframe=15m"], ("timeframe=1d",)),
        (["fill=close", "timeframe=1d", "data.adjustment=raw"], ()),
    ],
)
def test_auction_fill_with_incompatible_settings_is_refused(
    words: list[str], facts: tuple[str, ...]
) -> None:
    with refused(InputError, *facts):
        settings_of(*words)
