"""The decisions of a walk: why they are what they are, as columns made when somebody reads them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from execution.decision.beliefs import BeliefTable
from execution.decision.choices import (
    Answers,
    Choices,
    choices_of,
    class_rules,
    hours_between,
    joined_choices,
    targets_of,
)
from execution.decision.decision import Choice, ClassRule, Decision, Rationale, gap_a_year
from execution.decision.rebalancing import rebalance
from execution.orders.orders import Order, exact_decimal
from foundation.arrays import Array, Index, Instants, Mask
from foundation.compiled import compiled, spread
from foundation.threads import side_by_side
from marketsimulator.records import DecisionLog, frame_of_columns
from marketsimulator.runs.instants import Kept, WalkInputs, decision_again
from marketsimulator.runs.walk import Walk
from marketsimulator.settings import BacktestSettings
from sizing.binding import LIMITS, names_of
from sizing.inputs import no_equity
from sizing.kelly import failure_text
from sizing.solver.active_set import SOLVED
from sizing.spans import Explanation, explained, explanation_of, kelly_by_span
from sizing.strategies import Legacy
from trainingdata.bars import Bars

_NOTHING = Decimal(0)
AT_ONCE = 256  # decisions explained in one call


class _Decided(NamedTuple):
    """D decisions as columns.

    rows: [D] of the table.
    sized: [D] whether a strategy has answered.
    ceiling, granted: [D] as of `BookLimits`.
    gap: [D] as of `Allocation`.
    choices: of the decisions.
    """

    rows: Index
    sized: Mask
    ceiling: Array
    granted: Array
    gap: Array
    choices: Choices


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
    def _every(self) -> _Decided:
        """The decisions of all rows."""
        count = max(1, len(self._kept.status))
        parts = list(side_by_side(self._decided_in, range(0, count, AT_ONCE)))
        choices = joined_choices([part.choices for part in parts], [len(p.rows) for p in parts])
        rows, sized, ceiling, granted, gap = (
            np.concatenate([part[k] for part in parts]) for k in range(5)
        )
        return _Decided(rows, sized, ceiling, granted, gap, choices)

    def _decided_in(self, begin: int) -> _Decided:
        """Those of AT_ONCE rows from `begin` on.

        A decision is where something decides, is cut or has left.
        """
        part = slice(begin, begin + AT_ONCE)
        walked = np.flatnonzero(np.isfinite(self._kept.equity[part]))
        answers, ceiling, granted = self._answered(part)
        columns: Any = [column[walked] for column in answers]
        terms = self._inputs.terms
        choices = choices_of(
            self._table.rows(begin + walked),
            Answers(*columns),
            self._inputs.class_sharpe[begin + walked],
            uses_forecast=terms.forecast,
            rows=self.rows,
        )
        decided, row = np.unique(choices.row, return_inverse=True)
        at = walked[decided]
        choices = choices._replace(row=row, prices=choices.prices[decided])
        return _Decided(
            begin + at, answers.sized[at], ceiling[at], granted[at], answers.gap[at], choices
        )

    def _answered(self, part: slice) -> tuple[Answers, Array, Array]:
        """Answers of a span of rows, whether a decision is of them or not; ceilings as `Asked`."""
        if self._asked is not None:
            asked: Any = [column[part] for column in self._asked.answers]
            return Answers(*asked), self._asked.ceiling[part], self._asked.granted[part]
        columns: Any = [column[part] for column in self._kept]
        kept = Kept(*columns)
        rows, size = kept.quantity.shape
        answers = Answers.room(rows, size, kept.prices.shape[1])._replace(
            sized=self._table.deciding[part].any(axis=1) & (kept.status == SOLVED),
            price=kept.price,
            cost=np.broadcast_to(self._inputs.terms.cost, (rows, size)),
            allocated=kept.weights[:, 0],
            prices=kept.prices,
            gap=kept.gap,
        )
        ceilings = np.full(rows, np.nan), np.full(rows, np.nan)
        singular = np.zeros(rows, dtype=np.bool_)
        _explain(self._inputs, kept, part.start, answers, ceilings, singular)
        for row in np.flatnonzero(singular).tolist():
            chosen, problem, weights, _ = decision_again(self._inputs, kept, row, part.start)
            why = explanation_of(problem, weights, kept.prices[row], self._inputs.fraction)
            _write(answers, row, chosen, why)
        return answers, *ceilings

    @property
    def _rows(self) -> Index:
        return self._every.rows

    @property
    def _choices(self) -> Choices:
        return self._every.choices

    @cached_property
    def _begins(self) -> Index:
        """[D + 1] the first choice of each decision, and their number."""
        return np.searchsorted(self._choices.row, np.arange(len(self._rows) + 1))

    @cached_property
    def _unsized(self) -> Mask:
        """[D] whether something decides and the strategy has not answered."""
        return self._table.deciding[self._rows].any(axis=1) & ~self._every.sized

    @cached_property
    def _quantities(self) -> Array:
        """[N] signed quantity ordered, of each choice."""
        c = self._choices
        before = self._kept.quantity[self._rows[c.row], c.symbol]
        increment = np.array([float(item.increment) for item in self._instruments])
        # Whole billionths, as quantities are.
        ordered = np.rint((increment[c.symbol] * c.steps - before) * 1e9) / 1e9
        return np.where(np.isnan(c.steps), 0.0, ordered)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def at(self) -> Instants:
        return np.asarray(self._table.at[self._rows])

    @cached_property
    def stock_ceilings(self) -> Array:
        """[D] stock gross allowed, in multiples of equity."""
        return self._every.ceiling

    @cached_property
    def gaps(self) -> Array:
        """[D] as of `Decision`."""
        rows = self._rows
        ends, at = self._table.ends[rows], self._table.at[rows]
        gaps = [gap_a_year(*each) for each in zip(self._every.gap, at, ends, strict=True)]
        return np.array(gaps, dtype=np.float64)

    @property
    def failures(self) -> int:
        return int(self._unsized.sum())

    @cached_property
    def orders(self) -> Sequence[tuple[np.datetime64, Order]]:
        """Every order, with the instant of its decision."""
        ordered = np.unique(self._choices.row[self._quantities != 0.0]).tolist()
        return [
            (self._table.at[self._rows[d]], order) for d in ordered for order in self.orders_of(d)
        ]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """DECISION_COLUMNS, a row per symbol that decided."""
        c = self._choices
        rows = self._rows[c.row]
        kinds, kind = np.unique(c.holds, return_inverse=True)
        names = [
            dict.fromkeys(name for _, name in names_of(bits, c.names)) for bits in kinds.tolist()
        ]
        binding = np.array(["+".join(each) for each in names], dtype=object)
        quantity = self._quantities
        shadows = c.shadow_prices()
        columns = {
            "at": self._table.at[rows],
            "symbol": np.array(self._symbols, dtype=object)[c.symbol],
            "mu": c.mu,
            "sigma": c.sigma,
            "kelly": c.kelly,
            "target": c.target,
            "qty": quantity,
            "binding": binding[kind] if len(kinds) else binding,
            "until": self._table.ends[rows, 0],
            "held": c.held,
            "price": c.price,
            "cost": np.where(quantity != 0.0, c.cost * np.abs(quantity) * c.price, 0.0),
            **dict(zip([f"plan_{name}" for name in Rationale._fields], c.rationale, strict=True)),
            **{f"shadow_{name}": shadows[name] for name in LIMITS},
            "equity": self._kept.equity[rows],
            **{f"shadow_{name}": shadows[name] for name in self.rows},
        }
        return frame_of_columns({name: columns[name] for name in self.columns})

    def decision(self, number: int) -> Decision:
        """The object of one."""
        row = int(self._rows[number])
        return Decision(
            at=self._table.at[row],
            until=self._table.ends[row, 0],
            equity=float(self._kept.equity[row]),
            stock_ceiling=float(self.stock_ceilings[number]),
            choices=tuple(self._chosen(number)),
            orders=self.orders_of(number),
            rule=self.rule_of(number),
            failure=self.failure_of(number),
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
        if not self._every.sized[number]:
            return ()
        deciding = self._table.deciding[self._rows[number]]
        granted = float(self._every.granted[number])
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
        chosen = self._chosen(number, ordered=True)
        if not chosen:
            return ()
        row = self._rows[number]
        at, until = self._table.at[row], self._table.ends[row, 0]
        places = self._symbols.index
        targets = targets_of(
            chosen,
            self._by_symbol,
            {choice.symbol: self._before(row, places(choice.symbol)) for choice in chosen},
            hours_between(at, until),
            self._settings.orders,
            self.failure_of(number),
            legacy=isinstance(self._strategy, Legacy) and bool(self._every.sized[number]),
        )
        return rebalance(self._order_name, at, targets, self._timeframe)

    def _chosen(self, number: int, *, ordered: bool = False) -> list[Choice]:
        """The choices of one; ordered: those of which something is ordered."""
        c = self._choices
        row = self._rows[number]
        chosen = np.arange(*self._begins[number : number + 2])
        if ordered:
            chosen = chosen[self._quantities[chosen] != 0.0]
        return [
            c.choice(i, self._instruments[s], self._before(row, s))
            for i, s in zip(chosen.tolist(), c.symbol[chosen].tolist(), strict=True)
        ]

    def _before(self, row: int, s: int) -> Decimal:
        """The quantity held of a symbol before the decision of a row."""
        held = float(self._kept.quantity[row, s])
        return exact_decimal(held) if held else _NOTHING


@compiled
def _explain(
    inputs: WalkInputs,
    kept: Kept,
    begin: int,
    answers: Answers,
    ceilings: tuple[Array, Array],
    singular: Mask,
) -> None:
    """Say of the rows kept, from `begin` on of the table, what they come to and why.

    ceilings: as of `Asked`. singular: marked where a covariance has no factor, so that machine code
    explains nothing.
    """
    ceiling, granted = ceilings
    for row in range(len(kept.status)):
        if not np.isfinite(kept.equity[row]):
            continue
        chosen, problem, weights, after = decision_again(inputs, kept, row, begin)
        spread(answers.held[row], chosen, problem.account.held)
        spread(answers.target[row], chosen, after.target)
        spread(answers.steps[row], chosen, after.steps)
        spread(answers.cut[row], chosen, after.cut)
        spread(answers.unsent[row], chosen, after.unsent)
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
    spread(answers.periods[row], chosen, why.periods)
    spread(answers.premium[row], chosen, why.premium)
    spread(answers.forecast[row], chosen, why.forecast)
