"""`get_qty` by hand: what the rest of the account does to one symbol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.arrays import Array
from foundation.errors import InputError
from sizing.increments import whole_steps
from sizing.limits import Limits
from sizing.quantity import get_qty, target_quantity, truncate_to_increment
from sizing.strategies import named


@dataclass(frozen=True)
class Held:
    """An account of 100,000 USD."""

    exposure: Mapping[str, Decimal] = field(default_factory=dict)
    prices: Mapping[str, float] = field(default_factory=dict)
    equity: float = 100_000.0
    unborrowed_cash: float = 100_000.0


@dataclass(frozen=True)
class Beliefs:
    symbols: tuple[str, ...]
    mu: Array
    sigma: Array


def beliefs(**mu_sigma: tuple[float, float]) -> Beliefs:
    values = np.array(list(mu_sigma.values()))
    return Beliefs(tuple(mu_sigma), values[:, 0], values[:, 1])


HALF = np.array([[1.0, 0.5], [0.5, 1.0]])


def test_a_position_that_moves_along_leaves_less_to_buy() -> None:
    """1e-4 - 0.5 · 1e-4 · 0.5 / 0.5 is 5e-5, half of what it is alone: a quarter of equity, 166
    shares at 150.
    """
    moments = beliefs(AAPL=(0.0, 0.01), NVDA=(1e-4, 0.01))
    account = Held({"AAPL": Decimal(250)}, {"AAPL": 200.0})
    ask: dict[str, Any] = {"account": account, "moments": moments}
    assert get_qty("NVDA", 150.0, correlation=HALF, **ask) == 166
    assert get_qty("NVDA", 150.0, correlation=np.eye(2), **ask) == 333
    unsure = Beliefs(moments.symbols, moments.mu, np.array([np.nan, 0.01]))
    assert get_qty("NVDA", 150.0, correlation=HALF, account=account, moments=unsure) == 333, (
        "no deviation, no pull"
    )
    opposite = Held({"AAPL": Decimal(-250)}, {"AAPL": 200.0})
    assert get_qty("NVDA", 150.0, correlation=HALF, account=opposite, moments=moments) == 400, (
        "to the cap"
    )


def test_beliefs_belong_to_their_symbols_whatever_their_order() -> None:
    """The account's symbols are sorted; those of the beliefs need not be, and may be more than
    have a price.
    """
    moments = beliefs(ZZZ=(0.0, 0.02), NVDA=(1e-4, 0.01), AAPL=(0.0, 0.01), NONE=(1.0, 1.0))
    correlation = np.eye(4)
    correlation[1, 2] = correlation[2, 1] = 0.5
    account = Held({"AAPL": Decimal(250), "ZZZ": Decimal(0)}, {"AAPL": 200.0, "ZZZ": 10.0})
    assert get_qty("NVDA", 150.0, account=account, moments=moments, correlation=correlation) == 166


def test_a_price_given_is_the_price_and_the_answer_is_a_difference() -> None:
    """Half of 100,000 at 150 is 333 shares; 100 are held, whatever they were worth before."""
    account = Held({"NVDA": Decimal(100)}, {"NVDA": 90.0})
    assert get_qty("NVDA", 150.0, account=account, moments=beliefs(NVDA=(1e-4, 0.01))) == 233
    assert get_qty("nvda", 150.0, account=account, moments=beliefs(NVDA=(-1e-4, 0.01))) == -433
    dear = Held({"NVDA": Decimal(100)}, {"NVDA": 90.0}, equity=100_000.0)
    nothing = get_qty("NVDA", 150.0, account=dear, moments=beliefs(NVDA=(0.3e-4, 0.01)), cost=1e-3)
    assert nothing == 0, "0.15 is held: not worth its cost"


def test_a_cost_comes_off_the_edge() -> None:
    """(1e-4 - 5e-5) · 0.5 / 1e-4 is a quarter."""
    moments = beliefs(NVDA=(1e-4, 0.01))
    assert get_qty("NVDA", 150.0, account=Held(), moments=moments, cost=5e-5) == 166
    assert get_qty("NVDA", 150.0, account=Held(), moments=moments, cost=0.0) == 333
    assert get_qty("NVDA", 150.0, account=Held(), moments=moments, cost=0.9) == 0


@pytest.mark.parametrize(
    ("symbol", "hours", "least"), [("NVDA", 7.0, 6.99), ("BTCUSD", 24.0, 23.9)]
)
def test_the_deviation_of_a_target_is_that_of_a_year_of_the_symbols_own_bars(
    symbol: str, hours: float, least: float
) -> None:
    """σ 2 % a day is σ · √252 or √365.25 a year; over less than a day nothing moves."""
    ask: dict[str, Any] = {
        "account": Held(),
        "moments": Beliefs((symbol,), np.zeros(1), np.array([0.02])),
        "strategy": named("vol_target"),
        "limits": Limits(symbol_cap=0.9),
    }
    year = {"NVDA": 252.0, "BTCUSD": 365.25}[symbol]
    expected = 0.15 / (0.02 * year**0.5) * 100_000 / 50
    found = get_qty(symbol, 50.0, hours=hours, **ask)
    assert float(found) == pytest.approx(expected, abs=1.0)
    assert get_qty(symbol, 50.0, hours=least, **ask) == 0
    longer = get_qty(symbol, 50.0, hours=4 * hours, **ask)
    assert float(longer) == pytest.approx(2 * expected if 2 * expected < 1_800 else 1_800, abs=1.0)


def test_a_cost_or_price_ends_where_it_says() -> None:
    moments = beliefs(NVDA=(1e-4, 0.01))
    for cost in (1.0, 1.5, -1e-9):
        with pytest.raises(InputError, match="cost"):
            get_qty("NVDA", 150.0, account=Held(), moments=moments, cost=cost)
    assert float(get_qty("NVDA", 1e-3, account=Held(), moments=moments)) == pytest.approx(
        5e7, rel=1e-7
    )


@pytest.mark.parametrize("sigma", [0.0, -0.01, np.nan])
def test_a_deviation_that_is_none_sizes_nothing(sigma: float) -> None:
    assert get_qty("NVDA", 150.0, account=Held(), moments=beliefs(NVDA=(1e-4, sigma))) == 0


def test_the_legacy_rule_needs_no_forecast_and_follows_one() -> None:
    ask: dict[str, Any] = {"account": Held(), "enhanced": False, "limits": Limits(symbol_cap=9.0)}
    assert get_qty("NVDA", 150.0, moments=None, **ask) == 1_333
    assert get_qty("NVDA", 150.0, moments=None, overnight=True, **ask) == 653
    assert get_qty("NVDA", 150.0, moments=beliefs(NVDA=(-1e-9, 0.01)), **ask) == -1_333
    assert (
        get_qty("NVDA", 150.0, moments=None, fallback="legacy", risk_multiplier=0.5, **ask) == 666
    )


STEPS = st.sampled_from([Decimal(1), Decimal("0.1"), Decimal("0.0001"), Decimal("0.000000001")])


@given(st.integers(-10_000_000, 10_000_000), STEPS, st.floats(-0.9e-6, 0.999998))
def test_steps_are_whole_and_towards_zero_but_for_a_millionth(
    count: int, step: Decimal, beyond: float
) -> None:
    """A float a millionth of a step short of a whole one is that one; any other part is cut off."""
    if count == 0 and beyond < 0:
        beyond = 0.0
    part = (
        beyond if abs(beyond) > 3e-9 * max(abs(count), 1) else 0.0
    )  # what a float of this size can hold
    quantity = (count + (part if count >= 0 else -part)) * float(step)
    assert whole_steps(quantity, float(step)) == count
    assert truncate_to_increment(quantity, step) == count * step


def test_a_part_more_than_a_millionth_short_is_cut() -> None:
    assert whole_steps(4.999998, 1.0) == 4
    assert whole_steps(4.9999995, 1.0) == 5
    assert whole_steps(-4.999998, 1.0) == -4
    assert whole_steps(0.4999998, 0.1) == 4
    assert whole_steps(0.0, 0.1) == 0


def test_a_weight_is_a_quantity_at_a_price() -> None:
    assert target_quantity(0.25, 0.0, Decimal(0), 100_000.0, 150.0, Decimal(1)) == 166
    assert target_quantity(-0.25, 0.0, Decimal(0), 100_000.0, 150.0, Decimal(1)) == -166
    assert target_quantity(0.25, 0.25, Decimal(7), 100_000.0, 150.0, Decimal(1)) == 7
    assert target_quantity(0.0, 0.25, Decimal(7), 100_000.0, 150.0, Decimal(1)) == 0
