"""Orders that wait, against bars on whole dollars, where prices touch: what a second reading of
the rules says of each.
"""

# Private access: a split changes prices of waiting orders, which the book alone shows.
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from execution.orders.fees import TradingCosts
from execution.orders.lending import MarginTerms
from execution.orders.orders import Order
from marketsimulator.account.terms import FillTerms
from tests.marketsimulator.account_book import exact, to_tick
from tests.marketsimulator.accounts import (
    FLAT,
    account_on,
    order,
    orders,
    panel_of,
    stock,
    stock_ends,
    walk,
)
from trainingdata.corporate_actions import CorporateAction
from trainingdata.sessions import first_open_on_or_after

Bar = tuple[float, float, float, float]
DATE = "2024-10-02"


class Waiting:
    """One order by the words of the rules: where it fills, bar by bar, in an account that holds
    nothing else.
    """

    def __init__(self, sent: Order, cost: float, mark: float) -> None:
        self.buys = sent.side == "buy"
        self.kind = sent.type
        self.cost = cost
        self.limit = sent.limit_price or 0.0
        self.stop = sent.stop_price or 0.0
        self.behind = sent.trail_price or 0.0
        if self.kind == "trailing_stop":
            self.stop = self._trail(mark)

    def _trail(self, price: float) -> float:
        return price + self.behind if self.buys else price - self.behind

    def _follows(self, price: float) -> None:
        if self.kind == "trailing_stop":
            self.stop = (
                min(self.stop, self._trail(price))
                if self.buys
                else max(self.stop, self._trail(price))
            )

    def _pays(self, price: float) -> float:
        cost = self.cost if self.buys else -self.cost
        return float(to_tick(exact(price * (1 + cost)), self.buys))

    def _within(self, price: float) -> bool:
        return price <= self.limit if self.buys else price >= self.limit

    def _reached(self, price: float) -> bool:
        return price >= self.stop if self.buys else price <= self.stop

    def opens(self, price: float) -> float | None:
        """What it pays where a bar opens."""
        if self.kind in ("stop", "stop_limit", "trailing_stop"):
            if not self._reached(price):
                self._follows(price)
                return None
            self.kind = "limit" if self.kind == "stop_limit" else "market"
        paid = self._pays(price)
        return paid if self.kind == "market" or self._within(paid) else None

    def rest(self, high: float, low: float) -> float | None:
        """What it pays in the rest of the bar; a stop-limit that cannot fill at once waits for
        the next bar.
        """
        if self.kind == "limit":
            through = low < self.limit if self.buys else high > self.limit
            return self.limit if through else None
        better, worse = (low, high) if self.buys else (high, low)
        if not self._reached(worse):
            self._follows(better)
        if not self._reached(worse):
            return None
        paid = self._pays(self.stop)
        if self.kind == "stop_limit" and not self._within(paid):
            self.kind = "limit"
            return None
        return paid


def whole_bars(draw: Any, count: int) -> list[Bar]:
    """Bars on whole dollars, each beginning near where the last ended."""
    bars = []
    last = 100
    for _ in range(count):
        start = last + draw(st.integers(-2, 2))
        last = start + draw(st.integers(-3, 3))
        high = max(start, last) + draw(st.integers(0, 2))
        low = min(start, last) - draw(st.integers(0, 2))
        bars.append((float(start), float(high), float(low), float(last)))
    return bars


@settings(max_examples=30)
@given(st.data(), orders(), st.sampled_from([0.0, 0.01]))
def test_resting_order_fills_match_an_independent_model(
    data: Any, sent: Order, cost: float
) -> None:
    last = FLAT[3]  # the venue refuses a stop that the market has passed
    assume(sent.stop_price is None or (sent.stop_price - last) * float(sent.signed_qty) > 0)
    bars = [FLAT, *whole_bars(data.draw, 5)]
    broker = stock(*bars, costs=TradingCosts(cost * 1e4, 0, 0, 0, 0, 0))
    waiting = Waiting(sent, cost, 100.0)
    filled = None
    broker.submit([sent])
    for step, (start, high, low, _) in enumerate(bars[1:], 1):
        filled = filled or waiting.opens(start)
        assert [f.price for f in broker.fills] == (
            [] if filled is None else [pytest.approx(filled, abs=1e-9)]
        )
        broker.advance(step)
        filled = filled or waiting.rest(high, low)
        assert [f.price for f in broker.fills] == (
            [] if filled is None else [pytest.approx(filled, abs=1e-9)]
        )
        broker.open_bars()
        if step + 1 < len(bars):
            filled = filled or waiting.opens(bars[step + 1][0])
            start = bars[step + 1][0]
    assert all(abs(f.qty) == sent.qty for f in broker.fills)
    assert len(broker.fills) == (filled is not None)


@pytest.mark.parametrize(
    ("side", "qty", "kind", "price", "other", "refused"),
    [
        ("buy", 10, "limit", 100.0, ("limit", 100.0), True),
        ("sell", 10, "limit", 107.0, ("limit", 107.0), True),
        ("buy", 10, "limit", 90.0, ("limit", 91.0), False),
        ("sell", 1, "limit", 110.0, ("limit", 106.0), False),
        ("sell", 1, "limit", 106.0, ("limit", 107.0), True),
        ("sell", 10, "limit", 111.0, ("limit", 109.0), False),
        ("buy", 10, "limit", 90.0, ("market", None), True),
        ("buy", 10, "limit", 90.0, ("stop", 90.0), False),
    ],
)
def test_orders_of_one_submission_never_cross(
    side: str, qty: int, kind: str, price: float, other: tuple[str, float | None], refused: bool
) -> None:
    against, at = other
    told = {} if at is None else {f"{against}_price": at}
    opposite = order("sell" if side == "buy" else "buy", qty, against, "p", **told)
    same = order(side, qty, kind, "p", limit_price=price)
    for second, expected in ((opposite, refused), (same, False)):
        b = stock(*[(105.0, 106.0, 104.0, 105.0)] * 3)
        b.submit([order(side, qty, kind, limit_price=price), second])
        assert (b.margin_event_counts()["refusals"] == 1) is expected


def test_resting_order_needs_buying_power_or_held_crypto() -> None:
    bid = {"type_": "limit", "limit_price": 100.0}
    opens_above = (105.0, 106.0, 104.0, 105.0)

    def waits(sent: Order, capital: float) -> bool:
        b = stock(opens_above, opens_above, capital=capital)
        b.submit([sent])
        return bool(b.account().open_orders)

    assert waits(order("buy", 4_000, **bid), 100_000.0)
    assert not waits(order("buy", 4_001, **bid), 100_000.0)
    assert waits(order("buy", 0.5, **bid), 1_500.0)
    assert waits(order("buy", 15, **bid), 1_500.0)
    assert not waits(order("buy", 16, **bid), 1_500.0)
    assert not waits(order("sell", 1, "limit", limit_price=110.0), 1_500.0)
    assert waits(order("sell", 1, "limit", limit_price=110.0), 2_000.0)
    assert waits(order("buy", 13, "stop", stop_price=107.0), 1_500.0)
    assert not waits(order("buy", 14, "stop", stop_price=107.0), 1_500.0)
    assert waits(order("buy", 14, "stop_limit", stop_price=90.0 + 20, limit_price=107.0), 1_500.0)
    assert not waits(
        order("buy", 15, "stop_limit", stop_price=90.0 + 20, limit_price=107.0), 1_500.0
    )
    assert waits(order("buy", 13, tif="cls"), 1_500.0)
    assert not waits(order("buy", 14, tif="cls"), 1_500.0)
    hours = stock_ends(DATE, 3)
    b = account_on(panel_of({"BTCUSD": ([h.astype("datetime64[h]") for h in hours], [FLAT] * 3)}))
    b.submit([order("sell", 1, "limit", symbol="BTCUSD", limit_price=150.0)])
    assert b.account().open_orders == ()
    b.submit([order("buy", 1_000, "limit", "p", symbol="BTCUSD", limit_price=90.0)])
    assert len(b.account().open_orders) == 1
    b.submit([order("buy", 112, "limit", "q", symbol="BTCUSD", limit_price=90.0)])
    assert len(b.account().open_orders) == 1
    b.submit([order("buy", 111, "limit", "r", symbol="BTCUSD", limit_price=90.0)])
    assert len(b.account().open_orders) == 2
    b.submit([order("buy", 0.5, "limit", "half", symbol="BTCUSD", limit_price=1.0, tif="gtc")])
    assert len(b.account().open_orders) == 3


def test_waiting_purchases_and_short_sales_reserve_buying_power() -> None:
    """A bid for 200,000 leaves half of 4×; a closing order reserves nothing."""
    b = stock(FLAT, FLAT, FLAT)
    b.submit([order("buy", 2_000, "limit", "bid", limit_price=99.0)])
    assert float(b.submit([order("buy", 5_000, name="more")])[0].qty) == 1_961
    offers = stock(FLAT, FLAT, FLAT)
    for name in ("first", "second"):
        offers.submit([order("sell", 2_000, "limit", name, limit_price=110.0)])
    assert [o.client_order_id for o in offers.account().open_orders] == ["first"]
    c = stock(FLAT, FLAT, FLAT)
    c.submit([order("sell", 1_000, name="short")])
    c.submit([order("buy", 1_000, "limit", "cover", limit_price=90.0)])
    assert (
        float(c.submit([order("sell", 2_900, "limit", "more", limit_price=95.0)])[0].qty) == -2_900
    )


def test_orders_waiting_for_an_open_fill_in_sequence() -> None:
    """Two orders of 400 fit the buying power at 100 but not at 110: the first fills completely, the
    second as far as possible.
    """
    for shortfall, second in (("refuse", 0.0), ("cut", 317.0)):
        bars = [
            (*FLAT, 1000.0),
            (*FLAT, 1000.0),
            (110.0, 111.0, 109.0, 110.0, 1e5),
            (110.0, 111.0, 109.0, 110.0, 1e5),
        ]
        ends = stock_ends(DATE, 4)
        b = account_on(
            panel_of({"AAA": (ends, bars), "BBB": (ends, bars)}),
            fills=FillTerms(remainder="carry", shortfall=shortfall),
            margin=MarginTerms(leverage=1.0),
        )
        b.submit([order("buy", 500, name="a"), order("buy", 500, name="b", symbol="BBB")])
        at_once = [(100, 100.0), (100, 100.0)]
        assert walk(b, 1) == [*at_once, (400, 110.0), *([(second, 110.0)] if second else [])]
        assert b.fills[2].symbol == "AAA"


@pytest.fixture
def no_venue_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opposite stops and limit orders rest side by side, which the venue refuses."""
    monkeypatch.setattr("marketsimulator.account.broker.venue_refusal_reason", lambda *_: "")


@pytest.mark.usefixtures("no_venue_rules")
def test_partly_filled_stop_continues_at_the_next_open() -> None:
    """Only 100 of 150 may fill: the rest becomes a market order at any price."""
    bars = [(*FLAT, 1000.0), (100.0, 103.0, 99.0, 102.0, 1000.0), (90.0, 91.0, 89.0, 90.0, 1000.0)]
    b = stock(*bars, fills=FillTerms())
    b.submit([order("buy", 150, "stop", stop_price=102.0)])
    assert walk(b, 2) == [(100, 102.0), (50, 90.0)]
    early = stock(FLAT, FLAT, (100, 101, 94, 95), (95, 96, 90, 91))
    early.submit([order("sell", 15, "stop", stop_price=95.0)])
    early.submit([order("buy", 10, name="in", type_="limit", limit_price=100.0)])
    early.submit([order("buy", 1, "limit", "far", limit_price=50.0)])
    assert walk(early, 3) == [(10, 100.0), (-10, 95.0)]
    assert [o.client_order_id for o in early.account().open_orders] == ["far"]
    assert early.order_states(["o"])["o"] == "canceled"


@pytest.mark.usefixtures("no_venue_rules")
def test_waiting_order_never_trades_beyond_quantity_or_position() -> None:
    """A bid that three bars trade through buys once; a sale of 15 sells the 10 held at an open."""
    dips = (100.0, 101.0, 94.0, 100.0)
    b = stock(FLAT, dips, dips, dips)
    b.submit([order("buy", 10, "limit", limit_price=95.0)])
    assert walk(b, 3) == [(10, 95.0)]
    assert b.order_states(["o"]) == {"o": "filled"}
    low = (90.0, 91.0, 89.0, 90.0)
    gap = stock(FLAT, FLAT, low, low, low)
    gap.submit([order("sell", 15, "stop", stop_price=95.0)])
    gap.submit([order("buy", 10, "limit", "in", limit_price=100.0)])
    assert walk(gap, 4) == [(10, 100.0), (-10, 90.0)]
    assert gap.order_states(["o"]) == {"o": "canceled"}


@pytest.mark.usefixtures("no_venue_rules")
def test_waiting_order_prices_are_adjusted_for_corporate_actions() -> None:
    """A dividend of 2 USD and a 4-for-1 split apply at the second session's open. Bids and sell
    stops are below the market, and are lowered by 2.
    """
    opens = first_open_on_or_after(stock_ends(DATE, 8)[7].astype("datetime64[D]"))
    assert opens is not None
    actions = (
        CorporateAction("AAA", opens, dividend=2.0),
        CorporateAction("AAA", opens, split_ratio=4.0),
    )
    b = stock(
        *[FLAT] * 7, (25, 25.5, 24.5, 25), (25, 25.5, 24.5, 25), actions=actions, leverage=10.0
    )
    sent = [
        order("buy", 10, "limit", "bid", limit_price=86.0),
        order("buy", 1, "limit", "one", limit_price=86.0),
        order("sell", 10, "limit", "offer", limit_price=120.0),
        order("buy", 10, "stop", "buy-stop", stop_price=120.0),
        order("sell", 10, "stop", "sell-stop", stop_price=90.0),
        order("sell", 10, "stop_limit", "both", stop_price=90.0, limit_price=88.0),
        order("buy", 10, "trailing_stop", "trail", trail_price=12.0),
        order("buy", 3, "trailing_stop", "share", trail_percent=20.0),
    ]
    for each in sent:
        b.submit([each])
    for step in range(1, 8):
        b.advance(step)
    rows = {b._orders[row["number"]].client_order_id: row for row in b._book.orders}
    expected = {"bid": 21.0, "one": 21.0, "offer": 30.0, "both": 22.0}
    assert {name: rows[name]["limit"] for name in expected} == pytest.approx(expected)
    stops = {"buy-stop": 30.0, "sell-stop": 22.0, "both": 22.0}
    assert {name: rows[name]["stop"] for name in stops} == pytest.approx(stops)
    assert (rows["trail"]["trail"], rows["share"]["trail"], rows["share"]["trail_fraction"]) == (
        3.0,
        0.0,
        0.2,
    )
    assert {name: abs(row["quantity"]) for name, row in rows.items()} == {
        **dict.fromkeys(rows, 40.0),
        "share": 12.0,
        "one": 4.0,
    }


@pytest.mark.parametrize("increment", [1.0, 0.5])
def test_reverse_split_keeps_whole_increments_in_waiting_orders(increment: float) -> None:
    opens = first_open_on_or_after(stock_ends(DATE, 8)[7].astype("datetime64[D]"))
    assert opens is not None
    b = stock(*[FLAT] * 9, actions=(CorporateAction("AAA", opens, split_ratio=0.1),))
    b._book.holdings["increment"] = increment
    bid = order("buy", 27, "limit", "bid", limit_price=9.0)
    offer = order("sell", 27, "limit", "offer", limit_price=120.0)
    b.submit([bid, offer, order("buy", 4, "limit", "little", limit_price=8.0)])
    for step in range(1, 8):
        b.advance(step)
    left = 27 // (10 * increment) * increment
    assert [float(row["quantity"]) for row in b._book.orders] == [left, -left, 0.0]
    assert b.order_states(["little", "bid"]) == {"little": "canceled", "bid": "working"}


@pytest.mark.parametrize("price", [110.0, 90.0], ids=["waiting", "at once"])
def test_reduce_only_order_without_position_is_cancelled(price: float) -> None:
    b = stock(FLAT, (100, 112, 99, 111), (111, 112, 110, 111))
    b.submit([order("sell", 10, "limit", limit_price=price, reduces=True)])
    assert walk(b, 2) == []
    assert b.order_states(["o"]) == {"o": "canceled"}
    assert b.account().open_orders == ()


@pytest.mark.parametrize(
    ("second", "shares", "cash"),
    [({"split_ratio": 0.5}, 5, 99_500.0), ({"dividend": 1.0}, 10, 99_510.0)],
    ids=["back", "dividend"],
)
def test_corporate_actions_without_bars_apply_in_date_order(
    second: dict[str, float], shares: int, cash: float
) -> None:
    """A 2-for-1 split is followed a day later by a 1-for-2 split or a dividend of a dollar. The
    stock has no bar on either day.
    """
    ends = stock_ends("2026-06-01", 28)
    first, then = (
        first_open_on_or_after(np.datetime64(day, "D")) for day in ("2026-06-02", "2026-06-03")
    )
    assert first is not None
    assert then is not None
    actions = (
        CorporateAction("AAA", first, split_ratio=2.0),
        CorporateAction("AAA", then, **second),
    )
    for told in (actions, actions[::-1]):
        b = account_on(
            panel_of({"AAA": (np.concatenate([ends[:7], ends[21:]]), [FLAT] * 14)}), actions=told
        )
        b.submit([order("buy", 5)])
        walk(b, 13)
        assert (float(b.account().positions["AAA"]), b.account().cash) == (shares, cash)


def test_week_of_daily_splits_is_booked_completely() -> None:
    days = [
        first_open_on_or_after(np.datetime64(f"2026-06-{day:02}", "D"))
        for day in (2, 3, 4, 5, 8, 9, 10, 11)
    ]
    actions = tuple(
        CorporateAction("AAA", at, split_ratio=2.0 if k % 2 else 0.5)
        for k, at in enumerate(days)
        if at is not None
    )
    ends = stock_ends("2026-06-01", 70)
    b = account_on(
        panel_of({"AAA": (np.concatenate([ends[:7], ends[63:]]), [FLAT] * 14)}), actions=actions
    )
    b.submit([order("buy", 64)])
    walk(b, 13)
    assert float(b.account().positions["AAA"]) == 64
    assert len(b.fills) == 9


def test_closing_auction_order_never_fills_intraday() -> None:
    b = stock(FLAT, *[(100.0, 101.0, 90.0, 100.0)] * 7)
    b.submit([order("buy", 10, "limit", limit_price=95.0, tif="cls")])
    assert walk(b, 7) == []
