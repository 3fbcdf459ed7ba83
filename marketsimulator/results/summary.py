"""What a backtest leaves behind: frames, summary, files, and the table on the screen."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from rich.console import Console
from rich.table import Table

from execution.decision import Choice
from execution.records import Row, Run, rests_on_prior, writers_of
from foundation.files import write_whole
from marketsimulator.results.metrics import (
    Performance,
    annual_turnover,
    daily_equity,
    daily_returns,
    performance,
)
from marketsimulator.results.report import column_names, format_rows, heading, luck, render_report
from marketsimulator.results.significance import deflated_sharpe, intervals, probabilistic_sharpe
from marketsimulator.results.trials import Trial, Trials, config_hash, data_hash
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import Bars
from trainingdata.sessions import stamp, utc_text

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


@dataclass(frozen=True, slots=True)
class Results:
    """A backtest's main run and the runs to compare it with. first: instant number it begins at.
    seconds: that it took.

    placebo: the main run's trader on the same synthetic market without its edge.
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
        known = self.performance(self.main)
        return Trial(
            config_hash=config_hash(asdict(self.settings)),
            data_hash=data_hash(self.bars, self.first),
            source=self.bars.source,
            symbols=self.bars.symbols,
            first=utc_text(self.main.rows[0].at),
            last=utc_text(self.main.rows[-1].at),
            days=known.days,
            daily_sharpe=_daily(known),
            total_return=known.total_return,
            forecaster=self.main.name,
        )

    def summary(self, trials: Trials | None = None) -> dict[str, Any]:
        """The content of `summary.json`; trials: what has been tried on these data, this run
        included.
        """
        return {
            **self.figures(self.main),
            **self.significance(trials),
            "start": pd.Timestamp(self.main.rows[0].at, tz="UTC").isoformat(),
            "end": pd.Timestamp(self.main.rows[-1].at, tz="UTC").isoformat(),
            "symbols": list(self.bars.symbols),
            "data": self.bars.source,
            "prices": PRICES[self.settings.data.adjustment],
            "margin_regime": self.settings.margin.regime,
            "forecaster": self.main.name,
            "seed": self.settings.seed,
            "comparisons": {run.name: self.figures(run) for run in self.comparisons},
            "remarks": self.remarks(trials),
        }

    def performance(self, run: Run) -> Performance:
        """Return and risk of one run."""
        at, equity = run.curve()
        return performance(at, equity, capital=self.settings.capital, coins=self.coins)

    def figures(self, run: Run) -> dict[str, Any]:
        """Returns, risk, exposure and costs of one run; fractions and USD."""
        at, equity = run.curve()
        notional = sum(abs(float(f.qty)) * f.price for f in run.fills)
        kinds = {
            "spread": sum(r.spread for r in run.rows),
            "slippage": sum(r.slippage for r in run.rows),
            "fees": sum(r.fees + r.rounding for r in run.rows),
            "coin_fees": sum(r.coin_fees for r in run.rows),
            "interest": sum(r.interest for r in run.rows),
            "borrow": sum(r.borrow for r in run.rows),
        }
        return {
            **self.performance(run).as_dict(),
            "turnover": annual_turnover(notional, at, equity),
            **exposure(run.rows),
            "rests_on_prior": rests_on_prior(run),
            "costs": sum(kinds.values()),
            "interest": kinds["interest"],
            "costs_by_kind": kinds,
            "dividends": sum(r.dividends for r in run.rows),
            "contributions": contributions(self.bars, run, self.settings.capital),
            "trades": sum(f.price > 0 for f in run.fills),
            "orders": sum(len(d.orders) for d in run.decisions),
            "not_filled_whole": run.not_filled_whole(),
            "margin": run.margin,
        }

    def significance(self, trials: Trials | None) -> dict[str, Any]:
        """How much of the main run may be luck: bootstrap intervals, and the Sharpe ratio
        against all that was tried.
        """
        at, equity = self.main.curve()
        daily, per_year = daily_equity(at, equity, capital=self.settings.capital, coins=self.coins)
        known = self.performance(self.main)
        tried = trials or Trials(1, 0.0)
        ratio = _daily(known)
        real = deflated = None
        if ratio is not None and known.skewness is not None and known.kurtosis is not None:
            moments = {"skewness": known.skewness, "kurtosis": known.kurtosis}
            real = probabilistic_sharpe(ratio, known.days, **moments)
            deflated = deflated_sharpe(
                ratio, known.days, trials=tried.count, variance=tried.variance, **moments
            )
        return {
            "probabilistic_sharpe": real,
            "deflated_sharpe": deflated,
            "trials": tried.count,
            "intervals": intervals(daily_returns(daily), per_year, seed=self.settings.seed),
        }

    def remarks(self, trials: Trials | None) -> list[str]:
        """What a reader of the figures must not miss."""
        notes = []
        if trials is None:
            notes.append(
                "This trial is in no ledger: its Sharpe ratio is not deflated by what else was"
                " tried."
            )
        if self.bars.source.startswith("synthetic"):
            notes.append(
                f"The bars are a {self.bars.source}: the figures say nothing about any real market."
            )
        if self.main.name.startswith("oracle"):
            notes.append("The oracle reads the future: what it earns is not a result.")
        if not self.main.fills:
            notes.append(_no_trades(self.main))
        notes += self._prior_remarks()
        silent = sorted(
            set(self.bars.symbols) - {c.symbol for d in self.main.decisions for c in d.choices}
        )
        if silent:
            notes.append(f"Never decided, for want of a forecast: {', '.join(silent)}.")
        notes += self._broker_remarks()
        failed = sum(bool(d.failure) for d in self.main.decisions)
        if failed:
            notes.append(
                f"Sizing failed at {failed} instants; the log says why, unsolved-….npz hold the"
                " problems."
            )
        return notes

    def _prior_remarks(self) -> list[str]:
        """What rests on the stated premium, and what on the forecast."""
        notes = []
        share = rests_on_prior(self.main)
        walk = next(run for run in self.comparisons if run.name == "random_walk")
        if share is not None:
            notes.append(
                f"{share:.0%} of the mean position rests on the prior, {1 - share:.0%} on the"
                " forecast."
            )
        if self.placebo is not None:
            notes.append(self._without_edge(self.placebo))
        if rests_on_prior(walk) is not None:
            notes.append(
                "The random_walk run is the prior alone: the same decision, without a forecast's"
                " centre."
            )
        if [(f.client_order_id, f.qty) for f in self.main.fills] == [
            (f.client_order_id, f.qty) for f in walk.fills
        ]:
            notes.append("A random walk leads to the same trades: the forecast made no difference.")
        return notes

    def _without_edge(self, run: Run) -> str:
        """What the same trader did where there was nothing to find, in a line."""
        share = rests_on_prior(run)
        trades = sum(f.price > 0 for f in run.fills)
        rests = (
            ""
            if share is None
            else f", {share:.0%} of its position on the prior, {1 - share:.0%} on the forecast"
        )
        earned = self.performance(run).total_return
        return (
            f"The same market without an edge (data.edge=0): {earned:+.2%}, {trades:,}"
            f" trades{rests}."
        )

    def _broker_remarks(self) -> list[str]:
        """What the broker did against the trader's will."""
        notes = []
        for name, what in (
            ("margin_calls", "margin calls, answered by liquidation"),
            ("freezes", "freezes of 90 days"),
        ):
            if self.main.margin[name]:
                notes.append(f"The broker stepped in: {self.main.margin[name]} {what}.")
        short = self.main.not_filled_whole()
        orders = sum(len(d.orders) for d in self.main.decisions)
        if short:
            why = "for want of volume, a bar or buying power"
            notes.append(f"{short:,} of {orders:,} orders did not fill whole, {why}.")
        return notes


def write_results(results: Results, summary: dict[str, Any], output: Path) -> None:
    """Write every file into `output`, each put in place whole once all of them exist; `summary` is
    the results' own.

    Raises
    ------
    InputError
        if the folder cannot be written.
    """
    run = results.main
    ceilings = {d.at: d.stock_ceiling for d in run.decisions}
    unsolved = [(d.at, d.unsolved) for d in run.decisions if d.unsolved is not None]
    writers: dict[str, Callable[[Path], object]] = {
        **writers_of(run),
        "config.yaml": lambda path: path.write_text(
            yaml.safe_dump(_plain(asdict(results.settings)), sort_keys=False)
        ),
        "report.html": lambda path: path.write_text(
            render_report(
                summary,
                [each.equity() for each in results.runs],
                ceilings,
                run.order_frame(),
                run.fill_frame(),
            ),
            encoding="utf-8",
        ),
        "summary.json": lambda path: path.write_text(
            json.dumps(summary, indent=2, allow_nan=False) + "\n"
        ),
        **{f"unsolved-{stamp(at)}.npz": problem.save for at, problem in unsolved[:UNSOLVED]},
    }
    write_whole(writers, output)


def print_results(summary: dict[str, Any], seconds: float, output: Path) -> None:
    """The result table, the remarks, and where the report is."""
    table = Table(
        "", title=f"{heading(summary)}\n{', '.join(summary['symbols'])}\n{summary['data']}"
    )
    for name in column_names(summary):
        table.add_column(name, justify="right")
    for label, cells in format_rows(summary):
        table.add_row(label, *cells)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    if sentence := luck(summary):
        console.print(sentence, soft_wrap=True, highlight=False)
    for remark in summary["remarks"]:
        console.print(remark, soft_wrap=True, highlight=False)
    console.print(
        f"Prices {summary['prices']}; margin rules: {REGIMES[summary['margin_regime']]}.",
        highlight=False,
    )
    console.print(
        f"{seconds:.1f} s. Report: {output / 'report.html'}", soft_wrap=True, highlight=False
    )


def _daily(known: Performance) -> float | None:
    """The Sharpe ratio per day."""
    return None if known.sharpe is None else known.sharpe / float(np.sqrt(known.periods_per_year))


def exposure(rows: list[Row]) -> dict[str, float | None]:
    """Mean and largest gross exposure over equity, stocks and coins together, and the share of
    instants with a position.
    """
    gross = np.array([r.gross_stock + r.gross_crypto for r in rows])
    equity = np.array([r.equity for r in rows])
    sound = equity > 0
    leverage = gross[sound] / equity[sound]
    return {
        "mean_leverage": float(leverage.mean()) if len(leverage) else None,
        "max_leverage": float(leverage.max()) if len(leverage) else None,
        "time_invested": float((gross > 0).mean()),
    }


def contributions(bars: Bars, run: Run, capital: float) -> dict[str, float]:
    """What each symbol's trades and positions added to total_return, after their fees; interest,
    and all other cash.

    They add up to total_return. Dividends, borrow and the rounding of a day's fees are in `other`.
    """
    earned = dict.fromkeys(bars.symbols, 0.0)
    held = dict.fromkeys(bars.symbols, 0.0)
    for f in run.fills:
        earned[f.symbol] -= float(f.qty) * f.price + f.fee
        held[f.symbol] += float(f.qty)
    for symbol, mark in zip(bars.symbols, bars.last_closes().tolist(), strict=True):
        earned[symbol] += held[symbol] * mark if held[symbol] else 0.0
    parts = {symbol: usd / capital for symbol, usd in earned.items()}
    return {
        **parts,
        "interest": -sum(r.interest for r in run.rows) / capital,
        "other": sum(r.other for r in run.rows) / capital,
    }


def _no_trades(run: Run) -> str:
    """The largest edge a decision saw, and the cost that it did not exceed."""
    choices = [c for d in run.decisions for c in d.choices if np.isfinite(c.mu)]
    if not choices:
        return "No trades: no symbol ever decided."
    best: Choice = max(choices, key=lambda c: _edge(c) - c.cost)
    edge = f"{_edge(best) * 1e4:.2f} bp ({best.symbol})"
    cost = f"{best.cost * 1e4:.2f} bp"
    if _edge(best) <= best.cost:
        return f"No trades: the largest edge, {edge}, did not exceed its cost of {cost}."
    why = (
        f"limits: {best.bound_by}"
        if best.binding
        else "too small for one increment at this capital"
    )
    return f"No trades although the largest edge, {edge}, exceeds its cost of {cost} ({why})."


def _edge(c: Choice) -> float:
    """What a decision saw in a symbol, either way: over its plan."""
    return abs(c.rests.earned + c.rests.forecast)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value
