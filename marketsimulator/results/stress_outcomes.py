"""What each scenario does to a book, in whole cents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from forecasting.forecast import Progress, silent
from foundation.cents import cents_that_add_up, to_cents
from marketsimulator.results.stress_book import HeldBook
from marketsimulator.results.stress_scenarios import Moves, NotComputed, Scenario, moves_of, unmoved
from marketsimulator.results.stress_settlement import Settled, SettlementTerms, settle

OPTIONS = "options"  # under which the greatest loss of open options stands


@dataclass(frozen=True, eq=False, slots=True)
class Outcome:
    """A scenario, and what it does to a book.

    scenario: what happens.
    moves: of the book's symbols.
    losses: USD by symbol, below 0 a gain; they add up to `loss` to the cent.
    loss: USD.
    equity: USD after the move, before the broker does anything.
    leverage: gross over equity then; none without equity.
    settled: what the broker does.
    costs: USD of spread, slippage and fees that liquidations cost.
    carrying: USD that the nights until then cost beside them: interest, borrowing and rounding.
    """

    scenario: Scenario
    moves: Moves
    losses: Mapping[str, Decimal]
    loss: Decimal
    equity: Decimal
    leverage: float | None
    settled: Settled
    costs: Decimal
    carrying: Decimal

    @property
    def equity_end(self) -> Decimal:
        """USD once the broker is done: what the move leaves less costs and carrying."""
        return self.equity - self.costs - self.carrying

    @property
    def wiped_out(self) -> bool:
        """Whether the account is worth less than nothing, after the move or at the end."""
        return self.equity < 0 or self.equity_end < 0


@dataclass(frozen=True, eq=False, slots=True)
class Stress:
    """A book under all scenarios.

    book: what is held.
    equity: USD before.
    leverage: gross over equity before; none without equity.
    outcomes: of the scenarios, in their order.
    skipped: why there is none, by scenario.
    unmoved: what the broker does to the book at prices that do not move.
    """

    book: HeldBook
    equity: Decimal
    leverage: float | None
    outcomes: tuple[Outcome, ...]
    skipped: Mapping[str, str]
    unmoved: Settled

    @property
    def worst(self) -> Outcome | None:
        """The scenario that loses most; none where there is none."""
        return max(self.outcomes, key=lambda outcome: outcome.loss, default=None)

    def share(self, usd: Decimal) -> float | None:
        """USD as a fraction of equity before; none without equity."""
        return float(usd / self.equity) if self.equity > 0 else None


def stress(
    book: HeldBook,
    scenarios: Sequence[Scenario],
    terms: SettlementTerms,
    window: int,
    progress: Progress = silent,
) -> Stress:
    """The book under each scenario.

    window: daily returns that deviations are estimated from, at most.

    Raises
    ------
    InputError
        for an instant after which the calendar has too few sessions.
    """
    outcomes = []
    skipped = {}
    for number, scenario in enumerate(scenarios, 1):
        progress("scenarios", number, len(scenarios))
        try:
            moves = moves_of(scenario, book, window)
        except NotComputed as error:
            skipped[scenario.name] = str(error)
            continue
        outcomes.append(_outcome(book, scenario, moves, terms))
    return Stress(
        book=book,
        equity=to_cents(book.equity),
        leverage=_leverage(book.gross, book.equity),
        outcomes=tuple(outcomes),
        skipped=skipped,
        unmoved=settle(book, unmoved(book), terms),
    )


def _outcome(book: HeldBook, scenario: Scenario, moves: Moves, terms: SettlementTerms) -> Outcome:
    parts = dict(zip(book.symbols, (-book.values * moves.fractions).tolist(), strict=True))
    if book.option_risk:
        parts[OPTIONS] = book.option_risk
    loss = to_cents(sum(parts.values()))
    equity = book.equity - sum(parts.values())
    gross = float(np.abs(book.values * (1.0 + moves.fractions)).sum())
    settled = settle(book, moves, terms)
    costs = to_cents(sum(each.cost for each in settled.liquidations))
    return Outcome(
        scenario=scenario,
        moves=moves,
        losses=cents_that_add_up(parts, loss),
        loss=loss,
        equity=to_cents(book.equity) - loss,
        leverage=_leverage(gross, equity),
        settled=settled,
        costs=costs,
        carrying=to_cents(equity - settled.equity - float(costs)),
    )


def _leverage(gross: float, equity: float) -> float | None:
    return gross / equity if equity > 0 else None
