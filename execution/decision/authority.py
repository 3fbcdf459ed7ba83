"""What a command, the watch and protective orders may do, from one reading of the account.

A cancellation is a request: an order may fill, and holds its quantity, until the venue reports its
end. `docs/ORDER.md` has the table of its phases. Nothing here is sent or read: the live loop and
the simulator carry the plans out.
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

# planned: recorded, not sent. unknown: sent, outcome unknown. working: the venue has it.
# cancelling: the venue has taken its cancellation. An order that has ended has no phase.
OrderPhase = Literal["planned", "unknown", "working", "cancelling"]
MAX_REFUSED_ORDERS = 3  # refused orders in a symbol, after which a command leaves its position
_ZERO = Decimal(0)


def is_exempt_from_halts(role: OrderRole, *, has_kill_file: bool) -> bool:
    """Return whether an order is sent although a halt forbids every order.

    Protective orders and the orders of a person's command only reduce what journal and venue agree
    on. The orders of the watch are not exempt: it acts on figures that the halt contests. The kill
    file stops every order.
    """
    return role in ("protection", "command") and not has_kill_file


@dataclass(frozen=True, slots=True)
class TrackedOrder:
    """One of our orders that has not ended, with the part that has not filled.

    is_of_command: whether a command or the watch has sent it.
    """

    order: Order
    phase: OrderPhase
    is_of_command: bool = False

    @property
    def may_be_cancelled(self) -> bool:
        return self.phase in ("unknown", "working")

    def __str__(self) -> str:
        name = self.order.client_order_id
        if self.phase == "unknown":
            return f"the outcome of {name} is unknown"
        return f"{name} is not filled" if self.is_of_command else f"{name} is being cancelled"


@dataclass(frozen=True, slots=True)
class ReductionState:
    """Inputs of `plan_reduction`.

    account: account snapshot.
    closable: signed part of each position on which journal and venue agree, by symbol.
    targets: signed quantity to which each position is reduced, by symbol.
    orders: our orders in the symbols of the command.
    size_limits: smallest and largest value of an order.
    quarantined: symbols in which journal and venue differ.
    forbidden: why the pre-trade gate refuses a sale now, by symbol.
    refusals: reasons of the orders that were refused, by symbol, oldest first.
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
    refusals: Mapping[str, Sequence[str]] = field(default_factory=dict)
    takes_auctions: bool = True


class ReductionPlan(NamedTuple):
    """Next steps of a command or of the watch.

    cancels: orders whose cancellation is requested.
    resends: recorded orders to send under their ids.
    denials: recorded orders that are not sent.
    sales: terms of the new orders, by symbol.
    waiting: why a symbol is tried again, by symbol.
    left: why a position stays as it is, by symbol.
    """

    cancels: list[Order]
    resends: list[Order]
    denials: list[Order]
    sales: dict[str, ReductionTerms]
    waiting: dict[str, str]
    left: dict[str, str]

    @property
    def has_steps(self) -> bool:
        return any((self.cancels, self.resends, self.denials, self.sales))


def plan_reduction(state: ReductionState) -> ReductionPlan:
    """Return what a command or the watch does next, so that no position stays above its target.

    Opening orders are cancelled in any case. Stops and other reductions are cancelled only where a
    sale can follow, and the sale waits for their ends. What rests in orders of commands counts as
    sold, so that a repeated command sells nothing twice.
    """
    plan = ReductionPlan([], [], [], {}, {}, {})
    excess = excess_quantities(state.closable, state.targets)
    for symbol in sorted({*excess, *(each.order.symbol for each in state.orders)}):
        _plan_symbol(state, symbol, excess.get(symbol, _ZERO), plan)
    for symbol in sorted({*state.targets} & {*state.quarantined}):
        if state.account.positions.get(symbol):
            plan.left[symbol] = "quarantined until its discrepancy is resolved"
    return plan


def _plan_symbol(state: ReductionState, symbol: str, excess: Decimal, plan: ReductionPlan) -> None:
    """Add the steps in one symbol to a plan.

    excess: part of the position above its target, signed like the position.
    """
    tracked = [each for each in state.orders if each.order.symbol == symbol]
    planned = [each.order for each in tracked if each.is_of_command and each.phase == "planned"]
    own = [each for each in tracked if each.is_of_command and each.phase != "planned"]
    others = [each for each in tracked if not each.is_of_command and each.phase != "planned"]
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
    if len(refused := state.refusals.get(symbol, ())) >= MAX_REFUSED_ORDERS:
        plan.left[symbol] = refused[-1]
    elif symbol in state.forbidden:
        plan.waiting[symbol] = state.forbidden[symbol]
    elif isinstance(terms, Obstacle):
        (plan.left if terms.is_final else plan.waiting)[symbol] = terms.reason
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
    """Return the part of each position that no stop protects and no sale closes, by symbol.

    An order whose cancellation is pending covers nothing. A part of at most `band` of the position
    counts as covered.

    symbols: symbols whose positions are protected.
    """
    covered: dict[str, Decimal] = {}
    for order in account.open_orders:
        held = account.positions.get(order.symbol, _ZERO)
        if order.signed_qty * held < 0 and order.client_order_id not in account.cancelling_orders:
            covered[order.symbol] = covered.get(order.symbol, _ZERO) + order.qty
    bare = {
        symbol: abs(held) - covered.get(symbol, _ZERO)
        for symbol, held in account.positions.items()
        if symbol in symbols
    }
    least = Decimal(repr(band))
    return {
        symbol: quantity
        for symbol, quantity in sorted(bare.items())
        if quantity > least * abs(account.positions[symbol])
    }
