"""The walk through a panel: advance, decide, fill, record.

A backtest and every variant of a sweep take it. By Kelly it is one compiled loop; any other
strategy is asked in Python at every decision, in place of the solver. A backtest also keeps what
each decision saw and answered; `runs.decisions` says of that why.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from execution.beliefs import BeliefRow, BeliefTable, years_and_correlations
from execution.choices import Answers, answer_of
from execution.problem import Settled, Terms, problem_of, settled
from execution.trader import SizingAnswer, answered
from foundation.arrays import Array, Array32, Index, Mask, Records
from foundation.compiled import compiled, copy_row, inlined
from marketsimulator.account.book import FLOWS, Book, most_flows, new_tape
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
from sizing.allocation import Strategy, best_weights
from sizing.limits import CEILINGS, granted_leverage
from sizing.problem import AccountRow, Problem
from sizing.situation import Situation
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
    fraction: of full Kelly; NaN for a strategy that is asked.
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
    """What each of T' decisions saw and the solver answered; no rows where nobody will ask.

    quantity, price: [T', S] before the decision.
    equity, unborrowed: [T'] USD, as of `AccountRow`; NaN where the walk did not come to.
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


class Asked(NamedTuple):
    """What a strategy in Python has answered at T' decisions, and why.

    ceiling, granted: [T'] as of `BookLimits`.
    failed: those that the strategy did not answer, by row.
    """

    answers: Answers
    ceiling: Array
    granted: Array
    failed: dict[int, SizingAnswer]

    @classmethod
    def room(cls, table: BeliefTable) -> Asked:
        """Room for the decisions of a table."""
        rows, blocks, size = table.mu.shape

        def numbers(width: int = size) -> Array:
            return np.full((rows, width), np.nan)

        def whole() -> Index:
            return np.zeros((rows, size), dtype=np.int64)

        names = Answers._fields
        columns: dict[str, Any] = {name: numbers() for name in names}
        columns |= {"limits_met": whole(), "blocks": whole(), "cut": whole().astype(np.bool_)}
        columns |= {"sized": np.zeros(rows, bool), "prices": numbers(len(CEILINGS) + blocks)}
        return cls(Answers(**columns), np.full(rows, np.nan), np.full(rows, np.nan), {})

    def note(self, row: int, answer: SizingAnswer, after: Settled, price: Array) -> None:
        """Note the decision of a row."""
        problem = answer.situation.problem
        given = answer_of(answer.allocation, problem, after, price)
        for column, values in zip(self.answers, given, strict=True):
            column[row] = values[0]
        self.ceiling[row] = problem.limits.stock_ceiling
        self.granted[row] = problem.limits.granted
        if answer.failure:
            self.failed[row] = answer


class Walk(NamedTuple):
    """What became of an account over T instants.

    inputs: what it decided by.
    account: [T] ACCOUNT_ROW.
    tape: the entries; none where no decision is kept.
    written: [T] how many of them there were after each instant; likewise.
    kept: the decisions.
    asked: the answers of a strategy in Python; none where the solver gave them.
    book: as it ended.
    """

    inputs: WalkInputs
    account: Records
    tape: Records
    written: Index
    kept: Kept
    asked: Asked | None
    book: Book


def walk_inputs(settings: BacktestSettings, bars: Bars, table: BeliefTable) -> WalkInputs:
    """What a walk by these settings decides by, on the panel's beliefs."""
    limits = settings.limits
    rule = settings.sizing.chosen_strategy()
    sharpe = settings.prior.sharpe(bars.crypto)
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
            sharpe=sharpe if rule.uses_premium else np.zeros(len(sharpe)),
            forecast=rule.uses_forecast,
            caps=limits.caps,
            leverage=(limits.intraday_leverage, limits.overnight_ceiling),
            order_margin=settings.margin.order_margin,
        ),
        lent=(settings.margin.leverage, settings.margin.margin_equity),
        fraction=rule.fraction if compiles(rule) else np.nan,
        largest_coin=settings.orders.largest_value,
        increment=np.array([float(item.increment) for item in bars.instruments]),
        tradable=bars.tradable,
    )


def compiles(strategy: Strategy) -> TypeGuard[Kelly]:
    """Whether the solver is all that a strategy asks."""
    return isinstance(strategy, Kelly) and strategy.multiplier == 1.0


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
    strategy = settings.sizing.chosen_strategy()
    asked = None if compiles(strategy) else Asked.room(table)
    step = AT_ONCE if progress else count
    for begin in range(first, count, step):
        end = min(begin + step, count)
        span = first, begin, end
        if asked is None:
            tape = _walk_instants(book, line, span, rows, inputs, tape, account, written, kept)
        else:
            answers = _Answering(strategy, table, inputs, kept, asked)
            tape = _ask_instants(book, line, span, rows, answers, tape, account, written)
        if progress:
            progress(end - first)
    tape = tape[: int(book.account["entries"][0])]
    return Walk(inputs, account, tape, written, kept, asked, book)


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
    first, begin, end = span
    for t in range(begin, end):
        tape = _come_to(book, line, tape, first, t, written)
        targets = np.empty(0)
        decision = rows[t]
        # Decided before the bars open, as a live trader does: a liquidation at the open changes
        # what is held, not what was decided.
        held = book.holding["quantity"].copy()
        if decision >= 0:
            targets, failed = target_quantities(book, inputs, decision, kept)
            account_rows[t - first].failures = failed
        tape = _trade(book, line, tape, (first, t), held, targets, inputs.largest_coin, written)
        _note_instant(account_rows, book, tape, t - first, written)
    return tape


@compiled
def _come_to(
    book: Book, line: Timeline, tape: Records, first: int, t: int, written: Index
) -> Records:
    """What has become known at an instant is booked; the tape, with room for the instant."""
    account = book.account[0]
    size = len(book.holding)
    actions = line.first_action[t + 1] - line.first_action[t]
    if len(written) > 0:
        room = 3 * size + actions + most_flows(size, actions)
        tape = tape_with_room(tape, account.entries, room)
    else:
        account.entries = 0
    if t > first:
        advance(book, line, tape, t)
    return tape


@compiled
def _trade(
    book: Book,
    line: Timeline,
    tape: Records,
    place: tuple[int, int],
    held: Array,
    targets: Array,
    largest_coin: float,
    written: Index,
) -> Records:
    """The bars open and what was decided is traded; the tape, which may be a larger one.

    place: the first instant of the run, and this one. targets: quantities [S]; empty where nothing
    was decided.
    """
    account = book.account[0]
    first, t = place
    opens, volumes, volatility = open_bars(book, line, tape, t)
    if len(targets) > 0:
        fills = most_fills(book.holding, targets, largest_coin)
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
            largest_coin,
            np.zeros(len(held), np.int64),
        )
    if len(written) > 0:
        written[t - first] = account.entries
    return tape


class _Answering(NamedTuple):
    """A strategy in Python in the place of the solver, and what is kept of its answers."""

    strategy: Strategy
    table: BeliefTable
    inputs: WalkInputs
    kept: Kept
    asked: Asked


def _ask_instants(
    book: Book,
    line: Timeline,
    span: tuple[int, int, int],
    rows: Index,
    answering: _Answering,
    tape: Records,
    account_rows: Records,
    written: Index,
) -> Records:
    """`_walk_instants` with a strategy in Python in the place of the solver."""
    first, begin, end = span
    largest_coin = answering.inputs.largest_coin
    for t in range(begin, end):
        tape = _come_to(book, line, tape, first, t, written)
        targets = np.empty(0)
        decision = int(rows[t])
        held = book.holding["quantity"].copy()
        if decision >= 0:
            targets, sized = _answered_targets(book, answering, decision)
            account_rows["failures"][t - first] = 0.0 if sized else 1.0
        tape = _trade(book, line, tape, (first, t), held, targets, largest_coin, written)
        _note_instant(account_rows, book, tape, t - first, written)
    return tape


def _answered_targets(book: Book, answering: _Answering, row: int) -> tuple[Array, bool]:
    """Target quantities [S] of a strategy in Python, and whether nothing was left unmade."""
    strategy, table, inputs, kept, asked = answering
    problem, account = _asked_problem(book, inputs, row)
    situation = Situation(problem, table.symbols, table.at[row])
    answer = answered(strategy, situation, account)
    allocation = answer.allocation
    weights = problem.account.held if allocation is None else allocation.target
    targets, after = _targets_of(
        problem, weights, allocation is not None, account, bool(table.cuts[row])
    )
    if len(kept.status):
        kept.quantity[row], kept.price[row] = account.quantity, account.price
        kept.equity[row], kept.unborrowed[row] = account.equity, account.unborrowed
        kept.status[row] = UNFINISHED if allocation is None else SOLVED
        asked.note(row, answer, after, account.price)
    return targets, not answer.failure


@compiled
def _asked_problem(book: Book, inputs: WalkInputs, row: int) -> tuple[Problem, AccountRow]:
    """What a strategy is asked at a decision, and of which account."""
    account = _account_row(book, inputs)
    return problem_of(belief_row(inputs, row), account, inputs.terms), account


@compiled
def _targets_of(
    problem: Problem, weights: Array, sized: bool, account: AccountRow, cuts: bool
) -> tuple[Array, Settled]:
    """Target quantities [S] that weights lead to; what is not ordered keeps what it holds."""
    after = settled(problem, weights, sized, account, cuts)
    targets = account.quantity.copy()
    for s in range(len(targets)):
        if not np.isnan(after.steps[s]):
            targets[s] = quantity_of(after.steps[s], account.increment[s])
    return targets, after


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
    targets, _ = _targets_of(problem, weights, status == SOLVED, account, belief.cuts)
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
def _note_instant(rows: Records, book: Book, tape: Records, number: int, written: Index) -> None:
    """Note the account after instant `number` of the run, and clear its flows."""
    account = book.account[0]
    row = rows[number]
    before = written[number - 1] if len(written) > 0 and number > 0 else 0
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
