"""The dashboard's first sections: how the loop is, and what the account is worth and holds.

Each is words and figures that are ready to be shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from execution.account_lock import KILL_FILE, is_there
from execution.journal.halts import HALT_RULES
from execution.live.accounts import holds_contracts
from execution.live.dashboard_charts import equity_chart, leverage_chart
from execution.live.dashboard_figures import (
    LoopState,
    begin_of_day,
    deciding_symbols,
    drawdown_of,
    loop_state,
    profit_since,
    shares_of_equity,
)
from execution.live.dashboard_reading import CycleRow, JournalReader
from execution.live.dashboard_words import (
    age_text,
    both_clocks,
    day_text,
    multiple,
    percent,
    plain_percent,
    signed_multiple,
    signed_usd,
    usd,
    whole_usd,
)
from execution.live.losses import LossLimits
from foundation.charts import Chart
from trainingdata.instants import new_york_date
from trainingdata.instruments import is_symbol

CYCLES_SHOWN = 20
View = Mapping[str, Any]


class WatchedSettings(Protocol):
    """What a page takes from the settings of a loop."""

    @property
    def cap(self) -> float:
        """Share of equity that a position may come to."""

    @property
    def guards(self) -> LossLimits:
        """Where losses halt it."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What a page is made of.

    journal: path of the account's journal.
    settings: of the loop: its cap of a symbol and its limits of losses are no part of the journal.
    spreads: folder of the account that sells spreads; none shows none.
    now: instant of the page.
    """

    journal: Path
    settings: WatchedSettings
    spreads: Path | None
    now: np.datetime64

    @property
    def contracts(self) -> bool:
        """Whether the account is one of event contracts."""
        return holds_contracts(self.journal.parent.name)


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the page that a product registers.

    view: what it shows; none where there is nothing.
    body: its template, of the part that has its word for a name; the page's macros are there.
    macros: of its own.
    style: of its own.
    """

    view: Callable[[JournalReader, Watched], View | None]
    body: str
    macros: str = ""
    style: str = ""


def state_view(reader: JournalReader, watched: Watched) -> View:
    """Whether the loop runs, what stops it, and when it decides next."""
    now = watched.now
    cycles = reader.cycles(CYCLES_SHOWN)
    last = cycles[0] if cycles else None
    symbols = deciding_symbols(reader.choices)
    state = loop_state(now, last, reader.stop(), symbols, reader.interval())
    alerts = _alerts(reader, watched, cycles)
    history = reader.history
    facts = []
    if last is not None:
        facts.append(("last pass", both_clocks(last.began_at), age_text(last.began_at, now)))
    if history is not None:
        facts.append(("last mark", both_clocks(history.at[-1]), age_text(history.at[-1], now)))
    if state.next_at is not None:
        facts.append(("next decision", both_clocks(state.next_at), age_text(state.next_at, now)))
    word, level = _verdict(state, alerts)
    return {
        "word": word,
        "level": level,
        "sentence": state.sentence,
        "facts": facts,
        "alerts": alerts,
    }


def _verdict(state: LoopState, alerts: Sequence[View]) -> tuple[str, str]:
    """The page's first words, and whether they are good news."""
    levels = {alert["level"] for alert in alerts}
    if state.word in ("down", "stopped"):
        return state.word.capitalize(), "bad"
    if state.word == "not begun":
        return "Not begun", "bad" if "bad" in levels else "warn"
    if "bad" in levels:
        return "Running, and nothing is sent", "bad"
    if "openings" in {alert["kind"] for alert in alerts}:
        return "Running, and nothing is opened", "warn"
    if alerts:
        return "Running, with trouble", "warn"
    return "Running", "good"


def _alerts(reader: JournalReader, watched: Watched, cycles: Sequence[CycleRow]) -> list[View]:
    """What an operator has to see to, the gravest first."""
    alerts = []
    kill_file = watched.journal.parent / KILL_FILE
    if is_there(kill_file):
        text = "Nothing is sent before the file is removed."
        alerts.append(_alert("everything", f"{kill_file} is there", text))
    where = f" --folder {watched.journal.parent.parent}" if watched.contracts else ""
    for halt in reader.halts():
        rule = HALT_RULES[halt.kind]
        heading = f"Halt {halt.kind} since {both_clocks(halt.raised_at)}: {halt.why}"
        ends = f" It ends by itself {rule.ends}." if rule.ends else ""
        command = f"python -m execution.live{where} clear {halt.kind} --by NAME"
        alerts.append(_alert(rule.forbids, heading, f"{rule.remedy}{ends}", command))
    unknown = reader.order_counts()
    count = unknown.get("sending", 0) + unknown.get("open", 0)
    if count:
        text = "They are looked for at every pass; none of them is sent a second time meanwhile."
        alerts.append(_alert("unknown", f"Orders of which nobody knows: {count}", text))
    failed = [cycle for cycle in cycles if cycle.ended_at is not None][:1]
    if failed and failed[0].failed:
        alerts.append(_alert("failed", "The last pass failed", failed[0].failed))
    return sorted(alerts, key=lambda alert: alert["level"] != "bad")


def _alert(kind: str, heading: str, text: str, command: str = "") -> View:
    level = "bad" if kind == "everything" else "warn"
    return {"kind": kind, "level": level, "heading": heading, "text": text, "command": command}


def equity_view(reader: JournalReader, watched: Watched) -> View | None:
    """What the account is worth and what was earned; none before the first mark."""
    history = reader.history
    if history is None:
        return None
    total = profit_since(history, 0)
    day = profit_since(history, begin_of_day(history))
    last = history.at[-1]
    dates = new_york_date(np.array([last, watched.now]))
    today = "today" if dates[0] == dates[1] else f"on {day_text(last)}"
    lost = drawdown_of(history)
    limits = watched.settings.guards
    begun = f"since {day_text(history.at[0])}"
    return {
        "equity": usd(history.equity[-1]),
        "cash": usd(history.cash[-1]),
        "flows": _flows_text(total.flows, begun),
        "figures": (
            (
                f"earned {today}",
                signed_usd(day.amount),
                f"{percent(day.share)}, halts at {percent(-limits.daily_loss, 0)}",
                _tone(day.amount),
            ),
            (
                "earned in all",
                signed_usd(total.amount),
                f"{percent(total.share)} {begun}",
                _tone(total.amount),
            ),
            (
                "below the peak",
                plain_percent(lost),
                f"halts at {plain_percent(limits.drawdown, 0)}",
                "bad" if lost >= limits.drawdown else "",
            ),
        ),
        "chart": equity_chart(history),
    }


def _flows_text(flows: float, since: str) -> str:
    """What was paid in or taken out, which is no profit and no loss; empty where nothing was."""
    if not flows:
        return ""
    return f"{usd(abs(flows))} {'paid in' if flows > 0 else 'taken out'} {since}"


def _tone(amount: float) -> str:
    return "good" if amount > 0 else "bad" if amount < 0 else ""


def leverage_view(reader: JournalReader, watched: Watched) -> View | None:
    """How much is held against what may be; none before the first mark, and of contracts."""
    history = reader.history
    if history is None or watched.contracts:
        return None
    stock = shares_of_equity(history.stock, history.equity)
    coin = shares_of_equity(history.coin, history.equity)
    used = stock / np.where(history.ceiling > 0, history.ceiling, np.nan)
    chart: Chart | None = leverage_chart(history)
    highest = None
    if not np.all(np.isnan(used)):
        number = int(np.nanargmax(used))
        highest = plain_percent(used[number], 0), day_text(history.at[number])
    return {
        "stock": multiple(stock[-1]),
        "coin": multiple(coin[-1]),
        "ceiling": multiple(history.ceiling[-1]),
        "used": plain_percent(used[-1], 0),
        "above": bool(used[-1] > 1),
        "highest": highest,
        "chart": chart,
    }


def positions_view(reader: JournalReader, watched: Watched) -> View | None:
    """Each position's share of equity against the cap of a symbol; none before the first mark."""
    history = reader.history
    if history is None:
        return None
    cap = watched.settings.cap
    equity = float(history.equity[-1])
    weights = {name: value / equity for name, value in history.positions.items() if equity > 0}
    scale = 1.15 * max([cap, *map(abs, weights.values())])
    rows = []
    for name, value in sorted(history.positions.items(), key=lambda item: -abs(item[1])):
        weight = weights.get(name)
        capped = watched.contracts or is_symbol(name)
        end = 0.0 if weight is None else 100 * weight / scale
        rows.append(
            {
                "symbol": name,
                "value": whole_usd(value),
                "weight": signed_multiple(weight),
                "x": f"{min(end, 0.0):.2f}",
                "width": f"{abs(end):.2f}",
                "side": "short" if end < 0 else "long",
                "above": weight is not None and capped and abs(weight) > cap,
            }
        )
    return {"rows": rows, "cap": multiple(cap), "line": f"{100 * cap / scale:.2f}"}
