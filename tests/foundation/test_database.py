"""One writer, any readers: what is written is whole and on the disk, and a failure says where."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from foundation.database import (
    Database,
    DatabaseDamaged,
    DatabaseFailed,
    check_integrity,
    query_rows,
    rollback_journal_path,
)
from foundation.signals import raise_on_signals
from tests.support.connections import open_for_test
from tests.support.messages import refused
from tests.support.readers import PatientReader

ROOT = Path(__file__).parents[2]
TABLE = "CREATE TABLE IF NOT EXISTS pairs (a INTEGER, b INTEGER) STRICT"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "file.sqlite"


@pytest.fixture
def database(path: Path) -> Database:
    database = open_for_test(path)
    database.execute_all(TABLE)
    return database


def put(database: Database, a: int, b: int) -> None:
    database.execute("INSERT INTO pairs VALUES (?, ?)", (a, b))


def test_committed_data_is_synced_to_disk(database: Database) -> None:
    assert database.query("PRAGMA synchronous") == [(3,)], "EXTRA"
    assert database.query("PRAGMA journal_mode") == [("delete",)]


def test_transaction_is_written_whole_or_not_at_all(database: Database, path: Path) -> None:
    with database.transaction():
        put(database, 1, 1)
        with database.transaction():
            put(database, 2, 2)
        assert query_rows(path, "SELECT * FROM pairs") == [], "nobody sees half of it"
    assert query_rows(path, "SELECT a FROM pairs") == [(1,), (2,)]
    for inner in (False, True):
        with pytest.raises(KeyError):
            put_and_fail(database, inner=inner)
        assert database.query("SELECT max(a) FROM pairs") == [(2,)]


def put_and_fail(database: Database, *, inner: bool) -> None:
    with database.transaction():
        put(database, 3, 3)
        with database.transaction():
            put(database, 4, 4)
            if inner:
                raise KeyError
        raise KeyError


WRITER = """
import sys
from pathlib import Path
from foundation.database import Database

database = Database(Path(sys.argv[1]))
k = 0
while True:
    k += 1
    with database.transaction():
        database.execute("INSERT INTO pairs VALUES (?, 0)", (k,))
        database.execute("UPDATE pairs SET b = a WHERE a = ?", (k,))
    print(k, flush=True)
"""


def test_kill_9_loses_no_committed_transaction(
    database: Database, path: Path, tmp_path: Path
) -> None:
    for _ in range(3):
        database.execute("DELETE FROM pairs")
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert writer.stdout is not None
        first = writer.stdout.readline()
        writer.kill()
        told = [int(line) for line in (first + writer.communicate()[0]).split()]
        rows = database.query("SELECT a, b FROM pairs ORDER BY a")
        assert [a for a, _ in rows[: len(told)]] == told
        assert len(rows) <= len(told) + 1
        assert all(a == b for a, b in rows)
        check_integrity(path)


def test_interrupted_transaction_is_rolled_back_without_damage_report(
    database: Database, path: Path
) -> None:
    put(database, -1, -1)
    killed = path.with_name("killed.sqlite")
    database.execute("PRAGMA cache_size = 1")
    with database.transaction():
        for k in range(5000):
            put(database, k, k)
        # the file and what SQLite keeps beside it, as a killed process leaves them
        for file in (path, rollback_journal_path(path)):
            shutil.copyfile(file, path.with_name(file.name.replace(path.name, killed.name)))
    content = killed.read_bytes()
    assert query_rows(killed, "SELECT * FROM pairs") == [(-1, -1)]
    assert killed.read_bytes() == content, "whoever reads changes nothing"
    check_integrity(killed)
    assert open_for_test(killed).query("SELECT * FROM pairs") == [(-1, -1)]


def test_locked_database_is_not_reported_as_damaged(
    database: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foundation.database.BUSY_TIMEOUT_SECONDS", 0.05)
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
    put(database, 1, 1)
    with pytest.raises(DatabaseFailed) as caught:
        check_integrity(path)
    assert not isinstance(caught.value, DatabaseDamaged)


@pytest.fixture
def reader(database: Database) -> Iterator[PatientReader]:
    put(database, 0, 0)
    with PatientReader.of(database) as reader:
        yield reader


@pytest.mark.parametrize("waits", [1, 5])
def test_commit_waits_for_a_reader(database: Database, reader: PatientReader, waits: int) -> None:
    reader.ends_after = waits
    with database.transaction():
        put(database, 1, 1)
        put(database, 2, 2)
    assert reader.waits == waits
    assert database.query("SELECT count(*) FROM pairs") == [(3,)]


def test_reader_that_never_ends_fails_the_commit(
    database: Database, reader: PatientReader, path: Path
) -> None:
    with refused(DatabaseFailed, path):
        put(database, 1, 1)
    reader.end()
    put(database, 2, 2)
    assert database.query("SELECT count(*) FROM pairs") == [(2,)]


def put_many(database: Database) -> None:
    with database.transaction():
        for k in range(2000):
            put(database, k, k)


def test_write_on_full_disk_fails_and_changes_nothing(database: Database, path: Path) -> None:
    pages = database.query("PRAGMA page_count")[0][0]
    database.execute(f"PRAGMA max_page_count = {pages}")
    with refused(DatabaseFailed, path):
        put_many(database)
    database.execute(f"PRAGMA max_page_count = {pages + 100}")
    assert database.query("SELECT count(*) FROM pairs") == [(0,)]
    put(database, 1, 1)
    check_integrity(path)


def test_non_database_is_refused_and_left_unchanged(tmp_path: Path) -> None:
    torn = tmp_path / "torn"
    database = open_for_test(torn)
    database.execute_all(TABLE)
    put_many(database)
    content = bytearray(torn.read_bytes())
    content[8192:12288] = b"\xff" * 4096
    torn.write_bytes(content)
    with refused(DatabaseDamaged, torn):
        check_integrity(torn)
    assert torn.read_bytes() == content
    with refused(DatabaseFailed):
        query_rows(tmp_path / "none", "SELECT 1")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_at_any_step_leaves_no_open_transaction(
    number: signal.Signals, tmp_path: Path
) -> None:
    """Later writes reach the disk at once, and the interrupted write is complete or absent."""
    heard = 0
    for step in count():
        path = tmp_path / f"{step}.sqlite"
        database = Database(path)
        database.execute_all(TABLE)
        steps = count()

        def tell(_: object, event: str, __: object, steps: Iterator[int] = steps) -> None:
            # Python hears signals where a function begins, and after a call of one in C.
            if event in ("call", "c_return") and next(steps) == step:  # noqa: B023
                sys.setprofile(None)
                signal.raise_signal(number)

        try:
            with raise_on_signals():
                sys.setprofile(tell)
                with database.transaction():
                    put(database, 1, 1)
                    put(database, 2, 2)
                sys.setprofile(None)
        except KeyboardInterrupt:
            heard += 1
            put(database, 3, 3)  # while the exception, and all that it holds, is there
            kept = query_rows(path, "SELECT a FROM pairs ORDER BY a")
            assert kept in ([(3,)], [(1,), (2,), (3,)])
        finally:
            sys.setprofile(None)
        database.close()
        if next(steps) <= step:
            break
    assert heard > 20
