"""What a backtest leaves behind: summary, files, and the table on the screen."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from rich.console import Console
from rich.table import Table

from execution.records import Row, Run, prior_share, writers_of
from forecasting.forecast import reads_future
from foundation.files import write_whole
from marketsimulator.results.metrics import (
    Performance,
    annual_turnover,
    daily_equity,
    daily_returns,
    performance,
)
from marketsimulator.results.remarks import (
    broker_remarks,
    failure_remarks,
    market_remarks,
    no_trade_remarks,
    placebo_remark,
    prior_remarks,
    random_walk_remarks,
    undecided_remarks,
)
from marketsimulator.results.report import (
    column_names,
    format_rows,
    heading,
    render_report,
    significance_text,
)
from marketsimulator.results.significance import deflated_sharpe, intervals, probabilistic_sharpe
from marketsimulator.results.trials import Trial, TrialStatistics, config_hash, data_hash
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import Bars
from trainingdata.instants import compact_text, utc_text

RANDOM_WALK = "random_walk"  # the comparison that shows what the forecast adds
BUY_AND_HOLD = "buy_and_hold"  # the comparison that shows what deciding adds
UNSOLVED = 20  # problems kept of a run
PRICES = {
    "split": "adjusted for splits",
    "all": "adjusted for splits and dividends",
    "raw": "raw",
}
REGIMES = {
    "current": "those of autumn 2026 on every date",
    "dated": "as of each date; before 2026-06-04 the pattern-day-trader rule",
}
NO_LEDGER = "This trial is in no ledger: its Sharpe ratio is not deflated by what else was tried."


@dataclass(frozen=True, slots=True)
class Results:
    """A backtest's main run and the runs to compare it with.

    settings: of the main run.
    bars: the panel of all runs.
    first: number of the instant that the runs begin at.
    main: the configured trader.
    comparisons: the same trader on a random walk, and buy-and-hold.
    seconds: that all of it took.
    placebo: the main run's trader on the same synthetic market without its edge; none where it was
        not asked for.
    """

    settings: BacktestSettings
    bars: Bars
    first: int
    main: Run
    comparisons: tuple[Run, ...]
    seconds: float
    placebo: Run | None = None

    @property
    def runs(self) -> tuple[Run, ...]:
        """The main run, then what it is compared with."""
        return (self.main, *self.comparisons)

    @property
    def coins(self) -> bool:
        """Whether a coin is in the universe: days are then calendar days."""
        return bool(self.bars.crypto.any())

    def trial(self) -> Trial:
        """The main run as the trial ledger keeps it."""
        figures = self.performance(self.main)
        return Trial(
            config_hash=config_hash(asdict(self.settings)),
            data_hash=data_hash(self.bars, self.first),
            source=self.bars.source,
            symbols=self.bars.symbols,
            first=utc_text(self.main.rows[0].at),
            last=utc_text(self.main.rows[-1].at),
            days=figures.days,
            daily_sharpe=figures.daily_sharpe(),
            total_return=figures.total_return,
            forecaster=self.main.name,
        )

    def summary(self, trials: TrialStatistics | None = None) -> dict[str, Any]:
        """The content of `summary.json`.

        trials: what has been tried on these data, this run included; None without a ledger.
        """
        figures = self.figures(self.main)
        comparisons = {run.name: self.figures(run) for run in self.comparisons}
        return {
            **figures,
            **self.significance(trials),
            "start": pd.Timestamp(self.main.rows[0].at, tz="UTC").isoformat(),
            "end": pd.Timestamp(self.main.rows[-1].at, tz="UTC").isoformat(),
            "symbols": list(self.bars.symbols),
            "data": self.bars.source,
            "prices": PRICES[self.settings.data.adjustment],
            "margin_regime": self.settings.margin.regime,
            "forecaster": self.main.name,
            "seed": self.settings.seed,
            "comparisons": comparisons,
            "remarks": [
                *([NO_LEDGER] if trials is None else []),
                *market_remarks(self.bars.source, reads_future=reads_future(self.main.name)),
                *no_trade_remarks(self.main),
                *self._prior_remarks(figures, comparisons),
                *undecided_remarks(self.main, self.bars.symbols),
                *broker_remarks(self.main),
                *failure_remarks(self.main),
            ],
        }

    def performance(self, run: Run) -> Performance:
        """Return and risk of one run."""
        at, equity = run.curve()
        return performance(at, equity, capital=self.settings.capital, coins=self.coins)

    def figures(self, run: Run) -> dict[str, Any]:
        """Returns, risk, exposure and costs of one run; fractions and USD."""
        at, equity = run.curve()
        notional = sum(abs(float(fill.qty)) * fill.price for fill in run.fills)
        kinds = costs_by_kind(run.rows)
        return {
            **self.performance(run).as_dict(),
            "turnover": annual_turnover(notional, at, equity),
            **exposure(run.rows),
            "rests_on_prior": prior_share(run),
            "costs": sum(kinds.values()),
            "interest": kinds["interest"],
            "costs_by_kind": kinds,
            "dividends": sum(row.dividends for row in run.rows),
            "contributions": contributions(self.bars, run, self.settings.capital),
            "trades": trade_count(run),
            "orders": sum(len(decision.orders) for decision in run.decisions),
            "not_filled_whole": run.not_filled_whole(),
            "margin": run.margin,
        }

    def significance(self, trials: TrialStatistics | None) -> dict[str, Any]:
        """Intervals of the main run's figures, and its Sharpe ratio against all that was tried.

        Without a ledger the run counts as the only trial.
        """
        at, equity = self.main.curve()
        daily, per_year = daily_equity(at, equity, capital=self.settings.capital, coins=self.coins)
        figures = self.performance(self.main)
        tried = trials or TrialStatistics(1, 0.0)
        ratio = figures.daily_sharpe()
        probabilistic = deflated = None
        if ratio is not None and figures.skewness is not None and figures.kurtosis is not None:
            moments = {"skewness": figures.skewness, "kurtosis": figures.kurtosis}
            probabilistic = probabilistic_sharpe(ratio, figures.days, **moments)
            deflated = deflated_sharpe(
                ratio, figures.days, trials=tried.count, variance=tried.variance, **moments
            )
        return {
            "probabilistic_sharpe": probabilistic,
            "deflated_sharpe": deflated,
            "trials": tried.count,
            "intervals": intervals(daily_returns(daily), per_year, seed=self.settings.seed),
        }

    def _prior_remarks(
        self, figures: Mapping[str, Any], comparisons: Mapping[str, Mapping[str, Any]]
    ) -> list[str]:
        """What rests on the stated premium, and what on the forecast."""
        notes = prior_remarks(figures["rests_on_prior"])
        if self.placebo is not None:
            earned = self.performance(self.placebo).total_return
            trades = trade_count(self.placebo)
            notes.append(placebo_remark(earned, trades, prior_share(self.placebo)))
        walk = next(run for run in self.comparisons if run.name == RANDOM_WALK)
        share = comparisons[RANDOM_WALK]["rests_on_prior"]
        return notes + random_walk_remarks(self.main, walk, share)


def write_results(results: Results, summary: dict[str, Any], output: Path) -> None:
    """Write every file into `output`, each put in place whole once all of them exist.

    summary: the results' own.

    Raises
    ------
    InputError
        if the folder cannot be written.
    """
    run = results.main

    def write_config(path: Path) -> None:
        path.write_text(yaml.safe_dump(_plain(asdict(results.settings)), sort_keys=False))

    def write_report(path: Path) -> None:
        equity = [each.equity() for each in results.runs]
        ceilings = {decision.at: decision.stock_ceiling for decision in run.decisions}
        page = render_report(summary, equity, ceilings, run.order_frame(), run.fill_frame())
        path.write_text(page, encoding="utf-8")

    def write_summary(path: Path) -> None:
        path.write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n")

    writers: dict[str, Callable[[Path], object]] = {
        **writers_of(run),
        "config.yaml": write_config,
        "report.html": write_report,
        "summary.json": write_summary,
    }
    unsolved = [(decision.at, decision.unsolved) for decision in run.decisions]
    problems = [(at, problem) for at, problem in unsolved if problem is not None]
    for at, problem in problems[:UNSOLVED]:
        writers[f"unsolved-{compact_text(at)}.npz"] = problem.save
    write_whole(writers, output)


def print_results(summary: dict[str, Any], seconds: float, output: Path) -> None:
    """The result table, the remarks, and where the report is."""
    title = f"{heading(summary)}\n{', '.join(summary['symbols'])}\n{summary['data']}"
    table = Table("", title=title)
    for name in column_names(summary):
        table.add_column(name, justify="right")
    for label, cells in format_rows(summary):
        table.add_row(label, *cells)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    if sentence := significance_text(summary):
        console.print(sentence, soft_wrap=True, highlight=False)
    for remark in summary["remarks"]:
        console.print(remark, soft_wrap=True, highlight=False)
    regime = REGIMES[summary["margin_regime"]]
    console.print(f"Prices {summary['prices']}; margin rules: {regime}.", highlight=False)
    console.print(
        f"{seconds:.1f} s. Report: {output / 'report.html'}", soft_wrap=True, highlight=False
    )


def costs_by_kind(rows: list[Row]) -> dict[str, float]:
    """USD of each kind of cost, positive when paid."""
    return {
        "spread": sum(row.spread for row in rows),
        "slippage": sum(row.slippage for row in rows),
        # A day's fees are rounded up to the cent in their sum: the rounding is a fee as well.
        "fees": sum(row.fees + row.rounding for row in rows),
        "coin_fees": sum(row.coin_fees for row in rows),
        "interest": sum(row.interest for row in rows),
        "borrow": sum(row.borrow for row in rows),
    }


def trade_count(run: Run) -> int:
    """Number of trades; coin fees and splits are on the tape as fills at price 0."""
    return sum(fill.price > 0 for fill in run.fills)


def exposure(rows: list[Row]) -> dict[str, float | None]:
    """Gross exposure over equity, stocks and coins together: mean, largest; share of time in it."""
    gross = np.array([row.gross_stock + row.gross_crypto for row in rows])
    equity = np.array([row.equity for row in rows])
    solvent = equity > 0
    leverage = gross[solvent] / equity[solvent]
    return {
        "mean_leverage": float(leverage.mean()) if len(leverage) else None,
        "max_leverage": float(leverage.max()) if len(leverage) else None,
        "time_invested": float((gross > 0).mean()),
    }


def contributions(bars: Bars, run: Run, capital: float) -> dict[str, float]:
    """What each symbol's trades and positions added to total_return, after their fees.

    With `interest` and all other cash, `other`, they add up to total_return. Dividends, borrow and
    the rounding of a day's fees are in `other`.
    """
    earned = dict.fromkeys(bars.symbols, 0.0)
    quantity = dict.fromkeys(bars.symbols, 0.0)
    for fill in run.fills:
        earned[fill.symbol] -= float(fill.qty) * fill.price + fill.fee
        quantity[fill.symbol] += float(fill.qty)
    for symbol, mark in zip(bars.symbols, bars.last_closes().tolist(), strict=True):
        # A symbol that has had no bar yet has NaN for a close, and was never bought.
        if quantity[symbol]:
            earned[symbol] += quantity[symbol] * mark
    parts = {symbol: usd / capital for symbol, usd in earned.items()}
    return {
        **parts,
        "interest": -sum(row.interest for row in run.rows) / capital,
        "other": sum(row.other for row in run.rows) / capital,
    }


def _plain(value: Any) -> Any:
    """The same in dicts and lists alone."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
