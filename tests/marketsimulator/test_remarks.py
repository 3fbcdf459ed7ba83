"""What a run without trades says of itself."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from execution.decision import Choice, Decision
from marketsimulator.results.remarks import no_trade_remarks

AT = np.datetime64("2024-03-04T21:00", "ns")


def remark(equity: float, *choices: Choice) -> str:
    """The remark of a run with one decision and no fill."""
    decision = Decision(AT, AT + np.timedelta64(1, "D"), equity, 4.0, choices, ())
    run = SimpleNamespace(fills=(), decisions=[decision])
    (said,) = no_trade_remarks(cast(Any, run), "kelly")
    return said


def choice(symbol: str, target: float, price: float) -> Choice:
    return Choice(symbol, 0.0025, 0.02, 1.2, 0.0, target, Decimal(0), price, {}, 0.0002)


def test_a_too_small_account_says_so() -> None:
    said = remark(50.0, choice("AAA", 0.4, 60.0), choice("BBB", -0.5, 200.0))
    assert said == (
        "No trades: the account is too small. Of $50.00, $20.00 were meant for AAA, and one share"
        " costs $60.00; about capital=150 buys one."
    )


@pytest.mark.parametrize(
    ("equity", "of"), [(150.0, ("AAA", 0.4, 60.0)), (50.0, ("BTCUSD", 0.4, 60_000.0))]
)
def test_other_runs_without_trades_name_edge_and_cost(
    equity: float, of: tuple[str, float, float]
) -> None:
    assert remark(equity, choice(*of)).startswith("No trades: the largest edge was ")
