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

import sizing
from foundation.arrays import Array
from foundation.errors import InputError
from sizing.limits import Limits
from sizing.quantity import get_qty, target_quantity, truncate_to_increment


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


RICH = Held(100_000.0)


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
    assert (
        get_qty("NVDA", 100.0, account=account, moments=strong, overnight=True) == 160
    )  # 2 % of 2× are kept free
    exactly = Limits(overnight_buffer=0.0)
    assert (
        get_qty("NVDA", 100.0, account=account, moments=strong, limits=exactly, overnight=True)
        == 200
    )
    assert (
        get_qty(
            "NVDA", 100.0, account=account, moments=strong, limits=Limits(intraday_leverage=2.5)
        )
        == 600
    )
    assert (
        get_qty(
            "NVDA", 100.0, account=account, moments=strong, limits=Limits(intraday_leverage=2.1)
        )
        == 300
    )


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


def test_legacy_takes_half_and_obeys_the_same_limits() -> None:
    """Half the buying power of 4 × equity is 2 ×; the cap leaves 60 %. A coin takes half of
    equity.
    """
    assert get_qty("NVDA", 150.0, account=RICH, moments=None, enhanced=False) == 400
    assert (
        get_qty("NVDA", 150.0, account=RICH, moments=None, enhanced=False, risk_multiplier=0.1)
        == 133
    )
    assert (
        get_qty("NVDA", 150.0, account=RICH, moments=beliefs(NVDA=(-1e-4, 0.01)), enhanced=False)
        == -400
    )
    assert get_qty("BTCUSD", 50_000.0, account=RICH, moments=None, enhanced=False) == 1
    full = Held(0.0, {"NVDA": Decimal(1000)}, {"NVDA": 100.0})
    assert get_qty("BTCUSD", 50_000.0, account=full, moments=None, enhanced=False) == 0


@pytest.mark.parametrize("price", [0.0, -1.0, float("nan"), float("inf")])
def test_a_price_that_is_none_is_refused(price: float) -> None:
    with pytest.raises(InputError, match="price"):
        get_qty("NVDA", price, account=RICH, moments=beliefs(NVDA=(1e-4, 0.01)))


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


def test_get_qty_is_offered_by_the_room() -> None:
    assert sizing.get_qty is get_qty


@given(
    st.floats(-1e6, 1e6), st.sampled_from([Decimal(1), Decimal("0.001"), Decimal("0.000000001")])
)
def test_a_quantity_is_whole_increments_and_never_further_from_zero(
    quantity: float, increment: Decimal
) -> None:
    answer = truncate_to_increment(quantity, increment)
    assert answer % increment == 0
    assert abs(answer) <= abs(Decimal(repr(quantity))) * (
        1 + Decimal("3e-16")
    ) + increment * Decimal("1e-6")
    assert abs(Decimal(repr(quantity)) - answer) < increment


def test_a_float_just_short_of_a_whole_step_is_that_step() -> None:
    assert truncate_to_increment(1.9999999999, Decimal(1)) == 2
    assert truncate_to_increment(-0.29999999999999999, Decimal("0.1")) == Decimal("-0.3")


def test_an_unmoved_weight_is_an_unmoved_quantity() -> None:
    """The weight of 7 shares need not round back to 7."""
    for equity in np.linspace(9_000, 11_000, 50):
        weight = 7 * 33.33 / equity
        assert target_quantity(weight, weight, Decimal(7), equity, 33.33, Decimal(1)) == 7


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        ({"symbol_cap": 0}, "symbol_cap"),
        ({"intraday_leverage": -1}, "intraday_leverage"),
        ({"overnight_leverage": float("nan")}, "overnight_leverage"),
        ({"crypto_leverage": 2}, "crypto_leverage"),
        ({"margin_equity": -1}, "margin_equity"),
    ],
)
def test_limits_out_of_range_are_named(wrong: dict[str, float], names: str) -> None:
    with pytest.raises(InputError, match=names):
        Limits(**wrong)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"correlation": np.eye(3)}, r"correlation: shape \(3, 3\), 2 symbols need \(2, 2\)"),
        (
            {"moments": Beliefs(("NVDA", "AAPL"), np.zeros(3), np.ones(2))},
            r"moments.mu: shape \(3,\), 2 symbols need \(2,\)",
        ),
        ({"moments": Beliefs(("NVDA", "AAPL"), np.zeros(2), np.ones(1))}, "moments.sigma"),
        (
            {
                "moments": Beliefs(
                    ("NVDA", "AAPL"), np.zeros((2, 2)), np.array([[0.1, 0.1], [0.1, np.inf]])
                )
            },
            "moments.sigma",
        ),
        (
            {
                "moments": Beliefs(
                    ("NVDA", "AAPL"), np.zeros((2, 2)), np.array([[0.1, 0.1], [0.1, -0.1]])
                )
            },
            "moments.sigma",
        ),
        (
            {"moments": Beliefs(("NVDA", "AAPL"), np.zeros((0, 2)), np.zeros((0, 2)))},
            "moments.sigma",
        ),
        ({"tolls": ["a"]}, "tolls"),
        ({"tolls": [1e-4, 1e-4]}, "tolls"),
        ({"signal": float("nan")}, "signal: nan is outside"),
        ({"cost": float("nan")}, "cost: nan is outside"),
        ({"cost": -1e-4}, "cost: -0.0001 is outside"),
    ],
)
def test_beliefs_that_do_not_belong_together_are_named(wrong: dict[str, Any], says: str) -> None:
    good = {
        "account": RICH,
        "moments": beliefs(NVDA=(1e-4, 0.01), AAPL=(1e-4, 0.01)),
        "correlation": np.eye(2),
    }
    with pytest.raises(InputError, match=says):
        get_qty("NVDA", 150.0, **{**good, **wrong})


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
