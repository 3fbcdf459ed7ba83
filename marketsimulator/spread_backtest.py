"""Backtests of option spreads with the autoscaler in the loop.

    python -m marketsimulator.spread_backtest [years=3] [seed=0] [strategies=[PUT,IRON_CONDOR]] \
        [output=DIR] [key=value …]
    python -m marketsimulator.spread_backtest bars.dir=[DIR] bars.symbol=SPY bars.vix=VIX.parquet

Every strategy trades alone, from STARTING_CAPITAL, and leaves a row of figures and a file of trades
that a Monte Carlo can read. The index is a model unless bars are named; either way the options are
priced by a model on the volatility index, so the profits are that model's, not fills.
"""

from __future__ import annotations

from foundation.opening import open_command

if __name__ == "__main__":
    open_command("marketsimulator.spread_backtest", __doc__, settings="spreads", hydra=True)

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from execution.spreads.rules import TRADING_DAYS, SpreadCosts, SpreadRules
from foundation.arrays import Array
from foundation.command import log_to_file, one_line_errors
from foundation.compose import hydra_command
from foundation.configuration import output_of, settings_with_inner
from foundation.counts import counted
from foundation.errors import DataError, InputError, refuse_outside
from foundation.files import write_whole
from foundation.progress import ProgressBar
from marketsimulator.options.path import IndexDays, IndexModel, index_days
from marketsimulator.options.pricing import Smile
from marketsimulator.options.selling import SpreadTrade, simulate_selling
from sizing.autoscaler.rules import AutoscalingSettings, strategy_of
from sizing.autoscaler.trades import COLUMNS, csv_of
from trainingdata.bar_files import read_bars
from trainingdata.instants import Unzoned, instant
from trainingdata.sessions import stock_grid
from trainingdata.volatility_index import RESPONSE, volatility_index

OPENING_MINUTE = 570  # of the day, 09:30 New York
NOTE = "Options are priced by a model on the volatility index: these are its profits, not fills."


@dataclass(frozen=True, slots=True)
class BarsSettings:
    """An index from hourly bars.

    dir: folders of hourly bars; none means the model.
    zone: of stamps that say none, as America/New_York; none: those are refused.
    symbol: whose bars they are.
    scale: of its prices, above 0; 10 reads SPY as the S&P 500.
    vix: a daily file of the volatility index.
    response: log of the volatility index per log of the index lost within a day, -20 … 20.
    """

    dir: tuple[str, ...] = ()
    zone: str | None = None
    symbol: str = "SPY"
    scale: float = 10.0
    vix: str | None = None
    response: float = RESPONSE

    def __post_init__(self) -> None:
        self.unzoned()
        refuse_outside(self, "bars", response=(-20, 20))
        if not 0 < self.scale < 1e6:
            raise InputError(f"bars.scale: {self.scale} is not above 0")
        if self.vix is not None and not self.dir:
            raise InputError(
                "bars.vix: it goes with bars, and none are named; name their folder, too,"
                " bars.dir=[DIR]"
            )
        if self.dir and self.vix is None:
            raise InputError(
                "bars.vix: an index from bars needs a file of its volatility index,"
                " bars.vix=VIX.parquet"
            )

    def unzoned(self) -> Unzoned:
        """What stamps without a zone mean."""
        return Unzoned(self.zone, "bars.zone")


@dataclass(frozen=True, slots=True)
class SpreadSettings:
    """Settings of configs/spreads.yaml.

    strategies: names, each traded alone.
    years: of 252 sessions, 1 … 100; bars have as many as they have.
    start: first date of a simulated index.
    seed: of the simulated index, 0 … 2^63.
    output: folder for the results.
    bars: an index from files, instead of the model.
    index: the model.
    rules: what is sold, and when it is bought back.
    costs: of an order, by leg.
    smile: implied volatility by strike.
    sizing: the autoscaler's, which stand beside the others under its usual names.
    """

    strategies: tuple[str, ...] = ("CALL", "PUT", "IRON_CONDOR", "OTM_SINGLE_SIDED")
    years: int = 1
    start: str = "2024-01-02"
    seed: int = 0
    output: str = "outputs/spreads"
    bars: BarsSettings = field(default_factory=BarsSettings)
    index: IndexModel = field(default_factory=IndexModel)
    rules: SpreadRules = field(default_factory=SpreadRules)
    costs: SpreadCosts = field(default_factory=SpreadCosts)
    smile: Smile = field(default_factory=Smile)
    sizing: AutoscalingSettings = field(default_factory=AutoscalingSettings)

    def __post_init__(self) -> None:
        if not self.strategies:
            raise InputError("strategies: name at least one")
        for name in self.strategies:
            strategy_of(name, "strategies")
        if not 1 <= self.years <= 100:
            raise InputError(f"years: {self.years} is outside 1 … 100")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed: {self.seed} is outside 0 … 2^63")
        instant(self.start, name="start")

    @classmethod
    def of(cls, config: DictConfig) -> SpreadSettings:
        """The checked settings of a composed configuration.

        Raises
        ------
        InputError
            naming the key, the value and what was expected.
        """
        return settings_with_inner(
            cls, "sizing", AutoscalingSettings, config, lists=("strategies", "bars.dir")
        )

    def days(self) -> IndexDays:
        """The sessions that are traded.

        Raises
        ------
        InputError
            for files that cannot be used, or a calendar that does not reach.
        """
        if self.bars.dir and self.bars.vix is not None:
            folders = [Path(folder).expanduser() for folder in self.bars.dir]
            try:
                bars = read_bars(folders, [self.bars.symbol], unzoned=self.bars.unzoned())
            except DataError as error:
                raise DataError(str(error).replace("data.dir:", "bars.dir:", 1)) from error
            vix = volatility_index(self.bars.vix)
            return index_days(bars, bars.symbols[0], vix, self.bars.scale, self.bars.response)
        calendar = stock_grid().dates
        count = self.years * TRADING_DAYS
        dates = calendar[calendar >= np.datetime64(self.start, "D")][:count]
        if len(dates) < count:
            raise InputError(
                f"start, years: the calendar ends before {counted(self.years, 'year')} from"
                f" {self.start} passed"
            )
        return self.index.days(dates, self.seed, self.smile)


def run_strategies(settings: SpreadSettings, days: IndexDays) -> dict[str, list[SpreadTrade]]:
    """The trades of each strategy, which has the account to itself."""
    # On one account strategies would share the statistics and the balance that size them: alone, a
    # row says what its strategy did.
    trades = {}
    for word in settings.strategies:
        name = strategy_of(word)
        rules = [replace(settings.rules, strategy=name)]
        trades[name] = simulate_selling(
            days, rules, settings.costs, settings.smile, settings.sizing
        )
    return trades


def figures(trades: list[SpreadTrade], days: IndexDays, start: float) -> dict[str, Any]:
    """What a strategy did: results in USD a contract, balances in USD, shares of trades.

    Parameters
    ----------
    trades: of one strategy, in order.
    days: the path that they were made on.
    start: balance before the first trade, USD.
    """
    results = np.array([float(trade.result) for trade in trades])
    sizes = np.array([trade.contracts for trade in trades], dtype=float)
    entry_days = [trade.day for trade in trades]
    exits = [trade.exit for trade in trades]
    wins = results > 0
    return {
        "trades": len(trades),
        "win_rate": _mean(wins),
        "average_win": _mean(results[wins]),
        "average_loss": _mean(results[~wins]),
        "mean": _mean(results),
        "mean_error": _mean_error(results, entry_days),
        "worst": float(results.min()) if trades else None,
        "largest_possible_loss": max((trade.max_loss for trade in trades), default=None),
        "mean_contracts": _mean(sizes),
        "exits": {name: exits.count(name) / len(exits) for name in sorted(set(exits))},
        **_balance_figures(results * sizes, entry_days, days, start),
    }


def _balance_figures(
    profits: Array, entry_days: list[int], days: IndexDays, start: float
) -> dict[str, float | None]:
    """Figures of the balance at each day's end; profits: of each trade, all its contracts, USD."""
    # Days without a trade count as well: √252 is for all sessions of a year.
    daily = np.zeros(len(days.dates))
    np.add.at(daily, entry_days, profits)
    balance = start + np.concatenate([[0.0], np.cumsum(daily)])
    returns = np.diff(balance) / balance[:-1]
    downside = float(np.sqrt((np.minimum(returns, 0) ** 2).mean()))
    sortino = None
    if downside > 0:
        sortino = float(returns.mean() / downside * np.sqrt(TRADING_DAYS))
    return {
        "final_balance": float(balance[-1]),
        "total_return": float(balance[-1] / start - 1),
        "max_drawdown": float((1 - balance / np.maximum.accumulate(balance)).max()),
        "sortino": sortino,
    }


def _mean(values: npt.NDArray[Any]) -> float | None:
    return float(values.mean()) if len(values) else None


def _mean_error(results: Array, entry_days: list[int]) -> float | None:
    """Standard error of the mean result; None for fewer than two days.

    Trades of a day share its path, so their deviations are added up before they are squared. Taken
    as independent, they would make the error too small.
    """
    count = len(set(entry_days))
    if count < 2:
        return None
    deviations = np.zeros(max(entry_days) + 1)
    np.add.at(deviations, entry_days, results - results.mean())
    return float(np.sqrt((deviations**2).sum() * count / (count - 1)) / len(results))


def trade_table(trades: list[SpreadTrade], days: IndexDays) -> str:
    """The text of a file of closed trades, with the autoscaler's own columns."""
    rows = []
    for number, trade in enumerate(trades):
        date = days.dates[trade.day]
        strikes = "/".join(f"{leg.strike:g}" for leg in trade.spread.legs)
        row = {
            "Timestamp_ET": f"{date} {_clock_text(days.minutes[trade.entry_row])}",
            "Trade_ID": f"{trade.spread.strategy}-{number}",
            "Strategy": trade.spread.strategy,
            "Strikes": strikes,
            "Entry_Credit": f"{trade.credit:.4f}",
            "Position_Size": str(trade.contracts),
            "Exit_Time": f"{date} {_clock_text(days.minutes[trade.exit_row])}",
            # The column holds the total of a position, not the result of a contract.
            "P/L_$": f"{float(trade.result * trade.contracts):.2f}",
            "Exit_Reason": trade.exit,
        }
        rows.append(row)
    return csv_of(list(COLUMNS), rows)


def _clock_text(minutes: float) -> str:
    """Time of day in New York, so many minutes after the open."""
    hours, rest = divmod(int(OPENING_MINUTE + minutes), 60)
    return f"{hours:02d}:{rest:02d}"


def _print_table(summary: Mapping[str, Any]) -> None:
    columns = [_figure_texts(strategy) for strategy in summary["strategies"].values()]
    title = f"{counted(summary['days'], 'session')} of {summary['index']}"
    table = Table("", *summary["strategies"], title=title)
    for label in columns[0]:
        table.add_row(label, *(column[label] for column in columns))
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    console.print(f"USD per contract where not said otherwise. {summary['note']}", highlight=False)


def _figure_texts(figures: Mapping[str, Any]) -> dict[str, str]:
    """The figures of a strategy that people look for, by label."""

    def text(name: str, style: str) -> str:
        return "n/a" if figures[name] is None else format(figures[name], style)

    exits = figures["exits"]
    expired = exits.get("expired", 0) + exits.get("settled", 0)
    worst = f"{text('worst', ',.0f')}, {text('largest_possible_loss', ',.0f')}"
    return {
        "trades": f"{figures['trades']:,}",
        "win rate": text("win_rate", ".1%"),
        "average win, loss": f"{text('average_win', ',.0f')}, {text('average_loss', ',.0f')}",
        "mean, standard error": f"{text('mean', '+,.1f')}, {text('mean_error', ',.1f')}",
        "worst, largest possible": worst,
        "stopped, gapped": f"{exits.get('stop', 0):.1%}, {exits.get('gap', 0):.1%}",
        "held to the close": f"{expired:.1%}",
        "mean contracts": text("mean_contracts", ".2f"),
        "final balance": f"${figures['final_balance']:,.0f}",
        "return, drawdown": f"{figures['total_return']:+.1%}, {figures['max_drawdown']:.1%}",
        "Sortino": text("sortino", ".2f"),
    }


def _run_composed(config: DictConfig) -> None:
    with one_line_errors("nothing was written") as folders:
        output = Path(str(config.output)).expanduser()
        folders.append(output)
        settings = SpreadSettings.of(config)
        days = settings.days()
        output_of(config, "spreads.json")
        log_to_file("spreads")
        with ProgressBar():
            trades = run_strategies(settings, days)
        capital = settings.sizing.STARTING_CAPITAL
        summary = {
            "index": days.source,
            "first": str(days.dates[0]),
            "last": str(days.dates[-1]),
            "days": len(days.dates),
            "seed": settings.seed,
            "note": NOTE,
            "strategies": {name: figures(closed, days, capital) for name, closed in trades.items()},
        }
        texts = {"spreads.json": json.dumps(summary, indent=1, allow_nan=False) + "\n"}
        for name, closed in trades.items():
            texts[f"trades-{name}.csv"] = trade_table(closed, days)
        write_whole({name: partial(_write, text) for name, text in texts.items()}, output)
    _print_table(summary)


def _write(text: str, path: Path) -> None:
    path.write_text(text)


def main() -> None:
    """Hydra entry."""
    hydra_command("spreads", _run_composed, SpreadSettings.of)


if __name__ == "__main__":
    main()
