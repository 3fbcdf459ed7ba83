"""The decisions of a walk: why they are what they are, as columns made when somebody reads them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from execution.beliefs import BeliefTable
from execution.choices import (
    Answers,
    Believed,
    Choices,
    choices_of,
    class_rules,
    hours_between,
    targets_of,
)
from execution.decision import Basis, Choice, ClassRule, Decision, gap_a_year
from execution.decision_log import DecisionLog
from execution.frames import frame_of_columns
from execution.orders import Order, exact_decimal
from execution.rebalancing import rebalance
from foundation.arrays import Array, Index, Instants, Mask
from foundation.compiled import compiled, spread
from foundation.threads import side_by_side
from marketsimulator.runs.instants import Kept, WalkInputs, decision_again
from marketsimulator.runs.walk import Asked, Walk
from marketsimulator.settings import BacktestSettings
from sizing.allocation import sizing_problem
from sizing.binding import LIMITS, names_of
from sizing.kelly import failure_text
from sizing.situation import no_equity
from sizing.solver.active_set import SOLVED
from sizing.solver.multi_period import SizingProblem
from sizing.spans import Explanation, explained, explanation_of, kelly_by_span
from sizing.strategies import Legacy
from trainingdata.bars import Bars

_NOTHING = Decimal(0)
AT_ONCE = 256  # decisions explained in one call


class WalkedDecisions(DecisionLog):
    """The decisions that a walk has kept."""

    def __init__(
        self,
        settings: BacktestSettings,
        order_name: str,
        bars: Bars,
        table: BeliefTable,
        walk: Walk,
    ) -> None:
        """walk: over the table; those of its rows that it did not come to are left out."""
        self._settings = settings
        self._strategy = settings.sizing.chosen_strategy()
        self._order_name = order_name
        self._instruments = bars.instruments
        self._by_symbol = dict(zip(bars.symbols, bars.instruments, strict=True))
        self._symbols = bars.symbols
        self._timeframe = bars.timeframe
        self._table = table
        self._inputs = walk.inputs
        self._kept = walk.kept
        self._asked = walk.asked
        self.rows = settings.limits.of_groups().names

    @cached_property
    def _every(self) -> Asked:
        """What the decisions come to, those of rows that no decision is of among them."""
        if self._asked is not None:
            return self._asked
        kept = self._kept
        rows, size = kept.quantity.shape
        answers = Answers.room(rows, size, kept.prices.shape[1])._replace(
            sized=self._table.deciding.any(axis=1) & (kept.status == SOLVED),
            price=kept.price,
            cost=np.broadcast_to(self._inputs.terms.cost, (rows, size)),
            allocated=kept.weights[:, 0],
            prices=kept.prices,
            gap=kept.gap,
        )
        told = Asked(answers, np.full(rows, np.nan), np.full(rows, np.nan), {})
        singular = np.zeros(rows, dtype=np.bool_)

        def explain(begin: int) -> None:
            ceilings = told.ceiling, told.granted
            end = min(begin + AT_ONCE, rows)
            _explain(self._inputs, kept, begin, end, answers, ceilings, singular)

        for _ in side_by_side(explain, range(0, rows, AT_ONCE)):
            pass
        for row in np.flatnonzero(singular).tolist():
            chosen, problem, weights, _ = decision_again(self._inputs, kept, row)
            why = explanation_of(problem, weights, kept.prices[row], self._inputs.fraction)
            _write(answers, row, chosen, why)
        return told

    @cached_property
    def _rows(self) -> Index:
        """[D] of the table, of each decision: where something decides, is cut or has left."""
        walked = np.isfinite(self._kept.equity)
        answers = self._every.answers
        chosen = self._table.deciding | answers.cut
        chosen |= self._table.leaving & (answers.held != 0.0)
        return np.flatnonzero(walked & chosen.any(axis=1))

    @cached_property
    def _answers(self) -> Answers:
        columns: Any = [column[self._rows] for column in self._every.answers]
        return Answers(*columns)

    @cached_property
    def _unsized(self) -> Mask:
        """[D] whether something decides and the strategy has not answered."""
        return self._table.deciding[self._rows].any(axis=1) & ~self._answers.sized

    @cached_property
    def _choices(self) -> Choices:
        terms = self._inputs.terms
        believed = Believed.of_table(self._table, self._rows)
        return choices_of(
            believed,
            self._answers,
            terms.sharpe,
            uses_forecast=terms.forecast,
            rows=self.rows,
        )

    @cached_property
    def _quantities(self) -> Array:
        """[D, S] signed quantity ordered."""
        steps = self._answers.steps
        before = self._kept.quantity[self._rows]
        whole = np.array([float(item.increment) for item in self._instruments]) * steps
        # Whole billionths, as quantities are.
        return np.where(np.isnan(steps), 0.0, np.rint((whole - before) * 1e9) / 1e9)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def at(self) -> Instants:
        """[D] their instants."""
        return np.asarray(self._table.at[self._rows])

    @cached_property
    def stock_ceilings(self) -> Array:
        """[D] stock gross allowed, in multiples of equity."""
        return self._every.ceiling[self._rows]

    @cached_property
    def gaps(self) -> Array:
        """[D] as of `Decision`."""
        rows = self._rows
        ends, at = self._table.ends[rows], self._table.at[rows]
        gaps = [gap_a_year(*each) for each in zip(self._answers.gap, at, ends, strict=True)]
        return np.array(gaps, dtype=np.float64)

    @property
    def failures(self) -> int:
        """At how many of them nothing could be sized."""
        return int(self._unsized.sum())

    @cached_property
    def orders(self) -> Sequence[tuple[np.datetime64, Order]]:
        """Every order, with the instant of its decision."""
        ordered = np.flatnonzero(self._quantities.any(axis=1)).tolist()
        return [
            (self._table.at[self._rows[d]], order) for d in ordered for order in self.orders_of(d)
        ]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """DECISION_COLUMNS, a row per symbol that decided."""
        c = self._choices
        d, s = np.nonzero(c.chosen)
        rows = self._rows[d]
        kinds, kind = np.unique(c.holds[d, s], return_inverse=True)
        names = [
            dict.fromkeys(name for _, name in names_of(bits, c.names)) for bits in kinds.tolist()
        ]
        binding = np.array(["+".join(each) for each in names], dtype=object)
        quantity, price = self._quantities[d, s], c.price[d, s]
        shadows = c.shadow_prices()
        columns = {
            "at": self._table.at[rows],
            "symbol": np.array(self._symbols, dtype=object)[s],
            "mu": c.mu[d, s],
            "sigma": c.sigma[d, s],
            "kelly": c.kelly[d, s],
            "target": c.target[d, s],
            "qty": quantity,
            "binding": binding[kind] if len(kinds) else binding,
            "until": self._table.ends[rows, 0],
            "held": c.held[d, s],
            "price": price,
            "cost": np.where(quantity != 0.0, c.cost[d, s] * np.abs(quantity) * price, 0.0),
            **{
                f"plan_{name}": column[d, s]
                for name, column in zip(Basis._fields, c.basis, strict=True)
            },
            **{f"shadow_{name}": shadows[name][d, s] for name in LIMITS},
            "equity": self._kept.equity[rows],
            **{f"shadow_{name}": shadows[name][d, s] for name in self.rows},
        }
        return frame_of_columns({name: columns[name] for name in self.columns})

    def unsolved(self, most: int) -> list[Decision]:
        """The first of those whose problem was not solved."""
        solvent = self._kept.equity[self._rows] > 0
        return [self.decision(d) for d in np.flatnonzero(self._unsized & solvent)[:most]]

    def decision(self, number: int) -> Decision:
        """The object of one."""
        row = int(self._rows[number])
        return Decision(
            at=self._table.at[row],
            until=self._table.ends[row, 0],
            equity=float(self._kept.equity[row]),
            stock_ceiling=float(self.stock_ceilings[number]),
            choices=tuple(self._chosen(number, np.flatnonzero(self._choices.chosen[number]))),
            orders=self.orders_of(number),
            rule=self.rule_of(number),
            failure=self.failure_of(number),
            unsolved=self._unsolved_of(number),
            gap=float(self.gaps[number]),
            rows=self.rows,
        )

    def failure_of(self, number: int) -> str:
        """Why one was not sized; empty where it was, or nothing was to be."""
        if not self._unsized[number]:
            return ""
        row = int(self._rows[number])
        equity = float(self._kept.equity[row])
        if self._asked is not None:
            return self._asked.failed[row].failure
        if not equity > 0:
            return no_equity(equity)
        chosen, *_ = decision_again(self._inputs, self._kept, row)
        return failure_text(int(self._kept.status[row]), len(chosen))

    def rule_of(self, number: int) -> tuple[ClassRule, ...]:
        """Which rule sized which symbols of one."""
        if not self._answers.sized[number]:
            return ()
        deciding = self._table.deciding[self._rows[number]]
        granted = float(self._every.granted[self._rows[number]])
        key = deciding.tobytes(), granted
        rules = self._rules.get(key)
        if rules is None:
            rules = class_rules(self._instruments, deciding, self._strategy, granted)
            self._rules[key] = rules
        return rules

    @cached_property
    def _rules(self) -> dict[tuple[bytes, float], tuple[ClassRule, ...]]:
        return {}

    def orders_of(self, number: int) -> tuple[Order, ...]:
        """The orders of one."""
        ordered = np.flatnonzero(self._quantities[number])
        if not len(ordered):
            return ()
        row = self._rows[number]
        at, until = self._table.at[row], self._table.ends[row, 0]
        targets = targets_of(
            self._chosen(number, ordered),
            self._by_symbol,
            {self._symbols[s]: self._before(row, s) for s in ordered.tolist()},
            hours_between(at, until),
            self._settings.orders,
            self.failure_of(number),
            legacy=isinstance(self._strategy, Legacy) and bool(self._answers.sized[number]),
        )
        return rebalance(self._order_name, at, targets, self._timeframe)

    def _chosen(self, number: int, symbols: Index) -> list[Choice]:
        """The choices of one, of some symbols [n]."""
        row = self._rows[number]
        return [
            self._choices.choice(number, s, self._instruments[s], self._before(row, s))
            for s in symbols.tolist()
        ]

    def _before(self, row: int, s: int) -> Decimal:
        """The quantity held of a symbol before the decision of a row."""
        held = float(self._kept.quantity[row, s])
        return exact_decimal(held) if held else _NOTHING

    def _unsolved_of(self, number: int) -> SizingProblem | None:
        """The problem of one that was not solved."""
        row = int(self._rows[number])
        if not (self._unsized[number] and self._kept.equity[row] > 0):
            return None
        if self._asked is not None:
            return self._asked.failed[row].unsolved
        _, problem, *_ = decision_again(self._inputs, self._kept, row)
        return sizing_problem(problem, self._inputs.fraction)


@compiled
def _explain(
    inputs: WalkInputs,
    kept: Kept,
    begin: int,
    end: int,
    answers: Answers,
    ceilings: tuple[Array, Array],
    singular: Mask,
) -> None:
    """Say of the rows [begin, end) what they come to and why.

    ceilings: as of `Asked`. singular: marked where a covariance has no factor, so that machine code
    explains nothing.
    """
    ceiling, granted = ceilings
    for row in range(begin, end):
        if not np.isfinite(kept.equity[row]):
            continue
        chosen, problem, weights, after = decision_again(inputs, kept, row)
        spread(answers.held[row], chosen, problem.account.held)
        spread(answers.target[row], chosen, after.target)
        spread(answers.steps[row], chosen, after.steps)
        spread(answers.cut[row], chosen, after.cut)
        ceiling[row] = problem.limits.stock_ceiling
        granted[row] = problem.limits.granted
        if kept.status[row] == SOLVED and problem.account.deciding.any():
            by_span, without_factor = kelly_by_span(problem, inputs.fraction)
            if without_factor.any():
                singular[row] = True
                continue
            why = explained(problem, weights, kept.prices[row], by_span, inputs.fraction)
            _write(answers, row, chosen, why)


@compiled
def _write(answers: Answers, row: int, chosen: Index, why: Explanation) -> None:
    """Write an explanation of those chosen [m] of the symbols into its row."""
    spread(answers.unlimited[row], chosen, why.unlimited)
    spread(answers.limits_met[row], chosen, why.limits_met)
    spread(answers.own_price[row], chosen, why.own_price)
    spread(answers.blocks[row], chosen, why.blocks)
    spread(answers.premium[row], chosen, why.premium)
    spread(answers.forecast[row], chosen, why.forecast)
