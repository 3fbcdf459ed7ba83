"""The door to event contracts against the practice venue: dry, on paper, begun again, refused."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from event_contracts import SyntheticSessionModel
from event_contracts.settings import KalshiGuardSettings
from event_contracts.simulation.sessions import session_outcome
from event_contracts.simulation.synthetic import synthetic_session
from event_contracts.trade import trade_markets
from event_contracts.trading.action_log import ActionEntry, ActionRecords
from event_contracts.trading.records import PRICE_UNITS_PER_DOLLAR
from execution.live.loop import StopSignal
from execution.live.metrics import METRICS_FILE
from foundation.clock import TimeSource, utc_now
from foundation.database import query_rows
from foundation.errors import BrokerError, InputError
from tests.e2e.kalshi_desk import BOTH, POST, journals, traded, trading_settings
from tests.e2e.refused import refusal_of
from tests.event_contracts.practice import KEYS, KalshiPractice, kalshi_practice
from tests.support.connections import open_for_test
from tests.support.messages import check_message, refused

MARKET = SyntheticSessionModel(steps=40, start_deviation=0.5, mispricing=0.1)


@pytest.fixture
def practice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KalshiPractice]:
    monkeypatch.chdir(tmp_path)
    sessions = {
        name: synthetic_session(5, MARKET, market_index=k)
        for k, name in enumerate(("RAIN", "SNOW"))
    }
    with kalshi_practice(sessions=sessions) as venue:
        yield venue


def clock_of(practice: KalshiPractice) -> TimeSource:
    """A clock that runs on from where the venue's stands."""
    ahead = practice.exchange.now - utc_now()
    return TimeSource(lambda: utc_now() + ahead)


def test_dry_run_sends_nothing_and_explains_missing_orders(
    practice: KalshiPractice, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = traded(practice, mode="dry", steps=2)
    assert {entry.market for entry in shown} == {"RAIN", "SNOW"}
    assert any(entry.response.endswith("mode=dry sends no orders") for entry in shown)
    capsys.readouterr()
    traded(practice, mode="dry", policy="nothing", steps=1)
    ended = "Ended (no more cycles are scheduled): 1 cycle, 0 orders sent, 0 orders filled"
    summary, why = capsys.readouterr().out.splitlines()
    assert summary.startswith(ended)
    assert why == "No order. RAIN: HOLD; SNOW: HOLD"
    assert not practice.posts()
    assert not journals()


def test_the_summary_counts_orders_by_their_final_state(
    practice: KalshiPractice, capsys: pytest.CaptureFixture[str]
) -> None:
    """An accepted order that never filled does not count as filled."""
    guards = KalshiGuardSettings(max_order=20)
    traded(practice, steps=20, price_style="passive", guards=guards, most=39)
    [path] = journals()
    counts: Counter[str] = Counter()
    for state, filled in query_rows(path, "SELECT state, filled FROM intents"):
        counts["not sent" if state in ("planned", "denied") else "sent"] += 1
        counts["filled"] += float(str(filled)) > 0
        counts["partially"] += float(str(filled)) > 0 and state != "filled"
    assert counts["sent"] > counts["filled"] > 0
    assert counts["not sent"]
    summary = next(
        line for line in capsys.readouterr().out.splitlines() if line.startswith("Ended")
    )
    said = {
        name: int(found[1])
        if (found := re.search(rf"(\d+) (?:orders? |of them ){name}", summary))
        else 0
        for name in ("sent", "filled", "partially", "not sent")
    }
    assert said == {name: counts[name] for name in said}


def test_ended_market_does_not_stop_other_markets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The market may end before the first run of the command."""
    monkeypatch.chdir(tmp_path)
    lengths = {"RAIN": 30, "SNOW": 3}
    sessions = {
        name: synthetic_session(seed, SyntheticSessionModel(steps=length))
        for seed, (name, length) in enumerate(lengths.items())
    }
    with kalshi_practice(sessions=sessions) as venue:
        venue.advance(5)
        time = clock_of(venue)
        assert {entry.market for entry in traded(venue, time=time, steps=2)} == {"RAIN"}
        assert "SNOW: not followed, trading ends at" in capsys.readouterr().err
        with refused(InputError):
            traded(venue, time=time, markets=("SNOW",), steps=2)


def test_refused_contracts_alert_once(practice: KalshiPractice) -> None:
    practice.fault("status", status=403, count=10**5, method="POST", path=POST)
    shown: list[ActionEntry] = []

    def show(entry: ActionEntry) -> None:
        shown.append(entry)
        if len(shown) == 12:
            practice.clear_faults()

    trade_markets(trading_settings(practice, **{**BOTH, "steps": 12}), KEYS, StopSignal(), show)
    [path] = journals()
    refused = query_rows(path, "SELECT client_order_id FROM intents WHERE state = 'rejected'")
    assert len(refused) >= 3
    notices = query_rows(path, "SELECT kind, text FROM notices")
    assert [kind for kind, _ in notices] == ["refused", "all clear"]
    assert "(403)" in str(notices[0][1])
    written = path.with_name(METRICS_FILE).read_text()
    assert "kelly_chronos_alerts_total{" in written
    assert 'kelly_chronos_gross_ratio{account="' in written


def test_exchange_maintenance_sends_one_non_urgent_notice(
    practice: KalshiPractice, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each denied order is the only one of its tick, and no urgent alert is sent."""
    practice.pause("exchange_is_paused")
    shown: list[ActionEntry] = []

    def show(entry: ActionEntry) -> None:
        shown.append(entry)
        if len(shown) == 10:
            practice.resume()

    trade_markets(trading_settings(practice, **{**BOTH, "steps": 16}), KEYS, StopSignal(), show)
    [path] = journals()
    denied = query_rows(path, "SELECT decision FROM intents WHERE state = 'denied'")
    ticks = [str(decision).split()[1] for (decision,) in denied]
    assert len(ticks) >= 3
    assert len(ticks) == len(set(ticks))
    notices = query_rows(path, "SELECT kind, text FROM notices")
    assert [kind for kind, _ in notices] == ["trading paused", "all clear"]
    told = " ".join(str(text) for _, text in notices) + capsys.readouterr().err
    assert "exchange_is_paused" in told
    assert "URGENT" not in told
    assert "refuse" not in told


def test_kelly_policy_trades_only_with_a_custom_estimate(practice: KalshiPractice) -> None:
    """With the quote's midpoint as estimate Kelly holds; with a fair price ten cents higher it
    buys.
    """
    shown = practice.exchange.current_tick("RAIN")
    own = float(shown["bid"] + shown["ask"]) / 2 / PRICE_UNITS_PER_DOLLAR
    own += 0.1 if own < 0.5 else -0.1
    rows = f"market,probability,until\nRAIN,{own:.4f},2099-01-01T00:00:00Z\n"
    Path("own.csv").write_text(rows)
    assert {entry.size for entry in traded(practice, policy="kelly", steps=1)} == {0}
    assert not practice.posts()
    sized = traded(practice, policy="kelly", estimates="own.csv", steps=1)
    assert {entry.market for entry in sized if entry.size} == {"RAIN"}
    assert len(practice.posts()) == 1
    [journal] = journals()
    told = dict(query_rows(journal, "SELECT market, estimate FROM kalshi_ticks ORDER BY at"))
    assert told["RAIN"] == pytest.approx(own, abs=1e-4)


@pytest.mark.slow
def test_trading_ends_when_the_market_settles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    session = synthetic_session(5, MARKET)[-4:]
    with kalshi_practice(sessions={"RAIN": session}) as venue:
        shown = traded(venue, markets=("RAIN",), steps=None)
    [path] = journals()
    records = ActionRecords(open_for_test(path))
    last = records.read_ticks("RAIN")[-1]
    assert (
        records.read_schedules()["RAIN"].row_index_at(last.at)
        == records.read_schedules()["RAIN"].row_count - 1
    )
    assert (last.tick["bid"] > 5000) == bool(session_outcome(session))
    assert len(shown) >= 3


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        ([], ("markets",)),
        (["markets=[RAIN]", "mode=live"], ("confirm_live=true",)),
        (["markets=[RAIN]"], ("KALSHI_API_KEY_ID",)),
        (["markets=[RAIN]", "policy=keely"], ("kelly",)),
        (["markets=[RAIN]", "policy=kelly", "estimates=own.csv"], ("own.csv",)),
    ],
)
def test_invalid_trade_command_gives_one_line_error(
    words: list[str], facts: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("KALSHI_API_KEY_ID", "KALSHI_PRIVATE_KEY", "KALSHI_PRIVATE_KEY_PATH"):
        monkeypatch.delenv(name, raising=False)
    check_message(refusal_of("event_contracts.trade", *words), *facts)
    assert not list(tmp_path.iterdir())


def test_permanent_venue_error_stops_trading_without_account_folder(
    practice: KalshiPractice,
) -> None:
    practice.fault("status", status=401, seconds=0, count=10**5)
    for steps in (None, 2):
        with refused(BrokerError, "401"):
            traded(practice, steps=steps)
    assert not list(Path().iterdir())
    practice.clear_faults()
    with refused(BrokerError, "HAIL"):
        traded(practice, steps=None, markets=("HAIL",))
    assert not list(Path().iterdir())
