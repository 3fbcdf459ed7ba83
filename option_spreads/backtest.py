r"""Backtests of option spreads with the autoscaler in the loop.

    python -m option_spreads.backtest [years=[1,3]] [seed=0] \
        [strategies=[PUT,IRON_CONDOR]] [output=DIR] [key=value …]
    python -m option_spreads.backtest bars.dir=[DIR] bars.symbol=SPY bars.vix=VIX.parquet

All strategies share one account, which begins with STARTING_CAPITAL, as the live seller's do; what
each would have done with an account to itself stands beside it. Figures, a text report, a picture
of the balance and files of trades that a Monte Carlo can read are written. The index is a model
unless bars are named; either way the options are priced by a model on the volatility index, so the
profits are that model's, not fills.
"""

from __future__ import annotations

from foundation.command import start

if __name__ == "__main__":
    start("option_spreads.backtest")

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from forecasting.forecast import Progress
from foundation.command import Result
from foundation.counts import counted
from foundation.errors import DataError, InputError
from foundation.settings import setting, settings_class
from option_spreads.autoscaler.rules import AutoscalingSettings, strategies_of
from option_spreads.selling.rules import TRADING_DAYS, SpreadCosts, SpreadRules
from option_spreads.simulation.path import IndexDays, IndexModel, index_days
from option_spreads.simulation.pictures import balances_figure, write_picture
from option_spreads.simulation.pricing import Smile
from option_spreads.simulation.selling import (
    MAX_POSITION,
    SpreadAccount,
    SpreadTrade,
    offered_spreads,
    spread_account,
)
from option_spreads.simulation.spread_report import (
    TOGETHER,
    account_figures,
    cost_figures,
    daily_balances,
    report_parts,
    report_text,
    trade_figures,
    trade_table,
)
from trainingdata.bars import Bars
from trainingdata.instants import Unzoned, instant
from trainingdata.sessions import calendar
from trainingdata.source import DataSettings
from trainingdata.timeframe import HOURLY
from trainingdata.volatility_index import RESPONSE, volatility_index

log = logging.getLogger(__name__)

NOTE = "Options are priced by a model on the volatility index: these are its profits, not fills."
SIMULATED_NOTE = (
    " What a seller earns on the simulated index is the premium that is put in (index.premium),"
    " less costs (docs/STUDIES.md)."
)


@settings_class("bars")
class BarsSettings:
    """An index from hourly bars."""

    dir: tuple[str, ...] = setting((), "folders of hourly bars; none means the model")
    zone: str | None = setting(None, "of stamps without one, as America/New_York; none: refused")
    symbol: str = setting("SPY", "whose bars they are")
    scale: float = setting(10.0, "of its prices; 10 reads SPY as the S&P 500", gt=0, lt=1e6)
    vix: str | None = setting(None, "a daily file of the volatility index")
    response: float = setting(
        RESPONSE,
        "log of the volatility index per log of the index lost within a day",
        ge=-20,
        le=20,
        key=False,
    )

    def __post_init__(self) -> None:
        Unzoned(self.zone, "bars.zone")
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

    def read(self) -> Bars:
        """The bars that others confirm; a session that lacks one is not traded."""
        data = DataSettings(self.dir, self.zone, accept_jumps=True)
        try:
            bars = data.bars([self.symbol], None, None, HOURLY, "bars.zone")
        except DataError as error:
            raise DataError(str(error).replace("data.dir:", "bars.dir:", 1)) from error
        for doubt in bars.origins[0].doubts:
            log.warning("%s", doubt)
        return bars


@settings_class()
class SpreadSettings(AutoscalingSettings):
    """Settings of configs/spreads.yaml."""

    strategies: tuple[str, ...] = setting(
        ("CALL", "PUT", "IRON_CONDOR", "OTM_SINGLE_SIDED"),
        "sold from one account, none twice; each is also given its own",
    )
    years: tuple[Annotated[int, Field(ge=1, le=100)], ...] = setting(
        (1,),
        "of 252 sessions, each 1 … 100; of several, figures after each in one run; bars "
        "are traded as far as they go",
    )
    max_position: float = setting(
        MAX_POSITION,
        "collateral of all open spreads, multiples of the balance, as "
        "`guards.max_position` live; beyond 1 the balance is the bound",
        ge=0.01,
        le=10,
    )
    start: str = setting("2024-01-02", "first date of a simulated index")
    seed: int = setting(0, "of the simulated index", ge=0, lt=2**63)
    output: str = setting("outputs/spreads", "folder for the results")
    bars: BarsSettings = setting(BarsSettings(), "an index from files, instead of the model")
    index: IndexModel = setting(IndexModel(), "the model")
    rules: SpreadRules = setting(SpreadRules(), "what is sold, and when it is bought back")
    costs: SpreadCosts = setting(SpreadCosts(), "of an order, by leg")
    smile: Smile = setting(
        Smile(), "implied volatility by strike; a simulated index takes level and session alone"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        strategies_of(self.strategies)
        if not self.years or len(set(self.years)) != len(self.years):
            raise InputError(f"years: {list(self.years)} names none, or one twice")
        instant(self.start, name="start")
        self.rules.refuse_late_entries()

    @property
    def names(self) -> tuple[str, ...]:
        return strategies_of(self.strategies)

    @property
    def quoted(self) -> Smile:
        """What options are priced with: the smile on bars, its level alone on the model.

        Moves of the model are normal: wings would pay the seller for falls that never come.
        """
        return self.smile if self.bars.dir else self.smile.flat

    def session_counts(self, held: int) -> list[int]:
        """Numbers of sessions that figures are given of, rising, the last one of all.

        held: how many there are.
        """
        if len(self.years) == 1:
            return [held]
        counts = sorted(years * TRADING_DAYS for years in self.years)
        if counts[-1] > held:
            raise InputError(
                f"years: {counted(max(self.years), 'year')} are {counts[-1]:,} sessions, and the"
                f" bars hold {held:,} whole ones"
            )
        return [*(count for count in counts if count < held), held]

    def days(self) -> IndexDays:
        """The sessions that are traded."""
        if self.bars.dir and self.bars.vix is not None:
            bars = self.bars.read()
            vix = volatility_index(self.bars.vix)
            return index_days(bars, bars.symbols[0], vix, self.bars.scale, self.bars.response)
        sessions = calendar().dates
        count = max(self.years) * TRADING_DAYS
        dates = sessions[sessions >= np.datetime64(self.start, "D")][:count]
        if len(dates) < count:
            raise InputError(
                f"start, years: the calendar ends before {counted(max(self.years), 'year')} from"
                f" {self.start} passed"
            )
        return self.index.days(dates, self.seed, self.smile)


@dataclass(frozen=True, eq=False, slots=True)
class SpreadRun:
    """What a run of sessions has come to.

    days: the sessions.
    together: the account that all strategies share.
    alone: by strategy, the account that it would have had to itself.
    """

    days: IndexDays
    together: SpreadAccount
    alone: Mapping[str, SpreadAccount]


def run_strategies(settings: SpreadSettings, days: IndexDays) -> list[SpreadRun]:
    """The run over each of the numbers of years, shortest first, the last over all sessions."""
    counts = settings.session_counts(len(days.dates))
    rules = [replace(settings.rules, strategy=name) for name in settings.names]
    # What an entry offers does not hang on an account: all accounts are offered the same.
    offers = offered_spreads(days, rules, settings.costs, settings.quoted)
    runs = []
    for count in counts:
        within = [offer for offer in offers if offer.day < count]
        alone = {
            name: _account(settings, [each for each in within if each.spread.strategy == name])
            for name in settings.names
        }
        runs.append(SpreadRun(_first_days(days, count), _account(settings, within), alone))
    return runs


def _account(settings: SpreadSettings, offers: list[SpreadTrade]) -> SpreadAccount:
    return spread_account(offers, settings, settings.max_position)


def _first_days(days: IndexDays, count: int) -> IndexDays:
    return replace(days, dates=days.dates[:count], spot=days.spot[:count], vix=days.vix[:count])


def run_summary(settings: SpreadSettings, runs: list[SpreadRun]) -> dict[str, Any]:
    """The content of spreads.json: of all sessions, and below `after` of each shorter run."""
    last = runs[-1]
    shorter = {str(len(run.days.dates) // TRADING_DAYS): run for run in runs[:-1]}
    return {
        "index": last.days.source,
        "seed": settings.seed,
        "note": NOTE if settings.bars.dir else NOTE + SIMULATED_NOTE,
        **_run_figures(settings, last),
        "after": {years: _run_figures(settings, run) for years, run in shorter.items()},
    }


def _run_figures(settings: SpreadSettings, run: SpreadRun) -> dict[str, Any]:
    """The figures of one run: of the shared account, by strategy within it, of each one alone."""
    days, costs = run.days, settings.costs

    def figures_of(account: SpreadAccount) -> dict[str, Any]:
        return {**account_figures(account, days), "costs": cost_figures(account.trades, costs)}

    parts = {}
    for name in run.alone:
        part = [trade for trade in run.together.trades if trade.spread.strategy == name]
        parts[name] = {**trade_figures(part), "costs": cost_figures(part, costs)}
    return {
        "first": str(days.dates[0]),
        "last": str(days.dates[-1]),
        "days": len(days.dates),
        "account": {**figures_of(run.together), "by_strategy": parts},
        "strategies": {name: figures_of(account) for name, account in run.alone.items()},
    }


def result_files(
    settings: SpreadSettings, runs: list[SpreadRun], summary: Mapping[str, Any]
) -> dict[str, Callable[[Path], object]]:
    """What writes spreads.json, report.txt, equity.png and the files of trades."""
    run = runs[-1]
    texts = {
        "spreads.json": json.dumps(summary, indent=1, allow_nan=False) + "\n",
        "report.txt": report_text(summary),
        "trades.csv": trade_table(run.together.trades, run.days),
    }
    for name, account in run.alone.items():
        texts[f"trades-{name}.csv"] = trade_table(account.trades, run.days)
    accounts = run.alone if len(run.alone) == 1 else {TOGETHER: run.together, **run.alone}
    figure = balances_figure(
        f"{counted(len(run.days.dates), 'session')} of {run.days.source}",
        run.days.dates,
        {
            name: daily_balances(account.trades, run.days, account.start)
            for name, account in accounts.items()
        },
        float(settings.floor),
        [len(shorter.days.dates) for shorter in runs[:-1]],
    )
    writers: dict[str, Callable[[Path], object]] = {
        name: partial(Path.write_text, data=text, encoding="utf-8") for name, text in texts.items()
    }
    return {**writers, "equity.png": partial(write_picture, figure)}


def run(settings: SpreadSettings, progress: Progress) -> Result:
    """What selling came to, in tables, files and a picture."""
    del progress  # nothing is counted: its bar only moves
    days = settings.days()
    runs = run_strategies(settings, days)
    summary = run_summary(settings, runs)
    return Result(list(report_parts(summary)), files=result_files(settings, runs, summary))
