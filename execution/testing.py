"""Contract tests for brokers; tests of a custom broker subclass them.

    class TestMine(BrokerContract):
        @pytest.fixture
        def bench(self):
            yield BrokerBench(my_broker, bars, move_to)

pytest runs every scenario on the fixture `bench`. It provides an account with 100,000 USD and no
positions, at 10:30 New York. The venue trades the symbols of the bars: SYA and SYB (stocks) and
SYXUSD (crypto).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from execution.orders.broker import Broker, place_orders
from execution.orders.orders import Order
from trainingdata.bars import OPEN, Bars

BENCH_START = np.datetime64("2024-02-20T15:30", "ns")
NEXT_FULL_HOUR = np.datetime64("2024-02-20T16:00", "ns")
SECOND_BAR_START = np.datetime64("2024-02-20T16:30", "ns")
HOUR = np.timedelta64(1, "h")
CASH_TOLERANCE_USD = 0.05  # USD by which an account's cash may differ from a sum of prices


@dataclass
class BrokerBench:
    """A broker under test at 10:30 New York, 2024-02-20, and the clock of its venue.

    broker: broker under test.
    bars: bars of the venue's symbols, including later hours.
    move_to: function that moves the venue's clock to `bars.times[index]`.
    """

    broker: Broker
    bars: Bars
    move_to: Callable[[int], object]

    def advance(self, to: np.datetime64) -> None:
        """Move the venue's clock to an instant."""
        self.move_to(int(np.searchsorted(self.bars.times, to)))

    def open_price(self, symbol: str, at: np.datetime64) -> float:
        """Return the open of the bar that starts at an instant."""
        times, values = self.bars.bars_of_symbol(self.bars.symbols.index(symbol))
        return float(values[np.searchsorted(times, at + HOUR), OPEN])


def make_order(
    client_order_id: str, symbol: str = "SYA", side: Any = "buy", qty: str = "10", **more: Any
) -> Order:
    """Return a test order with the given id."""
    return Order(client_order_id, symbol, side, Decimal(qty), "test", **more)


class BrokerContract:
    """Scenarios that every broker has to pass; a subclass defines the fixture `bench`."""

    def test_market_order_fills_once_at_next_open(self, bench: BrokerBench) -> None:
        bought, sold = bench.broker.submit(
            [make_order("a-1"), make_order("b-1", "SYB", "sell", "3")]
        )
        assert bought.price >= bench.open_price("SYA", BENCH_START)
        assert sold.price <= bench.open_price("SYB", BENCH_START)
        assert (bought.qty, sold.qty) == (Decimal(10), Decimal(-3))
        account = bench.broker.account()
        assert account.positions == {"SYA": Decimal(10), "SYB": Decimal(-3)}
        spent = 10 * bought.price - 3 * sold.price
        assert math.isclose(account.cash, 100_000 - spent, abs_tol=CASH_TOLERANCE_USD, rel_tol=0)
        assert math.isclose(account.short_proceeds, 3 * sold.price, abs_tol=0.01, rel_tol=0)
        unborrowed = 100_000 - 10 * bought.price
        assert math.isclose(
            account.unborrowed_cash, unborrowed, abs_tol=CASH_TOLERANCE_USD, rel_tol=0
        )
        bench.broker.submit([make_order("a-1")])
        assert bench.broker.account().positions == account.positions

    def test_crypto_pays_its_fee_in_crypto(self, bench: BrokerBench) -> None:
        early = make_order("early-1", "SYXUSD", qty="1", tif="gtc")
        assert bench.broker.submit([early]) == []
        assert bench.broker.account().open_orders == ()
        bench.advance(NEXT_FULL_HOUR)
        bench.broker.submit([make_order("coin-1", "SYXUSD", qty="1", tif="gtc")])
        assert bench.broker.account().positions == {"SYXUSD": Decimal("0.9975")}

    def test_limit_order_rests_is_listed_and_cancelled(self, bench: BrokerBench) -> None:
        low = round(bench.open_price("SYA", BENCH_START) * 0.5, 2)
        resting = make_order("low-1", type="limit", limit_price=low, tif="gtc")
        assert bench.broker.submit([resting]) == []
        (listed,) = bench.broker.account().open_orders
        assert (listed.client_order_id, listed.qty) == ("low-1", Decimal(10))
        assert listed.limit_price == low
        assert bench.broker.account().projected_positions == {"SYA": Decimal(10)}
        bench.broker.cancel(["nobody-1", "low-1"])
        bench.broker.cancel(["low-1"])
        assert bench.broker.account().open_orders == ()

    def test_reducing_orders_fill_before_opening_orders(self, bench: BrokerBench) -> None:
        bench.broker.submit([make_order("a-1")])
        bench.advance(SECOND_BAR_START)
        closing = make_order("a-2", side="sell", reduces=True)
        fills, _ = place_orders(bench.broker, [closing, make_order("b-2", "SYB", qty="4")])
        assert [(each.symbol, each.qty) for each in fills] == [
            ("SYA", Decimal(-10)),
            ("SYB", Decimal(4)),
        ]

    def test_assets_report_tradable_shortable_and_quantity_increment(
        self, bench: BrokerBench
    ) -> None:
        for more in (0, 60):
            names = ["SYA", "SYXUSD", "NOPE", *(f"N{k}" for k in range(more))]
            found = bench.broker.assets(names)
            assert set(found) == {"SYA", "SYXUSD"}
            assert found["SYA"].tradable
            assert found["SYA"].shortable
            assert not found["SYXUSD"].shortable
            assert 0 < found["SYXUSD"].increment <= Decimal("0.001")

    def test_orders_a_venue_would_reject_are_not_sent(
        self, bench: BrokerBench, caplog: Any
    ) -> None:
        bench.broker.submit([make_order("in-1")])
        low = round(bench.open_price("SYB", BENCH_START) * 0.5, 2)
        bid = make_order("bid-1", "SYB", type="limit", limit_price=low, tif="gtc")
        bench.broker.submit([bid])
        before = bench.broker.account()
        whale = make_order("whale-1", "SYXUSD", qty="100000", tif="gtc")
        for wrong, why in (
            (
                make_order("flip-1", side="sell", qty="11"),
                "close the position before opening the opposite",
            ),
            (whale, r"exceeds the maximum for a crypto order, \$200,000"),
            (make_order("wash-1", "SYB", side="sell"), "a wash trade"),
        ):
            caplog.clear()
            assert bench.broker.submit([wrong]) == []
            assert re.search(why, caplog.text), wrong
        after = bench.broker.account()
        assert after.positions == before.positions
        assert after.open_orders == before.open_orders
        assert after.cash == before.cash
