from __future__ import annotations

import logging
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
    """An account that only knows what sizing reads."""

    cash: float
    exposure: Mapping[str, Decimal] = field(default_factory=dict)
    prices: Mapping[str, float] = field(default_factory=dict)

    @property
    def equity(self) -> float:
        return self.cash + sum(float(q) * self.prices[s] for s, q in self.exposure.items())

    @property
    def unborrowed_cash(self) -> float:
        return max(self.cash, 0.0)


@dataclass(frozen=True)
class Beliefs:
    symbols: tuple[str, ...]
    mu: Array
    sigma: Array


def beliefs(**mu_sigma: tuple[float, float]) -> Beliefs:
    values = np.array(list(mu_sigma.values()))
    return Beliefs(tuple(mu_sigma), values[:, 0], values[:, 1])


def two_periods(last: float) -> Beliefs:
    return Beliefs(PAIR, np.zeros((2, 2)), np.array([[0.1, 0.1], [0.1, last]]))


RICH = Held(100_000.0)
PAIR = ("NVDA", "AAPL")


def test_the_worked_example() -> None:
    """mu 1 bp, sigma 1 %: half-Kelly 0.5, 50,000 of 100,000 USD at 150 is 333 whole shares; a
    coin in thousandths.
    """
    assert get_qty("NVDA", 150.0, account=RICH, moments=beliefs(NVDA=(1e-4, 0.01))) == 333
    assert get_qty(
        "BTC/USD", 64_000.0, account=RICH, moments=beliefs(BTCUSD=(1e-4, 0.01))
    ) == Decimal("0.781")


def test_a_bearish_forecast_sells() -> None:
    """The sign survives to the order's side; a coin is sold to nothing, never below."""
    bear = beliefs(NVDA=(-1e-4, 0.01), BTCUSD=(-1e-4, 0.01))
    account = Held(100_000.0, {"BTCUSD": Decimal("0.5")}, {"BTCUSD": 60_000.0})
    assert get_qty("NVDA", 150.0, account=RICH, moments=bear, correlation=np.eye(2)) == -333
    assert get_qty(
        "BTCUSD", 60_000.0, account=account, moments=bear, correlation=np.eye(2)
    ) == Decimal("-0.5")
    assert get_qty("BTCUSD", 60_000.0, account=RICH, moments=bear, correlation=np.eye(2)) == 0


def test_the_cap_counts_what_is_held_and_open() -> None:
    account = Held(40_000.0, {"NVDA": Decimal(400)}, {"NVDA": 150.0})
    assert account.equity == 100_000
    assert get_qty("NVDA", 150.0, account=account, moments=beliefs(NVDA=(1e-2, 0.01))) == 0
    over = Held(25_000.0, {"NVDA": Decimal(500)}, {"NVDA": 150.0})
    assert get_qty("NVDA", 150.0, account=over, moments=beliefs(NVDA=(1e-2, 0.01))) == -100


def test_coins_are_bought_with_cash_that_is_not_borrowed() -> None:
    account = Held(10_000.0, {"NVDA": Decimal(600)}, {"NVDA": 150.0})
    quantity = get_qty(
        "BTCUSD", 50_000.0, account=account, moments=beliefs(BTCUSD=(1e-2, 0.01)), cost=0.003
    )
    assert 0 < float(quantity) * 50_000 * 1.003 <= 10_000


def test_other_positions_leave_room_only_up_to_the_ceiling() -> None:
    others = {s: Decimal(600) for s in ("AAA", "BBB", "CCC")}
    account = Held(-80_000.0, others, {s: 100.0 for s in others})
    strong = beliefs(NVDA=(1e-2, 0.01))
    assert account.equity == 100_000
    assert get_qty("NVDA", 100.0, account=account, moments=strong) == 600
    for more, expected in (
        ({"overnight": True}, 160),  # 2 % of 2x are kept free
        ({"overnight": True, "limits": Limits(overnight_buffer=0.0)}, 200),
        ({"limits": Limits(intraday_leverage=2.5)}, 600),
        ({"limits": Limits(intraday_leverage=2.1)}, 300),
    ):
        settings: dict[str, Any] = dict(more)
        assert get_qty("NVDA", 100.0, account=account, moments=strong, **settings) == expected


def test_below_the_margin_minimum_stocks_are_unlevered_and_never_short() -> None:
    small = Held(1_500.0)
    assert get_qty("NVDA", 10.0, account=small, moments=beliefs(NVDA=(-1e-2, 0.01))) == 0
    assert get_qty("NVDA", 10.0, account=small, moments=beliefs(NVDA=(1e-2, 0.01))) == 90


def test_phrases_operators_grep_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    moments = beliefs(NVDA=(1e-4, 0.01))
    get_qty("NVDA", 150.0, account=RICH, moments=moments)
    get_qty("BTCUSD", 150.0, account=RICH, moments=beliefs(BTCUSD=(1e-4, 0.01)))
    get_qty("NVDA", 150.0, account=RICH, moments=moments, enhanced=False)
    get_qty("NVDA", 150.0, account=RICH, moments=None)
    for phrase in (
        "Enhanced Kelly sizing with 4.0x leverage",
        "Enhanced Kelly sizing with no leverage (crypto)",
        "Legacy sizing",
        "Enhanced sizing failed",
    ):
        assert phrase in caplog.text


@pytest.mark.parametrize(
    "gap",
    [
        {"moments": None},
        {"moments": beliefs(AAPL=(1e-4, 0.01))},
        {"moments": beliefs(NVDA=(float("nan"), 0.01))},
        *({"moments": beliefs(NVDA=(1e-4, sigma))} for sigma in (0.0, -0.01, np.nan)),
        {"moments": beliefs(NVDA=(1e-4, 0.01), AAPL=(1e-4, 0.01)), "correlation": None},
    ],
)
def test_what_cannot_be_sized_takes_no_new_risk_unless_a_fallback_is_named(
    gap: dict[str, Any],
) -> None:
    """Without a forecast there is no plausible default; legacy answers only where it was asked
    to.
    """
    assert get_qty("NVDA", 150.0, account=RICH, **gap) == 0
    assert get_qty("NVDA", 150.0, account=RICH, fallback="legacy", **gap) == 400


def test_an_account_without_equity_adds_nothing_and_closes_what_it_holds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What `Trader.decide` does with such an account, and the phrase that operators grep for."""
    moments = beliefs(NVDA=(1e-4, 0.01))
    for fallback in ("none", "legacy"):
        assert get_qty("NVDA", 1.0, account=Held(0.0), moments=moments, fallback=fallback) == 0  # type: ignore[arg-type]
    broke = Held(-10_000.0, {"NVDA": Decimal(50)}, {"NVDA": 100.0})
    assert get_qty("NVDA", 100.0, account=broke, moments=moments) == -50
    assert [
        r.message.count("Enhanced sizing failed: account: equity is") for r in caplog.records
    ] == [1, 1, 1]


def test_a_position_without_a_price_is_named() -> None:
    class Unpriced(Held):
        @property
        def equity(self) -> float:
            return self.cash

    with pytest.raises(InputError, match="account: AAPL is held or ordered and has no price"):
        get_qty(
            "NVDA",
            150.0,
            account=Unpriced(1e5, {"AAPL": Decimal(3)}),
            moments=beliefs(NVDA=(1e-4, 0.01)),
        )


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"correlation": np.eye(3)}, r"correlation: shape \(3, 3\), 2 symbols need \(2, 2\)"),
        (
            {"moments": Beliefs(PAIR, np.zeros(3), np.ones(2))},
            r"moments.mu: shape \(3,\), 2 symbols",
        ),
        ({"moments": Beliefs(PAIR, np.zeros(2), np.ones(1))}, "moments.sigma"),
        ({"moments": two_periods(np.inf)}, "moments.sigma"),
        ({"moments": Beliefs(PAIR, np.zeros((0, 2)), np.zeros((0, 2)))}, "moments.sigma"),
        ({"tolls": [1.0]}, "tolls"),
        ({"signal": np.nan}, "signal: nan is outside"),
        ({"cost": 1.0}, "cost: 1.0 is outside"),
        *(({"price": price}, "price") for price in (0.0, np.nan, np.inf)),
    ],
)
def test_beliefs_that_do_not_belong_together_are_named(wrong: dict[str, Any], says: str) -> None:
    moments = beliefs(NVDA=(1e-4, 0.01), AAPL=(1e-4, 0.01))
    good = {"price": 150.0, "account": RICH, "moments": moments, "correlation": np.eye(2)}
    with pytest.raises(InputError, match=says):
        get_qty("NVDA", **{**good, **wrong})


HALF = np.array([[1.0, 0.5], [0.5, 1.0]])
STEPS = st.sampled_from([Decimal(1), Decimal("0.1"), Decimal("0.0001"), Decimal("0.000000001")])


def test_a_position_that_moves_along_leaves_less_to_buy() -> None:
    """1e-4 - 0.5 · 1e-4 · 0.5 / 0.5 is 5e-5, half of what it is alone: a quarter of equity, 166
    shares at 150.
    """
    moments = beliefs(AAPL=(0.0, 0.01), NVDA=(1e-4, 0.01))
    account = Held(50_000.0, {"AAPL": Decimal(250)}, {"AAPL": 200.0})
    ask: dict[str, Any] = {"account": account, "moments": moments}
    assert get_qty("NVDA", 150.0, correlation=HALF, **ask) == 166
    assert get_qty("NVDA", 150.0, correlation=np.eye(2), **ask) == 333
    unsure = Beliefs(moments.symbols, moments.mu, np.array([np.nan, 0.01]))
    assert get_qty("NVDA", 150.0, correlation=HALF, account=account, moments=unsure) == 333, (
        "no deviation, no pull"
    )
    opposite = Held(150_000.0, {"AAPL": Decimal(-250)}, {"AAPL": 200.0})
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
    account = Held(
        50_000.0, {"AAPL": Decimal(250), "ZZZ": Decimal(0)}, {"AAPL": 200.0, "ZZZ": 10.0}
    )
    assert get_qty("NVDA", 150.0, account=account, moments=moments, correlation=correlation) == 166


def test_a_price_given_is_the_price_and_the_answer_is_a_difference() -> None:
    """Half of 100,000 at 150 is 333 shares; 100 are held, whatever they were worth before."""
    account = Held(91_000.0, {"NVDA": Decimal(100)}, {"NVDA": 90.0})
    assert get_qty("NVDA", 150.0, account=account, moments=beliefs(NVDA=(1e-4, 0.01))) == 233
    assert get_qty("nvda", 150.0, account=account, moments=beliefs(NVDA=(-1e-4, 0.01))) == -433
    nothing = get_qty(
        "NVDA", 150.0, account=account, moments=beliefs(NVDA=(0.3e-4, 0.01)), cost=1e-3
    )
    assert nothing == 0, "0.15 is held: not worth its cost"


def test_a_cost_comes_off_the_edge() -> None:
    """(1e-4 - 5e-5) · 0.5 / 1e-4 is a quarter."""
    moments = beliefs(NVDA=(1e-4, 0.01))
    assert get_qty("NVDA", 150.0, account=RICH, moments=moments, cost=5e-5) == 166
    assert get_qty("NVDA", 150.0, account=RICH, moments=moments, cost=0.0, tolls=[0.0]) == 333
    assert get_qty("NVDA", 150.0, account=RICH, moments=moments, cost=0.9) == 0


@pytest.mark.parametrize(
    ("symbol", "hours", "least"), [("NVDA", 7.0, 6.99), ("BTCUSD", 24.0, 23.9)]
)
def test_the_deviation_of_a_target_is_that_of_a_year_of_the_symbols_own_bars(
    symbol: str, hours: float, least: float
) -> None:
    """σ 2 % a day is σ · √252 or √365.25 a year; over less than a day nothing moves."""
    ask: dict[str, Any] = {
        "account": RICH,
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


def test_the_legacy_rule_needs_no_forecast_and_follows_one() -> None:
    ask: dict[str, Any] = {"account": RICH, "enhanced": False, "limits": Limits(symbol_cap=4.0)}
    assert get_qty("NVDA", 150.0, moments=None, **ask) == 1_333
    assert get_qty("BTCUSD", 50_000.0, moments=None, **ask) == 1
    assert get_qty("NVDA", 150.0, moments=None, overnight=True, **ask) == 653
    assert get_qty("NVDA", 150.0, moments=beliefs(NVDA=(-1e-9, 0.01)), **ask) == -1_333
    assert (
        get_qty("NVDA", 150.0, moments=None, fallback="legacy", risk_multiplier=0.5, **ask) == 666
    )


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


def test_a_weight_is_a_quantity_at_a_price_and_an_unmoved_one_what_is_held() -> None:
    """The weight of 7 shares need not round back to 7."""
    for equity in np.linspace(9_000, 11_000, 50):
        weight = 7 * 33.33 / equity
        assert target_quantity(weight, weight, Decimal(7), equity, 33.33, Decimal(1)) == 7
    assert target_quantity(0.25, 0.0, Decimal(0), 100_000.0, 150.0, Decimal(1)) == 166
    assert target_quantity(-0.25, 0.0, Decimal(0), 100_000.0, 150.0, Decimal(1)) == -166
    assert target_quantity(0.25, 0.25, Decimal(7), 100_000.0, 150.0, Decimal(1)) == 7
    assert target_quantity(0.0, 0.25, Decimal(7), 100_000.0, 150.0, Decimal(1)) == 0
