"""Protocols that a broker implements for the live loop, and the registered brokers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

import numpy as np

from execution.journal.activities import Activity
from execution.journal.order_store import OrderStore
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.broker import Broker
from execution.orders.gate import OrderRole
from execution.orders.option_orders import is_option
from execution.orders.orders import Order
from foundation.clock import TimeSource
from foundation.database import Database
from foundation.errors import BrokerError, ResponseRejected, invalid_choice_error
from foundation.plugin import entry_point_names, load_entry_point
from trainingdata.feed.endpoint import ApiKeys, BrokerSettings
from trainingdata.instruments import instrument, is_symbol, placeholder_symbol

log = logging.getLogger(__name__)

# Seconds before each further reading of an account: positions were seen to lag by 4 seconds.
REREAD_DELAYS_SECONDS = (2.0, 2.0, 4.0)
CLOCK_TOLERANCE = np.timedelta64(60, "s")  # largest correction of a clock
MAX_LEVERAGE_MULTIPLIER = Decimal(
    4
)  # largest intraday multiple of equity on any stock, by Regulation T


class VenuePosition(NamedTuple):
    """A position at a venue: signed quantity, and unsigned value at the venue's mark, USD."""

    quantity: Decimal
    market_value: Decimal


NO_POSITION = VenuePosition(Decimal(0), Decimal(0))


@dataclass(frozen=True, slots=True)
class UnmodelledOrder:
    """An open order that an account snapshot excludes.

    It is an order for options, an order for an amount of dollars, or an unreadable order.

    client_order_id: id of the order.
    instrument_name: symbol of the order, or the underlying of options.
    max_loss_usd: largest loss that the unfilled part of the order can cause, USD; infinite if
        unbounded.
    unreadable_reason: reason why the order cannot be read; empty for a readable order.
    """

    client_order_id: str
    instrument_name: str
    max_loss_usd: Decimal
    unreadable_reason: str = ""


@dataclass(frozen=True, slots=True)
class AccountReading:
    """An account as read from the venue, together with figures that its snapshot lacks.

    account: account snapshot. The reconciler later replaces a rejected mark by the feed's price,
        and a missing mark by the last accepted one.
    cash: cash as the venue reports it, USD; the cost of buying back short options is not deducted.
    leverage_multiplier: leverage as the venue reports it, a multiple of equity; if it exceeds
        `MAX_LEVERAGE_MULTIPLIER`, an alert is sent and that maximum is used.
    is_market_open: true if the venue reports the exchange as open; None if it does not report this.
    is_reread: true if the account is read again after earlier responses were rejected.
    unmodelled_orders: open orders that the account snapshot does not model.
    unpriced_quantities: signed quantities of positions without a price at the venue.
    mark_rejection_reason: reasons why marks are rejected, set by the reconciler; empty if none is
        rejected.
    """

    account: AccountSnapshot
    cash: Decimal
    leverage_multiplier: Decimal
    is_market_open: bool | None
    is_reread: bool
    unmodelled_orders: tuple[UnmodelledOrder, ...] = ()
    unpriced_quantities: Mapping[str, Decimal] = field(default_factory=dict)
    mark_rejection_reason: str = ""


class RereadRequired(ResponseRejected):
    """Responses about an account were rejected; the account has to be read again."""


def read_until_accepted(
    read: Callable[[bool], AccountSnapshot],
    time: TimeSource,
    lag_reason: Callable[[AccountSnapshot], str] = lambda _: "",
) -> AccountSnapshot:
    """Read an account until the responses agree, with a pause before each further reading.

    read: function that reads the account; its argument is true after the first reading.
    lag_reason: function that states how a snapshot lags behind the journal; empty if it does not
        lag. The last snapshot is returned even if it lags.

    Raises
    ------
    RereadRequired
        if the responses of the last reading contradict each other, too.
    """
    for is_reread, delay in enumerate((*REREAD_DELAYS_SECONDS, None)):
        try:
            account = read(bool(is_reread))
            why = lag_reason(account)
        except RereadRequired as error:
            if delay is None:
                raise
            why = str(error)
        if delay is None or not why:
            break
        log.warning("reading the account again: %s", why)
        time.wait(delay)
    return account


class AccountReadingRejected(BrokerError):
    """The account contradicts the journal at the second reading too, so no decision uses it.

    account: rejected account snapshot.
    """

    def __init__(self, why: str, account: AccountSnapshot) -> None:
        super().__init__(why)
        self.account = account


class MarksRejected(AccountReadingRejected):
    """The venue's marks contradict the feed's last trades.

    `account` is the rejected snapshot, valued at the last trades.
    """


def parse_venue_symbol(name: str) -> str:
    """Return this project's spelling of a venue's symbol, such as BTCUSD for `BTC/USD`.

    The symbol of an option is unchanged. A name that denotes neither a stock nor crypto nor an
    option becomes a placeholder symbol.
    """
    if is_option(name):
        return name
    return instrument(name).symbol if is_symbol(name) else placeholder_symbol(name)


class Gateway(Broker, Protocol):
    """A broker that reads one account, and sends and records the orders of one job."""

    def read_account(self, *, reread: bool = False) -> AccountReading:
        """Return the account as the venue reports it.

        reread: true if the previous responses were rejected.

        Raises
        ------
        RereadRequired
            if responses contradict each other.
        """

    @property
    def has_recent_account(self) -> bool:
        """Whether there is a recent cached account snapshot that no later order has invalidated."""

    def listed_symbols(self) -> Sequence[str]:
        """Return the symbols of all active assets at the venue.

        An asset class whose list cannot be read is skipped. The symbols serve as suggestions when a
        user names a symbol that the venue does not have.
        """

    def cache_account(self, account: AccountSnapshot) -> None:
        """Cache this account snapshot for the pre-trade checks of the next orders."""

    def refresh_open_orders(self) -> None:
        """Query orders that were open when last reported, and record the venue's new reports."""

    def adopt_orders(self, is_adopted: Callable[[Order], bool], role: OrderRole) -> None:
        """Record open orders that the journal lacks, with the fills that they have had.

        is_adopted: predicate on open orders; those for which it is false are left out.
        role: role under which the orders are recorded.
        """

    def has_order_id(self, client_order_id: str) -> bool:
        """Return whether the venue has an order with this id, open or ended."""


class BrokerConnection(Protocol):
    """A connection to one account at a broker.

    Every method raises `BrokerError` if a response is missing or invalid.

    time: clock by which every wait is measured.
    unreadable_activities: descriptions of activities that the last query could not read.
    """

    time: TimeSource
    unreadable_activities: tuple[str, ...]

    def account_id(self) -> str: ...
    def now(self) -> np.datetime64: ...

    def estimated_now(self) -> np.datetime64:
        """Return an estimate of the venue's time; only the first call reads the venue's clock."""

    def now_or_estimate(self) -> np.datetime64:
        """Return the venue's time, or an estimate of it if the venue does not respond."""

    def next_close(self) -> np.datetime64 | None:
        """Return the stock market's next close as the venue reports it; None if it reports none."""

    def cash(self) -> Decimal:
        """Return the account's cash, USD; below 0 for borrowed cash."""

    def positions(self) -> dict[str, VenuePosition]:
        """Return every position by symbol."""

    def activities_since(self, after: np.datetime64) -> list[Activity]:
        """Return all activities of the account after an instant, oldest first."""

    def create_gateway(self, **options: Any) -> Gateway:
        """Return a gateway for one job's orders.

        options: keyword arguments of `AlpacaBroker` other than settings, keys and time; `book`, the
            store that records orders, is always among them.
        """


@contextmanager
def open_reading_gateway(connection: BrokerConnection, **options: Any) -> Iterator[Gateway]:
    """Open a gateway for reading an account, during a `with` block.

    Its order store is empty and in memory, so it is not for sending orders.

    options: keyword arguments of `BrokerConnection.create_gateway` other than `book`.
    """
    with closing(Database()) as database:
        yield connection.create_gateway(book=OrderStore(database), **options)


class EstimatedClock:
    """Clock that estimates the venue's time from its last report and the local time since."""

    def __init__(self, connection: BrokerConnection) -> None:
        self._connection = connection

    def now(self) -> np.datetime64:
        return self._connection.estimated_now()


def create_broker_connection(settings: BrokerSettings, keys: ApiKeys) -> BrokerConnection:
    """Return a connection to the registered broker that the settings name."""
    if settings.name not in (names := entry_point_names("brokers")):
        raise invalid_choice_error("broker.name", settings.name, names)
    connection: BrokerConnection = load_entry_point("brokers", settings.name)(settings, keys)
    return connection
