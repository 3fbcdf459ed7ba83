"""The dashboard's lists: orders, decisions, passes, notices and events."""

from __future__ import annotations

from decimal import Decimal

from execution.decision import Basis, plan_text
from execution.live.dashboard_reading import ChoiceRow, CycleRow, JournalReader, OrderRow
from execution.live.dashboard_views import CYCLES_SHOWN, View, Watched
from execution.live.dashboard_words import (
    NO_VALUE,
    age_text,
    basis_points,
    both_clocks,
    exact,
    multiple,
    price,
    short_clock,
    signed_multiple,
    usd,
)
from trainingdata.instants import HOUR

ORDERS_SHOWN = 40
ORDERS_UNFOLDED = 8
EVENTS_SHOWN = 50
NOTICES_SHOWN = 20


def orders_view(reader: JournalReader, watched: Watched) -> View:
    """Orders that wait, and the latest of the others."""
    counts = reader.order_counts()
    waiting = [_order_view(row, watched) for row in reader.waiting(ORDERS_SHOWN)]
    latest = [_order_view(row, watched) for row in reader.orders(ORDERS_SHOWN)]
    total = sum(counts.values())
    texts = [f"{count:,} {state.replace('_', ' ')}" for state, count in counts.items()]
    return {
        "waiting": waiting,
        "latest": latest[:ORDERS_UNFOLDED],
        "older": latest[ORDERS_UNFOLDED:],
        "total": total,
        "counts": ", ".join(texts),
    }


def _order_view(row: OrderRow, watched: Watched) -> View:
    limits = " ".join(
        f"{name} {price(value)}"
        for name, value in (("limit", row.limit_price), ("stop", row.stop_price))
        if value is not None
    )
    filled = exact(row.filled)
    if row.filled_price is not None:
        filled += f" at {price(row.filled_price)}"
    expires = row.expires_at
    return {
        "id": row.client_order_id,
        "what": f"{row.side} {exact(row.qty)} {row.symbol}".strip(),
        "kind": limits or row.type,
        "job": " · ".join(part for part in (row.job, row.part) if part),
        "state": row.state.replace("_", " "),
        "level": _STATE_LEVELS.get(row.state, ""),
        "filled": filled if Decimal(row.filled) else "nothing",
        "at": both_clocks(row.sent_at),
        "age": age_text(row.sent_at, watched.now),
        "expires": both_clocks(expires) if expires is not None else "",
        "why": row.why,
        "reason": row.reason,
    }


_STATE_LEVELS = {
    "filled": "good",
    "working": "info",
    "planned": "info",
    "sending": "warn",
    "open": "warn",
    "withheld": "warn",
    "rejected": "bad",
    "never_taken": "bad",
}


def decision_view(reader: JournalReader, watched: Watched) -> View | None:
    """What was decided last of every symbol, and what it rests on; none before the first."""
    last = reader.decision()
    if last is None:
        return None
    rows = [_choice_view(choice, choice.decision == last.name) for choice in reader.choices]
    return {
        "name": last.name,
        "at": both_clocks(last.at),
        "age": age_text(last.at, watched.now),
        "until": both_clocks(last.until),
        "decided": short_clock(last.decided_at),
        "equity": usd(last.equity),
        "ceiling": multiple(last.stock_ceiling),
        "failure": last.failure,
        "rules": last.rules,
        "rows": rows,
        "earlier": any(not row["latest"] for row in rows),
    }


def _choice_view(choice: ChoiceRow, latest: bool) -> View:
    entry = choice.entry
    nan = float("nan")
    basis = {key: nan if value is None else value for key, value in entry["basis"].items()}
    basis["worth"] = entry["basis"]["worth"]
    hours = float((choice.until - choice.at) / HOUR)
    limits = []
    for name, worth in entry["binding"].items():
        limits.append(name if worth is None else f"{name} (worth {basis_points(worth)})")
    return {
        "symbol": entry["symbol"],
        "latest": latest,
        "at": short_clock(choice.at)[:-3],
        "mu": basis_points(entry["mu"]),
        "sigma": basis_points(entry["sigma"], signed=False),
        "kelly": signed_multiple(entry["kelly"], 2),
        "held": signed_multiple(entry["held"]),
        "target": signed_multiple(entry["target"]),
        "qty": exact(entry["qty"], signed=True) if Decimal(entry["qty"]) else "none",
        "price": price(repr(float(entry["price"]))),
        "bound": ", ".join(limits) or "nothing",
        "rests": plan_text(Basis(**basis), hours).lstrip("; ") or "the forecast alone",
    }


def cycles_view(reader: JournalReader, watched: Watched) -> View:
    """The latest passes."""
    rows = []
    for cycle in reader.cycles(CYCLES_SHOWN):
        said = cycle.failed or cycle.idle or cycle.decision or NO_VALUE
        if cycle.ended_at is None:
            said = "not ended"
        rows.append(
            {
                "at": short_clock(cycle.began_at),
                "age": age_text(cycle.began_at, watched.now),
                "job": cycle.job,
                "word": _cycle_word(cycle),
                "fills": cycle.fills,
                "said": said,
            }
        )
    return {"rows": rows}


def _cycle_word(cycle: CycleRow) -> str:
    if cycle.ended_at is None:
        return "under way"
    if cycle.failed:
        return "failed"
    return "idle" if cycle.idle else "decided"


def events_view(reader: JournalReader, watched: Watched) -> View:
    """What happened last."""
    del watched
    events = reader.events(EVENTS_SHOWN)
    rows = [(short_clock(each.at), each.kind, each.subject, each.content) for each in events]
    return {"rows": rows}


def notices_view(reader: JournalReader, watched: Watched) -> View:
    """What a person was told of last."""
    rows = [
        {
            "at": short_clock(each.at),
            "age": age_text(each.at, watched.now),
            "kind": each.kind,
            "text": each.text,
        }
        for each in reader.notices(NOTICES_SHOWN)
    ]
    return {"rows": rows}
