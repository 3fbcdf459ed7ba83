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
from sizing.increments import count_lots
from sizing.quantity import get_qty, target_quantity, truncate_to_increment
from sizing.settings import Limits
from sizing.strategies import strategy_from_name
from tests.support.messages import refused


@dataclass(frozen=True)
class Held:
    """An account that only knows what sizing reads."""

    cash: float
    projected_positions: Mapping[str, Decimal] = field(default_factory=dict)
    prices: Mapping[str, float] = field(default_factory=dict)

    @property
    def equity(self) -> float:
        return self.cash + sum(
            float(q) * self.prices[s] for s, q in self.projected_positions.items()
        )

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


RICH = Held(100_000.0)
SMALL = Held(1_500.0)  # below the margin minimum: unlevered and never short
PAIR = ("NVDA", "AAPL")
HALF = np.array([[1.0, 0.5], [0.5, 1.0]])
APART = {"correlation": np.eye(2)}
WIDE = {"limits": Limits(symbol_cap=4.0)}
LEGACY = {"enhanced": False, **WIDE}
GOOD = beliefs(NVDA=(1e-4, 0.01))
BAD = beliefs(NVDA=(-1e-4, 0.01), BTCUSD=(-1e-4, 0.01))
STRONG = beliefs(NVDA=(1e-2, 0.01))
BESIDE = beliefs(AAPL=(0.0, 0.01), NVDA=(1e-4, 0.01))
# The account's symbols are sorted; those of beliefs need not be, and may be more than have a price.
MIXED = beliefs(ZZZ=(0.0, 0.02), NVDA=(1e-4, 0.01), AAPL=(0.0, 0.01), NONE=(1.0, 1.0))
JOINED = np.eye(4)
JOINED[1, 2] = JOINED[2, 1] = 0.5


def holding(cash: float, **positions: tuple[float, float]) -> Held:
    """An account with positions, each a quantity and a price."""
    quantities = {symbol: Decimal(str(count)) for symbol, (count, _) in positions.items()}
    return Held(cash, quantities, {symbol: price for symbol, (_, price) in positions.items()})


OTHERS = holding(-80_000.0, AAA=(600, 100.0), BBB=(600, 100.0), CCC=(600, 100.0))
LONG = holding(50_000.0, AAPL=(250, 200.0))
BOUGHT = holding(91_000.0, NVDA=(100, 90.0))


@pytest.mark.parametrize(
    ("symbol", "price", "account", "moments", "more", "quantity"),
    [
        # mu 1 bp, σ 1 %: half-Kelly 0.5, 50,000 of 100,000 USD; a coin in thousandths
        ("NVDA", 150.0, RICH, GOOD, {}, "333"),
        ("BTC/USD", 64_000.0, RICH, beliefs(BTCUSD=(1e-4, 0.01)), {}, "0.781"),
        # the sign survives to the order's side; a coin is sold to nothing, never below
        ("NVDA", 150.0, holding(7e4, BTCUSD=(0.5, 6e4)), BAD, APART, "-333"),
        ("BTCUSD", 6e4, holding(7e4, BTCUSD=(0.5, 6e4)), BAD, APART, "-0.5"),
        ("BTCUSD", 6e4, RICH, BAD, APART, "0"),
        # the cap counts what is held and open
        ("NVDA", 150.0, holding(40_000.0, NVDA=(400, 150.0)), STRONG, {}, "0"),
        ("NVDA", 150.0, holding(25_000.0, NVDA=(500, 150.0)), STRONG, {}, "-100"),
        # coins are bought with the 10,000 that are not borrowed, their cost of 0.3 % included
        (
            *("BTCUSD", 5e4, holding(10_000.0, NVDA=(600, 150.0))),
            *(beliefs(BTCUSD=(1e-2, 0.01)), {"cost": 0.003}, "0.199"),
        ),
        # others leave room up to the ceiling; by night 2 % of 2x are kept free
        ("NVDA", 100.0, OTHERS, STRONG, {}, "600"),
        ("NVDA", 100.0, OTHERS, STRONG, {"overnight": True}, "160"),
        (
            *("NVDA", 100.0, OTHERS, STRONG),
            *({"overnight": True, "limits": Limits(overnight_buffer=0.0)}, "200"),
        ),
        ("NVDA", 100.0, OTHERS, STRONG, {"limits": Limits(intraday_leverage=2.5)}, "600"),
        ("NVDA", 100.0, OTHERS, STRONG, {"limits": Limits(intraday_leverage=2.1)}, "300"),
        ("NVDA", 10.0, SMALL, beliefs(NVDA=(-1e-2, 0.01)), {}, "0"),
        ("NVDA", 10.0, SMALL, STRONG, {}, "90"),
        # 1e-4 - 0.5 · 1e-4 · 0.5 / 0.5 is half of what it is alone; opposite, it is at its cap
        ("NVDA", 150.0, LONG, BESIDE, {"correlation": HALF}, "166"),
        ("NVDA", 150.0, LONG, BESIDE, APART, "333"),
        (
            *("NVDA", 150.0, holding(150_000.0, AAPL=(-250, 200.0)), BESIDE),
            *({"correlation": HALF}, "400"),
        ),
        # no deviation, no pull
        (
            *("NVDA", 150.0, LONG, beliefs(AAPL=(0.0, np.nan), NVDA=(1e-4, 0.01))),
            *({"correlation": HALF}, "333"),
        ),
        (
            *("NVDA", 150.0, holding(5e4, AAPL=(250, 200.0), ZZZ=(0, 10.0)), MIXED),
            *({"correlation": JOINED}, "166"),
        ),
        # a price given is the price, whatever the 100 held were worth before
        ("NVDA", 150.0, BOUGHT, GOOD, {}, "233"),
        ("nvda", 150.0, BOUGHT, beliefs(NVDA=(-1e-4, 0.01)), {}, "-433"),
        ("NVDA", 150.0, BOUGHT, beliefs(NVDA=(0.3e-4, 0.01)), {"cost": 1e-3}, "0"),
        # (1e-4 - 5e-5) · 0.5 / 1e-4 is a quarter
        ("NVDA", 150.0, RICH, GOOD, {"cost": 5e-5}, "166"),
        ("NVDA", 150.0, RICH, GOOD, {"cost": 0.9}, "0"),
        # the legacy rule needs no forecast and follows one
        ("NVDA", 150.0, RICH, None, LEGACY, "1333"),
        ("BTCUSD", 5e4, RICH, None, LEGACY, "1"),
        ("NVDA", 150.0, RICH, None, {**LEGACY, "overnight": True}, "653"),
        ("NVDA", 150.0, RICH, beliefs(NVDA=(-1e-9, 0.01)), LEGACY, "-1333"),
        ("NVDA", 150.0, RICH, None, {**WIDE, "fallback": "legacy", "risk_multiplier": 0.5}, "666"),
        # without equity nothing is added and what is held is closed, as by `Trader.decide`
        ("NVDA", 1.0, Held(0.0), GOOD, {}, "0"),
        ("NVDA", 1.0, Held(0.0), GOOD, {"fallback": "legacy"}, "0"),
        ("NVDA", 100.0, holding(-10_000.0, NVDA=(50, 100.0)), GOOD, {}, "-50"),
    ],
)
def test_order_quantity_matches_hand_calculation(
    symbol: str,
    price: float,
    account: Held,
    moments: Beliefs | None,
    more: dict[str, Any],
    quantity: str,
) -> None:
    assert get_qty(symbol, price, account=account, moments=moments, **more) == Decimal(quantity)


def test_log_contains_the_phrases_operators_search_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    get_qty("NVDA", 150.0, account=RICH, moments=GOOD)
    get_qty("BTCUSD", 150.0, account=RICH, moments=beliefs(BTCUSD=(1e-4, 0.01)))
    get_qty("NVDA", 150.0, account=RICH, moments=GOOD, enhanced=False)
    get_qty("NVDA", 150.0, account=RICH, moments=None)
    get_qty("NVDA", 150.0, account=Held(0.0), moments=GOOD)
    for phrase in (
        "Enhanced Kelly sizing with 4.0x leverage",
        "Enhanced Kelly sizing with no leverage (crypto)",
        "Legacy sizing",
        "Enhanced sizing failed: account: equity is",
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
def test_symbol_without_beliefs_gets_zero_unless_fallback_set(gap: dict[str, Any]) -> None:
    """Without a forecast there is no plausible default; the legacy rule is used only if
    configured.
    """
    assert get_qty("NVDA", 150.0, account=RICH, **gap) == 0
    assert get_qty("NVDA", 150.0, account=RICH, fallback="legacy", **gap) == 400


class Unpriced(Held):
    equity = 1e5  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("wrong", "facts"),
    [
        ({"correlation": np.eye(3)}, ("correlation", "3", "2")),
        ({"moments": Beliefs(PAIR, np.zeros(3), np.ones(2))}, ("moments.mu", "3", "2")),
        ({"moments": Beliefs(PAIR, np.zeros(2), np.ones(1))}, ("moments.sigma",)),
        ({"moments": Beliefs(PAIR, np.zeros(2), np.array([0.1, np.inf]))}, ("moments.sigma",)),
        ({"moments": Beliefs(PAIR, np.zeros((1, 2)), np.ones((1, 2)))}, ("moments.mu", "(1, 2)")),
        ({"account": Unpriced(1e5, {"AAPL": Decimal(3)})}, ("account", "AAPL")),
        ({"cost": 1.0}, ("cost", "1.0")),
        *(({"price": price}, ("price",)) for price in (0.0, np.nan, np.inf)),
    ],
)
def test_inconsistent_sizing_inputs_are_named_in_the_error(
    wrong: dict[str, Any], facts: tuple[str, ...]
) -> None:
    moments = beliefs(NVDA=(1e-4, 0.01), AAPL=(1e-4, 0.01))
    good = {"price": 150.0, "account": RICH, "moments": moments, "correlation": np.eye(2)}
    with refused(InputError, *facts):
        get_qty("NVDA", **{**good, **wrong})


STEPS = st.sampled_from([Decimal(1), Decimal("0.1"), Decimal("0.0001"), Decimal("0.000000001")])


@pytest.mark.parametrize(
    ("symbol", "hours", "least"), [("NVDA", 7.0, 6.99), ("BTCUSD", 24.0, 23.9)]
)
def test_target_volatility_annualises_with_the_symbols_trading_days(
    symbol: str, hours: float, least: float
) -> None:
    """A daily σ of 2 % is σ · √252 or √365.25 a year; over less than a day the weight stays."""
    ask: dict[str, Any] = {
        "account": RICH,
        "moments": Beliefs((symbol,), np.zeros(1), np.array([0.02])),
        "strategy": strategy_from_name("vol_target"),
        "limits": Limits(symbol_cap=0.9),
    }
    year = {"NVDA": 252.0, "BTCUSD": 365.25}[symbol]
    expected = 0.15 / (0.02 * year**0.5) * 100_000 / 50
    found = get_qty(symbol, 50.0, hours=hours, **ask)
    assert float(found) == pytest.approx(expected, abs=1.0)
    assert get_qty(symbol, 50.0, hours=least, **ask) == 0
    longer = get_qty(symbol, 50.0, hours=4 * hours, **ask)
    assert float(longer) == pytest.approx(2 * expected if 2 * expected < 1_800 else 1_800, abs=1.0)


@given(st.integers(-10_000_000, 10_000_000), STEPS, st.floats(-0.9e-6, 0.999998))
def test_quantity_is_truncated_to_lots_within_float_tolerance(
    count: int, step: Decimal, beyond: float
) -> None:
    """A float a millionth of a lot below a whole one counts as whole; other fractions are cut
    off.
    """
    if count == 0 and beyond < 0:
        beyond = 0.0
    part = (
        beyond if abs(beyond) > 3e-9 * max(abs(count), 1) else 0.0
    )  # what a float of this size can hold
    quantity = (count + (part if count >= 0 else -part)) * float(step)
    assert count_lots(quantity, float(step)) == count
    assert truncate_to_increment(quantity, step) == count * step


def test_unchanged_weight_keeps_the_held_quantity() -> None:
    """The weight of 7 shares need not round back to 7."""
    for equity in np.linspace(9_000, 11_000, 50):
        weight = 7 * 33.33 / equity
        assert target_quantity(weight, weight, Decimal(7), equity, 33.33, Decimal(1)) == 7
    assert target_quantity(0.25, 0.0, Decimal(0), 100_000.0, 150.0, Decimal(1)) == 166
    assert target_quantity(-0.25, 0.0, Decimal(0), 100_000.0, 150.0, Decimal(1)) == -166
    assert target_quantity(0.25, 0.25, Decimal(7), 100_000.0, 150.0, Decimal(1)) == 7
    assert target_quantity(0.0, 0.25, Decimal(7), 100_000.0, 150.0, Decimal(1)) == 0
