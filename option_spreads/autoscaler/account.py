"""Account files for contract sizing: a balance file and a file of trades, kept consistent.

`trades.csv` is the source of truth: one row per trade, with the P/L of all its contracts.
`account_balance.json` contains `{balance, last_updated, trades, total_trades}`. An update first
writes the contents of both files into a journal, then replaces both. The next reader finishes an
update that a killed process began.

An unreadable file means an unknown account state: reading raises an error, and nothing is sized.
Earlier systems mistook an unreadable balance for the starting balance and continued to trade.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import TypeAdapter

from foundation.errors import InputError
from foundation.files import flush_to_disk, restrict_to_owner, write_atomically
from foundation.shell import format_command
from option_spreads.autoscaler.rules import AutoscalingSettings
from option_spreads.autoscaler.trades import (
    TRADE_COLUMNS,
    ClosedTrade,
    CsvRow,
    format_csv,
    is_closed_trade,
    parse_dollars,
    parse_position_size,
    parse_total_profit,
    parse_trade_rows,
)

BALANCE_FILE = "account_balance.json"
TRADES_FILE = "trades.csv"
PENDING_UPDATE_FILE = ".update.json"
LOCK_FILE = ".lock"
MAX_RECENT_TRADES = 50  # number of trades in the balance file
LOCK_TIMEOUT_SECONDS = 10.0  # seconds to wait for another process
CENT = Fraction(1, 100)
_UPDATE_ADAPTER = TypeAdapter(dict[str, str])


def _unconfirmed_balance_message() -> str:
    return (
        "the balance cannot be derived, because there are no trades; look up the balance at the"
        " broker and confirm it with"
        f" `{format_command('python -m option_spreads.contracts recover LIVE')}"
        " STARTING_CAPITAL=USD`"
    )


class UnknownAccountState(InputError):
    """Raised if account files are missing, unreadable or inconsistent; no order may be sized."""


class ConflictingBooking(InputError):
    """Raised if a trade is already booked with another P/L; an operator has to correct one."""


class WrongAccountFile(ValueError):
    """Raised if the balance file belongs to a different account, paper or live."""


@dataclass(frozen=True, slots=True)
class AccountState:
    """Balance and closed trades of an account.

    balance: balance of the balance file, or as given by the caller, USD.
    trade_profits: P/L of each closed trade, USD per contract, oldest first.
    booked_balance: starting balance plus every P/L and deposit, USD; None if the caller gave the
        balance.
    """

    balance: Fraction
    trade_profits: tuple[Fraction, ...]
    booked_balance: Fraction | None = None

    @property
    def balance_discrepancy(self) -> Fraction:
        """Return the balance less the booked balance, USD; 0 if they agree within a cent."""
        above = Fraction(0) if self.booked_balance is None else self.balance - self.booked_balance
        return above if abs(above) > CENT else Fraction(0)

    @property
    def conservative_balance(self) -> Fraction:
        """Return the lower of the balance and the booked balance, USD."""
        return (
            self.balance if self.booked_balance is None else min(self.balance, self.booked_balance)
        )


class AccountFiles:
    """Balance file and trades file of one account, paper or live.

    folder: folder of the files.
    starting_balance: balance before the first trade, USD.
    live: true for the account with real money.
    balance_file: path of a balance file outside the folder; None: the file in the folder.
    """

    @classmethod
    def from_settings(cls, settings: AutoscalingSettings, mode: str) -> AccountFiles:
        """Return the files of an account, with paths and starting balance from settings.

        mode: `PAPER` or `LIVE`, in any case. Raises InputError for another mode.
        """
        if not isinstance(mode, str) or mode.upper() not in ("PAPER", "LIVE"):
            raise InputError(f"mode: {mode!r} is invalid; use PAPER or LIVE")
        folder = Path(settings.AUTOSCALING_DATA_DIR).expanduser() / mode.lower()
        named = settings.ACCOUNT_BALANCE_FILE
        return cls(
            folder,
            settings.STARTING_CAPITAL,
            live=mode.upper() == "LIVE",
            balance_file=None if named is None else Path(named).expanduser(),
        )

    def __init__(
        self,
        folder: Path,
        starting_balance: float,
        *,
        live: bool = False,
        balance_file: Path | None = None,
    ) -> None:
        self.folder = folder
        self.balance_file = balance_file or folder / BALANCE_FILE
        # A file outside the folder names its account: paper and live share no balance.
        self._owner = ("LIVE" if live else "PAPER") if balance_file else None
        self._live = live
        self.mode = "LIVE" if live else "PAPER"
        self._starting = Decimal(str(starting_balance))
        self._lock = FileLock(folder / LOCK_FILE, timeout=LOCK_TIMEOUT_SECONDS)

    def format_task_command(self, task: str) -> str:
        """Return the shell command that runs a task of `option_spreads.contracts` on the account.

        task: `init` or `recover`.
        """
        return format_command(
            f"python -m option_spreads.contracts {task}{' LIVE' if self._live else ''}"
        )

    @property
    def is_empty(self) -> bool:
        """Return whether none of the account's files exists."""
        files = (self.balance_file, self.folder / TRADES_FILE, self.folder / PENDING_UPDATE_FILE)
        return not any(path.exists() for path in files)

    @property
    def missing_account_message(self) -> str:
        """Return the error message for an account without files, with the command to create it."""
        return (
            f"{self.folder}: account not found; create it with `{self.format_task_command('init')}`"
        )

    def initialise(self) -> None:
        """Create the files of a new account without trades.

        Raises InputError if the account exists, is locked by another process, or cannot be written.
        """
        self._refuse_other_account()
        try:
            restrict_to_owner(self.folder)
            self.balance_file.parent.mkdir(parents=True, exist_ok=True)
            with self._lock:
                if not self.is_empty:
                    self._finish_update()
                    self._read_rows()
                    raise InputError(
                        f"{self.folder}: the account already exists; rebuild its balance with"
                        f" `{self.format_task_command('recover')}`"
                    )
                self._write_files(list(TRADE_COLUMNS), [])
        except Timeout:
            raise InputError(
                f"{self.folder}: the account is locked by another process; stop it and retry"
            ) from None
        except OSError as error:
            raise InputError(
                f"AUTOSCALING_DATA_DIR, ACCOUNT_BALANCE_FILE: {error.filename or self.folder}"
                f" cannot be written: {error.strerror}"
            ) from error

    def read_account(self) -> AccountState:
        """Read the account, after finishing an update that a killed process began.

        An unreadable balance file is quarantined and rebuilt from the trades; this call still
        raises, so that an operator notices. A live account without closed trades is not rebuilt.

        Raises
        ------
        UnknownAccountState
            for files that are missing, unreadable or inconsistent.
        """
        with self._lock_account():
            return self._read_state()

    def read_account_with_balance(self, balance: Fraction) -> AccountState:
        """Read the trades of the account, and combine them with a balance that the caller gives.

        An account without files has no trades. Existing files must be readable.

        balance: USD.
        """
        if self.is_empty:
            return AccountState(balance, ())
        return replace(self.read_account(), balance=balance, booked_balance=None)

    def record_trade(self, trade: ClosedTrade) -> AccountState:
        """Book a closed trade; return the updated account. Booking a trade twice has no effect.

        Raises
        ------
        UnknownAccountState
            for an unreadable account; the trade is not booked, and the caller has to retry.
        ConflictingBooking
            for a trade that is already booked with another P/L.
        """
        with self._lock_account():
            self._read_state()
            self._book_trade(trade)
            return self._read_state()

    def rebuild_balance(self) -> AccountState:
        """Rebuild the balance file: the starting balance plus every P/L and deposit of the trades.

        The previous balance file is quarantined. Return the rebuilt account.
        """
        with self._lock_account():
            columns, rows = self._read_rows()
            self._quarantine_balance_file()
            self._write_files(columns, rows)
            return self._read_state()

    @contextmanager
    def _lock_account(self) -> Iterator[None]:
        """Lock the account for this process, and finish an update that a killed process began.

        Raises UnknownAccountState if the account is missing, locked by another process or damaged.
        """
        if self.is_empty:
            raise UnknownAccountState(self.missing_account_message)
        self._refuse_other_account()
        try:
            self._lock.acquire()
        except (Timeout, OSError) as error:
            raise UnknownAccountState(f"{self.folder}: cannot lock the account: {error}") from None
        try:
            restrict_to_owner(self.folder)
            self._finish_update()
            yield
        except OSError as error:
            raise UnknownAccountState(f"{self.folder}: {error}") from error
        finally:
            self._lock.release()

    def _refuse_other_account(self) -> None:
        """Raise UnknownAccountState if the balance file belongs to a different account."""
        path = self.balance_file
        try:
            parse_balance_file(path.read_bytes(), self._owner)
        except WrongAccountFile as error:
            raise UnknownAccountState(f"{path}: {error}") from None
        except (OSError, ValueError):
            pass  # `_read_state` reports a file that is missing or damaged

    def _finish_update(self) -> None:
        """Write both files from the update journal, if a killed process left one.

        Raises UnknownAccountState if the journal is unreadable.
        """
        journal = self.folder / PENDING_UPDATE_FILE
        if not journal.exists():
            return
        try:
            contents = _UPDATE_ADAPTER.validate_json(journal.read_text(encoding="utf-8-sig"))
            # The new source of truth is checked before it replaces the old one.
            parse_trade_rows(contents[TRADES_FILE].encode())
            parse_balance_file(contents[BALANCE_FILE].encode(), self._owner)
        except (OSError, ValueError, LookupError) as error:
            raise UnknownAccountState(
                f"{journal}: cannot read the pending update: {error}; check it against"
                f" {TRADES_FILE} and the balance file by hand"
            ) from None
        self._replace_files(contents)

    def _read_state(self) -> AccountState:
        """Read the account's state; raise UnknownAccountState if the files are invalid or disagree.

        An unreadable balance file is first quarantined and rebuilt from the trades.
        """
        columns, rows = self._read_rows()
        path = self.balance_file
        if not path.exists():
            raise UnknownAccountState(
                f"{path} does not exist; rebuild it from the trades with"
                f" `{self.format_task_command('recover')}`"
            )
        closed = [row for row in rows if is_closed_trade(row)]
        try:
            balance, total = parse_balance_file(path.read_bytes(), self._owner)
        except WrongAccountFile as error:
            raise UnknownAccountState(f"{path}: {error}") from None
        except ValueError as error:
            if self._live and not closed:
                raise UnknownAccountState(
                    f"{path}: {error}; {_unconfirmed_balance_message()}"
                ) from None
            # Quarantined and never overwritten: its contents may explain the damage.
            aside = self._quarantine_balance_file()
            self._write_files(columns, rows)
            raise UnknownAccountState(
                f"{path}: {error}; renamed to {aside.name} and rebuilt from {len(closed)} trades"
            ) from None
        # A row that was lost or added by hand shows in the count only.
        if total != len(closed):
            raise UnknownAccountState(
                f"{path}: total_trades is {total}, but {TRADES_FILE} has {len(closed)}"
                " closed trades; check which row was added or lost by hand, then run"
                f" `{self.format_task_command('recover')}`"
            )
        results = tuple(
            Fraction(parse_total_profit(row)) / parse_position_size(row) for row in closed
        )
        return AccountState(Fraction(balance), results, Fraction(self._compute_balance(rows)))

    def _read_rows(self) -> tuple[list[str], list[CsvRow]]:
        """Return the columns and the validated rows of trades.csv."""
        path = self.folder / TRADES_FILE
        try:
            return parse_trade_rows(path.read_bytes())
        except FileNotFoundError:
            raise UnknownAccountState(
                f"{path} does not exist and cannot be rebuilt from other files; restore it"
            ) from None
        except (OSError, ValueError) as error:
            raise UnknownAccountState(f"{path}: {error}") from None

    def _book_trade(self, trade: ClosedTrade) -> None:
        """Add a trade to trades.csv and its P/L to the balance, unless it is booked already.

        Raises ConflictingBooking if it is booked with another P/L.
        """
        columns, rows = self._read_rows()
        balance, _ = parse_balance_file(self.balance_file.read_bytes(), self._owner)
        name = trade.trade_id.strip()
        entry = next((row for row in rows if row["Trade_ID"].strip() == name), None)
        # A monitor that was killed after booking books its trade again after a restart.
        if entry is not None and entry["P/L_$"].strip():
            if parse_total_profit(entry) != trade.total_profit:
                raise ConflictingBooking(
                    f"trade {trade.trade_id}: already booked with P/L {entry['P/L_$']} USD, now"
                    f" reported with {trade.total_profit} USD; correct one of them"
                )
            return
        update = trade.to_csv_row()
        columns += [name for name in update if name not in columns]
        rows = [row for row in rows if row is not entry]
        # A row without P/L is the open trade: its other columns are kept.
        rows.append({**(entry or {}), **update})
        self._write_files(columns, rows, balance + trade.total_profit)

    def _write_files(
        self, columns: list[str], rows: list[CsvRow], balance: Decimal | None = None
    ) -> None:
        """Write both files through the journal: a kill at any time changes both or neither.

        balance: USD; None: the booked balance of the rows.
        """
        amount = self._compute_balance(rows) if balance is None else balance
        contents = {
            TRADES_FILE: format_csv(columns, rows),
            BALANCE_FILE: format_balance_file(amount, rows, self._owner),
        }
        write_atomically(self.folder / PENDING_UPDATE_FILE, json.dumps(contents).encode())
        self._replace_files(contents)

    def _replace_files(self, contents: Mapping[str, str]) -> None:
        """Replace both files, and then delete the journal, which holds the same contents.

        contents: text of each file, by file name.
        """
        write_atomically(self.folder / TRADES_FILE, contents[TRADES_FILE].encode())
        write_atomically(self.balance_file, contents[BALANCE_FILE].encode())
        flush_to_disk(self.balance_file.parent)
        # The journal is deleted last: while it exists, both files are rewritten from it.
        (self.folder / PENDING_UPDATE_FILE).unlink()
        flush_to_disk(self.folder)

    def _quarantine_balance_file(self) -> Path:
        path = self.balance_file
        aside = find_quarantine_path(path)
        if path.exists():
            path.replace(aside)
        return aside

    def _compute_balance(self, rows: list[CsvRow]) -> Decimal:
        """Return the booked balance: the starting balance plus every P/L and deposit, USD."""
        flows = [parse_total_profit(row) for row in rows if row["P/L_$"].strip()]
        return self._starting + sum(flows, Decimal(0))


def find_quarantine_path(path: Path) -> Path:
    """Return an unused path in a file's folder, to which the caller can rename a damaged file."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    names = (path.with_name(f"{path.name}.aside-{stamp}-{k}") for k in itertools.count())
    return next(name for name in names if not name.exists())


def format_balance_file(
    balance: Decimal, rows: Sequence[CsvRow], account_mode: str | None = None
) -> str:
    """Format the JSON text of a balance file.

    balance: USD.
    rows: rows of trades.csv.
    account_mode: `PAPER` or `LIVE` for a file outside the account's folder.
    """
    closed = [row for row in rows if is_closed_trade(row)]
    latest = closed[-MAX_RECENT_TRADES:]
    recent = [
        {"trade_id": row["Trade_ID"], "pnl": float(parse_total_profit(row))} for row in latest
    ]
    content = {
        "balance": float(balance),
        "last_updated": datetime.now(UTC).isoformat(timespec="seconds"),
        "trades": recent,
        "total_trades": len(closed),
        **({} if account_mode is None else {"account": account_mode}),
    }
    return json.dumps(content, indent=1)


def parse_balance_file(content: bytes, account_mode: str | None = None) -> tuple[Decimal, int]:
    """Parse a balance file; return the balance in USD and the number of closed trades.

    account_mode: `PAPER` or `LIVE`, the account that the file must belong to; None skips this
        check. A file that does not state its account passes.

    Raises ValueError for unreadable content, and WrongAccountFile for the file of another account.
    """
    try:
        # A float would round the balance, and every booked trade would add to the error.
        summary = json.loads(content.decode("utf-8-sig"), parse_float=Decimal)
        balance = summary["balance"]
        total = summary["total_trades"]
        # JSON's `true` is a bool, which is an int in Python, and `NaN` is a float.
        is_number = isinstance(balance, (int, Decimal)) and not isinstance(balance, bool)
        if not is_number:
            raise ValueError(f"balance is {str(balance)[:50]!r}, not a number")
        found = summary.get("account", account_mode)
        if account_mode is not None and found != account_mode:
            raise WrongAccountFile(
                f"the file belongs to the {str(found)[:20]} account, not to {account_mode}; set"
                " ACCOUNT_BALANCE_FILE to another file"
            )
        amount = parse_dollars(str(balance), "balance")
        if isinstance(total, bool) or not isinstance(total, int) or total < 0:
            raise ValueError(f"total_trades is {total!r}; expected a whole number of at least 0")
        return amount, total
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"not an account balance file ({type(error).__name__}: {error})") from None
