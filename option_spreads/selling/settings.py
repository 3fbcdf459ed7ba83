"""Settings of the live spread seller, named as the keys of configs/sell_spreads.yaml."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from execution.decision.watch import WatchSettings
from foundation.errors import InputError
from foundation.notices import NoticeSettings, open_services
from foundation.settings import setting, settings_class
from option_spreads.autoscaler.account import AccountFiles
from option_spreads.autoscaler.rules import AutoscalingSettings, parse_strategies
from option_spreads.selling.rules import (
    SESSION_MINUTES,
    ImpliedVolatility,
    SpreadCosts,
    SpreadRules,
    default_order_cutoff_minutes,
    order_cutoff_time,
)
from trainingdata.feed.endpoint import BrokerSettings
from trainingdata.instruments import AssetClass, instrument
from trainingdata.sessions import Session
from trainingdata.source import Feed
from trainingdata.volatility_index import read_volatility_index

if TYPE_CHECKING:
    import pandas as pd

ACCOUNT_MODE = "PAPER"  # the account whose files are used; nothing is sold with real money


@settings_class()
class SellingSettings(AutoscalingSettings):
    """Settings of configs/sell_spreads.yaml."""

    strategies: tuple[str, ...] = setting(
        ("PUT",),
        "strategies sold at each entry, each once: CALL, PUT, IRON_CONDOR or OTM_SINGLE_SIDED",
    )
    underlying: str = setting(
        "SPY", "stock whose last trade price, times `scale`, is used as the index"
    )
    scale: float = setting(
        1.0,
        "ratio of the index to the stock price: 1 for options on the stock, 10 for S&P"
        " 500 options with SPY",
        ge=1e-3,
        le=1e3,
    )
    root: str = setting("SPY", "root of the option symbols, such as SPY or SPXW")
    share_delivery: bool | None = setting(
        None,
        "whether options that expire in the money deliver shares; null: true for options on"
        " the stock itself",
    )
    feed: Feed = setting("iex", "feed of the stock prices, `iex` or `sip`")
    vix: str = setting("", "Parquet file of the volatility index's daily closes")
    cutoff: float | None = setting(
        None,
        "minutes before the close from which orders for expiring options are not accepted;"
        " null: Alpaca's rule of 2026-11-23, 30 for SPY and QQQ, 45 for other stocks, 0 for an"
        " index",
        ge=0,
        lt=SESSION_MINUTES,
    )
    entry_window: float = setting(
        5.0, "minutes after an entry time in which the entry may still be made", ge=0.1, le=60
    )
    poll_interval: float = setting(
        15.0, "seconds between two polls, by the venue's clock", ge=0, le=3600
    )
    order_timeout: float = setting(
        10.0, "seconds after which an unfilled order is cancelled", ge=0, le=600
    )
    polls: int | None = setting(None, "number of polls; null: run until interrupted", ge=1)
    folder: str = setting(
        "data/live", "folder with one subfolder per account, which contains its journal"
    )
    rules: SpreadRules = setting(
        SpreadRules(exit_minute=350), "entry and exit rules of all strategies"
    )
    costs: SpreadCosts = setting(
        SpreadCosts(),
        "costs booked with each trade, USD; slippage is already in the venue's prices",
    )
    implied: ImpliedVolatility = setting(
        ImpliedVolatility(), "conversion of the volatility index to the implied move of the index"
    )
    broker: BrokerSettings = setting(
        BrokerSettings(), "connection to the account; only paper accounts and practice servers"
    )

    notice_urls: str | None = setting(
        None,
        "addresses of services that receive the same alerts as ALERT_URL, in apprise's form,"
        " separated by spaces",
        hidden=True,
    )
    notices: NoticeSettings = setting(NoticeSettings(), "the daily summary")
    watch: WatchSettings = setting(
        WatchSettings(),
        "limits checked between polls: action=halt or flatten, without margin; a job of the live"
        " loop uses the loop's `watch`",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        open_services(self.notice_urls)
        parse_strategies(self.strategies)
        if self.watch.action == "reduce" or self.watch.margin is not None:
            raise InputError(
                f"watch: action={self.watch.action}, margin={self.watch.margin}: spreads are closed"
                " whole and have no margin limit; set watch.action=halt or flatten, and"
                " watch.margin=null"
            )
        if instrument(self.underlying).kind is not AssetClass.STOCK:
            raise InputError(f"underlying: {self.underlying} is not a stock; give a stock symbol")
        # Options on a stock deliver shares, which a spread held to the close would leave behind.
        if self.delivers_shares and self.rules.exit_minute is None:
            raise InputError(
                f"rules.exit_minute: options on {self.root} deliver shares; set it to a minute"
                " before the close"
            )
        self._refuse_late_exit()
        self.rules.check_entry_times(SESSION_MINUTES - self.cutoff_minutes)
        if not self.broker.paper:
            raise InputError(
                "broker.paper: must be true; spreads are only sold on paper accounts"
                " and practice servers"
            )

    def _refuse_late_exit(self) -> None:
        """Raise InputError if `rules.exit_minute` is too close to the broker's order cutoff.

        There must be time for a poll and for its order to end.
        """
        exit_minute = self.rules.exit_minute
        # A poll must happen, and its order must end, before the venue stops taking orders.
        latest = (
            SESSION_MINUTES - self.cutoff_minutes - (self.poll_interval + self.order_timeout) / 60
        )
        if exit_minute is not None and exit_minute > latest:
            raise InputError(
                f"rules.exit_minute: {exit_minute:g} leaves no time for a poll and an order"
                f" before the cutoff, {self.cutoff_minutes:g} minutes before the close; set it"
                f" to at most {math.floor(latest)}"
            )

    @property
    def cutoff_minutes(self) -> float:
        """Return how many minutes before the close expiring options stop taking orders."""
        return default_order_cutoff_minutes(self.root) if self.cutoff is None else self.cutoff

    @property
    def delivers_shares(self) -> bool:
        """Return whether options that expire in the money deliver shares instead of cash."""
        return self.root == self.underlying if self.share_delivery is None else self.share_delivery

    @property
    def strategy_rules(self) -> tuple[SpreadRules, ...]:
        """Return the rules of each strategy, which differ only in the strategy's name."""
        return tuple(
            replace(self.rules, strategy=name) for name in parse_strategies(self.strategies)
        )

    def find_rules(self, strategy: str) -> SpreadRules:
        """Return the rules of a strategy, or those of the first configured one if it is not set.

        The rules differ only in the strategy's name and its defaults.
        """
        every = self.strategy_rules
        return next((each for each in every if each.strategy == strategy), every[0])

    def order_cutoff_time(self, session: Session) -> np.datetime64:
        """Return the instant from which the options that expire in a session take no orders."""
        return order_cutoff_time(session, self.cutoff_minutes)

    def read_vix_closes(self) -> pd.Series:
        """Read the file `vix`; return daily closes of the volatility index, in points, by date."""
        return read_volatility_index(self.vix, "vix")

    @property
    def account_files(self) -> AccountFiles:
        """Return the files of the paper account, on which contract counts are based."""
        return AccountFiles.from_settings(self, ACCOUNT_MODE)
