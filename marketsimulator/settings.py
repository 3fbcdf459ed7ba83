"""Settings of a backtest, which every command that simulates uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np
from omegaconf import DictConfig

from execution.decision.settings import TradingSettings
from execution.orders.account_snapshot import AccountSnapshot
from foundation.errors import InputError
from foundation.settings import setting, settings_class, settings_from_config
from marketsimulator.account.terms import FillTerms, create_holdings, fee_tier_table
from trainingdata.bars import Bars
from trainingdata.instants import DAY, format_utc, new_york_date, parse_instant
from trainingdata.market import Market
from trainingdata.source import InstantRange, resolve_range
from trainingdata.volume_units import require_volume_units

if TYPE_CHECKING:  # compiled code; checking settings must not load it
    from marketsimulator.account.book import Book
    from marketsimulator.account.broker import SimulatedBroker
    from marketsimulator.account.timeline import Timeline


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
