"""What the doctor says of a healthy account and of sick ones, over the wire and on the disk."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution import doctor
from execution.doctor import CHECKS, DoctorContext, Finding, clock_offset_seconds, run_checks
from execution.journal.events import EventLog
from execution.journal.halts import HaltJournal, HaltKind
from execution.journal.order_store import OrderIntent, OrderStore
from execution.live.account_lock import JOURNAL_FILE, LOCK_FILE, open_journal
from execution.live.settings import LiveSettings
from execution.orders.orders import Order
from foundation.clock import SYSTEM_TIME, TimeSource
from foundation.compose import compose_config
from foundation.database import Database
from practice import alpaca_server
from tests.e2e.practice import KEYS, OPENING, Practice, environment, live_settings, practising
from tests.e2e.refused import answer_of
from tests.support.commands import overridden
from trainingdata.feed.endpoint import ApiKeys, BrokerSettings

NAMES = list(CHECKS)
UNREACHABLE = "http://127.0.0.1:9/secret"  # the discard port: nothing listens
OF_THE_ACCOUNT = [name for name, (_, needed) in CHECKS.items() if needed]
NOW = np.datetime64("2024-02-20T15:30", "ns")
ORDER = Order("a", "SYA", "buy", Decimal(3), "so")
Seconds = np.timedelta64
Command = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def server() -> Iterator[Practice]:
    """A doctor changes nothing of an account: its tests share one."""
    with practising() as start:
        server = start("symbols=[SYA,SYB,SYXUSD]")
        server.advance(OPENING)
        yield server


@pytest.fixture
def here(
    server: Practice, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Practice:
    """That account, of which nothing is known on this machine yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    server.clear_faults()
    return server


def examined(
    here: Practice, folder: Path, *words: str, clock: TimeSource = SYSTEM_TIME
) -> dict[str, Finding]:
    """What is found in this process, by the name of the check."""
    told = ("symbols=[SYA,SYXUSD]", "broker.attempts=1", *words)
    settings = live_settings(here, *told, folder=str(folder))
    found = {finding.name: finding for finding in run_checks(DoctorContext(settings, KEYS, clock))}
    assert list(found) == NAMES
    assert not here.posts
    assert not here.venue.tickets
    return found


@pytest.fixture
def command(here: Practice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command as a user starts it: its exit code and what it prints."""
    for name, value in environment(tmp_path).items():
        if name.startswith("APCA"):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("ALERT_URL", UNREACHABLE)

    def run(*words: str) -> tuple[int, str]:
        usual = (f"broker.url_override={here.url}", "broker.attempts=1", "symbols=[SYA,SYXUSD]")
        told = overridden(usual, (f"folder={tmp_path}/live", *words))
        code, said, errors = answer_of("execution.doctor", *told, cwd=tmp_path)
        assert errors == ""
        assert not [secret for secret in (KEYS.key, KEYS.secret) if secret in said]
        return code, said

    return run


def journal(here: Practice, folder: Path) -> Path:
    return folder / here.venue.record.account_id / JOURNAL_FILE


@contextmanager
def opened(here: Practice, folder: Path) -> Iterator[Database]:
    """The account's journal, with its lock held."""
    with open_journal(here.venue.record.account_id, folder) as held:
        yield held.database


def begun(here: Practice, folder: Path) -> Path:
    """A journal with an order of unknown outcome."""
    with opened(here, folder) as database:
        OrderStore(database).record_submission(OrderIntent(ORDER, NOW))
    return journal(here, folder)


@pytest.fixture(scope="module")
def healthy(server: Practice, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Finding]:
    """What is found of that account where nothing is wrong."""
    server.clear_faults()
    return examined(server, tmp_path_factory.mktemp("healthy"))


def test_doctor_json_output_is_one_document(
    here: Practice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APCA_API_KEY_ID", KEYS.key)
    monkeypatch.setenv("APCA_API_SECRET_KEY", KEYS.secret)
    for symbols, passed in (("[SYA,SYXUSD]", True), ("[NVDA]", False)):
        words = (f"symbols={symbols}", f"broker.url_override={here.url}", "broker.attempts=1")
        code, printed, said = answer_of("execution.doctor", *words, "--json", cwd=tmp_path)
        found = json.loads(printed)
        assert code == (0 if passed else 1)
        assert found["passed"] == passed
        assert [each["name"] for each in found["checks"]] == NAMES
        assert [*found["checks"][0]] == ["level", "name", "detail"]
        assert len(said.splitlines()) == len(NAMES)


def test_doctor_passes_healthy_account_and_writes_no_files(
    command: Command, here: Practice, tmp_path: Path
) -> None:
    code, said = command()
    lines = said.splitlines()
    assert (code, [line.split(":")[0].split() for line in lines]) == (0, [["ok", n] for n in NAMES])
    told = dict(zip(NAMES, (line.split(": ", 1)[1] for line in lines), strict=True))
    assert here.url in told["venue"]
    assert here.venue.record.account_id in told["account"]
    assert list(tmp_path.iterdir()) == []
    assert not here.posts


def test_doctor_tests_alerts_only_on_request(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivered: list[str] = []
    monkeypatch.setattr(doctor, "deliver_test_alert", lambda url, _: bool(delivered.append(url)))
    code, said = command()
    assert (code, delivered) == (0, [])
    assert "ok      alerts: sent to 127.0.0.1; not tested" in said
    code, said = command("--send-test-alert")
    assert (code, delivered) == (1, [UNREACHABLE])
    assert "failure alerts: 127.0.0.1 did not accept a test alert" in said
    assert "secret" not in said
    monkeypatch.delenv("ALERT_URL")
    code, said = command("--send-test-alert")
    assert (code, len(delivered)) == (0, 1)
    assert "warning alerts: ALERT_URL is not set" in said


def test_doctor_skips_checks_that_need_missing_api_keys(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APCA_API_SECRET_KEY", " ")
    code, said = command()
    lines = said.splitlines()
    assert code == 1
    assert lines[0].startswith("failure keys: APCA_API_SECRET_KEY: not set in the environment")
    waiting = [
        line for line in lines if "skipped because the check keys failed; fix that first" in line
    ]
    assert [line.split(":")[0] for line in waiting] == [f"warning {n}" for n in OF_THE_ACCOUNT]
    others = {tuple(line.split(":")[0].split()) for line in lines[1:] if line not in waiting}
    assert others == {("ok", name) for name in ("venue", "checkpoint", "disk", "alerts")}


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ({"kind": "status", "status": 401}, r"refused \(401\): .*; check APCA"),
        ({"kind": "status", "status": 503}, ": HTTP status 503"),
        ({"kind": "drop_before"}, ": no response: "),
        ({"kind": "malformed"}, ": invalid response"),
    ],
)
def test_doctor_distinguishes_rejected_keys_from_unreachable_venue(
    here: Practice, tmp_path: Path, fault: dict[str, Any], says: str
) -> None:
    here.fail(**fault, path="/v2/account", count=99)
    found = examined(here, tmp_path)
    assert found["keys"].level == "failure"
    assert re.search(says, found["keys"].detail), found["keys"].detail
    assert ("check APCA" in found["keys"].detail) == (fault.get("status") == 401)
    for name in OF_THE_ACCOUNT:
        assert found[name].detail == "skipped because the check keys failed; fix that first", name


@pytest.mark.parametrize(
    ("facts", "name", "level", "says"),
    [
        (
            {"status": "ONBOARDING"},
            "account",
            "failure",
            "is ONBOARDING; it accepts no orders until",
        ),
        ({"status": "PAPER_ONLY"}, "account", "ok", "is PAPER_ONLY, not blocked"),
        ({"trading_blocked": True}, "account", "failure", "has trading_blocked"),
        ({"trading_blocked": "no"}, "account", "failure", "trading_blocked is neither true nor"),
        ({"multiplier": "1"}, "margin", "warning", "up to 1 times equity, less than limits"),
        ({"multiplier": None}, "margin", "warning", "up to 1 times equity"),
        ({"multiplier": "much"}, "margin", "failure", "multiplier is not a number"),
        ({"shorting_enabled": False}, "shorting", "warning", "no stock is sold short"),
        ({"crypto_status": "INACTIVE"}, "crypto", "failure", "INACTIVE; SYXUSD cannot be traded"),
    ],
)
def test_each_account_restriction_changes_only_its_doctor_check(
    here: Practice,
    healthy: dict[str, Finding],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    facts: dict[str, Any],
    name: str,
    level: str,
    says: str,
) -> None:
    """None: the venue's response omits the field."""
    usual = alpaca_server.account_response

    def told(*asked: Any) -> dict[str, Any]:
        return {k: v for k, v in {**usual(*asked), **facts}.items() if v is not None}

    monkeypatch.setattr(alpaca_server, "account_response", told)
    sick = examined(here, tmp_path)
    assert sick[name].level == level, sick[name]
    assert says in sick[name].detail
    differing = {each for each in NAMES if sick[each].level != healthy[each].level}
    assert differing <= {name}


@given(truth=st.integers(-100, 100), lags=st.tuples(st.integers(0, 40), st.integers(0, 40)))
def test_slow_response_is_not_reported_as_clock_offset(truth: int, lags: tuple[int, int]) -> None:
    """The venue may read its clock at any time within the request."""
    asked = NOW
    looked = asked + Seconds(lags[0], "s")
    heard = looked + Seconds(lags[1], "s")
    offset = clock_offset_seconds(looked + Seconds(truth, "s"), asked, heard)
    assert abs(offset) <= abs(truth)
    assert offset * truth >= 0
    assert abs(truth - offset) <= sum(lags)
    if not sum(lags):
        assert offset == truth


def test_doctor_names_the_venue_that_receives_orders() -> None:
    usual = LiveSettings.from_config(compose_config("live", []))
    venue, _ = CHECKS["venue"]

    def of(keys: ApiKeys = KEYS, **settings: Any) -> tuple[str, str]:
        return venue(DoctorContext(replace(usual, broker=BrokerSettings(**settings)), keys))

    assert of() == ("ok", "Alpaca paper account; no order is real")
    assert of(paper=False)[0] == "warning"
    assert "with real money" in of(paper=False)[1]
    level, said = of(url_override="https://example.com:8443/")
    assert level == "warning"
    assert said.startswith("https://example.com:8443 receives keys and orders")
    assert of(url_override="http://127.0.0.1:8000")[0] == "ok"


def test_doctor_reads_the_journal_without_changing_it(here: Practice, tmp_path: Path) -> None:
    path = begun(here, tmp_path)
    before = path.read_bytes()
    assert examined(here, tmp_path)["halts"].level == "ok"
    assert path.read_bytes() == before
    assert {each.name for each in path.parent.iterdir()} == {JOURNAL_FILE, LOCK_FILE}
    path.write_bytes(b"no database " * 400)
    damaged = examined(here, tmp_path)["halts"]
    assert damaged.level == "failure"
    assert f"{path}: " in damaged.detail


def test_disk_error_is_a_finding_with_its_remedy(
    here: Practice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(place: Path) -> None:
        raise PermissionError(13, "Permission denied", str(place))

    monkeypatch.setattr(shutil, "disk_usage", broken)
    found = examined(here, tmp_path)["disk"]
    assert found.level == "failure"
    assert f"Permission denied: '{tmp_path}'; run this as the user that runs" in found.detail


def test_doctor_states_remedies_for_halts_and_kill_file(here: Practice, tmp_path: Path) -> None:
    kill = journal(here, tmp_path).with_name("KILL")

    def stands() -> tuple[str, str]:
        found = examined(here, tmp_path)["halts"]
        return found.level, found.detail

    def raise_halt(kind: HaltKind, why: str) -> None:
        with opened(here, tmp_path) as database:
            HaltJournal(database, EventLog(database)).raise_halt(kind, why, NOW)

    kill.parent.mkdir()
    kill.touch()
    for start in (None, begun):  # without a journal, and with one
        if start:
            start(here, tmp_path)
        level, said = stands()
        assert level == "failure"
        assert f"{kill} stops all orders: remove it" in said
    kill.unlink()
    assert stands()[0] == "ok"
    raise_halt("daily_loss", "lost 11 %")
    level, said = stands()
    assert level == "warning"
    assert said.startswith("daily_loss: Find the cause of the loss")
    raise_halt("positions", "NVDA is 12")
    level, said = stands()
    assert level == "failure"
    assert "positions: Compare the venue's positions" in said


def test_doctor_finds_a_journal_in_another_folder(here: Practice, tmp_path: Path) -> None:
    path = begun(here, tmp_path / "first")
    halts = examined(here, tmp_path / "second")["halts"]
    assert halts.level == "failure"
    assert (
        f"its journal is {path}; restore it there and use folder={tmp_path}/first" in halts.detail
    )


@pytest.mark.parametrize(
    ("seconds", "level", "said"),
    [
        (5, "ok", "5.0 s between the venue's clock and this machine's"),
        (6, "warning", "the venue's clock is 6.0 s ahead of this machine's clock; synchronise"),
        (60, "warning", "the venue's clock is 1 minute ahead"),
        (61, "failure", "the venue's clock is 1 minute 1 second ahead"),
    ],
)
def test_doctor_reports_clock_offset_of_practice_server(
    here: Practice, tmp_path: Path, seconds: int, level: str, said: str
) -> None:
    here.fail(kind="skew", seconds=seconds)
    found = examined(here, tmp_path, clock=TimeSource(now=lambda: here.venue.now))["clock"]
    assert found.level == level
    assert said in found.detail


@pytest.mark.slow
def test_doctor_distinguishes_missing_late_and_refused_bars(here: Practice, tmp_path: Path) -> None:
    # A symbol that the venue has may be missing in the feed; here it is missing at both.
    for symbols, level, said in (
        ("SYA,NVDA", "warning", "the latest bar of NVDA is missing; no decision is made"),
        ("NVDA,ETHUSD", "failure", ""),
    ):
        told = live_settings(here, f"symbols=[{symbols}]", folder=str(tmp_path))
        check, _ = CHECKS["feed"]
        found = check(DoctorContext(told, KEYS, SYSTEM_TIME))
        assert found[0] == level
        assert said in found[1]
    assert examined(here, tmp_path, "symbols=[]")["feed"].level == "warning"
    coin = examined(here, tmp_path, "symbols=[SYX/USD]")["feed"]
    assert coin.level == "ok"
    assert "the latest bar (SYXUSD) closed at 2024-02-20T15:" in coin.detail
    here.fail(kind="status", status=403, path="/v2/stocks/bars", count=99)
    refused = examined(here, tmp_path, "data.feed=sip")["feed"]
    assert refused.level == "failure"
    assert "set data.feed=iex" in refused.detail


@pytest.mark.slow
def test_missing_checkpoint_is_named(here: Practice, tmp_path: Path) -> None:
    gone = examined(here, tmp_path, "forecaster.model=/no/where")["checkpoint"]
    assert gone.level == "failure"
    assert "forecaster.model: /no/where is neither a folder nor a hub id" in gone.detail
    other = examined(here, tmp_path, "forecaster=ewma", "forecaster.calibrated=false")["checkpoint"]
    assert other == Finding("ok", "checkpoint", "ewma")
