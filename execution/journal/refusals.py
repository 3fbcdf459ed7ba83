"""Order refusals: one alert per cause, from the first refusal until orders are accepted again.

A cause is the venue's reason code, with the symbol if the response names it, and the role of the
order. A cause ends once an order of its role is accepted in each of its symbols. A cause that names
no symbol also ends after a step of a job in which the venue accepted an order of its role, and
refused neither for this cause nor in one of its symbols. Causes are rows of the account's journal,
so a restart repeats no alert.

A blocked account and a trading pause at the venue have their own rows, although no order was
refused. A pause ends once the venue processes a request again, or refuses an order for another
reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
from pydantic import Json

from execution.journal.events import EventLog
from execution.journal.orders import encode_order
from execution.journal.rows import Instant, Integer, JournalTable, Text
from execution.orders.gate import AnyOrder
from execution.orders.option_orders import SpreadOrder
from execution.orders.orders import Order, is_protective_id
from foundation.database import Database
from foundation.errors import InputError, format_choices, to_one_line
from foundation.formatting import format_count
from foundation.notices import ALL_CLEAR, TRADING_PAUSED
from foundation.notifier import Notifier
from trainingdata.instants import format_utc
from trainingdata.instruments import is_stock

ORDER_REFUSED_ALERT = "refused"
REDUCTION_REFUSED_ALERT = "refused reduction"
VENUE_PAUSE_CAUSE = "trading is paused at the venue"
# Effect of refused orders that are urgent, by the first words of their role.
_URGENT_EFFECTS = {
    "orders that reduce positions": "The position stays open.",
    "protective orders": "The position stays without a stop.",
}
_REDUCING, _PROTECTING = _URGENT_EFFECTS
_OPENING = "orders"
_ACCOUNT_ROLE = "all orders of this account"
_VENUE_ROLE = "all orders"
_STATUS_PATTERN = re.compile(r"\((\d{3})\)")
_CODE_PATTERN = re.compile(r'"code"\s*:\s*"?(\w+)')
_MESSAGE_PATTERN = re.compile(r'"message"\s*:\s*"((?:[^"\\]|\\.)*)')


@dataclass(frozen=True, slots=True)
class Refusal:
    """Journal row of a cause for which the venue currently refuses orders.

    cause: reason code, with the symbol if the venue's response names it.
    role: orders that are refused, such as "orders that reduce positions in stocks".
    first_at, last_at: send times of the first and the last refused order, by the venue's clock.
    order_count: number of refused orders.
    last_text: last refused order, with the venue's full response.
    symbols: symbols in which the venue has refused orders for this cause, and has accepted none
        since. An empty list ends the cause when the step ends.
    """

    cause: Text
    role: Text
    first_at: Instant
    last_at: Instant
    order_count: Integer
    last_text: Text
    symbols: Json[list[str]]

    @property
    def is_urgent(self) -> bool:
        """True if the venue refuses orders that reduce or protect positions."""
        return self.role.startswith(tuple(_URGENT_EFFECTS))

    @property
    def is_venue_pause(self) -> bool:
        """True if trading is paused for all accounts, in which case no action is needed."""
        return self.role == _VENUE_ROLE

    @property
    def headline(self) -> str:
        """Short description of the refusal, in one phrase."""
        return VENUE_PAUSE_CAUSE if self.is_venue_pause else f"the venue refuses {self.role}"

    def __str__(self) -> str:
        count = format_count(self.order_count, "time")
        where = ": ".join(filter(None, (count, format_choices(self.symbols))))
        return (
            f"{'URGENT: ' if self.is_urgent else ''}{self.headline} since"
            f" {format_utc(self.first_at)} ({where}), last at {format_utc(self.last_at)}:"
            f" {self.last_text}"
        )


_REFUSALS = JournalTable(
    "refusals",
    Refusal,
    key="cause, role",
    column_names={"order_count": "orders", "last_text": "last"},
)


class RefusalJournal:
    """The record of one account's refused orders, which also sends the alerts about them.

    database: the account's journal.
    events: event log that records the first refusal and the end of each cause.
    notices: sender of alerts and of the messages that end them; None sends none.
    clear_command: command with which a person clears the causes; empty names none in alerts.
    """

    def __init__(
        self,
        database: Database,
        events: EventLog,
        notices: Notifier | None = None,
        clear_command: str = "",
    ) -> None:
        self._database = database
        self._events = events
        self._notices = notices
        self._clear_command = clear_command
        # Roles of the orders accepted in this step; role with cause and with symbol of the refused.
        self._accepted: set[str] = set()
        self._refused: set[tuple[str, str]] = set()
        _REFUSALS.create(database)

    def active(self) -> list[Refusal]:
        """Return the causes for which the venue currently refuses orders, oldest first."""
        return _REFUSALS.select_rows(self._database, "ORDER BY first_at, cause, role")

    def record_refusal(self, order: AnyOrder, response: str, at: np.datetime64) -> None:
        """Record a refused order, and send one alert per cause.

        response: text of the venue's response, without the order's id.
        """
        symbol, role = order_symbol_and_role(order)
        words = encode_order(order)
        terms = " ".join(filter(None, (words.get("side", ""), words["qty"], symbol)))
        self.record_trading_resumed()
        self._record_cause(reason_code(response, symbol), role, symbol, f"{terms}: {response}", at)

    def record_acceptance(self, order: AnyOrder) -> None:
        """Record an accepted order, which may end causes of refusals when the job's step ends."""
        symbol, role = order_symbol_and_role(order)
        self._accepted.add(role)
        self.record_trading_resumed()
        for row in self.active():
            if row.role == role and symbol in row.symbols:
                left = [each for each in row.symbols if each != symbol]
                _REFUSALS.upsert(self._database, replace(row, symbols=left))

    def record_account_block(self, why: str, at: np.datetime64) -> None:
        """Record that the venue accepts no orders from the account.

        why: reason of the block; an empty string ends the block.
        """
        if why:
            self._record_cause(why, _ACCOUNT_ROLE, "", why, at)
        else:
            self._accepted.add(_ACCOUNT_ROLE)

    def record_venue_pause(self, why: str, at: np.datetime64) -> None:
        """Record that the venue did not process a request because trading is paused."""
        self._record_cause(VENUE_PAUSE_CAUSE, _VENUE_ROLE, "", why, at)

    def record_trading_resumed(self) -> None:
        """Record that the venue has processed a request, so that a pause has ended."""
        self._accepted.add(_VENUE_ROLE)

    def clear_contradicted_causes(self) -> None:
        """End the causes of refusals that orders accepted in this step contradict.

        The alerts of ended causes are closed. A step is one run of a job.
        """
        accepted, refused = self._accepted, self._refused
        self._accepted, self._refused = set(), set()
        for row in self.active():
            is_repeated = any((row.role, each) in refused for each in (row.cause, *row.symbols))
            names_symbol = row.cause.split()[-1] in row.symbols
            if not row.symbols or (row.role in accepted and not (is_repeated or names_symbol)):
                self._end_cause(row, "the venue accepts orders again")

    def clear_all_causes(self, by: str) -> int:
        """End all causes of refusals, and return their number.

        by: name of the person who has checked the causes.
        """
        if not by.strip():
            raise InputError("refused: not cleared, no person is named; add --by NAME")
        rows = self.active()
        for row in rows:
            self._end_cause(row, f"cleared by {to_one_line(by)}")
        return len(rows)

    def _send_notice(self, kind: str, text: str) -> None:
        if self._notices is not None:
            self._notices.send_notice(kind, text)

    def _record_cause(
        self, cause: str, role: str, symbol: str, last: str, at: np.datetime64
    ) -> None:
        self._refused |= {(role, cause), (role, symbol)}
        text = to_one_line(last, 600)
        with self._database.transaction():
            before = _REFUSALS.first_row(
                self._database, "WHERE cause = ? AND role = ?", (cause, role)
            )
            known = before or Refusal(cause, role, at, at, 0, text, [])
            now = replace(
                known,
                last_at=at,
                order_count=known.order_count + 1,
                last_text=text,
                symbols=sorted({*known.symbols, symbol}),
            )
            _REFUSALS.upsert(self._database, now)
            if before is None:
                self._events.append(ORDER_REFUSED_ALERT, cause, {"role": role, "last": text})
                self._send_notice(*_build_alert(now, self._clear_command))

    def _end_cause(self, row: Refusal, how: str) -> None:
        with self._database.transaction():
            self._database.execute(
                "DELETE FROM refusals WHERE cause = ? AND role = ?", (row.cause, row.role)
            )
            self._events.append("refusal ended", row.cause, {"role": row.role, "how": how})
            self._send_notice(ALL_CLEAR, f"{how}; earlier: {row.headline}: {row.last_text}")


def read_active_refusals(database: Database) -> list[Refusal]:
    """Return the causes in a journal for which orders are currently refused, oldest first."""
    return RefusalJournal(database, EventLog(database)).active()


def order_symbol_and_role(order: AnyOrder) -> tuple[str, str]:
    """Return the symbol of an order and its role: what it does to a position, in which market.

    The symbol of a spread is the root of its options, that of an event contract its market.
    """
    role = _REDUCING if order.reduces else _OPENING
    if isinstance(order, SpreadOrder):
        return order.root, f"{role} in spreads"
    if not isinstance(order, Order):
        return order.market, f"{role} in contracts"
    role = _PROTECTING if is_protective_id(order.client_order_id) else role
    return order.symbol, f"{role} in {'stocks' if is_stock(order.symbol) else 'crypto'}"


def reason_code(response: str, symbol: str) -> str:
    """Return the HTTP status and the venue's code in a response; without them the response.

    The symbol is added if the venue's message names it, because other symbols have another cause.
    """
    found = [pattern.search(response) for pattern in (_STATUS_PATTERN, _CODE_PATTERN)]
    code = " ".join(match[1] for match in found if match) or response
    message = _MESSAGE_PATTERN.search(response)
    words = message[1] if message else response
    is_named = re.search(rf"(?<!\w){re.escape(symbol)}(?!\w)", words)
    return f"{code} {symbol}" if is_named else code


def _build_alert(refusal: Refusal, clear_command: str) -> tuple[str, str]:
    """Return the kind and the text of the alert about a refusal.

    clear_command: command with which a person clears refused orders; empty names none.
    """
    last = refusal.last_text
    if refusal.is_venue_pause:
        return TRADING_PAUSED, f"{last}. Orders are denied until it resumes; no action is required."
    clear = f" Clear with: {clear_command}" if clear_command else ""
    until = (
        "No further alert is sent; an all-clear follows when the venue accepts orders again."
        f"{clear}"
    )
    for role, effect in _URGENT_EFFECTS.items():
        if refusal.role.startswith(role):
            return REDUCTION_REFUSED_ALERT, (
                f"URGENT: {refusal.headline}: {last}. {effect} Close it at the venue if necessary."
                f" {until}"
            )
    return ORDER_REFUSED_ALERT, f"{refusal.headline}: {last}. {until}"
