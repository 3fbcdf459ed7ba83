"""Stocks, coins and spreads in one process: one lock, one journal, and no dollar used twice."""

from __future__ import annotations

import time
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from execution.journal.cycles import read_next_cycle
from execution.journal.events import EventLog
from execution.journal.halts import HaltJournal
from execution.journal.marks import EquityMark, EquityMarkJournal
from execution.journal.order_store import PENDING_STATES
from execution.live.__main__ import clear_halt
from execution.live.account_lock import JOURNAL_FILE
from execution.live.commands import read_answer, write_command
from execution.live.guards import GuardSettings
from execution.live.losses import record_mark_and_halts
from foundation.clock import utc_now
from foundation.database import query_rows
from foundation.errors import InputError
from option_spreads.autoscaler.account import AccountFiles
from option_spreads.sell import sell_spreads
from option_spreads.selling.job import SPREADS_FOLDER_EVENT
from option_spreads.selling.state import OpenSpread, read_state, total_collateral
from tests.e2e.practice import KEYS, ROOT, Practice, Start, environment, trading
from tests.support.commands import Started
from tests.support.connections import open_for_test
from tests.support.messages import refused

UNDER = "SYC"
NOW = np.datetime64("2024-02-20T15:30", "ns")
WAITING_OF_SPREADS = (
    "SELECT client_order_id, state FROM intents"
    f" WHERE job = 'spreads' AND state IN {PENDING_STATES}"
)


def both_jobs(url: str, vix: Path, *words: str) -> list[str]:
    """The command of a process with both jobs, which looks at spreads again and again."""
    entries = ",".join(map(str, range(30, 300, 30)))
    selling = [
        *(
            f"vix={vix}",
            f"root={UNDER}",
            f"underlying={UNDER}",
            "share_delivery=false",
            "poll_interval=0",
        ),
        *(f"rules.entry_minutes=[{entries}]", "rules.exit_minute=300", "order_timeout=0"),
    ]
    return [
        *(str(ROOT / "trade_stock_e2e.py"), "mode=paper", "symbols=[SYA,SYB]", *words),
        *(f"broker.url_override={url}", "forecaster=ewma", "forecaster.calibrated=false"),
        *("bar_wait_seconds=0", "jobs=[trade,spreads]"),
        "spreads=[{}]".format(",".join(f"'{word}'" for word in selling)),
    ]


def server_and_files(
    practice: Start, vix: Path, folder: Path, end: str
) -> tuple[Practice, AccountFiles]:
    """A server with stocks and options until a date, and new files of the seller of spreads."""
    words = (f"options.vix={vix}", f"options.symbols=[{UNDER}]", "start=2024-02-20T15:30Z")
    here = practice(*words, f"end={end}", "symbols=[SYA,SYB,SYC]")
    files = AccountFiles(folder / "data" / "autoscaling" / "paper", 20_000.0)
    files.initialise()
    return here, files


def test_one_process_trades_stocks_and_spreads_together(
    practice: Start, vix: Path, tmp_path: Path
) -> None:
    here, _ = server_and_files(practice, vix, tmp_path, "2024-02-21")
    desk = here.venue.options.desks[UNDER]
    loop = Started(
        both_jobs(here.url, vix, "cycles=2", "decision_valid_seconds=3600"),
        cwd=tmp_path,
        env=environment(tmp_path),
    )
    while loop.running and not desk.tickets:
        time.sleep(0.02)
    # The clock goes on between two cycles; one that begins meanwhile has an hour.
    path = tmp_path / "data" / "live" / here.venue.record.account_id / JOURNAL_FILE
    while loop.running:
        if not query_rows(path, "SELECT number FROM cycles WHERE ended_at IS NULL"):
            here.advance()
        loop.wait_for_end(0.5)
    done = loop.wait()
    assert done.returncode == 0, done.stderr
    jobs = dict(query_rows(path, "SELECT job, count(*) FROM intents GROUP BY job"))
    assert jobs["trade"] >= 1
    assert jobs["spreads"] >= 1
    sold = query_rows(path, "SELECT state, role, reason != '' FROM intents WHERE job = 'spreads'")
    assert {part for _, part, _ in sold} <= {"opening", "reduction"}
    assert all(reason for _, _, reason in sold)
    assert query_rows(path, "SELECT kind FROM halts") == []
    folder = tmp_path / "data" / "autoscaling" / "paper"
    events = EventLog(open_for_test(path))
    assert events.last_reported_positions(SPREADS_FOLDER_EVENT) == [str(folder)]
    assert query_rows(path, "SELECT failure FROM cycles WHERE failure != ''") == []
    assert read_next_cycle(path) is None, "all its cycles were made"


@pytest.mark.slow
def test_exit_buys_back_spreads_and_sells_no_more(
    practice: Start, vix: Path, tmp_path: Path
) -> None:
    here, files = server_and_files(practice, vix, tmp_path, "2024-02-22")
    loop = Started(both_jobs(here.url, vix, "cycles=null"), cwd=tmp_path, env=environment(tmp_path))
    while loop.running and not any(each.stage == "open" for each in read_spreads(files)):
        time.sleep(0.2)
        here.advance()
    folder = tmp_path / "data" / "live" / here.venue.record.account_id
    values = {"verb": "exit", "argument": UNDER, "by": "Ada", "written_at": str(utc_now())}
    write_command(folder, "out", values)
    while loop.running and (answer := read_answer(folder, "out")) is None:
        time.sleep(0.1)
    while loop.running and read_spreads(files):
        time.sleep(0.2)
        here.advance()
    assert loop.running
    loop.kill()
    assert answer is not None
    assert "spread" in answer["answer"]
    path = folder / JOURNAL_FILE
    assert query_rows(path, "SELECT kind FROM halts") == [("exited",)]


def read_spreads(files: AccountFiles) -> tuple[OpenSpread, ...]:
    return read_state(files.folder).spreads


@pytest.mark.slow
def test_killed_two_job_process_leaves_no_order_open(
    practice: Start, vix: Path, tmp_path: Path
) -> None:
    """The process is killed just after its order has reached the venue."""
    here, files = server_and_files(practice, vix, tmp_path, "2024-02-22")
    command = both_jobs(here.url, vix, "cycles=null")
    for _ in range(4):
        before = len(here.posts)
        loop = Started(command, cwd=tmp_path, env=environment(tmp_path))
        while loop.running and len(here.posts) == before:
            time.sleep(0.001)
        assert loop.running
        loop.kill()
        here.advance()
    loop = Started(command, cwd=tmp_path, env=environment(tmp_path))
    here.advance("2024-02-20T21:00Z")
    path = tmp_path / "data" / "live" / here.venue.record.account_id / JOURNAL_FILE
    while loop.running and (
        read_state(files.folder).spreads or query_rows(path, WAITING_OF_SPREADS)
    ):
        time.sleep(0.05)
    loop.kill()
    opened = [
        each for each in here.venue.options.desks[UNDER].tickets.values() if each.filled_contracts
    ]
    assert opened
    assert query_rows(path, WAITING_OF_SPREADS) == []


def spread(contracts: int, closed: int = 0) -> OpenSpread:
    return OpenSpread(
        trade_id="PUT-20240220-060",
        strategy="PUT",
        legs=("SPY240220P00500000", "SPY240220P00495000"),
        stage="open",
        contracts=contracts,
        credit=Decimal("0.5"),
        entry_time="2024-02-20 10:30:00",
        last_cost=Decimal("0.4"),
        closed_contracts=closed,
    )


@pytest.mark.parametrize(("contracts", "halt"), [("1", "symbols"), ("40", "positions")])
def test_manual_option_order_halts_according_to_its_size(
    practice: Start, vix: Path, tmp_path: Path, contracts: str, halt: str
) -> None:
    here, words = seller_of_one_entry(practice, vix, tmp_path)
    path = tmp_path / "live" / here.venue.record.account_id / JOURNAL_FILE
    sell_spreads(words, KEYS)
    spread = read_state(tmp_path / "files" / "paper").spreads[0]
    legs = [
        {"symbol": each.contract.symbol, "side": each.side, "ratio_qty": "1"}
        for each in spread.opening_legs
    ]
    order = {"order_class": "mleg", "qty": contracts, "type": "limit", "limit_price": "-4.9"}
    order |= {"time_in_force": "day", "client_order_id": "by-hand"}
    trading(here).post("/orders", {**order, "legs": legs})
    sell_spreads(words, KEYS)
    whys = query_rows(path, "SELECT kind, why FROM halts")
    assert whys == [(halt, f"unknown order by-hand (options on {UNDER}): not in our journal")]
    clear_halt(path, halt, "a person")
    sell_spreads(words, KEYS)
    assert query_rows(path, "SELECT kind FROM halts WHERE cleared_at IS NULL") == []


def test_failed_reconciliation_does_not_block_spread_buyback(
    practice: Start, vix: Path, tmp_path: Path
) -> None:
    here, words = seller_of_one_entry(practice, vix, tmp_path)
    sell_spreads(words, KEYS)
    here.advance("2024-02-20T19:30Z")
    here.fail(kind="status", status=503, path="/v2/account/activities", count=20)
    with refused(InputError, "503"):
        sell_spreads([*words, "broker.attempts=1"], KEYS)
    assert read_state(tmp_path / "files" / "paper").spreads == ()
    path = tmp_path / "live" / here.venue.record.account_id / JOURNAL_FILE
    assert query_rows(path, "SELECT kind FROM notices") == [("step reconciling",)]


def test_collateral_equals_the_width_of_open_spreads() -> None:
    assert total_collateral((spread(3), spread(4, closed=1))) == 5 * 100 * (3 + 3)


def seller_of_one_entry(practice: Start, vix: Path, folder: Path) -> tuple[Practice, list[str]]:
    """A practice server at the time of an entry, and the words of a seller at it."""
    here = practice(f"options.vix={vix}", f"options.symbols=[{UNDER}]", "symbols=[SYA,SYB,SYC]")
    here.advance("2024-02-20T15:30Z")
    AccountFiles(folder / "files" / "paper", 20_000.0).initialise()
    words = [f"vix={vix}", f"root={UNDER}", f"underlying={UNDER}", "rules.entry_minutes=[60]"]
    words += [f"AUTOSCALING_DATA_DIR={folder / 'files'}", f"folder={folder / 'live'}"]
    words += [f"broker.url_override={here.url}", "rules.exit_minute=300", "order_timeout=0"]
    return here, [*words, "poll_interval=0", "polls=1"]


@pytest.mark.first_example
@pytest.mark.parametrize("stopped", ["", "positions", "journal"])
def test_account_halts_also_stop_the_spread_seller(
    practice: Start, vix: Path, tmp_path: Path, stopped: str
) -> None:
    here, words = seller_of_one_entry(practice, vix, tmp_path)
    folder = tmp_path / "live" / here.venue.record.account_id
    if stopped:
        database = open_for_test(folder / JOURNAL_FILE)
        HaltJournal(database, EventLog(database)).raise_halt(stopped, "so", NOW)  # type: ignore[arg-type]
    sell_spreads(words, KEYS)
    assert bool(here.posts) == (not stopped)
    states = query_rows(folder / JOURNAL_FILE, "SELECT state, why FROM intents")
    if stopped:
        ((state, why),) = states
        assert state == "denied"
        assert stopped in why
        ((text,),) = query_rows(
            folder / JOURNAL_FILE, "SELECT text FROM notices WHERE kind = 'denied'"
        )
        assert text.endswith(f"-060 is not sent: {why}")


def test_account_losses_halt_a_standalone_seller(
    practice: Start, vix: Path, tmp_path: Path
) -> None:
    here, words = seller_of_one_entry(practice, vix, tmp_path)
    folder = tmp_path / "live" / here.venue.record.account_id
    database = open_for_test(folder / JOURNAL_FILE)
    before = NOW - np.timedelta64(3, "D")
    mark = EquityMark(before, 200_000.0, 200_000.0, 0.0, 0.0, 4.0, 0.0, {})
    halts = HaltJournal(database, EventLog(database))
    record_mark_and_halts(EquityMarkJournal(database), halts, mark, GuardSettings())
    sell_spreads(words, KEYS)
    assert not here.posts
    standing = query_rows(folder / JOURNAL_FILE, "SELECT kind FROM halts WHERE cleared_at IS NULL")
    assert ("drawdown",) in standing


def test_manual_stock_orders_do_not_block_spreads(
    practice: Start, vix: Path, tmp_path: Path
) -> None:
    here, words = seller_of_one_entry(practice, vix, tmp_path)
    for symbol, terms in (
        ("SYA", {"side": "buy", "type": "limit", "limit_price": "1"}),
        ("SYB", {"side": "sell", "type": "trailing_stop", "trail_percent": "50"}),
    ):
        order = {"symbol": symbol, "qty": "3", "time_in_force": "gtc"}
        trading(here).post("/orders", {**order, "client_order_id": f"by-hand-{symbol}", **terms})
    sell_spreads(words, KEYS)
    path = tmp_path / "live" / here.venue.record.account_id / JOURNAL_FILE
    assert query_rows(path, "SELECT state, why FROM intents") == [("filled", "")]
