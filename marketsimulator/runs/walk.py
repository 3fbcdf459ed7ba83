"""The walk through a panel: advance, decide, fill, record.

A backtest and every variant of a sweep take it. By Kelly it is one compiled loop; any other
strategy is asked in Python at every decision, in place of the solver. A backtest also keeps what
each decision saw and answered; `runs.decisions` says of that why.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeGuard

import numpy as np

from execution.decision.beliefs import BeliefTable
from execution.decision.choices import Answers, answer_of
from execution.decision.problem import Settled, Terms, problem_of, settled
from execution.decision.trader import SizingAnswer, answered
from foundation.arrays import Array, Index, Records
from foundation.threads import undivided
from marketsimulator.account.book import Book, most_flows, new_tape
from marketsimulator.account.settlement import mark_positions
from marketsimulator.account.timeline import Timeline
from marketsimulator.runs.instants import (
    ACCOUNT_ROW,
    Kept,
    WalkInputs,
    account_shown,
    come_to,
    note_instant,
    reckoned,
    targets_of,
    trade,
    walk_instants,
)
from marketsimulator.settings import BacktestSettings
from sizing.allocation import Strategy
from sizing.inputs import SizingInputs
from sizing.limits import CEILINGS
from sizing.problem import NO_ROWS, Rows
from sizing.solver.active_set import SOLVED, UNFINISHED
from sizing.strategies import Kelly
from trainingdata.bars import Bars
from trainingdata.market import Market

AT_ONCE = 512  # instants of one call: between two a walk can be watched and ended


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
    def room(cls, table: BeliefTable, limits: Rows = NO_ROWS, *, none: bool = False) -> Asked:
        """Room for the decisions of a table under limits on groups; none where nobody will ask."""
        rows, periods, size = table.mu.shape
        rows = 0 if none else rows
        priced = len(CEILINGS) + len(limits.gross) + len(limits.net) + periods
        answers = Answers.room(rows, size, priced)
        return cls(answers, np.full(rows, np.nan), np.full(rows, np.nan), {})

    def note(
        self, row: int, chosen: Index, answer: SizingAnswer, after: Settled, price: Array
    ) -> None:
        """Note the decision of a row, over those chosen [m] of the symbols."""
        problem = answer.inputs.problem
        self.answers.write(row, chosen, answer_of(answer.allocation, problem, after, price))
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
    class_sharpe = settings.prior.class_sharpe(table.crypto_correlation)
    return WalkInputs(
        deciding=table.deciding,
        outside=table.outside,
        leaving=table.leaving,
        overnight=table.overnight,
        cuts=table.cuts,
        mu=table.mu,
        sigma=table.sigma,
        premium=table.premium,
        class_sharpe=class_sharpe if rule.uses_premium else np.zeros_like(class_sharpe),
        signal=table.signal,
        years=table.years,
        matrix=table.matrix,
        correlations=table.correlations,
        shared=table.shared,
        financing=settings.margin.nightly_rate(table.at)[:, None] * table.nights,
        terms=Terms(
            crypto=bars.crypto,
            long_only=bars.long_only,
            cost=settings.costs.expected(bars.crypto, settings.fees),
            forecast=rule.uses_forecast,
            caps=limits.caps,
            leverage=(limits.intraday_leverage, limits.overnight_ceiling),
            order_margin=settings.margin.order_margin,
            rows=limits.of_groups().rows_over(bars.symbols),
        ),
        lent=(settings.margin.leverage, settings.margin.margin_equity),
        fraction=rule.fraction if compiles(rule) else np.nan,
        largest_coin=settings.orders.largest_value,
        least=settings.orders.least_values(bars.crypto),
        dust=settings.orders.dust_values(bars.crypto),
        increment=np.array([float(item.increment) for item in bars.instruments]),
        tradable=bars.tradable,
    )


def compiles(strategy: Strategy) -> TypeGuard[Kelly]:
    """Whether the solver is all that a strategy asks."""
    return isinstance(strategy, Kelly) and strategy.multiplier == 1.0


def walked(
    settings: BacktestSettings,
    market: Market,
    table: BeliefTable,
    line: Timeline,
    *,
    keeps: bool,
    progress: Callable[[int], object] | None = None,
) -> Walk:
    """An account's way through a run.

    table: the beliefs. line: the market, laid out. keeps: whether decisions and entries are kept.
    progress: told how many instants are done.
    """
    bars, first = market.bars, market.first
    inputs = walk_inputs(settings, bars, table)
    book = settings.book(bars)
    mark_positions(book.account[0], book.holding, market.history.last_closes())
    count = len(bars.times)
    rows = np.full(count, -1, dtype=np.int64)
    places = np.searchsorted(bars.times, table.at)
    rows[places] = np.arange(len(table.at))
    size, actions = len(book.holding), len(line.actions)
    tape = new_tape(4 * size + actions + most_flows(size, actions))
    account = np.zeros(count - first, ACCOUNT_ROW)
    written = np.zeros(count - first if keeps else 0, dtype=np.int64)
    kept = Kept.room(table, inputs.terms.rows, none=not keeps)
    strategy = settings.sizing.chosen_strategy()
    asked = None
    if not compiles(strategy):
        asked = Asked.room(table, inputs.terms.rows, none=not keeps)
    step = AT_ONCE if progress else count
    for begin in range(first, count, step):
        end = min(begin + step, count)
        span = first, begin, end
        if asked is None:
            with undivided():
                book, tape = walk_instants(
                    book, line, span, rows, inputs, tape, account, written, kept
                )
        else:
            names = settings.limits.of_groups().names
            answers = _Answering(strategy, table, inputs, kept, asked, names)
            book, tape = _ask_instants(book, line, span, rows, answers, tape, account, written)
        if progress:
            progress(end - first)
    tape = tape[: int(book.account["entries"][0])]
    return Walk(inputs, account, tape, written, kept, asked, book)


class _Answering(NamedTuple):
    """A strategy in Python in the place of the solver, and what is kept of its answers."""

    strategy: Strategy
    table: BeliefTable
    inputs: WalkInputs
    kept: Kept
    asked: Asked
    rows: tuple[str, ...]


def _ask_instants(
    book: Book,
    line: Timeline,
    span: tuple[int, int, int],
    rows: Index,
    answering: _Answering,
    tape: Records,
    account_rows: Records,
    written: Index,
) -> tuple[Book, Records]:
    """`walk_instants` with a strategy in Python in the place of the solver."""
    first, begin, end = span
    largest_coin = answering.inputs.largest_coin
    for t in range(begin, end):
        book, tape = come_to(book, line, tape, first, t, written)
        targets = np.empty(0)
        decision = int(rows[t])
        held = book.holding["quantity"].copy()
        if decision >= 0:
            targets, sized = _answered_targets(book, answering, decision)
            account_rows["failures"][t - first] = 0.0 if sized else 1.0
        book, tape = trade(book, line, tape, (first, t), held, targets, largest_coin, written)
        note_instant(account_rows, book, tape, t - first, written)
    return book, tape


def _answered_targets(book: Book, answering: _Answering, row: int) -> tuple[Array, bool]:
    """Target quantities [S] of a strategy in Python, and whether nothing was left unmade."""
    strategy, table, inputs, kept, asked, rows = answering
    shown = account_shown(book, inputs)
    chosen, belief, account, terms = reckoned(inputs, row, shown)
    problem = problem_of(belief, account, terms)
    symbols = tuple([table.symbols[s] for s in chosen.tolist()])
    given = SizingInputs(problem, symbols, table.at[row], rows)
    answer = answered(strategy, given, account)
    allocation = answer.allocation
    weights = problem.account.held if allocation is None else allocation.target
    after = settled(problem, weights, allocation is not None, account, belief.cuts)
    targets = targets_of(after, chosen, shown)
    if len(kept.status):
        kept.quantity[row], kept.price[row] = shown.quantity, shown.price
        kept.equity[row], kept.unborrowed[row] = account.equity, account.unborrowed
        kept.status[row] = UNFINISHED if allocation is None else SOLVED
        asked.note(row, chosen, answer, after, account.price)
    return targets, not answer.failure
