"""The account that contracts are sized from: `account_balance.json` and `trades.csv` in one folder,
kept whole.

trades.csv is the truth, a row a trade, results in total; account_balance.json holds `{balance,
last_updated, trades, total_trades}`. An update writes what both will hold into a journal first,
then replaces both; whoever comes next finishes what a killed process has begun. What cannot be read
is unknown state: it raises, and nothing is sized from it.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from filelock import FileLock, Timeout

from foundation.errors import InputError
from foundation.files import flush, put_whole
from sizing.autoscaler.trades import (
    COLUMNS,
    ClosedTrade,
    Row,
    csv_of,
    is_trade,
    rows_of,
    size_of,
    total_of,
    trade_of,
)

log = logging.getLogger(__name__)

BALANCE = "account_balance.json"
TRADES = "trades.csv"
JOURNAL = ".update.json"
LOCK = ".lock"
UNBOOKED = "unbooked.jsonl"  # trades that closed while the state was unknown
RECENT = 50  # trades that the balance file shows
PATIENCE = 10.0  # seconds to wait for another process


class UnknownState(InputError):
    """The account cannot be read with certainty; nothing may be ordered on it."""


@dataclass(frozen=True, slots=True)
class AccountState:
    """balance: USD. results: of closed trades per contract, oldest first. flows: every P/L and
    deposit, USD, in that order.
    """

    balance: Fraction
    results: tuple[Fraction, ...]
    flows: tuple[Fraction, ...]

    def path(self, starting: float) -> tuple[Fraction, ...]:
        """Balances since the beginning, the last as it is."""
        path = [Fraction(str(starting))]
        for flow in self.flows:
            path.append(path[-1] + flow)
        return (*path, self.balance)


class AccountFiles:
    """The files of one account. starting: USD it began with."""

    def __init__(self, folder: Path, starting: float) -> None:
        self.folder = folder
        self._starting = Decimal(str(starting))
        self._lock = FileLock(folder / LOCK, timeout=PATIENCE)

    @property
    def empty(self) -> bool:
        """Whether neither file is there."""
        return not any((self.folder / name).exists() for name in (BALANCE, TRADES, JOURNAL))

    def initialise(self) -> None:
        """Write the files of an account that has not traded.

        Raises
        ------
        InputError
            where any of them is there already, or the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._lock:
                if not self.empty:
                    raise InputError(
                        f"{self.folder}: there is an account already; `recover` rebuilds its"
                        " balance"
                    )
                self._replace(csv_of(list(COLUMNS), []), self._starting, [])
        except Timeout:
            raise InputError(f"{self.folder}: another process holds the account") from None
        except OSError as error:
            raise InputError(
                f"AUTOSCALING_DATA_DIR: {self.folder} cannot be written: {error.strerror}"
            ) from error

    def read(self) -> AccountState:
        """The account, once what a killed process had begun is finished.

        A balance file that cannot be read is set aside and rebuilt from the trades; the call that
        finds it still raises.

        Raises
        ------
        UnknownState
            for files that are missing, cannot be read or disagree.
        """
        with self._held():
            return self._state()

    def record(self, trade: ClosedTrade) -> AccountState:
        """Book a closed trade, once: the same trade again changes nothing.

        Raises
        ------
        UnknownState
            for an account that cannot be read; the trade is kept in unbooked.jsonl and booked by
            the next update.
        InputError
            for a trade that is booked already with another result.
        """
        with self._held():
            try:
                self._state()
            except UnknownState:
                self._keep(trade)
                raise
            for each in (*self._unbooked(), trade):
                self._book(each)
            (self.folder / UNBOOKED).unlink(missing_ok=True)
            return self._state()

    def recover(self) -> AccountState:
        """Rebuild the balance from the trades: what it began with, and every P/L and deposit.

        Raises
        ------
        UnknownState
            for trades that cannot be read.
        """
        with self._held():
            columns, rows = self._rows()
            self._set_aside(BALANCE)
            self._replace(csv_of(columns, rows), self._sum(rows), rows)
            for each in self._unbooked():
                self._book(each)
            (self.folder / UNBOOKED).unlink(missing_ok=True)
            return self._state()

    @contextmanager
    def _held(self) -> Iterator[None]:
        """The account for this process alone, with what another had begun finished."""
        if not self.folder.is_dir():
            raise UnknownState(
                f"{self.folder}: there is no account; `python -m sizing.contracts init` begins one"
            )
        try:
            self._lock.acquire()
        except (Timeout, OSError) as error:
            raise UnknownState(f"{self.folder}: the account cannot be held: {error}") from None
        try:
            self._finish()
            yield
        finally:
            self._lock.release()

    def _finish(self) -> None:
        journal = self.folder / JOURNAL
        if not journal.exists():
            return
        try:
            begun = json.loads(journal.read_text(encoding="utf-8"))
            texts = str(begun[TRADES]), str(begun[BALANCE])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UnknownState(f"{journal}: an update that cannot be read: {error}") from None
        self._put(*texts)

    def _state(self) -> AccountState:
        """What the files say, which have to agree."""
        columns, rows = self._rows()
        path = self.folder / BALANCE
        if not path.exists():
            raise UnknownState(
                f"{path} is missing; `python -m sizing.contracts recover` rebuilds it from the"
                " trades"
            )
        closed = [row for row in rows if is_trade(row)]
        try:
            balance, total = _balance_of(path.read_bytes())
        except ValueError as error:
            aside = self._set_aside(BALANCE)
            self._replace(csv_of(columns, rows), self._sum(rows), rows)
            raise UnknownState(
                f"{path}: {error}; set aside as {aside.name}, rebuilt from {len(closed)} trades"
            ) from None
        if total != len(closed):
            raise UnknownState(
                f"{path}: total_trades is {total}, {TRADES} holds {len(closed)} closed trades"
            )
        results = tuple(Fraction(total_of(row)) / size_of(row) for row in closed)
        flows = tuple(Fraction(total_of(row)) for row in rows if row["P/L_$"].strip())
        return AccountState(Fraction(balance), results, flows)

    def _rows(self) -> tuple[list[str], list[Row]]:
        path = self.folder / TRADES
        try:
            return rows_of(path.read_bytes())
        except FileNotFoundError:
            raise UnknownState(
                f"{path} is missing; `python -m sizing.contracts init` begins an account"
            ) from None
        except (OSError, ValueError) as error:
            raise UnknownState(f"{path}: {error}") from None

    def _book(self, trade: ClosedTrade) -> None:
        columns, rows = self._rows()
        balance, _ = _balance_of((self.folder / BALANCE).read_bytes())
        own = next((row for row in rows if row["Trade_ID"] == trade.trade_id), None)
        if own is not None and own["P/L_$"].strip():
            if total_of(own) != trade.total:
                raise InputError(
                    f"{trade.trade_id}: booked already with {own['P/L_$']}, now {trade.total}"
                )
            return
        new = trade.row()
        columns += [name for name in new if name not in columns]
        rows = [row for row in rows if row is not own] + [{**(own or {}), **new}]
        self._replace(csv_of(columns, rows), balance + trade.total, rows)

    def _replace(self, trades: str, balance: Decimal, rows: list[Row]) -> None:
        """Both files, or neither, whenever the process is killed."""
        closed = [row for row in rows if is_trade(row)]
        recent = [
            {"trade_id": row["Trade_ID"], "pnl": float(total_of(row))} for row in closed[-RECENT:]
        ]
        now = datetime.now(UTC).isoformat(timespec="seconds")
        told = {
            "balance": float(balance),
            "last_updated": now,
            "trades": recent,
            "total_trades": len(closed),
        }
        texts = trades, json.dumps(told, indent=1)
        put_whole(self.folder / JOURNAL, json.dumps({TRADES: texts[0], BALANCE: texts[1]}).encode())
        self._put(*texts)

    def _put(self, trades: str, balance: str) -> None:
        put_whole(self.folder / TRADES, trades.encode())
        put_whole(self.folder / BALANCE, balance.encode())
        (self.folder / JOURNAL).unlink()
        flush(self.folder)

    def _set_aside(self, name: str) -> Path:
        """Move a file out of the way, under a name that nothing has yet."""
        path = self.folder / name
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        number = 0
        while (aside := path.with_name(f"{name}.aside-{stamp}-{number}")).exists():
            number += 1
        if path.exists():
            path.replace(aside)
        return aside

    def _keep(self, trade: ClosedTrade) -> None:
        path = self.folder / UNBOOKED
        line = json.dumps(trade.row()) + "\n"
        if path.exists() and line in path.read_text(encoding="utf-8", errors="replace"):
            return
        with path.open("a", encoding="utf-8") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
        log.error(
            "%s closed while the account's state is unknown; kept in %s", trade.trade_id, UNBOOKED
        )

    def _unbooked(self) -> list[ClosedTrade]:
        path = self.folder / UNBOOKED
        if not path.exists():
            return []
        try:
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            return [trade_of(row) for row in rows]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UnknownState(f"{path}: cannot be read: {error}") from None

    def _sum(self, rows: list[Row]) -> Decimal:
        return self._starting + sum(
            (total_of(row) for row in rows if row["P/L_$"].strip()), Decimal(0)
        )


def _balance_of(content: bytes) -> tuple[Decimal, int]:
    """Balance and number of trades that the balance file says.

    Raises
    ------
    ValueError
        for anything else.
    """
    try:
        told = json.loads(content.decode("utf-8"), parse_float=Decimal)
        balance = told["balance"]
        total = told["total_trades"]
        if (
            isinstance(balance, bool)
            or not isinstance(balance, (int, Decimal))
            or not Decimal(balance).is_finite()
        ):
            raise ValueError(f"balance is {balance!r}, not a number")
        if isinstance(total, bool) or not isinstance(total, int) or total < 0:
            raise ValueError(f"total_trades is {total!r}, not a number of trades")
        return Decimal(balance), total
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"no account balance in it ({type(error).__name__}: {error})") from None
