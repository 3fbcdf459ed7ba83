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

from execution.alpaca.account import account_of
from execution.orders import Account, Order
from foundation.errors import BrokerError
from trainingdata.feed.fields import an_instant, exact
from trainingdata.instruments import instrument

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
    for facts in ({}, {"cash": None}, {"cash": ""}):
        with pytest.raises(BrokerError, match="cash is missing"):
            account_of(facts, [], [], CLOCK)
    for cash in ("much", "nan", "Infinity", "1e9999999", "1e-9999999", True, [], {}):
        with pytest.raises(BrokerError, match=r"cash is .*not a number"):
            account_of({"cash": cash}, [], [], CLOCK)
    for time in ("2024-03-05T12:30:20", "soon", 5, "0001-01-01T00:00:00Z", "9999-12-31T00:00:00Z"):
        with pytest.raises(BrokerError, match="timestamp is"):
            account_of({"cash": "1"}, [], [], {"timestamp": time})
    with pytest.raises(BrokerError, match="timestamp is missing"):
        account_of({"cash": "1"}, [], [], {})


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


def test_what_options_owe_is_taken_off_cash_and_what_they_are_worth_is_not_cash_yet() -> None:
    option = {
        "symbol": "SPY240920C00560000",
        "asset_class": "us_option",
        "market_value": "-120.5",
        "qty": "-1",
    }
    assert read(None, [option]).cash == 879.5
    assert read(None, [{**option, "asset_class": None}]).cash == 879.5
    assert read(None, [{**option, "market_value": "300", "qty": "1"}]).cash == 1000.0
    for value in (None, "300"):
        with pytest.raises(BrokerError, match="SPY240920C00560000 is owed, and market_value is"):
            read(None, [{**option, "market_value": value}])
    assert read(None, [{**option, "market_value": None, "qty": "1"}]).cash == 1000.0
    assert read(None, [option]).positions == {}


def test_bought_options_stand_against_sold_ones_and_are_no_cash() -> None:
    """Thirty spreads of a net 3,000 USD leave 17,000 of 20,000; coins are bought for none of it."""
    sold = {"symbol": "SPY250620P00500000", "qty": "-30", "market_value": "-27000"}
    bought = {"symbol": "SPY250620P00495000", "qty": "30", "market_value": "24000"}
    account = read({"cash": "20000"}, [sold, bought])
    assert account.equity == 17_000
    assert account.unborrowed_cash == 0
    settled = {"cash": "20000", "non_marginable_buying_power": "2000"}
    assert read(settled, [sold, bought]).unborrowed_cash == 0
    alone = read({"cash": "20000"}, [bought])
    assert (alone.equity, alone.unborrowed_cash) == (20_000, 20_000)


@pytest.mark.parametrize("wrong", [{"qty": "91"}, {"current_price": "9.8"}, {"market_value": "1"}])
def test_a_position_whose_numbers_do_not_go_together_is_refused(wrong: dict[str, Any]) -> None:
    position = held("NVDA", "910", "10", market_value="9100")
    assert read(None, [position]).equity == 10_100
    with pytest.raises(BrokerError, match=r"NVDA: qty .* at a current_price of .* is not"):
        read(None, [{**position, **wrong}])


def test_a_position_of_a_tenth_of_the_book_is_missed() -> None:
    facts = {"long_market_value": "10000"}
    nvda = held("NVDA", "910", "10", market_value="9100")
    with pytest.raises(BrokerError, match="positions"):
        read(facts, [nvda])
    assert read(facts, [nvda, held("AAPL", "90", "10", market_value="900")]).equity == 11_000


@pytest.mark.parametrize(
    ("symbol", "more", "name"),
    [
        ("BAC.PRL", {}, "?BAC.PRL"),
        ("037833100", {}, "?037833100"),
        ("BRK B", {}, "?BRK_B"),
        ("ETHBTC", {"asset_class": "crypto"}, "?ETHBTC"),
        ("ETHBTC", {"asset_class": "us_equity"}, "ETHBTC"),
        ("BTCUSD", {"asset_class": "crypto"}, "BTCUSD"),
        ("BTCUSD", {}, "BTCUSD"),
        ("BTCUSD", {"asset_class": "us_equity"}, "?BTCUSD"),
        ("?", {}, "?_"),
    ],
)
def test_whatever_is_held_counts_at_its_last_mark(
    symbol: str, more: dict[str, Any], name: str
) -> None:
    account = read(None, [held(symbol, "-2", "5", **more), held("NVDA", "1", "50")])
    assert account.positions == {name: Decimal(-2), "NVDA": Decimal(1)}
    assert account.equity == 1000.0 - 10.0 + 50.0
    assert account.short_proceeds == 16.0
    assert instrument(name).tradable is not name.startswith("?")


@pytest.mark.parametrize(
    ("more", "price"),
    [
        ({"current_price": None, "market_value": "-30"}, 15.0),
        ({"current_price": "0", "market_value": "-30"}, 15.0),
        ({"current_price": None, "lastday_price": "9"}, 9.0),
        ({"current_price": None}, 8.0),
        ({"market_value": None}, 10.0),
    ],
)
def test_without_a_price_the_last_one_the_venue_knows_is_taken(
    more: dict[str, Any], price: float
) -> None:
    assert read(None, [held("NVDA", "-2", **more)]).prices == {"NVDA": price}


def test_what_has_no_price_at_all_is_named_and_what_is_worth_nothing_left_out() -> None:
    bare = {"symbol": "NVDA", "qty": "3"}
    with pytest.raises(BrokerError, match="the position in NVDA has no price at all"):
        read(None, [bare])
    worthless = {**bare, "current_price": "0", "market_value": "0", "avg_entry_price": "0"}
    assert read(None, [worthless]).positions == {}


def test_orders_of_others_count_whatever_they_are_called() -> None:
    orders = [
        open_order(client_order_id="from my phone, ü"),
        open_order(client_order_id="o-2", symbol="BRK B", qty="3", side="sell"),
    ]
    account = read(None, [held("BRK B", "5")], orders)
    assert [order.client_order_id for order in account.open_orders] == ["from_my_phone___", "o-2"]
    assert account.exposure == {"NVDA": 10, "?BRK_B": 2}


def test_a_list_that_lacks_what_the_account_says_is_there_is_refused() -> None:
    """What was sold short would be cash, and everything would be bought a second time."""
    facts = {"long_market_value": "500", "short_market_value": "-100"}
    short = held("SPY", "-10", "10")
    assert read(facts, [held("NVDA", "10", "50"), short]).equity == 1400.0
    assert read(facts, [held("NVDA", "10", "49.8"), short]).equity == 1398.0
    for positions in ([], [short], [held("NVDA", "10", "40"), short]):
        with pytest.raises(BrokerError, match=r"positions \(qty times price\) are worth"):
            read(facts, positions)


def test_of_what_something_else_holds_a_part_back_nothing_is_ordered() -> None:
    sale = open_order(side="sell", qty="4")
    whole = held("NVDA", "10", qty_available="6")
    assert read(None, [whole], [sale]).undetermined == frozenset()
    assert read(None, [whole]).undetermined == {"NVDA"}
    assert read(None, [held("NVDA", "-10", qty_available="-10")]).undetermined == frozenset()
    short = held("NVDA", "-10", qty_available="-6")
    assert read(None, [short], [open_order(qty="4")]).undetermined == frozenset()
    assert read(None, [short], [open_order(qty="3")]).undetermined == {"NVDA"}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, (1.0, False, False, True)),
        ({"multiplier": "4"}, (4.0, False, False, True)),
        ({"multiplier": ""}, (1.0, False, False, True)),
        ({"multiplier": None}, (1.0, False, False, True)),
        ({"shorting_enabled": True}, (1.0, True, False, True)),
        ({"shorting_enabled": False}, (1.0, False, False, True)),
        ({"crypto_status": "INACTIVE"}, (1.0, False, False, False)),
        ({"crypto_status": "ACTIVE", "status": "ACTIVE"}, (1.0, False, False, True)),
        ({"status": "ONBOARDING"}, (1.0, False, True, True)),
        *(
            ({name: True}, (1.0, False, True, True))
            for name in ("trading_blocked", "account_blocked", "trade_suspended_by_user")
        ),
        ({"trading_blocked": None, "account_blocked": False}, (1.0, False, False, True)),
    ],
)
def test_what_an_account_may_do_is_what_the_venue_says(
    facts: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    account = read(facts)
    assert (account.leverage, account.shorting, account.blocked, account.coins) == expected


@pytest.mark.parametrize(
    "facts", [{"multiplier": "0.99"}, {"multiplier": "x"}, {"shorting_enabled": "true"}]
)
def test_what_is_said_of_it_and_not_understood_is_named(facts: dict[str, Any]) -> None:
    with pytest.raises(BrokerError, match=f"{next(iter(facts))} is "):
        read(facts)


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
    with pytest.raises(BrokerError, match=r"qty is .*'ten'"):
        read(None, None, [open_order(qty="ten")])


def test_a_number_is_exact_and_an_instant_has_a_zone() -> None:
    assert exact("0.1") == Decimal("0.1")
    assert exact(-3) == Decimal(-3)
    assert an_instant("2024-03-05T17:30:20.123456Z") == np.datetime64(
        "2024-03-05T17:30:20.123456", "ns"
    )


@pytest.mark.parametrize("marginless", ["1000", "700"])
def test_a_bid_for_a_coin_is_taken_off_once_whether_the_venue_has_or_not(marginless: str) -> None:
    bid = open_order(symbol="BTCUSD", qty="3", type="limit", limit_price="100", time_in_force="gtc")
    account = read({"non_marginable_buying_power": marginless}, None, [bid])
    assert account.unborrowed_cash == 700.0
