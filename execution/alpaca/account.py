"""Alpaca's words about an account, its positions and its open orders, as an `Account`.

Whatever it holds counts: a position that is neither stock nor coin here, at its last mark.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from execution.alpaca.fields import AccountFacts, Clock, OrderEntry
from execution.alpaca.holdings import (
    holdings_of,
    refuse_other_equity,
    refuse_other_sums,
    symbol_held,
)
from execution.journal.intents import Intent
from execution.option_orders import SHARES, Contract, contract_of, is_option, largest_loss
from execution.orders import (
    ORDER_TYPES,
    TIMES_IN_FORCE,
    Account,
    Fill,
    Order,
    OrderType,
    coin_bids,
)
from foundation.decimals import INFINITE
from foundation.errors import BrokerError
from trainingdata.instruments import foreign_symbol

log = logging.getLogger(__name__)

Entry = Mapping[str, Any]

ACTIVE = "ACTIVE"
NO_IDENTITY = re.compile(r"[^A-Za-z0-9_.-]")
SHARE = Decimal("1e-9")  # of a quantity that is ordered by its value
MOST_LENT = Decimal(4)  # times equity that a broker lends by day on any stock, by Regulation T


@dataclass(frozen=True, slots=True)
class Answers:
    """What the venue answers about an account.

    facts, positions, orders, clock: to /account, /positions, /orders (open ones) and /clock.
    undetermined: orders that may be on their way.
    again: whether the answers before these did not go together: prices that have moved between
        these are no reason to refuse them as well.
    """

    facts: Entry
    positions: Sequence[Entry]
    orders: Sequence[Entry]
    clock: Entry
    undetermined: Sequence[Intent] = ()
    again: bool = False


@dataclass(frozen=True, slots=True)
class OptionOrder:
    """An open order of options, of one or of several legs.

    root: of its options; empty where no leg of it says one.
    at_risk: USD that what is left of it could lose; infinite where nothing bounds that.
    """

    client_order_id: str
    root: str
    at_risk: Decimal


@dataclass(frozen=True, slots=True)
class Reading:
    """An account as it was read, with what the venue says of it beside.

    account: what the answers describe together.
    cash: USD, in the venue's own sum; what is owed for options is not taken off.
    multiplier: of equity, that the venue says it lends; more than `MOST_LENT` is not believed.
    is_open: whether the venue says that the exchange is open; none where it does not.
    again: whether it was read once more, as the reading before was not believed.
    option_orders: open orders of options, which are not among the account's.
    """

    account: Account
    cash: Decimal
    multiplier: Decimal
    is_open: bool | None
    again: bool
    option_orders: tuple[OptionOrder, ...] = ()


class Unbelieved(BrokerError):
    """A second reading of an account that nothing explains; nothing is decided on it.

    account: as it was read.
    """

    def __init__(self, why: str, account: Account) -> None:
        super().__init__(why)
        self.account = account


class UnbelievedMarks(Unbelieved):
    """The same of marks that the feed denies: the account is as read, at the feed's prices."""


def reading_of(answers: Answers) -> Reading:
    """What the venue's answers say; errors are those of `account_of`."""
    return Reading(
        account_of(answers),
        AccountFacts.cash.of(answers.facts),
        AccountFacts.multiplier.of(answers.facts),
        Clock.is_open.of(answers.clock),
        answers.again,
        tuple(_option_order(entry) for entry in answers.orders if _is_of_options(entry)),
    )


def account_of(answers: Answers) -> Account:
    """The account that the venue's answers describe.

    Raises
    ------
    SenselessAnswer
        for a field that is missing or not understood, an account that is not in US dollars, and
        answers that contradict each other.
    BrokerError
        for an order without what it needs.
    """
    facts, orders, again = answers.facts, answers.orders, answers.again
    AccountFacts.currency.of(facts)
    holdings = holdings_of(answers.positions)
    refuse_other_sums(facts, holdings, again=again)
    # An option that was bought is no cash, but what it is worth is there against those that are
    # owed.
    covered = min(holdings.owed, holdings.options)
    cash = float(AccountFacts.cash.of(facts)) - holdings.owed + covered
    listed = {OrderEntry.client_order_id.of(entry) for entry in orders}
    # One that has landed since it was asked for is among the open ones, or has filled.
    waiting = [
        intent.order
        for intent in answers.undetermined
        if isinstance(intent.order, Order) and intent.client_order_id not in listed
    ]
    # What is ordered by value and has no price is counted in dollars, at a price of one: it is
    # gross all the same, and no price of its symbol is made up.
    priceless = [entry for entry in orders if _has_no_price(entry, holdings.prices)]
    prices = {**holdings.prices, **{_dollars_of(entry): 1.0 for entry in priceless}}
    listed_orders = [order for entry in orders for order in open_orders(entry, prices)]
    working = (*listed_orders, *waiting)
    set_aside = _set_aside(orders, working, prices)
    refuse_other_equity(facts, holdings, set_aside, again=again)
    # Coins are bought with settled cash alone, which the venue gives as what is not marginable. It
    # has taken open bids for coins off its figure, and the account takes them off as well: counted
    # as unsettled cash they would be taken off twice.
    settled = AccountFacts.settled.of(facts)
    bids = coin_bids(working, prices)
    free = cash - holdings.short_proceeds - bids
    # Options that were bought are no debt either: they take no more than the cash there is.
    unsettled = min(covered, max(free, 0.0))
    if settled is not None:
        unsettled = max(free - float(settled), unsettled)
    account = Account(
        cash=cash,
        positions=holdings.quantities,
        prices=prices,
        as_of=Clock.timestamp.of(answers.clock),
        open_orders=working,
        unsettled=unsettled,
        short_proceeds=holdings.short_proceeds,
        leverage=float(min(AccountFacts.multiplier.of(facts), MOST_LENT)),
        shorting=AccountFacts.shorting.of(facts),
        blocked=_is_blocked(facts),
        coins=AccountFacts.crypto_status.of(facts) == ACTIVE,
        undetermined=frozenset(order.symbol for order in waiting)
        | {symbol_held(OrderEntry.leg_symbol.of(entry)) for entry in priceless},
    )
    return _with_held_back(account, holdings.available)


def with_fills(account: Account, fills: Sequence[Fill]) -> Account:
    """The account with the positions that fills have made of it.

    Its cash stays as it was: the account is read anew before anything is decided on it.
    """
    held = dict(account.positions)
    prices = dict(account.prices)
    for fill in fills:
        held[fill.symbol] = held.get(fill.symbol, Decimal(0)) + fill.qty
        prices.setdefault(fill.symbol, fill.price)
    positions = {symbol: quantity for symbol, quantity in held.items() if quantity}
    return replace(account, positions=positions, prices=prices)


def _is_blocked(facts: Entry) -> bool:
    blocked = any([block.of(facts) for block in AccountFacts.blocks])
    return blocked or AccountFacts.status.of(facts) != ACTIVE


def _with_held_back(account: Account, available: Mapping[str, Decimal]) -> Account:
    """The account, where symbols of which something else holds a part back are undetermined."""
    reductions = account.open_reductions
    held_back = set()
    for symbol, quantity in available.items():
        reduced = reductions.get(symbol, Decimal(0))
        if abs(quantity) < abs(account.positions[symbol]) - abs(reduced):
            held_back.add(symbol)
    if not held_back:
        return account
    log.warning("part of it is held back, nothing is ordered: %s", " ".join(sorted(held_back)))
    return replace(account, undetermined=account.undetermined | held_back)


def _has_no_price(entry: Entry, prices: Mapping[str, float]) -> bool:
    """Whether an open order is by value, and nothing says how many shares that is."""
    name = OrderEntry.symbol.of(entry)
    by_value = OrderEntry.qty.of(entry) is None and OrderEntry.notional.of(entry) is not None
    if name is None or is_option(name) or not by_value:
        return False
    return OrderEntry.limit_price.of(entry) is None and symbol_held(name) not in prices


def _dollars_of(entry: Entry) -> str:
    """The foreign symbol that stands for a dollar of an order by value.

    Purchases and sales have one each: together they are no smaller than either.
    """
    symbol = OrderEntry.leg_symbol.of(entry)
    return foreign_symbol(f"{OrderEntry.side.of(entry)} {symbol} USD")


def _set_aside(
    entries: Sequence[Entry], open_orders: Sequence[Order], prices: Mapping[str, float]
) -> Decimal:
    """USD that open purchases may have taken off cash; infinite where one has no price."""
    if any(map(_is_of_options, entries)):
        return INFINITE
    total = Decimal(0)
    for order in open_orders:
        price = order.limit_price or order.stop_price or prices.get(order.symbol)
        if order.side == "buy":
            total += order.qty * Decimal(repr(price)) if price else INFINITE
    return total


def open_orders(entry: Entry, prices: Mapping[str, float]) -> list[Order]:
    """What remains of an open order: one order, or none for orders of options.

    Its legs are not among them: they wait for the order, and take back what it opens.
    """
    if _is_of_options(entry):
        return []
    symbol = symbol_held(OrderEntry.leg_symbol.of(entry))
    limit = _price(OrderEntry.limit_price.of(entry))
    stop = _price(OrderEntry.stop_price.of(entry))
    quantity = OrderEntry.qty.of(entry)
    notional = OrderEntry.notional.of(entry)
    filled = OrderEntry.filled_qty.of(entry)
    if quantity is None and notional is not None:
        if _has_no_price(entry, prices):
            # What has filled of it are shares, and no dollars to take off.
            symbol, filled = _dollars_of(entry), Decimal(0)
        price = limit or prices[symbol]
        quantity = (notional / Decimal(repr(price))).quantize(SHARE)
    if quantity is None:
        raise BrokerError(f"order {entry.get('client_order_id')}: it has neither qty nor notional")
    remaining = quantity - filled
    if remaining <= 0:
        return []
    named_type = OrderEntry.type.of(entry)
    kind: OrderType = next((kind for kind in ORDER_TYPES if kind == named_type), "market")
    if "limit" in kind and limit is None:
        raise BrokerError(f"order {entry.get('client_order_id')}: limit_price is missing")
    if kind in ("stop", "stop_limit") and stop is None:
        raise BrokerError(f"order {entry.get('client_order_id')}: stop_price is missing")
    trail_price = _price(OrderEntry.trail_price.of(entry))
    trail_percent = _price(OrderEntry.trail_percent.of(entry))
    if kind == "trailing_stop" and (trail_price is None) == (trail_percent is None):
        # Nothing says where it trades, so it counts as one that may trade at once.
        kind = "market"
    named_force = OrderEntry.time_in_force.of(entry)
    order = Order(
        client_order_id=_identity(entry),
        symbol=symbol,
        side="buy" if OrderEntry.side.of(entry) == "buy" else "sell",
        qty=remaining,
        reason="open at the venue",
        type=kind,
        tif=next((force for force in TIMES_IN_FORCE if force == named_force), "day"),
        limit_price=limit if "limit" in kind else None,
        stop_price=stop if kind in ("stop", "stop_limit") else None,
        trail_price=trail_price if kind == "trailing_stop" else None,
        trail_percent=trail_percent if kind == "trailing_stop" else None,
    )
    return [order]


def _identity(entry: Entry) -> str:
    """Its id; those that others have given may hold anything, and are never asked for here."""
    return NO_IDENTITY.sub("_", OrderEntry.client_order_id.of(entry))[:128]


def _is_of_options(entry: Entry) -> bool:
    """Whether an order is of options: one of several legs has no symbol of its own."""
    name = OrderEntry.symbol.of(entry)
    return name is None or is_option(name)


def _option_order(entry: Entry) -> OptionOrder:
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
    return OptionOrder(_identity(entry), " ".join(roots), risk)


def _loss_of(options: Mapping[Contract, Decimal | int]) -> Decimal:
    """USD that options can lose at expiry at most; infinite where nothing bounds that."""
    loss = largest_loss(options)
    return INFINITE if loss is None else loss


def _price(price: Decimal | None) -> float | None:
    return None if price is None else float(price)
