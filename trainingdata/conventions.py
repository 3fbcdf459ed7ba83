"""Conventions of bar files as stated by the user, for files that do not state their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainingdata.file_formats import VolumeUnit

EpochUnit = Literal["s", "ms", "us", "ns"]
TimestampSide = Literal["begin", "end"]


@dataclass(frozen=True, slots=True)
class BarFileConventions:
    """Conventions of bar files that do not state their own.

    None means that files without the convention are rejected.

    uses_adjusted_close: whether prices are multiplied by adjusted close over close, if a file has
        both.
    time_zone: time zone of timestamps without a zone.
    epoch_unit: unit of epoch timestamps.
    timestamp_side: side of a bar, start or end, that its timestamp marks.
    volume_unit: unit of crypto volume; it overrides the vendor's usual unit.
    """

    uses_adjusted_close: bool = False
    time_zone: str | None = None
    epoch_unit: EpochUnit | None = None
    timestamp_side: TimestampSide | None = None
    volume_unit: VolumeUnit | None = None
