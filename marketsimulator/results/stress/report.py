"""Report of a stress test: verdict and tables for the terminal, JSON and an HTML page."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from foundation.charts import Chart, Series, horizontal_line
from foundation.decimals import to_cents
from foundation.formatting import format_multiple, format_percent, format_quantity, format_usd
from foundation.page import Section, render_page
from foundation.tables import Table, format_json
from marketsimulator.results.report_charts import bar_charts
from marketsimulator.results.stress.outcomes import (
    MAX_MARGIN_CALL_SESSIONS,
    ScenarioOutcome,
    StressResult,
    compute_leverage,
)
from marketsimulator.results.verdict import Verdict

MARGIN_CALL_OUTCOME_TEXTS = {
    "none": "nothing",
    "met": "until the margin call is met",
    "nothing_left": "margin call not met, nothing left to close",
    "standing": f"margin call not met after {MAX_MARGIN_CALL_SESSIONS} sessions",
}


STOPS_NOTE = (
    "Loss with stops: if the prices move in a gap between two bars, stops fill at the opens after"
    " it. They do not limit this loss; closing adds spread, slippage and fees."
)


def stress_verdict(result: StressResult) -> tuple[str, str]:
    """Return two texts: the worst case; scenarios with margin calls or a wiped-out account."""
    worst = result.worst_outcome
    if worst is None:
        return "No scenario could be computed.", ""
    claim = "No scenario causes a loss."
    if worst.loss > 0:
        claim = (
            f"Worst case: {worst.name} loses"
            f" {format_usd(worst.loss)}{_format_equity_share(result, worst)}."
        )
    called = [each.name for each in result.outcomes if each.margin.has_margin_call]
    wiped = [each.name for each in result.outcomes if each.is_wiped_out]
    rest = f"Margin calls: {', '.join(called) or 'none'}."
    if wiped:
        rest += f" Wiped out: {', '.join(wiped)}."
    return claim, rest


def _format_equity_share(found: StressResult, outcome: ScenarioOutcome) -> str:
    equity = found.book.equity
    return f", {format_percent(float(outcome.loss) / equity, 1)} of equity" if equity > 0 else ""


def stress_json(result: StressResult) -> str:
    """Return the content of `stress.json`: amounts as text, instants in UTC."""
    book = result.book
    held = zip(book.symbols, book.quantities.tolist(), book.marks.tolist(), strict=True)
    content = {
        "source": book.description,
        "at": book.account.as_of,
        "claim": stress_verdict(result)[0],
        "worst": result.worst_outcome and result.worst_outcome.name,
        "book": {
            "cash": to_cents(book.account.cash),
            "equity": to_cents(book.equity),
            "leverage": _book_leverage(result),
            "option_risk": to_cents(book.max_option_loss),
            "positions": [{"symbol": s, "quantity": q, "mark": mark} for s, q, mark in held],
        },
        "scenarios": [
            {**asdict(each), "liquidations": [fill._asdict() for fill in each.liquidations]}
            for each in result.outcomes
        ],
        "remarks": result.book.notes,
    }
    return format_json(content)


def render_stress_page(result: StressResult) -> str:
    """Render a stress test as one self-contained HTML page."""
    claim, rest = stress_verdict(result)
    has_call = any(each.margin.has_margin_call or each.is_wiped_out for each in result.outcomes)
    worst = result.worst_outcome
    scenarios = scenario_table(result)
    losses = loss_table(result)
    charts = [_equity_chart(result)] if result.outcomes else []
    lost = {} if worst is None else {s: float(loss) for s, loss in worst.losses_by_symbol.items()}
    sources = Table(
        "Scenarios",
        ("scenario", "source"),
        [(each.name, each.source) for each in result.outcomes],
        left_aligned_columns=(1,),
    )
    return render_page(
        "foundation/page.html.j2",
        title="Stress test",
        subtitle=f"{result.book.description} · amounts are USD",
        verdict=Verdict("bad" if has_call else "open", claim, rest),
        warnings=[],
        notes=result.book.notes,
        sections=[
            Section(
                "Equity by scenario",
                charts,
                "Bars: after the price move, before any liquidation. Dots: at the end, after"
                " liquidations, their costs and nightly charges.",
            ),
            Section("Outcomes", [scenarios], STOPS_NOTE),
            Section(losses.title, [*bar_charts(losses.title, lost, "usd"), losses]),
            Section(sources.title, [sources]),
        ],
    )


def _equity_chart(result: StressResult) -> Chart:
    """Return the chart of equity after each scenario, beside the present equity."""
    names = tuple(each.name for each in result.outcomes)
    places = np.arange(float(len(names)))
    after = np.array([float(each.equity_after) for each in result.outcomes])
    final = np.array([float(each.final_equity) for each in result.outcomes])
    equity = result.book.equity
    texts = ", ".join(
        f"{name} {format_usd(left)}" for name, left in zip(names, after.tolist(), strict=True)
    )
    return Chart(
        f"Equity of {format_usd(equity)} after each scenario: {texts}",
        (
            Series("after the move", "first", places, after, "bars"),
            horizontal_line(equity, places, "quiet", "now"),
            Series("at the end", "third", places, final, "dots"),
        ),
        "usd",
        x_labels=names,
    )


def scenario_table(result: StressResult) -> Table:
    """Return a table with one row per scenario: loss, margin call and liquidation."""
    heads = ("scenario", "loss", "equity after", "margin call", "liquidated")
    more = ("loss with stops", "leverage after", "final equity", "final leverage")
    rows = [
        (
            each.name,
            format_usd(each.loss) + _format_equity_share(result, each),
            format_usd(each.equity_after),
            _describe_margin_call(each),
            _describe_liquidation(each),
            format_usd(each.loss_with_stops),
            _format_leverage(each.leverage_after),
            format_usd(each.final_equity),
            _format_leverage(each.final_leverage),
        )
        for each in result.outcomes
    ]
    equity, leverage = (
        format_usd(to_cents(result.book.equity)),
        _format_leverage(_book_leverage(result)),
    )
    title = f"{result.book.description}: equity {equity}, leverage {leverage}"
    optional = range(len(heads), len(heads) + len(more))
    return Table(
        title, (*heads, *more), rows, left_aligned_columns=(3, 4), optional_columns=optional
    )


def loss_table(result: StressResult) -> Table:
    """Return the table of price moves and losses by symbol in the worst scenario."""
    book = result.book
    held = zip(book.symbols, book.quantities.tolist(), book.marks.tolist(), strict=True)
    texts = {
        symbol: (format_quantity(size), format_quantity(mark, 6)) for symbol, size, mark in held
    }
    rows = []
    worst = result.worst_outcome
    for symbol, loss in worst.losses_by_symbol.items() if worst else ():
        move = worst.moves.get(symbol) if worst else None
        moved = ("", "") if move is None else (format_percent(move.fraction, sign=True), move.basis)
        rows.append((symbol, *texts.get(symbol, ("", "")), *moved, format_usd(loss)))
    heads = ("symbol", "quantity", "mark", "move", "source", "loss")
    return Table("Loss by symbol in the worst case", heads, rows, left_aligned_columns=(4,))


def _book_leverage(found: StressResult) -> float | None:
    return compute_leverage(float(abs(found.book.position_values).sum()), found.book.equity)


def _format_leverage(leverage: float | None) -> str:
    return "no equity" if leverage is None else format_multiple(leverage)


def _describe_margin_call(outcome: ScenarioOutcome) -> str:
    """Describe an outcome's margin call with its shortfall; without one, the excess margin."""
    margin = outcome.margin
    deficit = "; intraday deficit" if margin.has_intraday_deficit else ""
    if margin.has_margin_call and (margin.collateral_shortfall > 0 or not margin.had_margin_call):
        return f"call, shortfall {format_usd(margin.collateral_shortfall)}{deficit}"
    before = "earlier call, now met;" if margin.had_margin_call else "none;"
    return f"{before} excess {format_usd(-margin.collateral_shortfall)}{deficit}"


def _describe_liquidation(outcome: ScenarioOutcome) -> str:
    """Describe the quantities liquidated, by symbol, and whether the margin call was met."""
    sizes: dict[str, float] = {}
    for each in outcome.liquidations:
        sizes[each.symbol] = sizes.get(each.symbol, 0.0) + float(each.qty)
    closed = [f"{symbol} {format_quantity(size, sign=True)}" for symbol, size in sizes.items()]
    return ", ".join([*closed, MARGIN_CALL_OUTCOME_TEXTS[outcome.call_ending]])
