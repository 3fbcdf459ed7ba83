"""The account at the practice venue under stress: it is read, and nothing else."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from execution.live.account_lock import KILL_FILE
from foundation.compose import compose_config
from foundation.errors import InputError
from marketsimulator.results.stress.book import compute_max_option_loss, load_account_book
from marketsimulator.results.stress.outcomes import StressResult
from marketsimulator.settings import BacktestSettings
from marketsimulator.stress import parse_stress_command
from tests.e2e.practice import KEYS, OPENING, Practice, Start, broker, order, trading
from tests.e2e.refused import answer_of
from tests.support.messages import refused
from trainingdata.feed.endpoint import BrokerSettings

SHOWN = {"APCA_API_KEY_ID": KEYS.key, "APCA_API_SECRET_KEY": KEYS.secret}


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SHOWN.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def here(practice: Start) -> Practice:
    """An account with a stock long, a stock short and a coin."""
    server = practice("symbols=[SYA,SYB,SYXUSD]", "fills.volume_share=null", "capital=100000")
    server.advance("2024-02-20T16:00:00Z")
    mine = broker(server)
    mine.submit([order("coin", "SYXUSD", qty="2.5", tif="gtc")])
    server.advance("2024-02-20T16:30:00Z")
    mine = broker(server)
    mine.submit([order("long", "SYA", qty="900")])
    mine.submit([order("short", "SYB", "sell", "300")])
    server.posts.clear()
    return server


def found_at(here: Practice, *words: str) -> StressResult:
    told = ["account=venue", f"broker.url_override={here.url}", *words]
    return parse_stress_command(compose_config("stress", told), told)()


def test_stress_test_uses_venue_positions_and_sends_nothing(here: Practice) -> None:
    before = trading(here).get_all_positions()
    found = found_at(here)
    book = found.book
    assert book.symbols == ("SYA", "SYB", "SYXUSD")
    state = broker(here).account()
    assert book.account.equity == pytest.approx(state.equity)
    assert book.short_proceeds == pytest.approx({"SYB": state.short_proceeds})
    assert book.account.positions == state.positions
    gap, halt, coin = found.outcomes[-3:]
    stocks = abs(book.position_values[:2]).sum()
    assert float(gap.loss) == pytest.approx(0.2 * stocks, abs=0.01)
    assert gap.losses_by_symbol["SYB"] > 0, "against the book a short rises"
    assert halt.losses_by_symbol["SYA"] == 0
    assert float(coin.loss) == pytest.approx(book.position_values[2] / 2, abs=0.01)
    assert here.posts == []
    assert trading(here).get_all_positions() == before
    assert trading(here).get_orders() == []


def test_stress_command_reads_account_despite_kill_file(here: Practice, tmp_path: Path) -> None:
    kill = tmp_path / "data" / "live" / "any" / KILL_FILE
    kill.parent.mkdir(parents=True)
    kill.write_text("by a test")
    words = ("account=venue", f"broker.url_override={here.url}", "output=out")
    code, printed, said = answer_of("marketsimulator.stress", *words, cwd=tmp_path)
    assert code == 0, said
    assert printed.startswith("Worst case: ")
    written = (tmp_path / "out" / "stress.json").read_text()
    assert json.loads(written)["source"].startswith("paper account at 2024-02-20")
    assert all(key not in written + printed for key in SHOWN.values())
    assert kill.read_text() == "by a test"
    assert {path.name for path in tmp_path.iterdir()} - {"logs"} == {"data", "out"}
    assert here.posts == []


def test_empty_or_unreachable_account_is_refused(practice: Start) -> None:
    server = practice("symbols=[SYA]")
    server.advance(OPENING)
    with refused(InputError):
        found_at(server)
    with refused(InputError):
        load_account_book(
            BrokerSettings(url_override="http://127.0.0.1:9", attempts=1, deadline=1.0),
            KEYS,
            BacktestSettings(),
        )


def row(symbol: str, quantity: int, price: float, kind: str = "us_option") -> dict[str, Any]:
    units = 100 if kind == "us_option" else 1
    return {
        "symbol": symbol,
        "qty": str(quantity),
        "asset_class": kind,
        "current_price": str(price),
        "market_value": str(Decimal(str(price)) * quantity * units),
    }


def test_open_spreads_count_at_their_maximum_loss() -> None:
    """Two put spreads of width 5, now worth 0.80 a share: 2 · (500 - 80) can still be lost."""
    spread = [row("SPY250117P00500000", -2, 1.3), row("SPY250117P00495000", 2, 0.5)]
    stock = row("SYA", 5, 100.0, "us_equity")
    assert compute_max_option_loss([*spread, stock]) == pytest.approx(2 * (500 - 80))
    # Of a condor the two wings cannot be lost together.
    calls = [row("SPY250117C00520000", -2, 1.0), row("SPY250117C00525000", 2, 0.4)]
    assert compute_max_option_loss([*spread, *calls]) == pytest.approx(2 * (500 - 80 - 60))
    assert compute_max_option_loss([stock]) == 0.0
    # Long options are not part of cash, so nothing of them is left to lose.
    assert compute_max_option_loss([row("SPY250117P00500000", 1, 1.0)]) == 0.0
    with refused(InputError):
        compute_max_option_loss([row("SPY250117C00520000", -1, 1.0)])
