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
from foundation.formatting import format_count, format_number, format_rounded_price, format_usd
from foundation.page import Section, render_page
from foundation.tables import Table, format_json
from marketsimulator.results.drift.decisions import DIFFERENCE_CAUSE_MEANINGS, DecisionComparison
from marketsimulator.results.drift.orders import OrderComparison, UncomparedCounts
from marketsimulator.results.drift.terms import (
    COMPONENT_MEANINGS,
    ComparedAccount,
    ProfitComponent,
    Trade,
    round_terms_to_cents,
)
from marketsimulator.results.report_charts import bar_charts
from marketsimulator.results.returns_page import Curve, curves_chart
from marketsimulator.results.verdict import Verdict
from trainingdata.instants import format_utc

MAX_ROWS_PRINTED = 12  # differences on the terminal; JSON has them all
MAX_ROWS_ON_PAGE = 300
ACCOUNT_NAMES = ("live account", "simulation")


@dataclass(frozen=True, eq=False, slots=True)
class Drift:
    """Drift of a live account from its simulation over the same period.

    source_description: description of the journal and of the simulation's bars.
    start, end: period over which profits are measured.
    live_account, simulated_account: live account and simulated account.
    profit_components: live profit less simulated profit by cause, exact, USD.
    decision_comparison: comparison of journaled decisions with decisions replayed on the journaled
        accounts.
    order_comparisons: comparison of the orders of both accounts.
    excess_slippage_bps: additional cost of live fills by symbol, basis points of value.
    uncompared_counts: number of decisions and orders after `end`, which are not compared.
    """

    source_description: str
    start: np.datetime64
    end: np.datetime64
    live_account: ComparedAccount
    simulated_account: ComparedAccount
    profit_components: dict[ProfitComponent, Fraction]
    decision_comparison: DecisionComparison
    order_comparisons: tuple[OrderComparison, ...]
    excess_slippage_bps: Mapping[str, float]
    uncompared_counts: UncomparedCounts

    def __post_init__(self) -> None:
        if self.unexplained_difference != 0:
            raise ValueError(
                f"the profit terms do not add up: {float(self.unexplained_difference)} USD of the"
                " difference are unexplained"
            )

    @property
    def profit_difference(self) -> Fraction:
        """Return live profit less simulated profit, USD."""
        return self.live_account.profit - self.simulated_account.profit

    @property
    def unexplained_difference(self) -> Fraction:
        """Return the part of the profit difference that no term explains, USD."""
        return self.profit_difference - sum(self.profit_components.values(), ZERO_FRACTION)

    @property
    def differing_orders(self) -> list[OrderComparison]:
        """Return the comparisons of orders whose fills differ."""
        return [order for order in self.order_comparisons if order.outcome != "same"]

    @property
    def is_conclusive(self) -> bool:
        """Return whether the comparison allows a verdict.

        It does if orders were compared, or if decisions were compared and no order was sent after
        the last snapshot.
        """
        return bool(self.order_comparisons) or (
            self.decision_comparison.compared_instant_count > 0
            and not self.uncompared_counts.orders
        )

    @property
    def is_equal(self) -> bool:
        """Return whether all compared decisions, fills and profits (to the cent) are equal."""
        return (
            not self.decision_comparison.differences
            and not self.differing_orders
            and not any(round_terms_to_cents(self.profit_components).values())
        )


def drift_json(drift: Drift) -> str:
    """Return the content of `drift.json`: profit terms, decisions, orders and slippage."""
    terms = round_terms_to_cents(drift.profit_components)
    content = {
        "agrees": drift.is_equal if drift.is_conclusive or not drift.is_equal else None,
        "source": drift.source_description,
        "start": drift.start,
        "end": drift.end,
        "profit": {
            "live": to_cents(drift.live_account.profit),
            "simulated": to_cents(drift.simulated_account.profit),
            "difference": sum(terms.values(), Decimal(0)),
            "transfers": to_cents(drift.live_account.transfers),
            "terms": terms,
            "residual": to_cents(drift.unexplained_difference),
        },
        "decisions": {
            "compared": drift.decision_comparison.compared_instant_count,
            "equal": drift.decision_comparison.equal_instant_count,
            "causes": {
                cause: drift.decision_comparison.counts_by_cause.get(cause, 0)
                for cause in DIFFERENCE_CAUSE_MEANINGS
            },
            "differences": drift.decision_comparison.differences,
        },
        "orders": {
            "compared": len(drift.order_comparisons),
            "same": len(drift.order_comparisons) - len(drift.differing_orders),
            "differences": drift.differing_orders,
        },
        "not_compared": drift.uncompared_counts,
        "slippage": drift.excess_slippage_bps,
    }
    return format_json(content)


def render_drift_page(drift: Drift, curves: Sequence[Curve]) -> str:
    """Render the drift as one self-contained HTML page.

    curves: instants and equity of the live account, then of its simulation.
    """
    decisions, orders = drift.decision_comparison, drift.differing_orders
    same = len(drift.order_comparisons) - len(orders)
    equal = (
        f"{decisions.equal_instant_count} of {decisions.compared_instant_count} instants are equal."
    )
    decision_parts: list[Table | str] = [equal]
    if decisions.differences:
        decision_parts.append(_decision_table("Differences", decisions, MAX_ROWS_ON_PAGE))
    order_parts: list[Table | str] = [
        f"{same} of {len(drift.order_comparisons)} orders have equal fills."
    ]
    if orders:
        order_parts.append(_order_table("Differences", orders, MAX_ROWS_ON_PAGE))
    terms = round_terms_to_cents(drift.profit_components)
    components = {str(name): float(amount) for name, amount in terms.items() if amount}
    profit_text, slippage_text = "Live profit less simulated profit", "Slippage, basis points"
    slippage = {symbol: points for symbol, points in drift.excess_slippage_bps.items() if points}
    level: Literal["good", "open"] = "good" if drift.is_conclusive else "open"
    return render_page(
        "foundation/page.html.j2",
        title=f"Drift: {format_utc(drift.start)} to {format_utc(drift.end)}",
        subtitle=f"{drift.source_description} · amounts are USD",
        verdict=Verdict(level if drift.is_equal else "bad", _verdict(drift), _profit_text(drift)),
        warnings=list(_describe_uncompared(drift)),
        notes=[],
        sections=[
            Section(
                "Equity", [curves_chart("Equity in USD", ACCOUNT_NAMES, curves, "usd", format_usd)]
            ),
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
        format_usd(to_cents(each), sign=True)
        for each in (
            drift.live_account.profit,
            drift.simulated_account.profit,
            drift.profit_difference,
        )
    )
    return f"Profit of the live account {live}, of the simulation {simulated}, difference {gap}."


def drift_terminal_parts(drift: Drift) -> Iterator[RenderableType]:
    """Yield the verdict, then tables of profit, decisions, orders and slippage."""
    yield _verdict(drift)
    yield _profit_table(drift)
    if drift.live_account.transfers:
        paid = float(drift.live_account.transfers)
        yield f"Net deposits: {format_number(paid, sign=True)} USD, excluded from profit."
    decisions = drift.decision_comparison
    title = (
        f"decisions: {decisions.equal_instant_count} of {decisions.compared_instant_count}"
        " instants are equal"
    )
    yield _decision_table(title, decisions) if decisions.differences else title
    if decisions.differences:
        counts = ", ".join(f"{count} {cause}" for cause, count in decisions.counts_by_cause.items())
        yield f"{len(decisions.differences)} differences: {counts}"
    same = len(drift.order_comparisons) - len(drift.differing_orders)
    title = f"orders: {same} of {len(drift.order_comparisons)} have equal fills"
    if not drift.order_comparisons:
        title = "orders: none compared"
    yield _order_table(title, drift.differing_orders) if drift.differing_orders else title
    yield from _describe_uncompared(drift)
    if drift.excess_slippage_bps:
        worse = ", ".join(
            f"{s} {format_number(bp, sign=True)}" for s, bp in drift.excess_slippage_bps.items()
        )
        yield f"Live slippage in excess of the simulation, basis points: {worse}."
    yield drift.source_description


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
    compared = format_count(drift.decision_comparison.compared_instant_count, "decision")
    if not drift.is_equal:
        return "The live account drifts from the simulation."
    if not drift.is_conclusive:
        return f"No verdict on fills yet: {compared} compared, but no order."
    return f"No drift in {compared} and {format_count(len(drift.order_comparisons), 'order')}."


def _profit_table(drift: Drift) -> Table:
    terms = round_terms_to_cents(drift.profit_components)
    named = {f"{name}: {COMPONENT_MEANINGS[name]}": usd for name, usd in terms.items() if usd}
    rows = {
        "live": to_cents(drift.live_account.profit),
        "simulated": to_cents(drift.simulated_account.profit),
        **named,
        "difference": sum(terms.values(), Decimal(0)),
    }
    title = f"profit, {format_utc(drift.start)} to {format_utc(drift.end)}"
    return Table(
        title, ("", "USD"), [(name, format_number(usd, sign=True)) for name, usd in rows.items()]
    )


def _decision_table(
    title: str, comparison: DecisionComparison, max_rows: int = MAX_ROWS_PRINTED
) -> Table:
    heads = ("instant", "symbol", "field", "live", "simulated", "cause")
    rows = [
        (format_utc(d.at), d.symbol, d.field, d.live, d.simulated, f"{d.cause}: {d.why}")
        for d in comparison.differences[:max_rows]
    ]
    return Table(title, heads, rows, left_aligned_columns=(1, 2, 5))


def _order_table(
    title: str, orders: Sequence[OrderComparison], max_rows: int = MAX_ROWS_PRINTED
) -> Table:
    rows = []
    for order in orders[:max_rows]:
        words = f"{order.outcome}: {order.why}" if order.why else order.outcome
        live, simulated = _format_fill(order.live), _format_fill(order.simulated)
        rows.append((order.name, live, simulated, words))
    return Table(title, ("order", "live", "simulated", "outcome"), rows, left_aligned_columns=(3,))


def _format_fill(order: Trade | None) -> str:
    if order is None:
        return "none"
    if order.mean_price is None:
        return f"0 of {float(order.ordered_quantity):+g}"
    wanted = (
        f" of {float(order.ordered_quantity):+g}"
        if order.quantity != order.ordered_quantity
        else ""
    )
    return f"{float(order.quantity):+g}{wanted} at {format_rounded_price(float(order.mean_price))}"
