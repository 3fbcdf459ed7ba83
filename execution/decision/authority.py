"""Plans for reducing positions: what a command, the watch and protective orders may do.

A plan depends on one reading of the account. A cancellation is a request: until the venue reports
the order's end, the order may fill and reserves its quantity. `docs/ORDER.md` has the table of
order phases. This module sends and reads nothing: the live loop and the simulator execute the
plans.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, NamedTuple

from execution.decision.reduction import (
    Obstacle,
    ReductionTerms,
    excess_quantities,
    reduction_terms,
)
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.gate import OrderRole
from execution.orders.orders import Order, OrderSizeLimits

# planned: recorded, not sent. unknown: sent, outcome unknown. working: open at the venue.
# cancelling: the venue has accepted its cancellation. An order that has ended has no phase.
OrderPhase = Literal["planned", "unknown", "working", "cancelling"]
_ZERO = Decimal(0)


def is_exempt_from_halts(role: OrderRole, *, has_kill_file: bool) -> bool:
    """Return whether an order may be sent under a halt of every order.

    Protective orders and orders of a person's command only reduce positions on which journal and
    venue agree. Orders of the watch are not exempt, because the watch relies on the figures that
    the halt questions. The kill file stops every order.
    """
    return role in ("protection", "command") and not has_kill_file


@dataclass(frozen=True, slots=True)
class TrackedOrder:
    """One of our orders that has not ended.

    order: the order, with its unfilled quantity.
    phase: phase of the order.
    is_command_order: whether a command or the watch has planned or sent the order.
    """

    order: Order
    phase: OrderPhase
    is_command_order: bool = False

    @property
    def may_be_cancelled(self) -> bool:
        return self.phase in ("unknown", "working")

    def __str__(self) -> str:
        name = self.order.client_order_id
        if self.phase == "unknown":
            return f"the outcome of {name} is unknown"
        return f"{name} is not filled" if self.is_command_order else f"{name} is being cancelled"


@dataclass(frozen=True, slots=True)
class ReductionState:
    """Inputs of `plan_reduction`.

    account: account snapshot.
    closable: signed part of each position on which journal and venue agree, by symbol.
    targets: signed quantity to which each position is reduced, by symbol.
    orders: our orders in the symbols of the command.
    size_limits: smallest and largest value of an order.
    quarantined: symbols in which journal and venue differ.
    forbidden: reason by symbol for which the pre-trade gate refuses a sale now.
    refusals: why an order was refused at this attempt, by symbol; the next attempt sends another.
    takes_auctions: whether stocks are sold in the next opening auction while the exchange is
        closed.
    """

    account: AccountSnapshot
    closable: Mapping[str, Decimal]
    targets: Mapping[str, Decimal]
    orders: Sequence[TrackedOrder]
    size_limits: OrderSizeLimits
    quarantined: Collection[str] = ()
    forbidden: Mapping[str, str] = field(default_factory=dict)
    refusals: Mapping[str, str] = field(default_factory=dict)
    takes_auctions: bool = True


class ReductionPlan(NamedTuple):
    """Next steps of a command or of the watch.

    cancels: orders to cancel.
    resends: recorded orders to send under their present ids.
    denials: recorded orders to deny.
    sales: terms of the new orders, by symbol.
    waiting: reason by symbol for which a reduction waits; a later plan continues it.
    not_reduced: reason by symbol for which a position is not reduced.
    """

    cancels: list[Order]
    resends: list[Order]
    denials: list[Order]
    sales: dict[str, ReductionTerms]
    waiting: dict[str, str]
    not_reduced: dict[str, str]

    @property
    def has_steps(self) -> bool:
        return any((self.cancels, self.resends, self.denials, self.sales))


def plan_reduction(state: ReductionState) -> ReductionPlan:
    """Plan the next steps that reduce positions to their targets.

    Opening orders are always cancelled. Stops and other reductions are cancelled only if a sale can
    follow. The sale waits until they have ended. The unfilled quantity of command orders counts as
    sold, so that a repeated command sells nothing twice.
    """
    plan = ReductionPlan([], [], [], {}, {}, {})
    excess = excess_quantities(state.closable, state.targets)
    for symbol in sorted({*excess, *(each.order.symbol for each in state.orders)}):
        _plan_symbol(state, symbol, excess.get(symbol, _ZERO), plan)
    for symbol in sorted({*state.targets} & {*state.quarantined}):
        if state.account.positions.get(symbol):
            plan.not_reduced[symbol] = "quarantined until its discrepancy is resolved"
    return plan


def _plan_symbol(state: ReductionState, symbol: str, excess: Decimal, plan: ReductionPlan) -> None:
    """Add the steps in one symbol to a plan.

    excess: part of the position above its target, signed like the position.
    """
    tracked = [each for each in state.orders if each.order.symbol == symbol]
    planned = [each.order for each in tracked if each.is_command_order and each.phase == "planned"]
    own = [each for each in tracked if each.is_command_order and each.phase != "planned"]
    others = [each for each in tracked if not each.is_command_order and each.phase != "planned"]
    if own:
        plan.waiting[symbol] = str(own[0])
    openings = [each for each in others if not each.order.reduces]
    if openings:
        plan.cancels.extend(each.order for each in openings if each.may_be_cancelled)
        plan.waiting[symbol] = str(openings[0])
    rest = abs(excess) - sum((each.order.qty for each in own), _ZERO)
    if rest >= 0:
        plan.resends.extend(each.order for each in own if each.phase == "unknown")
    if rest <= 0:
        plan.denials.extend(planned)
        return
    terms = reduction_terms(
        state.account,
        symbol,
        rest.copy_sign(excess),
        state.size_limits,
        takes_auctions=state.takes_auctions,
    )
    if why := state.refusals.get(symbol) or state.forbidden.get(symbol):
        plan.waiting[symbol] = why
    elif isinstance(terms, Obstacle):
        (plan.not_reduced if terms.is_final else plan.waiting)[symbol] = terms.reason
    elif others:
        plan.cancels.extend(e.order for e in others if e.order.reduces and e.may_be_cancelled)
        plan.waiting[symbol] = str(others[0])
    elif planned and sum((order.qty for order in planned), _ZERO) <= rest:
        plan.resends.extend(planned)
    else:
        plan.denials.extend(planned)
        plan.sales[symbol] = terms


def uncovered_quantities(
    account: AccountSnapshot, symbols: Collection[str], band: float
) -> dict[str, Decimal]:
    """Return the quantity of each position that neither a stop nor a sale covers, by symbol.

    An order whose cancellation is pending covers nothing. Positions whose uncovered fraction is at
    most `band` are left out.

    symbols: symbols whose positions should be protected.
    """
    covered: dict[str, Decimal] = {}
    for order in account.open_orders:
        held = account.positions.get(order.symbol, _ZERO)
        if order.signed_qty * held < 0 and order.client_order_id not in account.cancelling_orders:
            covered[order.symbol] = covered.get(order.symbol, _ZERO) + order.qty
    uncovered = {
        symbol: abs(held) - covered.get(symbol, _ZERO)
        for symbol, held in account.positions.items()
        if symbol in symbols
    }
    tolerance = Decimal(repr(band))
    return {
        symbol: quantity
        for symbol, quantity in sorted(uncovered.items())
        if quantity > tolerance * abs(account.positions[symbol])
    }
