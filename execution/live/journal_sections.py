"""Sections of the status page from the journal: forecast, the day's profit, prices, commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from html import escape

import numpy as np

from execution.journal.activities import FillRow, read_fills_since
from execution.journal.commands import CommandJournal
from execution.journal.evidence import describe_evidence
from execution.journal.marks import MARKS_TABLE, EquityMark
from execution.journal.order_store import OrderIntent
from execution.journal.positions import PositionChange
from execution.journal.rows import format_instant
from execution.live.accounts import TRADE_JOB
from execution.live.open_account import OpenAccount
from execution.live.status_page import PageSection, format_stop, format_utc_minute, resting_stops
from foundation.arrays import Array, Instants
from foundation.charts import PRICE_DIGITS, Chart, Series, horizontal_line, trade_series
from foundation.database import Database
from foundation.decimals import ZERO_FRACTION, round_parts_to_cents, to_cents, to_fraction
from foundation.formatting import format_price, format_quantity, format_usd
from foundation.page import render_page, render_table
from foundation.tables import Table
from trainingdata.feed.bar_feed import BarFeed
from trainingdata.instants import at_new_york_time, new_york_day

CHARTED_DAYS = np.timedelta64(10, "D")
MAX_CHARTS = 8
MAX_COMMANDS_SHOWN = 10
OTHER_PROFIT = "fees, dividends, interest, other"
MIDNIGHT = np.timedelta64(0, "m")


class CommandSection(PageSection):
    """Section with the latest commands that the account has taken, and their answers."""

    title = "Commands"

    def __init__(self, commands: CommandJournal) -> None:
        self._commands = commands

    def body(self) -> str:
        shown = [
            (
                format_utc_minute(each.received_at),
                f"{each.verb} {each.argument}".strip(),
                each.by,
                each.state,
                each.answer,
            )
            for each in self._commands.latest(MAX_COMMANDS_SHOWN)
        ]
        columns = ("taken, UTC", "command", "by", "state", "answer")
        table = Table("Commands", columns, shown, left_aligned_columns=range(1, len(columns)))
        return render_table(table) if shown else ""


class EvidenceSection(PageSection):
    """Section with what the forecast has earned."""

    title = "Forecast"

    def __init__(self, database: Database) -> None:
        self._database = database

    def body(self) -> str:
        sentence = describe_evidence(self._database, TRADE_JOB)
        return f"<p>{escape(sentence)}</p>" if sentence else ""


class DayProfitSection(PageSection):
    """Section with the profit of the last mark's New York date, by symbol."""

    title = "Profit of the day"

    def __init__(self, account: OpenAccount) -> None:
        self._account = account

    def body(self) -> str:
        last = self._account.marks.last_mark()
        if last is None:
            return ""
        begun = at_new_york_time(np.array([new_york_day(last.at)]), MIDNIGHT)[0]
        database, key = self._account.database, (format_instant(begun),)
        first = MARKS_TABLE.first_row(database, "WHERE at < ? ORDER BY at DESC", key)
        first = first or MARKS_TABLE.first_row(database, "ORDER BY at")
        if first is None or first.at == last.at:
            return ""
        paid = self._account.marks.net_deposits_between(first.at, last.at)
        changes = self._account.positions.changes_between(first.at, last.at)
        profits = attribute_profit(first, last, paid, changes)
        rows = [(name, format_usd(usd, sign=True)) for name, usd in profits.items()]
        rows.append(("all", format_usd(sum(profits.values(), Decimal(0)), sign=True)))
        return render_table(
            Table("Profit of the day", ("held", "profit"), rows, has_total_row=True)
        )


def attribute_profit(
    first: EquityMark, last: EquityMark, deposits: float, changes: Sequence[PositionChange]
) -> dict[str, Decimal]:
    """Split the profit between two marks by symbol, USD to the cent; the parts add up.

    A symbol's profit is the change of its value plus the cash of its trades. The rest, such as fees
    and dividends, is one part.

    deposits: deposits less withdrawals after the first mark, up to the last one, USD.
    changes: changes of positions after the first mark, up to the last one.
    """
    parts: dict[str, Fraction] = {}
    for sign, mark in ((1, last), (-1, first)):
        for symbol, value in mark.positions.items():
            parts[symbol] = parts.get(symbol, ZERO_FRACTION) + sign * to_fraction(value)
    for change in changes:
        paid = change.cash_change_usd or ZERO_FRACTION
        parts[change.symbol] = parts.get(change.symbol, ZERO_FRACTION) + paid
    total = to_fraction(last.equity) - to_fraction(first.equity) - to_fraction(deposits)
    parts[OTHER_PROFIT] = total - sum(parts.values(), ZERO_FRACTION)
    cents = round_parts_to_cents(parts, to_cents(total))
    largest = sorted(cents, key=lambda name: (name == OTHER_PROFIT, -abs(cents[name])))
    return {name: cents[name] for name in largest if cents[name]}


class PriceSection(PageSection):
    """Section with a price chart of each position: fills with reasons, and resting stops.

    feed: source of the bars that the loop has already requested.
    """

    title = "Prices, fills and stops"

    def __init__(self, account: OpenAccount, feed: BarFeed) -> None:
        self._account = account
        self._feed = feed

    def body(self) -> str:
        mark = self._account.marks.last_mark()
        if mark is None:
            return ""
        since = mark.at - CHARTED_DAYS
        fills = read_fills_since(self._account.database, since)
        largest = sorted(mark.positions, key=lambda symbol: -abs(mark.positions[symbol]))
        symbols = dict.fromkeys([*largest, *(fill.symbol for fill in reversed(fills))])
        stops = resting_stops(self._account.book)
        charts: list[tuple[str, Chart]] = []
        for symbol in symbols:
            times, closes = self._feed.known_closes(symbol, since)
            if len(times) and len(charts) < MAX_CHARTS:
                traded = [fill for fill in fills if fill.symbol == symbol]
                reasons = self._reasons(traded)
                chart = build_price_chart(symbol, times, closes, traded, reasons, stops.get(symbol))
                charts.append((symbol, chart))
        return render_page("execution/prices.html.j2", charts=charts) if charts else ""

    def _reasons(self, fills: Sequence[FillRow]) -> dict[str, str]:
        names = tuple(fill.client_order_id for fill in fills)
        marks = ", ".join("?" * len(names))
        found = self._account.book.select_intents(f"client_order_id IN ({marks})", names)
        return {each.client_order_id: str(each.order.reason) for each in found}


def build_price_chart(
    symbol: str,
    times: Instants,
    closes: Array,
    fills: Sequence[FillRow],
    reasons: Mapping[str, str],
    stop: OrderIntent | None = None,
) -> Chart:
    """Return a symbol's chart: closes, fills as triangles with their reasons, and its stop.

    times, closes: [T], T at least 1, ends and closes of the bars.
    reasons: reason of each order, by client order id.
    """
    price = Series("price", "first", times, closes, significant_digits=PRICE_DIGITS)
    prices, quantities = np.array([(f.price, f.quantity) for f in fills], "f8").reshape(-1, 2).T
    notes = [_format_fill(fill, reasons) for fill in fills]
    trades = trade_series(np.array([fill.at for fill in fills]), prices, quantities, notes)
    series = [price.downsample(), *trades]
    text = f"{symbol}: from {format_price(closes[0])} to {format_price(closes[-1])}"
    if stop is not None:
        text += f"; protective order: {format_stop(stop)}"
        level = stop.stock_or_crypto_order.stop_price
        if level is not None:
            series.insert(0, horizontal_line(level, times, "limit", "stop"))
    return Chart(f"{text}; {len(fills):,} fills.", tuple(series), "usd", "UTC")


def _format_fill(fill: FillRow, reasons: Mapping[str, str]) -> str:
    side = "buy" if fill.quantity > 0 else "sell"
    text = f"{side} {format_quantity(abs(fill.quantity))} at {format_price(fill.price)}"
    reason = reasons.get(fill.client_order_id, "not our order")
    return f"{text}: {reason}" if reason else text
