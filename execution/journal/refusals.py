"""Order refusals: one alert per cause, from the first refusal until orders are accepted again.

A cause is the venue's reason without the numbers and ids of a single order. A cause ends for a
symbol once the last order in that symbol is accepted. It also ends after a step of a job in which
the venue accepted an order of the same kind, and refused none for this cause. Then the venue's view
of the account has changed. A cause whose text names a symbol ends only by orders in that symbol.
Openings, reductions and protective orders have separate scopes: an accepted order of one kind ends
no refusal of another kind. Causes are rows of the account's journal, so a restart repeats no alert.

A blocked account and a trading pause at the venue have their own rows, although no order was
refused. A pause ends once the venue processes a request again, or refuses an order for another
reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from pydantic import Json

from execution.journal.events import EventLog
from execution.journal.orders import encode_order
from execution.journal.rows import Instant, Integer, JournalTable, Text
from execution.orders.gate import AnyOrder
from execution.orders.option_orders import SpreadOrder
from execution.orders.orders import Order, is_protective_id
from foundation.database import Database
from foundation.errors import InputError, to_one_line
from foundation.formatting import format_count
from foundation.notices import ALL_CLEAR, TRADING_PAUSED
from foundation.notifier import Notifier
from trainingdata.instants import format_utc
from trainingdata.instruments import is_stock

ORDER_REFUSED_ALERT = "refused"
REDUCTION_REFUSED_ALERT = "refused reduction"
VENUE_PAUSE_CAUSE = "trading is paused at the venue"
MAX_SYMBOLS_NAMED = 6
# A number, a price or an id of one order, which differs between refusals for one reason.
_NUMBER_OR_ID_PATTERN = re.compile(r"[\w$./:-]*\d[\w./:,-]*")
_JSON_MESSAGE_PATTERN = re.compile(r'"message"\s*:\s*"((?:[^"\\]|\\.)*)"?')
_REJECTION_PATTERN = re.compile(r"^(?P<status>rejected \(\d+\)): (?P<words>.*)$", re.DOTALL)

MarketKind = Literal["stock", "crypto", "spread", "contract", "account", "venue"]


class RefusalScope(NamedTuple):
    """Scope of a refusal: market of the order, and whether it reduces or protects a position.

    symbol: symbol of the instrument, root of a spread's options, or market of an event contract.
    kind: kind of the market; `account` for a blocked account, `venue` for a paused venue.
    reduces: true if the order reduces a position.
    protects: true if the order is the stop of a position.
    """

    symbol: Text
    kind: MarketKind
    reduces: bool
    protects: bool = False

    @property
    def order_kind(self) -> str:
        """Kind of the order, in the words of alerts."""
        if self.protects:
            return "protective orders"
        return "orders that reduce positions" if self.reduces else "orders"


_ACCOUNT = RefusalScope("account", "account", reduces=False)
_VENUE = RefusalScope("venue", "venue", reduces=False)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Journal row of a cause for which the venue currently refuses orders.

    cause: the venue's reason without the numbers of a single order.
    first_at, last_at: send times of the first and the last refused order, by the venue's clock.
    order_count: number of refused orders.
    last_text: last refused order, with the venue's full response.
    scopes: markets in which the venue has refused orders for this cause, and has accepted none
        since. An empty list ends the cause when the step ends.
    """

    cause: Text
    first_at: Instant
    last_at: Instant
    order_count: Integer
    last_text: Text
    scopes: Json[list[RefusalScope]]

    @property
    def is_urgent(self) -> bool:
        """True if the venue refuses orders that reduce positions."""
        return any(place.reduces for place in self.scopes)

    @property
    def is_venue_pause(self) -> bool:
        """True if trading is paused for all accounts, in which case no action is needed."""
        return _VENUE in self.scopes

    @property
    def is_account_block(self) -> bool:
        """True if the venue accepts no orders from the account."""
        return any(place.kind == "account" for place in self.scopes)

    @property
    def headline(self) -> str:
        """Short description of the refusal, in one phrase."""
        if self.is_venue_pause:
            return VENUE_PAUSE_CAUSE
        if self.is_account_block:
            return "the venue accepts no orders from this account"
        return f"the venue refuses {self._order_kinds}"

    @property
    def line_prefix(self) -> str:
        """Words that precede the details of the refusal in a status line."""
        if self.is_venue_pause or self.is_account_block:
            return self.headline
        return "refused by the venue"

    @property
    def _order_kinds(self) -> str:
        """Kinds of the refused orders that are urgent; `orders` if none is urgent."""
        urgent = [place for place in self.scopes if place.reduces]
        return " and ".join(sorted({place.order_kind for place in urgent})) or "orders"

    @property
    def symbols(self) -> list[str]:
        return sorted({place.symbol for place in self.scopes})

    def __str__(self) -> str:
        if self.is_venue_pause or self.is_account_block:
            first, last = format_utc(self.first_at), format_utc(self.last_at)
            return f"since {first}, last at {last}: {self.last_text}"
        names = self.symbols
        shown = " ".join(names[:MAX_SYMBOLS_NAMED])
        more = len(names) - MAX_SYMBOLS_NAMED
        where = f"{shown} and {more} more" if more > 0 else shown
        urgent = f"URGENT, including {self._order_kinds}: " if self.is_urgent else ""
        return (
            f"{urgent}{format_count(self.order_count, 'order')} since"
            f" {format_utc(self.first_at)}"
            f" ({where}), last at {format_utc(self.last_at)}: {self.last_text}"
        )


_REFUSALS = JournalTable(
    "refusals", Refusal, column_names={"order_count": "orders", "last_text": "last"}
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
        # Causes of refusals in this step that no acceptance in the same market has followed.
        self._refused: dict[RefusalScope, set[str]] = {}
        self._accepted: set[RefusalScope] = set()
        self._urgent: set[str] = set()  # causes that were urgent in this step
        _REFUSALS.create(database)

    def active(self) -> list[Refusal]:
        """Return the causes for which the venue currently refuses orders, oldest first."""
        return _REFUSALS.select_rows(self._database, "ORDER BY first_at, cause")

    def record_refusal(self, order: AnyOrder, response: str, at: np.datetime64) -> None:
        """Record a refused order, and send one alert per cause.

        response: text of the venue's response, without the order's id.
        """
        place = refusal_scope(order)
        self.record_trading_resumed()
        self._record_cause(
            place,
            generalise_reason(response, place.symbol),
            f"{_format_order(order)}: {response}",
            at,
        )

    def record_acceptance(self, order: AnyOrder) -> None:
        """Record an accepted order, which may end causes of refusals when the job's step ends."""
        place = refusal_scope(order)
        self._accept_scope(place)
        self.record_trading_resumed()
        for row in self.active():
            if place in row.scopes:
                if row.is_urgent:
                    self._urgent.add(row.cause)
                left = [each for each in row.scopes if each != place]
                _REFUSALS.upsert(self._database, replace(row, scopes=left))

    def record_account_block(self, why: str, at: np.datetime64) -> None:
        """Record that the venue accepts no orders from the account.

        why: reason of the block; an empty string ends the block.
        """
        if why:
            self._record_cause(_ACCOUNT, why, why, at)
        else:
            self._accept_scope(_ACCOUNT)

    def record_venue_pause(self, why: str, at: np.datetime64) -> None:
        """Record that the venue did not process a request because trading is paused."""
        self._record_cause(_VENUE, VENUE_PAUSE_CAUSE, why, at)

    def record_trading_resumed(self) -> None:
        """Record that the venue has processed a request, so that a pause has ended."""
        self._accept_scope(_VENUE)

    def clear_contradicted_causes(self) -> None:
        """End the causes of refusals that orders accepted in this step contradict.

        The alerts of ended causes are closed. A step is one run of a job.
        """
        accepted, refused = self._accepted, self._refused
        self._refused, self._accepted, self._urgent = {}, set(), set()
        repeated = {cause for causes in refused.values() for cause in causes}
        for row in self.active():
            left = [
                place
                for place in row.scopes
                if place in refused
                or not _is_contradicted(place, row.cause, accepted, repeated=row.cause in repeated)
            ]
            if not left:
                self._end_cause(
                    row,
                    "trading has resumed"
                    if row.is_venue_pause
                    else "the venue accepts orders again",
                )
            elif left != row.scopes:
                _REFUSALS.upsert(self._database, replace(row, scopes=left))

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

    def _accept_scope(self, place: RefusalScope) -> None:
        """Record an acceptance in a market, and drop the refusals before it in the same step."""
        self._refused.pop(place, None)
        self._accepted.add(place)

    def _send_notice(self, kind: str, text: str) -> None:
        if self._notices is not None:
            self._notices.send_notice(kind, text)

    def _record_cause(self, place: RefusalScope, cause: str, last: str, at: np.datetime64) -> None:
        self._refused.setdefault(place, set()).add(cause)
        self._accepted.discard(place)
        with self._database.transaction():
            before = _REFUSALS.first_row(self._database, "WHERE cause = ?", (cause,))
            scopes = [] if before is None else list(before.scopes)
            if place not in scopes:
                scopes.append(place)
            first = at if before is None else before.first_at
            count = 1 if before is None else before.order_count + 1
            now = Refusal(cause, first, at, count, to_one_line(last, 600), scopes)
            _REFUSALS.upsert(self._database, now)
            was_urgent = cause in self._urgent or (before is not None and before.is_urgent)
            if before is None or (now.is_urgent and not was_urgent):
                self._events.append(ORDER_REFUSED_ALERT, cause, {"last": now.last_text})
                self._send_notice(*_build_alert(now, place, self._clear_command))

    def _end_cause(self, row: Refusal, how: str) -> None:
        with self._database.transaction():
            self._database.execute("DELETE FROM refusals WHERE cause = ?", (row.cause,))
            self._events.append("refusal ended", row.cause, {"how": how})
            count = format_count(row.order_count, "order")
            refused = (
                "" if row.is_venue_pause or row.is_account_block else f"{count} had been refused: "
            )
            self._send_notice(ALL_CLEAR, f"{how}; {refused or 'earlier cause: '}{row.cause}")


def read_active_refusals(database: Database) -> list[Refusal]:
    """Return the causes in a journal for which orders are currently refused, oldest first."""
    return RefusalJournal(database, EventLog(database)).active()


def refusal_scope(order: AnyOrder) -> RefusalScope:
    """Return the scope of an order: its market, and whether it reduces or protects a position."""
    if isinstance(order, Order):
        kind: MarketKind = "stock" if is_stock(order.symbol) else "crypto"
        protects = is_protective_id(order.client_order_id)
        return RefusalScope(order.symbol, kind, order.reduces, protects)
    if isinstance(order, SpreadOrder):
        return RefusalScope(order.root, "spread", order.reduces)
    return RefusalScope(order.market, "contract", order.reduces)


def generalise_reason(response: str, symbol: str) -> str:
    """Return the reason in a venue's response, with the numbers and ids of the order removed.

    The HTTP status is kept, and so is the order's symbol if the reason names it.
    """
    found = _REJECTION_PATTERN.match(response)
    status, words = (found["status"], found["words"]) if found else ("", response)
    if message := _JSON_MESSAGE_PATTERN.search(words):
        words = _decode_json_text(message[1])
    general = symbol.join(_NUMBER_OR_ID_PATTERN.sub("#", part) for part in words.split(symbol))
    return to_one_line(f"{status}: {general}" if status else general)


def _decode_json_text(text: str) -> str:
    """Decode the escapes in the text of a JSON string; text cut within an escape is unchanged."""
    try:
        return str(json.loads(f'"{text}"'))
    except ValueError:
        return text


def _is_contradicted(
    place: RefusalScope, cause: str, accepted: Collection[RefusalScope], *, repeated: bool
) -> bool:
    """Return whether the accepted orders show that a cause of refusals no longer holds in a market.

    place: the market, and whether the refused orders reduce positions.
    accepted: markets of the orders that were accepted in the step.
    repeated: true if an order was refused for this cause in the same step.
    """
    if place in accepted:
        return True
    if repeated or re.search(rf"(?<!\w){re.escape(place.symbol)}(?!\w)", cause):
        return False
    return any(each[1:] == place[1:] for each in accepted)


def _format_order(order: AnyOrder) -> str:
    """Return an order's side, quantity and symbol as text, such as "sell 10 SYA"."""
    words = encode_order(order)
    return " ".join(
        filter(None, (words.get("side", ""), words["qty"], refusal_scope(order).symbol))
    )


def _build_alert(refusal: Refusal, place: RefusalScope, clear_command: str) -> tuple[str, str]:
    """Return the kind and the text of the alert about a refusal.

    place: scope of the last refused order.
    clear_command: command with which a person clears refused orders; empty names none.
    """
    last = refusal.last_text
    if refusal.is_venue_pause:
        return TRADING_PAUSED, f"{last}. Orders are denied until it resumes; no action is required."
    until = "No further alert is sent; an all-clear follows when the venue accepts orders again."
    if clear_command:
        until += f" Clear with: {clear_command}"
    if refusal.is_account_block:
        return ORDER_REFUSED_ALERT, (
            f"{last}. No decisions are made and no orders are sent; positions stay open. {until}"
        )
    if refusal.is_urgent:
        return REDUCTION_REFUSED_ALERT, (
            f"URGENT: the venue refuses {place.order_kind}, the position stays"
            f" {'without a stop' if place.protects else 'open'}: {last}."
            f" Close it at the venue if necessary. {until}"
        )
    return ORDER_REFUSED_ALERT, f"the venue refuses orders: {last}. {until}"
