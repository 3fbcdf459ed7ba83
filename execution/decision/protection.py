"""Protective orders: one stop a position at the venue, sized with the position.

`plan_protection` is the only rule; the simulator and the live loop both call it after the orders of
a decision, and the live loop also between decisions. A decision cancels the stops of the symbols
that it orders (`Trader.decide`), because the venue refuses an order opposite to an open stop.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np
from pydantic import field_validator

from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.orders import (
    PROTECTIVE_LEG,
    Order,
    OrderSizeLimits,
    OrderType,
    Side,
    TimeInForce,
    default_time_in_force,
    format_order_id,
    is_protective_order,
    parse_order_prefix,
)
from execution.orders.venue_rules import venue_refusal_reason
from foundation.errors import InputError
from foundation.settings import setting, settings_class
from trainingdata.bars import CLOSE, Bars
from trainingdata.instants import format_compact_utc, format_utc
from trainingdata.instruments import AssetClass, instrument, is_crypto, is_stock
from trainingdata.sessions import exchange_calendar, is_in_session
from trainingdata.timeframe import MARKET_DAYS_PER_YEAR, Timeframe

ProtectionKind = Literal["none", "stop", "stop_limit", "trailing"]
UnfilledAction = Literal["close", "alert"]
UNEXECUTED_STOPS_WARNING = (
    "The strategy states stops, which no order executes: set protect.kind=stop to keep an order at"
    " each, or let the strategy close the position."
)
DEVIATION_WINDOW = np.timedelta64(91, "D")  # calendar days of bars for the deviation of a day
_ZERO = Decimal(0)
MIN_DEVIATION_BARS = 10
_PRICE_CONTEXT = Context(prec=8)
_RATIO_CONTEXT = Context(prec=6)
_CENT, _HUNDREDTH_OF_CENT = Decimal("0.01"), Decimal("0.0001")
_CRYPTO_TICK = Decimal("1e-9")
_PERCENT_STEP = Decimal("0.01")
_DISTANCE = re.compile(r"\d+(\.\d+)?(%|sd)")


@settings_class("protect")
class ProtectionSettings:
    """Protective orders at the venue: kind, distance from the entry, and when they are replaced."""

    kind: ProtectionKind = setting(
        "none",
        "protective order of each position: `stop`, `stop_limit` or `trailing` (crypto: always a "
        "stop-limit order); `none`: no order",
    )
    distance: str = setting(
        "5%",
        "distance of the stop from the average entry price (trailing: from the best price since it "
        "was sent): percent (`5%`), or standard deviations of the symbol's day (`4sd`); a stop "
        "that the strategy states replaces it",
    )
    band: float = setting(
        0.1,
        "fraction of distance and quantity by which an order may differ before it is replaced; it "
        "never exceeds the position",
        ge=0,
        lt=1,
    )
    limit_offset: float = setting(
        0.02, "limit of a stop-limit order beyond its stop, fraction of the stop", ge=0, le=0.1
    )
    unfilled: UnfilledAction = setting(
        "close",
        "stop-limit order that the market has passed and that does not fill: `close` replaces it "
        "by a market order, `alert` leaves it; both alert",
    )
    unfilled_seconds: float = setting(
        60.0,
        "seconds after which such an order counts as unfilled; in a backtest at least a bar",
        ge=1,
        le=86_400,
    )
    cooldown: int = setting(
        1,
        "sessions (crypto: UTC days), the present one included, in which a symbol whose stop has "
        "filled is not opened again; 0: none",
        ge=0,
        le=60,
    )

    @field_validator("distance", mode="before")
    @classmethod
    def _check_distance(cls, value: object) -> object:
        if isinstance(value, str) and _DISTANCE.fullmatch(value):
            return value
        try:
            percent = float(str(value))
        except ValueError:
            percent = math.nan
        shown = f"{percent * (100 if percent < 1 else 1):g}%" if percent > 0 else "5%"
        raise InputError(
            f"protect.distance: {value} is neither percent nor deviations; write {shown} or 4sd"
        )

    def __post_init__(self) -> None:
        number = self.distance.rstrip("%sd")
        if not 0 < float(number) < (100 if self.distance.endswith("%") else 1000):
            raise InputError(
                f"protect.distance: {self.distance} is not between 0 and 100 % (or 0 and 1000 sd);"
                " write 5% or 4sd"
            )

    @property
    def is_on(self) -> bool:
        return self.kind != "none"

    @property
    def uses_deviation(self) -> bool:
        """Return whether the distance is stated in standard deviations."""
        return self.is_on and self.distance.endswith("sd")

    def ratio(self, deviation: float | None) -> Decimal | None:
        """Return the distance as a fraction of the price; None if the deviation is unknown.

        deviation: standard deviation of a day's return of the symbol.
        """
        if self.distance.endswith("%"):
            return Decimal(self.distance[:-1]) / 100
        if deviation is None or not deviation > 0:
            return None
        return _RATIO_CONTEXT.create_decimal(
            Decimal(self.distance[:-2]) * Decimal(repr(float(deviation)))
        )


class ProtectionPlan(NamedTuple):
    """Protective orders to cancel and to send.

    cancels: open protective orders to cancel, before any order is sent.
    orders: protective orders, and market orders that close positions beyond their stop.
    unprotected: reason by symbol for which a position has no working stop after the plan. An
        elected stop-limit order that does not fill counts as no stop.
    unconfirmed: symbols in which the price has passed a stop and no last trade is known. The
        caller plans again with their last trades.
    elected_since: instant of the first plan in which a stop-limit order was elected, by order id;
        an input of the next plan.
    """

    cancels: tuple[Order, ...] = ()
    orders: tuple[Order, ...] = ()
    unprotected: Mapping[str, str] = MappingProxyType({})
    unconfirmed: frozenset[str] = frozenset()
    elected_since: Mapping[str, np.datetime64] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ProtectedAccount:
    """Inputs of `plan_protection`.

    account: account snapshot; `open_orders` may include planned orders that are sent later.
    entry_prices: average entry price of each position, USD by symbol; absent if unknown.
    deviations: standard deviation of a day's return, by symbol; absent if unknown.
    order_prefix: prefix of our order ids.
    size_limits: smallest and largest value of an order.
    at: instant of the last bar, for the order ids.
    auction: auction in which orders of daily decisions fill; None for shorter bars.
    checked_at: instant at which the venue has to accept an auction order; None skips the check.
    blocked_symbols: symbols in which no order is sent.
    misstated_orders: ids of protective orders whose quantity at the venue differs from the one
        that the journal records; each is replaced, so that its fill is recorded.
    last_trades: last trade of each symbol, USD; a position is closed only if its last trade has
        passed the stop as well as its price has.
    raises_crypto_stops: whether stops of crypto that trail are raised; otherwise they keep their
        price.
    stated_stops: stop price that the strategy states, USD by symbol; it replaces the distance.
    elected_since: `ProtectionPlan.elected_since` of the previous plan.
    """

    account: AccountSnapshot
    entry_prices: Mapping[str, float | Fraction]
    deviations: Mapping[str, float]
    order_prefix: str
    size_limits: OrderSizeLimits
    at: np.datetime64
    auction: TimeInForce | None = None
    checked_at: np.datetime64 | None = None
    blocked_symbols: Collection[str] = ()
    misstated_orders: Collection[str] = ()
    last_trades: Mapping[str, float] = field(default_factory=dict)
    raises_crypto_stops: bool = True
    stated_stops: Mapping[str, float] = field(default_factory=dict)
    elected_since: Mapping[str, np.datetime64] = field(default_factory=dict)

    @property
    def formatted_at(self) -> str:
        return format_compact_utc(self.at)


def find_protective_orders(order_prefix: str, orders: Iterable[Order]) -> tuple[Order, ...]:
    """Return our protective orders among open orders."""
    return tuple(
        order
        for order in orders
        if is_protective_order(order) and parse_order_prefix(order.client_order_id) == order_prefix
    )


def with_next_attempt(order: Order) -> Order:
    """Return a protective order under the id of its next attempt."""
    prefix, when, symbol, leg, attempt = order.client_order_id.rsplit("-", 4)
    name = format_order_id(prefix, when, symbol, leg, int(attempt) + 1)
    return replace(order, client_order_id=name)


def plan_protection(settings: ProtectionSettings, state: ProtectedAccount) -> ProtectionPlan:
    """Return the protective orders to cancel and to send, so that each position has one.

    An order is sized with the part of the position that no other order closes, and never exceeds
    it. No stop rests beside an order on the other side. A position whose stop the market has passed
    is closed at once, or at the next open. If its stop rests already, that stop is left to fill. A
    stop-limit order that then stays unfilled is replaced by market orders (`protect.unfilled`). A
    resting order stays if the venue would refuse all its replacements.
    """
    account = state.account
    ours = find_protective_orders(state.order_prefix, account.open_orders)
    book = account.without_orders(ours)
    cancels: list[Order] = []
    orders: list[Order] = []
    unprotected: dict[str, str] = {}
    unconfirmed = set()
    elected_since: dict[str, np.datetime64] = {}
    for symbol in sorted({*(o.symbol for o in ours), *account.positions}):
        mine = [order for order in ours if order.symbol == symbol]
        resting = [o for o in mine if o.client_order_id not in account.cancelling_orders]
        # A stop that is being cancelled protects nothing, but reserves its shares until it ends.
        cancelling = [order for order in mine if order not in resting]
        held = account.positions.get(symbol, _ZERO)
        others = [order for order in book.open_orders if order.symbol == symbol]
        free = _unordered_quantity(held, [*others, *cancelling])
        if cancelling and held and settings.is_on:
            unprotected[symbol] = f"its stop {cancelling[0].client_order_id} is being cancelled"
        usable = [o for o in resting if o.signed_qty * held < 0 and o.qty <= free]
        choice = _PositionOrders()
        if settings.is_on and free:
            choice = _choose_orders(settings, state, symbol, free.copy_sign(held), usable)
        after = account.without_orders([o for o in resting if o not in choice.kept])
        refusals = [
            venue_refusal_reason(o, None, after, state.size_limits, state.checked_at)
            for o in choice.orders
        ]
        sent = [o for o, refusal in zip(choice.orders, refusals, strict=True) if not refusal]
        kept = choice.kept if sent or not choice.orders else usable[:1]
        if why := next(filter(None, [*refusals, choice.why]), ""):
            unprotected[symbol] = why
        if choice.is_unconfirmed:
            unconfirmed.add(symbol)
        if choice.elected_since is not None:
            elected_since |= {order.client_order_id: choice.elected_since for order in kept}
        orders += sent
        cancels += [order for order in resting if order not in kept]
    return ProtectionPlan(
        tuple(cancels), tuple(orders), unprotected, frozenset(unconfirmed), elected_since
    )


class _PositionOrders(NamedTuple):
    """Protective and closing orders for one position.

    kept: resting protective orders to keep.
    orders: orders to send.
    why: reason for which the position is not protected; empty if it is protected.
    is_unconfirmed: whether the price has passed a stop and no last trade is known.
    elected_since: instant since which the kept stop-limit order has been elected; None if it is
        not elected.
    """

    kept: Sequence[Order] = ()
    orders: Sequence[Order] = ()
    why: str = ""
    is_unconfirmed: bool = False
    elected_since: np.datetime64 | None = None


class _Stop(NamedTuple):
    """The stop that a position should have.

    symbol: symbol of the position.
    held: signed quantity that it protects.
    ratio: distance from the anchor, a fraction.
    anchor: price from which the distance is measured, USD: average entry, or market if trailing.
    price: stop price; None for a trailing stop, which the venue moves.
    market: present price, USD.
    anchor_name: name of the anchor in an order's reason; empty for a stop that the strategy states.
    """

    symbol: str
    held: Decimal
    ratio: Decimal
    anchor: Decimal
    price: Decimal | None
    market: Decimal
    anchor_name: str = "the market"

    @property
    def has_passed(self) -> bool:
        return self.is_passed_at(self.market)

    def is_passed_at(self, market: Decimal) -> bool:
        """Return whether the market, at this price, has reached the stop price."""
        return self.price is not None and (market - self.price) * self.sign <= 0

    @property
    def sign(self) -> int:
        return 1 if self.held > 0 else -1

    @property
    def side(self) -> Side:
        return "sell" if self.held > 0 else "buy"


def _unordered_quantity(held: Decimal, others: Sequence[Order]) -> Decimal:
    """Return the part of a position that no other order closes; 0 beside an order that adds to it.

    held: signed quantity of the position.
    others: open and planned orders in the symbol that are not protective.
    """
    # The venue refuses a stop beside an open order on the other side.
    if any(order.signed_qty * held > 0 for order in others):
        return _ZERO
    return max(abs(held) - sum((order.qty for order in others), _ZERO), _ZERO)


def _find_stop(
    settings: ProtectionSettings,
    state: ProtectedAccount,
    symbol: str,
    held: Decimal,
    resting: Sequence[Order],
) -> _Stop | str:
    """Return the stop that a position should have, or the reason why it is unknown.

    held: signed quantity to protect.
    resting: protective orders that rest in the symbol.
    """
    ratio = settings.ratio(state.deviations.get(symbol))
    last, entry = state.account.prices.get(symbol), state.entry_prices.get(symbol)
    if last is None:
        return "its price is unknown"
    if symbol in state.stated_stops:
        market = _to_price(last)
        price = _round_price(_to_price(state.stated_stops[symbol]), symbol)
        return _Stop(symbol, held, abs(1 - price / market), market, price, market, "")
    if ratio is None:
        return "the deviation of its day is unknown (protect.distance)"
    if ratio >= 1 and held > 0:
        return f"a distance of {_percent(ratio)} (protect.distance) leaves no price above 0"
    market = _to_price(last)
    if settings.kind == "trailing":
        if is_stock(symbol):
            return _Stop(symbol, held, ratio, market, None, market)
        # Alpaca has no trailing stops of crypto: a stop-limit order is raised at each bar's end.
        levels = [Decimal(repr(order.stop_price)) for order in resting if order.stop_price]
        if state.raises_crypto_stops or not levels:
            levels.append(_round_price(market * (1 - ratio), symbol))
        return _Stop(symbol, held, ratio, market, max(levels), market)
    if entry is None:
        return "its average entry price is unknown"
    anchor = _to_price(entry)
    sign = 1 if held > 0 else -1
    price = _round_price(anchor * (1 - sign * ratio), symbol)
    return _Stop(symbol, held, ratio, anchor, price, market, "the average entry")


def _choose_orders(
    settings: ProtectionSettings,
    state: ProtectedAccount,
    symbol: str,
    held: Decimal,
    usable: Sequence[Order],
) -> _PositionOrders:
    """Choose the orders for a position.

    held: signed quantity to protect.
    usable: resting protective orders that do not exceed the position.
    """
    if symbol in state.blocked_symbols:
        return _PositionOrders(usable)
    if symbol in state.account.uncertain_symbols:
        why = "" if usable else "an order or a part of the position is uncertain"
        return _PositionOrders(usable, why=why)
    usable = [o for o in usable if o.client_order_id not in state.misstated_orders]
    for order in usable:
        if (choice := _replace_if_unfilled(settings, state, order, held)) is not None:
            return choice
    stop = _find_stop(settings, state, symbol, held, usable)
    if isinstance(stop, str):
        return _PositionOrders(usable[:1], why="" if usable else stop)
    if stop.has_passed:
        return _PositionOrders(usable[:1]) if usable else _close_beyond_stop(state, stop)
    terms = _find_terms(settings, state, stop)
    if not terms.quantity:
        return _PositionOrders(why="a trailing stop needs a whole share")
    kept = [order for order in usable if _may_stay(order, terms, stop, settings.band)]
    if kept:
        return _PositionOrders(kept[:1])
    return _PositionOrders(orders=[_protective_order(settings, state, stop, terms)])


def _close_beyond_stop(state: ProtectedAccount, stop: _Stop) -> _PositionOrders:
    """Choose the orders for a position that has no stop and whose price has passed its stop."""
    last = state.last_trades.get(stop.symbol)
    if last is None or not stop.is_passed_at(_to_price(last)):
        why = "its price is beyond its stop, which its last trade does not confirm"
        return _PositionOrders(why=why, is_unconfirmed=last is None)
    why = f"beyond its {_describe(stop)}"
    return _PositionOrders(orders=_closing_orders(state, stop.symbol, stop.held, why))


def _replace_if_unfilled(
    settings: ProtectionSettings, state: ProtectedAccount, order: Order, held: Decimal
) -> _PositionOrders | None:
    """Choose the orders for a position with an elected stop-limit order; None if not elected.

    Many venues report an elected order as open. An order counts as elected from the first plan in
    which both the price and the last trade have passed its stop, until neither is beyond it. A
    market order replaces the order only while both are beyond the stop.

    held: signed quantity to protect.
    """
    symbol, now = order.symbol, state.account.as_of
    price, last = state.account.prices.get(symbol), state.last_trades.get(symbol)
    if order.type != "stop_limit" or price is None:
        return None
    since = state.elected_since.get(order.client_order_id)
    passed_count = sum(_has_passed(each, order) for each in (price, last) if each is not None)
    if since is None:
        if last is None and passed_count:
            return _PositionOrders([order], is_unconfirmed=True)
        if passed_count < 2:
            return None
        since = now
    elif last is not None and not passed_count:
        return None
    waiting = _PositionOrders([order], is_unconfirmed=last is None, elected_since=since)
    if (now - since) / np.timedelta64(1, "s") < settings.unfilled_seconds:
        return waiting
    passed = f"its stop {order.stop_price:g} was passed at {format_utc(since)}"
    why = f"{passed}, and its stop-limit order has not filled"
    # With the exchange closed, a market order would wait for the auction, in which the stop-limit
    # order can fill too.
    opened = is_crypto(symbol) or bool(is_in_session(np.array([now]))[0])
    if settings.unfilled == "alert" or not opened or passed_count < 2:
        return waiting._replace(why=why)
    reason = f"because {why}"
    return _PositionOrders(
        orders=_closing_orders(state, symbol, held, reason),
        why=f"{why}; a market order replaces it",
        elected_since=since,
    )


def _has_passed(price: float, order: Order) -> bool:
    """Return whether a price has reached or passed the stop of an order."""
    stop = order.stop_price or 0.0
    return price <= stop if order.side == "sell" else price >= stop


class _Terms(NamedTuple):
    """Type, time in force and quantity of a protective order that the venue accepts."""

    type: OrderType
    tif: TimeInForce
    quantity: Decimal


def _find_terms(settings: ProtectionSettings, state: ProtectedAccount, stop: _Stop) -> _Terms:
    """Return the terms of a stop's order; a trailing stop has whole shares."""
    symbol = stop.symbol
    last = state.account.prices[symbol]
    quantity = _largest_order(abs(stop.held), symbol, last, state.size_limits)
    if is_crypto(symbol):
        return _Terms("stop_limit", "gtc", quantity)
    if stop.price is None:
        return _Terms("trailing_stop", "gtc", quantity - quantity % 1)
    kind: OrderType = "stop_limit" if settings.kind == "stop_limit" else "stop"
    return _Terms(kind, "day" if quantity % 1 else "gtc", quantity)


def _protective_order(
    settings: ProtectionSettings, state: ProtectedAccount, stop: _Stop, terms: _Terms
) -> Order:
    symbol = stop.symbol
    limit = None
    if terms.type == "stop_limit" and stop.price is not None:
        beyond = 1 - stop.sign * Decimal(repr(settings.limit_offset))
        limit = float(_round_price(stop.price * beyond, symbol))
    return Order(
        format_order_id(state.order_prefix, state.formatted_at, symbol, PROTECTIVE_LEG),
        symbol,
        stop.side,
        terms.quantity,
        f"protects {terms.quantity:f} {symbol}: {_describe(stop)}",
        reduces=True,
        type=terms.type,
        tif=terms.tif,
        limit_price=limit,
        stop_price=None if stop.price is None else float(stop.price),
        trail_percent=_trail_percent(stop.ratio) if stop.price is None else None,
    )


def _closing_orders(state: ProtectedAccount, symbol: str, held: Decimal, why: str) -> list[Order]:
    """Return market orders that close a position.

    held: signed quantity of the position.
    why: last part of the text that becomes the orders' reason.
    """
    last, rest = state.account.prices[symbol], abs(held)
    opened = state.auction != "cls" and bool(is_in_session(np.array([state.account.as_of]))[0])
    tif = default_time_in_force(symbol, None if opened else state.auction or "opg")
    if is_stock(symbol) and not opened:
        rest -= rest % 1  # auctions trade whole shares
    reason = f"closes {rest:f} {symbol} at {last:g}, {why}"
    side: Side = "sell" if held > 0 else "buy"
    orders: list[Order] = []
    while rest:
        part = _largest_order(rest, symbol, last, state.size_limits)
        name = format_order_id(
            state.order_prefix, state.formatted_at, symbol, PROTECTIVE_LEG, len(orders)
        )
        orders.append(Order(name, symbol, side, part, reason, reduces=True, tif=tif))
        rest -= part
    return orders


def _largest_order(
    quantity: Decimal, symbol: str, price: float, size_limits: OrderSizeLimits
) -> Decimal:
    """Return the part of a quantity that one order may have: crypto orders have a largest value."""
    item = instrument(symbol)
    most = size_limits.max_order_quantity(item, price)
    if float(quantity) <= most:
        return quantity
    # Imported here, because settings are checked before compiled code is loaded.
    from sizing.quantity import truncate_to_increment

    return truncate_to_increment(most, item.qty_increment)


def _may_stay(order: Order, terms: _Terms, stop: _Stop, band: float) -> bool:
    """Return whether a resting order, which does not exceed the position, is near its stop.

    band: largest difference, a fraction of the distance and of the quantity.
    """
    # Alpaca turns the stops of short positions into stop-limit orders.
    is_converted = (order.type, order.side, terms.type) == ("stop_limit", "buy", "stop")
    if (order.type != terms.type and not is_converted) or order.tif != terms.tif:
        return False
    if order.qty < terms.quantity * (1 - Decimal(repr(band))):
        return False
    if stop.price is None:
        apart = (order.trail_percent or 0.0) - _trail_percent(stop.ratio)
        return abs(apart) <= band * float(100 * stop.ratio)
    apart = (order.stop_price or 0.0) - float(stop.price)
    return abs(apart) <= band * float(stop.anchor * stop.ratio)


def _describe(stop: _Stop) -> str:
    if stop.price is None:
        return f"trailing stop {_percent(stop.ratio)} from the best price"
    if not stop.anchor_name:
        return f"stop {stop.price:f}, stated by the strategy"
    where = "below" if stop.held > 0 else "above"
    anchor = f"{stop.anchor_name} {stop.anchor.normalize():f}"
    return f"stop {stop.price:f}, {_percent(stop.ratio)} {where} {anchor}"


def _percent(ratio: Decimal) -> str:
    return f"{float(100 * ratio):.3g} %"


def _trail_percent(ratio: Decimal) -> float:
    return float(max((100 * ratio).quantize(_PERCENT_STEP), _PERCENT_STEP))


def _to_price(price: float | Fraction) -> Decimal:
    """Convert a price to eight digits, so that an exact and a float average give the same stop."""
    if isinstance(price, Fraction):
        return _PRICE_CONTEXT.divide(Decimal(price.numerator), Decimal(price.denominator))
    return _PRICE_CONTEXT.create_decimal(Decimal(repr(float(price))))


def _round_price(price: Decimal, symbol: str) -> Decimal:
    """Round a price to the venue's grid: cents, below 1 USD hundredths; five digits of crypto."""
    if is_crypto(symbol):
        return price.quantize(max(_CRYPTO_TICK, Decimal(1).scaleb(min(price.adjusted() - 4, 0))))
    return price.quantize(_CENT if price >= 1 else _HUNDREDTH_OF_CENT, ROUND_HALF_EVEN)


def daily_deviations(bars: Bars, symbols: Collection[str]) -> dict[str, float]:
    """Return the standard deviation of a day's return, by symbol; absent without enough bars.

    It is the root mean square of the log returns between the symbol's bars of the last 91 days,
    times the root of the number of bars of a day.
    """
    first = int(np.searchsorted(bars.times, bars.last_instant - DEVIATION_WINDOW, side="right"))
    found = {}
    for s, item in enumerate(bars.instruments):
        if item.symbol not in symbols:
            continue
        closes = bars.values[s, first:, CLOSE][bars.mask[s, first:]]
        if len(closes) < MIN_DEVIATION_BARS:
            continue
        returns = np.diff(np.log(closes))
        per_day = bars.clock(item.kind).bars_per_year / MARKET_DAYS_PER_YEAR[item.kind]
        found[item.symbol] = float(np.sqrt(np.mean(returns**2) * per_day))
    return found


def is_crypto_bar_end(timeframe: Timeframe, at: np.datetime64) -> bool:
    """Return whether a bar of crypto ends at an instant, so that trailing stops are raised."""
    return bool(timeframe.last_bar_end(AssetClass.CRYPTO, at) == at)


def cooling_symbols(
    stopped_at: Mapping[str, np.datetime64], now: np.datetime64, cooldown: int
) -> frozenset[str]:
    """Return the symbols that may not be opened at `now`.

    stopped_at: last instant at which a protective order of each symbol has filled.
    cooldown: sessions, of crypto UTC days, the one of the fill included.
    """
    opens = exchange_calendar().opens

    def periods_between(symbol: str, at: np.datetime64) -> int:
        if is_stock(symbol):
            begun = np.searchsorted(opens, np.array([at, now], opens.dtype), side="right")
            return int(begun[1] - begun[0])
        return int((now.astype("datetime64[D]") - at.astype("datetime64[D]")).astype(int))

    return frozenset(
        symbol for symbol, at in stopped_at.items() if periods_between(symbol, at) < cooldown
    )
