"""Before the close the book comes under what the broker lends overnight, and no further."""

# Private access: the trimmer returns no list of symbols that a wash trade blocks.
from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.decision.reduction import ReductionTerms, build_reductions
from execution.live.overnight import (
    OvernightTrimmer,
    assume_auction_orders_filled,
    assume_reductions_filled,
    build_overnight_trims,
    closable_positions,
    exceeds_overnight_ceiling,
    session_close,
)
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.orders import Order, OrderSizeLimits
from sizing.settings import Limits

LIMITS = Limits()
CLOSE = np.datetime64("2024-03-05T21:00", "ns")
NOW = CLOSE - np.timedelta64(10, "m")
STOCKS = ("AAPL", "MSFT", "NVDA")

shares = st.integers(-4000, 4000).map(Decimal)
prices = st.floats(1.0, 900.0).map(lambda price: round(price, 2))


@st.composite
def accounts(draw: st.DrawFn) -> AccountSnapshot:
    positions = {symbol: draw(shares) for symbol in STOCKS}
    coins = Decimal(draw(st.integers(0, 500))) / 1000
    positions |= {"BTCUSD": coins, "OTHER": draw(shares)}
    marks = {symbol: draw(prices) for symbol in positions}
    equity = draw(st.floats(2_000, 2_000_000))
    value = sum(float(held) * marks[symbol] for symbol, held in positions.items())
    return AccountSnapshot(equity - value, positions, marks, NOW, max_leverage=4.0)


def load(account: AccountSnapshot, cut: dict[str, Decimal]) -> float:
    """Stock gross over the ceiling plus coins, in equity, once these were traded."""
    held = {s: q + cut.get(s, Decimal(0)) for s, q in account.positions.items()}
    worth = {s: abs(float(q)) * account.prices[s] / account.equity for s, q in held.items()}
    stocks = sum(value for symbol, value in worth.items() if symbol != "BTCUSD")
    return stocks / LIMITS.overnight_leverage + worth["BTCUSD"]


def cuts(account: AccountSnapshot, *uncertain: Order, number: int = 0) -> tuple[Order, ...]:
    certain = assume_reductions_filled(account, uncertain).positions
    return build_overnight_trims(account, certain, LIMITS, "k", CLOSE, number, STOCKS)


def orders_of(changes: dict[str, Decimal]) -> list[Order]:
    """Orders that would change what is held so, and may never fill."""
    return [
        Order(f"d-{symbol}", symbol, "buy" if change > 0 else "sell", abs(change), reason="")
        for symbol, change in changes.items()
        if change
    ]


@given(accounts())
def test_overnight_cut_sells_no_more_than_ceiling_requires(account: AccountSnapshot) -> None:
    orders = cuts(account)
    cut = {order.symbol: order.signed_qty for order in orders}
    assert all(order.reduces for order in orders)
    assert {order.type for order in orders} <= {"market"}
    for symbol, quantity in cut.items():
        assert symbol in STOCKS
        assert quantity % 1 == 0
        assert quantity * account.positions[symbol] < 0
        assert abs(quantity) <= abs(account.positions[symbol])
    before = load(account, {})
    if before <= 1:
        assert not orders
        return
    everything = {s: -account.positions[s] for s in STOCKS}
    if load(account, everything) >= 1:
        assert cut == {s: q for s, q in everything.items() if q}, "all of ours goes"
        return
    after = load(account, cut)
    assert after <= 1 + 1e-9
    buffer = LIMITS.overnight_leverage / LIMITS.overnight_stock_ceiling
    share = sum(account.prices[s] for s in STOCKS) / account.equity / LIMITS.overnight_leverage
    assert after >= 1 / buffer - share - 1e-9 - load(account, everything) * (1 - 1 / buffer)


@pytest.mark.parametrize(
    ("equity", "held", "leverage", "sold"),
    [
        (100_010.0, 3000, 4.0, 1040),  # 300,000 USD of stock, to 1.96 times 100,010
        (100_010.0, -3000, 4.0, 1040),
        (100_000.0, 1500, 1.0, 500),  # a broker that lends less binds at what it lends
        (-4_000.0, 10, 4.0, 10),  # without equity all goes
    ],
)
def test_overnight_cut_matches_hand_computed_quantities(
    equity: float, held: int, leverage: float, sold: int
) -> None:
    positions = {"NVDA": Decimal(held)}
    account = AccountSnapshot(
        equity - held * 100.0, positions, {"NVDA": 100.0}, NOW, max_leverage=leverage
    )
    (order,) = cuts(account)
    side = "sell" if held > 0 else "buy"
    assert (order.side, order.qty, order.expires_at) == (side, Decimal(sold), CLOSE)
    assert order.client_order_id == "k-20240305T210000Z-NVDA-0-0"
    (again,) = cuts(account, number=1)
    assert again.client_order_id == "k-20240305T210000Z-NVDA-0-1"


@given(accounts(), st.dictionaries(st.sampled_from(STOCKS), shares))
def test_applying_open_reductions_keeps_equity_and_position_sign(
    account: AccountSnapshot, changes: dict[str, Decimal]
) -> None:
    after = assume_reductions_filled(account, orders_of(changes))
    assert after.equity == pytest.approx(account.equity, abs=1e-6 * (1 + abs(account.cash)))
    for symbol, held in account.positions.items():
        change = changes.get(symbol, Decimal(0))
        reduces = held * change < 0
        left = held + (max if held > 0 else min)(change, -held) if reduces else held
        assert after.positions[symbol] == left
    auction, day = (
        tuple(replace(each, tif=tif) for each in orders_of(changes)) for tif in ("cls", "day")
    )
    assert (
        assume_auction_orders_filled(replace(account, open_orders=auction)).positions
        == after.positions
    )
    left_alone = assume_auction_orders_filled(replace(account, open_orders=day))
    assert left_alone.positions == account.positions, "what works otherwise is cancelled before"


@given(accounts(), shares)
def test_open_orders_in_unheld_symbols_leave_account_unchanged(
    account: AccountSnapshot, change: Decimal
) -> None:
    assert assume_reductions_filled(account, orders_of({"TSLA": change})) == account


@given(accounts(), st.dictionaries(st.sampled_from(STOCKS), shares))
def test_sales_of_unknown_outcome_never_cause_overselling(
    account: AccountSnapshot, uncertain: dict[str, Decimal]
) -> None:
    sales = orders_of(uncertain)
    cut = {order.symbol: order.signed_qty for order in cuts(account, *sales)}
    certain = assume_reductions_filled(account, sales).positions
    for symbol, quantity in cut.items():
        assert quantity * certain[symbol] < 0
        assert abs(quantity) <= abs(certain[symbol]), "both together turn no position"
    everything = {s: -certain[s] for s in STOCKS}
    if load(account, {}) > 1:
        whole = load(account, everything) >= 1
        assert load(account, cut) <= 1 + 1e-9 or whole
        if whole:
            assert cut == {s: q for s, q in everything.items() if q}, "all that is certain goes"


@pytest.mark.parametrize(
    ("name", "tif", "change", "held", "in_the_way"),
    [
        ("by-hand", "gtc", 5, 10, True),
        ("by-hand", "gtc", -5, -10, True),
        ("by-hand", "gtc", -5, 10, False),  # it reduces as a cut does
        ("by-hand", "gtc", 5, 0, False),
        ("k-20240305T203000Z-NVDA-0-0", "day", 5, 10, False),  # ours is cancelled before
        ("k-20240305T203000Z-NVDA-0-0", "cls", 5, 10, True),
    ],
)
def test_uncancellable_opening_order_blocks_overnight_cut_of_symbol(
    name: str, tif: Any, change: int, held: int, in_the_way: bool
) -> None:
    (order,) = orders_of({"NVDA": Decimal(change)})
    waits = replace(order, client_order_id=name, tif=tif)
    positions = {"NVDA": Decimal(held)} if held else {}
    account = AccountSnapshot(1e5, positions, {"NVDA": 100.0}, NOW, (waits,))
    settings: Any = SimpleNamespace(order_prefix="k")
    nothing: Any = None
    watch = OvernightTrimmer(nothing, nothing, nothing, settings)
    assert watch._wash_trade_symbols(account) == ({"NVDA"} if in_the_way else set())


def test_book_exactly_at_the_overnight_ceiling_is_allowed() -> None:
    for cash, over in ((-100_000.0, False), (-100_000.00001, False), (-100_001.0, True)):
        account = AccountSnapshot(
            cash, {"NVDA": Decimal(2000)}, {"NVDA": 100.0}, NOW, max_leverage=4.0
        )
        assert exceeds_overnight_ceiling(account, LIMITS) is over


@pytest.mark.parametrize(
    ("now", "closes", "close"),
    [
        ("2024-03-05T15:00", None, "2024-03-05T21:00"),
        ("2024-03-05T20:58", None, "2024-03-05T21:00"),
        ("2024-07-03T15:00", None, "2024-07-03T17:00"),
        ("2024-03-09T15:00", None, None),
        ("2024-03-05T15:00", "2024-03-05T19:00", "2024-03-05T19:00"),
        ("2024-03-05T15:00", "2024-03-05T14:30", "2024-03-05T21:00"),
        ("2024-03-05T15:00", "2024-03-05T22:00", "2024-03-05T21:00"),
        ("2024-03-05T15:00", "2024-03-06T21:00", "2024-03-05T21:00"),
    ],
)
def test_earlier_of_calendar_and_venue_close_applies(
    now: str, closes: str | None, close: str | None
) -> None:
    named = None if closes is None else np.datetime64(closes, "ns")
    found = session_close(np.datetime64(now, "ns"), named)
    assert found == (None if close is None else np.datetime64(close, "ns"))


@pytest.mark.parametrize(
    ("symbols", "minutes", "due"),
    [
        (("NVDA", "BTCUSD"), 60, 10),
        (("NVDA", "BTCUSD"), 1, 10),  # a missed check
        (("NVDA", "BTCUSD"), 0, None),
        (("BTCUSD",), 60, None),
    ],
)
def test_overnight_check_is_due_before_close_for_stocks(
    symbols: tuple[str, ...], minutes: int, due: int | None
) -> None:
    settings: Any = SimpleNamespace(symbols=symbols)
    nothing: Any = None
    watch = OvernightTrimmer(nothing, nothing, nothing, settings)
    found = watch.next_check_time(CLOSE - np.timedelta64(minutes, "m"))
    assert found == (None if due is None else CLOSE - np.timedelta64(due, "m"))


@pytest.mark.parametrize(
    ("held", "net_fills", "ours"),
    [
        ("10", "10", "10"),
        ("110", "10", "10"),  # a person bought the others
        ("-4", "-6", "-4"),
        ("60", "-40", None),  # left of what the account held before
        ("7", None, None),
    ],
)
def test_only_own_positions_in_dropped_symbols_are_closed(
    held: str, net_fills: str | None, ours: str | None
) -> None:
    positions = {"GONE": Decimal(held), "NVDA": Decimal(3)}
    fills = {} if net_fills is None else {"GONE": Decimal(net_fills)}
    closed = {"NVDA": Decimal(3)} | ({} if ours is None else {"GONE": Decimal(ours)})
    assert closable_positions(positions, {"NVDA"}, fills) == closed


def test_crypto_above_the_order_limit_closes_in_parts() -> None:
    account = AccountSnapshot(0.0, {"BTCUSD": Decimal(5)}, {"BTCUSD": 90_000.0}, NOW)
    terms = {"BTCUSD": ReductionTerms(Decimal(5), "gtc")}
    orders = build_reductions(account, terms, "k", NOW, OrderSizeLimits(), "")
    assert sum(each.qty for each in orders) == 5
    assert [each.client_order_id[-4:] for each in orders] == ["-8-0", "-8-1", "-8-2"]
    assert all(float(each.qty) * 90_000.0 <= 200_000.0 for each in orders)
