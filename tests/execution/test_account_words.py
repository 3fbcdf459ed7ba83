"""An account in the venue's words, field by field: what is there, what is missing, what makes
no sense.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from execution.alpaca.account import account_of, instant_of, number
from execution.orders import Account, Order
from foundation.errors import BrokerError

CLOCK = {"timestamp": "2024-03-05T12:30:20-05:00"}


def read(
    facts: dict[str, Any] | None = None,
    positions: list[dict[str, Any]] | None = None,
    orders: list[dict[str, Any]] | None = None,
) -> Account:
    return account_of({"cash": "1000", **(facts or {})}, positions or [], orders or [], CLOCK)  # type: ignore[arg-type]


def held(symbol: str, qty: str, price: str = "10", **more: Any) -> dict[str, Any]:
    return {"symbol": symbol, "qty": qty, "current_price": price, "avg_entry_price": "8", **more}


def open_order(**more: Any) -> dict[str, Any]:
    return {
        "client_order_id": "o-1",
        "symbol": "NVDA",
        "side": "buy",
        "qty": "10",
        "type": "market",
        "time_in_force": "day",
        **more,
    }


def left(**more: Any) -> Order:
    (order,) = read(None, [held("NVDA", "1", "50")], [open_order(**more)]).open_orders
    return order


def test_an_account_needs_its_cash_and_a_clock() -> None:
    account = read()
    assert (account.cash, account.equity, account.positions) == (1000.0, 1000.0, {})
    assert account.as_of == np.datetime64("2024-03-05T17:30:20", "ns")
    assert (account.leverage, account.shorting, account.blocked) == (float("inf"), True, False)
    for facts in ({}, {"cash": None}, {"cash": "much"}, {"cash": "nan"}, {"cash": "Infinity"}):
        with pytest.raises(BrokerError, match="cash is"):
            account_of(facts, [], [], CLOCK)
    for time in ("2024-03-05T12:30:20", "", None):
        with pytest.raises(BrokerError, match="the time is"):
            account_of({"cash": "1"}, [], [], {"timestamp": time})


@example(Decimal(1000), [(-1, 100, 100)], Decimal(500))
@given(
    st.decimals("-100000", "100000", places=2),
    st.lists(st.tuples(st.integers(-50, 50), st.integers(1, 400), st.integers(1, 400)), max_size=4),
    st.one_of(st.none(), st.decimals("-1000", "200000", places=2)),
)
def test_short_proceeds_and_what_is_unsettled_never_buy_a_coin(
    cash: Decimal, shares: list[tuple[int, int, int]], marginless: Decimal | None
) -> None:
    positions = [
        {"symbol": f"S{k}", "qty": str(q), "current_price": str(p), "avg_entry_price": str(entry)}
        for k, (q, p, entry) in enumerate(shares)
    ]
    facts = {"cash": str(cash)} | (
        {} if marginless is None else {"non_marginable_buying_power": str(marginless)}
    )
    account = read(facts, positions)
    sold = sum(-q * entry for q, _, entry in shares if q < 0)
    assert account.short_proceeds == pytest.approx(float(sold))
    assert account.equity == pytest.approx(float(cash) + sum(q * p for q, p, _ in shares))
    free = float(cash) - sold
    settled = free if marginless is None else float(marginless)
    assert account.unborrowed_cash == pytest.approx(max(0.0, min(free, settled)))
    assert account.unsettled >= 0


def test_what_is_neither_stock_nor_coin_counts_where_it_is_owed() -> None:
    option = {"symbol": "SPY240920C00560000", "asset_class": "us_option", "market_value": "-120.5"}
    pair = {
        "symbol": "ETHBTC",
        "asset_class": "crypto",
        "market_value": "-9.5",
        "qty": "1",
        "current_price": "1",
    }
    assert read(None, [option]).cash == 879.5
    assert read(None, [option, pair]).cash == 870.0
    assert read(None, [{**option, "market_value": "300"}]).cash == 1000.0
    assert read(None, [option, pair]).positions == {}
    coin = held("BTCUSD", "0.5", "60000", asset_class="crypto")
    assert read(None, [coin]).positions == {"BTCUSD": Decimal("0.5")}
    stock = held("ETHBTC", "2", "5", asset_class="us_equity")
    assert read(None, [stock]).positions == {"ETHBTC": Decimal(2)}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"multiplier": "4"}, (4.0, True, False)),
        ({"multiplier": "1"}, (1.0, True, False)),
        ({"shorting_enabled": False}, (float("inf"), False, False)),
        ({"shorting_enabled": None}, (float("inf"), True, False)),
        *(
            ({name: True}, (float("inf"), True, True))
            for name in ("trading_blocked", "account_blocked", "trade_suspended_by_user")
        ),
        ({"trading_blocked": None, "account_blocked": False}, (float("inf"), True, False)),
    ],
)
def test_what_an_account_may_do_is_what_the_venue_says(
    facts: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    account = read(facts)
    assert (account.leverage, account.shorting, account.blocked) == expected


def test_a_multiplier_below_one_makes_no_sense() -> None:
    with pytest.raises(BrokerError, match="multiplier is '0"):
        read({"multiplier": "0.99"})


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({}, {"side": "buy", "qty": Decimal(10), "type": "market", "tif": "day"}),
        ({"side": "sell", "filled_qty": "4"}, {"side": "sell", "qty": Decimal(6)}),
        ({"filled_qty": "0"}, {"qty": Decimal(10)}),
        (
            {"type": "limit", "limit_price": "5.5", "time_in_force": "gtc"},
            {"type": "limit", "limit_price": 5.5, "tif": "gtc"},
        ),
        (
            {"type": "stop", "stop_price": "4"},
            {"type": "stop", "stop_price": 4.0, "limit_price": None},
        ),
        (
            {"type": "stop_limit", "stop_price": "4", "limit_price": "5"},
            {"type": "stop_limit", "stop_price": 4.0, "limit_price": 5.0},
        ),
        (
            {"type": "market", "stop_price": "4", "limit_price": "5"},
            {"type": "market", "stop_price": None, "limit_price": None},
        ),
        ({"type": "limit", "limit_price": "5", "stop_price": "4"}, {"stop_price": None}),
        (
            {"type": "trailing_stop", "trail_percent": "2"},
            {"type": "trailing_stop", "trail_percent": 2.0, "trail_price": None},
        ),
        (
            {"type": "trailing_stop", "trail_price": "3", "stop_price": "47"},
            {"trail_price": 3.0, "stop_price": None},
        ),
        ({"type": "market", "trail_price": "3"}, {"trail_price": None}),
        ({"type": "brand_new", "time_in_force": "brand_new"}, {"type": "market", "tif": "day"}),
        ({"symbol": "BTC/USD", "qty": "0.5"}, {"symbol": "BTCUSD", "qty": Decimal("0.5")}),
        ({"qty": None, "notional": "100"}, {"qty": Decimal(2)}),
        (
            {"qty": None, "notional": "100", "type": "limit", "limit_price": "40"},
            {"qty": Decimal("2.5")},
        ),
        ({"qty": None, "notional": "5", "symbol": "NVDA"}, {"qty": Decimal("0.1")}),
    ],
)
def test_what_is_left_of_an_open_order_is_read(
    words: dict[str, Any], expected: dict[str, Any]
) -> None:
    order = left(**words)
    assert order.client_order_id == "o-1"
    assert {name: getattr(order, name) for name in expected} == expected


def test_an_order_that_is_done_or_of_something_else_is_none_and_one_without_a_price_is_named() -> (
    None
):
    assert (
        read(
            None, None, [open_order(filled_qty="10"), open_order(symbol="SPY240920C00560000")]
        ).open_orders
        == ()
    )
    with pytest.raises(BrokerError, match="order o-1: NVDA is ordered by value and has no price"):
        read(None, None, [open_order(qty=None, notional="100")])
    with pytest.raises(BrokerError, match="qty is 'ten'"):
        read(None, None, [open_order(qty="ten")])


def test_a_number_is_exact_and_an_instant_has_a_zone() -> None:
    assert number({"a": "0.1"}, "a") == Decimal("0.1")
    assert number({"a": -3}, "a") == Decimal(-3)
    assert instant_of("2024-03-05T17:30:20.123456Z") == np.datetime64(
        "2024-03-05T17:30:20.123456", "ns"
    )


@pytest.mark.parametrize("marginless", ["1000", "700"])
def test_a_bid_for_a_coin_is_taken_off_once_whether_the_venue_has_or_not(marginless: str) -> None:
    bid = open_order(symbol="BTCUSD", qty="3", type="limit", limit_price="100", time_in_force="gtc")
    account = read({"non_marginable_buying_power": marginless}, None, [bid])
    assert account.unborrowed_cash == 700.0
