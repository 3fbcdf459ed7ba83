"""Status page of an account: the file `status.html` in the account's folder.

The loop rewrites the page after every cycle, and whenever a halt, an order or the kill file has
changed. A page that cannot be written does not stop trading.
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from execution.decision.choice import format_horizon, format_no_order_reason
from execution.journal.cycles import NextCycle, latest_cycles
from execution.journal.decisions import ChoiceRow
from execution.journal.events import AlertJournal, AlertRow
from execution.journal.halts import Halt
from execution.journal.marks import EquityMark
from execution.journal.order_store import ORDER_STATES, PENDING_STATES, OrderIntent, OrderStore
from execution.journal.orders import encode_order
from execution.journal.positions import PositionProfit
from execution.journal.refusals import Refusal
from execution.live.account_lock import STATUS_PAGE_FILE
from execution.live.accounts import TRADE_JOB, format_clear_command
from execution.live.loop import StopSignal
from execution.live.losses import LossLimits
from execution.live.open_account import OpenAccount
from execution.orders.orders import Order
from foundation import formatting
from foundation.arrays import Array
from foundation.charts import Chart, Series, horizontal_line
from foundation.clock import SYSTEM_TIME, TimeSource
from foundation.decimals import ZERO_FRACTION, to_cents
from foundation.errors import InputError
from foundation.files import remove_stale_temporary_files, write_atomically
from foundation.page import render_page
from foundation.redaction import NULL_REDACTOR
from foundation.tables import Cell, Row, Table
from trainingdata.instants import HOUR, NEW_YORK, new_york_date
from trainingdata.instruments import is_symbol

log = logging.getLogger(__name__)

WRITE_PAUSE_RATIO = 20.0  # pause before the next page, as a multiple of the last writing time
MAX_ROWS_SHOWN = 20  # orders and alerts
NO_CYCLE_DUE = "no more cycles are scheduled"  # reason for the end if no stop was requested
NO_STOPS: Mapping[str, OrderIntent] = MappingProxyType({})
FINISHED_STATES = tuple(state for state in ORDER_STATES if state not in PENDING_STATES)

CHOICE_COLUMNS = (
    *("symbol", "decided, UTC", "forecast μ", "σ", "Kelly", "held", "target", "order", "price"),
    *("bound by", "based on"),
)

WEIGHT_COLUMNS = ("value", "weight", "max weight")
PROFIT_COLUMNS = ("quantity", "entry", "last", "unrealised", "realised")

# Fields of a mark on the page. at: time of the mark. equity: USD. flows: deposits less withdrawals
# since the previous mark, USD. index: index of linked returns, 0 after a total loss. drawdown:
# fraction lost since the peak of the index, 0 … 1.
EQUITY_CURVE_DTYPE = np.dtype(
    [("at", "datetime64[ns]")] + [(name, "f8") for name in ("equity", "flows", "index", "drawdown")]
)


class StatusPageLimits(NamedTuple):
    """Limits of an account that the status page shows.

    max_position_weight: maximum weight of one position, a fraction of equity.
    loss_limits: loss limits at which the account is halted.
    max_crypto_weight: maximum gross crypto exposure, a multiple of equity; None for an account of
        event contracts.
    """

    max_position_weight: float
    loss_limits: LossLimits
    max_crypto_weight: float | None = None


class PageSection(ABC):
    """Section that a plugin adds to the status page.

    title: heading of the section.
    style: stylesheet of the section, as PACKAGE/FILE; empty for none.
    """

    title: str
    style: str = ""

    @abstractmethod
    def body(self) -> str:
        """Return the section's HTML, with text escaped; an empty string hides the section.

        If the method raises `InputError`, the page shows the error's message in the section's
        place.
        """

    def html(self) -> Markup:
        try:
            return Markup(self.body())
        except InputError as error:
            return Markup('<p class="remark" role="alert">{}</p>').format(error)


class StatusPageState(NamedTuple):
    """State on which the status page depends; the page is rewritten when it changes.

    last_event_number: number of the journal's last event.
    next_cycle: next cycle of the loop; None if no cycle follows.
    has_kill_file: true while the kill file exists.
    end_reason: reason why the loop has ended; empty while it runs.
    has_failed: true if an error has ended the loop; false if it runs, was stopped or has completed
        all its cycles.
    """

    last_event_number: int
    next_cycle: NextCycle | None
    has_kill_file: bool
    end_reason: str = ""
    has_failed: bool = False


class StatusPage:
    """Writer of an account's status page, in the process that has the account's journal open.

    account: the account; it has no page if its journal is in memory.
    bounds: limits that the page shows.
    sections: sections that plugins add to the page.
    time: clock that timestamps the page and measures the time to write it.
    """

    def __init__(
        self,
        account: OpenAccount,
        bounds: StatusPageLimits,
        sections: Sequence[PageSection] = (),
        time: TimeSource = SYSTEM_TIME,
    ) -> None:
        database = account.database
        self._account = account
        self._path = None if database.path is None else database.path.with_name(STATUS_PAGE_FILE)
        self._bounds = bounds
        self._sections = sections
        self._time = time
        self._journal = account.build_decision_journal(TRADE_JOB)
        self._notices = AlertJournal(database, NULL_REDACTOR, time)
        self._curve = EquityCurve()
        self._written: StatusPageState | None = None
        self._rests_until = -np.inf
        self._fails = False

    def refresh(self) -> None:
        """Rewrite the page if its state has changed.

        A failure is logged once and not raised. Writing takes at most 5 % of the time. A change may
        therefore appear only after a pause.
        """
        if self._time.monotonic() >= self._rests_until:
            self._try_to_write()

    @contextmanager
    def keep_updated(self, stop: StopSignal) -> Iterator[None]:
        """Return a context manager that writes the page when a loop begins and when it ends."""
        self.refresh()
        try:
            yield
        except BaseException as error:
            self._try_to_write(str(error) or type(error).__name__, failed=True)
            raise
        self._try_to_write(stop.why or NO_CYCLE_DUE)

    @property
    def path(self) -> Path | None:
        """Path of the page; None for an account with a journal in memory."""
        return self._path

    def _try_to_write(self, end: str = "", *, failed: bool = False) -> None:
        if self._path is None:
            return
        begun = self._time.monotonic()
        try:
            self._write(self._path, end, failed=failed)
            self._fails = False
        except Exception as error:
            # No failure of the page stops the loop. The age of the page shows that it is old.
            if not self._fails:
                ours = not isinstance(error, OSError | InputError)
                text = "%s: cannot write the status page: %s; the loop continues"
                log.error(text, self._path, error, exc_info=error if ours else None)
            self._fails = True
        now = self._time.monotonic()
        self._rests_until = now + WRITE_PAUSE_RATIO * (now - begun)

    def _write(self, path: Path, end: str, *, failed: bool) -> None:
        account = self._account
        expected = account.next_cycle.next_cycle()
        change = StatusPageState(
            account.events.last_event_number(), expected, account.has_kill_file, end, failed
        )
        if change == self._written:
            return
        if self._written is None:
            remove_stale_temporary_files(path)
        page = self._page(path.parent, change)
        write_atomically(path, page.encode(), is_private=True)
        self._written = change

    def _page(self, folder: Path, change: StatusPageState) -> str:
        book = self._account.book
        mark = self._account.marks.last_mark()
        decision = self._journal.last_decision()
        choices = self._journal.latest_choice_by_symbol()
        self._curve = self._curve.extend(self._account.marks.marks_since(self._curve.last_mark_at))
        halts = self._account.halts.active()
        unknown = len(book.intents_with_unknown_outcome())
        cycles = latest_cycles(self._account.database, 2)
        ended = next((each for each in cycles if each.ended_at is not None), None)
        failed = "" if ended is None else ended.failure
        refusals = self._account.refusals.active()
        headline, level = _verdict(change, halts, refusals, trouble=bool(unknown or failed))
        return render_page(
            "execution/status.html.j2",
            clock=format_utc_and_new_york,
            day=format_new_york_date,
            formatting=formatting,
            clear_command=format_clear_command,
            styles=[section.style for section in self._sections if section.style],
            folder=folder,
            account=self._account.label,
            kill_file=self._account.kill_file,
            written=self._time.now(),
            change=change,
            headline=headline,
            level=level,
            last_cycle=cycles[0] if cycles else None,
            halts=halts,
            refusals=refusals,
            unknown=unknown,
            failed=failed,
            mark=mark,
            curve=self._curve,
            bounds=self._bounds,
            positions=mark
            and build_position_table(mark, self._bounds, self._profits(), resting_stops(book)),
            waiting=book.latest_intents(PENDING_STATES, MAX_ROWS_SHOWN),
            recent=book.latest_intents(FINISHED_STATES, MAX_ROWS_SHOWN),
            what=format_order_terms,
            decision=decision,
            choices=decision and build_choice_table(choices, decision.decision_id),
            unordered=format_no_order_lines(
                choices,
                decision.equity if decision else math.nan,
                self._account.events.last_undecided_reasons(TRADE_JOB),
            ),
            sections=self._sections,
            notices=build_alert_table(self._notices.latest(MAX_ROWS_SHOWN)),
        )

    def _profits(self) -> list[PositionProfit]:
        """Return the profits of stocks and crypto; empty for an account of event contracts."""
        return (
            []
            if self._bounds.max_crypto_weight is None
            else self._account.positions.position_profits()
        )


def _verdict(
    change: StatusPageState, halts: Sequence[Halt], refusals: Sequence[Refusal], *, trouble: bool
) -> tuple[str, str]:
    """Return the headline of the page, and the colour level in which it is shown.

    trouble: true if there is a problem other than a halt or a refusal.
    """
    forbidden = {halt.rule.forbidden_scope for halt in halts}
    urgent = any(refusal.is_urgent for refusal in refusals)
    # A pause is named only if nothing else is wrong.
    first = min(refusals, key=lambda each: (each.is_venue_pause, not each.is_urgent), default=None)
    if change.has_failed:
        return f"Stopped by an error: {change.end_reason}", "bad"
    if change.end_reason:
        word = "Finished" if change.end_reason == NO_CYCLE_DUE else "Stopped"
        level = "bad" if "everything" in forbidden or urgent else ""
        level = level or ("warn" if forbidden or refusals or trouble else "open")
        also = f"; {first.headline}" if first else ""
        return f"{word}: {change.end_reason}{also}", level
    if change.has_kill_file or "everything" in forbidden:
        return "Running, but no orders are sent", "bad"
    if first:
        return f"Running, but {first.headline}", "bad" if urgent else "warn"
    if forbidden:
        return "Running, but no positions are opened", "warn"
    return ("Running, with problems", "warn") if trouble else ("Running", "good")


def format_order_terms(intent: OrderIntent) -> str:
    """Describe an order by its terms, such as "buy 10 NVDA, limit $120.50"."""
    asked = encode_order(intent.order)
    legs = [f"{leg['side']} {leg['symbol']}" for leg in asked.get("legs", ())]
    name = asked.get("symbol", ", ".join(legs))
    size = formatting.format_quantity(Decimal(asked["qty"]))
    limit = asked.get("limit_price", asked.get("min_credit"))
    text = f"{asked.get('side', '')} {size} {name}".strip()
    return text if limit is None else f"{text}, limit {formatting.format_price(limit)}"


def resting_stops(book: OrderStore) -> dict[str, OrderIntent]:
    """Return the protective order of each symbol that rests at the venue or is on its way."""
    marks = ", ".join("?" * len(PENDING_STATES))
    found = book.select_intents(f"role = 'protection' AND state IN ({marks})", PENDING_STATES)
    return {each.order.symbol: each for each in found if isinstance(each.order, Order)}


def format_stop(intent: OrderIntent) -> str:
    """Describe a protective order, such as "sell 10, stop $95.00 (accepted)"."""
    order = intent.stock_or_crypto_order
    if order.trail_percent is not None:
        at = f"trailing {formatting.format_percent(order.trail_percent / 100, 2)}"
    elif order.trail_price is not None:
        at = f"trailing {formatting.format_price(order.trail_price)}"
    else:
        at = f"stop {formatting.format_price(order.stop_price or 0.0)}"
    state = intent.state.replace("_", " ")
    return f"{order.side} {formatting.format_quantity(order.qty)}, {at} ({state})"


@dataclass(frozen=True, eq=False, slots=True)
class EquityCurve:
    """Equity marks of an account, oldest first, up to the last mark that was read.

    marks: [T] marks as `EQUITY_CURVE_DTYPE` records.
    return_today: return on the New York date of the last mark, a fraction.
    """

    marks: np.ndarray[Any, Any] = field(default_factory=lambda: np.empty(0, EQUITY_CURVE_DTYPE))
    return_today: float = 0.0

    @property
    def last_mark_at(self) -> np.datetime64:
        """Time of the last mark that was read; 1970 without marks.

        Marks at or after this time may not have been read yet.
        """
        return self.marks["at"][-1] if len(self.marks) else np.datetime64(0, "ns")

    def extend(self, marks: Sequence[EquityMark]) -> EquityCurve:
        """Return the curve extended by newer marks.

        marks: marks from `last_mark_at` on, oldest first. The first one replaces the last mark of
            the curve.
        """
        if not marks:
            return self
        points = [mark.index_point for mark in marks]
        rows = [
            (
                mark.at,
                mark.equity,
                mark.net_deposits,
                float(point.return_index),
                float(point.drawdown),
            )
            for mark, point in zip(marks, points, strict=True)
        ]
        known = np.append(self.marks[:-1], np.array(rows, EQUITY_CURVE_DTYPE))
        return EquityCurve(known, -float(points[-1].daily_loss))

    @property
    def net_deposits(self) -> float:
        """Deposits less withdrawals since the first mark, USD."""
        return float(self.marks["flows"][1:].sum())

    @property
    def profit_usd(self) -> float:
        """Profit since the first mark, USD; deposits and withdrawals are not part of it."""
        equity = self.marks["equity"]
        return float(equity[-1] - equity[0]) - self.net_deposits

    @property
    def linked_return(self) -> float:
        """Linked (time-weighted) return since the first mark; NaN after a total loss."""
        # The index restarts after a total loss, so returns cannot be linked across a 0.
        index = self.marks["index"]
        return float(index[-1] / index[0] - 1.0) if np.all(index > 0) else math.nan

    def charts(self, max_drawdown: float) -> list[Chart]:
        """Return two charts: of equity with paid-in capital, and of the drawdown.

        With fewer than two marks, the list is empty.

        max_drawdown: drawdown at which the account is halted, a fraction.
        """
        if len(self.marks) < 2:
            return []
        at, equity, lost = self.marks["at"], self.marks["equity"], -self.marks["drawdown"]
        paid = equity[0] + np.append(0.0, np.cumsum(self.marks["flows"][1:]))
        return [
            Chart(
                f"Equity {self._format_value_range(equity, formatting.format_usd)}",
                (
                    Series("net deposits", "limit", at, paid, "steps").downsample(),
                    Series("equity", "first", at, equity).downsample(),
                ),
                "usd",
                "UTC",
            ),
            Chart(
                "Drawdown"
                f" {self._format_value_range(lost, partial(formatting.format_percent, places=1))}",
                (
                    horizontal_line(-max_drawdown, at, "limit", "halt limit"),
                    Series("drawdown", "first", at, lost).downsample(),
                ),
                "percent",
                "UTC",
            ),
        ]

    def _format_value_range(self, values: Array, text: Callable[[float], str]) -> str:
        at = self.marks["at"]
        return (
            f"from {format_new_york_date(at[0])} to {format_new_york_date(at[-1])}:"
            f" {text(values[0])}"
            f" to {text(values[-1])}, lowest {text(values.min())}, highest {text(values.max())}."
        )


def build_position_table(
    mark: EquityMark,
    bounds: StatusPageLimits,
    profits: Sequence[PositionProfit],
    stops: Mapping[str, OrderIntent] = NO_STOPS,
) -> Table:
    """Return the table of open positions, the largest first, followed by closed positions.

    Values are in USD, weights in multiples of equity. The first rows are gross exposures, the last
    row is the sum of profits. For an account of event contracts, the table has no gross exposures,
    entry prices or profits.

    stops: protective orders by symbol; without any, the table has no column of them.
    """
    largest = sorted(mark.positions.items(), key=lambda item: -abs(item[1]))
    contracts = bounds.max_crypto_weight is None
    ceilings = {
        name: bounds.max_position_weight if contracts or is_symbol(name) else None
        for name in mark.positions
    }
    if contracts:
        rows = [(name, *_weight_cells(mark, value, ceilings[name])) for name, value in largest]
        return Table("Positions", ("held", *WEIGHT_COLUMNS), rows)
    by_symbol = {each.symbol: each for each in profits}
    rows = [
        (name, *_profit_cells(by_symbol.get(name)), *_weight_cells(mark, value, ceilings[name]))
        for name, value in largest
    ]
    closed = [each for each in profits if each.symbol not in mark.positions]
    rows += [(each.symbol, *_profit_cells(each), "", "", "") for each in closed]
    if rows:
        known = [each.unrealised_profit for each in profits if each.unrealised_profit is not None]
        total = (
            _money_cell(sum(known, ZERO_FRACTION)),
            _money_cell(sum((each.realised_profit for each in profits), ZERO_FRACTION)),
        )
        blank = ("",) * len(PROFIT_COLUMNS)
        rows = [
            ("stocks, gross", *blank, *_weight_cells(mark, mark.gross_stock, mark.stock_ceiling)),
            (
                "crypto, gross",
                *blank,
                *_weight_cells(mark, mark.gross_crypto, bounds.max_crypto_weight),
            ),
            *rows,
            ("all", *blank[2:], *total, "", "", ""),
        ]
    table = Table(
        "Positions", ("held", *PROFIT_COLUMNS, *WEIGHT_COLUMNS), rows, has_total_row=bool(rows)
    )
    return _with_stops(table, mark, stops) if stops else table


def _with_stops(table: Table, mark: EquityMark, stops: Mapping[str, OrderIntent]) -> Table:
    """Return the table of positions with a column of protective orders."""
    texts = dict.fromkeys(mark.positions, "none")
    texts |= {name: format_stop(stop) for name, stop in stops.items()}
    return replace(
        table,
        headings=(*table.headings, "protective order"),
        rows=[(*row, texts.get(str(row[0]), "")) for row in table.rows],
        left_aligned_columns=(len(table.headings),),
    )


def build_choice_table(choices: Sequence[ChoiceRow], last_decision_id: str) -> Table:
    """Return the table of the latest target and order of each symbol.

    choices: latest choice of each symbol.
    last_decision_id: id of the last decision; rows of earlier decisions are shown muted.
    """
    rows = []
    for row in choices:
        c = row.choice
        plan = format_horizon(c.rationale, float((row.interval_end - row.at) / HOUR)).lstrip("; ")
        texts = (
            c.symbol,
            format_utc_minute(row.at),
            formatting.format_basis_points(c.mu, 1, sign=True),
            formatting.format_basis_points(c.sigma, 1),
            formatting.format_multiple(c.kelly, sign=True),
            formatting.format_multiple(c.held_weight, 3, sign=True),
            formatting.format_multiple(c.target_weight, 3, sign=True),
            formatting.format_quantity(c.qty, sign=True) if c.qty else "none",
            formatting.format_price(c.price),
            ", ".join(c.binding_shadow_prices) or "no limit",
            plan or "the forecast only",
        )
        rows.append(
            [Cell(text, "" if row.decision_id == last_decision_id else "muted") for text in texts]
        )
    return Table("Choices of the last decision", CHOICE_COLUMNS, rows, left_aligned_columns=(9, 10))


def format_no_order_lines(
    choices: Sequence[ChoiceRow], equity: float, undecided: Mapping[str, str]
) -> list[str]:
    """Return one line per symbol without an order in its last decision, with the reason.

    choices: latest choice of each symbol.
    equity: equity at the last decision, USD.
    undecided: reasons why the last cycle made no decision on a symbol, by symbol.
    """
    reasons = {symbol: f"not decided: {reason}" for symbol, reason in undecided.items()}
    reasons |= {row.choice.symbol: format_no_order_reason(row.choice, equity) for row in choices}
    return [f"{symbol}: {reason}." for symbol, reason in sorted(reasons.items()) if reason]


def build_alert_table(notices: Sequence[AlertRow]) -> Table:
    rows = [(format_utc_minute(each.at), each.kind, each.text) for each in notices]
    return Table("Alerts", ("time, UTC", "kind", "text"), rows, left_aligned_columns=(1, 2))


def _profit_cells(position: PositionProfit | None) -> Row:
    """Return the table cells for a position's profit, one for each of `PROFIT_COLUMNS`."""
    if position is None:
        return ("unknown",) * len(PROFIT_COLUMNS)
    quantity = (
        formatting.format_quantity(position.quantity, sign=True) if position.quantity else "0"
    )
    if not position.quantity:
        return quantity, "", "", "", _money_cell(position.realised_profit)
    return (
        quantity,
        _format_unit_price(position.entry_price),
        _format_unit_price(position.last_price),
        "unknown"
        if position.unrealised_profit is None
        else _money_cell(position.unrealised_profit),
        _money_cell(position.realised_profit),
    )


def _money_cell(amount: Fraction) -> Cell:
    """Return the table cell for a profit or a loss, to the cent."""
    cents = to_cents(amount)
    return Cell(
        formatting.format_usd(cents, sign=True), "good" if cents > 0 else "bad" if cents < 0 else ""
    )


def _format_unit_price(price: Fraction | None) -> str:
    """Return a price, USD, to the cent; below one dollar to four significant digits."""
    if price is None:
        return "unknown"
    return (
        formatting.format_usd(to_cents(price))
        if price >= 1
        else formatting.format_price(f"{float(price):.4g}")
    )


def _weight_cells(mark: EquityMark, value: float, ceiling: float | None) -> Row:
    """Return the table cells of a position: value in USD, weight and ceiling.

    Weight and ceiling are multiples of equity.
    """
    weight = value / mark.equity if mark.equity > 0 else np.nan
    above = ceiling is not None and abs(weight) > ceiling
    held = formatting.format_multiple(weight, 3, sign=True)
    of_equity = Cell(f"{held} above limit", "bad") if above else held
    return formatting.format_usd(value, 0), of_equity, formatting.format_multiple(ceiling)


def format_utc_and_new_york(at: np.datetime64) -> str:
    """Return a time as text in both zones, such as "20 Feb 2024 16:30 UTC, 11:30 New York".

    New York's date is added if it differs from the UTC date.
    """
    import pandas as pd

    utc = pd.Timestamp(at, tz=UTC)
    local = utc.tz_convert(NEW_YORK)
    there = f"{local:%H:%M}" if local.date() == utc.date() else f"{local:%d %b %H:%M}"
    return f"{utc:%d %b %Y %H:%M} UTC, {there} New York"


def format_utc_minute(at: np.datetime64) -> str:
    """Return a time as text in UTC, such as "20 Feb 16:30"."""
    import pandas as pd

    return f"{pd.Timestamp(at):%d %b %H:%M}"


def format_new_york_date(at: np.datetime64) -> str:
    """Return the New York date of a time as text, such as "20 Feb 2024"."""
    import pandas as pd

    return f"{pd.Timestamp(new_york_date(np.array([at]))[0]):%d %b %Y}"
