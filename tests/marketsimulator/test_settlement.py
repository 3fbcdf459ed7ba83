from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketsimulator.settlement import Book, Fills, Terms, carry, fill

CRYPTO = np.array([False, False, True, True])
S = len(CRYPTO)


def terms(**changes: object) -> Terms:
    plain = Terms(
        half_spread=np.where(CRYPTO, 2e-4, 1e-4),
        slippage=np.where(CRYPTO, 1e-4, 1e-4),
        increment=np.where(CRYPTO, 0.001, 1.0),
        crypto=CRYPTO,
        taker=0.0025,
        sec=2.78e-5,
        taf=0.000166,
        taf_cap=8.30,
        cat=0.000003,
        leverage=4.0,
        margin_equity=2000.0,
        interest_rate=0.065,
    )
    return plain._replace(**changes)


def book(cash: float = 100_000.0, quantity: object = (0, 0, 0, 0), proceeds: object = (0, 0, 0, 0), **more: float) -> Book:
    return Book(
        cash, more.get("unsettled", 0.0), more.get("day_fees", 0.0), np.array(quantity, float), np.array(proceeds, float)
    )


OPENS = np.array([100.0, 50.0, 60_000.0, 2.0])


def send(b: Book, *orders: tuple[int, float], opens: object = OPENS, **changes: object) -> tuple[Book, Fills]:
    symbols, wanted = np.array([s for s, _ in orders]), np.array([q for _, q in orders], float)
    return fill(b, terms(**changes), OPENS, np.array(opens, float), symbols, wanted)


def test_a_stock_purchase_by_hand() -> None:
    """Open 100, one basis point of spread and one of slippage: 10 shares at 100.02, CAT fee 10 · 0.000003."""
    after, fills = send(book(), (0, 10))
    assert fills.price[0] == 100.02
    assert fills.fee[0] == pytest.approx(0.00003, abs=1e-12)
    assert after.cash == pytest.approx(100_000 - 1000.2 - 0.00003, abs=1e-9)
    assert after.quantity[0] == 10
    assert fills.spread[0] + fills.slippage[0] == pytest.approx(0.2)


def test_a_stock_sale_by_hand() -> None:
    """99.98 for 100 shares: SEC 9,998 · 0.0000278 = 0.277944…, TAF 0.0166, CAT 0.0003."""
    after, fills = send(book(quantity=(100, 0, 0, 0)), (0, -100))
    assert fills.price[0] == 99.98
    assert fills.fee[0] == pytest.approx(0.277945 + 0.0166 + 0.0003, abs=2e-6)
    assert after.cash == pytest.approx(100_000 + 9998 - fills.fee[0], abs=1e-9)


def test_the_trading_activity_fee_is_capped_a_trade() -> None:
    _, fills = send(book(quantity=(100_000, 0, 0, 0)), (0, -100_000), sec=0.0, cat=0.0)
    assert fills.fee[0] == 8.30


def test_a_coin_purchase_by_hand() -> None:
    """0.5 at 60,000 · 1.0003 = 60,018: 30,009 and a taker fee of 75.0225, rounded up to the cent."""
    after, fills = send(book(), (2, 0.5))
    assert fills.price[0] == 60_018.0
    assert fills.fee[0] == 75.03
    assert after.cash == pytest.approx(100_000 - 30_009 - 75.03, abs=1e-9)


def test_where_no_bar_starts_nothing_fills() -> None:
    before = book()
    after, fills = send(before, (0, 10), opens=[np.nan, 50, 60_000, 2])
    assert fills.quantity[0] == 0
    assert after.cash == before.cash


def test_an_order_that_crosses_zero_stops_there() -> None:
    after, fills = send(book(quantity=(5, 0, 0, 0)), (0, -12))
    assert fills.quantity[0] == -5
    assert after.quantity[0] == 0


def test_coins_never_go_short_and_are_bought_with_own_settled_cash() -> None:
    assert send(book(), (2, -1.0))[1].quantity[0] == 0
    assert send(book(quantity=(0, 0, 0.4, 0)), (2, -1.0))[0].quantity[2] == 0
    for cash in (10_000.0, 6_016.805, 0.07):
        rich = send(book(cash=cash), (2, 1.0), (3, 5000.0))[0]
        assert 0 <= rich.cash < 100
    unsettled = send(book(cash=10_000.0, unsettled=8_000.0), (2, 1.0))[0]
    assert unsettled.cash == pytest.approx(8_000, abs=100)
    assert send(book(cash=-1.0, quantity=(1000, 0, 0, 0)), (2, 1.0))[1].quantity[0] == 0
    shorted = book(cash=110_000.0, quantity=(-1000, 0, 0, 0), proceeds=(100_000, 0, 0, 0))
    assert send(shorted, (2, 1.0))[0].cash > 100_000


def test_stock_buying_power_is_four_times_equity_less_coins() -> None:
    after, _ = send(book(), (0, 10_000))
    assert 3_900 < after.quantity[0] <= 4_000
    small, _ = send(book(cash=1_000.0), (0, 100))
    assert small.quantity[0] <= 10
    holding_coins, _ = send(book(cash=40_000.0, quantity=(0, 0, 1, 0)), (0, 10_000))
    assert holding_coins.quantity[0] <= 1_600


def test_a_reduction_always_passes() -> None:
    deep = book(cash=-600_000.0, quantity=(7_000, 0, 0, 0))
    assert send(deep, (0, -7_000))[0].quantity[0] == 0


def test_overnight_interest_by_hand() -> None:
    """A debit of 50,000 over a weekend: 50,000 · 0.065 / 360 · 3 = 27.083…, up to the cent."""
    after, interest, other = carry(book(cash=-50_000.0), terms(), 3, False)
    assert interest == 27.09
    assert other == 0
    assert after.cash == -50_027.09
    assert carry(book(cash=-50_000.0), terms(), 0, False)[1] == 0


def test_a_short_sales_proceeds_do_not_offset_the_debit() -> None:
    shorted = book(cash=60_000.0, quantity=(-1000, 0, 0, 0), proceeds=(100_000.0, 0, 0, 0))
    assert carry(shorted, terms(), 1, False)[1] == pytest.approx(np.ceil(40_000 * 0.065 / 360 * 100) / 100)


def test_a_days_fees_are_rounded_up_to_the_cent_at_its_close() -> None:
    after, _, other = carry(book(cash=100.0, day_fees=0.121), terms(), 1, False)
    assert other == pytest.approx(-0.009)
    assert after.day_fees == 0
    assert after.cash == pytest.approx(99.991)


def test_stock_proceeds_settle_when_the_next_session_opens() -> None:
    sold, _ = send(book(cash=0.0, quantity=(100, 0, 0, 0)), (0, -100))
    assert sold.unsettled == pytest.approx(9_998)
    same_night, _, _ = carry(sold, terms(), 1, False)
    assert same_night.unsettled == pytest.approx(9_998)
    assert carry(same_night, terms(), 0, True)[0].unsettled == 0


def test_short_proceeds_follow_the_position() -> None:
    shorted, fills = send(book(), (0, -100))
    assert shorted.short_proceeds[0] == pytest.approx(100 * fills.price[0])
    half, _ = send(shorted, (0, 50))
    assert half.short_proceeds[0] == pytest.approx(50 * fills.price[0])
    assert send(half, (0, 50))[0].short_proceeds[0] == 0


def test_a_fill_is_never_better_than_the_open() -> None:
    for price in (0.00001234, 0.97, 1.0, 33.333333, 64_321.987654):
        opens = np.array([price, 50.0, price, 2.0])
        _, fills = send(book(cash=1e9, quantity=(5, 0, 5, 0)), (0, 1), (2, 1.0), (0, -1), (2, -1.0), opens=opens, taker=0.0)
        assert (np.sign(fills.quantity) * (fills.price - price) >= 0).all()
        assert (np.abs(fills.price / price - 1) < 1e-3).all()


@st.composite
def days(draw: st.DrawFn) -> list[tuple[list[tuple[int, float]], int, bool, float]]:
    """Random order flows: orders of an instant, nights and a session's opening after it, and how prices move."""
    order = st.tuples(st.integers(0, S - 1), st.sampled_from([-3000, -40, -1.5, -0.123, 0.001, 0.5, 7, 250, 5000]))
    instant = st.tuples(st.lists(order, max_size=5), st.sampled_from([0, 0, 1, 3]), st.booleans(), st.floats(0.93, 1.07))
    return draw(st.lists(instant, min_size=1, max_size=25))


@given(days(), st.floats(500, 1e6))
def test_cash_positions_and_equity_agree_to_the_cent_on_any_order_flow(
    flow: list[tuple[list[tuple[int, float]], int, bool, float]], capital: float
) -> None:
    """An independent Decimal re-addition of fills, fees, interest and other flows gives the book's cash and positions."""
    state, prices = book(cash=capital), OPENS.copy()
    cash, quantity = Decimal(repr(capital)), [Decimal(0)] * S
    for orders, nights, opened, factor in flow:
        whole = [(s, q if CRYPTO[s] else float(np.trunc(q))) for s, q in orders]
        whole = [(s, q) for s, q in whole if q]
        symbols, wanted = np.array([s for s, _ in whole], dtype=int), np.array([q for _, q in whole], dtype=float)
        state, fills = fill(state, terms(), prices, prices * factor, symbols, wanted)
        for s, q, price, fee in zip(symbols, fills.quantity, fills.price, fills.fee, strict=True):
            cash -= Decimal(repr(float(q))) * Decimal(repr(float(price))) + Decimal(repr(float(fee)))
            quantity[s] += Decimal(repr(float(q)))
        prices = prices * factor
        state, interest, other = carry(state, terms(), nights, opened)
        cash += Decimal(repr(float(other))) - Decimal(repr(float(interest)))
        assert abs(Decimal(repr(float(state.cash))) - cash) < Decimal("0.005")
        assert [Decimal(repr(round(float(q), 9))) for q in state.quantity] == [q + Decimal("0.0") for q in quantity]
        assert (state.quantity[CRYPTO] >= 0).all()
        assert (state.short_proceeds >= 0).all()
        assert (state.short_proceeds[state.quantity >= 0] == 0).all()
