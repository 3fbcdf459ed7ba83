"""Many variants over the same beliefs: one compiled loop each, equal to the backtest to the cent.

Beliefs are computed once; a variant changes what depends on the account: sizing.fraction, limits,
costs, fees, margin, fills, capital. The loops hold no lock and share the cores.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from execution.beliefs import BeliefRow, BeliefTable, years_and_correlations
from execution.problem import Terms, problem_of, settled
from forecasting.forecast import Progress, silent
from foundation.arrays import Array, Array32, Index, Mask, Records
from foundation.compiled import compiled, inlined
from foundation.errors import InputError
from marketsimulator.account.book import Book, Record, most_flows, new_tape
from marketsimulator.account.margin import unborrowed_cash
from marketsimulator.account.rebalancing import (
    most_fills,
    move_to_targets,
    quantity_of,
    tape_with_room,
)
from marketsimulator.account.settlement import mark_positions
from marketsimulator.account.terms import day_table
from marketsimulator.account.timeline import Timeline, advance, open_bars
from marketsimulator.settings import BacktestSettings
from sizing.allocation import best_weights
from sizing.limits import granted_leverage
from sizing.problem import AccountRow
from sizing.solver.active_set import SOLVED, UNFINISHED
from sizing.strategies import Kelly
from trainingdata.bars import Bars


class Totals(NamedTuple):
    """What a variant traded and paid over all its instants.

    notional: USD bought and sold.
    trades: number of fills at a price, which the fee of a coin purchase is not.
    fees: USD, as are the six that follow.
    coin_fees: fees of coin purchases, taken in coin, at the price of their fill.
    spread: half-spreads.
    slippage: impact included.
    interest: on the debit over night.
    borrow: on shorts over night.
    rounding: of a day's regulatory fees, up to the cent.
    failures: number of decisions that the solver, or an account without equity, left unmade.
    """

    notional: float
    trades: int
    fees: float
    coin_fees: float
    spread: float
    slippage: float
    interest: float
    borrow: float
    rounding: float
    failures: int

    @property
    def costs(self) -> float:
        """USD of all kinds together."""
        trading = self.fees + self.coin_fees + self.spread + self.slippage
        return trading + self.interest + self.borrow + self.rounding


# The same as a record, to which machine code adds instant by instant.
_COUNTS = ("trades", "failures")
TOTALS = np.dtype(
    [(name, "i8" if name in _COUNTS else "f8") for name in Totals._fields], align=True
)


class VariantInputs(NamedTuple):
    """What a variant decides by: the beliefs of a history and its own settings.

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


@dataclass(frozen=True, eq=False, slots=True)
class Outcome:
    """What became of one variant. equity: [T] USD at every instant, after its fills."""

    equity: Array
    totals: Totals


def outcomes(
    variants: Sequence[BacktestSettings],
    bars: Bars,
    beliefs: BeliefTable,
    first: int,
    *,
    workers: int | None = None,
    progress: Progress = silent,
) -> list[Outcome]:
    """What becomes of an account under each variant, over the same panel and beliefs.

    Parameters
    ----------
    variants
        whole settings; those that beliefs come from are the same in all.
    first
        number of the instant that the runs begin at.
    workers
        threads; one a core by default.

    Raises
    ------
    InputError
        for a variant that carries the rest of an order from bar to bar, or sizes by anything but
        Kelly: only the backtest does.
    """
    if any(variant.fills.remainder == "carry" for variant in variants):
        raise InputError(
            "fills.remainder: an in-process sweep cancels what a bar leaves; run carry as a"
            " backtest"
        )
    rows = np.full(len(bars.times), -1, dtype=np.int64)
    rows[np.searchsorted(bars.times, beliefs.at)] = np.arange(len(beliefs.at))
    base = variants[0].timeline(bars, impact=True)

    def simulate(variant: BacktestSettings) -> Outcome:
        # Laying out the panel takes longer than many a run, and depends on one setting alone.
        if variant.fills.coverage == variants[0].fills.coverage:
            dates = base.days["date"].astype("datetime64[D]")
            days = day_table(dates, variant.fees, variant.margin, variant.fills)
            line = base._replace(days=days)
        else:
            line = variant.timeline(bars, impact=True)
        return _simulate_variant(variant, bars, beliefs, rows, first, line)

    # Threads do, because compiled loops hold no lock; the panel and the beliefs are shared.
    done: list[Outcome] = []
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        for outcome in pool.map(simulate, variants):
            done.append(outcome)
            progress("variants", len(done), len(variants))
    return done


def _simulate_variant(
    settings: BacktestSettings,
    bars: Bars,
    beliefs: BeliefTable,
    rows: Index,
    first: int,
    line: Timeline,
) -> Outcome:
    """rows [T]: of the beliefs, by instant; below 0 where nothing decides."""
    inputs = variant_inputs(settings, bars, beliefs)
    book = settings.book(bars)
    mark_positions(book.account[0], book.holding, bars.between(0, first + 1).last_closes())
    size, actions = len(book.holding), len(line.actions)
    tape = new_tape(4 * size + actions + most_flows(size, actions))
    equity = np.empty(len(bars.times) - first)
    totals = np.zeros(1, TOTALS)
    _walk_instants(book, line, first, rows, inputs, tape, equity, totals[0])
    return Outcome(equity, Totals(*totals[0].item()))


def variant_inputs(settings: BacktestSettings, bars: Bars, beliefs: BeliefTable) -> VariantInputs:
    """What a variant of these settings decides by, on the panel's beliefs.

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
    return VariantInputs(
        deciding=beliefs.deciding,
        overnight=beliefs.overnight,
        cuts=beliefs.cuts,
        mu=beliefs.mu,
        sigma=beliefs.sigma,
        premium=beliefs.premium,
        signal=beliefs.signal,
        years=beliefs.years,
        matrix=beliefs.matrix,
        correlations=beliefs.correlations,
        shared=beliefs.shared,
        toll=settings.margin.nightly_rate(beliefs.at)[:, None] * beliefs.nights,
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


@compiled
def _walk_instants(
    book: Book,
    line: Timeline,
    first: int,
    rows: Index,
    inputs: VariantInputs,
    tape: Records,
    equity: Array,
    totals: Record,
) -> None:
    """Walk the instants from `first` on: what has become known, a decision, its fills."""
    account = book.account[0]
    queue = np.zeros(len(book.holding), np.int64)
    for t in range(first, len(line.now)):
        account.entries = 0
        if t > first:
            advance(book, line, tape, t)
        targets = np.empty(0)
        before = np.empty(0)
        row = rows[t]
        # Decided before the bars open, as a live trader does: a liquidation at the open changes
        # what is held, not what was decided.
        if row >= 0:
            before = book.holding["quantity"].copy()
            targets = target_quantities(book, inputs, row, totals)
        opens, volumes, volatility = open_bars(book, line, tape, t)
        if row >= 0:
            day = line.days[line.day[t]]
            fills = most_fills(book.holding, targets, inputs.largest_coin)
            tape = tape_with_room(tape, account.entries, fills)
            move_to_targets(
                account,
                book.holding,
                day,
                tape,
                line.now[t],
                before,
                targets,
                opens,
                volumes,
                volatility,
                inputs.largest_coin,
                queue,
            )
        equity[t - first] = account.equity
        _add_instant(book, tape, totals)


@inlined
def target_quantities(book: Book, inputs: VariantInputs, row: int, totals: Record) -> Array:
    """Target quantities [S] of a decision; what does not decide keeps what it holds."""
    belief = _belief_row(inputs, row)
    account = _account_row(book, inputs)
    problem = problem_of(belief, account, inputs.terms)
    weights = problem.account.held
    status = SOLVED
    if not account.equity > 0.0:
        status = UNFINISHED
    elif belief.deciding.any():
        status, plan, _ = best_weights(problem, inputs.fraction)
        weights = plan[0]
    if status != SOLVED:
        totals.failures += 1
    steps = settled(problem, weights, status == SOLVED, account, belief.cuts).steps
    targets = account.quantity
    for s in range(len(targets)):
        if not np.isnan(steps[s]):
            targets[s] = quantity_of(steps[s], account.increment[s])
    return targets


@inlined
def _belief_row(inputs: VariantInputs, row: int) -> BeliefRow:
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
def _account_row(book: Book, inputs: VariantInputs) -> AccountRow:
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
    leverage, margin_equity = inputs.lent
    return AccountRow(
        quantity,
        holding["mark"].copy(),
        inputs.increment,
        inputs.tradable,
        len(quantity),
        equity,
        unborrowed_cash(account),
        granted_leverage(leverage, equity, margin_equity),
        equity >= margin_equity,
        1.0,
    )


@compiled
def _add_instant(book: Book, tape: Records, totals: Record) -> None:
    """Add an instant's fills and flows to the totals, and clear the flows."""
    account = book.account[0]
    for k in range(account.entries):
        fill = tape[k]
        if fill.price > 0.0:
            totals.notional += abs(fill.quantity) * fill.price
            totals.trades += 1
    totals.fees += account.fees
    totals.coin_fees += account.coin_fees
    totals.spread += account.spread
    totals.slippage += account.slippage
    totals.interest += account.interest
    totals.borrow += account.borrow
    totals.rounding += account.rounding
    account.fees = 0.0
    account.coin_fees = 0.0
    account.spread = 0.0
    account.slippage = 0.0
    account.interest = 0.0
    account.borrow = 0.0
    account.rounding = 0.0
    account.other = 0.0
    account.dividends = 0.0
