"""One place says how long a bar lasts: product code has no other hours, 24s, 7s and 252s of it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
ROOMS = ("trainingdata", "forecasting", "sizing", "execution", "marketsimulator", "practice")
SAID = re.compile(r"HOUR|\[h\]|1h|['\"]h['\"]|\b(6\.5|7|24|252|365\.25|3_?600)\b")
VALUES = {6.5, 7, 24, 252, 365.25, 3600, "h", "1h", "datetime64[h]", "timedelta64[h]"}
NAMES = {"HOUR", "HOURLY"}

# Where hours are the default, the clock's or the words', steps are of own bars, days a week's or a
# year's, h is the high, and names are the venue's.
ALLOWED = {
    "trainingdata": "bar_files bar_rows bars confirmation download feed/market_data"
    " file_formats instants long_run_variance resampling schedule sessions source stamp_checks"
    " synthetic timeframe universe",
    "forecasting": "chronos2/profile forecast settings",
    "sizing": "quantity solver/cholesky",
    "execution": "alpaca/order_venue decision/choice decision/belief_building"
    " decision/rebalancing decision/watch journal/order_store live/commands live/validation"
    " live/guards live/expected_positions live/status_page live/settings orders/auctions quantity"
    " testing",
    "marketsimulator": "run_result results/attribution"
    " results/price_charts results/returns_file results/track_record runs/decisions"
    " runs/strategy_calls weight_replay",
    "practice": "alpaca/market_data alpaca/options faults",
}


def places() -> Iterator[str]:
    """The files that say a length of bars, or something that looks like it."""
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    assert len(files) > 150
    for path in files:
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if SAID.search(text) else ():
            constant = isinstance(node, ast.Constant) and node.value in VALUES
            if constant or (isinstance(node, ast.Name) and node.id in NAMES):
                yield path.relative_to(ROOT).as_posix()


def test_bar_lengths_are_hard_coded_only_where_listed() -> None:
    found = set(places())
    allowed = {f"{room}/{name}.py" for room in ALLOWED for name in ALLOWED[room].split()}
    assert sorted(found - allowed) == [], "ask the timeframe, or say here what else is meant"
    assert sorted(allowed - found) == [], "nothing of it is left"
