"""What stress found: words and tables for the terminal and the page, and all of it as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from decimal import Decimal

from rich.console import RenderableType

from foundation.cents import to_cents
from foundation.figures import number, percent, quantity, usd
from foundation.page import render_page
from foundation.tables import Table, json_text
from marketsimulator.results.stress_outcomes import SESSIONS, Outcome, Stress
from marketsimulator.results.verdict import Verdict
from trainingdata.instants import utc_text

ENDINGS = {
    "none": "",
    "met": "which meets the call",
    "nothing_left": "the call stands, and nothing more can be closed",
    "standing": f"the call still stands after {SESSIONS} more sessions",
}
RULES = (
    "Margin, fees and liquidation are the simulator's own settlement on the moved prices, which"
    " stay where they are; nobody decides anything meanwhile. Equity then is less by what"
    " liquidations and the nights cost. A broker's own order is its affair."
)


def verdict_of(found: Stress) -> Verdict:
    """The worst case, and in which scenarios the broker calls or nothing is left."""
    worst = found.worst
    if worst is None:
        return Verdict("open", "No scenario could be computed.", "")
    claim = "No scenario loses anything."
    if worst.loss > 0:
        share = worst.share_of_equity
        of_equity = "" if share is None else f", {percent(share, 1)} of equity"
        claim = f"Worst case: {worst.name} loses {usd(worst.loss)}{of_equity}."
    called = [each.name for each in found.outcomes if each.margin.called]
    wiped = [each.name for each in found.outcomes if each.wiped_out]
    rest = f"The broker calls in {', '.join(called)}." if called else "The broker calls in none."
    if wiped:
        rest += f" The account is wiped out in {', '.join(wiped)}."
    return Verdict("bad" if called or wiped else "open", claim, rest)


def remarks(found: Stress) -> list[str]:
    """What a reader should know: of the book, of scenarios, and of those that were not computed."""
    lines = list(found.book.notes)
    unmoved = found.unmoved
    if unmoved.standing:
        lines.append("A margin call of the close before stands already, before anything moves.")
    elif unmoved.called:
        lines.append(
            f"Without any move the close of {utc_text(unmoved.close)} calls for"
            f" {usd(unmoved.missing)} already: more is held than a night allows, which a"
            " trader may cut before then."
        )
    lines += [f"{each.name}: {note}" for each in found.outcomes for note in each.notes]
    return lines + [f"{name} was not computed: {why}." for name, why in found.skipped.items()]


def stress_json(found: Stress) -> str:
    """Everything, for machines: money as text, instants in UTC."""
    book = found.book
    held = zip(book.symbols, book.quantities.tolist(), book.marks.tolist(), strict=True)
    content = {
        "source": book.source,
        "at": book.at,
        "claim": verdict_of(found).claim,
        "worst": found.worst and found.worst.name,
        "book": {
            "cash": to_cents(book.cash),
            "equity": to_cents(book.equity),
            "leverage": book.leverage,
            "option_risk": to_cents(book.option_risk),
            "positions": [{"symbol": s, "quantity": q, "mark": mark} for s, q, mark in held],
        },
        "scenarios": [asdict(outcome) for outcome in found.outcomes],
        "unmoved": asdict(found.unmoved),
        "skipped": found.skipped,
        "remarks": remarks(found),
    }
    return json_text(content)


def _scenarios(found: Stress) -> Table:
    book = found.book
    heads = ("scenario", "loss", "of equity", "equity after", "leverage", "margin call")
    before = _leverage_text(book.leverage)
    rows = [
        (
            each.name,
            usd(each.loss),
            percent(each.share_of_equity),
            usd(each.equity_after) + (", wiped out" if each.wiped_out else ""),
            f"{before} to {_leverage_text(each.leverage_after)}",
            _call_text(each),
            _closed_text(each),
            usd(each.equity_end),
            _leverage_text(each.leverage_end),
        )
        for each in found.outcomes
    ]
    more = ("the broker closes", "equity then", "leverage then")
    equity = usd(to_cents(book.equity))
    title = f"{book.source}: equity {equity}, leverage {before}"
    return Table(title, (*heads, *more), rows, words=(5, 6))


def _by_symbol(found: Stress, outcomes: Sequence[Outcome]) -> Table:
    book = found.book
    held = zip(book.symbols, book.quantities.tolist(), book.marks.tolist(), strict=True)
    texts = {symbol: (quantity(size), quantity(mark, 6)) for symbol, size, mark in held}
    rows = []
    for each in outcomes:
        for symbol, loss in each.losses.items():
            move = each.moves.get(symbol)
            moved = ("", "") if move is None else (percent(move.move, sign=True), move.basis)
            rows.append((each.name, symbol, *texts.get(symbol, ("", "")), *moved, usd(loss)))
    heads = ("scenario", "symbol", "quantity", "mark", "move", "by", "loss")
    return Table("Loss by symbol", heads, rows, words=(1, 5))


def _closed(found: Stress) -> Table:
    heads = ("scenario", "symbol", "at", "quantity", "price", "proceeds", "costs")
    rows = [
        (
            outcome.name,
            each.symbol,
            utc_text(each.at),
            quantity(each.quantity, sign=True),
            number(each.price, 4),
            usd(each.proceeds),
            usd(each.cost),
        )
        for outcome in found.outcomes
        for each in outcome.liquidations
    ]
    return Table("What the broker closes, in order", heads, rows, words=(1,))


def stress_parts(found: Stress) -> Iterator[RenderableType]:
    """The table of scenarios, what the worst is made of, and what a reader should know."""
    verdict = verdict_of(found)
    yield from (verdict.claim, verdict.rest)
    worst = [found.worst] if found.worst else []
    yield from (_scenarios(found), _by_symbol(found, worst))
    yield from (*_sources(found), *remarks(found), RULES)


def stress_page(found: Stress) -> str:
    """All of it as one HTML page."""
    return render_page(
        "marketsimulator/stress.html.j2",
        verdict=verdict_of(found),
        notes=remarks(found),
        tables=[_scenarios(found), _by_symbol(found, found.outcomes), _closed(found)],
        sources=_sources(found),
        rules=RULES,
    )


def _sources(found: Stress) -> list[str]:
    return [f"{each.name}: {each.source}." for each in found.outcomes]


def _leverage_text(leverage: float | None) -> str:
    return "without equity" if leverage is None else f"{number(leverage)}x"


def _call_text(outcome: Outcome) -> str:
    """Whether the broker calls, and by how much."""
    margin = outcome.margin
    deficit = "; intraday deficit" if margin.intraday_deficit else ""
    if margin.called and (margin.missing > 0 or not margin.standing):
        return f"call, {usd(margin.missing)} short{deficit}"
    before = "a call of before, then" if margin.standing else "none,"
    return f"{before} {usd(-margin.missing)} to spare{deficit}"


def _closed_text(outcome: Outcome) -> str:
    """What is closed, by symbol in the order of the first sale, and how that ends."""
    if not outcome.margin.called:
        return "nothing"
    quantities: dict[str, float] = {}
    for each in outcome.liquidations:
        quantities[each.symbol] = quantities.get(each.symbol, 0.0) + each.quantity
    ending = ENDINGS[outcome.ending]
    closed = ", ".join(
        f"{symbol} {quantity(size, sign=True)}" for symbol, size in quantities.items()
    )
    if not closed:
        return f"nothing: {ending}"
    came = usd(sum((each.proceeds for each in outcome.liquidations), Decimal(0)))
    cost = usd(sum((each.cost for each in outcome.liquidations), Decimal(0)))
    return f"{closed} (proceeds {came}, costs {cost}), {ending}"
