"""The exact account of event contracts, in Decimal: the second book of what the kernel books.

A position never holds both sides: 10 YES held and 4 NO bought at 0.45 leave 6 YES, the cash pays
1.80 and the fee, and 4 pairs pay 4.00 at once. From flat no sale is booked: it would be a purchase
of the other side that nobody paid for. Settlement pays $1 for a contract of the outcome, no fee.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, NamedTuple

from event_contracts.trading.fees import ZERO, FeeRules
from event_contracts.trading.orders import CONTRACT_PAYOUT_USD, ContractFill, Outcome


class Charge(NamedTuple):
    """What a fill does to the cash, USD: by how much it moves, what of it is fee and rounding less
    what came back, and the order's rounding that has not come back after this fill.
    """

    cash: Decimal
    net_fee: Decimal
    carried: Decimal


def charge(fill: ContractFill, rules: FeeRules, carried: Decimal = ZERO) -> Charge:
    """After an order's fills that left so much rounding carried, by the arithmetic at the head of
    `event_contracts.trading.fees`.
    """
    amount = fill.price * fill.count
    revenue = amount if fill.action == "SELL" else -amount
    rate = rules.maker if fill.is_maker else rules.taker
    exact = rate * fill.count * fill.price * (CONTRACT_PAYOUT_USD - fill.price)
    fee = _rounded(exact, rules.fee_step, ROUND_CEILING)
    change = _rounded(revenue - fee, rules.balance_step, ROUND_FLOOR)
    carried += revenue - fee - change
    rebate = _rounded(carried, rules.balance_step, ROUND_FLOOR)
    return Charge(change + rebate, revenue - change - rebate, carried - rebate)


def _rounded(amount: Decimal, step: Decimal, direction: str) -> Decimal:
    return (amount / step).to_integral_value(direction) * step


@dataclass(frozen=True, slots=True)
class Account:
    """Cash, USD; contracts by market, YES above 0 and NO below, none of them 0; and by order the
    rounding of its fills that has not come back.
    """

    cash: Decimal
    positions: Mapping[str, Decimal] = field(default_factory=dict)
    carried: Mapping[str, Decimal] = field(default_factory=dict)

    def position(self, market: str) -> Decimal:
        return self.positions.get(market, ZERO)

    def held(self, market: str, side: Outcome) -> Decimal:
        return self.position(market) if side == "YES" else -self.position(market)

    def booked(self, fill: ContractFill, rules: FeeRules) -> tuple[Account, Charge]:
        """The account after a fill, and what the fill cost; a pair is paid out at once."""
        held = self.held(fill.market, fill.side)
        pairs = ZERO
        if fill.action == "SELL":
            assert fill.count <= held, f"{fill} sells more than {held}"
            held -= fill.count
        else:
            pairs = min(fill.count, max(-held, ZERO))
            held += fill.count
        cost = charge(fill, rules, self.carried.get(fill.order_id, ZERO))
        account = replace(
            self._with(fill.market, held if fill.side == "YES" else -held),
            cash=self.cash + cost.cash + pairs * CONTRACT_PAYOUT_USD,
            carried={**self.carried, fill.order_id: cost.carried},
        )
        return account, cost

    def settled(self, market: str, outcome: Outcome) -> Account:
        """The account after a market settled: $1 for a contract of the outcome, no fee."""
        payout = max(self.held(market, outcome), ZERO) * CONTRACT_PAYOUT_USD
        return replace(self._with(market, ZERO), cash=self.cash + payout)

    def with_flow(self, amount: Decimal) -> Account:
        return replace(self, cash=self.cash + amount)

    def _with(self, market: str, position: Decimal) -> Account:
        positions = {**self.positions, market: position}
        return replace(self, positions={name: held for name, held in positions.items() if held})


def as_fill(entry: dict[str, Any], market: str = "RAIN") -> ContractFill:
    """A fill as the environment tells of it."""
    price, count = Decimal(repr(entry["price"])), Decimal(entry["count"])
    order_id = f"{market}-{entry['order_id']}"
    fee = Decimal(repr(entry["fee"]))
    return ContractFill(
        order_id, market, entry["action"], entry["side"], price, count, entry["maker"], fee
    )
