"""One process an account, from whichever folder, and its book of orders that outlives it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from execution.journal.order_store import OrderIntent, OrderStore
from execution.live.account_lock import (
    JOURNAL_FILE,
    account_lock,
    account_state_folder,
    is_account_traded,
    may_exist,
    open_journal,
)
from execution.live.open_account import open_account
from execution.orders.orders import Order
from foundation.clock import TimeSource
from foundation.database import rollback_journal_path
from foundation.errors import InputError
from foundation.redaction import NULL_REDACTOR
from tests.execution.journals import change_rows
from tests.support.messages import check_message, refused

NOW = np.datetime64("2024-03-05T17:30", "ns")
ORDER = Order("a", "NVDA", "buy", Decimal(3), "so")


@pytest.fixture(autouse=True)
def of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who has traded no account yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


def test_second_process_cannot_trade_the_same_account(tmp_path: Path) -> None:
    with account_lock("one"):
        with account_lock("two"):
            pass
        check_message(refusal("one", tmp_path), "one")
    with account_lock("one") as folder:
        assert folder.stat().st_mode & 0o777 == 0o700, "nobody else looks into it"
    assert not is_account_traded("unheard", tmp_path / "unheard")
    assert not (tmp_path / "unheard").exists(), "to ask leaves nothing behind"
    assert not account_state_folder("unheard").exists()


@pytest.mark.parametrize("name", ["", "../up", "a/b", "a b", "x" * 65])
def test_invalid_account_id_creates_no_folder(name: str) -> None:
    with refused(InputError), account_lock(name):
        pytest.fail("it is held")


def test_account_trades_only_from_the_registered_journal_folder(tmp_path: Path) -> None:
    """Unknown orders, halts and the kill file of that folder apply in every folder."""
    with open_journal("moved", tmp_path / "first") as book:
        OrderStore(book.database).record_submission(OrderIntent(ORDER, NOW))
    check_message(
        refusal("moved", tmp_path / "second"),
        book.folder / JOURNAL_FILE,
        f"folder={tmp_path}/first",
    )
    assert not (tmp_path / "second").exists()
    (tmp_path / "link").symlink_to(tmp_path / "first")
    with open_journal("moved", tmp_path / "link", replace_damaged=True) as same:
        assert same.damaged_copy is None, "the same folder under another name, and a sound journal"
    (tmp_path / "second").mkdir()
    (tmp_path / "link" / "moved").rename(tmp_path / "second" / "moved")
    for root in ("first", "second"):
        # Without the journal an order of unknown outcome would count as never sent.
        check_message(refusal("moved", tmp_path / root))
    (account_state_folder("moved") / "journal").unlink()
    with open_journal("moved", tmp_path / "second") as book:
        (intent,) = OrderStore(book.database).intents_with_unknown_outcome()
    assert (intent.order, intent.sent_at) == (ORDER, NOW)


def test_unusable_folder_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    check_message(refusal("blocked", tmp_path / "file"), f"{tmp_path}/file/blocked", "folder")
    (account_state_folder("spoilt") / "journal").mkdir(parents=True)
    check_message(refusal("spoilt", tmp_path))


@pytest.mark.parametrize("content", [b"", b"no database" * 200, b"\0" * 4096])
def test_damaged_journal_is_kept_beside_a_new_one(tmp_path: Path, content: bytes) -> None:
    """Its unfinished write-ahead files are kept as well."""
    with open_journal("damaged", tmp_path) as book:
        OrderStore(book.database).record_submission(OrderIntent(ORDER, NOW))
    assert book.damaged_copy is None
    path = book.folder / JOURNAL_FILE
    path.write_bytes(content)
    check_message(refusal("damaged", tmp_path), "damaged")
    assert path.read_bytes() == content
    if not content:  # of what is no database SQLite takes it away
        rollback_journal_path(path).write_bytes(b"begun")
    with open_journal("damaged", tmp_path, replace_damaged=True) as book:
        assert not rollback_journal_path(path).exists()
        assert OrderStore(book.database).intents_with_unknown_outcome() == ()
    assert book.damaged_copy is not None
    assert book.damaged_copy.read_bytes() == content
    assert rollback_journal_path(book.damaged_copy).exists() is (content == b"")


def test_journal_replacing_a_damaged_one_always_halts(tmp_path: Path) -> None:
    with open_journal("killed", tmp_path) as book:
        path = book.folder / JOURNAL_FILE
        OrderStore(book.database).record_submission(OrderIntent(ORDER, NOW))
        change_rows(book.database, "intents", "sent_at = 'soon'")
    earlier = path.with_name("journal-damaged-20200101T000000Z.sqlite")
    earlier.touch()
    for _ in range(2):  # the second one is as a kill before the first table leaves it
        with open_journal("killed", tmp_path, replace_damaged=True) as book:
            assert not book.database.query("SELECT name FROM sqlite_master")
        assert book.damaged_copy not in (None, earlier)
    with open_account(
        "killed", tmp_path, NULL_REDACTOR, TimeSource(now=lambda: NOW), replace_damaged=True
    ) as account:
        [halt] = account.halts.active()
        [(alert,)] = account.database.query("SELECT text FROM notices")
    assert halt.kind == "journal"
    assert "moved to journal-damaged-" in alert
    with open_journal("killed", tmp_path, replace_damaged=True) as book:
        assert book.damaged_copy is None


def test_path_whose_existence_is_uncertain_counts_as_existing(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    assert may_exist(tmp_path / "file")
    assert may_exist(tmp_path / "link")
    assert may_exist(tmp_path / ("x" * 300)), "no such name can be looked up"
    assert not may_exist(tmp_path / "nowhere")
    assert not may_exist(tmp_path / "file" / "below")


def refusal(account: str, root: Path) -> str:
    """Why an account cannot be traded from a folder."""
    with pytest.raises(InputError) as caught, open_journal(account, root):
        pytest.fail("it is traded")
    return str(caught.value)


def test_two_users_processes_cannot_share_one_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's state folder has a different account lock."""
    with open_journal("shared", tmp_path / "live"):
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
        check_message(refusal("shared", tmp_path / "live"), "shared")
        assert is_account_traded("shared", tmp_path / "live" / "shared")
    assert not is_account_traded("shared", tmp_path / "live" / "shared")
    with open_journal("shared", tmp_path / "live"):
        assert is_account_traded("shared", tmp_path / "nowhere")
