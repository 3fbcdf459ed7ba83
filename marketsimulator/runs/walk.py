"""The walk through a panel as one compiled loop: advance, decide, fill, record.

A backtest and every variant of a sweep take it. A backtest also keeps what each decision saw and
answered; `runs.decisions` says of that why.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from execution.beliefs import BeliefRow, BeliefTable, years_and_correlations
from execution.problem import Settled, Terms, problem_of, settled
from foundation.arrays import Array, Array32, Index, Mask, Records
from foundation.compiled import compiled, copy_row, inlined
from foundation.errors import InputError
from marketsimulator.account.book import FLOWS, Book, Record, most_flows, new_tape
from marketsimulator.account.margin import unborrowed_cash
from marketsimulator.account.rebalancing import (
    most_fills,
    move_to_targets,
    quantity_of,
    tape_with_room,
)
from marketsimulator.account.settlement import mark_positions
from marketsimulator.account.timeline import Timeline, advance, open_bars
from marketsimulator.settings import BacktestSettings
from sizing.allocation import best_weights
from sizing.limits import CEILINGS, granted_leverage
from sizing.problem import AccountRow, Problem
from sizing.solver.active_set import SOLVED, UNFINISHED
from sizing.strategies import Kelly
from trainingdata.bars import Bars

AT_ONCE = 512  # instants of one call: between two a walk can be watched and ended

# The account after an instant's fills: USD, and how many.
ACCOUNT_ROW = np.dtype(
    [
        (name, "f8")
        for name in (
            *("cash", "equity", "stock", "coins", *FLOWS),
            "notional",  # bought and sold
            "trades",  # fills at a price, which the fee of a coin purchase is not
            "failures",  # 1 where the solver, or an account without equity, left it unmade
        )
    ],
    align=True,
)


class WalkInputs(NamedTuple):
    """What a walk decides by: the beliefs of a history and the settings of a run.

    The arrays are those of `BeliefTable`, of T' instants at which anything decides; K blocks.

    toll: [T', K] of what is borrowed.
    terms: of a decision.
    lent: by the broker, and the equity in USD from which it lends more than 1×.
    fraction: of full Kelly.
    largest_coin: USD of one coin order at most.
    increment: [S] shares or coins that quantities are whole numbers of.
    tradable: [S] which take orders.
    """

    deciding: Mask
    overnight: Mask
    cuts: Mask
    mu: Array
    sigma: Array
    premium: Array
    signal: Array
    years: Array
    matrix: Index
    correlations: Array32
    shared: Array
    toll: Array
    terms: Terms
    lent: tuple[float, float]
    fraction: float
    largest_coin: float
    increment: Array
    tradable: Mask


class Kept(NamedTuple):
    """What each of T' decisions saw and answered; no rows where nobody will ask.

    quantity, price: [T', S] before the decision.
    equity, unborrowed: [T'] USD, as of `AccountRow`.
    status: [T'] as of `best_weights`.
    weights: [T', K, S].
    prices: [T', 4 + K].
    """

    quantity: Array
    price: Array
    equity: Array
    unborrowed: Array
    status: Index
    weights: Array
    prices: Array

    @classmethod
    def room(cls, table: BeliefTable, *, none: bool = False) -> Kept:
        """Room for the decisions of a table."""
        rows, blocks, size = table.mu.shape
        rows = 0 if none else rows
        return cls(
            np.full((rows, size), np.nan),
            np.full((rows, size), np.nan),
            np.full(rows, np.nan),
            np.full(rows, np.nan),
            np.full(rows, UNFINISHED, dtype=np.int64),
            np.full((rows, blocks, size), np.nan),
            np.full((rows, len(CEILINGS) + blocks), np.nan),
        )


class Walk(NamedTuple):
    """What became of an account over T instants.

    inputs: what it decided by.
    account: [T] ACCOUNT_ROW.
    tape: the entries; none where no decision is kept.
    written: [T] how many of them there were after each instant; likewise.
    kept: the decisions.
    book: as it ended.
    """

    inputs: WalkInputs
    account: Records
    tape: Records
    written: Index
    kept: Kept
    book: Book


def walk_inputs(settings: BacktestSettings, bars: Bars, table: BeliefTable) -> WalkInputs:
    """What a walk by these settings decides by, on the panel's beliefs.

    Raises
    ------
    InputError
        for a strategy that is no Kelly.
    """
    limits = settings.limits
    rule = settings.sizing.chosen_strategy()
    if not (isinstance(rule, Kelly) and rule.multiplier == 1.0):
        raise InputError(
            "sizing.strategy: an in-process sweep sizes by Kelly alone; run other strategies as"
            " backtests"
        )
    return WalkInputs(
        deciding=table.deciding,
        overnight=table.overnight,
        cuts=table.cuts,
        mu=table.mu,
        sigma=table.sigma,
        premium=table.premium,
        signal=table.signal,
        years=table.years,
        matrix=table.matrix,
        correlations=table.correlations,
        shared=table.shared,
        toll=settings.margin.nightly_rate(table.at)[:, None] * table.nights,
        terms=Terms(
            crypto=bars.crypto,
            long_only=bars.long_only,
            cost=settings.costs.expected(bars.crypto, settings.fees),
            sharpe=settings.prior.sharpe(bars.crypto),
            forecast=rule.uses_forecast,
            caps=limits.caps,
            leverage=(limits.intraday_leverage, limits.overnight_ceiling),
            order_margin=settings.margin.order_margin,
        ),
        lent=(settings.margin.leverage, settings.margin.margin_equity),
        fraction=rule.fraction,
        largest_coin=settings.orders.largest_value,
        increment=np.array([float(item.increment) for item in bars.instruments]),
        tradable=bars.tradable,
    )


def walked(
    settings: BacktestSettings,
    bars: Bars,
    table: BeliefTable,
    first: int,
    line: Timeline,
    *,
    keeps: bool,
    progress: Callable[[int], object] | None = None,
) -> Walk:
    """An account's way through the panel from instant number `first` on.

    table: the beliefs. line: the panel, laid out. keeps: whether decisions and entries are kept.
    progress: told how many instants are done.
    """
    inputs = walk_inputs(settings, bars, table)
    book = settings.book(bars)
    mark_positions(book.account[0], book.holding, bars.between(0, first + 1).last_closes())
    count = len(bars.times)
    rows = np.full(count, -1, dtype=np.int64)
    places = np.searchsorted(bars.times, table.at)
    rows[places] = np.arange(len(table.at))
    size, actions = len(book.holding), len(line.actions)
    tape = new_tape(4 * size + actions + most_flows(size, actions))
    account = np.zeros(count - first, ACCOUNT_ROW)
    written = np.zeros(count - first if keeps else 0, dtype=np.int64)
    kept = Kept.room(table, none=not keeps)
    step = AT_ONCE if progress else count
    for begin in range(first, count, step):
        end = min(begin + step, count)
        tape = _walk_instants(
            book, line, (first, begin, end), rows, inputs, tape, account, written, kept
        )
        if progress:
            progress(end - first)
    return Walk(inputs, account, tape[: int(book.account["entries"][0])], written, kept, book)


@compiled
def _walk_instants(
    book: Book,
    line: Timeline,
    span: tuple[int, int, int],
    rows: Index,
    inputs: WalkInputs,
    tape: Records,
    account_rows: Records,
    written: Index,
    kept: Kept,
) -> Records:
    """Walk the instants [begin, end): what has become known, a decision, its fills; the tape.

    span: the first instant of the run, begin and end. rows [T]: of the beliefs, by instant; below 0
    where nothing decides.
    """
    account = book.account[0]
    size = len(book.holding)
    queue = np.zeros(size, np.int64)
    keeps = len(written) > 0
    first, begin, end = span
    for t in range(begin, end):
        row = account_rows[t - first]
        actions = line.first_action[t + 1] - line.first_action[t]
        if keeps:
            room = 3 * size + actions + most_flows(size, actions)
            tape = tape_with_room(tape, account.entries, room)
        else:
            account.entries = 0
        before = account.entries
        if t > first:
            advance(book, line, tape, t)
        targets = np.empty(0)
        held = np.empty(0)
        decision = rows[t]
        # Decided before the bars open, as a live trader does: a liquidation at the open changes
        # what is held, not what was decided.
        if decision >= 0:
            held = book.holding["quantity"].copy()
            targets, failed = target_quantities(book, inputs, decision, kept)
            row.failures = failed
        opens, volumes, volatility = open_bars(book, line, tape, t)
        if decision >= 0:
            fills = most_fills(book.holding, targets, inputs.largest_coin)
            tape = tape_with_room(tape, account.entries, fills)
            move_to_targets(
                account,
                book.holding,
                line.days[line.day[t]],
                tape,
                line.now[t],
                held,
                targets,
                opens,
                volumes,
                volatility,
                inputs.largest_coin,
                queue,
            )
        if keeps:
            written[t - first] = account.entries
        _note_instant(row, account, tape, before)
    return tape


@compiled
def target_quantities(book: Book, inputs: WalkInputs, row: int, kept: Kept) -> tuple[Array, float]:
    """Target quantities [S] of a decision, and 1 where it was left unmade.

    What does not decide keeps what it holds.
    """
    belief = belief_row(inputs, row)
    account = _account_row(book, inputs)
    problem = problem_of(belief, account, inputs.terms)
    weights = problem.account.held
    status = SOLVED
    if not account.equity > 0.0:
        status = UNFINISHED
    elif belief.deciding.any():
        status, plan, prices = best_weights(problem, inputs.fraction)
        weights = plan[0]
        if len(kept.status) > 0:
            for k in range(len(plan)):
                copy_row(kept.weights[row, k], plan[k])
            copy_row(kept.prices[row], prices)
    if len(kept.status) > 0:
        copy_row(kept.quantity[row], account.quantity)
        copy_row(kept.price[row], account.price)
        kept.equity[row] = account.equity
        kept.unborrowed[row] = account.unborrowed
        kept.status[row] = status
    steps = settled(problem, weights, status == SOLVED, account, belief.cuts).steps
    targets = account.quantity
    for s in range(len(targets)):
        if not np.isnan(steps[s]):
            targets[s] = quantity_of(steps[s], account.increment[s])
    return targets, 0.0 if status == SOLVED else 1.0


@compiled
def belief_row(inputs: WalkInputs, row: int) -> BeliefRow:
    """What is believed at an instant."""
    matrix = inputs.correlations[inputs.matrix[row]]
    years, correlation = years_and_correlations(
        inputs.years[row], matrix, inputs.terms.crypto, inputs.shared[row]
    )
    return BeliefRow(
        inputs.mu[row],
        inputs.sigma[row],
        inputs.premium[row],
        inputs.signal[row],
        years,
        correlation,
        inputs.deciding[row],
        inputs.toll[row],
        inputs.overnight[row],
        inputs.cuts[row],
    )


@inlined
def _account_row(book: Book, inputs: WalkInputs) -> AccountRow:
    """The account that `SimulatedBroker` shows; nothing of it is ever open."""
    account = book.account[0]
    holding = book.holding
    quantity = holding["quantity"].copy()
    # Added up as `Account` does, so that both divide by the same equity to the last bit.
    value = 0.0
    for s in range(len(quantity)):
        if quantity[s] != 0.0:
            value += quantity[s] * holding[s].mark
    equity = account.cash + value
    return account_row(inputs, quantity, holding["mark"].copy(), equity, unborrowed_cash(account))


@inlined
def account_row(
    inputs: WalkInputs, quantity: Array, price: Array, equity: float, unborrowed: float
) -> AccountRow:
    """An account of which nothing is open; what is lent follows from its equity."""
    leverage, margin_equity = inputs.lent
    return AccountRow(
        quantity,
        price,
        inputs.increment,
        inputs.tradable,
        len(quantity),
        equity,
        unborrowed,
        granted_leverage(leverage, equity, margin_equity),
        equity >= margin_equity,
        1.0,
    )


@compiled
def decision_again(inputs: WalkInputs, kept: Kept, row: int) -> tuple[Problem, Settled]:
    """The problem of a decision that was kept, and what became of its answer."""
    belief = belief_row(inputs, row)
    account = account_row(
        inputs, kept.quantity[row], kept.price[row], kept.equity[row], kept.unborrowed[row]
    )
    problem = problem_of(belief, account, inputs.terms)
    sized = kept.status[row] == SOLVED
    decided = sized and belief.deciding.any()
    weights = kept.weights[row, 0] if decided else problem.account.held
    return problem, settled(problem, weights, sized, account, belief.cuts)


@compiled
def _note_instant(row: Record, account: Record, tape: Records, before: int) -> None:
    """Note the account after an instant and clear its flows. before: entries that there were."""
    for k in range(before, account.entries):
        entry = tape[k]
        if entry.price > 0.0:
            row.notional += abs(entry.quantity) * entry.price
            row.trades += 1.0
    row.cash = account.cash
    row.equity = account.equity
    row.stock = account.stock
    row.coins = account.coins
    row.fees = account.fees
    row.coin_fees = account.coin_fees
    row.spread = account.spread
    row.slippage = account.slippage
    row.interest = account.interest
    row.borrow = account.borrow
    row.rounding = account.rounding
    row.other = account.other
    row.dividends = account.dividends
    account.fees = 0.0
    account.coin_fees = 0.0
    account.spread = 0.0
    account.slippage = 0.0
    account.interest = 0.0
    account.borrow = 0.0
    account.rounding = 0.0
    account.other = 0.0
    account.dividends = 0.0
