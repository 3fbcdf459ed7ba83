"""Every setting of a backtest, checked: names are the keys of `configs/backtest.yaml`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Literal

import numpy as np
from omegaconf import DictConfig

from execution.fees import FeeSchedule, TradingCosts
from execution.trader import SizingSettings, Trader
from forecasting.forecast import Forecaster
from forecasting.settings import ForecasterSettings
from marketsimulator.book import Book, new_book
from marketsimulator.broker import SimulatedBroker
from marketsimulator.terms import FillTerms, MarginTerms, holdings_of, tier_table
from marketsimulator.timeline import Timeline, timeline
from sizing.limits import Limits
from trainingdata.actions import split_adjusted
from trainingdata.bars import Bars
from trainingdata.configuration import settings_of
from trainingdata.correlation import CorrelationEstimator
from trainingdata.errors import InputError
from trainingdata.instruments import Kind
from trainingdata.sessions import DAY, instant, new_york_date, utc_text
from trainingdata.source import DataSettings, Span, span_of

VENUE = Decimal("1e-9")  # the smallest quantity of a coin an order may have


@dataclass(frozen=True, slots=True)
class BacktestSettings:
    """A backtest from top to bottom.

    symbols: none means every symbol the data holds. start, end: New York dates, both inclusive, or instants with a zone;
    or days: calendar days up to the last bar all symbols share. capital: USD. seed: of whatever is drawn at random.
    trials: the trial ledger, an SQLite file; none keeps the run out of it. increments: thousandths of a coin (`original`), or
    the billionths in which the venue counts (`broker`); whole shares in both.
    """

    symbols: tuple[str, ...] = ()
    start: str | None = None
    end: str | None = None
    days: int | None = None
    capital: float = 100_000.0
    seed: int = 0
    strategy: str = "kelly_50"
    increments: Literal["original", "broker"] = "original"
    output: str = "outputs/backtest"
    trials: str | None = None
    data: DataSettings = field(default_factory=DataSettings)
    forecaster: ForecasterSettings = field(default_factory=ForecasterSettings)
    sizing: SizingSettings = field(default_factory=SizingSettings)
    limits: Limits = field(default_factory=Limits)
    correlation: CorrelationEstimator = field(default_factory=CorrelationEstimator)
    costs: TradingCosts = field(default_factory=TradingCosts)
    fees: FeeSchedule = field(default_factory=FeeSchedule)
    margin: MarginTerms = field(default_factory=MarginTerms)
    fills: FillTerms = field(default_factory=FillTerms)

    def __post_init__(self) -> None:
        if not 0 < self.capital < 1e12:
            raise InputError(f"capital: {self.capital} is outside 0 … 1e12 USD")
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", self.strategy):
            raise InputError(f"strategy: {self.strategy!r} is not 1 to 64 letters, digits, '.', '_' or '-'")
        if self.days is not None and (self.start or self.end):
            raise InputError("days: give either start and end, or days")
        if self.days is not None and self.days < 1:
            raise InputError(f"days: {self.days} is below 1")

    @classmethod
    def of(cls, config: DictConfig) -> BacktestSettings:
        """The checked settings of a composed configuration.

        Raises
        ------
        InputError
            naming the key, the value and what was expected.
        """
        return settings_of(cls, config, lists=("symbols", "data.dir"))

    def bars(self) -> Bars:
        """The panel: files up to `end` with all history before `start`, or the synthetic market."""
        bars = self.data.bars(self.symbols, self.start, self.end)
        if self.increments == "original":
            return bars
        items = tuple(replace(i, increment=VENUE) if i.kind is Kind.CRYPTO else i for i in bars.instruments)
        return replace(bars, instruments=items)

    def seen(self, bars: Bars) -> Bars:
        """The panel as decisions see it: raw prices are adjusted for their splits, so that a model may compare them."""
        raw = self.data.adjustment == "raw" and self.data.actions is not None
        return split_adjusted(bars, self.data.corporate_actions()) if raw else bars

    def panel(self) -> tuple[Bars, int]:
        """The bars up to the end of the run, and the number of the instant it begins at.

        Raises
        ------
        InputError
            for settings or data that cannot be used, or a run without a bar.
        """
        bars = self.bars()
        first, last = self.span(bars)
        begin, end = int(np.searchsorted(bars.times, first)), int(np.searchsorted(bars.times, last, side="right"))
        if begin >= end:
            raise InputError(f"start, end: no bar becomes known between {utc_text(first)} and {utc_text(last)}")
        return bars.between(0, end), begin

    def book(self, bars: Bars) -> Book:
        """An account of `capital` in cash."""
        return new_book(self.capital, holdings_of(bars.instruments, self.costs, self.margin), tier_table(self.fees))

    def timeline(self, bars: Bars, *, impact: bool) -> Timeline:
        """The panel as settlement walks it; impact: whether ranges are needed."""
        actions = self.data.corporate_actions()
        return timeline(bars, self.fees, self.margin, self.fills, impact=impact, actions=actions)

    def broker(self, bars: Bars, first: int) -> SimulatedBroker:
        """An account of `capital` on the panel, from instant number `first` on."""
        book = self.book(bars)
        return SimulatedBroker(bars, self.timeline(bars, impact=bool(book.holding["impact"].any())), book, first)

    def span(self, bars: Bars) -> Span:
        """First and last instant of the run."""
        first, last = span_of(bars, self.start, self.end)
        if self.days is not None:
            last = min(bars.own(s)[0][-1] for s in range(len(bars.symbols)))
            day = new_york_date(np.array([last]))[0] - (self.days - 1) * DAY
            first = instant(day, name="days")
        return first, np.datetime64(last)

    def trader(self, forecaster: Forecaster) -> Trader:
        """The trader these settings describe, with this forecaster."""
        return Trader(self.strategy, forecaster, self.correlation, self.sizing, self.limits, self.costs, self.fees)
