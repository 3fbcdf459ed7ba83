"""A journal in whose rows bytes have changed on the disk, met by the loop as a user starts it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from execution.account_lock import JOURNAL
from tests.e2e.practice import OPENING, Start
from tests.e2e.test_live_failures import paper

TURNED = bytes.maketrans(b"0123456789", b"1032547698")
LONGEST = 64  # bytes


def flipped(journal: Path, table: str, column: str) -> None:
    """Turn the digits of up to 64 bytes within the last text of a column that has some."""
    query = f"SELECT {column} FROM {table} ORDER BY rowid DESC"
    with closing(sqlite3.connect(journal)) as connection:
        texts = [str(text) for (text,) in connection.execute(query)]
    chosen = next(text for text in texts if any(sign.isdigit() for sign in text)).encode()
    content = journal.read_bytes()
    begin = content.rindex(chosen)
    part = content[begin : begin + min(len(chosen), LONGEST)]
    journal.write_bytes(content[:begin] + part.translate(TURNED) + content[begin + len(part) :])


@pytest.mark.parametrize(("table", "column"), [("decisions", "choices"), ("marks", "positions")])
def test_bytes_that_have_changed_in_a_row_are_noticed_when_it_is_read(
    practice: Start, tmp_path: Path, table: str, column: str
) -> None:
    here = practice("symbols=[SYA,SYB]")
    here.advance(OPENING)
    assert paper(here, tmp_path).returncode == 0
    journal = tmp_path / "data" / "live" / here.venue.record.account_id / JOURNAL
    flipped(journal, table, column)
    here.advance()
    paper(here, tmp_path)
    assert list(journal.parent.glob("journal-damaged-*.sqlite")), "it is set aside"
