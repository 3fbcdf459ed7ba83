"""What several ways to play the same came to, as words, as JSON and on a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from event_contracts.simulation.comparison import (
    MORE,
    Answer,
    Booked,
    Comparison,
    Estimate,
    Standing,
)
from event_contracts.trading.position_sizes import SHOWN, PositionSizeMetrics, size_view
from foundation.cli import Result
from foundation.figures import Words, counted, interval, number, percent, usd
from foundation.tables import Cell, Row, Table, json_text
from marketsimulator.results.comparison_page import Sheet
from marketsimulator.results.significance import LEVEL, SHORTEST
from marketsimulator.results.verdict import Verdict

HEADS = (
    *("run", "growth", "profit, USD", "Sharpe", "orders", "fills"),
    *(head for _, head, _, _ in SHOWN),
)
BOOKED = "account, as booked"
NO_FILLS = "No policy has any fill in these sessions: their figures compare nothing."
AMOUNT = partial(number, sign=True)
RATIO = partial(number, places=3, sign=True)
LEVELS: Mapping[str, Any] = {"yes": "good", "no": "bad", "no power": "open"}


def result_of(comparison: Comparison) -> Result:
    """The answers, a row a policy, and the sizes of each; the page and everything but its plots."""
    standings = comparison.standings
    sizes = {each.name: PositionSizeMetrics.of(each.episodes) for each in standings}
    first, *others = (_sentence(pair, answer) for pair, answer in comparison.answers.items())
    level = LEVELS[next(iter(comparison.answers.values())).verdict]
    groups = comparison.held_out.independent
    few = f"{counted(groups, 'group')} {'is' if groups == 1 else 'are'} fewer than {SHORTEST}"
    warning = f"{few}: nothing has an interval, and no question an answer."
    source = comparison.held_out.source
    sheet = Sheet(
        title="Policies over the same held-out sessions",
        subtitle=source,
        verdict=Verdict(level, first, " ".join([*others, *_booked_words(comparison)])),
        table=Table(source, HEADS, _rows(comparison, sizes)),
        warnings=[
            *([] if comparison.has_fills else [NO_FILLS]),
            *([warning] if groups < SHORTEST else []),
        ],
        notes=_notes(comparison),
    )
    views = {each.name: size_view(each.episodes) for each in standings}
    page = sheet.page("event_contracts/policies.html.j2", views=views)
    text = json_text(_content(comparison, sizes))
    files: dict[str, Callable[[Path], object]] = {
        "comparison.json": lambda path: path.write_text(text, encoding="utf-8"),
        "comparison.html": lambda path: path.write_text(page, encoding="utf-8"),
    }
    said = [first, *others, *_booked_words(comparison), *sheet.warnings, *sheet.notes]
    return Result([sheet.table], said, files)


def _rows(comparison: Comparison, sizes: Mapping[str, PositionSizeMetrics]) -> list[Row]:
    """The account as booked, and a row a policy."""
    rows = _booked_row(comparison)
    for each in comparison.standings:
        rows.append((each.name, *_cells(each, sizes[each.name])))
    return rows


def _booked_row(comparison: Comparison) -> list[Row]:
    """Return the account's own result, an episode; no policy played this row."""
    booked = comparison.booked
    if booked is None:
        return []
    count = len(comparison.held_out.sessions)
    cells = {
        "profit, USD": Cell(AMOUNT(float(booked.profit) / count)),
        "orders": Cell(number(booked.orders / count, 1)),
    }
    return [(BOOKED, *(cells.get(head, Cell(number(None))) for head in HEADS[1:]))]


def _booked_words(comparison: Comparison) -> list[str]:
    """Return the account's own result in words; nothing without a journal."""
    booked = comparison.booked
    if booked is None:
        return []
    missing = f"; no profit is stated for {', '.join(booked.unstated)}" if booked.unstated else ""
    return [
        f"{BOOKED}: {usd(booked.profit, sign=True)} of settled profit, {booked.filled} of"
        f" {counted(booked.orders, 'order')} filled{missing}. The other rows are replays."
    ]


def _cells(standing: Standing, sizes: PositionSizeMetrics) -> tuple[Cell, ...]:
    """A row's cells, one for each of `HEADS`."""
    figures = standing.judgement
    return (
        _estimate_cell(figures.growth, partial(percent, places=3, sign=True)),
        _estimate_cell(figures.profit_usd, AMOUNT),
        _estimate_cell(figures.sharpe, RATIO),
        Cell(number(standing.orders, 1)),
        Cell(number(standing.fills, 1)),
        # The histogram shows how many orders each size had.
        *(Cell(words(getattr(sizes, name))) for name, _, _, words in SHOWN),
    )


def _estimate_cell(estimate: Estimate, words: Words) -> Cell:
    """A figure, and its interval below it."""
    return Cell(words(estimate.value), below=interval(estimate.interval, words, " … "))


def _sentence(pair: tuple[str, str], answer: Answer) -> str:
    """The answer of a pair, in words."""
    one, other = pair
    excess = _estimate_cell(answer.excess_usd, AMOUNT)
    sharpe = _estimate_cell(answer.sharpe_difference, RATIO)
    return (
        f"Does {one} earn more than {percent(MORE, 0)} more than {other}, at a better Sharpe ratio?"
        f" {answer.verdict.capitalize()}: USD an episode beyond that {excess}; Sharpe ratio beyond"
        f" the other's {sharpe}."
    )


def _notes(comparison: Comparison) -> list[str]:
    """What has to be known to read the table."""
    groups = comparison.held_out.independent
    return [
        f"Figures are of an episode that begins with {usd(comparison.cash)}: growth of the"
        " account as a mean logarithm, mean profit after fees, and the Sharpe ratio, not annual."
        f" Intervals hold {percent(LEVEL, 0)}:"
        f" {counted(len(comparison.held_out.sessions), 'session')} in"
        f" {counted(groups, 'independent group')}, and the runs of a policy, are drawn anew.",
        "Yes: both differences lie above 0. No: one of them does not. No power: these sessions do"
        " not decide it.",
    ]


def _booked_content(booked: Booked | None) -> dict[str, Any] | None:
    if booked is None:
        return None
    return {
        "run": BOOKED,
        "total_profit_usd": float(booked.profit),
        "unstated": list(booked.unstated),
        "orders": booked.orders,
        "orders_filled": booked.filled,
    }


def _content(comparison: Comparison, sizes: Mapping[str, PositionSizeMetrics]) -> dict[str, Any]:
    """Everything but the plots, as JSON writes it; money in USD, growth and returns fractions."""
    held_out = comparison.held_out
    return {
        "data": held_out.source,
        "sessions": len(held_out.sessions),
        "groups": held_out.independent,
        "starting_cash": comparison.cash,
        "interval": LEVEL,
        "booked": _booked_content(comparison.booked),
        "runs": [
            {
                "run": each.name,
                "seeds": each.runs,
                **asdict(each.judgement),
                "total_profit_usd": each.profit,
                "orders": each.orders,
                "fills": each.fills,
                "sizes": sizes[each.name].as_json(),
            }
            for each in comparison.standings
        ],
        "answers": [
            {"run": one, "against": other, **asdict(answer)}
            for (one, other), answer in comparison.answers.items()
        ],
    }
