"""Probabilities of one's own, from a file that another program writes and replaces.

    market,probability,until
    KXHIGHNY-26NOV24-B52,0.62,2026-11-24T12:00:00Z

`probability` is that of YES, `until` the instant from which it says nothing any more. The file is
read again at every tick. One that cannot be read then is told, and what it said last goes on until
its own instants; a market without an estimate shows the middle of its quote, at which nobody has an
edge.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foundation.errors import InputError, in_one_line
from foundation.notices import Notices
from trainingdata.feed.fields import an_instant

COLUMNS = ("market", "probability", "until")
ALERT = "estimates"  # a kind
LARGEST_FILE = 16_000_000  # bytes


@dataclass(frozen=True, slots=True)
class Estimate:
    """What somebody believes of a market.

    probability: of YES, 0 … 1.
    until: UTC, from when on it counts no more.
    """

    probability: float
    until: np.datetime64

    def __post_init__(self) -> None:
        if not 0.0 <= self.probability <= 1.0:
            raise InputError(f"probability is {self.probability}, outside 0 … 1")


class EstimateFile:
    """The estimates of a file, as they stand.

    path: of it; none has no estimates.
    notices: told where it cannot be read.

    Raises
    ------
    InputError
        for a file that cannot be read now.
    """

    def __init__(self, path: Path | None, notices: Notices) -> None:
        self._path = path
        self._notices = notices
        self._said = {} if path is None else read_estimates(path)

    def at(self, at: np.datetime64) -> Mapping[str, float]:
        """Probabilities of YES by market that count at an instant."""
        if self._path is not None:
            try:
                self._said = read_estimates(self._path)
                self._notices.end_alert(ALERT)
            except InputError as error:
                self._notices.alert(ALERT, str(error))
        return {market: each.probability for market, each in self._said.items() if at < each.until}


def read_estimates(path: Path) -> dict[str, Estimate]:
    """The estimates in a file, by market.

    Raises
    ------
    InputError
        naming the file, and the line and the value that cannot be.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise InputError(f"{path}: larger than {LARGEST_FILE:,} bytes")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: estimates cannot be read: {why}") from None
    lines = csv.reader(text.splitlines())
    header = [name.strip() for name in next(lines, [])]
    if sorted(header) != sorted(COLUMNS):
        shown = in_one_line(",".join(header))
        raise InputError(f"{path}: its first line has to name {','.join(COLUMNS)}; it is {shown!r}")
    found: dict[str, Estimate] = {}
    for line in lines:
        if not line:
            continue
        try:
            values = dict(zip(header, (value.strip() for value in line), strict=True))
            market = values["market"]
            if not market or market in found:
                raise InputError(f"market {market!r} is empty, or stands twice")
            found[market] = Estimate(float(values["probability"]), an_instant(values["until"]))
        except ValueError as error:
            shown = in_one_line(",".join(line))
            raise InputError(
                f"{path}, line {lines.line_num}: {in_one_line(str(error))}: {shown!r}"
            ) from None
    return found
