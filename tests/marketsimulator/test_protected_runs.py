"""Backtests with protective orders: kept at every instant, explained, drawn."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from execution.decision.protection import find_protective_orders
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.orders import is_protective_id, is_protective_order
from marketsimulator.account.broker import SimulatedBroker
from marketsimulator.explain import explain
from marketsimulator.results.price_charts import price_charts
from marketsimulator.run_result import Run, run_file_writers
from marketsimulator.runs.simulate import can_run_compiled, simulate_trading
from marketsimulator.settings import BacktestSettings
from tests.support.eager_runs import believing
from trainingdata.market import Market

KINDS = ("stop", "stop_limit", "trailing")


def run_protected(*words: str) -> tuple[Run, BacktestSettings, Market]:
    settings, market, trader = believing("protect.distance=2%", *words)
    assert not can_run_compiled(settings, market)
    return simulate_trading(settings, market, "x", trader), settings, market


protected = cache(run_protected)


@pytest.mark.first_example
@pytest.mark.parametrize("kind", KINDS)
def test_protected_run_keeps_one_stop_within_each_position(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: defaultdict[str, int] = defaultdict(int)

    def check(account: AccountSnapshot) -> None:
        for symbol in {order.symbol for order in account.open_orders}:
            own = [order for order in account.open_orders if order.symbol == symbol]
            stops = find_protective_orders("kelly_50", own)
            held = account.positions.get(symbol, Decimal(0))
            assert len(stops) <= 1
            if stops:
                seen[symbol] += 1
                assert all(order.signed_qty * held < 0 for order in own)
                assert sum(order.qty for order in own) <= abs(held)

    opens = SimulatedBroker.open_bars

    def open_bars(broker: SimulatedBroker) -> None:
        check(broker.account())
        opens(broker)

    monkeypatch.setattr(SimulatedBroker, "open_bars", open_bars)
    run, _, market = run_protected(f"protect.kind={kind}")
    assert set(seen) == set(market.bars.symbols)
    refusals = run.margin_event_counts["refusals"]
    plain, _, _ = protected("fills.remainder=carry")
    assert refusals <= plain.margin_event_counts["refusals"], "no stop is refused"


@pytest.mark.first_example
@pytest.mark.parametrize("kind", KINDS)
def test_stopped_symbol_is_not_opened_in_its_session(kind: str) -> None:
    run, _, market = protected(f"protect.kind={kind}")
    crypto = dict(zip(market.bars.symbols, market.bars.crypto.tolist(), strict=True))
    stopped = {
        (fill.symbol, fill.at.astype("datetime64[D]")): fill.at
        for fill in run.fills
        if is_protective_id(fill.client_order_id)
    }
    assert len(stopped) > 3
    later = [
        order
        for at, order in run.decision_log.orders
        if (since := stopped.get((order.symbol, at.astype("datetime64[D]")))) is not None
        and at >= since
        and (crypto[order.symbol] or at.astype("datetime64[h]").astype(int) % 24 >= 14)
    ]
    assert not [order for order in later if not order.reduces]


def test_protection_without_a_reach_changes_no_fill() -> None:
    far, _, _ = protected("protect.kind=stop", "protect.distance=90%")
    plain, _, _ = protected("fills.remainder=cancel", "sizing.fallback=legacy")
    assert far.fills == plain.fills
    assert [row.equity for row in far.equity_rows] == [row.equity for row in plain.equity_rows]
    assert far.protective_orders
    assert not plain.protective_orders


def test_explain_and_charts_show_stops_with_their_reason(tmp_path: Path) -> None:
    run, _, market = protected("protect.kind=stop")
    for name, write in run_file_writers(run).items():
        write(tmp_path / name)
    (tmp_path / "summary.json").write_text("{}")
    fill = next(each for each in run.fills if is_protective_id(each.client_order_id) and each.price)
    text = explain(tmp_path, order=fill.client_order_id)
    assert "protects" in text
    assert "2 % " in text
    charts = dict(price_charts(run, market.bars, run.order_frame()))
    series = {each.name: each for each in charts[fill.symbol].series}
    assert "protective order" in charts[fill.symbol].description
    drawn = set(series["stop"].values[np.isfinite(series["stop"].values)])
    sent = {o.stop_price for _, o in run.protective_orders if o.symbol == fill.symbol}
    assert drawn <= sent
    notes: list[Any] = [*series["buys"].point_notes, *series["sells"].point_notes]
    assert any(". protects" in note for note in notes)


def test_decisions_cancel_stops_before_their_orders() -> None:
    run, _, _ = protected("protect.kind=stop")
    protective = {order.client_order_id: order for _, order in run.protective_orders}
    cancelled = 0
    for decision in run.decisions:
        released = {o.symbol for o in decision.orders_to_cancel if is_protective_order(o)}
        cancelled += len(released)
        assert released <= {order.symbol for order in decision.orders}
    assert cancelled > 20
    assert len(protective) == len(run.protective_orders), "each id is used once"
