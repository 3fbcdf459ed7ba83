"""A cycle of the live loop that orders nothing is one line on the terminal."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from execution.decision import Choice, Decision
from execution.live.cycle import Cycle
from execution.orders import Account
from trade_stock_e2e import show, show_briefly
from trainingdata.bars import Bars, closes_of


def test_an_idle_hour_is_one_line_and_a_preview_of_it_is_the_table(
    market: Bars, capsys: pytest.CaptureFixture[str]
) -> None:
    account = Account(1000.0, {}, closes_of(market), market.now)
    choice = Choice(
        *("SYXUSD", 0.0, 0.01, 0.0, 0.0, 0.0, Decimal(0), 1.0), binding={"cost": 0.0}, cost=0.003
    )
    until = market.now + np.timedelta64(1, "h")
    decision = Decision(market.now, until, 1000.0, 4.0, (choice,), ())
    cycle = Cycle(account, market, decision, ())
    show_briefly(cycle)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("Z: equity $1,000.00, no order of SYXUSD (cost).")
    show(cycle)
    assert len(capsys.readouterr().out.splitlines()) > 5
