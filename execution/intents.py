"""Orders as they are meant to be sent, on the disk before the venue hears of them.

After a crash, or an answer that never came, the book says what may be at the venue under which id.
Absence at the venue is no answer: an order can land after every look for it. What the book holds
counts until the venue has said what became of it.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from foundation.errors import InputError

State = Literal["sending", "open", "taken", "refused", "never_taken"]
STATES: tuple[State, ...] = get_args(State)
UNDETERMINED: tuple[State, ...] = ("sending", "open")

# After a day nothing is on its way any more: connections, queues and the venue's day have ended.
LANDING = np.timedelta64(24, "h")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS intents (
    client_order_id TEXT PRIMARY KEY,
    request TEXT NOT NULL,
    sent_at TEXT NOT NULL,
    expires_at TEXT,
    state TEXT NOT NULL,
    why TEXT NOT NULL DEFAULT ''
) STRICT
"""


@dataclass(frozen=True, slots=True)
class Intent:
    """One order as it is meant to be sent.

    client_order_id: its id, which no other order of the account ever has.
    request: the order in the venue's words.
    sent_at: instant by the venue's clock at which it was first sent.
    expires_at: from which on it is not wanted any more; none never.
    state: `sending` from before it is sent until there is an answer; `open` where the answers leave
        open what became of it; `taken`, `refused`; `never_taken` once it can land no more.
    why: what the venue said.
    """

    client_order_id: str
    request: Mapping[str, Any]
    sent_at: np.datetime64
    expires_at: np.datetime64 | None = None
    state: State = "sending"
    why: str = ""

    def wanted(self, now: np.datetime64) -> bool:
        """Whether it may still be asked for."""
        return self.expires_at is None or bool(now < self.expires_at)

    def lands_no_more(self, now: np.datetime64) -> bool:
        """Whether an order that the venue does not know by now will never reach it."""
        end = self.sent_at if self.expires_at is None else max(self.sent_at, self.expires_at)
        return bool(now >= end + LANDING)


class IntentBook:
    """The intents of one account.

    path: of an SQLite file, which is begun where there is none; none keeps them in memory.

    Raises
    ------
    InputError
        here and in every method, for a file that cannot be read or written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._place = "memory" if path is None else str(path)
        self._lock = threading.Lock()
        with self._named_errors():
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            # Statements take turns by the lock, whichever thread they come from.
            self._connection = sqlite3.connect(
                ":memory:" if path is None else path, isolation_level=None, check_same_thread=False
            )
            # What was written is on the disk when a statement returns, its folder's entry too.
            self._connection.execute("PRAGMA synchronous = EXTRA")
            self._connection.execute(_SCHEMA)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def begin(self, intent: Intent) -> None:
        """Write an intent down before it is sent, in place of an earlier one with its id."""
        with self._named_errors():
            self._connection.execute(
                "INSERT OR REPLACE INTO intents VALUES (?, ?, ?, ?, ?, ?)",
                (
                    intent.client_order_id,
                    json.dumps(intent.request),
                    str(intent.sent_at),
                    None if intent.expires_at is None else str(intent.expires_at),
                    intent.state,
                    intent.why,
                ),
            )

    def settle(self, client_order_id: str, state: State, why: str = "") -> None:
        """Write down what is known of an intent by now."""
        with self._named_errors():
            self._connection.execute(
                "UPDATE intents SET state = ?, why = ? WHERE client_order_id = ?",
                (state, why, client_order_id),
            )

    def get(self, client_order_id: str) -> Intent | None:
        """The intent with this id; None where it was never meant to be sent."""
        found = self._select("WHERE client_order_id = ?", (client_order_id,))
        return found[0] if found else None

    def undetermined(self) -> tuple[Intent, ...]:
        """Those of which nobody knows what became of them, oldest first."""
        marks = ", ".join("?" * len(UNDETERMINED))
        return self._select(f"WHERE state IN ({marks}) ORDER BY rowid", UNDETERMINED)

    def _select(self, condition: str, values: tuple[str, ...]) -> tuple[Intent, ...]:
        columns = "client_order_id, request, sent_at, expires_at, state, why"
        with self._named_errors():
            rows = self._connection.execute(
                f"SELECT {columns} FROM intents {condition}",
                values,
            ).fetchall()
            return tuple(_intent(*row) for row in rows)

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except (sqlite3.Error, OSError, ValueError) as error:
            raise InputError(
                f"{self._place}: the book of orders cannot be used: {error}; nothing is sent"
                " without it"
            ) from error


def _intent(
    name: str, request: str, sent_at: str, expires_at: str | None, state: str, why: str
) -> Intent:
    """An intent as a row of the book says it."""
    if state not in STATES:
        raise ValueError(f"{name}: state {state!r} is none of {', '.join(STATES)}")
    content = json.loads(request)
    if not isinstance(content, dict):
        raise ValueError(f"{name}: its request is {request[:50]!r}")
    until = None if expires_at is None else np.datetime64(expires_at, "ns")
    return Intent(name, content, np.datetime64(sent_at, "ns"), until, state, why)
