"""Settings of backtests, practice venues, comparisons and stress tests.

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
from foundation.errors import InputError, invalid_choice
from foundation.settings import required_setting, setting, settings_class, settings_from_config
from marketsimulator.account.terms import FillTerms, fee_tier_table, holding_table
from trainingdata.bars import Bars
from trainingdata.feed.endpoint import BrokerSettings
from trainingdata.instants import DAY, new_york_date, parse_instant, utc_text
from trainingdata.instruments import instrument
from trainingdata.market import Market
from trainingdata.sessions import Session, session_on
from trainingdata.source import Span, resolve_span
from trainingdata.volatility_index import VOLATILITY_RESPONSE
from trainingdata.volume_units import require_volume_units

if TYPE_CHECKING:  # compiled code; checking settings must not load it
    from marketsimulator.account.book import Book
    from marketsimulator.account.broker import SimulatedBroker
    from marketsimulator.account.timeline import Timeline

CounterfactualKind = Literal["lag", "shuffled", "costs"]  # of ComparisonOptions.counterfactuals
NAMED_INSTANTS = ("end", "worst")  # instants of a run that a stress test takes by name
MAX_PRICE_RISE = 20.0  # GME rose to twenty times its price in January 2021


@settings_class("options")
class OptionTerms:
    """Settings of options on a practice venue; a registered desk adds those of its quotes."""

    vix: str | None = setting(None, "file of the volatility index's daily closes; null: no options")
    symbols: tuple[str, ...] = setting(("SPY",), "underlying stocks of the options")
    slippage: float = setting(
        0.05, "distance of a leg's quotes from its mid price, points", ge=0, le=1e3
    )
    vix_response: float = setting(
        VOLATILITY_RESPONSE,
        "response of implied volatility to index moves within a day; see "
        "`intraday_volatility_index`",
        ge=-20,
        le=20,
        key=False,
    )


@settings_class()
class BacktestSettings(TradingSettings):
    """Settings of a backtest."""

    fills_orders = True

    days: int | None = setting(
        None,
        "calendar days up to the last bar that all symbols have, instead of start and end",
        ge=1,
    )
    output: str = setting("outputs/backtest", "folder of the results")
    trials: str | None = setting(
        None, "trial ledger, an SQLite file that counts the tested variants"
    )
    fills: FillTerms = setting(FillTerms(), "how much of an order fills")

    def __post_init__(self) -> None:
        TradingSettings.__post_init__(self)
        if self.days is not None and (self.start or self.end):
            raise InputError("days: give either start and end, or days")

    @classmethod
    def from_config(cls, config: DictConfig) -> Self:
        """Return the checked settings of a composed configuration.

        Raises
        ------
        InputError
            for an invalid value, with its key, the value and what was expected.
        """
        return settings_from_config(cls, config)

    def market(self) -> Market:
        """Load the market of the run: bars up to its end, its first row, corporate actions."""
        bars = self.load_bars()
        first, last = self.run_window(bars)
        begin = int(np.searchsorted(bars.times, first))
        end = int(np.searchsorted(bars.times, last, side="right"))
        if begin >= end:
            typed = [name for name in ("start", "end", "days") if getattr(self, name) is not None]
            raise InputError(
                f"{', '.join(typed)}: no bar becomes known between {utc_text(first)} and"
                f" {utc_text(last)}"
            )
        market = self.data.with_finer_bars(self.data.market(bars.slice_rows(0, end), begin))
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
            require_volume_units(bars, use, "fills.volume_share=null for fills of any size")

    def build_book(self, bars: Bars) -> Book:
        """Return the account at the start: `capital` in cash, no positions."""
        from marketsimulator.account.book import create_book

        holding = holding_table(bars.instruments, self.costs, self.margin, self.orders)
        return create_book(self.capital, holding, fee_tier_table(self.fees))

    def build_timeline(self, market: Market, *, impact: bool = False) -> Timeline:
        """Build the timeline of a market for settlement.

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
        from marketsimulator.account.book import set_positions
        from marketsimulator.account.broker import SimulatedBroker

        bars = market.bars
        book = self.build_book(bars)
        if initial is not None:
            held = [float(initial.positions.get(symbol, 0)) for symbol in bars.symbols]
            set_positions(book, initial.cash, np.array(held), market.history.last_closes())
        cancel_remainders = self.fills.remainder == "cancel"
        return SimulatedBroker(
            market,
            self.build_timeline(market),
            book,
            self.orders,
            cancel_remainders=cancel_remainders,
        )

    def run_window(self, bars: Bars) -> Span:
        """Return the first and last instant of the run."""
        first, last = resolve_span(bars, self.start, self.end)
        if self.days is not None:
            lasts = [bars.times[present][-1] for present in bars.has_bar]
            # Delisted symbols have no recent bars to share.
            endings = self.data.market(bars).delisting_rules
            kept = [
                at for at, gone in zip(lasts, endings.delisted_mask(bars), strict=True) if not gone
            ]
            last = min(kept or lasts)
            day = new_york_date(np.array([last]))[0] - (self.days - 1) * DAY
            first = parse_instant(day, name="days")
        return first, np.datetime64(last)


@settings_class()
class VenueSettings(BacktestSettings):
    """Settings of a practice venue: the bars, costs and margin of a backtest, and options."""

    options: OptionTerms = setting(OptionTerms(), "options on the venue's stocks")


@settings_class()
class ComparisonOptions:
    """Settings of a comparison: folders, strategies and varied settings."""

    runs: tuple[str, ...] = setting(
        (), "folders of finished backtests, or folders that contain such folders"
    )
    strategies: tuple[str, ...] = setting(
        (), "strategies to run, named as in sizing.strategy; empty: only the configured one"
    )
    vary: dict[str, Any] | None = setting(
        None, "values to vary, `setting: [values]`; every combination runs with every strategy"
    )
    counterfactuals: tuple[CounterfactualKind, ...] = setting(
        (),
        "extra runs of each variant: `lag`, with forecasts one decision older; `shuffled`, "
        "with forecasts permuted in time; `costs`, with 0, 2 and 4 times the costs",
    )
    launcher: Literal["local", "ray"] = setting(
        "local", "`local` runs variants in this process, `ray` on a Ray cluster"
    )
    ray: RaySettings = setting(RaySettings(), "Ray cluster, and the resources of each task")


@settings_class()
class DriftOptions:
    """Settings of a drift report: the journal, and the report's folder."""

    journal: str | None = setting(
        None, "journal of the live account, the file data/live/ACCOUNT/journal.sqlite"
    )
    output: str | None = setting(
        None, "folder of the live account's report; null: it is not written"
    )


@settings_class("scenarios")
class Scenario:
    """A scenario: moves of prices between two bars."""

    name: Annotated[str, required_setting("name of the scenario", pattern=r"\S")]
    source: Annotated[
        str,
        required_setting(
            "source of its moves, with a date, or the statement that they are an assumption",
            pattern=r"\S",
        ),
    ]
    day: str | None = setting(
        None, "New York date; symbols with bars of that session move as they did then"
    )
    stocks: float = setting(
        0.0, "move of every stock, a fraction of price", gt=-1, le=MAX_PRICE_RISE
    )
    shorts: float | None = setting(
        None,
        "move of every stock held short, a fraction of price; null: as `stocks`",
        gt=-1,
        le=MAX_PRICE_RISE,
    )
    crypto: float = setting(
        0.0, "move of every crypto symbol, a fraction of price", gt=-1, le=MAX_PRICE_RISE
    )
    symbols: Mapping[
        str, Annotated[float, required_setting("a fraction", gt=-1, le=MAX_PRICE_RISE)]
    ] = setting({}, "moves of single symbols, instead of their class's")
    halted: Literal["largest"] | None = setting(
        None,
        "`largest`: the largest stock position stops trading at its last price; null: "
        "everything trades",
    )

    def __post_init__(self) -> None:
        try:
            self.session()
            for symbol in self.symbols:
                instrument(symbol)
        except InputError as error:
            raise InputError(f"scenarios: {self.name}: {error}") from None

    def session(self) -> Session | None:
        """Return the trading session on the scenario's `day`; None without a day."""
        if self.day is None:
            return None
        found = session_on(new_york_date(np.array([parse_instant(self.day, name="day")]))[0])
        if found is None:
            raise InputError(f"day: {self.day} is not a session of the stock exchange")
        return found


@settings_class()
class StressSettings:
    """Settings of a stress test: the book and the scenarios."""

    account: Literal["venue"] | None = setting(
        None, "account to test: `venue` reads it from the broker; null: the book of the named run"
    )
    at: str = setting(
        "end",
        "instant of a run's book: `end`, `worst` (highest leverage), a New York date or an "
        "instant with a time zone",
    )
    only: tuple[str, ...] = setting((), "names of the scenarios to test; empty: all")
    output: str = setting("outputs/stress", "folder of the results")
    broker: BrokerSettings = setting(BrokerSettings(), "connection to the venue")
    scenarios: tuple[Scenario, ...] = setting((), "scenarios of the project")
    custom_scenarios: tuple[Scenario, ...] = setting((), "scenarios of the user")

    def __post_init__(self) -> None:
        if self.at not in NAMED_INSTANTS and not self.at[:1].isdecimal():
            raise invalid_choice(
                "at", self.at, NAMED_INSTANTS, also="a New York date or an instant"
            )

    @property
    def chosen_scenarios(self) -> tuple[Scenario, ...]:
        """Return the scenarios named by `only`, or all scenarios, in order of definition."""
        every = {scenario.name: scenario for scenario in (*self.scenarios, *self.custom_scenarios)}
        for name in self.only:
            if name not in every:
                raise invalid_choice("only", name, every)
        return tuple(each for name, each in every.items() if not self.only or name in self.only)
