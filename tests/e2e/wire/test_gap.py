"""A gap between two bars on a book of four times equity: said by stress, met with stops resting."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from alpaca.trading.enums import OrderSide, TimeInForce
from alpaca.trading.requests import StopOrderRequest

from foundation.compose import compose_config
from foundation.decimals import to_cents
from marketsimulator.results.stress.book import load_account_book
from marketsimulator.results.stress.outcomes import run_stress
from marketsimulator.results.stress.scenarios import Scenario
from marketsimulator.settings import BacktestSettings
from tests.e2e.practice import KEYS, SPAN, Start, buy, trading
from trainingdata.bars import CLOSE, OPEN, VOLUME, Bars
from trainingdata.feed.endpoint import BrokerSettings

GAP = 0.12
NOON = np.datetime64("2024-02-20T17:30", "ns")  # the gap is at the open of the bar that starts here


def gapped(bars: Bars) -> Bars:
    """Every bar after noon is lower, so that the first opens 12 % below the last close."""
    values = bars.values.copy()
    for s in range(len(bars.symbols)):
        rows = np.flatnonzero(bars.mask[s])
        after = rows[bars.times[rows] > NOON]
        before = rows[bars.times[rows] <= NOON][-1]
        values[s, after, :VOLUME] *= (
            values[s, before, CLOSE] * (1 - GAP) / values[s, after[0], OPEN]
        )
        values[s, after[0], OPEN] = values[s, before, CLOSE] * (1 - GAP)
    return replace(bars, values=values)


def test_gap_costs_what_stress_says(practice: Start) -> None:
    here = practice("symbols=[SYA,SYB]", "start=2024-02-20T16:30Z", bars=gapped)
    venue, client = here.venue, trading(here)
    prices = venue.broker.account().prices
    for symbol in ("SYA", "SYB"):
        client.submit_order(buy(symbol, qty=int(195_000 / prices[symbol])))
    for symbol, held in venue.broker.account().positions.items():
        client.submit_order(
            StopOrderRequest(
                symbol=symbol,
                qty=float(held),
                side=OrderSide.SELL,
                time_in_force=TimeInForce.GTC,
                stop_price=round(0.95 * prices[symbol], 2),
            )
        )
    here.advance("2024-02-20T17:30Z")
    account = venue.broker.account()
    row = venue.broker.equity_row()
    assert row.gross_stock / row.equity > 3.8
    assert len(account.open_orders) == 2

    settings = BacktestSettings.from_config(compose_config("backtest", [*SPAN]))
    book = load_account_book(BrokerSettings(url_override=here.url), KEYS, settings)
    gap = Scenario(name="gap", source="a test", stocks=-GAP)
    (said,) = run_stress(book, [gap], settings).outcomes
    assert float(said.loss) == pytest.approx(GAP * row.gross_stock, abs=0.01)
    slippage = 2e-4 * (1 - GAP) * row.gross_stock  # 1 bp of half-spread, 1 bp of slippage
    assert float(said.stop_cost) == pytest.approx(slippage, rel=0.3)

    here.advance("2024-02-20T18:30Z")
    assert venue.broker.account().positions == {}, "both stops have filled at the open"
    lost = row.equity - venue.broker.equity_row().equity
    assert to_cents(lost) == pytest.approx(said.loss_with_stops, abs=to_cents(0.02))
