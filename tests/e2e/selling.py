"""A market of an index for tests of sellers of spreads: real hours, synthetic bars, a clock
that is moved by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from execution.orders.gate import ALLOW_ALL_ORDERS, OrderGate
from execution.orders.option_orders import (
    OptionContract,
    OrderNeverSent,
    Quote,
    SpreadFill,
    SpreadOrder,
)
from foundation.errors import OrderRejected
from foundation.notifier import Notifier
from option_spreads.autoscaler.account import AccountFiles
from option_spreads.autoscaler.trades import CsvRow, parse_trade_rows
from option_spreads.selling.rules import ImpliedVolatility, SpreadCosts, SpreadRules
from option_spreads.selling.seller import SpreadSeller
from option_spreads.selling.settings import SellingSettings
from option_spreads.selling.state import OpenSpread, SellerState, write_state
from option_spreads.simulation.path import IndexPaths, build_index_paths
from option_spreads.simulation.pricing import Smile
from practice.alpaca.option_desk import OptionDesk
from practice.settings import OptionTerms
from tests.support.alerts import Alerts
from trainingdata.bars import CLOSE, Bars, build_panel
from trainingdata.instants import new_york_date
from trainingdata.instruments import instrument
from trainingdata.sessions import session_on
from trainingdata.timeframe import HOURLY

COSTS = SpreadCosts()
SMILE = Smile()
HELD: dict[str, Any] = {
    "stop_usd": None,
    "stop_multiple": None,
    "target": None,
    "trail_start": None,
}
NAME = "PUT-20240402-030"
DAY = date(2024, 4, 2)
OPENS = np.datetime64("2024-04-02T13:30", "ns")
STRAY = OptionContract("SPXW", DAY, True, Decimal(6000))


class UnreconciledAccount:
    """Account without reconciliation, whose gate denies no order."""

    def reconcile(self) -> None:
        pass

    def build_gate(self, spreads: Sequence[OpenSpread]) -> OrderGate:
        del spreads
        return ALLOW_ALL_ORDERS


def synthetic(days: int, seed: int, deviation: float = 0.002) -> tuple[Bars, pd.Series]:
    """Synthetic hourly bars of SPY from a seed, and a volatility index of a day before each
    session.
    """
    rng = np.random.default_rng(seed)
    grid = HOURLY.stock_clock
    first = int(np.searchsorted(grid.ends, np.datetime64("2024-04-01")))
    ends = grid.ends[first : first + 7 * days]
    closes = 500 * np.exp(np.cumsum(rng.standard_normal(len(ends)) * deviation))
    opens = np.concatenate([[500.0], closes[:-1]])
    reach = np.abs(rng.standard_normal((2, len(ends)))) * deviation / 2
    high = np.maximum(opens, closes) * (1 + reach[0])
    low = np.minimum(opens, closes) * (1 - reach[1])
    values = np.round(np.column_stack([opens, high, low, closes, np.full(len(ends), 1e6)]), 2)
    dates = pd.DatetimeIndex(np.unique(new_york_date(ends)))
    return build_panel([(instrument("SPY"), ends, values)], "synthetic"), pd.Series(
        rng.uniform(14, 26, days).round(2), index=dates
    )


@dataclass
class PathMarket:
    """An index that walks along days; `at` is where it stands."""

    days: IndexPaths
    closes: dict[date, float]
    at: tuple[int, int] = (0, 0)

    def now(self) -> np.datetime64:
        session = session_on(self.days.dates[self.at[0]])
        assert session is not None
        return session.opens + np.timedelta64(int(self.days.minutes_since_open[self.at[1]]), "m")

    def index_level(self) -> float | None:
        return float(self.days.spot[self.at])

    def volatility_index(self) -> float | None:
        return float(self.days.vix[self.at])

    def index_close(self, day: date) -> float | None:
        session = session_on(np.datetime64(day, "D"))
        return self.closes[day] if session is not None and session.closes <= self.now() else None

    def points(self) -> Iterator[tuple[int, int]]:
        for point in np.ndindex(*self.days.spot.shape):
            self.at = (point[0], point[1])
            yield self.at


@dataclass
class DeskVenue:
    """A desk as the venue of a seller: what is sent fills at once or not at all."""

    desk: OptionDesk

    def now(self) -> np.datetime64:
        return self.desk.market.now()

    def index_level(self) -> float:
        index = self.desk.market.index_level()
        if index is None:
            raise OrderRejected(f"{self.desk.root} does not trade now")
        return index

    def index_close(self, day: date) -> float | None:
        return self.desk.market.index_close(day)

    def quotes(self, contracts: Iterable[OptionContract]) -> Mapping[OptionContract, Quote]:
        return self.desk.quotes(contracts)

    def option_positions(self) -> Mapping[OptionContract, int]:
        return self.desk.option_positions()

    def buying_power(self) -> Decimal | None:
        return None

    def submit(self, order: SpreadOrder, gate: OrderGate = ALLOW_ALL_ORDERS) -> SpreadFill:
        self.desk.submit_order(order)
        self.desk.cancel(order.client_order_id)
        return self.desk.tickets[order.client_order_id].fill

    def resume(self, client_order_id: str, *, retry_gate: OrderGate | None) -> SpreadFill:
        """All that is sent arrives: nothing is sent again."""
        self.desk.cancel(client_order_id)
        if client_order_id not in self.desk.tickets:
            raise OrderNeverSent(f"{client_order_id}: it was never sent")
        return self.desk.tickets[client_order_id].fill


@dataclass
class Practising:
    """A seller, the desk it sells at, its account's folder, and the cash flows of the desk."""

    market: PathMarket
    desk: OptionDesk
    settings: SellingSettings
    vix: pd.Series
    folder: Path
    notices: Notifier
    flows: list[Decimal]

    def has_ended(self, kind: str) -> bool:
        """Whether no alert of a kind is raised: if so, its next one is announced."""
        alerts = Alerts()
        self.notices.add_recorder(alerts)
        self.notices.alert(kind, "asked by a test")
        self.notices.reset_alert(kind)
        return alerts.told != []

    @property
    def venue(self) -> DeskVenue:
        """The desk, to a seller."""
        return DeskVenue(self.desk)

    def seller(self, venue: Any = None, **instead: Callable[..., Any]) -> SpreadSeller:
        """A seller at the desk, or at a venue in front of it that answers other things instead."""
        venue = venue or self.venue
        vars(venue).update(instead)
        return SpreadSeller(
            venue, self.settings, lambda: self.vix, self.notices, UnreconciledAccount()
        )

    def to(self, day: int, minute: int) -> None:
        """Go on to a minute after the open of a day."""
        self.market.at = day, int(np.searchsorted(self.market.days.minutes_since_open, minute))
        self.desk.advance()

    def booked(self) -> list[CsvRow]:
        return parse_trade_rows((self.folder / "trades.csv").read_bytes())[1]


def refusing(error: Exception | type[BaseException]) -> Callable[..., Any]:
    """What answers with an error, whatever it is asked."""

    def answer(*asked: Any, **more: Any) -> Any:
        raise error

    return answer


def practising_seller(
    folder: Path, days: int, seed: int, *strategies: str, **more: Any
) -> Practising:
    bars, vix = synthetic(days, seed, more.pop("deviation", 0.002))
    path = build_index_paths(bars, "SPY", vix, 10.0)
    ends, values = bars.bars_of_symbol(0)
    closes = {
        d.astype(object): float(c) * 10
        for d, c in zip(new_york_date(ends), values[:, CLOSE], strict=True)
    }
    sizing = more.pop("sizing", {})
    settings = SellingSettings(
        AUTOSCALING_DATA_DIR=str(folder),
        strategies=strategies,
        root="SPXW",
        rules=SpreadRules(**more),
        costs=COSTS,
        implied=ImpliedVolatility(SMILE.vix_multiple, SMILE.session_variance_share),
        **sizing,
    )
    market = PathMarket(path, closes)
    flows: list[Decimal] = []
    AccountFiles(folder / "paper", settings.STARTING_CAPITAL).initialise()
    desk = OptionDesk(
        *("SPXW", market, OptionTerms(slippage=COSTS.slippage, smile=SMILE)),
        on_cash_flow=flows.append,
    )
    return Practising(market, desk, settings, vix, folder / "paper", Notifier(None, None), flows)


def opened(
    folder: Path,
    *,
    days: int = 3,
    minute: int = 30,
    settings: dict[str, Any] | None = None,
    **rules: Any,
) -> tuple[Practising, SpreadSeller, OpenSpread]:
    """A seller with one spread, sold at 10:00 and held to the close unless rules say otherwise."""
    here = practising_seller(folder, days, 0, "PUT", **{"entry_minutes": (30,), **HELD, **rules})
    here.settings = replace(here.settings, **(settings or {}))
    seller = here.seller()
    here.to(0, minute)
    (spread,) = seller.step().spreads
    return here, seller, spread


def stop(here: Practising, *spreads: OpenSpread) -> None:
    """Have spreads bought back at the next look."""
    stopped = tuple(replace(each, exit_reason="stop") for each in spreads)
    write_state(here.folder, SellerState(stopped, (NAME,)))


def exits(here: Practising) -> list[str]:
    return [row["Exit_Reason"] for row in here.booked()]
