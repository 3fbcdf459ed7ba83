"""What drift found, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
from rich.console import RenderableType

from foundation.cents import to_cents
from foundation.decimals import ZERO
from foundation.figures import number
from foundation.tables import Table, json_text
from marketsimulator.results.drift_decisions import CAUSES, DecisionComparison
from marketsimulator.results.drift_orders import OrderComparison, Slippage
from marketsimulator.results.drift_terms import MEANINGS, Side, Term, Trade, cents
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
    def other_orders(self) -> list[OrderComparison]:
        """Those that were not filled the same."""
        return [order for order in self.orders if order.outcome != "same"]

    @property
    def agrees(self) -> bool:
        """Whether every decision and every fill is the same, and the profits are to the cent."""
        comparisons = [self.whole] if self.each is None else [self.whole, self.each]
        return (
            not any(comparison.differences for comparison in comparisons)
            and not self.other_orders
            and not any(cents(self.terms).values())
        )


def drift_json(drift: Drift) -> str:
    """Everything, for machines."""
    terms = cents(drift.terms)
    content = {
        "agrees": drift.agrees,
        "source": drift.source,
        "begins": drift.begins,
        "ends": drift.ends,
        "profit": {
            "live": to_cents(drift.live.profit),
            "simulated": to_cents(drift.simulated.profit),
            "difference": sum(terms.values(), Decimal(0)),
            "transfers": to_cents(drift.live.transfers),
            "terms": terms,
            "rest": to_cents(drift.rest),
        },
        "decisions": {
            "whole": _decisions_json(drift.whole),
            "each": drift.each and _decisions_json(drift.each),
        },
        "orders": {
            "compared": len(drift.orders),
            "same": len(drift.orders) - len(drift.other_orders),
            "differences": [
                {**_order_json(order), "later_by_seconds": order.lag}
                for order in drift.other_orders
            ],
        },
        "slippage": {row.symbol: row for row in drift.slippage},
    }
    return json_text(content)


def _order_json(order: OrderComparison) -> dict[str, Any]:
    """An order; its symbol stands once."""
    told = asdict(order)
    for side in filter(None, (told["live"], told["simulated"])):
        del side["symbol"]
    return told


def _decisions_json(comparison: DecisionComparison) -> dict[str, Any]:
    return {
        "compared": comparison.compared,
        "equal": comparison.equal,
        "causes": {cause: comparison.counts.get(cause, 0) for cause in CAUSES},
        "differences": comparison.differences,
    }


def drift_parts(drift: Drift) -> Iterator[RenderableType]:
    """Tables of the profit, the decisions, the orders and the slippage."""
    yield _profit(drift)
    if drift.live.transfers:
        paid = float(drift.live.transfers)
        yield f"Paid in less taken out: {number(paid, sign=True)} USD, no profit."
    comparisons = {"simulated from the beginning": drift.whole}
    if drift.each is not None:
        comparisons["each on the account as journaled"] = drift.each
    for name, comparison in comparisons.items():
        title = f"decisions, {name}: {comparison.equal} of {comparison.compared} instants are equal"
        yield _decisions(title, comparison) if comparison.differences else title
        if comparison.differences:
            counts = ", ".join(f"{count} {cause}" for cause, count in comparison.counts.items())
            yield f"{len(comparison.differences)} differences: {counts}"
    same = len(drift.orders) - len(drift.other_orders)
    title = f"orders: {same} of {len(drift.orders)} are filled the same"
    yield _orders(title, drift.other_orders) if drift.other_orders else title
    if drift.slippage:
        yield _slippage(drift.slippage)
    yield "No drift." if drift.agrees else "The live account drifts from the simulation."
    yield drift.source


def _profit(drift: Drift) -> Table:
    terms = cents(drift.terms)
    named = {f"{name}: {MEANINGS[name]}": usd for name, usd in terms.items() if usd}
    rows = {
        "live": to_cents(drift.live.profit),
        "simulated": to_cents(drift.simulated.profit),
        **named,
        "difference": sum(terms.values(), Decimal(0)),
    }
    title = f"profit, {utc_text(drift.begins)} to {utc_text(drift.ends)}"
    return Table(title, ("", "USD"), [(name, number(usd, sign=True)) for name, usd in rows.items()])


def _decisions(title: str, comparison: DecisionComparison) -> Table:
    heads = ("instant", "symbol", "field", "live", "simulated", "cause")
    rows = [
        (utc_text(d.at), d.symbol, d.field, d.live, d.simulated, f"{d.cause}: {d.why}")
        for d in comparison.differences[:SHOWN]
    ]
    return Table(title, heads, rows, words=(1, 2, 5))


def _orders(title: str, orders: Sequence[OrderComparison]) -> Table:
    rows = []
    for order in orders[:SHOWN]:
        later = "" if order.lag is None else f"{number(order.lag, 1, sign=True)} s"
        words = f"{order.outcome}: {order.why}" if order.why else order.outcome
        live, simulated = _filled_text(order.live), _filled_text(order.simulated)
        rows.append((order.name, live, simulated, later, words))
    return Table(title, ("order", "live", "simulated", "later by", "outcome"), rows, words=(4,))


def _slippage(rows: Sequence[Slippage]) -> Table:
    heads = ("symbol", "fills", "charged", "simulated", "realised", "± error")
    texts = [
        (row.symbol, str(row.fills), *("" if bp is None else number(bp) for bp in row.points))
        for row in rows
    ]
    return Table("slippage, basis points of value", heads, texts)


def _filled_text(order: Trade | None) -> str:
    if order is None:
        return "none"
    if order.price is None:
        return f"0 of {float(order.ordered):+g}"
    wanted = f" of {float(order.ordered):+g}" if order.quantity != order.ordered else ""
    return f"{float(order.quantity):+g}{wanted} at {number(float(order.price), 4)}"
