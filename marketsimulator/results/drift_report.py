"""What drift found, as a table and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
from rich.console import RenderableType
from rich.table import Table

from foundation.cents import to_cents
from foundation.decimals import ZERO
from marketsimulator.results.drift_decisions import CAUSES, DecisionComparison, DecisionDifference
from marketsimulator.results.drift_orders import Filled, OrderComparison, Slippage
from marketsimulator.results.drift_terms import MEANINGS, Side, Term, cents
from trainingdata.instants import utc_text

SHOWN = 12  # differences on the terminal; JSON has them all


@dataclass(frozen=True, eq=False, slots=True)
class Drift:
    """A live journal beside the simulation of the same hours.

    source: the journal, and the bars that were simulated on.
    begins, ends: instants between which the profits were earned.
    live, simulated: the accounts.
    terms: what the live one earned more, by cause; USD, exact.
    whole: decisions beside those of an account that was simulated from the beginning.
    each: the same beside those made anew for every account as journaled; none where it was not.
    orders: of either side.
    slippage: by symbol.
    """

    source: str
    begins: np.datetime64
    ends: np.datetime64
    live: Side
    simulated: Side
    terms: dict[Term, Fraction]
    whole: DecisionComparison
    each: DecisionComparison | None
    orders: tuple[OrderComparison, ...]
    slippage: tuple[Slippage, ...]

    def __post_init__(self) -> None:
        if self.rest != 0:
            raise ValueError(f"the terms leave {float(self.rest)} USD of the difference over")

    @property
    def difference(self) -> Fraction:
        """What the live account earned more, USD."""
        return self.live.profit - self.simulated.profit

    @property
    def rest(self) -> Fraction:
        """What the terms leave over, USD."""
        return self.difference - sum(self.terms.values(), ZERO)

    @property
    def agrees(self) -> bool:
        """Whether every decision and every fill is the same, and the profits are to the cent."""
        comparisons = [self.whole] if self.each is None else [self.whole, self.each]
        return (
            not any(comparison.differences for comparison in comparisons)
            and all(order.outcome == "same" for order in self.orders)
            and not any(cents(self.terms).values())
        )


def drift_json(drift: Drift) -> dict[str, Any]:
    """Everything, for machines: money and quantities as text, instants in UTC."""
    terms = cents(drift.terms)
    difference = sum(terms.values(), Decimal(0))
    return {
        "agrees": drift.agrees,
        "source": drift.source,
        "begins": _instant(drift.begins),
        "ends": _instant(drift.ends),
        "profit": {
            "live": _usd(drift.live.profit),
            "simulated": _usd(drift.simulated.profit),
            "difference": str(difference),
            "transfers": _usd(drift.live.transfers),
            "terms": {name: str(value) for name, value in terms.items()},
            "rest": _usd(drift.rest),
        },
        "decisions": {
            "whole": _decisions_json(drift.whole),
            "each": None if drift.each is None else _decisions_json(drift.each),
        },
        "orders": {
            "compared": len(drift.orders),
            "same": sum(order.outcome == "same" for order in drift.orders),
            "differences": [
                _order_json(order) for order in drift.orders if order.outcome != "same"
            ],
        },
        "slippage": {row.symbol: _slippage_json(row) for row in drift.slippage},
    }


def drift_parts(drift: Drift) -> Iterator[RenderableType]:
    """Tables of the profit, the decisions, the orders and the slippage."""
    yield from _profit_parts(drift)
    comparisons = [("simulated from the beginning", drift.whole)]
    if drift.each is not None:
        comparisons.append(("each on the account as journaled", drift.each))
    for name, comparison in comparisons:
        yield from _decisions_parts(name, comparison)
    yield from _orders_parts(drift.orders)
    yield from _slippage_parts(drift.slippage)
    verdict = "No drift." if drift.agrees else "The live account drifts from the simulation."
    yield verdict
    yield drift.source


def _profit_parts(drift: Drift) -> Iterator[RenderableType]:
    yield f"profit, {utc_text(drift.begins)} to {utc_text(drift.ends)}"
    table = Table("USD", "")
    table.columns[0].justify = "right"
    table.add_row(f"{float(drift.live.profit):+,.2f}", "live")
    table.add_row(f"{float(drift.simulated.profit):+,.2f}", "simulated")
    terms = cents(drift.terms)
    for name, value in terms.items():
        if value:
            table.add_row(f"{value:+,.2f}", f"{name}: {MEANINGS[name]}")
    table.add_row(f"{sum(terms.values(), Decimal(0)):+,.2f}", "difference")
    yield table
    if drift.live.transfers:
        paid = float(drift.live.transfers)
        yield f"Paid in less taken out: {paid:+,.2f} USD, no profit."


def _decisions_parts(name: str, comparison: DecisionComparison) -> Iterator[RenderableType]:
    title = f"decisions, {name}: {comparison.equal} of {comparison.compared} instants are equal"
    if not comparison.differences:
        yield title
        return
    table = Table("instant", "symbol", "field", "live", "simulated", "cause", title=title)
    for each in comparison.differences[:SHOWN]:
        fields = (each.symbol, each.field, each.live, each.simulated)
        table.add_row(utc_text(each.at), *fields, f"{each.cause}: {each.why}")
    yield table
    counts = ", ".join(f"{count} {cause}" for cause, count in comparison.counts.items())
    yield f"{len(comparison.differences)} differences: {counts}"


def _orders_parts(orders: Sequence[OrderComparison]) -> Iterator[RenderableType]:
    different = [order for order in orders if order.outcome != "same"]
    title = f"orders: {len(orders) - len(different)} of {len(orders)} are filled the same"
    if not different:
        yield title
        return
    table = Table("order", "live", "simulated", "later by", "outcome", title=title)
    for order in different[:SHOWN]:
        words = f"{order.outcome}: {order.why}" if order.why else order.outcome
        live, simulated = _filled_text(order.live), _filled_text(order.simulated)
        table.add_row(order.name, live, simulated, _lag_text(order), words)
    yield table


def _slippage_parts(rows: Sequence[Slippage]) -> Iterator[RenderableType]:
    if not rows:
        return
    headings = ("symbol", "fills", "charged", "simulated", "realised", "± error")
    table = Table(*headings, title="slippage, basis points of value")
    for row in rows:
        numbers = (row.charged, row.simulated, row.realised, row.error)
        table.add_row(row.symbol, str(row.fills), *(_points(number) for number in numbers))
    yield table


def _points(number: float) -> str:
    return "" if math.isnan(number) else f"{number:.2f}"


def _filled_text(order: Filled | None) -> str:
    if order is None:
        return "none"
    if order.price is None:
        return f"0 of {float(order.ordered):+g}"
    wanted = f" of {float(order.ordered):+g}" if order.quantity != order.ordered else ""
    return f"{float(order.quantity):+g}{wanted} at {float(order.price):,.4f}"


def _lag(order: OrderComparison) -> float | None:
    """Seconds by which the live order filled later; none where one did not fill."""
    if order.live is None or order.simulated is None:
        return None
    if order.live.at is None or order.simulated.at is None:
        return None
    return float((order.live.at - order.simulated.at) / np.timedelta64(1, "s"))


def _lag_text(order: OrderComparison) -> str:
    seconds = _lag(order)
    return "" if seconds is None else f"{seconds:+.1f} s"


def _decisions_json(comparison: DecisionComparison) -> dict[str, Any]:
    differences = [_difference_json(each) for each in comparison.differences]
    return {
        "compared": comparison.compared,
        "equal": comparison.equal,
        "causes": {cause: comparison.counts.get(cause, 0) for cause in CAUSES},
        "first": differences[0] if differences else None,
        "differences": differences,
    }


def _difference_json(each: DecisionDifference) -> dict[str, Any]:
    return {
        "at": _instant(each.at),
        "symbol": each.symbol,
        "field": each.field,
        "live": each.live,
        "simulated": each.simulated,
        "cause": each.cause,
        "why": each.why,
    }


def _order_json(order: OrderComparison) -> dict[str, Any]:
    return {
        "order": order.name,
        "symbol": order.symbol,
        "live": _filled_json(order.live),
        "simulated": _filled_json(order.simulated),
        "later_by_seconds": _lag(order),
        "outcome": order.outcome,
        "why": order.why,
    }


def _filled_json(order: Filled | None) -> dict[str, Any] | None:
    if order is None:
        return None
    return {
        "ordered": str(float(order.ordered)),
        "filled": str(float(order.quantity)),
        "price": None if order.price is None else str(float(order.price)),
        "at": None if order.at is None else _instant(order.at),
    }


def _slippage_json(row: Slippage) -> dict[str, Any]:
    numbers = {
        "charged_bp": row.charged,
        "simulated_bp": row.simulated,
        "realised_bp": row.realised,
        "error_bp": row.error,
    }
    finite = {key: None if math.isnan(value) else value for key, value in numbers.items()}
    return {"fills": row.fills, **finite}


def _instant(at: np.datetime64) -> str:
    return f"{np.datetime_as_string(at, unit='s')}Z"


def _usd(value: Fraction) -> str:
    return str(to_cents(value))
