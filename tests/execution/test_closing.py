"""Before the close the book comes under what the broker lends overnight, and no further."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.live.closing import (
    close_of_day,
    flattening_orders,
    is_over_the_ceiling,
    looks_before_close,
    night_cuts,
    with_reductions,
)
from execution.orders import Account, OrderTerms
from sizing.limits import Limits

LIMITS = Limits()
CLOSE = np.datetime64("2024-03-05T21:00", "ns")
NOW = CLOSE - np.timedelta64(10, "m")
STOCKS = ("AAPL", "MSFT", "NVDA")

shares = st.integers(-4000, 4000).map(Decimal)
prices = st.floats(1.0, 900.0).map(lambda price: round(price, 2))


@st.composite
def accounts(draw: st.DrawFn) -> Account:
    positions = {symbol: draw(shares) for symbol in STOCKS}
    coins = Decimal(draw(st.integers(0, 500))) / 1000
    positions |= {"BTCUSD": coins, "OTHER": draw(shares)}
    marks = {symbol: draw(prices) for symbol in positions}
    equity = draw(st.floats(2_000, 2_000_000))
    value = sum(float(held) * marks[symbol] for symbol, held in positions.items())
    return Account(equity - value, positions, marks, NOW, leverage=4.0)


def load(account: Account, cut: dict[str, Decimal]) -> float:
    """Stock gross over the ceiling plus coins, in equity, once these were traded."""
    held = {s: q + cut.get(s, Decimal(0)) for s, q in account.positions.items()}
    worth = {s: abs(float(q)) * account.prices[s] / account.equity for s, q in held.items()}
    stocks = sum(value for symbol, value in worth.items() if symbol != "BTCUSD")
    return stocks / LIMITS.overnight_leverage + worth["BTCUSD"]


@given(accounts(), st.integers(0, 2))
def test_the_cut_ends_under_the_ceiling_and_takes_no_more_than_it_needs(
    account: Account, attempt: int
) -> None:
    orders = night_cuts(account, LIMITS, "k", CLOSE, attempt, STOCKS, at_limit=not attempt)
    cut = {order.symbol: order.signed_qty for order in orders}
    assert all(order.reduces for order in orders)
    assert {order.type for order in orders} <= {"market" if attempt else "limit"}
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
    buffer = LIMITS.overnight_leverage / LIMITS.overnight_ceiling
    share = sum(account.prices[s] for s in STOCKS) / account.equity / LIMITS.overnight_leverage
    assert after >= 1 / buffer - share - 1e-9 - load(account, everything) * (1 - 1 / buffer)


@pytest.mark.parametrize(
    ("held", "side", "limit"), [("3000", "sell", 99.8), ("-3000", "buy", 100.2)]
)
def test_a_cut_by_limit_gives_up_a_fifth_of_a_percent_at_most(
    held: str, side: str, limit: float
) -> None:
    cash = 100_010.0 - float(held) * 100.0
    account = Account(cash, {"NVDA": Decimal(held)}, {"NVDA": 100.0}, NOW, leverage=4.0)
    (order,) = night_cuts(account, LIMITS, "k", CLOSE, 0, STOCKS, at_limit=True)
    # 300,000 USD of stock on 100,010 of equity, to 1.96 times it.
    assert (order.side, order.qty, order.limit_price) == (side, Decimal(1040), limit)
    assert order.client_order_id == "k-20240305T210000Z-NVDA-0-0"
    (again,) = night_cuts(account, LIMITS, "k", CLOSE, 1, STOCKS, at_limit=False)
    assert (again.type, again.limit_price) == ("market", None)
    assert again.client_order_id == "k-20240305T210000Z-NVDA-0-1"


@given(accounts(), st.dictionaries(st.sampled_from(STOCKS), shares))
def test_what_is_on_its_way_makes_nobody_richer_and_turns_no_position(
    account: Account, changes: dict[str, Decimal]
) -> None:
    after = with_reductions(account, changes)
    assert after.equity == pytest.approx(account.equity, abs=1e-6 * (1 + abs(account.cash)))
    for symbol, held in account.positions.items():
        change = changes.get(symbol, Decimal(0))
        reduces = held * change < 0
        left = held + (max if held > 0 else min)(change, -held) if reduces else held
        assert after.positions[symbol] == left


@given(accounts(), st.dictionaries(st.sampled_from(STOCKS), shares))
def test_what_may_never_fill_counts_as_held_and_is_not_cut_a_second_time(
    account: Account, uncertain: dict[str, Decimal]
) -> None:
    orders = night_cuts(account, LIMITS, "k", CLOSE, 2, STOCKS, at_limit=False, uncertain=uncertain)
    cut = {order.symbol: order.signed_qty for order in orders}
    certain = with_reductions(account, uncertain).positions
    for symbol, quantity in cut.items():
        assert quantity * certain[symbol] < 0
        assert abs(quantity) <= abs(certain[symbol]), "both together turn no position"
    everything = {s: -certain[s] for s in STOCKS}
    if load(account, {}) > 1:
        whole = load(account, everything) >= 1
        assert load(account, cut) <= 1 + 1e-9 or whole
        if whole:
            assert cut == {s: q for s, q in everything.items() if q}, "all that is certain goes"


def test_a_short_that_is_being_covered_hides_no_other_short() -> None:
    held = {"NVDA": Decimal(-3200), "MSFT": Decimal(-600)}
    account = Account(480_000.0, held, dict.fromkeys(held, 100.0), NOW, leverage=4.0)
    after = with_reductions(account, {"MSFT": Decimal(600)})
    (order,) = night_cuts(after, LIMITS, "k", CLOSE, 0, STOCKS, at_limit=True)
    # 320,000 USD of stock on 100,000 of equity, to 1.96 times it.
    assert (order.symbol, order.qty) == ("NVDA", Decimal(1240))


def test_an_account_without_equity_sells_all_of_its_stocks() -> None:
    positions = {"NVDA": Decimal(10), "BTCUSD": Decimal(1)}
    account = Account(-5000.0, positions, {"NVDA": 100.0, "BTCUSD": 1000.0}, NOW)
    assert is_over_the_ceiling(account, LIMITS)
    (order,) = night_cuts(account, LIMITS, "k", CLOSE, 0, STOCKS, at_limit=True)
    assert order.qty == 10


def test_a_broker_that_lends_less_than_twice_binds_at_what_it_lends() -> None:
    account = Account(-50_000.0, {"NVDA": Decimal(1500)}, {"NVDA": 100.0}, NOW, leverage=1.0)
    (order,) = night_cuts(account, LIMITS, "k", CLOSE, 0, STOCKS, at_limit=True)
    assert order.qty == 500


@pytest.mark.parametrize(
    ("now", "closes", "looks"),
    [
        ("2024-03-05T15:00", None, ["20:50", "20:54", "20:58"]),
        ("2024-03-05T20:50", None, ["20:54", "20:58"]),
        ("2024-03-05T20:58", None, []),
        ("2024-07-03T15:00", None, ["16:50", "16:54", "16:58"]),
        ("2024-03-09T15:00", None, []),
        ("2024-03-05T15:00", "2024-03-05T19:00", ["18:50", "18:54", "18:58"]),
        ("2024-03-05T15:00", "2024-03-05T22:00", ["20:50", "20:54", "20:58"]),
        ("2024-03-05T15:00", "2024-03-06T21:00", ["20:50", "20:54", "20:58"]),
    ],
)
def test_the_looks_are_ten_six_and_two_minutes_before_the_close_of_half_days_too(
    now: str, closes: str | None, looks: list[str]
) -> None:
    named = None if closes is None else np.datetime64(closes, "ns")
    at = np.datetime64(now, "ns")
    found = looks_before_close(at, close_of_day(at, named))
    assert [str(at)[11:16] for at in found] == looks


HELD = {"BTCUSD": "1.5", "ETHUSD": "0.25", "NVDA": "10", "SPY": "-4", "OTHER": "7", "MSFT": "0"}
OURS = ("BTCUSD", "MSFT", "NVDA", "SPY")


@pytest.mark.parametrize("open_now", [True, False])
def test_what_closes_everything_is_of_ours_and_of_markets_that_are_open(
    open_now: bool, caplog: pytest.LogCaptureFixture
) -> None:
    at = NOW if open_now else CLOSE
    positions = {symbol: Decimal(held) for symbol, held in HELD.items()}
    account = Account(0.0, positions, dict.fromkeys(HELD, 100.0), at)
    orders = flattening_orders(account, "k", OURS, OrderTerms())
    stocks = [("NVDA", "sell", Decimal(10), "day"), ("SPY", "buy", Decimal(4), "day")]
    assert [(each.symbol, each.side, each.qty, each.tif) for each in orders] == [
        ("BTCUSD", "sell", Decimal("1.5"), "gtc"),
        *(stocks if open_now else []),
    ]
    assert all(each.reduces and each.type == "market" for each in orders)
    names = [each.client_order_id.split("Z-")[1] for each in orders]
    assert names == [f"{each.symbol}-9-0" for each in orders]
    shut = ["NVDA is not closed: its market is shut", "SPY is not closed: its market is shut"]
    assert caplog.messages == ([] if open_now else shut)


def test_a_coin_worth_more_than_one_order_may_be_is_closed_in_parts() -> None:
    account = Account(0.0, {"BTCUSD": Decimal(5)}, {"BTCUSD": 90_000.0}, NOW)
    orders = flattening_orders(account, "k", OURS, OrderTerms())
    assert sum(each.qty for each in orders) == 5
    assert [each.client_order_id[-4:] for each in orders] == ["-9-0", "-9-1", "-9-2"]
    assert all(float(each.qty) * 90_000.0 <= 200_000.0 for each in orders)
