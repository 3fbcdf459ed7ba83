"""Report of the drift between a live account and its simulation: tables, JSON and a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal

import numpy as np
from rich.console import RenderableType

from foundation.decimals import ZERO_FRACTION, to_cents
from foundation.formatting import format_count, number, rounded_price, usd
from foundation.page import Section, render_page
from foundation.tables import Table, format_json
from marketsimulator.results.drift.decisions import CAUSE_MEANINGS, DecisionComparison
from marketsimulator.results.drift.orders import OrderComparison, UncomparedCounts
from marketsimulator.results.drift.terms import (
    COMPONENT_MEANINGS,
    DriftSide,
    ProfitComponent,
    Trade,
    to_whole_cents,
)
from marketsimulator.results.report_charts import Curve, bar_charts, curves_chart
from marketsimulator.results.verdict import Verdict
from trainingdata.instants import format_utc

MAX_ROWS_PRINTED = 12  # differences on the terminal; JSON has them all
MAX_ROWS_ON_PAGE = 300
SIDE_NAMES = ("live account", "simulation")


@dataclass(frozen=True, eq=False, slots=True)
class Drift:
    """Drift of a live account from its simulation over the same period.

    source: description of the journal and of the simulation's bars.
    start, end: period over which profits are measured.
    live, simulated: live account and simulated account.
    profit_components: live profit less simulated profit by cause, exact, USD.
    decisions: comparison of journaled decisions with decisions replayed on the journaled accounts.
    orders: comparison of the orders of both accounts.
    slippage: additional cost of live fills by symbol, basis points of value.
    uncompared_counts: number of decisions and orders after `end`, which are not compared.
    """

    source: str
    start: np.datetime64
    end: np.datetime64
    live: DriftSide
    simulated: DriftSide
    profit_components: dict[ProfitComponent, Fraction]
    decisions: DecisionComparison
    orders: tuple[OrderComparison, ...]
    slippage: Mapping[str, float]
    uncompared_counts: UncomparedCounts

    def __post_init__(self) -> None:
        if self.residual != 0:
            raise ValueError(
                f"the profit terms do not add up: {float(self.residual)} USD of the"
                " difference are unexplained"
            )

    @property
    def difference(self) -> Fraction:
        """Return live profit less simulated profit, USD."""
        return self.live.profit - self.simulated.profit

    @property
    def residual(self) -> Fraction:
        """Return the part of the profit difference that no term explains, USD."""
        return self.difference - sum(self.profit_components.values(), ZERO_FRACTION)

    @property
    def differing_orders(self) -> list[OrderComparison]:
        """Return the comparisons of orders whose fills differ."""
        return [order for order in self.orders if order.outcome != "same"]

    @property
    def is_conclusive(self) -> bool:
        """Return whether the comparison allows a verdict.

        It does if orders were compared, or if decisions were compared and no order was sent after
        the last snapshot.
        """
        return bool(self.orders) or (
            self.decisions.compared_instants > 0 and not self.uncompared_counts.orders
        )

    @property
    def is_equal(self) -> bool:
        """Return whether all compared decisions, fills and profits (to the cent) are equal."""
        return (
            not self.decisions.differences
            and not self.differing_orders
            and not any(to_whole_cents(self.profit_components).values())
        )


def drift_json(drift: Drift) -> str:
    """Return the content of `drift.json`: profit terms, decisions, orders and slippage."""
    terms = to_whole_cents(drift.profit_components)
    content = {
        "agrees": drift.is_equal if drift.is_conclusive or not drift.is_equal else None,
        "source": drift.source,
        "start": drift.start,
        "end": drift.end,
        "profit": {
            "live": to_cents(drift.live.profit),
            "simulated": to_cents(drift.simulated.profit),
            "difference": sum(terms.values(), Decimal(0)),
            "transfers": to_cents(drift.live.transfers),
            "terms": terms,
            "residual": to_cents(drift.residual),
        },
        "decisions": {
            "compared": drift.decisions.compared_instants,
            "equal": drift.decisions.equal_instants,
            "causes": {
                cause: drift.decisions.counts_by_cause.get(cause, 0) for cause in CAUSE_MEANINGS
            },
            "differences": drift.decisions.differences,
        },
        "orders": {
            "compared": len(drift.orders),
            "same": len(drift.orders) - len(drift.differing_orders),
            "differences": drift.differing_orders,
        },
        "not_compared": drift.uncompared_counts,
        "slippage": drift.slippage,
    }
    return format_json(content)


def render_drift_page(drift: Drift, curves: Sequence[Curve]) -> str:
    """Render the drift as one self-contained HTML page.

    curves: instants and equity of the live account, then of its simulation.
    """
    decisions, orders = drift.decisions, drift.differing_orders
    same = len(drift.orders) - len(orders)
    equal = f"{decisions.equal_instants} of {decisions.compared_instants} instants are equal."
    decision_parts: list[Table | str] = [equal]
    if decisions.differences:
        decision_parts.append(_decision_table("Differences", decisions, MAX_ROWS_ON_PAGE))
    order_parts: list[Table | str] = [f"{same} of {len(drift.orders)} orders have equal fills."]
    if orders:
        order_parts.append(_order_table("Differences", orders, MAX_ROWS_ON_PAGE))
    terms = to_whole_cents(drift.profit_components)
    components = {str(name): float(amount) for name, amount in terms.items() if amount}
    profit_text, slippage_text = "Live profit less simulated profit", "Slippage, basis points"
    slippage = {symbol: points for symbol, points in drift.slippage.items() if points}
    level: Literal["good", "open"] = "good" if drift.is_conclusive else "open"
    return render_page(
        "foundation/page.html.j2",
        title=f"Drift: {format_utc(drift.start)} to {format_utc(drift.end)}",
        subtitle=f"{drift.source} · amounts are USD",
        verdict=Verdict(level if drift.is_equal else "bad", _verdict(drift), _profit_text(drift)),
        warnings=list(_describe_uncompared(drift)),
        notes=[],
        sections=[
            Section("Equity", [curves_chart("Equity in USD", SIDE_NAMES, curves, "usd", usd)]),
            Section("Profit", [*bar_charts(profit_text, components, "usd"), _profit_table(drift)]),
            Section("Decisions", decision_parts),
            Section("Orders", order_parts),
            Section(
                "Slippage",
                bar_charts(slippage_text, slippage, "plain") or ["None."],
                "Live slippage in excess of the simulation, basis points of the traded value.",
            ),
        ],
    )


def _profit_text(drift: Drift) -> str:
    """Return a sentence with both profits and their difference."""
    live, simulated, gap = (
        usd(to_cents(each), sign=True)
        for each in (drift.live.profit, drift.simulated.profit, drift.difference)
    )
    return f"Profit of the live account {live}, of the simulation {simulated}, difference {gap}."


def drift_parts(drift: Drift) -> Iterator[RenderableType]:
    """Yield the verdict, then tables of profit, decisions, orders and slippage."""
    yield _verdict(drift)
    yield _profit_table(drift)
    if drift.live.transfers:
        paid = float(drift.live.transfers)
        yield f"Net deposits: {number(paid, sign=True)} USD, excluded from profit."
    decisions = drift.decisions
    title = (
        f"decisions: {decisions.equal_instants} of {decisions.compared_instants} instants are equal"
    )
    yield _decision_table(title, decisions) if decisions.differences else title
    if decisions.differences:
        counts = ", ".join(f"{count} {cause}" for cause, count in decisions.counts_by_cause.items())
        yield f"{len(decisions.differences)} differences: {counts}"
    same = len(drift.orders) - len(drift.differing_orders)
    title = f"orders: {same} of {len(drift.orders)} have equal fills"
    if not drift.orders:
        title = "orders: none compared"
    yield _order_table(title, drift.differing_orders) if drift.differing_orders else title
    yield from _describe_uncompared(drift)
    if drift.slippage:
        worse = ", ".join(f"{s} {number(bp, sign=True)}" for s, bp in drift.slippage.items())
        yield f"Live slippage in excess of the simulation, basis points: {worse}."
    yield drift.source


def _describe_uncompared(drift: Drift) -> Iterator[str]:
    """Report the decisions and orders that follow the last account snapshot, if there are any.

    They cannot be compared yet.
    """
    later = drift.uncompared_counts
    if later.orders or later.decisions:
        yield (
            f"Not compared: {format_count(later.orders, 'order')} ({later.filled_orders}"
            f" filled) and {format_count(later.decisions, 'decision')} after"
            f" {format_utc(drift.end)}. They"
            " can be compared after the next reading of the account, with bars up to then."
        )


def _verdict(drift: Drift) -> str:
    compared = format_count(drift.decisions.compared_instants, "decision")
    if not drift.is_equal:
        return "The live account drifts from the simulation."
    if not drift.is_conclusive:
        return f"No verdict on fills yet: {compared} compared, but no order."
    return f"No drift in {compared} and {format_count(len(drift.orders), 'order')}."


def _profit_table(drift: Drift) -> Table:
    terms = to_whole_cents(drift.profit_components)
    named = {f"{name}: {COMPONENT_MEANINGS[name]}": usd for name, usd in terms.items() if usd}
    rows = {
        "live": to_cents(drift.live.profit),
        "simulated": to_cents(drift.simulated.profit),
        **named,
        "difference": sum(terms.values(), Decimal(0)),
    }
    title = f"profit, {format_utc(drift.start)} to {format_utc(drift.end)}"
    return Table(title, ("", "USD"), [(name, number(usd, sign=True)) for name, usd in rows.items()])


def _decision_table(
    title: str, comparison: DecisionComparison, max_rows: int = MAX_ROWS_PRINTED
) -> Table:
    heads = ("instant", "symbol", "field", "live", "simulated", "cause")
    rows = [
        (format_utc(d.at), d.symbol, d.field, d.live, d.simulated, f"{d.cause}: {d.why}")
        for d in comparison.differences[:max_rows]
    ]
    return Table(title, heads, rows, text_columns=(1, 2, 5))


def _order_table(
    title: str, orders: Sequence[OrderComparison], max_rows: int = MAX_ROWS_PRINTED
) -> Table:
    rows = []
    for order in orders[:max_rows]:
        words = f"{order.outcome}: {order.why}" if order.why else order.outcome
        live, simulated = _format_fill(order.live), _format_fill(order.simulated)
        rows.append((order.name, live, simulated, words))
    return Table(title, ("order", "live", "simulated", "outcome"), rows, text_columns=(3,))


def _format_fill(order: Trade | None) -> str:
    if order is None:
        return "none"
    if order.price is None:
        return f"0 of {float(order.ordered_quantity):+g}"
    wanted = (
        f" of {float(order.ordered_quantity):+g}"
        if order.quantity != order.ordered_quantity
        else ""
    )
    return f"{float(order.quantity):+g}{wanted} at {rounded_price(float(order.price))}"
