"""Protocols of a broker for the live loop, and the registered brokers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

import numpy as np

from execution.journal.activities import Activity
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.broker import Broker
from execution.orders.option_orders import is_option
from foundation.clock import TimeSource
from foundation.errors import BrokerError, invalid_choice
from foundation.plugin import entry_point_names, load_entry_point
from trainingdata.feed.endpoint import ApiKeys, BrokerSettings
from trainingdata.instruments import instrument, is_symbol, placeholder_symbol

REREAD_SECONDS = 2.0  # seconds before the second reading of an account
ACCOUNT_READ_DELAYS = (0.0, REREAD_SECONDS)  # seconds before each reading
CLOCK_TOLERANCE = np.timedelta64(60, "s")  # largest correction of a clock
MAX_MULTIPLIER = Decimal(4)  # largest intraday multiple of equity on any stock, by Regulation T


class VenuePosition(NamedTuple):
    """A position at a venue: signed quantity, and its unsigned value at the venue's mark, USD."""

    quantity: Decimal
    worth: Decimal


NO_POSITION = VenuePosition(Decimal(0), Decimal(0))


@dataclass(frozen=True, slots=True)
class UnmodelledOrder:
    """An open order that is not among an account's: of options, by value, or unreadable.

    client_order_id: id of the order.
    place: symbol of the order, or the underlying of options.
    at_risk: USD that its remainder could lose; infinite if unbounded.
    why: reason why it cannot be read; empty if it can.
    """

    client_order_id: str
    place: str
    at_risk: Decimal
    why: str = ""


@dataclass(frozen=True, slots=True)
class AccountReading:
    """A reading of an account, with the venue's own figures.

    account: the snapshot; once it is valued, at decision prices: rejected marks at the feed's
        price, unpriced positions at their last mark.
    cash: USD, as the venue sums it; the cost of short options is not deducted.
    multiplier: multiple of equity that the venue says it lends; more than `MAX_MULTIPLIER` is not
        accepted.
    is_open: true if the venue says that the exchange is open; None if it does not say.
    reread: true if this is a second reading, after the first was rejected.
    unmodelled_orders: open orders that are not among the account's.
    unpriced: signed quantities of positions without a price at the venue.
    rejected: reasons why marks are rejected, once it is valued; an empty string if none is.
    """

    account: AccountSnapshot
    cash: Decimal
    multiplier: Decimal
    is_open: bool | None
    reread: bool
    unmodelled_orders: tuple[UnmodelledOrder, ...] = ()
    unpriced: Mapping[str, Decimal] = field(default_factory=dict)
    rejected: str = ""


class RereadRequired(BrokerError):
    """A first reading of an account that was rejected; a second one decides."""


class ReadingRejected(BrokerError):
    """A second reading of an account that the journal does not explain; no decision uses it.

    account: the account that was read.
    """

    def __init__(self, why: str, account: AccountSnapshot) -> None:
        super().__init__(why)
        self.account = account


class MarksRejected(ReadingRejected):
    """A reading with marks that the feed contradicts; its account is at the feed's prices."""


def parse_venue_symbol(name: str) -> str:
    """Return our name of a venue's symbol: `BTC/USD` is BTCUSD; an option keeps its name.

    A name that is not of a stock, crypto or an option is a foreign symbol.
    """
    if is_option(name):
        return name
    return instrument(name).symbol if is_symbol(name) else placeholder_symbol(name)


class Gateway(Broker, Protocol):
    """A broker that reads an account and sends orders of a job, which outlive the process."""

    def read_account(self, *, reread: bool = False) -> AccountReading:
        """Return the account as the venue states it.

        reread: true if the reading before this one was rejected.

        Raises
        ------
        RereadRequired
            for responses that contradict each other, if this is a first reading.
        """

    @property
    def has_recent_account(self) -> bool:
        """Return whether the account was read recently, without an unknown event since."""

    def listed_symbols(self) -> Sequence[str]:
        """Return the symbols of all active assets; a class that the venue does not list has none.

        They are suggested for a symbol that the venue does not have.
        """

    def accept(self, account: AccountSnapshot) -> None:
        """Use this account for the venue's rules until an unknown event."""

    def refresh_open_orders(self) -> None:
        """Query orders that rested at their last report, and record the new reports."""


class BrokerConnection(Protocol):
    """A connection to one account at a broker.

    Every method raises `BrokerError` if a response is missing or invalid.

    time: clock that times every wait.
    unreadable_activities: activities of the last list that could not be read, as text.
    """

    time: TimeSource
    unreadable_activities: tuple[str, ...]

    def account_id(self) -> str: ...
    def now(self) -> np.datetime64: ...

    def estimated_now(self) -> np.datetime64:
        """Return the venue's time, estimated from its last reading; it is read if it never was."""

    def now_or_estimate(self) -> np.datetime64:
        """Return the venue's clock, or its estimate if the venue does not answer."""

    def next_close(self) -> np.datetime64 | None:
        """Return the next close for stocks by the venue's clock; None if it does not state one."""

    def cash(self) -> Decimal:
        """Return USD in the account; below 0 it is borrowed."""

    def held(self) -> dict[str, VenuePosition]:
        """Return every position by symbol."""

    def activities_since(self, after: np.datetime64) -> list[Activity]:
        """Return all activities of the account after an instant, oldest first."""

    def broker(self, **words: Any) -> Gateway:
        """Return a gateway for one job's orders; its arguments are those of `AlpacaBroker`."""


class EstimatedClock:
    """The venue's clock, carried forward since its last reading."""

    def __init__(self, connection: BrokerConnection) -> None:
        self._connection = connection

    def now(self) -> np.datetime64:
        return self._connection.estimated_now()


def broker_connection(settings: BrokerSettings, keys: ApiKeys) -> BrokerConnection:
    """Return a connection to the registered broker that the settings name."""
    if settings.name not in (names := entry_point_names("brokers")):
        raise invalid_choice("broker.name", settings.name, names)
    connection: BrokerConnection = load_entry_point("brokers", settings.name)(settings, keys)
    return connection
