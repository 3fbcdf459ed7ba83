"""Every setting of a backtest, checked: names are the keys of `configs/backtest.yaml`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
from omegaconf import DictConfig

from execution.decision.settings import TradingSettings
from execution.orders.account_snapshot import AccountSnapshot
from foundation.errors import InputError
from foundation.settings import setting, settings_class, settings_of
from marketsimulator.account.book import Book, hold, new_book
from marketsimulator.account.terms import FillTerms, holdings_of, tier_table
from marketsimulator.account.timeline import Timeline, timeline
from trainingdata.bars import Bars
from trainingdata.instants import DAY, instant, new_york_date, utc_text
from trainingdata.instruments import data_symbol
from trainingdata.market import Market
from trainingdata.source import Span, span_of
from trainingdata.volatility_index import RESPONSE
from trainingdata.volume_units import require_volume_units

if TYPE_CHECKING:
    from marketsimulator.account.broker import SimulatedBroker


def _refuse_twice(words: Sequence[str]) -> None:
    """Refuse a symbol that several of the words of `symbols` name, written alike or not."""
    seen: set[str] = set()
    for part in ",".join(words).split(","):
        if not part.strip():
            continue
        symbol = data_symbol(part)
        if symbol in seen:
            raise InputError(f"symbols: {symbol} stands twice; leave one of them")
        seen.add(symbol)


@settings_class("options")
class OptionTerms:
    """Options that a practice venue trades; a desk that is registered adds how they are quoted."""

    vix: str | None = setting(None, "a daily file of the volatility index; none: no options")
    symbols: tuple[str, ...] = setting(("SPY",), "stocks they are on")
    slippage: float = setting(
        0.05, "points between the middle and what a leg is quoted at", ge=0, le=1e3
    )
    response: float = setting(
        RESPONSE,
        "by which volatility moves against its index within a day; see `within_day`",
        ge=-20,
        le=20,
        key=False,
    )


@settings_class()
class BacktestSettings(TradingSettings):
    """A backtest from top to bottom."""

    fills_orders = True

    days: int | None = setting(
        None, "calendar days up to the last bar all symbols share, instead of start and end", ge=1
    )
    output: str = setting("outputs/backtest", "folder of the results")
    trials: str | None = setting(None, "the trial ledger, an SQLite file")
    fills: FillTerms = setting(FillTerms(), "how much of an order fills")

    def __post_init__(self) -> None:
        TradingSettings.__post_init__(self)
        _refuse_twice(self.symbols)
        if self.days is not None and (self.start or self.end):
            raise InputError("days: give either start and end, or days")

    @classmethod
    def of(cls, config: DictConfig) -> Self:
        """The checked settings of a composed configuration.

        Raises
        ------
        InputError
            naming the key, the value and what was expected.
        """
        return settings_of(cls, config)

    def market(self) -> Market:
        """The bars up to the end of the run, where in them it begins, and the actions to apply."""
        bars = self.bars()
        first, last = self.span(bars)
        begin = int(np.searchsorted(bars.times, first))
        end = int(np.searchsorted(bars.times, last, side="right"))
        if begin >= end:
            typed = [name for name in ("start", "end", "days") if getattr(self, name) is not None]
            raise InputError(
                f"{', '.join(typed)}: no bar becomes known between {utc_text(first)} and"
                f" {utc_text(last)}"
            )
        market = self.data.with_finer(self.data.market(bars.between(0, end), begin))
        self.require_volume_units(market.met)
        return market

    def require_volume_units(self, bars: Bars) -> None:
        """Refuse bars with an unknown unit of volume if fills, impact or universe depend on it."""
        if self.universe.top is not None:
            require_volume_units(bars, "universe.top")
        if self.costs.crypto_impact:
            require_volume_units(bars, "costs.crypto_impact", "costs.crypto_impact=0")
        if self.fills.volume_share is not None:
            use = f"the limit on fills (fills.volume_share={self.fills.volume_share:g})"
            require_volume_units(bars, use, "fills.volume_share=null for fills of any size")

    def book(self, bars: Bars) -> Book:
        """An account of `capital` in cash."""
        holding = holdings_of(bars.instruments, self.costs, self.margin, self.orders)
        return new_book(self.capital, holding, tier_table(self.fees))

    def timeline(self, market: Market, *, impact: bool = False) -> Timeline:
        """The market as settlement walks it; impact: whether ranges are needed by other costs."""
        impact = impact or bool(self.costs.impact(market.bars.crypto).any())
        return timeline(market, self.fees, self.margin, self.fills, impact=impact)

    def broker(self, market: Market, begins: AccountSnapshot | None = None) -> SimulatedBroker:
        """An account where a run begins; begins: its cash and positions; none for `capital`."""
        from marketsimulator.account.broker import SimulatedBroker

        bars = market.bars
        book = self.book(bars)
        if begins is not None:
            held = [float(begins.positions.get(symbol, 0)) for symbol in bars.symbols]
            hold(book, begins.cash, np.array(held), market.history.last_closes())
        cancels = self.fills.remainder == "cancel"
        return SimulatedBroker(market, self.timeline(market), book, self.orders, cancels=cancels)

    def span(self, bars: Bars) -> Span:
        """First and last instant of the run."""
        first, last = span_of(bars, self.start, self.end)
        if self.days is not None:
            lasts = [bars.times[present][-1] for present in bars.present]
            # What is gone shares no bar any more.
            endings = self.data.market(bars).endings
            kept = [at for at, gone in zip(lasts, endings.gone(bars), strict=True) if not gone]
            last = min(kept or lasts)
            day = new_york_date(np.array([last]))[0] - (self.days - 1) * DAY
            first = instant(day, name="days")
        return first, np.datetime64(last)


@settings_class()
class VenueSettings(BacktestSettings):
    """A practice venue: the bars, costs and margin of a backtest, and options."""

    options: OptionTerms = setting(OptionTerms(), "that are traded on its stocks")
