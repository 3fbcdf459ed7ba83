"""The practice server's sums over shorts, coins and options are those of Alpaca's reference."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.practice import Start, broker, order, trading
from tests.support.spreads import LEGS, SPREAD


def test_practice_account_equity_is_cash_plus_all_positions(practice: Start, vix: Path) -> None:
    here = practice(f"options.vix={vix}", "options.symbols=[SYC]")
    mine = broker(here)
    here.advance("2024-02-20T16:00:00Z")
    mine.submit([order("a-1", "SYXUSD", qty="0.1", tif="gtc")])
    here.advance("2024-02-20T16:30:00Z")
    mine.submit([order("a-2"), order("a-3", "SYB", side="sell")])
    client: Any = trading(here)
    client.post("/orders", {**SPREAD, "legs": LEGS})
    facts = client.get("/account")
    cash, equity, long, short = (
        float(facts[name]) for name in ("cash", "equity", "long_market_value", "short_market_value")
    )
    values = {each["symbol"]: float(each["market_value"]) for each in client.get("/positions")}
    assert {"SYA", "SYB", "SYXUSD", *(leg["symbol"] for leg in LEGS)} <= set(values)
    assert long == pytest.approx(sum(value for value in values.values() if value > 0))
    assert short == pytest.approx(sum(value for value in values.values() if value < 0))
    assert equity == pytest.approx(cash + long + short)
    assert values["SYB"] < 0 < values["SYA"]
    account = mine.account()
    assert account.positions["SYB"] == Decimal(-10)
    assert account.equity == pytest.approx(equity)
