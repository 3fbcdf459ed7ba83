"""The dashboard: what a page of the journal says while the loop runs and while it is down, what it
says of a journal that cannot be read, who may ask for it, and how it looks in a browser.
"""

from __future__ import annotations

import base64
import hashlib
import html
import http.client
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from execution.account_lock import JOURNAL, KILL_FILE
from execution.journal.decisions import Journal
from execution.journal.events import EventLog
from execution.journal.halts import HALT_RULES, Halts
from execution.journal.intents import Intent, IntentBook
from execution.journal.marks import AccountMark
from execution.live import __main__ as command
from execution.live.accounts import TRADE
from execution.live.dashboard import Dashboard, is_host_of, served_dashboard
from execution.live.settings import LiveSettings
from foundation.compose import composed_config
from foundation.database import Database, rows_of
from foundation.errors import BrokerError
from option_spreads.selling.state import FILE, OpenSpread, SellerState, write_state
from tests.commands import Started
from tests.e2e.chromium import browsing, installed
from tests.e2e.practice import OPENING, Practice, Start, order, practising
from tests.e2e.refused import refusal_of
from tests.e2e.test_live_account import Desk

SYMBOLS = "symbols=[SYA,SYB,SYC,SYXUSD]"
END = np.datetime64("2024-02-21T20:00", "ns")
NOW = np.datetime64("2024-02-21T19:42", "ns")
MINUTE = np.timedelta64(1, "m")
ATTACK = "<script>document.title = 'taken'</script>"
SETTINGS = LiveSettings.of(composed_config("live", []))


def lived(start: Start, folder: Path) -> None:
    """A day of the job on a practice server: a deposit, a pass that failed, a halt, orders that
    were withheld for it, and a limit order that waits.
    """
    here = start(SYMBOLS, "end=2024-02-27")
    here.advance(OPENING)
    database = Database(folder / JOURNAL)
    desk = Desk.at(here, database, folder, SYMBOLS)
    while here.venue.now < END - np.timedelta64(90, "m"):
        if here.venue.now == np.datetime64("2024-02-21T10:00"):
            pay_in(here, 5_000)
        if here.venue.now == np.datetime64("2024-02-21T12:00"):
            fail_a_pass(here, desk)
        desk.job.step()
        here.advance()
    desk.live.halt("daily_loss", f"lost 11 %: {ATTACK}")
    while here.venue.now < END:
        desk.job.step()
        here.advance()
    price = here.venue.price_of("SYB")
    assert price is not None
    limit = {"type": "limit", "limit_price": round(0.97 * price, 2), "reduces": True}
    desk.broker.submit([order("kelly_50-by-hand-SYB", "SYB", "buy", "5", **limit)])
    database.close()


def pay_in(here: Practice, usd: int) -> None:
    here.venue.broker.deposit(float(usd))
    day = str(here.venue.now.astype("datetime64[D]"))
    here.venue.record.note_activity({"activity_type": "CSD", "date": day, "net_amount": str(usd)})


def fail_a_pass(here: Practice, desk: Desk) -> None:
    here.fail(kind="status", status=500, method="GET", path="/v2/positions", count=50)
    with pytest.raises(BrokerError):
        desk.job.step()
    here.clear_faults()


@pytest.fixture(scope="module")
def practised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("practised") / "account-1"
    folder.mkdir()
    with practising() as start:
        lived(start, folder)
    return folder


@pytest.fixture
def account(practised: Path, tmp_path: Path) -> Path:
    """The folder of an account that has lived, for a test alone."""
    return shutil.copytree(practised, tmp_path / "accounts" / practised.name)


def looked_at(folder: Path, now: np.datetime64 | None = None, **more: Any) -> Dashboard:
    """now: none is seven minutes after the last mark."""
    if now is None:
        last = rows_of(folder / JOURNAL, "SELECT max(at) FROM marks")[0][0]
        now = np.datetime64(last, "ns") + 7 * MINUTE
    shown = now
    return Dashboard(folder / JOURNAL, SETTINGS, clock=lambda: shown, **more)


def text_of(page: str) -> str:
    """What a reader sees of a page, in one line."""
    body = re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(body).split())


class Written:
    """A journal that is written by hand, with the classes that the loop writes it with."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.database = Database(folder / JOURNAL)
        self.events = EventLog(self.database, clock=lambda: NOW)
        self.book = IntentBook(self.database, self.events)
        self.halts = Halts(self.database, self.events)
        self.journal = Journal(self.database, self.events, self.book, TRADE)

    def mark(self, at: np.datetime64, equity: float, flows: float = 0.0, **held: float) -> None:
        gross = sum(abs(value) for value in held.values())
        self.journal.mark(AccountMark(at, equity, equity - gross, gross, 0.0, 4.0, flows, held))

    def order(self, name: str, reason: str = "because") -> None:
        request = {"symbol": "NVDA", "side": "buy", "qty": "1", "client_order_id": name}
        self.book.plan(Intent(name, request, NOW, job=TRADE, state="planned", reason=reason))

    def page(self, now: np.datetime64 = NOW, **more: Any) -> str:
        return looked_at(self.folder, now, **more).page()


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Written]:
    journal = Written(tmp_path / "account-2")
    yield journal
    journal.database.close()


def test_the_page_says_how_the_loop_is_what_was_earned_and_why_each_order_was_sent(
    account: Path,
) -> None:
    dashboard = looked_at(account)
    text = text_of(dashboard.page())
    assert "Running, and nothing is opened" in text
    assert HALT_RULES["daily_loss"].remedy in text
    assert "next decision in 23 min 21 Feb 2024 20:00 UTC, 15:00 New York" in text
    assert "$5,000.00 paid in since 20 Feb 2024" in text
    path = account / JOURNAL
    equities = rows_of(path, "SELECT equity FROM marks ORDER BY at")
    earned = equities[-1][0] - equities[0][0] - 5_000
    assert f"earned in all +${earned:,.2f}" in text
    latest = rows_of(path, "SELECT client_order_id, reason, why, state FROM intents")[-40:]
    assert {state for *_, state in latest} == {"filled", "withheld", "working"}
    for name, reason, why, _ in latest:
        assert name in text
        assert " ".join(reason.split()) in text
        assert " ".join(why.split()) in text
    assert "Withheld: halted: daily_loss since" in text
    assert "limit $" in text
    assert "a fault on demand" in text, "why the pass failed"
    (last,) = rows_of(path, "SELECT id, choices FROM decisions ORDER BY rowid DESC LIMIT 1")
    assert f"{last[0]} Enhanced Kelly sizing" in text
    for choice in json.loads(last[1]):
        target = f"{choice['target']:+.3f}×".replace("-", "−")
        assert re.search(rf"{choice['symbol']} 21 Feb .*{re.escape(target)}", text)
    for kind, subject in rows_of(path, "SELECT kind, subject FROM events")[-50:]:
        assert f"{kind} {subject}" in text


def test_what_was_decided_of_a_coin_stays_beside_a_later_decision_on_stocks(account: Path) -> None:
    table = text_of(looked_at(account).page())
    table = table.partition("Last decision")[2].partition("Passes")[0]
    assert "symbols whose market was shut are shown as they were decided last" in table
    symbols = re.findall(r"(SY\w+) 21 Feb (\d\d:\d\d)", table)
    assert symbols == [("SYA", "19:30"), ("SYB", "19:30"), ("SYC", "19:30"), ("SYXUSD", "19:00")]


def test_text_from_outside_is_text_on_the_page(account: Path, written: Written) -> None:
    assert ATTACK in text_of(looked_at(account).page())
    written.order("one", reason=ATTACK)
    written.events.append(ATTACK, ATTACK, {"why": ATTACK})
    written.halts.raise_halt("positions", ATTACK, NOW)
    number = written.journal.begin_cycle(NOW)
    written.journal.end_cycle(number, NOW, failed=ATTACK)
    written.mark(NOW, 100.0, **{ATTACK: 50.0})
    written.database.create("CREATE TABLE notices (number INTEGER, at TEXT, kind TEXT, text TEXT)")
    written.database.execute("INSERT INTO notices VALUES (1, ?, ?, ?)", (str(NOW), ATTACK, ATTACK))
    for page in (looked_at(account).page(), written.page()):
        assert "<script" not in page.lower()
        assert "document.title" in page
    assert text_of(written.page()).count(ATTACK) >= 8


def test_nothing_of_the_account_is_changed_by_looking(account: Path) -> None:
    def content() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in account.iterdir()}

    before = content()
    looked_at(account).page()
    assert content() == before


@pytest.mark.parametrize("minutes", [7, 40, 3 * 24 * 60])
def test_a_loop_that_is_down_is_called_so_and_its_account_is_shown(
    account: Path, minutes: int
) -> None:
    last = rows_of(account / JOURNAL, "SELECT max(at) FROM marks")[0][0]
    now = np.datetime64(last, "ns") + minutes * MINUTE
    text = text_of(looked_at(account, now).page())
    assert ("Down" in text) == (minutes > 35)
    assert "has not been made" in text or minutes == 7
    assert "earned in all" in text
    assert ("earned today" in text) == (minutes < 60)


def test_the_kill_file_and_every_halt_are_said_with_what_to_do(written: Written) -> None:
    number = written.journal.begin_cycle(NOW)
    written.journal.end_cycle(number, NOW, idle="nothing to do")
    assert text_of(written.page()).startswith("Running ·")
    for kind, rule in HALT_RULES.items():
        written.halts.raise_halt(kind, f"why {kind}", NOW)
        text = text_of(written.page())
        assert f"why {kind}" in text
        assert f"python -m execution.live clear {kind} --by NAME" in text
        assert rule.remedy in text
    assert "Running, and nothing is sent" in text
    for kind in HALT_RULES:
        written.halts.clear(kind, "a person", NOW)
    assert "nothing is sent" not in text_of(written.page()).partition("Equity")[0]
    (written.folder / KILL_FILE).touch()
    assert f"{written.folder / KILL_FILE} is there" in text_of(written.page())


def test_orders_of_which_nobody_knows_are_counted(written: Written) -> None:
    written.order("one")
    assert "nobody knows" not in text_of(written.page())
    written.book.settle("one", "sending")
    assert "Orders of which nobody knows: 1" in text_of(written.page())


def test_a_position_above_the_cap_is_said_and_its_bar_ends_beyond_the_line(
    written: Written,
) -> None:
    written.mark(NOW, 1_000.0, NVDA=700.0, AAPL=-300.0)
    page = written.page()
    assert "NVDA +0.700× above the cap $700" in text_of(page)
    assert "AAPL −0.300× −$300" in text_of(page)
    bars = re.findall(r'class="(long|short)" x="(\S+)" y="1.5"\s+width="(\S+)"', page)
    line = float(re.findall(r'class="cap" x1="(\S+)"', page)[0])
    assert [side for side, *_ in bars] == ["long", "short"]
    assert float(bars[0][2]) == pytest.approx(line * 0.7 / 0.6, abs=0.02)
    assert float(bars[1][1]) == pytest.approx(-line / 2, abs=0.02)


def test_leverage_above_its_ceiling_is_said(written: Written) -> None:
    written.mark(NOW - 60 * MINUTE, 1_000.0, NVDA=3_900.0)
    assert "share of the ceiling 98 % under it" in text_of(written.page())
    written.mark(NOW, 1_000.0, NVDA=4_100.0)
    assert "4.10× in stocks, of a ceiling of 4.00×" in text_of(written.page())
    assert "share of the ceiling 102 % above it" in text_of(written.page())


def test_open_spreads_are_shown_and_a_file_that_cannot_be_read_is_said(
    written: Written, tmp_path: Path
) -> None:
    folder = tmp_path / "spreads"
    folder.mkdir()
    legs = ("SPXW240402P04980000", "SPXW240402P04975000")
    one = OpenSpread(
        *("PUT-030", "PUT", legs, "open", 3, Decimal("1.25"), "2024-04-02 10:00"),
        Decimal("1.45"),
        reason=ATTACK,
        closed=1,
    )
    assert "Open spreads" not in written.page()
    assert "No spread is open" in text_of(written.page(spreads=folder))
    write_state(folder, SellerState((one,)))
    text = text_of(written.page(spreads=folder))
    assert "PUT-030 PUT 4980 / 4975 open 2 of 3 1.25 1.45 2024-04-02 10:00" in text
    assert ATTACK in text
    (folder / FILE).write_text("[")
    text = text_of(written.page(spreads=folder))
    assert "compare it with the venue's positions and mend it" in text
    assert "makes no sense" not in text
    assert "No pass has been made yet" in text


def test_while_the_loop_writes_the_page_shows_what_was_written_before(written: Written) -> None:
    written.mark(NOW, 100.0)
    with written.database.transaction():
        written.mark(NOW + MINUTE, 200.0)
        assert "$100.00" in text_of(written.page())
    assert "$200.00" in text_of(written.page())


def test_readers_never_stop_the_writer_nor_see_half_of_what_it_writes(written: Written) -> None:
    seen = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.append(text_of(written.page()))

    thread = threading.Thread(target=look)
    thread.start()
    for number in range(40):
        with written.database.transaction():
            written.order(f"order-{number:02}-a")
            written.order(f"order-{number:02}-b")
    done.set()
    thread.join()
    assert seen
    for text in seen:
        assert "cannot be read" not in text
        counted = re.search(r"(\d+) orders so far", text)
        assert counted is None or int(counted[1]) % 2 == 0


KILLED = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
connection.execute("DELETE FROM marks")
for number in range(400):
    connection.execute(
        "INSERT INTO events (at, kind, subject, content) VALUES ('2024-02-21', ?, ?, 'null')",
        ("half-written", "x" * 2000),
    )
os.kill(os.getpid(), 9)
"""


def test_after_a_kill_in_the_middle_of_a_write_the_page_shows_what_was_before(
    account: Path,
) -> None:
    dashboard = looked_at(account)
    path = account / JOURNAL
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert (account / f"{JOURNAL}-journal").is_file()
    before = {each.name: each.read_bytes() for each in account.iterdir()}
    text = text_of(dashboard.page())
    assert "earned in all" in text
    assert "half-written" not in text
    assert {each.name: each.read_bytes() for each in account.iterdir()} == before


@pytest.mark.parametrize("damage", ["missing", "folder", "text", "torn", "zeroed", "empty"])
def test_a_damaged_journal_is_a_page_that_says_so(account: Path, damage: str) -> None:
    dashboard = looked_at(account)
    path = account / JOURNAL
    whole = path.read_bytes()
    path.unlink()
    spoilt = {
        "text": b"not a database " * 900,
        "torn": whole[: len(whole) // 2],
        "zeroed": whole[:4096] + bytes(4096 * 8) + whole[4096 * 9 :],
        "empty": b"",
    }
    if damage == "folder":
        path.mkdir()
    elif damage in spoilt:
        path.write_bytes(spoilt[damage])
    text = text_of(dashboard.page())
    assert "Traceback" not in text
    if damage == "empty":
        assert "No pass has been made yet" in text
    else:
        assert "the journal cannot be read" in text


def test_what_one_section_cannot_read_keeps_no_other_from_being_shown(account: Path) -> None:
    dashboard = looked_at(account)
    with closing(sqlite3.connect(account / JOURNAL)) as connection, connection:
        connection.execute("UPDATE intents SET filled = 'some', sent_at = 'soon'")
        connection.execute("UPDATE cycles SET began_at = 'NaT'")
    text = text_of(dashboard.page())
    assert "intents: what is written there says nothing" in text
    assert "cycles: what is written there says nothing: 'NaT' is no instant" in text
    assert "earned in all" in text
    assert "Enhanced Kelly sizing" in text


@given(data=st.data())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_is_in_the_file_there_is_a_page(
    data: st.DataObject, practised: Path, tmp_path: Path
) -> None:
    dashboard = looked_at(practised)
    content = bytearray((practised / JOURNAL).read_bytes())
    for _ in range(data.draw(st.integers(1, 20))):
        where = data.draw(st.integers(0, len(content) - 1))
        what = data.draw(st.binary(min_size=1, max_size=64))
        content[where : where + len(what)] = what
    folder = tmp_path / "spoilt"
    folder.mkdir(exist_ok=True)
    (folder / JOURNAL).write_bytes(content)
    page = Dashboard(folder / JOURNAL, SETTINGS, clock=dashboard.clock).page()
    assert page.startswith("<!doctype html>")
    assert "<script" not in page.lower()


def test_a_year_of_an_account_makes_no_long_page(written: Written) -> None:
    fill_a_year(written)
    page = written.page()
    assert len(page) < 200_000
    assert "20,000 orders so far" in text_of(page)
    assert "cannot be read" not in page


def fill_a_year(written: Written) -> None:
    """8,760 marks of 20 positions and as many decisions, 20,000 intents with their events."""
    hours = [str(NOW - number * 60 * MINUTE) for number in range(8_760)]
    equity = 1e5 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 2e-3, 8_760)))
    positions = json.dumps({f"SY{letter}": 4_000.0 for letter in "ABCDEFGHIJKLMNOPQRST"})
    basis = dict.fromkeys(("days", "sharpe", "premium", "earned", "forecast", "deviation"), 0.1)
    choices = [
        {
            **dict.fromkeys(("mu", "sigma", "kelly", "held", "target", "price", "cost"), 0.001),
            "symbol": symbol,
            "qty": "3",
            "binding": {"symbol_cap": 0.002},
            "basis": {**basis, "worth": None},
        }
        for symbol in json.loads(positions)
    ]
    text = json.dumps(choices)
    written.order("first", reason="a reason of a line, as long as reasons are " * 5)
    path = written.folder / JOURNAL
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.executemany(
            "INSERT INTO marks VALUES (?, ?, 0, 60000, 20000, 4, 0, ?)",
            [(hour, value, positions) for hour, value in zip(hours, equity.tolist(), strict=True)],
        )
        connection.executemany(
            "INSERT INTO decisions VALUES (?, 'trade', ?, ?, ?, 1e5, 4, '', '[]', ?, '{}', '{}',"
            " 'ended')",
            [(f"d{hour}", hour, hour, hour, text) for hour in reversed(hours)],
        )
        columns = [name for _, name, *_ in connection.execute("PRAGMA table_info(intents)")]
        rest = ", ".join(columns[1:])
        values = rest.replace("state", "'filled'")
        connection.execute(
            f"INSERT INTO intents (client_order_id, {rest})"
            f" SELECT 'order-' || n, {values} FROM ({COUNTED}), intents WHERE n < 20000"
        )
        connection.execute(
            "INSERT INTO events (at, kind, subject, content)"
            f" SELECT ?, 'noted filled', 'order-' || n, '{{}}' FROM ({COUNTED})",
            (hours[0],),
        )


COUNTED = (
    "WITH RECURSIVE counted (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < 80000)"
    " SELECT n FROM counted"
)


def answered(
    address: str, method: str = "GET", path: str = "/", **headers: str
) -> tuple[http.client.HTTPResponse, str]:
    host, port = address.removeprefix("http://").rstrip("/").split(":")
    with closing(http.client.HTTPConnection(host, int(port), timeout=30)) as connection:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response, response.read().decode()


@pytest.fixture(scope="module")
def served(practised: Path) -> Iterator[str]:
    with served_dashboard(looked_at(practised), 0) as address:
        yield address


def test_the_page_is_served_to_this_machine_under_its_own_name_only(served: str) -> None:
    port = served.rstrip("/").rpartition(":")[2]
    assert served == f"http://127.0.0.1:{port}/"
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", "LOCALHOST", "127.0.0.1"):
        assert answered(served, Host=host)[0].status == 200
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1:1", f"127.0.0.1.evil:{port}"):
        response, page = answered(served, Host=host)
        assert response.status == 421
        assert "equity" not in page
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", int(port)), timeout=5).close()
    assert not is_host_of(None, 80)
    assert not is_host_of("", 80)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "BREW"])
def test_nothing_but_reading_is_taken(served: str, method: str) -> None:
    response, text = answered(served, method)
    assert response.status == (501 if method == "BREW" else 405)
    assert "equity" not in text


@pytest.mark.parametrize("path", ["/?x=1", "/journal.sqlite", "/../KILL", "/%2e%2e/", "/x"])
def test_there_is_one_page_without_parameters(served: str, path: str) -> None:
    response, text = answered(served, path=path)
    assert (response.status, text) == (404, "The page is at /\n")


def test_a_browser_is_told_to_run_and_fetch_nothing_and_to_look_again(served: str) -> None:
    response, page = answered(served)
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Refresh"] == "30"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert response.headers["Content-Security-Policy"] == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'"
    )
    assert "unsafe" not in response.headers["Content-Security-Policy"]
    assert not re.search(r"""\b(src|href|style|on\w+)=["']|url\(|@import""", page)


def test_a_page_that_cannot_read_its_journal_is_served_all_the_same(account: Path) -> None:
    dashboard = looked_at(account)
    with served_dashboard(dashboard, 0) as address:
        (account / JOURNAL).unlink()
        response, page = answered(address)
    assert response.status == 200
    assert "the journal cannot be read: unable to open database file" in text_of(page)


def test_the_command_serves_until_it_is_ended(account: Path) -> None:
    words = ["-m", "execution.live", "--folder", str(account.parent), "dashboard", "--port", "0"]
    process = Started([*words, "limits.symbol_cap=0.5"], cwd=account)
    process.wait_for_output()
    assert process.running
    address = re.search(r"http://\S+", process._out.read_text())
    assert address is not None
    page = answered(address[0])[1]
    port = address[0].rstrip("/").rpartition(":")[2]
    os.kill(process.pid, signal.SIGTERM)
    done = process.wait()
    assert "Down" in text_of(page)
    assert "the cap of a symbol, 0.50×" in text_of(page)
    assert done.returncode == 128 + signal.SIGTERM
    line = f"The dashboard is at http://127.0.0.1:{port}/ until this command is ended.\n"
    assert done.stdout == line
    assert done.stderr.startswith("interrupted: nothing was changed")


@pytest.mark.parametrize("words", [["limits.symbol_cap=-1"], ["--port", "99999"], ["few"]])
def test_what_cannot_be_shown_is_one_line_and_exit_code_2(
    account: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(account)
    line = refusal_of(command.main, "--folder", str(account.parent), "dashboard", *words)
    assert words[-1].replace("=", ": ") in line


def test_an_account_without_its_journal_is_a_page_and_no_refusal(tmp_path: Path) -> None:
    (tmp_path / "accounts" / "one").mkdir(parents=True)
    words = ["--folder", str(tmp_path / "accounts"), "dashboard", "--port", "0"]
    process = Started(["-m", "execution.live", *words], cwd=tmp_path)
    process.wait_for_output()
    printed = process._out.read_text()
    os.kill(process.pid, signal.SIGTERM)
    done = process.wait()
    assert "The dashboard is at" in printed + done.stdout


@pytest.mark.parametrize("dark", [False, True])
def test_in_a_browser_nothing_is_cut_off_and_nothing_of_it_runs(served: str, dark: bool) -> None:
    program = installed()
    if program is None:
        pytest.skip("no Chromium is installed")
    with browsing(program) as page:
        for width in (1280, 390):
            page.open(served, width, dark=dark)
            root = "document.documentElement"
            assert page.value(f"{root}.clientWidth") in (width, width - 15)
            assert page.value(f"{root}.scrollWidth <= {root}.clientWidth")
            shown = page.value("document.body.innerText")
            for text in ("Running, and nothing is opened", "next decision", "Withheld:", ATTACK):
                assert text in shown
            assert page.value("document.title").startswith("Running")
            assert page.value("document.querySelectorAll('svg[role=img] path.first').length") == 2
            # The style is taken: else the policy would have refused it.
            columns = page.value("getComputedStyle(document.querySelector('.grid')).display")
            assert columns == "grid"
            ground = page.value("getComputedStyle(document.body).backgroundColor")
            assert (ground == "rgb(14, 19, 27)") == dark
            # A curve that is drawn has a size.
            assert page.value("document.querySelector('path.first').getTotalLength()") > 100
        assert page.complaints == []
