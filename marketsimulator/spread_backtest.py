"""Backtests of option spreads with the autoscaler in the loop: a table a strategy, and trades that
a Monte Carlo can read.

    python -m marketsimulator.spread_backtest [years=3] [seed=0] [strategies=[PUT,IRON_CONDOR]]
    [output=DIR] [key=value …] python -m marketsimulator.spread_backtest bars.dir=[DIR]
    bars.symbol=SPY bars.vix=VIX.parquet

Every strategy trades alone, from STARTING_CAPITAL. The index is a model unless bars are named;
either way the options are priced by a model on the volatility index, so the profits are that
model's, not fills.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
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
from foundation.command import log_to_file, one_line
from foundation.compose import hydra_command
from foundation.configuration import settings_beside
from foundation.errors import InputError, refuse_outside
from foundation.files import check_output, write_whole
from marketsimulator.options.path import IndexDays, IndexModel, index_days
from marketsimulator.options.pricing import Smile
from marketsimulator.options.selling import SpreadTrade, simulate_selling
from sizing.autoscaler.rules import AutoscalingSettings, strategy_of
from sizing.autoscaler.trades import COLUMNS, csv_of
from trainingdata.bars import read_bars
from trainingdata.sessions import stock_grid
from trainingdata.volatility_index import RESPONSE, volatility_index

NOTE = "Options are priced by a model on the volatility index: these are its profits, not fills."


@dataclass(frozen=True, slots=True)
class BarsSettings:
    """dir: folders of hourly bars; none means the model. scale: of prices. vix: a daily file;
    response: see `index_days`.
    """

    dir: tuple[str, ...] = ()
    symbol: str = "SPY"
    scale: float = 10.0
    vix: str | None = None
    response: float = RESPONSE

    def __post_init__(self) -> None:
        refuse_outside(self, "bars", response=(-20, 20))
        if not 0 < self.scale < 1e6:
            raise InputError(f"bars.scale: {self.scale} is not above 0")
        if self.dir and self.vix is None:
            raise InputError(
                "bars.vix: an index from bars needs a file of its volatility index,"
                " bars.vix=VIX.parquet"
            )


@dataclass(frozen=True, slots=True)
class SpreadSettings:
    """Settings of configs/spreads.yaml; sizing: the autoscaler's, which stand beside the others
    under its usual names.
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
            strategy_of(name)
        if not 1 <= self.years <= 100:
            raise InputError(f"years: {self.years} is outside 1 … 100")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed: {self.seed} is outside 0 … 2^63")
        try:
            np.datetime64(self.start, "D")
        except ValueError:
            raise InputError(f"start: {self.start!r} is no date") from None

    @classmethod
    def of(cls, config: DictConfig) -> SpreadSettings:
        """The checked settings of a composed configuration.

        Raises
        ------
        InputError
            naming the key, the value and what was expected.
        """
        return settings_beside(
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
            bars = read_bars([Path(d).expanduser() for d in self.bars.dir], [self.bars.symbol])
            return index_days(
                bars,
                bars.symbols[0],
                volatility_index(self.bars.vix),
                self.bars.scale,
                self.bars.response,
            )
        grid = stock_grid()
        dates = grid.dates[grid.dates >= np.datetime64(self.start, "D")][
            : self.years * TRADING_DAYS
        ]
        if len(dates) < self.years * TRADING_DAYS:
            raise InputError(
                f"start, years: the calendar ends before {self.years} years from {self.start} have"
                " passed"
            )
        return self.index.days(dates, self.seed)


def run(settings: SpreadSettings, days: IndexDays) -> dict[str, list[SpreadTrade]]:
    """The trades of each strategy, alone."""
    names = [strategy_of(name) for name in settings.strategies]
    told = settings.costs, settings.smile, settings.sizing
    return {
        name: simulate_selling(days, [replace(settings.rules, strategy=name)], *told)
        for name in names
    }


def figures(trades: list[SpreadTrade], days: IndexDays, start: float) -> dict[str, Any]:
    """What a strategy did: USD, per contract where said, shares of trades."""
    result = np.array([float(trade.result) for trade in trades])
    flows = result * np.array([trade.contracts for trade in trades], dtype=float)
    daily = np.zeros(len(days.dates))
    np.add.at(daily, [trade.day for trade in trades], flows)
    curve = start + np.concatenate([[0.0], np.cumsum(daily)])
    returns = np.diff(curve) / curve[:-1]
    downside = float(np.sqrt((np.minimum(returns, 0) ** 2).mean()))
    exits = [trade.exit for trade in trades]
    wins = result > 0
    return {
        "trades": len(trades),
        "win_rate": float(wins.mean()) if len(trades) else None,
        "average_win": float(result[wins].mean()) if wins.any() else None,
        "average_loss": float(result[~wins].mean()) if (~wins).any() else None,
        "mean": float(result.mean()) if len(trades) else None,
        "mean_error": _mean_error(result, [trade.day for trade in trades]),
        "worst": float(result.min()) if len(trades) else None,
        "largest_possible_loss": max((trade.max_loss for trade in trades), default=None),
        "mean_contracts": float(np.mean([trade.contracts for trade in trades])) if trades else None,
        "exits": {name: exits.count(name) / len(exits) for name in sorted(set(exits))},
        "final_balance": float(curve[-1]),
        "total_return": float(curve[-1] / start - 1),
        "max_drawdown": float((1 - curve / np.maximum.accumulate(curve)).max()),
        "sortino": float(returns.mean() / downside * np.sqrt(TRADING_DAYS))
        if downside > 0
        else None,
    }


def _mean_error(result: npt.NDArray[np.float64], days: list[int]) -> float | None:
    """Standard error of the mean result, trades of a day together; None for fewer than two days."""
    count = len(set(days))
    if count < 2:
        return None
    apart = np.zeros(max(days) + 1)
    np.add.at(apart, days, result - result.mean())
    return float(np.sqrt((apart**2).sum() * count / (count - 1)) / len(result))


def trade_table(trades: list[SpreadTrade], days: IndexDays) -> str:
    """The text of a file of closed trades, as the autoscaler's own."""
    rows = []
    for number, trade in enumerate(trades):
        date = days.dates[trade.day]
        strikes = "/".join(f"{leg.strike:g}" for leg in trade.spread.legs)
        row = {
            "Timestamp_ET": f"{date} {_clock(days.minutes[trade.entered])}",
            "Trade_ID": f"{trade.spread.strategy}-{number}",
            "Strategy": trade.spread.strategy,
            "Strikes": strikes,
            "Entry_Credit": f"{trade.credit:.4f}",
            "Position_Size": str(trade.contracts),
            "Exit_Time": f"{date} {_clock(days.minutes[trade.left])}",
            "P/L_$": f"{float(trade.result * trade.contracts):.2f}",
            "Exit_Reason": trade.exit,
        }
        rows.append(row)
    return csv_of(list(COLUMNS), rows)


def _clock(minutes: float) -> str:
    return f"{int(570 + minutes) // 60:02d}:{int(570 + minutes) % 60:02d}"


def show(told: Mapping[str, Any]) -> None:
    """Print the table."""
    rows: dict[str, Callable[[Any], str]] = {
        "trades": lambda f: f"{f['trades']:,}",
        "win rate": lambda f: _text(f["win_rate"], ".1%"),
        "average win, loss": lambda f: (
            f"{_text(f['average_win'], ',.0f')}, {_text(f['average_loss'], ',.0f')}"
        ),
        "mean, standard error": lambda f: (
            f"{_text(f['mean'], '+,.1f')}, {_text(f['mean_error'], ',.1f')}"
        ),
        "worst, largest possible": lambda f: (
            f"{_text(f['worst'], ',.0f')}, {_text(f['largest_possible_loss'], ',.0f')}"
        ),
        "stopped, gapped": lambda f: (
            f"{f['exits'].get('stop', 0):.1%}, {f['exits'].get('gap', 0):.1%}"
        ),
        "held to the close": lambda f: (
            f"{f['exits'].get('expired', 0) + f['exits'].get('settled', 0):.1%}"
        ),
        "mean contracts": lambda f: _text(f["mean_contracts"], ".2f"),
        "final balance": lambda f: f"${f['final_balance']:,.0f}",
        "return, drawdown": lambda f: f"{f['total_return']:+.1%}, {f['max_drawdown']:.1%}",
        "Sortino": lambda f: _text(f["sortino"], ".2f"),
    }
    table = Table("", *told["strategies"], title=f"{told['days']} sessions of {told['index']}")
    for name, cell in rows.items():
        table.add_row(name, *(cell(each) for each in told["strategies"].values()))
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    console.print(f"USD per contract where not said otherwise. {told['note']}", highlight=False)


def _text(value: float | None, form: str) -> str:
    return "n/a" if value is None else format(value, form)


def _run_composed(config: DictConfig) -> None:
    with one_line("nothing was written") as made:
        output = Path(str(config.output))
        made.append(output)
        settings = SpreadSettings.of(config)
        days = settings.days()
        check_output(output)
        log_to_file("spreads")
        trades = run(settings, days)
        capital = settings.sizing.STARTING_CAPITAL
        told = {
            "index": days.source,
            "first": str(days.dates[0]),
            "last": str(days.dates[-1]),
            "days": len(days.dates),
            "seed": settings.seed,
            "note": NOTE,
            "strategies": {name: figures(done, days, capital) for name, done in trades.items()},
        }
        text = json.dumps(told, indent=1, allow_nan=False) + "\n"
        writers: dict[str, Callable[[Path], object]] = {"spreads.json": partial(_write, text)}
        for name, done in trades.items():
            writers[f"trades-{name}.csv"] = partial(_write, trade_table(done, days))
        write_whole(writers, output)
    show(told)


def _write(text: str, path: Path) -> None:
    path.write_text(text)


def main() -> None:
    """Hydra entry."""
    hydra_command("spreads", _run_composed)


if __name__ == "__main__":
    main()
