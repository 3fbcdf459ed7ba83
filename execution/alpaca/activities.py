"""What happened to an account (trades, fees, dividends, splits, transfers), and what it holds."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

from execution.alpaca.connection import Answer, VenueConnection
from execution.alpaca.fields import ActivityEntry, Position
from execution.option_orders import SHARES, is_option
from foundation.decimals import EXACT, is_bounded
from foundation.errors import SenselessAnswer
from trainingdata.feed.fields import entries
from trainingdata.instants import DAY
from trainingdata.instruments import foreign_symbol, instrument, is_symbol

log = logging.getLogger(__name__)

ACTIVITIES_A_PAGE = 100
# Cash that a person pays in (above 0) or takes out (below 0): by journal, by wire, from another
# broker. Dividends, interest and fees are profit or cost, and none of these.
TRANSFERS = frozenset({"ACATC", "CSD", "CSR", "CSW", "JNL", "JNLC", "TRANS"})
# Shares that a person moves in or out, by journal or from another broker.
SHARE_TRANSFERS = frozenset({"ACATS", "JNLS"})
FILL = "FILL"
COIN_FEE = "CFEE"


@dataclass(frozen=True, slots=True)
class Activity:
    """Something that happened to an account.

    id: the venue's id of it.
    kind: the venue's word for it, as FILL, CSD, CSW, JNLC, DIV, INT, FEE, CFEE, SPLIT, OPEXP.
    at: the instant of a trade; of all else New York's midnight at the beginning of its day.
    symbol: what it is about, as positions here spell it; empty where it is about cash alone.
    quantity: by which it changes the position, signed: shares, coins or contracts.
    price: USD a share, coin or contract's share; none where the venue names none.
    amount: USD by which it changes cash, signed.
    order_id: the venue's id of the order that traded; empty for none.
    """

    id: str
    kind: str
    at: np.datetime64
    symbol: str
    quantity: Decimal
    price: Decimal | None
    amount: Decimal
    order_id: str = ""

    def __post_init__(self) -> None:
        if not self.id:
            raise ValueError("an activity has no id")
        if not self.kind:
            raise ValueError(f"activity {self.id}: it is of no kind")
        if np.isnat(self.at):
            raise ValueError(f"activity {self.id}: nobody knows when it was")
        if not is_bounded(self.quantity):
            raise ValueError(f"activity {self.id}: quantity {self.quantity} is no number")
        if self.quantity and not self.symbol:
            raise ValueError(f"activity {self.id}: quantity {self.quantity} of nothing")
        if self.kind == FILL and self.price is None:
            raise ValueError(f"activity {self.id}: a trade without a price")
        if self.price is not None and not (is_bounded(self.price) and self.price >= 0):
            raise ValueError(f"activity {self.id}: price {self.price} is no price")
        if not self.amount.is_finite():
            raise ValueError(f"activity {self.id}: amount {self.amount} is no number")


class Holding(NamedTuple):
    """What is held of a symbol, signed, and what it is worth at the venue's mark, USD, no sign."""

    quantity: Decimal
    worth: Decimal


NOTHING = Holding(Decimal(0), Decimal(0))


def activities_since(connection: VenueConnection, after: np.datetime64) -> list[Activity]:
    """Everything that happened to the account after an instant, oldest first.

    What has only a day is listed where its day is after the instant, and often late.

    Raises
    ------
    BrokerError
        for a venue that does not answer, and for an entry that makes no sense, by its id.
    """
    with connection.translated_errors("activities"):
        activities = [activity_of(row) for row in _rows_since(connection, after)]
        _refuse_future_trades(connection, activities)
    return sorted(activities, key=lambda activity: activity.at)


def holdings(connection: VenueConnection) -> dict[str, Holding]:
    """What the account holds of everything, foreign symbols and options too, by symbol.

    Raises
    ------
    BrokerError
        for a venue that does not answer, or answers nonsense.
    """
    held: dict[str, Holding] = {}
    with connection.translated_errors("positions"):
        for position in entries(connection.client.get_all_positions()):
            symbol = symbol_held(Position.symbol.of(position))
            quantity = _signed_quantity(position)
            worth = abs(Position.market_value.of(position) or Decimal(0))
            if quantity:
                before = held.get(symbol, NOTHING)
                whole = EXACT.add(before.quantity, quantity)
                held[symbol] = Holding(whole, EXACT.add(before.worth, worth))
    return held


def symbol_held(name: str) -> str:
    """What is called here what the venue calls so: `BTC/USD` is BTCUSD; an option keeps its name.

    A name that is neither of a stock nor of a coin nor of an option is a foreign symbol.
    """
    if is_option(name):
        return name
    return instrument(name).symbol if is_symbol(name) else foreign_symbol(name)


def activity_of(entry: Answer) -> Activity:
    """What an entry of the venue's list says.

    Raises
    ------
    SenselessAnswer
        for an entry that makes no sense, naming it.
    """
    name = ActivityEntry.id.of(entry)
    try:
        kind = ActivityEntry.kind.of(entry)
        canceled = ActivityEntry.status.of(entry) == "canceled"
        activity = _trade_of(entry, name) if kind == FILL else _booking_of(entry, name, kind)
    except SenselessAnswer as error:
        raise SenselessAnswer(f"activity {name}: {error.why}") from None
    except ValueError as error:
        raise SenselessAnswer(str(error)) from None
    # What the venue has taken back stays listed, and changes nothing.
    return replace(activity, quantity=Decimal(0), amount=Decimal(0)) if canceled else activity


def _trade_of(entry: Answer, name: str) -> Activity:
    symbol = _symbol_of(entry)
    if not symbol:
        raise SenselessAnswer("symbol is missing")
    direction = Decimal(ActivityEntry.direction.of(entry))
    quantity = EXACT.multiply(ActivityEntry.traded_qty.of(entry), direction)
    price = ActivityEntry.traded_price.of(entry)
    return Activity(
        id=name,
        kind=FILL,
        at=ActivityEntry.traded_at.of(entry),
        symbol=symbol,
        quantity=quantity,
        price=price,
        amount=traded_amount(symbol, quantity, price),
        order_id=ActivityEntry.order_id.of(entry),
    )


def traded_amount(symbol: str, quantity: Decimal, price: Decimal) -> Decimal:
    """USD by which a trade changes cash, signed; quantity: signed."""
    units = Decimal(-SHARES if is_option(symbol) else -1)
    return EXACT.multiply(EXACT.multiply(quantity, price), units)


def _booking_of(entry: Answer, name: str, kind: str) -> Activity:
    amount = ActivityEntry.transfer if kind in TRANSFERS else ActivityEntry.amount
    return Activity(
        id=name,
        kind=kind,
        at=ActivityEntry.day.of(entry),
        symbol=_symbol_of(entry),
        quantity=_booked_quantity(entry, kind),
        price=ActivityEntry.price.of(entry),
        amount=amount.of(entry),
        order_id=ActivityEntry.order_id.of(entry),
    )


def _booked_quantity(entry: Answer, kind: str) -> Decimal:
    """By how much an entry that is no trade changes a position."""
    quantity = ActivityEntry.qty.of(entry)
    # A dividend's quantity says for how many shares it was paid, unless it was paid in shares.
    if kind.startswith("DIV") and ActivityEntry.sub_kind.of(entry) != "SDIV":
        return Decimal(0)
    # A fee only takes. Alpaca writes it below 0, the practice server without a sign.
    return EXACT.minus(EXACT.abs(quantity)) if kind == COIN_FEE else quantity


def _symbol_of(entry: Answer) -> str:
    """What an entry is about; a security that trades under no symbol has a CUSIP."""
    name = ActivityEntry.symbol.of(entry) or ActivityEntry.cusip.of(entry)
    return symbol_held(name) if name else ""


def _rows_since(connection: VenueConnection, after: np.datetime64) -> list[Answer]:
    rows: list[Answer] = []
    query: dict[str, Any] = {
        "after": f"{after}Z",
        "direction": "asc",
        "page_size": ACTIVITIES_A_PAGE,
    }
    listed: set[str] = set()
    while True:
        page = entries(connection.client.get("/account/activities", query))
        for row in page:
            name = ActivityEntry.id.of(row)
            if name in listed:
                raise SenselessAnswer(f"activity {name} is listed twice")
            listed.add(name)
        rows += page
        if len(page) < ACTIVITIES_A_PAGE:
            return rows
        log.info("activities: %d so far, and there are more", len(rows))
        query = {**query, "page_token": ActivityEntry.id.of(page[-1])}


def _refuse_future_trades(connection: VenueConnection, activities: Sequence[Activity]) -> None:
    """Refuse a trade of tomorrow or later: from the last trade on is asked for the next ones."""
    trades = [activity for activity in activities if activity.kind == FILL]
    last = max(trades, key=lambda activity: activity.at, default=None)
    if last is None or last.at <= connection.estimated_now() + DAY:
        return
    # The venue's clock may have moved since it was read.
    now = connection.now()
    if last.at > now + DAY:
        raise SenselessAnswer(f"activity {last.id}: a trade at {last.at}, and now it is {now}")


def _signed_quantity(position: Answer) -> Decimal:
    quantity = Position.qty.of(position)
    side = Position.side.of(position)
    if side is not None and quantity and (side == "long") != (quantity > 0):
        name = Position.symbol.of(position)
        raise SenselessAnswer(f"{name}: qty {quantity} and side {side} are not of one sign")
    return quantity
