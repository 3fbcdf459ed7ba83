"""Records of decisions: arrays of sizing results, columns built from them, and `Decision`.

Live trading decides at one instant, a backtest at each instant of its history. The rows that
explain orders (see `choice`) are built from the columns only when they are read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import numpy as np

from execution.decision.beliefs import BeliefTable
from execution.decision.choice import (
    NO_RATIONALE,
    OPTIONAL_RATIONALE,
    UNIVERSE_RULE_PREFIX,
    Choice,
    Rationale,
)
from execution.decision.earned import EvidenceState
from execution.decision.problem import RoundedTargets
from execution.orders.orders import Order
from foundation.arrays import Array, Index, Mask, ObjectArray
from foundation.compiled import AnyArray
from sizing.allocation import Allocation, Strategy
from sizing.binding import (
    BINDING_LIMIT_NAMES,
    FIRST_GROUP_BIT,
    LIMITS_WITH_SHADOW_PRICE,
    BindingLimits,
    decode_binding_bits,
    limit_names_by_bit,
)
from sizing.limits import CEILING_NAMES, count_shadow_prices
from sizing.problem import DecisionProblem
from trainingdata.instants import DAY
from trainingdata.instruments import AssetClass, Instrument
from trainingdata.universe import EXCLUSION_RULES

NO_ORDER_REASONS = (
    "smallest_order",
    "dust",
)  # in the order of `ORDER_TOO_SMALL_CODE` and `DUST_POSITION_CODE`
# Reasons that fix a target: a limit, the venue's check of cash, an unsolved program, the overnight
# ceiling, a rule of the universe that the symbol fails, the venue's smallest order.
BINDING_REASONS = (
    *BINDING_LIMIT_NAMES,
    "unborrowed_cash",
    "failed",
    "overnight",
    *(f"{UNIVERSE_RULE_PREFIX}{rule}" for rule in EXCLUSION_RULES[1:]),
    *NO_ORDER_REASONS,
)
# Bits of the three reasons that follow BINDING_LIMIT_NAMES.
CASH_CHECK_BIT = len(BINDING_LIMIT_NAMES)
SIZING_FAILED_BIT = len(BINDING_LIMIT_NAMES) + 1
OVERNIGHT_TRIM_BIT = len(BINDING_LIMIT_NAMES) + 2
FIRST_NO_ORDER_BIT = len(BINDING_REASONS) - len(NO_ORDER_REASONS)
NON_LIMIT_REASONS = ("", "cost", "failed", "overnight")  # "": nothing binds


StrategyReasons = Mapping[tuple[int, int], str]  # a strategy's reason by row and symbol index
NO_STRATEGY_REASONS: StrategyReasons = MappingProxyType({})


class DecisionColumns(NamedTuple):
    """Decisions on N symbols, one array per figure; [N] unless stated, in the units of `Choice`.

    The N symbols belong to one decision or to several consecutive decisions.

    binding_bits: bit mask of the limits and reasons that bind; `reason_names` lists their names by
        bit.
    shadow_prices: [N, 7 + G] shadow prices of `LIMITS_WITH_SHADOW_PRICE` and of group limits.
    strategy_reason: texts, the strategy's own reasons; empty without one.
    rationale: one column per field of `Rationale`.
    group_limit_names: [G] names of the group limits.
    """

    mu: Array
    sigma: Array
    kelly: Array
    held_weight: Array
    target_weight: Array
    price: Array
    unit_cost: Array
    binding_bits: Index
    shadow_prices: Array
    strategy_reason: ObjectArray
    rationale: tuple[Array, ...]
    group_limit_names: tuple[str, ...] = ()

    @classmethod
    def from_choices(
        cls, choices: Sequence[Choice], group_limit_names: tuple[str, ...] = ()
    ) -> DecisionColumns:
        """Return choices as columns; the shadow price of a limit that does not bind is 0."""
        names = limit_names_by_bit(BINDING_REASONS, group_limit_names)
        priced = (*LIMITS_WITH_SHADOW_PRICE, *group_limit_names)

        def collect_column(name: str) -> Array:
            return np.array([getattr(choice, name) for choice in choices], dtype=np.float64)

        binding_bits = [_encode_binding_bits(each.binding_shadow_prices, names) for each in choices]
        prices = [
            [each.binding_shadow_prices.get(name, 0.0) for name in priced] for each in choices
        ]
        rationale = np.array([each.rationale for each in choices], dtype=np.float64)
        return cls(
            mu=collect_column("mu"),
            sigma=collect_column("sigma"),
            kelly=collect_column("kelly"),
            held_weight=collect_column("held_weight"),
            target_weight=collect_column("target_weight"),
            price=collect_column("price"),
            unit_cost=collect_column("unit_cost"),
            binding_bits=np.array(binding_bits, dtype=np.int64),
            shadow_prices=np.array(prices, dtype=np.float64).reshape(-1, len(priced)),
            strategy_reason=np.array([each.strategy_reason for each in choices], dtype=object),
            rationale=tuple(rationale.reshape(-1, len(Rationale._fields)).T),
            group_limit_names=group_limit_names,
        )

    @property
    def reason_names(self) -> tuple[str, ...]:
        """Names of all limits and reasons that can bind, in the order of their bits."""
        return limit_names_by_bit(BINDING_REASONS, self.group_limit_names)

    def select_rows(self, chosen: Index | slice) -> DecisionColumns:
        """Return the columns of the selected symbols."""
        names = self._fields[: self._fields.index("rationale")]
        columns: dict[str, Any] = {name: getattr(self, name)[chosen] for name in names}
        return self._replace(
            rationale=tuple([column[chosen] for column in self.rationale]), **columns
        )

    def choice_at(self, i: int, symbol: str, qty: Decimal) -> Choice:
        """Return row `i` as a `Choice`.

        symbol: name of the row's symbol.
        qty: signed quantity ordered.
        """
        prices = self.shadow_prices[i].tolist()
        unpriced = (math.nan,) * (FIRST_GROUP_BIT - len(LIMITS_WITH_SHADOW_PRICE))
        prices = (
            *prices[: len(LIMITS_WITH_SHADOW_PRICE)],
            *unpriced,
            *prices[len(LIMITS_WITH_SHADOW_PRICE) :],
        )
        parts = [float(column[i]) for column in self.rationale]
        rests_on = NO_RATIONALE if all(map(math.isnan, parts)) else Rationale(*parts)
        # Decisions are compared, and NaN differs from NaN.
        optional = {name: getattr(rests_on, name) for name in OPTIONAL_RATIONALE}
        unknown: dict[str, Any] = {
            name: None for name, value in optional.items() if math.isnan(value or 0.0)
        }
        rests_on = rests_on._replace(**unknown)
        return Choice(
            symbol=symbol,
            mu=float(self.mu[i]),
            sigma=float(self.sigma[i]),
            kelly=float(self.kelly[i]),
            held_weight=float(self.held_weight[i]),
            target_weight=float(self.target_weight[i]),
            qty=qty,
            price=float(self.price[i]),
            # If a name has two bits, the price at the later one counts.
            binding_shadow_prices={
                name: prices[k]
                for k, name in decode_binding_bits(int(self.binding_bits[i]), self.reason_names)
            },
            unit_cost=float(self.unit_cost[i]),
            rationale=rests_on,
            strategy_reason=self.strategy_reason[i],
        )

    def binding_shadow_prices(self) -> dict[str, Array]:
        """Return the shadow price [N] of each limit, by name; 0 in rows where it does not bind.

        Only limits that have a shadow price are included.
        """
        prices: dict[str, Array] = {}
        for k, name in enumerate((*LIMITS_WITH_SHADOW_PRICE, *self.group_limit_names)):
            bit = (
                k
                if k < len(LIMITS_WITH_SHADOW_PRICE)
                else FIRST_GROUP_BIT + k - len(LIMITS_WITH_SHADOW_PRICE)
            )
            prices[name] = np.where(self.binding_bits >> bit & 1, self.shadow_prices[:, k], 0.0)
        checked = (self.binding_bits >> CASH_CHECK_BIT & 1).astype(bool)
        prices["unborrowed_cash"][checked] = np.nan
        return prices

    def join_binding_names(self) -> Array:
        """Return the names of the limits and reasons that bind in each row, joined by `+`, [N]."""
        kinds, kind = np.unique(self.binding_bits, return_inverse=True)
        names = [
            dict.fromkeys(name for _, name in decode_binding_bits(bits, self.reason_names))
            for bits in kinds.tolist()
        ]
        texts = np.array(["+".join(each) for each in names], dtype=object)
        return texts[kind] if len(kinds) else texts


def _encode_binding_bits(binding: Iterable[str], names: tuple[str, ...]) -> int:
    """Return the bit mask of binding limits and reasons.

    binding: names of those that bind, in the order of their bits.
    names: all names; a name's position is its bit.
    """
    bits = 0
    last = 0
    for name in binding:
        # One name has two bits: its position among the others tells which of them is meant.
        cells = names.index(name, last if name in names[last:] else 0)
        bits |= 1 << cells
        last = cells
    return bits


def concatenate_columns(parts: Sequence[DecisionColumns]) -> DecisionColumns:
    """Join the columns of consecutive decisions."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in DecisionColumns._fields[: DecisionColumns._fields.index("rationale")]
    }
    rationale = tuple(map(np.concatenate, zip(*[part.rationale for part in parts], strict=True)))
    return first._replace(**columns, rationale=rationale)


@dataclass(frozen=True, slots=True)
class ClassSizingRule:
    """Sizing rule of one asset class, and the symbols that it sized; `str` returns its log line.

    asset_class: asset class.
    log_phrase: fixed name of the rule in the log, for which operators search.
    symbols: symbols that the rule sized, in the panel's order.
    """

    asset_class: AssetClass
    log_phrase: str
    symbols: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.log_phrase}: {' '.join(self.symbols)}"


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Decision:
    """Decision at one instant, with the figures and orders of its N symbols.

    at: instant of the decision.
    interval_end: end of the first period: the next decision that can change the positions.
    equity: equity of the account, USD.
    stock_ceiling: largest gross stock exposure allowed, in multiples of equity.
    symbols: [N] symbols that were due to trade, are trimmed to the overnight ceiling, or are closed
        because they have left the universe.
    quantities: [N] signed quantities ordered: shares or units of crypto.
    columns: columns of the N symbols.
    orders: orders in the sequence in which they are sent.
    sizing_rules: sizing rule and symbols of each asset class; empty if no weights were computed.
    sizing_failure: reason why enhanced sizing failed; empty if it did not.
    orders_to_cancel: the trader's own open orders that this decision replaces; they are cancelled
        before its orders are sent.
    evidence_state: evidence for the forecast after this decision; None if it is not judged. It is
        ignored when decisions are compared.
    """

    at: np.datetime64
    interval_end: np.datetime64
    equity: float
    stock_ceiling: float
    symbols: tuple[str, ...]
    quantities: tuple[Decimal, ...]
    columns: DecisionColumns
    orders: tuple[Order, ...]
    sizing_rules: tuple[ClassSizingRule, ...] = ()
    sizing_failure: str = ""
    orders_to_cancel: tuple[Order, ...] = ()
    evidence_state: EvidenceState | None = None

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Choices of the symbols, one per row of `columns`."""
        named = enumerate(zip(self.symbols, self.quantities, strict=True))
        return tuple([self.columns.choice_at(i, symbol, qty) for i, (symbol, qty) in named])

    @property
    def group_limit_names(self) -> tuple[str, ...]:
        """Names of the group limits."""
        return self.columns.group_limit_names

    @property
    def stated_stops(self) -> dict[str, float]:
        """Stop price that the strategy states, USD by symbol; symbols without a stop are absent."""
        stops = self.columns.rationale[Rationale._fields.index("stop_price")]
        return {
            symbol: stop
            for symbol, stop in zip(self.symbols, stops.tolist(), strict=True)
            if not math.isnan(stop)
        }

    @property
    def cancelled_quantities(self) -> dict[str, Decimal]:
        """Unfilled quantity of each order that the decision replaces, by client order id."""
        return {order.client_order_id: order.qty for order in self.orders_to_cancel}

    def _comparison_key(self) -> tuple[object, ...]:
        interval = self.at, self.interval_end, self.equity, self.stock_ceiling
        sent = self.orders, self.sizing_rules, self.sizing_failure, self.orders_to_cancel
        return (*interval, self.choices, *sent, self.group_limit_names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Decision) and self._comparison_key() == other._comparison_key()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Decision{self._comparison_key()}"


def decision_from_choices(
    at: np.datetime64,
    until: np.datetime64,
    equity: float,
    stock_ceiling: float,
    choices: Sequence[Choice],
    orders: tuple[Order, ...] = (),
    *,
    failure: str = "",
    group_limit_names: tuple[str, ...] = (),
) -> Decision:
    """Return a decision rebuilt from recorded choices; the arguments are fields of `Decision`."""
    return Decision(
        at=at,
        interval_end=until,
        equity=equity,
        stock_ceiling=stock_ceiling,
        symbols=tuple([choice.symbol for choice in choices]),
        quantities=tuple([choice.qty for choice in choices]),
        columns=DecisionColumns.from_choices(choices, group_limit_names),
        orders=orders,
        sizing_failure=failure,
    )


class DecisionArrays(NamedTuple):
    """Sizing results for R instants and S symbols, filled by compiled code; [R, S] unless stated.

    is_sized: [R] true if the strategy has computed weights; otherwise `unconstrained_weight` and
        all fields after it are NaN or 0.
    held_weight, target_weight: weights before and after the decision.
    lots: target as a signed number of quantity increments; NaN if the symbol is not traded.
    is_trimmed: true for stocks trimmed to the overnight ceiling without new weights.
    no_order_reason_codes: reason why a change of the position makes no order: 0 for none,
        `ORDER_TOO_SMALL_CODE` or `DUST_POSITION_CODE`.
    price: price used for sizing, USD.
    unit_cost: one-way cost of trading one USD.
    unconstrained_weight: weight before limits and costs, for a plan over all its periods.
    allocated_weight: weight under all limits, before it is rounded to lots.
    binding_bits: bit mask of the limits that bind the weight.
    symbol_bound_shadow_price: shadow price of the symbol's own bound.
    premium_weight, forecast_weight: parts of `unconstrained_weight` due to the premium and due to
        the forecast.
    stop_price: price at which the strategy closes the position, USD.
    shadow_prices: [R, 4 + G + K] shadow prices of 4 account ceilings, of G group limits, and of
        borrowing in K periods.
    """

    is_sized: Mask
    held_weight: Array
    target_weight: Array
    lots: Array
    is_trimmed: Mask
    no_order_reason_codes: Index
    price: Array
    unit_cost: Array
    unconstrained_weight: Array
    allocated_weight: Array
    binding_bits: Index
    symbol_bound_shadow_price: Array
    premium_weight: Array
    forecast_weight: Array
    stop_price: Array
    shadow_prices: Array

    @classmethod
    def empty(cls, rows: int, size: int, shadow_price_count: int) -> DecisionArrays:
        """Return arrays for R instants and S symbols, with all positions and targets at 0.

        shadow_price_count: number of shadow prices: 4 ceilings, G group limits and K borrowing
            periods.
        """
        columns: dict[str, Any] = {
            name: np.full((rows, size), np.nan) for name in cls._fields if name != "shadow_prices"
        }
        for name in ("held_weight", "target_weight"):
            columns[name] = np.zeros((rows, size))
        for name in ("binding_bits", "no_order_reason_codes"):
            columns[name] = np.zeros((rows, size), dtype=np.int64)
        return cls(
            **columns
            | {
                "is_sized": np.zeros(rows, dtype=bool),
                "is_trimmed": np.zeros((rows, size), dtype=bool),
                "shadow_prices": np.full((rows, shadow_price_count), np.nan),
            }
        )


def find_decided_cells(beliefs: BeliefTable, arrays: DecisionArrays) -> tuple[Index, Index]:
    """Return the row and symbol indices [N] of all decided cells, sorted by row, then symbol.

    A cell is one symbol at one instant. It is decided if the symbol is due to trade, is trimmed to
    the overnight ceiling, or is held and has left the universe.
    """
    exits = beliefs.is_exiting & (arrays.held_weight != 0.0)
    row, symbol = np.nonzero(beliefs.is_adjustable | arrays.is_trimmed | exits)
    return row, symbol


def build_decision_columns(
    beliefs: BeliefTable,
    arrays: DecisionArrays,
    cells: tuple[Index, Index],
    class_sharpe: Array,
    *,
    uses_forecast: bool,
    group_limit_names: tuple[str, ...] = (),
    has_forecast: bool = True,
    strategy_reasons: StrategyReasons = NO_STRATEGY_REASONS,
) -> DecisionColumns:
    """Convert sizing results to the columns of the decisions on the symbols in `cells`.

    cells: row and symbol indices [N], as `find_decided_cells` returns them.
    class_sharpe: [R, 2] Sharpe ratios of stocks and crypto that the strategy uses.
    uses_forecast: true if the strategy uses the forecast.
    has_forecast: false for a run without forecasts (forecaster=none), whose `mu` is NaN.
    strategy_reasons: the strategy's own reasons.
    """
    row, symbol = cells
    adjustable = beliefs.is_adjustable[cells]
    exits = beliefs.is_exiting[cells] & (arrays.held_weight[cells] != 0.0)
    sized = adjustable & arrays.is_sized[row]
    trimmed = arrays.is_trimmed[cells] & ~sized
    target = arrays.target_weight[cells]
    binding_bits = np.where(sized, arrays.binding_bits[cells], 0)
    no_order_reason_codes = arrays.no_order_reason_codes[cells]
    checked = sized & (no_order_reason_codes == 0) & (target != arrays.allocated_weight[cells])
    binding_bits |= checked.astype(np.int64) << CASH_CHECK_BIT
    binding_bits |= np.where(
        no_order_reason_codes > 0, 1 << (FIRST_NO_ORDER_BIT + no_order_reason_codes - 1), 0
    )
    binding_bits |= (adjustable & ~sized).astype(np.int64) << SIZING_FAILED_BIT
    binding_bits |= trimmed.astype(np.int64) << OVERNIGHT_TRIM_BIT
    binding_bits |= exits.astype(np.int64) << (
        OVERNIGHT_TRIM_BIT + beliefs.exclusion_rule[cells].astype(np.int64)
    )
    # All symbols of an instant share the shadow price of a limit on the book.
    count = len(CEILING_NAMES)
    last = count + len(group_limit_names)
    ceilings = arrays.shadow_prices[row, :count]
    groups = arrays.shadow_prices[row, count:last]
    financing = arrays.shadow_prices[:, last:].sum(axis=1)[row]
    own = arrays.symbol_bound_shadow_price[cells]
    return DecisionColumns(
        mu=beliefs.mu[row, 0, symbol] if has_forecast else np.full(len(row), np.nan),
        sigma=beliefs.sigma[row, 0, symbol],
        kelly=np.where(sized, arrays.unconstrained_weight[cells], np.nan),
        held_weight=arrays.held_weight[cells],
        target_weight=target,
        price=arrays.price[cells],
        unit_cost=np.where(sized | trimmed | exits, arrays.unit_cost[cells], np.nan),
        binding_bits=binding_bits,
        shadow_prices=np.column_stack([own, own, ceilings, financing, groups]),
        strategy_reason=_strategy_reason_column(strategy_reasons, cells, sized),
        rationale=_build_rationale_columns(
            beliefs, arrays, cells, sized, class_sharpe, uses_forecast
        ),
        group_limit_names=group_limit_names,
    )


def _strategy_reason_column(
    reasons: StrategyReasons, cells: tuple[Index, Index], sized: Mask
) -> ObjectArray:
    """Return the strategy's reason for each cell, [N]; empty where it computed no new weight."""
    column = np.full(len(sized), "", dtype=object)
    if reasons:
        row, symbol = (part.tolist() for part in cells)
        for k in np.flatnonzero(sized).tolist():
            column[k] = reasons.get((row[k], symbol[k]), "")
    return column


def _build_rationale_columns(
    beliefs: BeliefTable,
    arrays: DecisionArrays,
    cells: tuple[Index, Index],
    sized: Mask,
    class_sharpe: Array,
    uses_forecast: bool,
) -> tuple[Array, ...]:
    """Return the fields of `Rationale`, [N] each, over all periods of the plan.

    A field is NaN where the symbol has no new weight.

    cells: row and symbol indices [N].
    sized: [N] true where the strategy has computed a new weight.
    """
    row, symbol = cells
    sharpe = class_sharpe[row, beliefs.crypto[symbol].astype(np.intp)]
    premium = beliefs.premium_per_unit_sharpe[cells] * sharpe
    columns = (
        (beliefs.period_ends[row, -1] - beliefs.instants[row]) / DAY,
        sharpe,
        premium,
        premium * beliefs.symbol_trading_years[row, :, symbol].sum(axis=1),
        beliefs.mu[row, :, symbol].sum(axis=1) * beliefs.forecast_shares[row]
        if uses_forecast
        else np.zeros_like(premium),
        beliefs.shrinkage[cells],
        np.sqrt((beliefs.sigma[row, :, symbol] ** 2).sum(axis=1)),
        arrays.premium_weight[cells],
        arrays.forecast_weight[cells],
        arrays.stop_price[cells],
        beliefs.earned[row] if uses_forecast else np.full_like(premium, np.nan),
    )
    return tuple(np.where(sized, column, np.nan) for column in columns)


def build_decision_arrays(
    allocation: Allocation | None,
    problem: DecisionProblem,
    rounded_targets: RoundedTargets,
    price: Array,
) -> DecisionArrays:
    """Return the sizing results of one instant as arrays over the S symbols of a panel.

    allocation: result of the strategy; None if it computed no weights.
    problem, rounded_targets: sizing problem, and targets rounded to lots. In both, the panel's
        symbols come first, then positions outside the panel.
    price: [S] price used for sizing, USD.
    """
    size = len(price)

    def as_row(values: AnyArray) -> AnyArray:
        return cast(AnyArray, values[None, :size])

    given = allocation or _empty_allocation(problem)
    stops = np.full_like(given.forecast_weight, np.nan)
    return DecisionArrays(
        is_sized=np.array([allocation is not None]),
        held_weight=as_row(problem.account.held_weight),
        target_weight=as_row(rounded_targets.target_weight),
        lots=as_row(rounded_targets.lots),
        is_trimmed=as_row(rounded_targets.is_trimmed),
        no_order_reason_codes=as_row(rounded_targets.no_order_reason_codes),
        price=as_row(price),
        unit_cost=as_row(problem.costs.unit_cost[0]),
        unconstrained_weight=as_row(given.unconstrained_weight),
        allocated_weight=as_row(given.target_weight),
        binding_bits=as_row(given.binding_limits.binding_bits),
        symbol_bound_shadow_price=as_row(given.binding_limits.symbol_bound_shadow_price),
        premium_weight=as_row(given.premium_weight),
        forecast_weight=as_row(given.forecast_weight),
        stop_price=as_row(stops if given.stop_price is None else given.stop_price),
        shadow_prices=given.binding_limits.shadow_prices[None],
    )


def _empty_allocation(problem: DecisionProblem) -> Allocation:
    """Return an empty allocation, with fields of NaN or 0, for an instant without sizing."""
    size = len(problem.account.held_weight)
    none = np.full(size, np.nan)
    zeros = np.zeros(size, dtype=np.int64)
    binding_limits = BindingLimits(zeros, none, np.full(count_shadow_prices(problem), np.nan))
    return Allocation(none, none, binding_limits, none, none)


def build_class_sizing_rules(
    instruments: Sequence[Instrument], adjustable: Mask, strategy: Strategy, leverage: float
) -> tuple[ClassSizingRule, ...]:
    """Return the sizing rule of each asset class, with the symbols that it sized.

    adjustable: true for the instruments that were due to trade.
    leverage: leverage granted to stocks.
    """
    rules = []
    decided = [instruments[s] for s in np.flatnonzero(adjustable).tolist()]
    for kind in AssetClass:
        symbols = tuple(item.symbol for item in decided if item.kind is kind)
        if symbols:
            rules.append(ClassSizingRule(kind, strategy.log_phrase(kind, leverage), symbols))
    return tuple(rules)
