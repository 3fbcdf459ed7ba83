"""Many variants over the same beliefs: one compiled loop a variant, with the backtest's account to
the cent.

What is believed is computed once; a variant changes what depends on the account: sizing.fraction,
limits, costs, fees, margin, fills, capital. The loops hold no lock and share the cores.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from execution.beliefs import Beliefs, block_moments, over_blocks
from forecasting.forecast import Progress, silent
from foundation.arrays import Array, Array32, Index, Mask, Records
from foundation.compiled import compiled
from foundation.errors import InputError
from marketsimulator.account.book import Book, new_tape
from marketsimulator.account.margin import unborrowed
from marketsimulator.account.rebalancing import fills_at_most, move, whole_quantity, with_room
from marketsimulator.account.settlement import mark
from marketsimulator.account.terms import day_table
from marketsimulator.account.timeline import Timeline, advance, open_bars
from marketsimulator.settings import BacktestSettings
from sizing.allocation import best_weights
from sizing.limits import kept_share, lent
from sizing.solver.active_set import SOLVED
from sizing.solver.multi_period import Later, later_costs
from sizing.strategies import Kelly
from trainingdata.bars import Bars

TOTALS = (
    "notional",
    "trades",
    "fees",
    "coin_fees",
    "spread",
    "slippage",
    "interest",
    "borrow",
    "rounding",
    "failures",
)
COSTS = ("fees", "coin_fees", "spread", "slippage", "interest", "borrow", "rounding")
FAILURES = TOTALS.index("failures")


class Plan(NamedTuple):
    """What a variant's trader goes by: the beliefs of a history, as `Beliefs` has them, and its own
    settings.

    premium [T', S]: of its own prior. signal [T', S]: 0 where forecasts do not count. toll [T', K]:
    of what is borrowed. caps: of a symbol, of all coins, and the equity below which nothing is
    short. leverage: by day, into the night. forecast: whether that counts. largest_coin: USD of one
    coin order at most.
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
    fraction: float
    forecast: bool
    largest_coin: float


@dataclass(frozen=True, eq=False, slots=True)
class Outcome:
    """One variant. equity [T] in USD at every instant, after its fills. totals: USD, and
    counts, by name.
    """

    equity: Array
    totals: Mapping[str, float]


def outcomes(
    variants: Sequence[BacktestSettings],
    bars: Bars,
    beliefs: Beliefs,
    first: int,
    *,
    workers: int | None = None,
    progress: Progress = silent,
) -> list[Outcome]:
    """What becomes of an account under each variant, over the same panel and beliefs, from instant
    number `first` on.

    Raises
    ------
    InputError
        for a variant that carries the rest of an order from bar to bar, which only the backtest
        does.
    """
    if any(variant.fills.remainder == "carry" for variant in variants):
        raise InputError(
            "fills.remainder: an in-process sweep cancels what a bar leaves; run carry as a"
            " backtest"
        )
    rows = np.full(len(bars.times), -1, dtype=np.int64)
    rows[np.searchsorted(bars.times, beliefs.at)] = np.arange(len(beliefs.at))
    base = variants[0].timeline(bars, impact=True)

    def one(variant: BacktestSettings) -> Outcome:
        return _outcome(variant, bars, beliefs, rows, first, base, variants[0])

    found: list[Outcome] = []
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        for outcome in pool.map(one, variants):
            found.append(outcome)
            progress("variants", len(found), len(variants))
    return found


def _outcome(
    settings: BacktestSettings,
    bars: Bars,
    beliefs: Beliefs,
    rows: Index,
    first: int,
    base: Timeline,
    like: BacktestSettings,
) -> Outcome:
    if settings.fills.coverage == like.fills.coverage:
        dates = base.days["date"].astype("datetime64[D]")
        line = base._replace(days=day_table(dates, settings.fees, settings.margin, settings.fills))
    else:
        line = settings.timeline(bars, impact=True)
    book = settings.book(bars)
    mark(book.account[0], book.holding, bars.between(0, first + 1).last_closes())
    limits = settings.limits.within(settings.margin.leverage)
    rule = settings.sizing.rule()
    if not (isinstance(rule, Kelly) and rule.multiplier == 1.0):
        raise InputError(
            "sizing.strategy: an in-process sweep sizes by Kelly alone; run other strategies as"
            " backtests"
        )
    equity = np.empty(len(bars.times) - first)
    totals = np.zeros(len(TOTALS))
    _follow(
        book,
        line,
        first,
        rows,
        Plan(
            beliefs.deciding,
            beliefs.overnight,
            beliefs.cuts,
            beliefs.mu,
            beliefs.sigma,
            beliefs.premium * settings.prior.sharpe(bars.crypto),
            beliefs.signal if rule.forecast else np.zeros(beliefs.signal.shape),
            beliefs.years,
            beliefs.matrix,
            beliefs.correlations,
            beliefs.shared,
            settings.margin.nightly(beliefs.at)[:, None] * beliefs.nights,
            settings.costs.expected(bars.crypto, settings.fees),
            bars.crypto,
            bars.long_only,
            (
                limits.symbol_cap,
                limits.crypto_leverage,
                max(limits.margin_equity, settings.margin.margin_equity),
            ),
            (limits.intraday_leverage, limits.into_the_night),
            rule.fraction,
            rule.forecast,
            settings.orders.largest,
        ),
        new_tape(4 * len(book.holding) + len(line.actions)),
        equity,
        totals,
    )
    return Outcome(equity, dict(zip(TOTALS, totals.tolist(), strict=True)))


@compiled
def _follow(
    book: Book,
    line: Timeline,
    first: int,
    rows: Index,
    plan: Plan,
    tape: Records,
    equity: Array,
    totals: Array,
) -> None:
    """Walk the instants from `first` on: what has become known, a decision where there is a
    belief, its fills.
    """
    account = book.account[0]
    turn = np.zeros(len(book.holding), np.int64)
    for t in range(first, len(line.now)):
        account.fills = 0
        if t > first:
            advance(book, line, tape, t)
        targets = np.empty(0)
        before = np.empty(0)
        row = rows[t]
        if row >= 0:
            before = book.holding["quantity"].copy()
            targets = _targets(book, plan, row, totals)
        opens, volumes, volatility = open_bars(book, line, tape, t)
        if row >= 0:
            day = line.days[line.day[t]]
            tape = with_room(
                tape, account.fills, fills_at_most(book.holding, targets, plan.largest_coin)
            )
            move(
                account,
                book.holding,
                day,
                tape,
                t,
                before,
                targets,
                opens,
                volumes,
                volatility,
                plan.largest_coin,
                turn,
            )
        equity[t - first] = account.equity
        _sum_up(book, tape, totals)


@compiled
def _targets(book: Book, plan: Plan, row: int, totals: Array) -> Array:
    """Target quantities [S]: `Trader.decide` on arrays.

    What does not decide, or has no answer, keeps what it holds.
    """
    deciding = plan.deciding[row]
    account = book.account[0]
    targets = book.holding["quantity"].copy()
    marks = np.where(targets != 0.0, book.holding["mark"], 0.0)
    value = 0.0
    for s in range(len(targets)):
        value += targets[s] * marks[s]
    equity = account.cash + value
    cuts = plan.cuts[row]
    if not equity > 0.0:
        totals[FAILURES] += 1
        return np.where(deciding | (cuts & ~plan.crypto), 0.0, targets)
    held = targets * marks / equity
    ceiling = lent(
        plan.leverage[1] if plan.overnight[row] else plan.leverage[0], equity, plan.caps[2]
    )
    free = max(0.0, unborrowed(account)) / equity
    years, correlation = over_blocks(
        plan.years[row], plan.correlations[plan.matrix[row]], plan.crypto, plan.shared[row]
    )
    moments = plan.mu[row], plan.sigma[row], plan.premium[row], years, correlation
    mu, covariance, _ = block_moments(*moments, deciding, plan.forecast, len(targets))
    status = SOLVED
    weights = held
    if deciding.any():
        status, found, _ = best_weights(
            mu[0],
            covariance[0],
            held,
            plan.cost,
            plan.crypto,
            plan.long_only,
            deciding,
            equity,
            ceiling,
            free,
            plan.caps,
            plan.fraction,
            plan.toll[row, 0],
            Later(
                mu[1:],
                covariance[1:],
                plan.toll[row, 1:],
                later_costs(plan.cost, plan.signal[row], len(mu) - 1),
            ),
        )
        weights = found[0]
    loose = ~plan.crypto & ~deciding
    if status != SOLVED:
        totals[FAILURES] += 1
        weights = held
        loose = ~plan.crypto
    share = kept_share(weights, plan.crypto, loose, ceiling) if cuts else 1.0
    for s in range(len(targets)):
        weight = held[s] * share if loose[s] else weights[s]
        if weight != held[s]:
            targets[s] = whole_quantity(
                weight * equity / book.holding[s].mark, book.holding[s].increment
            )
    return targets


@compiled
def _sum_up(book: Book, tape: Records, totals: Array) -> None:
    """Add an instant's fills and flows to the totals, and clear the flows."""
    account = book.account[0]
    for k in range(account.fills):
        fill = tape[k]
        if fill.price > 0.0:
            totals[0] += abs(fill.quantity) * fill.price
            totals[1] += 1
    totals[2] += account.fees
    totals[3] += account.coin_fees
    totals[4] += account.spread
    totals[5] += account.slippage
    totals[6] += account.interest
    totals[7] += account.borrow
    totals[8] += account.rounding
    account.fees = 0.0
    account.coin_fees = 0.0
    account.spread = 0.0
    account.slippage = 0.0
    account.interest = 0.0
    account.borrow = 0.0
    account.rounding = 0.0
    account.other = 0.0
    account.dividends = 0.0
