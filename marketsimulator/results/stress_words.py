"""What stress found, in words: for the terminal, the page and the JSON alike."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from foundation.cents import cents_that_add_up, to_cents, usd_text
from foundation.counts import counted
from marketsimulator.results.stress_outcomes import Outcome, Stress
from marketsimulator.results.stress_scenarios import OWN_BARS
from marketsimulator.results.stress_settlement import SESSIONS, Ending, Liquidation, Settled
from trainingdata.instants import utc_text

ENDINGS: Mapping[Ending, str] = {
    "none": "",
    "met": "which meets the call",
    "nothing_left": "the call stands, and nothing more can be closed",
    "standing": f"the call still stands after {SESSIONS} more sessions",
}


def claim(found: Stress) -> str:
    """The worst case in a sentence."""
    worst = found.worst
    if worst is None:
        return "No scenario could be computed."
    if worst.loss <= 0:
        return "No scenario loses anything."
    return f"Worst case: {worst.scenario.name} loses {usd_text(worst.loss)}{_share(found, worst)}."


def consequence(found: Stress) -> str:
    """What follows from the worst case, and how many of the others are called."""
    worst = found.worst
    if worst is None:
        return ""
    left = f"Equity after it is {usd_text(worst.equity)}, leverage {leverage_text(worst.leverage)}."
    sentences = [left, _call_sentence(worst)]
    if worst.wiped_out:
        owed = min(worst.equity, worst.equity_end)
        sentences.append(f"The account is wiped out: it ends owing {usd_text(-owed)}.")
    others = [o.scenario.name for o in found.outcomes if o.settled.called and o is not worst]
    if others:
        sentences.append(f"The broker also calls in {', '.join(others)}.")
    wiped = [o.scenario.name for o in found.outcomes if o.wiped_out and o is not worst]
    if wiped:
        sentences.append(f"The account is wiped out in {', '.join(wiped)}, too.")
    return " ".join(sentences)


def _share(found: Stress, outcome: Outcome) -> str:
    share = found.share(outcome.loss)
    return "" if share is None else f", {share:.1%} of equity"


def _call_sentence(outcome: Outcome) -> str:
    settled = outcome.settled
    if not settled.called:
        return f"No margin call: {usd_text(-missing(settled))} of collateral to spare."
    return f"The broker {_called_for(settled)} and closes {liquidated_text(outcome)}."


def _called_for(settled: Settled) -> str:
    if settled.missing <= 0:
        return "has called before the move"
    usd = usd_text(missing(settled))
    return f"calls for {usd} at the close of {utc_text(settled.close)}"


def missing(settled: Settled) -> Decimal:
    """USD of collateral that is missing at the close; below 0 what is there beyond need."""
    return to_cents(settled.required) - to_cents(settled.collateral)


def leverage_text(leverage: float | None) -> str:
    """Gross over equity."""
    return "without equity" if leverage is None else f"{leverage:.2f}x"


def call_text(outcome: Outcome) -> str:
    """Whether the broker calls, and by how much."""
    settled = outcome.settled
    deficit = "; intraday deficit" if settled.deficit else ""
    if settled.missing > 0:
        return f"call, {usd_text(missing(settled))} short{deficit}"
    before = "a call of before, then" if settled.standing else "none,"
    return f"{before} {usd_text(-missing(settled))} to spare{deficit}"


def liquidated_text(outcome: Outcome) -> str:
    """What is closed, by symbol in the order of the first sale, and how that ends."""
    settled = outcome.settled
    if not settled.called:
        return "nothing"
    quantities: dict[str, float] = {}
    for each in settled.liquidations:
        quantities[each.symbol] = quantities.get(each.symbol, 0.0) + each.quantity
    closed = ", ".join(f"{symbol} {quantity:+,.10g}" for symbol, quantity in quantities.items())
    if not closed:
        return f"nothing: {ENDINGS[settled.ending]}"
    sums = f"proceeds {usd_text(proceeds(outcome))}, costs {usd_text(outcome.costs)}"
    return f"{closed} ({sums}), {ENDINGS[settled.ending]}"


def proceeds(outcome: Outcome) -> Decimal:
    """USD that liquidations bring, after fees; what buying shorts back takes counts below 0."""
    return to_cents(sum(each.proceeds for each in outcome.settled.liquidations))


def end_leverage(outcome: Outcome) -> float | None:
    """Gross over equity once the broker is done; none without equity."""
    settled = outcome.settled
    return settled.gross / settled.equity if settled.equity > 0 else None


def source_text(found: Stress, outcome: Outcome) -> str:
    """Where the moves of a scenario are from, and of which symbols their own bars decided."""
    own: dict[str, list[str]] = {}
    for symbol, basis in zip(found.book.symbols, outcome.moves.basis, strict=True):
        if basis.startswith(OWN_BARS):
            own.setdefault(basis, []).append(symbol)
    said = [f"{outcome.scenario.source}."]
    said += [f"By {basis}: {', '.join(symbols)}." for basis, symbols in own.items()]
    return " ".join(said)


def remarks(found: Stress) -> list[str]:
    """What a reader should know: of the book, of scenarios, and of those that were not computed."""
    lines = list(found.book.notes)
    if found.unmoved.standing:
        lines.append("A margin call of the close before stands already, before anything moves.")
    elif found.unmoved.called:
        lines.append(
            f"Without any move the close of {utc_text(found.unmoved.close)} calls for"
            f" {usd_text(missing(found.unmoved))} already: more is held than a night"
            " allows, which a trader may cut before then."
        )
    for outcome in found.outcomes:
        lines += [f"{outcome.scenario.name}: {note}" for note in outcome.moves.notes]
    lines += [f"{name} was not computed: {why}." for name, why in found.skipped.items()]
    return lines


def liquidation_rows(outcome: Outcome) -> list[tuple[Liquidation, Decimal, Decimal]]:
    """Each liquidation in its order with its proceeds and costs, which add up to their sums."""
    listed = dict(enumerate(outcome.settled.liquidations))
    came = cents_that_add_up({k: each.proceeds for k, each in listed.items()}, proceeds(outcome))
    cost = cents_that_add_up({k: each.cost for k, each in listed.items()}, outcome.costs)
    return [(each, came[k], cost[k]) for k, each in listed.items()]


def stress_json(found: Stress) -> dict[str, Any]:
    """Everything, for machines: money as text, instants in UTC."""
    book = found.book
    held = zip(book.symbols, book.quantities.tolist(), book.marks.tolist(), strict=True)
    worst = found.worst
    return {
        "source": book.source,
        "at": utc_text(book.at),
        "claim": claim(found),
        "worst": None if worst is None else worst.scenario.name,
        "book": {
            "cash": str(to_cents(book.cash)),
            "equity": str(found.equity),
            "leverage": found.leverage,
            "option_risk": str(to_cents(book.option_risk)),
            "positions": [
                {"symbol": symbol, "quantity": quantity, "mark": mark}
                for symbol, quantity, mark in held
            ],
        },
        "scenarios": [_outcome_json(found, outcome) for outcome in found.outcomes],
        "unmoved": _margin_json(found.unmoved),
        "skipped": dict(found.skipped),
        "remarks": remarks(found),
    }


def _outcome_json(found: Stress, outcome: Outcome) -> dict[str, Any]:
    settled = outcome.settled
    moves = outcome.moves
    symbols = found.book.symbols
    rows = zip(symbols, moves.fractions.tolist(), moves.basis, strict=True)
    return {
        "name": outcome.scenario.name,
        "source": outcome.scenario.source,
        "moves": {symbol: {"move": move, "basis": basis} for symbol, move, basis in rows},
        "loss": str(outcome.loss),
        "share_of_equity": found.share(outcome.loss),
        "losses": {symbol: str(usd) for symbol, usd in outcome.losses.items()},
        "equity_after": str(outcome.equity),
        "leverage_after": outcome.leverage,
        "margin": _margin_json(settled),
        "liquidations": [
            {
                "symbol": each.symbol,
                "at": utc_text(each.at),
                "quantity": each.quantity,
                "price": each.price,
                "proceeds": str(came),
                "cost": str(cost),
            }
            for each, came, cost in liquidation_rows(outcome)
        ],
        "ending": settled.ending,
        "sessions": settled.sessions,
        "equity_end": str(outcome.equity_end),
        "leverage_end": end_leverage(outcome),
        "carrying": str(outcome.carrying),
        "wiped_out": outcome.wiped_out,
    }


def _margin_json(settled: Settled) -> dict[str, Any]:
    return {
        "close": utc_text(settled.close),
        "required": str(to_cents(settled.required)),
        "collateral": str(to_cents(settled.collateral)),
        "standing": settled.standing,
        "called": settled.called,
        "missing": str(missing(settled)),
        "intraday_deficit": settled.deficit,
    }


def held_text(found: Stress) -> str:
    """Whose book it is, what it is worth and carries."""
    book = found.book
    return (
        f"{book.source}: {counted(len(book.symbols), 'position')}, equity"
        f" {usd_text(found.equity)}, cash {usd_text(to_cents(book.cash))}, leverage"
        f" {leverage_text(found.leverage)}"
    )
