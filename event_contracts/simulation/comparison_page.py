"""A comparison as words, JSON, and one self-contained page."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from event_contracts.simulation.comparison import Comparison, Standing
from event_contracts.simulation.judgement import MORE, Answer, Estimate
from event_contracts.trading.size_section import SIZE_MACRO, SIZE_STYLE
from foundation.charts import CHART_MACRO, CHART_STYLE
from foundation.counts import counted
from foundation.files import write_whole
from foundation.page import render_page
from marketsimulator.results.significance import LEVEL, SHORTEST

FILE = "comparison.json"
PAGE = "comparison.html"
HEADINGS = (
    "growth",
    "profit, USD",
    "Sharpe",
    "deflated",
    "orders",
    "fills",
    "winning size",
    "losing size",
    "size, profit",
    "largest",
    "changes",
)
NOTHING = "–"

_TEMPLATE = (
    '{% extends "frame" %}{% block title %}Sizes of event contracts{% endblock %}'
    "{% block style %}:root { --quiet: #667085; --rule: #e3e7ee; --first: #2456c8;"
    " --second: #0b7a4b; --limit: #b4540a } td { white-space: nowrap }"
    " .answer { font-size: 1.1rem } .scrolled { overflow-x: auto }"
    " .scrolled td, .scrolled th { padding: .25rem .4rem }"
    " .scrolled tr:first-child th { max-width: 6rem; vertical-align: bottom }"
    " .range { display: block; font-size: .8rem; color: var(--quiet) }"
    + CHART_STYLE
    + SIZE_STYLE
    + "{% endblock %}{% block body %}"
    + CHART_MACRO
    + SIZE_MACRO
    + """
<h1>Policies over the same held-out sessions</h1>
<p class="muted">{{ source }}</p>
{% for sentence in sentences %}<p class="remark answer">{{ sentence }}</p>{% endfor %}
<div class="scrolled"><table><tr><th scope="col">policy</th>
{% for head in heads %}<th scope="col">{{ head }}</th>{% endfor %}</tr>
{% for name, cells in rows %}<tr><th scope="row">{{ name }}</th>
{% for figure, range in cells %}<td>{{ figure }}{% if range %}<span class="range">{{ range }}</span>
{%- endif %}</td>{% endfor %}</tr>{% endfor %}</table></div>
{% for note in notes %}<p class="muted">{{ note }}</p>{% endfor %}
{% for name, view in views %}<section><h2>Sizes: {{ name }}</h2>
{% if view %}{{ sized(view) }}{% else %}<p class="muted">No order was sent.</p>{% endif %}
</section>{% endfor %}
{% endblock %}"""
)


def cells(standing: Standing, cash: float) -> tuple[str, ...]:
    """A row's cells, one for each of `HEADINGS`; cash: USD at the beginning of an episode."""
    figures = standing.judgement
    sizes = standing.sizes
    return (
        estimate_text(figures.growth, "+.3%"),
        estimate_text(figures.profit, "+,.2f", cash),
        estimate_text(figures.sharpe, "+.3f"),
        _text(standing.deflated, ".0%"),
        f"{standing.orders:,.1f}",
        f"{standing.fills:,.1f}",
        _text(sizes.avg_winning_position_size, ".1f"),
        _text(sizes.avg_losing_position_size, ".1f"),
        _text(sizes.size_efficiency, "+.2f"),
        _text(sizes.max_position_reached, ",g"),
        _text(sizes.size_changes_per_episode, ".1f"),
    )


def estimate_text(estimate: Estimate, style: str, unit: float = 1.0) -> str:
    """A figure and its interval; unit: by which both are multiplied."""
    if estimate.value is None:
        return NOTHING
    text = _text(unit * estimate.value, style)
    if estimate.interval is None:
        return text
    low, high = (_text(unit * end, style) for end in estimate.interval)
    return f"{text} ({low} … {high})"


def sentences(comparison: Comparison) -> list[str]:
    """The answer of each pair, in words."""
    if not comparison.answers:
        return ["Whether sizes that vary earn more was not asked: there is no pair to compare."]
    return [_sentence(pair, answer, comparison.cash) for pair, answer in comparison.answers.items()]


def _sentence(pair: tuple[str, str], answer: Answer, cash: float) -> str:
    one, other = pair
    excess = estimate_text(answer.excess, "+,.2f", cash)
    sharpe = estimate_text(answer.sharpe, "+.3f")
    return (
        f"Does {one} earn more than {MORE:.0%} more than {other}, at a better Sharpe ratio?"
        f" {answer.verdict.capitalize()}: USD an episode beyond that {excess}; Sharpe ratio beyond"
        f" the other's {sharpe}."
    )


def notes(comparison: Comparison) -> list[str]:
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
    return text


def comparison_json(comparison: Comparison) -> dict[str, Any]:
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


def comparison_page(comparison: Comparison) -> str:
    """The page: the answers, a row a policy, and the sizes of each."""
    standings = comparison.standings
    return render_page(
        _TEMPLATE,
        source=comparison.held_out.source,
        sentences=sentences(comparison),
        heads=HEADINGS,
        rows=[
            (each.name, [cell.partition(" ")[::2] for cell in cells(each, comparison.cash)])
            for each in standings
        ],
        notes=notes(comparison),
        views=[(each.name, each.view) for each in standings],
    )


def write_comparison(comparison: Comparison, output: Path) -> None:
    """Write comparison.json and comparison.html, each whole."""
    text = json.dumps(comparison_json(comparison), indent=1, allow_nan=False) + "\n"
    page = comparison_page(comparison)
    writers: dict[str, Callable[[Path], object]] = {
        FILE: lambda path: path.write_text(text),
        PAGE: lambda path: path.write_text(page),
    }
    write_whole(writers, output)


def _text(value: float | None, style: str) -> str:
    return NOTHING if value is None else f"{value:{style}}".replace("-", "−")
