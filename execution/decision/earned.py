"""What a forecast has earned: two virtual accounts, with it and without it, and the evidence.

Both accounts are sized by the run's Kelly strategy under its limits, one with the forecast and one
with the premium alone. They hold fractions of shares, trade at a symbol's next open, and pay the
expected costs, interest and borrow fees. They ignore lots, settlement of sales, rules for
reversals, and dividends on raw prices. The difference of their returns from decision to decision
is a bet (`forecasting.evidence`). The earned fraction is the lower bound of its mean over its mean.

The largest loss of a bet follows from the positions in which the accounts differ. One symbol may
double or become worthless, a stock within a session may move by 25 %, or all may move by a fifth of
that against the positions. Nothing else is assumed.

Dimensions: 2 accounts (with the forecast, without it), S symbols, K periods, T instants of a belief
table, R of them judged: those at which a symbol is due to trade.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from execution.decision.beliefs import BeliefTable, find_relevant_symbols
from execution.decision.problem import SizingParameters, build_problem, select_sizing_terms
from forecasting.evidence import (
    ALPHA,
    BettingEvidence,
    betting_capital,
    earned_fraction,
    growth_lower_bound,
    place_bets,
    start_bets,
)
from foundation.arrays import Array, Index, Instants, Mask, Matrix
from foundation.compiled import compiled, jit_inline, take
from sizing.allocation import solve_multi_period_plan
from sizing.limits import allowed_leverage, scale_crypto_buys_to_cash
from sizing.problem import AccountArrays
from sizing.solver.active_set import SOLVED
from trainingdata.bars import CLOSE, OPEN, Bars
from trainingdata.instants import new_york_date
from trainingdata.sessions import count_nights_between

NOTIONAL_EQUITY = 131_072.0  # USD, for limits that depend on equity; a power of two divides exactly
MIN_GROWTH = 1e-9  # growth of an account that has lost all of its equity; it restarts in cash
# Moves between two decisions that the largest loss of a bet allows for, and costs in addition.
LARGEST_MOVE = 1.0  # of one symbol
LARGEST_SESSION_MOVE = 0.25  # of one stock since a bar of the same session
JOINT_PART = 0.2  # of these, if all symbols move at once
LARGEST_COST = 0.01  # fraction of equity

KnownAt = Mapping[np.datetime64, np.datetime64]


class JudgingTerms(NamedTuple):
    """Terms by which the virtual accounts are sized and charged.

    class_sharpe: [T, 2] yearly Sharpe ratios of stocks and of crypto.
    financing_cost: [T, K] interest on one borrowed USD in each period of a plan.
    sizing_terms: costs and limits of a decision.
    fraction: fraction of full Kelly.
    leverage_and_margin_equity: the broker's leverage, and the equity (USD) from which it lends.
    interest_rate: [T] interest of a night on one borrowed USD.
    borrow_rate: [S] fee of a short position for a night, fraction of its value.
    error_share: error probability of the bound.
    is_hindsight: true for forecasts that may have been made when their outcome was known; they earn
        nothing.
    """

    class_sharpe: Array
    financing_cost: Array
    sizing_terms: SizingParameters
    fraction: float
    leverage_and_margin_equity: tuple[float, float]
    interest_rate: Array
    borrow_rate: Array
    error_share: float
    is_hindsight: bool


class _Steps(NamedTuple):
    """The R judged instants, and the market's moves since the judged instant before.

    rows: [R] rows of the belief table.
    filled, closed: [R, S] price of the symbol's first own bar since, at which orders fill, and its
        last close, both over its last close before; NaN without a bar.
    moves: [R, S] largest moves that the bets allow for, fraction of the last close before.
    nights: [R] nights since for which a loan costs interest.
    is_bet: [R] false for an instant without one before.
    """

    rows: Index
    filled: Matrix
    closed: Matrix
    moves: Matrix
    nights: Array
    is_bet: Mask


@dataclass(frozen=True, eq=False, slots=True)
class EvidenceState:
    """The virtual accounts and their bets after the decision at an instant.

    at: instant of the last judged decision.
    symbols: [S] symbols of the accounts.
    weights: [2, S] positions, multiples of the account's equity at the symbols' last closes.
    targets: [2, S] positions after open orders, likewise.
    bets: bets on the difference of returns.
    figures: the figures of `Judgement` at that instant.
    error_share: error probability of the bound.
    """

    at: np.datetime64
    symbols: tuple[str, ...]
    weights: Matrix
    targets: Matrix
    bets: BettingEvidence
    figures: tuple[float, ...]
    error_share: float

    @property
    def earned(self) -> float:
        """Fraction of its positions that the forecast had earned at the last judged decision."""
        return self.figures[-1]

    def to_json(self) -> str:
        """Return the state as JSON, from which `from_json` restores every bit."""
        entry = {
            "at": str(self.at),
            "symbols": self.symbols,
            "weights": self.weights,
            "targets": self.targets,
            "bets": self.bets,
            "figures": self.figures,
            "error_share": self.error_share,
        }
        return json.dumps(entry, default=np.ndarray.tolist)

    @classmethod
    def from_json(cls, text: str) -> EvidenceState:
        """Restore a state from JSON."""
        entry: dict[str, Any] = json.loads(text)
        capital, *counts = entry["bets"]
        bets = BettingEvidence(np.array(capital), *counts)
        weights, targets = (np.array(entry[name], np.float64) for name in ("weights", "targets"))
        at = np.datetime64(entry["at"], "ns")
        figures, share = tuple(entry["figures"]), entry["error_share"]
        return cls(at, tuple(entry["symbols"]), weights, targets, bets, figures, share)

    def positions_in(self, symbols: Sequence[str]) -> tuple[Matrix, Matrix]:
        """Return weights and targets of a panel's symbols, each [2, S]; others become cash."""
        place = {symbol: s for s, symbol in enumerate(self.symbols)}
        known = [s for s, symbol in enumerate(symbols) if symbol in place]
        before = [place[symbols[s]] for s in known]
        moved = np.zeros((2, 2, len(symbols)))
        moved[:, :, known] = np.stack([self.weights, self.targets])[:, :, before]
        return moved[0], moved[1]


# Before the first decision both accounts are in cash, and nothing is bet.
NO_EVIDENCE = EvidenceState(
    at=np.datetime64("NaT", "ns"),
    symbols=(),
    weights=np.zeros((2, 0)),
    targets=np.zeros((2, 0)),
    bets=start_bets(),
    figures=(np.nan, np.nan, 1.0, -np.inf, 0.0),
    error_share=ALPHA,
)


class Judgement(NamedTuple):
    """Evidence for a forecast at each instant of a belief table, before the decision; [T] each.

    Instants at which no symbol is due to trade have NaN.

    instants: instants of the table.
    difference: return with the forecast less that without it since the judged instant before.
    largest_loss: largest loss of this difference that the positions allowed.
    e_value: evidence against the claim that the forecast adds no return.
    lower_bound: lower bound of the mean difference; -inf if there is none yet.
    earned: fraction of the forecast's positions that it has earned, 0 … 1.
    """

    instants: Instants
    difference: Array
    largest_loss: Array
    e_value: Array
    lower_bound: Array
    earned: Array

    @property
    def breaches(self) -> Instants:
        """Instants at which more was lost than the largest loss, so that no error share holds."""
        return self.instants[self.difference < -self.largest_loss]

    @classmethod
    def empty(cls, instants: Instants) -> Judgement:
        """Return a judgement in which no instant is judged."""
        nothing = np.full(len(instants), np.nan)
        return cls(instants, *[nothing.copy() for _ in cls._fields[1:]])


def judge_beliefs(
    bars: Bars,
    table: BeliefTable,
    terms: JudgingTerms,
    before: EvidenceState,
    known_at: KnownAt = MappingProxyType({}),
) -> tuple[Judgement, EvidenceState]:
    """Judge the forecasts of a belief table; return the judgement and the state after its end.

    bars: bars visible at the table's last instant.
    table: beliefs; the forecasts count in full, whatever they have earned.
    before: state after an earlier decision. If it is not earlier than the table's only instant, the
        decision is repeated, and its figures are returned.
    known_at: when forecasts became known that were not known at their instant, by instant. They
        trade at the first price after that.
    """
    found = Judgement.empty(table.instants)
    if len(table.instants) and table.instants[0] <= before.at:
        return Judgement(found.instants, *[np.array([each]) for each in before.figures]), before
    rows = np.flatnonzero(table.is_adjustable.any(axis=1))
    if not len(rows):
        return found, before
    weights, targets = before.positions_in(bars.symbols)
    steps = _build_steps(bars, table.instants[rows], rows, before.at, known_at)
    plain = table._replace(earned=np.full(len(table.instants), np.nan))
    figures = np.empty((len(rows), 5))
    bets = judge_instants(plain, terms, steps, weights, targets, before.bets, figures)
    *judged, bound, mean = figures.T
    earned = np.zeros(len(rows)) if terms.is_hindsight else earned_fraction(bound, mean)
    for column, values in zip(found[1:], (*judged, bound, earned), strict=True):
        column[rows] = values
    last = tuple([float(column[rows[-1]]) for column in found[1:]])
    at = np.datetime64(table.instants[rows[-1]])
    last_state = EvidenceState(at, bars.symbols, weights, targets, bets, last, terms.error_share)
    return found, last_state


def _build_steps(
    bars: Bars, instants: Instants, rows: Index, since: np.datetime64, known_at: KnownAt
) -> _Steps:
    """Return the market's moves up to each judged instant, [R].

    since: the judged instant before; NaT for none.
    """
    earlier = np.concatenate([instants[:1] if np.isnat(since) else [since], instants[:-1]])
    known = np.array([known_at.get(at, at) for at in earlier], "datetime64[ns]")
    filled, closed = np.full((2, len(rows), len(bars.symbols)), np.nan)
    moves = np.full((len(rows), len(bars.symbols)), LARGEST_MOVE)
    dates = new_york_date(instants)
    for s in range(len(bars.symbols)):
        times, values = bars.bars_of_symbol(s)
        last = np.searchsorted(times, instants, side="right") - 1
        previous = np.searchsorted(times, earlier, side="right") - 1
        moved = np.flatnonzero((previous >= 0) & (last > previous))
        mark = values[previous[moved], CLOSE]
        filled[moved, s] = values[previous[moved] + 1, OPEN] / mark
        late = moved[known[moved] > earlier[moved]]
        filled[late, s] = _late_prices(bars, s, previous[late], last[late], known[late])
        filled[late, s] /= values[previous[late], CLOSE]
        closed[moved, s] = values[last[moved], CLOSE] / mark
        if not bars.crypto[s]:
            held = np.flatnonzero(previous >= 0)
            same = new_york_date(times[previous[held]]) == dates[held]
            moves[held[same], s] = LARGEST_SESSION_MOVE
    nights = count_nights_between(earlier, instants).astype(np.float64)
    is_bet = np.ones(len(rows), dtype=bool)
    is_bet[0] = not np.isnat(since)
    return _Steps(rows, filled, closed, moves, nights, is_bet)


def _late_prices(bars: Bars, s: int, previous: Index, last: Index, known: Instants) -> Array:
    """Return the first price after each instant [n]: the open of a bar, else a bar's close.

    previous, last: [n] last own bars at the decision and at the next one.
    """
    times, values = bars.bars_of_symbol(s)
    bar = np.clip(np.searchsorted(times, known), previous + 1, last)
    begins = bars.timeframe.clock(bars.instruments[s].kind).starts_by_end(times[bar])
    column = np.where(begins >= known, OPEN, CLOSE)
    return np.asarray(values[bar, column])


@compiled
def judge_instants(
    beliefs: BeliefTable,
    terms: JudgingTerms,
    steps: _Steps,
    weights: Matrix,
    targets: Matrix,
    bets: BettingEvidence,
    figures: Matrix,
) -> BettingEvidence:
    """Advance and resize both accounts from decision to decision; return the bets.

    weights, targets: [2, S] accounts, as in `EvidenceState`; changed in place.
    figures: [R, 5] set to difference, largest loss, e-value, lower bound and mean scaled difference
        at each instant.
    """
    growth = np.ones(2)
    for r in range(len(steps.rows)):
        row = steps.rows[r]
        largest_loss = _largest_loss(weights, targets, steps.moves[r])
        for a in range(2):
            growth[a] = _advance_account(weights[a], targets[a], steps, r, terms, row)
        difference = growth[0] - growth[1]
        if steps.is_bet[r]:
            bets = place_bets(bets, difference, largest_loss)
        figures[r, 0] = difference if steps.is_bet[r] else np.nan
        figures[r, 1] = largest_loss
        figures[r, 2] = betting_capital(bets, 0.0)
        figures[r, 3] = growth_lower_bound(bets, terms.error_share)
        figures[r, 4] = bets.total / bets.difference_count
        held = np.zeros(targets.shape[1], np.bool_)
        for s in range(len(held)):
            is_market = s == terms.sizing_terms.group_constraints.market_index
            held[s] = targets[0, s] != 0.0 or targets[1, s] != 0.0 or is_market
        chosen = find_relevant_symbols(beliefs.sigma[row], beliefs.exclusion_rule[row], held)
        for a in range(2):
            _size_account(beliefs, terms, row, chosen, targets[a], a == 0)
    return bets


@jit_inline
def _largest_loss(weights: Matrix, targets: Matrix, moves: Array) -> float:
    """Return the largest loss of the accounts' difference until the next decision.

    weights, targets: [2, S] positions before and after open orders.
    moves: [S] largest moves of the symbols.
    """
    total = 0.0
    largest = 0.0
    for s in range(len(moves)):
        before = weights[0, s] - weights[1, s]
        after = targets[0, s] - targets[1, s]
        loss = moves[s] * max(abs(before), abs(after))
        total += loss
        largest = max(largest, loss)
    return max(largest, JOINT_PART * total) + LARGEST_COST


@jit_inline
def _advance_account(
    weights: Array, targets: Array, steps: _Steps, r: int, terms: JudgingTerms, row: int
) -> float:
    """Fill open orders, charge costs and loans, and return the growth of the account's equity.

    weights, targets: [S] positions before and after open orders; changed in place.
    r, row: the instant, as a row of `steps` and of the beliefs.
    """
    profit = 0.0
    longs = 0.0
    fees = 0.0
    for s in range(len(weights)):
        closed = steps.closed[r, s]
        if not np.isnan(closed):
            filled = steps.filled[r, s]
            traded = targets[s] - weights[s]
            profit += weights[s] * (filled - 1.0) + targets[s] * (closed - filled)
            fees += abs(traded) * filled * terms.sizing_terms.unit_cost[s]
            targets[s] *= closed
            weights[s] = targets[s]
        longs += max(weights[s], 0.0)
        fees += max(-weights[s], 0.0) * terms.borrow_rate[s] * steps.nights[r]
    profit -= fees
    profit -= max(longs - 1.0 - profit, 0.0) * terms.interest_rate[row] * steps.nights[r]
    growth = 1.0 + profit
    is_ruined = growth <= MIN_GROWTH
    for s in range(len(weights)):
        weights[s] = 0.0 if is_ruined else weights[s] / growth
        targets[s] = 0.0 if is_ruined else targets[s] / growth
    return MIN_GROWTH if is_ruined else growth


@jit_inline
def _size_account(
    beliefs: BeliefTable,
    terms: JudgingTerms,
    row: int,
    chosen: Index,
    targets: Array,
    uses_forecast: bool,
) -> None:
    """Set the targets [S] of an account to those of a decision; open orders count as filled.

    Without a solution they stay as they are.

    chosen: [m] symbols that are held or may be held.
    """
    size = len(chosen)
    leverage, margin_equity = terms.leverage_and_margin_equity
    longs = 0.0
    for s in range(len(targets)):
        longs += max(targets[s], 0.0)
    account = AccountArrays(
        take(targets, chosen).copy(),
        np.full(size, NOTIONAL_EQUITY),
        np.zeros(size),
        np.zeros(size),
        np.zeros(size),
        np.ones(size, np.bool_),
        size,
        NOTIONAL_EQUITY,
        (1.0 - longs) * NOTIONAL_EQUITY,
        allowed_leverage(leverage, NOTIONAL_EQUITY, margin_equity),
        margin_equity <= NOTIONAL_EQUITY,
        1.0,
    )
    given = select_sizing_terms(terms.sizing_terms, chosen)
    sizing_terms = SizingParameters(
        given.crypto,
        given.long_only,
        given.unit_cost,
        uses_forecast,
        given.compiled_limits,
        given.intraday_and_overnight_leverage,
        given.order_price_buffer,
        given.group_constraints,
    )
    problem = build_problem(
        beliefs,
        row,
        chosen,
        terms.class_sharpe[row],
        terms.financing_cost[row],
        account,
        sizing_terms,
    )
    status, plan, _ = solve_multi_period_plan(problem, terms.fraction)
    if status != SOLVED:
        return
    first = scale_crypto_buys_to_cash(problem, plan[0])
    for a in range(size):
        if problem.account.exiting[a]:
            targets[chosen[a]] = 0.0
        elif problem.account.adjustable[a]:
            targets[chosen[a]] = first[a]
