"""Settings of backtests, comparisons, drift reports and stress tests.

Names are the keys of the files in `configs/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from omegaconf import DictConfig

from execution.decision.settings import TradingSettings
from execution.orders.account_snapshot import AccountSnapshot
from forecasting.chronos2.ray_predictor import RaySettings
from foundation.errors import InputError, invalid_choice_error
from foundation.settings import required_setting, setting, settings_class, settings_from_config
from marketsimulator.account.terms import FillTerms, create_holdings, fee_tier_table
from trainingdata.bars import Bars
from trainingdata.feed.endpoint import BrokerSettings
from trainingdata.instants import DAY, format_utc, new_york_date, parse_instant
from trainingdata.instruments import instrument
from trainingdata.market import Market
from trainingdata.sessions import Session, session_on
from trainingdata.source import InstantRange, resolve_range
from trainingdata.volume_units import require_volume_units

if TYPE_CHECKING:  # compiled code; checking settings must not load it
    from marketsimulator.account.book import Book
    from marketsimulator.account.broker import SimulatedBroker
    from marketsimulator.account.timeline import Timeline

NAMED_STRESS_TIMES = ("end", "worst")  # instants of a run that a stress test takes by name
MAX_SCENARIO_PRICE_RISE = 20.0  # GME rose to twenty times its price in January 2021


@settings_class()
class BacktestSettings(TradingSettings):
    """Settings of a backtest: trading, period, results and fills."""

    fills_orders = True

    days: int | None = setting(
        None,
        "length of the run in calendar days, up to the last bar that all symbols"
        " share; replaces start and end",
        ge=1,
    )
    output: str = setting("outputs/backtest", "folder for the results")
    trials: str | None = setting(None, "SQLite file of the trial ledger; null: none")
    benchmark: str | None = setting(
        None,
        "symbol of the bars, traded or not, or file of daily returns, equity or prices (CSV, "
        "Parquet); null: buy and hold",
    )
    fills: FillTerms = setting(FillTerms(), "limits on how much of an order fills")

    def __post_init__(self) -> None:
        TradingSettings.__post_init__(self)
        if self.days is not None and (self.start or self.end):
            raise InputError("days: cannot be combined with start or end; remove one of them")

    @classmethod
    def from_config(cls, config: DictConfig) -> Self:
        """Validate a composed configuration and return its settings.

        Raises
        ------
        InputError
            for an invalid value, with its key, the value and what was expected.
        """
        return settings_from_config(cls, config)

    def load_market(self) -> Market:
        """Load the market of the run: its bars, its first instant, and its corporate actions."""
        bars = self.load_bars()
        first, last = self.run_period(bars)
        begin = int(np.searchsorted(bars.times, first))
        end = int(np.searchsorted(bars.times, last, side="right"))
        if begin >= end:
            typed = [name for name in ("start", "end", "days") if getattr(self, name) is not None]
            raise InputError(
                f"{', '.join(typed)}: no bar ends between {format_utc(first)} and"
                f" {format_utc(last)}; choose a window within the data"
            )
        market = self.data.with_finer_bars(self.data.build_market(bars.slice_rows(0, end), begin))
        self.require_volume_units(market.execution_bars)
        return market

    def require_volume_units(self, bars: Bars) -> None:
        """Refuse bars with an unknown volume unit if fills, impact or universe depend on volume."""
        if self.universe.top is not None:
            require_volume_units(bars, "universe.top")
        if self.costs.crypto_impact:
            require_volume_units(bars, "costs.crypto_impact", "costs.crypto_impact=0")
        if self.fills.volume_share is not None:
            use = f"the limit on fills (fills.volume_share={self.fills.volume_share:g})"
            require_volume_units(bars, use, "fills.volume_share=null to allow fills of any size")

    def build_book(self, bars: Bars) -> Book:
        """Return the account at the start of a run: `capital` in cash and no positions."""
        from marketsimulator.account.book import create_book

        holding = create_holdings(bars.instruments, self.costs, self.margin, self.orders)
        return create_book(self.capital, holding, fee_tier_table(self.fees))

    def build_timeline(self, market: Market, *, impact: bool = False) -> Timeline:
        """Build the arrays of a market that settlement needs.

        impact: true to estimate bar volatilities even if these settings have no market impact.
        """
        from marketsimulator.account.timeline import build_timeline

        impact = impact or bool(self.costs.impact_coefficient(market.bars.crypto).any())
        return build_timeline(market, self.fees, self.margin, self.fills, impact=impact)

    def build_broker(
        self, market: Market, initial: AccountSnapshot | None = None
    ) -> SimulatedBroker:
        """Build a simulated broker at the start of a run.

        initial: initial cash and positions; None for `capital` in cash.
        """
        from marketsimulator.account.book import set_opening_balance
        from marketsimulator.account.broker import SimulatedBroker
        from marketsimulator.account.timeline import find_confirmed_bars

        bars = market.bars
        book = self.build_book(bars)
        if initial is not None:
            held = [float(initial.positions.get(symbol, 0)) for symbol in bars.symbols]
            set_opening_balance(
                book, initial.cash, np.array(held), market.initial_history.last_closes()
            )
        cancel_remainders = self.fills.remainder == "cancel"
        return SimulatedBroker(
            market,
            self.build_timeline(market),
            book,
            self.orders,
            cancel_remainders=cancel_remainders,
            confirmed_bars=find_confirmed_bars(market, self.fills.feed_volume_share),
        )

    def run_period(self, bars: Bars) -> InstantRange:
        """Return the first and last instant of the run."""
        first, last = resolve_range(bars, self.start, self.end)
        if self.days is not None:
            lasts = [bars.times[present][-1] for present in bars.has_bar]
            # Delisted symbols have no recent bars to share.
            endings = self.data.build_market(bars).delisting_rules
            kept = [
                at for at, gone in zip(lasts, endings.delisted_mask(bars), strict=True) if not gone
            ]
            last = min(kept or lasts)
            day = new_york_date(np.array([last]))[0] - (self.days - 1) * DAY
            first = parse_instant(day, name="days")
        return first, np.datetime64(last)


@settings_class()
class ComparisonOptions:
    """Settings of a comparison: earlier runs, strategies and varied settings."""

    runs: tuple[str, ...] = setting(
        (), "results folders of backtests, or folders that contain them"
    )
    strategies: tuple[str, ...] = setting(
        (), "strategies to compare, each as in sizing.strategy; empty: the configured one"
    )
    vary: dict[str, Any] | None = setting(
        None, "`setting: [values]`; every combination runs with every strategy"
    )
    launcher: Literal["local", "ray"] = setting(
        "local", "`local` runs variants in this process, `ray` on a Ray cluster"
    )
    ray: RaySettings = setting(RaySettings(), "Ray cluster, and the resources of a task")


@settings_class()
class SearchOptions:
    """Settings of a walk-forward search: search space, objective, spans, trials."""

    space: dict[str, Any] | None = setting(
        None,
        "search space: `setting: [low, high]` for a range (of integers if both are), "
        "`[low, high, log]` on a logarithmic scale, any other list or `{choices: [5, 50]}` for a "
        "choice",
    )
    trials: int = setting(50, "trials on each training span", ge=2, le=10_000)
    objective: Literal["sharpe", "log_growth"] = setting(
        "sharpe", "figure of the training span that the chosen settings maximise"
    )
    spans: int = setting(
        5, "number of spans of equal length; all but the first are test spans", ge=2, le=100
    )
    window: int | None = setting(
        None, "training spans before each test span; null: all earlier ones", ge=1, le=99
    )
    ledger: str | None = setting(None, "SQLite file of the trial ledger; null: none")
    launcher: Literal["local", "ray"] = setting(
        "local", "`local` runs trials in this process, `ray` on a Ray cluster"
    )
    workers: int | None = setting(None, "threads of `local`; null: one per core", ge=1, le=1024)
    ray: RaySettings = setting(RaySettings(), "Ray cluster, and the resources of a task")

    def __post_init__(self) -> None:
        if self.window is not None and self.window >= self.spans:
            raise InputError(
                f"window: {self.window} must be below spans={self.spans}: the last test span has"
                f" {self.spans - 1} spans before it"
            )


@settings_class()
class TearsheetSettings:
    """Settings of a tear sheet: daily returns, benchmark, number of trials."""

    returns: str | None = setting(
        None, "CSV or Parquet file of daily returns or equity; the first argument of the command"
    )
    column: str | None = setting(
        None, "column of returns or equity; null: the one with a known name"
    )
    unit: Literal["fraction", "percent"] | None = setting(
        None, "unit of the returns; null: inferred from headings, percent signs and sizes"
    )
    benchmark: str | None = setting(
        None, "file of daily returns, equity or prices of the benchmark; null: none"
    )
    trials: int | None = setting(
        None,
        "number of variants tried, of which these returns are the best; null: unknown",
        ge=1,
        le=10**9,
    )
    seed: int = setting(0, "seed of the bootstrap", ge=0)
    output: str = setting("outputs/tearsheet", "folder for the results")

    @classmethod
    def from_config(cls, config: DictConfig) -> Self:
        """Validate a composed configuration and return its settings."""
        return settings_from_config(cls, config)


@settings_class()
class ProofSettings(BacktestSettings):
    """Settings of a proof: those of a backtest, and the forecasts that are judged."""

    forecasts: tuple[str, ...] = setting(
        (), "files or folders of forecasts to judge; the arguments of the command"
    )
    seal: str | None = setting(
        None, "folder whose new files are sealed; null: forecasts are judged instead"
    )
    witness: str | None = setting(
        None, "file outside the folder that keeps its seals; null: in the user's state directory"
    )
    head: str | None = setting(
        None, "published digest of a seal that the record must contain; null: no check"
    )
    output: str = setting("outputs/proof", "folder for the results")

    def __post_init__(self) -> None:
        BacktestSettings.__post_init__(self)
        if self.start is not None or self.days is not None:
            key = "start" if self.days is None else "days"
            raise InputError(
                f"{key}: a proof starts at the first forecast, because a chosen start could hide"
                " losses; remove this setting"
            )
        if self.data.adjustment == "raw":
            raise InputError(
                "data.adjustment: raw prices change their unit at a split, forecasts do not; set"
                " data.adjustment=split"
            )
        if len(self.forecasts) > 1 and (self.witness or self.head):
            key = "witness" if self.witness else "head"
            raise InputError(f"{key}: belongs to one folder, but several are judged; name one")


@settings_class()
class DriftOptions:
    """Settings of a drift report: the journal, and the folder of the report."""

    journal: str | None = setting(
        None, "journal of the live account, the file data/live/ACCOUNT/journal.sqlite"
    )
    output: str | None = setting(
        None, "folder for the report of the live account; null: none is written"
    )


@settings_class("scenarios")
class Scenario:
    """Scenario of a stress test: a price move of each asset class or symbol at one instant."""

    name: Annotated[str, required_setting("name of the scenario", pattern=r"\S")]
    source: Annotated[
        str,
        required_setting(
            "source of its moves, with a date, or a note that they are assumptions", pattern=r"\S"
        ),
    ]
    day: str | None = setting(
        None, "New York date; a symbol with bars of that session moves as it did then"
    )
    stocks: float = setting(
        0.0, "move of every stock, as a fraction", gt=-1, le=MAX_SCENARIO_PRICE_RISE
    )
    shorts: float | None = setting(
        None,
        "move of every stock held short, as a fraction; null: as `stocks`",
        gt=-1,
        le=MAX_SCENARIO_PRICE_RISE,
    )
    crypto: float = setting(
        0.0, "move of every crypto symbol, as a fraction", gt=-1, le=MAX_SCENARIO_PRICE_RISE
    )
    symbols: Mapping[
        str,
        Annotated[
            float, required_setting("move, as a fraction", gt=-1, le=MAX_SCENARIO_PRICE_RISE)
        ],
    ] = setting({}, "moves of single symbols, instead of those of their class")
    halted: Literal["largest"] | None = setting(
        None,
        "`largest`: the largest stock position cannot be traded and keeps its last"
        " price; null: all symbols trade",
    )

    def __post_init__(self) -> None:
        try:
            self.session()
            for symbol in self.symbols:
                instrument(symbol)
        except InputError as error:
            raise InputError(f"scenarios.{self.name}: {error}") from None

    def session(self) -> Session | None:
        """Return the trading session on the scenario's `day`; None without a day."""
        if self.day is None:
            return None
        found = session_on(new_york_date(np.array([parse_instant(self.day, name="day")]))[0])
        if found is None:
            raise InputError(
                f"day: {self.day} is not a trading day of the stock exchange; choose a trading day"
            )
        return found


@settings_class()
class StressSettings:
    """Settings of a stress test: the account or run to test, and the scenarios."""

    account: Literal["venue"] | None = setting(
        None, "`venue`: stress the account at the venue; null: the run that is given"
    )
    at: str = setting(
        "end",
        "time within a run: `end`, `worst` (highest leverage), a New York date, or a"
        " timestamp with a time zone",
    )
    output: str = setting("outputs/stress", "folder for the results")
    broker: BrokerSettings = setting(BrokerSettings(), "connection to the venue")
    scenarios: tuple[Scenario, ...] = setting((), "predefined scenarios")
    custom_scenarios: tuple[Scenario, ...] = setting((), "custom scenarios")

    def __post_init__(self) -> None:
        if self.at not in NAMED_STRESS_TIMES and not self.at[:1].isdecimal():
            raise invalid_choice_error(
                "at",
                self.at,
                NAMED_STRESS_TIMES,
                other_accepted_values="a New York date or a timestamp with a time zone",
            )

    @property
    def all_scenarios(self) -> tuple[Scenario, ...]:
        """Return all scenarios; a custom one replaces a predefined one of the same name."""
        every = (*self.scenarios, *self.custom_scenarios)
        return tuple({scenario.name: scenario for scenario in every}.values())
