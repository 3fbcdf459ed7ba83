"""One place says how long a bar lasts: product code has no other hours, 24s, 7s and 252s of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
ROOMS = ("trainingdata", "forecasting", "sizing", "execution", "marketsimulator")
NUMBERS = {6.5, 7, 24, 252, 3600, 365.25}
NAMES = {"HOUR", "HOURLY"}
TEXTS = {"h", "1h", "datetime64[h]", "timedelta64[h]"}

DAYS = "7 days: a week of the calendar"
LENGTH = "an hour of the clock, whatever bars there are"
LETTER = "the high of a bar"
DEFAULT = "hours where nobody names a timeframe"
VENUE = "what the venue calls its bars, and which of them are put together"
STEPS = "24 steps of own bars"
ALLOWED = {
    "trainingdata/timeframe.py": "the place",
    "trainingdata/universe.py": DAYS,
    "trainingdata/bar_files.py": DEFAULT,
    "trainingdata/bar_rows.py": "how far apart rows are, by which a file's bars are told",
    "trainingdata/bars.py": DEFAULT + "; the advice to files of hours",
    "trainingdata/confirmation.py": "7 closes",
    "trainingdata/download.py": DEFAULT + "; " + DAYS,
    "trainingdata/feed/market_data.py": DEFAULT + "; " + VENUE + "; a price is old after 2 h",
    "trainingdata/heads.py": LETTER,
    "trainingdata/instants.py": LENGTH,
    "trainingdata/resampling.py": "hours are counted from the open, and put together to days",
    "trainingdata/schedule.py": DAYS,
    "trainingdata/sessions.py": LENGTH + "; " + DAYS,
    "trainingdata/slow_variance.py": "252 sessions a year",
    "trainingdata/source.py": DEFAULT,
    "trainingdata/splits.py": "a share becomes seven",
    "trainingdata/stamp_checks.py": "hours by which clocks are apart",
    "trainingdata/synthetic.py": DEFAULT + "; the life of its clusters is a time; " + DAYS,
    "forecasting/candidates.py": STEPS,
    "forecasting/chronos2/profile.py": STEPS,
    "forecasting/evaluate.py": STEPS,
    "forecasting/forecast.py": STEPS,
    "forecasting/settings.py": DEFAULT,
    "sizing/solver/cholesky.py": "eight columns, of which the last is number 7",
    "sizing/quantity.py": "its caller says the interval in hours",
    "execution/alpaca/order_venue.py": LENGTH,
    "execution/auctions.py": "New York's clock of the venue",
    "execution/choices.py": "the words say hours",
    "execution/decision.py": "the words say hours",
    "execution/journal/order_store.py": LENGTH,
    "execution/live/belief.py": DAYS,
    "execution/live/guards.py": "orders an hour",
    "execution/live/holdings.py": DAYS,
    "execution/live/page.py": "the words say hours",
    "execution/live/settings.py": "3600 seconds",
    "execution/outlook.py": DAYS,
    "execution/quantity.py": "the words say hours",
    "execution/rebalancing.py": DEFAULT,
    "execution/records.py": "sums of weights times hours, of which shares are taken",
    "marketsimulator/results/attribution.py": "the seventh part of a profit",
    "marketsimulator/results/metrics.py": "365.25 days of the calendar a year",
    "marketsimulator/venue/faults.py": "3600 seconds",
    "marketsimulator/venue/market_data.py": VENUE + "; " + LETTER,
}


def places() -> Iterator[str]:
    """The files that say a length of bars, or something that looks like it."""
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    assert len(files) > 150
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            value = node.value if isinstance(node, ast.Constant) else None
            number = isinstance(value, int | float) and value in NUMBERS
            name = isinstance(node, ast.Name) and node.id in NAMES
            if number or name or (isinstance(value, str) and value in TEXTS):
                yield path.relative_to(ROOT).as_posix()


def test_hours_and_their_numbers_stand_only_where_no_timeframe_is_meant() -> None:
    found = set(places())
    assert sorted(found - set(ALLOWED)) == [], "ask the timeframe, or say here what else is meant"
    assert sorted(set(ALLOWED) - found) == [], "nothing of it is left"
