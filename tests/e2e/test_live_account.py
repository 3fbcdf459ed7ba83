"""The live job on one account: what is written down, what halts it, what ends it, and the night."""

from __future__ import annotations

import os
import signal
import stat
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from execution.journal.cycles import read_next_cycle
from execution.live.account_lock import JOURNAL_FILE, STATUS_PAGE_FILE
from execution.live.cycle_report import print_cycle
from execution.live.status import report_status
from foundation import notifier
from foundation.clock import utc_now
from foundation.database import query_rows
from foundation.files import write_atomically
from tests.e2e.practice import KEYS, ROOT, Practice, Start, buy, environment, trading
from tests.support.commands import Started
from tests.support.desks import SECOND, WORDS, Desk
from tests.support.paper_runs import paper, paper_words


@pytest.mark.wire
@pytest.mark.parametrize(
    ("fill", "at", "minutes", "state"),
    [("open", "2024-07-03T17:00Z", 15, "planned"), ("close", "2024-07-03T16:45Z", 1, "accepted")],
)
def test_daily_decision_waits_for_late_bars_before_auction(
    practice: Start, tmp_path: Path, fill: str, at: str, minutes: int, state: str
) -> None:
    words = ("timeframe=1d", f"fill={fill}")
    span = ("data.start=2023-06-01", "data.end=2024-07-12", "start=2024-07-01", "end=2024-07-08")
    here = practice(*WORDS, *words, *span)
    here.advance(at)
    now = here.venue.now
    here.venue.halts |= {name: [(now - np.timedelta64(1, "h"), None)] for name in ("SYA", "SYB")}
    simple = ("forecaster=ewma", "sizing.strategy=equal_weight")
    desk = Desk.at(here, tmp_path, *words, *simple)
    desk.job.step()
    assert desk.job.next_step_time(now) == now + np.timedelta64(minutes, "m")
    here.venue.halts.clear()
    desk.job.run_cycle()
    found = query_rows(tmp_path / JOURNAL_FILE, "SELECT DISTINCT state FROM intents")
    assert (desk.cycles[0].decision, found) == (None, [(state,)])


def test_each_scheduled_decision_is_made_once_across_restarts(
    here: Practice, tmp_path: Path
) -> None:
    desk = Desk.at(here, tmp_path)
    for _ in range(3):
        desk = desk.again()
        desk.job.step()
    assert desk.cycles[-1].idle_reason == "a decision for 2024-02-20T15:30Z was made before"
    assert len(here.venue.tickets) == 2
    assert len(query_rows(tmp_path / JOURNAL_FILE, "SELECT 1 FROM decisions")) == 1


def test_unexplained_position_halts_until_a_person_clears_it(
    here: Practice, tmp_path: Path
) -> None:
    desk = Desk.at(here, tmp_path)
    desk.job.step()
    account = desk.broker.account()
    a_tenth = int(0.11 * account.equity / account.prices["SYA"])  # with some margin
    trading(here).submit_order(buy("SYA", a_tenth))
    here.advance(SECOND)
    posts = len(here.posts)
    for _ in range(2):
        desk.job.step()
        assert desk.cycles[-1].decision is None
    assert len(here.posts) == posts
    (halt,) = desk.live.halts.active()
    assert halt.kind == "positions"
    assert "SYA: the venue holds " in halt.reason
    ((kind, text),) = desk.database.query("SELECT kind, text FROM notices")
    assert kind == "halt positions"
    assert "Compare the venue's positions" in text
    desk.live.halts.clear("positions", "a person", here.venue.now)
    desk.job.step()
    assert desk.cycles[-1].decision is not None
    assert not desk.live.halts.active()
    assert len(here.posts) > posts


def test_nothing_is_sent_while_the_kill_file_exists(here: Practice, tmp_path: Path) -> None:
    desk = Desk.at(here, tmp_path)
    desk.live.account.kill_file.write_text("")
    desk.job.step()
    assert "KILL exists" in desk.cycles[-1].idle_reason
    assert not here.posts


def test_daily_loss_halts_openings_until_the_next_day(
    here: Practice, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = Desk.at(here, tmp_path, "guards.daily_loss=0.001")
    desk.job.step()
    held = dict(here.venue.broker.account().positions)
    account = desk.broker.account()
    later = account.as_of + np.timedelta64(1, "m")
    desk.mark(replace(account, cash=account.cash - 5_000, as_of=later))
    (halt,) = desk.live.halts.active()
    assert halt.kind == "daily_loss"
    desk.step_at(SECOND)
    decision = desk.cycles[-1].decision
    assert decision is not None
    opening = {order.client_order_id for order in decision.orders if not order.reduces}
    assert opening, "it would have opened something"
    for name in opening:
        intent = desk.live.book.get(name)
        assert intent is not None
        assert intent.state == "denied"
    assert {*desk.cycles[-1].unsent_reasons} == opening
    print_cycle(desk.cycles[-1])
    asked = report_status(tmp_path / JOURNAL_FILE, utc_now())
    told = capsys.readouterr()
    assert "ALERT halt daily_loss: halted: " in told.err
    said = " ".join([*told.out.split(), *asked.closing_lines])
    assert "ALERT halt daily_loss: halted: " in said, "status says the last alerts"
    for order in decision.orders:
        line = f"NOT sent: {order.side} {order.qty} {order.symbol}: halted: daily_loss"
        assert line in said or order.client_order_id not in opening
    assert said.count("NOT sent: halted: daily_loss") == 1, "status says it of the cycle"
    assert said.count("NOT sent:") == len(opening) + 1
    for symbol, quantity in here.venue.broker.account().positions.items():
        assert abs(quantity) <= abs(held.get(symbol, Decimal(0)))


@pytest.mark.wire
@pytest.mark.first_example
@pytest.mark.parametrize("how", ["SIGTERM", "kill file", "flatten"])
def test_stopping_the_loop_cancels_and_reports_open_orders(
    here: Practice, tmp_path: Path, how: str
) -> None:
    account = tmp_path / "data" / "live" / here.venue.record.account_id
    page = account / STATUS_PAGE_FILE
    if how == "flatten":
        page.mkdir(parents=True)  # an unwritable page must not prevent the shutdown
    command = [str(ROOT / "trade_stock_e2e.py"), *paper_words(here), "cycles=null"]
    process = Started(command, cwd=tmp_path, env=environment(tmp_path))
    process.wait_for_output(text="The next cycle")
    if how == "SIGTERM":
        os.kill(process.pid, signal.SIGTERM)
    else:
        write_atomically(account / "KILL", how.encode())
    done = process.wait()
    assert done.returncode == 0, done.stderr
    assert "Stopped (" in done.stdout
    expected = read_next_cycle(account / JOURNAL_FILE)
    assert expected is not None, "nobody makes it: it will be late"
    assert not expected.is_overdue(utc_now())
    held = {s: q for s, q in here.venue.broker.account().positions.items() if q}
    assert bool(held) == (how != "flatten")
    if how != "flatten":
        why = "SIGTERM" if how == "SIGTERM" else "the kill file exists"
        title = f"<title>Stopped: {why} · paper account {account.name}</title>"
        assert title in page.read_text()
        assert stat.S_IMODE(page.stat().st_mode) == 0o600
    if how != "SIGTERM":
        again = paper(here, tmp_path)
        assert again.returncode == 3, "a supervisor does not restart it"
        assert "KILL exists, so the loop does not start; remove it first" in again.stderr


@pytest.mark.first_example
@pytest.mark.parametrize("damage", ["torn", "zeroed", "text", "emptied", "schema"])
def test_damaged_journal_is_kept_and_blocks_trading(
    here: Practice, tmp_path: Path, damage: str
) -> None:
    done = paper(here, tmp_path)
    assert done.returncode == 0, done.stderr
    account = here.venue.record.account_id
    path = tmp_path / "data" / "live" / account / JOURNAL_FILE
    whole = path.read_bytes()
    spoilt: dict[str, bytes] = {
        "torn": whole[: len(whole) // 2],
        "zeroed": whole[:4096] + bytes(4096) + whole[8192:],
        "text": b"not a database " * 900,
        "emptied": b"",
        "schema": whole.replace(b"CREATE TABLE", b"CREATE T\xffBLE"),
    }
    path.write_bytes(spoilt[damage])
    here.advance(SECOND)
    posts = len(here.posts)
    done = paper(here, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "halted: journal" in done.stdout
    assert len(here.posts) == posts
    (aside,) = path.parent.glob("journal-damaged-*.sqlite")
    assert aside.read_bytes() == spoilt[damage]
    assert query_rows(path, "SELECT kind FROM halts") == [("journal",)]


def test_no_output_of_a_failing_run_contains_secrets(
    here: Practice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier, "EXIT_WAIT_SECONDS", 0.5)
    address = here.url.replace("http://", "http://somebody:hushhush@")
    here.fail(kind="status", method="POST", path="/v2/orders", status=403, count=99)
    texts = []
    for words in (
        [f"alert_url={address}/alert", "cycles=1"],
        [f"broker.url_override={address}", "cycles=1"],
    ):
        done = paper(here, tmp_path, *words)
        texts.append(done.stdout + done.stderr)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name for path in written} >= {JOURNAL_FILE, STATUS_PAGE_FILE}
    for content in [text.encode() for text in texts] + [path.read_bytes() for path in written]:
        for secret in (KEYS.key, KEYS.secret, "hushhush"):
            assert secret.encode() not in content
