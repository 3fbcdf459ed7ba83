"""Protocols of a broker for the live loop, and the registered ones."""

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

REREAD_SECONDS = 2.0  # before the second reading of an account
ACCOUNT_READ_DELAYS = (
    0.0,
    REREAD_SECONDS,
)  # seconds before each reading of what contradicts another
CLOCK_TOLERANCE = np.timedelta64(60, "s")  # by which a clock may be put right
MAX_MULTIPLIER = Decimal(4)  # times equity that a broker lends by day on any stock, by Regulation T


class VenuePosition(NamedTuple):
    """A position at a venue: signed quantity, and its unsigned value at the venue's mark, USD."""

    quantity: Decimal
    worth: Decimal


NO_POSITION = VenuePosition(Decimal(0), Decimal(0))


@dataclass(frozen=True, slots=True)
class UnmodelledOrder:
    """An open order that is not among an account's: of options, by value, or of no sense.

    place: the symbol that it is in, or what options are on.
    at_risk: USD that what is left of it could lose; infinite where nothing bounds that.
    why: what of it is not understood; empty for one that is.
    """

    client_order_id: str
    place: str
    at_risk: Decimal
    why: str = ""


@dataclass(frozen=True, slots=True)
class AccountReading:
    """An account as it was read, with the venue's own figures.

    account: the snapshot; once it is valued, at decision prices: rejected marks at the feed's
        price, unpriced positions at their last mark.
    cash: USD, in the venue's own sum; what is owed for options is not taken off.
    multiplier: of equity, that the venue says it lends; more than `MAX_MULTIPLIER` is not accepted.
    is_open: whether the venue says that the exchange is open; none where it does not.
    reread: whether it was read once more, as the reading before was rejected.
    unmodelled_orders: open orders that are not among the account's.
    unpriced: signed quantities of positions without a price at the venue.
    rejected: why marks are rejected, once it is valued; an empty string if none is.
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
    """A first reading of an account was rejected; a second one decides."""


class ReadingRejected(BrokerError):
    """A second reading of an account that the journal does not explain; no decision uses it.

    account: as it was read.
    """

    def __init__(self, why: str, account: AccountSnapshot) -> None:
        super().__init__(why)
        self.account = account


class MarksRejected(ReadingRejected):
    """A reading whose marks the feed contradicts: `account` is at the feed's prices."""


def parse_venue_symbol(name: str) -> str:
    """Return our name of a venue's symbol: `BTC/USD` is BTCUSD; an option keeps its name.

    A name that is neither of a stock nor of a coin nor of an option is a foreign symbol.
    """
    if is_option(name):
        return name
    return instrument(name).symbol if is_symbol(name) else placeholder_symbol(name)


class Gateway(Broker, Protocol):
    """A broker whose orders outlive the process: it reads an account, and sends orders of a job."""

    def read_account(self, *, reread: bool = False) -> AccountReading:
        """Return the account as the venue states it.

        reread: whether the reading before this one was rejected.

        Raises
        ------
        ReadAgain
            for answers that contradict each other, if this is a first reading.
        """

    @property
    def has_recent_account(self) -> bool:
        """Return whether the account was read recently, without an unknown event since."""

    def listed_symbols(self) -> Sequence[str]:
        """Return the symbols of all active assets; a class that the venue does not list has none.

        They are proposed for a symbol that the venue does not have.
        """

    def accept(self, account: AccountSnapshot) -> None:
        """Apply the venue's rules to this account until an unknown event."""

    def refresh_open_orders(self) -> None:
        """Query orders that rested at their last answer, and record the answers."""


class BrokerConnection(Protocol):
    """A connection to one account at a broker.

    Every method raises `BrokerError` for a missing answer and for an invalid one.

    time: by which whatever is asked of it waits.
    unreadable_activities: activities of the last list that could not be read, each in words.
    """

    time: TimeSource
    unreadable_activities: tuple[str, ...]

    def account_id(self) -> str: ...
    def now(self) -> np.datetime64: ...

    def estimated_now(self) -> np.datetime64:
        """Return the venue's time, estimated from its last reading; read now if there is none."""

    def now_or_estimate(self) -> np.datetime64:
        """Return the time of the venue's clock, estimated if it does not answer."""

    def next_close(self) -> np.datetime64 | None:
        """When the venue next closes for stocks; none where it does not say."""

    def cash(self) -> Decimal:
        """USD; below 0 it is borrowed."""

    def held(self) -> dict[str, VenuePosition]:
        """Return every position by symbol."""

    def activities_since(self, after: np.datetime64) -> list[Activity]:
        """Everything that happened to the account after an instant, oldest first."""

    def broker(self, **words: Any) -> Gateway:
        """Return a gateway for one job's orders; its words are those of `AlpacaBroker`."""


class EstimatedClock:
    """The venue's clock, carried on since it was last read."""

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
