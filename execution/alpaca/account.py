"""Alpaca's words about an account, its positions and its open orders, as an `AccountSnapshot`.

Whatever it holds counts: a position that is neither stock nor coin here, at its last mark.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from execution.alpaca.fields import AccountFacts, Clock, OrderEntry, Position, stated_cash
from execution.alpaca.holdings import (
    ParsedPositions,
    has_price,
    parse_positions,
    refuse_other_equity,
    refuse_other_sums,
)
from execution.brokers import MOST_LENT, OtherOrder, Reading, symbol_held
from execution.journal.order_store import OrderIntent
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.gate import AnyOrder
from execution.orders.option_orders import SHARES, Contract, contract_of, is_option, largest_loss
from execution.orders.orders import PRICES, TIMES_IN_FORCE, Fill, Order, coin_bids
from execution.orders.venue_rules import BLOCKED
from foundation.decimals import INFINITE
from foundation.errors import BrokerError, in_one_line
from trainingdata.instruments import is_symbol

log = logging.getLogger(__name__)

Entry = Mapping[str, Any]

ACTIVE = "ACTIVE"
PAPER_ONLY = "PAPER_ONLY"
_PRICES_OF: Mapping[str, tuple[str, ...]] = {
    "limit": ("limit_price",),
    "stop": ("stop_price",),
    "stop_limit": ("limit_price", "stop_price"),
    "trailing_stop": ("trail_price", "trail_percent"),
}
NO_IDENTITY = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True, slots=True)
class Responses:
    """What the venue answers about an account.

    facts, positions, orders, clock: to /account, /positions, /orders (open ones) and /clock.
    in_flight: orders of unknown outcome.
    again: whether the answers before these did not go together: prices that have moved between
        these are no reason to refuse them as well.
    last_prices: USD of last trades, of the symbols that these answers price nowhere.
    sent: our orders among the open ones, by id. They give terms that an answer lacks; an order of
        others that makes no sense is an `OtherOrder`.
    paper: whether the account trades without real money.
    """

    facts: Entry
    positions: Sequence[Entry]
    orders: Sequence[Entry]
    clock: Entry
    in_flight: Sequence[OrderIntent] = ()
    again: bool = False
    last_prices: Mapping[str, float] = field(default_factory=dict)
    sent: Mapping[str, AnyOrder] = field(default_factory=dict)
    paper: bool = False


def reading_of(answers: Responses) -> Reading:
    """What the venue's answers say.

    An order of somebody else's that makes no sense is not among the account's, nor is a position of
    which nothing says a price.
    """
    understood, others = [], []
    for entry in (_complete_terms(each, answers.sent) for each in answers.orders):
        try:
            others += _looked_at(entry)
            understood.append(entry)
        except BrokerError as error:
            name = identity_of(entry)
            if name in answers.sent:
                raise
            place = symbol_held(str(entry.get("symbol") or ""))
            others.append(OtherOrder(name, place, INFINITE, in_one_line(str(error))))
    holdings = parse_positions(answers.positions, answers.last_prices)
    return Reading(
        _account_of(replace(answers, orders=understood), holdings, others),
        stated_cash(answers.facts),
        AccountFacts.multiplier.of(answers.facts),
        Clock.is_open.of(answers.clock),
        answers.again,
        tuple(others),
        holdings.unpriced,
    )


def unpriced_symbols(positions: Sequence[Entry]) -> set[str]:
    """Return the symbols of positions without a price in the venue's answer."""
    return {symbol_held(Position.symbol.of(each)) for each in positions if not has_price(each)}


def _complete_terms(entry: Entry, sent: Mapping[str, AnyOrder]) -> Entry:
    """Complete an open order by the terms it was sent with, if the answer lacks them.

    Alpaca's document requires none of them.
    """
    absent = [name for name in ("symbol", "side", "qty") if entry.get(name) in (None, "")]
    order = sent.get(identity_of(entry)) if absent else None
    if not isinstance(order, Order):
        return entry
    log.warning(
        "%s: no %s in the answer, taken from the order as sent",
        identity_of(entry),
        ", ".join(absent),
    )
    terms = {"symbol": order.symbol, "side": order.side, "qty": f"{order.qty:f}"}
    return {**entry, **{name: terms[name] for name in absent}}


def _looked_at(entry: Entry) -> list[OtherOrder]:
    """An open order where it is none of the account's; errors are those of `reading_of`."""
    if _is_of_options(entry):
        return [_option_order(entry)]
    if _is_by_value(entry):
        symbol = symbol_held(OrderEntry.leg_symbol.of(entry))
        return [OtherOrder(identity_of(entry), symbol, OrderEntry.notional.of(entry) or INFINITE)]
    open_orders(entry)
    return []


def _account_of(
    answers: Responses, holdings: ParsedPositions, others: Sequence[OtherOrder]
) -> AccountSnapshot:
    """The account that the venue's answers describe; orders are those that are understood.

    others: orders that are not among the account's.
    """
    facts, orders, again = answers.facts, answers.orders, answers.again
    AccountFacts.currency.of(facts)
    refuse_other_sums(facts, holdings, again=again)
    # An option that was bought is no cash, but what it is worth is there against those that are
    # owed.
    covered = min(holdings.owed, holdings.options)
    cash = float(stated_cash(facts)) - holdings.owed + covered
    listed = {identity_of(entry) for entry in orders}
    # One that has landed since it was asked for is among the open ones, or has filled.
    waiting = [
        intent.order
        for intent in answers.in_flight
        if isinstance(intent.order, Order) and intent.client_order_id not in listed
    ]
    listed_orders = [order for entry in orders for order in open_orders(entry)]
    working = (*listed_orders, *waiting)
    # What others' orders have taken off cash already is not known of all of them.
    set_aside = INFINITE if others else _set_aside(working, holdings.prices)
    refuse_other_equity(facts, holdings, set_aside, again=again)
    # Coins are bought with settled cash alone, which the venue gives as what is not marginable. It
    # has taken open bids for coins off its figure, and the account takes them off as well: counted
    # as unsettled cash they would be taken off twice.
    settled = AccountFacts.settled.of(facts)
    bids = coin_bids(working, holdings.prices)
    free = cash - holdings.short_proceeds - bids
    # Options that were bought are no debt either: they take no more than the cash there is.
    unsettled = min(covered, max(free, 0.0))
    if settled is not None:
        unsettled = max(free - float(settled), unsettled)
    account = AccountSnapshot(
        cash=cash,
        positions=holdings.quantities,
        prices=holdings.prices,
        as_of=Clock.timestamp.of(answers.clock),
        open_orders=working,
        unsettled=unsettled,
        short_proceeds=holdings.short_proceeds,
        leverage=float(min(AccountFacts.multiplier.of(facts), MOST_LENT)),
        shorting=AccountFacts.shorting.of(facts),
        blocked=_block_reason(facts, paper=answers.paper),
        coins=status_trades(AccountFacts.crypto_status.of(facts), paper=answers.paper),
        unknown=frozenset(order.symbol for order in waiting)
        | {other.place for other in others if is_symbol(other.place)}
        | {*holdings.unpriced},
    )
    return _with_held_back(account, holdings.available)


def with_fills(account: AccountSnapshot, fills: Sequence[Fill]) -> AccountSnapshot:
    """Return the account with fills added to its positions.

    Its cash is unchanged: the account is read again before the next decision.
    """
    held = dict(account.positions)
    prices = dict(account.prices)
    for fill in fills:
        held[fill.symbol] = held.get(fill.symbol, Decimal(0)) + fill.qty
        prices.setdefault(fill.symbol, fill.price)
    positions = {symbol: quantity for symbol, quantity in held.items() if quantity}
    return replace(account, positions=positions, prices=prices)


def status_trades(status: str, *, paper: bool) -> bool:
    """Return whether an account with this status may place orders.

    Of Alpaca's `AccountStatus`, ACTIVE trades anywhere and PAPER_ONLY on paper. Each other word is
    an account that is not open yet, is being changed, is restricted or is closed.
    """
    return status == ACTIVE or (paper and status == PAPER_ONLY)


def account_blocks(facts: Entry, *, paper: bool) -> list[str]:
    """Return what in an answer to /account keeps the account from trading."""
    status = AccountFacts.status.of(facts)
    blocks = [f"has {block.name}" for block in AccountFacts.blocks if block.of(facts)]
    return blocks if status_trades(status, paper=paper) else [f"is {status}", *blocks]


def _block_reason(facts: Entry, *, paper: bool) -> str:
    blocks = account_blocks(facts, paper=paper)
    return f"{BLOCKED}: it {' and '.join(blocks)}" if blocks else ""


def _with_held_back(account: AccountSnapshot, available: Mapping[str, Decimal]) -> AccountSnapshot:
    """Return the account; symbols with a part that is not available become unknown."""
    reductions = account.open_reductions
    held_back = set()
    for symbol, quantity in available.items():
        reduced = reductions.get(symbol, Decimal(0))
        if abs(quantity) < abs(account.positions[symbol]) - abs(reduced):
            held_back.add(symbol)
    if not held_back:
        return account
    log.warning("part of it is held back, nothing is ordered: %s", " ".join(sorted(held_back)))
    return replace(account, unknown=account.unknown | held_back)


def _is_by_value(entry: Entry) -> bool:
    """Whether an order is for so many dollars: how many shares that is, nobody says."""
    return not OrderEntry.qty.of(entry) and OrderEntry.notional.of(entry) is not None


def _set_aside(open_orders: Sequence[Order], prices: Mapping[str, float]) -> Decimal:
    """USD that open purchases may have taken off cash; infinite where one has no price."""
    total = Decimal(0)
    for order in open_orders:
        price = order.own_price or prices.get(order.symbol)
        if order.side == "buy":
            total += order.qty * Decimal(repr(price)) if price else INFINITE
    return total


def open_orders(entry: Entry) -> list[Order]:
    """What remains of an open order: one order, or none for orders of options and by value.

    Its legs are not among them: they wait for the order, and take back what it opens.
    """
    if _is_of_options(entry) or _is_by_value(entry):
        return []
    quantity = OrderEntry.qty.of(entry)
    filled = OrderEntry.filled_qty.of(entry)
    if quantity is None:
        raise BrokerError(f"order {identity_of(entry)}: it has neither qty nor notional")
    remaining = quantity - filled
    if remaining < 0:
        raise BrokerError(f"order {identity_of(entry)}: filled_qty is {filled}, of {quantity}")
    kind = OrderEntry.type.of(entry)
    force = OrderEntry.time_in_force.of(entry)
    prices = {name: _price(getattr(OrderEntry, name).of(entry)) for name in PRICES}
    if not remaining:
        return []
    at_market = Order(
        client_order_id=identity_of(entry),
        symbol=symbol_held(OrderEntry.leg_symbol.of(entry)),
        side="buy" if OrderEntry.side.of(entry) == "buy" else "sell",
        qty=remaining,
        reason="open at the venue",
        tif=next((each for each in TIMES_IN_FORCE if each == force), "day"),
    )
    own: dict[str, Any] = {name: prices[name] for name in _PRICES_OF.get(kind or "", ())}
    if kind == "limit":
        own["extended_hours"] = OrderEntry.extended_hours.of(entry)
    try:
        return [replace(at_market, type=kind, **own)] if own else [at_market]  # type: ignore[arg-type]
    except ValueError:
        # Nothing says where it trades, so it counts as one that may trade at once.
        return [at_market]


def identity_of(entry: Entry) -> str:
    """Its id, ours or the venue's; those that others have given may hold anything."""
    name = entry.get("client_order_id") or entry.get("id") or "without an id"
    return NO_IDENTITY.sub("_", str(name))[:128]


def _is_of_options(entry: Entry) -> bool:
    """Whether an order is of options: one of several legs has no symbol of its own."""
    name = OrderEntry.symbol.of(entry)
    return name is None or is_option(name)


def _option_order(entry: Entry) -> OtherOrder:
    """An open order of options, by what is left of each of its legs."""
    legs = [entry] if OrderEntry.symbol.of(entry) else list(OrderEntry.legs.of(entry))
    options: defaultdict[Contract, Decimal] = defaultdict(Decimal)
    known = bool(legs)
    for leg in legs:
        symbol, side = OrderEntry.symbol.of(leg), OrderEntry.traded_side.of(leg)
        quantity = OrderEntry.qty.of(leg)
        if symbol is None or not is_option(symbol) or side is None or quantity is None:
            known = False
            continue
        left = max(quantity - OrderEntry.filled_qty.of(leg), Decimal(0))
        options[contract_of(symbol)] += left if side == "buy" else -left
    roots = sorted({contract.root for contract in options})
    # What is on one root protects nothing on another.
    risk = _loss_of(options) if known and len(roots) == 1 else INFINITE
    limit = OrderEntry.net_limit.of(entry)
    if limit is None:
        # Nobody knows what it pays at the market: no more than what it buys can be worth.
        risk += _loss_of({contract: -count for contract, count in options.items()})
    elif OrderEntry.traded_side.of(entry) != "sell":
        ordered = OrderEntry.qty.of(entry) or Decimal(0)
        left = max(ordered - OrderEntry.filled_qty.of(entry), Decimal(0))
        risk += max(limit, Decimal(0)) * SHARES * left
    return OtherOrder(identity_of(entry), f"options on {' '.join(roots)}".rstrip(), risk)


def _loss_of(options: Mapping[Contract, Decimal | int]) -> Decimal:
    """USD that options can lose at expiry at most; infinite where nothing bounds that."""
    loss = largest_loss(options)
    return INFINITE if loss is None else loss


def _price(price: Decimal | None) -> float | None:
    return None if price is None else float(price)
