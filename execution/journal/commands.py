"""Commands that persons and programs give to an account, each recorded before it is executed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal, get_args

import numpy as np
from pydantic import Json

from execution.journal.events import EventLog
from execution.journal.halts import HaltKind
from execution.journal.rows import ExactDecimal, Instant, JournalTable, Text
from execution.orders.gate import OrderRole
from foundation.database import Database

Verb = Literal["pause", "resume", "reduce", "exit", "flatten"]
VERBS: tuple[Verb, ...] = get_args(Verb)
CommandState = Literal["received", "waiting", "done", "partial", "refused", "expired", "cancelled"]
UNANSWERED_STATES: tuple[CommandState, ...] = ("received", "waiting")

WATCH = "watch"  # sender of the commands by which the watch of an account acts
KILL = "kill"  # sender of the command that closes all positions before the loop ends
_SECOND = np.timedelta64(1, "s")
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Command:
    """Journal row of a command.

    command_id: id of the command; a command with a known id is not executed a second time.
    verb: `pause`, `resume`, `reduce`, `exit` or `flatten`.
    argument: fraction of `reduce`, symbol of `exit`; else empty.
    by: name of the person or program that gave the command; `WATCH` for the account's watch.
    written_at: instant by the clock of the sender's machine.
    received_at: instant of the receipt by the venue's clock, different for every command; the ids
        of its orders contain it.
    state: `received` before the first attempt, `waiting` while a part is retried; then `done`,
        `partial`, `refused`, `expired`, or `cancelled` by `resume`.
    answer: description of what was done, what waits and what was not done.
    answered_at: instant of the answer by the venue's clock.
    targets: signed quantity to which `reduce` still has to reduce each position, by symbol; None
        until the positions are read. A symbol is removed once its position has been reduced.
    """

    command_id: Text
    verb: Verb
    argument: Text
    by: Text
    written_at: Instant
    received_at: Instant
    state: CommandState = "received"
    answer: Text = ""
    answered_at: Instant | None = None
    targets: Json[Mapping[str, ExactDecimal] | None] = None

    def __str__(self) -> str:
        return f"{self.verb} {self.argument}".strip() + f" by {self.by}"

    @property
    def is_unanswered(self) -> bool:
        return self.state in UNANSWERED_STATES

    @property
    def kept_fraction(self) -> Decimal:
        """Fraction of each position that stays."""
        return Decimal(self.argument) if self.verb == "reduce" else _ZERO

    @property
    def role(self) -> OrderRole:
        """Role of the command's orders."""
        return "watch" if self.by == WATCH else "command"

    @property
    def halt_kind(self) -> HaltKind:
        """Kind of the halt that the command raises."""
        if self.by == WATCH:
            return "watch"
        return "exited" if self.verb == "exit" else "paused"


COMMANDS_TABLE = JournalTable("commands", Command, column_names={"command_id": "id"})


class CommandJournal:
    """The commands of one account, as recorded in its journal.

    database: the account's journal.
    events: log that records receipts and answers.
    """

    def __init__(self, database: Database, events: EventLog) -> None:
        self._database = database
        self._events = events
        COMMANDS_TABLE.create(database)

    def receive(self, command: Command) -> Command:
        """Record a new command, in the surrounding transaction if there is one, and return it.

        If an earlier command was received at the same instant or later, the receipt is moved behind
        it, to another whole second.
        """
        with self._database.transaction():
            last = COMMANDS_TABLE.first_row(self._database, "ORDER BY received_at DESC")
            at = command.received_at.astype("datetime64[s]")
            if last is not None:
                at = max(at, last.received_at.astype("datetime64[s]") + _SECOND)
            command = replace(command, received_at=at.astype("datetime64[ns]"))
            COMMANDS_TABLE.insert(self._database, command)
            self._events.append("command received", command.command_id, str(command))
        return command

    def set_targets(self, command: Command, targets: Mapping[str, Decimal]) -> Command:
        """Record the quantities to which a command reduces positions, and return the command."""
        command = replace(command, targets=dict(targets))
        COMMANDS_TABLE.upsert(self._database, command)
        return command

    def answer(
        self, command_id: str, state: CommandState, answer: str, at: np.datetime64
    ) -> Command:
        """Record the answer to a command, and return the command.

        Raises
        ------
        LookupError
            for an unknown id.
        """
        with self._database.transaction():
            command = self.get(command_id)
            if command is None:
                raise LookupError(f"{command_id}: no such command")
            command = replace(command, state=state, answer=answer, answered_at=at)
            COMMANDS_TABLE.upsert(self._database, command)
            self._events.append(f"command {state}", command_id, answer)
        return command

    def get(self, command_id: str) -> Command | None:
        """Return the command with this id; None without one."""
        return COMMANDS_TABLE.first_row(self._database, "WHERE id = ?", (command_id,))

    def last_command_of(self, sender: str) -> Command | None:
        """Return the last command of a sender; None if there is none."""
        clause = 'WHERE "by" = ? ORDER BY received_at DESC'
        return COMMANDS_TABLE.first_row(self._database, clause, (sender,))

    def unanswered(self) -> Sequence[Command]:
        """Return the commands whose answers are not final, oldest first."""
        clause = "WHERE state IN ('received', 'waiting') ORDER BY received_at"
        return COMMANDS_TABLE.select_rows(self._database, clause)

    def reduction_in(self, symbol: str) -> Command | None:
        """Return the command that still has to reduce the position in a symbol, or None."""
        return next((each for each in self.unanswered() if symbol in (each.targets or {})), None)

    def latest(self, limit: int) -> Sequence[Command]:
        """Return the latest commands, newest first.

        limit: maximum number of commands returned.
        """
        return COMMANDS_TABLE.select_rows(
            self._database, "ORDER BY received_at DESC LIMIT ?", (limit,)
        )
