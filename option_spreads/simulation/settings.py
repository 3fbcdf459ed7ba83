"""Settings of spread backtests and of the Monte Carlo."""

from __future__ import annotations

import logging
from typing import Annotated

import numpy as np

from foundation.errors import DataError, InputError
from foundation.formatting import format_count
from foundation.settings import required_setting, setting, settings_class
from option_spreads.autoscaler.rules import AutoscalingSettings, parse_strategies
from option_spreads.selling.rules import TRADING_DAYS, SpreadCosts, SpreadRules
from option_spreads.simulation.path import IndexModel, IndexPaths, build_index_paths
from option_spreads.simulation.pricing import Smile
from option_spreads.simulation.selling import MAX_COLLATERAL_SHARE
from trainingdata.bars import Bars
from trainingdata.instants import check_time_zone, parse_instant
from trainingdata.sessions import exchange_calendar
from trainingdata.source import DataSettings
from trainingdata.timeframe import HOURLY
from trainingdata.volatility_index import read_volatility_index

log = logging.getLogger(__name__)


@settings_class("bars")
class IndexBarsSettings:
    """Settings of index paths that are built from hourly bars."""

    dir: tuple[str, ...] = setting((), "folders of hourly bars; empty: use the model")
    zone: str | None = setting(
        None,
        "time zone of timestamps without one, such as America/New_York; null: such"
        " timestamps are refused",
    )
    symbol: str = setting("SPY", "symbol of the bars")
    scale: float = setting(
        10.0, "factor on its prices; 10 turns SPY into the S&P 500", gt=0, lt=1e6
    )
    vix: str | None = setting(None, "daily file of the volatility index")

    def __post_init__(self) -> None:
        check_time_zone(self.zone, "bars.zone")
        if self.vix is not None and not self.dir:
            raise InputError("bars.vix: requires bars, but bars.dir is empty; set bars.dir=[DIR]")
        if self.dir and self.vix is None:
            raise InputError(
                "bars.vix: not set; an index from bars needs its volatility index,"
                " bars.vix=VIX.parquet"
            )

    def read_bars(self) -> Bars:
        """Read the symbol's confirmed hourly bars; log data warnings."""
        data = DataSettings(self.dir, self.zone, accept_jumps=True)
        try:
            bars = data.load_panel([self.symbol], None, None, HOURLY)
        except DataError as error:
            message = str(error).replace("data.dir:", "bars.dir:", 1)
            raise DataError(message.replace("data.zone", "bars.zone")) from error
        for doubt in bars.data_warnings:
            log.warning("%s", doubt)
        return bars


@settings_class()
class SpreadSettings(AutoscalingSettings):
    """Settings of configs/spreads.yaml."""

    strategies: tuple[str, ...] = setting(
        ("CALL", "PUT", "IRON_CONDOR", "OTM_SINGLE_SIDED"),
        "strategies sold from one account, each once",
    )
    years: int = setting(
        1, "length in years of 252 sessions; with bars, all their sessions are used", ge=1, le=100
    )
    max_position: float = setting(
        MAX_COLLATERAL_SHARE,
        "maximum collateral of all open spreads, as a multiple of the balance, as"
        " `guards.max_position` live; above 1 the balance is the limit",
        ge=0.01,
        le=10,
    )
    start: str = setting("2024-01-02", "first date of a simulated index")
    seed: int = setting(0, "random seed of the simulated index", ge=0, lt=2**63)
    output: str = setting("outputs/spreads", "folder for the results")
    bars: IndexBarsSettings = setting(
        IndexBarsSettings(), "index from bar files, instead of the model"
    )
    index: IndexModel = setting(IndexModel(), "model of the simulated index")
    rules: SpreadRules = setting(SpreadRules(), "entry and exit rules of all strategies")
    costs: SpreadCosts = setting(SpreadCosts(), "costs of an order, per leg")
    smile: Smile = setting(
        Smile(),
        "implied volatility by strike; on a simulated index only its level and session apply",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_strategies(self.strategies)
        parse_instant(self.start, name="start")
        self.rules.check_entry_times()

    @property
    def pricing_smile(self) -> Smile:
        """Return the smile that prices options: the full smile on bars, a flat one on the model.

        Moves of the model are normal, so that a smile's higher prices of distant strikes would pay
        the seller for crashes that never happen.
        """
        return self.smile if self.bars.dir else self.smile.flat_smile

    def load_index_paths(self) -> IndexPaths:
        """Return the index paths of the backtest, from bars or simulated.

        Raises InputError if the calendar ends before the last session.
        """
        if self.bars.dir and self.bars.vix is not None:
            bars = self.bars.read_bars()
            vix = read_volatility_index(self.bars.vix)
            return build_index_paths(bars, bars.symbols[0], vix, self.bars.scale)
        sessions = exchange_calendar().dates
        count = self.years * TRADING_DAYS
        dates = sessions[sessions >= np.datetime64(self.start, "D")][:count]
        if len(dates) < count:
            raise InputError(
                "start, years: the calendar ends before"
                f" {format_count(self.years, 'year')} after"
                f" {self.start}; choose an earlier start or fewer years"
            )
        return self.index.simulate_paths(dates, self.seed, self.smile)


@settings_class()
class MonteCarloSettings(AutoscalingSettings):
    """Settings of configs/monte_carlo.yaml."""

    trades: str | None = setting(None, "file of closed trades")
    runs: int = setting(10_000, "number of runs", ge=1, le=1_000_000)
    days: int = setting(252, "trading days per run", ge=1, le=100_000)
    seed: int = setting(0, "random seed of the draws", ge=0, lt=2**63)
    trades_per_day: float | None = setting(
        None,
        "mean number of trades per day; null: that of the file, by sessions from first"
        " to last trade",
        gt=0,
        le=1000,
    )
    block: int | None = setting(
        None,
        "number of consecutive trades per block of the block bootstrap; null: those of a week",
        ge=1,
        le=100_000,
    )
    balance_thresholds: tuple[Annotated[float, required_setting("USD", ge=0, le=1e15)], ...] = (
        setting((), "balances in USD; the probability that a run ends above each is reported")
    )
    output: str = setting("outputs/monte-carlo", "folder of the results")

    def effective_block_length(self, trades_per_day: float) -> int:
        """Return the number of trades per block; by default the trades of a week, five sessions."""
        return self.block or max(round(5 * trades_per_day), 1)
