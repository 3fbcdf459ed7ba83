"""What every job that decides has in common: names are the keys of the YAML under `configs/`."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Literal

from execution.beliefs import BeliefTable, joined_beliefs
from execution.fees import FeeSchedule, TradingCosts
from execution.lending import MarginTerms, SymbolRate
from execution.orders import OrderTerms
from execution.trader import SizingSettings, Trader
from forecasting.forecast import Forecaster, Progress, silent
from forecasting.settings import ForecasterSettings
from foundation.errors import InputError
from sizing.limits import Limits
from sizing.premium import PriorSettings
from trainingdata.actions import Action, spans_without_split
from trainingdata.bars import Bars
from trainingdata.instruments import BILLIONTH, Kind, instrument
from trainingdata.source import DataSettings
from trainingdata.stored_correlation import CorrelationSettings

# Multiples of equity that no broker lends: 4 is a stock account's within a day.
MOST_OF_EQUITY = {
    "limits.symbol_cap": 4.0,
    "limits.intraday_leverage": 10.0,
    "limits.overnight_leverage": 10.0,
    "margin.leverage": 10.0,
}


@dataclass(frozen=True, slots=True)
class TradingSettings:
    """Data, forecaster, sizing and costs of a trader.

    symbols: of the panel; none means every symbol the data holds.
    start: New York date, inclusive, or an instant with a zone.
    end: the same.
    capital: USD of an account that no venue keeps, above 0 and below 1e12.
    seed: of whatever is drawn at random.
    strategy: the name orders carry, 1 to 64 letters, digits, '.', '_' or '-'.
    increments: thousandths of a coin (`original`), or the billionths in which the venue counts
        (`broker`); whole shares in both.
    data: where bars come from.
    forecaster: what forecasts.
    sizing: how much.
    prior: the stated premiums, and how far a plan looks.
    limits: of weights.
    correlation: where matrices come from.
    costs: beside fees.
    fees: of a trade.
    margin: what borrowing costs.
    orders: what an order may be worth.
    """

    symbols: tuple[str, ...] = ()
    start: str | None = None
    end: str | None = None
    capital: float = 100_000.0
    seed: int = 0
    strategy: str = "kelly_50"
    increments: Literal["original", "broker"] = "original"
    data: DataSettings = field(default_factory=DataSettings)
    forecaster: ForecasterSettings = field(default_factory=ForecasterSettings)
    sizing: SizingSettings = field(default_factory=SizingSettings)
    prior: PriorSettings = field(default_factory=PriorSettings)
    limits: Limits = field(default_factory=Limits)
    correlation: CorrelationSettings = field(default_factory=CorrelationSettings)
    costs: TradingCosts = field(default_factory=TradingCosts)
    fees: FeeSchedule = field(default_factory=FeeSchedule)
    margin: MarginTerms = field(default_factory=MarginTerms)
    orders: OrderTerms = field(default_factory=OrderTerms)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", self.order_name):
            raise InputError(
                f"strategy: {self.strategy!r} is not 1 to 64 letters, digits, '.', '_' or '-'"
            )
        if not 0 < self.capital < 1e12:
            raise InputError(
                f"capital: {self.capital:g} USD; an amount above 0, and below 1e12, is needed"
            )
        # Who writes 60 means a percentage, and would have no limit at all.
        for key, most in MOST_OF_EQUITY.items():
            value = attrgetter(key)(self)
            if value > most:
                raise InputError(
                    f"{key}: {value:g} is {value:g} times the account's equity, and more than"
                    f" {most:g} is refused; 0.6 is 60 % of it"
                )

    @property
    def order_name(self) -> str:
        """The name orders carry: the strategy's, with a point for the colon of a plug-in's."""
        return self.strategy.replace(":", ".")

    def bars(self) -> Bars:
        """The panel: files up to `end` with all history before `start`, or the synthetic market.

        Raises
        ------
        InputError
            for settings or files that cannot be used, before any bar is read where it can be told.
        """
        self.check_files()
        bars = self.with_increments(self.data.bars(self.symbols, self.start, self.end))
        self.orders.check(bars)
        return bars

    def check_files(self) -> None:
        """Refuse a file or a folder that is named beside the bars and cannot be used.

        Bars take long to read, and forecasts longer: this is known before.

        Raises
        ------
        InputError
            naming the setting and the file.
        """
        self.data.corporate_actions()
        self.forecaster.check()
        self.correlation.source()

    def unused_rows(self, symbols: Collection[str]) -> list[str]:
        """What is named of symbols that are none of a run's, a sentence for each file or table.

        Raises
        ------
        InputError
            for a file that cannot be used.
        """
        tables: dict[str, Sequence[Action | SymbolRate]] = {
            "data.actions": self.data.corporate_actions(),
            "margin.borrow_rates": self.margin.borrow_rates,
            "margin.requirements": self.margin.requirements,
        }
        said = []
        for place, rows in tables.items():
            names = sorted({instrument(row.symbol).symbol for row in rows}.difference(symbols))
            if names:
                more = f" and {len(names) - 5} more" if len(names) > 5 else ""
                said.append(f"{place}: not in this run, not applied: {', '.join(names[:5])}{more}.")
        return said

    def with_increments(self, bars: Bars) -> Bars:
        """The panel with the increments these settings name."""
        if self.increments == "original":
            return bars
        instruments = []
        for item in bars.instruments:
            coin = item.kind is Kind.CRYPTO
            instruments.append(replace(item, increment=BILLIONTH) if coin else item)
        return replace(bars, instruments=tuple(instruments))

    def view(self, bars: Bars) -> Bars:
        """The panel as a decision at its end sees it.

        Raw prices are adjusted for the splits that are known then. A later split changes nothing.

        Raises
        ------
        DataError
            for a split that the prices contradict.
        """
        return self.data.adjusted(bars)

    def views(self, bars: Bars, first: int) -> Iterator[tuple[int, int, Bars]]:
        """Instants from number `first` on, as rows [begin, end) with the panel as they see it."""
        for begin, end in spans_without_split(bars, self.data.splits(), first):
            yield begin, end, self.view(bars.between(0, end))

    def belief_table(
        self, trader: Trader, bars: Bars, first: int, progress: Progress = silent
    ) -> BeliefTable:
        """What a trader believes from number `first` on, at each instant from what was known."""
        parts = []
        for begin, _, view in self.views(bars, first):
            parts.append(trader.belief_table(view, bars.times[begin], progress))
        return joined_beliefs(parts)

    def trader_with_beliefs(
        self, trader: Trader, bars: Bars, first: int, progress: Progress = silent
    ) -> Trader:
        """The trader with these beliefs computed in advance."""
        return replace(trader, table=self.belief_table(trader, bars, first, progress))

    def trader(self, forecaster: Forecaster) -> Trader:
        """The trader these settings describe, with this forecaster."""
        return Trader(
            self.order_name,
            forecaster,
            self.correlation.source(),
            self.sizing,
            self.limits,
            self.costs,
            self.fees,
            self.orders,
            self.prior,
            self.margin,
        )
