"""What the live entry point and the download answer to words: refusals, previews, files."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from execution.account_lock import JOURNAL, KILL_FILE
from execution.journal.events import EventLog
from execution.journal.halts import Halts
from foundation.database import Database
from tests.commands import run_command
from tests.e2e.practice import KEYS, OPENING, ROOT, Practice, Start, environment
from tests.e2e.refused import answer_of, refusal_of
from trainingdata.bar_files import read_bars


def at_the_account(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Commands run in a folder, with the account's keys."""
    monkeypatch.chdir(folder)
    for name, value in environment(folder).items():
        if name != "PATH":
            monkeypatch.setenv(name, value)


@pytest.mark.slow
def test_history_is_downloaded_into_files_that_a_backtest_reads(
    practice: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = practice()
    here.advance("2024-02-22T20:30:00Z")
    at_the_account(monkeypatch, tmp_path)
    words = ["--symbols", "SYA", "SYX/USD", "--start", "2024-01-10", "--output", "bars"]
    words.append(f"broker.url_override={here.url}")
    code, _, said = answer_of("trainingdata.download", *words)
    assert code == 0, said
    read = read_bars([tmp_path / "bars"], None)
    since = np.datetime64("2024-01-10T05:00", "ns")
    until = here.venue.now
    bars = here.venue.market.bars
    for s, symbol in enumerate(read.symbols):
        times, values = bars.real_bars(bars.symbols.index(symbol))
        part = (times > since) & (times <= until)
        np.testing.assert_array_equal(read.real_bars(s)[0], times[part])
        np.testing.assert_array_equal(read.real_bars(s)[1], values[part])
    here.fail(kind="status", status=403, path="/v2/stocks/bars")
    refused = refusal_of("trainingdata.download", *words, "data.feed=sip")
    assert "keys without a paid plan read data.feed=iex" in refused
    for wrong in ("--start=tomorrow", "--start=2999-01-01", "oops"):
        assert answer_of("trainingdata.download", *words, wrong)[0] == 2


HERE = "broker.url_override=http://127.0.0.1:9"  # where nobody answers


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["status"], "python -m execution.live status"),
        (["preveiw"], "preveiw"),
        (["symbols=[SYA]", "+positions.SYA=1", "+positions.sya=2"], "SYA is there twice"),
        (["mode=papr"], "papr"),
        (["cycles=abc"], "cycles: 'abc'"),
        (["cycles=0"], "cycles: 0"),
        (["mode=live"], "say so once more with confirm_live=true"),
        (["mode=live", "confirm_live=true"], "mode=live trades no paper account"),
        (["mode=paper", "broker.paper=false", "symbols=[SYA]"], "real money is mode=live"),
        (["mode=paper"], "symbols: "),
        (["mode=replay", "symbols=[SYA]"], "a replay needs a practice server"),
        (["mode=paper", "symbols=[SYA]", HERE, "broker.attempts=1"], "no answer"),
        (["mode=replay", "symbols=[SYA]", HERE], "127.0.0.1:9"),
        (
            ["mode=paper", "symbols=[SYA]", "broker.url_override=https://api.alpaca.markets"],
            "trades real money, and broker.paper is true",
        ),
    ],
)
def test_a_live_run_that_cannot_be_says_so_in_a_line(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_the_account(monkeypatch, tmp_path)
    line = refusal_of("trade_stock_e2e", *words)
    assert says in line
    assert KEYS.secret not in line


@pytest.mark.parametrize("host", [[], ["broker.url_override=https://venue.example"]])
def test_a_live_accounts_keys_send_nothing_to_paper(
    tmp_path: Path, host: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("APCA_API_KEY_ID", "AKLIVEKEY")
    monkeypatch.setenv("APCA_API_SECRET_KEY", "s")
    line = refusal_of("trade_stock_e2e", "mode=paper", "symbols=[SYA]", *host)
    assert "it is a live account's, and broker.paper wants a paper one" in line


@pytest.fixture
def previewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[str, str]]:
    """What the command answers that decides and sends nothing, and what it says beside."""
    at_the_account(monkeypatch, tmp_path)

    def run(here: Practice, *words: str) -> tuple[str, str]:
        more = ("bar_patience=0", "forecaster=ewma", "forecaster.calibrated=false")
        told = (*words, f"broker.url_override={here.url}", *more)
        code, printed, said = answer_of("trade_stock_e2e", *told)
        assert code == 0, said
        assert here.posts == []
        return printed, said

    return run


@pytest.mark.parametrize("words", [("preview", "mode=paper"), ("mode=paper", "preview")])
def test_a_preview_sends_nothing_whatever_else_is_asked_for(
    practice: Start, previewed: Callable[..., tuple[str, str]], words: tuple[str, ...]
) -> None:
    here = practice("symbols=[SYA,SYB]")
    here.advance(OPENING)
    more = ("symbols=[SYA,SYB]", "sizing.strategy=equal_weight", "start=2024-01-02")
    printed, said = previewed(here, *words, *more)
    assert "buy" in printed
    assert "Ask again" not in printed
    assert "start: not used; the venue's clock says when.\n" in said


def test_a_preview_says_what_a_loop_is_halted_by_and_orders_nothing_of_what_is_set_aside(
    practice: Start, previewed: Callable[..., tuple[str, str]], tmp_path: Path
) -> None:
    here = practice("symbols=[SYA,SYB]")
    here.advance(OPENING)
    folder = tmp_path / "data" / "live" / here.venue.record.account_id
    folder.mkdir(parents=True)
    (folder / KILL_FILE).touch()
    with closing(Database(folder / JOURNAL)) as database:
        cause = json.dumps({"SYA": ["3"]})
        halts = Halts(database, EventLog(database))
        halts.raise_halt("symbols", "SYA is 3 at the venue", here.venue.now, cause=cause)
    words = ("preview", "symbols=[SYA,SYB]", "sizing.strategy=equal_weight")
    said = previewed(here, *words)[0]
    assert "SYA is not decided: what is held and open of it is not certain." in said
    assert f"A loop sends nothing: {folder.relative_to(tmp_path) / KILL_FILE} is there." in said
    assert "A loop is halted, symbols: symbols since" in said
    assert "SYA is 3 at the venue" in said


@pytest.mark.slow
def test_a_replay_by_command_leaves_the_files_of_a_run(practice: Start, tmp_path: Path) -> None:
    here = practice("symbols=[SYA,SYXUSD]", "end=2024-02-20")
    command = [
        *(str(ROOT / "trade_stock_e2e.py"), "mode=replay", "symbols=[SYA,SYXUSD]", "output=out"),
        *(f"broker.url_override={here.url}", "forecaster=ewma", "forecaster.calibrated=false"),
        "sizing.strategy=equal_weight",
    ]
    done = run_command(command, cwd=tmp_path, env=environment(tmp_path))
    assert done.returncode == 0, done.stderr
    assert here.venue.over
    fills, orders = (
        pd.read_parquet(tmp_path / "out" / f"{name}.parquet") for name in ("fills", "orders")
    )
    filled = set(fills["client_order_id"][fills["price"] > 0])
    assert filled == set(orders["client_order_id"]) == set(here.venue.tickets)
    equity = pd.read_parquet(tmp_path / "out" / "equity.parquet")
    assert equity["equity"].iloc[-1] == pytest.approx(here.venue.broker.row().equity, abs=0.005)
    assert "equal_weight sizing" in next((tmp_path / "logs").iterdir()).read_text()
