"""The seller of spreads: it does what the backtest does, loses nothing when it is killed, and sends nothing it should not."""

from __future__ import annotations

from pathlib import Path

import pytest
from selling import COSTS, SMILE, practising_seller

from marketsimulator.options import simulate
from marketsimulator.spread_backtest import trade_table
from sizing.trade_rows import rows_of


@pytest.mark.parametrize("strategies", [("PUT",), ("CALL", "IRON_CONDOR", "OTM_SINGLE_SIDED")])
def test_the_seller_books_what_the_backtest_says(tmp_path: Path, strategies: tuple[str, ...]) -> None:
    """The promise: the backtest is the live system, also for spreads."""
    here = practising_seller(tmp_path, 12, 3, *strategies)
    seller = here.seller()
    for _ in here.market.points():
        here.desk.advance()
        seller.step()
    trades = simulate(here.market.days, here.told.rules, COSTS, SMILE, here.told.sizing)
    _, theirs = rows_of(trade_table(trades, here.market.days).encode())
    _, mine = rows_of((here.folder / "trades.csv").read_bytes())
    names = ("Timestamp_ET", "Strategy", "Strikes", "Position_Size", "Exit_Time", "P/L_$", "Exit_Reason")
    order = lambda rows: sorted(tuple(row[name] for name in names) for row in rows)  # noqa: E731
    assert len(mine) > 20
    assert order(mine) == order(theirs)
    assert not here.desk.held()
