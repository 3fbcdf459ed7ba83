"""Bounds and ceilings, for any book."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sizing.increments import count_lots
from sizing.limits import (
    CEILING_NAMES,
    FEE_ROUNDING_USD,
    build_ceiling_constraints,
    scale_crypto_buys_to_cash,
)
from sizing.settings import Limits
from tests.sizing.books import rich_book, under

COINS = st.lists(st.booleans(), min_size=1, max_size=6)
CHANGES = st.lists(
    st.tuples(st.booleans(), st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.01)),
    min_size=1,
    max_size=6,
)  # coin, held, weight, cost


@given(COINS, st.floats(0.5, 4), st.floats(0, 1), st.floats(-1, 2), st.integers(0, 1000))
def test_ceiling_coefficients_match_stock_crypto_and_joint_exposure(
    crypto: list[bool], stocks: float, leverage: float, unborrowed: float, seed: int
) -> None:
    """For any weights: gross stock exposure, crypto, crypto beyond what cash pays for, and both
    shares together.
    """
    rng = np.random.default_rng(seed)
    n, coins = len(crypto), np.array(crypto)
    held = np.where(coins, rng.uniform(0, 2, n), rng.uniform(-2, 2, n)) * (rng.random(n) < 0.7)
    account = {
        "held_weight": held,
        "unborrowed_cash_share": unborrowed,
        "unit_cost": np.full(n, 0.01),
    }
    s = rich_book(n, crypto=coins, stock_ceiling=stocks, **account)
    rows, rooms = build_ceiling_constraints(under(s, Limits(crypto_leverage=leverage)).problem)
    size = np.abs(rng.normal(size=n))
    stock, coin = float(size[~coins].sum()), float(size[coins].sum())
    cash = float(held[coins].sum()) + max(unborrowed, 0.0) / 1.01
    expected = {
        "stock_gross": (stock, stocks),
        "crypto_gross": (coin, leverage),
        "unborrowed_cash": (coin, cash),
        "joint": (stock / stocks + coin, 1.0),
    }
    for name, used, room in zip(CEILING_NAMES, rows @ size, rooms, strict=True):
        assert (used, room) == pytest.approx(expected[name]), name


@given(
    st.floats(0.1, 6),
    st.floats(0.1, 6),
    st.floats(0, 0.9),
    st.floats(0, 5_000),
    st.floats(1, 10_000),
)
def test_stock_ceiling_depends_on_night_and_margin_minimum(
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


def test_lower_account_leverage_changes_only_the_ceilings() -> None:
    limits = Limits(symbol_cap=0.3, overnight_buffer=0.0)
    assert limits.with_account_leverage(4.0) is limits
    assert limits.with_account_leverage(5.0) is limits
    assert limits.with_account_leverage(1.5) == Limits(
        symbol_cap=0.3, overnight_buffer=0.0, intraday_leverage=1.5
    )
    assert limits.with_account_leverage(1.5).stock_ceiling(overnight=True, equity=1e5) == 1.5
    assert Limits().overnight_stock_ceiling == pytest.approx(1.96)


# All of one coin for another: 0.99 and a cent less; and a sale that brings less than a cent costs.
@example([(True, 1.0, 0.0, 0.01), (True, 0.0, 1.0, 0.01)], 0.0, 1.1, 0.3, 0.01)
@example([(True, 0.5, 0.499, 0.01), (True, 0.0, 1.0, 0.01)], 0.1, 1.0, 0.001, 0.01)
@given(
    CHANGES,
    st.floats(-1, 1),
    st.floats(1, 2),
    st.sampled_from([0.0, 0.001, 0.07, 0.3]),
    st.sampled_from([0.0, 1e-4, 0.01]),
)
def test_crypto_purchases_fit_cash_and_sale_proceeds(
    changes: list[tuple[bool, float, float, float]],
    cash: float,
    margin: float,
    increment: float,
    cent: float,
) -> None:
    """A sale is in whole increments unless it closes, and pays a fee in whole cents."""
    coin, held, weights, cost = (np.array(column) for column in zip(*changes, strict=True))
    account = {
        "equity": FEE_ROUNDING_USD / cent if cent else np.inf,
        "unborrowed_cash_share": cash / margin,
    }
    account |= {"order_price_buffer": margin, "weight_increment": np.full(len(held), increment)}
    s = rich_book(len(held), held_weight=held, crypto=coin, unit_cost=cost, **account)
    after = scale_crypto_buys_to_cash(s.problem, weights)
    bought = coin & (weights > held)
    sold = coin & (weights < held)
    np.testing.assert_array_equal(after[~bought], weights[~bought])
    assert (after[bought] >= held[bought]).all()
    assert (after[bought] <= weights[bought]).all()
    sales = held - weights
    for k in np.flatnonzero(weights > 0) if increment else ():
        left = count_lots(weights[k], increment) * increment
        sales[k] = count_lots(held[k] - left, increment) * increment
    brought = cash + np.maximum(sales * (1 - cost) - cent, 0.0)[sold].sum()
    checked = margin * ((after - held) * (1 + cost))[bought].sum()
    assert checked <= max(brought, 0.0) + 1e-8
    if (after != weights).any():
        assert checked == pytest.approx(max(brought, 0.0), abs=1e-8), "all that can be paid for"
