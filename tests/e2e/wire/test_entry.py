"""What the live entry point and the download answer to words: refusals, previews, files."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from execution.journal.events import EventLog
from execution.journal.halts import HaltJournal
from execution.live.account_lock import JOURNAL_FILE, KILL_FILE
from foundation.database import Database
from tests.e2e.practice import KEYS, OPENING, Practice, Start, at_the_account
from tests.e2e.refused import answer_of, refusal_of
from tests.support.messages import check_message

HERE = "broker.url_override=http://127.0.0.1:9"  # an address without a listener


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (["status"], ("execution.live",)),
        (["preveiw"], ("preveiw",)),
        (["quantity", "NVDA", "150"], ("quantity",)),
        (["symbols=[SYA]", "+positions.SYA=1", "+positions.sya=2"], ("SYA",)),
        *(
            ([mode, "symbols=[SYA,SYA]"], ("symbols", "SYA"))
            for mode in ("mode=dry", "preview", "mode=paper", "mode=replay")
        ),
        (["mode=live"], ("confirm_live=true",)),
        (["mode=live", "confirm_live=true"], ("mode=live",)),
        (["mode=paper"], ("symbols",)),
        (["mode=paper", "broker.paper=false", "symbols=[SYA]"], ("mode=live",)),
        (["mode=replay", "symbols=[SYA]"], ()),
        (["mode=paper", "symbols=[SYA]", HERE, "broker.attempts=1"], ()),
        (["mode=replay", "symbols=[SYA]", HERE], ("127.0.0.1:9",)),
        (
            ["mode=paper", "symbols=[SYA]", "broker.url_override=https://api.alpaca.markets"],
            ("broker.paper",),
        ),
    ],
)
def test_invalid_live_arguments_give_one_line_error(
    words: list[str], facts: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_the_account(monkeypatch, tmp_path)
    line = refusal_of("trade_stock_e2e", *words)
    check_message(line, *facts)
    assert KEYS.secret not in line


@pytest.mark.parametrize("host", [[], ["broker.url_override=https://venue.example"]])
def test_live_account_keys_are_refused_for_paper_trading(
    tmp_path: Path, host: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("APCA_API_KEY_ID", "AKLIVEKEY")
    monkeypatch.setenv("APCA_API_SECRET_KEY", "s")
    check_message(
        refusal_of("trade_stock_e2e", "mode=paper", "symbols=[SYA]", *host), "broker.paper"
    )


@pytest.fixture
def previewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[str, str]]:
    """What the command answers that decides and sends nothing, and what it says beside."""
    at_the_account(monkeypatch, tmp_path)

    def run(here: Practice, *words: str) -> tuple[str, str]:
        more = ("bar_wait_seconds=0", "forecaster=ewma", "forecaster.calibrated=false")
        told = (*words, f"broker.url_override={here.url}", *more)
        code, printed, said = answer_of("trade_stock_e2e", *told)
        assert code == 0, said
        assert here.posts == []
        return printed, said

    return run


@pytest.mark.parametrize("words", [("preview", "mode=paper"), ("mode=paper", "preview")])
def test_preview_sends_nothing_with_any_other_argument(
    practice: Start, previewed: Callable[..., tuple[str, str]], words: tuple[str, ...]
) -> None:
    here = practice("symbols=[SYA,SYB]")
    here.advance(OPENING)
    more = ("symbols=[SYA,SYB]", "sizing.strategy=equal_weight", "start=2024-01-02")
    printed, said = previewed(here, *words, *more)
    assert "buy" in printed
    assert "start: ignored; the venue's clock sets the period.\n" in said


def test_preview_json_output_is_one_document(
    practice: Start, previewed: Callable[..., tuple[str, str]]
) -> None:
    here = practice("symbols=[SYA,SYB]")
    here.advance(OPENING)
    more = ("symbols=[SYA,SYB]", "sizing.strategy=equal_weight", "--json")
    printed, said = previewed(here, "preview", *more)
    preview = json.loads(printed)
    assert [*preview] == [
        *("at", "equity", "idle_reason", "sizing_failure", "decisions", "orders"),
        *("undecided_reasons", "loop_blockers", "next_decision_at"),
    ]
    assert {each["symbol"] for each in preview["decisions"]} == {"SYA", "SYB"}
    assert {each["side"] for each in preview["orders"]} == {"buy"}
    assert all(each["reason"] in said for each in preview["orders"])


def test_preview_shows_halts_and_skips_quarantined_symbols(
    practice: Start, previewed: Callable[..., tuple[str, str]], tmp_path: Path
) -> None:
    here = practice("symbols=[SYA,SYB]")
    here.advance(OPENING)
    folder = tmp_path / "data" / "live" / here.venue.record.account_id
    folder.mkdir(parents=True)
    (folder / KILL_FILE).touch()
    with closing(Database(folder / JOURNAL_FILE)) as database:
        cause = json.dumps({"SYA": ["3"]})
        halts = HaltJournal(database, EventLog(database))
        halts.raise_halt("symbols", "SYA is 3 at the venue", here.venue.now, cause=cause)
    words = ("preview", "symbols=[SYA,SYB]", "sizing.strategy=equal_weight")
    said = previewed(here, *words)[0]
    assert "SYA is not decided: position or open orders are uncertain" in said
    assert f"the kill file {folder.relative_to(tmp_path) / KILL_FILE} exists." in said
    assert "A loop would be halted (symbols): symbols since" in said
    assert "SYA is 3 at the venue" in said
