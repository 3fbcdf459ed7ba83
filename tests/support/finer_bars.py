"""Bars with the provenance that finer bars need."""

from __future__ import annotations

from dataclasses import replace

from trainingdata.bars import Bars, Provenance
from trainingdata.timeframe import Timeframe

HALF = Timeframe("30m")


def with_origins(bars: Bars) -> Bars:
    origins = tuple(Provenance(f"{symbol}.csv", "UTC", 1) for symbol in bars.symbols)
    return replace(bars, provenances=origins)
