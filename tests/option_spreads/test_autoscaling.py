"""Contracts of an option spread: the figures of the specification, exactly, and the order of
the rules.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from foundation.errors import InputError
from option_spreads.autoscaler.rules import (
    AutoscalingSettings,
    TradeStatistics,
    compute_max_risk,
    count_contracts,
    recommend_max_contracts,
)
from tests.support.messages import refused

RISK = Fraction(250)


def results(wins: int, win: str, losses: int, loss: str) -> list[Fraction]:
    return [Fraction(win)] * wins + [-Fraction(loss)] * losses


def number(balance: float, history: list[Fraction], risk: float = 250, **more: object) -> int:
    settings = AutoscalingSettings(**more)  # type: ignore[arg-type]
    window = history[-settings.ROLLING_WINDOW :]
    return count_contracts(
        Fraction(str(balance)),
        TradeStatistics.from_profits(window),
        len(history),
        Fraction(str(risk)),
        settings,
    ).contracts


def test_negative_kelly_fraction_gives_one_contract() -> None:
    statistics = TradeStatistics.from_profits(results(11, "56.00", 34, "34.62"))
    assert statistics.kelly_fraction is not None
    assert f"{statistics.win_rate:.1%}" == "24.4%"
    assert float(statistics.kelly_fraction) == pytest.approx(
        -0.22265, abs=5e-6
    )  # from the rounded averages
    unrounded = TradeStatistics.from_profits(
        [*results(11, "56.00", 33, "34.62"), Fraction("-34.54")]
    ).kelly_fraction
    assert f"{float(unrounded or 0):.2%}" == "-22.26%"
    assert f"{float(statistics.kelly_fraction) / 2:.2%}" == "-11.13%"
    assert number(19_995, results(11, "56.00", 34, "34.62")) == 1
    assert number(19_995, results(11, "56.00", 34, "34.62"), NEGATIVE_KELLY_CONTRACTS=0) == 0


def test_bootstrap_of_27_contracts_is_capped_at_3() -> None:
    prior = {"BOOTSTRAP_MODE": "prior"}
    assert number(20_000, [], 150, **prior) == 3
    assert number(20_000, [], 150, MAX_CONTRACTS=100, **prior) == 27
    kelly = count_contracts(
        Fraction(20_000),
        TradeStatistics.from_profits([]),
        0,
        RISK,
        AutoscalingSettings(BOOTSTRAP_MODE="prior"),
    ).kelly_fraction
    assert f"{float(kelly or 0):.2%}" == "41.07%"
    assert number(20_000, [], 150) == 1


@pytest.mark.parametrize(
    ("balance", "enabled", "trades", "expected"),
    [
        (8_000, True, 45, 0),
        (8_000, False, 45, 0),
        (9_999.99, True, 0, 0),
        (10_000, True, 0, 1),
        (10_000, False, 45, 1),
        (20_000, True, 9, 1),
        (20_000, True, 10, 3),
    ],
)
def test_safety_halt_applies_even_without_autoscaling(
    balance: float, enabled: bool, trades: int, expected: int
) -> None:
    good = results(trades, "100", 0, "1")
    assert number(balance, good, AUTOSCALING_ENABLED=enabled) == expected


EVEN = results(10, "100", 10, "90")  # Kelly 0.05


@pytest.mark.parametrize(
    ("balance", "history", "more", "expected"),
    [
        # Half of 0.05 of 20,000 at a risk of 250 is exactly 2; in floats it may be 1.9999….
        (20_000, EVEN, {}, 2),
        (19_999.99, EVEN, {}, 1),
        (20_000, results(10, "0.3", 10, "0.27"), {}, 2),
        # No winners are negative, Kelly zero is one.
        (20_000, results(0, "1", 12, "5"), {"NEGATIVE_KELLY_CONTRACTS": 0}, 0),
        (20_000, results(6, "50", 6, "50"), {"NEGATIVE_KELLY_CONTRACTS": 0}, 1),
        # Only the window counts, and all trades end the bootstrap.
        (20_000, results(0, "1", 100, "50") + results(50, "100", 0, "1"), {}, 3),
        (
            20_000,
            results(0, "1", 100, "50") + results(50, "100", 0, "1"),
            {"ROLLING_WINDOW": 60},
            3,
        ),
        (20_000, results(5, "100", 0, "1"), {"ROLLING_WINDOW": 5}, 1),
    ],
)
def test_contract_count_is_exact_over_its_rolling_window(
    balance: float, history: list[Fraction], more: dict[str, Any], expected: int
) -> None:
    assert number(balance, history, **more) == expected


def test_trade_statistics_count_zero_profit_as_a_loss() -> None:
    statistics = TradeStatistics.from_profits([Fraction(0)] * 5 + [Fraction(10)] * 5)
    assert (statistics.win_count, statistics.loss_count) == (5, 5)
    assert TradeStatistics.from_profits(EVEN).kelly_fraction == Fraction(1, 20)
    assert TradeStatistics.from_profits(results(0, "1", 12, "5")).kelly_fraction is None
    assert TradeStatistics.from_profits(EVEN, 3.0) == TradeStatistics.from_profits(
        results(10, "97", 10, "93")
    )


def test_safety_halt_reason_states_the_exact_threshold() -> None:
    """A third of 12,344.44 is 4,114.81 and a third of a cent: 4,114.81 is below the threshold."""
    settings = AutoscalingSettings(STARTING_CAPITAL=12_344.44, SAFETY_HALT_PCT=1 / 3)
    nothing = TradeStatistics.from_profits([])
    halted = count_contracts(Fraction("4114.81"), nothing, 0, RISK, settings)
    assert (halted.contracts, halted.reason) == (0, "safety halt: balance below $4,114.82")
    assert not count_contracts(Fraction("4114.82"), nothing, 0, RISK, settings).is_halted


@pytest.mark.parametrize(
    ("strategy", "credit", "width", "condor", "expected"),
    [
        ("CALL", 2.5, None, "formula", 250),
        ("put", 2.5, None, "formula", 250),
        ("IRON_CONDOR", 2.7, None, "formula", 230),
        ("IC", 2.7, None, "formula", 230),
        ("OTM_SINGLE_SIDED", 1.0, None, "formula", 900),
        ("OTM-SS", 0.5, None, "formula", 950),
        ("PUT", 3.0, 15, "formula", 1200),
        ("CALL", 0.1, 0.3, "formula", 20),
        # The earlier table knows a width of 5 alone.
        ("IRON_CONDOR", 2.7, None, "table", 250),
        ("IRON_CONDOR", 2.7, 10, "table", 730),
        ("CALL", 2.7, None, "table", 230),
    ],
)
def test_contract_risk_is_width_less_credit(
    strategy: str, credit: float, width: float | None, condor: Any, expected: float
) -> None:
    assert compute_max_risk(strategy, credit, width, condor_risk=condor) == expected


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        *(("strategy", each) for each in (("STRADDLE", 1), (None, 2.5))),
        *(("entry_credit", ("PUT", each)) for each in (5, -1, "2.5", float("nan"))),
        *(("width", ("PUT", 2.5, each)) for each in (0, "5", float("inf"))),
    ],
)
def test_invalid_spread_is_refused_by_argument(name: str, arguments: tuple[Any, ...]) -> None:
    with refused(InputError, name):
        compute_max_risk(*arguments)


def test_recommended_contract_cap_grows_with_the_balance() -> None:
    assert [
        recommend_max_contracts(b) for b in (5_000, 10_000, 19_999, 20_000, 50_000, 99_999, 100_000)
    ] == [1, 2, 2, 3, 5, 5, 10]
