"""Alpaca's words about an account, its positions and its open orders, as an `Account`.

Whatever it holds counts: a position that is neither stock nor coin here, at its last mark.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, get_args

from execution.alpaca.fields import AccountFacts, Clock, OrderEntry, Position
from execution.intents import Intent
from execution.orders import Account, Order, OrderType, TimeInForce, coin_bids
from execution.spreads.orders import is_option
from foundation.errors import BrokerError, SenselessAnswer
from trainingdata.instruments import foreign_symbol, instrument, is_coin, is_symbol

log = logging.getLogger(__name__)

Entry = Mapping[str, Any]

ORDER_TYPES: tuple[OrderType, ...] = get_args(OrderType)
TIMES_IN_FORCE: tuple[TimeInForce, ...] = get_args(TimeInForce)
ACTIVE = "ACTIVE"
NEARLY = Decimal("0.99")  # of a sum that prices may move between two answers
NO_IDENTITY = re.compile(r"[^A-Za-z0-9_.-]")
SHARE = Decimal("1e-9")  # of a quantity that is ordered by its value


@dataclass(frozen=True, slots=True)
class _Holdings:
    """Positions in stocks, coins and what is neither, by symbol.

    quantities: signed. prices: USD. available: that nothing holds back, where the venue says it.
    short_proceeds: USD that shorts were sold for.
    owed: USD that buying back options would cost. options: USD that bought ones are worth.
    gross: USD, of all of them as the venue values them, options among them.
    """

    quantities: dict[str, Decimal]
    prices: dict[str, float]
    available: dict[str, Decimal]
    short_proceeds: float
    owed: float
    options: float
    gross: Decimal


def account_of(
    facts: Entry,
    positions: Sequence[Entry],
    orders: Sequence[Entry],
    clock: Entry,
    undetermined: Sequence[Intent] = (),
) -> Account:
    """The account that four answers of the venue describe.

    Parameters
    ----------
    facts, positions, orders, clock:
        Answers to /account, /positions, /orders (open ones) and /clock.
    undetermined:
        Orders that may be on their way.

    Raises
    ------
    BrokerError
        for an answer without what an account needs.
    """
    holdings = _holdings(positions)
    _refuse_missing_positions(facts, holdings.gross)
    # An option that was bought is no cash, but what it is worth is there against those that are
    # owed.
    covered = min(holdings.owed, holdings.options)
    cash = float(AccountFacts.cash.of(facts)) - holdings.owed + covered
    listed = {OrderEntry.client_order_id.of(entry) for entry in orders}
    # One that has landed since it was asked for is among the open ones, or has filled.
    waiting = [intent.request for intent in undetermined if intent.client_order_id not in listed]
    open_orders = tuple(
        order for entry in (*orders, *waiting) for order in _open_orders(entry, holdings.prices)
    )
    # Coins are bought with settled cash alone, which the venue gives as what is not marginable. It
    # has taken open bids for coins off its figure, and the account takes them off as well: counted
    # as unsettled cash they would be taken off twice.
    settled = AccountFacts.settled.of(facts)
    unsettled = covered
    if settled is not None:
        bids = coin_bids(open_orders, holdings.prices)
        unsettled = max(cash - holdings.short_proceeds - float(settled) - bids, covered)
    account = Account(
        cash=cash,
        positions=holdings.quantities,
        prices=holdings.prices,
        as_of=Clock.timestamp.of(clock),
        open_orders=open_orders,
        unsettled=unsettled,
        short_proceeds=holdings.short_proceeds,
        leverage=float(AccountFacts.multiplier.of(facts)),
        shorting=AccountFacts.shorting.of(facts),
        blocked=_is_blocked(facts),
        coins=AccountFacts.crypto_status.of(facts) == ACTIVE,
        undetermined=frozenset(instrument(str(each["symbol"])).symbol for each in waiting),
    )
    return _with_held_back(account, holdings.available)


def _holdings(positions: Sequence[Entry]) -> _Holdings:
    """What the entries of /positions add up to."""
    owed = 0.0
    options = 0.0
    gross = Decimal(0)
    short_proceeds = 0.0
    quantities: dict[str, Decimal] = {}
    prices: dict[str, float] = {}
    available: dict[str, Decimal] = {}
    for position in positions:
        value = Position.market_value.of(position)
        if _is_option(position):
            gross += abs(value or Decimal(0))
            owed += _owed(position)
            if Position.qty.of(position) > 0:
                options += max(float(value or 0), 0.0)
            continue
        symbol = _position_symbol(position)
        quantity = Position.qty.of(position)
        price = _mark(position, symbol)
        gross += abs(quantity * Decimal(repr(price)) if value is None else value)
        if not price:
            log.warning("%s is worth nothing, and is left out", symbol)
            continue
        quantities[symbol] = quantities.get(symbol, Decimal(0)) + quantity
        prices[symbol] = price
        if quantity < 0:
            entry = Position.entry_price.of(position)
            short_proceeds += float(-quantity) * (price if entry is None else float(entry))
        free_to_trade = Position.available.of(position)
        if free_to_trade is not None:
            available[symbol] = free_to_trade
    return _Holdings(quantities, prices, available, short_proceeds, owed, options, gross)


def _refuse_missing_positions(facts: Entry, listed: Decimal) -> None:
    """Refuse positions worth so many USD that lack what the account says is there.

    An empty list is what an account without positions answers; what was sold short would count as
    cash then, and everything be bought and sold a second time.
    """
    stated = sum(
        abs(value)
        for field in (AccountFacts.long_value, AccountFacts.short_value)
        if (value := field.of(facts)) is not None
    )
    # Prices move between the two answers, and an order may fill.
    if listed < stated * NEARLY - 1:
        raise SenselessAnswer(
            f"positions (qty times price) are worth ${listed:,.0f},"
            f" long_market_value and short_market_value say ${stated:,.0f}"
        )


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


def _is_option(position: Entry) -> bool:
    name = Position.symbol.of(position)
    return Position.asset_class.of(position) == "us_option" or is_option(name)


def _owed(option: Entry) -> float:
    """USD that an option which was sold would cost to buy back; 0 for one that was bought."""
    value = Position.market_value.of(option)
    if Position.qty.of(option) >= 0:
        return max(-float(value or 0), 0.0)
    if value is None or value > 0:
        name = Position.symbol.of(option)
        raise SenselessAnswer(f"{name} is owed, and market_value is {value}")
    return -float(value)


def _position_symbol(position: Entry) -> str:
    """What a position is called here; one of no stock or coin against the dollar is foreign."""
    name = Position.symbol.of(position)
    kind = Position.asset_class.of(position)
    ours = is_symbol(name) and (kind is None or (kind == "crypto") == is_coin(name))
    return instrument(name).symbol if ours else foreign_symbol(name)


def _mark(position: Entry, symbol: str) -> float:
    """The last price that the venue gives for a position, USD; 0 for what is worth nothing."""
    quantity = Position.qty.of(position)
    value = Position.market_value.of(position)
    if price := Position.price.of(position):
        worth = abs(quantity) * price
        if value is not None and not worth * NEARLY - 1 <= abs(value) <= worth / NEARLY + 1:
            raise SenselessAnswer(
                f"{symbol}: qty {quantity} at a current_price of {price} is not a market_value of"
                f" {value}"
            )
        return float(price)
    for what, mark in (
        ("its value says what it is worth", abs(value / quantity) if value and quantity else None),
        ("that of the day before counts", Position.last_price.of(position)),
        ("what it was bought at counts", Position.entry_price.of(position)),
    ):
        if mark:
            log.warning("%s has no price: %s", symbol, what)
            return float(mark)
    if Position.price.of(position) is None and value is None:
        raise SenselessAnswer(f"the position in {symbol} has no price at all")
    return 0.0


def _open_orders(entry: Entry, prices: Mapping[str, float]) -> list[Order]:
    """What remains of an open order: one order, or none for orders of options.

    Its legs are not among them: they wait for the order, and take back what it opens.
    """
    name = OrderEntry.symbol.of(entry)
    if name is None or is_option(name):
        return []
    symbol = instrument(name).symbol if is_symbol(name) else foreign_symbol(name)
    limit = _price(OrderEntry.limit_price.of(entry))
    stop = _price(OrderEntry.stop_price.of(entry))
    quantity = OrderEntry.qty.of(entry)
    notional = OrderEntry.notional.of(entry)
    if quantity is None and notional is not None:
        price = limit or prices.get(symbol)
        if price is None:
            raise BrokerError(
                f"order {entry.get('client_order_id')}: {symbol} is ordered by value and has no"
                " price"
            )
        quantity = (notional / Decimal(repr(price))).quantize(SHARE)
    if quantity is None:
        raise BrokerError(f"order {entry.get('client_order_id')}: it has neither qty nor notional")
    remaining = quantity - OrderEntry.filled_qty.of(entry)
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
    named_force = OrderEntry.time_in_force.of(entry)
    order = Order(
        # Ids that others have given may hold anything; they are never asked for here.
        client_order_id=NO_IDENTITY.sub("_", OrderEntry.client_order_id.of(entry))[:128],
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


def _price(price: Decimal | None) -> float | None:
    return None if price is None else float(price)
