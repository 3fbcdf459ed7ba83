"""docs/ORDER.md follows one order: its commands are typed, and what it shows is what they leave."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from execution.alpaca.order_venue import OrderVenue
from execution.alpaca.placed_order import AlpacaOrder
from execution.journal.order_store import OrderIntent
from foundation.database import query_rows
from tests.e2e.practice import OPENING, Start
from tests.support.desks import Desk
from tests.support.documents import ROOT, Reader, lines_of

EXECUTION = ROOT / "execution"
PAGE = (ROOT / "docs" / "ORDER.md").read_text()
PLACES = re.compile(r"`([\w/]+\.py)` `(\w+)`")


def block(kind: str) -> list[str]:
    """The lines of all fences of a kind."""
    found = re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return [line for text in found for line in text.splitlines()]


def test_order_walkthrough_names_existing_files_and_functions() -> None:
    places = PLACES.findall(PAGE)
    assert len(places) >= 14
    for file, name in places:
        assert re.search(rf"^\s*(?:async )?(?:def|class) {name}\b", (ROOT / file).read_text(), re.M)
    assert len(PAGE.split()) <= 1530


@pytest.mark.slow
def test_example_order_prints_the_lines_shown_in_walkthrough(tmp_path: Path) -> None:
    for name in ("examples", "trade_stock_e2e.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    reader = Reader(tmp_path, "")
    reader.environment["COLUMNS"] = "1000"
    try:
        for line in lines_of("docs/ORDER"):
            reader.type(line)
    finally:
        reader.end()
    for line in block("terminal"):
        assert line in reader.printed
    (log,) = [path for path in (tmp_path / "logs").glob("*.log") if not path.is_symlink()]
    logged = [line.partition(" INFO ")[2] for line in log.read_text().splitlines()]
    places = [logged.index(line) for line in block("log")]
    assert places == sorted(places)
    (journal,) = (tmp_path / "data" / "live").glob("*/journal.sqlite")
    for line in block("journal"):
        table, *words = line.split()
        pairs = [word.split("=", 1) for word in words]
        condition = " AND ".join(f"CAST({name} AS TEXT) = ?" for name, _ in pairs)
        query = f"SELECT count(*) FROM {table} WHERE {condition}"
        assert query_rows(journal, query, [value for _, value in pairs]) == [(1,)], line


def test_live_cycle_posts_orders_within_six_stack_frames(
    practice: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    depths: list[int] = []
    post = OrderVenue.post

    def counted(venue: OrderVenue, intent: OrderIntent, patience: float) -> AlpacaOrder:
        frames = [each for each in inspect.stack() if Path(each.filename).is_relative_to(EXECUTION)]
        depths.append([each.function for each in frames].index("run_cycle") + 2)
        return post(venue, intent, patience)

    here = practice("symbols=[SYA,SYB]")
    here.advance(OPENING)
    desk = Desk.at(here, tmp_path)
    monkeypatch.setattr(OrderVenue, "post", counted)
    desk.job.step()
    assert depths
    assert max(depths) <= 6
