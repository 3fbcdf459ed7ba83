"""Reports of a loop: its page's path, a summary line, links to its log, its positions."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from alpaca.trading.models import Position

from execution.live.account_lock import STATUS_PAGE_FILE
from foundation.decimals import to_cents
from foundation.formatting import format_quantity, format_usd
from tests.e2e.practice import OPENING, Practice, Start, buy, environment, trading
from tests.e2e.refused import answer_of
from tests.support.commands import overridden
from tests.support.pages import text_of
from tests.support.paper_runs import paper, paper_words

MOVING = "sizing.band=0.0001"


def page_of(folder: Path) -> str:
    [file] = folder.glob(f"data/live/*/{STATUS_PAGE_FILE}")
    return file.read_text()


def test_loop_prints_status_page_path_and_summary(here: Practice, tmp_path: Path) -> None:
    run = paper(here, tmp_path)
    lines = run.stdout.splitlines()
    [file] = tmp_path.glob(f"data/live/*/{STATUS_PAGE_FILE}")
    assert lines[0] == f"Status page: {file}"
    assert re.fullmatch(
        r"Ended \(no more cycles are scheduled\): 1 cycle, 2 orders sent, 2 orders filled,"
        r" equity \$[\d,]+\.\d\d, no halt\.",
        lines[-1],
    )
    assert "Finished: no more cycles are scheduled" in page_of(tmp_path)
    assert 'class="verdict open"' in page_of(tmp_path)


def test_a_failed_loop_prints_its_summary(here: Practice, tmp_path: Path) -> None:
    here.fail(kind="status", status=500, count=1000, path="/v2/positions")
    run = paper(here, tmp_path)
    assert run.returncode == 2
    assert "Ended (error): 1 cycle, 0 orders sent" in run.stdout
    assert 'class="verdict bad"' in page_of(tmp_path)


def test_legacy_log_names_link_to_the_newest_log(here: Practice, tmp_path: Path) -> None:
    for _ in range(2):
        paper(here, tmp_path)
        here.advance()
    logs = tmp_path / "logs"
    newest = max(logs.glob("live-*.log"), key=lambda path: path.stat().st_mtime_ns)
    for name in ("trade_stock_e2e.log", "sizing_utils.log"):
        assert (logs / name).resolve() == newest
        assert "exposure:" in (logs / name).read_text()
        assert newest.stat().st_mode & 0o077 == 0


def test_status_page_lists_position_quantity_prices_and_profits(
    here: Practice, tmp_path: Path
) -> None:
    """Part of an opening balance of 1,500 is sold; then both symbols are traded every hour."""
    client = trading(here)
    client.submit_order(buy("SYA", 1500))
    here.advance()
    for _ in range(3):
        paper(here, tmp_path, MOVING)
        here.advance()
    paper(here, tmp_path, MOVING)
    text = text_of(page_of(tmp_path))
    table = text.partition("Positions")[2].partition("Multiples")[0]
    fills = {
        symbol: [
            (fill.qty, Fraction(str(fill.price)))
            for fill in here.venue.broker.fills
            if fill.symbol == symbol
        ]
        for symbol in ("SYA", "SYB")
    }
    for position in client.get_all_positions():
        assert isinstance(position, Position)
        symbol, held = position.symbol, Decimal(position.qty)
        price = Fraction(str(position.current_price))
        bought = [(q, price) for q, price in fills[symbol] if q > 0]
        assert f"{symbol} {format_quantity(held, sign=True)} " in table, table
        last = format_usd(to_cents(price))
        row = table.partition(f"{symbol} ")[2]
        assert last in row
        if symbol == "SYB" and all(q > 0 for q, _ in fills[symbol]):
            cost = sum(Fraction(q) * price for q, price in bought)
            assert format_usd(to_cents(cost / Fraction(held))) in row
            profit = Fraction(held) * price - cost
            assert format_usd(to_cents(profit), sign=True) in row
    realised = re.search(r" all (?:[-+]?\$[\d,.]+) ([-+]?\$[\d,]+\.\d\d)", table)
    assert realised is not None, table


def test_status_page_gives_reason_for_unheld_symbols(practice: Start, tmp_path: Path) -> None:
    here = practice("symbols=[SYA,SYB,SYXUSD]")
    here.advance(OPENING)
    words = "symbols=[SYA,SYB,SYXUSD]", "sizing.strategy=kelly_50", "prior.crypto_sharpe=0"
    paper(here, tmp_path, *words)
    text = text_of(page_of(tmp_path))
    assert "SYXUSD: not decided: the next decision is due at 2024-02-20T16:00Z." in text
    here.advance("2024-02-20T16:00:00Z")
    paper(here, tmp_path, *words)
    why = "SYXUSD: not held: the expected return is 0: premium +0.0 bp (Sharpe ratio 0"
    assert why in text_of(page_of(tmp_path))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(tmp_path).items():
            patch.setenv(name, value)
        told = overridden(paper_words(here), words)
        told = [word for word in told if not word.startswith(("mode=", "symbols="))]
        command = ["preview", "symbols=[SYA,SYB,SYXUSD]"]
        code, printed, said = answer_of("trade_stock_e2e", *command, *told, cwd=tmp_path)
        assert code == 0, said
        assert "SYXUSD" in printed
        assert "not held: the expected return is 0: premium +0.0 bp (Sharpe" in printed
