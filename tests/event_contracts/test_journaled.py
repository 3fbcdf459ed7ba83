"""What an account decided plays its own markets again, and comes to what it came to."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from event_contracts import SyntheticSessionModel
from event_contracts.compare import (
    REPLAYED_ACCOUNT_POLICY_NAME,
    read_journaled_decisions,
    run_comparison,
)
from event_contracts.settings import ComparisonSettings
from event_contracts.simulation.comparison import simulate_sessions
from event_contracts.simulation.exchange import Exchange, SimulatedListing, SimulatedOrderManager
from event_contracts.simulation.sessions import session_to_tick_records
from event_contracts.simulation.settings import EpisodeSettings
from event_contracts.simulation.synthetic import synthetic_session
from event_contracts.trading.action_log import ActionLog
from event_contracts.trading.actions import PriceStyle
from event_contracts.trading.listings import MarketSettlement
from event_contracts.trading.manager import AccountBooks, PaidPosition
from event_contracts.trading.policies import ActionCodes, Observations, RandomPolicy
from foundation.arrays import Mask
from foundation.database import Database, DatabaseFailed
from foundation.errors import InputError
from tests.e2e.refused import answer_of, refusal_of
from tests.event_contracts.trading import journal, service_of, step
from tests.execution.journals import change_rows
from tests.support.messages import check_message, refused

D = Decimal
SHORT = SyntheticSessionModel(steps=30, noise_order_rate=0.5)
STEPS = 30


def traded(
    path: Path, seed: int, episode: EpisodeSettings, unseen: range = range(0)
) -> tuple[Exchange, ActionLog]:
    """A market traded at random until it settled, but for ticks that nobody saw."""
    tape = session_to_tick_records(synthetic_session(seed, SHORT))
    exchange = Exchange([SimulatedListing("RAIN-1", tape)], episode)
    log, book = journal(Database(path))
    manager = SimulatedOrderManager(exchange, book)
    service = service_of(manager, exchange, RandomPolicy(seed), log)
    for tick in range(STEPS + 1):
        if tick not in unseen:
            step(service, exchange, "RAIN-1")
        if tick < STEPS:
            manager.advance()
    return exchange, log


@pytest.mark.parametrize(
    ("seed", "style", "late"), [(1, "aggressive", 0), (2, "passive", 3), (3, "mid", 5)]
)
def test_replayed_decisions_reproduce_the_accounts_result(
    tmp_path: Path, seed: int, style: PriceStyle, late: int
) -> None:
    """The result does not depend on the time at which the account was started."""
    path = tmp_path / "journal.sqlite"
    episode = EpisodeSettings(price_style=style)
    exchange, log = traded(path, seed, episode, range(late))
    account = read_journaled_decisions(path, episode.default_action_space())
    assert account.starting_cash == 1000
    again = simulate_sessions(
        account.build_replay_policy(), account.held_out_sessions.sessions, episode
    )
    assert again.profits_usd.tolist() == [float(exchange.cash - 1000)]
    [played] = again.episodes
    assert [order.size for order in played.orders] == [
        e.sent_count for e in log.read_entries() if e.sent_count
    ]
    told, booked = (
        [(fill.action, fill.side, fill.price, fill.count, fill.fee) for fill in fills]
        for fills in (played.fills, exchange.fills)
    )
    assert told == booked


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The journal of an account that nobody looked after in its last ticks."""
    path = tmp_path_factory.mktemp("account") / "journal.sqlite"
    _, log = traded(path, 7, EpisodeSettings(), range(20, STEPS))
    log.database.close()
    return path


@pytest.fixture
def path(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that may be damaged, in the working folder."""
    monkeypatch.chdir(tmp_path)
    Path("journal.sqlite").write_bytes(kept.read_bytes())
    return Path("journal.sqlite")


def damage(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def test_replayed_account_is_compared_with_fixed_size_orders(path: Path) -> None:
    comparison = run_comparison(ComparisonSettings(journal=str(path), random_runs=1))
    sizes = {
        each.name: {order.size for episode in each.episodes for order in episode.orders}
        for each in comparison.policy_results
    }
    assert len(sizes[REPLAYED_ACCOUNT_POLICY_NAME]) > 1
    assert sizes[f"{REPLAYED_ACCOUNT_POLICY_NAME} fixed 10"] == {10}
    assert next(iter(comparison.pair_comparisons)) == (
        REPLAYED_ACCOUNT_POLICY_NAME,
        f"{REPLAYED_ACCOUNT_POLICY_NAME} fixed 10",
    )


def test_no_policy_can_trade_after_last_recorded_tick(path: Path) -> None:
    [session] = read_journaled_decisions(
        path, EpisodeSettings().default_action_space()
    ).held_out_sessions.sessions
    assert (session[20:STEPS, 2:6] == 0).all()
    assert (session[:20, 2:4].sum(axis=1) > 0).all()


def test_rejected_orders_are_not_replayed(path: Path) -> None:
    account = read_journaled_decisions(path, EpisodeSettings().default_action_space())
    assert (account.action_codes > 0).any()
    with closing(Database(path)) as database:
        change_rows(database, "kalshi_actions", "answer = 'rejected: no'")
    account = read_journaled_decisions(path, EpisodeSettings().default_action_space())
    assert not account.action_codes.any()


@pytest.mark.parametrize(
    ("facts", "statement"),
    [
        (("kalshi_ticks",), "UPDATE kalshi_ticks SET bid = 20 WHERE rowid = 3"),
        ((), "ALTER TABLE kalshi_actions RENAME TO other"),
        ((), "DELETE FROM kalshi_ticks WHERE rowid > 20"),
        ((), ""),
    ],
)
def test_invalid_journal_is_refused_and_nothing_written(
    path: Path, facts: tuple[str, ...], statement: str
) -> None:
    if statement:
        damage(path, statement)
    else:
        path.write_text("worth,cash\n" * 200)
    before = sorted(Path().rglob("*"))
    check_message(
        refusal_of("event_contracts.compare", "journal=journal.sqlite", "output=deep/in/report"),
        "journal.sqlite",
        *facts,
    )
    assert sorted(Path().rglob("*")) == before


def test_folder_and_journal_sessions_are_mutually_exclusive() -> None:
    with refused(InputError, "journal"):
        ComparisonSettings(folder="here", journal="there")
    check_message(refusal_of("event_contracts.compare", "journal=nowhere"))


def test_account_books_round_trip_through_the_journal() -> None:
    log, _ = journal()
    assert log.read_books() is None
    at = np.datetime64("2026-11-22T10:00:00.123456789", "ns")
    paid = frozenset({("SNOW", np.datetime64("2026-11-21", "ns"))})
    books = AccountBooks(at, D("9.50"), {"RAIN": D("-3.00")}, frozenset("f"), paid)
    sales = {"RAIN": (D("0.4"), D(0))}
    log.record_books(books, sales)
    assert log.read_books() == (books, sales)
    [(content,)] = log.database.query("SELECT content FROM kalshi_books")
    assert json.loads(content) == {
        "books": {
            "at": "2026-11-22T10:00:00.123456789",
            "cash": "9.5",
            "positions": {"RAIN": "-3"},
            "fill_ids": ["f"],
            "settlement_keys": [["SNOW", "2026-11-21T00:00:00.000000000"]],
        },
        "sale_prices": {"RAIN": ["0.4", "0"]},
    }
    change_rows(log.database, "kalshi_books", "content = replace(content, '9.5', 'NaN')")
    with refused(DatabaseFailed):
        log.read_books()


@dataclass
class Noted:
    """A random policy, and the rows at which something but HOLD was allowed."""

    name: str = "noted"
    rows: list[bool] = field(default_factory=list)

    def choose_actions(self, observations: Observations, allowed: Mask) -> ActionCodes:
        self.rows.append(bool(allowed[0, 1:].any()))
        return RandomPolicy(len(self.rows)).choose_actions(observations, allowed)


def test_no_policy_can_trade_at_unrecorded_ticks(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    gap = range(5, 25)
    traded(path, 1, EpisodeSettings(), gap)
    held_out = read_journaled_decisions(
        path, EpisodeSettings().default_action_space()
    ).held_out_sessions
    [session] = held_out.sessions
    assert (session[5:25, 2:6] == 0).all()
    assert (session[:5, 2] > 0).all()
    assert held_out.tradable_rows is not None
    assert held_out.tradable_rows[0].tolist() == [
        k not in gap and k < STEPS for k in range(STEPS + 1)
    ]
    policy = Noted()
    simulate_sessions(policy, held_out.sessions, EpisodeSettings(), held_out.tradable_rows)
    assert len(policy.rows) == STEPS
    assert not any(policy.rows[5:25])
    assert any(policy.rows[:5])
    assert any(policy.rows[25:])


def test_compared_policies_trade_only_at_recorded_ticks(tmp_path: Path) -> None:
    """Regression: a random policy traded through a night in which the account's process did not
    run.
    """
    path = tmp_path / "journal.sqlite"
    traded(path, 4, EpisodeSettings(), range(3, 29))
    comparison = run_comparison(ComparisonSettings(journal=str(path), random_runs=5))
    for each in comparison.policy_results:
        assert max(len(episode.orders) for episode in each.episodes) <= 4


def test_order_lifetime_is_counted_in_recorded_ticks(tmp_path: Path) -> None:
    """Every second tick was recorded, as with a slow venue."""
    path = tmp_path / "journal.sqlite"
    episode = EpisodeSettings(life=1, price_style="passive")
    traded(path, 4, episode, range(1, STEPS, 2))
    comparison = run_comparison(
        ComparisonSettings(journal=str(path), random_runs=1, episode=episode)
    )
    account = comparison.policy_results[0]
    assert account.name == REPLAYED_ACCOUNT_POLICY_NAME
    assert account.orders_per_episode > account.fills_per_episode > 0


def test_comparison_reports_booked_profit_beside_replayed_profit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, log = traded(Path("journal.sqlite"), 4, EpisodeSettings())
    at = np.datetime64("2026-11-22T10:00:00", "ns")
    paid = MarketSettlement("RAIN-1", D(1), at, "yes", net_position=D(0), profit=D("295.33"))
    log.record_settlements([PaidPosition(paid, D(0), D(0))])
    log.database.close()
    code, printed, said = answer_of(
        "event_contracts.compare", "journal=journal.sqlite", "random_runs=1", "output=report"
    )
    assert code == 0, said
    assert "account, as booked: settled profit +$295.33" in printed
    assert "account's policy, replayed" in printed
    [file] = Path().glob("report*/comparison.json")
    assert json.loads(file.read_text())["booked"]["total_profit_usd"] == 295.33


def test_comparison_reports_when_no_policy_has_fills(path: Path) -> None:
    code, printed, said = answer_of(
        "event_contracts.compare", "journal=journal.sqlite", "random_runs=1", "output=one"
    )
    assert code == 0, said
    assert "No policy has a fill" not in printed
    with closing(Database(path)) as database:
        nothing = "bid_size = 0, ask_size = 0, sold = 0, bought = 0"
        change_rows(database, "kalshi_ticks", nothing)
    code, printed, said = answer_of(
        "event_contracts.compare", "journal=journal.sqlite", "random_runs=1", "output=two"
    )
    assert code == 0, said
    assert "No policy has a fill" in printed
