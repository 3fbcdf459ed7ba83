"""Orders against bars, through the simulated broker."""

from __future__ import annotations

from decimal import Decimal

import numpy as np

from marketsimulator.account.terms import FillTerms
from tests.marketsimulator.accounts import (
    FLAT,
    account_in,
    coin,
    order,
    prices,
    stock,
    stock_ends,
    walk,
)


def test_stop_fills_before_profit_limit_in_one_bar() -> None:
    """Half exits at a profit limit of 105 and half at a stop of 95, in a bar that reaches both: the
    stop fills first. Short positions are symmetric.
    """
    wild = (100, 106, 94, 100)
    for enter, leave, profit, loss, sign in (
        ("buy", "sell", 105.0, 95.0, 1),
        ("sell", "buy", 95.0, 105.0, -1),
    ):
        b = stock(FLAT, wild)
        b.submit([order(enter, 10, name="in")])
        b.submit([order(leave, 5, "limit", "profit", limit_price=profit, reduces=True)])
        b.submit([order(leave, 5, "stop", "loss", stop_price=loss, reduces=True)])
        assert walk(b, 1) == [(sign * 10, 100.0), (-sign * 5, loss), (-sign * 5, profit)]


def test_triggered_stop_fills_despite_orders_submitted_later() -> None:
    b = stock(FLAT, (100, 103, 99, 102))
    bid = order("buy", 1, "limit", "bid", limit_price=50.0)
    b.submit([order("buy", 2_000, "stop", stop_price=102.0), bid])
    assert walk(b, 1) == [(2_000, 102.0)]


def test_only_good_till_cancelled_orders_outlive_the_session() -> None:
    bars = [FLAT] * 7 + [(90, 91, 89, 90)]
    for tif, fills, state in (("day", [], "expired"), ("gtc", [(10, 90.0)], "filled")):
        b = stock(*bars)
        b.submit([order("buy", 10, "limit", limit_price=95.0, tif=tif)])
        assert walk(b, 7) == fills
        assert b.order_states(["o"]) == {"o": state}


def test_unfilled_remainder_is_cancelled_or_carried_as_configured() -> None:
    bars = [(100, 101, 99, 100, 1000.0), (100, 101, 99, 100, 1000.0), (102, 103, 101, 102, 250.0)]
    cancelled = stock(*bars)
    cancelled.submit([order("buy", 150)])
    assert walk(cancelled, 2) == [(100, 100.0)]
    carried = stock(*bars, fills=FillTerms(remainder="carry"))
    carried.submit([order("buy", 150)])
    assert carried.account().projected_positions == {"AAA": Decimal(150)}
    assert walk(carried, 2) == [(100, 100.0), (25, 102.0)]
    covered = stock(*bars, fills=FillTerms(feed_volume_share=0.5))
    covered.submit([order("buy", 150)])
    assert prices(covered.fills) == [(150, 100.0)]


def test_bar_without_volume_fills_no_order() -> None:
    halted = stock(FLAT, (100, 101, 99, 100, 0.0), FLAT)
    halted.submit([order("buy", 10), order("buy", 10, "limit", "l", limit_price=99.5)])
    assert walk(halted, 1) == []
    assert walk(halted, 2) == [(10, 99.5)]
    unbounded = stock(FLAT, (100, 101, 99, 100, 0.0), fills=FillTerms(volume_share=None))
    unbounded.submit([order("buy", 10)])
    assert prices(unbounded.fills) == [(10, 100.0)]


def test_bar_without_trades_triggers_no_stop() -> None:
    fell = stock(FLAT, (95, 101, 90, 100, 0.0), FLAT)
    fell.submit(
        [order("buy", 10, "stop", stop_price=101.5), order("sell", 5, "stop", "s", stop_price=98.5)]
    )
    fell.submit([order("sell", 5, "stop_limit", "l", stop_price=98.5, limit_price=98.0)])
    assert walk(fell, 2) == []
    rose = stock(FLAT, FLAT, (100, 110, 99, 100, 0.0), (100, 101, 99, 100))
    rose.submit([order("buy", 10)])
    rose.submit([order("sell", 10, "trailing_stop", "trail", trail_price=5.0)])
    assert walk(rose, 3) == [(10, 100.0)], "the stop stands at 96"


def test_order_never_fills_on_bar_started_before_submission() -> None:
    """At 14:30 UTC a stock bar begins; the crypto bar of 14:00 is half over and must not fill an
    order sent now.
    """
    ends = stock_ends("2024-10-02", 2)
    hours = np.array(
        ["2024-10-02T14:00", "2024-10-02T15:00", "2024-10-02T16:00"], dtype="datetime64[ns]"
    )
    coins = [FLAT, (100, 101, 80, 100), (100, 101, 85, 100)]
    b = account_in({"AAA": (ends, [FLAT, FLAT]), "BTCUSD": (hours, coins)})
    b.advance(1)
    b.submit([order("buy", 1, "limit", symbol="BTCUSD", limit_price=90.0)])
    b.advance(2)
    assert b.fills == []
    b.advance(3)
    b.advance(4)
    assert prices(b.fills) == [(1, 90.0)]


def test_single_order_cannot_reverse_a_position() -> None:
    """With 10 long, a sale of 15 is refused; one submitted before the purchase sells 10 and
    ends.
    """
    b = stock(FLAT, (100, 106, 99, 104), (104, 108, 103, 104))
    b.submit([order("buy", 10), order("sell", 15, "limit", "rest", limit_price=105.0)])
    assert walk(b, 2) == [(10, 100.0), (-10, 105.0)]
    assert b.account().open_orders == ()
    late = stock(FLAT, FLAT)
    late.submit([order("buy", 10)])
    assert (
        late.submit([order("sell", 15, name="flip"), order("sell", 3, name="close")])[
            0
        ].client_order_id
        == "close"
    )
    late.submit([order("sell", 7, "limit", "rest", limit_price=105.0)])
    assert late.submit([order("sell", 4, name="more")]) == []


def test_trailing_stop_accepts_a_percentage() -> None:
    """Long from 105 with a trail of 5 %: the high of 110 raises the stop to 104.5, above 104."""
    for low, left in ((106.0, []), (104.0, [(-10, 104.5)])):
        b = stock(FLAT, (105, 110, 105, 109), (109, 109.5, low, low))
        b.submit([order("buy", 10)])
        b.submit([order("sell", 10, "trailing_stop", "trail", trail_percent=5.0)])
        assert walk(b, 2) == [(10, 105.0), *left]


def test_trailing_stop_follows_a_gapping_open() -> None:
    """With a trail of 3, a gap from 100 to 110 raises the stop to 107. The fall to 106 triggers it
    in the same bar.
    """
    b = stock(FLAT, FLAT, (110, 111, 106, 108))
    b.submit([order("buy", 10)])
    b.submit([order("sell", 10, "trailing_stop", "trail", trail_price=3.0)])
    assert walk(b, 2) == [(10, 100.0), (-10, 107.0)]


def test_auction_orders_fill_at_first_or_last_print() -> None:
    """Orders sent at 10:30 fill at 16:00 or at 09:30 the next day; limit orders fill only if the
    print is not worse.
    """
    day = [(100.0 + k, 101.0 + k, 99.0 + k, 100.5 + k) for k in range(9)]
    b = stock(*day)
    late = {"tif": "cls"}
    b.submit(
        [
            order("buy", 1, name="close", **late),
            order("buy", 2, "limit", "cheap", limit_price=90.0, **late),
        ]
    )
    b.submit(
        [
            order("buy", 4, name="open", tif="opg"),
            order("buy", 8, "limit", "low", limit_price=90.0, tif="opg"),
        ]
    )
    assert walk(b, 5) == []
    assert walk(b, 6) == [(1, 106.5)]
    assert b.order_states(["close", "cheap", "open"]) == {
        "close": "filled",
        "cheap": "expired",
        "open": "expired",
    }
    b.submit(
        [
            order("buy", 4, name="next", tif="opg"),
            order("buy", 8, "limit", "next-low", limit_price=90.0, tif="opg"),
        ]
    )
    assert walk(b, 7) == [(1, 106.5), (4, 107.0)]
    assert b.order_states(["next-low"])["next-low"] == "expired"


def test_cancelled_order_does_not_fill() -> None:
    b = stock(FLAT, FLAT, (90, 91, 89, 90))
    b.submit([order("buy", 10, "limit", limit_price=95.0)])
    b.cancel(["o"])
    assert walk(b, 2) == []


def test_crypto_accepts_no_day_or_stop_orders() -> None:
    b = coin(FLAT, FLAT)
    for wrong in (
        order("buy", 1, symbol="BTCUSD", tif="day"),
        order("buy", 1, "stop", symbol="BTCUSD", stop_price=1.0),
    ):
        assert b.submit([wrong]) == []
    assert len(b.submit([order("buy", 1, symbol="BTCUSD")])) == 2


def test_resting_order_pays_the_maker_fee() -> None:
    b = coin(FLAT, (100, 101, 90, 100))
    b.submit([order("buy", 1, "limit", symbol="BTCUSD", limit_price=95.0)])
    walk(b, 1)
    assert [float(f.qty) for f in b.fills] == [1.0, -0.0015]
