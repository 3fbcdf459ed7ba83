"""An account in the venue's words, field by field: what is there, what lacks, what is senseless."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from execution.alpaca.account import AccountResponses, parse_account_reading
from execution.alpaca.holdings import read_positions
from execution.alpaca.order_venue import build_order_request
from execution.alpaca.placed_order import AlpacaOrder
from execution.brokers import AccountReading, VenuePosition
from execution.journal.order_store import OrderIntent
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.option_orders import is_option
from execution.orders.orders import Order, Side
from execution.orders.venue_rules import ACCOUNT_BLOCKED_TEXT
from foundation.decimals import INFINITY
from foundation.errors import BrokerError, InvalidResponse
from tests.execution.scripted_venue import Ours, broker_at
from tests.support import orders as shapes
from tests.support.messages import refused
from trainingdata.instruments import instrument

CLOCK = {"timestamp": "2024-03-05T12:30:20-05:00"}
OPTION = {"symbol": "SPY240920C00560000", "asset_class": "us_option"}
MOVING = {"cash": "1000", "long_market_value": "100000", "short_market_value": "0"}


def read(
    facts: dict[str, Any] | None = None,
    positions: list[dict[str, Any]] | None = None,
    orders: list[dict[str, Any]] | None = None,
) -> AccountSnapshot:
    answers = AccountResponses(
        {"cash": "1000", **(facts or {})}, positions or [], orders or [], CLOCK
    )
    return parse_account_reading(replace(answers, sent_orders=Ours())).account


def held(symbol: str, qty: str, price: str = "10", **more: Any) -> dict[str, Any]:
    return {"symbol": symbol, "qty": qty, "current_price": price, "avg_entry_price": "8", **more}


def worth(symbol: str, qty: str, value: str | None, **more: Any) -> dict[str, Any]:
    return {"symbol": symbol, "qty": qty, "market_value": value, **more}


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


def test_account_is_refused_without_a_valid_clock_timestamp() -> None:
    account = read()
    assert (account.cash, account.equity, account.positions) == (1000.0, 1000.0, {})
    assert account.as_of == np.datetime64("2024-03-05T17:30:20", "ns")
    for at in ("2024-03-05T12:30:20", "0001-01-01T00:00:00Z", "9999-01-01T00:00:00Z"):
        with refused(BrokerError, "timestamp"):
            parse_account_reading(AccountResponses({"cash": "1000"}, [], [], {"timestamp": at}))


@example(Decimal(1000), [(-1, 100, 100)], Decimal(500))
@given(
    st.decimals("-100000", "100000", places=2),
    st.lists(st.tuples(st.integers(-50, 50), st.integers(1, 400), st.integers(1, 400)), max_size=4),
    st.one_of(st.none(), st.decimals("-1000", "200000", places=2)),
)
def test_short_and_unsettled_proceeds_never_buy_crypto(
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
    assert account.unborrowed_cash == pytest.approx(min(free, settled))
    assert account.unsettled_proceeds >= 0


def test_short_options_reduce_cash_while_long_add_none() -> None:
    owed = {**OPTION, "qty": "-1", "market_value": "-120.5"}
    bought = {**OPTION, "qty": "1", "market_value": "300"}
    account = read(None, [owed])
    assert (account.cash, account.positions) == (879.5, {})
    assert read(None, [{**owed, "asset_class": None}]).cash == 879.5
    for position in (bought, {**bought, "market_value": None}):
        assert read(None, [position]).cash == 1000.0
    with refused(BrokerError, "SPY240920C00560000", "qty -1", "market_value", "300"):
        read(None, [{**bought, "qty": "-1"}])


def test_long_options_offset_short_ones_without_adding_cash() -> None:
    """Thirty spreads with a net value of 3,000 USD leave 17,000 of 20,000, none of which buys
    crypto. Their reserve is no debt that proceeds of crypto repay; a loan is, and is repaid first.
    """
    sold = worth("SPY250620P00500000", "-30", "-27000")
    bought = worth("SPY250620P00495000", "30", "24000")
    account = read({"cash": "20000"}, [sold, bought])
    assert account.equity == 17_000
    assert account.unborrowed_cash == account.with_reserved_collateral(15_000).unborrowed_cash == 0
    settled = {"cash": "20000", "non_marginable_buying_power": "2000"}
    assert read(settled, [sold, bought]).unborrowed_cash == 0
    alone = read({"cash": "20000"}, [bought])
    assert (alone.equity, alone.unborrowed_cash) == (20_000, 20_000)
    nvda = [held("NVDA", "910", "10")]
    assert read({"cash": "-3000"}, nvda).unborrowed_cash == -3_000
    lent = {"cash": "-3000", "non_marginable_buying_power": "-5000"}
    assert read(lent, nvda).unborrowed_cash == -5_000


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
def test_unknown_instruments_are_valued_at_their_last_mark(
    symbol: str, more: dict[str, Any], name: str
) -> None:
    account = read(None, [held(symbol, "-2", "5", **more), held("NVDA", "1", "50")])
    assert account.positions == {name: Decimal(-2), "NVDA": Decimal(1)}
    assert account.equity == 1000.0 - 10.0 + 50.0
    assert account.short_proceeds == 16.0
    assert instrument(name).is_tradable is not name.startswith("?")


@pytest.mark.parametrize(
    ("more", "price"),
    [
        ({"current_price": None, "market_value": "-30"}, 15.0),
        ({"current_price": "0", "market_value": "-30"}, 15.0),
        ({"current_price": None, "lastday_price": "9"}, 9.0),
        ({"market_value": None}, 10.0),
    ],
)
def test_missing_price_falls_back_to_the_last_known(more: dict[str, Any], price: float) -> None:
    assert read(None, [held("NVDA", "-2", **more)]).prices == {"NVDA": price}
    bond = held("912797GK7", "1000", "98.5", market_value="985", asset_class="us_treasury")
    assert [*read(None, [bond]).prices.values()] == [0.985], "it is priced for a hundred"


NOTHING_SAID = {"symbol": "NVDA", "qty": "3"}
WORTH_NOTHING = {"current_price": "0", "market_value": "0", "avg_entry_price": "0"}
LONG = {"equity": "1050", "long_market_value": "50", "short_market_value": "0"}


def of_a_feed(
    positions: list[dict[str, Any]], facts: Mapping[str, str], **last: float
) -> AccountReading:
    answers = AccountResponses({"cash": "1000", **facts}, positions, [], CLOCK, last_prices=last)
    return parse_account_reading(answers)


@pytest.mark.parametrize("bare", [NOTHING_SAID, {**NOTHING_SAID, **WORTH_NOTHING}])
@pytest.mark.parametrize("sign", ["", "-"])
def test_unpriced_position_is_quarantined_without_a_last_trade(
    bare: dict[str, Any], sign: str
) -> None:
    odd = {**bare, "qty": f"{sign}3"}
    reading = of_a_feed([odd, held("SPY", "1", "50")], {})
    assert reading.unpriced_quantities == {"NVDA": Decimal(f"{sign}3")}
    assert dict(reading.account.positions) == {"SPY": 1}
    assert reading.account.uncertain_symbols == {"NVDA"}, "nothing is ordered of it"
    if "market_value" not in bare:
        traded = of_a_feed([odd, held("SPY", "1", "50")], {}, NVDA=20.0)
        assert (traded.unpriced_quantities, traded.account.uncertain_symbols) == ({}, frozenset())
        assert dict(traded.account.positions) == {"SPY": 1, "NVDA": int(f"{sign}3")}
        assert traded.account.equity == 1050 + int(f"{sign}60")


def test_market_value_totals_must_match_the_priced_positions() -> None:
    spy, sold = held("SPY", "1", "50"), held("NVDA", "-4", "10")
    off = {**LONG, "long_market_value": "90", "equity": "1090"}
    for positions in ([spy], [spy, {**NOTHING_SAID, **WORTH_NOTHING}]):
        assert of_a_feed(positions, LONG).account.equity == 1050
        with refused(InvalidResponse, "long_market_value"):
            of_a_feed(positions, off)
    assert of_a_feed([spy, NOTHING_SAID], off).account.equity == 1050
    short = {**LONG, "short_market_value": "-40", "equity": "1010"}
    with refused(InvalidResponse, "short_market_value"):
        of_a_feed([spy, NOTHING_SAID], short)
    assert of_a_feed([spy, sold], short).account.equity == 1010
    with refused(InvalidResponse, "equity", "$1,090.00", "cash $1,000.00"):
        of_a_feed([spy, sold], {**short, "equity": "1090"})


@pytest.mark.parametrize(
    ("more", "place", "why"),
    [
        ({"side": "cross"}, "NVDA", "side is not buy or sell"),
        ({"qty": None}, "NVDA", "qty and notional are both missing"),
        ({"qty": "-4"}, "NVDA", "qty is below 0"),
        ({"qty": "ten"}, "NVDA", "qty is not a number"),
        ({"qty": "3", "filled_qty": "5"}, "NVDA", "filled_qty 5 exceeds qty 3"),
        ({"limit_price": "soon"}, "NVDA", "limit_price is not a number"),
        ({"symbol": 5}, "?5", "symbol is not text"),
        ({"symbol": "BTC/USD", "side": None}, "BTCUSD", "side is missing"),
        ({"symbol": "SPY240920P00560000", "side": "?"}, "SPY240920P00560000", "side is not buy"),
    ],
)
def test_malformed_open_order_is_quarantined_only_if_manual(
    more: dict[str, Any], place: str, why: str
) -> None:
    sound, odd = open_order(), open_order(client_order_id="odd", **more)
    answers = AccountResponses({"cash": "1000"}, [held("NVDA", "1", "50")], [sound, odd], CLOCK)
    with pytest.raises(BrokerError, match=why):
        parse_account_reading(replace(answers, sent_orders=Ours()))
    reading = parse_account_reading(answers)
    assert [order.client_order_id for order in reading.account.open_orders] == ["o-1"]
    (other,) = reading.unmodelled_orders
    assert (other.client_order_id, other.instrument_name, other.max_loss_usd) == (
        "odd",
        place,
        INFINITY,
    )
    assert why in other.unreadable_reason


@pytest.mark.parametrize("symbol", ["NVDA", "BTCUSD", "SPY240920C00560000"])
@pytest.mark.parametrize(
    ("qty", "value", "side"),
    [
        ("3", "-33", "short"),
        ("3", "-33", None),
        ("3", None, "short"),
        ("-3", "33", "long"),
        ("-3", None, "long"),
        ("-3", "33", "short"),
        ("-3", "-33", "long"),
        ("0", "-33", None),
        ("-3", "-33", "sell"),
    ],
)
def test_position_with_contradicting_sides_is_refused_by_name(
    symbol: str, qty: str, value: str | None, side: str | None
) -> None:
    facts = ("side", "'sell'") if side == "sell" else (symbol, "qty", "side")
    with refused(InvalidResponse, *facts):
        read(None, [held(symbol, qty, "11", market_value=value, side=side)])
    for unvalued_sides in (None, "", "short"):
        short = held("NVDA", "-3", "11", market_value="-33", side=unvalued_sides)
        assert read(None, [short]).positions == {"NVDA": Decimal(-3)}


@pytest.mark.parametrize(
    ("positions", "field"),
    [
        ([("SPY", "-10", "10")], "long_market_value"),
        ([("NVDA", "10", "500"), ("SPY", "-10", "10")], "long_market_value"),
        ([("NVDA", "10", "50"), ("SPY", "-10", "100")], "short_market_value"),
        ([("NVDA", "10", "50")], "short_market_value"),
        ([("NVDA", "1", "100"), ("SPY", "-50", "10")], "long_market_value"),
    ],
)
def test_long_and_short_values_must_match_the_account(
    positions: list[tuple[str, str, str]], field: str
) -> None:
    """Otherwise the value of shorts would count as cash, and everything would be bought twice."""
    facts = {"long_market_value": "500", "short_market_value": "-100"}
    short = held("SPY", "-10", "10")
    assert read(facts, [held("NVDA", "10", "50"), short]).equity == 1400.0
    assert read(facts, [held("NVDA", "10", "49.9"), short]).equity == 1399.0
    with refused(InvalidResponse, field):
        read(facts, [held(*each) for each in positions])
    for quantity, side in (("10", "long"), ("-10", "short")):
        with refused(InvalidResponse, f"{side}_market_value", "$0"):
            read(dict.fromkeys(facts, "0"), [held("NVDA", quantity, "50")])


@pytest.mark.parametrize(
    ("price", "accepted"),
    [("99.91", 0), *((near, 1) for near in ("99.2", "100.8")),
     *((far, None) for far in ("98.9", "101.1", "1000"))],
)  # fmt: skip
def test_small_price_moves_between_responses_are_accepted(
    price: str, accepted: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    broker, venue, *_ = broker_at(positions=[[held("SYA", "1000", price)]], account=[MOVING])
    if accepted is None:
        with refused(BrokerError, "long_market_value"):
            broker.account()
        return
    assert broker.account().positions == {"SYA": Decimal(1000)}
    assert venue.times("positions") == 1 + accepted
    said = [
        record.message for record in caplog.records if "accepted as price moves" in record.message
    ]
    assert len(said) == accepted


# Responses as the reference and users show them.
SOUND = [
    ("1000.00", "7000.00", "-3000.00", "5000.00"),
    ("-23140.2", "126960.76", "0", "103820.56"),
    ("122086.5", "1259.61", "0", "123346.11"),
    ("5.92", "42.68", "0", "48.6"),
]


@pytest.mark.parametrize(("cash", "long", "short", "equity"), SOUND)
def test_reported_equity_must_equal_cash_plus_position_values(
    cash: str, long: str, short: str, equity: str
) -> None:
    positions = [held("NVDA", "1", long), held("SPY", "-1", short.removeprefix("-"))]
    facts = {"cash": cash, "long_market_value": long, "short_market_value": short}
    assert read({**facts, "equity": equity}, positions).cash == float(cash)
    for other in (str(Decimal(cash) * 10), str(-Decimal(cash))):
        with pytest.raises(InvalidResponse, match=r"equity \$.* is not the sum of cash \$"):
            read({**facts, "cash": other, "equity": equity}, positions)
    for missing in ("equity", "long_market_value", "short_market_value"):
        for value in ("", None):
            assert read({**facts, "equity": equity, missing: value}, positions)


@pytest.mark.parametrize(
    ("facts", "positions"),
    [
        ("50000 0 0 100000", [held("BTCUSD", "0.5", "100000", asset_class="crypto")]),
        (
            "20000 0 0 18000",
            [
                worth("SPY260320P00500000", "-10", "-3000"),
                worth("SPY260320P00495000", "10", "1000"),
            ],
        ),
        ("20000 0 0 40000", [worth("BAC.PRL", "1000", None, lastday_price="20")]),
        *(
            ("20000 20000 0 40000", [worth("BAC.PRL", "1000", "0", lastday_price="20", **price)])
            for price in ({}, {"current_price": "0"})
        ),
        ("20000 0 0 20000", [held("BAC.PRL", "1000", "2")]),
        ("1000 9910 0 10910", [worth("912797KJ5", "10000", "9910", current_price="99.1")]),
    ],
    ids=["crypto_enabled", "options", "no price", "no worth", "zeros", "foreign", "a bond"],
)
def test_equity_check_tolerates_unverifiable_crypto_and_option_totals(
    facts: str, positions: list[dict[str, Any]]
) -> None:
    """Which instruments other than stocks Alpaca includes in its totals could not be verified."""
    names = ("cash", "long_market_value", "short_market_value", "equity")
    said = dict(zip(names, facts.split(), strict=True))
    assert read(said, positions).cash <= float(said["cash"])
    with refused(InvalidResponse, "equity"):
        read({**said, "cash": "900000"}, positions)


def test_cash_already_reduced_by_open_bids_is_accepted() -> None:
    """Equity still includes the reserved cash, as observed at the live venue."""
    facts = {"cash": "400", "equity": "1000", "long_market_value": "0", "short_market_value": "0"}
    bid = open_order(symbol="BTC/USD", qty="3", type="limit", limit_price="200")
    assert read(facts, None, [bid]).cash == 400.0
    assert read(facts, None, [open_order(symbol="SPY", qty="3")]).cash == 400.0, "of no known price"
    assert read(facts, None, [open_order(symbol=None, legs=[])]).cash == 400.0, "of options"
    for orders in ([], [{**bid, "side": "sell"}], [{**bid, "qty": "2"}]):
        with refused(InvalidResponse, "equity"):
            read(facts, None, orders)
    with refused(InvalidResponse, "equity"):
        read({**facts, "cash": "1600"}, None, [bid])


def test_cash_being_withdrawn_keeps_the_account_readable(caplog: pytest.LogCaptureFixture) -> None:
    facts = {"long_market_value": "0", "short_market_value": "0", "equity": "100000"}
    less: Any = {**facts, "cash": "95000"}
    with refused(InvalidResponse, "equity"):
        parse_account_reading(AccountResponses(less, [], [], CLOCK))
    assert (
        parse_account_reading(AccountResponses(less, [], [], CLOCK, is_reread=True)).account.equity
        == 95_000.0
    )
    assert "accepted as a withdrawal" in caplog.text
    more: Any = {**facts, "cash": "105000"}
    with refused(InvalidResponse, "equity"):
        parse_account_reading(AccountResponses(more, [], [], CLOCK, is_reread=True))


@pytest.mark.parametrize(
    ("qty", "free", "waits", "odd"),
    [
        ("10", "6", {"side": "sell", "qty": "4"}, False),
        ("10", "6", None, True),
        ("-10", "-10", None, False),
        ("-10", "-6", {"qty": "4"}, False),
        ("-10", "-6", {"qty": "3"}, True),
    ],
)
def test_partly_unavailable_position_is_not_traded(
    qty: str, free: str, waits: dict[str, str] | None, odd: bool
) -> None:
    orders = [] if waits is None else [open_order(**waits)]
    account = read(None, [held("NVDA", qty, qty_available=free)], orders)
    assert account.uncertain_symbols == ({"NVDA"} if odd else frozenset())


@pytest.mark.parametrize(
    ("facts", "changed"),
    [
        *(({"multiplier": said}, {}) for said in ("", None)),
        ({"multiplier": "4"}, {"max_leverage": 4.0}),
        ({"shorting_enabled": True}, {"is_shorting_enabled": True}),
        ({"shorting_enabled": False}, {}),
        ({"crypto_status": "INACTIVE"}, {"is_crypto_enabled": False}),
        ({"crypto_status": "ACTIVE", "status": "ACTIVE"}, {}),
        ({"status": "ONBOARDING"}, {"block_reason": f"{ACCOUNT_BLOCKED_TEXT}: it is ONBOARDING"}),
        *(
            ({name: True}, {"block_reason": f"{ACCOUNT_BLOCKED_TEXT}: it has {name}"})
            for name in ("trading_blocked", "account_blocked", "trade_suspended_by_user")
        ),
        ({"trading_blocked": None, "account_blocked": False}, {}),
        *(({"multiplier": said}, None) for said in ("0.99", "x")),
        *(
            ({name: said}, None)
            for name, said in (("shorting_enabled", "true"), ("currency", "EUR"))
        ),
    ],
)
def test_account_permissions_are_parsed_from_venue_response(
    facts: dict[str, Any], changed: dict[str, Any] | None
) -> None:
    if changed is None:  # the field is present but unreadable
        with refused(BrokerError, next(iter(facts))):
            read(facts)
        return
    account = read(facts)
    expected = {
        "max_leverage": 1.0,
        "is_shorting_enabled": False,
        "block_reason": "",
        "is_crypto_enabled": True,
        **changed,
    }
    assert {name: getattr(account, name) for name in expected} == expected


STATUSES = (
    *("INACTIVE", "PAPER_ONLY", "ONBOARDING", "SUBMISSION_FAILED", "SUBMITTED", "ACCOUNT_UPDATED"),
    *("APPROVAL_PENDING", "ACTIVE", "REJECTED", "ACCOUNT_CLOSED", "APPROVED"),
    *("ACCOUNT_CLOSED_PENDING", "ACTION_REQUIRED", "LIMITED", "BRAND_NEW"),
)


@pytest.mark.parametrize("paper", [True, False])
@pytest.mark.parametrize("status", STATUSES)
def test_paper_only_accounts_trade_on_paper(status: str, paper: bool) -> None:
    trades = status == "ACTIVE" or (paper and status == "PAPER_ONLY")
    facts = {"cash": "1000", "status": status, "crypto_status": status}
    account = parse_account_reading(AccountResponses(facts, [], [], CLOCK, is_paper=paper)).account
    assert account.is_crypto_enabled is trades
    assert account.block_reason == ("" if trades else f"{ACCOUNT_BLOCKED_TEXT}: it is {status}")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"side": "sell", "filled_qty": "4"}, {"side": "sell", "qty": 6}),
        (
            {"stop_price": "4", "limit_price": "5", "trail_price": "3"},
            {"type": "market", "stop_price": None, "limit_price": None, "trail_price": None},
        ),
        ({"type": "stop", "stop_price": "4", "limit_price": "5"}, {"limit_price": None}),
        ({"type": "limit", "limit_price": "5", "stop_price": "4"}, {"stop_price": None}),
        (
            {"type": "trailing_stop", "trail_price": "3", "stop_price": "47"},
            {"trail_price": 3.0, "stop_price": None},
        ),
        ({"type": "brand_new", "time_in_force": "brand_new"}, {"type": "market", "tif": "day"}),
        *(
            (
                {"type": "trailing_stop", "filled_qty": "4", **trail},
                {"type": "market", "qty": 6, "trail_price": None, "trail_percent": None},
            )
            for trail in ({}, {"trail_price": "3", "trail_percent": "2"})
        ),
        ({"symbol": "BTC/USD", "qty": "0.5"}, {"symbol": "BTCUSD", "qty": Decimal("0.5")}),
    ],
)
def test_remaining_quantity_of_open_orders_is_read(
    words: dict[str, Any], expected: dict[str, Any]
) -> None:
    order = left(**words)
    assert {name: getattr(order, name) for name in expected} == expected


@given(
    words=st.sampled_from(shapes.SOUND),
    side=st.sampled_from(["buy", "sell"]),
    qty=st.decimals("0.000000001", 10**9, places=9),
    symbol=st.sampled_from(["NVDA", "BTCUSD", "BRK.B"]),
)
def test_open_order_is_parsed_back_as_sent(
    words: dict[str, Any], side: Side, qty: Decimal, symbol: str
) -> None:
    sent = replace(shapes.order(**words), side=side, qty=qty, symbol=symbol)
    entry = {**build_order_request(sent), "id": "v-1", "status": "new", "filled_qty": "0"}
    account = read(None, [held("SPY", "1")], [entry])
    found_at = account.as_of
    assert account.open_orders == (replace(sent, reason="open order at the venue"),)
    placed = AlpacaOrder.parse(sent.client_order_id, entry)
    assert placed.matches(OrderIntent(sent, found_at))
    other: Side = "sell" if side == "buy" else "buy"
    assert not placed.matches(OrderIntent(replace(sent, side=other), found_at))


def several(*legs: str, **more: Any) -> dict[str, Any]:
    """An order of four of each leg, one of which has filled; `sell SPY…` is a leg."""
    entries = []
    for leg in legs:
        side, symbol = leg.split()
        said = None if side == "unsaid" else side
        entries.append({"symbol": symbol, "side": said, "qty": "4", "filled_qty": "1"})
    return open_order(symbol="", side=None, qty="4", filled_qty="1", legs=entries, **more)


LONG_PUT, SHORT_PUT = "buy SPY240920P00555000", "sell SPY240920P00560000"
BACK = ("buy SPY240920P00560000", "sell SPY240920P00555000")
CALL = "SPY240920C00560000"


@pytest.mark.parametrize(
    ("entry", "root", "risk"),
    [
        (several(SHORT_PUT, LONG_PUT), "SPY", 3 * 500),
        (several(SHORT_PUT, LONG_PUT, limit_price="-1.25"), "SPY", 3 * 500),
        (several(*BACK, limit_price="1.25"), "SPY", 3 * 125),
        (several(*BACK), "SPY", 3 * 500),
        (several(SHORT_PUT, "buy SPY241018P00555000", limit_price="-1"), "SPY", 3 * 56_000),
        (open_order(symbol="SPY240920P00560000", side="sell", limit_price="2"), "SPY", 560_000),
        (open_order(symbol=CALL, limit_price="2"), "SPY", 2_000),
        (open_order(symbol=CALL), "SPY", math.inf),
        (open_order(symbol=CALL, side="sell", limit_price="2"), "SPY", math.inf),
        (several(BACK[0], "sell SPY"), "SPY", math.inf),
        (several(SHORT_PUT, "buy QQQ240920P00555000"), "QQQ SPY", math.inf),
        (several("unsaid SPY240920P00560000", limit_price="1"), "", math.inf),
        (open_order(symbol=None, legs=None), "", math.inf),
    ],
)
def test_open_option_order_carries_its_maximum_loss(
    entry: dict[str, Any], root: str, risk: float
) -> None:
    reading = parse_account_reading(AccountResponses({"cash": "1000"}, [], [entry], CLOCK))
    assert reading.account.open_orders == ()
    (found,) = reading.unmodelled_orders
    place = f"options on {root}".rstrip()
    assert (found.client_order_id, found.instrument_name, float(found.max_loss_usd)) == (
        "o-1",
        place,
        risk,
    )


@pytest.mark.parametrize(
    ("symbol", "place"), [("NVDA", "NVDA"), ("BTC/USD", "BTCUSD"), ("BRK B", "?BRK_B")]
)
def test_notional_order_counts_and_blocks_its_symbol(symbol: str, place: str) -> None:
    order = open_order(symbol=symbol, qty=None, notional="100", filled_qty="200")
    reading = parse_account_reading(
        AccountResponses({"cash": "1000"}, [held("NVDA", "1", "50")], [order], CLOCK)
    )
    (other,) = reading.unmodelled_orders
    assert (other.client_order_id, other.instrument_name, other.max_loss_usd) == ("o-1", place, 100)
    assert reading.account.uncertain_symbols == {place} - {"?BRK_B"}, (
        "what is foreign is never traded"
    )
    assert reading.account.projected_positions == {"NVDA": 1}


@pytest.mark.parametrize("marginless", ["1000", "700"])
def test_open_crypto_bid_reduces_cash_only_once(marginless: str) -> None:
    bid = open_order(symbol="BTCUSD", qty="3", type="limit", limit_price="100", time_in_force="gtc")
    account = read({"non_marginable_buying_power": marginless}, None, [bid])
    assert account.unborrowed_cash == 700.0


def test_position_rows_of_one_symbol_are_summed() -> None:
    rows = [
        worth("NVDA", "3", "30"),
        worth("NVDA", "1", "10"),
        worth("SPY", "-2", "-9", side="short"),
        {"symbol": "OLD", "qty": "5"},
        worth("GONE", "0", "0"),
    ]
    connection: Any = SimpleNamespace(
        client=SimpleNamespace(get_all_positions=lambda: rows),
        translate_errors=lambda what: nullcontext(),
    )
    assert read_positions(connection) == {
        "NVDA": VenuePosition(Decimal(4), Decimal(40)),
        "SPY": VenuePosition(Decimal(-2), Decimal(9)),
        "OLD": VenuePosition(Decimal(5), Decimal(0)),
    }
    option = "SPY240315P00500000"
    rows += [worth(option, "-1", "-50"), worth("BAD", "3", "n/a", side="short")]
    with pytest.raises(InvalidResponse):
        read_positions(connection)
    stops_need = read_positions(connection, is_option)
    assert stops_need == {option: VenuePosition(Decimal(-1), Decimal(50))}, (
        "no odd stock is in its way"
    )


def test_short_option_without_market_value_uses_its_price() -> None:
    option = {"symbol": "SPY240315P00500000", "qty": "-1"}
    assert read(positions=[{**option, "qty": "0"}]).cash == 1000
    assert of_a_feed([{**option, "qty": "0"}], {}).unpriced_quantities == {}
    for name in ("current_price", "lastday_price"):
        assert read(positions=[{**option, name: "2"}]).cash == 800
    reading = of_a_feed([option], {})
    assert reading.unpriced_quantities == {option["symbol"]: Decimal(-1)}
    assert reading.account.cash == 1000


@pytest.mark.parametrize("wrong", [{"qty": "91"}, {"current_price": "9.8"}, {"market_value": "1"}])
def test_position_with_inconsistent_numbers_is_refused(wrong: dict[str, Any]) -> None:
    position = held("NVDA", "910", "10", market_value="9100")
    assert read(None, [position]).equity == 10_100
    with refused(BrokerError, "NVDA", "current_price"):
        read(None, [{**position, **wrong}])
