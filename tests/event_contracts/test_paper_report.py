"""What a paper account did, played again over its own ticks, comes to what it came to."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from event_contracts import SyntheticMarket
from event_contracts.simulation.exchange import Exchange, Listing, SimulatedOrderManager
from event_contracts.simulation.paper_report import Recording, paper_report, replay
from event_contracts.simulation.sessions import tape_of
from event_contracts.simulation.settings import EpisodeSettings
from event_contracts.simulation.synthetic import synthetic_session
from event_contracts.trading.action_log import ActionLog
from event_contracts.trading.manager import AccountBooks
from event_contracts.trading.policies import RandomPolicy
from event_contracts.trading.records import MarketUpdate
from foundation.database import DatabaseFailed
from tests.e2e.refused import refusal_of
from tests.event_contracts.trading import journal, service_of, step

D = Decimal
SHORT = SyntheticMarket(steps=30, noise=0.5)
seeds = st.integers(0, 2**31)
styles = st.sampled_from(["passive", "mid", "aggressive"])


def traded(
    seed: int, episode: EpisodeSettings, ticks: int | None = None, path: Path | None = None
) -> tuple[Exchange, ActionLog]:
    """Three markets that open one after the other, traded at random for so many ticks."""
    listings = [
        Listing(name, tape_of(synthetic_session(seed, SHORT, market=k)), first=4 * k)
        for k, name in enumerate(("RAIN", "SNOW", "WIND"))
    ]
    exchange = Exchange(listings, episode)
    log, book = journal(path)
    manager = SimulatedOrderManager(exchange, book)
    service = service_of(manager, exchange, RandomPolicy(seed), log)

    def look() -> None:
        for market in exchange.listings:
            if exchange.market_state(market) != "initialized":
                step(service, exchange, market)

    while not exchange.is_over and exchange.tick != ticks:
        look()
        manager.advance()
    look()
    return exchange, log


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(seeds, styles, st.sampled_from([None, 12, 25]))
def test_decisions_played_again_come_to_what_they_came_to(
    seed: int, style: str, ticks: int | None
) -> None:
    episode = EpisodeSettings(price_style=style)  # type: ignore[arg-type]
    exchange, log = traded(seed, episode, ticks)
    again = replay(Recording.of(log), episode)
    assert again.profit == exchange.view("RAIN").worth - 1000
    assert again.refused == 0
    # The last decisions may be of the very last tick, whose orders nothing has met.
    assert again.orders == len(exchange.orders)
    fills = [fill for episode_ in again.episodes for fill in episode_.fills]
    assert len(fills) == len(exchange.fills)


def test_after_its_last_tick_an_order_meets_nothing_before_its_market_settles() -> None:
    exchange, log = traded(7, EpisodeSettings(), 9)
    assert exchange.resting
    span = log.spans()["RAIN"]
    ends = span.begins + (span.rows - 1) * span.interval
    log.show(MarketUpdate("RAIN", ends, exchange.listings["RAIN"].tape[-1]))
    again = replay(Recording.of(log), EpisodeSettings())
    assert again.orders == len(exchange.orders)
    fills = [fill for episode in again.episodes for fill, _ in episode.fills]
    assert sorted(fills, key=repr) == sorted((b.fill for b in exchange.fills), key=repr)


def test_what_the_venue_rejected_is_not_played() -> None:
    episode = EpisodeSettings()
    _, log = traded(7, episode)
    for entry in log.entries():
        if entry.size:
            log.answer(entry.market, entry.at, "rejected: expiration_time has passed")
    again = replay(Recording.of(log), episode)
    assert (again.orders, again.refused, again.profit) == (0, 0, 0)


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Exchange, ActionLog]:
    """A journal in a file, and what it is about."""
    path = tmp_path_factory.mktemp("account") / "journal.sqlite"
    return path, *traded(7, EpisodeSettings(), 9, path)


def test_a_report_says_what_was_sent_and_what_it_earned(
    tmp_path: Path, on_disk: tuple[Path, Exchange, ActionLog]
) -> None:
    path, exchange, log = on_disk
    report = paper_report(path, 10, EpisodeSettings())
    found = report.content
    sent = [int(placed.order.count) for placed in exchange.orders.values()]
    assert found["sizes"] == {str(size): sent.count(size) for size in sorted(set(sent))}
    assert found["decisions"] == len(log.entries())
    assert found["rejected"] == found["unknown"] == 0
    decided, fixed = (D(run["profit"]) for run in found["runs"])
    assert decided == exchange.view("RAIN").worth - 1000
    assert D(found["difference"]) == decided - fixed
    files = report.result().files
    for name, write in files.items():
        write(tmp_path / name)
    said = json.loads((tmp_path / "comparison.json").read_text())
    assert said == found
    assert said["runs"][1]["sizes"]["position_size_distribution"].keys() <= {"10"}
    page = (tmp_path / "comparison.html").read_text()
    assert "fixed at 10" in page
    assert "Size against profit" in page


FIRST = "rowid = (SELECT min(rowid) FROM {})"
DAMAGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "no number": ("", ("UPDATE kalshi_actions SET worth = 'a\nb', row_digest = ''",)),
    "changed": ("kalshi_ticks", (f"UPDATE kalshi_ticks SET bid = 20 WHERE {FIRST}",)),
    "no decisions": ("no decisions", ("ALTER TABLE kalshi_actions RENAME TO other",)),
    "text": ("not a database", ()),
    "folder": ("no file", ()),
}


@pytest.fixture
def path(
    on_disk: tuple[Path, Exchange, ActionLog], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A copy that may be damaged, in the working folder."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copy(on_disk[0], "journal.sqlite"))


def damage(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            table = statement.split()[2 if statement.startswith("DELETE") else 1]
            connection.execute(statement.format(table))


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_journal_that_cannot_be_is_refused_in_a_line_and_nothing_is_written(
    path: Path, kind: str
) -> None:
    says, statements = DAMAGES[kind]
    if statements:
        damage(path, *statements)
    else:
        path.unlink()
        if kind == "folder":
            path.mkdir()
        else:
            path.write_text("worth,cash\n" * 200)
    before = sorted(Path().rglob("*"))
    said = refusal_of("event_contracts.compare", "journal=journal.sqlite", "output=deep/in/report")
    assert "journal.sqlite" in said
    assert says in said
    assert sorted(Path().rglob("*")) == before


def test_how_an_account_stood_is_read_as_it_was_kept() -> None:
    log, _ = journal()
    assert log.kept() is None
    at = np.datetime64("2026-11-22T10:00:00.123456789", "ns")
    paid = frozenset({("SNOW", np.datetime64("2026-11-21", "ns"))})
    books = AccountBooks(at, D("9.50"), {"RAIN": D("-3.00")}, frozenset("f"), paid)
    sales = {"RAIN": (D("0.4"), D(0))}
    log.keep(books, sales)
    assert log.kept() == (books, sales)
    # As every version has written it.
    [(content,)] = log.database.rows("SELECT content FROM kalshi_books")
    assert json.loads(content) == {
        "cash": "9.5",
        "positions": {"RAIN": "-3"},
        "fills": ["f"],
        "settlements": [["SNOW", "2026-11-21T00:00:00.000000000"]],
        "sales": {"RAIN": ["0.4", "0"]},
    }
    log.database.execute(
        "UPDATE kalshi_books SET content = replace(content, '9.5', 'NaN'), row_digest = ''"
    )
    with pytest.raises(DatabaseFailed, match="no number"):
        log.kept()
