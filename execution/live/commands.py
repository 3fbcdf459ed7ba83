"""Commands of an account: files in its folder, each executed once and answered in a file.

A command is the file `commands/ID.json`, which any program of the account's owner may write. The
loop takes commands between two steps and while it waits. A command's receipt is recorded in the
journal, in one transaction with the halt that it raises, before an order is sent. Its answer is
recorded in the journal and then written to `commands/ID.answer.json`. A process that resumes a
command after a crash therefore neither repeats nor forgets it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from execution.journal.commands import VERBS, WATCH, Command, CommandJournal, CommandState
from execution.journal.events import EventLog
from execution.journal.halts import HaltChanges, HaltJournal, HaltKind
from execution.journal.rows import format_instant, parse_instant
from execution.live.loop import StopSignal
from execution.live.open_account import OpenAccount
from foundation.clock import SYSTEM_TIME, InstantSource, TimeSource
from foundation.database import Database
from foundation.errors import BrokerError, InputError, invalid_choice_error, to_one_line
from foundation.files import write_atomically
from trainingdata.instants import HOUR, format_utc, new_york_date
from trainingdata.instruments import instrument
from trainingdata.sessions import session_on

log = logging.getLogger("live")

COMMANDS_FOLDER = "commands"
MAX_COMMAND_AGE = HOUR  # age beyond which a command expires; open time in which it is retried
MAX_FILE_BYTES = 10_000
MAX_ANSWER_FILES = 200  # the oldest answers are deleted beyond it
FIRST_RETRY_SECONDS = 5.0  # seconds until the first retry of a waiting command, doubled each time
MAX_RETRY_SECONDS = 60.0
REDUCING_VERBS = ("reduce", "exit", "flatten")
RESUMABLE_HALTS: Sequence[HaltKind] = ("paused", "exited")
_ANSWER_SUFFIX = ".answer.json"
_COMMAND_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FRACTION = re.compile(r"[0-9]*\.?[0-9]+(e-[0-9]{1,2})?", re.IGNORECASE)
_SYMBOL = re.compile(r"[A-Za-z0-9./_-]{1,64}")


@dataclass(frozen=True, slots=True)
class CommandOutcome:
    """Result of a command for the positions of one job, one text a position.

    done: changes of positions.
    left: positions that are not reduced as requested, each with the reason.
    waiting: positions whose reduction is retried, each with the reason for waiting.
    """

    done: Sequence[str] = ()
    left: Sequence[str] = ()
    waiting: Sequence[str] = ()


@runtime_checkable
class CommandedJob(Protocol):
    """A job that can execute commands which reduce positions."""

    def trades_symbol(self, symbol: str) -> bool:
        """Return whether the job trades a symbol or has a position in it."""
        ...

    def reduce_positions(self, command: Command) -> CommandOutcome:
        """Reduce positions as a command asks, and return what was done.

        A second call for the same command continues the first call. If the command has ended, the
        call cancels its open orders.

        Raises
        ------
        BrokerError
            if the venue does not respond; the command is then retried.
        """
        ...


def parse_command(command_id: str, values: Any, at: np.datetime64) -> Command:
    """Return the command that a file or a command line describes.

    values: values by field: `verb`, `argument`, `by`, `written_at`.
    at: instant of the receipt.

    Raises
    ------
    InputError
        for an invalid value.
    """
    if not _COMMAND_ID.fullmatch(command_id):
        raise InputError(
            f"command id {command_id!r} is not valid; use 1 to 64 letters, digits, - and _"
        )
    if not isinstance(values, dict):
        raise InputError(f"command {command_id}: expected a JSON object with verb, argument and by")
    texts = {name: str(values.get(name, "")) for name in ("verb", "argument", "by")}
    verb, argument, by = (to_one_line(text.strip()) for text in texts.values())
    if verb not in VERBS:
        raise invalid_choice_error("verb", verb, VERBS)
    if not by.isprintable() or by in ("", WATCH):
        raise InputError(f"{verb}: `by` is {by!r}; name the person or program that commands it")
    try:
        written_at = parse_instant(str(values.get("written_at", "")).removesuffix("Z"))
    except ValueError as error:
        raise InputError(f"{verb}: written_at is {error}") from error
    return Command(command_id, verb, _parse_argument(verb, argument), by, written_at, at)


def _parse_unique_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object. Raises `InputError` for a duplicate field."""
    twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if twice:
        raise InputError(f"the field {twice[0]!r} is written twice; write it once")
    return dict(pairs)


def _parse_argument(verb: str, argument: str) -> str:
    if verb == "exit":
        if not _SYMBOL.fullmatch(argument):
            raise InputError(f"exit: {argument!r} is not a symbol; name the position to close")
        try:
            return instrument(argument).symbol
        except InputError:  # a market of event contracts
            return argument
    if verb == "reduce":
        if not (_FRACTION.fullmatch(argument) and Decimal(argument) < 1):
            raise InputError(
                f"reduce: {argument!r} is not a fraction from 0 to below 1; name the fraction of"
                " each position that stays"
            )
    elif argument:
        raise InputError(f"{verb}: takes no argument, got {argument!r}")
    return argument


def write_command(folder: Path, command_id: str, values: dict[str, str]) -> Path:
    """Write the file of a command, which only the owner of the account's folder may read.

    folder: folder of the account.
    """
    path = folder / COMMANDS_FOLDER / f"{command_id}.json"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_atomically(path, json.dumps(values).encode(), is_private=True)
    if os.geteuid() == 0:
        # The loop may run as the user who owns the folder.
        owner = folder.stat()
        for each in (path.parent, path):
            os.chown(each, owner.st_uid, owner.st_gid)
    return path


def read_answer(folder: Path, command_id: str) -> dict[str, str] | None:
    """Return the answer to a command: its fields with `state` and `answer`; None without one."""
    path = folder / COMMANDS_FOLDER / f"{command_id}{_ANSWER_SUFFIX}"
    try:
        answer: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot read the answer: {error}") from error
    return answer


class CommandDesk:
    """Receiver and executor of an account's commands.

    folder: folder of the account.
    jobs: jobs of the loop; none while no loop runs. Commands reduce the positions of those that are
        a `CommandedJob`.
    venue_clock: clock that returns the venue's time.
    reporter: account that alerts halts and prints answers; None reports none.
    stop: signal that stops the loop; orders are then left to the next process.
    time: clock of this machine, by which the age of commands is measured.
    """

    def __init__(
        self,
        folder: Path,
        database: Database,
        events: EventLog,
        halts: HaltJournal,
        jobs: Sequence[object],
        venue_clock: InstantSource,
        *,
        reporter: OpenAccount | None = None,
        stop: StopSignal | None = None,
        time: TimeSource = SYSTEM_TIME,
    ) -> None:
        self._folder = folder / COMMANDS_FOLDER
        self._database = database
        self._halts = halts
        self._jobs = [job for job in jobs if isinstance(job, CommandedJob)]
        self._clock = venue_clock
        self._reporter = reporter
        self._stop = StopSignal() if stop is None else stop
        self._time = time
        self._retries: dict[str, tuple[float, float]] = {}  # time and pause by command id, seconds
        self._unanswerable: set[str] = set()  # ids whose answers could not be written
        self.journal = CommandJournal(database, events)

    def take(self) -> None:
        """Receive the commands in the folder, and execute those that are not answered yet."""
        for path in sorted(self._folder.glob("*.json")):
            if not path.name.endswith(_ANSWER_SUFFIX):
                self.take_file(path)
        for command in self.journal.unanswered():
            at, _ = self._retries.get(command.command_id, (0.0, 0.0))
            if not self._stop and self._time.monotonic() >= at:
                self.execute(command)

    def take_file(self, path: Path) -> None:
        """Receive the command in a file; publish the answer if it was answered before."""
        if known := self.journal.get(path.stem):
            self._publish(known)
            return
        try:
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE_BYTES:
                raise InputError(f"{path.name}: not a regular file of at most 10 kB")
            text = path.read_text(encoding="utf-8")
            values = json.loads(text, object_pairs_hook=_parse_unique_fields)
            command = parse_command(path.stem, values, self._clock.now())
        except FileNotFoundError:
            return
        except (OSError, ValueError, RecursionError) as error:
            if path.stem not in self._unanswerable:
                log.warning("%s: command refused: %s", path, error)
            answer = {"id": path.stem, "state": "refused", "answer": to_one_line(str(error))}
            self._write_answer(path.stem, answer)
            return
        self.receive(command)

    def receive(self, command: Command, reason: str = "", cause: str = "") -> Command:
        """Record the receipt of a command and its halt, and return it.

        A command that needs no order is answered at once.

        reason: reason of the halt; by default the command itself.
        cause: cause of the halt, as the journal records it.
        """
        changes, cancelled = HaltChanges(), []
        with self._database.transaction():
            command = self.journal.receive(command)
            if abs(self._time.now() - command.written_at) > MAX_COMMAND_AGE:
                text = f"not executed: written at {format_utc(command.written_at)}, more than an"
                command = self._record_answer(command, "expired", f"{text} hour from now")
            elif why := self._refusal_reason(command):
                command = self._record_answer(command, "refused", why)
            else:
                if command.verb == "resume":
                    cancelled = self._end_waiting_commands(command)
                changes = self._change_halts(command, reason or f"command {command}", cause)
                if command.verb not in REDUCING_VERBS:
                    text = self._describe_halts(changes)
                    command = self._record_answer(command, "done", text)
        if self._reporter is not None:
            self._reporter.alert_halt_changes(changes)
        self._publish(command)
        for each in cancelled:
            self._publish(each)
            self._reduce_positions(each)
        return command

    def execute(self, command: Command) -> None:
        """Reduce positions as a received command asks, and record the outcome.

        Reductions that wait are retried for an hour of open market. Meanwhile the command is
        `waiting`. If a part still waits after that hour, the command ends as `partial`.
        """
        outcome = self._reduce_positions(command)
        if self._stop or not self._jobs:
            return  # the next process completes it
        if outcome.waiting and is_still_retried(command, self._clock.now()):
            self._retry_later(command, _describe_outcome(outcome))
            return
        self._retries.pop(command.command_id, None)
        if outcome.waiting:
            rest = self._reduce_positions(replace(command, state="partial"))
            outcome = CommandOutcome(rest.done or outcome.done, [*rest.left, *rest.waiting])
        state: CommandState = "partial" if outcome.done else "refused"
        if not outcome.left:
            state = "done"
        self._publish(self._record_answer(command, state, _describe_outcome(outcome)))

    def _retry_later(self, command: Command, text: str) -> None:
        """Schedule the next attempt of a command; record its answer if the answer has changed."""
        _, pause = self._retries.get(command.command_id, (0.0, FIRST_RETRY_SECONDS))
        retry_at = self._time.monotonic() + pause
        self._retries[command.command_id] = retry_at, min(2 * pause, MAX_RETRY_SECONDS)
        if (command.state, command.answer) != ("waiting", to_one_line(text)):
            self._publish(self._record_answer(command, "waiting", text))

    def _reduce_positions(self, command: Command) -> CommandOutcome:
        """Reduce the positions of all jobs; a job whose venue does not respond waits."""
        outcomes = []
        for job in self._jobs:
            try:
                outcomes.append(job.reduce_positions(command))
            except BrokerError as error:
                log.warning("command %s: %s; retrying", command, error)
                outcomes.append(CommandOutcome(waiting=[str(error)]))
        return CommandOutcome(
            [part for outcome in outcomes for part in outcome.done],
            [part for outcome in outcomes for part in outcome.left],
            [part for outcome in outcomes for part in outcome.waiting],
        )

    def _refusal_reason(self, command: Command) -> str:
        """Return why a command cannot be executed here, or an empty string."""
        if command.verb not in REDUCING_VERBS:
            return ""
        if not self._jobs:
            return (
                "no loop runs, so no order was sent; start the loop and repeat the command, or"
                " close positions at the venue"
            )
        symbol = command.argument
        if command.verb == "exit" and not any(job.trades_symbol(symbol) for job in self._jobs):
            return f"{symbol} is neither traded nor held by this loop; check the symbol"
        return ""

    def _end_waiting_commands(self, command: Command) -> list[Command]:
        """Cancel all unanswered commands because a person resumes trading; return them."""
        open_orders = "" if self._jobs else "; its open orders may fill until a loop cancels them"
        return [
            self._record_answer(
                each, "cancelled", f"{each.answer}; ended by `{command}`{open_orders}"
            )
            for each in self.journal.unanswered()
            if each.command_id != command.command_id
        ]

    def _change_halts(self, command: Command, reason: str, cause: str) -> HaltChanges:
        """Raise the halt of a command, or end halts if it is `resume`; return the changes."""
        active = {halt.kind for halt in self._halts.active()}
        now = self._clock.now()
        if command.verb == "resume":
            ended = tuple(kind for kind in RESUMABLE_HALTS if kind in active)
            for kind in ended:
                self._halts.clear(kind, command.by, now)
            return HaltChanges(kinds_to_end=ended)
        kind = command.halt_kind
        if kind == "exited":
            cause = json.dumps(sorted({*self._halts.exited_symbols(), command.argument}))
            # The new halt names all symbols.
            self._halts.clear(kind, command.by, now)
        if not self._halts.raise_halt(kind, reason, now, cause=cause):
            return HaltChanges()
        return HaltChanges(reasons_to_raise={kind: reason})

    def _describe_halts(self, changes: HaltChanges) -> str:
        """Return the answer to a command that needs no order: the halts that are active now."""
        ended = f"ended: {', '.join(changes.kinds_to_end)}; " if changes.kinds_to_end else ""
        halts = "; ".join(map(str, self._halts.active()))
        return f"{ended}halted: {halts}" if halts else f"{ended}opening orders are allowed"

    def _record_answer(self, command: Command, state: CommandState, text: str) -> Command:
        return self.journal.answer(command.command_id, state, to_one_line(text), self._clock.now())

    def _publish(self, command: Command) -> None:
        """Write the answer to a command to its file, and delete the command's file."""
        if command.state == "received":
            return
        if self._reporter is not None and command.command_id not in self._unanswerable:
            self._reporter.report_command(command)
        self._write_answer(command.command_id, describe_command(command))

    def _write_answer(self, command_id: str, answer: dict[str, str]) -> None:
        """Write an answer and delete the command's file.

        If the folder allows neither, this is tried again whenever commands are taken.
        """
        path = self._folder / f"{command_id}{_ANSWER_SUFFIX}"
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            write_atomically(path, json.dumps(answer).encode(), is_private=True)
            (self._folder / f"{command_id}.json").unlink(missing_ok=True)
            answers = self._folder.glob(f"*{_ANSWER_SUFFIX}")
            for old in sorted(answers, key=os.path.getmtime)[:-MAX_ANSWER_FILES]:
                old.unlink(missing_ok=True)
        except OSError as error:
            if command_id not in self._unanswerable:
                log.warning("%s: cannot write the answer or delete the command: %s", path, error)
            self._unanswerable.add(command_id)
        else:
            self._unanswerable.discard(command_id)


def is_still_retried(command: Command, now: np.datetime64) -> bool:
    """Return whether a waiting command is retried.

    While the exchange is closed, it is retried. In a session it is retried for an hour from its
    receipt or from the open, whichever is later.
    """
    session = session_on(new_york_date(np.array([now]))[0])
    if session is None or not session.opens <= now < session.closes:
        return True
    return bool(now < max(command.received_at, session.opens) + MAX_COMMAND_AGE)


def _describe_outcome(outcome: CommandOutcome) -> str:
    parts = ["; ".join(outcome.done) or "no position was reduced"]
    if outcome.left:
        parts.append(f"NOT reduced: {', '.join(outcome.left)}")
    if outcome.waiting:
        parts.append(f"waiting: {', '.join(outcome.waiting)}")
    return "; ".join(parts)


def describe_command(command: Command) -> dict[str, str]:
    """Return a command and its answer by field, for JSON."""
    return {
        "id": command.command_id,
        "verb": command.verb,
        "argument": command.argument,
        "by": command.by,
        "state": command.state,
        "answer": command.answer,
        "written_at": format_instant(command.written_at),
    }
