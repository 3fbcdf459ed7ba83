"""Orders, fills and the account; and `rebalance`, which turns target quantities into orders."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from operator import attrgetter, itemgetter
from typing import Any, Literal, NamedTuple

import numpy as np

from foundation.errors import InputError
from sizing.quantity import most_coins, part_count, whole
from trainingdata.bars import HIGH, Bars
from trainingdata.instruments import Instrument, Kind, instrument
from trainingdata.sessions import stamp

Side = Literal["buy", "sell"]
OrderType = Literal["market", "limit", "stop", "stop_limit", "trailing_stop"]
TimeInForce = Literal["day", "gtc", "ioc", "fok", "opg", "cls"]
PRICES = (
    "limit_price",
    "stop_price",
    "trail_price",
    "trail_percent",
    "take_profit",
    "stop_loss",
    "or_stop",
)
MOST = 10**12  # no order is for more
ENDLESS = float("inf")
_IDENTITY = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_prices = attrgetter(*PRICES)
_UNPRICED = (None,) * len(PRICES)
_exits = attrgetter("take_profit", "stop_loss", "or_stop")
_NO_EXITS = (None,) * 3
_NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True)
class Order:
    """An order; qty > 0, a multiple of the instrument's increment or all that is held.

    client_order_id: a function of strategy, instant, symbol, leg and attempt, so that the same
    intention never has two. reason: why it exists; `str` says it in words. reduces: whether it only
    brings a position nearer to zero. tif: `opg` and `cls` trade in the session's first and last
    print alone, `fok` whole or not at all. limit_price, stop_price: USD, where the type needs them.
    trail_price (USD), trail_percent: one of them, how far a trailing stop follows behind the best
    price since it was sent. take_profit, stop_loss: USD, what a bracket sends once the order fills;
    or_stop: USD, the stop beside a limit. Of two exits, whichever fills cancels the other.
    extended_hours: whether it may trade outside regular hours.
    """

    client_order_id: str
    symbol: str
    side: Side
    qty: Decimal
    reason: object
    reduces: bool = False
    type: OrderType = "market"
    tif: TimeInForce = "day"
    limit_price: float | None = None
    stop_price: float | None = None
    trail_price: float | None = None
    trail_percent: float | None = None
    take_profit: float | None = None
    stop_loss: float | None = None
    or_stop: float | None = None
    extended_hours: bool = False

    def __post_init__(self) -> None:
        if not (self.qty.is_finite() and 0 < self.qty < MOST):
            raise ValueError(
                f"{self.client_order_id}: qty must be above 0 and below {MOST:,}, got {self.qty}"
            )
        if not _IDENTITY.fullmatch(self.client_order_id):
            raise ValueError(
                "client_order_id must be 1 to 128 letters, digits, '.', '_' or '-', got"
                f" {self.client_order_id!r}"
            )
        if self.type != "market" or _prices(self) != _UNPRICED:
            self._check_prices()
            self._check_exits()

    def _check_exits(self) -> None:
        if self.or_stop is not None and (
            self.type != "limit" or self.take_profit or self.stop_loss
        ):
            raise ValueError(
                f"{self.client_order_id}: or_stop stands beside a limit order without a bracket"
            )
        if self.legs and len(self.client_order_id) > 120:
            raise ValueError(
                f"{self.client_order_id}: an order with exits has an id of 120 characters at most"
            )

    def _check_prices(self) -> None:
        for name, needed in (
            ("limit_price", "limit" in self.type),
            ("stop_price", self.type in ("stop", "stop_limit")),
        ):
            price = getattr(self, name)
            if needed != (price is not None):
                raise ValueError(
                    f"{self.client_order_id}: a {self.type} order"
                    f" {'needs a' if needed else 'has no'} {name}"
                )
        trails = (self.trail_price is not None) + (self.trail_percent is not None)
        if trails != (self.type == "trailing_stop"):
            raise ValueError(
                f"{self.client_order_id}: trail_price or trail_percent belongs to a trailing_stop,"
                " one of them"
            )
        for name in PRICES:
            price = getattr(self, name)
            if price is not None and not 0 < price < float("inf"):
                raise ValueError(f"{self.client_order_id}: {name} must be above 0, got {price}")
        if (
            self.take_profit
            and self.stop_loss
            and (self.take_profit > self.stop_loss) != (self.side == "buy")
        ):
            raise ValueError(
                f"{self.client_order_id}: a {self.side}'s take_profit {self.take_profit} is on the"
                " wrong side"
                f" of its stop_loss {self.stop_loss}"
            )

    @property
    def legs(self) -> tuple[Order, ...]:
        """The exits it brings, each with an id of its own: those of a bracket, or the stop
        beside it.
        """
        if _exits(self) == _NO_EXITS:
            return ()
        back: Side = "sell" if self.side == "buy" else "buy"
        found = []
        if self.take_profit is not None:
            found.append(self._leg("profit", back, type="limit", limit_price=self.take_profit))
        if self.stop_loss is not None:
            found.append(self._leg("loss", back, type="stop", stop_price=self.stop_loss))
        if self.or_stop is not None:
            found.append(self._leg("stop", self.side, type="stop", stop_price=self.or_stop))
        return tuple(found)

    def _leg(self, name: str, side: Side, **more: Any) -> Order:
        why = f"{name} of {self.client_order_id}"
        return Order(
            f"{self.client_order_id}.{name}",
            self.symbol,
            side,
            self.qty,
            why,
            reduces=True,
            tif=self.tif,
            **more,
        )

    @property
    def signed_qty(self) -> Decimal:
        """Positive for a buy, negative for a sale."""
        return self.qty if self.side == "buy" else -self.qty


@dataclass(frozen=True, slots=True)
class OrderTerms:
    """What an order may be worth, USD: a fraction of a share at least, coins at most.

    room: share of the most that an order in parts leaves free for what the price does until it
    arrives.
    """

    smallest_fraction: float = 1.0
    largest_coin: float = 200_000.0
    room: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.smallest_fraction < float("inf"):
            raise InputError(f"orders.smallest_fraction: {self.smallest_fraction} is negative")
        if not self.largest_coin > 0:
            raise InputError(f"orders.largest_coin: {self.largest_coin} is not above 0")
        if not 0 <= self.room < 1:
            raise InputError(f"orders.room: {self.room} is outside 0 … 1")

    @property
    def largest(self) -> float:
        """USD that one order of coins is worth at most when it is sent."""
        return self.largest_coin * (1 - self.room)

    def most(self, item: Instrument, price: float) -> float:
        """The largest quantity of one order."""
        return most_coins(self.largest, price) if item.kind is Kind.CRYPTO else ENDLESS

    def check(self, bars: Bars) -> None:
        """Refuse a bound that a single increment of a coin exceeds: no order of it could be sent.

        Raises
        ------
        InputError
            naming the coin.
        """
        for s in np.flatnonzero(bars.crypto).tolist():
            worth = float(bars.instruments[s].increment) * float(
                bars.own(s)[1][:, HIGH].max(initial=0.0)
            )
            if worth > self.largest:
                raise InputError(
                    f"orders.largest_coin: {self.largest_coin:g} USD less room is below the"
                    f" {worth:.2f} that one increment"
                    f" of {bars.symbols[s]} comes to be worth"
                )


TERMS = OrderTerms()


class Fill(NamedTuple):
    """What an order did: qty signed, price and fee in USD.

    at: the start of the bar whose open it met, or the instant at which the bar that filled it
    within became known. A coin purchase pays its fee in coin: a second fill of the same order, with
    a negative qty at price 0.
    """

    client_order_id: str
    symbol: str
    qty: Decimal
    price: float
    fee: float
    at: np.datetime64


@dataclass(frozen=True, slots=True)
class Account:
    """An account in USD as of an instant; negative cash is borrowing.

    positions: signed quantities. prices: last known closes. unsettled: net proceeds of stock trades
    that settle on the next session, without those of shorts that are still open. short_proceeds:
    what open shorts were sold for. leverage: stock gross that the venue allows at most, in
    multiples of equity; shorting: whether it lends shares; blocked: whether it takes no orders at
    all. equity: cash plus positions at those prices.
    """

    cash: float
    positions: Mapping[str, Decimal]
    prices: Mapping[str, float]
    as_of: np.datetime64
    open_orders: tuple[Order, ...] = ()
    unsettled: float = 0.0
    short_proceeds: float = 0.0
    leverage: float = float("inf")
    shorting: bool = True
    blocked: bool = False
    equity: float = field(init=False)

    def __post_init__(self) -> None:
        prices = self.prices
        value = 0.0
        for symbol, quantity in self.positions.items():
            if quantity:
                if symbol not in prices:
                    raise ValueError(f"positions: {symbol} has no price")
                value += float(quantity) * prices[symbol]
        object.__setattr__(self, "equity", self.cash + value)

    @property
    def exposure(self) -> Mapping[str, Decimal]:
        """Signed quantity held plus open, by symbol."""
        total = dict(self.positions)
        for order in self.open_orders:
            total[order.symbol] = total.get(order.symbol, Decimal(0)) + order.signed_qty
        return total

    @property
    def undone(self) -> Mapping[str, Decimal]:
        """Signed quantity held that open orders would take off a position, by symbol: it counts
        until they have filled.
        """
        found: dict[str, Decimal] = {}
        for order in self.open_orders:
            held = self.positions.get(order.symbol, Decimal(0))
            if held * order.signed_qty < 0:
                before = abs(found.get(order.symbol, Decimal(0)))
                found[order.symbol] = min(before + order.qty, abs(held)).copy_sign(held)
        return found

    def priced(self, prices: Mapping[str, float]) -> Account:
        """The same account, with prices for symbols it has none of."""
        return replace(self, prices={**prices, **self.prices})

    @property
    def unborrowed_cash(self) -> float:
        """Cash that may buy coins: above zero, without unsettled stock proceeds, what shorts
        were sold for, and open bids.
        """
        return max(
            0.0,
            self.cash
            - max(self.unsettled, 0.0)
            - self.short_proceeds
            - coin_bids(self.open_orders, self.prices),
        )


def coin_bids(orders: Iterable[Order], prices: Mapping[str, float]) -> float:
    """USD that open purchases of coins will cost: at their limit, else at the last price."""
    bids = (o for o in orders if o.side == "buy" and instrument(o.symbol).kind is Kind.CRYPTO)
    return sum(float(o.qty) * (o.limit_price or prices.get(o.symbol, 0.0)) for o in bids)


def exact(quantity: float) -> Decimal:
    """The quantity a float was rounded to: 3, not 3.0; 0.123 as written."""
    return Decimal(int(quantity)) if quantity.is_integer() else Decimal(repr(quantity))


def client_order_id(
    strategy: str, at: np.datetime64, symbol: str, leg: int, attempt: int = 0
) -> str:
    """The identity of an order: the same for the same instant, symbol, leg and attempt of a
    strategy.
    """
    return _identity(strategy, stamp(at), symbol, leg, attempt)


def _identity(strategy: str, when: str, symbol: str, leg: int, attempt: int = 0) -> str:
    return f"{strategy}-{when}-{symbol}-{leg}-{attempt}"


def strategy_of(client_order_id: str) -> str:
    """The name of the strategy whose order this is; names may hold dashes, what follows them in
    an identity does not.
    """
    return client_order_id.rsplit("-", 4)[0]


def rebalance(
    strategy: str,
    at: np.datetime64,
    targets: Iterable[tuple[Instrument, Decimal, Decimal, float, object]],
) -> tuple[Order, ...]:
    """Orders that move each instrument from what is held to its target: (instrument, held, target,
    most, reason).

    A change of sign is two orders, a close and an opening one: no order flips a position.
    Reductions come first, then coin purchases, then the rest, each by symbol. A quantity is in
    whole increments, unless it closes a position. What exceeds `most`, the quantity of one order,
    goes out in parts as equal as increments allow.
    """
    ranked: list[tuple[int, str, Order]] = []
    when = stamp(at)
    for item, held, target, most, reason in targets:
        symbol = item.symbol
        coin = item.kind is Kind.CRYPTO
        leg = 0
        tif: TimeInForce = "gtc" if coin else "day"
        crosses = held * target < 0
        steps = ((held, _NOTHING), (_NOTHING, target)) if crosses else ((held, target),)
        for before, after in steps:
            if after == before:
                continue
            reduces = abs(after) < abs(before)
            rank = 0 if reduces else 1 if coin else 2
            side: Side = "buy" if after > before else "sell"
            size = abs(after - before)
            qty = (
                size
                if after == 0 or not size % item.increment
                else whole(float(size), item.increment)
            )
            for part in _parts(qty, most, item.increment):
                identity = _identity(strategy, when, symbol, leg)
                ranked.append(
                    (rank, symbol, Order(identity, symbol, side, part, reason, reduces, tif=tif))
                )
                leg += 1
    ranked.sort(key=_RANK)
    return tuple([order for _, _, order in ranked])


_RANK = itemgetter(0, 1)


def _parts(quantity: Decimal, most: float, increment: Decimal) -> list[Decimal]:
    """The quantity in parts of `most` at most; nothing of nothing.

    No two differ by more than an increment. The last one also carries what is no whole increment.
    """
    if most == ENDLESS or float(quantity) <= most:
        return [quantity] if quantity > 0 else []
    steps, rest = divmod(quantity, increment)
    count = part_count(float(steps), float(rest), most, float(increment))
    least, more = divmod(int(steps), count)
    parts = [(least + (k < more)) * increment for k in range(count)]
    parts[-1] += rest
    return parts
