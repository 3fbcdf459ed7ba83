"""Guards: the last checks before an order is sent.

The kill file stops every order. Halts with the scope `everything` stop every order except
protective orders and orders of a person's command (`execution.decision.authority`). Limits refuse
only opening orders, because a reduction that is not sent is a risk too. A reduction is refused only
for a quarantined symbol, a closed exchange, or an implausible limit price.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import numpy as np

from execution.decision.authority import is_exempt_from_halts
from execution.decision.tiers import DrawdownTiers
from execution.journal.commands import CommandJournal
from execution.journal.halts import HaltJournal, HaltScope
from execution.journal.order_store import OrderIntent, OrderStore
from execution.live.account_lock import may_exist
from execution.live.exposure import WorstCaseExposure, build_worst_case_exposure
from execution.live.loop import StopSignal
from execution.orders.account_snapshot import AccountSnapshot, UnknownAccountValue
from execution.orders.gate import AnyOrder, GuardedOrder, OrderRole
from execution.orders.option_orders import SpreadOrder
from execution.orders.orders import Order
from foundation.settings import setting, settings_class
from trainingdata.instants import HOUR
from trainingdata.instruments import AssetClass, instrument
from trainingdata.last_trade import LastTrade
from trainingdata.sessions import is_in_session

REDUCING_ROLES: tuple[OrderRole, ...] = ("reduction", "night", "protection", "command", "watch")
SECOND = np.timedelta64(1, "s")


@settings_class("guards")
class GuardSettings(DrawdownTiers):
    """Limits of a live account; the names of the fields are the keys under `guards` in the YAML."""

    max_order: float = setting(1_000_000.0, "largest value of one opening order, USD", ge=1, le=1e9)
    max_position: float = setting(
        0.75,
        "largest position in one symbol after the fill, multiples of equity; for spreads, "
        "largest maximum loss, multiples of equity or of their balance if that is smaller",
        ge=0.01,
        le=10,
    )
    max_gross: float = setting(
        4.2, "largest gross exposure after the fill, multiples of equity", ge=0.01, le=10
    )
    max_orders_per_hour: int = setting(
        200, "orders per hour, all jobs, after which opening orders are denied", ge=1, le=100_000
    )
    price_collar: float = setting(
        0.10,
        "largest distance, as a fraction of price, of a limit price beyond the last trade, and of "
        "the last trade from the price at which a market order was sized",
        ge=0.001,
        le=1,
    )
    max_trade_age: float = setting(
        900.0,
        "largest age of the last trade for opening orders while the market is open, seconds",
        ge=1,
        le=86_400,
    )
    daily_loss: float = setting(
        0.10, "loss that halts opening orders, fraction of the day's first equity", ge=0.001, le=1
    )
    drawdown: float = setting(
        0.30, "loss that halts opening orders, fraction of the highest equity", ge=0.001, le=1
    )
    drawdown_resume_fraction: float = setting(
        0.5, "fraction of the drawdown limit at which its halt ends automatically", ge=0, le=0.9
    )


class Guards:
    """Pre-trade checks of one account's orders, by its limits, its halts and its kill file.

    halts: halts of the account.
    book: order store with the orders of all jobs of the account.
    commands: commands of the account.
    kill_file: path of the kill file; while the file exists, no order is sent.
    stop: signal that stops all new orders. If it asks for all positions to be closed, reducing
        orders are still sent, despite halts and the kill file.
    """

    def __init__(
        self,
        settings: GuardSettings,
        halts: HaltJournal,
        book: OrderStore,
        commands: CommandJournal,
        kill_file: Path,
        stop: StopSignal,
    ) -> None:
        self._settings = settings
        self._halts = halts
        self._book = book
        self._commands = commands
        self._kill_file = kill_file
        self._stop = stop
        self.exchange_closed = False  # by the venue's clock, although the calendar has a session

    def build_gate(self, snapshot: AccountSnapshot | None) -> SnapshotGate:
        """Return the gate that checks orders against a snapshot.

        snapshot: fresh account snapshot; all orders sent after it must pass this gate. None refuses
            every order that opens a position.
        """
        return SnapshotGate(self, snapshot)

    def refusal_reason(
        self,
        order: AnyOrder,
        role: OrderRole,
        now: np.datetime64,
        snapshot: AccountSnapshot | None,
        allowed_orders: Mapping[str, GuardedOrder],
    ) -> str:
        """Return why an order may not be sent, or an empty string.

        role: role of the order in its decision.
        now: time of the venue's clock.
        snapshot: fresh account snapshot; None refuses every order that opens a position.
        allowed_orders: orders that the gate has allowed since the snapshot, by client order id.
        """
        if isinstance(order, Order) and order.symbol in self._halts.quarantined_symbols():
            return f"{order.symbol} is quarantined until its discrepancy is resolved"
        if self._stop.flattening:
            return "" if role in REDUCING_ROLES else "all positions are being closed"
        if self._stop and role != "protection":
            return f"the loop is stopping ({self._stop.why})"
        if (why := stop_reason(self._halts, self._kill_file)) and not (
            is_exempt_from_halts(role, has_kill_file=may_exist(self._kill_file))
            or self._is_exempt_buyback(order)
        ):
            return why
        if not isinstance(order, Order | SpreadOrder):
            return "this venue does not trade event contracts"
        if self.exchange_closed and _waits_for_the_open(role, order, now):
            return (
                "the venue's clock reports the exchange closed; the order would wait for the open"
            )
        if role in REDUCING_ROLES:
            return self._reduction_refusal(order, now, snapshot)
        return self._opening_refusal(order, now, snapshot, allowed_orders)

    def _is_exempt_buyback(self, order: object) -> bool:
        """Return whether an order buys back short options and may be sent despite the active halts.

        Only the halts `positions` and `cash` are ignored, and the kill file is not. Such an order
        must not wait for a person, because the delay may cost the largest loss of a spread. The
        venue's option positions are reconciled before each of these orders.
        """
        if not (isinstance(order, SpreadOrder) and order.reduces and order.is_fully_covered):
            return False
        kinds = {
            halt.kind for halt in self._halts.active() if halt.rule.forbidden_scope == "everything"
        }
        return kinds <= {"positions", "cash"} and not may_exist(self._kill_file)

    def _reduction_refusal(
        self, order: GuardedOrder, now: np.datetime64, snapshot: AccountSnapshot | None
    ) -> str:
        """Return why the limit price of a reduction is implausible, or an empty string.

        Without a recent last trade the limit price is not checked.
        """
        if snapshot is None or isinstance(order, SpreadOrder):
            return ""
        trade = snapshot.last_trade(order.symbol)
        if trade is None or _is_old(trade, now, self._settings.max_trade_age):
            return ""
        return _collar_refusal(order, trade, self._settings.price_collar)

    def _opening_refusal(
        self,
        order: GuardedOrder,
        now: np.datetime64,
        snapshot: AccountSnapshot | None,
        passed: Mapping[str, GuardedOrder],
    ) -> str:
        if why := halt_reason(self._halts, "openings"):
            return why
        name = order.root if isinstance(order, SpreadOrder) else order.symbol
        if name in self._halts.exited_symbols():
            return f"{halt_reason(self._halts, 'openings of symbols')}; resume to open {name} again"
        if command := self._commands.reduction_in(name):
            return f"`{command}` has not reduced {name} yet; resume to open it now"
        if snapshot is None:
            return "the account was not read before this opening order"
        if not snapshot.equity > 0:
            return f"equity is {snapshot.equity:,.2f} USD; opening orders need positive equity"
        try:
            return (
                self._price_refusal(order, snapshot, now)
                or self._order_size_refusal(order, snapshot)
                or rate_limit_reason(self._book, order, now, self._settings.max_orders_per_hour)
                or self._exposure_refusal(order, snapshot, passed)
            )
        except UnknownAccountValue as error:
            return str(error)

    def _price_refusal(
        self, order: GuardedOrder, snapshot: AccountSnapshot, now: np.datetime64
    ) -> str:
        """Return why the prices needed to check an opening order are unusable, or an empty string.

        Spreads are valued by their strikes and need no price.
        """
        if isinstance(order, SpreadOrder):
            return ""
        settings = self._settings
        symbol = order.symbol
        trade = snapshot.last_trade(symbol)
        if trade is None:
            return f"the feed has no last trade of {symbol}"
        if _is_open(symbol, now) and _is_old(trade, now, settings.max_trade_age):
            seconds = (now - trade.traded_at) / SECOND
            return (
                f"the last trade of {symbol} is {seconds:.0f} s old; guards.max_trade_age is"
                f" {settings.max_trade_age:g} s"
            )
        if order.limit_price is not None:
            return _collar_refusal(order, trade, settings.price_collar)
        sized = snapshot.prices.get(symbol)
        if sized is None:
            return f"the price at which {symbol} was sized is unknown"
        if not abs(trade.price - sized) <= settings.price_collar * sized:
            return (
                f"the last trade of {symbol}, {trade.price:g}, is too far from the price at which"
                f" the order was sized, {sized:g}; guards.price_collar is"
                f" {settings.price_collar:g}"
            )
        return ""

    def _order_size_refusal(self, order: GuardedOrder, snapshot: AccountSnapshot) -> str:
        if isinstance(order, SpreadOrder):
            value = order.max_loss_usd(Decimal(order.contracts))
        else:
            price = snapshot.price(order.symbol)
            if order.limit_price is not None:
                price = max(price, order.limit_price)
            value = float(order.qty) * price
        largest = self._settings.max_order
        if value <= largest:
            return ""
        return f"order value {value:,.0f} USD exceeds guards.max_order, {largest:,.0f} USD"

    def _exposure_refusal(
        self, order: GuardedOrder, snapshot: AccountSnapshot, passed: Mapping[str, GuardedOrder]
    ) -> str:
        """Return why an opening order would exceed `max_position` or `max_gross`, or "".

        An order that does not enlarge its position is allowed, even if price moves have carried the
        position above its limit.
        """
        settings = self._settings
        others = {name: each for name, each in passed.items() if name != order.client_order_id}
        before = build_worst_case_exposure(
            snapshot, self._allowed_with_intents(others), order.client_order_id
        )
        after = before.with_order(order)
        name, position = _position_after_order(order, after, snapshot)
        gross = after.max_gross_usd(snapshot) / snapshot.equity
        if position <= _position_after_order(order, before, snapshot)[1]:
            return ""
        whole, of_what = _position_limit_base(order, snapshot)
        share = position / whole if whole > 0 else math.inf
        if not share <= settings.max_position:
            return (
                f"{name} would be {share:.3g} of {of_what}, above guards.max_position,"
                f" {settings.max_position:g}"
            )
        if not gross <= settings.max_gross:
            return (
                f"gross exposure would be {gross:.3g} of equity, above guards.max_gross,"
                f" {settings.max_gross:g}"
            )
        return ""

    def _allowed_with_intents(
        self, passed: Mapping[str, GuardedOrder]
    ) -> list[tuple[GuardedOrder, OrderIntent | None]]:
        """Return the allowed orders, each with its recorded intent or, without one, None."""
        marks = ", ".join("?" * len(passed))
        found = self._book.select_intents(f"client_order_id IN ({marks})", tuple(passed))
        by_name = {intent.client_order_id: intent for intent in found}
        return [(order, by_name.get(name)) for name, order in passed.items()]


@dataclass(frozen=True, slots=True)
class SnapshotGate:
    """Gate that checks orders by the guards of an account, against one snapshot.

    guards: guards of the account.
    snapshot: fresh account snapshot; None refuses every order that opens a position.
    allowed_orders: orders that the gate has allowed since the snapshot, by client order id; each
        counts towards the limits on later orders.
    """

    guards: Guards
    snapshot: AccountSnapshot | None
    allowed_orders: dict[str, GuardedOrder] = field(default_factory=dict, compare=False)

    @property
    def prices(self) -> Mapping[str, float]:
        return {} if self.snapshot is None else self.snapshot.market_prices

    def refusal_reason(self, order: AnyOrder, role: OrderRole, now: np.datetime64) -> str:
        why = self.guards.refusal_reason(order, role, now, self.snapshot, self.allowed_orders)
        if not why and isinstance(order, GuardedOrder):
            self._record_allowed(order)
        return why

    def _record_allowed(self, order: GuardedOrder) -> None:
        """Record an allowed order, unless it is among the open orders of the snapshot."""
        name = order.client_order_id
        if self.snapshot and all(o.client_order_id != name for o in self.snapshot.open_orders):
            self.allowed_orders[name] = order


def stop_reason(halts: HaltJournal, kill_file: Path) -> str:
    """Return why the kill file or a halt stops every order, or an empty string."""
    if may_exist(kill_file):
        return f"the kill file {kill_file} exists; remove it to send orders"
    return halt_reason(halts, "everything")


def halt_reason(halts: HaltJournal, forbidden: HaltScope) -> str:
    """Describe the first active halt with this scope of forbidden orders; empty without one."""
    for halt in halts.active():
        if halt.rule.forbidden_scope == forbidden:
            return f"halted: {halt}"
    return ""


def rate_limit_reason(
    book: OrderStore, order: AnyOrder, now: np.datetime64, max_orders: int
) -> str:
    """Return why the limit on orders per hour refuses an opening order, or an empty string.

    book: order store with the orders of all jobs.
    now: time of the venue's clock.
    max_orders: maximum number of orders per hour, over all jobs.
    """
    since = now - HOUR
    # Instants are text in the book. Text to the minute sorts before every instant within it.
    minute = str(since.astype("datetime64[m]"))
    recent = book.select_intents("sent_at >= ? AND state NOT IN ('planned', 'denied')", (minute,))
    name = order.client_order_id
    count = sum(each.sent_at > since and each.client_order_id != name for each in recent)
    if count < max_orders:
        return ""
    were = "1 order was" if count == 1 else f"{count} orders were"
    return f"{were} sent in the last hour; guards.max_orders_per_hour is {max_orders}"


def _position_after_order(
    order: GuardedOrder, exposure: WorstCaseExposure, snapshot: AccountSnapshot
) -> tuple[str, float]:
    """Return the name of the position that an order adds to, and its largest size, USD.

    For a spread, the size is the maximum loss of all spreads with the same root.

    exposure: exposure of the account, including the order.
    """
    if isinstance(order, SpreadOrder):
        return f"the maximum loss of spreads on {order.root}", exposure.max_loss_by_root.get(
            order.root, 0.0
        )
    largest = exposure.position_range(order.symbol).max_abs_quantity
    return order.symbol, float(largest) * snapshot.price(order.symbol)


def _position_limit_base(order: GuardedOrder, snapshot: AccountSnapshot) -> tuple[float, str]:
    """Return the capital, USD, of which `max_position` is a fraction, and a name for it.

    For spreads it is the smaller of the venue's equity and the balance by which spreads are sized.
    """
    balance = snapshot.spread_capital_usd
    if isinstance(order, SpreadOrder) and balance is not None and balance < snapshot.equity:
        return balance, f"the spread balance of {balance:,.2f} USD"
    return snapshot.equity, "equity"


def _waits_for_the_open(role: OrderRole, order: GuardedOrder, now: np.datetime64) -> bool:
    """Return whether a stock or option order would wait at a closed exchange.

    Asked while the calendar has the exchange open and the venue reports it closed. Orders that buy
    back spreads are sent anyway, because the venue's clock is not read for these orders.
    """
    if isinstance(order, SpreadOrder):
        return role not in REDUCING_ROLES and bool(is_in_session(np.array([now]))[0])
    return instrument(order.symbol).kind is AssetClass.STOCK and _is_open(order.symbol, now)


def _is_open(symbol: str, now: np.datetime64) -> bool:
    coin = instrument(symbol).kind is AssetClass.CRYPTO
    return coin or bool(is_in_session(np.array([now]))[0])


def _is_old(trade: LastTrade, now: np.datetime64, seconds: float) -> bool:
    """Return whether a trade is more than `seconds` old, or as far in the future."""
    return bool(abs(float((now - trade.traded_at) / SECOND)) > seconds)


def _collar_refusal(order: Order, trade: LastTrade, price_collar: float) -> str:
    """Return why a limit price is too far from the market on the unfavourable side, or "".

    The reference is the order's stop price or, without one, the last trade. A buy limit may not be
    too far above it, and a sell limit not too far below.
    """
    if order.limit_price is None:
        return ""
    limit = Decimal(repr(order.limit_price))
    # A stop-limit order trades only once the market reaches its stop.
    reference = Decimal(repr(order.stop_price or trade.price))
    max_deviation = reference * Decimal(repr(price_collar))
    worst = reference + max_deviation if order.signed_qty > 0 else reference - max_deviation
    if (limit - worst) * order.signed_qty <= 0:
        return ""
    return (
        f"limit price {limit} is beyond {float(worst):g}; guards.price_collar is {price_collar:g}"
        f" of {float(reference):g}"
    )
