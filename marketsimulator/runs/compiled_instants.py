"""Compiled steps of a run: advance, decide, fill and record at each instant.

Decisions come from `execution.decision.problem` and `sizing`, settlement from `account`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from execution.decision.beliefs import BeliefTable, relevant_symbols
from execution.decision.problem import (
    RoundedTargets,
    SizingTerms,
    build_problem,
    round_to_lots,
    select_terms,
)
from foundation.arrays import Array, Index, Mask, Records
from foundation.compiled import (
    any_true,
    compiled,
    copy_row,
    jit_inline,
    scatter_values,
    take,
    take_columns,
    without_refcount,
)
from marketsimulator.account.book import (
    BY_DELISTING,
    FLOW_FIELDS,
    WORKING,
    Book,
    max_flow_entries,
    replace_orders,
)
from marketsimulator.account.margin import unborrowed_cash
from marketsimulator.account.rebalancing import (
    ensure_account_log_space,
    immediate_targets,
    max_fill_entries,
    send_auction_orders,
    steps_to_quantity,
    trade_to_targets,
)
from marketsimulator.account.timeline import Timeline, advance, open_bars
from marketsimulator.runs.strategy_calls import RAISED, StrategyCall, call_strategy
from sizing.allocation import solve_plan
from sizing.limits import CEILING_NAMES, granted_leverage
from sizing.problem import NO_GROUP_CONSTRAINTS, AccountArrays, DecisionProblem, GroupConstraints
from sizing.solver.active_set import SOLVED, UNFINISHED

# The account after an instant's fills, in USD, with counts.
EQUITY_ROW = np.dtype(
    [
        (name, "f8")
        for name in (
            *("cash", "equity", "stock", "crypto", *FLOW_FIELDS),
            "notional",  # USD bought and sold
            "trades",  # fills of orders and liquidations at a price
            "failures",  # 1 if the decision failed: by the solver, or without equity
        )
    ],
    align=True,
)


class CompiledInputs(NamedTuple):
    """Inputs of a compiled run: beliefs, and settings as numbers and arrays.

    beliefs: beliefs at T' decision instants over K periods.
    class_sharpe: [T', 2] Sharpe ratios of stocks and of crypto, as used by the strategy.
    financing: [T', K] interest on one borrowed USD in each period.
    sizing_terms: sizing terms of a decision.
    leverage_and_margin_equity: leverage of the broker, and the equity in USD from which it lends
        more than 1×.
    kelly_fraction: fraction of full Kelly; NaN for a strategy in Python.
    max_crypto_value: USD, maximum value of one crypto order.
    min_order_value: [S] minimum value of an order that does not close the position, USD.
    dust: [S] value below which a position cannot be closed, USD.
    increment: [S] smallest step of a quantity, in shares or coins.
    tradable: [S] true if a symbol accepts orders.
    """

    beliefs: BeliefTable
    class_sharpe: Array
    financing: Array
    sizing_terms: SizingTerms
    leverage_and_margin_equity: tuple[float, float]
    kelly_fraction: float
    max_crypto_value: float
    min_order_value: Array
    dust: Array
    increment: Array
    tradable: Mask


class RecordedDecisions(NamedTuple):
    """Account states and solver results of T' decisions; no rows if they are not recorded.

    quantity, price: [T', S] positions and marks before the decision.
    equity: [T'] USD; NaN for decisions that the run did not reach.
    unborrowed_cash: [T'] unborrowed cash that may buy crypto, USD; NaN for decisions that the run
        did not reach.
    solve_status: [T'] status of the solve, a code of `sizing.solver.active_set`.
    weights: [T', K, S] planned weights over K periods.
    shadow_prices: [T', 4 + G + K] shadow prices of 4 ceilings, G group limits and K borrowing
        limits.
    optimality_gap: [T'] optimality gap of the solve.
    """

    quantity: Array
    price: Array
    equity: Array
    unborrowed_cash: Array
    solve_status: Index
    weights: Array
    shadow_prices: Array
    optimality_gap: Array

    @classmethod
    def empty(
        cls,
        table: BeliefTable,
        limits: GroupConstraints = NO_GROUP_CONSTRAINTS,
        *,
        without_rows: bool = False,
    ) -> RecordedDecisions:
        """Allocate arrays for the decisions of a belief table under group limits.

        without_rows: true to allocate no rows.
        """
        rows, periods, size = table.mu.shape
        rows = 0 if without_rows else rows
        return cls(
            np.full((rows, size), np.nan),
            np.full((rows, size), np.nan),
            np.full(rows, np.nan),
            np.full(rows, np.nan),
            np.full(rows, UNFINISHED, dtype=np.int64),
            np.full((rows, periods, size), np.nan),
            np.full(
                (
                    rows,
                    len(CEILING_NAMES)
                    + len(limits.gross_coefficients)
                    + len(limits.net_coefficients)
                    + periods,
                ),
                np.nan,
            ),
            np.zeros(rows),
        )


@compiled
def step_instants(
    book: Book,
    line: Timeline,
    span: tuple[int, int, int],
    belief_rows: Index,
    inputs: CompiledInputs,
    tape: Records,
    account_rows: Records,
    tape_lengths: Index,
    recorded: RecordedDecisions,
    call: StrategyCall,
) -> tuple[Book, Records]:
    """Advance, decide, fill and record at each instant in [begin, end).

    Returns the book, with waiting orders, and the account log. Ends early if the strategy raises an
    error.

    span: first instant of the run, then `begin` and `end`.
    belief_rows: [T] row of the beliefs for each instant; negative without a decision.
    tape_lengths: [T] set to the number of log entries after each instant; empty: the account log is
        not kept.
    """
    first, begin, end = span
    line, inputs, recorded, call = without_refcount((line, inputs, recorded, call))
    for t in range(begin, end):
        book, tape = advance_to(book, line, tape, first, t, tape_lengths)
        targets = np.empty(0)
        decision = belief_rows[t]
        # Decided before the bars open, as in live trading: a liquidation at the open changes
        # positions, not the decision.
        held = book.holding["quantity"].copy()
        if decision >= 0:
            targets, status = target_quantities(book, inputs, decision, recorded, call)
            if status == RAISED:
                return book, tape
            account_rows[t - first].failures = 0.0 if status == SOLVED else 1.0
        book, tape = trade_decision(
            book, line, tape, (first, t), held, targets, inputs.max_crypto_value, tape_lengths
        )
        record_instant(account_rows, book, tape, t - first, tape_lengths)
    return book, tape


@compiled
def advance_to(
    book: Book, line: Timeline, tape: Records, first: int, t: int, tape_lengths: Index
) -> tuple[Book, Records]:
    """Advance the account to an instant.

    Returns the book, without orders if none is working, and the account log, with space for the
    instant.
    """
    account = book.account[0]
    size = len(book.holding)
    actions = line.first_action_rows[t + 1] - line.first_action_rows[t]
    if len(tape_lengths) > 0:
        tape_space = 3 * size + len(book.orders) + actions + max_flow_entries(size, actions)
        tape = ensure_account_log_space(tape, account.tape_length, tape_space)
    else:
        account.tape_length = 0
    if t > first:
        advance(book, line, tape, t)
    for k in range(len(book.orders)):
        if book.orders[k].state == WORKING:
            return book, tape
    return replace_orders(book, book.orders[:0]), tape


@compiled
def trade_decision(
    book: Book,
    line: Timeline,
    tape: Records,
    place: tuple[int, int],
    held: Array,
    targets: Array,
    max_crypto_value: float,
    tape_lengths: Index,
) -> tuple[Book, Records]:
    """Open the bars and trade to the targets, at once or in the next auction.

    Returns the book, with waiting orders, and the account log, which may have been enlarged.

    place: first instant of the run, and the present instant.
    held: [S] quantities at the decision.
    targets: [S] target quantities; empty without a decision.
    """
    account = book.account[0]
    first, t = place
    opens = open_bars(book, line, tape, t)
    if len(targets) > 0:
        fills = max_fill_entries(book.holding, targets, max_crypto_value)
        tape = ensure_account_log_space(tape, account.tape_length, fills)
        day, now = line.day_terms[line.day_rows[t]], line.instants[t]
        at_once = targets
        if line.waits_for_auction:
            at_once = immediate_targets(book.holding, held, targets)
        queue = np.zeros(len(held), np.int64)
        done = trade_to_targets(
            account, book.holding, day, tape, now, held, at_once, opens, max_crypto_value, queue
        )
        if line.waits_for_auction:
            book = send_auction_orders(book, day, tape, now, t, held, targets, done)
    if len(tape_lengths) > 0:
        tape_lengths[t - first] = account.tape_length
    return book, tape


@compiled
def target_quantities(
    book: Book, inputs: CompiledInputs, row: int, recorded: RecordedDecisions, call: StrategyCall
) -> tuple[Array, int]:
    """Decide; return target quantities [S] and the status of the solver or strategy.

    Symbols without a decision keep their quantity.
    """
    shown = visible_account(book, inputs)
    chosen, account, problem = decision_inputs(inputs, row, shown)
    weights = problem.account.held_weight
    status = SOLVED
    if any_true(problem.account.adjustable):
        if not account.equity > 0.0:
            status = UNFINISHED
        elif call.is_called:
            status, weights, gap = call_strategy(call, problem, chosen, row)
            if status == SOLVED and len(recorded.solve_status) > 0:
                scatter_values(recorded.weights[row, 0], chosen, weights)
                recorded.optimality_gap[row] = gap
        else:
            status, plan, prices, gap = solve_plan(problem, inputs.kelly_fraction)
            weights = plan[0]
            if len(recorded.solve_status) > 0:
                for k in range(len(plan)):
                    scatter_values(recorded.weights[row, k], chosen, plan[k])
                copy_row(recorded.shadow_prices[row], prices)
                recorded.optimality_gap[row] = gap
    if len(recorded.solve_status) > 0:
        copy_row(recorded.quantity[row], shown.quantity)
        copy_row(recorded.price[row], shown.price)
        recorded.equity[row] = account.equity
        recorded.unborrowed_cash[row] = account.unborrowed_cash
        recorded.solve_status[row] = status
    rounded = round_to_lots(
        problem, weights, status == SOLVED, account, inputs.beliefs.can_trim_overnight[row]
    )
    return target_quantities_of(rounded, chosen, shown), status


@compiled
def target_quantities_of(rounded: RoundedTargets, chosen: Index, shown: AccountArrays) -> Array:
    """Return target quantities [S]: rounded targets of chosen symbols [m], else the position."""
    targets = shown.quantity.copy()
    for a in range(len(chosen)):
        if not np.isnan(rounded.lots[a]):
            targets[chosen[a]] = steps_to_quantity(rounded.lots[a], shown.increment[chosen[a]])
    return targets


@compiled
def decision_inputs(
    inputs: CompiledInputs, row: int, shown: AccountArrays
) -> tuple[Index, AccountArrays, DecisionProblem]:
    """Return a decision's symbols [m], the account restricted to them, and the sizing problem."""
    beliefs = inputs.beliefs
    held = shown.quantity != 0.0
    if inputs.sizing_terms.group_constraints.market_index >= 0:
        held[inputs.sizing_terms.group_constraints.market_index] = True
    chosen = relevant_symbols(beliefs.sigma[row], beliefs.exclusion_rule[row], held)
    account = AccountArrays(
        take(shown.quantity, chosen),
        take(shown.price, chosen),
        take(shown.increment, chosen),
        take(shown.min_order_value, chosen),
        take(shown.dust, chosen),
        take(shown.tradable, chosen),
        len(chosen),
        shown.equity,
        shown.unborrowed_cash,
        shown.leverage,
        shown.is_shorting_enabled,
        shown.free_equity_share,
    )
    problem = build_problem(
        beliefs,
        row,
        chosen,
        inputs.class_sharpe[row],
        inputs.financing[row],
        account,
        select_terms(inputs.sizing_terms, chosen),
    )
    return chosen, account, problem


@jit_inline
def visible_account(book: Book, inputs: CompiledInputs) -> AccountArrays:
    """Return the account that a strategy sees, as arrays, without open orders.

    Its values equal those of `SimulatedBroker.account`.
    """
    account = book.account[0]
    holding = book.holding
    quantity = holding["quantity"].copy()
    # Summed as in `AccountSnapshot`, so that both divide by the same equity to the last bit.
    value = 0.0
    for s in range(len(quantity)):
        if quantity[s] != 0.0:
            value += quantity[s] * holding[s].mark
    equity = account.cash + value
    return account_arrays(
        inputs, quantity, holding["mark"].copy(), equity, unborrowed_cash(account)
    )


@jit_inline
def account_arrays(
    inputs: CompiledInputs, quantity: Array, price: Array, equity: float, unborrowed: float
) -> AccountArrays:
    """Return an account without open orders as arrays; its equity determines the leverage."""
    leverage, margin_equity = inputs.leverage_and_margin_equity
    return AccountArrays(
        quantity,
        price,
        inputs.increment,
        inputs.min_order_value,
        inputs.dust,
        inputs.tradable,
        len(quantity),
        equity,
        unborrowed,
        granted_leverage(leverage, equity, margin_equity),
        equity >= margin_equity,
        1.0,
    )


@compiled
def recompute_decision(
    inputs: CompiledInputs, recorded: RecordedDecisions, row: int, begin: int = 0
) -> tuple[Index, DecisionProblem, Array, RoundedTargets]:
    """Recompute a recorded decision: symbols [m], problem, weights [K, m] and rounded targets.

    Weights are NaN if the solve failed.

    row: row of `recorded`; row 0 of `recorded` is row `begin` of the beliefs.
    """
    shown = account_arrays(
        inputs,
        recorded.quantity[row],
        recorded.price[row],
        recorded.equity[row],
        recorded.unborrowed_cash[row],
    )
    chosen, account, problem = decision_inputs(inputs, begin + row, shown)
    sized = recorded.solve_status[row] == SOLVED
    weights = take_columns(recorded.weights[row], chosen)
    first = (
        weights[0]
        if sized and any_true(problem.account.adjustable)
        else problem.account.held_weight
    )
    return (
        chosen,
        problem,
        weights,
        round_to_lots(
            problem, first, sized, account, inputs.beliefs.can_trim_overnight[begin + row]
        ),
    )


@compiled
def record_instant(
    rows: Records, book: Book, tape: Records, number: int, tape_lengths: Index
) -> None:
    """Record the account after instant `number` of the run, and reset its cash flows."""
    account = book.account[0]
    row = rows[number]
    before = tape_lengths[number - 1] if len(tape_lengths) > 0 and number > 0 else 0
    for k in range(before, account.tape_length):
        entry = tape[k]
        if entry.price > 0.0 and entry.cause != BY_DELISTING:
            row.notional += abs(entry.quantity) * entry.price
            row.trades += 1.0
    row.cash = account.cash
    row.equity = account.equity
    row.stock = account.stock
    row.crypto = account.crypto
    row.fees = account.fees
    row.crypto_fees = account.crypto_fees
    row.spread = account.spread
    row.slippage = account.slippage
    row.interest = account.interest
    row.borrow = account.borrow
    row.rounding = account.rounding
    row.other = account.other
    row.dividends = account.dividends
    account.fees = 0.0
    account.crypto_fees = 0.0
    account.spread = 0.0
    account.slippage = 0.0
    account.interest = 0.0
    account.borrow = 0.0
    account.rounding = 0.0
    account.other = 0.0
    account.dividends = 0.0
