"""Compiled steps of a run: advance, decide, fill and record at each instant.

Decisions come from `execution.decision.problem` and `sizing`, settlement from `account`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from execution.decision.beliefs import BeliefTable, find_relevant_symbols
from execution.decision.problem import (
    RoundedTargets,
    SizingParameters,
    build_problem,
    round_to_lots,
    select_sizing_terms,
)
from foundation.arrays import Array, Index, Mask, StructuredArray
from foundation.compiled import (
    any_true,
    compiled,
    copy_values,
    jit_inline,
    scatter_values,
    take,
    take_columns,
    without_refcount,
)
from marketsimulator.account.book import (
    BY_DELISTING,
    CASH_FLOW_FIELDS,
    WORKING,
    Book,
    max_logged_cash_flows,
    replace_orders,
)
from marketsimulator.account.margin import unborrowed_cash
from marketsimulator.account.rebalancing import (
    ensure_account_log_space,
    lots_to_quantity,
    max_logged_fills,
    send_auction_orders,
    trade_to_targets,
)
from marketsimulator.account.timeline import Timeline, advance_account, open_bars
from marketsimulator.runs.strategy_calls import STRATEGY_RAISED, StrategyCall, call_strategy
from sizing.allocation import solve_multi_period_plan
from sizing.limits import CEILING_NAMES, allowed_leverage
from sizing.problem import NO_GROUP_CONSTRAINTS, AccountArrays, DecisionProblem, GroupConstraints
from sizing.solver.active_set import SOLVED, UNFINISHED

# The account after an instant's fills, in USD, with counts.
EQUITY_ROW_DTYPE = np.dtype(
    [
        (name, "f8")
        for name in (
            *("cash", "equity", "stock", "crypto", *CASH_FLOW_FIELDS),
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
    asset_class_sharpe: [T', 2] Sharpe ratios of stocks and of crypto, as used by the strategy.
    financing_cost: [T', K] interest on one borrowed USD in each period.
    sizing_terms: sizing terms of a decision.
    leverage_and_margin_equity: leverage of the broker, and the equity in USD from which it lends
        more than 1×.
    kelly_fraction: fraction of full Kelly; NaN for a strategy in Python.
    max_crypto_value: USD, maximum value of one crypto order.
    min_order_value: [S] minimum value of an order that does not close the position, USD.
    min_closable_value: [S] value below which a position cannot be closed, USD.
    quantity_increment: [S] smallest step of a quantity, in shares or coins.
    tradable: [S] true if a symbol accepts orders.
    """

    beliefs: BeliefTable
    asset_class_sharpe: Array
    financing_cost: Array
    sizing_terms: SizingParameters
    leverage_and_margin_equity: tuple[float, float]
    kelly_fraction: float
    max_crypto_value: float
    min_order_value: Array
    min_closable_value: Array
    quantity_increment: Array
    tradable: Mask


class RecordedDecisions(NamedTuple):
    """Account states and solver results of T' decisions; no rows if they are not recorded.

    position_quantities, marks: [T', S] positions and marks before the decision.
    equity: [T'] USD; NaN for decisions that the run did not reach.
    unborrowed_cash: [T'] unborrowed cash that may buy crypto, USD; NaN for decisions that the run
        did not reach.
    solve_status: [T'] status of the solve, a code of `sizing.solver.active_set`.
    weights: [T', K, S] planned weights over K periods.
    shadow_prices: [T', 4 + G + K] shadow prices of 4 ceilings, G group limits and K borrowing
        limits.
    """

    position_quantities: Array
    marks: Array
    equity: Array
    unborrowed_cash: Array
    solve_status: Index
    weights: Array
    shadow_prices: Array

    @classmethod
    def allocate(
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
        )


@compiled
def run_instants(
    book: Book,
    timeline: Timeline,
    instant_range: tuple[int, int, int],
    belief_rows: Index,
    inputs: CompiledInputs,
    account_log: StructuredArray,
    equity_rows: StructuredArray,
    account_log_lengths: Index,
    recorded: RecordedDecisions,
    strategy_call: StrategyCall,
) -> tuple[Book, StructuredArray]:
    """Advance, decide, fill and record at each instant in [begin, end).

    Returns the book, with waiting orders, and the account log. Ends early if the strategy raises an
    error.

    instant_range: first instant of the run, then `begin` and `end`.
    belief_rows: [T] row of the beliefs for each instant; negative without a decision.
    account_log_lengths: [T] set to the number of log entries after each instant; empty: the account
        log is not kept.
    """
    first, begin, end = instant_range
    timeline, inputs, recorded, strategy_call = without_refcount(
        (timeline, inputs, recorded, strategy_call)
    )
    for t in range(begin, end):
        book, account_log = advance_to(book, timeline, account_log, first, t, account_log_lengths)
        targets = np.empty(0)
        decision = belief_rows[t]
        # Decided before the bars open, as in live trading: a liquidation at the open changes
        # positions, not the decision.
        held = book.holdings["quantity"].copy()
        if decision >= 0:
            targets, status = decide_target_quantities(
                book, inputs, decision, recorded, strategy_call
            )
            if status == STRATEGY_RAISED:
                return book, account_log
            equity_rows[t - first].failures = 0.0 if status == SOLVED else 1.0
        book, account_log = trade_decision(
            book,
            timeline,
            account_log,
            (first, t),
            held,
            targets,
            inputs.max_crypto_value,
            account_log_lengths,
        )
        record_instant(equity_rows, book, account_log, t - first, account_log_lengths)
    return book, account_log


@compiled
def advance_to(
    book: Book,
    timeline: Timeline,
    account_log: StructuredArray,
    first: int,
    t: int,
    account_log_lengths: Index,
) -> tuple[Book, StructuredArray]:
    """Advance the account to an instant.

    Returns the book, without orders if none is working, and the account log, with space for the
    instant.
    """
    account = book.account[0]
    size = len(book.holdings)
    actions = timeline.first_action_rows[t + 1] - timeline.first_action_rows[t]
    if len(account_log_lengths) > 0:
        tape_space = 3 * size + len(book.orders) + actions + max_logged_cash_flows(size, actions)
        account_log = ensure_account_log_space(account_log, account.tape_length, tape_space)
    else:
        account.tape_length = 0
    if t > first:
        advance_account(book, timeline, account_log, t)
    for k in range(len(book.orders)):
        if book.orders[k].state == WORKING:
            return book, account_log
    return replace_orders(book, book.orders[:0]), account_log


@compiled
def trade_decision(
    book: Book,
    timeline: Timeline,
    account_log: StructuredArray,
    first_and_current_instant: tuple[int, int],
    held_quantities: Array,
    target_quantities: Array,
    max_crypto_value: float,
    account_log_lengths: Index,
) -> tuple[Book, StructuredArray]:
    """Open the bars and trade to the targets, at once or in the next auction.

    Returns the book, with waiting orders, and the account log, which may have been enlarged.

    first_and_current_instant: first instant of the run, and the present instant.
    held_quantities: [S] quantities at the decision.
    target_quantities: [S] target quantities; empty without a decision.
    """
    account = book.account[0]
    first, t = first_and_current_instant
    opens = open_bars(book, timeline, account_log, t)
    if len(target_quantities) > 0:
        fills = max_logged_fills(book.holdings, target_quantities, max_crypto_value)
        account_log = ensure_account_log_space(account_log, account.tape_length, fills)
        day, now = timeline.day_terms[timeline.day_term_rows[t]], timeline.instants_ns[t]
        queue = np.zeros(len(held_quantities), np.int64)
        budget = trade_to_targets(
            account,
            book.holdings,
            day,
            account_log,
            now,
            held_quantities,
            target_quantities,
            opens,
            max_crypto_value,
            queue,
            timeline.waits_for_auction,
        )
        if timeline.waits_for_auction:
            book = send_auction_orders(
                book, day, account_log, now, t, held_quantities, target_quantities, budget
            )
    if len(account_log_lengths) > 0:
        account_log_lengths[t - first] = account.tape_length
    return book, account_log


@compiled
def decide_target_quantities(
    book: Book,
    inputs: CompiledInputs,
    row: int,
    recorded: RecordedDecisions,
    strategy_call: StrategyCall,
) -> tuple[Array, int]:
    """Decide; return target quantities [S] and the status of the solver or strategy.

    Symbols without a decision keep their quantity.
    """
    shown = build_visible_account(book, inputs)
    chosen, account, problem = build_decision_inputs(inputs, row, shown)
    weights = problem.account.held_weight
    status = SOLVED
    if any_true(problem.account.adjustable):
        if not account.equity > 0.0:
            status = UNFINISHED
        elif strategy_call.replaces_solver:
            status, weights = call_strategy(strategy_call, problem, chosen, row)
            if status == SOLVED and len(recorded.solve_status) > 0:
                scatter_values(recorded.weights[row, 0], chosen, weights)
        else:
            status, plan, prices = solve_multi_period_plan(problem, inputs.kelly_fraction)
            weights = plan[0]
            if len(recorded.solve_status) > 0:
                for k in range(len(plan)):
                    scatter_values(recorded.weights[row, k], chosen, plan[k])
                copy_values(recorded.shadow_prices[row], prices)
    if len(recorded.solve_status) > 0:
        copy_values(recorded.position_quantities[row], shown.quantity)
        copy_values(recorded.marks[row], shown.price)
        recorded.equity[row] = account.equity
        recorded.unborrowed_cash[row] = account.unborrowed_cash
        recorded.solve_status[row] = status
    rounded = round_to_lots(
        problem, weights, status == SOLVED, account, inputs.beliefs.can_trim_overnight[row]
    )
    return lots_to_target_quantities(rounded, chosen, shown), status


@compiled
def lots_to_target_quantities(
    rounded: RoundedTargets, symbol_indices: Index, account: AccountArrays
) -> Array:
    """Return target quantities [S]: rounded targets of chosen symbols [m], else the position."""
    targets = account.quantity.copy()
    for a in range(len(symbol_indices)):
        if not np.isnan(rounded.lots[a]):
            targets[symbol_indices[a]] = lots_to_quantity(
                rounded.lots[a], account.quantity_increment[symbol_indices[a]]
            )
    return targets


@compiled
def build_decision_inputs(
    inputs: CompiledInputs, row: int, visible_account: AccountArrays
) -> tuple[Index, AccountArrays, DecisionProblem]:
    """Return a decision's symbols [m], the account restricted to them, and the sizing problem."""
    beliefs = inputs.beliefs
    held = visible_account.quantity != 0.0
    if inputs.sizing_terms.group_constraints.market_index >= 0:
        held[inputs.sizing_terms.group_constraints.market_index] = True
    chosen = find_relevant_symbols(beliefs.sigma[row], beliefs.exclusion_rule[row], held)
    account = AccountArrays(
        take(visible_account.quantity, chosen),
        take(visible_account.price, chosen),
        take(visible_account.quantity_increment, chosen),
        take(visible_account.min_order_value, chosen),
        take(visible_account.dust_threshold, chosen),
        take(visible_account.tradable, chosen),
        len(chosen),
        visible_account.equity,
        visible_account.unborrowed_cash,
        visible_account.granted_leverage,
        visible_account.is_shorting_enabled,
        visible_account.free_equity_share,
    )
    problem = build_problem(
        beliefs,
        row,
        chosen,
        inputs.asset_class_sharpe[row],
        inputs.financing_cost[row],
        account,
        select_sizing_terms(inputs.sizing_terms, chosen),
    )
    return chosen, account, problem


@jit_inline
def build_visible_account(book: Book, inputs: CompiledInputs) -> AccountArrays:
    """Return the account that a strategy sees, as arrays, without open orders.

    Its values equal those of `SimulatedBroker.account`.
    """
    account = book.account[0]
    holding = book.holdings
    quantity = holding["quantity"].copy()
    # Summed as in `AccountSnapshot`, so that both divide by the same equity to the last bit.
    value = 0.0
    for s in range(len(quantity)):
        if quantity[s] != 0.0:
            value += quantity[s] * holding[s].mark
    equity = account.cash + value
    return build_account_arrays(
        inputs, quantity, holding["mark"].copy(), equity, unborrowed_cash(account)
    )


@jit_inline
def build_account_arrays(
    inputs: CompiledInputs, quantities: Array, marks: Array, equity: float, unborrowed: float
) -> AccountArrays:
    """Return an account without open orders as arrays; its equity determines the leverage."""
    leverage, margin_equity = inputs.leverage_and_margin_equity
    return AccountArrays(
        quantities,
        marks,
        inputs.quantity_increment,
        inputs.min_order_value,
        inputs.min_closable_value,
        inputs.tradable,
        len(quantities),
        equity,
        unborrowed,
        allowed_leverage(leverage, equity, margin_equity),
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
    shown = build_account_arrays(
        inputs,
        recorded.position_quantities[row],
        recorded.marks[row],
        recorded.equity[row],
        recorded.unborrowed_cash[row],
    )
    chosen, account, problem = build_decision_inputs(inputs, begin + row, shown)
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
    equity_rows: StructuredArray,
    book: Book,
    account_log: StructuredArray,
    number: int,
    account_log_lengths: Index,
) -> None:
    """Record the account after instant `number` of the run, and reset its cash flows."""
    account = book.account[0]
    row = equity_rows[number]
    before = account_log_lengths[number - 1] if len(account_log_lengths) > 0 and number > 0 else 0
    for k in range(before, account.tape_length):
        entry = account_log[k]
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
