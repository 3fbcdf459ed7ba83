"""Settings that all jobs with decisions share.

The names of the fields are the keys in the YAML files under `configs/`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from execution.decision.protection import ProtectionSettings
from execution.decision.sizing import SizingSettings
from execution.decision.tiers import DrawdownTiers
from execution.decision.watch import WatchSettings
from execution.orders.fees import FeeSchedule, TradingCosts
from execution.orders.lending import MarginTerms, SymbolRate
from execution.orders.orders import OrderSizeLimits
from forecasting.forecast import Forecaster
from forecasting.settings import PanelSettings
from foundation.errors import InputError
from foundation.settings import setting, settings_class
from sizing.settings import Limits, PriorSettings
from trainingdata.bars import Bars
from trainingdata.corporate_actions import CorporateAction
from trainingdata.delistings import Delisting
from trainingdata.instruments import MIN_CRYPTO_QTY, AssetClass, instrument
from trainingdata.schedule import Schedule
from trainingdata.stored_correlation import CorrelationSettings
from trainingdata.timeframe import Timeframe
from trainingdata.universe import UniverseSettings

if TYPE_CHECKING:
    from execution.decision.trader import Trader


@settings_class()
class TradingSettings(PanelSettings):
    """Settings of a trader: data, forecaster, sizing and costs."""

    capital: float = setting(100_000.0, "starting cash of a simulated account, USD", gt=0, lt=1e12)
    seed: int = setting(0, "seed of all random numbers", ge=0, lt=2**63)
    order_tag: str | None = setting(
        None,
        "prefix of order ids: letters, digits, '.', '_', '-'; null: the name in "
        "sizing.strategy; does not affect decisions",
    )
    schedule: tuple[str, ...] = setting(
        ("bars",),
        "when to decide: at every bar (`bars`), at the first bar of a week (`weekly`) or month "
        "(`monthly`) at which orders can fill, or at New York times (10:30,15:30); guards and "
        "overnight trims always act",
    )
    increments: Literal["original", "broker"] = setting(
        "original",
        "lot size: 0.001 of a crypto unit (`original`), or the venue's 1e-9 (`broker`); whole "
        "shares in both",
    )
    sizing: SizingSettings = setting(SizingSettings(), "strategy and its parameters")
    prior: PriorSettings = setting(
        PriorSettings(), "assumed risk premiums, and the length of the forecast horizon"
    )
    limits: Limits = setting(Limits(), "limits on weights")
    guards: DrawdownTiers = setting(DrawdownTiers(), "limits on weights, by drawdown")
    universe: UniverseSettings = setting(UniverseSettings(), "which symbols may be held and when")
    correlation: CorrelationSettings = setting(
        CorrelationSettings(), "source of the correlation matrices"
    )
    costs: TradingCosts = setting(TradingCosts(), "trading costs other than fees")
    fees: FeeSchedule = setting(FeeSchedule(), "trading fees")
    margin: MarginTerms = setting(MarginTerms(), "margin limits and borrowing rates")
    orders: OrderSizeLimits = setting(OrderSizeLimits(), "smallest and largest value of an order")
    protect: ProtectionSettings = setting(
        ProtectionSettings(), "protective order of each position at the venue"
    )
    watch: WatchSettings = setting(WatchSettings(), "limits between two decisions")

    def __post_init__(self) -> None:
        PanelSettings.__post_init__(self)
        _ = self.decision_schedule
        if self.sizing.earned is True and self.universe.ranks_by_growth:
            raise InputError(
                "sizing.earned: true: a universe ranked by growth would use the forecast in full,"
                " whatever it has earned; set universe.rank=momentum, or sizing.earned=report"
            )
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", self.order_prefix):
            raise InputError(
                f"order_tag: {self.order_prefix!r} is not a valid prefix; use 1 to 64 letters,"
                " digits, '.', '_' or '-'"
            )

    @property
    def order_prefix(self) -> str:
        """Prefix of client order ids."""
        return self.sizing.strategy if self.order_tag is None else self.order_tag

    @property
    def decision_schedule(self) -> Schedule:
        """Schedule of decisions."""
        return Schedule.parse(",".join(self.schedule))

    def load_bars(self) -> Bars:
        """Return the panel of bars, from files or from the synthetic market.

        Files are read up to `end`, including all history before `start`.

        Raises
        ------
        InputError
            if settings or files cannot be used; where possible, this is found before any bar is
            read.
        """
        self.check_input_files()
        bars = self.with_quantity_increments(PanelSettings.load_bars(self))
        self.orders.check_increments(bars)
        self.check_schedule(bars.timeframe, bars.symbols)
        return bars

    def check_schedule(self, timeframe: Timeframe, symbols: Collection[str]) -> None:
        """Check that at each scheduled time of day at least one of the symbols may trade.

        Raises
        ------
        InputError
            if the schedule has a time of day at which none of them may trade.
        """
        kinds = {instrument(symbol).kind for symbol in symbols}
        self.decision_schedule.check_decision_times(timeframe, sorted(kinds))

    def check_input_files(self) -> None:
        """Check the files and folders, other than bars, that the settings name.

        Reading bars and forecasting take long. These files are therefore checked first.

        Raises
        ------
        InputError
            if a file or folder cannot be used.
        """
        self.data.actions_to_book()
        self.forecaster.check()
        self.sizing.build_strategy()
        self.limits.group_limits()
        self.correlation.build_source()
        self.universe.build_universe()

    def unused_symbol_warnings(
        self, symbols: Collection[str], actions: Sequence[CorporateAction | Delisting]
    ) -> list[str]:
        """Return one warning for each setting whose rows name symbols that are not in the run.

        Checks corporate actions, borrow rates, margin requirements and the groups file.

        symbols: symbols in the run.
        actions: corporate actions and delistings.
        """
        tables: dict[str, Sequence[CorporateAction | Delisting | SymbolRate]] = {
            "data.actions": actions,
            "margin.borrow_rates": self.margin.borrow_rates,
            "margin.requirements": self.margin.requirements,
        }
        named = {
            place: {instrument(row.symbol).symbol for row in rows} for place, rows in tables.items()
        }
        named["limits.groups_file"] = set(self.limits.group_limits().symbols)
        remarks = []
        for place, of_place in named.items():
            names = sorted(of_place.difference(symbols))
            if names:
                more = f" and {len(names) - 5} more" if len(names) > 5 else ""
                remarks.append(
                    f"{place}: rows ignored, symbols not in this run: {', '.join(names[:5])}{more}."
                )
        return remarks

    def with_quantity_increments(self, bars: Bars) -> Bars:
        """Return the panel with the quantity increments that the setting `increments` selects."""
        if self.increments == "original":
            return bars
        instruments = []
        for item in bars.instruments:
            coin = item.kind is AssetClass.CRYPTO
            instruments.append(replace(item, qty_increment=MIN_CRYPTO_QTY) if coin else item)
        return replace(bars, instruments=tuple(instruments))

    def build_trader(self, forecaster: Forecaster) -> Trader:
        from execution.decision.trader import Trader

        return Trader(
            self.order_prefix,
            forecaster,
            self.correlation.build_source(),
            self.sizing,
            self.limits,
            self.costs,
            self.fees,
            self.orders,
            self.prior,
            self.margin,
            self.decision_schedule,
            self.universe.build_universe(),
        )
