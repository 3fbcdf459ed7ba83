"""What must never be after a schedule, counted from both sides.

On one side stands what the venue has done and what was sent to it, on the other what the journal
says. Nothing here asks the loop's own code what should have come of it.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import numpy as np

from execution.alpaca.broker import ADOPTION_REASON
from execution.journal.halts import HALT_RULES
from execution.journal.order_store import ORDER_STATES, OrderIntent, OrderStore
from execution.live.accounts import SPREADS_JOB
from execution.orders.orders import Order
from foundation.database import Database, query_rows
from practice.alpaca.tickets import OrderTicket
from trainingdata.instants import format_compact_utc

CAP = 0.6  # of equity, that a symbol may have
GROSS = 4.0
DRIFT = 0.05  # what prices may do to both between a decision and its orders
COIN_DRIFT = 0.02  # of equity, the same for what coins cost

Fills = Sequence[tuple[Decimal, Decimal]]


@dataclass(frozen=True, slots=True)
class Ordered:
    """An order as the venue has it.

    number: the venue's id.
    signed: quantity, below 0 for a sale.
    fills: signed quantities and prices; a coin's fee is none.
    """

    name: str
    number: str
    symbol: str
    signed: Decimal
    status: str
    fills: Fills

    @property
    def filled(self) -> Decimal:
        """What of it has traded, signed."""
        return sum((quantity for quantity, _ in self.fills), Decimal(0))


@dataclass(frozen=True, slots=True)
class Sent:
    """An order as it left the command, and the account at that moment.

    at: what the venue's clock showed.
    known: whether the venue had taken an order of this id before.
    killed: whether the kill file was there.
    auction: whether it is for an auction, which fills all of a decision at once.
    filled: what of every order had traded by then, signed, by its id.
    """

    name: str
    symbol: str
    signed: Decimal
    at: np.datetime64
    known: bool
    killed: bool
    auction: bool
    equity: float
    cash: float
    positions: Mapping[str, Decimal]
    prices: Mapping[str, float]
    filled: Mapping[str, Decimal]


@dataclass
class Books:
    """What a journal says.

    wanted: quantities that were decided, signed, by instant and symbol.
    fills: by the venue's id of their order.
    events: kinds and subjects, oldest first.
    """

    written: dict[str, OrderIntent] = field(default_factory=dict)
    wanted: dict[tuple[str, str], Decimal] = field(default_factory=dict)
    fills: dict[str, Fills] = field(default_factory=dict)
    events: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def of(cls, path: Path) -> Books:
        """What a journal's file says; nothing, where there is none."""
        if not path.exists():
            return cls()
        fills: defaultdict[str, list[tuple[Decimal, Decimal]]] = defaultdict(list)
        for number, quantity, price in query_rows(
            path, "SELECT order_id, qty, price FROM fills ORDER BY rowid"
        ):
            fills[number].append((Decimal(quantity), Decimal(price)))
        wanted: dict[tuple[str, str], Decimal] = {}
        for at, choices in query_rows(path, "SELECT at, choices FROM decisions"):
            when = format_compact_utc(np.datetime64(at, "ns"))
            for choice in json.loads(choices):
                key = (when, choice["symbol"])
                wanted[key] = max(wanted.get(key, Decimal(0)), Decimal(choice["qty"]), key=abs)
        orders = book_of_orders(path)
        # Sold options are bought back under every halt.
        buys_back = {
            ("submitting", name)
            for name, each in orders.items()
            if (each.job, each.role) == (SPREADS_JOB, "reduction")
        }
        events = query_rows(path, "SELECT kind, subject FROM events ORDER BY number")
        return cls(
            {name: each for name, each in orders.items() if isinstance(each.order, Order)},
            wanted,
            dict(fills),
            [(kind, subject) for kind, subject in events if (kind, subject) not in buys_back],
        )


def book_of_orders(path: Path) -> dict[str, OrderIntent]:
    """Every order of any job that was to be sent, by its id, oldest first."""
    if not path.exists():
        return {}
    # A run that was killed at once leaves a database without its table.
    with closing(Database(path)) as database:
        intents = OrderStore(database).intents_in_states(ORDER_STATES)
    return {each.client_order_id: each for each in intents}


def lost_either_way(there: Iterable[str], book: Mapping[str, OrderIntent]) -> int:
    """Orders that the venue took and the book does not call taken, and the other way round.

    there: ids that the venue took.
    """
    return len({*there} ^ {name for name, intent in book.items() if intent.was_accepted})


def differently_filled(filled: Mapping[str, Decimal], book: Mapping[str, OrderIntent]) -> int:
    """Orders of which the book has another number of fills than the venue, by id."""
    return sum(name in book and book[name].progress.filled != n for name, n in filled.items())


@dataclass
class World:
    """Both sides of a schedule.

    strategy: what ids of the command's orders begin with.
    symbols: that it may trade.
    orders: at the venue, in the order in which they came.
    sent: orders as they left the command.
    books: what its journal says.
    forgotten: ids of orders that a journal knew which was damaged since.
    """

    strategy: str
    symbols: frozenset[str]
    orders: dict[str, Ordered]
    sent: list[Sent]
    books: Books
    forgotten: frozenset[str] = frozenset()

    def ours(self) -> list[Ordered]:
        """The command's orders at the venue."""
        return [each for each in self.orders.values() if self.is_ours(each.name)]

    def is_ours(self, name: str) -> bool:
        """Whether an order of an id is the command's."""
        return name.startswith(f"{self.strategy}-")

    def counts(self) -> Counter[str]:
        """What must never be, counted."""
        return Counter(
            duplicates=duplicates(self),
            lost=lost(self),
            breaches=sum(breaches(self).values()),
            differing_fills=misbooked(self),
        )


def ordered(ticket: OrderTicket) -> Ordered:
    """An order as the practice server has it."""
    order = ticket.order
    signed = order.qty if order.side == "buy" else -order.qty
    fills = [
        (fill.qty, Decimal(repr(float(fill.price)))) for fill in ticket.fills if fill.price > 0
    ]
    return Ordered(
        order.client_order_id, ticket.venue_order_id, order.symbol, signed, ticket.status, fills
    )


def intention(name: str, *, look: bool = False) -> tuple[str, ...]:
    """What an order of an id was sent for: strategy, instant, symbol and leg.

    look: whether the attempt counts as well: each look before the close cuts by itself, each
        attempt of a command reduces what is left, and stops are replaced.
    """
    *first, attempt = name.rsplit("-", 4)
    return (*first, attempt) if look else tuple(first)


def duplicates(world: World) -> int:
    """Intentions for which the venue took two orders, and symbols traded beyond what was decided.

    Of one instant and symbol all legs together may not trade more than the decision wanted.
    """
    taken: Counter[tuple[str, ...]] = Counter()
    traded: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for order in world.ours():
        written = world.books.written.get(order.name)
        look = written is not None and written.role not in ("", "opening", "reduction")
        taken[intention(order.name, look=look)] += 1
        if not look:
            _, when, symbol, _ = intention(order.name)
            traded[when, symbol] += order.filled
    wanted = world.books.wanted
    beyond = sum(
        abs(quantity) > abs(wanted[key]) for key, quantity in traded.items() if key in wanted
    )
    return sum(count > 1 for count in taken.values()) + beyond


def lost(world: World) -> int:
    """Orders that only one side knows as taken, and orders whose fills the journal does not list.

    An order that a person replaced counts as the others do.
    """
    written = world.books.written
    count = 0
    for order in world.orders.values():
        if order.name in world.forgotten:
            continue
        if world.is_ours(order.name):
            count += order.name not in written or not written[order.name].was_accepted
        if order.fills:
            listed = sum((q for q, _ in world.books.fills.get(order.number, ())), Decimal(0))
            count += listed != order.filled
    return count + sum(
        each.was_accepted and name not in world.orders for name, each in written.items()
    )


def misbooked(world: World) -> int:
    """Orders of which the journal lists fills at other prices than the venue has."""
    count = 0
    for order in world.orders.values():
        listed = world.books.fills.get(order.number, ())
        if order.fills and listed:
            count += {price for _, price in listed} != {price for _, price in order.fills}
    return count


def breaches(world: World) -> Counter[str]:
    """Rules that an order has broken, counted by the rule."""
    count: Counter[str] = Counter()
    for sent in world.sent:
        if not world.is_ours(sent.name):
            continue
        written = world.books.written.get(sent.name)
        count["foreign symbol"] += sent.symbol not in world.symbols
        count["kill file"] += sent.killed
        if written is None:
            continue
        count["expired"] += not written.is_unexpired(sent.at)
        if written.role == "opening" and not sent.known:
            count.update(_opening_breaches(world, sent, written))
    for order in world.orders.values():
        # Only the command cancels; at the end of the day the venue reports `expired`.
        count["foreign order"] += not world.is_ours(order.name) and order.status == "canceled"
    count["halted"] = sent_under_halts(world.books)
    return +count


def _opening_breaches(world: World, sent: Sent, written: OrderIntent) -> Counter[str]:
    count: Counter[str] = Counter()
    price = sent.prices[sent.symbol]
    before = sent.positions.get(sent.symbol, Decimal(0))
    after = before + sent.signed
    if abs(after) > abs(before):
        count["cap"] += abs(float(after)) * price > (CAP + DRIFT) * sent.equity
        held = dict(sent.positions)
        # Orders in the same auction trade together.
        for each in _reductions(world, written) if sent.auction else ():
            order = each.stock_or_crypto_order
            held[order.symbol] = held.get(order.symbol, Decimal(0)) + order.signed_qty
        others = sum(abs(float(q)) * sent.prices[s] for s, q in held.items() if s != sent.symbol)
        count["gross"] += others + abs(float(after)) * price > (GROSS + DRIFT) * sent.equity
    if sent.symbol.endswith("USD") and sent.signed > 0:
        cost = float(sent.signed) * price
        count["coins"] += cost > sent.cash + COIN_DRIFT * sent.equity
    # A reduction that had ended unfilled bounds the openings; one that fills later came too late.
    for each in _reductions(world, written) if not sent.auction else ():
        filled = sent.filled.get(each.stock_or_crypto_order.client_order_id, Decimal(0))
        count["order of parts"] += abs(filled) < each.progress.filled
    return count


def _reductions(world: World, written: OrderIntent) -> list[OrderIntent]:
    """What the decision of an order was to reduce."""
    key = (written.decision_id, "reduction")
    return [e for e in world.books.written.values() if (e.decision_id, e.role) == key]


def sent_under_halts(books: Books) -> int:
    """Orders that were sent while a halt forbade it, by the order of events.

    An order that was adopted from the venue was not sent. Stops and a person's commands go on under
    every halt.
    """
    count = 0
    standing: Counter[str] = Counter()
    for kind, subject in books.events:
        if kind == "halted":
            standing[subject] += 1
        elif kind == "halt ended":
            standing[subject] -= 1
        elif kind == "submitting":
            written = books.written.get(subject)
            if written is not None and written.order.reason == ADOPTION_REASON:
                continue
            if written is not None and written.role in ("protection", "command"):
                continue
            forbidden = {
                str(HALT_RULES[name].forbidden_scope)
                for name, number in standing.items()
                if number > 0
            }
            opening = written is not None and written.role == "opening"
            count += "everything" in forbidden or ("openings" in forbidden and opening)
    return count
