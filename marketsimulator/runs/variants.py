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

from execution.beliefs import BeliefTable, block_moments, years_and_correlations
from forecasting.forecast import Progress, silent
from foundation.arrays import Array, Array32, Index, Mask, Records
from foundation.compiled import compiled
from foundation.errors import InputError
from marketsimulator.account.book import Book, Record, new_tape
from marketsimulator.account.margin import unborrowed_cash
from marketsimulator.account.rebalancing import (
    most_fills,
    move_to_targets,
    tape_with_room,
    whole_quantity,
)
from marketsimulator.account.settlement import mark_positions
from marketsimulator.account.terms import day_table
from marketsimulator.account.timeline import Timeline, advance, open_bars
from marketsimulator.settings import BacktestSettings
from sizing.allocation import best_weights
from sizing.limits import CENT, affordable_weights, granted_leverage, kept_share
from sizing.solver.active_set import SOLVED
from sizing.solver.multi_period import LaterBlocks, later_costs
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

    T' instants at which anything decides, K blocks, S symbols, D correlation matrices. What has no
    meaning here has that of `BeliefTable`.

    deciding: [T', S]
    overnight: [T']
    cuts: [T']
    mu: [T', K, S]
    sigma: [T', K, S]
    premium: [T', S] per year, of the variant's own prior.
    signal: [T', S] 0 where forecasts do not count.
    years: [T', K, 2]
    matrix: [T'] row of correlations.
    correlations: [D, S, S]
    shared: [T', K]
    toll: [T', K] of what is borrowed.
    cost: [S] of trading, a fraction.
    crypto: [S]
    long_only: [S]
    caps: as of `Limits`.
    leverage: by day, into the night.
    lent: by the broker, and the equity in USD from which it lends more than 1×.
    order_margin: times their price, at which the broker checks orders.
    fraction: of full Kelly.
    forecast: whether forecasts count.
    largest_coin: USD of one coin order at most.
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
    cost: Array
    crypto: Mask
    long_only: Mask
    caps: tuple[float, float, float]
    leverage: tuple[float, float]
    lent: tuple[float, float]
    order_margin: float
    fraction: float
    forecast: bool
    largest_coin: float


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
    tape = new_tape(4 * len(book.holding) + len(line.actions))
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
        premium=beliefs.premium * settings.prior.sharpe(bars.crypto),
        signal=beliefs.signal if rule.uses_forecast else np.zeros(beliefs.signal.shape),
        years=beliefs.years,
        matrix=beliefs.matrix,
        correlations=beliefs.correlations,
        shared=beliefs.shared,
        toll=settings.margin.nightly_rate(beliefs.at)[:, None] * beliefs.nights,
        cost=settings.costs.expected(bars.crypto, settings.fees),
        crypto=bars.crypto,
        long_only=bars.long_only,
        caps=limits.caps,
        leverage=(limits.intraday_leverage, limits.overnight_ceiling),
        lent=(settings.margin.leverage, settings.margin.margin_equity),
        order_margin=settings.margin.order_margin,
        fraction=rule.fraction,
        forecast=rule.uses_forecast,
        largest_coin=settings.orders.largest_value,
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
        account.fills = 0
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
            tape = tape_with_room(tape, account.fills, fills)
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


@compiled
def target_quantities(book: Book, inputs: VariantInputs, row: int, totals: Record) -> Array:
    """Target quantities [S]: `Trader.decide` on arrays.

    What does not decide, or has no answer, keeps what it holds.
    """
    deciding = inputs.deciding[row]
    account = book.account[0]
    targets = book.holding["quantity"].copy()
    # What is not held may have no mark yet.
    marks = np.where(targets != 0.0, book.holding["mark"], 0.0)
    # Added up as `Account` does, so that both divide by the same equity to the last bit.
    value = 0.0
    for s in range(len(targets)):
        value += targets[s] * marks[s]
    equity = account.cash + value
    cuts = inputs.cuts[row]
    # Weights are fractions of equity; where there is none, what can be closed is closed.
    if not equity > 0.0:
        totals.failures += 1
        return np.where(deciding | (cuts & ~inputs.crypto), 0.0, targets)
    held = targets * marks / equity
    leverage = inputs.leverage[1] if inputs.overnight[row] else inputs.leverage[0]
    reachable = granted_leverage(inputs.lent[0], equity, inputs.lent[1]) / inputs.order_margin
    ceiling = granted_leverage(min(leverage, reachable), equity, inputs.caps[2])
    unborrowed = unborrowed_cash(account) / equity / inputs.order_margin
    matrix = inputs.correlations[inputs.matrix[row]]
    years, correlation = years_and_correlations(
        inputs.years[row], matrix, inputs.crypto, inputs.shared[row]
    )
    moments = inputs.mu[row], inputs.sigma[row], inputs.premium[row], years, correlation
    mu, covariance, _ = block_moments(*moments, deciding, inputs.forecast, len(targets))
    status = SOLVED
    weights = held
    if deciding.any():
        leaving_cost = later_costs(inputs.cost, inputs.signal[row], len(mu) - 1)
        status, plan, _ = best_weights(
            mu[0],
            covariance[0],
            held,
            inputs.cost,
            inputs.crypto,
            inputs.long_only | (equity < inputs.lent[1]),
            deciding,
            equity,
            ceiling,
            unborrowed,
            inputs.caps,
            inputs.fraction,
            inputs.toll[row, 0],
            LaterBlocks(mu[1:], covariance[1:], inputs.toll[row, 1:], leaving_cost),
        )
        increment = book.holding["increment"] * marks / equity
        check = CENT / equity, unborrowed, inputs.order_margin
        weights = affordable_weights(plan[0], held, inputs.cost, inputs.crypto, increment, *check)
    # Stocks that nothing has sized are cut for the night in proportion; after a failure those are
    # all stocks.
    unsized = ~inputs.crypto & ~deciding
    if status != SOLVED:
        totals.failures += 1
        weights = held
        unsized = ~inputs.crypto
    share = kept_share(weights, inputs.crypto, unsized, ceiling) if cuts else 1.0
    for s in range(len(targets)):
        weight = held[s] * share if unsized[s] else weights[s]
        # A weight that stays as it is keeps the quantity to the last billionth.
        if weight != held[s]:
            position = book.holding[s]
            targets[s] = whole_quantity(weight * equity / position.mark, position.increment)
    return targets


@compiled
def _add_instant(book: Book, tape: Records, totals: Record) -> None:
    """Add an instant's fills and flows to the totals, and clear the flows."""
    account = book.account[0]
    for k in range(account.fills):
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
