"""Parsing of Alpaca's account, positions and open orders into an `AccountSnapshot`.

Equity includes every position. A position that is neither a stock nor crypto known to this project
is valued at its last mark.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from execution.alpaca.fields import AccountEntry, ClockEntry, OrderEntry, PositionEntry, parse_cash
from execution.alpaca.holdings import (
    ParsedPositions,
    check_equity_sum,
    check_position_sums,
    has_price,
    parse_positions,
)
from execution.brokers import (
    MAX_LEVERAGE_MULTIPLIER,
    AccountReading,
    UnmodelledOrder,
    parse_venue_symbol,
)
from execution.journal.order_store import OrderIntent
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.gate import AnyOrder
from execution.orders.option_orders import (
    SHARES_PER_OPTION,
    OptionContract,
    is_option,
    max_expiry_loss,
    parse_occ_symbol,
)
from execution.orders.orders import PRICE_FIELDS, TIMES_IN_FORCE, Fill, Order, open_crypto_bid_cost
from execution.orders.venue_rules import ACCOUNT_BLOCKED_TEXT
from foundation.decimals import INFINITY
from foundation.errors import BrokerError, to_one_line
from trainingdata.instruments import is_symbol

log = logging.getLogger(__name__)

JsonObject = Mapping[str, Any]

ACTIVE_STATUS = "ACTIVE"
PAPER_ONLY_STATUS = "PAPER_ONLY"
PENDING_CANCEL_STATUS = "pending_cancel"  # order status: cancellation requested, not completed
_PRICE_FIELDS_BY_TYPE: Mapping[str, tuple[str, ...]] = {
    "limit": ("limit_price",),
    "stop": ("stop_price",),
    "stop_limit": ("limit_price", "stop_price"),
    "trailing_stop": ("trail_price", "trail_percent"),
}
INVALID_ORDER_ID_CHARACTERS = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True, slots=True)
class AccountResponses:
    """Venue responses that together describe an account.

    account_entry, positions, orders, clock: responses to /account, /positions, /orders (open orders
        only) and /clock.
    unknown_outcome_intents: our orders of unknown outcome, as recorded before they were sent.
    is_reread: true if the previous responses were inconsistent. Differences that price moves
        between the responses can explain are then accepted.
    last_prices: last trade prices, USD, of symbols without a price in the responses.
    sent_orders: our open orders as they were sent, by id. If the response about an order lacks
        terms, the terms as sent are used. An unreadable order of another client becomes an
        `UnmodelledOrder`.
    is_paper: true if the account trades without real money.
    """

    account_entry: JsonObject
    positions: Sequence[JsonObject]
    orders: Sequence[JsonObject]
    clock: JsonObject
    unknown_outcome_intents: Sequence[OrderIntent] = ()
    is_reread: bool = False
    last_prices: Mapping[str, float] = field(default_factory=dict)
    sent_orders: Mapping[str, AnyOrder] = field(default_factory=dict)
    is_paper: bool = False


def parse_account_reading(responses: AccountResponses) -> AccountReading:
    """Return the account that the venue's responses describe.

    The account snapshot in the result excludes unreadable orders of other clients, and positions
    without a price. Separate fields of the result list these orders and positions.

    Raises
    ------
    BrokerError
        for responses that cannot be read or contradict each other.
    """
    understood, others = [], []
    for entry in (_restore_missing_terms(each, responses.sent_orders) for each in responses.orders):
        try:
            others += _unmodelled_orders(entry)
            understood.append(entry)
        except BrokerError as error:
            name = read_order_id(entry)
            if name in responses.sent_orders:
                raise
            place = parse_venue_symbol(str(entry.get("symbol") or ""))
            others.append(UnmodelledOrder(name, place, INFINITY, to_one_line(str(error))))
    holdings = parse_positions(responses.positions, responses.last_prices)
    return AccountReading(
        _build_snapshot(replace(responses, orders=understood), holdings, others),
        parse_cash(responses.account_entry),
        AccountEntry.multiplier.read(responses.account_entry),
        ClockEntry.is_open.read(responses.clock),
        responses.is_reread,
        tuple(others),
        holdings.unpriced_quantities,
    )


def find_unpriced_symbols(positions: Sequence[JsonObject]) -> set[str]:
    """Return the symbols of positions without a price in the venue's response."""
    return {
        parse_venue_symbol(PositionEntry.symbol.read(each))
        for each in positions
        if not has_price(each)
    }


def _restore_missing_terms(entry: JsonObject, sent: Mapping[str, AnyOrder]) -> JsonObject:
    """Return the entry of an open order, with the terms as sent in place of missing fields.

    Alpaca's API reference requires none of the fields symbol, side and qty.

    sent: our open orders as they were sent, by id.
    """
    absent = [name for name in ("symbol", "side", "qty") if entry.get(name) in (None, "")]
    order = sent.get(read_order_id(entry)) if absent else None
    if not isinstance(order, Order):
        return entry
    log.warning(
        "%s: the venue's response lacks %s; using the terms of the order as sent",
        read_order_id(entry),
        ", ".join(absent),
    )
    terms = {"symbol": order.symbol, "side": order.side, "qty": f"{order.qty:f}"}
    return {**entry, **{name: terms[name] for name in absent}}


def _unmodelled_orders(entry: JsonObject) -> list[UnmodelledOrder]:
    """Return the open order in a list if the account snapshot cannot represent it, else [].

    The snapshot represents neither orders for options nor orders for an amount of dollars.

    Raises
    ------
    BrokerError
        for an order that cannot be read.
    """
    if _is_option_order(entry):
        return [_parse_option_order(entry)]
    if _is_notional_order(entry):
        symbol = parse_venue_symbol(OrderEntry.required_symbol.read(entry))
        return [
            UnmodelledOrder(
                read_order_id(entry), symbol, OrderEntry.notional.read(entry) or INFINITY
            )
        ]
    parse_open_order(entry)
    return []


def _build_snapshot(
    answers: AccountResponses, holdings: ParsedPositions, others: Sequence[UnmodelledOrder]
) -> AccountSnapshot:
    """Return the account snapshot that the venue's responses describe; all orders must be readable.

    others: open orders that the snapshot cannot represent.
    """
    facts, orders, reread = answers.account_entry, answers.orders, answers.is_reread
    AccountEntry.currency.read(facts)
    check_position_sums(facts, holdings, reread=reread)
    # A long option is not cash, but its value covers the cost of short ones.
    covered = min(holdings.short_option_value, holdings.long_option_value)
    cash = float(parse_cash(facts)) - holdings.short_option_value + covered
    listed = {read_order_id(entry) for entry in orders}
    # An order that has arrived since it was queried is among the open ones, or has filled.
    waiting = [
        intent.order
        for intent in answers.unknown_outcome_intents
        if isinstance(intent.order, Order) and intent.client_order_id not in listed
    ]
    listed_orders = [order for entry in orders for order in parse_open_order(entry)]
    working = (*listed_orders, *waiting)
    # The cash that orders of others reserve is not known for all of them.
    reserved_cash = INFINITY if others else _reserved_cash(working, holdings.prices)
    check_equity_sum(facts, holdings, reserved_cash, reread=reread)
    # Crypto is bought with settled cash alone, the venue's non-marginable buying power. The venue
    # has deducted open bids for crypto from that figure, and the account deducts them as well:
    # counted as unsettled cash they would be deducted twice.
    settled = AccountEntry.non_marginable_buying_power.read(facts)
    bids = open_crypto_bid_cost(working, holdings.prices)
    free = cash - holdings.short_proceeds - bids
    # Long options are no debt: they reduce free cash to 0 at most.
    unsettled = min(covered, max(free, 0.0))
    if settled is not None:
        unsettled = max(free - float(settled), unsettled)
    account = AccountSnapshot(
        cash=cash,
        positions=holdings.quantities,
        prices=holdings.prices,
        as_of=ClockEntry.timestamp.read(answers.clock),
        open_orders=working,
        cancelling_orders=frozenset(
            read_order_id(entry) for entry in orders if entry.get("status") == PENDING_CANCEL_STATUS
        ),
        unsettled_proceeds=unsettled,
        short_proceeds=holdings.short_proceeds,
        max_leverage=float(min(AccountEntry.multiplier.read(facts), MAX_LEVERAGE_MULTIPLIER)),
        is_shorting_enabled=AccountEntry.shorting_enabled.read(facts),
        block_reason=_block_reason(facts, paper=answers.is_paper),
        is_crypto_enabled=is_trading_status(
            AccountEntry.crypto_status.read(facts), paper=answers.is_paper
        ),
        uncertain_symbols=frozenset(order.symbol for order in waiting)
        | {other.instrument_name for other in others if is_symbol(other.instrument_name)}
        | {*holdings.unpriced_quantities},
    )
    return _mark_locked_symbols(account, holdings.available_quantities)


def apply_fills(account: AccountSnapshot, fills: Sequence[Fill]) -> AccountSnapshot:
    """Return the account with fills added to its positions.

    Cash is left unchanged, because the account is read again before the next decision.
    """
    held = dict(account.positions)
    prices = dict(account.prices)
    for fill in fills:
        held[fill.symbol] = held.get(fill.symbol, Decimal(0)) + fill.qty
        prices.setdefault(fill.symbol, fill.price)
    positions = {symbol: quantity for symbol, quantity in held.items() if quantity}
    return replace(account, positions=positions, prices=prices)


def is_trading_status(status: str, *, paper: bool) -> bool:
    """Return whether an account with this status may place orders.

    In Alpaca's `AccountStatus`, ACTIVE may trade on live and paper accounts, PAPER_ONLY on paper
    accounts only. With any other status the account is not yet open, being changed, restricted or
    closed.
    """
    return status == ACTIVE_STATUS or (paper and status == PAPER_ONLY_STATUS)


def account_block_reasons(account_entry: JsonObject, *, paper: bool) -> list[str]:
    """Return the reasons why an account may not trade, from a response to /account."""
    status = AccountEntry.status.read(account_entry)
    blocks = [
        f"has {block.name}" for block in AccountEntry.block_flags if block.read(account_entry)
    ]
    return blocks if is_trading_status(status, paper=paper) else [f"is {status}", *blocks]


def _block_reason(facts: JsonObject, *, paper: bool) -> str:
    blocks = account_block_reasons(facts, paper=paper)
    return f"{ACCOUNT_BLOCKED_TEXT}: it {' and '.join(blocks)}" if blocks else ""


def _mark_locked_symbols(
    account: AccountSnapshot, available: Mapping[str, Decimal]
) -> AccountSnapshot:
    """Return the account with symbols marked uncertain if the venue locks part of their position.

    The part is locked if the available quantity is less than the position minus our open
    reductions.

    available: quantities that no order reserves according to the venue, by symbol.
    """
    reductions = account.open_reductions
    held_back = set()
    for symbol, quantity in available.items():
        reduced = reductions.get(symbol, Decimal(0))
        if abs(quantity) < abs(account.positions[symbol]) - abs(reduced):
            held_back.add(symbol)
    if not held_back:
        return account
    log.warning(
        "no orders in %s: the venue locks part of the position (qty_available)",
        " ".join(sorted(held_back)),
    )
    return replace(account, uncertain_symbols=account.uncertain_symbols | held_back)


def _is_notional_order(entry: JsonObject) -> bool:
    """Return whether an order is for an amount of dollars (notional), without a quantity."""
    return not OrderEntry.qty.read(entry) and OrderEntry.notional.read(entry) is not None


def _reserved_cash(open_orders: Sequence[Order], prices: Mapping[str, float]) -> Decimal:
    """Return the cash that open purchases may reserve, USD; infinite if a purchase has no price."""
    total = Decimal(0)
    for order in open_orders:
        price = order.limit_or_stop_price or prices.get(order.symbol)
        if order.side == "buy":
            total += order.qty * Decimal(repr(price)) if price else INFINITY
    return total


def parse_open_order(entry: JsonObject) -> list[Order]:
    """Return the unfilled part of an open order, as a list of at most one order.

    The list is empty for orders for options, and for orders for an amount of dollars (notional).
    The closing legs of a bracket order, which become active once the order has filled, are not
    returned.
    """
    if _is_option_order(entry) or _is_notional_order(entry):
        return []
    quantity = OrderEntry.qty.read(entry)
    filled = OrderEntry.filled_qty.read(entry)
    if quantity is None:
        raise BrokerError(f"order {read_order_id(entry)}: qty and notional are both missing")
    remaining = quantity - filled
    if remaining < 0:
        raise BrokerError(
            f"order {read_order_id(entry)}: filled_qty {filled} exceeds qty {quantity}"
        )
    kind = OrderEntry.type.read(entry)
    force = OrderEntry.time_in_force.read(entry)
    prices = {name: _optional_float(getattr(OrderEntry, name).read(entry)) for name in PRICE_FIELDS}
    if not remaining:
        return []
    at_market = Order(
        client_order_id=read_order_id(entry),
        symbol=parse_venue_symbol(OrderEntry.required_symbol.read(entry)),
        side="buy" if OrderEntry.side.read(entry) == "buy" else "sell",
        qty=remaining,
        reason="open order at the venue",
        tif=next((each for each in TIMES_IN_FORCE if each == force), "day"),
    )
    own: dict[str, Any] = {name: prices[name] for name in _PRICE_FIELDS_BY_TYPE.get(kind or "", ())}
    if kind == "limit":
        own["extended_hours"] = OrderEntry.extended_hours.read(entry)
    try:
        return [replace(at_market, type=kind, **own)] if own else [at_market]  # type: ignore[arg-type]
    except ValueError:
        # Without a readable price it counts as an order that may trade at once.
        return [at_market]


def read_order_id(entry: JsonObject) -> str:
    """Return an order's client order id or, if it has none, the venue's order id.

    Invalid characters are replaced, because ids of other clients may contain any character.
    """
    name = entry.get("client_order_id") or entry.get("id") or "without an id"
    return INVALID_ORDER_ID_CHARACTERS.sub("_", str(name))[:128]


def _is_option_order(entry: JsonObject) -> bool:
    """Return whether an order is for options.

    An order without a symbol is one, because it has several legs.
    """
    name = OrderEntry.symbol.read(entry)
    return name is None or is_option(name)


def _parse_option_order(entry: JsonObject) -> UnmodelledOrder:
    """Return an open order for options, with the largest loss that its unfilled part can cause."""
    legs = [entry] if OrderEntry.symbol.read(entry) else list(OrderEntry.legs.read(entry))
    options: defaultdict[OptionContract, Decimal] = defaultdict(Decimal)
    known = bool(legs)
    for leg in legs:
        symbol, side = OrderEntry.symbol.read(leg), OrderEntry.optional_side.read(leg)
        quantity = OrderEntry.qty.read(leg)
        if symbol is None or not is_option(symbol) or side is None or quantity is None:
            known = False
            continue
        left = max(quantity - OrderEntry.filled_qty.read(leg), Decimal(0))
        options[parse_occ_symbol(symbol)] += left if side == "buy" else -left
    roots = sorted({contract.root for contract in options})
    # Options on one root cover none on another.
    risk = _max_option_loss_usd(options) if known and len(roots) == 1 else INFINITY
    limit = OrderEntry.net_limit_price.read(entry)
    if limit is None:
        # A market order can pay at most the largest value of the options that it buys.
        risk += _max_option_loss_usd({contract: -count for contract, count in options.items()})
    elif OrderEntry.optional_side.read(entry) != "sell":
        ordered = OrderEntry.qty.read(entry) or Decimal(0)
        left = max(ordered - OrderEntry.filled_qty.read(entry), Decimal(0))
        risk += max(limit, Decimal(0)) * SHARES_PER_OPTION * left
    return UnmodelledOrder(read_order_id(entry), f"options on {' '.join(roots)}".rstrip(), risk)


def _max_option_loss_usd(options: Mapping[OptionContract, Decimal | int]) -> Decimal:
    """Return the largest loss that options can have at expiry, USD; infinite if unbounded."""
    loss = max_expiry_loss(options)
    return INFINITY if loss is None else loss


def _optional_float(price: Decimal | None) -> float | None:
    return None if price is None else float(price)
