"""Books for stress by hand, and runs through a crash as they lie in their folders."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from omegaconf import OmegaConf

from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.fees import TradingCosts
from execution.orders.lending import MarginTerms
from execution.orders.orders import to_shortest_decimal
from marketsimulator.account.broker import SimulatedBroker
from marketsimulator.results.report import to_plain_value
from marketsimulator.results.run_folder import RunFolder
from marketsimulator.results.stress.book import StressedBook, load_run_book, load_run_settings
from marketsimulator.results.stress.outcomes import ScenarioOutcome, StressResult, run_stress
from marketsimulator.results.stress.scenarios import Scenario
from marketsimulator.run_result import Run, run_file_writers
from marketsimulator.settings import BacktestSettings
from tests.marketsimulator.accounts import FREE, market
from tests.marketsimulator.runs import settings_of
from trainingdata.bars import NO_INSTANTS, OHLCV_FIELDS, build_panel
from trainingdata.instruments import instrument
from trainingdata.sessions import exchange_calendar
from trainingdata.timeframe import HOURLY

CLOSE = np.datetime64("2024-10-04T20:00", "ns")  # a Friday, 16:00 New York
CRASH = "2024-10-07"
COINS_AT = np.datetime64("2024-10-02T15:00", "ns")
STOCKS_AT = np.datetime64("2024-10-02T15:30", "ns")
CHEAP = TradingCosts()
HOUR = np.timedelta64(1, "h")


def book_of(
    positions: Mapping[str, tuple[float, float]],
    equity: float,
    at: np.datetime64 = CLOSE,
    option_risk: float = 0.0,
) -> StressedBook:
    """A book without bars: symbol → quantity and mark; what equity lacks is borrowed."""
    held = {symbol: positions[symbol] for symbol in sorted(positions)}
    cash = equity - sum(quantity * mark for quantity, mark in held.values())
    quantities = {
        symbol: to_shortest_decimal(float(quantity)) for symbol, (quantity, _) in held.items()
    }
    marks = {symbol: mark for symbol, (_, mark) in held.items()}
    nothing = (NO_INSTANTS, np.empty((0, len(OHLCV_FIELDS))))
    tables = [(instrument(symbol), *nothing) for symbol in held]
    bars = build_panel(tables, "by hand", extra_instants=np.array([at]))
    sold = {s: -quantity * mark for s, (quantity, mark) in held.items() if quantity < 0}
    account = AccountSnapshot(cash, quantities, marks, at)
    return StressedBook(account, "by hand", sold, bars, bars, option_risk)


def terms(costs: TradingCosts = FREE, **margin: float) -> BacktestSettings:
    """What a book is settled by; nothing costs anything unless it is said."""
    lent = MarginTerms(**{"interest_rate": 0.0, **margin})  # type: ignore[arg-type]
    return BacktestSettings(costs=costs, margin=lent)


def stress_of(
    book: StressedBook, settled_by: BacktestSettings | None = None, **scenario: object
) -> StressResult:
    """The book under one scenario."""
    one = Scenario(**{"name": "one", "source": "a test", **scenario})  # type: ignore[arg-type]
    return run_stress(book, [one], settled_by or terms())


def outcome_of(
    book: StressedBook, settled_by: BacktestSettings | None = None, **scenario: object
) -> ScenarioOutcome:
    """What one scenario does to a book."""
    return stress_of(book, settled_by, **scenario).outcomes[0]


def book_at(run: Path, at: str, *changes: str) -> tuple[StressedBook, BacktestSettings]:
    """The book of a run in its folder, and what it is settled by."""
    folder = RunFolder(run)
    settings = load_run_settings(folder, OmegaConf.from_dotlist(list(changes)))
    return load_run_book(folder, at, settings), settings


def sold(outcome: ScenarioOutcome) -> dict[str, float]:
    """Signed quantities that the broker closes, by symbol."""
    quantities: dict[str, float] = {}
    for each in outcome.liquidations:
        quantities[each.symbol] = quantities.get(each.symbol, 0.0) + float(each.qty)
    return quantities


def write_bars(
    folder: Path, factors: Mapping[str, float], sessions: int = 10, volume: float = 1e6
) -> Path:
    """Files of bars on a wave around 100 until the crash, at a factor of it from then on."""
    grid = HOURLY.stock_clock
    crash = int(np.searchsorted(exchange_calendar().dates, np.datetime64(CRASH)))
    first, last = (
        exchange_calendar().opens[crash - sessions],
        exchange_calendar().closes[crash + sessions],
    )
    folder.mkdir(parents=True)
    for number, (symbol, factor) in enumerate(factors.items()):
        if symbol.endswith("USD"):
            starts = np.arange(first.astype("datetime64[D]"), last, HOUR).astype("datetime64[ns]")
        else:
            inside = (grid.starts >= first) & (grid.starts < last)
            starts = grid.starts[inside]
        wave = 100 + np.round(3 * np.sin(np.arange(len(starts)) * (0.7 + 0.1 * number)), 2)
        # The last close before the crash is 100, so that the factor is the whole move.
        before = starts < (CLOSE if symbol.endswith("USD") else exchange_calendar().opens[crash])
        price = np.where(before, wave, 100.0 * factor)
        price[np.flatnonzero(before)[-1]] = 100.0
        frame = pd.DataFrame(
            {
                "timestamp": pd.DatetimeIndex(starts).tz_localize("UTC"),
                "open": price,
                "high": price + np.where(before, 0.5, 0.0),
                "low": price - np.where(before, 0.5, 0.0),
                "close": price,
                "volume": volume,
            }
        )
        frame.to_csv(folder / f"{symbol}.csv", index=False)
    return folder


def run_through(
    folder: Path, data: Path, orders: Sequence[tuple[str, str]], *words: str, capital: float = 1.2e5
) -> tuple[Run, BacktestSettings, SimulatedBroker]:
    """A run that trades once, two sessions before the crash, and then holds; in its folder."""
    accepted = f"data.dir=[{data}]", "data.accept_jumps=true"
    told = [*accepted, "trials=null", f"capital={capital:.0f}", *words]
    settings = settings_of(*told)
    bars = settings.load_bars()
    # Coins are bought with cash that nobody has lent, and so before any stock.
    first = int(np.searchsorted(bars.times, np.datetime64("2024-10-02T15:00", "ns")))
    broker = settings.build_broker(settings.data.build_market(bars, first))
    rows = []
    for index in range(first, len(bars.times)):
        if index > first:
            broker.advance(index)
        traded = {COINS_AT: True, STOCKS_AT: False}.get(broker.now())
        now = [(symbol, size) for symbol, size in orders if symbol.endswith("USD") == traded]
        broker.submit([market(f"by-hand-{s}{size}", s, float(size)) for s, size in now])
        broker.open_bars()
        rows.append(broker.equity_row())
    run = Run("by hand", [], broker.fills, rows, broker.margin_event_counts(), broker.bookings)
    folder.mkdir(parents=True)
    for name, write in run_file_writers(run).items():
        write(folder / name)
    (folder / "config.yaml").write_text(yaml.safe_dump(to_plain_value(asdict(settings))))
    (folder / "summary.json").write_text(json.dumps({"total_return": 0.0, "comparisons": {}}))
    return run, settings, broker
