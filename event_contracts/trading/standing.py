"""How an account stands: several reads that agree with one another, and with what was booked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np

from event_contracts.trading.account_reads import (
    News,
    read_cash,
    read_fills,
    read_news,
    read_positions,
)
from event_contracts.trading.connection import KalshiConnection
from event_contracts.trading.fees import NOTHING
from event_contracts.trading.ledger import Ledger, RulesOf, held
from event_contracts.trading.money import Account, Holding
from event_contracts.trading.order_desk import KalshiDesk
from event_contracts.trading.orders import Outcome, RestingOrder
from event_contracts.trading.venue_orders import VenueFill, VenueOrder, reduces, sold_side
from execution.posting import LOOK_DELAYS
from foundation.errors import BrokerError

log = logging.getLogger(__name__)

OVERLAP = np.timedelta64(1, "h")  # read again of fills and settlements: some are listed late
_BEGINNING = np.datetime64(0, "ns")
_SIDES: tuple[Outcome, ...] = ("YES", "NO")


@dataclass(frozen=True, slots=True)
class Standing:
    """An account as several reads show it.

    cash: USD; what resting orders may take is still in it.
    positions: contracts by market, YES above 0 and NO below; none of them 0.
    resting: the account's orders, whoever sent them, oldest first.
    unlisted: orders of ours that may still trade and that are not among them.
    """

    cash: Decimal
    positions: Mapping[str, Decimal]
    resting: tuple[VenueOrder, ...]
    unlisted: tuple[RestingOrder, ...] = ()


class AccountReader:
    """Reads one account, and books what the venue lists.

    connection: to it.
    desk: of its orders.
    rules_of: fee rules of a market at an instant.
    pause: waits for so many seconds.
    """

    def __init__(
        self,
        connection: KalshiConnection,
        desk: KalshiDesk,
        rules_of: RulesOf,
        pause: Callable[[float], None],
    ) -> None:
        self._connection = connection
        self._desk = desk
        self._rules_of = rules_of
        self._pause = pause
        self._ledger: Ledger | None = None
        self._began_at = connection.now()
        self._read_until = self._began_at
        self._gap: Decimal | None = None  # USD by which the cash has differed for a while
        self._traded: dict[str, Decimal] = {}

    def expect(self, order: VenueOrder) -> None:
        """Believe no reading in which less of an order has traded than the venue has said.

        order: one that was sent since the ledger began; fills of others may be older.
        """
        if order.filled:
            self._traded[order.order_id] = order.filled

    def begin(self, account: Account) -> None:
        """Book from an account on, in which nothing is that the venue lists."""
        self._ledger = Ledger.opened(account)
        self._began_at = self._read_until = _BEGINNING

    def book_flow(self, amount: Decimal) -> None:
        """Book what was paid in, or taken out below 0, since the ledger began; USD."""
        if self._ledger is not None:
            account = self._ledger.account.with_flow(amount)
            self._ledger = replace(self._ledger, account=account)

    def agreed(self) -> tuple[Standing, Ledger]:
        """The account, read until what waits stays the same and what is held is what was booked.

        Cash that differs from what is booked is logged: a deposit is no error.

        Raises
        ------
        BrokerError
            for a venue that does not answer, or whose answers do not agree, by name.
        """
        for seconds in (0.0, *LOOK_DELAYS):
            self._pause(seconds)
            standing, ledger, still = self._read()
            contracts = (*self._unlisted(ledger), *ledger.position_differences(standing.positions))
            told = ledger.differences(standing.cash, standing.positions)
            # What was told before has lasted: nobody waits for it again.
            if still and not contracts and self._is_known(standing, ledger, told):
                return standing, ledger
        if not still:
            raise BrokerError("the account: orders come and go while they are read")
        if contracts:
            raise BrokerError(f"the account does not add up: {'; '.join(contracts)}")
        self._remember(standing, ledger, told)
        return standing, ledger

    def differences(self) -> tuple[str, ...]:
        """What the venue says of cash and contracts that its own fills and settlements, booked by
        our rules, do not say; by name, once it lasts.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        told: tuple[str, ...] = ()
        for seconds in (0.0, *LOOK_DELAYS):
            self._pause(seconds)
            standing, ledger, still = self._read()
            told = ledger.differences(standing.cash, standing.positions)
            if still and self._is_known(standing, ledger, told):
                return told
        self._remember(standing, ledger, told)
        return told

    def _remember(self, standing: Standing, ledger: Ledger, told: tuple[str, ...]) -> None:
        """Log differences that have lasted, and wait for those of the cash no more."""
        log.warning("the account does not add up: %s", "; ".join(told))
        self._gap = standing.cash - ledger.account.cash

    def _is_known(self, standing: Standing, ledger: Ledger, told: tuple[str, ...]) -> bool:
        """Whether nothing differs, or the cash alone, and by as much as has lasted before."""
        if not told:
            return True
        contracts = ledger.position_differences(standing.positions)
        return not contracts and standing.cash - ledger.account.cash == self._gap

    def fills(self, market: str) -> list[VenueFill]:
        """The account's fills in a market, oldest first.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        return read_fills(self._connection, {"ticker": market})

    def resting_orders(self, standing: Standing) -> tuple[RestingOrder, ...]:
        """What waits, in our words: orders of ours as they were meant, those of others by what
        they would sell of what ours leave.

        Raises
        ------
        BrokerError
            for an order that cannot be.
        """
        free = _Free(standing.positions)
        ours: list[RestingOrder] = []
        others: list[VenueOrder] = []
        with self._connection.translated_errors("orders that wait"):
            for order in standing.resting:
                intent = self._desk.book.get(order.client_order_id)
                if intent is None or not order.is_of(intent):
                    others.append(order)
                else:
                    ours.append(order.resting(reduces(intent)))
                    free.take(ours[-1])
            for each in standing.unlisted:
                free.take(each)
            parts = [part for order in others for part in free.parts(order)]
        return (*ours, *standing.unlisted, *parts)

    def _read(self) -> tuple[Standing, Ledger, bool]:
        """The account, what is booked by then, and whether nothing waited that did not before."""
        if self._ledger is None:
            self._ledger = self._opened()
        before = _waiting(self._desk.resting())
        standing = self._standing()
        unlisted = self._desk.unlisted(standing.resting)
        for intent, order in unlisted.ended:
            if intent.sent_at >= self._began_at:
                self.expect(order)
        standing = replace(standing, unlisted=unlisted.left)
        now = self._connection.now()
        news = self._news()
        self._ledger = self._ledger.after(news.fills, news.settlements, self._rules_of)
        self._read_until = now
        return standing, self._ledger, before == _waiting(standing.resting)

    def _unlisted(self, ledger: Ledger) -> tuple[str, ...]:
        """Fills that the venue has said and does not list yet, in words."""
        for name, filled in tuple(self._traded.items()):
            if ledger.traded.get(name, NOTHING) >= filled:
                del self._traded[name]
        return tuple(
            f"order {name}: {filled} traded, {ledger.traded.get(name, NOTHING)} listed"
            for name, filled in self._traded.items()
        )

    def _opened(self) -> Ledger:
        """A ledger that begins with what the account is, where nothing happens meanwhile."""
        self._began_at = self._connection.now()
        for seconds in (0.0, *LOOK_DELAYS):
            self._pause(seconds)
            before = self._news()
            standing = self._standing()
            if self._news() == before:
                holdings = {market: held(each) for market, each in standing.positions.items()}
                return Ledger.opened(
                    Account(standing.cash, holdings), before.fills, before.settlements
                )
        raise BrokerError("the account: it trades while it is read for the first time")

    def _standing(self) -> Standing:
        cash = read_cash(self._connection)
        return Standing(cash, read_positions(self._connection), self._desk.resting())

    def _news(self) -> News:
        """Fills and settlements since they were last read, and of some time before."""
        return read_news(self._connection, self._read_until - OVERLAP)


class _Free:
    """Contracts held that no sale has reserved."""

    def __init__(self, positions: Mapping[str, Decimal]) -> None:
        holdings: dict[str, Holding] = {name: held(each) for name, each in positions.items()}
        self._counts = {
            (market, side): holding.of(side)
            for market, holding in holdings.items()
            for side in _SIDES
        }

    def take(self, resting: RestingOrder) -> None:
        """Reserve what an order sells."""
        if resting.order.action == "SELL":
            key = (resting.order.market, resting.order.side)
            self._counts[key] = self._counts.get(key, NOTHING) - resting.remaining

    def parts(self, order: VenueOrder) -> tuple[RestingOrder, ...]:
        """The order of somebody else, as a sale of what is free and a purchase beyond it."""
        free = self._counts.get((order.market, sold_side(order.side)), NOTHING)
        parts = order.resting_of_others(free)
        for part in parts:
            self.take(part)
        return parts


def _waiting(resting: Iterable[VenueOrder]) -> dict[str, Decimal]:
    return {order.order_id: order.remaining for order in resting}
