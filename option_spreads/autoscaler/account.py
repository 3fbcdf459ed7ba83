"""The account that contracts are sized from: two files in one folder, which always agree.

`trades.csv` is the truth, a row a trade, results in total. `account_balance.json` holds `{balance,
last_updated, trades, total_trades}`. An update writes what both will hold into a journal first,
then replaces both. Whoever comes next finishes what a killed process has begun.

What cannot be read is unknown state: it raises, and nothing is sized from it. Earlier systems took
an unreadable balance for the starting one, and traded on.
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
from foundation.files import flush_to_disk, make_private, write_atomically
from option_spreads.autoscaler.rules import AutoscalingSettings
from option_spreads.autoscaler.trades import (
    COLUMNS,
    ClosedTrade,
    Row,
    format_csv,
    is_trade,
    parse_dollars,
    parse_trade_rows,
    trade_size,
    trade_total,
)

BALANCE_FILE = "account_balance.json"
TRADES_FILE = "trades.csv"
UPDATE_FILE = ".update.json"
LOCK_FILE = ".lock"
RECENT_TRADES = 50  # trades that the balance file shows
LOCK_TIMEOUT = 10.0  # seconds to wait for another process
CENT = Fraction(1, 100)
_UPDATE = TypeAdapter(dict[str, str])
UNCONFIRMED = (
    "no trade says what the balance is: look it up at the broker, and confirm it with"
    " `python -m option_spreads.contracts recover LIVE STARTING_CAPITAL=USD`"
)


class UnknownAccountState(InputError):
    """The account cannot be read with certainty; nothing may be ordered on it."""


class ConflictingBooking(InputError):
    """A trade is booked already with another result, which only a person can sort out."""


class WrongAccountFile(ValueError):
    """The balance file belongs to the other account, paper or live."""


@dataclass(frozen=True, slots=True)
class AccountState:
    """What the files of an account say.

    balance: USD.
    results: of closed trades per contract, USD, oldest first.
    booked_balance: USD that the account began with and every P/L and deposit add up to; none where
        the
        balance is given instead of read.
    """

    balance: Fraction
    results: tuple[Fraction, ...]
    booked_balance: Fraction | None = None

    @property
    def difference(self) -> Fraction:
        """USD that the balance lies above what is booked; 0 for less than a cent."""
        above = Fraction(0) if self.booked_balance is None else self.balance - self.booked_balance
        return above if abs(above) > CENT else Fraction(0)

    @property
    def lower_balance(self) -> Fraction:
        """USD that both the balance and the trades say is there."""
        return (
            self.balance if self.booked_balance is None else min(self.balance, self.booked_balance)
        )


class AccountFiles:
    """The files of one account in `folder`.

    starting: USD it began with.
    live: whether its money is real.
    balance_file: the balance file if it lies outside the folder.
    """

    @classmethod
    def from_settings(cls, settings: AutoscalingSettings, mode: str) -> AccountFiles:
        """The files of an account."""
        if not isinstance(mode, str) or mode.upper() not in ("PAPER", "LIVE"):
            raise InputError(f"mode: {mode!r} is neither PAPER nor LIVE")
        folder = Path(settings.AUTOSCALING_DATA_DIR).expanduser() / mode.lower()
        named = settings.ACCOUNT_BALANCE_FILE
        return cls(
            folder,
            settings.STARTING_CAPITAL,
            live=mode.upper() == "LIVE",
            balance_file=None if named is None else Path(named).expanduser(),
        )

    def __init__(
        self, folder: Path, starting: float, *, live: bool = False, balance_file: Path | None = None
    ) -> None:
        self.folder = folder
        self.balance_file = balance_file or folder / BALANCE_FILE
        # A file outside the folder names its account: paper and live share no balance.
        self._owner = ("LIVE" if live else "PAPER") if balance_file else None
        self._live = live
        self.mode = "LIVE" if live else "PAPER"
        self._starting = Decimal(str(starting))
        self._lock = FileLock(folder / LOCK_FILE, timeout=LOCK_TIMEOUT)

    def command(self, task: str) -> str:
        """The command that does a task with this account."""
        return f"python -m option_spreads.contracts {task}{' LIVE' if self._live else ''}"

    @property
    def empty(self) -> bool:
        files = (self.balance_file, self.folder / TRADES_FILE, self.folder / UPDATE_FILE)
        return not any(path.exists() for path in files)

    @property
    def missing_account_text(self) -> str:
        """What is said where it has not begun."""
        return f"{self.folder}: there is no account; `{self.command('init')}` begins one"

    def initialise(self) -> None:
        """Write the files of an account that has not traded."""
        self._refuse_other_balance()
        try:
            make_private(self.folder)
            self.balance_file.parent.mkdir(parents=True, exist_ok=True)
            with self._lock:
                if not self.empty:
                    self._finish_update()
                    self._read_rows()
                    raise InputError(
                        f"{self.folder}: there is an account already;"
                        f" `{self.command('recover')}` rebuilds its balance"
                    )
                self._write(list(COLUMNS), [])
        except Timeout:
            raise InputError(f"{self.folder}: another process holds the account") from None
        except OSError as error:
            raise InputError(
                f"AUTOSCALING_DATA_DIR, ACCOUNT_BALANCE_FILE: {error.filename or self.folder}"
                f" cannot be written: {error.strerror}"
            ) from error

    def read(self) -> AccountState:
        """The account, once what a killed process had begun is finished.

        A balance file that cannot be read is set aside and rebuilt from the trades; of real money
        there has to be one. The call that meets it still raises, so that somebody learns of it.

        Raises
        ------
        UnknownState
            for files that are missing, cannot be read or disagree.
        """
        with self._locked():
            return self._read_state()

    def read_at(self, balance: Fraction) -> AccountState:
        """The account at a balance that the caller knows, USD, with the trades of its files.

        One that has not begun has no trades. Files that are there have to be read all the same.
        """
        if self.empty:
            return AccountState(balance, ())
        return replace(self.read(), balance=balance, booked_balance=None)

    def record(self, trade: ClosedTrade) -> AccountState:
        """Book a closed trade, once: the same trade again changes nothing.

        Raises
        ------
        UnknownState
            for an account that cannot be read; the trade is not booked, and whoever has followed it
            books it again until it is.
        BookedOtherwise
            for a trade that is booked already with another result.
        """
        with self._locked():
            self._read_state()
            self._book_trade(trade)
            return self._read_state()

    def recover(self) -> AccountState:
        """Rebuild the balance from the trades: what it began with, and every P/L and deposit."""
        with self._locked():
            columns, rows = self._read_rows()
            self._set_balance_aside()
            self._write(columns, rows)
            return self._read_state()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the account for this process alone, with what another had begun finished."""
        if self.empty:
            raise UnknownAccountState(self.missing_account_text)
        self._refuse_other_balance()
        try:
            self._lock.acquire()
        except (Timeout, OSError) as error:
            raise UnknownAccountState(
                f"{self.folder}: the account cannot be held: {error}"
            ) from None
        try:
            make_private(self.folder)
            self._finish_update()
            yield
        except OSError as error:
            raise UnknownAccountState(f"{self.folder}: {error}") from error
        finally:
            self._lock.release()

    def _refuse_other_balance(self) -> None:
        """Refuse a balance file of the other account before anything is made or moved."""
        path = self.balance_file
        try:
            parse_balance(path.read_bytes(), self._owner)
        except WrongAccountFile as error:
            raise UnknownAccountState(f"{path}: {error}") from None
        except (OSError, ValueError):
            pass  # `_read_state` reports a file that is missing or damaged

    def _finish_update(self) -> None:
        """Put both files in place where a killed process left its journal."""
        journal = self.folder / UPDATE_FILE
        if not journal.exists():
            return
        try:
            contents = _UPDATE.validate_json(journal.read_text(encoding="utf-8-sig"))
            # What is put in the place of the truth is looked at first.
            parse_trade_rows(contents[TRADES_FILE].encode())
            parse_balance(contents[BALANCE_FILE].encode(), self._owner)
        except (OSError, ValueError, LookupError) as error:
            raise UnknownAccountState(
                f"{journal}: an update that cannot be read: {error}"
            ) from None
        self._put_files(contents)

    def _read_state(self) -> AccountState:
        """Read the account's state from its files, which have to agree."""
        columns, rows = self._read_rows()
        path = self.balance_file
        if not path.exists():
            raise UnknownAccountState(
                f"{path} is missing; `{self.command('recover')}` rebuilds it from the trades"
            )
        closed = [row for row in rows if is_trade(row)]
        try:
            balance, total = parse_balance(path.read_bytes(), self._owner)
        except WrongAccountFile as error:
            raise UnknownAccountState(f"{path}: {error}") from None
        except ValueError as error:
            if self._live and not closed:
                raise UnknownAccountState(f"{path}: {error}; {UNCONFIRMED}") from None
            # Set aside and never overwritten: what a person finds in it may explain the damage.
            aside = self._set_balance_aside()
            self._write(columns, rows)
            raise UnknownAccountState(
                f"{path}: {error}; set aside as {aside.name}, rebuilt from {len(closed)} trades"
            ) from None
        # A row that was lost or added by hand shows in the count, and in nothing else.
        if total != len(closed):
            raise UnknownAccountState(
                f"{path}: total_trades is {total}, {TRADES_FILE} holds {len(closed)} closed trades"
            )
        results = tuple(Fraction(trade_total(row)) / trade_size(row) for row in closed)
        return AccountState(Fraction(balance), results, Fraction(self._balance_after(rows)))

    def _read_rows(self) -> tuple[list[str], list[Row]]:
        """Columns and rows of trades.csv, checked."""
        path = self.folder / TRADES_FILE
        try:
            return parse_trade_rows(path.read_bytes())
        except FileNotFoundError:
            raise UnknownAccountState(
                f"{path} is missing, and no other file has its trades: put it back"
            ) from None
        except (OSError, ValueError) as error:
            raise UnknownAccountState(f"{path}: {error}") from None

    def _book_trade(self, trade: ClosedTrade) -> None:
        """Add a trade to both files, unless it is booked already."""
        columns, rows = self._read_rows()
        balance, _ = parse_balance(self.balance_file.read_bytes(), self._owner)
        name = trade.trade_id.strip()
        entry = next((row for row in rows if row["Trade_ID"].strip() == name), None)
        # A monitor that was killed after booking books its trade again when it comes back.
        if entry is not None and entry["P/L_$"].strip():
            if trade_total(entry) != trade.total:
                raise ConflictingBooking(
                    f"{trade.trade_id}: booked already with {entry['P/L_$']}, now {trade.total}"
                )
            return
        update = trade.row()
        columns += [name for name in update if name not in columns]
        rows = [row for row in rows if row is not entry]
        # A row without P/L is the open trade: what it says beside the result is kept.
        rows.append({**(entry or {}), **update})
        self._write(columns, rows, balance + trade.total)

    def _write(self, columns: list[str], rows: list[Row], balance: Decimal | None = None) -> None:
        """Write both files, or neither, whenever the process is killed.

        balance: USD; none: what the rows add up to.
        """
        amount = self._balance_after(rows) if balance is None else balance
        contents = {
            TRADES_FILE: format_csv(columns, rows),
            BALANCE_FILE: balance_text(amount, rows, self._owner),
        }
        write_atomically(self.folder / UPDATE_FILE, json.dumps(contents).encode())
        self._put_files(contents)

    def _put_files(self, contents: Mapping[str, str]) -> None:
        """Replace both files, whose contents lie in the journal, and end the journal."""
        write_atomically(self.folder / TRADES_FILE, contents[TRADES_FILE].encode())
        write_atomically(self.balance_file, contents[BALANCE_FILE].encode())
        flush_to_disk(self.balance_file.parent)
        # The journal goes last: as long as it is there, both files are written anew from it.
        (self.folder / UPDATE_FILE).unlink()
        flush_to_disk(self.folder)

    def _set_balance_aside(self) -> Path:
        """Move the balance file out of the way."""
        path = self.balance_file
        aside = quarantine_name(path)
        if path.exists():
            path.replace(aside)
        return aside

    def _balance_after(self, rows: list[Row]) -> Decimal:
        """USD: what the account began with, and every P/L and deposit of the rows."""
        flows = [trade_total(row) for row in rows if row["P/L_$"].strip()]
        return self._starting + sum(flows, Decimal(0))


def quarantine_name(path: Path) -> Path:
    """A name for a file that is set aside, which nothing has yet."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    names = (path.with_name(f"{path.name}.aside-{stamp}-{k}") for k in itertools.count())
    return next(name for name in names if not name.exists())


def balance_text(balance: Decimal, rows: Sequence[Row], owner: str | None = None) -> str:
    """The text of a balance file.

    balance: USD.
    rows: of trades.csv.
    owner: `PAPER` or `LIVE` for a file outside the account's folder.
    """
    closed = [row for row in rows if is_trade(row)]
    latest = closed[-RECENT_TRADES:]
    recent = [{"trade_id": row["Trade_ID"], "pnl": float(trade_total(row))} for row in latest]
    content = {
        "balance": float(balance),
        "last_updated": datetime.now(UTC).isoformat(timespec="seconds"),
        "trades": recent,
        "total_trades": len(closed),
        **({} if owner is None else {"account": owner}),
    }
    return json.dumps(content, indent=1)


def parse_balance(content: bytes, owner: str | None = None) -> tuple[Decimal, int]:
    """Parse a balance file: balance, USD, and number of trades. Raises ValueError.

    owner: `PAPER` or `LIVE`, the account that the file must name, if it names one.

    Raises OtherAccount for the other account's file.
    """
    try:
        # A float would round the balance, and every trade that is booked would add to the error.
        summary = json.loads(content.decode("utf-8-sig"), parse_float=Decimal)
        balance = summary["balance"]
        total = summary["total_trades"]
        # JSON's `true` is a bool, which Python counts among the integers, and `NaN` is a float.
        is_number = isinstance(balance, (int, Decimal)) and not isinstance(balance, bool)
        if not is_number:
            raise ValueError(f"balance is {str(balance)[:50]!r}, not a number")
        found = summary.get("account", owner)
        if owner is not None and found != owner:
            raise WrongAccountFile(
                f"this is the balance of the {str(found)[:20]} account, not of {owner};"
                " name another ACCOUNT_BALANCE_FILE"
            )
        amount = parse_dollars(str(balance), "balance")
        if isinstance(total, bool) or not isinstance(total, int) or total < 0:
            raise ValueError(f"total_trades is {total!r}, not a number of trades")
        return amount, total
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"no account balance in it ({type(error).__name__}: {error})") from None
