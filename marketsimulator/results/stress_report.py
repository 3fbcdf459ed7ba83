"""What stress found, as tables on the terminal and as one HTML page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from foundation.cents import usd_text
from foundation.page import render_page
from marketsimulator.results.stress_outcomes import OPTIONS, Outcome, Stress
from marketsimulator.results.stress_words import (
    call_text,
    claim,
    consequence,
    end_leverage,
    held_text,
    leverage_text,
    liquidated_text,
    liquidation_rows,
    remarks,
    source_text,
)
from marketsimulator.results.verdict import Verdict
from trainingdata.instants import utc_text

HEADS = (
    *("scenario", "loss", "of equity", "equity after", "leverage", "margin call"),
    *("the broker closes", "equity then", "leverage then"),
)
RULES = (
    "Margin, fees and liquidation are the simulator's own settlement on the moved prices, which"
    " stay where they are; nobody decides anything meanwhile. A broker's own order is its affair."
)


def stress_parts(found: Stress) -> Iterator[RenderableType]:
    """The worst case, the table of scenarios, losses by symbol, and what a reader should know."""
    yield from (claim(found), consequence(found))
    table = Table(*HEADS, title=held_text(found))
    for column in table.columns[1:5]:
        column.justify = "right"
    for outcome in found.outcomes:
        table.add_row(*_cells(found, outcome))
    yield table
    yield _by_symbol(found)
    yield from (f"{o.scenario.name}: {source_text(found, o)}" for o in found.outcomes)
    yield from (*remarks(found), RULES)


def _cells(found: Stress, outcome: Outcome) -> tuple[str, ...]:
    share = found.share(outcome.loss)
    wiped = ", wiped out" if outcome.wiped_out else ""
    return (
        outcome.scenario.name,
        usd_text(outcome.loss),
        "" if share is None else f"{share:.2%}",
        usd_text(outcome.equity) + wiped,
        f"{leverage_text(found.leverage)} to {leverage_text(outcome.leverage)}",
        call_text(outcome),
        liquidated_text(outcome),
        usd_text(outcome.equity_end),
        leverage_text(end_leverage(outcome)),
    )


def _by_symbol(found: Stress) -> Table:
    """Losses in USD, a column for each scenario."""
    names = [outcome.scenario.name for outcome in found.outcomes]
    table = Table("", "quantity", "mark", *names, title="loss")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in _loss_rows(found):
        table.add_row(*row)
    return table


def _loss_rows(found: Stress) -> list[tuple[str, ...]]:
    book = found.book
    held = zip(book.symbols, book.quantities.tolist(), book.marks.tolist(), strict=True)
    rows = []
    for symbol, quantity, mark in held:
        losses = (usd_text(outcome.losses[symbol]) for outcome in found.outcomes)
        rows.append((symbol, f"{quantity:,.10g}", f"{mark:,.6g}", *losses))
    if book.option_risk:
        losses = (usd_text(outcome.losses[OPTIONS]) for outcome in found.outcomes)
        rows.append((OPTIONS, "", "", *losses))
    rows.append(("sum", "", "", *(usd_text(outcome.loss) for outcome in found.outcomes)))
    return rows


def stress_page(found: Stress) -> str:
    """The page."""
    bad = any(outcome.wiped_out or outcome.settled.called for outcome in found.outcomes)
    verdict = Verdict("bad" if bad else "open", claim(found), consequence(found))
    return render_page(
        "marketsimulator/stress.html.j2",
        held=held_text(found),
        verdict=verdict,
        notes=remarks(found),
        heads=HEADS,
        rows=[_cells(found, outcome) for outcome in found.outcomes],
        rules=RULES,
        names=[outcome.scenario.name for outcome in found.outcomes],
        losses=_loss_rows(found),
        details=[_details(found, outcome) for outcome in found.outcomes],
    )


def _details(found: Stress, outcome: Outcome) -> dict[str, Any]:
    moves = outcome.moves
    rows = zip(found.book.symbols, moves.fractions.tolist(), moves.basis, strict=True)
    return {
        "name": outcome.scenario.name,
        "source": source_text(found, outcome),
        "moves": [(symbol, f"{move:+.2%}", basis) for symbol, move, basis in rows],
        "liquidations": [
            (
                each.symbol,
                utc_text(each.at),
                f"{each.quantity:+,.10g}",
                f"{each.price:,.4f}",
                usd_text(came),
                usd_text(cost),
            )
            for each, came, cost in liquidation_rows(outcome)
        ],
        "carrying": usd_text(outcome.carrying),
    }
