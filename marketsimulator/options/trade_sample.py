"""Closed trades of a file, per contract: what is resampled."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from pathlib import Path

import numpy as np

from foundation.errors import DataError
from marketsimulator.options.resampling import UNIT, Units
from sizing.autoscaler.rules import max_risk
from sizing.autoscaler.trades import Row, is_trade, rows_of, size_of, total_of
from trainingdata.instants import NEW_YORK, instant, new_york_date, utc_text

ENTERED = "Timestamp_ET"
LEFT = "Exit_Time"
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_TIME = re.compile(r"\d{2}:\d{2}(:\d{2})?")
_NEW_YORK_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?")


@dataclass(frozen=True, eq=False, slots=True)
class TradeSample:
    """N closed trades, per contract.

    results: profit or loss [N], ten-thousandths of a dollar.
    risks: what each could lose [N], the same unit.
    trades_per_day: mean number of trades on a day that has one.
    """

    results: Units
    risks: Units
    trades_per_day: float

    @property
    def maximal(self) -> int:
        """Trades that lost all they could, or more."""
        return int((self.results <= -self.risks).sum())


def read_sample(path: Path, now: np.datetime64) -> TradeSample:
    """The closed trades of a file.

    Results are totals over position sizes; risks follow from strategy, strikes and credit.

    now: after which no trade can have been entered.

    Raises
    ------
    DataError
        naming the file, the row and what is wrong with it.
    """
    try:
        _, rows = rows_of(path.read_bytes())
        closed = [row for row in rows if is_trade(row)]
        results = [Fraction(total_of(row)) / size_of(row) for row in closed]
        risks = [_contract_risk(row, number) for number, row in enumerate(closed, 1)]
        days = {_entry_day(row, number, now) for number, row in enumerate(rows, 1) if is_trade(row)}
        for number, row in enumerate(rows, 1):
            if is_trade(row):
                _refuse_early_exit(row, number)
    except OSError as error:
        raise DataError(f"trades: {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"trades: {path}: {error}") from None
    if not closed:
        raise DataError(f"trades: {path}: no closed trade in it")
    return TradeSample(_units(results), _units(risks), len(closed) / len(days))


def _units(values: Sequence[Fraction]) -> Units:
    """Whole ten-thousandths of a dollar [N], so that balances of a run are exact."""
    return np.array([round(value * UNIT) for value in values], dtype=np.int64)


def _contract_risk(row: Row, number: int) -> Fraction:
    """USD that one contract of a trade could lose: its width less its credit.

    The width comes from the strikes where the row has them. One risk for every spread would
    understate what a wide one loses.
    """
    strategy = row.get("Strategy", "")
    credit = row.get("Entry_Credit", "").strip()
    words = row.get("Strikes", "").replace("-", "/").split("/")
    try:
        strikes = [float(word) for word in words if word.strip()]
        sides = zip(strikes[::2], strikes[1::2], strict=False)
        widths = [abs(long - short) for short, long in sides]
        # An iron condor has two sides, of which only one can be in the money at the close.
        risk = max_risk(strategy, float(credit), max(widths) if widths else None)
        return Fraction(str(risk))
    except ValueError as error:
        raise ValueError(f"trade {number}: {error or 'Entry_Credit is missing'}") from None


def _entry_day(row: Row, number: int, now: np.datetime64) -> str:
    """The New York date on which a row's trade was entered.

    A trade without a time counts as a day of its own. number: of the row in its file.
    """
    word = row.get(ENTERED, "").strip()
    if not word:
        return f"row {number}"
    at = _entry_instant(word, f"row {number}: {ENTERED}")
    if at > now:
        raise ValueError(
            f"row {number}: {ENTERED} {word!r} is in the future, now is {utc_text(now)}; a closed"
            " trade is in the past, and a simulated index is begun earlier (start=…)"
        )
    return _new_york_day(at)


def _refuse_early_exit(row: Row, number: int) -> None:
    """Refuse a trade that was left before it was entered; number: of the row in its file.

    An exit's time alone is of the entry's day, both on New York's clock. Words that are no time,
    and an entry that names another zone, say nothing of it.
    """
    entered = row.get(ENTERED, "").strip()
    left = row.get(LEFT, "").strip()
    if not (entered and left):
        return
    entry = _entry_instant(entered, ENTERED)
    day = _new_york_day(entry)
    if _TIME.fullmatch(left) and _NEW_YORK_TIME.fullmatch(entered):
        left = f"{day} {left}"
    try:
        exit_at = _entry_instant(left, LEFT)
    except ValueError:
        return
    # Where either is a date alone, the days are compared.
    whole_days = _DATE.fullmatch(left) or _DATE.fullmatch(entered)
    if _new_york_day(exit_at) < day or (not whole_days and exit_at < entry):
        raise ValueError(f"row {number}: {LEFT} {left!r} is before {ENTERED} {entered!r}")


def _new_york_day(at: np.datetime64) -> str:
    return str(new_york_date(np.array([at]))[0])


def _entry_instant(word: str, name: str) -> np.datetime64:
    """The instant of a date, of a date and a time of New York's clock, or of an instant."""
    if _NEW_YORK_TIME.fullmatch(word):
        # A time that no clock shows stays as it is, and is refused with the others.
        with suppress(ValueError):
            word = datetime.fromisoformat(word).replace(tzinfo=NEW_YORK).isoformat()
    return instant(word, name=name)
