"""A comparison of policies as words, figures, and a report."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from event_contracts.simulation.comparison import Comparison, Standing
from event_contracts.simulation.judgement import MORE, Answer, Estimate
from event_contracts.simulation.size_report import SIZE_HEADS, SizeReport, size_cells
from execution.live.page_words import number
from foundation.counts import counted
from marketsimulator.results.significance import LEVEL, SHORTEST

HEADS = ("growth", "profit, USD", "Sharpe", "deflated", "orders", "fills", *SIZE_HEADS)


def report_of(comparison: Comparison) -> SizeReport:
    """The answers, a row a policy, and the sizes of each."""
    standings = comparison.standings
    return SizeReport(
        title="Policies over the same held-out sessions",
        source=comparison.held_out.source,
        sentences=_sentences(comparison),
        heads=HEADS,
        rows={each.name: _cells(each, comparison.cash) for each in standings},
        notes=_notes(comparison),
        views={each.name: each.view for each in standings},
        content=_content(comparison),
    )


def _cells(standing: Standing, cash: float) -> tuple[str, ...]:
    """A row's cells, one for each of `HEADS`; cash: USD at the beginning of an episode."""
    figures = standing.judgement
    return (
        _estimate_text(figures.growth, "+.3%"),
        _estimate_text(figures.profit, "+,.2f", cash),
        _estimate_text(figures.sharpe, "+.3f"),
        number(standing.deflated, ".0%"),
        f"{standing.orders:,.1f}",
        f"{standing.fills:,.1f}",
        *size_cells(standing.sizes),
    )


def _estimate_text(estimate: Estimate, style: str, unit: float = 1.0) -> str:
    """A figure and its interval; unit: by which both are multiplied."""
    text = number(estimate.value, style, scale=unit)
    if estimate.interval is None:
        return text
    low, high = (number(end, style, scale=unit) for end in estimate.interval)
    return f"{text} ({low} … {high})"


def _sentences(comparison: Comparison) -> tuple[str, ...]:
    """The answer of each pair, in words."""
    answers = comparison.answers.items()
    return tuple(_sentence(pair, answer, comparison.cash) for pair, answer in answers)


def _sentence(pair: tuple[str, str], answer: Answer, cash: float) -> str:
    one, other = pair
    excess = _estimate_text(answer.excess, "+,.2f", cash)
    sharpe = _estimate_text(answer.sharpe, "+.3f")
    return (
        f"Does {one} earn more than {MORE:.0%} more than {other}, at a better Sharpe ratio?"
        f" {answer.verdict.capitalize()}: USD an episode beyond that {excess}; Sharpe ratio beyond"
        f" the other's {sharpe}."
    )


def _notes(comparison: Comparison) -> tuple[str, ...]:
    """What has to be known to read the table."""
    groups = comparison.held_out.independent
    tried = comparison.trials
    text = [
        f"Figures are of an episode that begins with ${comparison.cash:,.2f}: growth of the"
        " account as a mean logarithm, mean profit after fees, and the Sharpe ratio, not annual."
        f" Intervals hold {LEVEL:.0%}: {counted(len(comparison.held_out.sessions), 'session')} in"
        f" {counted(groups, 'independent group')}, and the runs of a policy, are drawn anew.",
        "Yes: both differences lie above 0. No: one of them does not. No power: these sessions do"
        " not decide it.",
    ]
    if groups < SHORTEST:
        text.append(
            f"{counted(groups, 'group')} {'is' if groups == 1 else 'are'} fewer than {SHORTEST}:"
            " nothing has an interval, and no question an answer."
        )
    if tried is not None:
        text.append(
            f"Deflated: the probability that a Sharpe ratio is above 0 after"
            f" {counted(tried, 'trial')} on these sessions."
        )
    return tuple(text)


def _content(comparison: Comparison) -> dict[str, Any]:
    """Everything but the plots, as JSON writes it; money in USD, growth and returns fractions."""
    held_out = comparison.held_out
    return {
        "source": held_out.source,
        "sessions": len(held_out.sessions),
        "groups": held_out.independent,
        "first": held_out.first,
        "last": held_out.last,
        "starting_cash": comparison.cash,
        "interval": LEVEL,
        "trials": comparison.trials,
        "policies": {each.name: _figures(each, comparison.cash) for each in comparison.standings},
        "answers": [
            {
                "policy": one,
                "against": other,
                "verdict": answer.verdict,
                "excess_usd": _scaled(answer.excess, comparison.cash),
                "sharpe_difference": asdict(answer.sharpe),
            }
            for (one, other), answer in comparison.answers.items()
        ],
    }


def _figures(standing: Standing, cash: float) -> dict[str, Any]:
    figures = standing.judgement
    return {
        "runs": standing.runs,
        "growth": asdict(figures.growth),
        "profit_usd": _scaled(figures.profit, cash),
        "total_profit_usd": standing.profit,
        "sharpe": asdict(figures.sharpe),
        "deflated_sharpe": standing.deflated,
        "orders": standing.orders,
        "fills": standing.fills,
        "sizes": standing.sizes.as_json(),
    }


def _scaled(estimate: Estimate, cash: float) -> dict[str, Any]:
    value, interval = estimate.value, estimate.interval
    return {
        "value": None if value is None else cash * value,
        "interval": None if interval is None else [cash * end for end in interval],
    }
