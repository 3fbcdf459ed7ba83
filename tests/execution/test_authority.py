"""Laws of what a command, the watch and protection may do, over any state of the open orders."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from execution.decision.authority import (
    OrderPhase,
    ReductionState,
    TrackedOrder,
    is_exempt_from_halts,
    plan_reduction,
    uncovered_quantities,
)
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.orders import DEFAULT_SIZE_LIMITS, Order, make_order_id

NOON = np.datetime64("2024-02-20T17:00", "ns")
PHASES: tuple[OrderPhase, ...] = ("planned", "unknown", "working", "cancelling")


@st.composite
def tracked(draw: st.DrawFn, number: int) -> TrackedOrder:
    """A sale of a command, a stop, or an opening order, in SYA."""
    kind = draw(st.sampled_from(("command", "stop", "opening")))
    name = make_order_id("k", NOON, "SYA", number)
    quantity = Decimal(draw(st.integers(1, 400)))
    order = Order(name, "SYA", "sell", quantity, "", reduces=True)
    if kind == "opening":
        order = replace(order, side="buy", reduces=False)
    if kind == "stop":
        order = replace(order, type="stop", tif="gtc", stop_price=90.0)
    return TrackedOrder(order, draw(st.sampled_from(PHASES)), is_command_order=kind == "command")


@st.composite
def states(draw: st.DrawFn) -> ReductionState:
    held = Decimal(draw(st.integers(1, 400)))
    orders = [draw(tracked(number)) for number in range(draw(st.integers(0, 4)))]
    at = draw(st.sampled_from((NOON, NOON + np.timedelta64(5, "h"), NOON + np.timedelta64(8, "h"))))
    account = AccountSnapshot(
        1e5,
        {"SYA": held},
        {"SYA": 100.0},
        at,
        uncertain_symbols=frozenset(draw(st.sampled_from(((), ("SYA",))))),
    )
    quarantined = draw(st.sampled_from(((), ("SYA",))))
    return ReductionState(
        account,
        {} if quarantined else {"SYA": held},
        {"SYA": Decimal(draw(st.integers(0, 400)))},
        orders,
        DEFAULT_SIZE_LIMITS,
        quarantined,
        draw(st.sampled_from(({}, {"SYA": "halted"}))),
        {"SYA": ["refused"] * draw(st.integers(0, 4))},
        takes_auctions=draw(st.booleans()),
    )


@given(states())
def test_orders_of_commands_never_exceed_the_excess(state: ReductionState) -> None:
    plan = plan_reduction(state)
    excess = max(state.account.positions["SYA"] - state.targets["SYA"], Decimal(0))
    resent = {order.client_order_id for order in plan.resends}
    resting = sum(
        each.order.qty
        for each in state.orders
        if each.is_command_order
        and (each.phase != "planned" or each.order.client_order_id in resent)
    )
    new = sum(abs(terms.quantity) for terms in plan.sales.values())
    assert not new or resting + new <= excess
    assert not resent or resting <= excess


@given(states())
def test_stops_are_cancelled_only_for_possible_sales(state: ReductionState) -> None:
    plan = plan_reduction(state)
    cancelled = [order for order in plan.cancels if order.reduces]
    if state.quarantined or state.forbidden or state.account.uncertain_symbols:
        assert not cancelled
        assert not plan.sales
    if cancelled:
        assert "SYA" in plan.waiting


@given(states())
def test_command_is_done_only_without_open_orders(state: ReductionState) -> None:
    plan = plan_reduction(state)
    if not (plan.waiting or plan.not_reduced or plan.has_steps):
        sent = [each for each in state.orders if each.phase != "planned"]
        assert all(each.order.reduces and not each.is_command_order for each in sent)
        closable = state.closable.get("SYA", Decimal(0))
        assert abs(closable) <= abs(state.targets["SYA"]) or closable * state.targets["SYA"] < 0


@given(states())
def test_plan_neither_cancels_twice_nor_sells_early(state: ReductionState) -> None:
    plan = plan_reduction(state)
    phases = {each.order.client_order_id: each.phase for each in state.orders}
    assert all(phases[o.client_order_id] in ("unknown", "working") for o in plan.cancels)
    if plan.sales:
        assert all(each.is_command_order or each.phase == "planned" for each in state.orders)


@given(st.integers(1, 400), st.integers(0, 400), st.booleans())
def test_pending_cancellation_covers_nothing(held: int, stopped: int, pending: bool) -> None:
    stop = Order("k-1-SYA-stop-0", "SYA", "sell", Decimal(stopped or 1), "", reduces=True,
                 type="stop", tif="gtc", stop_price=90.0)  # fmt: skip
    account = AccountSnapshot(
        1e5,
        {"SYA": Decimal(held)},
        {"SYA": 100.0},
        NOON,
        (stop,) if stopped else (),
        frozenset([stop.client_order_id] if pending else ()),
    )
    bare = uncovered_quantities(account, {"SYA"}, 0.1)
    covered = 0 if pending else stopped
    assert bool(bare) == (held - covered > Decimal("0.1") * held)


def test_kill_file_stops_what_halts_do_not() -> None:
    for role in ("command", "protection", "watch", "reduction", "opening", "night"):
        assert is_exempt_from_halts(role, has_kill_file=False) == (
            role in ("command", "protection")
        )
        assert not is_exempt_from_halts(role, has_kill_file=True)
