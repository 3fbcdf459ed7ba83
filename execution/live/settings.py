"""Settings of a live loop; the names of the fields are the keys in configs/live.yaml."""

from __future__ import annotations

import math
from dataclasses import fields

from omegaconf import DictConfig, OmegaConf

from execution.decision.settings import TradingSettings
from execution.live.accounts import SHADOW_JOB, TRADE_JOB
from execution.live.guards import GuardSettings
from foundation.errors import InputError, invalid_choice_error
from foundation.notifier import MonitoringSettings
from foundation.plugin import entry_point_names
from foundation.settings import setting, settings_class, settings_from_config
from trainingdata.feed.endpoint import BrokerSettings
from trainingdata.instruments import AssetClass, instrument
from trainingdata.timeframe import MARKET_DAYS_PER_YEAR

MIN_HISTORY_DAYS = 730  # calendar days that correlations and slow variances need
LEAP_YEAR_DAYS = 366


@settings_class()
class LiveSettings(TradingSettings, MonitoringSettings):
    """Settings of a live loop, which trades an account at a venue."""

    broker: BrokerSettings = setting(BrokerSettings(), "connection to the venue")
    guards: GuardSettings = setting(GuardSettings(), "pre-trade limits on the orders of all jobs")
    history_days: int | None = setting(
        None,
        "calendar days of bars that a decision uses; null: 730, or more if calibration needs them",
        ge=30,
        le=6000,
    )
    bar_wait_seconds: float = setting(
        20.0, "longest wait of a cycle for missing closed bars, seconds", ge=0, le=600
    )
    decision_valid_seconds: float = setting(
        300.0, "seconds after a decision within which its orders may be sent", ge=1, le=3600
    )
    folder: str = setting("data/live", "folder with a subfolder and a journal per account")
    jobs: tuple[str, ...] = setting((TRADE_JOB,), "jobs to run: `trade`, `spreads`, or both")
    shadow: bool = setting(
        False,
        "keep a simulated account with the same decisions beside the live one, measured daily",
    )
    spreads: tuple[str, ...] = setting(
        (), "overrides of configs/sell_spreads.yaml, for the job `spreads`"
    )

    def __post_init__(self) -> None:
        TradingSettings.__post_init__(self)
        for number, job in enumerate(self.jobs):
            if job != TRADE_JOB and job not in (names := entry_point_names("jobs")):
                raise invalid_choice_error(f"jobs.{number}", job, (TRADE_JOB, *names))
        if not self.jobs or len(set(self.jobs)) != len(self.jobs):
            raise InputError(
                f"jobs: {list(self.jobs)} is empty or has a duplicate; list each job once"
            )
        if SHADOW_JOB in self.plugin_jobs and TRADE_JOB not in self.jobs:
            raise InputError(
                f"shadow: needs the job {TRADE_JOB}, but jobs is {list(self.jobs)}; set"
                " shadow=false"
            )
        self._check_history()
        most = self.guards.max_orders_per_hour
        if len(self.symbols) > most:
            raise InputError(
                f"guards.max_orders_per_hour: {most} is less than the {len(self.symbols)} symbols,"
                " which may all be ordered at once; raise it"
            )
        MonitoringSettings.__post_init__(self)

    def _check_history(self) -> None:
        """Reject settings that need more history than `effective_history_days` loads.

        Symbols without the history that the universe requires would leave it, and their positions
        would be closed.
        """
        days = self.effective_history_days
        most = self._min_bars_a_year() * days / MARKET_DAYS_PER_YEAR[AssetClass.CRYPTO]
        if self.universe.window_days >= days and not self.universe.is_unrestricted:
            raise InputError(
                f"universe.window: {self.universe.window} exceeds history_days={days}; raise"
                " history_days"
            )
        if self.sizing.history_bars > most:
            raise InputError(
                f"sizing.lookback: {self.sizing.lookback} bars exceed the {most:.0f} bars of"
                f" history_days={days}; raise history_days"
            )
        if self.universe.min_bars > most:
            raise InputError(
                f"universe.min_bars: {self.universe.min_bars} bars exceed the {most:.0f} bars of"
                f" history_days={days}; raise history_days"
            )

    def _min_bars_a_year(self) -> float:
        """Return the smallest number of bars per year of any asset class among the symbols."""
        kinds = {instrument(symbol).kind for symbol in self.symbols} or set(AssetClass)
        return min(self.timeframe_or_hourly.clock(kind).bars_per_year for kind in kinds)

    @property
    def plugin_jobs(self) -> tuple[str, ...]:
        """Entry points of the jobs other than trading, each once."""
        shadow = (SHADOW_JOB,) if self.shadow else ()
        return tuple(dict.fromkeys(job for job in (*self.jobs, *shadow) if job != TRADE_JOB))

    @property
    def effective_history_days(self) -> int:
        """Number of calendar days of bars that are loaded for a decision."""
        if self.history_days is not None:
            return self.history_days
        forecaster = self.forecaster
        own = max(
            forecaster.context_length + forecaster.calibration.window, self.sizing.history_bars
        )
        return max(MIN_HISTORY_DAYS, math.ceil(own / self._min_bars_a_year() * LEAP_YEAR_DAYS))

    @property
    def max_cycle_seconds(self) -> float:
        """Longest duration of a cycle, from waiting for bars to sending a decision, seconds."""
        return self.bar_wait_seconds + self.decision_valid_seconds

    @property
    def tradable_symbols(self) -> frozenset[str]:
        return frozenset(instrument(symbol).symbol for symbol in self.symbols)

    @classmethod
    def from_config(cls, config: DictConfig) -> LiveSettings:
        """Return the validated settings of a composed configuration; other keys are ignored.

        Raises
        ------
        InputError
            for an invalid value; the message names key, value and expected value.
        """
        names = [field.name for field in fields(cls)]
        return settings_from_config(cls, OmegaConf.masked_copy(config, names))
