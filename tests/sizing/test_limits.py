"""Bounds and ceilings, for any book."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizing.inputs import SizingInputs
from sizing.limits import CEILINGS, CENT, Limits, affordable_weights, bounds_of, ceilings_of
from tests.sizing.books import rich_book, under

WEIGHTS = st.one_of(st.just(0.0), st.floats(-2, 2))
SYMBOL = st.tuples(
    st.booleans(), st.booleans(), st.booleans(), WEIGHTS
)  # coin, long only, deciding, held
BOOKS = st.lists(SYMBOL, min_size=1, max_size=6)


def columns(
    book: list[tuple[bool, bool, bool, float]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    coin, long_only, deciding, held = zip(*book, strict=True)
    coins = np.array(coin)
    return (
        coins,
        coins | np.array(long_only),
        np.array(deciding),
        np.where(coins, np.abs(held), held),
    )


def random_book(held: np.ndarray, coins: np.ndarray, **fields: Any) -> SizingInputs:
    """A book of these weights; trading costs 1 %."""
    cost = np.full(len(held), 0.01)
    return rich_book(len(held), **{"held": held, "crypto": coins, "cost": cost, **fields})


def affordable(
    held: np.ndarray, coins: np.ndarray, weights: np.ndarray, **fields: Any
) -> np.ndarray:
    """What is affordable of weights."""
    return affordable_weights(random_book(held, coins, **fields).problem, weights)


@given(BOOKS, st.floats(0.05, 3), st.sampled_from([1_999.99, 2_000.0, 50_000.0]))
def test_what_decides_may_go_to_the_cap_and_short_only_where_it_and_the_account_may(
    book: list[tuple[bool, bool, bool, float]], cap: float, equity: float
) -> None:
    coins, long_only, deciding, held = columns(book)
    s = random_book(held, coins, long_only=long_only, deciding=deciding, equity=equity)
    lower, upper = bounds_of(*under(s, Limits(symbol_cap=cap)).problem[2:])
    for k in range(len(book)):
        if not deciding[k]:
            assert lower[k] == upper[k] == held[k]
            continue
        assert upper[k] == cap
        shortest = -cap if equity >= 2_000 else 0.0
        assert lower[k] == (max(shortest, min(held[k], 0.0)) if long_only[k] else shortest)


@given(BOOKS, st.floats(0.5, 4), st.floats(0, 1), st.floats(-1, 2), st.integers(0, 1000))
def test_a_ceiling_is_what_its_name_says(
    book: list[tuple[bool, bool, bool, float]],
    stocks: float,
    leverage: float,
    unborrowed: float,
    seed: int,
) -> None:
    """Of any weights: stock gross, coins, coins beyond what is held against cash, and both
    shares together.
    """
    coins, _, _, held = columns(book)
    s = random_book(held, coins, stock_ceiling=stocks, unborrowed=unborrowed)
    rows, rooms = ceilings_of(under(s, Limits(crypto_leverage=leverage)).problem)
    size = np.abs(np.random.default_rng(seed).normal(size=len(book)))
    used = dict(zip(CEILINGS, rows @ size, strict=True))
    room = dict(zip(CEILINGS, rooms, strict=True))
    stock = float(size[~coins].sum())
    coin = float(size[coins].sum())
    assert used == pytest.approx(
        {
            "stock_gross": stock,
            "crypto_gross": coin,
            "unborrowed_cash": coin,
            "joint": stock / stocks + coin,
        }
    )
    cash = float(held[coins].sum()) + max(unborrowed, 0.0) / 1.01
    assert room == pytest.approx(
        {"stock_gross": stocks, "crypto_gross": leverage, "unborrowed_cash": cash, "joint": 1.0}
    )


@given(
    st.floats(0.1, 6),
    st.floats(0.1, 6),
    st.floats(0, 0.9),
    st.floats(0, 5_000),
    st.floats(1, 10_000),
)
def test_the_stock_ceiling_is_the_days_or_the_nights_and_one_without_margin(
    day: float, night: float, buffer: float, margin: float, equity: float
) -> None:
    limits = Limits(
        intraday_leverage=day,
        overnight_leverage=night,
        overnight_buffer=buffer,
        margin_equity=margin,
    )
    for overnight, lent in ((False, day), (True, min(night * (1 - buffer), day))):
        expected = lent if equity >= margin else min(lent, 1.0)
        assert limits.stock_ceiling(overnight=overnight, equity=equity) == expected
    assert limits.stock_ceiling(overnight=False, equity=margin) == day, (
        "at the minimum the account has margin"
    )


def test_an_account_that_is_lent_less_keeps_everything_else() -> None:
    limits = Limits(symbol_cap=0.3, overnight_buffer=0.0)
    assert limits.with_account_leverage(4.0) is limits
    assert limits.with_account_leverage(5.0) is limits
    assert limits.with_account_leverage(1.5) == Limits(
        symbol_cap=0.3, overnight_buffer=0.0, intraday_leverage=1.5
    )
    assert limits.with_account_leverage(1.5).stock_ceiling(overnight=True, equity=1e5) == 1.5
    assert Limits().overnight_ceiling == pytest.approx(1.96)


CHANGES = st.lists(
    st.tuples(st.booleans(), st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.01)),
    min_size=1,
    max_size=6,
)  # coin, held, weight, cost


@given(CHANGES, st.floats(-1, 1), st.floats(1, 2))
def test_coins_are_bought_with_cash_and_what_sold_coins_bring_at_the_venues_check(
    changes: list[tuple[bool, float, float, float]], cash: float, margin: float
) -> None:
    coin, held, weights, cost = (np.array(column) for column in zip(*changes, strict=True))
    account = {"equity": np.inf, "unborrowed": cash / margin, "order_margin": margin}
    after = affordable(held, coin, weights, cost=cost, **account)
    bought = coin & (weights > held)
    sold = coin & (weights < held)
    np.testing.assert_array_equal(after[~bought], weights[~bought])
    assert (after[bought] >= held[bought]).all()
    assert (after[bought] <= weights[bought]).all()
    brought = cash + ((held - weights) * (1 - cost))[sold].sum()
    checked = margin * ((after - held) * (1 + cost))[bought].sum()
    assert checked <= max(brought, 0.0) + 1e-8
    if (after != weights).any():
        assert checked == pytest.approx(max(brought, 0.0), abs=1e-8), "all that can be paid for"


def test_a_full_rotation_by_hand() -> None:
    """100 of A, sold at a cost of 1 %, bring 99: at 1.10 of the price and 1 % more, 89.11 of B."""
    held, target = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    coins = np.ones(2, dtype=bool)
    account = {"equity": np.inf, "order_margin": 1.1}
    after = affordable(held, coins, target, unborrowed=0.0, **account)
    np.testing.assert_allclose(after, [0.0, 0.99 / 1.1 / 1.01])
    # A debt of 50 is paid back first, and one of 99 leaves nothing.
    after = affordable(held, coins, target, unborrowed=-0.5 / 1.1, **account)
    np.testing.assert_allclose(after, [0.0, 0.49 / 1.1 / 1.01])
    after = affordable(held, coins, target, unborrowed=-0.99 / 1.1, **account)
    np.testing.assert_allclose(after, [0.0, 0.0], atol=1e-15)


@given(CHANGES, st.floats(0.001, 0.3), st.sampled_from([0.0, 1e-6, 1e-4, 0.01]))
def test_sales_in_whole_increments_with_fees_in_whole_cents_pay_for_what_is_bought(
    changes: list[tuple[bool, float, float, float]], increment: float, cent: float
) -> None:
    coin, held, weights, cost = (np.array(column) for column in zip(*changes, strict=True))
    steps = np.full(len(held), increment)
    equity = CENT / cent if cent else np.inf
    account = {"equity": equity, "unborrowed": 0.0, "order_margin": 1.03}
    after = affordable(held, coin, weights, cost=cost, increment=steps, **account)
    left = np.floor(after / increment + 1e-6) * increment
    sold = np.floor((held - left) / increment + 1e-6) * increment
    sold = np.where(after == 0, held, sold)
    sales = coin & (after < held)
    brought = np.maximum(sold * (1 - cost) - cent, 0.0)[sales].sum()
    checked = 1.03 * ((after - held) * (1 + cost))[coin & (after > held)].sum()
    assert checked <= brought + 1e-8
