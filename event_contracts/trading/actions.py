"""Twenty-five actions on one market: hold, and four intents in five sizes each.

    0        HOLD
    1 … 20   (intent − 1) · 5 + size index + 1, intents BUY_YES, SELL_YES, BUY_NO, SELL_NO
    21 … 24  reserved: always masked, treated as HOLD if sent

An action becomes a limit order. The price style of its intent determines the order's price and time
in force. Action masks, the simulated order manager and the live one apply the same pre-trade check,
`PreTradeCheck`. Every function raises `ValueError` for an unknown code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from functools import cached_property
from operator import index
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from event_contracts.trading.fees import ZERO, FeeRules
from event_contracts.trading.orders import (
    ContractAction,
    ContractQuote,
    ContractTimeInForce,
    EventContractOrder,
    MarketView,
    OrderManager,
    OrderReceipt,
    Outcome,
    RestingOrder,
    opposite_side,
)
from event_contracts.trading.records import (
    MAX_ORDER_CONTRACTS,
    MAX_RECORD_AMOUNT,
    MICROS_PER_DOLLAR,
    MICROS_PER_PRICE_UNIT,
    PRICE_STYLE_CODES,
    PRICE_UNITS_PER_DOLLAR,
)
from event_contracts.trading.rules import (
    ACCOUNT_LOSS,
    CONTRACTS,
    EVENT_LOSS,
    EVENT_SHARE,
    NO_LIMIT,
    SHARE,
    VALUE,
    Number,
    ScaledFeeRules,
    ScaledOrderRules,
    ScaledPositionLimits,
    build_scaled_limits,
    find_violated_limit,
    is_immediate_order,
    limit_price,
    max_purchase_count,
    max_sale_count,
    micros_to_usd,
    position_after_order,
    scale_amount,
)
from foundation.arrays import Mask
from foundation.errors import InputError
from foundation.settings import setting, settings_class

if TYPE_CHECKING:
    from gymnasium.spaces import Discrete

PriceStyle = Literal["passive", "mid", "aggressive"]

POSITION_SIZES = (5, 10, 20, 50, 100)  # contracts
INTENTS = ("HOLD", "BUY_YES", "SELL_YES", "BUY_NO", "SELL_NO")
ACTION_COUNT = 25
DEFAULT_CASH_BUFFER_USD = Decimal(50)  # USD
DEFAULT_ORDER_TICKS = 2  # ticks that an order rests, in training and live
MAX_ORDER_TICKS = 1_000_000
_MAX_SIZED_ACTION = 20  # the last action with a size
INTENT_SIDES: Final[tuple[tuple[ContractAction, Outcome], ...]] = (  # of each intent but HOLD
    ("BUY", "YES"),
    ("SELL", "YES"),
    ("BUY", "NO"),
    ("SELL", "NO"),
)


class LimitOrderActions:
    """Codes of intents, 0 … 4 (for `encode_action`), and of actions with a size, 1 … 20."""

    HOLD: Final = 0
    BUY_YES_LIMIT: Final = 1
    SELL_YES_LIMIT: Final = 2
    BUY_NO_LIMIT: Final = 3
    SELL_NO_LIMIT: Final = 4

    BUY_YES_LIMIT_5: Final = 1
    BUY_YES_LIMIT_10: Final = 2
    BUY_YES_LIMIT_20: Final = 3
    BUY_YES_LIMIT_50: Final = 4
    BUY_YES_LIMIT_100: Final = 5
    SELL_YES_LIMIT_5: Final = 6
    SELL_YES_LIMIT_10: Final = 7
    SELL_YES_LIMIT_20: Final = 8
    SELL_YES_LIMIT_50: Final = 9
    SELL_YES_LIMIT_100: Final = 10
    BUY_NO_LIMIT_5: Final = 11
    BUY_NO_LIMIT_10: Final = 12
    BUY_NO_LIMIT_20: Final = 13
    BUY_NO_LIMIT_50: Final = 14
    BUY_NO_LIMIT_100: Final = 15
    SELL_NO_LIMIT_5: Final = 16
    SELL_NO_LIMIT_10: Final = 17
    SELL_NO_LIMIT_20: Final = 18
    SELL_NO_LIMIT_50: Final = 19
    SELL_NO_LIMIT_100: Final = 20


def encode_action(intent: int, size_index: int) -> int:
    """Return the action code of an intent (0 … 4) and a size index (0 … 4); HOLD has no size."""
    intent = index(intent)
    size_index = index(size_index)
    if not 0 <= intent < len(INTENTS):
        raise ValueError(f"intent must be 0 … {len(INTENTS) - 1}, got {intent}")
    if not 0 <= size_index < len(POSITION_SIZES):
        raise ValueError(f"size index must be 0 … {len(POSITION_SIZES) - 1}, got {size_index}")
    return (intent - 1) * len(POSITION_SIZES) + size_index + 1 if intent else 0


def decode_action(action: int) -> tuple[int, int]:
    """Return the intent and size index of an action code; (0, 0) for HOLD and reserved codes."""
    action = index(action)
    if not 0 <= action < ACTION_COUNT:
        raise ValueError(f"action must be 0 … {ACTION_COUNT - 1}, got {action}")
    if not 1 <= action <= _MAX_SIZED_ACTION:
        return 0, 0
    intent, size_index = divmod(action - 1, len(POSITION_SIZES))
    return intent + 1, size_index


def process_action(
    action: int, position_sizes: tuple[int, ...] = POSITION_SIZES
) -> tuple[str, int]:
    """Return the intent name and contracts of an action code.

    Examples: 3 gives ("BUY_YES", 20), 0 gives ("HOLD", 0).
    """
    intent, size_index = decode_action(action)
    return INTENTS[intent], position_sizes[size_index] if intent else 0


def intent_code_of(order: EventContractOrder) -> int:
    """Return the code of an order's intent, 1 … 4."""
    return INTENT_SIDES.index((order.action, order.side)) + 1


def expand_price_styles(
    price_style: PriceStyle | Mapping[str, PriceStyle],
) -> Mapping[str, PriceStyle]:
    """Return the price style of each intent: BUY_YES, SELL_YES, BUY_NO and SELL_NO.

    price_style: a mapping by intent, or a single style for all intents.
    """
    if isinstance(price_style, Mapping):
        return price_style
    return dict.fromkeys(INTENTS[1:], price_style)


@settings_class("limits")
class PositionLimits:
    """Limits on the position in one market, and on the losses of its event and of the account.

    A loss is the current value of positions less their payout in the worst outcome of their events
    (`event_contracts.trading.event_risk`). The default limits of events and of the account never
    bind in an account that trades a single market.
    """

    contracts: Decimal = setting(Decimal(500), "maximum contracts of one side in a market", gt=0)
    value: Decimal = setting(
        Decimal(500), "maximum value of a market's position at the order's price, USD", gt=0
    )
    share: Decimal = setting(
        Decimal("0.25"),
        "maximum value of a market's position, a fraction of the portfolio",
        gt=0,
        le=1,
    )
    event_loss: Decimal | None = setting(
        None, "maximum loss of an event over its outcomes, USD; null: as `value`", gt=0
    )
    event_share: Decimal | None = setting(
        None, "maximum loss of an event, a fraction of the portfolio; null: as `share`", gt=0, le=1
    )
    account_loss: Decimal | None = setting(
        None, "maximum loss of all markets together, USD; null: no such limit", gt=0
    )
    account_share: Decimal | None = setting(
        None,
        "maximum loss of all markets together, a fraction of the portfolio; null: twice `share`",
        gt=0,
        le=1,
    )

    def validate_order(
        self,
        *,
        count: Decimal,
        price: Decimal,
        held: Decimal,
        cash: Decimal,
        resting_count: Decimal = ZERO,
        other_positions_value: Decimal = ZERO,
        event_loss: Decimal = ZERO,
        other_events_loss: Decimal = ZERO,
    ) -> str | None:
        """Return the reason to refuse an order, as text, or None if all limits allow it.

        The limits apply to the position after the order, held + resting_count + count. The
        portfolio is cash + other_positions_value + held. Contracts are valued at the order's price.
        Example: $1,000 of cash and no position. A purchase of 400 YES at $0.62 costs $248 and is
        allowed; 410 cost $254.20, above 25 %. An order after which the position is flat or on the
        other side is always allowed, because it reduces the position.

        count: contracts of the order, positive. A sale of YES is an order towards NO, and vice
            versa.
        price: USD of the side that the order goes towards; for a sale 1 − its price.
        held: contracts held, positive for the side that the order goes towards, negative for the
            other.
        cash: USD, including the cash that resting orders may use.
        resting_count: contracts of resting orders in the same direction.
        other_positions_value: USD, value of positions in other markets.
        event_loss: maximum loss of the event's other markets if this order loses, USD.
        other_events_loss: maximum loss of markets of other events, USD.
        """
        position, value, portfolio = position_after_order(
            scale_amount(price, PRICE_UNITS_PER_DOLLAR),
            scale_amount(count),
            scale_amount(held),
            scale_amount(resting_count),
            scale_amount(cash + other_positions_value, MICROS_PER_DOLLAR),
        )
        loss = value + scale_amount(event_loss, MICROS_PER_DOLLAR)
        account_loss = loss + scale_amount(other_events_loss, MICROS_PER_DOLLAR)
        broken = find_violated_limit(
            self.scaled_limits, position, value, portfolio, loss, account_loss
        )
        if broken == NO_LIMIT:
            return None
        if broken == CONTRACTS:
            return (
                f"position would be {held + resting_count + count} contracts with resting orders;"
                f" limits.contracts is {self.contracts}"
            )
        most = {
            VALUE: f"limits.value ${self.value}",
            SHARE: f"limits.share {_format_share_limit(self.share, portfolio)}",
            EVENT_LOSS: f"limits.event_loss ${self.max_event_loss}",
            EVENT_SHARE: (
                f"limits.event_share {_format_share_limit(self.max_event_share, portfolio)}"
            ),
            ACCOUNT_LOSS: f"limits.account_loss ${self.account_loss}",
        }.get(
            broken, f"limits.account_share {_format_share_limit(self.max_account_share, portfolio)}"
        )
        if broken in (VALUE, SHARE):
            return f"position would be ${micros_to_usd(value)}, above {most}"
        if broken in (EVENT_LOSS, EVENT_SHARE):
            return f"maximum loss of the event would be ${micros_to_usd(loss)}, above {most}"
        return f"maximum loss of all markets would be ${micros_to_usd(account_loss)}, above {most}"

    @property
    def max_event_loss(self) -> Decimal:
        """Return the limit on the loss of one event, USD: `event_loss`, by default `value`."""
        return self.value if self.event_loss is None else self.event_loss

    @property
    def max_event_share(self) -> Decimal:
        """Return the limit on one event's loss, as a share of the portfolio; by default `share`."""
        return self.share if self.event_share is None else self.event_share

    @property
    def max_account_loss(self) -> Decimal:
        """Return the limit on the loss of all markets, USD; by default above any equity."""
        return (
            Decimal(MAX_RECORD_AMOUNT) / MICROS_PER_DOLLAR
            if self.account_loss is None
            else self.account_loss
        )

    @property
    def max_account_share(self) -> Decimal:
        """Return the limit on the loss of all markets, as a share of the portfolio.

        The default is twice `share`, at most 1.
        """
        return min(2 * self.share, Decimal(1)) if self.account_share is None else self.account_share

    @property
    def scaled_limits(self) -> ScaledPositionLimits:
        return build_scaled_limits(
            contracts=scale_amount(self.contracts),
            value=scale_amount(self.value, MICROS_PER_DOLLAR),
            share=scale_amount(self.share, MICROS_PER_DOLLAR),
            event_loss=scale_amount(self.max_event_loss, MICROS_PER_DOLLAR),
            event_share=scale_amount(self.max_event_share, MICROS_PER_DOLLAR),
            account_loss=scale_amount(self.max_account_loss, MICROS_PER_DOLLAR),
            account_share=scale_amount(self.max_account_share, MICROS_PER_DOLLAR),
        )


def _format_share_limit(share: Decimal, portfolio: Number) -> str:
    return f"{(100 * share).normalize():f}% of a portfolio of ${micros_to_usd(portfolio)}"


# Limits that never bind, for venues without position limits.
NO_POSITION_LIMITS = PositionLimits(Decimal(10**9), Decimal(10**9), Decimal(1))


def reserved_cash(resting_orders: Iterable[RestingOrder], fees: FeeRules) -> Decimal:
    """Return the maximum cost of the purchases among resting orders, USD."""
    buys = [each for each in resting_orders if each.order.action == "BUY"]
    return sum(
        (fees.max_purchase_cost(each.order.price, each.remaining_count) for each in buys), ZERO
    )


@dataclass(frozen=True, slots=True)
class PreTradeCheck:
    """Pre-trade check of an order against cash, contracts held and position limits.

    position_limits: limits on the position in a market.
    cash_buffer: USD that no purchase may use, at least 0.
    fees: fee rates and rounding steps in force.
    """

    position_limits: PositionLimits = field(default_factory=PositionLimits)
    cash_buffer: Decimal = DEFAULT_CASH_BUFFER_USD
    fees: FeeRules = field(default_factory=FeeRules)

    def refusal_reason(
        self,
        action: ContractAction,
        side: Outcome,
        price: Decimal,
        count: Decimal,
        view: MarketView,
        *,
        rests: bool = True,
    ) -> str | None:
        """Return the reason to refuse an order, as text, or None if it may be sent.

        The cost of a purchase must not exceed the cash less the buffer and the maximum cost of
        resting purchases. The position must stay within the limits even if every resting order in
        its direction fills. A sale needs contracts that no resting sale has reserved. While a sale
        rests, all orders that reduce its position together must not exceed the position: otherwise
        the venue would reverse the position.

        rests: true if the order may rest. An immediate sale needs no check against resting
            purchases, because the venue caps it at the position.
        """
        against = opposite_side(side)
        held, opposite = view.held_count(side), view.held_count(against)
        if action == "SELL":
            sales, purchases = view.resting_count("SELL", side), view.resting_count("BUY", against)
            taken = scale_amount(sales), scale_amount(purchases)
            if count <= max_sale_count(scale_amount(held), *taken, immediate=not rests):
                return None
            also = f"; {purchases} {against} in resting purchases" if rests and purchases else ""
            return (
                f"cannot sell {count} {side}: {held} {side} contracts held, {sales} of them in"
                f" resting sales{also}"
            )
        sales, purchases = view.resting_count("SELL", against), view.resting_count("BUY", side)
        if count > max_purchase_count(*map(scale_amount, (opposite, sales, purchases))):
            return (
                f"cannot buy {count} {side}, which would close {against}: of {opposite} {against}"
                f" held, resting sales of {sales} {against} and purchases of {purchases} {side}"
                f" leave {opposite - sales - purchases}"
            )
        cost = self.fees.max_purchase_cost(price, count)
        free = self.free_cash(view)
        if free - cost < self.cash_buffer:
            return (
                f"buying {count} {side} may cost ${cost}; free cash is ${free}, of which"
                f" cash_buffer ${self.cash_buffer} must remain"
            )
        return self.position_limits.validate_order(
            count=count,
            price=price,
            held=held - opposite,
            cash=view.cash,
            resting_count=view.resting_count_towards(side),
            other_positions_value=view.other_positions_value,
            event_loss=micros_to_usd(
                view.exposure.event_loss_if_no if side == "YES" else view.exposure.event_loss_if_yes
            ),
            other_events_loss=micros_to_usd(view.exposure.other_events_loss),
        )

    def free_cash(self, view: MarketView) -> Decimal:
        """Return the cash that is not reserved for resting purchases, USD."""
        return view.cash - reserved_cash(view.resting_orders, self.fees)


@dataclass(frozen=True, slots=True)
class ActionResult:
    """Result of executing one action.

    action: action code.
    order: the order sent; None for HOLD and for a refused action.
    receipt: the venue's response; None without an order.
    reason: reason of the order, or of its refusal, as text.
    """

    action: int
    order: EventContractOrder | None
    receipt: OrderReceipt | None
    reason: str

    @property
    def size(self) -> int:
        """Return the contracts sent, filled or not; 0 without an order."""
        return int(self.order.count) if self.order else 0


@settings_class()
class OrderSettings:
    """Settings that turn actions into limit orders: prices, sizes, limits and order life."""

    price_style: PriceStyle | Mapping[str, PriceStyle] = setting(
        "aggressive",
        "limit price: `passive` at the best price of its own side, `mid` half-way, "
        "`aggressive` at the other side's; aggressive sales are immediate-or-cancel, other "
        "orders rest; one style for all, or one each for BUY_YES, SELL_YES, BUY_NO, SELL_NO",
    )
    position_sizes: tuple[int, ...] = setting(
        POSITION_SIZES, "contracts of each of the five sizes, increasing"
    )
    fixed_size: int | None = setting(
        None, "the only allowed one of position_sizes; null: all are allowed"
    )
    limits: PositionLimits = setting(
        PositionLimits(), "limits on positions, and on losses of events and of the account"
    )
    size_limits: Mapping[int, int] | None = setting(
        None,
        "maximum contracts of one side after a purchase, by order size, resting orders "
        "included: {100: 200}; null: no limits",
    )
    cash_buffer: float = setting(
        float(DEFAULT_CASH_BUFFER_USD), "cash that purchases must leave, USD", ge=0
    )
    life: int = setting(
        DEFAULT_ORDER_TICKS,
        "ticks until a resting order expires; a trained policy requires those of its training",
        ge=1,
        le=MAX_ORDER_TICKS,
    )

    def build_action_space(self, fees: FeeRules) -> LimitOrderActionSpace:
        """Return the action space of these settings.

        fees: fee rules in force.
        """
        given = {each.name: getattr(self, each.name) for each in fields(OrderSettings)}
        return LimitOrderActionSpace(**given, fees=fees)


@settings_class()
class LimitOrderActionSpace(OrderSettings):
    """The 25 actions on a market: prices and limits of their orders, and action masks."""

    fees: FeeRules = setting(FeeRules(), "rates and steps in force")

    def __post_init__(self) -> None:
        sizes = self.position_sizes
        if len(sizes) != len(POSITION_SIZES) or sizes != tuple(sorted({0, *sizes}))[1:]:
            raise InputError(
                f"position_sizes: expected five increasing numbers above 0, got {sizes}; to trade"
                " one size, set fixed_size"
            )
        if self.fixed_size is not None and self.fixed_size not in sizes:
            raise InputError(f"fixed_size: {self.fixed_size} is not one of position_sizes {sizes}")
        for size, most in (self.size_limits or {}).items():
            if size not in sizes:
                raise InputError(f"size_limits: {size} is not one of position_sizes {sizes}")
            if most < 0:
                raise InputError(f"size_limits: {size}: limit must be 0 or more, got {most}")
        if set(self.price_style_by_intent) != set(INTENTS[1:]):
            raise InputError(
                f"price_style: expected one style, or one each for {', '.join(INTENTS[1:])}; got"
                f" {self.price_style!r}"
            )

    @cached_property
    def price_style_by_intent(self) -> Mapping[str, PriceStyle]:
        return expand_price_styles(self.price_style)

    @cached_property
    def pre_trade_check(self) -> PreTradeCheck:
        return PreTradeCheck(self.limits, Decimal(str(self.cash_buffer)), self.fees)

    def build_scaled_order_rules(self, tick: Decimal) -> ScaledOrderRules:
        """Return the order rules for compiled code.

        tick: price step, USD.
        """
        fees, limits, sizes = self.fees, self.limits, self.position_sizes
        if sizes[-1] > MAX_ORDER_CONTRACTS:
            raise InputError(
                f"position_sizes: {sizes[-1]} exceeds the maximum of {MAX_ORDER_CONTRACTS:,}"
                " contracts, beyond which fees overflow 64-bit integers"
            )
        return ScaledOrderRules(
            ScaledFeeRules(
                *(
                    _scale_to_integer(f"fees.{name}", getattr(fees, name), MICROS_PER_DOLLAR)
                    for name in ScaledFeeRules._fields
                )
            ),
            build_scaled_limits(
                contracts=_scale_to_integer("limits.contracts", limits.contracts, 1),
                value=_scale_to_integer("limits.value", limits.value, MICROS_PER_DOLLAR),
                share=_scale_to_integer("limits.share", limits.share, MICROS_PER_DOLLAR),
                event_loss=_scale_to_integer(
                    "limits.event_loss", limits.max_event_loss, MICROS_PER_DOLLAR
                ),
                event_share=_scale_to_integer(
                    "limits.event_share", limits.max_event_share, MICROS_PER_DOLLAR
                ),
                account_loss=_scale_to_integer(
                    "limits.account_loss", limits.max_account_loss, MICROS_PER_DOLLAR
                ),
                account_share=_scale_to_integer(
                    "limits.account_share", limits.max_account_share, MICROS_PER_DOLLAR
                ),
            ),
            _scale_to_integer("cash_buffer", self.pre_trade_check.cash_buffer, MICROS_PER_DOLLAR),
            self.life,
            _scale_to_integer("tick", tick, PRICE_UNITS_PER_DOLLAR),
            sizes,
            tuple(self._size_limit(size) for size in sizes),
            (0, *(PRICE_STYLE_CODES[self.price_style_by_intent[name]] for name in INTENTS[1:])),
        )

    def _size_limit(self, size: int) -> int:
        """Return the maximum position after a purchase of this size, contracts.

        The result is -1 if `fixed_size` masks this size.
        """
        if self.fixed_size not in (None, size):
            return -1
        return min((self.size_limits or {}).get(size, MAX_RECORD_AMOUNT), MAX_RECORD_AMOUNT)

    def get_gym_space(self) -> Discrete:
        """Return the space as Gymnasium's `Discrete(25)`."""
        from gymnasium.spaces import Discrete

        return Discrete(ACTION_COUNT)

    def process_action(self, action: int) -> tuple[str, int]:
        return process_action(action, self.position_sizes)

    def order_price(self, intent: int, quote: ContractQuote) -> Decimal | None:
        """Return the limit price of an intent's order, USD; None if the quote lacks that side.

        intent: code 1 … 4.

        Style passive: a purchase at the side's bid, a sale at its ask. Style aggressive: a purchase
        at the ask, a sale at the bid. Style mid: the mid quote, rounded to a tick in the order's
        favour.
        """
        verb, side = INTENT_SIDES[intent - 1]
        bid, ask, tick = (
            scale_amount(each, PRICE_UNITS_PER_DOLLAR)
            for each in (quote.bid(side), quote.ask(side), quote.price_step)
        )
        price = limit_price(bid, ask, tick, verb == "BUY", self._style_code(intent))
        return micros_to_usd(price * MICROS_PER_PRICE_UNIT) if price else None

    def time_in_force(self, intent: int) -> ContractTimeInForce:
        """Return the time in force of an intent's orders, by its price style.

        An aggressive sale is immediate-or-cancel, so that the venue caps it at the position. Any
        other order rests.

        intent: code 1 … 4.
        """
        is_buy = INTENT_SIDES[intent - 1][0] == "BUY"
        immediate = is_immediate_order(is_buy, self._style_code(intent))
        return "immediate_or_cancel" if immediate else "good_till_canceled"

    def _style_code(self, intent: int) -> int:
        return PRICE_STYLE_CODES[self.price_style_by_intent[INTENTS[intent]]]

    def refusal_reason(self, action: int, view: MarketView) -> str | None:
        """Return the reason to refuse an action, as text; None if it is allowed.

        HOLD is always allowed.
        """
        found = self._order_or_refusal(action, view, "asked")
        return found if isinstance(found, str) else None

    def action_masks(self, view: MarketView) -> Mask:
        """Return the mask of permitted actions, bool [25]: HOLD always, reserved codes never."""
        return np.array([self.refusal_reason(k, view) is None for k in range(ACTION_COUNT)])

    def build_order(
        self, action: int, view: MarketView, client_order_id: str
    ) -> EventContractOrder | None:
        found = self._order_or_refusal(action, view, client_order_id)
        return found if isinstance(found, EventContractOrder) else None

    def _order_or_refusal(
        self, action: int, view: MarketView, name: str
    ) -> EventContractOrder | str | None:
        """Return the order of an action, or the reason to refuse it as text; None for HOLD.

        name: client_order_id of the order.
        """
        intent, size_index = decode_action(action)
        if not intent:
            return f"action code {action} is reserved" if action else None
        count = self.position_sizes[size_index]
        if self.fixed_size is not None and count != self.fixed_size:
            return f"size {count} is masked: fixed_size is {self.fixed_size}"
        price = self.order_price(intent, view.quote)
        if price is None:
            quote = view.quote
            return (
                f"{INTENTS[intent]} has no valid limit price: YES bid {quote.yes_bid},"
                f" ask {quote.yes_ask}"
            )
        verb, side = INTENT_SIDES[intent - 1]
        immediacy = self.time_in_force(intent)
        order = EventContractOrder(
            name, view.market, verb, side, price, Decimal(count), time_in_force=immediacy
        )
        why = self.pre_trade_check.refusal_reason(
            verb, side, price, Decimal(count), view, rests=order.can_rest
        )
        if verb == "BUY":
            why = self._size_refusal(side, count, view) or why
        return why or order

    def _size_refusal(self, side: Outcome, count: int, view: MarketView) -> str | None:
        """Return the reason why `size_limits` forbids a purchase of `count` contracts, or None."""
        most = (self.size_limits or {}).get(count)
        after = (
            view.held_count(side)
            - view.held_count(opposite_side(side))
            + view.resting_count_towards(side)
            + count
        )
        if most is None or after <= most:
            return None
        return (
            f"position would be {after} contracts with resting orders; size_limits allows {most}"
            f" by orders of {count}"
        )

    def execute_action_sync(
        self, action: int, manager: OrderManager, market: str, client_order_id: str
    ) -> ActionResult:
        """Send the order of an action, and return the result; HOLD and refused actions send none.

        Raises `ValueError` for a code outside 0 … 24, `OrderRejected` if the venue rejects the
        order, and `OutcomeUnknown` if its outcome is unknown.
        """
        view = manager.view(market)
        order = self.build_order(action, view, client_order_id)
        if order is None:
            return ActionResult(action, None, None, self.refusal_reason(action, view) or INTENTS[0])
        receipt = manager.submit(order)
        intent, count = self.process_action(action)
        reason = f"{intent} {count} at ${order.price}, {self.price_style_by_intent[intent]}"
        return ActionResult(action, order, receipt, reason)

    async def execute_action(
        self, action: int, manager: OrderManager, market: str, client_order_id: str
    ) -> ActionResult:
        """Run `execute_action_sync` in a separate thread, so that the event loop does not wait."""
        terms = action, manager, market, client_order_id
        return await asyncio.to_thread(self.execute_action_sync, *terms)


def _scale_to_integer(key: str, amount: Decimal, unit: int) -> int:
    """Convert an amount to a whole number of 1/`unit`, within 64 bits, for compiled code.

    Raises InputError if it does not fit.

    key: setting that contains the amount, for the message.
    """
    number = scale_amount(amount, unit)
    if not isinstance(number, int) or number > MAX_RECORD_AMOUNT:
        raise InputError(
            f"{key}: {amount} must be a multiple of 1/{unit} up to {MAX_RECORD_AMOUNT / unit:,.0f}"
        )
    return number
